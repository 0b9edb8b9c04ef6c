//! The guest that counts the ticks of one timer (`guests/control/timers.asm`), and what it and the machine say of them.

use std::time::{Duration, Instant};

use engine::machine::Timer;
use engine::profile::{LostTicks, Profile};

use crate::{Guest, SOFT, assembler};

/// Which timer ticks, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Program {
    /// 8254 channel 0 in mode 2 or 3, with this count of 1 193 182 Hz.
    Pit {
        /// 2 or 3.
        mode: u8,
        /// Input ticks for one output tick.
        count: u16,
    },
    /// The RTC's periodic interrupt at this rate: 32 768 Hz >> (rate - 1).
    Rtc {
        /// 3 to 15.
        rate: u8,
    },
    /// The local APIC's timer, periodic, every so many nanoseconds.
    Apic {
        /// Its period.
        period_ns: u32,
    },
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Interrupts the guest took.
    pub ticks: u64,
    /// Nanoseconds that passed by the guest's time-stamp counter.
    pub passed_ns: u64,
    /// How much later than their begin the timer ran, at the latest: the host may let the guest wait meanwhile.
    pub started_ns: u64,
    /// How much later than their end it was stopped, at the latest.
    pub stopped_ns: u64,
    /// What the host's clock says of the same time.
    pub wall: Duration,
    /// The monitor's books of that timer.
    pub timer: Timer,
}

impl Program {
    /// Its frequency.
    pub fn hz(self) -> f64 {
        match self {
            Program::Pit { count, .. } => 1_193_182.0 / f64::from(count),
            Program::Rtc { rate } => 32_768.0 / f64::from(1u32 << (rate - 1)),
            Program::Apic { period_ns } => 1e9 / f64::from(period_ns),
        }
    }

    /// In a few words.
    pub fn name(self) -> String {
        match self {
            Program::Pit { mode, .. } => format!("8254 mode {mode}"),
            Program::Rtc { .. } => "RTC".to_owned(),
            Program::Apic { .. } => "local APIC".to_owned(),
        }
    }

    /// The guest's code that counts for `lasts`.
    fn code(self, lasts: Duration) -> Vec<u8> {
        let mut code = assembler::binary("control/timers");
        let mark = b"TIMERS";
        let found = code.windows(mark.len()).position(|bytes| bytes == mark);
        let at = found.expect("the guest has its mark") + mark.len();
        let (timer, way, count) = match self {
            Program::Pit { mode, count } => (0u32, 0x30 | u32::from(mode) << 1, u32::from(count)),
            Program::Rtc { rate } => (1, u32::from(rate), 0),
            Program::Apic { period_ns } => (2, 0, period_ns),
        };
        for (n, word) in [timer, way, count].into_iter().enumerate() {
            code[at + 4 * n..at + 4 * n + 4].copy_from_slice(&word.to_le_bytes());
        }
        code[at + 12..at + 20].copy_from_slice(&(lasts.as_nanos() as u64).to_le_bytes());
        code
    }

    /// Counts for `lasts` on the software CPU.
    pub fn run(self, lasts: Duration, policy: LostTicks) -> Outcome {
        let mut profile = Profile::new("ticks");
        profile.lost_ticks = policy;
        let guest = Guest::flat_in(profile, &self.code(lasts), SOFT);
        let patience = lasts.as_secs() * 4 + 60;
        // When a mark came, to a millisecond.
        let at = |mark: u8| {
            let deadline = Instant::now() + Duration::from_secs(patience);
            while !guest.debug_console_bytes().contains(&mark) {
                assert!(Instant::now() < deadline, "{self:?}: the guest did not say {mark}");
                std::thread::sleep(Duration::from_millis(1));
            }
            Instant::now()
        };
        let begun = at(b'S');
        let wall = at(b'E') - begun;
        guest.wait_pass(60);
        let said = guest.debug_console_bytes();
        let word = |n: usize| {
            let bytes = &said[2 + 4 * n..6 + 4 * n];
            u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let name = match self {
            Program::Pit { .. } => "8254 channel 0",
            Program::Rtc { .. } => "RTC",
            Program::Apic { .. } => "local APIC 0",
        };
        let timers = guest.session().stats().timers.guest;
        let timer = timers.into_iter().find(|timer| timer.name == name).expect("the machine has this timer");
        let passed_ns = word(1) | word(2) << 32;
        Outcome { ticks: word(0), passed_ns, started_ns: word(3), stopped_ns: word(4), wall, timer }
    }
}

impl Outcome {
    /// Checks the books: every tick that came due was delivered, merged, withdrawn as the timer was stopped, or is owed;
    /// the guest took as many as were delivered; and as many came due as its own clock says.
    pub fn check(&self, program: Program) -> Result<(), String> {
        let Timer { raised, delivered, merged, owed, withdrawn, .. } = self.timer;
        let told = || format!("{program:?}: {self:?}");
        if raised != delivered + merged + owed + withdrawn {
            return Err(format!("ticks are lost: {}", told()));
        }
        if self.ticks != delivered {
            return Err(format!("the guest took {} of {delivered} delivered: {}", self.ticks, told()));
        }
        let due = |ns: u64| ns as f64 / 1e9 * program.hz();
        let least = due(self.passed_ns.saturating_sub(self.started_ns)) - 2.0;
        let most = due(self.passed_ns + self.stopped_ns) + 2.0;
        if !(least..=most).contains(&(raised as f64)) {
            return Err(format!("{raised} ticks came due, {least:.1} to {most:.1} should have: {}", told()));
        }
        Ok(())
    }
}
