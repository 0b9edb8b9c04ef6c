//! The supervisor: one thread per machine that executes its commands and its devices' requests in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use hardware::Request;
use parking_lot::{Condvar, Mutex};

use super::EditError;
use super::past::Way;
use super::state::{Crash, Ending, Event, RunState};
use crate::debugger::{Goal, History, HistoryLimits, Stopped};
use crate::inspect::diagnosis::diagnose;
use crate::machine::{Incident, Machine, Wish};

/// Events kept for the owner; older ones are dropped.
const EVENTS_KEPT: usize = 256;

/// How long a machine may take to be ready to start.
const LONGEST_START: Duration = Duration::from_secs(30);

/// What the owner may ask for.
pub enum Command {
    Pause,
    Resume,
    /// Go on to exactly this step, and pause.
    RunTo(u64),
    Reset,
    PowerOff,
    /// To be done while the machine stands still; dropped if it does not.
    Edit(Edit),
    /// To be done while the machine stands still, which it does for as long as that lasts.
    Still(Still, Sender<Duration>),
    /// To go from where a paused machine stands; whether it sets out.
    Travel(Travel, Sender<Result<(), EditError>>),
    /// Keep the past within these limits, or not.
    KeepPast(Option<HistoryLimits>, Sender<Result<(), EditError>>),
    /// A paused machine was put into another state.
    ForgetPast,
}

/// Where a paused machine is to go.
pub enum Travel {
    /// A vCPU to its goal.
    Forward { cpu: usize, goal: Goal, others_stand: bool },
    /// Backwards.
    Back(Way),
}

/// A change to a machine that stands still.
pub type Edit = Box<dyn FnOnce(&Machine) + Send>;

/// What is done with a machine that stands still for it.
pub type Still = Box<dyn FnOnce(&Machine) -> After + Send>;

/// What becomes of a machine that was held for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    GoOn,
    SwitchOff,
}

/// Everything the supervisor acts on.
pub(super) enum Task {
    Command(Command),
    Wish(Wish),
}

/// The owner's end.
pub struct Supervisor {
    tasks: Sender<Task>,
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    changed: Condvar,
}

pub(super) struct State {
    pub(super) run: RunState,
    /// Why it cannot go on, while it is paused by itself.
    pub(super) hindrance: Option<String>,
    /// The step the last [`Command::RunTo`] stopped at.
    arrived: Option<u64>,
    events: VecDeque<Event>,
    /// Why it stands still.
    pub(super) stopped: Option<Stopped>,
    pub(super) keeps_past: bool,
    /// Commands given, and those of them that are done.
    commanded: u64,
    done: u64,
}

impl Supervisor {
    /// Powers the machine on and starts its thread.
    pub fn start(machine: Arc<Machine>, paused: bool, history: Option<HistoryLimits>) -> Supervisor {
        let (tasks, queue) = mpsc::channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                run: RunState::Running,
                hindrance: None,
                arrived: None,
                events: VecDeque::new(),
                stopped: None,
                keeps_past: false,
                commanded: 0,
                done: 0,
            }),
            changed: Condvar::new(),
        });
        let wishes = Mutex::new(tasks.clone());
        machine.listen(move |wish| {
            // The supervisor may be gone already; then nobody is left to care.
            let _ = wishes.lock().send(Task::Wish(wish));
        });
        let worker = Worker {
            machine,
            shared: shared.clone(),
            queue,
            deferred: RefCell::default(),
            history: RefCell::default(),
            target: Cell::new(None),
        };
        let body = move || worker.serve(paused, history);
        thread::Builder::new().name("supervisor".into()).spawn(body).expect("the host has room for a thread");
        Supervisor { tasks, shared }
    }

    /// Asks for something; commands are executed in order.
    pub fn send(&self, command: Command) {
        self.shared.state.lock().commanded += 1;
        // After the end there is nothing to command.
        let _ = self.tasks.send(Task::Command(command));
    }

    pub fn state(&self) -> RunState {
        self.shared.state.lock().run.clone()
    }

    pub fn hindrance(&self) -> Option<String> {
        self.shared.state.lock().hindrance.clone()
    }

    pub fn take_events(&self) -> Vec<Event> {
        self.shared.state.lock().events.drain(..).collect()
    }

    pub fn wait(&self, timeout: Duration) -> Option<Ending> {
        self.wait_for(timeout, |state| match &state.run {
            RunState::Ended(ending) => Some(ending.clone()),
            _ => None,
        })
    }

    pub fn keeps_past(&self) -> bool {
        self.shared.state.lock().keeps_past
    }

    pub fn last_stop(&self) -> Option<Stopped> {
        self.shared.state.lock().stopped.clone()
    }

    /// Waits until everything commanded so far is done and the machine stands still; why it does, if not by hand.
    pub fn wait_stop(&self, timeout: Duration) -> Option<Stopped> {
        let commanded = self.shared.state.lock().commanded;
        let stands = |state: &State| {
            (state.done >= commanded && state.run != RunState::Running).then(|| state.stopped.clone())
        };
        self.wait_for(timeout, stands).flatten()
    }

    /// Waits until the machine stands still for the first time, or has ended.
    pub fn wait_paused(&self) {
        self.wait_for(LONGEST_START, |state| (state.run != RunState::Running).then_some(()));
    }

    /// Lets the machine go on to exactly this step, and pause; `false` when it has ended before, or time is over.
    pub fn run_to(&self, steps: u64, timeout: Duration) -> bool {
        self.shared.state.lock().arrived = None;
        self.send(Command::RunTo(steps));
        let arrival = self.wait_for(timeout, |state| match &state.run {
            RunState::Ended(_) => Some(false),
            RunState::Paused | RunState::Running => state.arrived.map(|arrived| arrived == steps),
        });
        arrival.unwrap_or(false)
    }

    fn wait_for<T>(&self, timeout: Duration, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.state.lock();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                return look(&state);
            }
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.send(Command::PowerOff);
    }
}

