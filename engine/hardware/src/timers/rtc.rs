//! MC146818 real-time clock and CMOS memory.
//!
//! Ports: 0x70 (index, and bit 7 masks NMI), 0x71 (data); 0x72, 0x73 the same for the second 128 bytes.
//! Lines: IRQ 8, high until register C is read. Time: a wall time given at construction (UTC) plus guest time,
//! so it stops with the machine. The second changes in one instant; update in progress shows for the 244
//! microseconds before. Byte 0x32 is the century.
//! Left out on purpose: daylight saving (bit kept), square wave output (bit kept), rates of other time
//! bases than 32 768 Hz. CMOS memory and time survive a reset, as their battery makes them.
//! Sources: Motorola MC146818A datasheet (ADI1030R1); PIIX4 datasheet, section 9.

use serde::{Deserialize, Serialize};

use super::calendar::{Calendar, DAY_SECONDS};
use super::lost_ticks::{LostTicks, TickCounts, Ticks};
use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::{Bus, WindowSpec};
use crate::clock::{Clock, Nanoseconds, ticks_at, time_of_tick};
use crate::device::{Device, LoadError, Shared, decode, encode, shared};
use crate::line::Line;

const SECOND_NS: i64 = 1_000_000_000;
/// How long before the update UIP rises (datasheet, table 6).
const UPDATE_NS: i64 = 244_000;
/// The time base.
const BASE_HZ: u64 = 32_768;

const SECONDS: usize = 0x00;
const SECONDS_ALARM: usize = 0x01;
const MINUTES: usize = 0x02;
const MINUTES_ALARM: usize = 0x03;
const HOURS: usize = 0x04;
const HOURS_ALARM: usize = 0x05;
const WEEKDAY: usize = 0x06;
const DAY: usize = 0x07;
const MONTH: usize = 0x08;
const YEAR: usize = 0x09;
const REGISTER_A: usize = 0x0A;
const REGISTER_B: usize = 0x0B;
const REGISTER_C: usize = 0x0C;
const REGISTER_D: usize = 0x0D;
const CENTURY: usize = 0x32;

const A_UPDATE_IN_PROGRESS: u8 = 0x80;
const B_SET: u8 = 0x80;
const B_ENABLES: u8 = 0x70;
const B_BINARY: u8 = 0x04;
const B_24_HOURS: u8 = 0x02;
const C_REQUEST: u8 = 0x80;
const C_PERIODIC: u8 = 0x40;
const C_ALARM: u8 = 0x20;
const C_UPDATE: u8 = 0x10;

/// The chip and its memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mc146818 {
    /// All bytes. The time registers in it count only while time stands still.
    cmos: Vec<u8>,
    index: u8,
    extended_index: u8,
    nmi_masked: bool,
    /// Second `origin_seconds` (since 1970) began at guest time `origin_ns`.
    origin_seconds: i64,
    origin_ns: i64,
    /// Days that the guest set the day of the week ahead of the calendar.
    weekday_ahead: u8,
    /// The second up to which updates and alarms have been seen.
    seen_seconds: i64,
    /// The periodic tick up to which register C has been told.
    seen_period: u64,
    /// What became of the ticks of the periodic interrupt, while it was enabled.
    #[serde(skip)]
    ticks: Ticks,
    /// When a tick that is owed is tried next.
    #[serde(skip)]
    replay_ns: Option<Nanoseconds>,
}

impl Mc146818 {
    /// A clock that shows `base_seconds` (since 1970, UTC) at guest time 0.
    pub fn new(base_seconds: i64) -> Mc146818 {
        let mut cmos = vec![0; 256];
        cmos[REGISTER_A] = 0x26;
        cmos[REGISTER_B] = B_24_HOURS;
        cmos[REGISTER_D] = 0x80;
        // Beyond the years a chip with a century byte can show there is no point in going.
        let base_seconds = base_seconds.clamp(0, 253_402_300_799);
        Mc146818 {
            cmos,
            index: 0,
            extended_index: 0,
            nmi_masked: false,
            origin_seconds: base_seconds,
            origin_ns: 0,
            weekday_ahead: 0,
            seen_seconds: base_seconds,
            seen_period: 0,
            ticks: Ticks::default(),
            replay_ns: None,
        }
    }

