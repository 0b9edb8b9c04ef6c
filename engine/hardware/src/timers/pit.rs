//! 8254 programmable interval timer, with the system control port B that gates its third counter.
//!
//! Ports: 0x40-0x42 (counters 0 to 2), 0x43 (control), 0x61 (gate and output of counter 2, speaker data,
//! refresh toggle). Lines: the output of counter 0 to IRQ 0. Input clock: 1 193 182 Hz, exactly.
//! Counter 0 ticks the machine: each rising edge of its output reaches the interrupt controllers as one pulse;
//! edges that passed while the machine was late, or nearer than 20 microseconds, are merged and counted.
//! The falling half of a periodic output is not passed on: nothing on a PC listens to it.
//! Counter 2 is heard through [`Speaker`], if one is plugged in.
//! Port 0x61 bits 2 and 3 (parity and channel check) are kept and do nothing; bit 4 toggles each 18 ticks,
//! as counter 1 does on a PC (15 microseconds).
//! Sources: Intel 8254 datasheet (231164-005); PIIX3 datasheet, section 2.5.4, for port 0x61.

use serde::{Deserialize, Serialize};

use super::counter::{Counter, Tick};
use super::lost_ticks::{LostTicks, TickCounts, Ticks};
use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::{Bus, WindowSpec};
use crate::clock::{Clock, Nanoseconds, ticks_at, time_of_tick};
use crate::device::{Device, LoadError, Shared, decode, encode, shared};
use crate::line::Line;
use crate::sound::Speaker;
use display::sound::Source;

/// The input clock: a third of the colour burst's fourfold, 14.31818 MHz / 12.
pub const HZ: u64 = 1_193_182;
/// The machine is woken no more often than this.
const SHORTEST_WAKE_TICKS: Tick = 24;
/// Counter 1's usual count, which port 0x61 bit 4 follows.
const REFRESH_TICKS: u64 = 18;

/// The chip and port 0x61.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chip8254 {
    counters: [Counter; 3],
    /// Port 0x61 bits 3 to 0.
    control_b: u8,
    /// Rising edges of counter 0 not yet taken.
    rises: u64,
}

impl Default for Chip8254 {
    fn default() -> Chip8254 {
        Chip8254 {
            counters: [Counter::new(true), Counter::new(true), Counter::new(false)],
            control_b: 0,
            rises: 0,
        }
    }
}

impl Chip8254 {
    /// Lets time pass up to `now`; gives the tick.
    pub fn advance(&mut self, now: Nanoseconds) -> Tick {
        let t = ticks_at(now, HZ) as Tick;
        let [timer, refresh, speaker] = &mut self.counters;
        self.rises = self.rises.saturating_add(timer.advance(t));
        refresh.advance(t);
        speaker.advance(t);
        t
    }

    /// Counter `index`, 0 to 2, for the inspector.
    pub fn counter(&self, index: usize) -> Option<&Counter> {
        self.counters.get(index)
    }

    /// The output of counter `index` at `now`.
    pub fn output(&mut self, index: usize, now: Nanoseconds) -> bool {
        let t = self.advance(now);
        self.counters.get(index).is_some_and(|counter| counter.output(t))
    }

    /// Takes the rising edges of counter 0 since the last call.
    pub fn take_rises(&mut self) -> u64 {
        std::mem::take(&mut self.rises)
    }

    /// When counter 0's output next changes.
    pub fn next_edge(&self, now: Nanoseconds) -> Option<Nanoseconds> {
        self.counters[0].next_edge(ticks_at(now, HZ) as Tick).map(time_of)
    }

    /// When counter 0's output next rises, but not sooner than the shortest wake.
    pub fn next_wake(&self, now: Nanoseconds) -> Option<Nanoseconds> {
        let t = ticks_at(now, HZ) as Tick;
        let counter = &self.counters[0];
        let rise = counter.next_rise(t)?;
        Some(time_of(if counter.is_periodic() { rise.max(t + SHORTEST_WAKE_TICKS) } else { rise }))
    }

