//! Real runs from the command line, on the software CPU, with programs of a few bytes and the built-in
//! guest: what comes out where, and with which exit status.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, bytes: &[u8]) -> &'static str {
        fs::write(self.path("program.bin"), bytes).unwrap();
        "program.bin"
    }

    fn start(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_vitrine"))
            .arg("run")
            .args(arguments)
            .args(["--headless", "--backend", "soft", "--memory", "16M"])
            .current_dir(self.0.path())
            .env("VITRINE_HOME", self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Saves a machine with 8 MiB and the debug exit port.
    #[track_caller]
    fn create(&self, name: &str, program: &str) {
        let create = Command::new(env!("CARGO_BIN_EXE_vitrine"))
            .args(["create", name, program, "--debug-exit", "--memory", "8M"])
            .current_dir(self.0.path())
            .env("VITRINE_HOME", self.0.path())
            .output()
            .unwrap();
        assert!(create.status.success(), "{create:?}");
    }

    #[track_caller]
    fn expect(&self, status: i32, arguments: &[&str]) -> (String, String) {
        let output = self.start(arguments).wait_with_output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}\nstdout: {out}\nstderr: {err}");
        (out, err)
    }
}

/// mov dx, 0xF4; mov al, 0x10; out dx, al; hlt; jmp hlt
const DEBUG_EXIT: [u8; 9] = [0xBA, 0xF4, 0x00, 0xB0, 0x10, 0xEE, 0xF4, 0xEB, 0xFD];
/// The divisor latch to 1 and 8 data bits, as firmware would leave the port usable:
/// each group is mov dx, port; mov al, value; out dx, al
const INIT: [u8; 24] = [
    0xBA, 0xFB, 0x03, 0xB0, 0x83, 0xEE, 0xBA, 0xF8, 0x03, 0xB0, 0x01, 0xEE, //
    0xBA, 0xF9, 0x03, 0xB0, 0x00, 0xEE, 0xBA, 0xFB, 0x03, 0xB0, 0x03, 0xEE,
];
/// mov dx, 0x3FD; wait: in al, dx; test al, 0x20; jz wait; mov dx, 0x3F8; mov al, character; out dx, al
const fn send(character: u8) -> [u8; 14] {
    [0xBA, 0xFD, 0x03, 0xEC, 0xA8, 0x20, 0x74, 0xFB, 0xBA, 0xF8, 0x03, 0xB0, character, 0xEE]
}
/// mov al, 'D'; out 0xE9, al; hlt; jmp hlt
const DEBUG_D: [u8; 7] = [0xB0, b'D', 0xE6, 0xE9, 0xF4, 0xEB, 0xFD];
/// Sends back what comes: mov dx, 0x3FD; in al, dx; test al, 1; jz; mov dx, 0x3F8; in; out; jmp
const ECHO: [u8; 15] =
    [0xBA, 0xFD, 0x03, 0xEC, 0xA8, 0x01, 0x74, 0xFB, 0xBA, 0xF8, 0x03, 0xEC, 0xEE, 0xEB, 0xF1];
/// An interrupt table of no length, then an interrupt: lidt cs:[0x7C0A]; int3
const TRIPLE_FAULT: [u8; 16] = [0x2E, 0x0F, 0x01, 0x1E, 0x0A, 0x7C, 0xCC, 0xF4, 0xEB, 0xFD, 0, 0, 0, 0, 0, 0];

#[test]
fn the_debug_exit_port_gives_the_status_and_only_when_asked_for() {
    let folder = Folder::new();
    let program = folder.program(&DEBUG_EXIT);
    folder.expect(0x21, &[program, "--debug-exit", "--timeout", "60"]);
    folder.expect(3, &[program, "--timeout", "0.5"]);
}

#[test]
fn serial_goes_to_a_file_the_terminal_or_nowhere() {
    let folder = Folder::new();
    let program = folder.program(&[&INIT[..], &send(b'O'), &send(b'K'), &DEBUG_D].concat());
    let await_ok = [program, "--until-serial", "OK", "--timeout", "60"];
    let (out, _) = folder.expect(0, &await_ok);
    assert_eq!(out, "");
    let (out, _) = folder.expect(0, &[&await_ok[..], &["--serial", "stdio"]].concat());
    assert_eq!(out, "OK");
    folder.expect(0, &[&await_ok[..], &["--serial", "file:serial.txt"]].concat());
    assert_eq!(fs::read(folder.path("serial.txt")).unwrap(), b"OK");
    folder.expect(3, &[program, "--debugcon", "debug.txt", "--timeout", "0.5"]);
    assert_eq!(fs::read(folder.path("debug.txt")).unwrap(), b"D");
}

#[test]
fn what_is_typed_reaches_the_serial_port() {
    let folder = Folder::new();
    // 'R' says that the port is set up: what came earlier would be read with 5 bits a character.
    let program = folder.program(&[&INIT[..], &send(b'R'), &ECHO].concat());
    let mut child =
        folder.start(&[program, "--serial", "stdio", "--until-serial", "ping", "--timeout", "60"]);
    let mut ready = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    child.stdin.as_mut().unwrap().write_all(b"ping").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), ready, output.stdout), (Some(0), [b'R'], b"ping".to_vec()));
    fs::write(folder.path("script"), "wait-serial R\nserial hello\\r\nwait-serial hello 30\n").unwrap();
    folder.expect(0, &[program, "--script", "script", "--timeout", "60"]);
}

#[test]
fn a_triple_fault_is_status_4_with_a_report() {
    let folder = Folder::new();
    let program = folder.program(&TRIPLE_FAULT);
    let (_, err) = folder.expect(4, &[program, "--timeout", "60"]);
    for part in ["triple fault on CPU 0", "#DF double fault", "RAX", "CR0", "bytes at RIP: cc", "int3"] {
        assert!(err.contains(part), "{part} is missing in\n{err}");
    }
}

