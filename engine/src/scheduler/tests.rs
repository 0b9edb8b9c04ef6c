//! Tests of the scheduler with entities that are plain closures.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

/// Spins until kicked, counting.
#[derive(Default)]
struct Spinner {
    kicked: AtomicBool,
    turns: AtomicU64,
}

impl Run for Spinner {
    fn run_slice(&self) -> Next {
        while !self.kicked.swap(false, Ordering::Relaxed) {
            self.turns.fetch_add(1, Ordering::Relaxed);
            std::hint::spin_loop();
        }
        Next::Ready
    }

    fn kick(&self) {
        self.kicked.store(true, Ordering::Relaxed);
    }
}

/// Runs once each time it is woken.
#[derive(Default)]
struct Sleeper(AtomicU64);

impl Run for Sleeper {
    fn run_slice(&self) -> Next {
        self.0.fetch_add(1, Ordering::Relaxed);
        Next::Park
    }

    fn kick(&self) {}
}

fn account() -> Arc<Account> {
    Arc::new(Account::new(Allotment::default()))
}

/// A spinning machine on `pool`.
fn spinning(pool: &Scheduler, allotment: Allotment) -> (Arc<Entity>, Arc<Account>) {
    let account = Arc::new(Account::new(allotment));
    let entity = Entity::new(Arc::new(Spinner::default()), &account);
    pool.release(&entity);
    (entity, account)
}

fn until(what: impl Fn() -> bool) {
    while !what() {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_spinner_is_made_to_share_its_only_worker() {
    let pool = Scheduler::start(1);
    let spinners: [Arc<Spinner>; 2] = Default::default();
    let entities = spinners.clone().map(|spinner| Entity::new(spinner, &account()));
    entities.iter().for_each(|entity| pool.release(entity));
    until(|| entities.iter().all(|entity| entity.slices().0 >= 3));
    entities.iter().for_each(|entity| pool.retire(entity));
    assert!(entities.iter().all(|entity| entity.slices().1 > 0), "the quantum timer ended slices");
}

#[test]
fn a_held_entity_stands_still_and_goes_on_when_released() {
    let pool = Scheduler::start(1);
    let spinner = Arc::new(Spinner::default());
    let entity = Entity::new(spinner.clone(), &account());
    pool.release(&entity);
    until(|| spinner.turns.load(Ordering::Relaxed) > 0);
    pool.hold(&entity);
    let held_at = spinner.turns.load(Ordering::Relaxed);
    pool.wake(&entity);
    thread::sleep(Duration::from_millis(20));
    assert_eq!(spinner.turns.load(Ordering::Relaxed), held_at);
    pool.release(&entity);
    until(|| spinner.turns.load(Ordering::Relaxed) > held_at);
    pool.retire(&entity);
}

#[test]
fn no_wake_is_lost() {
    let pool = Scheduler::start(2);
    let sleeper = Arc::new(Sleeper::default());
    let entity = Entity::new(sleeper.clone(), &account());
    pool.release(&entity);
    for _ in 0..1000 {
        let before = sleeper.0.load(Ordering::Relaxed);
        pool.wake(&entity);
        until(|| sleeper.0.load(Ordering::Relaxed) > before);
    }
    pool.retire(&entity);
}

#[test]
fn a_lane_runs_its_entity_though_all_workers_are_busy() {
    let pool = Scheduler::start(1);
    let spinner = Entity::new(Arc::new(Spinner::default()), &account());
    pool.release(&spinner);
    let sleeper = Arc::new(Sleeper::default());
    let lane = Entity::new(sleeper.clone(), &account());
    pool.add_lane(&lane);
    pool.release(&lane);
    until(|| sleeper.0.load(Ordering::Relaxed) > 0);
    pool.retire(&lane);
    pool.retire(&spinner);
}

/// Waits, spinning, for what the other one does in its second slice.
struct Waiter {
    done: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
}

struct Holder {
    done: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    seen: Arc<AtomicU64>,
    slices: AtomicU64,
}

impl Run for Waiter {
    fn run_slice(&self) -> Next {
        self.turns.fetch_add(1, Ordering::SeqCst);
        if self.done.load(Ordering::SeqCst) { Next::Park } else { Next::Yield }
    }

    fn kick(&self) {}
}

impl Run for Holder {
    fn run_slice(&self) -> Next {
        if self.slices.fetch_add(1, Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_millis(20)); // it has had far more than the other
            return Next::Ready;
        }
        self.seen.store(self.turns.load(Ordering::SeqCst), Ordering::SeqCst);
        self.done.store(true, Ordering::SeqCst);
        Next::Park
    }

    fn kick(&self) {}
}

#[test]
fn one_that_spins_does_not_keep_whom_it_waits_for_from_running() {
    let pool = Scheduler::start(1);
    let (done, turns, seen) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::default());
    let machine = account();
    let waiter = Entity::new(Arc::new(Waiter { done: done.clone(), turns: turns.clone() }), &machine);
    let holder = Holder { done: done.clone(), turns, seen: Arc::clone(&seen), slices: AtomicU64::new(0) };
    let holder = Entity::new(Arc::new(holder), &machine);
    pool.release(&holder);
    pool.release(&waiter);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "the holder never ran again");
        thread::sleep(Duration::from_millis(1));
    }
    assert!(seen.load(Ordering::SeqCst) <= 3, "the spinner had {seen:?} turns before the holder's second");
}

