//! The loop around blocks: events first, then a block found or decoded and everything it is linked to, until
//! the budget is used up or something leaves it; faults delivered; single steps where they must be.

use iced_x86::{Instruction, Mnemonic};

use super::blocks::Cold;
use super::fault::Fault;
use super::op::Op;
use super::select::IS_COLD;
use super::state::{Cpu, flag};
use crate::pins::Signal;
use crate::registers::{Event, EventKind};
use crate::stop::Stop;

/// Instructions between looks at the pins.
const SLICE: u64 = 2048;
/// A block may overrun the budget by this much.
const OVERRUN: u64 = 32;
/// Work between two control points ([`GuestBus::control_point`](crate::GuestBus::control_point)): some tens of
/// microseconds, a millisecond at the very worst. A plain instruction is one unit; what can take much longer (a
/// repetition, a walk of page tables, decoding) says how much it was by [`Cpu::worked`].
pub const WORK: i64 = 16384;
/// Work of one round of the dispatcher: a chain found, an event delivered.
const ROUND: i64 = 32;

/// What a chain of blocks ended with, besides `rip`.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) fault: Option<Fault>,
    /// The exit that had no link.
    pub(super) link_from: *const Op,
    /// The block begins at a breakpoint.
    pub(super) breakpoint: bool,
}

impl Outcome {
    pub(super) const NOTHING: Outcome =
        Outcome { fault: None, link_from: std::ptr::null(), breakpoint: false };
}

pub(super) fn is_debug_trap(event: Event) -> bool {
    event.vector == 1 && event.kind == EventKind::Exception
}

enum Attention {
    Nothing,
    Delivered,
    Stop(Stop),
}

impl Cpu {
    /// Makes up to `limit` steps. The bus is there.
    pub(super) fn execute(&mut self, limit: u64) -> Stop {
        let mut remaining = limit;
        let mut alone = false;
        self.know_mode();
        loop {
            self.work -= ROUND;
            if self.work <= 0 {
                self.work = self.bus().control_point().clamp(1, WORK);
            }
            if self.monitor.has_notices() {
                return Stop::Noticed(self.monitor.take_notices());
            }
            if remaining == 0 {
                return match limit {
                    _ if self.halted => Stop::Halted,
                    1 => Stop::Step,
                    _ => Stop::Limit,
                };
            }
            match self.attend() {
                Attention::Nothing => {}
                Attention::Delivered => {
                    self.deliveries += 1;
                    remaining -= 1;
                    self.outcome.link_from = std::ptr::null();
                    alone = false;
                    continue;
                }
                Attention::Stop(stop) => return stop,
            }
            let linear = self.code_linear(self.rip);
            let at_breakpoint = self.is_breakpoint(linear);
            if at_breakpoint
                && self.monitor.passes != Some(linear)
                && self.blocks.breakpoints.contains(&linear)
            {
                self.monitor.passes = Some(linear);
                return Stop::Breakpoint(linear);
            }
            let shadowed = self.interrupt_shadow && !self.shadow_of_sti;
            let waiting = self.pending.is_some();
            let hits = if at_breakpoint && !shadowed { self.debug_hit(linear) } else { 0 };
            let is_single = at_breakpoint
                || alone
                || self.interrupt_shadow
                || self.system_flags & flag::TF != 0
                || remaining <= OVERRUN && !self.is_block_within(remaining)
                || self.system_flags & flag::RF != 0 && !self.resume();
            let executed = if hits != 0 && self.system_flags & flag::RF == 0 {
                self.debug[4] = self.debug[4] & !15 | hits; // B0 to B3 tell of this one alone
                self.outcome.fault = Some(Fault::debug());
                0
            } else if is_single {
                self.step()
            } else {
                // At least one block: the last one ends the count exactly.
                self.run_blocks(remaining.saturating_sub(OVERRUN).clamp(1, SLICE) as i64)
            };
            alone = false;
            self.instructions += executed;
            self.work -= executed as i64;
            if executed != 0 {
                self.monitor.passes = None;
            }
            let yields = std::mem::take(&mut self.yields) && limit == u64::MAX;
            remaining = remaining.saturating_sub(executed);
            if let Some(fault) = self.outcome.fault.take() {
                self.outcome.link_from = std::ptr::null();
                if !waiting {
                    self.drop_debug_trap(); // of an instruction that was not completed
                }
                if fault == Fault::uncounted() {
                    self.monitor.forget_notices();
                    self.know_mode();
                    alone = true;
                    continue;
                }
                // A single-step trap is part of the step after which it comes.
                if !(is_single && executed == 1) {
                    self.deliveries += 1;
                    remaining = remaining.saturating_sub(1);
                }
                self.halted = false; // a single-step trap ends HLT
                let (vector, error_code) = (fault.vector, fault.error_code);
                let event = Event { vector, error_code, kind: EventKind::Exception };
                if let Err(records) = self.deliver(event) {
                    return Stop::Shutdown(records);
                }
            }
            if yields {
                return Stop::Yielded;
            }
        }
    }

