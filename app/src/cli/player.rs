//! Plays a script against a machine: a state machine that is asked now and then and never waits itself.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use engine::Outlets;

use super::script::{Line, Step};
use super::serial::SerialLog;
use super::watch::Watch;
use crate::outputs;
use crate::running::Running;

/// How long keys and buttons are held: long enough for a guest that looks every 55 ms.
const HOLD: Duration = Duration::from_millis(80);

/// How a script stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More to come.
    Playing,
    /// All lines are done.
    Done,
    /// A wait lasted too long.
    TimeOver(String),
    /// A line could not be done.
    Failed(String),
}

/// A script and how far it is.
pub struct Player {
    lines: Vec<Line>,
    next: usize,
    /// When the current line began.
    since: Option<Instant>,
    /// Texts from the serial port are looked for from here on.
    serial_from: u64,
}

impl Player {
    /// At the beginning.
    pub fn new(lines: Vec<Line>) -> Player {
        Player { lines, next: 0, since: None, serial_from: 0 }
    }

    /// The line that is being played.
    pub fn line(&self) -> Option<usize> {
        self.lines.get(self.next).map(|line| line.number)
    }

    /// Whether a line still to come asks something of the guest that a guest that is off cannot give.
    pub fn expects_more(&self) -> bool {
        let expects = |line: &Line| match line.step {
            Step::WaitScreen(..) | Step::WaitSerial(..) | Step::ExpectScreen(_) | Step::Screenshot(_) => true,
            Step::Type(_)
            | Step::Key(_)
            | Step::Serial(_)
            | Step::Sleep(_)
            | Step::Mouse(..)
            | Step::Click(_) => false,
        };
        self.lines[self.next..].iter().any(expects)
    }

    /// Does as much as can be done at `now`.
    pub fn poll(&mut self, machine: &dyn Running, serial: &SerialLog, now: Instant) -> Progress {
        while let Some(line) = self.lines.get(self.next).cloned() {
            let begins = self.since.is_none();
            let lasted = now.saturating_duration_since(*self.since.get_or_insert(now));
            match self.step(&line.step, machine, serial, begins, lasted) {
                Ok(true) => {
                    self.next += 1;
                    self.since = None;
                }
                Ok(false) => return Progress::Playing,
                Err(Trouble::TimeOver(reason)) => {
                    return Progress::TimeOver(format!("script line {}: {reason}", line.number));
                }
                Err(Trouble::Failed(reason)) => {
                    return Progress::Failed(format!("script line {}: {reason}", line.number));
                }
            }
        }
        Progress::Done
    }

    /// Whether the step is done.
    fn step(
        &mut self,
        step: &Step,
        machine: &dyn Running,
        serial: &SerialLog,
        begins: bool,
        lasted: Duration,
    ) -> Result<bool, Trouble> {
        match step {
            Step::WaitScreen(text, wait) => {
                if screen_has(machine, text) {
                    return Ok(true);
                }
                still_time(lasted, *wait, || format!("'{text}' did not come to the screen"))
            }
            Step::WaitSerial(text, wait) => {
                if let Some(end) = serial.find(text.as_bytes(), self.serial_from) {
                    self.serial_from = end;
                    return Ok(true);
                }
                still_time(lasted, *wait, || format!("'{text}' did not come from the serial port"))
            }
            Step::ExpectScreen(text) => match screen_has(machine, text) {
                true => Ok(true),
                false => Err(Trouble::Failed(format!("'{text}' is not on the screen"))),
            },
            Step::Type(text) => {
                machine.type_text(text);
                Ok(true)
            }
            Step::Serial(text) => {
                machine.send_serial(text.as_bytes());
                Ok(true)
            }
            Step::Key(keys) => {
                if begins {
                    keys.iter().for_each(|key| machine.key(*key, true));
                }
                let over = lasted >= HOLD;
                if over {
                    keys.iter().rev().for_each(|key| machine.key(*key, false));
                }
                Ok(over)
            }
            Step::Click(button) => {
                if begins {
                    machine.mouse(0, 0, 0, *button);
                }
                let over = lasted >= HOLD;
                if over {
                    machine.mouse(0, 0, 0, 0);
                }
                Ok(over)
            }
            Step::Mouse(dx, dy) => {
                machine.mouse(*dx, *dy, 0, 0);
                Ok(true)
            }
            Step::Sleep(pause) => Ok(lasted >= *pause),
            Step::Screenshot(path) => {
                outputs::write_png(path, &machine.frame()).map_err(Trouble::Failed).map(|()| true)
            }
        }
    }
}

/// A script, and who plays it.
pub enum Script {
    /// Whoever watches the run, by the host's clock.
    Here(Player),
    /// The machine's own thread, by the guest's time.
    OnStage(Arc<Mutex<Stage>>),
}

/// A script as the machine plays it, and how it stands.
pub struct Stage {
    player: Player,
    progress: Progress,
}

impl Script {
    /// Does what can be done at `now`, unless the machine does it; how the script stands.
    pub fn poll(&mut self, machine: &dyn Running, serial: &SerialLog, now: Instant) -> Progress {
        match self {
            Script::Here(player) => player.poll(machine, serial, now),
            Script::OnStage(stage) => lock(stage).progress.clone(),
        }
    }

    /// The line that is being played.
    pub fn line(&self) -> Option<usize> {
        match self {
            Script::Here(player) => player.line(),
            Script::OnStage(stage) => lock(stage).player.line(),
        }
    }

    /// See [`Player::expects_more`].
    pub fn expects_more(&self) -> bool {
        match self {
            Script::Here(player) => player.expects_more(),
            Script::OnStage(stage) => lock(stage).player.expects_more(),
        }
    }
}

/// Makes a deterministic machine play the script of `watch` itself, at exact times of the guest. The machine starts
/// when it has been given to what this returns.
pub fn perform(watch: &mut Watch, outlets: &mut Outlets) -> Option<impl FnOnce(&Arc<dyn Running>) + use<>> {
    let player = match watch.player.take()? {
        Script::Here(player) => player,
        on_stage => {
            watch.player = Some(on_stage);
            return None;
        }
    };
    let stage = Arc::new(Mutex::new(Stage { player, progress: Progress::Playing }));
    watch.player = Some(Script::OnStage(stage.clone()));
    let (log, beginning) = (watch.serial.clone(), Instant::now());
    let slot: Arc<OnceLock<Weak<dyn Running>>> = Arc::default();
    let machine = slot.clone();
    outlets.paused = true;
    outlets.pulse = Some(Box::new(move |now_ns| {
        let Some(machine) = machine.get().and_then(Weak::upgrade) else { return };
        let Stage { player, progress } = &mut *lock(&stage);
        if *progress == Progress::Playing {
            *progress = player.poll(&*machine, &log, beginning + Duration::from_nanos(now_ns));
        }
    }));
    Some(move |machine: &Arc<dyn Running>| {
        // The slot is new: nobody has filled it.
        let _ = slot.set(Arc::downgrade(machine));
        machine.resume();
    })
}

fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Trouble {
    TimeOver(String),
    Failed(String),
}

fn screen_has(machine: &dyn Running, text: &str) -> bool {
    machine.screen_text().is_some_and(|screen| screen.contains(text))
}

fn still_time(lasted: Duration, wait: Duration, reason: impl Fn() -> String) -> Result<bool, Trouble> {
    if lasted < wait {
        return Ok(false);
    }
    Err(Trouble::TimeOver(format!("{} within {} s", reason(), wait.as_secs_f64())))
}
