//! Why a machine stands still.

use cpu::{Mode, ModeKind, Source};
use hardware::Space;
use serde::Serialize;

use crate::inspect::exception;

/// Something that was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Met {
    /// The instruction at this linear address is next.
    Executing {
        /// Linear address.
        address: u64,
    },
    /// Memory was accessed.
    Accessed {
        /// Linear address.
        address: u64,
        /// Bytes.
        bytes: u64,
        /// Whether it was written; unknown on KVM.
        write: Option<bool>,
    },
    /// A device was accessed.
    Device {
        /// Port or memory.
        space: Space,
        /// Port number or guest-physical address.
        address: u64,
        /// Bytes.
        bytes: u8,
        /// What was read or written.
        value: u64,
        /// Whether it was written.
        write: bool,
    },
    /// An interrupt or exception was delivered.
    Delivered {
        /// Vector.
        vector: u8,
        /// Error code, if it has one.
        error_code: Option<u32>,
        /// CR2, for page faults.
        address: Option<u64>,
        /// Where it came from.
        source: Source,
        /// Linear address it returns to, where that is known.
        from: Option<u64>,
    },
    /// The mode changed.
    ModeChanged {
        /// From this.
        before: Mode,
        /// To this.
        after: Mode,
    },
    /// A timer ticked.
    Ticked {
        /// Which.
        timer: String,
    },
    /// A vCPU halted.
    Halted,
    /// The steps asked for are made.
    Stepped,
    /// It is where it was to go.
    Arrived,
    /// Going backwards: nothing before this is known.
    Began,
}

/// A machine that has stopped, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Which vCPU met it; `None`: the machine (a timer).
    pub cpu: Option<usize>,
    /// The conditions that say so, by id; none for steps.
    pub conditions: Vec<u32>,
    /// What was met.
    #[serde(flatten)]
    pub met: Met,
    /// Steps of a deterministic machine since power-on.
    pub steps: Option<u64>,
}

fn mode_in_words(mode: Mode) -> String {
    let kind = match mode.kind {
        ModeKind::Real => "real mode",
        ModeKind::Protected => "protected mode",
        ModeKind::Virtual8086 => "virtual-8086 mode",
        ModeKind::Long => "long mode",
    };
    format!("{kind}, paging {}", if mode.paging { "on" } else { "off" })
}

impl Met {
    /// In words.
    pub fn in_words(&self) -> String {
        match self {
            Met::Executing { address } => format!("about to execute {address:#x}"),
            Met::Accessed { address, bytes, write } => {
                let verb = match write {
                    Some(true) => "wrote",
                    Some(false) => "read",
                    None => "accessed",
                };
                format!("{verb} {bytes} bytes at {address:#x}")
            }
            Met::Device { space, address, bytes, value, write } => {
                let place = match space {
                    Space::Port => format!("port {address:#x}"),
                    Space::Memory => format!("device memory {address:#x}"),
                };
                match write {
                    true => format!("wrote {value:#x} ({bytes} bytes) to {place}"),
                    false => format!("read {value:#x} ({bytes} bytes) from {place}"),
                }
            }
            Met::Delivered { vector, error_code, address, source, from } => {
                let what = match source {
                    Source::Exception => exception::name(*vector),
                    Source::Instruction => format!("INT {vector:#x}"),
                    Source::Nmi => "NMI".to_owned(),
                    Source::Controller => format!("interrupt {vector:#04x}"),
                };
                let code = error_code.map_or(String::new(), |code| format!(", error code {code:#x}"));
                let cr2 = address.map_or(String::new(), |address| format!(", address {address:#x}"));
                let from = from.map_or(String::new(), |from| format!(", from {from:#x}"));
                format!("{what} delivered{code}{cr2}{from}")
            }
            Met::ModeChanged { before, after } => {
                format!("went from {} to {}", mode_in_words(*before), mode_in_words(*after))
            }
            Met::Ticked { timer } => format!("{timer} ticked"),
            Met::Halted => "halted".to_owned(),
            Met::Stepped => "stepped".to_owned(),
            Met::Arrived => "arrived".to_owned(),
            Met::Began => "nothing before this is known: history begins here".to_owned(),
        }
    }
}

impl Stopped {
    /// In one line.
    pub fn in_words(&self) -> String {
        let who = self.cpu.map_or("the machine".to_owned(), |cpu| format!("CPU {cpu}"));
        let ids: Vec<String> = self.conditions.iter().map(u32::to_string).collect();
        let by = match ids.len() {
            0 => String::new(),
            1 => format!(" (condition {})", ids[0]),
            _ => format!(" (conditions {})", ids.join(", ")),
        };
        let steps = self.steps.map_or(String::new(), |steps| format!(", at step {steps}"));
        format!("{who}: {}{by}{steps}", self.met.in_words())
    }
}
