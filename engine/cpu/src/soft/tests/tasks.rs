//! Task switches there and back, and the I/O permission bitmap.

use super::machine::*;
use crate::registers::segment;
use crate::soft::fault::Fault;
use crate::soft::interrupt::Cause;
use crate::soft::state::flag;
use crate::soft::testing::TestBus;

/// A second task: ring 0, its own stack and code.
fn prepare(bus: &TestBus) {
    bus.put32(TSS_2 + 32, 0xB000);
    bus.put32(TSS_2 + 36, 2);
    for n in 0..8 {
        bus.put32(TSS_2 + 40 + 4 * n, 0x9000 + n as u32 * 0x10);
    }
    for (n, selector) in [DATA_0, CODE_0, DATA_0, DATA_0, 0, 0].into_iter().enumerate() {
        bus.put32(TSS_2 + 72 + 4 * n as u64, u32::from(selector));
    }
}

fn rights(bus: &TestBus, selector: u16) -> u8 {
    bus.get(GDT + u64::from(selector) + 5, 1)[0]
}

#[test]
fn a_call_nests_and_iret_comes_back() {
    let (mut cpu, bus) = protected();
    prepare(&bus);
    cpu.general[3] = 0x1234;
    cpu.rip = 0x507;
    let before = cpu.registers();
    cpu.with_bus(&bus, |cpu| {
        cpu.far_call(TASK_2, 0, 4).unwrap();
        assert_eq!((cpu.rip, cpu.general[4], cpu.tr.selector), (0xB000, 0x9040, TASK_2));
        assert_eq!(cpu.flags(), flag::NT | 2);
        assert_eq!(cpu.cr0 & 8, 8, "TS");
        assert_eq!(bus.get16(TSS_2), TASK, "back link");
        assert_eq!((rights(&bus, TASK), rights(&bus, TASK_2)), (0x8B, 0x8B));
        assert_eq!((bus.get32(TSS + 32), bus.get32(TSS + 52)), (0x507, 0x1234));
        assert!(cpu.pending.is_none());
        assert_eq!(cpu.far_call(TASK_2, 0, 4), Err(Fault::general_protection(0x58)), "busy");
        cpu.interrupt_return(4).unwrap();
        assert_eq!(rights(&bus, TASK_2), 0x89);
        assert_eq!(bus.get32(TSS_2 + 36) as u64 & flag::NT, 0);
        let mut after = cpu.registers();
        after.cr0 &= !8;
        // the accessed bits of reloaded descriptors and the debug register's fixed bits are all that differ
        assert_eq!(after, before);
    });
}

#[test]
fn a_jump_hands_the_busy_bit_over() {
    let (mut cpu, bus) = protected();
    prepare(&bus);
    cpu.with_bus(&bus, |cpu| {
        cpu.far_jump(TASK_2, 0).unwrap();
        assert_eq!((rights(&bus, TASK), rights(&bus, TASK_2)), (0x89, 0x8B));
        assert_eq!(cpu.flags(), 2);
        assert_eq!(bus.get16(TSS_2), 0);
    });
}

#[test]
fn a_task_gate_takes_the_error_code_along() {
    let (mut cpu, bus) = protected();
    prepare(&bus);
    bus.put64(IDT + 10 * 8, gate(TASK_2, 0, 0x85, 0));
    cpu.with_bus(&bus, |cpu| {
        cpu.vector_through(10, Some(0x28), Cause::Exception).unwrap();
        assert_eq!((cpu.rip, cpu.general[4], bus.get32(0x903C)), (0xB000, 0x903C, 0x28));
        assert_eq!(cpu.flags(), flag::NT | 2);
    });
}

