//! A bound on how much a machine's disks do in a second: accesses, and bytes read and written. One [`Throttle`] is
//! shared by all disks of a machine, lies in front of their images whatever controller they hang on, and is changed
//! while they are used.
//!
//! Two buckets: what flows in is the rate, and an access takes out what it needs, at once. A bucket that is
//! overdrawn makes whoever drew on it wait until it is level again, so the rate holds whatever the size of accesses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::disk::{Disk, DiskError, Extent};

/// Most that an idle bucket saves up: what flows in in this time.
const BURST: Duration = Duration::from_millis(50);

/// Upper bounds; `None` for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Accesses per second.
    pub operations_per_second: Option<u64>,
    /// Bytes read and written, per second.
    pub bytes_per_second: Option<u64>,
}

/// What has passed since the throttle was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads and writes.
    pub operations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Accesses that had to wait.
    pub delayed: u64,
}

/// Lets the caller wait in a way of its own; `false` if it cannot, and shall sleep.
pub type Waiter = Box<dyn Fn(Duration) -> bool + Send + Sync>;

/// The bound, shared by disks.
pub struct Throttle {
    state: Mutex<State>,
    changed: Condvar,
    waiter: Waiter,
}

#[derive(Debug, Default)]
struct State {
    operations: Option<Bucket>,
    bytes: Option<Bucket>,
    counts: Counts,
}

/// What may be taken; it may be overdrawn.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    per_second: u64,
    /// In billionths, so that nothing is lost to rounding.
    level: i128,
    filled: Instant,
}

const BILLION: i128 = 1_000_000_000;

impl Bucket {
    fn new(per_second: u64, now: Instant) -> Bucket {
        Bucket { per_second: per_second.max(1), level: 0, filled: now }
    }

    fn fill(&mut self, now: Instant) {
        let flow = |time: Duration| time.as_nanos() as i128 * i128::from(self.per_second);
        let level = self.level + flow(now.saturating_duration_since(self.filled));
        self.level = level.min(flow(BURST));
        self.filled = self.filled.max(now);
    }

    fn take(&mut self, amount: u64) {
        self.level -= i128::from(amount) * BILLION;
    }

    /// Until it is level again.
    fn wait(&self) -> Duration {
        let ns = (-self.level).max(0) as u128 / u128::from(self.per_second);
        Duration::from_nanos(ns.min(u64::MAX.into()) as u64)
    }
}

impl State {
    fn buckets(&mut self) -> impl Iterator<Item = &mut Bucket> {
        self.operations.iter_mut().chain(&mut self.bytes)
    }

    fn wait(&mut self, now: Instant) -> Duration {
        let wait = |bucket: &mut Bucket| {
            bucket.fill(now);
            bucket.wait()
        };
        self.buckets().map(wait).max().unwrap_or_default()
    }
}

impl Throttle {
    /// No bound yet. Whoever must wait does so by `waiter`, or sleeps.
    pub fn new(rates: Rates, waiter: impl Fn(Duration) -> bool + Send + Sync + 'static) -> Arc<Throttle> {
        let throttle =
            Throttle { state: Mutex::default(), changed: Condvar::new(), waiter: Box::new(waiter) };
        throttle.set_rates(rates);
        Arc::new(throttle)
    }

    /// Changes the bounds, at once: who sleeps because of the old ones looks again.
    pub fn set_rates(&self, rates: Rates) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let change =
            |bucket: &mut Option<Bucket>, per_second: Option<u64>| match (bucket.as_mut(), per_second) {
                (Some(bucket), Some(per_second)) => {
                    bucket.fill(now);
                    bucket.per_second = per_second.max(1);
                }
                _ => *bucket = per_second.map(|per_second| Bucket::new(per_second, now)),
            };
        change(&mut state.operations, rates.operations_per_second);
        change(&mut state.bytes, rates.bytes_per_second);
        drop(state);
        self.changed.notify_all();
    }

    /// The bounds.
    pub fn rates(&self) -> Rates {
        let state = self.state.lock();
        let rate = |bucket: &Option<Bucket>| bucket.map(|bucket| bucket.per_second);
        Rates { operations_per_second: rate(&state.operations), bytes_per_second: rate(&state.bytes) }
    }

    /// What has passed.
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// An access of this many bytes: waits until it may be.
    pub fn pass(&self, bytes: u64) {
        let mut state = self.state.lock();
        let now = Instant::now();
        // Before this access, the buckets fill at most to their brim.
        state.wait(now);
        if let Some(operations) = &mut state.operations {
            operations.take(1);
        }
        if let Some(limit) = &mut state.bytes {
            limit.take(bytes);
        }
        let wait = state.wait(now);
        state.counts.operations += 1;
        state.counts.bytes += bytes;
        if wait.is_zero() {
            return;
        }
        state.counts.delayed += 1;
        drop(state);
        if !(self.waiter)(wait) {
            self.sleep();
        }
    }

    fn sleep(&self) {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            let wait = state.wait(now);
            if wait.is_zero() {
                return;
            }
            self.changed.wait_until(&mut state, now + wait);
        }
    }
}

