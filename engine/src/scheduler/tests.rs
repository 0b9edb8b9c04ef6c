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

fn until(what: impl Fn() -> bool) {
    while !what() {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_spinner_is_made_to_share_its_only_worker() {
    let pool = Scheduler::start(1);
    let spinners: [Arc<Spinner>; 2] = Default::default();
    let entities = spinners.clone().map(|spinner| Entity::new(spinner));
    entities.iter().for_each(|entity| pool.release(entity));
    until(|| entities.iter().all(|entity| entity.slices().0 >= 3));
    entities.iter().for_each(|entity| pool.retire(entity));
    assert!(entities.iter().all(|entity| entity.slices().1 > 0), "the quantum timer ended slices");
}

#[test]
fn a_held_entity_stands_still_and_goes_on_when_released() {
    let pool = Scheduler::start(1);
    let spinner = Arc::new(Spinner::default());
    let entity = Entity::new(spinner.clone());
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
    let entity = Entity::new(sleeper.clone());
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
    let spinner = Entity::new(Arc::new(Spinner::default()));
    pool.release(&spinner);
    let sleeper = Arc::new(Sleeper::default());
    let lane = Entity::new(sleeper.clone());
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
    let waiter = Entity::new(Arc::new(Waiter { done: done.clone(), turns: turns.clone() }));
    let holder = Holder { done: done.clone(), turns, seen: Arc::clone(&seen), slices: AtomicU64::new(0) };
    let holder = Entity::new(Arc::new(holder));
    pool.release(&holder);
    pool.release(&waiter);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "the holder never ran again");
        thread::sleep(Duration::from_millis(1));
    }
    assert!(seen.load(Ordering::SeqCst) <= 3, "the spinner had {seen:?} turns before the holder's second");
}
