//! The thread that keeps a machine's deadlines: it sleeps until the earliest and calls the device.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use hardware::{Alarms, Clock, Device, Shared};
use parking_lot::{Condvar, Mutex};

use hardware::histogram::Histogram as Lateness;

use super::edges::{Edge, Edges};
use crate::debugger::Lookout;
use crate::scheduler::Scheduler;
use crate::trace::{Trace, What};

/// Longest sleep; a clock whose rate was changed is noticed at least this often.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// Wakes the timekeeper when a deadline moved forward or time started.
#[derive(Default)]
pub struct Bell {
    state: Mutex<State>,
    condition: Condvar,
}

#[derive(Default)]
struct State {
    rung: bool,
    closed: bool,
}

impl Bell {
    /// Wakes it.
    pub fn ring(&self) {
        self.state.lock().rung = true;
        self.condition.notify_one();
    }

    /// Ends the timekeeper.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.condition.notify_one();
    }

    /// Waits until it is rung; says whether to go on.
    fn wait(&self, longest: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.rung && !state.closed {
            self.condition.wait_for(&mut state, longest);
        }
        state.rung = false;
        !state.closed
    }
}

/// Who is told of every deadline that was kept.
#[derive(Clone)]
pub struct Listeners {
    /// Histograms, in the order of the devices.
    pub lateness: Arc<Vec<Lateness>>,
    /// The latest, for the timer scope.
    pub edges: Arc<Edges>,
    /// The trace.
    pub trace: Arc<Trace>,
    /// What the machine is to stop at.
    pub lookout: Arc<Lookout>,
}

impl Listeners {
    /// The deadline of this alarm is kept now, so late.
    pub fn tell(&self, alarm: usize, guest_ns: u64, late_ns: u64) {
        self.lateness[alarm].record(late_ns);
        let host_ns = Scheduler::global().now_ns();
        self.edges.push(Edge { alarm: alarm as u8, host_ns, guest_ns, late_ns });
        self.trace.note(None, What::TimerEdge { alarm: alarm as u8, late_ns });
    }
}

/// Starts the thread. It ends when `bell` is closed, or `devices` (indexed by alarm id) are gone.
/// How late each device was called goes to `listeners`.
pub fn start(
    clock: Clock,
    alarms: Arc<Alarms>,
    bell: Arc<Bell>,
    devices: Weak<Vec<Shared<dyn Device>>>,
    listeners: Listeners,
) {
    let keep = move || {
        while let Some(devices) = devices.upgrade() {
            let now = clock.now();
            for (id, deadline) in alarms.take_due(now) {
                listeners.tell(id, now, now - deadline);
                devices[id].lock().advance();
                if listeners.lookout.looks_at_timers() {
                    listeners.lookout.look_at_timers(None);
                    listeners.lookout.tell();
                }
            }
            drop(devices);
            if !bell.wait(until_next(&clock, &alarms)) {
                return;
            }
        }
    };
    thread::Builder::new().name("timekeeper".into()).spawn(keep).expect("the host has room for a thread");
}

/// Host time until the earliest deadline.
fn until_next(clock: &Clock, alarms: &Alarms) -> Duration {
    let Some(deadline) = alarms.next().filter(|_| clock.is_running()) else { return LONGEST_SLEEP };
    let guest_ns = deadline.saturating_sub(clock.now());
    Duration::from_nanos((guest_ns as f64 / clock.rate()) as u64).min(LONGEST_SLEEP)
}
