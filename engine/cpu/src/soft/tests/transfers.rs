//! Far JMP, CALL, RET: rings, gates, conforming code, and every fault's error code.

use super::machine::*;
use crate::registers::segment;
use crate::soft::fault::Fault;

const GP: fn(u32) -> Fault = Fault::general_protection;

#[test]
fn a_far_jump_stays_in_its_ring() {
    let (mut cpu, bus) = protected();
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.far_jump(0, 0), Err(GP(0)));
        assert_eq!(cpu.far_jump(0x80, 0), Err(GP(0x80)), "beyond the GDT");
        assert_eq!(cpu.far_jump(DATA_0, 0), Err(GP(0x10)));
        assert_eq!(cpu.far_jump(CODE_3, 0), Err(GP(0x18)));
        assert_eq!(cpu.far_jump(NOT_PRESENT, 0), Err(Fault::segment_not_present(0x50)));
        assert_eq!(cpu.far_jump(CODE_16, 0x1_0000), Err(GP(0)), "beyond the limit");
        assert_eq!(cpu.far_jump(0x0C, 0), Err(GP(0x0C)), "no LDT");
        assert_eq!((cpu.rip, cpu.segments[segment::CS].selector), (0x500, CODE_0));
        assert_eq!(cpu.far_jump(CODE_16, 0x1234), Ok(()));
        assert_eq!((cpu.rip, cpu.segments[segment::CS].is_big()), (0x1234, false));
        assert_eq!(bus.get(GDT + u64::from(CODE_16) + 5, 1), [0x9B], "accessed");
    });
}

#[test]
fn conforming_code_runs_with_the_callers_privilege() {
    let (mut cpu, bus) = protected();
    enter_ring(&mut cpu, 3);
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.far_jump(CODE_0, 0), Err(GP(8)));
        assert_eq!(cpu.far_jump(CONFORMING, 0x700), Ok(()));
        assert_eq!((cpu.cpl, cpu.segments[segment::CS].selector), (3, CONFORMING | 3));
    });
}

#[test]
fn a_call_gate_switches_stacks_copies_parameters_and_comes_back() {
    let (mut cpu, bus) = protected();
    put_gdt(&bus, FREE, gate(CODE_0, 0x1_2340, 0xEC, 2));
    enter_ring(&mut cpu, 3);
    cpu.rip = 0x505;
    bus.put32(0x7000, 0xAAAA);
    bus.put32(0x7004, 0xBBBB);
    cpu.with_bus(&bus, |cpu| {
        cpu.far_call(FREE, 0xDEAD, 4).unwrap();
        assert_eq!((cpu.cpl, cpu.rip), (0, 0x1_2340));
        assert_eq!(cpu.segments[segment::SS].selector, DATA_0);
        assert_eq!(cpu.general[4], 0x8000 - 24);
        let pushed: Vec<u32> = (0..6).map(|n| bus.get32(0x8000 - 24 + 4 * n)).collect();
        assert_eq!(pushed, [0x505, u32::from(CODE_3), 0xAAAA, 0xBBBB, 0x7000, u32::from(DATA_3)]);
        let mut inner = cpu.segments[segment::DS];
        inner.attributes &= !0x60;
        cpu.set_segment(segment::DS, inner);
        cpu.far_return(4, 8).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.general[4]), (3, 0x505, 0x7008));
        assert_eq!(cpu.segments[segment::SS].selector, DATA_3);
        assert!(cpu.segments[segment::DS].unusable, "ring 0 data is taken away");
        assert!(!cpu.segments[segment::ES].unusable);
    });
}

#[test]
fn a_16_bit_call_gate_pushes_words() {
    let (mut cpu, bus) = protected();
    put_gdt(&bus, FREE, gate(CODE_0, 0x1_2340, 0x84, 0));
    cpu.with_bus(&bus, |cpu| {
        cpu.far_call(FREE, 0, 4).unwrap();
        assert_eq!((cpu.rip, cpu.general[4]), (0x2340, 0x6FFC));
        assert_eq!((bus.get16(0x6FFC), bus.get16(0x6FFE)), (0x500, CODE_0));
    });
}

