//! What a guest sees of the HPET.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::alarm::Alarms;
use crate::contract;
use crate::line::LineSink;

const CONFIGURATION: u64 = 0x010;
const STATUS: u64 = 0x020;
const COUNTER: u64 = 0x0F0;

const LEVEL: u64 = 1 << 1;
const ENABLED: u64 = 1 << 2;
const PERIODIC: u64 = 1 << 3;
const SET_VALUE: u64 = 1 << 6;

fn route(input: u64) -> u64 {
    input << 9
}

/// An input: its level, how often it rose, and whether what rose waits.
#[derive(Default)]
struct Input {
    level: AtomicBool,
    rises: AtomicU32,
    waits: AtomicBool,
}

impl LineSink for Input {
    fn set(&self, _number: u32, level: bool) {
        if level && !self.level.swap(level, Ordering::Relaxed) {
            self.rises.fetch_add(1, Ordering::Relaxed);
        }
        self.level.store(level, Ordering::Relaxed);
        if !level {
            self.waits.store(false, Ordering::Relaxed);
        }
    }

    fn is_pending(&self, _number: u32) -> bool {
        self.waits.load(Ordering::Relaxed)
    }
}

impl Input {
    fn level(&self) -> bool {
        self.level.load(Ordering::Relaxed)
    }

    fn rises(&self) -> u32 {
        self.rises.load(Ordering::Relaxed)
    }
}

struct Board {
    hpet: Shared<Hpet>,
    bus: Arc<Bus>,
    clock: Clock,
    alarms: Arc<Alarms>,
    /// I/O APIC inputs 20 to 23.
    routed: [Arc<Input>; 4],
    /// IRQ 0 and 8, as the old timers drive them and as the HPET does.
    legacy: [(Arc<Input>, Arc<Input>); 2],
    places: [Changeover; 2],
}

impl Board {
    fn new() -> Board {
        let (bus, clock, alarms) = (Bus::new(), Clock::manual(), Alarms::new(|| {}));
        let routed: [Arc<Input>; 4] = Default::default();
        let legacy: [(Arc<Input>, Arc<Input>); 2] = Default::default();
        let line = |input: &Arc<Input>| Line::new(input.clone(), 0);
        let places = legacy.each_ref().map(|(old, new)| Changeover::new(line(old), line(new)));
        let outputs = Outputs { routed: routed.each_ref().map(line), legacy: Some(places.clone()) };
        let hpet = Hpet::new(clock.clone(), outputs, alarms.alarm()).install(&bus);
        Board { hpet, bus, clock, alarms, routed, legacy, places }
    }

    fn write(&self, offset: u64, value: u64) {
        self.bus.write(Space::Memory, address::HPET + offset, Width::Qword, value, 0);
    }

    fn read(&self, offset: u64) -> u64 {
        self.bus.read(Space::Memory, address::HPET + offset, Width::Qword, 0)
    }

    /// Time passes in steps no longer than to the next alarm.
    fn pass_ns(&self, ns: u64) {
        let end = self.clock.now() + ns;
        while self.clock.now() < end {
            let now = self.clock.now();
            let next = self.alarms.next().unwrap_or(end).clamp(now + 1, end);
            self.clock.step(next - now);
            for _ in self.alarms.take_due(next) {
                self.hpet.lock().advance();
            }
        }
    }

    /// Time passes at once: the machine is late.
    fn leap_ns(&self, ns: u64) {
        self.clock.step(ns);
        for _ in self.alarms.take_due(self.clock.now()) {
            self.hpet.lock().advance();
        }
    }

    fn counts(&self, index: usize) -> TickCounts {
        self.hpet.lock().counts(index)
    }

    /// As Linux does: the value first, then the period.
    fn repeat(&self, index: u64, config: u64, ticks: u64) {
        self.write(0x100 + 0x20 * index, config | ENABLED | PERIODIC | SET_VALUE);
        self.write(0x108 + 0x20 * index, self.read(COUNTER) + ticks);
        self.write(0x108 + 0x20 * index, ticks);
    }
}

fn counts(raised: u64, delivered: u64, merged: u64) -> TickCounts {
    TickCounts { raised, delivered, merged, ..TickCounts::default() }
}

#[test]
fn keeps_the_contract() {
    contract::check(|| Hpet::new(Clock::manual(), Outputs::unconnected(), Alarm::unconnected()));
    contract::check(|| {
        let outputs = Outputs { legacy: None, ..Outputs::unconnected() };
        Hpet::new(Clock::manual(), outputs, Alarm::unconnected())
    });
}

#[test]
fn it_says_what_it_is_in_halves_and_whole() {
    let board = Board::new();
    assert_eq!(board.read(0), 0x0098_9680_8086_A201, "10 ns, Intel, 3 timers, 64 bits, legacy, revision 1");
    let half = |offset| board.bus.read(Space::Memory, address::HPET + offset, Width::Dword, 0);
    assert_eq!((half(0), half(4)), (0x8086_A201, 10_000_000));
    board.write(0, u64::MAX);
    assert_eq!(board.read(0), 0x0098_9680_8086_A201, "read only");
    assert_eq!(board.read(0x108), u64::MAX);
    assert_eq!((board.read(0x110), board.read(0x160), board.read(0x3F8)), (0, 0, 0));
}

