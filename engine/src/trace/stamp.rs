//! When a vCPU's accesses happened. A look at the host's clock takes as long as half an access to a port, so a few
//! accesses in a row share one; how far they may be apart is bounded, in accesses and in the guest's work.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hardware::Clock;

/// Accesses that share one look at the clock, at most.
const SHARED: u32 = 32;

/// The time of one vCPU's accesses. Only the thread that runs the vCPU calls it.
#[derive(Default)]
pub struct Stamps {
    at_ns: AtomicU64,
    /// Accesses for which that is still good.
    good_for: AtomicU32,
    /// For how many a new one is: 0 where nobody says how much the guest has done meanwhile.
    reach: AtomicU32,
    renewed: AtomicU32,
    /// Other events there were when it was made.
    others: AtomicU64,
}

impl Stamps {
    /// Calls of [`Stamps::renew`] between two looks at the time that its caller needs anyway.
    pub const PER_LOOK: i64 = 8;

    /// The guest has done some microseconds' work: the next access is stamped anew. Says whether it is time for the
    /// caller's own look.
    pub fn renew(&self) -> bool {
        self.good_for.store(0, Ordering::Relaxed);
        self.reach.store(SHARED - 1, Ordering::Relaxed);
        let renewed = self.renewed.load(Ordering::Relaxed).wrapping_add(1);
        self.renewed.store(renewed, Ordering::Relaxed);
        renewed.is_multiple_of(Stamps::PER_LOOK as u32)
    }

    /// The guest time of an access that happens now, after so many other events: never before the last of them.
    pub fn now(&self, clock: &Clock, others: u64) -> u64 {
        let good_for = self.good_for.load(Ordering::Relaxed);
        if good_for > 0 && others == self.others.load(Ordering::Relaxed) {
            self.good_for.store(good_for - 1, Ordering::Relaxed);
            return self.at_ns.load(Ordering::Relaxed);
        }
        let now = clock.now();
        self.others.store(others, Ordering::Relaxed);
        self.at_ns.store(now, Ordering::Relaxed);
        self.good_for.store(self.reach.load(Ordering::Relaxed), Ordering::Relaxed);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_exact_until_somebody_says_how_much_was_done() {
        let (stamps, clock) = (Stamps::default(), Clock::manual());
        for n in 0..40 {
            assert_eq!(stamps.now(&clock, 0), n);
            clock.step(1);
        }
    }

    #[test]
    fn a_stamp_serves_a_few_accesses_and_no_work() {
        let (stamps, clock) = (Stamps::default(), Clock::manual());
        let after = |others| {
            clock.step(1);
            stamps.now(&clock, others)
        };
        let next = || after(0);
        stamps.renew();
        let first: Vec<u64> = (0..SHARED).map(|_| next()).collect();
        assert!(first.iter().all(|at| *at == 1), "{first:?}");
        assert_eq!(next(), u64::from(SHARED) + 1, "one too many");
        stamps.renew();
        assert_eq!(next(), u64::from(SHARED) + 2, "the guest has worked");
        assert_eq!(after(1), u64::from(SHARED) + 3, "something else has happened");
        assert_eq!(after(1), u64::from(SHARED) + 3);
        let looks = (0..80).filter(|_| stamps.renew()).count();
        assert_eq!(looks, 80 / Stamps::PER_LOOK as usize);
    }
}
