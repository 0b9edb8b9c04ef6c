//! The chip's two timers: by their flags programs find the chip. Datasheet, registers 02h to 04h.

use serde::{Deserialize, Serialize};

use crate::clock::Nanoseconds;

/// What one count of each lasts.
const COUNT_NS: [u64; 2] = [80_000, 320_000];
/// Status and mask bits of each.
const FLAG: [u8; 2] = [0x40, 0x20];
const INTERRUPT: u8 = 0x80;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Timer {
    /// It counts from here up to 256.
    preset: u8,
    masked: bool,
    started_ns: Option<Nanoseconds>,
    /// Flags of overflows up to here were reset.
    reset_ns: Nanoseconds,
}

/// Both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers([Timer; 2]);

impl Timer {
    fn overflowed(&self, count_ns: u64, now: Nanoseconds) -> bool {
        let Some(started) = self.started_ns.filter(|_| !self.masked) else { return false };
        let period = (256 - u64::from(self.preset)) * count_ns;
        let overflows = |at: Nanoseconds| at.saturating_sub(started) / period;
        overflows(now) > overflows(self.reset_ns)
    }
}

impl Timers {
    /// Writes register 2, 3 or 4.
    pub fn write(&mut self, number: usize, value: u8, now: Nanoseconds) {
        if number < 4 {
            self.0[number - 2].preset = value;
            return;
        }
        if value & INTERRUPT != 0 {
            self.0.iter_mut().for_each(|timer| timer.reset_ns = now);
            return;
        }
        for (n, timer) in self.0.iter_mut().enumerate() {
            timer.masked = value & FLAG[n] != 0;
            let runs = value >> n & 1 != 0;
            if runs != timer.started_ns.is_some() {
                timer.started_ns = runs.then_some(now);
                timer.reset_ns = now;
            }
        }
    }

    /// The status register.
    pub fn status(&self, now: Nanoseconds) -> u8 {
        let set = |n: usize| if self.0[n].overflowed(COUNT_NS[n], now) { FLAG[n] | INTERRUPT } else { 0 };
        set(0) | set(1)
    }
}