    fn attend(&mut self) -> Attention {
        let word = self.pins.word();
        if word == 0 && self.pending.is_none() && !self.halted {
            return Attention::Nothing;
        }
        if self.pins.take(Signal::Kick) {
            return Attention::Stop(Stop::Kicked);
        }
        if self.pins.take(Signal::MapChanged) {
            self.flush_translations(true);
        }
        if self.pins.take(Signal::CodeChanged) {
            self.hear_of_code();
        }
        // A debug trap of MOV SS or POP SS waits for the end of the next instruction (Intel SDM 3A, 6.8.3).
        let held_off = self.interrupt_shadow && self.pending.is_none_or(is_debug_trap);
        let event = if held_off {
            None
        } else if let Some(event) = self.pending.take() {
            Some(event)
        } else if !self.nmi_blocked && self.pins.take(Signal::Nmi) {
            self.nmi_blocked = true;
            Some(Event { vector: 2, error_code: None, kind: EventKind::Nmi })
        } else if self.system_flags & flag::IF != 0 && self.pins.is_raised(Signal::Interrupt) {
            if self.is_exact {
                self.bus().reached(self.steps());
            }
            let vector = self.bus().acknowledge_interrupt();
            vector.map(|vector| Event { vector, error_code: None, kind: EventKind::Interrupt })
        } else {
            None
        };
        match event {
            Some(event) => {
                self.halted = false;
                if self.waits_for_write {
                    self.stop_waiting();
                }
                match self.deliver(event) {
                    Ok(()) => Attention::Delivered,
                    Err(records) => Attention::Stop(Stop::Shutdown(records)),
                }
            }
            None if self.halted => Attention::Stop(Stop::Halted),
            None => Attention::Nothing,
        }
    }

    /// The instruction that is being executed was as much work as so many plain ones.
    pub(super) fn worked(&mut self, units: u64) {
        self.work -= units as i64;
    }

    /// A control point is due: an instruction that can be left in its middle should be.
    pub(super) fn has_worked_enough(&self) -> bool {
        self.work <= 0
    }

    /// Runs blocks until something ends them; how many instructions that were.
    fn run_blocks(&mut self, budget: i64) -> u64 {
        if self.tidy_blocks() {
            self.outcome.link_from = std::ptr::null();
        }
        let from = std::mem::replace(&mut self.outcome.link_from, std::ptr::null());
        (self.leave_block, self.overwritten) = (false, false);
        self.budget = budget;
        self.is_counted = false;
        match self.find_block() {
            Ok(op) => {
                if !from.is_null() {
                    self.link(from, op);
                }
                // SAFETY: a live block's first op; blocks are freed in `tidy_blocks` only.
                unsafe { ((*op).run)(self, op) };
            }
            Err(fault) => self.outcome.fault = Some(fault),
        }
        self.is_counted = true;
        (budget - self.budget) as u64
    }

    /// Takes back a debug trap that waits, since another one is delivered; whether there was one.
    pub(super) fn drop_debug_trap(&mut self) -> bool {
        let waits = self.pending.is_some_and(is_debug_trap);
        if waits {
            self.pending = None;
        }
        waits
    }

    /// The trap flag's #DB, pending: one trap tells of the step and of a breakpoint the instruction met.
    pub(super) fn single_step_trap(&mut self) {
        self.trap_after(1 << 14); // DR6.BS
    }

    /// Clears RF (where there is no breakpoint) before the instruction instead of after it, unless that is one that
    /// could tell; whether that was done.
    fn resume(&mut self) -> bool {
        if self.tidy_blocks() {
            self.outcome.link_from = std::ptr::null();
        }
        // SAFETY: a live block's first op; blocks are freed in `tidy_blocks` only.
        let is_plain = self.find_block().is_ok_and(|op| unsafe { (*op).bytes != IS_COLD });
        if is_plain {
            self.system_flags &= !flag::RF;
        }
        is_plain
    }

    /// One instruction, with what TF, RF and the interrupt shadow mean for it.
    fn step(&mut self) -> u64 {
        self.tidy_blocks();
        (self.leave_block, self.overwritten) = (false, false);
        self.interrupt_shadow = false;
        let (before, rip) = (self.system_flags, self.rip);
        let op = match self.single_block() {
            Ok(op) => op,
            Err(fault) => {
                self.outcome.fault = Some(fault);
                return 0;
            }
        };
        self.budget = 1;
        // SAFETY: the block lives until the next `single_block`.
        let instruction = unsafe {
            let is_cold = (*op).bytes == IS_COLD;
            let instruction =
                if is_cold { (*((*op).extra as *const Cold)).instruction } else { Instruction::default() };
            ((*op).run)(self, op);
            instruction
        };
        let mnemonic = instruction.mnemonic();
        self.outcome.link_from = std::ptr::null();
        let executed = (1 - self.budget) as u64;
        if self.outcome.fault.is_some() {
            return executed;
        }
        let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
        if repeats && self.rip == rip {
            self.system_flags |= flag::RF; // between two elements: its breakpoint was met already
        } else if before & flag::RF != 0
            && !matches!(mnemonic, Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq)
        {
            self.system_flags &= !flag::RF;
        }
        let is_exempt = match mnemonic {
            Mnemonic::Int | Mnemonic::Int1 | Mnemonic::Int3 | Mnemonic::Into => true,
            // SYSCALL and SYSRET go by the flag as they leave it; SYSRET sees to it itself.
            Mnemonic::Syscall => self.system_flags & flag::TF == 0,
            Mnemonic::Sysret | Mnemonic::Sysretq => true,
            _ => false,
        };
        // MOV SS and POP SS hold the trap off too, STI does not
        let held_off = self.interrupt_shadow && !self.shadow_of_sti;
        if before & flag::TF != 0 && !is_exempt && !held_off {
            self.single_step_trap();
            self.pending = None;
            self.outcome.fault = Some(Fault::debug());
        }
        executed
    }
}
