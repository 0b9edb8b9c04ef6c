//! Address spaces with identifiers: what a CR3 load, INVLPG and each type of INVPCID drops, and what it keeps.

use iced_x86::{Decoder, DecoderOptions};

use super::machine::{self, DATA_0};
use crate::soft::fault::{Fallible, Fault, Flow};
use crate::soft::model::{CpuModel, Model};
use crate::soft::state::Cpu;
use crate::soft::system;
use crate::soft::testing::TestBus;
use crate::soft::walk::bits::*;

const GP: Fault = Fault::general_protection(0);
const KEEPS: u64 = 1 << 63;
/// A page of the program, and one of the system that may be global.
const LOWER: u64 = 0x40_0000;
const UPPER: u64 = 0xFFFF_8000_0040_0000;
const GLOBAL: u64 = 1 << 8;

/// Two address spaces, at 0x10000 and 0x20000, that share the low 2 MiB; `LOWER` and `UPPER` lead to page
/// `0x30000 + n * 0x1000`.
struct Spaces {
    cpu: Box<Cpu>,
    bus: TestBus,
}

fn leaf(table: u64) -> u64 {
    table + 0x3000
}

impl Spaces {
    fn new() -> Spaces {
        let (mut cpu, bus) = machine::long();
        cpu.model = Model::new(CpuModel::X86_64V1, 0, 1, 1_000_000_000);
        for page in 0..8u64 {
            bus.put64(0x30000 + page * 0x1000, page);
        }
        for table in [0x10000, 0x20000u64] {
            bus.put64(table, table + 0x1007);
            bus.put64(table + 0x800, table + 0x1007); // bit 47 and above
            bus.put64(table + 0x1000, table + 0x2007);
            bus.put64(table + 0x2000, 0x87);
            bus.put64(table + 0x2010, leaf(table) | 7);
        }
        cpu.general[5] = DATA_0.into();
        let mut spaces = Spaces { cpu, bus };
        spaces.map(0x10000, 0, 0);
        spaces.map(0x20000, 1, 0);
        spaces.with(|cpu| {
            cpu.load_cr4(cpu.cr4 | CR4_PGE).unwrap();
            cpu.load_cr4(cpu.cr4 | CR4_PCIDE).unwrap();
        });
        spaces
    }

    /// Maps the page of both addresses, without telling the processor.
    fn map(&self, table: u64, page: u64, flags: u64) {
        self.bus.put64(leaf(table), (0x30000 + page * 0x1000) | 7 | flags);
    }

    fn with<T>(&mut self, action: impl FnOnce(&mut Cpu) -> T) -> T {
        self.cpu.with_bus(&self.bus, action)
    }

    fn cr3(&mut self, value: u64) {
        self.with(|cpu| cpu.load_cr3(value)).unwrap();
    }

    /// What a program and the system read there.
    fn see(&mut self, linear: u64) -> [u64; 2] {
        self.with(|cpu| {
            let system = cpu.read::<u64>(3, linear).unwrap();
            machine::enter_long_ring(cpu, 3);
            let program = cpu.read::<u64>(3, linear).unwrap();
            machine::enter_long_ring(cpu, 0);
            [program, system]
        })
    }

    fn invpcid(&mut self, kind: u64, space: u64, linear: u64) -> Fallible<Flow> {
        self.bus.put64(0x6000, space);
        self.bus.put64(0x6008, linear);
        self.with(|cpu| {
            cpu.general[0] = kind;
            cpu.general[3] = 0x6000;
            let instruction =
                Decoder::new(64, &[0x66, 0x0F, 0x38, 0x82, 0x03], DecoderOptions::NONE).decode();
            system::handler(&instruction).unwrap()(cpu, &instruction)
        })
    }
}

#[test]
fn a_space_is_kept_by_bit_63_and_dropped_without() {
    let mut spaces = Spaces::new();
    assert_eq!(spaces.see(LOWER), [0, 0]);
    spaces.cr3(0x20001);
    assert_eq!(spaces.see(LOWER), [1, 1]);
    spaces.map(0x10000, 2, 0);
    spaces.map(0x20000, 3, 0);
    spaces.cr3(0x10000 | KEEPS);
    assert_eq!(spaces.see(LOWER), [0, 0], "remembered");
    spaces.cr3(0x20001 | KEEPS);
    assert_eq!(spaces.see(LOWER), [1, 1]);
    spaces.cr3(0x10000);
    assert_eq!(spaces.see(LOWER), [2, 2]);
    spaces.cr3(0x20001 | KEEPS);
    assert_eq!(spaces.see(LOWER), [1, 1], "only the space that was loaded is dropped");
    spaces.cr3(0x20001);
    assert_eq!(spaces.see(LOWER), [3, 3]);
    assert_eq!(spaces.cpu.cr3, 0x20001);
}

