//! Deterministic machines: all vCPUs run in turn, in one thread, and everything that happens, happens after an exact
//! number of steps. Alarms ring and inputs come at their nanosecond; when all vCPUs are halted, time jumps to what
//! comes next. Nothing of the host's clock, threads or caches is visible to the guest, so the same input gives the
//! same run to the last register, on as fast a host as there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hardware::{Alarms, Device, Shared};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::input::{Inbox, Input, Sockets, Stamped};
use super::timekeeper::Listeners;
use super::timeline::{STEP_NS, Timeline};
use super::virtual_cpu::VirtualCpu;
use crate::debugger::Lookout;
use crate::scheduler::{Next, Run};

/// Steps a vCPU makes before the next one has its turn.
pub const TURN: u64 = 50_000;

/// Every so many steps all vCPUs forget their translations. A guest that changed page tables and has not said so
/// yet may see the old ones for a while; this says for how long, whatever else the host does. So a machine that was
/// restored from a checkpoint taken at a multiple of it goes on exactly as the one it was taken from.
pub const EPOCH: u64 = 1 << 23;

/// Called on the machine's own thread again and again, with the guest time.
pub type Pulse = Box<dyn FnMut(u64) + Send>;

/// Guest time between two pulses: scripts look at the machine this often.
pub const PULSE_NS: u64 = 1_000_000;

/// Where a deterministic machine is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    /// Steps all its vCPUs have made together.
    pub steps: u64,
    /// Time passed over because all of them were halted.
    idle_ns: u64,
    /// Whose turn it is, and the steps left of it.
    cpu: usize,
    left: u64,
    /// vCPUs in a row that had nothing to do.
    idle: usize,
    /// When translations were forgotten last.
    forgot_at: u64,
    pulse_due_ns: u64,
    pub inbox: Inbox,
}

impl Position {
    /// The vCPU whose turn it is.
    pub fn cpu(&self) -> usize {
        self.cpu
    }

    /// Guest time there.
    pub fn now(&self) -> u64 {
        self.steps * STEP_NS + self.idle_ns
    }
}

/// The vCPUs of one machine, as one thing to schedule.
pub struct Turns {
    cpus: Arc<Vec<Arc<VirtualCpu>>>,
    timed: Arc<Vec<Shared<dyn Device>>>,
    alarms: Arc<Alarms>,
    timeline: Arc<Timeline>,
    sockets: Sockets,
    position: Mutex<Position>,
    incoming: Mutex<Vec<Input>>,
    pulse: Mutex<Option<Pulse>>,
    /// Which vCPU runs, for those who want its attention.
    running: AtomicUsize,
    kicked: AtomicBool,
    /// Not one step more until the supervisor has acted.
    stalled: AtomicBool,
    stop_at: AtomicU64,
    /// [`EPOCH`], or fewer steps.
    epoch: AtomicU64,
    /// Called when the step to stop at is reached.
    arrived: Box<dyn Fn() + Send + Sync>,
    lookout: Arc<Lookout>,
    listeners: Listeners,
}

/// What a machine's turns are made of.
pub struct Parts {
    pub cpus: Arc<Vec<Arc<VirtualCpu>>>,
    pub timed: Arc<Vec<Shared<dyn Device>>>,
    pub alarms: Arc<Alarms>,
    pub timeline: Arc<Timeline>,
    pub sockets: Sockets,
    pub planned: Vec<Stamped>,
    pub pulse: Option<Pulse>,
    pub arrived: Box<dyn Fn() + Send + Sync>,
    pub listeners: Listeners,
}

impl Turns {
    /// At step 0.
    pub fn new(parts: Parts) -> Turns {
        let Parts { cpus, timed, alarms, timeline, sockets, planned, pulse, arrived, listeners } = parts;
        let position = Position { left: TURN, inbox: Inbox::with(planned), ..Position::default() };
        Turns {
            cpus,
            timed,
            alarms,
            timeline,
            sockets,
            position: Mutex::new(position),
            incoming: Mutex::default(),
            pulse: Mutex::new(pulse),
            running: AtomicUsize::new(0),
            kicked: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            stop_at: AtomicU64::new(u64::MAX),
            epoch: AtomicU64::new(EPOCH),
            arrived,
            lookout: listeners.lookout.clone(),
            listeners,
        }
    }

    /// Something comes from outside: now, as far as the guest is concerned.
    pub fn receive(&self, input: Input) {
        self.incoming.lock().push(input);
        self.cut();
    }

    /// The vCPU that runs comes back to look at deadlines and requests.
    pub fn cut(&self) {
        self.cpus[self.running.load(Ordering::Relaxed)].kick();
    }

    /// Not one step more until [`Turns::go_on`].
    pub fn stall(&self) {
        self.stalled.store(true, Ordering::Release);
        self.cut();
    }

    /// The supervisor has acted.
    pub fn go_on(&self) {
        self.stalled.store(false, Ordering::Release);
    }