    /// The RESET pin (datasheet, "RESET"): enables and flags are cleared, time and memory stay.
    pub fn reset(&mut self) {
        self.ticks.forgive();
        self.cmos[REGISTER_B] &= !(B_ENABLES | 0x08);
        self.cmos[REGISTER_C] = 0;
        self.index = 0;
        self.extended_index = 0;
        self.nmi_masked = false;
    }

    /// Whether port 0x70 bit 7 masks NMI.
    pub fn nmi_masked(&self) -> bool {
        self.nmi_masked
    }

    /// The byte at `index`, as it stands in memory.
    pub fn cmos(&self, index: u8) -> u8 {
        self.cmos[usize::from(index)]
    }

    /// Sets a byte of memory, for the board.
    pub fn set_cmos(&mut self, index: u8, value: u8) {
        self.cmos[usize::from(index)] = value;
    }

    /// The IRQ output.
    pub fn output(&self) -> bool {
        self.cmos[REGISTER_C] & self.cmos[REGISTER_B] & B_ENABLES != 0
    }

    /// Whether time runs: SET is clear, and the divider is not held in reset.
    fn runs(&self) -> bool {
        self.cmos[REGISTER_B] & B_SET == 0 && !self.divider_in_reset()
    }

    fn divider_in_reset(&self) -> bool {
        self.cmos[REGISTER_A] & 0x60 == 0x60
    }

    fn since_origin(&self, now: Nanoseconds) -> i64 {
        (now as i64).saturating_sub(self.origin_ns)
    }

    /// Seconds since 1970 that the clock shows at `now`, while it runs.
    pub fn seconds(&self, now: Nanoseconds) -> i64 {
        self.origin_seconds + self.since_origin(now).div_euclid(SECOND_NS)
    }

    fn time_of_second(&self, second: i64) -> Nanoseconds {
        let ns = second.saturating_sub(self.origin_seconds).saturating_mul(SECOND_NS);
        ns.saturating_add(self.origin_ns).max(0) as u64
    }

    /// Ticks of the time base per periodic interrupt (datasheet, table 5); `None` for rate 0.
    fn period_ticks(&self) -> Option<u64> {
        match self.cmos[REGISTER_A] & 0xF {
            0 => None,
            1 => Some(1 << 7),
            2 => Some(1 << 8),
            rate => Some(1 << (rate - 1)),
        }
    }

    /// Lets time pass: sets the flags of register C.
    pub fn advance(&mut self, now: Nanoseconds) {
        if let Some(ticks) = self.period_ticks()
            && !self.divider_in_reset()
        {
            let period = ticks_at(now, BASE_HZ) / ticks;
            if period != self.seen_period {
                if self.cmos[REGISTER_B] & C_PERIODIC != 0 {
                    let passed = period.saturating_sub(self.seen_period).max(1);
                    self.tick(passed);
                } else {
                    self.cmos[REGISTER_C] |= C_PERIODIC;
                }
                self.seen_period = period;
            } else if self.replay_ns.is_some_and(|at| at <= now) {
                self.tick(0);
            }
            let period_ns = self.period_in_ns();
            if self.ticks.counts().owed == 0 {
                self.replay_ns = None;
            } else if self.replay_ns.is_none_or(|at| at <= now) {
                self.replay_ns = self.ticks.next_replay(now, period_ns);
            }
        }
        if !self.runs() {
            return;
        }
        let second = self.seconds(now);
        if second > self.seen_seconds {
            self.cmos[REGISTER_C] |= C_UPDATE;
            if self.next_alarm(self.seen_seconds).is_some_and(|at| at <= second) {
                self.cmos[REGISTER_C] |= C_ALARM;
            }
            self.seen_seconds = second;
        }
    }

    /// `passed` periods are over. The flag is the request, and the guest takes it by reading register C.
    fn tick(&mut self, passed: u64) {
        let pending = self.cmos[REGISTER_C] & C_PERIODIC != 0;
        if self.ticks.settle(passed, pending, self.period_in_ns()) {
            self.cmos[REGISTER_C] |= C_PERIODIC;
        }
    }

    fn period_in_ns(&self) -> u64 {
        self.period_ticks().map_or(0, |ticks| time_of_tick(ticks, BASE_HZ))
    }

    /// Whether the periodic interrupt asks for attention.
    fn has_ticked(&self) -> bool {
        self.cmos[REGISTER_B] & self.cmos[REGISTER_C] & C_PERIODIC != 0
    }