#[test]
fn more_spaces_than_are_kept_at_hand_stay_apart() {
    let mut spaces = Spaces::new();
    for space in 0..9u64 {
        spaces.map(0x10000, space % 8, 0);
        spaces.cr3(0x10000 | space);
        assert_eq!(spaces.see(LOWER), [space % 8; 2]);
    }
    spaces.map(0x10000, 7, 0);
    for space in (0..9u64).chain(0..9) {
        spaces.cr3(0x10000 | space | KEEPS);
        // Either what it was, or (spaces may forget) what it is; never another space's.
        assert!(spaces.see(LOWER).iter().all(|&page| page == space % 8 || page == 7), "{space}");
    }
}

#[test]
fn invlpg_takes_a_global_page_from_every_space() {
    let mut spaces = Spaces::new();
    for table in [0x10000, 0x20000] {
        spaces.map(table, 4, GLOBAL);
    }
    for linear in [LOWER, UPPER] {
        for cr3 in [0x10000, 0x20001 | KEEPS] {
            spaces.cr3(cr3);
            assert_eq!(spaces.see(linear), [4, 4]);
        }
        for table in [0x10000, 0x20000] {
            spaces.map(table, 5, GLOBAL);
        }
        spaces.with(|cpu| cpu.flush_page(linear));
        for cr3 in [0x20001 | KEEPS, 0x10000 | KEEPS] {
            spaces.cr3(cr3);
            assert_eq!(spaces.see(linear), [5, 5], "{linear:#x}");
        }
        for table in [0x10000, 0x20000] {
            spaces.map(table, 4, GLOBAL);
        }
        spaces.with(|cpu| cpu.flush_translations(true));
    }
}

#[test]
fn invpcid_drops_an_address_a_space_all_of_them_or_all_but_global_pages() {
    // (type, space named, what the other space sees of its plain page, what becomes of a global page)
    for (kind, other, global) in [(0, 3, 4), (1, 3, 4), (2, 3, 5), (3, 3, 4)] {
        let mut spaces = Spaces::new();
        spaces.cr3(0x20001);
        assert_eq!(spaces.see(LOWER), [1, 1]);
        spaces.map(0x10000, 4, GLOBAL);
        spaces.cr3(0x10000);
        assert_eq!(spaces.see(UPPER), [4, 4]);
        spaces.map(0x10000, 5, GLOBAL);
        spaces.map(0x20000, 3, 0);
        spaces.invpcid(kind, 1, LOWER).unwrap();
        assert_eq!(spaces.see(UPPER), [global, global], "type {kind}");
        spaces.cr3(0x20001 | KEEPS);
        assert_eq!(spaces.see(LOWER), [other, other], "type {kind}");
    }
    // The current space's own.
    for kind in 0..4 {
        let mut spaces = Spaces::new();
        assert_eq!(spaces.see(LOWER), [0, 0]);
        spaces.map(0x10000, 6, 0);
        spaces.invpcid(kind, 0, LOWER).unwrap();
        assert_eq!(spaces.see(LOWER), [6, 6], "type {kind}");
    }
}

#[test]
fn what_is_reserved_raises_gp() {
    let mut spaces = Spaces::new();
    assert_eq!(spaces.invpcid(4, 0, 0), Err(GP));
    for kind in 0..4 {
        assert_eq!(spaces.invpcid(kind, 0x1000, 0), Err(GP), "bits 12 to 63 are zero for every kind");
    }
    assert_eq!(spaces.invpcid(0, 0, 1 << 47), Err(GP));
    assert_eq!(spaces.with(|cpu| cpu.load_cr3(1 << 62)), Err(GP));
    assert_eq!(spaces.with(|cpu| cpu.load_cr0(CR0_PE)), Err(GP), "paging goes off after PCIDE only");
    spaces.cr3(0x20001);
    spaces.with(|cpu| {
        cpu.load_cr4(cpu.cr4 & !CR4_PCIDE).unwrap();
        assert_eq!(cpu.load_cr4(cpu.cr4 | CR4_PCIDE), Err(GP), "the space must be 0");
        assert_eq!(cpu.load_cr3(0x10000 | KEEPS), Err(GP));
    });
    assert_eq!(spaces.invpcid(1, 1, 0), Err(GP), "no identifiers any more");
    assert_eq!(spaces.invpcid(1, 0, 0), Ok(Flow::Jumped));
}
