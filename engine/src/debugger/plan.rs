//! What one vCPU is to do before it stands still again: so many steps, over calls, out of a function, to an address.
//!
//! A step is what the processor does next: an instruction, or the delivery of an interrupt that is due. Going over
//! and out runs through interrupt handlers as through calls. Nothing of the guest is changed: where it is to stop is
//! a breakpoint of the monitor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cpu::registers::general;
use cpu::{Registers, RunLimit, Stop};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::lookout::{CpuWatch, Lookout};
use super::stopped::Met;
use crate::backend::{Vcpu, VcpuError};
use crate::inspect::code::{self, LONGEST};
use crate::inspect::summary::{code_bits, privilege};
use crate::inspect::{read_linear, stack};
use crate::machine::MachineBus;

/// Where a vCPU is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// So many steps.
    Into(u64),
    /// So many instructions, with all that they call.
    Over(u64),
    /// Out of this function.
    Out,
    /// To this linear address.
    Until(u64),
}

/// A vCPU's way there.
#[derive(Debug)]
struct Plan {
    goal: Goal,
    /// Where the stack was when it began.
    floor: u64,
    /// Until something called has returned.
    detour: Option<Detour>,
}

#[derive(Debug)]
struct Detour {
    address: u64,
    /// The stack pointer must be at least this: inner calls of the same function do not count.
    least_stack: Option<u64>,
    /// Whether an instruction is made with it.
    counts: bool,
}

/// The debugging side of one vCPU.
pub struct CpuDebug {
    index: usize,
    lookout: Arc<Lookout>,
    has_plan: AtomicBool,
    plan: Mutex<Option<Plan>>,
    watch: Mutex<CpuWatch>,
    /// It stands while another one makes steps.
    stands: AtomicBool,
}

impl CpuDebug {
    /// That of vCPU `index`.
    pub fn new(index: usize, lookout: Arc<Lookout>) -> CpuDebug {
        CpuDebug {
            index,
            lookout,
            has_plan: AtomicBool::new(false),
            plan: Mutex::new(None),
            watch: Mutex::default(),
            stands: AtomicBool::new(false),
        }
    }

    /// Whether it may not run now.
    pub fn must_stand(&self) -> bool {
        self.stands.load(Ordering::Relaxed) || self.lookout.is_stopping()
    }

    /// Stands still, or not, while another vCPU makes steps.
    pub fn stand(&self, stands: bool) {
        self.stands.store(stands, Ordering::Relaxed);
    }

    /// What met conditions goes to.
    pub fn lookout(&self) -> &Lookout {
        &self.lookout
    }

    /// Has the vCPU look for this. On an error it goes on looking for what it did.
    pub fn set_watch(&self, backend: &mut dyn Vcpu, watch: CpuWatch) -> Result<(), VcpuError> {
        let mut now = self.watch.lock();
        backend.set_watch(&watch.breakpoints, &watch.interest)?;
        *now = watch;
        Ok(())
    }

    /// From its next run on the vCPU follows `goal`.
    pub fn begin(&self, backend: &mut dyn Vcpu, goal: Goal) -> Result<(), VcpuError> {
        let floor = stack_pointer(&backend.registers()?);
        let mut plan = Plan { goal, floor, detour: None };
        match goal {
            Goal::Until(address) => {
                self.look_for(backend, Some(address))?;
                plan.detour = Some(Detour { address, least_stack: None, counts: true });
            }
            // Whether there is room for one more breakpoint is known now.
            Goal::Over(_) | Goal::Out => {
                self.look_for(backend, Some(u64::MAX))?;
                self.look_for(backend, None)?;
            }
            Goal::Into(_) => {}
        }
        *self.plan.lock() = Some(plan);
        self.has_plan.store(true, Ordering::Release);
        Ok(())
    }

