//! The local APIC's timer: one-shot, periodic and TSC-deadline, computed from guest time without ticking.
//!
//! The timer's input clock is [`BUS_HZ`], divided by 1 to 128. Source: Intel SDM volume 3, section 11.5.4.

use serde::{Deserialize, Serialize};

use crate::clock::{Nanoseconds, time_of_tick};

/// Frequency of the timer's input clock: one tick per nanosecond, so that no rounding happens.
pub const BUS_HZ: u64 = 1_000_000_000;
/// A periodic timer wakes the machine no more often than this; the periods between are merged.
const SHORTEST_WAKE_NS: u64 = 10_000;

/// LVT bits 18 and 17.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerMode {
    /// Counts down once.
    OneShot,
    /// Starts again at zero.
    Periodic,
    /// Fires when the time-stamp counter reaches a value.
    TscDeadline,
    /// Reserved encoding 11: never fires.
    Reserved,
}

impl TimerMode {
    /// The manual's word for it.
    pub fn name(self) -> &'static str {
        match self {
            TimerMode::OneShot => "one-shot",
            TimerMode::Periodic => "periodic",
            TimerMode::TscDeadline => "TSC deadline",
            TimerMode::Reserved => "reserved",
        }
    }

    /// The mode that the timer's LVT entry selects.
    pub fn from_lvt(lvt: u32) -> TimerMode {
        match (lvt >> 17) & 3 {
            0 => TimerMode::OneShot,
            1 => TimerMode::Periodic,
            2 => TimerMode::TscDeadline,
            _ => TimerMode::Reserved,
        }
    }
}

/// The timer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timer {
    mode: TimerMode,
    initial: u32,
    /// The divide configuration register.
    divide: u32,
    /// When the count reaches zero, or the deadline's guest time.
    expires_ns: Option<Nanoseconds>,
    /// IA32_TSC_DEADLINE; zero when disarmed.
    tsc_deadline: u64,
    /// When it last expired.
    fired_ns: Nanoseconds,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer {
            mode: TimerMode::OneShot,
            initial: 0,
            divide: 0,
            expires_ns: None,
            tsc_deadline: 0,
            fired_ns: 0,
        }
    }
}

impl Timer {
    /// The initial count register.
    pub fn initial(&self) -> u32 {
        self.initial
    }

    /// The divide configuration register.
    pub fn divide(&self) -> u32 {
        self.divide
    }

    /// IA32_TSC_DEADLINE.
    pub fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    /// The mode.
    pub fn mode(&self) -> TimerMode {
        self.mode
    }

    /// Nanoseconds per count. SDM figure 11-10: bits 3, 1, 0; 111 divides by 1.
    fn count_ns(&self) -> u64 {
        let bits = self.divide & 3 | (self.divide >> 1) & 4;
        1 << ((bits + 1) & 7)
    }

    /// Guest nanoseconds from the initial count to zero.
    pub fn period_ns(&self) -> u64 {
        u64::from(self.initial) * self.count_ns()
    }

    /// The current count register.
    pub fn current(&self, now: Nanoseconds) -> u32 {
        match self.mode {
            TimerMode::OneShot | TimerMode::Periodic => {
                let left = self.expires_ns.map_or(0, |at| at.saturating_sub(now));
                left.div_ceil(self.count_ns()).min(self.initial.into()) as u32
            }
            _ => 0,
        }
    }

    /// Writes the initial count register: the countdown starts, or with zero it stops.
    pub fn set_initial(&mut self, initial: u32, now: Nanoseconds) {
        if matches!(self.mode, TimerMode::TscDeadline) {
            return;
        }
        self.initial = initial;
        self.expires_ns = (initial != 0).then(|| now.saturating_add(self.period_ns()));
    }

    /// Writes the divide configuration register; the current count goes on at the new rate.
    pub fn set_divide(&mut self, divide: u32, now: Nanoseconds) {
        let left = u64::from(self.current(now));
        self.divide = divide & 0xB;
        if matches!(self.mode, TimerMode::OneShot | TimerMode::Periodic) && self.expires_ns.is_some() {
            self.expires_ns = Some(now.saturating_add(left * self.count_ns()));
        }
    }

    /// The LVT entry selects a mode. To or from TSC-deadline disarms (SDM 3, 11.5.4.1).
    pub fn set_mode(&mut self, mode: TimerMode) {
        if mode != self.mode && (mode == TimerMode::TscDeadline || self.mode == TimerMode::TscDeadline) {
            self.expires_ns = None;
            self.tsc_deadline = 0;
        }
        self.mode = mode;
    }

