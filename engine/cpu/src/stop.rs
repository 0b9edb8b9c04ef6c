//! Why a vCPU came back, and how long it may run.

use serde::{Deserialize, Serialize};

use crate::notice::Notice;
use crate::registers::Registers;

/// How long a vCPU may run before it must come back by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimit {
    /// At most this many instructions and deliveries of interrupts and exceptions ([`Stop::Limit`]); backends
    /// that cannot count ignore it unless it is 1, which is a single step ([`Stop::Step`]).
    pub instructions: u64,
}

impl RunLimit {
    /// Until something happens.
    pub const NONE: RunLimit = RunLimit { instructions: u64::MAX };
    /// One instruction (or one interrupt delivery).
    pub const STEP: RunLimit = RunLimit { instructions: 1 };
}

/// Why a vCPU came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// HLT (or MWAIT): nothing to do until an interrupt, NMI or INIT.
    Halted,
    /// The instruction limit is used up.
    Limit,
    /// The guest spins: it has executed PAUSE very often, and whom it waits for may need the host's processor. Only
    /// from runs without a limit.
    Yielded,
    /// One step was made.
    Step,
    /// [`crate::Signal::Kick`] was raised.
    Kicked,
    /// An execution breakpoint set by the monitor, before the instruction at this linear address.
    Breakpoint(u64),
    /// Something the monitor wanted to be told of, after the instruction that did it.
    Noticed(Vec<Notice>),
    /// A fault while delivering a double fault: the processor is shut down.
    Shutdown(Vec<FaultRecord>),
}

/// One exception on the way to a shutdown, first to last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// Exception vector.
    pub vector: u8,
    /// Error code, if the exception has one.
    pub error_code: Option<u32>,
    /// CR2, for page faults.
    pub address: Option<u64>,
    /// Registers at the faulting instruction, when the backend can tell.
    pub registers: Option<Box<Registers>>,
}
