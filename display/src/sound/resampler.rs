//! From one sample rate to another: a windowed sinc, as a polyphase filter.
//!
//! J. O. Smith, *Digital Audio Resampling*: one kernel, looked up between its phases. Any ratio, which may change
//! while samples pass (a host's clock and a guest's never agree quite), and no block size. Crates such as `rubato`
//! take fixed blocks and bring an FFT along; this is a page.

use super::Stereo;

/// Input samples that make one output sample.
const TAPS: usize = 48;
/// Places between two input samples at which the kernel is kept; between them it is interpolated.
const PHASES: usize = 256;
/// Where the pass band ends, of what both rates can carry: the kernel's slope needs the rest.
const PASS: f64 = 0.91;
/// Kaiser's parameter: about 80 dB of attenuation.
const BETA: f64 = 8.0;
/// One input sample, as a position.
const ONE: u64 = 1 << 40;

/// What samples pass through.
#[derive(Clone, Debug)]
pub struct Resampler {
    /// Rows of coefficients, one a phase and one more; empty if the rates are equal and stay so.
    kernel: Vec<f32>,
    /// The last input samples, twice, so that they can be seen in a row.
    history: Box<[Stereo; 2 * TAPS]>,
    newest: usize,
    /// Input samples per output sample, in parts of [`ONE`].
    step: u64,
    ratio: f64,
    /// From the newest input sample to the next output sample.
    until: u64,
}

impl Resampler {
    /// From `from_hz` to `to_hz`. Equal rates pass unchanged and without delay.
    pub fn new(from_hz: u32, to_hz: u32) -> Resampler {
        let mut resampler = Resampler::adjustable(from_hz, to_hz);
        if from_hz == to_hz {
            resampler.kernel.clear();
        }
        resampler
    }

    /// The same, whose ratio can be changed by [`Resampler::set_speed`].
    pub fn adjustable(from_hz: u32, to_hz: u32) -> Resampler {
        let ratio = f64::from(from_hz.max(1)) / f64::from(to_hz.max(1));
        Resampler {
            kernel: kernel(PASS * (1.0 / ratio).min(1.0)),
            history: Box::new([[0.0; 2]; 2 * TAPS]),
            newest: 0,
            step: (ratio * ONE as f64).round() as u64,
            ratio,
            until: 0,
        }
    }

    /// Has input pass `speed` times as fast from now on; 1 is as it was made.
    pub fn set_speed(&mut self, speed: f64) {
        self.step = ((self.ratio * speed * ONE as f64).round() as u64).max(1 << 20);
    }

    /// Lets `input` pass; `output` is called for each sample that comes out.
    pub fn pass(&mut self, input: &[Stereo], mut output: impl FnMut(Stereo)) {
        if self.kernel.is_empty() {
            return input.iter().for_each(|sample| output(*sample));
        }
        for sample in input {
            self.newest = (self.newest + 1) % TAPS;
            self.history[self.newest] = *sample;
            self.history[self.newest + TAPS] = *sample;
            while self.until < ONE {
                output(self.between());
                self.until += self.step;
            }
            self.until -= ONE;
        }
    }

    /// The sample `until` behind the middle of the history.
    fn between(&self) -> Stereo {
        let place = self.until as f64 / ONE as f64 * PHASES as f64;
        let (row, part) = (place as usize, place.fract() as f32);
        let rows = &self.kernel[row * TAPS..(row + 2) * TAPS];
        let (first, second) = rows.split_at(TAPS);
        let history = &self.history[self.newest + 1..=self.newest + TAPS];
        let mut sum = [0.0; 2];
        for ((sample, one), other) in history.iter().zip(first).zip(second) {
            let weight = one + (other - one) * part;
            sum[0] += sample[0] * weight;
            sum[1] += sample[1] * weight;
        }
        sum
    }
}

/// The kernel of a low pass up to `cutoff` of half the input rate.
fn kernel(cutoff: f64) -> Vec<f32> {
    let half = TAPS as f64 / 2.0;
    let mut all = Vec::with_capacity((PHASES + 1) * TAPS);
    for phase in 0..=PHASES {
        let offset = half - 1.0 + phase as f64 / PHASES as f64;
        let row: Vec<f64> = (0..TAPS)
            .map(|tap| {
                let distance = offset - tap as f64;
                sinc(cutoff * distance) * kaiser(distance / half)
            })
            .collect();
        let sum: f64 = row.iter().sum();
        all.extend(row.iter().map(|weight| (weight / sum) as f32));
    }
    all
}

fn sinc(x: f64) -> f64 {
    let angle = std::f64::consts::PI * x;
    if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle }
}

/// Kaiser's window at `x`, -1 to 1.
fn kaiser(x: f64) -> f64 {
    bessel(BETA * (1.0 - x * x).max(0.0).sqrt()) / bessel(BETA)
}

/// The modified Bessel function of order 0, by its power series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for n in 1..40 {
        term *= (x / (2.0 * f64::from(n))).powi(2);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::testing::{amplitude, sine};
    use super::*;

    fn pass(from_hz: u32, to_hz: u32, input: &[Stereo]) -> Vec<Stereo> {
        let mut output = Vec::new();
        Resampler::new(from_hz, to_hz).pass(input, |sample| output.push(sample));
        output
    }

    #[test]
    fn a_sine_stays_a_sine_of_its_pitch_at_every_rate() {
        for from in [8_000, 11_025, 22_050, 44_100, 49_716, 96_000] {
            let output = pass(from, 48_000, &sine(1_000.0, from, from as usize));
            assert!(output.len().abs_diff(48_000) <= 1, "{from}: {}", output.len());
            let steady = &output[2_000..46_000];
            let kept = amplitude(steady, 1_000.0, 48_000);
            assert!((kept - 0.5).abs() < 0.001, "{from}: {kept}");
            // Whatever is not the sine: its energy less the sine's.
            let energy: f64 =
                steady.iter().map(|s| f64::from(s[0]).powi(2)).sum::<f64>() / steady.len() as f64;
            assert!((energy - 0.125).abs() < 0.000_2, "{from}: {energy}");
        }
    }

    #[test]
    fn images_and_what_the_lower_rate_cannot_carry_are_held_off() {
        // The mirror of 1 kHz at half of 8 kHz is 7 kHz.
        let up = pass(8_000, 48_000, &sine(1_000.0, 8_000, 8_000));
        assert!(amplitude(&up[2_000..46_000], 7_000.0, 48_000) < 0.000_2);
        // 40 kHz at 96 kHz would come back as 8 kHz.
        let down = pass(96_000, 48_000, &sine(40_000.0, 96_000, 96_000));
        assert!(amplitude(&down[2_000..46_000], 8_000.0, 48_000) < 0.000_2);
    }

    #[test]
    fn equal_rates_change_nothing_and_no_sample_is_lost_in_pieces() {
        let input = sine(700.0, 48_000, 1_000);
        assert_eq!(pass(48_000, 48_000, &input), input);
        let whole = pass(44_100, 48_000, &input);
        let (mut pieces, mut resampler) = (Vec::new(), Resampler::new(44_100, 48_000));
        input.chunks(7).for_each(|piece| resampler.pass(piece, |sample| pieces.push(sample)));
        assert_eq!(pieces, whole);
    }

    #[test]
    fn the_speed_can_be_changed() {
        let mut resampler = Resampler::adjustable(48_000, 48_000);
        let mut count = 0;
        resampler.set_speed(2.0);
        resampler.pass(&[[0.0; 2]; 48_000], |_| count += 1);
        assert_eq!(count, 24_000);
    }
}