pub(super) struct Worker {
    pub(super) machine: Arc<Machine>,
    pub(super) shared: Arc<Shared>,
    pub(super) queue: mpsc::Receiver<Task>,
    /// What came while the past was run again.
    pub(super) deferred: RefCell<VecDeque<Task>>,
    pub(super) history: RefCell<Option<History>>,
    /// The step at which it is to pause.
    target: Cell<Option<u64>>,
}

impl Worker {
    fn serve(&self, paused: bool, history: Option<HistoryLimits>) {
        self.tell(Event::Note(self.machine.backend_note().to_owned()));
        if let Err(reason) = self.keep_history(history) {
            self.tell(Event::Note(format!("the past is not kept: {reason}")));
        }
        let mut ending = self.machine.power_on().err().map(Ending::Failed);
        if ending.is_none() {
            match paused {
                true => self.enter(RunState::Paused),
                false => self.set_out(),
            }
        }
        while ending.is_none() {
            let task = match self.next_task() {
                Ok(task) => task,
                Err(RecvTimeoutError::Timeout) => {
                    self.look_for_room();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            ending = match task {
                Task::Command(command) => {
                    let ending = self.command(command);
                    self.shared.state.lock().done += 1;
                    self.shared.changed.notify_all();
                    ending
                }
                Task::Wish(wish) => self.wish(wish),
            };
        }
        self.machine.hold();
        if let Err(reason) = self.machine.drives().settle() {
            self.tell(Event::Note(format!("{reason}: the guest's last writes are lost")));
        }
        self.machine.retire();
        self.machine.drives().close();
        self.shared.state.lock().done = u64::MAX;
        self.enter(RunState::Ended(ending.unwrap_or(Ending::PoweredOff)));
    }

    fn command(&self, command: Command) -> Option<Ending> {
        match command {
            Command::Pause => {
                self.machine.hold();
                // From here on it is the user who lets it go on.
                self.shared.state.lock().hindrance = None;
                self.stand_still();
            }
            Command::Resume => match self.machine.drives().settle() {
                Ok(()) => {
                    self.shared.state.lock().hindrance = None;
                    self.go_on(None);
                }
                Err(reason) => self.hinder(reason),
            },
            Command::RunTo(steps) => self.go_on(Some(steps)),
            Command::Reset => {
                self.forget_the_past();
                return self.reset();
            }
            Command::PowerOff => return Some(Ending::PoweredOff),
            Command::Still(act, tell_pause) => {
                let begun = Instant::now();
                let runs = self.shared.state.lock().run == RunState::Running;
                if runs {
                    self.machine.hold();
                }
                let after = act(&self.machine);
                if runs && after == After::GoOn {
                    self.machine.release();
                }
                // Nobody waits for the answer of a session that is gone.
                let _ = tell_pause.send(begun.elapsed());
                return (after == After::SwitchOff).then_some(Ending::PoweredOff);
            }
            Command::Edit(edit) => {
                let is_paused = self.shared.state.lock().run == RunState::Paused;
                if is_paused {
                    edit(&self.machine);
                    self.forget_the_past();
                }
            }
            Command::ForgetPast => self.forget_the_past(),
            Command::KeepPast(limits, tell) => {
                let is_paused = self.shared.state.lock().run == RunState::Paused;
                self.machine.hold();
                // Who asked may be gone.
                let _ = tell.send(self.keep_history(limits).map_err(EditError::Refused));
                if !is_paused {
                    self.set_out();
                }
            }
            Command::Travel(travel, tell) => {
                // Who asked may be gone.
                let _ = tell.send(self.travel(travel));
            }
        }
        None
    }

    fn travel(&self, travel: Travel) -> Result<(), EditError> {
        if self.shared.state.lock().run != RunState::Paused {
            return Err(EditError::NotPaused);
        }
        match travel {
            Travel::Forward { cpu, goal, others_stand } => {
                self.machine.begin(cpu, goal, others_stand).map_err(EditError::Refused)?;
                self.go_on(None);
                Ok(())
            }
            Travel::Back(way) => self.go_back(way).map_err(EditError::Refused),
        }
    }

    pub(super) fn go_on(&self, stop_at: Option<u64>) {
        if self.shared.state.lock().run == RunState::Paused {
            self.machine.pass_breakpoints();
            self.leave_the_past();
        } else {
            self.machine.hold();
        }
        self.shared.state.lock().stopped = None;
        self.target.set(stop_at);
        self.set_out();
        self.enter(RunState::Running);
    }

    /// Lets the machine go on to its target, or to where the next checkpoint is due.
    fn set_out(&self) {
        self.record();
        let due =
            self.history.borrow().as_ref().and_then(|history| Some(history.next_due(self.machine.steps()?)));
        self.machine.stop_at(self.target.get().into_iter().chain(due).min());
        self.machine.release();
    }

    /// The machine is held and stays so: goals are over, and why it stopped is told.
    fn stand_still(&self) {
        let stopped = self.machine.lookout().take_stop();
        if let Err(reason) = self.machine.abandon_goals() {
            self.tell(Event::Note(format!("the machine may stop where a step would have ended: {reason}")));
        }
        if let Some(mut stopped) = stopped {
            stopped.steps = self.machine.steps();
            self.shared.state.lock().stopped = Some(stopped.clone());
            self.tell(Event::Stopped(stopped));
        }
        self.enter(RunState::Paused);
    }

    fn wish(&self, wish: Wish) -> Option<Ending> {
        match wish {
            Wish::Stopped => {
                // It may have been paused, and let go on, meanwhile.
                if self.machine.lookout().is_stopping() {
                    self.machine.hold();
                    self.stand_still();
                }
                None
            }
            Wish::Arrived => {
                self.machine.hold();
                let steps = self.machine.steps();
                let is_there = self.target.get().is_some_and(|target| steps >= Some(target));
                let runs = self.shared.state.lock().run == RunState::Running;
                if is_there {
                    self.target.set(None);
                    self.stand_still();
                    self.shared.state.lock().arrived = steps;
                    self.shared.changed.notify_all();
                } else if runs {
                    self.set_out(); // a checkpoint was due
                }
                None
            }
            Wish::DiskFull => {
                self.await_room();
                None
            }
            Wish::Device(Request::Reset) => self.reset(),
            Wish::Device(Request::ResetCpus) => self.machine.reset_cpus().err().map(Ending::Failed),
            Wish::Device(Request::PowerOff) => Some(Ending::PoweredOff),
            Wish::Device(Request::Suspend) => {
                let note = "the guest asked for sleep (ACPI S3); it was woken at once";
                self.tell(Event::Note(note.to_owned()));
                self.reset()
            }
            Wish::Device(Request::DebugExit(value)) => Some(Ending::DebugExit(value)),
            Wish::Cpu(Incident::Failed { cpu, reason }) => {
                Some(Ending::Failed(format!("CPU {cpu} cannot go on: {reason}")))
            }
            Wish::Cpu(Incident::Shutdown { cpu, faults }) => {
                self.machine.hold();
                Some(match self.machine.examine(cpu) {
                    Ok((registers, code, instruction)) => {
                        let diagnosis = diagnose(&registers, &faults, self.machine.memory());
                        let accesses = self.machine.recent_accesses(cpu);
                        Ending::Crashed(Box::new(Crash {
                            cpu,
                            faults,
                            registers,
                            code,
                            instruction,
                            diagnosis,
                            accesses,
                        }))
                    }
                    Err(reason) => Ending::Failed(reason),
                })
            }
        }
    }

    fn reset(&self) -> Option<Ending> {
        let paused = self.shared.state.lock().run == RunState::Paused;
        self.machine.hold();
        if let Err(reason) = self.machine.power_on() {
            return Some(Ending::Failed(reason));
        }
        self.tell(Event::Reset);
        if !paused {
            self.set_out();
        }
        None
    }

    pub(super) fn enter(&self, run: RunState) {
        self.shared.state.lock().run = run.clone();
        self.shared.changed.notify_all();
        self.tell(Event::State(run));
    }

    pub(super) fn tell(&self, event: Event) {
        let mut state = self.shared.state.lock();
        if state.events.len() == EVENTS_KEPT {
            state.events.pop_front();
        }
        state.events.push_back(event);
        drop(state);
        self.machine.wake_owner();
    }
}