    /// What became of the ticks of the periodic interrupt.
    pub fn ticks(&self) -> TickCounts {
        self.ticks.counts()
    }

    /// What becomes of ticks that come too late.
    pub fn set_lost_ticks(&mut self, policy: LostTicks) {
        self.ticks.set_policy(policy);
    }

    /// The period of the periodic interrupt in guest nanoseconds, while it is enabled.
    pub fn periodic_ns(&self) -> Option<f64> {
        let ticks = self.period_ticks().filter(|_| self.cmos[REGISTER_B] & C_PERIODIC != 0)?;
        (!self.divider_in_reset()).then(|| ticks as f64 * 1e9 / BASE_HZ as f64)
    }

    /// When the output will next rise by itself; `None` while it is high, or if nothing is enabled.
    pub fn deadline(&self, now: Nanoseconds) -> Option<Nanoseconds> {
        if self.output() {
            return None;
        }
        let enabled = self.cmos[REGISTER_B];
        let periodic = self
            .period_ticks()
            .filter(|_| enabled & C_PERIODIC != 0 && !self.divider_in_reset())
            .map(|ticks| time_of_tick((ticks_at(now, BASE_HZ) / ticks + 1) * ticks, BASE_HZ));
        let second = self.seconds(now);
        let update = (enabled & C_UPDATE != 0 && self.runs()).then_some(second + 1);
        let alarm = if enabled & C_ALARM != 0 && self.runs() { self.next_alarm(second) } else { None };
        let seconds = update.into_iter().chain(alarm).map(|second| self.time_of_second(second));
        seconds.chain(periodic).chain(self.replay_ns).min()
    }

    /// The first second after `after` that the alarm registers match; 0xC0 and above match anything.
    fn next_alarm(&self, after: i64) -> Option<i64> {
        let wanted = |index: usize| (self.cmos[index] & 0xC0 != 0xC0).then_some(self.cmos[index]);
        let (hour, minute, second) = (wanted(HOURS_ALARM), wanted(MINUTES_ALARM), wanted(SECONDS_ALARM));
        let fits = |wanted: Option<u8>, shown: u8| wanted.is_none_or(|wanted| wanted == shown);
        let first = after + 1;
        let first_minute = first.div_euclid(60);
        // The alarm repeats daily, so a day and a minute of candidates are all there are.
        for minute_number in first_minute..=first_minute + DAY_SECONDS / 60 {
            let of_day = minute_number.rem_euclid(DAY_SECONDS / 60);
            if !fits(hour, self.shown_hour((of_day / 60) as u8))
                || !fits(minute, self.shown((of_day % 60) as u8))
            {
                continue;
            }
            let start = minute_number * 60;
            let hit = (0..60).find(|&n| start + n >= first && fits(second, self.shown(n as u8)));
            if let Some(n) = hit {
                return Some(start + n);
            }
        }
        None
    }

    /// A number as the registers show it: binary or BCD.
    fn shown(&self, number: u8) -> u8 {
        if self.cmos[REGISTER_B] & B_BINARY != 0 { number } else { ((number / 10 % 10) << 4) | (number % 10) }
    }

    fn meant(&self, shown: u8) -> u8 {
        if self.cmos[REGISTER_B] & B_BINARY != 0 { shown } else { (shown >> 4) * 10 + (shown & 0xF) }
    }

    /// An hour of 0 to 23 as the register shows it; in 12-hour mode bit 7 is PM.
    fn shown_hour(&self, hour: u8) -> u8 {
        if self.cmos[REGISTER_B] & B_24_HOURS != 0 {
            return self.shown(hour);
        }
        let twelve = if hour.is_multiple_of(12) { 12 } else { hour % 12 };
        self.shown(twelve) | if hour >= 12 { 0x80 } else { 0 }
    }

    fn meant_hour(&self, shown: u8) -> u8 {
        if self.cmos[REGISTER_B] & B_24_HOURS != 0 {
            return self.meant(shown);
        }
        self.meant(shown & 0x7F) % 12 + if shown & 0x80 != 0 { 12 } else { 0 }
    }

