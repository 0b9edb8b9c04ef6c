//! MONITOR and MWAIT: what ends the wait, and that nothing is lost on the way into it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::machine::{self, CODE_0, IDT};
use crate::pins::{Pins, Signal};
use crate::registers::Registers;
use crate::soft::model::CpuModel;
use crate::soft::testing::TestBus;
use crate::soft::{CodeWatch, SoftCpu};
use crate::stop::{RunLimit, Stop};

const CODE: u64 = 0x500;
/// The line waited for.
const LINE: u64 = 0xA040;
const MONITOR: [u8; 3] = [0x0F, 0x01, 0xC8];
const MWAIT: [u8; 3] = [0x0F, 0x01, 0xC9];
const NOP: u8 = 0x90;

struct Waiter {
    cpu: SoftCpu,
    pins: Arc<Pins>,
    woken: Arc<AtomicU32>,
    bus: TestBus,
}

/// A processor that is about to run `code`, then NOPs, in 32-bit protected mode, with EAX pointing to the line.
fn waiter(watch: &Arc<CodeWatch>, code: &[&[u8]]) -> Waiter {
    let (mut template, bus) = machine::protected();
    template.general = [0; 16];
    template.general[0] = LINE;
    template.general[4] = 0x7000;
    template.general[7] = LINE;
    template.rip = CODE;
    let registers: Registers = template.registers();
    bus.put(CODE, &[NOP; 256]);
    bus.put(CODE, &code.concat());
    bus.put64(IDT + 8 * 0x40, machine::gate(CODE_0, 0x600, 0x8E, 0));
    bus.put(0x600, &[0xF4]);
    let pins = Arc::new(Pins::new());
    let woken = Arc::new(AtomicU32::new(0));
    let count = woken.clone();
    pins.on_wake(move || _ = count.fetch_add(1, Ordering::Relaxed));
    let mut cpu = SoftCpu::sharing(CpuModel::X86_64V1, pins.clone(), 0, 2, watch);
    cpu.set_registers(&registers);
    Waiter { cpu, pins, woken, bus }
}

impl Waiter {
    fn run(&mut self) -> Stop {
        self.cpu.run(&self.bus, RunLimit { instructions: 200 })
    }

    fn rip(&self) -> u64 {
        self.cpu.registers().rip
    }
}

#[test]
fn a_store_to_the_line_wakes_and_one_beside_it_does_not() {
    let watch = CodeWatch::new();
    let mut waiter = waiter(&watch, &[&MONITOR, &MWAIT]);
    assert_eq!(waiter.run(), Stop::Halted);
    assert_eq!((waiter.run(), waiter.rip()), (Stop::Halted, CODE + 6), "it goes on waiting");
    watch.wrote(LINE - 8..LINE);
    watch.wrote(LINE + 64..LINE + 72);
    assert_eq!(waiter.woken.load(Ordering::Relaxed), 0);
    assert_eq!(waiter.run(), Stop::Halted);
    watch.wrote(LINE + 60..LINE + 61);
    assert_eq!(waiter.woken.load(Ordering::Relaxed), 1);
    assert_eq!(waiter.run(), Stop::Limit);
    watch.wrote(LINE..LINE + 1);
    assert_eq!(waiter.woken.load(Ordering::Relaxed), 1, "nobody waits any more");
}

#[test]
fn a_store_between_the_two_lets_the_wait_end_before_it_begins() {
    // by another processor, by a device, and by the processor itself: mov [edi], al
    let watch = CodeWatch::new();
    let mut other = waiter(&watch, &[&MONITOR, &[NOP], &MWAIT]);
    assert_eq!(other.cpu.run(&other.bus, RunLimit { instructions: 2 }), Stop::Limit);
    watch.wrote(LINE..LINE + 1);
    assert_eq!(other.run(), Stop::Limit);
    let mut own = waiter(&watch, &[&[0x88, 0x07], &MONITOR, &[0x88, 0x07], &MWAIT]);
    assert_eq!(own.run(), Stop::Limit);
}

#[test]
fn interrupts_nmis_and_a_restored_state_end_the_wait() {
    let watch = CodeWatch::new();
    let mut waiter = waiter(&watch, &[&[0xFB], &MONITOR, &MWAIT]);
    assert_eq!(waiter.run(), Stop::Halted);
    waiter.bus.vector.set(Some(0x40));
    waiter.pins.raise(Signal::Interrupt);
    assert_eq!((waiter.run(), waiter.rip()), (Stop::Halted, 0x601));
    waiter.pins.lower(Signal::Interrupt);
    watch.wrote(LINE..LINE + 1);
    assert_eq!(waiter.run(), Stop::Halted, "HLT waits for no store");
    assert!(waiter.cpu.registers().halted);

    let mut waiter = self::waiter(&watch, &[&MONITOR, &MWAIT]);
    assert_eq!(waiter.run(), Stop::Halted);
    let registers = waiter.cpu.registers();
    assert!(!registers.halted, "what it waited for is not part of the state");
    waiter.cpu.set_registers(&registers);
    assert_eq!(waiter.run(), Stop::Limit);
}

#[test]
fn without_a_line_in_memory_nothing_waits() {
    let watch = CodeWatch::new();
    assert_eq!(waiter(&watch, &[&MWAIT]).run(), Stop::Limit, "not armed");
    let mut device = waiter(&watch, &[&[0xB8, 0, 0, 0, 0x80], &MONITOR, &MWAIT]); // mov eax, 0x80000000
    assert_eq!(device.run(), Stop::Limit);
}

#[test]
fn a_store_by_another_processor_is_seen_though_it_had_written_there_before() {
    let watch = CodeWatch::new();
    // The other one, on the same memory: mov [edi], al; hlt; mov [edi], al; hlt
    let mut waiting = waiter(&watch, &[&MONITOR, &MWAIT]);
    let other_pins = Arc::new(Pins::new());
    let mut other = SoftCpu::sharing(CpuModel::X86_64V1, other_pins.clone(), 1, 2, &watch);
    let mut registers = waiting.cpu.registers();
    registers.rip = 0x800;
    waiting.bus.put(0x800, &[0x88, 0x07, 0xF4, 0x88, 0x07, 0xF4]);
    other.set_registers(&registers);
    assert_eq!(other.run(&waiting.bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(waiting.run(), Stop::Halted);
    let mut registers = other.registers();
    registers.halted = false;
    other.set_registers(&registers);
    assert_eq!(other.run(&waiting.bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(waiting.woken.load(Ordering::Relaxed), 1);
    assert_eq!(waiting.run(), Stop::Limit);
}
