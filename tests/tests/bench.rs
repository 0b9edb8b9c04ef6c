//! The benchmark's guest: its binary is its source's, and its loops compute what they do on Bochs and on QEMU's TCG.

use engine::profile::Profile;
use machine_tests::{Guest, SOFT, assembler, installed};

const BENCH: &str = "../bench/bench";

#[test]
fn the_binary_is_what_nasm_makes_of_the_source() {
    let Some(assembled) = assembler::assemble(BENCH) else { return };
    assert!(assembled == assembler::binary(BENCH), "bench.bin is not what bench.asm says");
}

#[test]
fn every_loop_computes_what_it_does_elsewhere() {
    if installed("/usr/share/seabios/bios.bin", "seabios").is_none() {
        return;
    }
    // fifty times each, as Bochs 2.7 and QEMU 7.2 have it
    const VALUES: [u64; 14] = [
        0xE89F_899F,
        0x32,
        0x6720,
        0x5_294A,
        0x7D,
        0x93,
        0x4014_4F4E_323E_9CE4,
        0x3FF9_E377_9B97_F4A8,
        0xDB8,
        0x1_5555_5528,
        0x32,
        0x4FB,
        0x32,
        0x640_0000,
    ];
    for (number, value) in (1u32..).zip(VALUES) {
        let mut disk = assembler::binary(BENCH);
        disk[8..12].copy_from_slice(&number.to_le_bytes());
        disk[16..24].copy_from_slice(&50u64.to_le_bytes());
        disk.resize(1 << 20, 0);
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), disk).expect("room for a small disk");
        let mut profile = Profile::new("bench");
        profile.memory = engine::profile::Size::mib(256);
        profile.disks = vec![file.path().to_owned()];
        profile.debug_exit = true;
        let guest = Guest::start(profile, SOFT);
        guest.wait_pass(60);
        let said = guest.debug_console();
        assert_eq!(said.lines().last(), Some(format!("{value:016x}").as_str()), "loop {number}");
    }
}
