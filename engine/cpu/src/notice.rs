//! What a monitor may want to be told of a vCPU besides execution at an address, and what it is told: once the
//! instruction that did it is complete.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// What a vCPU is to tell of. Nothing costs anything unless it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Accesses to memory.
    pub data: Vec<DataWatch>,
    /// Exceptions delivered, by vector.
    pub exceptions: Vectors,
    /// Interrupts delivered, by vector: from interrupt controllers, NMIs, and INT n.
    pub interrupts: Vectors,
    /// Changes of the processor's mode.
    pub modes: bool,
}

/// A range of memory whose accesses are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataWatch {
    /// The bytes.
    pub range: RangeInclusive<u64>,
    /// They are guest-physical, and RAM; else linear.
    pub physical: bool,
    /// Reads are told.
    pub reads: bool,
    /// Writes are told.
    pub writes: bool,
}

/// A set of vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vectors([u64; 4]);

/// The processor's mode, as far as monitors tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// Which.
    pub kind: ModeKind,
    /// CR0.PG.
    pub paging: bool,
}

/// How instructions and segments are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeKind {
    /// CR0.PE clear.
    Real,
    /// CR0.PE set.
    Protected,
    /// RFLAGS.VM set.
    #[serde(rename = "virtual-8086")]
    Virtual8086,
    /// EFER.LMA set: 64-bit and compatibility mode.
    Long,
}

/// Where a delivered event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// An interrupt controller.
    Controller,
    /// The NMI pin.
    Nmi,
    /// The processor.
    Exception,
    /// INT n, INT3, INTO or INT1.
    Instruction,
}

/// Something a vCPU was to tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An access to watched memory.
    Access {
        /// Its place in [`Interest::data`].
        watch: usize,
        /// Linear address of the access.
        linear: u64,
        /// Bytes.
        bytes: u64,
        /// Whether it wrote; `None`: the backend cannot tell.
        write: Option<bool>,
    },
    /// An interrupt or exception was delivered: the vCPU stands at its handler.
    Delivery {
        /// Vector.
        vector: u8,
        /// Error code, if it has one.
        error_code: Option<u32>,
        /// CR2, for page faults.
        address: Option<u64>,
        /// Where it came from.
        source: Source,
        /// Linear address of the instruction it interrupted, faulted at, or returns to.
        from: u64,
    },
    /// The mode changed.
    Mode {
        /// What it was.
        before: Mode,
        /// What it is.
        after: Mode,
    },
}

impl Vectors {
    /// All of them.
    pub const ALL: Vectors = Vectors([u64::MAX; 4]);

    /// Adds one.
    pub fn add(&mut self, vector: u8) {
        self.0[usize::from(vector >> 6)] |= 1 << (vector & 63);
    }

    /// Whether it is one of them.
    pub fn has(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 6)] >> (vector & 63) & 1 != 0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

impl Interest {
    /// Whether there is nothing to tell of.
    pub fn is_empty(&self) -> bool {
        *self == Interest::default()
    }
}

impl Mode {
    /// The mode of these control registers and flags. Sources: Intel SDM 3A, 2.2 and 2.5.
    pub fn of(cr0: u64, efer: u64, rflags: u64) -> Mode {
        let kind = match (cr0 & 1 != 0, efer & 1 << 10 != 0, rflags & 1 << 17 != 0) {
            (false, ..) => ModeKind::Real,
            (true, true, _) => ModeKind::Long,
            (true, false, true) => ModeKind::Virtual8086,
            (true, false, false) => ModeKind::Protected,
        };
        Mode { kind, paging: cr0 >> 31 & 1 != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_a_set() {
        let mut set = Vectors::default();
        assert!(set.is_empty());
        [0, 63, 64, 255].into_iter().for_each(|vector| set.add(vector));
        let members: Vec<u8> = (0..=255).filter(|vector| set.has(*vector)).collect();
        assert_eq!(members, [0, 63, 64, 255]);
    }

    #[test]
    fn modes_are_told_by_pe_lma_and_vm() {
        let paged = |kind| Mode { kind, paging: true };
        assert_eq!(Mode::of(0, 0, 1 << 17).kind, ModeKind::Real);
        assert_eq!(Mode::of(0x8000_0001, 0, 2), paged(ModeKind::Protected));
        assert_eq!(Mode::of(0x8000_0001, 0, 1 << 17), paged(ModeKind::Virtual8086));
        assert_eq!(Mode::of(0x8000_0001, 1 << 10, 2), paged(ModeKind::Long));
    }
}
