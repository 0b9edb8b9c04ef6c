//! The scheduler: a fixed pool of host threads that runs the vCPUs of all machines, weighted fair by
//! virtual time. A slice ends by halt, by kick, or by the quantum timer, which is how the monitor
//! always gets the hardware back.

mod entity;
mod quantum;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

pub use entity::{Entity, Next, Run};
use entity::{Place, Status};

/// How long a vCPU may run while others wait for a worker.
pub const QUANTUM: Duration = Duration::from_millis(5);

/// Longest slice while nobody waits, and on a lane: samples are taken at least this often.
const UNCONTENDED: Duration = Duration::from_millis(20);

/// The pool. One serves the whole process.
pub struct Scheduler {
    state: Mutex<State>,
    /// Signalled, for one worker, when an entity becomes ready that has no lane.
    work: Condvar,
    /// Signalled when an entity stops running.
    stopped: Condvar,
    /// Signalled when the quantum timer must look before it meant to.
    sooner: Condvar,
}

#[derive(Default)]
struct State {
    /// Waiting for a worker, by virtual time and arrival.
    ready: BTreeMap<(u64, u64), Arc<Entity>>,
    arrivals: u64,
    /// On a worker now.
    running: Vec<(Arc<Entity>, Instant)>,
    /// Virtual time of the entity that ran last: newcomers start here, not at zero.
    now: u64,
    /// Workers that wait for something to do.
    idle: usize,
    /// When the quantum timer looks next.
    timer: Option<Instant>,
}

