//! The PC's loudspeaker: 8254 counter 2 and port 0x61, as it is heard.
//!
//! Port 0x61: bit 0 gates counter 2, bit 1 lets its output through to the cone (IBM PC/AT Technical Reference, "Speaker").
//! The output is drawn exactly, edge by edge, into samples of 192 kHz, each the mean over its time; the mixer's
//! resampler takes off what 48 kHz cannot carry. Programs that play samples by pulse widths are heard too. A high
//! pass at 20 Hz stands for the capacitor before the cone. With the kernel's interrupt controllers (KVM) the
//! 8254 is the kernel's, and there is no loudspeaker.

use display::sound::{Source, Stereo};

use super::PERIOD_NS;
use crate::clock::{Nanoseconds, time_of_tick};
use crate::timers::counter::{Counter, Tick};
use crate::timers::pit::HZ;

/// Samples drawn a second.
const RATE_HZ: u32 = 192_000;
/// How far the cone moves to either side.
const AMPLITUDE: f32 = 0.25;
/// The high pass: what is left after a sample, of what was held.
const HOLD: f32 = 0.9993;
/// Nobody hears less than this.
const INAUDIBLE: f32 = 1e-4;
/// The most that is drawn at once: 1 s.
const LONGEST: Tick = HZ as Tick;

/// Draws the loudspeaker's sound. What was on its way is not saved.
pub struct Speaker {
    source: Source,
    /// Drawn up to this tick.
    drawn: Tick,
    /// The part of the sample that is being drawn: level by time.
    area: f32,
    /// The high pass: the last input and output.
    input: f32,
    output: f32,
}

impl Speaker {
    /// A loudspeaker heard through `source`.
    pub fn new(source: Source) -> Speaker {
        Speaker { source, drawn: 0, area: 0.0, input: 0.0, output: 0.0 }
    }

    /// Begins anew at tick `now`, as after a reset.
    pub fn restart(&mut self, now: Tick) {
        (self.drawn, self.area, self.input, self.output) = (now, 0.0, 0.0, 0.0);
    }

    /// Draws up to tick `now`. `counter` and `control_b` have been as they are since the last call, and `counter`
    /// has not been advanced since.
    pub fn draw(&mut self, counter: &Counter, control_b: u8, now: Tick) {
        if now <= self.drawn {
            return;
        }
        let quiet = self.output.abs() < INAUDIBLE;
        let connected = control_b & 2 != 0;
        let first = if connected { counter.next_edge(self.drawn).filter(|edge| *edge < now) } else { None };
        let level = level(counter, control_b, self.drawn);
        if quiet && first.is_none() && level == self.input {
            self.drawn = now;
            self.area = level * (place(now) % HZ) as f32;
            return;
        }
        self.drawn = self.drawn.max(now - LONGEST);
        let begin = place(self.drawn) / HZ;
        let mut samples = Vec::with_capacity(((now - self.drawn) as usize).min(1 << 18) / 6 + 2);
        let mut counter = counter.clone();
        while self.drawn < now {
            let level = self::level(&counter, control_b, self.drawn);
            let edge = counter.next_edge(self.drawn).filter(|edge| connected && *edge < now).unwrap_or(now);
            self.hold(level, edge, &mut samples);
            if edge < now {
                counter.advance(edge);
            }
        }
        self.source.play(time_of_tick(begin, RATE_HZ.into()), RATE_HZ, &samples);
    }

    /// When to draw next, if something sounds.
    pub fn next_ns(&self, counter: &Counter, control_b: u8, now: Nanoseconds) -> Option<Nanoseconds> {
        let moves = control_b & 2 != 0 && counter.next_edge(self.drawn).is_some();
        let heard = self.output.abs() >= INAUDIBLE || level(counter, control_b, self.drawn) != self.input;
        (moves || heard).then_some(now + PERIOD_NS)
    }

    /// The cone is at `level` until tick `until`.
    fn hold(&mut self, level: f32, until: Tick, samples: &mut Vec<Stereo>) {
        let (mut from, until_place) = (place(self.drawn), place(until));
        while from < until_place {
            let end = (from / HZ + 1) * HZ;
            let to = end.min(until_place);
            self.area += level * (to - from) as f32;
            if to == end {
                let mean = std::mem::take(&mut self.area) / HZ as f32;
                self.output = mean - self.input + HOLD * self.output;
                self.input = mean;
                samples.push([self.output; 2]);
            }
            from = to;
        }
        self.drawn = until;
    }
}

/// Where the cone is.
fn level(counter: &Counter, control_b: u8, at: Tick) -> f32 {
    match (control_b & 2 != 0, counter.output(at)) {
        (false, _) => 0.0,
        (true, true) => AMPLITUDE,
        (true, false) => -AMPLITUDE,
    }
}

/// Ticks in parts of a sample: a sample is [`HZ`] of them, with no remainder lost.
fn place(tick: Tick) -> u64 {
    tick.max(0) as u64 * u64::from(RATE_HZ)
}

#[cfg(test)]
#[path = "speaker_tests.rs"]
mod tests;
