//! How many samples a converter has played: a count that follows guest time without drifting.

use serde::{Deserialize, Serialize};

use crate::clock::{Nanoseconds, ticks_at, time_of_tick};

/// The most samples taken at once; the rest is taken right after.
const AT_ONCE_MAX: u64 = 1 << 16;

/// A converter that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    start_ns: Nanoseconds,
    rate_hz: u32,
    /// Samples played since the start.
    played: u64,
}

impl Pace {
    /// A converter of `rate_hz` that starts at `now`.
    pub fn start(now: Nanoseconds, rate_hz: u32) -> Pace {
        Pace { start_ns: now, rate_hz: rate_hz.max(1), played: 0 }
    }

    /// Samples a second.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Samples that have sounded by `now` and are not yet played.
    pub fn due(&self, now: Nanoseconds) -> u64 {
        let sounded = ticks_at(now.saturating_sub(self.start_ns), self.rate_hz.into());
        sounded.saturating_sub(self.played).min(AT_ONCE_MAX)
    }

    /// When the next sample begins to sound.
    pub fn next_ns(&self) -> Nanoseconds {
        self.time_of(0)
    }

    /// When `count` more samples will have sounded.
    pub fn time_of(&self, count: u64) -> Nanoseconds {
        let tick = self.played.saturating_add(count);
        self.start_ns.saturating_add(time_of_tick(tick, self.rate_hz.into()))
    }

    /// So many samples were played.
    pub fn play(&mut self, count: u64) {
        self.played = self.played.saturating_add(count);
    }

    /// The rate changes now; what is due at the old one must have been played.
    pub fn set_rate(&mut self, now: Nanoseconds, rate_hz: u32) {
        if rate_hz != self.rate_hz {
            *self = Pace::start(now, rate_hz);
        }
    }

    /// Whether a saved pace can be used.
    pub fn is_valid(&self) -> bool {
        self.rate_hz > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_at_their_rate_for_ever() {
        let mut pace = Pace::start(1_000, 44_100);
        let mut all = 0;
        for ms in 1..=100_000_u64 {
            let now = 1_000 + ms * 1_000_000;
            let due = pace.due(now);
            assert!(pace.time_of(due) <= now && pace.time_of(due + 1) > now);
            pace.play(due);
            all += due;
        }
        assert_eq!(all, 4_410_000);
        assert_eq!(pace.due(u64::MAX), 1 << 16, "late, but not for ever at once");
    }
}
