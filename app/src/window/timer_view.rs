//! What the timer scope shows: edges of guest timers and slices of the host's, on the host's time axis.

use std::collections::VecDeque;

use engine::machine::Edge;
use engine::scheduler::{Slice, SliceEnd};

/// Spans of time the scope shows, in nanoseconds.
pub const SPANS_NS: [u64; 10] = [
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
];

/// Edges and slices kept.
const KEPT: usize = 16_384;

/// Rates of guest time that can be chosen; 0 stands for pause.
pub const RATES: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0];

/// What the scope remembers.
pub struct Scope {
    edges: VecDeque<Edge>,
    slices: VecDeque<Slice>,
    next_edge: u64,
    next_slice: u64,
    /// Index into [`SPANS_NS`].
    pub span: usize,
    /// The right end of the axis, while the picture stands still.
    pub held_ns: Option<u64>,
}

impl Default for Scope {
    fn default() -> Scope {
        let (edges, slices) = (VecDeque::new(), VecDeque::new());
        Scope { edges, slices, next_edge: 0, next_slice: 0, span: 5, held_ns: None }
    }
}

impl Scope {
    /// Where to ask for more: edges, slices.
    pub fn cursors(&self) -> (u64, u64) {
        (self.next_edge, self.next_slice)
    }

    /// Takes what has come.
    pub fn take(&mut self, edges: (Vec<Edge>, u64), slices: (Vec<Slice>, u64)) {
        self.edges.extend(edges.0);
        self.slices.extend(slices.0);
        (self.next_edge, self.next_slice) = (edges.1, slices.1);
        // A picture that stands still keeps what it shows.
        let extra = if self.held_ns.is_some() { 4 } else { 1 };
        while self.edges.len() > KEPT * extra {
            self.edges.pop_front();
        }
        while self.slices.len() > KEPT * extra {
            self.slices.pop_front();
        }
    }

    /// Nanoseconds from the left end to the right.
    pub fn span_ns(&self) -> u64 {
        SPANS_NS[self.span.min(SPANS_NS.len() - 1)]
    }

    /// Shows a longer or shorter span.
    pub fn zoom(&mut self, steps: isize) {
        self.span = self.span.saturating_add_signed(steps).min(SPANS_NS.len() - 1);
    }

    /// The edges between two host times, of one alarm.
    pub fn edges(&self, alarm: u8, from_ns: u64, to_ns: u64) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.alarm == alarm && (from_ns..=to_ns).contains(&edge.host_ns))
    }

    /// The slices of one vCPU between two host times.
    pub fn slices(&self, entity: u64, from_ns: u64, to_ns: u64) -> impl Iterator<Item = &Slice> {
        let inside =
            move |slice: &&Slice| slice.begun_ns <= to_ns && slice.begun_ns + slice.lasted_ns >= from_ns;
        self.slices.iter().filter(move |slice| slice.entity == entity).filter(inside)
    }
}

/// Why a slice ended, in words.
pub fn ending(end: SliceEnd) -> &'static str {
    match end {
        SliceEnd::Parked => "halted: nothing to do",
        SliceEnd::Yielded => "spun and gave way",
        SliceEnd::Kicked => "taken back by the monitor",
        SliceEnd::Quantum => "its quantum was over",
        SliceEnd::Cap => "its machine was at its cap",
    }
}

/// A duration with the unit that suits it.
pub fn duration(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

/// A frequency from its period.
pub fn frequency(period_ns: f64) -> String {
    match 1e9 / period_ns {
        hz if hz < 1e3 => format!("{hz:.2} Hz"),
        hz if hz < 1e6 => format!("{:.2} kHz", hz / 1e3),
        hz => format!("{:.2} MHz", hz / 1e6),
    }
}

/// A rate of time as a person reads it.
pub fn rate(rate: f64) -> String {
    match rate {
        rate if rate < 0.1 => format!("{rate:.2}×"),
        rate if rate < 1.0 => format!("{rate}×"),
        rate => format!("{rate:.0}×"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_finds_what_lies_in_its_span_and_stays_bounded() {
        let mut scope = Scope::default();
        let edge = |n: u64| Edge { alarm: (n % 2) as u8, host_ns: 1000 * n, guest_ns: n, late_ns: 5 };
        let slice = |n: u64| Slice {
            entity: n % 3,
            begun_ns: 1000 * n,
            lasted_ns: 400,
            used_ns: 400,
            granted_ns: 5000,
            end: SliceEnd::Parked,
        };
        scope.take(((0..20_000).map(edge).collect(), 20_000), ((0..20_000).map(slice).collect(), 20_000));
        assert_eq!(scope.cursors(), (20_000, 20_000));
        assert_eq!(scope.edges(1, 19_990_000, 19_999_000).count(), 5);
        assert_eq!(scope.slices(0, 19_990_200, 19_993_000).count(), 1);
        assert_eq!(scope.edges(0, 0, u64::MAX).count() + scope.edges(1, 0, u64::MAX).count(), KEPT);
        scope.zoom(-99);
        assert_eq!(scope.span_ns(), SPANS_NS[0]);
        scope.zoom(99);
        assert_eq!(scope.span_ns(), 5_000_000_000);
    }

    #[test]
    fn figures_have_the_unit_that_suits_them() {
        assert_eq!(
            [duration(12.0), duration(43_210.0), duration(5e6), duration(2.5e9)],
            ["12 ns", "43.2 µs", "5.0 ms", "2.50 s"]
        );
        assert_eq!([frequency(54_925_000.0), frequency(1e6)], ["18.21 Hz", "1.00 kHz"]);
        assert_eq!([rate(0.01), rate(0.25), rate(10.0)], ["0.01×", "0.25×", "10×"]);
    }
}
