//! What the scheduler schedules: one vCPU, its weight, and where it stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// What an entity runs.
pub trait Run: Send + Sync {
    /// Runs until there is nothing to do, or until kicked. Called by one thread at a time.
    fn run_slice(&self) -> Next;

    /// Makes a running slice come back soon. Called from any thread.
    fn kick(&self);
}

/// Why a slice ended, as far as the scheduler cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It could go on.
    Ready,
    /// It could go on, but only waits for another: whoever is ready now goes first.
    Yield,
    /// Nothing to do until it is woken.
    Park,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Parked,
    Ready,
    Running,
}

#[derive(Debug)]
pub(super) struct Status {
    pub place: Place,
    /// Woken while running: it must not park.
    pub woken: bool,
    pub held: bool,
    pub retired: bool,
}

/// One schedulable thing.
pub struct Entity {
    pub(super) run: Arc<dyn Run>,
    /// Its lane waits here, with the scheduler's lock.
    pub(super) work: Condvar,
    /// Only changed under the scheduler's lock.
    status: Mutex<Status>,
    lane: AtomicBool,
    shares: AtomicU64,
    virtual_ns: AtomicU64,
    ran_ns: AtomicU64,
    slices: AtomicU64,
    preempted: AtomicU64,
}

/// Shares of an entity that nobody favours.
pub const DEFAULT_SHARES: u64 = 1024;

impl Entity {
    /// An entity that is held until released.
    pub fn new(run: Arc<dyn Run>) -> Arc<Entity> {
        Arc::new(Entity {
            run,
            work: Condvar::new(),
            status: Mutex::new(Status { place: Place::Parked, woken: false, held: true, retired: false }),
            lane: AtomicBool::new(false),
            shares: AtomicU64::new(DEFAULT_SHARES),
            virtual_ns: AtomicU64::new(0),
            ran_ns: AtomicU64::new(0),
            slices: AtomicU64::new(0),
            preempted: AtomicU64::new(0),
        })
    }

    /// Host time it has run.
    pub fn ran(&self) -> Duration {
        Duration::from_nanos(self.ran_ns.load(Ordering::Relaxed))
    }

    /// Slices it has had, and how many of them the quantum timer ended.
    pub fn slices(&self) -> (u64, u64) {
        (self.slices.load(Ordering::Relaxed), self.preempted.load(Ordering::Relaxed))
    }

    /// Sets its weight against others; at least 1.
    pub fn set_shares(&self, shares: u64) {
        self.shares.store(shares.max(1), Ordering::Relaxed);
    }

    pub(super) fn status<R>(&self, look: impl FnOnce(&mut Status) -> R) -> R {
        look(&mut self.status.lock())
    }

    pub(super) fn on_lane(&self) {
        self.lane.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_lane(&self) -> bool {
        self.lane.load(Ordering::Relaxed)
    }

    /// Adds a slice to its accounts; gives its virtual time.
    pub(super) fn charge(&self, ran: Duration) -> u64 {
        let ran_ns = ran.as_nanos() as u64;
        self.ran_ns.fetch_add(ran_ns, Ordering::Relaxed);
        self.slices.fetch_add(1, Ordering::Relaxed);
        let weighted = ran_ns.saturating_mul(DEFAULT_SHARES) / self.shares.load(Ordering::Relaxed);
        self.virtual_ns.fetch_add(weighted, Ordering::Relaxed) + weighted
    }

    /// Moves its virtual time up to at least `floor`; gives it.
    pub(super) fn catch_up(&self, floor: u64) -> u64 {
        self.virtual_ns.fetch_max(floor, Ordering::Relaxed).max(floor)
    }

    pub(super) fn preempt(&self) {
        self.preempted.fetch_add(1, Ordering::Relaxed);
        self.run.kick();
    }
}
