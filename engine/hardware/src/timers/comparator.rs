//! One timer of an HPET: a comparator beside the main counter, computed from how far that has counted, never by ticking.
//!
//! It matches when the main counter comes to its value; a periodic one then moves its value on by its period. One that
//! is not periodic matches again when the counter comes round, after 2^32 or 2^64 counts. A value that the counter has
//! just passed when it is written is not late but a whole round away, as in hardware: drivers look at the counter after
//! they have written. A value equal to the counter matches at once.
//! Source: IA-PC HPET Specification 1.0a, §2.3.8 to 2.3.10 and §2.3.9.2.

use serde::{Deserialize, Serialize};

/// Tn_INT_TYPE_CNF: level-triggered, not edge-triggered.
const LEVEL: u64 = 1 << 1;
/// Tn_INT_ENB_CNF.
const ENABLED: u64 = 1 << 2;
/// Tn_TYPE_CNF: periodic.
const PERIODIC: u64 = 1 << 3;
/// Tn_PER_INT_CAP: can be periodic.
const CAN_REPEAT: u64 = 1 << 4;
/// Tn_SIZE_CAP: has 64 bits.
const IS_WIDE: u64 = 1 << 5;
/// Tn_VAL_SET_CNF: the next write sets a periodic comparator's value too, not its period alone.
const SET_VALUE: u64 = 1 << 6;
/// Tn_32MODE_CNF: counts in 32 bits.
const NARROW: u64 = 1 << 8;
/// Tn_INT_ROUTE_CNF.
const ROUTE: u64 = 0x1F << 9;
const ROUTE_SHIFT: u32 = 9;
/// Tn_INT_ROUTE_CAP: the I/O APIC inputs that can be chosen, 20 to 23, as in Intel's ICH.
const ROUTES: u32 = 0x00F0_0000;

const WRITABLE: u64 = LEVEL | ENABLED | PERIODIC | SET_VALUE | NARROW;

/// One comparator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparator {
    /// The configuration register's bits that can be written.
    config: u64,
    value: u64,
    /// What was last written as a value or period; a periodic comparator moves on by it.
    period: u64,
    /// The main counter's value up to which matches have been seen.
    seen: u64,
    /// Matches that are to interrupt and have not been taken.
    matches: u64,
    /// Edge-triggered: the pulse's level, high from a match until the next, or until it is switched off.
    high: bool,
    /// Level-triggered: its bit of the interrupt status register.
    status: bool,
}

impl Default for Comparator {
    fn default() -> Comparator {
        Comparator {
            config: 0,
            value: u64::MAX,
            period: 0,
            seen: u64::MAX,
            matches: 0,
            high: false,
            status: false,
        }
    }
}

impl Comparator {
    /// Whether it may interrupt.
    pub fn is_enabled(&self) -> bool {
        self.config & ENABLED != 0
    }

    /// Whether it repeats by itself.
    pub fn is_periodic(&self) -> bool {
        self.config & PERIODIC != 0
    }

    /// Whether its interrupt is level-triggered.
    pub fn is_level(&self) -> bool {
        self.config & LEVEL != 0
    }

    /// The period in counts, if it is periodic.
    pub fn period(&self) -> Option<u64> {
        (self.is_periodic() && self.period > 0).then_some(self.period)
    }

    /// The I/O APIC input it drives; `None` until one that there is was chosen.
    pub fn route(&self) -> Option<u32> {
        let route = (self.config & ROUTE) as u32 >> ROUTE_SHIFT;
        is_allowed(route).then_some(route)
    }

    /// Its bit of the interrupt status register.
    pub fn status(&self) -> bool {
        self.status
    }

    /// A one was written to its bit of the interrupt status register.
    pub fn clear_status(&mut self) {
        self.status = false;
    }

    /// The level of its output, while it may drive one.
    pub fn output(&self) -> bool {
        self.is_enabled() && if self.is_level() { self.status } else { self.high }
    }

    /// A match interrupts.
    pub fn raise(&mut self) {
        match self.is_level() {
            true => self.status = true,
            false => self.high = true,
        }
    }