    /// Follows no plan any more.
    pub fn abandon(&self, backend: &mut dyn Vcpu) -> Result<(), VcpuError> {
        match self.plan.lock().take() {
            Some(_) => {
                self.has_plan.store(false, Ordering::Release);
                self.look_for(backend, None)
            }
            None => Ok(()),
        }
    }

    fn look_for(&self, backend: &mut dyn Vcpu, extra: Option<u64>) -> Result<(), VcpuError> {
        let watch = self.watch.lock();
        let mut breakpoints = watch.breakpoints.clone();
        breakpoints.extend(extra.filter(|address| !watch.breakpoints.contains(address)));
        backend.set_watch(&breakpoints, &watch.interest)
    }

    /// Runs as the plan says, or freely.
    pub fn run(&self, backend: &mut dyn Vcpu, bus: &MachineBus, limit: RunLimit) -> Result<Stop, VcpuError> {
        let stop = match self.has_plan.load(Ordering::Acquire) {
            true => self.advance(backend, bus, limit)?,
            false => backend.run(bus, limit)?,
        };
        match &stop {
            Stop::Breakpoint(address) => {
                self.lookout.executing(self.index, *address);
            }
            Stop::Noticed(notices) => {
                let watches = self.watch.lock().watches.clone();
                notices.iter().for_each(|notice| self.lookout.noticed(self.index, notice, &watches));
            }
            Stop::Halted => self.lookout.halted(self.index),
            _ => {}
        }
        Ok(stop)
    }

    /// One move of the plan.
    fn advance(&self, backend: &mut dyn Vcpu, bus: &MachineBus, limit: RunLimit) -> Result<Stop, VcpuError> {
        let mut slot = self.plan.lock();
        let Some(plan) = &mut *slot else { return backend.run(bus, limit) };
        let (stop, finished) = match (&plan.detour, plan.goal) {
            (Some(_), _) => self.follow(plan, backend, bus, limit)?,
            (None, Goal::Into(left)) => {
                let (stop, made) = steps(backend, bus, limit.instructions.min(left))?;
                plan.goal = Goal::Into(left - made.min(left));
                (stop, (made >= left).then_some(Met::Stepped))
            }
            (None, _) => self.walk(plan, backend, bus, limit)?,
        };
        if let Some(met) = finished {
            *slot = None;
            self.has_plan.store(false, Ordering::Release);
            self.look_for(backend, None)?;
            drop(slot);
            self.lookout.finished(self.index, met);
        }
        Ok(stop)
    }

    /// On the way to the end of a call, or to an address.
    fn follow(
        &self,
        plan: &mut Plan,
        backend: &mut dyn Vcpu,
        bus: &MachineBus,
        limit: RunLimit,
    ) -> Result<(Stop, Option<Met>), VcpuError> {
        let stop = backend.run(bus, limit)?;
        let Some(detour) = &plan.detour else { return Ok((stop, None)) };
        if stop != Stop::Breakpoint(detour.address) {
            return Ok((stop, None));
        }
        let is_there = match detour.least_stack {
            Some(least) => stack_pointer(&backend.registers()?) >= least,
            None => true,
        };
        if !is_there {
            return Ok((stop, None));
        }
        let counts = detour.counts;
        plan.detour = None;
        self.look_for(backend, None)?;
        backend.pass_breakpoint(); // it may be one of the conditions, and is told below
        Ok((stop, plan.count(counts)))
    }

