//! The software CPU: an interpreter over cached decoded blocks.

pub mod code_watch;
pub mod control;
pub mod descriptor;
pub mod fault;
pub mod flag_control;
pub mod interrupt;
pub mod memory;
pub mod model;
pub mod modes;
pub mod monitor;
pub mod msr;
pub mod mwait;
pub mod operand;
pub mod page_cache;
pub mod paravirtual;
pub mod segmentation;
pub mod stack;
pub mod state;
pub mod syscall;
pub mod system;
pub mod tables;
pub mod task;
#[cfg(test)]
pub mod testing;
pub mod tlb;
pub mod transfer;
pub mod translations;
pub mod vector;
pub mod walk;

mod arithmetic;
mod beyond;
mod bits;
mod blocks;
mod branch;
mod convert;
mod decimal;
mod decode;
mod dispatch;
mod flags;
mod frames;
mod generic;
mod integer;
mod liveness;
mod op;
mod select;
mod spaces;
mod string;
mod word;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::bus::GuestBus;
use crate::notice::Interest;
use crate::pins::Pins;
use crate::registers::Registers;
use crate::stop::{RunLimit, Stop};

pub use code_watch::CodeWatch;
pub use dispatch::WORK;
pub use model::CpuModel;

/// One virtual processor, interpreted. It may move between threads between two runs.
pub struct SoftCpu {
    cpu: Box<state::Cpu>,
    count: u32,
    timestamp_hz: u64,
}

impl SoftCpu {
    /// A processor after RESET, alone on its memory.
    pub fn new(model: CpuModel, pins: Arc<Pins>, id: u32) -> SoftCpu {
        SoftCpu::sharing(model, pins, id, 1, &CodeWatch::new())
    }

    /// Processor `id` of `count`, on a memory whose code pages all of them watch together.
    pub fn sharing(model: CpuModel, pins: Arc<Pins>, id: u32, count: u32, watch: &Arc<CodeWatch>) -> SoftCpu {
        let mut cpu = state::Cpu::new(pins, id, watch);
        let timestamp_hz = 1_000_000_000; // until a bus says otherwise
        cpu.model = model::Model::new(model, id, count, timestamp_hz);
        SoftCpu { cpu, count, timestamp_hz }
    }

    /// Runs until something happens.
    pub fn run(&mut self, bus: &dyn GuestBus, limit: RunLimit) -> Stop {
        if self.timestamp_hz != bus.timestamp_hz() {
            self.timestamp_hz = bus.timestamp_hz();
            let (kind, id) = (self.cpu.model.kind(), self.cpu.id);
            self.cpu.model = model::Model::new(kind, id, self.count, self.timestamp_hz);
        }
        self.cpu.with_bus(bus, |cpu| cpu.execute(limit.instructions))
    }

    /// The architectural state.
    pub fn registers(&self) -> Registers {
        self.cpu.registers()
    }

    /// Becomes this state.
    pub fn set_registers(&mut self, registers: &Registers) {
        self.cpu.set_registers(registers);
    }

    /// Instructions executed since creation.
    pub fn instructions(&self) -> u64 {
        self.cpu.instructions
    }

    /// Steps made since creation: an executed instruction is one (with the single-step trap after it, if there is
    /// one), a delivered interrupt or exception is one. Limits are counted in steps.
    pub fn steps(&self) -> u64 {
        self.cpu.steps()
    }

    /// From now on the bus is told, by [`GuestBus::reached`], how many steps were made before each access to a
    /// device and each look at the time, so that both can be functions of that number alone, whatever is cached.
    /// Such instructions cost some hundred nanoseconds more.
    pub fn set_exact(&mut self, is_exact: bool) {
        self.cpu.is_exact = is_exact;
    }

    /// Forgets all translations, as the architecture lets a processor do at any time.
    pub fn forget_translations(&mut self) {
        self.cpu.flush_translations(true);
    }

    /// Execution breakpoints of the monitor: linear addresses. The run after a stop at one passes it.
    pub fn set_breakpoints(&mut self, linear: &[u64]) {
        self.cpu.blocks.breakpoints = linear.to_vec();
        self.cpu.breakpoints_changed();
    }

    /// The next run passes a breakpoint where it begins.
    pub fn pass_breakpoint(&mut self) {
        self.cpu.monitor.passes = Some(self.cpu.code_linear(self.cpu.rip));
    }

    /// What else [`Stop::Noticed`] is to tell of.
    pub fn set_interest(&mut self, interest: &Interest) {
        self.cpu.set_interest(interest);
    }

    /// Where whoever writes to memory behind the processor's back says so.
    pub fn code_watch(&self) -> Arc<CodeWatch> {
        self.cpu.watch.watch().clone()
    }
}

/// Handlers of the other halves.
fn system_handler(instruction: &iced_x86::Instruction) -> Option<fault::ColdHandler> {
    system::handler(instruction).or_else(|| vector::written_out(instruction))
}
