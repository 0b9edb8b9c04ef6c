//! Plays a script against a machine: a state machine that is asked now and then and never waits itself.

use std::time::{Duration, Instant};

use super::script::{Line, Step};
use super::serial::SerialLog;
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
