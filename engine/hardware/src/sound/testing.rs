//! What a device plays, kept and judged, for the tests of devices.

use std::sync::Arc;

use display::sound::{Mixer, Output, RATE_HZ, Sink, Source, Stereo};
use parking_lot::Mutex;

use crate::clock::Clock;

/// Keeps what it hears.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<Stereo>>>);

impl Sink for Ear {
    fn play(&mut self, samples: &[Stereo]) {
        self.0.lock().extend_from_slice(samples);
    }
    fn silence(&mut self, samples: u64) {
        self.0.lock().extend(std::iter::repeat_n([0.0; 2], samples as usize));
    }
}

/// A mixer whose output is kept.
pub struct Studio {
    /// The mixer.
    pub mixer: Arc<Mixer>,
    ear: Ear,
}

/// A sound between silences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// When it begins, in milliseconds of guest time.
    pub start_ms: f64,
    /// How long it is.
    pub length_ms: f64,
    /// Its pitch, by its rising zero crossings.
    pub hz: f64,
    /// Its loudest sample.
    pub peak: f32,
}

impl Studio {
    /// A studio, and a source in it.
    pub fn new() -> (Studio, Source) {
        let ear = Ear::default();
        let mixer = Mixer::new(Output { sink: Some(Box::new(ear.clone())), ..Output::none() });
        let source = mixer.source("device");
        (Studio { mixer, ear }, source)
    }

    /// Everything heard up to now.
    pub fn heard(&self, clock: &Clock) -> Vec<Stereo> {
        self.mixer.rest(clock.now());
        self.ear.0.lock().clone()
    }

    /// The one tone that was heard on the left.
    pub fn tone(&self, clock: &Clock) -> Tone {
        let heard = self.heard(clock);
        let peak = heard.iter().map(|s| s[0].abs()).fold(0.0, f32::max);
        let loud = |n: &usize| heard[*n][0].abs() > peak / 4.0;
        let first = (0..heard.len()).find(loud).expect("a sound");
        let last = (0..heard.len()).rev().find(loud).expect("a sound");
        // A rise counts once the wave has been well below zero: ripples on a step are none.
        let mut below = false;
        let mut rises = |n: &usize| {
            below |= heard[*n][0] < -peak / 8.0;
            heard[n - 1][0] <= 0.0 && heard[*n][0] > 0.0 && std::mem::take(&mut below)
        };
        let crossings: Vec<f64> = (first + 1..last)
            .filter(|n| rises(n))
            .map(|n| n as f64 - f64::from(heard[n][0] / (heard[n][0] - heard[n - 1][0])))
            .collect();
        let rate = f64::from(RATE_HZ);
        let ms = |samples: usize| samples as f64 * 1_000.0 / rate;
        let span = crossings.last().unwrap_or(&0.0) - crossings.first().unwrap_or(&0.0);
        let hz = (crossings.len().saturating_sub(1)) as f64 / span.max(1.0) * rate;
        Tone { start_ms: ms(first), length_ms: ms(last - first), hz, peak }
    }
}
