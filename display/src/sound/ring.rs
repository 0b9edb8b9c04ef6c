//! The ring between the mixer and a host's sound device, whose thread must never wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::{Health, RATE_HZ, Resampler, Sink, Stereo};

/// How much is kept in the ring, so that a late mixer is not heard: 20 ms.
const KEPT_MS: u32 = 20;
/// Room in the ring: 200 ms.
const ROOM_MS: u32 = 200;
/// The most a sound is sped up or slowed down to keep the ring filled: not to be heard.
const ADJUSTMENT_MAX: f64 = 0.005;
/// How much of the ring's level each block brings into the mean.
const SMOOTHING: f64 = 0.02;

/// Both channels of one sample in one word.
fn pack([left, right]: Stereo) -> u64 {
    u64::from(left.to_bits()) << 32 | u64::from(right.to_bits())
}

fn unpack(word: u64) -> Stereo {
    [f32::from_bits((word >> 32) as u32), f32::from_bits(word as u32)]
}

struct Shared {
    slots: Box<[AtomicU64]>,
    /// Samples ever written and ever read: one end writes each.
    written: AtomicUsize,
    read: AtomicUsize,
    /// Sound is on: that nothing is in the ring is an underrun.
    sounding: AtomicBool,
    underruns: AtomicU64,
    broken: AtomicBool,
}

impl Shared {
    fn level(&self) -> usize {
        self.written.load(Ordering::Acquire).wrapping_sub(self.read.load(Ordering::Acquire))
    }
}

/// The mixer's end.
pub struct RingSink {
    shared: Arc<Shared>,
    resampler: Resampler,
    kept: usize,
    level: f64,
    time_rate: f64,
    dropped: u64,
}

/// The host's end.
pub struct RingPlayer {
    shared: Arc<Shared>,
    kept: usize,
    filled: bool,
}

/// A ring to a host that takes `host_hz` samples a second, at most `block` at once.
pub fn ring(host_hz: u32, block: usize) -> (RingSink, RingPlayer) {
    let of_ms = |ms: u32| (host_hz / 1_000 * ms) as usize;
    let kept = of_ms(KEPT_MS).max(block + block / 2);
    let slots = (0..of_ms(ROOM_MS).max(4 * kept)).map(|_| AtomicU64::new(0)).collect();
    let shared = Arc::new(Shared {
        slots,
        written: AtomicUsize::new(0),
        read: AtomicUsize::new(0),
        sounding: AtomicBool::new(false),
        underruns: AtomicU64::new(0),
        broken: AtomicBool::new(false),
    });
    let sink = RingSink {
        shared: shared.clone(),
        resampler: Resampler::adjustable(RATE_HZ, host_hz),
        kept,
        level: kept as f64,
        time_rate: 1.0,
        dropped: 0,
    };
    (sink, RingPlayer { shared, kept, filled: false })
}

impl RingSink {
    /// The host's clock and the guest's differ a little: follows the level of the ring.
    fn follow(&mut self) {
        self.level += (self.shared.level() as f64 - self.level) * SMOOTHING;
        let error = (self.level - self.kept as f64) / self.kept as f64;
        let adjustment = (error * ADJUSTMENT_MAX).clamp(-ADJUSTMENT_MAX, ADJUSTMENT_MAX);
        self.resampler.set_speed(self.time_rate * (1.0 + adjustment));
    }

    fn push(&mut self, samples: &[Stereo]) {
        let (shared, dropped) = (&self.shared, &mut self.dropped);
        self.resampler.pass(samples, |sample| {
            if shared.level() == shared.slots.len() {
                *dropped += 1;
                return;
            }
            let written = shared.written.load(Ordering::Relaxed);
            shared.slots[written % shared.slots.len()].store(pack(sample), Ordering::Relaxed);
            shared.written.store(written.wrapping_add(1), Ordering::Release);
        });
    }
}

impl Sink for RingSink {
    fn play(&mut self, samples: &[Stereo]) {
        self.follow();
        self.push(samples);
        self.shared.sounding.store(true, Ordering::Release);
    }

    fn silence(&mut self, samples: u64) {
        // A gap in a sound; silence that lasts needs no samples.
        if self.shared.sounding.load(Ordering::Relaxed) {
            let zeros = [[0.0; 2]; 64];
            let mut left = samples.min(u64::from(RATE_HZ) / 5) as usize;
            while left > 0 {
                let now = left.min(zeros.len());
                self.push(&zeros[..now]);
                left -= now;
            }
        }
    }

