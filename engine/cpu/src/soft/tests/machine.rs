//! A protected-mode machine with the descriptors the tests of this folder share.

use crate::registers::{Segment, Table, segment};
use crate::soft::control::flat_segment;
use crate::soft::segmentation::null_segment;
use crate::soft::state::Cpu;
use crate::soft::testing::{self, TestBus};
use crate::soft::walk::bits::*;

/// Where the GDT lies.
pub const GDT: u64 = 0x1000;
/// Where the IDT lies.
pub const IDT: u64 = 0x2000;
/// The 32-bit (or 64-bit) TSS.
pub const TSS: u64 = 0x3000;
/// Another TSS.
pub const TSS_2: u64 = 0x3800;

pub const CODE_0: u16 = 0x08;
pub const DATA_0: u16 = 0x10;
pub const CODE_3: u16 = 0x1B;
pub const DATA_3: u16 = 0x23;
pub const TASK: u16 = 0x28;
/// Next entry for a test's own: 0x38 (a 64-bit TSS takes two).
pub const FREE: u16 = 0x38;
pub const CONFORMING: u16 = 0x48;
pub const NOT_PRESENT: u16 = 0x50;
pub const TASK_2: u16 = 0x58;
pub const CODE_16: u16 = 0x60;
pub const LONG_0: u16 = 0x68;
pub const LONG_3: u16 = 0x73;

/// A code or data descriptor: `attributes` as in [`Segment`].
pub fn descriptor(base: u32, limit: u32, attributes: u16) -> u64 {
    let (base, limit) = (u64::from(base), u64::from(limit));
    limit & 0xFFFF
        | (base & 0xFF_FFFF) << 16
        | u64::from(attributes & 0xFF) << 40
        | (limit >> 16 & 15) << 48
        | u64::from(attributes >> 12) << 52
        | (base >> 24) << 56
}

/// A gate: `attributes` is P, DPL and type.
pub fn gate(selector: u16, offset: u32, attributes: u8, parameters: u8) -> u64 {
    let offset = u64::from(offset);
    offset & 0xFFFF
        | u64::from(selector) << 16
        | u64::from(parameters) << 32
        | u64::from(attributes) << 40
        | offset >> 16 << 48
}

/// Puts an entry into the GDT.
pub fn put_gdt(bus: &TestBus, selector: u16, value: u64) {
    bus.put64(GDT + u64::from(selector & !7), value);
}

/// Flat 32-bit protected mode, ring 0, with tables and a TSS whose ring 0 stack is at 0x8000.
pub fn protected() -> (Box<Cpu>, TestBus) {
    let (mut cpu, bus) = testing::machine(64);
    for (selector, base, limit, attributes) in [
        (CODE_0, 0, 0xFFFFF, 0xC09A),
        (DATA_0, 0, 0xFFFFF, 0xC092),
        (CODE_3, 0, 0xFFFFF, 0xC0FA),
        (DATA_3, 0, 0xFFFFF, 0xC0F2),
        (TASK, TSS as u32, 0x7FF, 0x8B),
        (CONFORMING, 0, 0xFFFFF, 0xC09E),
        (NOT_PRESENT, 0, 0xFFFFF, 0xC01A),
        (TASK_2, TSS_2 as u32, 0x7F, 0x89),
        (CODE_16, 0, 0xFFFF, 0x9A),
        (LONG_0, 0, 0xFFFFF, 0xA09A),
        (LONG_3, 0, 0xFFFFF, 0xA0FA),
    ] {
        put_gdt(&bus, selector, descriptor(base, limit, attributes));
    }
    cpu.gdtr = Table { base: GDT, limit: 0x7F };
    cpu.idtr = Table { base: IDT, limit: 0x7FF };
    cpu.cr0 = CR0_PE | CR0_ET;
    bus.put32(TSS + 4, 0x8000);
    bus.put32(TSS + 8, u32::from(DATA_0));
    cpu.tr = Segment { selector: TASK, base: TSS, limit: 0x7FF, attributes: 0x8B, unusable: false };
    cpu.ldtr = null_segment(0);
    enter_ring(&mut cpu, 0);
    (cpu, bus)
}

/// Puts the flat 32-bit segments of ring 0 or 3 in place.
pub fn enter_ring(cpu: &mut Cpu, ring: u16) {
    let (code, data, dpl) = if ring == 3 { (CODE_3, DATA_3, 0x60) } else { (CODE_0, DATA_0, 0) };
    cpu.set_segment(segment::CS, flat_segment(code, 0xC09B | dpl));
    for index in [segment::SS, segment::DS, segment::ES] {
        cpu.set_segment(index, flat_segment(data, 0xC093 | dpl));
    }
    cpu.set_segment(segment::FS, null_segment(0));
    cpu.set_segment(segment::GS, null_segment(0));
    cpu.general[4] = 0x7000;
    cpu.rip = 0x500;
}

/// The same machine in 64-bit mode, the first 2 MiB mapped for all.
pub fn long() -> (Box<Cpu>, TestBus) {
    let (mut cpu, bus) = protected();
    bus.put64(0x10000, 0x11007);
    bus.put64(0x11000, 0x12007);
    bus.put64(0x12000, 0x87);
    cpu.cr3 = 0x10000;
    cpu.cr4 = CR4_PAE;
    cpu.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    cpu.cr0 |= CR0_PG | CR0_WP;
    cpu.flush_translations(true);
    enter_long_ring(&mut cpu, 0);
    bus.put64(TSS + 4, 0x8008); // RSP0, not a multiple of 16
    (cpu, bus)
}

/// Puts the 64-bit segments of ring 0 or 3 in place.
pub fn enter_long_ring(cpu: &mut Cpu, ring: u16) {
    enter_ring(cpu, ring);
    let (code, dpl) = if ring == 3 { (LONG_3, 0x60) } else { (LONG_0, 0) };
    cpu.set_segment(segment::CS, flat_segment(code, 0xA09B | dpl));
}