#[test]
fn gates_check_privilege_presence_and_their_stack() {
    let (mut cpu, bus) = protected();
    enter_ring(&mut cpu, 3);
    cpu.with_bus(&bus, |cpu| {
        put_gdt(&bus, FREE, gate(CODE_0, 0, 0x8C, 0));
        assert_eq!(cpu.far_call(FREE, 0, 4), Err(GP(0x38)), "DPL of the gate");
        put_gdt(&bus, FREE, gate(CODE_0, 0, 0x6C, 0));
        assert_eq!(cpu.far_call(FREE, 0, 4), Err(Fault::segment_not_present(0x38)));
        put_gdt(&bus, FREE, gate(0, 0, 0xEC, 0));
        assert_eq!(cpu.far_call(FREE, 0, 4), Err(GP(0)));
        put_gdt(&bus, FREE, gate(DATA_0, 0, 0xEC, 0));
        assert_eq!(cpu.far_call(FREE, 0, 4), Err(GP(0x10)));
        put_gdt(&bus, FREE, gate(CODE_0, 0, 0xEC, 0));
        assert_eq!(cpu.far_jump(FREE, 0), Err(GP(8)), "JMP does not change privilege");
        bus.put32(TSS + 8, u32::from(DATA_3));
        assert_eq!(cpu.far_call(FREE, 0, 4), Err(Fault::invalid_tss(0x20)));
        bus.put32(TSS + 8, 0);
        assert_eq!(cpu.far_call(FREE, 0, 4), Err(Fault::invalid_tss(0)));
        bus.put32(TSS + 8, u32::from(DATA_0));
        cpu.tr.limit = 8;
        assert_eq!(cpu.far_call(FREE, 0, 4), Err(Fault::invalid_tss(0x28)));
        assert_eq!((cpu.cpl, cpu.rip, cpu.general[4]), (3, 0x500, 0x7000), "nothing moved");
    });
}

#[test]
fn a_return_never_goes_inwards() {
    let (mut cpu, bus) = protected();
    enter_ring(&mut cpu, 3);
    bus.put32(0x7000, 0x600);
    bus.put32(0x7004, u32::from(CODE_0));
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.far_return(4, 0), Err(GP(8)));
        bus.put32(0x7004, 3);
        assert_eq!(cpu.far_return(4, 0), Err(GP(0)));
        assert_eq!(cpu.general[4], 0x7000);
    });
}

#[test]
fn real_mode_calls_and_returns_wrap_nothing_but_16_bits() {
    let (mut cpu, bus) = crate::soft::testing::machine(64);
    cpu.load_segment(segment::SS, 0x100).unwrap();
    cpu.general[4] = 0x100;
    cpu.rip = 0x1234;
    cpu.with_bus(&bus, |cpu| {
        cpu.far_call(0x0200, 0x10, 2).unwrap();
        assert_eq!((cpu.segments[segment::CS].base, cpu.rip), (0x2000, 0x10));
        assert_eq!((bus.get16(0x10FC), bus.get16(0x10FE)), (0x1234, 0xF000));
        cpu.far_return(2, 0).unwrap();
        assert_eq!((cpu.segments[segment::CS].base, cpu.rip), (0xF_0000, 0x1234));
        assert_eq!(cpu.far_jump(0, 0x1_0000), Err(GP(0)));
    });
}

#[test]
fn in_ia_32e_mode_code_may_be_64_bit_or_compatible_but_not_both() {
    let (mut cpu, bus) = long();
    cpu.with_bus(&bus, |cpu| {
        put_gdt(&bus, FREE, descriptor(0, 0xFFFFF, 0xE09A));
        assert_eq!(cpu.far_jump(FREE, 0), Err(GP(0x38)));
        assert_eq!(cpu.far_jump(CODE_0, 0x600), Ok(()));
        assert!(!cpu.is_64_bit() && cpu.is_long_mode());
        assert_eq!(cpu.far_jump(LONG_0, 0x600), Ok(()));
        assert!(cpu.is_64_bit());
        assert_eq!(cpu.far_jump(LONG_0, 0x8000_0000_0000), Err(GP(0)));
        assert_eq!(cpu.far_call(TASK_2, 0, 8), Err(GP(0x58)), "no task switches");
    });
}

