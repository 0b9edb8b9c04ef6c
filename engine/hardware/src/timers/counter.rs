//! One counter of an 8254: all six modes, computed from elapsed clock ticks, never by ticking.
//!
//! Times are ticks of the 1 193 182 Hz input clock. A count written at tick t is loaded at t + 1, as in
//! the datasheet. A count of 1 in modes 2 and 3 is illegal there; here the output then stays high.
//! Source: Intel 8254 datasheet (231164-005), "Mode definitions" and "Operation common to all modes".

use serde::{Deserialize, Serialize};

/// A point in time, in ticks of the input clock since power-on.
pub type Tick = i64;

/// How a control word says that counts are written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Bytes {
    /// Least significant byte only.
    Low = 1,
    /// Most significant byte only.
    High = 2,
    /// Least, then most significant byte.
    Both = 3,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counter {
    /// 0 to 5.
    mode: u8,
    bytes: Bytes,
    bcd: bool,
    gate: bool,
    /// First byte of a two-byte count, while the second is awaited.
    half_written: Option<u8>,
    /// The next read gives the most significant byte.
    read_high: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
    /// The count register as a number of ticks, 1 to 65536, once a count is written.
    count: Option<u32>,
    /// The number loaded into the counting element last.
    loaded: u32,
    /// When it was loaded; `None` while the counter waits for a count or a trigger.
    start: Option<Tick>,
    /// The phase at which the gate holds the counter.
    held: Option<Tick>,
    /// When a new count takes effect in the periodic modes.
    reload_at: Option<Tick>,
    /// The output before `start`.
    before: bool,
    /// Status bit 6: the count register is newer than the counting element.
    null_count: bool,
    /// Rising output edges have been counted up to this tick.
    seen: Tick,
}

impl Counter {
    /// A counter at power-on: undefined in the datasheet; here mode 0 with no count, output high.
    pub fn new(gate: bool) -> Counter {
        Counter {
            mode: 0,
            bytes: Bytes::Both,
            bcd: false,
            gate,
            half_written: None,
            read_high: false,
            latched_count: None,
            latched_status: None,
            count: None,
            loaded: 0x1_0000,
            start: None,
            held: None,
            reload_at: None,
            before: true,
            null_count: true,
            seen: 0,
        }
    }

    /// The mode, 0 to 5.
    pub fn mode(&self) -> u8 {
        self.mode
    }

    /// Whether the output repeats by itself (modes 2 and 3).
    pub fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    /// The count register in ticks, once a count is written.
    pub fn count(&self) -> Option<u32> {
        self.count
    }

    /// The gate input.
    pub fn gate(&self) -> bool {
        self.gate
    }

    /// Ticks since the count was loaded; negative before that.
    fn phase(&self, t: Tick) -> Option<Tick> {
        self.held.or_else(|| Some(t - self.start?))
    }

    fn period(&self) -> Tick {
        self.loaded.into()
    }

    /// Mode 3: how long the output is high; one tick longer than low if the count is odd.
    fn high_ticks(&self) -> Tick {
        (self.period() + 1) / 2
    }

    /// The output at tick `t`, which must not lie before the last call of [`Counter::advance`].
    pub fn output(&self, t: Tick) -> bool {
        let Some(phase) = self.phase(t) else { return self.before };
        if self.is_periodic() && (self.held.is_some() || self.period() == 1) {
            // The gate, low, forces the output high.
            return true;
        }
        if phase < 0 {
            return self.before;
        }
        let period = self.period();
        match self.mode {
            0 | 1 => phase >= period,
            2 => phase % period != period - 1,
            3 => phase % period < self.high_ticks(),
            _ => phase != period,
        }
    }

    /// The counting element at tick `t`, as it is read.
    fn value(&self, t: Tick) -> u16 {
        let period = self.period();
        let phase = self.phase(t).unwrap_or(0).max(0);
        let left = match self.mode {
            2 => period - phase % period,
            3 => {
                let (phase, high) = (phase % period, self.high_ticks());
                (period & !1) - 2 * if phase < high { phase } else { phase - high }
            }
            _ => period - phase,
        };
        if self.bcd { to_bcd(left.rem_euclid(10_000)) } else { left as u16 }
    }

    /// Lets time pass up to tick `t`; how many times the output rose.
    pub fn advance(&mut self, t: Tick) -> u64 {
        if t <= self.seen {
            return 0;
        }
        let mut rises = 0;
        if let Some(at) = self.reload_at.filter(|&at| at <= t) {
            if at > self.seen {
                rises += self.rises(self.seen, at);
                self.seen = at;
            }
            self.reload(at);
        }
        rises += self.rises(self.seen, t);
        if self.start.is_some_and(|start| self.seen < start && start <= t) {
            // The count register has just been copied into the counting element, also while the gate is low.
            self.null_count = self.reload_at.is_some();
        }
        self.seen = t;
        rises
    }