impl Scheduler {
    /// The pool of this process, with as many workers as the host grants it CPUs.
    pub fn global() -> &'static Arc<Scheduler> {
        static POOL: OnceLock<Arc<Scheduler>> = OnceLock::new();
        POOL.get_or_init(|| Scheduler::start(thread::available_parallelism().map_or(1, |n| n.get())))
    }

    /// A pool of its own with `workers` threads. They live as long as the process.
    pub fn start(workers: usize) -> Arc<Scheduler> {
        let scheduler = Arc::new(Scheduler {
            state: Mutex::default(),
            work: Condvar::new(),
            stopped: Condvar::new(),
            sooner: Condvar::new(),
        });
        for number in 0..workers {
            let pool = scheduler.clone();
            spawn(format!("worker {number}"), move || pool.work(None));
        }
        let pool = scheduler.clone();
        spawn("quantum".to_owned(), move || quantum::keep(&pool));
        scheduler
    }

    /// Gives `entity` a thread of its own: for vCPUs that block inside the host's kernel.
    pub fn add_lane(self: &Arc<Self>, entity: &Arc<Entity>) {
        entity.on_lane();
        let (pool, entity) = (self.clone(), entity.clone());
        spawn("lane".to_owned(), move || pool.work(Some(&entity)));
    }

    /// Something happened that `entity` should look at: it gets a worker soon, unless it is held.
    pub fn wake(&self, entity: &Arc<Entity>) {
        self.ready(&mut self.state.lock(), entity);
    }

    /// Takes `entity` off its worker and keeps it off until [`Scheduler::release`]. Returns when it no
    /// longer runs.
    pub fn hold(&self, entity: &Arc<Entity>) {
        let mut state = self.state.lock();
        entity.status(|status| status.held = true);
        while entity.status(|status| status.place == Place::Running) {
            entity.run.kick();
            // The kick is repeated: a vCPU that was just about to enter the guest may miss one.
            self.stopped.wait_for(&mut state, Duration::from_millis(10));
        }
        state.forget(entity);
    }

    /// Lets a held entity run again.
    pub fn release(&self, entity: &Arc<Entity>) {
        let mut state = self.state.lock();
        entity.status(|status| status.held = false);
        self.ready(&mut state, entity);
    }

    /// Holds `entity` for good and ends its lane, if it has one.
    pub fn retire(&self, entity: &Arc<Entity>) {
        self.hold(entity);
        // Under the lock: its lane looks at the mark under it before it waits.
        let _state = self.state.lock();
        entity.status(|status| status.retired = true);
        entity.work.notify_one();
    }

    fn ready(&self, state: &mut State, entity: &Arc<Entity>) {
        let newly = entity.status(|status| match status.place {
            _ if status.held => false,
            Place::Parked => {
                status.place = Place::Ready;
                true
            }
            Place::Ready => false,
            Place::Running => {
                status.woken = true;
                false
            }
        });
        if !newly {
            return;
        }
        state.queue(entity);
        if entity.has_lane() {
            entity.work.notify_one();
        } else if state.idle > 0 {
            self.work.notify_one();
        } else {
            // It waits for a worker: slices are shorter from now on.
            self.sooner.notify_one();
        }
    }

    /// A worker: runs whichever entity is due, or only `lane`.
    fn work(&self, lane: Option<&Arc<Entity>>) {
        loop {
            let Some(entity) = self.next(lane) else { return };
            let begun = Instant::now();
            let next = entity.run.run_slice();
            self.finish(&entity, begun.elapsed(), next);
        }
    }

    fn next(&self, lane: Option<&Arc<Entity>>) -> Option<Arc<Entity>> {
        let mut state = self.state.lock();
        loop {
            if lane.is_some_and(|entity| entity.status(|status| status.retired)) {
                return None;
            }
            if let Some(entity) = state.take(lane) {
                entity.status(|status| {
                    status.place = Place::Running;
                    status.woken = false;
                });
                let now = Instant::now();
                state.running.push((entity.clone(), now));
                if state.timer.is_none_or(|timer| timer > now + state.slice_of(&entity)) {
                    self.sooner.notify_one();
                }
                return Some(entity);
            }
            match lane {
                Some(entity) => entity.work.wait(&mut state),
                None => {
                    state.idle += 1;
                    self.work.wait(&mut state);
                    state.idle -= 1;
                }
            }
        }
    }

    fn finish(&self, entity: &Arc<Entity>, ran: Duration, next: Next) {
        let mut state = self.state.lock();
        state.running.retain(|(running, _)| !Arc::ptr_eq(running, entity));
        state.now = state.now.max(entity.charge(ran));
        let again = entity.status(|status| {
            let again = !status.held && (next != Next::Park || status.woken);
            status.place = if again { Place::Ready } else { Place::Parked };
            again
        });
        if next == Next::Yield
            && let Some(((last, _), _)) = state.ready.last_key_value()
        {
            // It gives away what it had not used: a spinner with little behind it would be next again.
            entity.catch_up(*last);
        }
        if again {
            // Nobody need be told: this worker takes one entity now, so no more of them wait than before.
            state.queue(entity);
        }
        self.stopped.notify_all();
    }
}

impl State {
    fn queue(&mut self, entity: &Arc<Entity>) {
        self.arrivals += 1;
        // Sleeping earns no credit beyond one quantum, or a long sleeper would starve the others.
        let credit = self.now.saturating_sub(QUANTUM.as_nanos() as u64);
        let due = entity.catch_up(credit);
        self.ready.insert((due, self.arrivals), entity.clone());
    }

    fn take(&mut self, lane: Option<&Arc<Entity>>) -> Option<Arc<Entity>> {
        let key = *self.ready.iter().find_map(|(key, entity)| match lane {
            Some(lane) => Arc::ptr_eq(lane, entity).then_some(key),
            None => (!entity.has_lane()).then_some(key),
        })?;
        self.ready.remove(&key)
    }

    fn forget(&mut self, entity: &Arc<Entity>) {
        self.ready.retain(|_, ready| !Arc::ptr_eq(ready, entity));
        entity.status(|status: &mut Status| status.place = Place::Parked);
    }

    /// How long `entity` may run now before others, or the monitor, get their turn.
    fn slice_of(&self, entity: &Entity) -> Duration {
        let contended = !entity.has_lane() && self.ready.values().any(|waiting| !waiting.has_lane());
        if contended { QUANTUM } else { UNCONTENDED }
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name).spawn(body).expect("the host has room for a thread");
}

#[cfg(test)]
mod tests;
