//! What a session is doing, and how it ended.

use cpu::{FaultRecord, Registers};

use crate::debugger::Stopped;
use crate::inspect::diagnosis::Diagnosis;
use crate::machine::Told;

/// What a machine is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Its vCPUs run.
    Running,
    /// Its vCPUs and its time stand still.
    Paused,
    /// It is over.
    Ended(Ending),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The guest switched the machine off, or the user did.
    PoweredOff,
    /// The guest wrote this value to the debug-exit port.
    DebugExit(u8),
    /// A vCPU shut down: triple fault.
    Crashed(Box<Crash>),
    /// The monitor could not go on; the message says why.
    Failed(String),
}

/// A triple fault, with all that is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Which vCPU.
    pub cpu: usize,
    /// The faults on the way, first to last.
    pub faults: Vec<FaultRecord>,
    /// Registers at the shutdown.
    pub registers: Registers,
    /// Bytes at RIP, as far as they could be read.
    pub code: Vec<u8>,
    /// Those bytes as an instruction.
    pub instruction: String,
    /// What went wrong, in sentences.
    pub diagnosis: Diagnosis,
    /// The vCPU's last device accesses, oldest first, in words.
    pub accesses: Vec<Told>,
}

/// Something rare that a session tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The state changed.
    State(RunState),
    /// Something it was to stop at was met, or the steps asked for are made; it is paused next.
    Stopped(Stopped),
    /// The guest reset itself, or the user did.
    Reset,
    /// The machine paused by itself, and goes on by itself when it can: the host's disk is full.
    Hindered(String),
    /// Something worth a line: which backend was chosen and why, a device's complaint.
    Note(String),
}
