//! Ten boot sectors that are broken in ten ways, and what the crash card says of each. On the software CPU, which
//! tells the whole chain of faults.

use engine::profile::{Direct, Profile};
use engine::session::Crash;
use engine::{Ending, Session};
use machine_tests::{Guest, SOFT, assembler};

/// The sector, and what its diagnosis must say.
const BROKEN: [(&str, &[&str]); 10] = [
    ("no_idt", &["div bx", "divided by zero", "there is no IDT"]),
    ("short_gdt", &["0008", "beyond the GDT's limit 0x7", "IDT entry is empty"]),
    ("absent_code", &["marked absent", "0008", "#NP"]),
    ("small_stack", &["call", "stack is full", "limit 0xff", "no room"]),
    (
        "stack_page",
        &["call", "0x5fffc", "full or was never set up", "not present", "does not fit on the stack"],
    ),
    ("unmapped_code", &["cannot be executed", "page directory entry is not present", "IDT cannot be read"]),
    ("reserved_bit", &["reading 0x234567", "reserved bits set", "there is no IDT"]),
    ("data_gate", &["mov fs,", "00f8", "beyond the GDT's limit", "no code segment"]),
    ("no_task", &["cli", "privileged", "ring 3", "no task register"]),
    ("legacy_gate", &["ud2", "not a 64-bit one"]),
];

fn crash(name: &str) -> Box<Crash> {
    let guest = Guest::flat(&assembler::binary(&format!("broken/{name}")), SOFT);
    match guest.wait_end(60) {
        Ending::Crashed(crash) => crash,
        other => panic!("{name} did not crash: {other:?}"),
    }
}

#[test]
fn ten_broken_boot_sectors_get_ten_right_diagnoses() {
    let mut wrong = Vec::new();
    for (name, parts) in BROKEN {
        let sentence = crash(name).diagnosis.sentence;
        println!("{name}: {sentence}");
        let missing: Vec<_> = parts.iter().filter(|part| !sentence.contains(**part)).collect();
        if !missing.is_empty() {
            wrong.push(format!("{name}: {missing:?} is missing in: {sentence}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_wrong_table_entry_and_the_last_accesses_are_on_the_card() {
    let entries = crash("data_gate").diagnosis.obstacles;
    assert!(entries[0].entry.as_ref().is_some_and(|entry| entry.contains("data rw-")), "{entries:?}");
    // The sector behind a flat program's start has talked to no device; one with firmware has.
    let mut disk = vec![0; 512 * 2880];
    disk[..512].copy_from_slice(&assembler::binary("broken/no_idt"));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), disk).expect("room for a floppy");
    let mut profile = Profile::new("floppy");
    profile.floppy = Some(file.path().to_owned());
    profile.direct = None::<Direct>;
    if engine::firmware::Firmware::installed().is_err() {
        return println!("skipped: SeaBIOS is not installed (package seabios)");
    }
    let guest = Guest::start(profile, SOFT);
    let session: &Session = guest.session();
    let Ending::Crashed(crash) = guest.wait_end(60) else { panic!("{:?}", session.state()) };
    assert_eq!(crash.accesses.len(), 32);
    assert!(crash.accesses.iter().any(|told| told.device.is_some()), "{:?}", crash.accesses);
}

#[test]
fn the_sectors_are_what_their_sources_say() {
    for (name, _) in BROKEN {
        let path = assembler::folder().join("broken");
        let assembled = tempfile::NamedTempFile::new().expect("a temporary file");
        let nasm = std::process::Command::new("nasm")
            .current_dir(&path)
            .args(["-f", "bin", "-o"])
            .arg(assembled.path())
            .arg(format!("{name}.asm"))
            .status();
        match nasm {
            Ok(status) => assert!(status.success(), "nasm refuses {name}.asm"),
            Err(_) => return println!("skipped: nasm is not installed"),
        }
        let made = std::fs::read(assembled.path()).unwrap();
        assert!(made == assembler::binary(&format!("broken/{name}")), "{name}: assemble it again");
    }
}
