//! The machine as gdb's target.

use std::num::NonZeroUsize;
use std::sync::Arc;

use cpu::Registers;
use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::reverse_exec::{ReverseCont, ReverseContOps, ReverseStep, ReverseStepOps};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::monitor_cmd::MonitorCmdOps;
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};

use super::bits::Bits;
use super::memory;
use crate::debugger::{Access, Condition, Goal};
use crate::inspect::summary;
use crate::session::{Others, Session, Way};

/// Something gdb has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// A software breakpoint, as gdb calls it; ours is none.
    Software,
    /// A hardware breakpoint.
    Hardware,
    /// A watchpoint.
    Watch(WatchKind, u64),
}

/// One gdb's view of a machine.
pub struct Peer<A> {
    pub session: Session,
    /// What gdb has set: where, what, and which condition it is.
    pub sets: Vec<(u64, Set, u32)>,
    /// The vCPU that is to make one step, and not all to go on.
    steps: Option<usize>,
    bits: std::marker::PhantomData<A>,
}

/// The thread of a vCPU.
pub fn thread_of(cpu: usize) -> Tid {
    NonZeroUsize::MIN.saturating_add(cpu)
}

/// The vCPU of a thread.
fn cpu_of(thread: Tid) -> usize {
    thread.get() - 1
}

impl<A: Bits> Peer<A> {
    pub fn new(session: Session) -> Peer<A> {
        Peer { session, sets: Vec::new(), steps: None, bits: std::marker::PhantomData }
    }

    /// gdb has gone: what it set goes too.
    pub fn leave(&mut self) {
        for (_, _, id) in self.sets.drain(..) {
            // Somebody else may have removed it already.
            let _ = self.session.remove_condition(Some(id));
        }
    }

    fn registers(&self, thread: Tid) -> TargetResult<Arc<Registers>, Self> {
        self.session.registers(cpu_of(thread)).ok_or(TargetError::NonFatal)
    }

    fn add(&mut self, at: u64, set: Set, condition: Condition) -> bool {
        match self.session.add_condition(condition, 0) {
            Ok(id) => {
                self.sets.push((at, set, id));
                true
            }
            Err(_) => false,
        }
    }

    fn remove(&mut self, at: u64, set: Set) -> bool {
        let Some(found) = self.sets.iter().position(|(place, what, _)| *place == at && *what == set) else {
            return false;
        };
        let (_, _, id) = self.sets.swap_remove(found);
        self.session.remove_condition(Some(id)).is_ok()
    }
}

impl<A: Bits> Target for Peer<A> {
    type Arch = A;
    type Error = String;

    fn base_ops(&mut self) -> BaseOps<'_, A, String> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }
}

impl<A: Bits> MultiThreadBase for Peer<A> {
    fn read_registers(&mut self, shown: &mut A::Registers, thread: Tid) -> TargetResult<(), Self> {
        *shown = A::show(&*self.registers(thread)?);
        Ok(())
    }

    fn write_registers(&mut self, shown: &A::Registers, thread: Tid) -> TargetResult<(), Self> {
        let mut registers = (*self.registers(thread)?).clone();
        A::take(shown, &mut registers);
        self.session.set_registers(cpu_of(thread), registers).map_err(|_| TargetError::NonFatal)
    }

    fn read_addrs(&mut self, start: A::Usize, bytes: &mut [u8], thread: Tid) -> TargetResult<usize, Self> {
        match memory::read(&self.session, &*self.registers(thread)?, A::address(start), bytes) {
            0 if !bytes.is_empty() => Err(TargetError::NonFatal),
            count => Ok(count),
        }
    }

    fn write_addrs(&mut self, start: A::Usize, bytes: &[u8], thread: Tid) -> TargetResult<(), Self> {
        let registers = self.registers(thread)?;
        memory::write(&self.session, &registers, A::address(start), bytes).ok_or(TargetError::NonFatal)
    }

