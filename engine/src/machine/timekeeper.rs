//! The thread that keeps a machine's deadlines: it sleeps until the earliest and calls the device.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use hardware::{Alarms, Clock, Device, Shared};
use parking_lot::{Condvar, Mutex};

use super::lateness::Lateness;

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

/// Starts the thread. It ends when `bell` is closed, or `devices` (indexed by alarm id) are gone.
/// How late each device was called goes to `lateness`, of the same order.
pub fn start(
    clock: Clock,
    alarms: Arc<Alarms>,
    bell: Arc<Bell>,
    devices: Weak<Vec<Shared<dyn Device>>>,
    lateness: Arc<Vec<Lateness>>,
) {
    let keep = move || {
        while let Some(devices) = devices.upgrade() {
            let now = clock.now();
            for (id, deadline) in alarms.take_due(now) {
                lateness[id].record(now - deadline);
                devices[id].lock().advance();
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
