//! Segment limits and rights, devices and ROM, locked accesses.

use crate::registers::segment::{DS, SS};
use crate::registers::{Segment, segment};
use crate::soft::fault::Fault;
use crate::soft::state::Cpu;
use crate::soft::testing::{Touch, machine};
use crate::soft::walk::bits;

/// 32-bit flat protected mode, ring 0, no paging.
fn flat(cpu: &mut Cpu) {
    cpu.cr0 |= bits::CR0_PE;
    for index in 0..6 {
        let attributes = if index == segment::CS { 0xC09B } else { 0xC093 };
        let flat = Segment { selector: 8, base: 0, limit: u32::MAX, attributes, unusable: false };
        cpu.set_segment(index, flat);
    }
}

#[test]
fn real_mode_limits_are_64_kib_and_the_stack_has_its_own_fault() {
    let (mut cpu, bus) = machine(32);
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.write::<u16>(DS, 0xFFFE, 0x1234), Ok(()));
        assert_eq!(cpu.write::<u16>(DS, 0xFFFF, 0), Err(Fault::general_protection(0)));
        assert_eq!(cpu.read::<u32>(SS, 0xFFFD), Err(Fault::stack(0)));
    });
    assert_eq!(bus.get16(0xFFFE), 0x1234);
}

#[test]
fn expand_down_segments_are_valid_above_their_limit() {
    let (mut cpu, bus) = machine(4);
    flat(&mut cpu);
    let down = Segment { selector: 8, base: 0, limit: 0xFFF, attributes: 0x97, unusable: false };
    cpu.set_segment(DS, down);
    cpu.with_bus(&bus, |cpu| {
        assert!(cpu.read::<u8>(DS, 0xFFF).is_err());
        assert!(cpu.read::<u32>(DS, 0x1000).is_ok());
        assert!(cpu.read::<u32>(DS, 0xFFFD).is_err(), "D/B is clear: 64 KiB is the top");
    });
}

#[test]
fn rights_are_checked() {
    let (mut cpu, bus) = machine(4);
    flat(&mut cpu);
    cpu.with_bus(&bus, |cpu| {
        let gp = Err(Fault::general_protection(0));
        assert_eq!(cpu.write::<u8>(segment::CS, 0, 1), gp);
        assert!(cpu.read::<u8>(segment::CS, 0).is_ok());
        let read_only = Segment { attributes: 0xC091, ..cpu.segments[DS] };
        cpu.set_segment(DS, read_only);
        assert_eq!(cpu.write::<u8>(DS, 0, 1), gp);
        assert!(cpu.read::<u8>(DS, 0).is_ok());
        let null = Segment { unusable: true, ..read_only };
        cpu.set_segment(DS, null);
        assert!(cpu.read::<u8>(DS, 0).is_err());
    });
}

#[test]
fn devices_and_rom_are_reached_through_the_bus_and_ram_is_not() {
    let (mut cpu, bus) = machine(4);
    *bus.rom.borrow_mut() = 0x1000..0x2000;
    bus.put32(0x1000, 0x11223344);
    flat(&mut cpu);
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.read::<u32>(DS, 0x1000), Ok(0x11223344));
        cpu.write::<u16>(DS, 0x1002, 0xAABB).unwrap();
        cpu.write::<u32>(DS, 0x2000, 5).unwrap();
        bus.answer.set(0x8877_6655_4433_2211);
        assert_eq!(cpu.read::<u64>(DS, 0x10_0000), Ok(0x8877_6655_4433_2211));
        assert_eq!(cpu.read::<u32>(DS, 0x3FFE), Ok(0x2211_0000), "half RAM, half device");
    });
    let expected = [Touch::Write(0x1002, 2, 0xAABB), Touch::Read(0x10_0000, 8), Touch::Read(0x4000, 2)];
    assert_eq!(*bus.touched.borrow(), expected);
    assert_eq!(bus.get32(0x1000), 0x11223344);
}

#[test]
fn locked_changes_return_the_old_value_wherever_they_are() {
    let (mut cpu, bus) = machine(4);
    flat(&mut cpu);
    cpu.with_bus(&bus, |cpu| {
        for at in [0x100, 0x103, 0xFFE] {
            cpu.write::<u32>(DS, at, 7).unwrap();
            assert_eq!(cpu.atomic::<u32>(DS, at, |old| old + 1), Ok(7));
            assert_eq!(cpu.atomic::<u32>(DS, at, |old| old + 1), Ok(8));
            assert_eq!(cpu.read::<u32>(DS, at), Ok(9));
        }
    });
}
