//! What a guest was heard to play: a WAV file, cut into its tones.

use std::path::Path;

use display::sound::{Output, WavFile};

/// Silence that ends a tone, in samples: 30 ms.
const GAP: usize = 1_440;
const RATE_HZ: f64 = 48_000.0;

/// A sound between silences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// When it begins, in milliseconds of guest time.
    pub start_ms: f64,
    /// How long it is.
    pub length_ms: f64,
    /// Its pitch, by its rising zero crossings.
    pub hz: f64,
    /// How much of it is the sine of that pitch, by Goertzel's method: 1 is all.
    pub purity: f64,
}

impl Tone {
    /// Whether it is of `hz`, and `length_ms` long but for a few milliseconds.
    pub fn is(&self, hz: f64, length_ms: f64) -> bool {
        (self.hz - hz).abs() < hz / 500.0 && (self.length_ms - length_ms).abs() < 6.0
    }
}

/// A machine's output into a WAV file at `path`.
pub fn to_wav(path: &Path) -> Output {
    let file = WavFile::create(path).expect("room for a WAV file");
    Output { description: "wav".to_owned(), sink: Some(Box::new(file)), problem: None }
}

/// The left channel of a WAV file of 16 bits, two channels and 48 kHz.
pub fn read(path: &Path) -> Vec<f64> {
    let bytes = std::fs::read(path).expect("the WAV file");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((&bytes[..4], &bytes[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
    assert_eq!((word(20), word(24)), (0x0002_0001, 48_000), "PCM, two channels, 48 kHz");
    assert_eq!(word(40) as usize, bytes.len() - 44, "the header counts the samples");
    bytes[44..].chunks_exact(4).map(|s| f64::from(i16::from_le_bytes([s[0], s[1]])) / 32_768.0).collect()
}

/// The tones in a file.
pub fn tones(path: &Path) -> Vec<Tone> {
    let samples = read(path);
    let peak = samples.iter().fold(0.0_f64, |peak, sample| peak.max(sample.abs()));
    let loud: Vec<usize> =
        (0..samples.len()).filter(|n| samples[*n].abs() > (peak / 8.0).max(0.01)).collect();
    loud.chunk_by(|one, other| other - one < GAP)
        .map(|part| tone(&samples, part[0], part[part.len() - 1]))
        .collect()
}

fn tone(samples: &[f64], first: usize, last: usize) -> Tone {
    let crossings: Vec<f64> = (first + 1..last)
        .filter(|n| samples[n - 1] <= 0.0 && samples[*n] > 0.0)
        .map(|n| n as f64 - samples[n] / (samples[n] - samples[n - 1]))
        .collect();
    let ms = |count: usize| count as f64 / RATE_HZ * 1_000.0;
    let hz = match crossings.as_slice() {
        [begin, .., end] => (crossings.len() - 1) as f64 / (end - begin) * RATE_HZ,
        _ => 0.0,
    };
    let part = &samples[first..last];
    let (mut re, mut im, mut energy) = (0.0, 0.0, 0.0);
    for (n, sample) in part.iter().enumerate() {
        let angle = std::f64::consts::TAU * hz / RATE_HZ * n as f64;
        re += sample * angle.cos();
        im += sample * angle.sin();
        energy += sample * sample;
    }
    let purity = 2.0 * (re * re + im * im) / (part.len() as f64 * energy).max(1e-9);
    Tone { start_ms: ms(first), length_ms: ms(last - first), hz, purity }
}
