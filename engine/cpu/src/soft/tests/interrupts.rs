//! Delivery: vectors, gates, rings, virtual-8086 mode, IST, and the road to a triple fault.

use super::machine::*;
use crate::registers::{Event, EventKind, segment};
use crate::soft::fault::Fault;
use crate::soft::interrupt::Cause;
use crate::soft::state::{Cpu, flag};
use crate::soft::testing::TestBus;

fn put_idt(bus: &TestBus, vector: u64, value: u64) {
    bus.put64(IDT + vector * 8, value);
}

fn put_idt_64(bus: &TestBus, vector: u64, selector: u16, offset: u64, attributes: u8, ist: u8) {
    bus.put64(IDT + vector * 16, gate(selector, offset as u32, attributes, ist));
    bus.put64(IDT + vector * 16 + 8, offset >> 32);
}

fn exception(vector: u8, error_code: Option<u32>) -> Event {
    Event { vector, error_code, kind: EventKind::Exception }
}

#[test]
fn real_mode_goes_through_the_vector_table() {
    let (mut cpu, bus) = crate::soft::testing::machine(64);
    cpu.load_segment(segment::CS, 0x100).unwrap();
    bus.put32(0x21 * 4, 0x0200_0010);
    cpu.general[4] = 0x100;
    cpu.rip = 0x55;
    cpu.load_flags(flag::IF | flag::TF | flag::CF | 2);
    cpu.with_bus(&bus, |cpu| {
        cpu.vector_through(0x21, None, Cause::Software).unwrap();
        assert_eq!((cpu.segments[segment::CS].selector, cpu.rip, cpu.general[4]), (0x200, 0x10, 0xFA));
        assert_eq!((bus.get16(0xFA), bus.get16(0xFC), bus.get16(0xFE)), (0x55, 0x100, 0x303));
        assert_eq!(cpu.flags(), flag::CF | 2);
        cpu.interrupt_return(2).unwrap();
        assert_eq!((cpu.segments[segment::CS].selector, cpu.rip, cpu.general[4]), (0x100, 0x55, 0x100));
        assert_eq!(cpu.flags(), flag::IF | flag::TF | flag::CF | 2);
        cpu.idtr.limit = 0x20;
        let code = 0x21 * 8 + 2;
        assert_eq!(cpu.vector_through(0x21, None, Cause::Software), Err(Fault::general_protection(code)));
    });
}

#[test]
fn an_interrupt_gate_to_ring_0_and_back() {
    let (mut cpu, bus) = protected();
    put_idt(&bus, 0x40, gate(CODE_0, 0x1_0000, 0x8E, 0));
    enter_ring(&mut cpu, 3);
    cpu.load_flags(flag::IF | flag::NT | 2);
    cpu.with_bus(&bus, |cpu| {
        cpu.vector_through(0x40, None, Cause::External).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.general[4]), (0, 0x1_0000, 0x8000 - 20));
        assert_eq!(cpu.flags(), 2);
        let pushed: Vec<u32> = (0..5).map(|n| bus.get32(0x8000 - 20 + 4 * n)).collect();
        let flags = (flag::IF | flag::NT | 2) as u32;
        assert_eq!(pushed, [0x500, u32::from(CODE_3), flags, 0x7000, u32::from(DATA_3)]);
        bus.put32(0x8000 - 12, (flag::IF | 2) as u32);
        cpu.interrupt_return(4).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.general[4]), (3, 0x500, 0x7000));
        assert_eq!(cpu.flags(), flag::IF | 2);
    });
}

#[test]
fn faults_in_a_delivery_name_the_entry_and_whether_it_was_external() {
    let (mut cpu, bus) = protected();
    enter_ring(&mut cpu, 3);
    cpu.with_bus(&bus, |cpu| {
        let code = 0x40 * 8 + 2;
        let software = |cpu: &mut Cpu| cpu.vector_through(0x40, None, Cause::Software);
        let external = |cpu: &mut Cpu| cpu.vector_through(0x40, None, Cause::External);
        assert_eq!(software(cpu), Err(Fault::general_protection(code)));
        put_idt(&bus, 0x40, gate(CODE_0, 0, 0x8E, 0));
        assert_eq!(software(cpu), Err(Fault::general_protection(code)), "DPL 0 gate from ring 3");
        put_idt(&bus, 0x40, gate(CODE_0, 0, 0x6E, 0));
        assert_eq!(software(cpu), Err(Fault::segment_not_present(code)));
        assert_eq!(external(cpu), Err(Fault::segment_not_present(code | 1)));
        put_idt(&bus, 0x40, gate(DATA_0, 0, 0xEE, 0));
        assert_eq!(software(cpu), Err(Fault::general_protection(0x10)));
        assert_eq!(external(cpu), Err(Fault::general_protection(0x11)));
        put_idt(&bus, 0x40, gate(0, 0, 0xEE, 0));
        assert_eq!(external(cpu), Err(Fault::general_protection(1)));
        put_idt(&bus, 0x40, gate(CODE_0, 0, 0xEE, 0));
        bus.put32(TSS + 8, 0);
        assert_eq!(external(cpu), Err(Fault::invalid_tss(1)));
        bus.put32(TSS + 8, u32::from(DATA_0));
        assert_eq!(software(cpu), Ok(()));
    });
}

