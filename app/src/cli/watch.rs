//! Watches a run until it is over: the guest's own end, an awaited text, a script, the time, or the user.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::session::{Crash, Ending, Event};

use super::player::{Progress, Script};
use super::serial::SerialLog;
use super::{console, status};
use crate::running::Running;

/// How often the machine is looked at.
const TICK: Duration = Duration::from_millis(10);
/// How often its screen is read as text.
const SCREEN_TICK: Duration = Duration::from_millis(50);

/// How a run ended, for whoever called it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The guest powered off.
    PoweredOff,
    /// An awaited text came.
    Came(String),
    /// The script is played to its end.
    Played,
    /// Time over; what was waited for.
    TimeOver(String),
    /// Triple fault.
    Crashed(Box<Crash>),
    /// The guest wrote this to the debug-exit port.
    DebugExit(u8),
    /// The run or its script failed.
    Failed(String),
    /// The user ended it.
    Interrupted,
    /// It was saved as the run ended: its next start continues it.
    Suspended,
}

impl Verdict {
    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Verdict::PoweredOff | Verdict::Came(_) | Verdict::Played | Verdict::Suspended => status::SUCCESS,
            Verdict::TimeOver(_) => status::TIME_OVER,
            Verdict::Crashed(_) => status::CRASHED,
            Verdict::DebugExit(value) => value << 1 | 1,
            Verdict::Failed(_) => status::ERROR,
            Verdict::Interrupted => status::INTERRUPTED,
        }
    }
}

/// What ends a run.
#[derive(Default)]
pub struct Watch {
    /// A text from the serial port, and whether it came.
    pub until_serial: Option<(String, Arc<AtomicBool>)>,
    /// A text on the screen.
    pub until_screen: Option<String>,
    /// The longest the run may last.
    pub timeout: Option<Duration>,
    /// A script.
    pub player: Option<Script>,
    /// What came from the serial port.
    pub serial: Arc<SerialLog>,
    /// Flags by which the user ends the run.
    pub interrupted: Vec<Arc<AtomicBool>>,
    /// Whether the machine's notes go to the terminal; else they are the window's.
    pub tells_notes: bool,
    /// When the screen was last read.
    pub screen_read: Option<Instant>,
}

impl Watch {
    /// Whether the run ends by anything but the guest and the user.
    pub fn has_conditions(&self) -> bool {
        self.awaits_text() || self.timeout.is_some() || self.player.is_some()
    }

    /// Looks at the machine until the run is over.
    pub fn run(&mut self, machine: &dyn Running) -> Verdict {
        let start = Instant::now();
        loop {
            if self.tells_notes {
                tell_notes(machine);
            }
            let ending = machine.wait(TICK);
            if let Some(verdict) = self.poll(machine, ending, start, Instant::now()) {
                return verdict;
            }
        }
    }

    /// One look.
    pub fn poll(
        &mut self,
        machine: &dyn Running,
        ending: Option<Ending>,
        start: Instant,
        now: Instant,
    ) -> Option<Verdict> {
        if let Some((text, came)) = &self.until_serial
            && came.load(Ordering::Acquire)
        {
            return Some(Verdict::Came(text.clone()));
        }
        if let Some(text) = &self.until_screen {
            let due = self.screen_read.is_none_or(|last| now.saturating_duration_since(last) >= SCREEN_TICK);
            if due || ending.is_some() {
                self.screen_read = Some(now);
                if machine.screen_text().is_some_and(|screen| screen.contains(text.as_str())) {
                    return Some(Verdict::Came(text.clone()));
                }
            }
        }
        if let Some(verdict) = self.play(machine, now) {
            return Some(verdict);
        }
        if let Some(ending) = ending {
            return Some(self.ended(ending));
        }
        if self.is_interrupted() {
            return Some(Verdict::Interrupted);
        }
        let timeout = self.timeout?;
        (now.saturating_duration_since(start) >= timeout).then(|| {
            Verdict::TimeOver(format!("time over after {} s{}", timeout.as_secs_f64(), self.waiting()))
        })
    }