    /// One instruction, or the beginning of what it calls.
    fn walk(
        &self,
        plan: &mut Plan,
        backend: &mut dyn Vcpu,
        bus: &MachineBus,
        limit: RunLimit,
    ) -> Result<(Stop, Option<Met>), VcpuError> {
        let before = backend.registers()?;
        let instruction = next_instruction(&before, bus);
        let stack = stack_pointer(&before);
        if comes_back(&instruction) {
            let length = instruction.len() as u64;
            let address = code::linear(&before, before.rip.wrapping_add(length));
            self.look_for(backend, Some(address))?;
            plan.detour = Some(Detour { address, least_stack: Some(stack), counts: true });
            return self.follow(plan, backend, bus, limit);
        }
        let interrupts = bus.interrupts();
        let (stop, made) = steps(backend, bus, 1)?;
        if made == 0 {
            return Ok((stop, None));
        }
        let after = backend.registers()?;
        if bus.interrupts() != interrupts {
            let address = code::linear(&before, before.rip);
            self.look_for(backend, Some(address))?;
            plan.detour = Some(Detour { address, least_stack: Some(stack), counts: false });
            return Ok((stop, None));
        }
        let finished = match plan.goal {
            Goal::Out if is_return(&instruction) => {
                let left = stack_pointer(&after) > plan.floor || privilege(&after) > privilege(&before);
                left.then_some(Met::Arrived)
            }
            _ => plan.count(true),
        };
        Ok((stop, finished))
    }
}

impl Plan {
    /// An instruction was made, or an address reached.
    fn count(&mut self, counts: bool) -> Option<Met> {
        match &mut self.goal {
            Goal::Over(left) if counts => {
                *left = left.saturating_sub(1);
                (*left == 0).then_some(Met::Stepped)
            }
            Goal::Until(_) => Some(Met::Arrived),
            _ => None,
        }
    }
}

/// Makes at most `count` steps; how many it was.
fn steps(backend: &mut dyn Vcpu, bus: &MachineBus, count: u64) -> Result<(Stop, u64), VcpuError> {
    if backend.instructions().is_some() {
        let before = backend.steps();
        let stop = backend.run(bus, RunLimit { instructions: count })?;
        return Ok((stop, backend.steps() - before));
    }
    let stop = backend.run(bus, RunLimit::STEP)?;
    let made = matches!(stop, Stop::Step | Stop::Halted);
    Ok((stop, u64::from(made)))
}

/// Linear address of the top of the stack.
pub fn stack_pointer(registers: &Registers) -> u64 {
    stack::linear(registers, registers.general[general::RSP])
}

fn next_instruction(registers: &Registers, bus: &MachineBus) -> Instruction {
    let mut bytes = [0; LONGEST];
    let at = code::linear(registers, registers.rip);
    let read = read_linear(registers, bus.memory(), at, &mut bytes);
    Decoder::with_ip(code_bits(registers), &bytes[..read], registers.rip, DecoderOptions::NONE).decode()
}

/// Whether it does something longer and comes back to the next instruction: calls, INT n, REP.
fn comes_back(instruction: &Instruction) -> bool {
    let calls = matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall | FlowControl::Interrupt
    );
    calls
        || instruction.is_string_instruction()
            && (instruction.has_rep_prefix() || instruction.has_repne_prefix())
}

fn is_return(instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::Return
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpu::registers::segment;

    #[test]
    fn what_comes_back_is_known() {
        let of = |bytes: &[u8]| Decoder::new(16, bytes, DecoderOptions::NONE).decode();
        for comes in [&[0xE8, 0, 0][..], &[0xCD, 0x10], &[0xF3, 0xA4], &[0xFF, 0xD0]] {
            assert!(comes_back(&of(comes)), "{comes:x?}");
        }
        for goes in [&[0xEB, 0][..], &[0xC3], &[0xCF], &[0xA4], &[0xF4], &[0xF3, 0x90]] {
            assert!(!comes_back(&of(goes)), "{goes:x?}");
        }
        assert!(is_return(&of(&[0xC3])) && is_return(&of(&[0xCF])) && is_return(&of(&[0xCB])));
    }

    #[test]
    fn the_stack_is_linear_in_real_mode() {
        let mut registers = Registers::reset();
        registers.segments[segment::SS] = cpu::Segment::real(0x1000);
        registers.general[general::RSP] = 0xABCD_FFFE;
        assert_eq!(stack_pointer(&registers), 0x1_FFFE);
    }
}
