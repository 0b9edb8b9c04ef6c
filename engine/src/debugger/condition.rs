//! What a machine is to stop at, as a person or a program asks for it.

use std::fmt;

use cpu::ModeKind;
use serde::{Deserialize, Serialize};

use crate::inspect::exception;

/// Conditions one machine can have.
pub const MOST_CONDITIONS: usize = 64;

/// Something a machine can be stopped at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Condition {
    /// A vCPU is about to execute the instruction at this linear address.
    Execute {
        /// Linear address.
        address: u64,
    },
    /// An instruction has accessed linear memory.
    Data {
        /// First byte.
        start: u64,
        /// Length in bytes.
        bytes: u64,
        /// How.
        access: Access,
    },
    /// An instruction has accessed guest-physical memory: RAM, or a device's.
    Physical {
        /// First byte.
        start: u64,
        /// Length in bytes.
        bytes: u64,
        /// How.
        access: Access,
    },
    /// An instruction has accessed a port.
    Port {
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
        /// How.
        access: Access,
    },
    /// An interrupt was delivered: the vCPU stands at its handler.
    Interrupt {
        /// Vector; any.
        vector: Option<u8>,
        /// From where.
        source: InterruptSource,
    },
    /// An exception was delivered: the vCPU stands at its handler.
    Exception {
        /// Vector; any.
        vector: Option<u8>,
        /// Error code; any.
        error_code: Option<u32>,
    },
    /// The processor's mode, or paging, has changed.
    Mode {
        /// To this; any.
        to: Option<ModeKind>,
    },
    /// A timer of the guest has ticked.
    Timer {
        /// Its name, as `timers` shows it.
        name: String,
    },
    /// The next exit of a kind.
    Exit {
        /// Which.
        exit: ExitKind,
    },
}

/// Ways to access memory or a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Both.
    Any,
}

/// Where interrupts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterruptSource {
    /// Interrupt controllers and the NMI pin.
    Hardware,
    /// INT n, INT3, INTO, INT1.
    Instruction,
    /// Both.
    Any,
}

/// Kinds of exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitKind {
    /// A port was read or written.
    Port,
    /// Device memory was read or written.
    DeviceMemory,
    /// A hardware interrupt was delivered.
    Interrupt,
    /// HLT with nothing to do.
    Halt,
}

/// A condition that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StopCondition {
    /// What it is known by.
    pub id: u32,
    /// What the machine stops at.
    #[serde(flatten)]
    pub condition: Condition,
    /// Whether it is on.
    pub enabled: bool,
    /// How often it was met, whether the machine stopped or not.
    pub hits: u64,
    /// It is to be met this many times more before the machine stops.
    pub ignore: u64,
}

impl Access {
    /// Whether reads (or writes) are meant.
    pub fn includes(self, write: bool) -> bool {
        match self {
            Access::Read => !write,
            Access::Write => write,
            Access::Any => true,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Any => "access",
        }
    }
}

impl InterruptSource {
    /// Whether interrupts from controllers and pins are meant.
    pub fn has_hardware(self) -> bool {
        self != InterruptSource::Instruction
    }

    /// Whether INT n is meant.
    pub fn has_instructions(self) -> bool {
        self != InterruptSource::Hardware
    }
}

fn mode_word(mode: ModeKind) -> &'static str {
    match mode {
        ModeKind::Real => "real",
        ModeKind::Protected => "protected",
        ModeKind::Virtual8086 => "virtual-8086",
        ModeKind::Long => "long",
    }
}

/// As it is asked for: what [`super::words::condition`] reads.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Execute { address } => write!(f, "execute {address:#x}"),
            Condition::Data { start, bytes, access } => {
                write!(f, "data {start:#x} {bytes} {}", access.word())
            }
            Condition::Physical { start, bytes, access } => {
                write!(f, "physical {start:#x} {bytes} {}", access.word())
            }
            Condition::Port { first, last, access } if first == last => {
                write!(f, "port {first:#x} {}", access.word())
            }
            Condition::Port { first, last, access } => {
                write!(f, "port {first:#x}-{last:#x} {}", access.word())
            }
            Condition::Interrupt { vector, source } => {
                f.write_str("interrupt")?;
                if let Some(vector) = vector {
                    write!(f, " {vector:#x}")?;
                }
                match source {
                    InterruptSource::Any => Ok(()),
                    InterruptSource::Hardware => f.write_str(" hardware"),
                    InterruptSource::Instruction => f.write_str(" instruction"),
                }
            }
            Condition::Exception { vector, error_code } => {
                f.write_str("exception")?;
                if let Some(vector) = vector {
                    write!(f, " {}", exception::short(*vector))?;
                }
                error_code.map_or(Ok(()), |code| write!(f, " error {code:#x}"))
            }
            Condition::Mode { to: None } => f.write_str("mode"),
            Condition::Mode { to: Some(mode) } => write!(f, "mode {}", mode_word(*mode)),
            Condition::Timer { name } => write!(f, "timer {name}"),
            Condition::Exit { exit } => f.write_str(match exit {
                ExitKind::Port => "exit port",
                ExitKind::DeviceMemory => "exit device-memory",
                ExitKind::Interrupt => "exit interrupt",
                ExitKind::Halt => "exit halt",
            }),
        }
    }
}