    /// Writes IA32_TSC_DEADLINE; ignored in the other modes. `tsc_hz` counts from guest time 0.
    pub fn set_tsc_deadline(&mut self, deadline: u64, tsc_hz: u64) {
        if self.mode == TimerMode::TscDeadline {
            self.tsc_deadline = deadline;
            self.expires_ns = (deadline != 0).then(|| time_of_tick(deadline, tsc_hz));
        }
    }

    /// Lets time pass: how many times the timer has expired since the last call.
    pub fn advance(&mut self, now: Nanoseconds) -> u64 {
        let Some(expires) = self.expires_ns.filter(|&at| at <= now) else { return 0 };
        self.fired_ns = now;
        let period = self.period_ns();
        if self.mode == TimerMode::Periodic && period != 0 {
            let times = (now - expires) / period + 1;
            self.expires_ns = expires.checked_add(times.saturating_mul(period));
            return times;
        }
        self.expires_ns = None;
        self.tsc_deadline = 0;
        u64::from(self.mode != TimerMode::Reserved)
    }

    /// When [`Timer::advance`] is next needed.
    pub fn deadline(&self) -> Option<Nanoseconds> {
        match self.mode {
            TimerMode::Reserved => None,
            TimerMode::Periodic => {
                self.expires_ns.map(|at| at.max(self.fired_ns.saturating_add(SHORTEST_WAKE_NS)))
            }
            _ => self.expires_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_divisor_of_the_manual() {
        let mut timer = Timer::default();
        for (divide, by) in [
            (0b0000, 2),
            (0b0001, 4),
            (0b0010, 8),
            (0b0011, 16),
            (0b1000, 32),
            (0b1001, 64),
            (0b1010, 128),
            (0b1011, 1),
        ] {
            timer.set_divide(divide, 0);
            timer.set_initial(1000, 0);
            assert_eq!(timer.deadline(), Some(1000 * by), "divide {divide:04b}");
            assert_eq!(timer.current(10 * by), 990);
        }
    }

    #[test]
    fn one_shot_fires_once_and_stays_at_zero() {
        let mut timer = Timer::default();
        timer.set_divide(0xB, 0);
        timer.set_initial(500, 100);
        assert_eq!((timer.advance(599), timer.current(599)), (0, 1));
        assert_eq!((timer.advance(600), timer.current(600)), (1, 0));
        assert_eq!((timer.advance(10_000), timer.deadline()), (0, None));
    }

    #[test]
    fn periodic_keeps_its_phase_and_counts_what_it_missed() {
        let mut timer = Timer::default();
        timer.set_mode(TimerMode::Periodic);
        timer.set_divide(0xB, 0);
        timer.set_initial(100_000, 0);
        assert_eq!(timer.advance(350_000), 3);
        assert_eq!(timer.deadline(), Some(400_000));
        assert_eq!(timer.current(350_000), 50_000);
        timer.set_initial(0, 350_000);
        assert_eq!((timer.advance(900_000), timer.deadline()), (0, None));
    }

    #[test]
    fn a_very_short_period_does_not_wake_without_end() {
        let mut timer = Timer::default();
        timer.set_mode(TimerMode::Periodic);
        timer.set_initial(1, 0);
        assert_eq!(timer.advance(1_000), 500);
        assert_eq!(timer.deadline(), Some(1_000 + SHORTEST_WAKE_NS));
    }

    #[test]
    fn the_tsc_deadline_fires_at_its_tick_and_disarms() {
        let mut timer = Timer::default();
        timer.set_tsc_deadline(3_000, 3_000_000_000);
        assert_eq!(timer.tsc_deadline(), 0, "ignored in one-shot mode");
        timer.set_mode(TimerMode::TscDeadline);
        timer.set_tsc_deadline(3_000, 3_000_000_000);
        assert_eq!(timer.deadline(), Some(1_000));
        assert_eq!(timer.advance(999), 0);
        assert_eq!(timer.advance(1_000), 1);
        assert_eq!(timer.tsc_deadline(), 0);
        timer.set_tsc_deadline(9_000, 3_000_000_000);
        timer.set_mode(TimerMode::OneShot);
        assert_eq!(timer.deadline(), None, "a change of mode disarms");
    }
}