#[test]
fn shares_divide_the_only_worker_and_can_be_turned_round() {
    const ENOUGH: u64 = 600_000_000;
    let pool = Scheduler::start(1);
    let (a, books_a) = spinning(&pool, Allotment { shares: 3, ..Allotment::default() });
    let (b, books_b) = spinning(&pool, Allotment { shares: 1, ..Allotment::default() });
    let share_of_a = || {
        let (before_a, before_b) = (books_a.ran_ns(), books_b.ran_ns());
        until(|| books_a.ran_ns() + books_b.ran_ns() >= before_a + before_b + ENOUGH);
        let (a, b) = (books_a.ran_ns() - before_a, books_b.ran_ns() - before_b);
        a as f64 / (a + b) as f64
    };
    let first = share_of_a();
    assert!((first - 0.75).abs() < 0.05, "{first}");
    pool.allot(&books_a, Allotment { shares: 1, ..Allotment::default() });
    pool.allot(&books_b, Allotment { shares: 3, ..Allotment::default() });
    let second = share_of_a();
    assert!((second - 0.25).abs() < 0.05, "{second}");
    [a, b].iter().for_each(|entity| pool.retire(entity));
}

#[test]
fn a_cap_holds_on_an_idle_host_and_lifting_it_lets_go_at_once() {
    let pool = Scheduler::start(1);
    let (entity, books) = spinning(&pool, Allotment { cap_percent: Some(25), ..Allotment::default() });
    let begun = Instant::now();
    until(|| books.ran_ns() >= 100_000_000);
    let elapsed_ns = begun.elapsed().as_nanos() as u64;
    // Five milliseconds may have been saved up; a slow host only makes it less.
    assert!(100_000_000 <= elapsed_ns / 4 + 15_000_000, "100 ms of CPU time within {elapsed_ns} ns");
    let (slices, _) = pool.slices_since(0);
    assert!(slices.iter().any(|slice| slice.end == SliceEnd::Cap), "the timer said why");
    pool.allot(&books, Allotment::default());
    let (_, from) = pool.slices_since(0);
    until(|| pool.slices_since(from).1 > from + 3);
    assert!(pool.slices_since(from).0.iter().skip(1).all(|slice| slice.end != SliceEnd::Cap));
    pool.retire(&entity);
}

#[test]
fn what_a_cap_denied_is_not_made_up_for() {
    let pool = Scheduler::start(1);
    let (a, books_a) = spinning(&pool, Allotment { cap_percent: Some(5), ..Allotment::default() });
    let (b, books_b) = spinning(&pool, Allotment::default());
    until(|| books_b.ran_ns() >= 600_000_000);
    pool.allot(&books_a, Allotment::default());
    let (before_a, before_b) = (books_a.ran_ns(), books_b.ran_ns());
    until(|| books_a.ran_ns() + books_b.ran_ns() >= before_a + before_b + 400_000_000);
    let part = (books_a.ran_ns() - before_a) as f64 / 400_000_000.0;
    assert!((part - 0.5).abs() < 0.1, "{part}");
    [a, b].iter().for_each(|entity| pool.retire(entity));
}

#[test]
fn a_reservation_comes_before_shares() {
    let pool = Scheduler::start(1);
    let crowd: Vec<_> =
        (0..3).map(|_| spinning(&pool, Allotment { shares: 1000, ..Allotment::default() })).collect();
    let reserved = Allotment { shares: 1, reservation_percent: 50, ..Allotment::default() };
    let (entity, books) = spinning(&pool, reserved);
    let used = || crowd.iter().map(|(_, books)| books.ran_ns()).sum::<u64>();
    until(|| books.ran_ns() + used() >= 500_000_000);
    let part = books.ran_ns() as f64 / (books.ran_ns() + used()) as f64;
    // By shares alone it would have 0.0003; on a busy host its half is one of host time, which is more.
    assert!(part > 0.4, "{part}");
    crowd.iter().for_each(|(entity, _)| pool.retire(entity));
    pool.retire(&entity);
}
