//! Control points come whatever the guest does: the bound is in instructions and elements, since time is the host's.

use std::cell::Cell;
use std::rc::Rc;

use super::machine;
use crate::pins::Signal;
use crate::soft::dispatch::WORK;
use crate::soft::state::{Cpu, flag};
use crate::stop::Stop;

const CODE: u64 = 0x500;
/// `cli`
const CLI: u8 = 0xFA;
/// Instructions that a chain of blocks may run on after a control point is due.
const CHAIN: u64 = 2048 + 32;

/// Runs `code` until the `nth` control point kicks it; the processor then, how it stopped, and how many points came.
fn kicked_at(nth: u64, code: &[u8], prepare: impl FnOnce(&mut Cpu)) -> (Box<Cpu>, Stop, u64) {
    let (mut cpu, bus) = machine::protected();
    bus.put(CODE, code);
    cpu.rip = CODE;
    cpu.general[6] = 0xA000;
    cpu.general[7] = 0xC000;
    prepare(&mut cpu);
    let points = Rc::new(Cell::new(0));
    let (counted, pins) = (points.clone(), cpu.pins.clone());
    *bus.at_control_point.borrow_mut() = Some(Box::new(move || {
        counted.set(counted.get() + 1);
        if counted.get() == nth {
            pins.raise(Signal::Kick);
        }
    }));
    // A guest that never comes by a control point must not hang the test.
    let stop = cpu.with_bus(&bus, |cpu| cpu.execute(100_000_000));
    (cpu, stop, points.get())
}

#[test]
fn a_loop_with_interrupts_off_comes_by_and_is_left_at_once() {
    for nth in [1, 2, 10] {
        let (cpu, stop, points) = kicked_at(nth, &[CLI, 0xEB, 0xFE], |_| {});
        assert_eq!((stop, points), (Stop::Kicked, nth), "nothing runs on after the kick");
        assert_eq!(cpu.system_flags & flag::IF, 0);
        let most = nth * (WORK as u64 + CHAIN);
        assert!((1..=most).contains(&cpu.instructions), "{} instructions to point {nth}", cpu.instructions);
    }
}

#[test]
fn an_endless_repetition_is_left_in_its_middle() {
    // Bulk within pages, and element by element: forwards, backwards, ports, comparisons that find nothing.
    for (what, code, direction) in [
        ("rep movsb", [CLI, 0xF3, 0xA4], 0),
        ("std, rep movsb", [CLI, 0xF3, 0xA4], flag::DF),
        ("rep stosd", [CLI, 0xF3, 0xAB], 0),
        ("rep lodsb", [CLI, 0xF3, 0xAC], 0),
        ("rep insb", [CLI, 0xF3, 0x6C], 0),
        ("repe cmpsb", [CLI, 0xF3, 0xA6], 0),
    ] {
        let (cpu, stop, points) = kicked_at(3, &code, |cpu| {
            cpu.general[1] = 0xFFFF_FFFF;
            cpu.general[7] = 0xA000; // compares with itself
            cpu.system_flags |= direction;
        });
        assert_eq!((stop, points), (Stop::Kicked, 3), "{what}");
        let elements = 0xFFFF_FFFF - cpu.general[1];
        assert_eq!(cpu.rip, CODE + 1, "{what} goes on where it was left");
        assert!((1..=3 * 16 * (WORK as u64 + 4096)).contains(&elements), "{what}: {elements} elements");
    }
}

#[test]
fn many_repetitions_in_a_row_are_as_long_as_one() {
    // again: mov ecx, 4096; mov edi, 0xC000; rep stosb; jmp again
    let code = [CLI, 0xB9, 0, 0x10, 0, 0, 0xBF, 0, 0xC0, 0, 0, 0xF3, 0xAA, 0xEB, 0xF2];
    let (cpu, stop, points) = kicked_at(5, &code, |_| {});
    assert_eq!((stop, points), (Stop::Kicked, 5));
    // A page is 256 units: by instructions alone there would be 2,048 pages to a chain.
    assert!(cpu.instructions <= 5 * 4 * (WORK as u64 / 256 + 2), "{}", cpu.instructions);
}

#[test]
fn walks_and_faults_are_work() {
    // A fault whose handler returns to it, again and again.
    let handler = 0x600;
    let (cpu, stop, _) = {
        let (mut cpu, bus) = machine::protected();
        bus.put(CODE, &[0x0F, 0x0B]); // ud2
        bus.put(handler, &[0xCF]); // iret
        bus.put64(machine::IDT + 8 * 6, machine::gate(machine::CODE_0, handler as u32, 0x8E, 0));
        cpu.rip = CODE;
        let pins = cpu.pins.clone();
        *bus.at_control_point.borrow_mut() = Some(Box::new(move || pins.raise(Signal::Kick)));
        let stop = cpu.with_bus(&bus, |cpu| cpu.execute(100_000_000));
        (cpu, stop, ())
    };
    assert_eq!(stop, Stop::Kicked);
    assert!(cpu.deliveries <= WORK as u64 / 32 + 1, "{} deliveries to one point", cpu.deliveries);
}