#[test]
fn the_counter_counts_100_mhz_while_enabled() {
    let board = Board::new();
    board.pass_ns(1_000);
    assert_eq!(board.read(COUNTER), 0);
    board.write(COUNTER, 0xFFFF_FFF0);
    board.write(CONFIGURATION, 1);
    board.pass_ns(1_000_000_000);
    assert_eq!(board.read(COUNTER), 0xFFFF_FFF0 + 100_000_000);
    let high = board.bus.read(Space::Memory, address::HPET + COUNTER + 4, Width::Dword, 0);
    assert_eq!(high, 1);
    board.write(CONFIGURATION, 0);
    board.pass_ns(500);
    assert_eq!(board.read(COUNTER), 0xFFFF_FFF0 + 100_000_000);
    board.bus.write(Space::Memory, address::HPET + COUNTER + 4, Width::Dword, 7, 0);
    assert_eq!(board.read(COUNTER) >> 32, 7, "half of it is written");
}

#[test]
fn one_shot_raises_the_chosen_input_once() {
    let board = Board::new();
    board.write(CONFIGURATION, 1);
    board.write(0x120, ENABLED | route(22));
    board.write(0x128, 5_000);
    assert_eq!(board.alarms.next(), Some(50_000));
    board.pass_ns(49_999);
    assert_eq!(board.routed[2].rises(), 0);
    board.pass_ns(1);
    assert_eq!(board.routed[2].rises(), 1);
    board.pass_ns(1_000_000_000);
    assert_eq!((board.routed[2].rises(), board.counts(1)), (1, counts(1, 1, 0)));
    assert_eq!(board.read(STATUS), 0, "an edge leaves no status");
    board.write(0x128, board.read(COUNTER) + 10);
    board.pass_ns(100);
    assert_eq!(board.routed[2].rises(), 2, "an edge each time");
}

#[test]
fn periodic_ticks_are_exact_and_merged_when_late() {
    let board = Board::new();
    board.write(CONFIGURATION, 1);
    board.repeat(0, route(20), 100_000); // 1 ms
    board.pass_ns(1_000_000_000);
    assert_eq!((board.routed[0].rises(), board.counts(0)), (1000, counts(1000, 1000, 0)));
    assert_eq!(board.read(0x108), 1001 * 100_000, "the next match");
    board.leap_ns(10_500_000);
    assert_eq!((board.routed[0].rises(), board.counts(0)), (1001, counts(1010, 1001, 9)));
    // The guest has not taken the last.
    board.routed[0].waits.store(true, Ordering::Relaxed);
    board.pass_ns(500_000);
    assert_eq!((board.routed[0].rises(), board.counts(0)), (1001, counts(1011, 1001, 10)));
    board.routed[0].waits.store(true, Ordering::Relaxed);
    board.write(0x100, PERIODIC | route(20));
    let withdrawn = TickCounts { withdrawn: 1, ..counts(1011, 1000, 10) };
    assert_eq!((board.routed[0].level(), board.counts(0)), (false, withdrawn));
    assert_eq!(board.alarms.next(), None);
}

#[test]
fn lost_ticks_can_be_replayed() {
    let board = Board::new();
    board.hpet.lock().set_lost_ticks(LostTicks::Replay);
    board.write(CONFIGURATION, 1);
    board.repeat(0, route(20), 100_000);
    board.leap_ns(5_000_000);
    assert_eq!((board.routed[0].rises(), board.counts(0).owed), (1, 4));
    board.pass_ns(4_000_000);
    let all = TickCounts { replayed: 7, ..counts(9, 9, 0) };
    assert_eq!((board.routed[0].rises(), board.counts(0)), (9, all));
}

#[test]
fn a_level_stays_until_its_status_is_cleared() {
    let board = Board::new();
    board.write(CONFIGURATION, 1);
    board.repeat(2, LEVEL | route(23), 100_000);
    board.pass_ns(1_000_000);
    assert_eq!((board.routed[3].level(), board.read(STATUS)), (true, 4));
    assert_eq!(board.alarms.next(), None, "nothing new can happen until it is cleared");
    board.pass_ns(2_000_000);
    board.write(STATUS, 3);
    assert!(board.routed[3].level(), "the status of others");
    board.write(STATUS, 4);
    assert_eq!((board.routed[3].level(), board.read(STATUS)), (false, 0));
    assert_eq!(board.counts(2), counts(3, 1, 2));
    board.pass_ns(1_000_000);
    assert_eq!(board.counts(2), counts(4, 2, 2));
    board.write(CONFIGURATION, 0);
    assert_eq!((board.routed[3].level(), board.read(STATUS)), (false, 4), "halted, none interrupts");
}

