//! One machine's account with the scheduler: what its vCPUs have used, weighted, and what its cap and its
//! reservation leave. Times are nanoseconds of the scheduler's own clock, handed in.

use parking_lot::Mutex;

use super::allotment::{Allotment, DEFAULT_SHARES};

/// Most that an unused cap or reservation saves up: one quantum.
const BURST_NS: u64 = 5_000_000;
/// A machine at its cap rests until this much is saved up again: shorter slices would be all overhead.
const RESUME_NS: u64 = 1_000_000;

/// A machine, as the scheduler keeps its books.
#[derive(Debug)]
pub struct Account(Mutex<Books>);

#[derive(Debug)]
pub(super) struct Books {
    allotment: Allotment,
    /// Host CPU time used, times [`DEFAULT_SHARES`] over the machine's shares.
    virtual_ns: u64,
    ran_ns: u64,
    /// Time its vCPUs were ready and had no worker, or rested at the cap.
    waited_ns: u64,
    cap: Option<Bucket>,
    reservation: Option<Bucket>,
    /// At its cap, and resting.
    resting: bool,
    /// Its vCPUs that run or wait for a worker.
    active: u32,
}

/// CPU time that flows in at a rate and is taken out as it is used; it may be overdrawn.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    percent: u32,
    /// In hundredths of a nanosecond, so that nothing is lost to rounding.
    level: i128,
    filled_at_ns: u64,
}

impl Bucket {
    fn new(percent: u32, now_ns: u64) -> Bucket {
        Bucket { percent, level: i128::from(BURST_NS) * 100, filled_at_ns: now_ns }
    }

    fn fill(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.filled_at_ns);
        self.filled_at_ns = self.filled_at_ns.max(now_ns);
        let level = self.level + i128::from(passed) * i128::from(self.percent);
        self.level = level.min(i128::from(BURST_NS) * 100);
    }

    fn take(&mut self, used_ns: u64) {
        self.level -= i128::from(used_ns) * 100;
    }

    fn left_ns(&self) -> u64 {
        (self.level / 100).max(0) as u64
    }

    /// When the level will have reached `wanted_ns`.
    fn reaches(&self, wanted_ns: u64) -> u64 {
        let missing = i128::from(wanted_ns) * 100 - self.level;
        self.filled_at_ns + (missing.max(0) as u128).div_ceil(u128::from(self.percent.max(1))) as u64
    }
}

impl Account {
    /// A new machine's account.
    pub fn new(allotment: Allotment) -> Account {
        let mut books = Books {
            allotment,
            virtual_ns: 0,
            ran_ns: 0,
            waited_ns: 0,
            cap: None,
            reservation: None,
            resting: false,
            active: 0,
        };
        books.allot(allotment, 0);
        Account(Mutex::new(books))
    }

    /// What it may take.
    pub fn allotment(&self) -> Allotment {
        self.0.lock().allotment
    }

    /// Host CPU time it has used, in nanoseconds.
    pub fn ran_ns(&self) -> u64 {
        self.0.lock().ran_ns
    }

    /// Time its vCPUs could have run and had to wait, for a worker or because of the cap, in nanoseconds.
    pub fn waited_ns(&self) -> u64 {
        self.0.lock().waited_ns
    }

    /// Looks at or changes the books; only with the scheduler's lock.
    pub(super) fn books<R>(&self, look: impl FnOnce(&mut Books) -> R) -> R {
        look(&mut self.0.lock())
    }
}

impl Books {
    /// A new allotment, in force from now on.
    pub fn allot(&mut self, allotment: Allotment, now_ns: u64) {
        self.allotment = allotment;
        self.cap = allotment.cap_percent.map(|percent| Bucket::new(percent, now_ns));
        let reserved = allotment.reservation_percent;
        self.reservation = (reserved > 0).then(|| Bucket::new(reserved, now_ns));
        self.resting = false;
    }

    /// Weighted time used so far: who has least is due first.
    pub fn virtual_ns(&self) -> u64 {
        self.virtual_ns
    }

    /// A vCPU became active. A machine that slept starts from `floor_ns`, or it would make up for its sleep.
    pub fn join(&mut self, floor_ns: u64) {
        if self.active == 0 {
            self.virtual_ns = self.virtual_ns.max(floor_ns);
        }
        self.active += 1;
    }

