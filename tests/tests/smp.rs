//! Several processors: startup, locked counting, interprocessor interrupts, and INIT again, on every backend.

use std::path::Path;
use std::process::Command;

use engine::Ending;
use engine::profile::{Direct, Profile};
use machine_tests::{Guest, Platform, platforms};

fn run(platform: Platform, cpus: u32) -> String {
    let mut profile = Profile::new("smp");
    profile.direct = Some(Direct::Flat(source("smp.bin")));
    profile.cpus = cpus;
    profile.debug_exit = true;
    let guest = Guest::start(profile, platform);
    let ending = guest.wait_end(60);
    let told = guest.debug_console();
    assert_eq!(ending, Ending::DebugExit(0x2A), "{platform:?}, {cpus} processors: {told}");
    told
}

fn source(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests").join(name)
}

#[test]
fn two_processors_work_together() {
    for platform in platforms() {
        let told = run(platform, 2);
        let expected = "cpus 2 counter 40000 guarded 40000 pings 200 nmis 1 started 2\n";
        assert_eq!(told, expected, "{platform:?}");
    }
}

#[test]
fn more_processors_than_the_host_has() {
    for platform in platforms() {
        let told = run(platform, 5);
        let expected = "cpus 5 counter 100000 guarded 100000 pings 200 nmis 4 started 8\n";
        assert_eq!(told, expected, "{platform:?}");
    }
}

#[test]
fn the_image_is_what_its_source_says() {
    let assembled = tempfile::NamedTempFile::new().expect("a temporary file");
    let nasm =
        Command::new("nasm").args(["-f", "bin", "-o"]).arg(assembled.path()).arg(source("smp.asm")).status();
    match nasm {
        Ok(status) => assert!(status.success(), "nasm refuses the source"),
        Err(_) => return println!("skipped: nasm is not installed"),
    }
    let (made, kept) = (std::fs::read(assembled.path()).unwrap(), std::fs::read(source("smp.bin")).unwrap());
    assert!(made == kept, "assemble it again: nasm -f bin -o smp.bin smp.asm");
}
