//! How long things took, or how late they were: a histogram of fixed size, to which threads add without waiting.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Buckets for each power of two.
const STEPS: usize = 4;
/// Powers of two that are told apart: up to 2^40 ns, 18 minutes.
const POWERS: usize = 40;

/// Times in nanoseconds, of whichever clock its owner means.
pub struct Histogram {
    buckets: [AtomicU64; POWERS * STEPS],
    largest_ns: AtomicU64,
}

/// What a [`Histogram`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Times recorded.
    pub count: u64,
    /// Half of them were at most this long, in nanoseconds.
    pub p50_ns: u64,
    /// 99 of 100 were at most this long.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: [const { AtomicU64::new(0) }; POWERS * STEPS], largest_ns: AtomicU64::new(0) }
    }
}

/// Four buckets to each power of two: a value is known to a quarter.
fn bucket(ns: u64) -> usize {
    if ns < STEPS as u64 {
        return ns as usize;
    }
    let power = ns.ilog2() as usize;
    let step = (ns >> (power - 2)) as usize & (STEPS - 1);
    ((power - 1) * STEPS + step).min(POWERS * STEPS - 1)
}

/// The largest value in a bucket.
fn top(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (power, step) = (bucket / STEPS + 1, (bucket % STEPS) as u64);
    ((STEPS as u64 + step + 1) << (power - 2)) - 1
}

impl Histogram {
    /// Adds a time.
    pub fn record(&self, ns: u64) {
        self.buckets[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        self.largest_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// The histogram: each bucket that holds something, as (longest time in nanoseconds, how often).
    pub fn histogram(&self) -> Vec<(u64, u64)> {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(bucket, count)| (top(bucket), count)).collect()
    }

    /// Adds all that another has.
    pub fn add(&self, other: &Histogram) {
        for (bucket, more) in self.buckets.iter().zip(&other.buckets) {
            let more = more.load(Ordering::Relaxed);
            // Most are empty, and every write costs.
            if more > 0 {
                bucket.fetch_add(more, Ordering::Relaxed);
            }
        }
        self.largest_ns.fetch_max(other.largest_ns.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// What was recorded so far.
    pub fn summary(&self) -> Summary {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max_ns = self.largest_ns.load(Ordering::Relaxed);
        let at_most = |percent: u64| {
            let wanted = (count * percent).div_ceil(100);
            let mut seen = 0;
            let found = counts.iter().position(|n| {
                seen += n;
                seen >= wanted
            });
            found.map_or(0, |bucket| top(bucket).min(max_ns))
        };
        Summary { count, p50_ns: at_most(50), p99_ns: at_most(99), max_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_hold_what_they_say() {
        for ns in (0..5000).chain([1 << 20, (1 << 39) + 12345, u64::MAX >> 25]) {
            let at = bucket(ns);
            assert!(ns <= top(at) && (at == 0 || ns > top(at - 1)), "{ns} in {at}");
        }
        assert_eq!(bucket(u64::MAX), POWERS * STEPS - 1);
    }

    #[test]
    fn percentiles_are_right_to_a_quarter() {
        let times = Histogram::default();
        assert_eq!(times.summary(), Summary::default());
        (1..=1000).for_each(|ns| times.record(ns * 100));
        let Summary { count, p50_ns, p99_ns, max_ns } = times.summary();
        assert_eq!((count, max_ns), (1000, 100_000));
        let histogram = times.histogram();
        assert_eq!(histogram.iter().map(|(_, count)| count).sum::<u64>(), 1000);
        assert!(histogram.is_sorted_by_key(|(top, _)| *top));
        assert!((50_000..=62_500).contains(&p50_ns), "{p50_ns}");
        assert!((99_000..=100_000).contains(&p99_ns), "{p99_ns}");
    }
}