    /// The time registers as they show `seconds`.
    fn show(&mut self, seconds: i64) {
        let time = Calendar::from_seconds(seconds);
        let weekday = (Calendar::weekday(seconds) - 1 + self.weekday_ahead % 7) % 7 + 1;
        let (year, century) =
            (time.year.rem_euclid(100) as u8, time.year.div_euclid(100).rem_euclid(100) as u8);
        for (index, value) in [
            (SECONDS, self.shown(time.second)),
            (MINUTES, self.shown(time.minute)),
            (HOURS, self.shown_hour(time.hour)),
            (WEEKDAY, self.shown(weekday)),
            (DAY, self.shown(time.day)),
            (MONTH, self.shown(time.month)),
            (YEAR, self.shown(year)),
            (CENTURY, self.shown(century)),
        ] {
            self.cmos[index] = value;
        }
    }

    /// Makes the clock go on from what the time registers say; `now` keeps its place within the second.
    fn adopt(&mut self, now: Nanoseconds) {
        let field = |index: usize| self.meant(self.cmos[index]);
        let time = Calendar {
            year: i64::from(field(CENTURY)) * 100 + i64::from(field(YEAR)),
            month: field(MONTH),
            day: field(DAY),
            hour: self.meant_hour(self.cmos[HOURS]),
            minute: field(MINUTES),
            second: field(SECONDS),
        };
        let seconds = time.to_seconds();
        let weekday = i64::from(field(WEEKDAY)) - i64::from(Calendar::weekday(seconds));
        self.weekday_ahead = weekday.rem_euclid(7) as u8;
        self.origin_ns = (now as i64).saturating_sub(self.since_origin(now).rem_euclid(SECOND_NS));
        self.origin_seconds = seconds;
        self.seen_seconds = seconds;
    }

    fn is_time(index: usize) -> bool {
        matches!(index, SECONDS | MINUTES | HOURS | WEEKDAY | DAY | MONTH | YEAR | CENTURY)
    }

    /// Reads the byte at `index`.
    pub fn read(&mut self, index: u8, now: Nanoseconds) -> u8 {
        self.advance(now);
        match usize::from(index) {
            index if Mc146818::is_time(index) => {
                if self.runs() {
                    self.show(self.seconds(now));
                }
                self.cmos[index]
            }
            REGISTER_A => {
                let near = self.since_origin(now).rem_euclid(SECOND_NS) >= SECOND_NS - UPDATE_NS;
                let updating = if self.runs() && near { A_UPDATE_IN_PROGRESS } else { 0 };
                self.cmos[REGISTER_A] | updating
            }
            REGISTER_C => {
                let request = if self.output() { C_REQUEST } else { 0 };
                std::mem::take(&mut self.cmos[REGISTER_C]) | request
            }
            index => self.cmos[index],
        }
    }

    /// Writes the byte at `index`.
    pub fn write(&mut self, index: u8, value: u8, now: Nanoseconds) {
        self.advance(now);
        match usize::from(index) {
            index if Mc146818::is_time(index) => {
                if self.runs() {
                    self.show(self.seconds(now));
                }
                self.cmos[index] = value;
                if self.runs() {
                    self.adopt(now);
                }
            }
            REGISTER_A => self.control(REGISTER_A, value & 0x7F, now),
            // Datasheet, register B: setting SET clears UIE.
            REGISTER_B if value & B_SET != 0 => self.control(REGISTER_B, value & !C_UPDATE, now),
            REGISTER_B => self.control(REGISTER_B, value, now),
            REGISTER_C | REGISTER_D => {}
            index => self.cmos[index] = value,
        }
    }

    /// Writes register A or B. Time stops and goes on, and changes its look, with them.
    fn control(&mut self, register: usize, value: u8, now: Nanoseconds) {
        let (ran, was_in_reset, rate) = (self.runs(), self.divider_in_reset(), self.period_ticks());
        // The look (BCD or binary, 12 or 24 hours) does not convert what the guest wrote while SET.
        if ran {
            self.show(self.seconds(now));
        }
        self.cmos[register] = value;
        if self.runs() && !ran {
            if was_in_reset {
                // Datasheet, divider control: the first update comes half a second after the reset ends.
                self.origin_ns = (now as i64).saturating_sub(SECOND_NS / 2);
            }
            self.adopt(now);
        }
        if rate != self.period_ticks() || self.cmos[REGISTER_B] & C_PERIODIC == 0 {
            self.ticks.forgive();
        }
        if let Some(ticks) = self.period_ticks().filter(|&ticks| rate != Some(ticks) || was_in_reset) {
            self.seen_period = ticks_at(now, BASE_HZ) / ticks;
        }
    }