    fn play(&mut self, machine: &dyn Running, now: Instant) -> Option<Verdict> {
        let progress = self.player.as_mut()?.poll(machine, &self.serial, now);
        match progress {
            Progress::Playing => None,
            Progress::Done => {
                self.player = None;
                (!self.awaits_text()).then_some(Verdict::Played)
            }
            Progress::TimeOver(reason) => Some(Verdict::TimeOver(reason)),
            Progress::Failed(reason) => Some(Verdict::Failed(reason)),
        }
    }

    fn ended(&self, ending: Ending) -> Verdict {
        match ending {
            // A run that waited for something and did not get it must not pass for a success.
            Ending::PoweredOff
                if self.awaits_text() || self.player.as_ref().is_some_and(Script::expects_more) =>
            {
                Verdict::Failed(format!("the guest powered off{}", self.waiting()))
            }
            Ending::PoweredOff => Verdict::PoweredOff,
            Ending::DebugExit(value) => Verdict::DebugExit(value),
            Ending::Crashed(crash) => Verdict::Crashed(crash),
            Ending::Failed(reason) => Verdict::Failed(reason),
        }
    }

    /// Whether the user wants the run to end.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.iter().any(|flag| flag.load(Ordering::Acquire))
    }

    fn awaits_text(&self) -> bool {
        self.until_serial.is_some() || self.until_screen.is_some()
    }

    fn waiting(&self) -> String {
        let mut things = Vec::new();
        things.extend(self.until_serial.iter().map(|(text, _)| format!("'{text}' from the serial port")));
        things.extend(self.until_screen.iter().map(|text| format!("'{text}' on the screen")));
        let line = self.player.as_ref().and_then(Script::line);
        things.extend(line.map(|line| format!("script line {line}")));
        match things.is_empty() {
            true => String::new(),
            false => format!(", still waiting for {}", things.join(" or ")),
        }
    }
}

