//! The command line as scripts see it: exit statuses, messages, and that nothing is left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A home of its own for each test.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap() }
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("library")
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn vitrine(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_vitrine"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("VITRINE_HOME", self.library())
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .output()
            .unwrap()
    }

    /// Runs, expects this status, and gives what was said on stdout and stderr.
    #[track_caller]
    fn expect(&self, status: i32, arguments: &[&str]) -> (String, String) {
        let output = self.vitrine(arguments);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}\nstdout: {out}\nstderr: {err}");
        (out, err)
    }

    fn machines(&self) -> usize {
        fs::read_dir(self.library().join("machines")).map_or(0, Iterator::count)
    }
}

fn boot_sector() -> Vec<u8> {
    let mut sector = vec![0xF4; 512];
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    sector
}

/// An ISO 9660 image whose volume descriptor speaks of more than there is.
fn truncated_iso() -> Vec<u8> {
    let mut image = vec![0; 18 * 2048];
    image[16 * 2048..][..6].copy_from_slice(b"\x01CD001");
    image[16 * 2048 + 80..][..4].copy_from_slice(&100_000u32.to_le_bytes());
    image[16 * 2048 + 128..][..2].copy_from_slice(&2048u16.to_le_bytes());
    image[17 * 2048..][..6].copy_from_slice(b"\xFFCD001");
    image
}

#[test]
fn usage_errors_end_with_status_2() {
    let home = Home::new();
    for arguments in [
        &["fly"][..],
        &["run"],
        &["run", "x", "--colour"],
        &["run", "x", "--backend", "xen"],
        &["run", "x", "--interrupts", "none"],
        &["run", "x", "--memory", "12bananas"],
        &["run", "x", "--timeout", "0"],
        &["run", "x", "--serial", "tcp:1"],
        &["run", "x", "--until-screen", ""],
        &["create"],
        &["show"],
    ] {
        let (_, err) = home.expect(2, arguments);
        assert!(!err.is_empty(), "{arguments:?} says nothing");
    }
    assert_eq!(home.machines(), 0);
}

#[test]
fn help_and_version_are_no_errors() {
    let home = Home::new();
    let (out, _) = home.expect(0, &["run", "--help"]);
    for option in [
        "--backend",
        "--until-serial",
        "--until-screen",
        "--debug-exit",
        "--script",
        "--stats",
        "Exit status",
    ] {
        assert!(out.contains(option), "{option} is missing in\n{out}");
    }
    home.expect(0, &["--version"]);
}

#[test]
fn bad_files_are_told_with_path_and_reason() {
    let home = Home::new();
    home.file("empty.iso", b"");
    home.file("half.iso", &truncated_iso());
    home.file("letter.txt", b"Dear reader, this is a letter and nothing to boot from.\n");
    home.file(
        "disk.qcow2",
        b"QFI\xFB\0\0\0\x03................................................................",
    );
    fs::create_dir(home.folder.path().join("folder")).unwrap();
    for (file, reason) in [
        ("missing.iso", "no such file"),
        ("empty.iso", "empty"),
        ("half.iso", "truncated"),
        ("letter.txt", "text file"),
        ("disk.qcow2", "QCOW2"),
        ("folder", "folder"),
    ] {
        for arguments in [
            &["run", file, "--headless", "--stats", "stats.json", "--screenshot", "screen.png"][..],
            &["create", "new", file],
        ] {
            let (_, err) = home.expect(1, arguments);
            assert!(err.contains(file) && err.contains(reason), "{arguments:?}: {err}");
            assert_eq!(err.trim_end().lines().count(), 1, "more than one message: {err}");
        }
        // A folder can be offered as a CD.
        if file != "folder" {
            let (_, err) = home.expect(1, &["run", "--headless", "--cdrom", file]);
            assert!(err.contains(file), "{err}");
        }
    }
    assert_eq!(home.machines(), 0);
    assert!(!Path::new(&home.path("stats.json")).exists() && !Path::new(&home.path("screen.png")).exists());
}

#[test]
fn impossible_machines_are_told_and_not_made() {
    let home = Home::new();
    let sector = home.file("boot.img", &boot_sector());
    for (arguments, reason) in [
        (&["--memory", "0"][..], "memory"),
        (&["--memory", "900G"], "memory"),
        (&["--cpus", "0"], "cpus"),
        (&["--cpus", "500"], "cpus"),
        (&["--append", "x"], "--kernel"),
        (&["--cdrom", &sector], "--cdrom"),
        (&["--kernel", &sector], "--kernel"),
        (&["--firmware", "/nonexistent/bios.bin"], "/nonexistent/bios.bin"),
    ] {
        for command in [&["create", "new", &sector][..], &["run", &sector, "--headless"]] {
            let (_, err) = home.expect(1, &[command, arguments].concat());
            assert!(err.contains(reason), "{arguments:?}: {err}");
        }
    }
    let (_, err) = home.expect(1, &["create", "../out", &sector]);
    assert!(err.contains("../out"), "{err}");
    assert_eq!(home.machines(), 0);
}