#[test]
fn comparators_that_chose_the_same_input_share_it() {
    let board = Board::new();
    board.write(CONFIGURATION, 1);
    for (index, at) in [(0, 100), (1, 200)] {
        board.write(0x100 + 0x20 * index, ENABLED | LEVEL | route(21));
        board.write(0x108 + 0x20 * index, at);
    }
    board.pass_ns(2_000);
    assert_eq!(board.read(STATUS), 3);
    board.write(STATUS, 1);
    assert!(board.routed[1].level());
    board.write(STATUS, 2);
    assert!(!board.routed[1].level());
}

#[test]
fn without_a_route_nothing_is_interrupted() {
    let board = Board::new();
    board.write(CONFIGURATION, 1);
    board.repeat(0, 0, 100_000);
    board.pass_ns(10_000_000);
    assert_eq!((board.counts(0), board.alarms.next()), (counts(0, 0, 0), None));
}

#[test]
fn legacy_replacement_cuts_the_8254_and_the_rtc_off() {
    let board = Board::new();
    board.places.iter().for_each(|place| place.line().set(true));
    let [(timer, irq0), (rtc, irq8)] = &board.legacy;
    assert!(timer.level() && rtc.level());
    board.repeat(0, route(20), 100_000);
    board.repeat(1, 0, 200_000);
    board.write(CONFIGURATION, 3);
    assert!(!timer.level() && !rtc.level());
    assert!(board.places.iter().all(|place| !place.line().is_connected()));
    board.pass_ns(10_000_000);
    assert_eq!((irq0.rises(), irq8.rises(), board.routed[0].rises()), (10, 5, 0));
    board.places[0].line().set(true);
    assert!(!timer.level());
    board.write(CONFIGURATION, 1);
    assert!(timer.level() && rtc.level() && !irq0.level() && !irq8.level());
    board.pass_ns(10_000_000);
    assert_eq!((irq0.rises(), irq8.rises(), board.routed[0].rises()), (10, 5, 10));
}

#[test]
fn a_machine_that_cannot_replace_them_says_so() {
    let outputs = Outputs { legacy: None, ..Outputs::unconnected() };
    let bus = Bus::new();
    let hpet = Hpet::new(Clock::manual(), outputs, Alarm::unconnected()).install(&bus);
    let read = |offset| bus.read(Space::Memory, address::HPET + offset, Width::Qword, 0);
    assert_eq!(read(0) >> 15 & 1, 0);
    bus.write(Space::Memory, address::HPET + CONFIGURATION, Width::Qword, 3, 0);
    assert_eq!(read(CONFIGURATION), 1);
    let other = Hpet::new(Clock::manual(), Outputs::unconnected(), Alarm::unconnected()).save();
    assert!(hpet.lock().load(&other).is_err());
}

#[test]
fn a_very_short_period_does_not_wake_without_end() {
    let board = Board::new();
    board.write(CONFIGURATION, 1);
    board.repeat(0, route(20), 1);
    assert_eq!(board.alarms.next(), Some(20_000));
    board.pass_ns(1_000_000);
    assert_eq!((board.counts(0).raised, board.routed[0].rises()), (100_000, 50));
}

#[test]
fn state_is_kept_with_its_lines_and_its_time() {
    let board = Board::new();
    board.places[0].line().set(true);
    board.repeat(0, 0, 100_000);
    board.write(CONFIGURATION, 3);
    board.pass_ns(2_500_000);
    let saved = board.hpet.lock().save();
    let other = Board::new();
    other.clock.step(2_500_000);
    other.hpet.lock().load(&saved).unwrap();
    assert!(other.legacy[0].1.level() && !other.legacy[0].0.level());
    assert_eq!(other.alarms.next(), Some(3_000_000));
    other.write(CONFIGURATION, 1);
    assert!(other.legacy[0].0.level(), "what the 8254 drove");
    board.hpet.lock().reset();
    assert!(!board.legacy[0].1.level() && board.legacy[0].0.level());
    assert_eq!((board.read(COUNTER), board.read(CONFIGURATION), board.alarms.next()), (0, 0, None));
}

#[test]
fn the_8254_tells_nobody_while_it_is_replaced() {
    use crate::timers::Pit;
    let board = Board::new();
    let pit = Pit::new(board.clock.clone(), board.places[0].line(), Alarm::unconnected()).install(&board.bus);
    for (port, value) in [(0x43, 0x34), (0x40, 119), (0x40, 0)] {
        board.bus.write(Space::Port, port, Width::Byte, value, 0);
    }
    board.write(CONFIGURATION, 2);
    for _ in 0..10 {
        board.clock.step(100_000);
        pit.lock().advance();
    }
    let TickCounts { raised, delivered, merged, withdrawn, .. } = pit.lock().counts();
    assert_eq!((delivered, merged + withdrawn), (0, raised));
    assert!(raised == 10 && board.legacy[0].0.rises() == 0);
}
