//! Going backwards, in the supervisor's thread: the nearest checkpoint before, and the run from there once more, with
//! the inputs that came, and without what it told the outside.

use std::time::Duration;

use hardware::Request;

use super::state::{Event, RunState};
use super::supervisor::{Command, Task, Worker};
use crate::debugger::{GRID, History, HistoryLimits, Met, Stopped, Watching};
use crate::machine::Wish;

/// Longest wait for a stretch that is run again.
const LONGEST_STRETCH: Duration = Duration::from_secs(120);

/// How to go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// So many steps of the machine.
    Steps(u64),
    /// To the last time a condition was met.
    Stop,
}

impl Worker {
    /// From now on the past is kept, or not.
    pub(super) fn keep_history(&self, limits: Option<HistoryLimits>) -> Result<(), String> {
        *self.history.borrow_mut() = None;
        self.shared.state.lock().keeps_past = false;
        self.machine.set_epoch(None);
        let Some(limits) = limits else { return Ok(()) };
        self.machine.can_go_back()?;
        self.machine.set_epoch(Some(GRID));
        *self.history.borrow_mut() = Some(History::new(limits));
        self.shared.state.lock().keeps_past = true;
        Ok(())
    }

    /// Takes a checkpoint if one is due. Only while held.
    pub(super) fn record(&self) {
        let Some(steps) = self.machine.steps() else { return };
        let mut slot = self.history.borrow_mut();
        let Some(history) = slot.as_mut().filter(|history| history.is_empty() || history.is_due(steps))
        else {
            return;
        };
        match self.machine.moment(history.newest()) {
            Ok(moment) => history.add(moment),
            Err(reason) => {
                *slot = None;
                drop(slot);
                self.shared.state.lock().keeps_past = false;
                self.tell(Event::Note(format!("the past is not kept any more: {reason}")));
            }
        }
    }

    /// The machine goes on from here: what was known of the time after may come otherwise.
    pub(super) fn leave_the_past(&self) {
        if let (Some(history), Some(steps)) = (&mut *self.history.borrow_mut(), self.machine.steps()) {
            history.forget_after(steps);
        }
    }

    /// The machine was changed from outside, or reset: the past does not lead here.
    pub(super) fn forget_the_past(&self) {
        if let Some(history) = &mut *self.history.borrow_mut() {
            history.forget();
        }
    }

    /// Goes back; the machine stands there.
    pub(super) fn go_back(&self, way: Way) -> Result<(), String> {
        self.machine.can_go_back()?;
        let known = match &*self.history.borrow() {
            Some(history) => history.first(),
            None => return Err("the past is not kept: run with --deterministic --history".to_owned()),
        };
        let (Some(first), Some(now)) = (known, self.machine.steps()) else {
            return Err("nothing has been made yet that could be taken back".to_owned());
        };
        if now <= first {
            return Err("history begins here".to_owned());
        }
        self.machine.be_quiet(true);
        let result = match way {
            Way::Steps(count) => {
                let target = now.saturating_sub(count).max(first);
                let met = if now - target < count { Met::Began } else { Met::Stepped };
                self.replay(target).map(|()| Stopped { cpu: None, conditions: Vec::new(), met, steps: None })
            }
            Way::Stop => self.search(first, now),
        };
        self.watch(Watching::Stop)?;
        self.machine.be_quiet(false);
        self.machine.hold(); // samples of registers are of here
        let stopped = result?;
        let cpu = stopped.cpu.or_else(|| self.machine.turn());
        let stopped = Stopped { cpu, steps: self.machine.steps(), ..stopped };
        self.shared.state.lock().stopped = Some(stopped.clone());
        self.tell(Event::Stopped(stopped));
        self.enter(RunState::Paused);
        Ok(())
    }

    fn watch(&self, watching: Watching) -> Result<(), String> {
        self.machine.lookout().watching(watching);
        self.machine.look_out()
    }

    /// Becomes the last checkpoint at or before `steps`; where that is.
    fn restore_before(&self, steps: u64) -> Result<u64, String> {
        let checkpoint = self.history.borrow().as_ref().and_then(|history| history.before(steps).cloned());
        let checkpoint = checkpoint.ok_or("history does not reach so far back")?;
        self.machine.go_back_to(&checkpoint)?;
        Ok(checkpoint.steps())
    }

    /// Stands at `target`, as it did the first time.
    fn replay(&self, target: u64) -> Result<(), String> {
        self.watch(Watching::Off)?;
        let from = self.restore_before(target)?;
        let last = target - target % GRID;
        for point in [last.saturating_sub(GRID), last].into_iter().filter(|point| *point > from) {
            self.run_again(point)?;
            let checkpoint = self.machine.moment(self.history.borrow().as_ref().and_then(History::newest))?;
            if let Some(history) = &mut *self.history.borrow_mut() {
                history.add_near(checkpoint);
            }
        }
        self.run_again(target)
    }

    /// Stands where a condition was met last before `now`; at the first step if none was.
    fn search(&self, first: u64, now: u64) -> Result<Stopped, String> {
        let (mut begin, mut end) = (now - 1, now);
        loop {
            self.watch(Watching::Search { before: now })?;
            let from = self.restore_before(begin)?;
            self.run_again(end)?;
            if let Some(found) = self.machine.lookout().found() {
                self.replay(found.steps.unwrap_or(from))?;
                return Ok(found);
            }
            if from <= first {
                self.replay(first)?;
                return Ok(Stopped { cpu: None, conditions: Vec::new(), met: Met::Began, steps: None });
            }
            (begin, end) = (from - 1, from);
        }
    }

    /// Runs on to `steps` and stands there; commands that come meanwhile wait.
    fn run_again(&self, steps: u64) -> Result<(), String> {
        if self.machine.steps().is_none_or(|now| now >= steps) {
            return Ok(());
        }
        self.machine.stop_at(Some(steps));
        self.machine.release();
        let result = loop {
            match self.queue.recv_timeout(LONGEST_STRETCH) {
                Ok(Task::Wish(Wish::Arrived)) if self.machine.steps() == Some(steps) => break Ok(()),
                Ok(Task::Wish(Wish::Arrived | Wish::Stopped)) => {}
                Ok(Task::Command(Command::PowerOff)) => {
                    self.deferred.borrow_mut().push_back(Task::Command(Command::PowerOff));
                    break Err("the machine was switched off".to_owned());
                }
                // The guest resets itself again, as it did.
                Ok(Task::Wish(Wish::Device(Request::ResetCpus))) => {
                    if let Err(reason) = self.machine.reset_cpus() {
                        break Err(reason);
                    }
                }
                Ok(Task::Wish(Wish::Device(Request::Reset))) => {
                    self.machine.hold();
                    if let Err(reason) = self.machine.power_on() {
                        break Err(reason);
                    }
                    self.machine.release();
                }
                Ok(Task::Wish(wish)) => {
                    let reason = format!("on the way back something came that cannot be run again: {wish:?}");
                    self.deferred.borrow_mut().push_back(Task::Wish(wish));
                    break Err(reason);
                }
                Ok(command) => self.deferred.borrow_mut().push_back(command),
                Err(_) => break Err("the stretch to be run again does not end".to_owned()),
            }
        };
        self.machine.hold();
        self.machine.stop_at(None);
        result
    }
}
