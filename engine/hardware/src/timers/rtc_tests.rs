//! What a guest sees of the real-time clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::alarm::Alarms;
use crate::bus::Space;
use crate::contract;
use crate::line::LineSink;

/// 2026-11-23 23:59:58, a Monday.
const BASE: i64 = 1_795_478_398;
const SECOND: u64 = 1_000_000_000;

#[derive(Default)]
struct Wire(AtomicBool);

impl LineSink for Wire {
    fn set(&self, _number: u32, level: bool) {
        self.0.store(level, Ordering::Relaxed);
    }
}

struct Board {
    rtc: Shared<Rtc>,
    bus: Arc<Bus>,
    clock: Clock,
    alarms: Arc<Alarms>,
    wire: Arc<Wire>,
}

impl Board {
    fn new() -> Board {
        let (bus, clock, alarms) = (Bus::new(), Clock::manual(), Alarms::new(|| {}));
        let wire = Arc::new(Wire::default());
        let line = Line::new(wire.clone(), 8);
        let rtc = Rtc::new(BASE, clock.clone(), line, alarms.alarm()).install(&bus);
        Board { rtc, bus, clock, alarms, wire }
    }

    fn read(&self, index: u64) -> u64 {
        self.bus.write(Space::Port, 0x70, Width::Byte, index, 0);
        self.bus.read(Space::Port, 0x71, Width::Byte, 0)
    }

    fn write(&self, index: u64, value: u64) {
        self.bus.write(Space::Port, 0x70, Width::Byte, index, 0);
        self.bus.write(Space::Port, 0x71, Width::Byte, value, 0);
    }

    fn pass(&self, ns: u64) {
        self.clock.step(ns);
        for _ in self.alarms.take_due(self.clock.now()) {
            self.rtc.lock().advance();
        }
    }

    fn high(&self) -> bool {
        self.wire.0.load(Ordering::Relaxed)
    }

    /// Century, year, month, day, weekday, hours, minutes, seconds, as the registers show them.
    fn time(&self) -> [u64; 8] {
        [0x32, 9, 8, 7, 6, 4, 2, 0].map(|index| self.read(index))
    }
}

#[test]
fn keeps_the_contract() {
    let make = || Rtc::new(BASE, Clock::manual(), Line::unconnected(), Alarm::unconnected());
    contract::saves(make);
    contract::survives(make);
}

#[test]
fn a_restored_clock_keeps_the_machines_policy_for_late_ticks() {
    let clock = Clock::manual();
    let make = || Rtc::new(BASE, clock.clone(), Line::unconnected(), Alarm::unconnected());
    let (mut rtc, saved) = (make(), make().save());
    rtc.set_lost_ticks(LostTicks::Replay);
    rtc.load(&saved).unwrap();
    assert_eq!(rtc.chip.ticks.policy(), LostTicks::Replay);
}

#[test]
fn a_reset_keeps_time_and_memory_but_no_interrupt() {
    let board = Board::new();
    board.write(0x40, 0x5A);
    board.write(0x0B, 0x52);
    board.write(0x0A, 0x26);
    board.pass(2 * SECOND);
    assert!(board.high());
    board.rtc.lock().reset();
    assert!(!board.high());
    assert_eq!((board.read(0x40), board.read(0x0B)), (0x5A, 0x02));
    assert_eq!(board.time(), [0x20, 0x26, 0x11, 0x24, 3, 0, 0, 0]);
}

#[test]
fn it_shows_the_time_in_all_four_looks() {
    let board = Board::new();
    assert_eq!(board.time(), [0x20, 0x26, 0x11, 0x23, 2, 0x23, 0x59, 0x58]);
    board.write(0x0B, 0x06);
    assert_eq!(board.time(), [20, 26, 11, 23, 2, 23, 59, 58]);
    board.write(0x0B, 0x00);
    assert_eq!(board.time(), [0x20, 0x26, 0x11, 0x23, 2, 0x91, 0x59, 0x58], "11 PM");
    board.pass(2 * SECOND);
    assert_eq!(board.time(), [0x20, 0x26, 0x11, 0x24, 3, 0x12, 0, 0], "midnight is 12 AM");
    board.pass(12 * 3600 * SECOND);
    board.write(0x0B, 0x04);
    assert_eq!(board.read(4), 12 | 0x80, "noon is 12 PM");
}

#[test]
fn set_stops_the_clock_and_the_guest_sets_it() {
    let board = Board::new();
    board.write(0x0B, 0x92);
    assert_eq!(board.read(0x0B), 0x82, "SET clears UIE");
    let wanted = [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59];
    for (index, value) in [0x32, 9, 8, 7, 6, 4, 2, 0].into_iter().zip(wanted) {
        board.write(index, value);
    }
    board.pass(5 * SECOND);
    assert_eq!(board.time(), wanted, "it stands still");
    board.write(0x0B, 0x02);
    assert_eq!(board.time(), wanted);
    board.pass(SECOND);
    assert_eq!(board.time(), [0x20, 0x00, 0x01, 0x01, 7, 0, 0, 0]);
}

#[test]
fn one_register_can_be_written_while_the_clock_runs() {
    let board = Board::new();
    board.write(2, 0x30);
    assert_eq!(board.time(), [0x20, 0x26, 0x11, 0x23, 2, 0x23, 0x30, 0x58]);
    board.pass(2 * SECOND);
    assert_eq!(board.time(), [0x20, 0x26, 0x11, 0x23, 2, 0x23, 0x31, 0x00]);
}

