//! Several processors: startup, locked counting, interprocessor interrupts, and INIT again, on every backend.

use std::path::Path;

use engine::Ending;
use engine::profile::{Direct, Profile};
use machine_tests::{Guest, Platform, SOFT, assembler, platforms};

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

/// Runs the memory litmus tests between `cpus` processors: see the guest. On the software CPU alone: a KVM that
/// interprets loses counts of locked instructions across two pages (it warns "emulating exchange as write").
fn litmus(name: &str, platform: Platform, cpus: u32) {
    let mut code = assembler::binary(name);
    code[2] = cpus as u8; // where it expects their number
    let mut profile = Profile::new(name);
    profile.cpus = cpus;
    Guest::flat_in(profile, &code, platform).wait_pass(120);
}

#[test]
fn memory_between_two_processors() {
    litmus("litmus", SOFT, 2);
}

/// More than most small hosts have: the processors of one lock wait for each other's turn on the host.
#[test]
fn memory_between_four_processors() {
    litmus("litmus", SOFT, 4);
}

/// CMPXCHG16B, and translations that all processors drop when one asks them to.
#[test]
fn pairs_and_translations_between_two_processors() {
    litmus("litmus64", SOFT, 2);
}

#[test]
fn pairs_and_translations_between_four_processors() {
    litmus("litmus64", SOFT, 4);
}
