//! What the scheduler schedules: one vCPU, and where it stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::account::Account;
use super::slices::SliceEnd;

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
    /// Waits for a worker, or rests because its machine is at its cap.
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
    /// Why this slice ends when its time is up.
    pub limit: SliceEnd,
    /// Its time was up, for this reason.
    pub cut: Option<SliceEnd>,
}

/// One schedulable thing.
pub struct Entity {
    pub(super) run: Arc<dyn Run>,
    /// Its lane waits here, with the scheduler's lock.
    pub(super) work: Condvar,
    pub(super) account: Arc<Account>,
    id: u64,
    /// Only changed under the scheduler's lock, but for why its slice was cut.
    status: Mutex<Status>,
    lane: AtomicBool,
    /// When its slice is over, by the scheduler's clock.
    ends_ns: AtomicU64,
    /// When it became ready, in nanoseconds and one more; 0 while it is not.
    ready_ns: AtomicU64,
    ran_ns: AtomicU64,
    slices: AtomicU64,
    preempted: AtomicU64,
}

impl Entity {
    /// An entity of the machine with `account`, held until released.
    pub fn new(run: Arc<dyn Run>, account: &Arc<Account>) -> Arc<Entity> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let status = Status {
            place: Place::Parked,
            woken: false,
            held: true,
            retired: false,
            limit: SliceEnd::Quantum,
            cut: None,
        };
        Arc::new(Entity {
            run,
            work: Condvar::new(),
            account: account.clone(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            status: Mutex::new(status),
            lane: AtomicBool::new(false),
            ends_ns: AtomicU64::new(u64::MAX),
            ready_ns: AtomicU64::new(0),
            ran_ns: AtomicU64::new(0),
            slices: AtomicU64::new(0),
            preempted: AtomicU64::new(0),
        })
    }

    /// A number no other entity of this process has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Host CPU time it has used.
    pub fn ran(&self) -> Duration {
        Duration::from_nanos(self.ran_ns.load(Ordering::Relaxed))
    }

    /// Host time that the machine's vCPUs, all of them together, were ready and had no worker.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.account.waited_ns())
    }

    /// Slices it has had, and how many of them ended because their time was up.
    pub fn slices(&self) -> (u64, u64) {
        (self.slices.load(Ordering::Relaxed), self.preempted.load(Ordering::Relaxed))
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

    /// It waits, from now on or from before.
    pub(super) fn waits_since(&self, now_ns: u64) {
        // Only under the scheduler's lock: no other thread comes between.
        if self.ready_ns.load(Ordering::Relaxed) == 0 {
            self.ready_ns.store(now_ns + 1, Ordering::Relaxed);
        }
    }

    /// It waits no more; how long it did.
    pub(super) fn waits_no_more(&self, now_ns: u64) -> u64 {
        match self.ready_ns.swap(0, Ordering::Relaxed) {
            0 => 0,
            since => (now_ns + 1).saturating_sub(since),
        }
    }

    /// Counts a slice that used `used_ns` of host CPU time.
    pub(super) fn count_slice(&self, used_ns: u64) {
        self.ran_ns.fetch_add(used_ns, Ordering::Relaxed);
        self.slices.fetch_add(1, Ordering::Relaxed);
    }

    /// Its slice is over at this time, for this reason. Only under the scheduler's lock.
    pub(super) fn ends_at(&self, ends_ns: u64, why: SliceEnd) {
        self.status(|status| status.limit = why);
        self.ends_ns.store(ends_ns, Ordering::Relaxed);
    }

    /// Ends its slice if that is over; whether it is. Called from any thread, with and without the scheduler's lock.
    pub(super) fn end_if_due(&self, now_ns: u64) -> bool {
        if now_ns < self.ends_ns.load(Ordering::Relaxed) {
            return false;
        }
        let is_first = self.status(|status| status.cut.replace(status.limit).is_none());
        self.preempted.fetch_add(u64::from(is_first), Ordering::Relaxed);
        self.run.kick();
        true
    }
}
