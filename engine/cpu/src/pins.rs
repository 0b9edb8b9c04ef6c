//! The input pins of one vCPU: any thread raises a signal, the vCPU looks between blocks.

use std::sync::atomic::{AtomicU32, Ordering};

/// Something that asks for a vCPU's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Signal {
    /// INTR is high: an interrupt controller has a request. A level, lowered by the controller.
    Interrupt = 1 << 0,
    /// A non-maskable interrupt arrived. Taken by the vCPU.
    Nmi = 1 << 1,
    /// Come back to the monitor with [`crate::Stop::Kicked`]. Taken by the vCPU as it returns.
    Kick = 1 << 2,
    /// The memory map changed: drop cached translations. Taken by the vCPU.
    MapChanged = 1 << 3,
    /// Someone else wrote to memory with cached code. Taken by the vCPU.
    CodeChanged = 1 << 4,
}

/// The pins of one vCPU. The software CPU polls [`Pins::word`]; the KVM backend looks before entering
/// the guest and is kicked out of it when a signal is raised.
#[derive(Debug, Default)]
pub struct Pins(AtomicU32);

impl Pins {
    /// Pins with no signal.
    pub const fn new() -> Pins {
        Pins(AtomicU32::new(0))
    }

    /// Raises a signal.
    pub fn raise(&self, signal: Signal) {
        self.0.fetch_or(signal as u32, Ordering::Release);
    }

    /// Lowers a signal.
    pub fn lower(&self, signal: Signal) {
        self.0.fetch_and(!(signal as u32), Ordering::Release);
    }

    /// Lowers a signal; says whether it was raised.
    pub fn take(&self, signal: Signal) -> bool {
        self.0.fetch_and(!(signal as u32), Ordering::AcqRel) & signal as u32 != 0
    }

    /// Whether a signal is raised.
    pub fn is_raised(&self, signal: Signal) -> bool {
        self.0.load(Ordering::Acquire) & signal as u32 != 0
    }

    /// All signals, one bit each; zero when there is nothing to look at.
    pub fn word(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