#[test]
fn time_over_shows_the_last_screen() {
    let folder = Folder::new();
    let (_, err) = folder.expect(3, &["vitrine", "--until-screen", "no such text", "--timeout", "3"]);
    assert!(
        err.contains("'no such text' on the screen") && err.contains("F4 switch the machine off"),
        "{err}"
    );
}

#[test]
fn the_built_in_guest_hears_a_script_and_powers_off() {
    let folder = Folder::new();
    let lines = "# type, look, switch off\nwait-screen \"Typed\" 30\ntype hello, pc\n\
                 wait-screen \"hello, pc\" 30\nscreenshot typed.png\nexpect-screen Clock\nkey f4\nsleep 60000\n";
    fs::write(folder.path("script"), lines).unwrap();
    let outputs = ["--stats", "stats.json", "--screenshot", "end.png", "--timeout", "90"];
    folder.expect(0, &[&["vitrine", "--script", "script"], &outputs[..]].concat());
    let picture = image::open(folder.path("typed.png")).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), (720, 400));
    assert!(picture.pixels().any(|pixel| pixel.0 == [0, 0, 0xAA]), "the bar on top is blue");
    assert!(image::open(folder.path("end.png")).is_ok());
    let stats: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path("stats.json")).unwrap()).unwrap();
    assert!(stats["wall_seconds"].as_f64().unwrap() > 0.0, "{stats}");
    assert!(stats["instructions"].as_u64().unwrap() > 10_000, "{stats}");
    assert!(stats["exits"]["port"].as_u64().unwrap() > 100, "{stats}");
    let leftovers: Vec<_> =
        fs::read_dir(folder.0.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(leftovers.len(), 4, "{leftovers:?}");
}

#[test]
fn a_saved_machine_runs_by_its_name() {
    let folder = Folder::new();
    let program = folder.program(&DEBUG_EXIT);
    folder.create("mine", program);
    folder.expect(0x21, &["mine", "--timeout", "60"]);
}

#[test]
fn an_awaited_text_that_the_guest_never_says_is_no_success() {
    let folder = Folder::new();
    fs::write(folder.path("script"), "wait-screen Typed 30\nkey f4\nwait-screen never 30\n").unwrap();
    let (_, err) = folder.expect(1, &["vitrine", "--script", "script", "--timeout", "90"]);
    assert!(err.contains("powered off") && err.contains("script line"), "{err}");
}

#[test]
fn a_boot_sector_is_booted_by_firmware_and_without_it() {
    let folder = Folder::new();
    let mut sector = DEBUG_EXIT.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xAA]);
    let program = folder.program(&sector);
    let run = [program, "--debug-exit", "--timeout", "60"];
    folder.expect(0x21, &[&run[..], &["--firmware", "none"]].concat());
    match engine::firmware::Firmware::installed() {
        Ok(_) => {
            folder.expect(0x21, &run);
        }
        Err(reason) => {
            let (_, err) = folder.expect(1, &run);
            assert!(err.contains("seabios"), "{err}");
            eprintln!("skipped: booting by firmware: {reason}");
        }
    }
}

#[test]
fn several_machines_run_in_one_process_and_each_end_is_told() {
    let folder = Folder::new();
    let program = folder.program(&DEBUG_EXIT);
    fs::write(folder.path("fault.bin"), TRIPLE_FAULT).unwrap();
    let (out, _) = folder.expect(
        0x21,
        &[program, "fault.bin", program, "--debug-exit", "--workers", "2", "--serial", "file:out.txt"],
    );
    for line in [
        "program: debug exit 16, status 33",
        "fault: crashed, status 4",
        "program 2: debug exit 16, status 33",
    ] {
        assert!(out.lines().any(|said| said == line), "{line}: {out}");
    }
    for file in ["out-program.txt", "out-fault.txt", "out-program 2.txt"] {
        assert!(folder.path(file).exists(), "{file}");
    }
    let (_, err) = folder.expect(1, &[program, program, "--serial", "stdio"]);
    assert!(err.contains("one terminal"), "{err}");
    for (option, value) in [("--resume", "before"), ("--gdb", "0")] {
        let (_, err) = folder.expect(1, &[program, program, option, value]);
        assert!(err.contains(option) && err.contains("one machine"), "{err}");
    }
}

#[test]
fn of_several_machines_too_one_that_is_suspended_goes_on_or_starts_anew() {
    let folder = Folder::new();
    let program = folder.program(&DEBUG_EXIT);
    fs::write(folder.path("speaks.bin"), [&INIT[..], &send(b'A'), &DEBUG_D].concat()).unwrap();
    folder.create("mine", "speaks.bin");
    let (_, err) = folder.expect(0, &["mine", "--until-serial", "A", "--suspend-on-quit"]);
    assert!(err.contains("suspended"), "{err}");
    let both = ["mine", program, "--debug-exit", "--until-serial", "A", "--suspend-on-quit"];
    let (out, _) = folder.expect(0x21, &[&both[..], &["--fresh"]].concat());
    assert!(out.contains("mine: 'A' came"), "{out}");
    let (out, _) = folder.expect(0x21, &[&both[..], &["--timeout", "2"]].concat());
    assert!(out.contains("mine: time over"), "it has said its A before: {out}");
}

#[test]
fn a_floor_above_the_memory_is_refused() {
    let folder = Folder::new();
    let program = folder.program(&DEBUG_EXIT);
    let (_, err) = folder.expect(1, &[program, "--memory-floor", "32M"]);
    assert!(err.contains("memory_floor"), "{err}");
}