#[test]
fn a_stack_with_a_base_wraps_at_4_gib_in_compatibility_mode() {
    let (mut cpu, bus) = long();
    bus.put32(0x7000, 0x1234_5678);
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.far_jump(CODE_0, 0x600), Ok(()));
        cpu.segments[segment::SS].base = 0x1000_0000;
        cpu.set_segment(segment::SS, cpu.segments[segment::SS]);
        cpu.general[4] = 0xF000_7000;
        assert_eq!(cpu.pop(4), Ok(0x1234_5678), "not at 0x1_0000_7000");
        assert_eq!(cpu.push(0x9ABC_DEF0, 4), Ok(()));
        cpu.general[4] = 0x1000_0000;
        assert!(cpu.pop(4).is_err());
        assert_eq!(cpu.cr2, 0x2000_0000);
        cpu.general[4] = 0xFFF0_0000;
        assert!(cpu.pop(4).is_err());
        assert_eq!(cpu.cr2, 0x0FF0_0000);
    });
    assert_eq!(bus.get32(0x7000), 0x9ABC_DEF0);
}

#[test]
fn a_64_bit_call_gate_pushes_qwords_on_rsp0() {
    let (mut cpu, bus) = long();
    put_gdt(&bus, FREE, gate(LONG_0, 0x9000, 0xEC, 0));
    put_gdt(&bus, FREE + 8, 0);
    enter_long_ring(&mut cpu, 3);
    cpu.with_bus(&bus, |cpu| {
        cpu.far_call(FREE, 0, 4).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.general[4]), (0, 0x9000, 0x8008 - 32));
        let pushed: Vec<u64> = (0..4).map(|n| bus.get64(0x8008 - 32 + 8 * n)).collect();
        assert_eq!(pushed, [0x500, u64::from(LONG_3), 0x7000, u64::from(DATA_3)]);
        assert_eq!(cpu.segments[segment::SS].selector, 0);
        cpu.far_return(8, 0).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.general[4]), (3, 0x500, 0x7000));
        bus.put64(GDT + u64::from(FREE) + 8, 1 << 40);
        assert_eq!(cpu.far_call(FREE, 0, 4), Err(GP(0x38)), "type in the upper half");
    });
}

#[test]
fn segment_loads_check_what_the_manual_says() {
    let (mut cpu, bus) = protected();
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.load_segment(segment::DS, 0x83), Err(GP(0x80)));
        assert_eq!(cpu.load_segment(segment::DS, TASK), Err(GP(0x28)));
        assert_eq!(cpu.load_segment(segment::SS, 0), Err(GP(0)));
        assert_eq!(cpu.load_segment(segment::SS, DATA_3), Err(GP(0x20)));
        assert_eq!(cpu.load_segment(segment::SS, CODE_0), Err(GP(0x08)));
        put_gdt(&bus, FREE, descriptor(0x1000, 0xFFF, 0x12));
        assert_eq!(cpu.load_segment(segment::SS, FREE), Err(Fault::stack(0x38)));
        assert_eq!(cpu.load_segment(segment::ES, FREE), Err(Fault::segment_not_present(0x38)));
        put_gdt(&bus, FREE, descriptor(0x1000, 0xFFF, 0x92));
        assert_eq!(cpu.load_segment(segment::ES, FREE), Ok(()));
        assert_eq!((cpu.segments[segment::ES].base, cpu.segments[segment::ES].limit), (0x1000, 0xFFF));
        assert_eq!(cpu.load_segment(segment::FS, 3), Ok(()));
        assert!(cpu.read::<u8>(segment::FS, 0).is_err());
        enter_ring(cpu, 3);
        assert_eq!(cpu.load_segment(segment::DS, DATA_0), Err(GP(0x10)));
        assert_eq!(cpu.load_segment(segment::DS, CONFORMING), Ok(()));
    });
}
