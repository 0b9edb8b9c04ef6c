//! What the guest's loudspeaker is: sources, a mixer on the guest's time line, and who hears it.
//!
//! A sound device plays samples into a [`Source`] and says at which guest time they sound; the [`Mixer`] brings all
//! to [`RATE_HZ`], adds them up and hands them to a [`Sink`]: the host's sound device (feature `present`), a WAV
//! file, or none. Nothing here waits: a sink that is behind loses samples and counts them, and without a sink all
//! goes on as with one.

pub mod mixer;
pub mod resampler;
pub mod ring;
pub mod wav;

#[cfg(feature = "present")]
pub mod host;

pub use mixer::{Mixer, SoundStatus, Source, SourceStatus};
pub use resampler::Resampler;
pub use wav::WavFile;

/// One sample of both channels, left and right, each from -1 to 1.
pub type Stereo = [f32; 2];

/// Samples a second of the mixed sound.
pub const RATE_HZ: u32 = 48_000;

/// Who hears the mixed sound. Called with the mixer's lock held: it must not wait.
pub trait Sink: Send {
    /// The next samples, at [`RATE_HZ`].
    fn play(&mut self, samples: &[Stereo]);
    /// So many samples of silence.
    fn silence(&mut self, samples: u64);
    /// No sound follows for now: that none comes is no underrun.
    fn rest(&mut self) {}
    /// Guest seconds per host second have changed.
    fn set_time_rate(&mut self, _rate: f64) {}
    /// What has gone wrong so far.
    fn health(&self) -> Health {
        Health::default()
    }
}

/// What has gone wrong at a [`Sink`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// How often the host wanted samples while sound was on and there were none.
    pub underruns: u64,
    /// Samples the host did not take in time.
    pub dropped: u64,
    /// Why nothing is heard any more.
    pub failure: Option<String>,
}

/// Where a machine's sound goes.
pub struct Output {
    /// In words: "host: default, 48000 Hz", "none".
    pub description: String,
    /// Who hears it.
    pub sink: Option<Box<dyn Sink>>,
    /// Why there is no sink though one was wanted.
    pub problem: Option<String>,
}

impl Output {
    /// Nobody hears it, as was wanted.
    pub fn none() -> Output {
        Output { description: "none".to_owned(), sink: None, problem: None }
    }

    /// Nobody hears it, though `what` was wanted.
    pub fn unavailable(what: &str, problem: String) -> Output {
        Output { description: what.to_owned(), sink: None, problem: Some(problem) }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("description", &self.description)
            .field("problem", &self.problem)
            .finish()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::Stereo;

    /// `count` samples of a sine of `hz` at `rate_hz`.
    pub fn sine(hz: f64, rate_hz: u32, count: usize) -> Vec<Stereo> {
        let angle = |n: usize| (n as f64 * hz / f64::from(rate_hz) * std::f64::consts::TAU).sin();
        (0..count).map(|n| [angle(n) as f32 * 0.5; 2]).collect()
    }

    /// The amplitude of the part of `samples` (left) at `hz`, by Goertzel's method.
    pub fn amplitude(samples: &[Stereo], hz: f64, rate_hz: u32) -> f64 {
        let step = hz / f64::from(rate_hz) * std::f64::consts::TAU;
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in samples.iter().enumerate() {
            // A Hann window keeps what lies beside it out.
            let window = 1.0 - (std::f64::consts::TAU * n as f64 / samples.len() as f64).cos();
            re += window * f64::from(sample[0]) * (step * n as f64).cos();
            im += window * f64::from(sample[0]) * (step * n as f64).sin();
        }
        2.0 * (re * re + im * im).sqrt() / samples.len() as f64
    }
}