#[test]
fn a_fault_after_the_switch_belongs_to_the_new_task() {
    let (mut cpu, bus) = protected();
    prepare(&bus);
    bus.put32(TSS_2 + 84, u32::from(TASK)); // DS
    cpu.with_bus(&bus, |cpu| {
        cpu.far_call(TASK_2, 0, 4).unwrap();
        let event = cpu.pending.unwrap();
        assert_eq!((event.vector, event.error_code), (10, Some(0x28)));
        assert_eq!((cpu.rip, cpu.tr.selector), (0xB000, TASK_2));
        assert!(cpu.segments[segment::DS].unusable);
    });
}

#[test]
fn a_fault_before_the_switch_belongs_to_the_old_one() {
    let (mut cpu, bus) = protected();
    prepare(&bus);
    put_gdt(&bus, TASK_2, descriptor(TSS_2 as u32, 0x66, 0x89));
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.far_call(TASK_2, 0, 4), Err(Fault::invalid_tss(0x58)));
        put_gdt(&bus, TASK_2, descriptor(TSS_2 as u32, 0x67, 0x09));
        assert_eq!(cpu.far_call(TASK_2, 0, 4), Err(Fault::segment_not_present(0x58)));
        assert_eq!((cpu.tr.selector, cpu.rip, rights(&bus, TASK)), (TASK, 0x500, 0x8B));
    });
}

#[test]
fn the_t_bit_traps_in_the_new_task() {
    let (mut cpu, bus) = protected();
    prepare(&bus);
    bus.put32(TSS_2 + 100, 1);
    cpu.with_bus(&bus, |cpu| {
        cpu.far_jump(TASK_2, 0).unwrap();
        assert_eq!(cpu.pending.map(|event| event.vector), Some(1));
        assert_eq!(cpu.debug[4] & 1 << 15, 1 << 15);
    });
}

#[test]
fn a_16_bit_task_is_entered_and_left() {
    let (mut cpu, bus) = protected();
    put_gdt(&bus, TASK_2, descriptor(TSS_2 as u32, 0x2B, 0x81));
    bus.put(TSS_2 + 14, &0x4000u16.to_le_bytes());
    bus.put(TSS_2 + 16, &2u16.to_le_bytes());
    for (n, selector) in [DATA_0, CODE_16, DATA_0, DATA_0].into_iter().enumerate() {
        bus.put(TSS_2 + 34 + 2 * n as u64, &selector.to_le_bytes());
    }
    bus.put(TSS_2 + 18 + 8, &0x6000u16.to_le_bytes());
    cpu.rip = 0x50A;
    cpu.with_bus(&bus, |cpu| {
        cpu.far_call(TASK_2, 0, 4).unwrap();
        assert_eq!((cpu.rip, cpu.general[4], cpu.pending), (0x4000, 0x6000, None));
        assert!(!cpu.segments[segment::CS].is_big());
        cpu.interrupt_return(2).unwrap();
        assert_eq!((cpu.rip, cpu.general[4], cpu.pending), (0x50A, 0x7000, None));
    });
}

#[test]
fn the_io_bitmap_guards_ports_from_outer_rings() {
    let (mut cpu, bus) = protected();
    bus.put(TSS + 102, &0x68u16.to_le_bytes());
    bus.put(TSS + 0x68, &[0xFF; 0x20]);
    bus.put(TSS + 0x68 + (0x60 / 8), &[0b1110_1110]);
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.check_io(0x61, 1), Ok(()), "ring 0");
        enter_ring(cpu, 3);
        let denied = Err(Fault::general_protection(0));
        assert_eq!(cpu.check_io(0x60, 1), Ok(()));
        assert_eq!(cpu.check_io(0x60, 2), denied);
        assert_eq!(cpu.check_io(0x64, 1), Ok(()));
        assert_eq!(cpu.check_io(0x61, 1), denied);
        cpu.tr.limit = 0x68 + 0x60 / 8;
        assert_eq!(cpu.check_io(0x60, 1), denied, "two bytes are read");
        let kept = cpu.flags() | flag::IOPL;
        cpu.load_flags(kept);
        assert_eq!(cpu.check_io(0x61, 1), Ok(()), "IOPL 3");
    });
}