    /// A vCPU's rest is over. What the cap denied its machine is gone: it goes on from `floor_ns`, or it would make up
    /// for its rest at the expense of the others as soon as the cap is lifted.
    pub fn rest_ended(&mut self, floor_ns: u64) {
        self.virtual_ns = self.virtual_ns.max(floor_ns);
    }

    /// A vCPU parked.
    pub fn leave(&mut self) {
        self.active -= 1;
    }

    /// Adds what a slice used.
    pub fn charge(&mut self, used_ns: u64, now_ns: u64) {
        self.ran_ns += used_ns;
        let weighted = u128::from(used_ns) * u128::from(DEFAULT_SHARES) / u128::from(self.allotment.shares);
        self.virtual_ns = self.virtual_ns.saturating_add(weighted as u64);
        for bucket in self.cap.iter_mut().chain(&mut self.reservation) {
            bucket.fill(now_ns);
            bucket.take(used_ns);
        }
    }

    /// A vCPU that was ready has waited this long.
    pub fn waited(&mut self, ns: u64) {
        self.waited_ns += ns;
    }

    /// Until when it must rest because it is at its cap.
    pub fn rests_until(&mut self, now_ns: u64) -> Option<u64> {
        let cap = self.cap.as_mut()?;
        cap.fill(now_ns);
        self.resting = if self.resting { cap.left_ns() < RESUME_NS } else { cap.left_ns() == 0 };
        self.resting.then(|| cap.reaches(RESUME_NS))
    }

    /// Whether it has had less than its reservation.
    pub fn is_owed(&mut self, now_ns: u64) -> bool {
        self.reservation.as_mut().is_some_and(|reservation| {
            reservation.fill(now_ns);
            reservation.left_ns() > 0
        })
    }

    /// What its cap leaves for one slice, in nanoseconds, shared by its active vCPUs.
    pub fn longest_slice_ns(&self) -> Option<u64> {
        self.cap.map(|cap| (cap.left_ns() / u64::from(self.active.max(1))).max(RESUME_NS / 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn account(allotment: Allotment) -> Account {
        Account::new(allotment)
    }

    #[test]
    fn a_cap_holds_over_time_though_slices_overrun_it() {
        for percent in [1, 25, 90, 150] {
            let account = account(Allotment { cap_percent: Some(percent), ..Allotment::default() });
            let (mut now_ns, mut used_ns) = (0, 0);
            account.books(|books| {
                books.join(0);
                while now_ns < 20 * SECOND_NS {
                    if let Some(until) = books.rests_until(now_ns) {
                        assert!(until > now_ns);
                        now_ns = until;
                        continue;
                    }
                    let slice = books.longest_slice_ns().unwrap() + 100_000; // control comes back a little late
                    now_ns += if percent > 100 { slice / 2 } else { slice }; // two vCPUs use it twice as fast
                    used_ns += slice;
                    books.charge(slice, now_ns);
                }
            });
            let wanted = 20 * SECOND_NS / 100 * u64::from(percent);
            assert!(used_ns.abs_diff(wanted) <= 2 * BURST_NS, "{percent} %: {used_ns} of {wanted}");
        }
    }

    #[test]
    fn shares_weigh_what_is_used() {
        let favoured = account(Allotment { shares: 3, ..Allotment::default() });
        let other = account(Allotment { shares: 1, ..Allotment::default() });
        favoured.books(|books| books.charge(3000, 0));
        other.books(|books| books.charge(1000, 0));
        assert_eq!(favoured.books(|books| books.virtual_ns()), other.books(|books| books.virtual_ns()));
    }

    #[test]
    fn sleeping_earns_no_credit_and_being_active_loses_none() {
        let account = account(Allotment::default());
        account.books(|books| {
            books.join(500);
            assert_eq!(books.virtual_ns(), 500);
            books.join(900);
            assert_eq!(books.virtual_ns(), 500, "another of its vCPUs was active");
        });
    }

    #[test]
    fn a_reservation_is_owed_until_it_is_had() {
        let account = account(Allotment { reservation_percent: 50, ..Allotment::default() });
        account.books(|books| {
            assert!(books.is_owed(0));
            books.charge(BURST_NS + 1_000_000, 0);
            assert!(!books.is_owed(0));
            assert!(!books.is_owed(2_000_000));
            assert!(books.is_owed(2_000_010));
        });
    }
}
