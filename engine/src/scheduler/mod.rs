//! The scheduler: a fixed pool of host threads that runs the vCPUs of all machines, weighted fair by
//! virtual time. A slice ends by halt, by kick, or because its time is up, which is how the monitor
//! always gets the hardware back: a vCPU of ours looks at the time itself ([`control_point`]), so that it is over in
//! time though the host has no CPU free for the quantum timer, which ends all others. Shares, cap and reservation
//! belong to a machine ([`Account`]) and can change while it runs.

mod account;
mod allotment;
mod entity;
mod quantum;
mod rest;
mod slices;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

pub use account::Account;
pub use allotment::{Allotment, AllotmentError, DEFAULT_SHARES, MOST_SHARES};
pub use entity::{Entity, Next, Run};
use entity::{Place, Status};
pub use rest::{control_point, rest_current};
use slices::SliceLog;
pub use slices::{Slice, SliceEnd};

/// How long a vCPU may run while others wait for a worker, at first.
pub const QUANTUM: Duration = Duration::from_millis(5);

/// Shortest and longest quantum that can be set.
pub const QUANTUM_LIMITS: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(100));

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
    epoch: Instant,
    workers: usize,
}

/// In which order waiting entities get a worker: by weighted time used, then by arrival. Those whose machines
/// are owed their reservation come before all others.
type Due = (u64, u64);

struct State {
    /// Waiting for a worker.
    ready: BTreeMap<Due, Arc<Entity>>,
    /// Resting until (time, arrival) because their machine is at its cap.
    resting: BTreeMap<(u64, u64), Arc<Entity>>,
    arrivals: u64,
    /// On a worker now.
    running: Vec<RunningSlice>,
    /// Virtual time that all active machines have reached: those that were asleep start here.
    reached: u64,
    /// Workers that wait for something to do.
    idle: usize,
    /// When the quantum timer looks next.
    timer_ns: Option<u64>,
    quantum: Duration,
    log: SliceLog,
}

struct RunningSlice {
    entity: Arc<Entity>,
    begun_ns: u64,
    /// The quantum timer counts from here.
    timed_from_ns: u64,
    granted_ns: u64,
}