#[test]
fn a_trap_gate_leaves_if_alone_and_a_fault_saves_rf_and_its_code() {
    let (mut cpu, bus) = protected();
    put_idt(&bus, 13, gate(CODE_0, 0x9000, 0x8F, 0));
    cpu.load_flags(flag::IF | 2);
    cpu.with_bus(&bus, |cpu| {
        cpu.deliver(exception(13, Some(0x18))).unwrap();
        assert_eq!(cpu.flags(), flag::IF | 2);
        assert_eq!(bus.get32(0x7000 - 16), 0x18);
        assert_eq!(bus.get32(0x7000 - 4), (flag::IF | flag::RF | 2) as u32);
        assert_eq!(cpu.general[4], 0x7000 - 16);
    });
}

#[test]
fn a_16_bit_gate_pushes_words() {
    let (mut cpu, bus) = protected();
    put_idt(&bus, 13, gate(CODE_0, 0x1_9000, 0x86, 0));
    cpu.with_bus(&bus, |cpu| {
        cpu.deliver(exception(13, Some(0x18))).unwrap();
        assert_eq!((cpu.rip, cpu.general[4]), (0x9000, 0x7000 - 8));
        assert_eq!((bus.get16(0x7000 - 8), bus.get16(0x7000 - 6)), (0x18, 0x500));
    });
}

fn enter_v8086(cpu: &mut Cpu, iopl: u64) {
    cpu.load_flags(flag::VM | flag::IF | iopl << 12 | 2);
    for index in 0..6 {
        let base = crate::soft::segmentation::real_segment(&cpu.segments[index], 0x400 + index as u16, true);
        cpu.set_segment(index, base);
    }
    cpu.general[4] = 0x80;
    cpu.rip = 0x30;
}

#[test]
fn virtual_8086_mode_leaves_through_ring_0_and_comes_back() {
    let (mut cpu, bus) = protected();
    put_idt(&bus, 0x21, gate(CODE_0, 0x9000, 0xEE, 0));
    enter_v8086(&mut cpu, 3);
    assert_eq!((cpu.cpl, cpu.is_v8086(), cpu.is_protected()), (3, true, false));
    let before = cpu.registers();
    cpu.with_bus(&bus, |cpu| {
        cpu.vector_through(0x21, None, Cause::Software).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.general[4]), (0, 0x9000, 0x8000 - 36));
        assert!(!cpu.is_v8086());
        let pushed: Vec<u32> = (0..9).map(|n| bus.get32(0x8000 - 36 + 4 * n)).collect();
        let flags = (flag::VM | flag::IF | flag::IOPL | 2) as u32;
        assert_eq!(pushed, [0x30, 0x401, flags, 0x80, 0x402, 0x400, 0x403, 0x404, 0x405]);
        for index in [segment::DS, segment::ES, segment::FS, segment::GS] {
            assert!(cpu.segments[index].unusable);
        }
        cpu.interrupt_return(4).unwrap();
        assert_eq!(cpu.registers(), before);
    });
}

#[test]
fn virtual_8086_mode_obeys_iopl_and_wants_a_ring_0_handler() {
    let (mut cpu, bus) = protected();
    put_idt(&bus, 0x21, gate(CODE_3, 0x9000, 0xEE, 0));
    enter_v8086(&mut cpu, 0);
    let mut decoder = iced_x86::Decoder::new(16, &[0xCD, 0x21, 0xCF], 0);
    let int = decoder.decode();
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(crate::soft::interrupt::int(cpu, &int), Err(Fault::general_protection(0)));
        assert_eq!(cpu.interrupt_return(2), Err(Fault::general_protection(0)));
        let kept = cpu.flags() | flag::IOPL;
        cpu.load_flags(kept);
        assert_eq!(crate::soft::interrupt::int(cpu, &int), Err(Fault::general_protection(0x18)));
    });
}