    fn is_valid(&self) -> bool {
        let near = |seconds: i64| (-100_000_000_000..1_000_000_000_000).contains(&seconds);
        self.cmos.len() == 256
            && self.index < 0x80
            && self.extended_index < 0x80
            && near(self.origin_seconds)
            && near(self.seen_seconds)
            && self.origin_ns.unsigned_abs() < 1 << 62
    }
}

/// The clock on its ports.
pub struct Rtc {
    chip: Mc146818,
    clock: Clock,
    line: Line,
    alarm: Alarm,
}

impl Rtc {
    /// A clock that shows `base_seconds` since 1970 (UTC) at guest time 0 and drives `line`. `alarm` must
    /// lead to its [`Device::advance`].
    pub fn new(base_seconds: i64, clock: Clock, line: Line, alarm: Alarm) -> Rtc {
        Rtc { chip: Mc146818::new(base_seconds), clock, line, alarm }
    }

    /// Puts it on the bus at 0x70 to 0x73.
    pub fn install(self, bus: &Bus) -> Shared<Rtc> {
        let device = shared(self);
        bus.add(&device, 0, WindowSpec::ports(4), Some(0x70));
        device
    }

    /// The chip, for the inspector.
    pub fn chip(&self) -> &Mc146818 {
        &self.chip
    }

    /// The counters since the machine was built.
    pub fn counts(&self) -> TickCounts {
        self.chip.ticks()
    }

    /// What becomes of ticks that come too late.
    pub fn set_lost_ticks(&mut self, policy: LostTicks) {
        self.chip.set_lost_ticks(policy);
        self.settle();
    }

    /// Seconds since 1970 that the guest's clock shows.
    pub fn seconds(&self) -> i64 {
        self.chip.seconds(self.clock.now())
    }

    /// Whether the guest masks NMI by port 0x70 bit 7.
    pub fn nmi_masked(&self) -> bool {
        self.chip.nmi_masked()
    }

    /// Sets a byte of CMOS memory: the board's way to tell firmware of memory size and drives.
    pub fn set_cmos(&mut self, index: u8, value: u8) {
        self.chip.set_cmos(index, value);
    }

    /// Derives the line and the alarm from the chip.
    fn settle(&mut self) {
        let now = self.clock.now();
        self.chip.advance(now);
        self.line.set(self.chip.output());
        self.alarm.set(self.chip.deadline(now));
    }
}

impl Device for Rtc {
    fn name(&self) -> &str {
        "mc146818"
    }

    fn read(&mut self, at: At, _width: Width) -> u64 {
        let now = self.clock.now();
        let value = match at.offset & 3 {
            1 => self.chip.read(self.chip.index, now),
            3 => self.chip.read(self.chip.extended_index | 0x80, now),
            // The index registers cannot be read on a PC/AT.
            _ => 0xFF,
        };
        // Reading register C lets the line fall, even if the next tick raises it in the same moment: controllers see edges.
        self.line.set(self.chip.output());
        self.settle();
        value.into()
    }

    fn write(&mut self, at: At, _width: Width, value: u64) {
        // What has ticked until now has done so before the guest changes anything.
        self.settle();
        let (now, value) = (self.clock.now(), value as u8);
        let waited = self.chip.has_ticked() && self.line.is_pending();
        match at.offset & 3 {
            0 => {
                self.chip.index = value & 0x7F;
                self.chip.nmi_masked = value & 0x80 != 0;
            }
            1 => self.chip.write(self.chip.index, value, now),
            2 => self.chip.extended_index = value & 0x7F,
            _ => self.chip.write(self.chip.extended_index | 0x80, value, now),
        }
        self.settle();
        if waited && !self.chip.has_ticked() && !self.line.is_pending() {
            self.chip.ticks.withdraw();
        }
    }

    fn reset(&mut self) {
        self.chip.reset();
        self.settle();
    }

    fn advance(&mut self) {
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let chip: Mc146818 = decode(self.name(), state)?;
        if !chip.is_valid() {
            let reason = "a register holds a value the chip cannot hold".to_owned();
            return Err(LoadError { device: self.name().to_owned(), reason });
        }
        // The books and their policy are the machine's, not the chip's.
        let mut ticks = self.chip.ticks;
        ticks.forgive();
        self.chip = Mc146818 { ticks, ..chip };
        self.settle();
        Ok(())
    }
}

#[cfg(test)]
#[path = "rtc_tests.rs"]
mod tests;
