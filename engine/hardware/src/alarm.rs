//! Deadlines in guest time: a device asks to be called, one place keeps them all.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Nanoseconds;

/// All deadlines of one machine. The engine's clock thread sleeps until the earliest.
pub struct Alarms {
    deadlines: Mutex<Vec<Option<Nanoseconds>>>,
    /// Called when the earliest deadline moved forward, so that the sleeper looks again.
    sooner: Box<dyn Fn() + Send + Sync>,
}

impl Alarms {
    /// An empty set; `sooner` is called, with no lock held, when the earliest deadline becomes earlier.
    pub fn new(sooner: impl Fn() + Send + Sync + 'static) -> Arc<Alarms> {
        Arc::new(Alarms { deadlines: Mutex::new(Vec::new()), sooner: Box::new(sooner) })
    }

    /// A new alarm, not set. Its [`Alarm::id`] counts up from 0.
    pub fn alarm(self: &Arc<Self>) -> Alarm {
        let mut deadlines = self.deadlines.lock();
        deadlines.push(None);
        Alarm { alarms: self.clone(), id: deadlines.len() - 1 }
    }

    /// The earliest deadline, if any is set.
    pub fn next(&self) -> Option<Nanoseconds> {
        self.deadlines.lock().iter().flatten().min().copied()
    }

    /// Takes all alarms due at `now`, with their deadlines; each is unset, its device sets it anew.
    pub fn take_due(&self, now: Nanoseconds) -> Vec<(usize, Nanoseconds)> {
        let mut due = Vec::new();
        for (id, deadline) in self.deadlines.lock().iter_mut().enumerate() {
            if let Some(at) = deadline.take_if(|at| *at <= now) {
                due.push((id, at));
            }
        }
        due
    }
}

/// A device's wire to the machine's deadlines.
#[derive(Clone)]
pub struct Alarm {
    alarms: Arc<Alarms>,
    id: usize,
}

impl Alarm {
    /// An alarm nobody waits for, for chip tests.
    pub fn unconnected() -> Alarm {
        Alarms::new(|| {}).alarm()
    }

    /// Asks for [`crate::Device::advance`] at `deadline`, replacing any earlier wish; `None` asks for nothing.
    pub fn set(&self, deadline: Option<Nanoseconds>) {
        let mut deadlines = self.alarms.deadlines.lock();
        if deadlines[self.id] == deadline {
            return;
        }
        let earliest = deadlines.iter().flatten().min().copied();
        deadlines[self.id] = deadline;
        drop(deadlines);
        if deadline.is_some_and(|at| earliest.is_none_or(|earliest| at < earliest)) {
            (self.alarms.sooner)();
        }
    }

    /// Which alarm this is in its set.
    pub fn id(&self) -> usize {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn the_earliest_deadline_wakes_and_is_taken_once() {
        let woken = Arc::new(AtomicU32::new(0));
        let counter = woken.clone();
        let alarms = Alarms::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let (a, b) = (alarms.alarm(), alarms.alarm());
        a.set(Some(100));
        b.set(Some(200));
        b.set(Some(50));
        assert_eq!(woken.load(Ordering::Relaxed), 2, "100, then 50; 200 is later than 100");
        assert_eq!(alarms.next(), Some(50));
        assert_eq!(alarms.take_due(60), [(b.id(), 50)]);
        assert_eq!(alarms.next(), Some(100));
        assert_eq!(alarms.take_due(60), []);
    }
}