    /// An edge's pulse is over: interrupts were switched off, or lead elsewhere.
    pub fn lower(&mut self) {
        self.high = false;
    }

    /// Takes the matches since the last call.
    pub fn take_matches(&mut self) -> u64 {
        std::mem::take(&mut self.matches)
    }

    /// The configuration register, §2.3.8.
    pub fn read_config(&self) -> u64 {
        self.config | CAN_REPEAT | IS_WIDE | u64::from(ROUTES) << 32
    }

    /// Writes the configuration register's `lanes`.
    pub fn write_config(&mut self, value: u64, lanes: u64) {
        let old = self.config;
        let wanted = old & !lanes | value & lanes;
        // §2.3.8: a route that there is not is not taken; software reads back what it has written.
        let route = if is_allowed((wanted & ROUTE) as u32 >> ROUTE_SHIFT) { wanted } else { old };
        self.config = wanted & WRITABLE | route & ROUTE;
        if !self.is_periodic() {
            self.config &= !SET_VALUE;
        }
        if (old ^ self.config) & (LEVEL | ENABLED | ROUTE) != 0 {
            self.high = false;
        }
        if !self.is_level() {
            self.status = false;
        }
        self.narrow();
    }

    /// The comparator register, §2.3.9: when it matches next.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// Writes the comparator register's `lanes`, with the main counter at `counter`.
    pub fn write_value(&mut self, value: u64, lanes: u64, counter: u64) {
        let lay = |old: u64| old & !lanes | value & lanes;
        if !self.is_periodic() || self.config & SET_VALUE != 0 {
            self.value = lay(self.value);
            self.recount(counter);
        }
        if self.is_periodic() {
            self.period = lay(self.period);
        }
        self.config &= !SET_VALUE;
        self.narrow();
    }

    fn narrow(&mut self) {
        self.value &= self.mask();
        self.period &= self.mask();
    }

    fn mask(&self) -> u64 {
        if self.config & NARROW != 0 { u64::from(u32::MAX) } else { u64::MAX }
    }

    /// The main counter, or what is compared with it, was set: it stands at `counter`, which may match.
    pub fn recount(&mut self, counter: u64) {
        self.seen = counter.wrapping_sub(1);
    }

    /// The main counter has counted on to `counter`; `interrupts`: the guest is to be told of matches.
    pub fn advance(&mut self, counter: u64, interrupts: bool) {
        let passed = u128::from(counter.wrapping_sub(self.seen));
        let first = self.ahead();
        self.seen = counter;
        if passed < first {
            return;
        }
        let step = self.period().map_or(u128::from(self.mask()) + 1, u128::from);
        let times = (1 + (passed - first) / step) as u64;
        if let Some(period) = self.period() {
            self.value = self.value.wrapping_add(times.wrapping_mul(period)) & self.mask();
        }
        if interrupts {
            self.matches = self.matches.saturating_add(times);
        } else if self.is_level() {
            // §2.3.8, Tn_INT_ENB_CNF: the status bit is set all the same.
            self.status = true;
        }
    }

    /// Counts from what was seen to the next match: one at least, a whole round at most.
    pub fn ahead(&self) -> u128 {
        match self.value.wrapping_sub(self.seen) & self.mask() {
            0 => u128::from(self.mask()) + 1,
            counts => counts.into(),
        }
    }

    /// Whether a chip can hold this.
    pub fn is_valid(&self) -> bool {
        let mut written = self.clone();
        written.write_config(self.config, u64::MAX);
        written == *self && (self.config & ROUTE == 0 || self.route().is_some())
    }
}