    /// The tone of the loudspeaker as the period of counter 2 in ticks; `None` while it is silent.
    pub fn speaker(&self) -> Option<u32> {
        let counter = &self.counters[2];
        let sounds = self.control_b & 3 == 3 && counter.is_periodic();
        counter.count().filter(|&count| sounds && count > 1)
    }

    /// Reads port 0x40 + `register`.
    pub fn read(&mut self, register: u8, now: Nanoseconds) -> u8 {
        let t = self.advance(now);
        match self.counters.get_mut(usize::from(register)) {
            Some(counter) => counter.read(t),
            // The control port cannot be read; the bus floats.
            None => 0xFF,
        }
    }

    /// Writes port 0x40 + `register`.
    pub fn write(&mut self, register: u8, value: u8, now: Nanoseconds) {
        let t = self.advance(now);
        let index = usize::from(register);
        if index > 2 {
            return self.control(value, t);
        }
        let rose = self.counters[index].write(value, t);
        self.note(index, rose);
    }

    fn note(&mut self, index: usize, rose: bool) {
        if index == 0 && rose {
            self.rises = self.rises.saturating_add(1);
        }
    }

    fn control(&mut self, word: u8, t: Tick) {
        let index = usize::from(word >> 6);
        if index == 3 {
            return self.read_back(word, t);
        }
        if word & 0x30 == 0 {
            return self.counters[index].latch_count(t);
        }
        let rose = self.counters[index].control(word, t);
        self.note(index, rose);
    }

    /// 8254 datasheet, figure 11: the read-back command.
    fn read_back(&mut self, word: u8, t: Tick) {
        for (index, counter) in self.counters.iter_mut().enumerate() {
            if word & (2 << index) == 0 {
                continue;
            }
            if word & 0x20 == 0 {
                counter.latch_count(t);
            }
            if word & 0x10 == 0 {
                counter.latch_status(t);
            }
        }
    }

    /// Reads port 0x61.
    pub fn read_control_b(&mut self, now: Nanoseconds) -> u8 {
        let refresh = ((ticks_at(now, HZ) / REFRESH_TICKS) & 1) as u8;
        self.control_b | refresh << 4 | u8::from(self.output(2, now)) << 5
    }

    /// Writes port 0x61.
    pub fn write_control_b(&mut self, value: u8, now: Nanoseconds) {
        let t = self.advance(now);
        self.control_b = value & 0xF;
        self.counters[2].set_gate(value & 1 != 0, t);
    }

    fn is_valid(&self) -> bool {
        let gates = self.counters.each_ref().map(Counter::gate);
        self.counters.iter().all(Counter::is_valid)
            && gates == [true, true, self.control_b & 1 != 0]
            && self.control_b < 16
    }
}

fn time_of(tick: Tick) -> Nanoseconds {
    time_of_tick(tick.max(0) as u64, HZ)
}

/// The 8254 on its ports.
pub struct Pit {
    chip: Chip8254,
    clock: Clock,
    line: Line,
    alarm: Alarm,
    ticks: Ticks,
    speaker: Option<Speaker>,
}

impl Pit {
    /// Window of ports 0x40 to 0x43.
    pub const COUNTERS: u8 = 0;
    /// Window of port 0x61.
    pub const CONTROL_B: u8 = 1;

    /// An 8254 whose counter 0 drives `line`. `alarm` must lead to its [`Device::advance`].
    pub fn new(clock: Clock, line: Line, alarm: Alarm) -> Pit {
        Pit { chip: Chip8254::default(), clock, line, alarm, ticks: Ticks::default(), speaker: None }
    }

    /// The same, with a loudspeaker heard through `source`.
    pub fn with_speaker(mut self, source: Source) -> Pit {
        self.speaker = Some(Speaker::new(source));
        self
    }