    /// From now on the machine stops after exactly this many steps, if it has not made them yet.
    pub fn stop_at(&self, steps: Option<u64>) {
        self.stop_at.store(steps.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Translations are forgotten every so many steps; `None`: every [`EPOCH`]. Only while held.
    pub fn set_epoch(&self, steps: Option<u64>) {
        self.epoch.store(steps.unwrap_or(EPOCH), Ordering::Relaxed);
    }

    /// Whether somebody is called again and again.
    pub fn has_pulse(&self) -> bool {
        self.pulse.lock().is_some()
    }

    /// Where it is. Waits for the end of the slice.
    pub fn position(&self) -> Position {
        self.position.lock().clone()
    }

    /// Goes elsewhere. Only while held.
    pub fn set_position(&self, position: Position) {
        let mut at = self.position.lock();
        *at = position;
        self.timeline.turn_to(at.steps, at.idle_ns, 0);
    }

    /// All translations are forgotten here, and not again before the next epoch. Only while held.
    pub fn forget_translations(&self) {
        self.cpus.iter().for_each(|cpu| cpu.forget_translations());
        let mut at = self.position.lock();
        at.forgot_at = at.steps;
    }

    /// What happens next, in guest time, besides steps.
    fn deadline(&self, at: &Position) -> Option<u64> {
        let pulse = self.pulse.lock().is_some().then_some(at.pulse_due_ns);
        [self.alarms.next(), at.inbox.deadline(), pulse].into_iter().flatten().min()
    }

    /// Lets happen what is due here.
    fn happen(&self, at: &mut Position) {
        let now = at.now();
        if let Some(pulse) = self.pulse.lock().as_mut().filter(|_| at.pulse_due_ns <= now) {
            at.pulse_due_ns = now + PULSE_NS;
            pulse(now);
        }
        for input in self.incoming.lock().drain(..) {
            at.inbox.receive(now, input);
        }
        if at.inbox.deadline().is_some_and(|due| due <= now) {
            at.inbox.deliver(now, &self.sockets);
        }
        for (id, deadline) in self.alarms.take_due(now) {
            self.listeners.tell(id, now, now - deadline);
            self.timed[id].lock().advance();
            if self.lookout.looks_at_timers() {
                self.lookout.look_at_timers(None);
            }
        }
        if at.steps.is_multiple_of(self.epoch.load(Ordering::Relaxed)) && at.forgot_at != at.steps {
            at.forgot_at = at.steps;
            self.cpus.iter().for_each(|cpu| cpu.forget_translations());
        }
    }

    /// One vCPU's turn, or the part of it up to what happens next.
    fn run_one(&self, at: &mut Position, deadline: Option<u64>) {
        let now = at.now();
        let until_deadline = deadline.map_or(u64::MAX, |due| due.saturating_sub(now).div_ceil(STEP_NS));
        let until_stop = self.stop_at.load(Ordering::Relaxed).saturating_sub(at.steps);
        let epoch = self.epoch.load(Ordering::Relaxed);
        let limit = at.left.min(until_deadline).min(until_stop).min(epoch - at.steps % epoch);
        let cpu = &self.cpus[at.cpu];
        self.running.store(at.cpu, Ordering::Relaxed);
        self.timeline.turn_to(at.steps, at.idle_ns, cpu.steps());
        let (made, next) = cpu.run_within(limit);
        at.steps += made;
        at.left -= made;
        self.timeline.reached(cpu.steps());
        self.lookout.stamp(at.steps);
        at.idle = if made == 0 && next == Next::Park { at.idle + 1 } else { 0 };
        if next == Next::Park || at.left == 0 {
            at.cpu = (at.cpu + 1) % self.cpus.len();
            at.left = TURN;
        }
    }
}

impl Run for Turns {
    fn run_slice(&self) -> Next {
        let mut at = self.position.lock();
        loop {
            if self.kicked.swap(false, Ordering::AcqRel) {
                return Next::Ready;
            }
            if self.stalled.load(Ordering::Acquire) {
                return Next::Park;
            }
            self.happen(&mut at);
            if self.lookout.is_stopping() {
                self.stalled.store(true, Ordering::Release);
                self.lookout.tell();
                return Next::Park;
            }
            if at.steps >= self.stop_at.load(Ordering::Relaxed) {
                self.stalled.store(true, Ordering::Release);
                (self.arrived)();
                return Next::Park;
            }
            let deadline = self.deadline(&at);
            match deadline {
                Some(due) if due <= at.now() => {}
                Some(due) if at.idle >= self.cpus.len() => {
                    at.idle = 0;
                    at.idle_ns += due - at.now();
                    self.timeline.turn_to(at.steps, at.idle_ns, 0);
                }
                None if at.idle >= self.cpus.len() => {
                    // Nothing will ever happen, unless from outside.
                    at.idle = 0;
                    return Next::Park;
                }
                deadline => self.run_one(&mut at, deadline),
            }
        }
    }

    fn kick(&self) {
        self.kicked.store(true, Ordering::Release);
        self.cut();
    }
}