    /// The new count of a periodic mode takes effect at `at`, the end of a period or half period.
    fn reload(&mut self, at: Tick) {
        let half = self.mode == 3 && self.phase(at).is_some_and(|phase| phase % self.period() != 0);
        self.reload_at = None;
        self.loaded = self.count.unwrap_or(self.loaded);
        self.start = Some(if half { at - self.high_ticks() } else { at });
        self.null_count = false;
    }

    /// Rising edges in the ticks after `from` up to and including `to`.
    fn rises(&self, from: Tick, to: Tick) -> u64 {
        let (None, Some(start)) = (self.held, self.start) else { return 0 };
        let (from, to, period) = ((from - start).max(-1), to - start, self.period());
        if self.is_periodic() {
            let passed = |phase: Tick| if phase < 0 || period == 1 { 0 } else { phase / period };
            return (passed(to) - passed(from)).max(0) as u64;
        }
        let at = if self.mode < 2 { period } else { period + 1 };
        u64::from(from < at && at <= to)
    }

    /// The next tick after `t` at which the output changes by itself.
    pub fn next_edge(&self, t: Tick) -> Option<Tick> {
        self.next(t, false)
    }

    /// The next tick after `t` at which the output rises by itself.
    pub fn next_rise(&self, t: Tick) -> Option<Tick> {
        self.next(t, true)
    }

    fn next(&self, t: Tick, rising: bool) -> Option<Tick> {
        let edge = self.next_of_loaded(t, rising);
        match self.reload_at {
            Some(at) if edge.is_none_or(|edge| edge >= at) => {
                let mut later = self.clone();
                later.advance(at);
                // The end of a half period is an edge, unless the new count is one that stops the output.
                let (old, new) = (self.output(at - 1), later.output(at));
                if at > t && old != new && (new || !rising) {
                    Some(at)
                } else {
                    later.next_of_loaded(at.max(t), rising)
                }
            }
            _ => edge,
        }
    }

    fn next_of_loaded(&self, t: Tick, rising: bool) -> Option<Tick> {
        let (None, Some(start)) = (self.held, self.start) else { return None };
        let (phase, period) = (t - start, self.period());
        if !self.is_periodic() {
            let edges = match self.mode {
                0 => [None, Some(period)],
                1 => [(!rising && self.before).then_some(0), Some(period)],
                _ => [(!rising).then_some(period), Some(period + 1)],
            };
            return edges.into_iter().flatten().find(|&edge| edge > phase).map(|edge| start + edge);
        }
        if period == 1 {
            return None;
        }
        let fall = if self.mode == 2 { period - 1 } else { self.high_ticks() };
        let base = phase.max(0) / period * period;
        let edges = [base + fall, base + period, base + period + fall];
        let falls = [true, false, true];
        let wanted = edges.iter().zip(falls).filter(|&(_, falls)| !(rising && falls));
        wanted.map(|(&edge, _)| edge).find(|&edge| edge > phase).map(|edge| start + edge)
    }

    /// A control word for this counter, other than a latch command. Says whether the output rose.
    pub fn control(&mut self, word: u8, t: Tick) -> bool {
        let old = self.output(t);
        let bytes = match (word >> 4) & 3 {
            1 => Bytes::Low,
            2 => Bytes::High,
            _ => Bytes::Both,
        };
        let mode = (word >> 1) & 7;
        let mode = if mode > 5 { mode & 3 } else { mode };
        *self = Counter {
            mode,
            bytes,
            bcd: word & 1 != 0,
            before: mode != 0,
            loaded: self.loaded,
            seen: self.seen,
            ..Counter::new(self.gate)
        };
        !old && self.output(t)
    }

    /// A byte of a count is written. Says whether the output rose.
    pub fn write(&mut self, byte: u8, t: Tick) -> bool {
        let old = self.output(t);
        let raw = match (self.bytes, self.half_written.take()) {
            (Bytes::Low, _) => u16::from(byte),
            (Bytes::High, _) => u16::from(byte) << 8,
            (Bytes::Both, Some(low)) => u16::from_le_bytes([low, byte]),
            (Bytes::Both, None) => {
                self.half_written = Some(byte);
                if self.mode == 0 {
                    // Datasheet, mode 0: the first byte disables counting and sets the output low.
                    self.start = None;
                    self.held = None;
                    self.before = false;
                }
                return false;
            }
        };
        self.set_count(raw, t);
        !old && self.output(t)
    }