    /// Puts it on the bus.
    pub fn install(self, bus: &Bus) -> Shared<Pit> {
        let device = shared(self);
        bus.add(&device, Pit::COUNTERS, WindowSpec::ports(4), Some(0x40));
        bus.add(&device, Pit::CONTROL_B, WindowSpec::ports(1), Some(0x61));
        device
    }

    /// The chip, for the inspector.
    pub fn chip(&self) -> &Chip8254 {
        &self.chip
    }

    /// The counters since the machine was built.
    pub fn counts(&self) -> TickCounts {
        self.ticks.counts()
    }

    /// What becomes of ticks that come too late.
    pub fn set_lost_ticks(&mut self, policy: LostTicks) {
        self.ticks.set_policy(policy);
        self.settle(self.clock.now());
    }

    /// The tone of the loudspeaker as a period in ticks of [`HZ`]; `None` while it is silent.
    pub fn speaker(&self) -> Option<u32> {
        self.chip.speaker()
    }

    /// The loudspeaker draws what has sounded: before anything changes in the chip.
    fn draw(&mut self, now: Nanoseconds) {
        if let Some(speaker) = &mut self.speaker {
            speaker.draw(&self.chip.counters[2], self.chip.control_b, ticks_at(now, HZ) as Tick);
        }
    }

    /// Derives the line and the alarm from the chip.
    fn settle(&mut self, now: Nanoseconds) {
        let t = self.chip.advance(now);
        let rises = self.chip.take_rises();
        let timer = &self.chip.counters[0];
        // An output that ticks once has nothing to merge with.
        let pending = timer.is_periodic() && self.line.is_pending();
        let period_ns = timer.count().map_or(0, |count| u64::from(count) * 1_000_000_000 / HZ);
        if self.ticks.settle(rises, pending, period_ns) {
            // A pulse, so that an edge is seen even if the line was still high from the last.
            self.line.set(false);
            self.line.set(true);
            if !self.line.is_connected() {
                // The HPET has its place: nobody is told.
                self.ticks.withdraw();
            }
        } else if !timer.is_periodic() && !timer.output(t) {
            // Mode 0 withdraws its request when it is programmed anew, and what another mode left there.
            let waited = self.line.is_pending();
            self.line.set(false);
            if waited && !self.line.is_pending() {
                self.ticks.withdraw();
            }
        }
        let replay = self.ticks.next_replay(now, period_ns);
        let chip = &self.chip;
        let sound =
            self.speaker.as_ref().and_then(|speaker| speaker.next_ns(&chip.counters[2], chip.control_b, now));
        self.alarm.set([chip.next_wake(now), replay, sound].into_iter().flatten().min());
    }
}

impl Device for Pit {
    fn name(&self) -> &str {
        "8254"
    }

    fn read(&mut self, at: At, _width: Width) -> u64 {
        let now = self.clock.now();
        self.draw(now);
        let value = match at.window {
            Pit::CONTROL_B => self.chip.read_control_b(now),
            _ => self.chip.read(at.offset as u8 & 3, now),
        };
        self.settle(now);
        value.into()
    }

    fn write(&mut self, at: At, _width: Width, value: u64) {
        let now = self.clock.now();
        self.draw(now);
        match at.window {
            Pit::CONTROL_B => self.chip.write_control_b(value as u8, now),
            _ if at.offset & 3 == 0 || at.offset & 3 == 3 && value & 0x30 != 0 && value >> 6 == 0 => {
                // Counter 0 is programmed anew: what came due until now did so in its old mode.
                self.settle(now);
                self.ticks.forgive();
                self.chip.write(at.offset as u8 & 3, value as u8, now);
            }
            _ => self.chip.write(at.offset as u8 & 3, value as u8, now),
        }
        self.settle(now);
    }

    fn reset(&mut self) {
        let now = self.clock.now();
        self.draw(now);
        self.chip = Chip8254::default();
        self.ticks.forgive();
        self.chip.advance(now);
        self.line.set(false);
        self.settle(now);
    }

