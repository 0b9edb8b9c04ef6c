//! The input pins of one vCPU: any thread raises a signal, the vCPU looks between blocks.

use std::fmt;
use std::sync::OnceLock;
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

/// Another NMI came before the first was taken.
const SECOND_NMI: u32 = 1 << 31;

/// The pins of one vCPU. The software CPU polls [`Pins::word`]; the KVM backend looks before entering
/// the guest and is kicked out of it when a signal is raised.
#[derive(Default)]
pub struct Pins {
    word: AtomicU32,
    waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pins").field(&self.word).finish()
    }
}

impl Pins {
    /// Pins with no signal.
    pub const fn new() -> Pins {
        Pins { word: AtomicU32::new(0), waker: OnceLock::new() }
    }

    /// Whom [`Pins::wake`] calls; the first one counts. Called from any thread, and must not wait.
    pub fn on_wake(&self, waker: impl Fn() + Send + Sync + 'static) {
        let _ = self.waker.set(Box::new(waker));
    }

    /// Makes a vCPU that is parked look at its pins.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker();
        }
    }

    /// Raises a signal. Of NMIs one more is remembered, as a processor remembers one that comes while it takes
    /// another.
    pub fn raise(&self, signal: Signal) {
        let before = self.word.fetch_or(signal as u32, Ordering::SeqCst);
        if signal == Signal::Nmi && before & signal as u32 != 0 {
            self.word.fetch_or(SECOND_NMI, Ordering::SeqCst);
        }
    }

    /// Lowers a signal.
    pub fn lower(&self, signal: Signal) {
        let second = if signal == Signal::Nmi { SECOND_NMI } else { 0 };
        self.word.fetch_and(!(signal as u32 | second), Ordering::Release);
    }

    /// Lowers a signal; says whether it was raised. A second NMI stays.
    pub fn take(&self, signal: Signal) -> bool {
        let bit = signal as u32;
        if !self.is_raised(signal) {
            return false; // a locked change costs as much as ten instructions
        }
        let left = |word: u32| match signal {
            Signal::Nmi if word & SECOND_NMI != 0 => word & !SECOND_NMI,
            _ => word & !bit,
        };
        let taken = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| Some(left(word)));
        taken.is_ok_and(|before| before & bit != 0)
    }

    /// NMIs end being blocked: of those that came meanwhile one is left.
    pub fn merge_nmis(&self) {
        self.word.fetch_and(!SECOND_NMI, Ordering::AcqRel);
    }

    /// Whether a signal is raised.
    pub fn is_raised(&self, signal: Signal) -> bool {
        self.word.load(Ordering::SeqCst) & signal as u32 != 0
    }

    /// All signals, one bit each; zero when there is nothing to look at.
    pub fn word(&self) -> u32 {
        self.word.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nmis_are_two_and_three_are_two() {
        let pins = Pins::new();
        (0..3).for_each(|_| pins.raise(Signal::Nmi));
        pins.raise(Signal::Kick);
        assert!(pins.take(Signal::Nmi) && pins.take(Signal::Nmi) && !pins.take(Signal::Nmi));
        (0..2).for_each(|_| pins.raise(Signal::Nmi));
        pins.merge_nmis();
        assert!(pins.take(Signal::Nmi) && !pins.take(Signal::Nmi));
        (0..2).for_each(|_| pins.raise(Signal::Nmi));
        pins.lower(Signal::Nmi);
        assert!(!pins.is_raised(Signal::Nmi) && pins.take(Signal::Kick));
        assert_eq!(pins.word(), 0);
    }
}
