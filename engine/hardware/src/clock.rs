//! Guest time: nanoseconds that pass while the machine runs, at a rate that can be changed.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;

/// Guest time in nanoseconds since power-on, as read by [`Clock::now`].
pub type Nanoseconds = u64;

/// A clock handed to everything on the board; clones share one time.
#[derive(Clone, Debug)]
pub struct Clock(Arc<RwLock<State>>);

#[derive(Debug)]
struct State {
    /// Guest time at `since`.
    base_ns: Nanoseconds,
    /// Host time from which guest time runs on; `None` while it stands still (paused, or manual).
    since: Option<Instant>,
    /// Guest seconds per host second.
    rate: f64,
}

impl Clock {
    /// A clock that follows the host's monotonic clock, standing still until [`Clock::start`].
    pub fn host() -> Clock {
        Clock(Arc::new(RwLock::new(State { base_ns: 0, since: None, rate: 1.0 })))
    }

    /// A clock that moves only by [`Clock::step`]: for tests and for deterministic runs.
    pub fn manual() -> Clock {
        Clock::host()
    }

    /// Guest time now.
    pub fn now(&self) -> Nanoseconds {
        self.0.read().now()
    }

    /// Lets time run with the host's.
    pub fn start(&self) {
        let mut state = self.0.write();
        if state.since.is_none() {
            state.since = Some(Instant::now());
        }
    }

    /// Stops time; the value stays.
    pub fn stop(&self) {
        let mut state = self.0.write();
        state.base_ns = state.now();
        state.since = None;
    }

    /// Whether time runs with the host's.
    pub fn is_running(&self) -> bool {
        self.0.read().since.is_some()
    }

    /// Sets how many guest seconds pass per host second; `rate` must be positive.
    pub fn set_rate(&self, rate: f64) {
        assert!(rate > 0.0, "time cannot run backwards");
        let mut state = self.0.write();
        state.base_ns = state.now();
        state.since = state.since.map(|_| Instant::now());
        state.rate = rate;
    }

    /// Guest seconds per host second.
    pub fn rate(&self) -> f64 {
        self.0.read().rate
    }

    /// Moves time forward by `ns`, whether or not it runs.
    pub fn step(&self, ns: u64) {
        self.0.write().base_ns += ns;
    }

    /// Sets the time, as when a saved machine is restored.
    pub fn set(&self, now_ns: Nanoseconds) {
        let mut state = self.0.write();
        state.base_ns = now_ns;
        state.since = state.since.map(|_| Instant::now());
    }
}

impl State {
    fn now(&self) -> Nanoseconds {
        let Some(since) = self.since else { return self.base_ns };
        let passed = since.elapsed().as_nanos() as u64;
        let passed = if self.rate == 1.0 { passed } else { (passed as f64 * self.rate) as u64 };
        self.base_ns + passed
    }
}

/// How many ticks of a `hz` oscillator have passed at guest time `now`, with no rounding drift.
pub fn ticks_at(now: Nanoseconds, hz: u64) -> u64 {
    (u128::from(now) * u128::from(hz) / 1_000_000_000) as u64
}

/// The earliest guest time at which `ticks` ticks of a `hz` oscillator have passed.
pub fn time_of_tick(ticks: u64, hz: u64) -> Nanoseconds {
    ((u128::from(ticks) * 1_000_000_000).div_ceil(u128::from(hz))).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tick_and_time_are_inverse_for_the_8254() {
        for tick in [0, 1, 2, 1_193_181, 1_193_182, 1_193_183, u64::from(u32::MAX)] {
            let at = time_of_tick(tick, 1_193_182);
            assert_eq!(ticks_at(at, 1_193_182), tick);
            assert!(at == 0 || ticks_at(at - 1, 1_193_182) < tick);
        }
    }

    #[test]
    fn a_stopped_clock_stands_still_and_steps() {
        let clock = Clock::manual();
        clock.step(5);
        assert_eq!(clock.now(), 5);
        clock.start();
        clock.stop();
        let stopped = clock.now();
        assert_eq!(clock.now(), stopped);
    }
}