#[test]
fn in_64_bit_mode_the_stack_is_aligned_and_always_switched_for_an_ist() {
    let (mut cpu, bus) = long();
    cpu.idtr.limit = 0xFFF;
    put_idt_64(&bus, 14, LONG_0, 0x9_0000, 0x8E, 0);
    put_idt_64(&bus, 2, LONG_0, 0x9_1000, 0x8E, 3);
    bus.put64(TSS + 36 + 16, 0xA00C);
    enter_long_ring(&mut cpu, 3);
    cpu.with_bus(&bus, |cpu| {
        cpu.deliver(exception(14, Some(6))).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.general[4]), (0, 0x9_0000, 0x8000 - 48));
        let pushed: Vec<u64> = (0..6).map(|n| bus.get64(0x8000 - 48 + 8 * n)).collect();
        let flags = flag::RF | 2;
        assert_eq!(pushed, [6, 0x500, u64::from(LONG_3), flags, 0x7000, u64::from(DATA_3)]);
        assert_eq!((cpu.segments[segment::SS].selector, cpu.segments[segment::SS].unusable), (0, true));
        cpu.deliver(Event { vector: 2, error_code: None, kind: EventKind::Nmi }).unwrap();
        assert_eq!((cpu.rip, cpu.general[4]), (0x9_1000, 0xA000 - 40 + 8 - 8));
        cpu.interrupt_return(8).unwrap();
        assert_eq!((cpu.rip, cpu.general[4]), (0x9_0000, 0x8000 - 48));
        cpu.general[4] += 8;
        cpu.interrupt_return(8).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.general[4]), (3, 0x500, 0x7000));
    });
}

#[test]
fn ia_32e_handlers_are_64_bit_code_through_64_bit_gates() {
    let (mut cpu, bus) = long();
    put_idt_64(&bus, 3, CODE_0, 0x9000, 0x8E, 0);
    put_idt_64(&bus, 4, LONG_0, 0x9000, 0x86, 0);
    put_idt_64(&bus, 5, LONG_0, 0x8000_0000_0000, 0x8E, 0);
    cpu.with_bus(&bus, |cpu| {
        let through = |cpu: &mut Cpu, vector| cpu.vector_through(vector, None, Cause::Software);
        assert_eq!(through(cpu, 3), Err(Fault::general_protection(8)));
        assert_eq!(through(cpu, 4), Err(Fault::general_protection(4 * 8 + 2)));
        assert_eq!(through(cpu, 5), Err(Fault::general_protection(0)));
    });
}

#[test]
fn a_contributory_fault_on_another_is_a_double_fault() {
    let (mut cpu, bus) = protected();
    put_idt(&bus, 8, gate(CODE_0, 0x8888, 0x8E, 0));
    cpu.with_bus(&bus, |cpu| {
        cpu.deliver(exception(13, Some(0))).unwrap(); // no gate 13: #GP again
        assert_eq!(cpu.rip, 0x8888);
        assert_eq!((bus.get32(0x7000 - 16), bus.get32(0x7000 - 12)), (0, 0x500));
    });
}

#[test]
fn a_benign_fault_and_then_another_is_delivered_as_the_other() {
    let (mut cpu, bus) = protected();
    put_idt(&bus, 13, gate(CODE_0, 0x1313, 0x8E, 0));
    cpu.with_bus(&bus, |cpu| {
        cpu.deliver(exception(6, None)).unwrap(); // no gate 6
        assert_eq!(cpu.rip, 0x1313);
        assert_eq!(bus.get32(0x7000 - 16), 6 * 8 + 3);
    });
}

#[test]
fn no_gate_for_the_double_fault_is_a_shutdown_with_its_chain() {
    let (mut cpu, bus) = protected();
    cpu.with_bus(&bus, |cpu| {
        let chain = cpu.deliver(exception(14, Some(2))).unwrap_err();
        let seen: Vec<_> = chain.iter().map(|record| (record.vector, record.error_code)).collect();
        let gp = |vector: u32| (13, Some(vector * 8 + 3));
        assert_eq!(seen, [(14, Some(2)), gp(14), (8, Some(0)), gp(8)]);
        assert_eq!(chain[0].address, Some(cpu.cr2));
        assert_eq!(chain[0].registers.as_ref().unwrap().rip, 0x500);
    });
}

#[test]
fn returning_to_ring_3_takes_inner_selectors_but_leaves_their_bases() {
    let (mut cpu, bus) = long();
    let (flags, code, data) = (2, u64::from(LONG_3), u64::from(DATA_3));
    for (n, value) in [0x500, code, flags, 0x7000, data].into_iter().enumerate() {
        bus.put64(0x6000 + 8 * n as u64, value);
    }
    cpu.general[4] = 0x6000;
    cpu.with_bus(&bus, |cpu| {
        cpu.load_segment(segment::GS, DATA_0).unwrap();
        cpu.write_msr(0xC000_0101, 0x1234_0000).unwrap();
        cpu.interrupt_return(8).unwrap();
        assert_eq!(cpu.segments[segment::GS].selector, 0);
        assert_eq!(cpu.segments[segment::GS].base, 0x1234_0000);
    });
}
