//! The count that devices and clocks go by: the same whatever is cached, and wherever a run is cut.

use std::cell::RefCell;
use std::sync::Arc;

use iced_x86::code_asm::*;

use crate::bus::{GuestBus, HostPage};
use crate::pins::{Pins, Signal};
use crate::registers::{Registers, Segment};
use crate::soft::testing::TestBus;
use crate::soft::{CpuModel, SoftCpu};
use crate::stop::{RunLimit, Stop};

const CODE: u64 = 0x8000;
const HANDLER: u64 = 0x9000;
const DEVICE: u64 = 0x20_0000;

/// A machine whose time is the count it was told last.
struct ExactBus {
    machine: TestBus,
    pins: Arc<Pins>,
    told: RefCell<Vec<u64>>,
}

impl GuestBus for ExactBus {
    fn page(&self, address: u64) -> HostPage {
        self.machine.page(address)
    }

    fn map_generation(&self) -> u64 {
        0
    }

    fn read(&self, _address: u64, _bytes: usize) -> u64 {
        self.timestamp() & 0xFF
    }

    fn write(&self, _address: u64, _bytes: usize, _value: u64) {
        // A device that interrupts when it is written to.
        self.machine.vector.set(Some(0x20));
        self.pins.raise(Signal::Interrupt);
    }

    fn port_in(&self, _port: u16, _bytes: usize) -> u32 {
        self.timestamp() as u32
    }

    fn port_out(&self, port: u16, bytes: usize, value: u32) {
        self.machine.port_out(port, bytes, value);
    }

    fn acknowledge_interrupt(&self) -> Option<u8> {
        self.pins.lower(Signal::Interrupt);
        self.machine.acknowledge_interrupt()
    }

    fn timestamp(&self) -> u64 {
        *self.told.borrow().last().expect("a count was told before the time was asked for")
    }

    fn reached(&self, steps: u64) {
        self.told.borrow_mut().push(steps);
    }