    fn list_active_threads(&mut self, is_active: &mut dyn FnMut(Tid)) -> Result<(), String> {
        (0..self.session.cpus()).for_each(|cpu| is_active(thread_of(cpu)));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl<A: Bits> ThreadExtraInfo for Peer<A> {
    fn thread_extra_info(&self, thread: Tid, buffer: &mut [u8]) -> Result<usize, String> {
        let cpu = cpu_of(thread);
        let mode = self.session.registers(cpu).map_or("not started", |registers| summary::mode(&registers));
        let text = format!("CPU {cpu}, {mode}");
        let count = text.len().min(buffer.len());
        buffer[..count].copy_from_slice(&text.as_bytes()[..count]);
        Ok(count)
    }
}

impl<A: Bits> MultiThreadResume for Peer<A> {
    fn resume(&mut self) -> Result<(), String> {
        match self.steps {
            Some(cpu) => {
                self.session.go(cpu, Goal::Into(1), Others::Stand).map_err(|error| error.to_string())
            }
            None => {
                self.session.resume();
                Ok(())
            }
        }
    }

    fn clear_resume_actions(&mut self) -> Result<(), String> {
        self.steps = None;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, _thread: Tid, _signal: Option<Signal>) -> Result<(), String> {
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }

    fn support_reverse_step(&mut self) -> Option<ReverseStepOps<'_, Tid, Self>> {
        if self.session.keeps_history() { Some(self) } else { None }
    }

    fn support_reverse_cont(&mut self) -> Option<ReverseContOps<'_, Tid, Self>> {
        if self.session.keeps_history() { Some(self) } else { None }
    }
}

impl<A: Bits> MultiThreadSingleStep for Peer<A> {
    fn set_resume_action_step(&mut self, thread: Tid, _signal: Option<Signal>) -> Result<(), String> {
        self.steps = Some(cpu_of(thread));
        Ok(())
    }
}

impl<A: Bits> MultiThreadSchedulerLocking for Peer<A> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), String> {
        // Others stand while one makes a step in any case, and all go on together.
        Ok(())
    }
}

// What cannot be gone back leaves the machine where it is, and gdb is told that it stands there.
impl<A: Bits> ReverseStep<Tid> for Peer<A> {
    fn reverse_step(&mut self, _thread: Tid) -> Result<(), String> {
        let _ = self.session.go_back(Way::Steps(1));
        Ok(())
    }
}

impl<A: Bits> ReverseCont<Tid> for Peer<A> {
    fn reverse_cont(&mut self) -> Result<(), String> {
        let _ = self.session.go_back(Way::Stop);
        Ok(())
    }
}

impl<A: Bits> Breakpoints for Peer<A> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl<A: Bits> SwBreakpoint for Peer<A> {
    fn add_sw_breakpoint(&mut self, at: A::Usize, _kind: usize) -> TargetResult<bool, Self> {
        let address = A::address(at);
        Ok(self.add(address, Set::Software, Condition::Execute { address }))
    }

    fn remove_sw_breakpoint(&mut self, at: A::Usize, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.remove(A::address(at), Set::Software))
    }
}

impl<A: Bits> HwBreakpoint for Peer<A> {
    fn add_hw_breakpoint(&mut self, at: A::Usize, _kind: usize) -> TargetResult<bool, Self> {
        let address = A::address(at);
        Ok(self.add(address, Set::Hardware, Condition::Execute { address }))
    }

    fn remove_hw_breakpoint(&mut self, at: A::Usize, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.remove(A::address(at), Set::Hardware))
    }
}

impl<A: Bits> HwWatchpoint for Peer<A> {
    fn add_hw_watchpoint(
        &mut self,
        at: A::Usize,
        length: A::Usize,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let (start, bytes) = (A::address(at), A::address(length));
        if bytes == 0 || start.checked_add(bytes - 1).is_none() {
            return Ok(false);
        }
        let access = match kind {
            WatchKind::Write => Access::Write,
            WatchKind::Read => Access::Read,
            WatchKind::ReadWrite => Access::Any,
        };
        Ok(self.add(start, Set::Watch(kind, bytes), Condition::Data { start, bytes, access }))
    }

    fn remove_hw_watchpoint(
        &mut self,
        at: A::Usize,
        length: A::Usize,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        Ok(self.remove(A::address(at), Set::Watch(kind, A::address(length))))
    }
}