    fn advance(&mut self) {
        // The alarm that fired is unset; `settle` sets it anew.
        let now = self.clock.now();
        self.draw(now);
        self.settle(now);
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let chip: Chip8254 = decode(self.name(), state)?;
        if !chip.is_valid() {
            let reason = "a counter holds a value the chip cannot hold".to_owned();
            return Err(LoadError { device: self.name().to_owned(), reason });
        }
        self.chip = chip;
        self.ticks.forgive();
        let now = self.clock.now();
        if let Some(speaker) = &mut self.speaker {
            speaker.restart(ticks_at(now, HZ) as Tick);
        }
        self.settle(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::Mutex;

    use crate::alarm::Alarms;
    use crate::bus::Space;
    use crate::contract;
    use crate::line::LineSink;

    #[derive(Default)]
    struct Levels(Mutex<Vec<bool>>);

    impl LineSink for Levels {
        fn set(&self, _number: u32, level: bool) {
            let mut levels = self.0.lock();
            if levels.last() != Some(&level) {
                levels.push(level);
            }
        }
    }

    struct Board {
        pit: Shared<Pit>,
        bus: Arc<Bus>,
        clock: Clock,
        alarms: Arc<Alarms>,
        levels: Arc<Levels>,
    }

    impl Board {
        fn new() -> Board {
            let (bus, clock, alarms) = (Bus::new(), Clock::manual(), Alarms::new(|| {}));
            let levels = Arc::new(Levels::default());
            let pit = Pit::new(clock.clone(), Line::new(levels.clone(), 0), alarms.alarm()).install(&bus);
            Board { pit, bus, clock, alarms, levels }
        }

        fn out(&self, port: u64, value: u64) {
            self.bus.write(Space::Port, port, Width::Byte, value, 0);
        }

        fn inb(&self, port: u64) -> u64 {
            self.bus.read(Space::Port, port, Width::Byte, 0)
        }

        fn pass_to(&self, at: Nanoseconds) {
            self.clock.step(at - self.clock.now());
            for _ in self.alarms.take_due(at) {
                self.pit.lock().advance();
            }
        }
    }

    #[test]
    fn keeps_the_contract() {
        contract::check(|| Pit::new(Clock::manual(), Line::unconnected(), Alarm::unconnected()));
    }

    #[test]
    fn the_dos_tick_is_exact_over_an_hour() {
        let board = Board::new();
        for value in [0x36, 0, 0].iter().zip([0x43, 0x40, 0x40]) {
            board.out(value.1, *value.0);
        }
        let hour = 3_600_000_000_000;
        while board.clock.now() < hour {
            let next = board.alarms.next().unwrap();
            board.pass_to(next.min(hour));
        }
        // 1 193 182 * 3600 / 65536, less the tick in which the count was loaded.
        let expected = TickCounts { raised: 65_543, delivered: 65_543, ..TickCounts::default() };
        assert_eq!(board.pit.lock().counts(), expected);
    }

    #[test]
    fn a_late_machine_gets_one_pulse_and_the_rest_is_counted() {
        let board = Board::new();
        for (port, value) in [(0x43, 0x34), (0x40, 0xA9), (0x40, 0x04)] {
            board.out(port, value);
        }
        board.levels.0.lock().clear();
        let period = time_of(0x4A9);
        board.pass_to(period * 10 + period / 2);
        let expected = TickCounts { raised: 10, delivered: 1, merged: 9, ..TickCounts::default() };
        assert_eq!(board.pit.lock().counts(), expected);
        assert_eq!(*board.levels.0.lock(), [false, true]);
    }

    /// Input 0 of a controller that nobody asks: what rises waits, until the line falls.
    #[derive(Default)]
    struct Waits(AtomicBool);

    impl LineSink for Waits {
        fn set(&self, _number: u32, level: bool) {
            self.0.store(level, Ordering::Relaxed);
        }

        fn is_pending(&self, _number: u32) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_books_balance_when_a_guest_that_is_late_stops_the_timer() {
        for (policy, owed) in [(LostTicks::Merge, 0), (LostTicks::Replay, 9)] {
            let (bus, clock) = (Bus::new(), Clock::manual());
            let line = Line::new(Arc::new(Waits::default()), 0);
            let pit = Pit::new(clock.clone(), line, Alarm::unconnected()).install(&bus);
            let out = |port, value| bus.write(Space::Port, port, Width::Byte, value, 0);
            pit.lock().set_lost_ticks(policy);
            for (port, value) in [(0x43, 0x34), (0x40, 119), (0x40, 0)] {
                out(port, value);
            }
            clock.step(time_of(119 * 10 + 50));
            pit.lock().advance();
            assert_eq!(pit.lock().counts().owed, owed);
            // Two more come due before the guest stops it, with the first request still not taken.
            clock.step(time_of(119 * 2));
            out(0x43, 0x30);
            let expected = TickCounts { raised: 12, merged: 11, withdrawn: 1, ..TickCounts::default() };
            assert_eq!(pit.lock().counts(), expected, "{policy:?}");
            clock.step(time_of(100_000));
            pit.lock().advance();
            assert_eq!(pit.lock().counts(), expected, "it is stopped");
        }
    }

    #[test]
    fn a_very_short_period_does_not_wake_without_end() {
        let board = Board::new();
        board.out(0x43, 0x14);
        board.out(0x40, 2);
        board.pass_to(1_000_000);
        assert!(board.alarms.next().unwrap() >= 1_000_000 + 19_000);
    }

    #[test]
    fn counter_2_is_gated_and_read_at_port_61() {
        let board = Board::new();
        // How firmware and kernels calibrate: mode 0, count, gate, then poll bit 5.
        board.out(0x61, 0x00);
        for (port, value) in [(0x43, 0xB0), (0x42, 0x9C), (0x42, 0x2E)] {
            board.out(port, value);
        }
        board.clock.step(1_000_000_000);
        assert_eq!(board.inb(0x61) & 0x2F, 0x00, "no gate, no count");
        board.out(0x61, 0x01);
        let start = ticks_at(board.clock.now(), HZ);
        let end = time_of_tick(start + 1 + 0x2E9C, HZ);
        board.pass_to(end - 1);
        assert_eq!(board.inb(0x61) & 0x2F, 0x01);
        board.pass_to(end);
        assert_eq!(board.inb(0x61) & 0x2F, 0x21);
    }

    #[test]
    fn the_speaker_sounds_only_with_gate_and_data() {
        let board = Board::new();
        for (port, value) in [(0x43, 0xB6), (0x42, 0xA9), (0x42, 0x04)] {
            board.out(port, value);
        }
        assert_eq!(board.pit.lock().speaker(), None);
        board.out(0x61, 3);
        assert_eq!(board.pit.lock().speaker(), Some(0x4A9), "1 kHz");
        board.out(0x61, 1);
        assert_eq!(board.pit.lock().speaker(), None);
    }

    #[test]
    fn the_refresh_bit_toggles_each_fifteen_microseconds() {
        let board = Board::new();
        let first = board.inb(0x61) & 0x10;
        board.pass_to(time_of(18));
        assert_ne!(board.inb(0x61) & 0x10, first);
        board.pass_to(time_of(36));
        assert_eq!(board.inb(0x61) & 0x10, first);
    }

    #[test]
    fn read_back_latches_status_and_count_of_several_counters() {
        let board = Board::new();
        for (port, value) in [(0x43, 0x34), (0x40, 0x00), (0x40, 0x10), (0x43, 0x54), (0x41, 0x12)] {
            board.out(port, value);
        }
        board.pass_to(time_of(5));
        board.out(0x43, 0xC6);
        assert_eq!(board.inb(0x40), 0xB4, "status first");
        assert_eq!(board.inb(0x40) | board.inb(0x40) << 8, 0x1000 - 4);
        assert_eq!(board.inb(0x41), 0x94);
        assert_eq!(board.inb(0x41), 0x12 - 4);
    }
}
