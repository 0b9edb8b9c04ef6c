//! A machine whose host's disk is full: it stands still in a named state, and goes on by itself when there is room.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::state::{Event, RunState};
use super::supervisor::{Task, Worker};

/// How often a machine that waits for room looks whether there is some.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(500);

impl Worker {
    /// What is to be done next. A machine that waits for room does not wait longer than until it looks again.
    pub(super) fn next_task(&self) -> Result<Task, RecvTimeoutError> {
        let deferred = self.deferred.borrow_mut().pop_front();
        match deferred {
            Some(task) => Ok(task),
            None if self.is_hindered() => self.queue.recv_timeout(LOOK_FOR_ROOM),
            None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn is_hindered(&self) -> bool {
        self.shared.state.lock().hindrance.is_some()
    }

    /// Goes on if there is room on the host's disk now.
    pub(super) fn look_for_room(&self) {
        if self.machine.drives().settle().is_ok() {
            self.shared.state.lock().hindrance = None;
            self.tell(Event::Note("there is room on the host's disk again; the machine goes on".to_owned()));
            self.go_on(None);
        }
    }

    pub(super) fn hinder(&self, reason: String) {
        self.shared.state.lock().hindrance = Some(reason.clone());
        self.enter(RunState::Paused);
        self.tell(Event::Hindered(reason));
    }

    /// A disk of the host is full: the machine stands still until there is room.
    pub(super) fn await_room(&self) {
        if self.is_hindered() {
            return;
        }
        self.machine.hold();
        // By now there may be room again.
        let hindrance = self.machine.drives().settle().err();
        match hindrance {
            Some(reason) => self.hinder(reason),
            None if self.shared.state.lock().run == RunState::Running => self.machine.release(),
            None => {}
        }
    }
}