/// A disk behind a throttle.
pub struct Throttled {
    disk: Box<dyn Disk>,
    throttle: Arc<Throttle>,
}

impl Throttled {
    /// `disk`, no faster than `throttle`.
    pub fn new(disk: Box<dyn Disk>, throttle: &Arc<Throttle>) -> Throttled {
        Throttled { disk, throttle: throttle.clone() }
    }
}

impl Disk for Throttled {
    fn length_bytes(&self) -> u64 {
        self.disk.length_bytes()
    }

    fn is_read_only(&self) -> bool {
        self.disk.is_read_only()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.throttle.pass(buffer.len() as u64);
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.throttle.pass(bytes.len() as u64);
        self.disk.write_at(offset, bytes)
    }

    /// Free: what was written has been paid for.
    fn flush(&mut self) -> Result<(), DiskError> {
        self.disk.flush()
    }

    fn write_zeros(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        self.throttle.pass(0);
        self.disk.write_zeros(offset, length_bytes)
    }

    fn discard(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        self.throttle.pass(0);
        self.disk.discard(offset, length_bytes)
    }

    fn extent(&mut self, offset: u64) -> Result<Extent, DiskError> {
        self.disk.extent(offset)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::MemoryDisk;

    fn rates(operations: Option<u64>, bytes: Option<u64>) -> Rates {
        Rates { operations_per_second: operations, bytes_per_second: bytes }
    }

    /// What accesses of these sizes, made as soon as each may be, have waited in all, by a clock that only their
    /// waiting moves.
    fn waited(per_second: u64, amounts: &[u64]) -> Duration {
        let begun = Instant::now();
        let (mut now, mut bucket) = (begun, Bucket::new(per_second, begun));
        for amount in amounts {
            bucket.fill(now);
            bucket.take(*amount);
            now += bucket.wait();
        }
        now - begun
    }

    #[test]
    fn the_rate_holds_whatever_the_size_of_accesses() {
        for (per_second, amounts) in [
            (1000, vec![1; 3000]),
            (1 << 20, vec![3 << 20]),
            (1 << 20, vec![1, 4096, 65536, (3 << 20) - 69633]),
            (7, vec![1; 21]),
        ] {
            let seconds = waited(per_second, &amounts).as_secs_f64();
            let wanted = amounts.iter().sum::<u64>() as f64 / per_second as f64;
            assert!((seconds - wanted).abs() < 1e-5 * amounts.len() as f64, "{seconds} s, not {wanted}");
        }
    }

    #[test]
    fn an_idle_bucket_saves_up_no_more_than_its_burst() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(1000, begun);
        bucket.fill(begun + Duration::from_secs(3600));
        assert_eq!(bucket.level, 50 * BILLION);
        bucket.take(51);
        assert_eq!(bucket.wait(), Duration::from_millis(1));
    }

    #[test]
    fn who_must_wait_is_told_how_long_and_counts_are_kept() {
        let told = Arc::new(AtomicU64::new(0));
        let teller = told.clone();
        let throttle = Throttle::new(rates(None, Some(1 << 20)), move |pause| {
            teller.store(pause.as_millis() as u64, Ordering::Relaxed);
            true
        });
        let disk = MemoryDisk::padded(vec![7; 4096], 1 << 22).unwrap();
        let mut disk = Throttled::new(Box::new(disk), &throttle);
        let mut buffer = vec![0; 2 << 20];
        disk.read_at(0, &mut buffer).unwrap();
        assert!((1900..=2000).contains(&told.load(Ordering::Relaxed)), "{told:?} ms");
        assert_eq!(buffer[4095], 7);
        assert_eq!(throttle.counts(), Counts { operations: 1, bytes: 2 << 20, delayed: 1 });
        throttle.set_rates(rates(None, None));
        disk.write_at(0, &[1; 512]).unwrap();
        disk.flush().unwrap();
        assert_eq!(throttle.counts().delayed, 1);
        assert_eq!(throttle.rates(), Rates::default());
    }

    #[test]
    fn a_sleeper_wakes_when_the_bound_goes() {
        let throttle = Throttle::new(rates(Some(1), None), |_| false);
        let sleeper = throttle.clone();
        let thread = std::thread::spawn(move || {
            // Ten seconds at the old rate, and an hour after that.
            (0..3600).for_each(|_| sleeper.pass(512));
        });
        while throttle.counts().delayed == 0 {
            std::thread::yield_now();
        }
        throttle.set_rates(Rates::default());
        thread.join().unwrap();
        assert_eq!(throttle.counts().operations, 3600);
    }
}