#[test]
fn machines_are_created_listed_shown_and_deleted() {
    let home = Home::new();
    let (before, _) = home.expect(0, &["list"]);
    let sector = home.file("boot.img", &boot_sector());
    home.expect(0, &["create", "mine", &sector, "--memory", "64M", "--cpus", "2", "--backend", "soft"]);
    let (list, _) = home.expect(0, &["list"]);
    assert_eq!(list.lines().count(), before.lines().count() + 1);
    assert!(list.lines().any(|line| line.starts_with("mine\t64M\t2 CPUs\tsoft\t")), "{list}");
    let (shown, _) = home.expect(0, &["show", "mine"]);
    assert!(shown.contains("\"64M\"") && shown.contains("boot.img"), "{shown}");
    let (_, err) = home.expect(1, &["create", "mine", &sector]);
    assert!(err.contains("mine") && err.contains("exists"), "{err}");
    home.expect(0, &["create", "installed", &sector, "--new-disk", "2G"]);
    let (info, _) = home.expect(0, &["show", "installed"]);
    assert!(info.contains("installed/disk.qcow2"), "{info}");
    home.expect(1, &["create", "endless", &sector, "--new-disk", "9999999999G"]);
    home.expect(0, &["delete", "installed"]);
    home.expect(0, &["delete", "mine"]);
    assert_eq!(home.machines(), 0);
    assert!(Path::new(&sector).exists(), "an image outside the machine's folder must stay");
    for command in ["show", "delete"] {
        let (_, err) = home.expect(1, &[command, "mine"]);
        assert!(err.contains("mine"), "{err}");
    }
}

#[test]
fn a_profile_with_unknown_fields_or_impossible_sizes_is_told_with_its_path() {
    let home = Home::new();
    let folder = home.library().join("machines/odd");
    fs::create_dir_all(&folder).unwrap();
    for (ron, reason) in [
        ("(name: \"odd\", colour: 3)", "colour"),
        ("(name: \"odd\", memory: \"a lot\")", "LOT"),
        ("(name: \"odd\", cpus: -1)", ""),
        ("(name:", ""),
    ] {
        fs::write(folder.join("machine.ron"), ron).unwrap();
        for command in [&["run", "odd", "--headless"][..], &["show", "odd"]] {
            let (_, err) = home.expect(1, command);
            assert!(err.contains("machine.ron") && err.contains(reason), "{ron}: {err}");
        }
        assert_eq!(fs::read_to_string(folder.join("machine.ron")).unwrap(), ron);
    }
    let (list, _) = home.expect(0, &["list"]);
    assert!(list.contains("odd\tdamaged"), "{list}");
}

#[test]
fn scripts_and_outputs_are_checked_before_anything_starts() {
    let home = Home::new();
    let sector = home.file("boot.img", &boot_sector());
    let script = home.file("play.txt", b"sleep 5\nshout hello\n");
    for (arguments, reason) in [
        (&["--script", &script][..], "line 2"),
        (&["--script", "missing.txt"], "missing.txt"),
        (&["--stats", "no/such/stats.json"], "no/such"),
        (&["--screenshot", "."], "folder"),
        (&["--serial", "file:no/such/serial.txt"], "no/such"),
        (&["--debugcon", "no/such/debug.txt"], "no/such"),
    ] {
        let (_, err) =
            home.expect(1, &[&["run", &sector, "--headless", "--firmware", "none"], arguments].concat());
        assert!(err.contains(reason), "{arguments:?}: {err}");
    }
}

#[test]
fn disks_that_cannot_be_made_are_told_in_one_message_and_not_made() {
    let home = Home::new();
    let raw = home.file("disk.img", &[0; 4096]);
    let packed = home.file("disk.img.gz", b"\x1F\x8B\x08\0\0\0\0\0");
    let new = home.path("new.img");
    for (arguments, reason) in [
        (&["disk", "create", &new, "--size", "1M", "--fixed"][..], "qcow2 images cannot be fixed"),
        (
            &["disk", "create", &new, "--size", "1M", "--format", "raw", "--fixed"],
            "raw images cannot be fixed",
        ),
        (&["disk", "convert", &raw, &new, "--fixed"], "--fixed"),
        (&["disk", "convert", &raw, &new, "--size", "1K"], "4096 bytes long"),
        (&["disk", "convert", &packed, &new], "gunzip"),
        (&["disk", "info", &packed], "gunzip"),
        (&["disk", "merge", &raw], "only QCOW2 overlays are merged"),
    ] {
        let (_, err) = home.expect(1, arguments);
        assert!(err.contains(reason), "{arguments:?}: {err}");
        assert_eq!(err.trim_end().lines().count(), 1, "more than one message: {err}");
        assert!(!Path::new(&new).exists(), "{arguments:?}");
    }
    home.expect(0, &["disk", "convert", &raw, &new, "--size", "1M", "--format", "vdi", "--fixed"]);
    let (info, _) = home.expect(0, &["disk", "info", &new]);
    assert!(info.contains("1048576 bytes"), "{info}");
}

#[test]
fn a_check_says_sound_only_of_what_was_checked() {
    let home = Home::new();
    let raw = home.file("disk.img", &[0; 4096]);
    let (out, _) = home.expect(0, &["disk", "check", &raw]);
    assert!(out.contains("no tables to check") && !out.contains("sound"), "{out}");
    let image = home.path("disk.qcow2");
    home.expect(0, &["disk", "create", &image, "--size", "1M"]);
    let (out, _) = home.expect(0, &["disk", "check", &image]);
    assert!(out.contains("sound"), "{out}");
}

#[test]
fn without_a_display_the_way_out_is_named() {
    let home = Home::new();
    let sector = home.file("boot.img", &boot_sector());
    let (_, err) = home.expect(1, &["run", &sector, "--firmware", "none"]);
    assert!(err.contains("--headless"), "{err}");
    let (_, err) = home.expect(1, &[]);
    assert!(err.contains("display"), "{err}");
}