fn tell_notes(machine: &dyn Running) {
    for event in machine.events() {
        match event {
            Event::Note(note) => console::tell(&note),
            Event::Stopped(stopped) => console::tell(&stopped.in_words()),
            Event::Hindered(reason) => {
                console::tell(&format!("{reason}: the machine waits, and goes on when there is room"));
            }
            Event::Reset | Event::State(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::player::Player;
    use crate::cli::script;
    use crate::running::fake::{Deed, Fake};

    fn text(text: &str) -> Watch {
        Watch { until_screen: Some(text.to_owned()), ..Watch::default() }
    }

    #[test]
    fn an_awaited_text_on_the_screen_is_success() {
        let (fake, now) = (Fake::new("x"), Instant::now());
        let mut watch = text("GRUB");
        assert_eq!(watch.poll(&*fake, None, now, now), None);
        fake.set_screen("GNU GRUB 2.06");
        assert_eq!(watch.poll(&*fake, None, now, now), None, "the screen is not read at every tick");
        let verdict = watch.poll(&*fake, None, now, now + SCREEN_TICK).unwrap();
        assert_eq!((verdict.status(), verdict), (0, Verdict::Came("GRUB".into())));
    }

    #[test]
    fn a_text_that_comes_with_the_end_still_counts_and_one_that_does_not_is_an_error() {
        let (fake, now) = (Fake::new("x"), Instant::now());
        let missed = text("GRUB").poll(&*fake, Some(Ending::PoweredOff), now, now).unwrap();
        assert_eq!(missed.status(), 1);
        fake.set_screen("GRUB");
        assert_eq!(text("GRUB").poll(&*fake, Some(Ending::PoweredOff), now, now).unwrap().status(), 0);
    }

    #[test]
    fn endings_become_the_promised_statuses() {
        let (fake, now) = (Fake::new("x"), Instant::now());
        let status = |ending| Watch::default().poll(&*fake, Some(ending), now, now).unwrap().status();
        assert_eq!(status(Ending::PoweredOff), 0);
        assert_eq!(status(Ending::Failed("no".into())), 1);
        assert_eq!(status(Ending::DebugExit(0)), 1);
        assert_eq!(status(Ending::DebugExit(0x10)), 0x21);
        assert_eq!(status(Ending::DebugExit(0x81)), 0x03);
        assert_eq!(status(Ending::Crashed(Box::new(Fake::crash()))), 4);
    }

    #[test]
    fn time_over_names_what_was_waited_for() {
        let (fake, now) = (Fake::new("x"), Instant::now());
        let mut watch = Watch { timeout: Some(Duration::from_secs(5)), ..text("GRUB") };
        assert_eq!(watch.poll(&*fake, None, now, now + Duration::from_secs(4)), None);
        let verdict = watch.poll(&*fake, None, now, now + Duration::from_secs(5)).unwrap();
        assert_eq!(verdict.status(), 3);
        assert!(matches!(verdict, Verdict::TimeOver(reason) if reason.contains("GRUB")));
    }

    #[test]
    fn a_script_is_played_in_order() {
        let (fake, start) = (Fake::new("x"), Instant::now());
        let lines =
            script::parse("wait-screen login 5\ntype root\\n\nkey ctrl-c\nwait-serial \"# \"\nmouse 3 4")
                .unwrap();
        let mut watch = Watch { player: Some(Script::Here(Player::new(lines))), ..Watch::default() };
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(watch.poll(&*fake, None, start, at(0)), None);
        assert_eq!(fake.deeds(), []);
        fake.set_screen("login: ");
        assert_eq!(watch.poll(&*fake, None, start, at(10)), None);
        assert!(
            matches!(&fake.deeds()[..], [Deed::Type(text), Deed::Key(_, true), Deed::Key(_, true)] if text == "root\n")
        );
        assert_eq!(watch.poll(&*fake, None, start, at(100)), None);
        assert!(matches!(&fake.deeds()[3..], [Deed::Key(_, false), Deed::Key(_, false)]));
        watch.serial.push(b"host # ");
        assert_eq!(watch.poll(&*fake, None, start, at(110)), Some(Verdict::Played));
        assert_eq!(fake.deeds().last(), Some(&Deed::Mouse(3, 4, 0, 0)));
    }

    #[test]
    fn a_guest_may_power_off_by_the_scripts_last_key_but_not_before_a_wait() {
        let (fake, start) = (Fake::new("x"), Instant::now());
        let end = |text: &str| {
            let mut watch = Watch {
                player: Some(Script::Here(Player::new(script::parse(text).unwrap()))),
                ..Watch::default()
            };
            watch.poll(&*fake, None, start, start);
            watch.poll(&*fake, Some(Ending::PoweredOff), start, start).unwrap().status()
        };
        assert_eq!(end("key f4\nsleep 1000"), 0);
        assert_eq!(end("key f4\nwait-screen more"), 1);
    }

    #[test]
    fn a_script_that_fails_names_its_line() {
        let (fake, start) = (Fake::new("x"), Instant::now());
        let play = |text: &str, ms| {
            let mut watch = Watch {
                player: Some(Script::Here(Player::new(script::parse(text).unwrap()))),
                ..Watch::default()
            };
            watch.poll(&*fake, None, start, start);
            watch.poll(&*fake, None, start, start + Duration::from_millis(ms)).unwrap()
        };
        let late = play("\nwait-screen never 2", 2000);
        assert_eq!(late.status(), 3);
        assert!(matches!(late, Verdict::TimeOver(reason) if reason.contains("line 2")));
        let absent = play("sleep 5\nexpect-screen nothing", 10);
        assert_eq!(absent.status(), 1);
    }
}
