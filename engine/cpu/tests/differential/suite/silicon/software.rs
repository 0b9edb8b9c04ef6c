//! The same instruction on the software CPU.

use std::cell::UnsafeCell;
use std::sync::Arc;

use cpu::registers::{Segment, segment};
use cpu::soft::model::{CpuModel, Model};
use cpu::soft::state::Cpu;
use cpu::soft::{CodeWatch, vector};
use cpu::{GuestBus, HostPage, Pins, Registers};
use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::native::{ARITHMETIC, MEMORY, State};

/// Where the guest's memory operand is.
pub const OPERAND: u64 = 0x4000;

/// RAM of 16 pages.
struct Ram(UnsafeCell<Box<[Page; 16]>>);

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

impl GuestBus for Ram {
    fn page(&self, address: u64) -> HostPage {
        if address >= 0x10000 {
            return HostPage::DEVICE;
        }
        // SAFETY: the box lives as long as the bus.
        let base = unsafe { (*self.0.get()).as_mut_ptr().cast::<u8>() };
        let host = base.wrapping_add(address as usize & !0xFFF);
        HostPage { read: host, write: host, offset: address & !0xFFF }
    }
    fn map_generation(&self) -> u64 {
        0
    }
    fn read(&self, _: u64, _: usize) -> u64 {
        u64::MAX
    }
    fn write(&self, _: u64, _: usize, _: u64) {}
    fn port_in(&self, _: u16, _: usize) -> u32 {
        u32::MAX
    }
    fn port_out(&self, _: u16, _: usize, _: u32) {}
    fn acknowledge_interrupt(&self) -> Option<u8> {
        None
    }
    fn timestamp(&self) -> u64 {
        0
    }
    fn timestamp_hz(&self) -> u64 {
        1_000_000_000
    }
    fn read_apic_msr(&self, _: u32) -> Option<u64> {
        None
    }
    fn write_apic_msr(&self, _: u32, _: u64) -> bool {
        false
    }
    fn task_priority(&self) -> u8 {
        0
    }
    fn set_task_priority(&self, _: u8) {}
}

/// A processor in 64-bit mode with everything switched on.
pub struct Software {
    cpu: Box<Cpu>,
    ram: Ram,
}

impl Software {
    /// The `host` model.
    pub fn new() -> Software {
        let mut cpu = Cpu::new(Arc::new(Pins::new()), 0, &CodeWatch::new());
        cpu.model = Model::new(CpuModel::Host, 0, 1, 1_000_000_000);
        let mut registers = Registers::reset();
        let flat = Segment { selector: 8, base: 0, limit: u32::MAX, attributes: 0xC093, unusable: false };
        registers.segments = [flat; 6];
        registers.segments[segment::CS].attributes = 0xA09B;
        registers.cr0 = 0x31;
        registers.cr4 = 1 << 9 | 1 << 10 | 1 << 18;
        registers.efer = 1 << 10;
        registers.xcr0 = 7;
        cpu.set_registers(&registers);
        Software { cpu, ram: Ram(UnsafeCell::new(Box::new([Page([0; 4096]); 16]))) }
    }

    /// Decodes; `None` if the software CPU has no handler for it in its vector half.
    pub fn decode(bytes: &[u8]) -> Option<Instruction> {
        let mut decoder = Decoder::with_ip(64, bytes, 0x1000, DecoderOptions::NONE);
        let instruction = decoder.decode();
        (!instruction.is_invalid() && vector::handler(&instruction).is_some()).then_some(instruction)
    }

    /// Runs it; `Err` is the exception's vector.
    pub fn run(&mut self, instruction: &Instruction, state: &mut State) -> Result<(), u8> {
        let handler = vector::handler(instruction).expect("decoded with one");
        let cpu = &mut self.cpu;
        cpu.general = state.general;
        let flags = cpu.flags() & !ARITHMETIC;
        cpu.set_flags(flags | state.flags & ARITHMETIC);
        cpu.fpu.bytes = state.area;
        cpu.rip = instruction.next_ip();
        // SAFETY: within the RAM; nothing else refers to it now.
        let memory = unsafe { (*self.ram.0.get()).as_mut_ptr().cast::<u8>().add(OPERAND as usize) };
        // SAFETY: as above.
        unsafe { state.memory.as_ptr().copy_to(memory, MEMORY) };
        let outcome = cpu.with_bus(&self.ram, |cpu| handler(cpu, instruction));
        state.general = cpu.general;
        state.flags = cpu.flags() & ARITHMETIC;
        state.area = cpu.fpu.bytes;
        // SAFETY: as above.
        unsafe { memory.copy_to(state.memory.as_mut_ptr(), MEMORY) };
        outcome.map(|_| ()).map_err(|fault| fault.vector)
    }
}
