//! One access to a port or to device memory: how wide it is, and where it falls.

use serde::{Deserialize, Serialize};

/// Width of one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
    /// 64 bits.
    Qword,
}

impl Width {
    /// Number of bytes: 1, 2, 4 or 8.
    pub const fn bytes(self) -> u64 {
        match self {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Dword => 4,
            Width::Qword => 8,
        }
    }

    /// All ones of this width: what an unclaimed address reads as.
    pub const fn ones(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }

    /// The width of `bytes` bytes, if there is one.
    pub const fn from_bytes(bytes: usize) -> Option<Width> {
        match bytes {
            1 => Some(Width::Byte),
            2 => Some(Width::Word),
            4 => Some(Width::Dword),
            8 => Some(Width::Qword),
            _ => None,
        }
    }
}

/// Where an access falls, as the device that claims it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Which of the device's windows, by the number its adapter gave when mapping it.
    pub window: u8,
    /// Offset from the start of that window, in bytes.
    pub offset: u64,
    /// The vCPU that makes the access. Only per-CPU devices (the local APIC) look at it.
    pub cpu: usize,
}

impl At {
    /// An access by the first vCPU.
    pub const fn new(window: u8, offset: u64) -> At {
        At { window, offset, cpu: 0 }
    }
}
