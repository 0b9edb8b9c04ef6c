//! Time that is counted: in deterministic machines, guest time is a function of the steps their vCPUs have made,
//! and so is every random number.

use std::sync::atomic::{AtomicU64, Ordering};

use hardware::Clock;

/// Guest time that a step takes. One instruction a nanosecond is near what the software CPU does on a current host,
/// so that a guest's waits last about as long as they would otherwise; and as guest time-stamps count nanoseconds,
/// each instruction sees a time of its own.
pub const STEP_NS: u64 = 1;

/// The time of one machine whose vCPUs run in turn. Only their thread moves it.
pub struct Timeline {
    clock: Clock,
    seed: u64,
    /// Steps of the machine less those of the vCPU that runs now.
    base: AtomicU64,
    /// Time passed over because all vCPUs were halted.
    idle_ns: AtomicU64,
    steps: AtomicU64,
}

impl Timeline {
    /// At the beginning of time. `clock` is moved by this alone.
    pub fn new(clock: Clock, seed: u64) -> Timeline {
        let zero = || AtomicU64::new(0);
        Timeline { clock, seed, base: zero(), idle_ns: zero(), steps: zero() }
    }

    /// The machine has made `steps` steps and waited `idle_ns`; a vCPU that has made `own` of them runs now.
    pub fn turn_to(&self, steps: u64, idle_ns: u64, own: u64) {
        self.base.store(steps.wrapping_sub(own), Ordering::Relaxed);
        self.idle_ns.store(idle_ns, Ordering::Relaxed);
        self.reached(own);
    }

    /// The vCPU that runs has made `own` steps.
    pub fn reached(&self, own: u64) {
        let steps = self.base.load(Ordering::Relaxed).wrapping_add(own);
        self.steps.store(steps, Ordering::Relaxed);
        self.clock.set(steps * STEP_NS + self.idle_ns.load(Ordering::Relaxed));
    }

    /// A number that looks random, and is the same for the same seed and step (splitmix64, Steele et al. 2014).
    pub fn random(&self) -> u64 {
        let step = self.steps.load(Ordering::Relaxed);
        let mut z = self.seed.wrapping_add(step.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_steps_and_idleness_whichever_cpu_counts() {
        let clock = Clock::manual();
        let timeline = Timeline::new(clock.clone(), 7);
        timeline.turn_to(1000, 50, 300);
        assert_eq!(clock.now(), 1050);
        timeline.reached(310);
        assert_eq!(clock.now(), 1060);
        let first = timeline.random();
        timeline.turn_to(1010, 50, 5);
        assert_eq!((clock.now(), timeline.random()), (1060, first), "another vCPU, the same step");
        timeline.reached(6);
        assert_ne!(timeline.random(), first);
    }
}