fn is_allowed(route: u32) -> bool {
    ROUTES >> route & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = u64::MAX;

    fn comparator(config: u64, value: u64) -> Comparator {
        let mut comparator = Comparator::default();
        comparator.write_config(config, ALL);
        comparator.write_value(value, ALL, 0);
        comparator
    }

    fn matches_to(comparator: &mut Comparator, counter: u64) -> u64 {
        comparator.advance(counter, true);
        comparator.take_matches()
    }

    #[test]
    fn one_shot_matches_once_and_again_after_a_round() {
        let mut narrow = comparator(ENABLED | NARROW, 100);
        assert_eq!([99, 100, 101, 1 << 32].map(|at| matches_to(&mut narrow, at)), [0, 1, 0, 0]);
        assert_eq!(matches_to(&mut narrow, (1 << 32) + 100), 1, "32 bits have come round");
        assert_eq!(matches_to(&mut narrow, (4 << 32) + 100), 3);
        let mut wide = comparator(ENABLED, 100);
        assert_eq!([100, 4 << 32, ALL].map(|at| matches_to(&mut wide, at)), [1, 0, 0]);
        assert_eq!(matches_to(&mut wide, 100), 1, "64 bits have");
    }

    #[test]
    fn a_value_equal_to_the_counter_matches_and_one_passed_waits_a_round() {
        let mut narrow = comparator(ENABLED | NARROW, 0);
        assert_eq!(matches_to(&mut narrow, 0), 1);
        narrow.advance(500, true);
        narrow.write_value(499, ALL, 500);
        narrow.advance(500, true);
        assert_eq!((narrow.take_matches(), narrow.ahead()), (0, (1 << 32) - 1));
    }

    #[test]
    fn periodic_moves_on_by_its_period() {
        let mut timer = comparator(ENABLED | PERIODIC | SET_VALUE, 1000);
        assert_eq!((timer.value(), timer.period()), (1000, Some(1000)), "one write sets both");
        assert_eq!(timer.read_config() & SET_VALUE, 0, "it clears itself");
        timer.write_value(10, ALL, 0);
        assert_eq!((timer.value(), timer.period()), (1000, Some(10)), "only the period");
        assert_eq!((matches_to(&mut timer, 999), matches_to(&mut timer, 1025)), (0, 3));
        assert_eq!((timer.value(), timer.ahead()), (1030, 5));
    }

    #[test]
    fn periodic_in_32_bits_comes_round_without_losing_a_count() {
        let mut timer = comparator(ENABLED | PERIODIC | NARROW | SET_VALUE, 0xFFFF_FFF0);
        timer.write_value(0x20, ALL, 0);
        assert_eq!(matches_to(&mut timer, 0x1_0000_0030), 3);
        assert_eq!((timer.value(), timer.ahead()), (0x50, 0x20));
    }

    #[test]
    fn halves_are_written_one_by_one_with_the_bit_set_for_each() {
        let mut timer = comparator(PERIODIC | SET_VALUE, 0);
        let (low, high) = (0xFFFF_FFFF, 0xFFFF_FFFF << 32);
        for lanes in [low, high] {
            timer.write_config(PERIODIC | SET_VALUE, low);
            timer.write_value(0x1122_3344_5566_7788, lanes, 0);
        }
        assert_eq!((timer.value(), timer.period()), (0x1122_3344_5566_7788, Some(0x1122_3344_5566_7788)));
    }

    #[test]
    fn capabilities_are_read_only_and_routes_are_those_there_are() {
        let mut timer = Comparator::default();
        timer.write_config(ALL, ALL);
        assert_eq!(timer.read_config(), 0x00F0_0000_0000_017E, "route 31 was not taken");
        for (route, taken) in [(20, Some(20)), (2, Some(20)), (23, Some(23)), (0, Some(23))] {
            timer.write_config(route << ROUTE_SHIFT, ALL);
            assert_eq!(timer.route(), taken, "asked for {route}");
        }
        assert_eq!(timer.read_config() & 0xC000, 0, "no FSB delivery");
    }

    #[test]
    fn the_status_bit_is_of_level_and_is_set_even_if_disabled() {
        let mut level = comparator(LEVEL, 5);
        level.advance(5, false);
        assert!(level.status() && !level.output());
        level.write_config(LEVEL | ENABLED, ALL);
        assert!(level.output());
        level.clear_status();
        assert!(!level.output());
        let mut edge = comparator(ENABLED, 5);
        edge.raise();
        assert!(edge.output() && !edge.status());
        edge.write_config(0, ALL);
        edge.write_config(ENABLED, ALL);
        assert!(!edge.output(), "the pulse is over");
    }
}