    fn random(&self) -> Option<u64> {
        Some(self.timestamp().wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn timestamp_hz(&self) -> u64 {
        1_000_000_000
    }

    fn read_apic_msr(&self, index: u32) -> Option<u64> {
        self.machine.read_apic_msr(index)
    }

    fn write_apic_msr(&self, index: u32, value: u64) -> bool {
        self.machine.write_apic_msr(index, value)
    }

    fn task_priority(&self) -> u8 {
        0
    }

    fn set_task_priority(&self, _priority: u8) {}
}

/// 64-bit code that looks at the time in every way there is, between loops, faults, repetitions over pages, stores
/// into its own code, and interrupts.
fn program() -> Vec<u8> {
    let mut a = CodeAssembler::new(64).unwrap();
    let mut build = || -> Result<(), IcedError> {
        a.mov(r15d, 40)?;
        let mut round = a.create_label();
        a.set_label(&mut round)?;
        a.mov(ecx, r15d)?;
        let mut inner = a.create_label();
        a.set_label(&mut inner)?;
        a.add(rbx, rcx)?;
        a.dec(ecx)?;
        a.jnz(inner)?;
        a.rdtsc()?;
        a.add(rbx, rax)?;
        a.rol(rbx, 7)?;
        a.in_(eax, dx)?;
        a.xor(rbx, rax)?;
        a.rdrand(rax)?;
        a.add(rbx, rax)?;
        a.movzx(eax, byte_ptr(DEVICE))?;
        a.add(rbx, rax)?;
        a.mov(dword_ptr(DEVICE + 8), eax)?; // and an interrupt
        a.add(rbx, 1)?;
        a.mov(esi, 0x1_0F00)?;
        a.mov(edi, 0x1_8800)?;
        a.mov(ecx, 0x2345)?;
        a.rep().movsb()?;
        a.mov(edi, (DEVICE - 4) as u32)?;
        a.mov(ecx, 12)?;
        a.rep().stosb()?; // memory, then the device
        a.inc(dword_ptr(CODE + 0x800))?; // beside the code below, in its page
        a.mov(rax, CODE + 0x840)?;
        a.call(rax)?;
        a.ud2()?; // the handler passes it
        a.lock().add(dword_ptr(DEVICE + 16), 3)?;
        a.push(qword_ptr(DEVICE + 24))?;
        a.pop(rax)?;
        a.add(rbx, rax)?;
        a.dec(r15d)?;
        a.jnz(round)?;
        a.hlt()
    };
    build().unwrap();
    let mut code = a.assemble(CODE).unwrap();
    code.resize(0x840, 0x90);
    let mut a = CodeAssembler::new(64).unwrap();
    let mut build = || -> Result<(), IcedError> {
        a.add(byte_ptr(CODE + 0x840 + 12), 1)?; // the immediate of what comes next but one
        a.nop()?;
        a.add(rbx, 5)?;
        a.rdtscp()?;
        a.xor(rbx, rax)?;
        a.ret()
    };
    build().unwrap();
    code.extend(a.assemble(CODE + 0x840).unwrap());
    code
}

fn machine() -> (SoftCpu, ExactBus) {
    let (bus, pins) = (TestBus::new(512), Arc::new(Pins::new()));
    for (at, entry) in [(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x4007), (0x3008, 0x20_0087)] {
        bus.put64(at, entry);
    }
    for page in 0..512 {
        bus.put64(0x4000 + 8 * page, page << 12 | 7);
    }
    bus.put64(0x608, 0x00AF_9B00_0000_FFFF);
    bus.put64(0x610, 0x00CF_9300_0000_FFFF);
    for vector in [6, 0x20] {
        bus.put64(0x5000 + vector * 16, (HANDLER + vector * 16) | 8 << 16 | 0x8E00 << 32);
    }
    let iret = [0x48, 0xCF];
    bus.put(HANDLER + 0x20 * 16, &[0x48, 0xFF, 0xC3, iret[0], iret[1]]); // INC RBX
    bus.put(HANDLER + 6 * 16, &[0x48, 0x83, 0x04, 0x24, 2, iret[0], iret[1]]); // over UD2
    bus.put(CODE, &program());
    let flat =
        |selector, attributes| Segment { selector, base: 0, limit: u32::MAX, attributes, unusable: false };
    let mut registers = Registers::reset();
    registers.segments = [flat(0x10, 0xC093); 6];
    registers.segments[1] = flat(8, 0xA09B);
    (registers.cr0, registers.cr3, registers.cr4, registers.efer) = (0x8001_0011, 0x1000, 0x620, 0x500);
    (registers.gdtr.base, registers.gdtr.limit) = (0x600, 23);
    (registers.idtr.base, registers.idtr.limit) = (0x5000, 0xFFF);
    (registers.rip, registers.rflags) = (CODE, 0x202);
    registers.general = [0; 16];
    registers.general[4] = 0x7000;
    let mut cpu = SoftCpu::new(CpuModel::X86_64V3, pins.clone(), 0);
    cpu.set_registers(&registers);
    cpu.set_exact(true);
    (cpu, ExactBus { machine: bus, pins, told: RefCell::default() })
}

/// What a whole run ends with: registers, steps, RAM that is written, and every count that was told.
fn outcome(cpu: &SoftCpu, bus: &ExactBus) -> (Registers, u64, Vec<u8>, Vec<u64>) {
    let mut told = bus.told.borrow().clone();
    told.dedup(); // an instruction that touches a device twice tells twice
    (cpu.registers(), cpu.steps(), bus.machine.get(CODE, 0x2_0000), told)
}

fn run_in_pieces(
    piece: u64,
    between: impl Fn(&mut SoftCpu, &ExactBus),
) -> (Registers, u64, Vec<u8>, Vec<u64>) {
    let (mut cpu, bus) = machine();
    loop {
        let before = cpu.steps();
        match cpu.run(&bus, RunLimit { instructions: piece }) {
            Stop::Halted => return outcome(&cpu, &bus),
            Stop::Limit | Stop::Step => assert_eq!(cpu.steps() - before, piece, "limits are exact"),
            Stop::Kicked => {}
            stop => panic!("{stop:?} after {} steps", cpu.steps()),
        }
        between(&mut cpu, &bus);
    }
}

#[test]
fn devices_and_clocks_see_the_same_counts_wherever_a_run_is_cut_and_whatever_is_cached() {
    let whole = run_in_pieces(u64::MAX, |_, _| {});
    assert!(whole.3.len() > 500 && whole.1 > 5000, "{} looks in {} steps", whole.3.len(), whole.1);
    for piece in [1, 2, 7, 33, 100, 1009] {
        assert_eq!(run_in_pieces(piece, |_, _| {}), whole, "pieces of {piece} steps");
    }
    let cold = |cpu: &mut SoftCpu, _: &ExactBus| {
        let registers = cpu.registers();
        cpu.set_registers(&registers); // drops all that is cached
    };
    assert_eq!(run_in_pieces(97, cold), whole, "nothing cached");
    assert_eq!(run_in_pieces(211, |cpu, _| cpu.forget_translations()), whole, "no translations");
    let kicks = std::cell::Cell::new(0);
    let kick = |_: &mut SoftCpu, bus: &ExactBus| {
        kicks.set(kicks.get() + 1);
        if kicks.get() % 2 == 1 {
            bus.pins.raise(Signal::Kick);
        }
    };
    assert_eq!(run_in_pieces(151, kick), whole, "kicked");
}

#[test]
fn each_look_at_the_time_comes_after_exactly_so_many_steps() {
    let (mut cpu, bus) = machine();
    bus.machine.put(CODE, &{
        let mut a = CodeAssembler::new(64).unwrap();
        let mut build = || -> Result<(), IcedError> {
            a.nop()?;
            a.rdtsc()?; // 1
            a.nop()?;
            a.nop()?;
            a.in_(al, 0x40)?; // 4
            a.mov(ecx, 3)?;
            a.mov(edi, 0x1_0000)?;
            a.rep().stosb()?;
            a.movzx(eax, byte_ptr(DEVICE))?; // 8
            a.ud2()?; // 9: delivered; 10 and 11: the handler
            a.rdtsc()?; // 12
            a.hlt()
        };
        build().unwrap();
        a.assemble(CODE).unwrap()
    });
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(*bus.told.borrow(), [1, 4, 8, 12]);
    assert_eq!(cpu.steps(), 14);
    let (mut cpu, bus) = machine();
    cpu.set_exact(false);
    bus.told.borrow_mut().push(0);
    assert_eq!(cpu.run(&bus, RunLimit { instructions: 100 }), Stop::Limit);
    assert_eq!(*bus.told.borrow(), [0], "nobody is told unless it is asked for");
}
