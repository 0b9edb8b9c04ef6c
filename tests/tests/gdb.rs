//! Debian's gdb at our machines: it breaks, steps, goes back, reads registers and memory, and they are ours.

use std::collections::HashMap;
use std::process::Command;

use engine::backend::InterruptMode;
use engine::debugger::HistoryLimits;
use engine::debugger::gdb::Description;
use engine::inspect::read_linear;
use engine::profile::{Deterministic, Direct, Profile};
use engine::{Outlets, RunState, Session};
use machine_tests::{SOFT, assembler, kvm, platforms};

fn start(profile: &Profile, outlets: Outlets) -> Session {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), assembler::binary("debugger/stops")).unwrap();
    let profile = Profile { direct: Some(Direct::Flat(file.path().to_owned())), ..profile.clone() };
    Session::start(&profile, Outlets { paused: true, ..outlets }).unwrap()
}

/// What gdb says to these commands; `None`, and a printed reason, without gdb.
fn gdb(session: &Session, description: Description, commands: &[&str]) -> Option<String> {
    let address = session.start_gdb("127.0.0.1:0".parse().unwrap(), description).unwrap();
    let attach = format!("target remote {address}");
    let mut gdb = Command::new("timeout");
    gdb.args([
        "60",
        "gdb",
        "-batch",
        "-nx",
        "-ex",
        "set pagination off",
        "-ex",
        "set confirm off",
        "-ex",
        &attach,
    ]);
    commands.iter().for_each(|command| {
        gdb.args(["-ex", command]);
    });
    let output = match gdb.output() {
        Ok(output) if output.status.code() == Some(127) => {
            println!("skipped: gdb is not installed (package gdb)");
            return None;
        }
        Ok(output) => output,
        Err(error) => panic!("{error}"),
    };
    session.stop_gdb();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{errors}");
    Some(format!("{text}\n{errors}"))
}

/// `info registers` as numbers.
fn registers(text: &str) -> HashMap<String, u64> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, value) = (words.next()?, words.next()?.strip_prefix("0x")?);
        Some((name.to_owned(), u64::from_str_radix(value, 16).ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn breaks_steps_and_reads_what_our_registers_say() {
    for platform in platforms() {
        if platform != SOFT && platform != kvm(InterruptMode::Glass) {
            continue;
        }
        let (backend, interrupts) = (platform.backend, platform.interrupts);
        let session = start(&Profile { backend, interrupts, ..Profile::new("gdb") }, Outlets::default());
        let commands = [
            "hbreak *0x7d00",
            "continue",
            "stepi",
            "stepi",
            "print/x $rip",
            "set $rsi = 0x1234",
            "set {short}0x700 = 0x4711",
            "monitor status",
            "info registers",
            "x/4xb 0x7d00",
            "x/2xb 0x500",
        ];
        let Some(text) = gdb(&session, Description::X86_64, &commands) else { return };
        assert!(text.contains("Breakpoint 1, 0x0000000000007d00"), "{platform:?}: {text}");
        assert!(text.contains("$1 = 0x7d03") && text.contains("Paused"), "{platform:?}: {text}");
        assert_eq!(session.state(), RunState::Paused, "it stood still before gdb came");
        assert!(session.conditions().is_empty(), "what gdb set has gone with it");
        let (shown, ours) = (registers(&text), session.registers(0).unwrap());
        let names = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
            "r14", "r15",
        ];
        for (name, value) in names.into_iter().zip(ours.general) {
            assert_eq!(shown.get(name), Some(&value), "{platform:?} {name}: {text}");
        }
        assert_eq!((shown["rip"], shown["eflags"]), (ours.rip, ours.rflags), "{platform:?}");
        for (index, name) in ["es", "cs", "ss", "ds", "fs", "gs"].into_iter().enumerate() {
            assert_eq!(shown[name], u64::from(ours.segments[index].selector), "{platform:?} {name}");
        }
        let bytes = |at: u64, count: usize| {
            let mut bytes = vec![0; count];
            assert_eq!(read_linear(&ours, session.memory(), at, &mut bytes), count);
            bytes.iter().map(|byte| format!("0x{byte:02x}")).collect::<Vec<_>>().join("\t")
        };
        assert!(text.contains(&bytes(0x7D00, 4)) && text.contains(&bytes(0x500, 2)), "{platform:?}: {text}");
        assert_eq!((ours.general[6], bytes(0x700, 2)), (0x1234, "0x11\t0x47".to_owned()));
    }
}

#[test]
fn watches_data_and_sees_every_processor() {
    let profile = Profile { backend: SOFT.backend, cpus: 2, ..Profile::new("gdb") };
    let session = start(&profile, Outlets::default());
    let commands =
        ["watch *(short *) 0x500", "continue", "info threads", "monitor stop port 0x80", "continue"];
    let Some(text) = gdb(&session, Description::X86_64, &commands) else { return };
    assert!(text.contains("Hardware watchpoint 1") && text.contains("New value = 1"), "{text}");
    assert!(text.contains("CPU 0, real mode") && text.contains("CPU 1"), "{text}");
    assert_eq!(session.conditions().len(), 1, "what monitor set stays");
    assert_eq!(session.registers(0).unwrap().rip, 0x7C88);
}

#[test]
fn goes_backwards_in_a_deterministic_machine() {
    let profile = Profile { deterministic: Some(Deterministic::default()), ..Profile::new("gdb") };
    let outlets = Outlets { history: Some(HistoryLimits::default()), ..Outlets::default() };
    let session = start(&profile, outlets);
    let commands = [
        "break *0x7d00",
        "continue",
        "continue",
        "print $rbx",
        "stepi",
        "reverse-stepi",
        "print/x $rip",
        "reverse-continue",
        "print $rbx",
        "print/x $rip",
        "reverse-continue",
    ];
    let Some(text) = gdb(&session, Description::X86_64, &commands) else { return };
    for part in ["$1 = 1", "$2 = 0x7d00", "$3 = 0", "$4 = 0x7d00", "No more reverse-execution history"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(session.registers(0).unwrap().rip, 0x7C00);
}

#[test]
fn an_i386_is_offered_too() {
    let session = start(&Profile { backend: SOFT.backend, ..Profile::new("gdb") }, Outlets::default());
    let Some(text) = gdb(&session, Description::I386, &["stepi", "info registers", "show architecture"])
    else {
        return;
    };
    assert_eq!(registers(&text).get("eip"), Some(&session.registers(0).unwrap().rip), "{text}");
    assert!(text.contains("i386"), "{text}");
}
