//! What a machine is like at power-on, before its first instruction.

use cpu::GuestBus;
use hardware::{Space, Width};

use super::*;
use crate::backend::Backend;

/// A multiboot kernel of two bytes at 1 MiB.
fn kernel() -> tempfile::NamedTempFile {
    let flags = 0x1_0000_u32;
    let checksum = 0_u32.wrapping_sub(0x1BAD_B002).wrapping_sub(flags);
    let words = [0x1BAD_B002, flags, checksum, 0x10_0000, 0x10_0000, 0x10_0022, 0x10_0022, 0x10_0020];
    let mut image: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    image.extend([0xEB, 0xFE]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), image).unwrap();
    file
}

#[test]
fn a_kernel_without_firmware_finds_tables_timer_and_addresses() {
    let file = kernel();
    let mut profile = Profile::new("direct");
    profile.backend = Backend::Soft;
    profile.memory = profile::Size::mib(16);
    profile.cpus = 2;
    profile.direct =
        Some(profile::Direct::Kernel { image: file.path().to_owned(), initrd: None, append: String::new() });
    let machine = Machine::build(&profile, Outlets::default()).unwrap();
    machine.power_on().unwrap();
    let bus = machine.cpus[0].bus();
    let text = |at: u64, length: u64| -> String {
        (at..at + length).map(|at| char::from(bus.read(at, 1) as u8)).collect()
    };
    assert_eq!(text(0xF_0000, 8), "RSD PTR ");
    assert_eq!(text(0xF_0040, 4), "_SM_");
    let root = bus.read(0xF_0010, 4);
    assert_eq!(text(root, 4), "RSDT");
    assert!(!bus.page(0xE_0000).write.is_null(), "the firmware control structure is written by systems");

    let port = |port| machine.bus.read(Space::Port, port, Width::Dword, 0);
    assert!(port(0x608) < 1 << 24, "the power management timer the tables name is there");
    machine.bus.write(Space::Port, 0xCF8, Width::Dword, 0x8000_1010, 0);
    assert_eq!(port(0xCFC), 0xFD00_0008, "video memory, prefetchable");
    machine.bus.write(Space::Port, 0xCF8, Width::Dword, 0x8000_0860, 0);
    assert_eq!(port(0xCFC), 0x0B0B_0A0A, "interrupt routes");

    machine.bus.write(Space::Port, 0x64, Width::Byte, 0x20, 0);
    assert_eq!(machine.bus.read(Space::Port, 0x60, Width::Byte, 0) & 0x41, 0x41, "keys translated, IRQ 1 on");
    let msrs = |cpu: usize| machine.cpus[cpu].registers().unwrap().msrs;
    assert_eq!(msrs(1).mtrr_fixed, msrs(0).mtrr_fixed, "memory types are alike on all processors");
    assert_eq!(msrs(1).mtrr_default, 0xC06);
}