#[test]
fn update_in_progress_warns_244_microseconds_before() {
    let board = Board::new();
    board.pass(SECOND - 244_001);
    assert_eq!(board.read(0x0A), 0x26);
    board.pass(1);
    assert_eq!(board.read(0x0A), 0xA6);
    assert_eq!(board.read(0), 0x58);
    board.pass(244_000);
    assert_eq!((board.read(0x0A), board.read(0)), (0x26, 0x59));
}

#[test]
fn the_divider_in_reset_starts_half_a_second_before_an_update() {
    let board = Board::new();
    board.pass(300_000_000);
    board.write(0x0A, 0x76);
    board.pass(10 * SECOND);
    assert_eq!(board.read(0), 0x58);
    board.write(0x0A, 0x26);
    board.pass(SECOND / 2 - 1);
    assert_eq!(board.read(0), 0x58);
    board.pass(1);
    assert_eq!(board.read(0), 0x59);
}

#[test]
fn the_update_interrupt_comes_each_second_until_read() {
    let board = Board::new();
    board.write(0x0B, 0x12);
    assert_eq!(board.alarms.next(), Some(SECOND));
    board.pass(SECOND);
    assert!(board.high());
    assert_eq!(board.alarms.next(), None, "nothing new can happen until register C is read");
    board.pass(SECOND / 2);
    assert_eq!(board.read(0x0C) & 0xB0, 0x90);
    assert!(!board.high());
    assert_eq!(board.read(0x0C) & 0x90, 0);
    assert_eq!(board.alarms.next(), Some(2 * SECOND));
}

#[test]
fn the_alarm_matches_with_wildcards() {
    let board = Board::new();
    // At second 10 of any minute of any hour; now is 23:59:58.
    for (index, value) in [(1, 0x10), (3, 0xFF), (5, 0xC0), (0x0B, 0x22)] {
        board.write(index, value);
    }
    assert_eq!(board.alarms.next(), Some(12 * SECOND));
    board.pass(12 * SECOND - 1);
    assert!(!board.high());
    board.pass(1);
    assert!(board.high());
    assert_eq!(board.read(0x0C) & 0xA0, 0xA0);
    assert_eq!(board.alarms.next(), Some(72 * SECOND));
    // At 07:30:00 exactly.
    for (index, value) in [(1, 0x00), (3, 0x30), (5, 0x07)] {
        board.write(index, value);
    }
    assert_eq!(board.alarms.next(), Some((2 + 7 * 3600 + 1800) * SECOND));
    board.write(5, 0x99);
    assert_eq!(board.alarms.next(), None, "there is no such hour");
}

#[test]
fn the_periodic_interrupt_has_the_rates_of_table_5() {
    let board = Board::new();
    for (rate, hz) in [(1, 256), (2, 128), (3, 8192), (6, 1024), (15, 2)] {
        board.write(0x0A, 0x20 | rate);
        board.write(0x0B, 0x42);
        board.read(0x0C);
        let first = board.alarms.next().unwrap();
        assert_eq!(ticks_at(first, hz), ticks_at(board.clock.now(), hz) + 1, "rate {rate}");
        board.pass(first - board.clock.now());
        assert_eq!(board.read(0x0C) & 0xC0, 0xC0);
    }
    board.write(0x0A, 0x20);
    assert_eq!(board.alarms.next(), None);
}

#[test]
fn memory_has_two_banks_and_port_70_masks_nmi() {
    let board = Board::new();
    board.rtc.lock().set_cmos(0x15, 0x80);
    assert_eq!(board.read(0x95), 0x80);
    assert!(board.rtc.lock().nmi_masked());
    board.bus.write(Space::Port, 0x72, Width::Byte, 0x15, 0);
    board.bus.write(Space::Port, 0x73, Width::Byte, 0x77, 0);
    assert_eq!(board.read(0x15), 0x80);
    assert_eq!(board.bus.read(Space::Port, 0x73, Width::Byte, 0), 0x77);
    assert_eq!(board.bus.read(Space::Port, 0x70, Width::Byte, 0), 0xFF);
    assert_eq!(board.read(0x0D), 0x80, "the battery is good");
    assert!(!board.rtc.lock().nmi_masked());
}

#[test]
fn every_periodic_tick_is_delivered_or_merged() {
    let board = Board::new();
    board.write(0x0A, 0x26); // 1024 Hz
    board.write(0x0B, 0x42);
    let tick_ns = 1_000_000_000 / 1024 + 1;
    for _ in 0..10 {
        board.pass(tick_ns);
        board.read(0x0C);
    }
    let counts =
        |raised, merged| TickCounts { raised, delivered: raised - merged, merged, ..TickCounts::default() };
    assert_eq!(board.rtc.lock().counts(), counts(10, 0));
    board.pass(5 * tick_ns);
    board.read(0x0C);
    assert_eq!(board.rtc.lock().counts(), counts(15, 4), "one request for five ticks");
    board.write(0x0B, 2);
    board.pass(1_000_000_000);
    assert_eq!(board.rtc.lock().counts().raised, 15, "disabled, nothing is due");
}