    fn set_count(&mut self, raw: u16, t: Tick) {
        let count = if self.bcd { from_bcd(raw) } else { raw.into() };
        let count = match (count, self.bcd) {
            (0, false) => 0x1_0000,
            (0, true) => 10_000,
            (count, _) => count,
        };
        self.count = Some(count);
        self.null_count = true;
        match self.mode {
            // Triggered by the gate alone.
            1 | 5 => {}
            2 | 3 if self.start.is_some() => {
                // Held, the count waits for the gate; else for the end of the (half) period.
                self.reload_at = if self.held.is_some() { None } else { self.next_boundary(t) };
            }
            _ => {
                self.loaded = count;
                self.start = Some(t + 1);
                self.before = self.mode != 0;
                self.held = (!self.gate).then_some(-1);
            }
        }
    }

    /// When a periodic mode next reloads its counting element, after tick `t`.
    fn next_boundary(&self, t: Tick) -> Option<Tick> {
        let start = self.start?;
        let (phase, period) = (t - start, self.period());
        if phase < 0 {
            return Some(start);
        }
        let base = phase / period * period;
        let half = base + self.high_ticks();
        Some(start + if self.mode == 3 && phase < half { half } else { base + period })
    }

    /// Drives the gate input. Says whether the output rose.
    pub fn set_gate(&mut self, gate: bool, t: Tick) -> bool {
        if gate == self.gate {
            return false;
        }
        let old = self.output(t);
        self.gate = gate;
        match (self.mode, gate) {
            (0 | 4, false) => self.held = self.phase(t),
            (0 | 4, true) => {
                if let Some(phase) = self.held.take() {
                    self.start = Some(t.saturating_sub(phase));
                }
            }
            (2 | 3, false) => {
                self.held = self.phase(t);
                self.reload_at = None;
            }
            (2 | 3, true) => {
                if self.start.is_some() {
                    self.load_at(t + 1, true);
                }
            }
            (_, true) => {
                if self.count.is_some() {
                    let before = self.mode == 5 || old;
                    self.load_at(t + 1, before);
                }
            }
            (_, false) => {}
        }
        !old && self.output(t)
    }

    fn load_at(&mut self, start: Tick, before: bool) {
        self.loaded = self.count.unwrap_or(self.loaded);
        self.start = Some(start);
        self.held = None;
        self.reload_at = None;
        self.before = before;
    }

    /// Latches the count, unless one is latched already.
    pub fn latch_count(&mut self, t: Tick) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.value(t));
        }
    }

    /// Latches the status byte, unless one is latched already.
    pub fn latch_status(&mut self, t: Tick) {
        if self.latched_status.is_none() {
            // 8254 datasheet, figure 12: OUTPUT, NULL COUNT, RW1, RW0, M2, M1, M0, BCD.
            let flags = u8::from(self.output(t)) << 7 | u8::from(self.null_count) << 6;
            self.latched_status = Some(flags | (self.bytes as u8) << 4 | self.mode << 1 | u8::from(self.bcd));
        }
    }

    /// Reads the counter's port: latched status first, then latched or live count.
    pub fn read(&mut self, t: Tick) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self.latched_count.unwrap_or_else(|| self.value(t)).to_le_bytes();
        let read_high = match self.bytes {
            Bytes::Low => false,
            Bytes::High => true,
            Bytes::Both => {
                self.read_high = !self.read_high;
                !self.read_high
            }
        };
        if self.bytes != Bytes::Both || read_high {
            self.latched_count = None;
        }
        if read_high { high } else { low }
    }

    /// Whether a saved counter can be used.
    pub fn is_valid(&self) -> bool {
        let near = |tick: &Tick| tick.unsigned_abs() < 1 << 60;
        let counts = self.count.iter().chain([&self.loaded]);
        let ticks = self.start.iter().chain(&self.held).chain(&self.reload_at).chain([&self.seen]);
        self.mode < 6
            && counts.into_iter().all(|count| (1..=0x1_0000).contains(count))
            && ticks.into_iter().all(near)
    }
}

/// Digits above 9 count as what they weigh; the result wraps as four digits do.
fn from_bcd(raw: u16) -> u32 {
    (0..4).rev().fold(0, |number, digit| number * 10 + u32::from((raw >> (4 * digit)) & 0xF)) % 10_000
}

fn to_bcd(number: Tick) -> u16 {
    let number = number as u16;
    (0..4).fold(0, |raw, digit| raw | (number / 10_u16.pow(digit) % 10) << (4 * digit))
}

#[cfg(test)]
#[path = "counter_tests.rs"]
mod tests;