impl Scheduler {
    /// The pool of this process, with as many workers as the host grants it CPUs.
    pub fn global() -> &'static Arc<Scheduler> {
        Scheduler::global_with(thread::available_parallelism().map_or(1, |n| n.get()))
    }

    /// The pool of this process; it is started with `workers` threads, unless it runs already.
    pub fn global_with(workers: usize) -> &'static Arc<Scheduler> {
        static POOL: OnceLock<Arc<Scheduler>> = OnceLock::new();
        POOL.get_or_init(|| Scheduler::start(workers.max(1)))
    }

    /// A pool of its own with `workers` threads. They live as long as the process.
    pub fn start(workers: usize) -> Arc<Scheduler> {
        let scheduler = Arc::new(Scheduler {
            state: Mutex::new(State {
                ready: BTreeMap::new(),
                resting: BTreeMap::new(),
                arrivals: 0,
                running: Vec::new(),
                reached: 0,
                idle: 0,
                timer_ns: None,
                quantum: QUANTUM,
                log: SliceLog::default(),
            }),
            work: Condvar::new(),
            stopped: Condvar::new(),
            sooner: Condvar::new(),
            epoch: Instant::now(),
            workers,
        });
        for number in 0..workers {
            let pool = scheduler.clone();
            spawn(format!("worker {number}"), move || pool.work(None));
        }
        let pool = scheduler.clone();
        spawn("quantum".to_owned(), move || quantum::keep(&pool));
        scheduler
    }

    /// Host CPUs the pool was granted: its number of workers.
    pub fn workers(&self) -> usize {
        self.workers
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

    /// Gives a machine another allotment, in force at once: slices that run under the old one are ended.
    pub fn allot(&self, account: &Arc<Account>, allotment: Allotment) {
        let mut state = self.state.lock();
        let now_ns = self.now_ns();
        account.books(|books| books.allot(allotment, now_ns));
        for slice in state.running.iter().filter(|slice| Arc::ptr_eq(&slice.entity.account, account)) {
            slice.entity.run.kick();
        }
        for entity in state.take_resting(|entity| Arc::ptr_eq(&entity.account, account)) {
            state.end_rest(&entity, now_ns);
            self.tell_workers(&state, &entity);
        }
        state.time_slices();
        self.sooner.notify_one();
    }

    /// Sets how long a vCPU may run while others wait, within [`QUANTUM_LIMITS`].
    pub fn set_quantum(&self, quantum: Duration) {
        let mut state = self.state.lock();
        state.quantum = quantum.clamp(QUANTUM_LIMITS.0, QUANTUM_LIMITS.1);
        state.time_slices();
        self.sooner.notify_one();
    }

    /// How long a vCPU may run while others wait.
    pub fn quantum(&self) -> Duration {
        self.state.lock().quantum
    }

    /// The slices from number `from` on, as far as they are kept, and the number to ask from next.
    pub fn slices_since(&self, from: u64) -> (Vec<Slice>, u64) {
        self.state.lock().log.since(from)
    }

    /// Host nanoseconds since it was started: the time axis of [`Slice`].
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn instant(&self, ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(ns)
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
        let reached = state.reached;
        entity.account.books(|books| books.join(reached));
        state.queue(entity, self.now_ns());
        self.tell_workers(state, entity);
    }

    /// Has the quantum timer look at `at_ns`, and when a rest ends.
    fn time(&self, state: &State, at_ns: u64) {
        let first = state.first_rest_end().map_or(at_ns, |end| end.min(at_ns));
        if state.timer_ns.is_none_or(|timer_ns| timer_ns > first) {
            self.sooner.notify_one();
        }
    }

    /// Has somebody look at an entity that was queued.
    fn tell_workers(&self, state: &State, entity: &Arc<Entity>) {
        if entity.has_lane() {
            entity.work.notify_one();
        } else if state.idle > 0 {
            self.work.notify_one();
        } else {
            // It waits for a worker: slices are shorter from now on.
            state.time_slices();
            self.sooner.notify_one();
        }
    }

    /// A worker: runs whichever entity is due, or only `lane`.
    fn work(&self, lane: Option<&Arc<Entity>>) {
        while let Some(entity) = self.next(lane) {
            let begun = thread_cpu_time();
            let (next, rest_until) = rest::while_running(&entity, self.epoch, || entity.run.run_slice());
            self.finish(&entity, thread_cpu_time().saturating_sub(begun), next, rest_until);
        }
    }

    fn next(&self, lane: Option<&Arc<Entity>>) -> Option<Arc<Entity>> {
        let mut state = self.state.lock();
        loop {
            if lane.is_some_and(|entity| entity.status(|status| status.retired)) {
                return None;
            }
            let now_ns = self.now_ns();
            if let Some(entity) = state.take(lane, now_ns) {
                entity.account.books(|books| books.waited(entity.waits_no_more(now_ns)));
                entity.status(|status| {
                    status.place = Place::Running;
                    status.woken = false;
                    status.cut = None;
                });
                let (granted_ns, why) = state.slice_of(&entity);
                entity.ends_at(now_ns + granted_ns, why);
                let (begun_ns, timed_from_ns) = (now_ns, now_ns);
                state.running.push(RunningSlice {
                    entity: entity.clone(),
                    begun_ns,
                    timed_from_ns,
                    granted_ns,
                });
                self.time(&state, now_ns + granted_ns);
                return Some(entity);
            }
            self.time(&state, u64::MAX);
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

    fn finish(&self, entity: &Arc<Entity>, used: Duration, next: Next, rest_until: Option<Instant>) {
        let mut state = self.state.lock();
        let now_ns = self.now_ns();
        let used_ns = used.as_nanos() as u64;
        entity.count_slice(used_ns);
        entity.account.books(|books| books.charge(used_ns, now_ns));
        let again = entity.status(|status| {
            let again = !status.held && (next != Next::Park || status.woken || rest_until.is_some());
            status.place = if again { Place::Ready } else { Place::Parked };
            again
        });
        state.log_end(entity, now_ns, used_ns, next);
        if again {
            match rest_until.map(|until| until.saturating_duration_since(self.epoch).as_nanos() as u64) {
                Some(until_ns) => {
                    state.rest(entity, until_ns);
                    self.time(&state, u64::MAX);
                }
                // Nobody need be told: this worker takes one entity now, so no more of them wait than before.
                None => state.queue(entity, now_ns),
            }
        } else {
            entity.account.books(|books| books.leave());
        }
        self.stopped.notify_all();
    }
}

impl State {
    /// Lets an entity wait for its turn, or rest if its machine is at its cap.
    fn queue(&mut self, entity: &Arc<Entity>, now_ns: u64) {
        self.arrivals += 1;
        self.queue_as_of(self.arrivals, entity, now_ns);
    }

    /// Lets an entity rest, whatever its machine may take.
    fn rest(&mut self, entity: &Arc<Entity>, until_ns: u64) {
        self.arrivals += 1;
        self.resting.insert((until_ns, self.arrivals), entity.clone());
    }

    /// The same for one that has waited since `arrival`. Of equals, who came first is first: a vCPU that yielded
    /// lets its siblings go before it.
    fn queue_as_of(&mut self, arrival: u64, entity: &Arc<Entity>, now_ns: u64) {
        entity.account.books(|books| match books.rests_until(now_ns) {
            Some(until) => {
                self.resting.insert((until, arrival), entity.clone());
            }
            None => {
                entity.waits_since(now_ns);
                self.ready.insert((books.virtual_ns(), arrival), entity.clone());
            }
        });
    }

    /// Takes the entity that is due out of the queue.
    fn take(&mut self, lane: Option<&Arc<Entity>>, now_ns: u64) -> Option<Arc<Entity>> {
        loop {
            let fits =
                |entity: &Arc<Entity>| lane.map_or(!entity.has_lane(), |lane| Arc::ptr_eq(lane, entity));
            let mut fitting = self.ready.iter().filter(|(_, entity)| fits(entity));
            let first = fitting.clone().next()?;
            let owed = fitting.find(|(_, entity)| entity.account.books(|books| books.is_owed(now_ns)));
            let is_fair = owed.is_none();
            let (key, entity) =
                owed.map_or((*first.0, first.1.clone()), |(key, entity)| (*key, entity.clone()));
            self.ready.remove(&key);
            // A sibling may have used up the cap, or virtual time, since it was queued.
            let (rests, virtual_ns) =
                entity.account.books(|books| (books.rests_until(now_ns).is_some(), books.virtual_ns()));
            if rests || (is_fair && virtual_ns > key.0 && !self.ready.is_empty()) {
                self.queue_as_of(key.1, &entity, now_ns);
                continue;
            }
            // One that is owed may be far ahead of those that wait.
            if is_fair {
                self.reached = self.reached.max(virtual_ns);
            }
            return Some(entity);
        }
    }

    /// Queues those whose rest is over; says who they are.
    fn end_rests(&mut self, now_ns: u64) -> Vec<Arc<Entity>> {
        let later = self.resting.split_off(&(now_ns + 1, 0));
        let over = std::mem::replace(&mut self.resting, later);
        over.into_values().inspect(|entity| self.end_rest(entity, now_ns)).collect()
    }

    fn end_rest(&mut self, entity: &Arc<Entity>, now_ns: u64) {
        let reached = self.reached;
        entity.account.books(|books| books.rest_ended(reached));
        self.queue(entity, now_ns);
    }

    fn first_rest_end(&self) -> Option<u64> {
        self.resting.keys().next().map(|(until, _)| *until)
    }

    fn take_resting(&mut self, which: impl Fn(&Arc<Entity>) -> bool) -> Vec<Arc<Entity>> {
        let (out, kept) = std::mem::take(&mut self.resting).into_iter().partition(|(_, e)| which(e));
        self.resting = kept;
        let out: BTreeMap<_, _> = out;
        out.into_values().collect()
    }

    fn forget(&mut self, entity: &Arc<Entity>) {
        self.ready.retain(|_, ready| !Arc::ptr_eq(ready, entity));
        self.resting.retain(|_, resting| !Arc::ptr_eq(resting, entity));
        let waited = entity.status(|status: &mut Status| {
            let waited = status.place == Place::Ready;
            status.place = Place::Parked;
            waited
        });
        entity.waits_no_more(0);
        if waited {
            entity.account.books(|books| books.leave());
        }
    }

    /// How long `entity` may run now before others, or the monitor, get their turn, and what then ends it.
    fn slice_of(&self, entity: &Entity) -> (u64, SliceEnd) {
        let contended = !entity.has_lane() && self.ready.values().any(|waiting| !waiting.has_lane());
        let turn_ns = if contended { self.quantum } else { UNCONTENDED }.as_nanos() as u64;
        match entity.account.books(|books| books.longest_slice_ns()) {
            Some(cap_ns) if cap_ns < turn_ns => (cap_ns, SliceEnd::Cap),
            _ => (turn_ns, SliceEnd::Quantum),
        }
    }

    /// Who waits, or how long they may be kept waiting, has changed: when the slices that run now are over.
    fn time_slices(&self) {
        for slice in &self.running {
            let (granted_ns, why) = self.slice_of(&slice.entity);
            slice.entity.ends_at(slice.timed_from_ns + granted_ns, why);
        }
    }

    fn log_end(&mut self, entity: &Arc<Entity>, now_ns: u64, used_ns: u64, next: Next) {
        let Some(at) = self.running.iter().position(|slice| Arc::ptr_eq(&slice.entity, entity)) else {
            return;
        };
        let slice = self.running.swap_remove(at);
        let end = match (next, entity.status(|status| status.cut)) {
            (Next::Park, _) => SliceEnd::Parked,
            (Next::Yield, _) => SliceEnd::Yielded,
            (Next::Ready, Some(cut)) => cut,
            (Next::Ready, None) => SliceEnd::Kicked,
        };
        self.log.push(Slice {
            entity: entity.id(),
            begun_ns: slice.begun_ns,
            lasted_ns: now_ns - slice.begun_ns,
            used_ns,
            granted_ns: slice.granted_ns,
            end,
        });
    }
}

/// CPU time of this thread so far: what a slice costs the host, whoever else the host runs meanwhile.
fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name).spawn(body).expect("the host has room for a thread");
}

#[cfg(test)]
mod tests;