    fn rest(&mut self) {
        self.shared.sounding.store(false, Ordering::Release);
        self.level = self.kept as f64;
    }

    fn set_time_rate(&mut self, rate: f64) {
        self.time_rate = rate;
        self.follow();
    }

    fn health(&self) -> Health {
        let broken = self.shared.broken.load(Ordering::Relaxed);
        Health {
            underruns: self.shared.underruns.load(Ordering::Relaxed),
            dropped: self.dropped,
            failure: broken.then(|| "the host's sound device is gone".to_owned()),
        }
    }
}

impl RingPlayer {
    /// The next sample: silence until enough is there to go on without a gap.
    pub fn next_sample(&mut self) -> Stereo {
        let (level, sounding) = (self.shared.level(), self.shared.sounding.load(Ordering::Acquire));
        if !self.filled {
            // What is left at the end of a sound is played too.
            self.filled = level >= self.kept || level > 0 && !sounding;
            if !self.filled {
                return [0.0; 2];
            }
        }
        if level == 0 {
            self.filled = false;
            if sounding {
                self.shared.underruns.fetch_add(1, Ordering::Relaxed);
            }
            return [0.0; 2];
        }
        let read = self.shared.read.load(Ordering::Relaxed);
        let word = self.shared.slots[read % self.shared.slots.len()].load(Ordering::Relaxed);
        self.shared.read.store(read.wrapping_add(1), Ordering::Release);
        unpack(word)
    }

    /// A wire for the news that the host's device has failed.
    pub fn failure(&self) -> impl Fn() + Send + 'static {
        let shared = self.shared.clone();
        move || shared.broken.store(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{amplitude, sine};
    use super::*;

    /// A host whose clock runs `drift` times as fast, for `seconds`: mixed in blocks of 5 ms, taken in blocks of 10 ms.
    fn hear(drift: f64, seconds: f64) -> (Vec<Stereo>, Health) {
        let (mut sink, mut player) = ring(44_100, 441);
        let sound = sine(1_000.0, RATE_HZ, (seconds * 48_000.0) as usize);
        let (mut heard, mut owed) = (Vec::new(), 0.0);
        for (n, block) in sound.chunks(240).enumerate() {
            sink.play(block);
            if n % 2 == 1 {
                owed += 441.0 * drift;
                let now = owed as usize;
                owed -= now as f64;
                heard.extend((0..now).map(|_| player.next_sample()));
            }
        }
        (heard, sink.health())
    }

    #[test]
    fn clocks_that_differ_are_not_heard() {
        for drift in [0.999, 1.0, 1.001] {
            let (heard, health) = hear(drift, 20.0);
            assert_eq!(health, Health::default(), "drift {drift}");
            let tail = &heard[heard.len() - 44_100..];
            // The pitch follows the drift, by at most a hundredth of a tone.
            let found = amplitude(tail, 1_000.0 / drift, 44_100);
            assert!(found > 0.45, "drift {drift}: {found}");
        }
    }

    #[test]
    fn a_missing_sample_is_counted_only_while_sound_is_on() {
        let (mut sink, mut player) = ring(48_000, 480);
        assert_eq!(player.next_sample(), [0.0; 2]);
        assert_eq!(sink.health().underruns, 0, "nothing has sounded yet");
        sink.play(&[[0.5; 2]; 1_200]);
        (0..2_000).for_each(|_| assert!(player.next_sample()[0] < 1.0));
        assert_eq!(sink.health().underruns, 1, "one gap, however long");
        sink.play(&[[0.5; 2]; 1_200]);
        sink.rest();
        (0..2_000).for_each(|_| assert!(player.next_sample()[0] < 1.0));
        assert_eq!(sink.health().underruns, 1, "the sound had ended");
        player.failure()();
        assert!(sink.health().failure.is_some());
    }

    #[test]
    fn a_host_that_does_not_take_loses_the_newest_and_nothing_waits() {
        let (mut sink, mut player) = ring(48_000, 480);
        (0..100).for_each(|_| sink.play(&[[0.25; 2]; 480]));
        let health = sink.health();
        assert!(health.dropped > 30_000 && health.underruns == 0, "{health:?}");
        (0..200).for_each(|_| assert!(player.next_sample()[0] < 1.0));
        assert!((player.next_sample()[0] - 0.25).abs() < 1e-4);
    }
}
