//! The supervisor: one thread per machine that executes its commands and its devices' requests in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use hardware::Request;
use parking_lot::{Condvar, Mutex};

use super::state::{Crash, Ending, Event, RunState};
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
}

/// A change to a machine that stands still.
pub type Edit = Box<dyn FnOnce(&Machine) + Send>;

/// Everything the supervisor acts on.
enum Task {
    Command(Command),
    Wish(Wish),
}

/// The owner's end.
pub struct Supervisor {
    tasks: Sender<Task>,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    run: RunState,
    /// The step the last [`Command::RunTo`] stopped at.
    arrived: Option<u64>,
    events: VecDeque<Event>,
}

impl Supervisor {
    /// Powers the machine on and starts its thread.
    pub fn start(machine: Arc<Machine>, paused: bool) -> Supervisor {
        let (tasks, queue) = mpsc::channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(State { run: RunState::Running, arrived: None, events: VecDeque::new() }),
            changed: Condvar::new(),
        });
        let wishes = Mutex::new(tasks.clone());
        machine.listen(move |wish| {
            // The supervisor may be gone already; then nobody is left to care.
            let _ = wishes.lock().send(Task::Wish(wish));
        });
        let worker = Worker { machine, shared: shared.clone() };
        let body = move || worker.serve(&queue, paused);
        thread::Builder::new().name("supervisor".into()).spawn(body).expect("the host has room for a thread");
        Supervisor { tasks, shared }
    }

    /// Asks for something; commands are executed in order.
    pub fn send(&self, command: Command) {
        // After the end there is nothing to command.
        let _ = self.tasks.send(Task::Command(command));
    }

    pub fn state(&self) -> RunState {
        self.shared.state.lock().run.clone()
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

struct Worker {
    machine: Arc<Machine>,
    shared: Arc<Shared>,
}

impl Worker {
    fn serve(&self, queue: &mpsc::Receiver<Task>, paused: bool) {
        self.tell(Event::Note(self.machine.backend_note().to_owned()));
        let mut ending = self.machine.power_on().err().map(Ending::Failed);
        if ending.is_none() {
            match paused {
                true => self.enter(RunState::Paused),
                false => self.machine.release(),
            }
        }
        while ending.is_none() {
            let Ok(task) = queue.recv() else { break };
            ending = match task {
                Task::Command(command) => self.command(command),
                Task::Wish(wish) => self.wish(wish),
            };
        }
        self.machine.hold();
        self.machine.retire();
        self.enter(RunState::Ended(ending.unwrap_or(Ending::PoweredOff)));
    }

    fn command(&self, command: Command) -> Option<Ending> {
        match command {
            Command::Pause => {
                self.machine.hold();
                self.enter(RunState::Paused);
            }
            Command::Resume => self.go_on(None),
            Command::RunTo(steps) => self.go_on(Some(steps)),
            Command::Reset => return self.reset(),
            Command::PowerOff => return Some(Ending::PoweredOff),
            Command::Edit(edit) => {
                let is_paused = self.shared.state.lock().run == RunState::Paused;
                if is_paused {
                    edit(&self.machine);
                }
            }
        }
        None
    }

    fn go_on(&self, stop_at: Option<u64>) {
        self.machine.stop_at(stop_at);
        self.machine.release();
        self.enter(RunState::Running);
    }

    fn wish(&self, wish: Wish) -> Option<Ending> {
        match wish {
            Wish::Arrived => {
                self.machine.hold();
                let steps = self.machine.steps();
                self.enter(RunState::Paused);
                self.shared.state.lock().arrived = steps;
                self.shared.changed.notify_all();
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
            self.machine.release();
        }
        None
    }

    fn enter(&self, run: RunState) {
        self.shared.state.lock().run = run.clone();
        self.shared.changed.notify_all();
        self.tell(Event::State(run));
    }

    fn tell(&self, event: Event) {
        let mut state = self.shared.state.lock();
        if state.events.len() == EVENTS_KEPT {
            state.events.pop_front();
        }
        state.events.push_back(event);
        drop(state);
        self.machine.wake_owner();
    }
}
