//! The mixer: adds up what sources play, on the guest's time line.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Health, Output, RATE_HZ, Resampler, Stereo};

/// How far what a source plays may be from where it left off, and still goes on there: 2 ms, more than a sample of
/// the slowest source.
const TOLERANCE: u64 = 96;
/// The most a source may be ahead of the mixer: 1 s.
const AHEAD_MAX: usize = RATE_HZ as usize;
/// How far the mixer stays behind guest time, so that every source has played what sounds then: 14 ms. Sources play
/// at least each 10 ms, and may stand [`TOLERANCE`] too early.
const BEHIND: u64 = 672;
/// Silence after which nothing more is expected: 200 ms.
const QUIET: u64 = 9_600;
/// Samples mixed at once.
const BLOCK: usize = 480;

/// Adds up all sources of a machine.
pub struct Mixer {
    state: Mutex<State>,
    /// Called when a source begins to sound.
    sounds: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

struct State {
    lines: Vec<Line>,
    output: Output,
    volume: f32,
    muted: bool,
    /// The gain reached in the last block.
    gain: f32,
    /// Samples mixed since guest time 0.
    position: u64,
    /// The end of the last sound.
    sounded_until: u64,
    sounding: bool,
    peak: f32,
    /// What was counted by sinks that are gone.
    past: Health,
}

/// One source, as the mixer knows it.
struct Line {
    name: String,
    volume: f32,
    muted: bool,
    gain: f32,
    resampler: Option<(u32, Resampler)>,
    queue: VecDeque<Stereo>,
    /// The position of the first in the queue, or of the next if it is empty.
    start: u64,
    peak: f32,
    lost: u64,
}

/// What a window shows of a machine's sound.
#[derive(Clone, Debug, PartialEq)]
pub struct SoundStatus {
    /// Where it goes, in words.
    pub output: String,
    /// Why nothing can be heard: no sound device, a full disk. The lamp is dark then, and this is its text.
    pub problem: Option<String>,
    /// Something sounds now, muted or not.
    pub sounding: bool,
    /// From 0 to 1.
    pub volume: f32,
    /// Nothing is heard.
    pub muted: bool,
    /// How loud it was last, from 0 to 1.
    pub level: f32,
    /// How often the host wanted samples while sound was on and there were none.
    pub underruns: u64,
    /// Samples lost because the host or the mixer was late.
    pub dropped: u64,
    /// All sources, in the order of their making.
    pub sources: Vec<SourceStatus>,
}

/// What a window shows of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceStatus {
    /// Its name: "speaker", "ac97".
    pub name: String,
    /// From 0 to 1.
    pub volume: f32,
    /// It is not heard.
    pub muted: bool,
    /// How loud it was last, from 0 to 1.
    pub level: f32,
}

/// A device's end: it plays into this.
#[derive(Clone)]
pub struct Source {
    mixer: Arc<Mixer>,
    line: usize,
}

/// The position of guest time `now_ns` on the time line.
fn position(now_ns: u64) -> u64 {
    (u128::from(now_ns) * u128::from(RATE_HZ) / 1_000_000_000) as u64
}

impl Mixer {
    /// A mixer for `output`.
    pub fn new(output: Output) -> Arc<Mixer> {
        let state = State {
            lines: Vec::new(),
            output,
            volume: 1.0,
            muted: false,
            gain: 1.0,
            position: 0,
            sounded_until: 0,
            sounding: false,
            peak: 0.0,
            past: Health::default(),
        };
        Arc::new(Mixer { state: Mutex::new(state), sounds: Mutex::new(None) })
    }

    /// A new source.
    pub fn source(self: &Arc<Mixer>, name: &str) -> Source {
        let mut state = self.state.lock();
        state.lines.push(Line::new(name));
        Source { mixer: self.clone(), line: state.lines.len() - 1 }
    }

    /// Calls `waker` whenever a sound begins: from then on [`Mixer::mix`] must be called, until it says `false`.
    pub fn on_sound(&self, waker: impl Fn() + Send + Sync + 'static) {
        *self.sounds.lock() = Some(Arc::new(waker));
    }

    /// Mixes what sounds before guest time `now_ns`, but for the last 14 ms, which sources may still play. Says
    /// whether to call again in some milliseconds.
    pub fn mix(&self, now_ns: u64) -> bool {
        let mut state = self.state.lock();
        let until = position(now_ns).saturating_sub(BEHIND);
        // Guest time was set back: what was to come belongs to another past.
        if state.position > until + AHEAD_MAX as u64 {
            state.start_at(until);
        }
        state.mix_until(until);
        if state.sounding && state.position > state.sounded_until + QUIET {
            state.rest();
        }
        state.sounding
    }

    /// Guest time stands still: mixes what there is, and has the sink expect nothing.
    pub fn rest(&self, now_ns: u64) {
        let mut state = self.state.lock();
        state.mix_until(position(now_ns));
        state.rest();
    }

    /// Mixes what there is, and ends the output. For good.
    pub fn close(&self, now_ns: u64) {
        let mut state = self.state.lock();
        state.mix_until(position(now_ns));
        state.rest();
        if let Some(sink) = state.output.sink.take() {
            state.past = sink.health();
        }
        state.output.problem.get_or_insert_with(|| "the machine has ended".to_owned());
        drop(state);
        *self.sounds.lock() = None;
    }

    /// Sets the volume, 0 to 1, of the source called `source`, or of all. Says whether there is such a source.
    pub fn set_volume(&self, source: Option<&str>, volume: f32) -> bool {
        let volume = if volume.is_finite() { volume.clamp(0.0, 1.0) } else { 0.0 };
        self.adjust(source, |state| state.volume = volume, |line| line.volume = volume)
    }

    /// Mutes or unmutes the source called `source`, or all. Says whether there is such a source.
    pub fn set_muted(&self, source: Option<&str>, muted: bool) -> bool {
        self.adjust(source, |state| state.muted = muted, |line| line.muted = muted)
    }

    fn adjust(
        &self,
        source: Option<&str>,
        whole: impl FnOnce(&mut State),
        one: impl FnOnce(&mut Line),
    ) -> bool {
        let mut state = self.state.lock();
        match source {
            None => whole(&mut state),
            Some(name) => match state.lines.iter_mut().find(|line| line.name == name) {
                Some(line) => one(line),
                None => return false,
            },
        }
        true
    }

    /// Tells the sink how fast guest time runs.
    pub fn set_time_rate(&self, rate: f64) {
        if let Some(sink) = &mut self.state.lock().output.sink {
            sink.set_time_rate(rate);
        }
    }

    /// What is to be shown.
    pub fn status(&self) -> SoundStatus {
        let state = self.state.lock();
        let health = state.output.sink.as_ref().map_or_else(|| state.past.clone(), |sink| sink.health());
        let lost: u64 = state.lines.iter().map(|line| line.lost).sum();
        let source = |line: &Line| SourceStatus {
            name: line.name.clone(),
            volume: line.volume,
            muted: line.muted,
            level: if state.sounding { line.peak } else { 0.0 },
        };
        SoundStatus {
            output: state.output.description.clone(),
            problem: health.failure.or_else(|| state.output.problem.clone()),
            sounding: state.sounding,
            volume: state.volume,
            muted: state.muted,
            level: if state.sounding { state.peak } else { 0.0 },
            underruns: health.underruns,
            dropped: health.dropped + lost,
            sources: state.lines.iter().map(source).collect(),
        }
    }
}

impl Source {
    /// Plays `samples` of `rate_hz`; the first sounds at guest time `at_ns`, and the last has sounded by now. What is
    /// played in a row is heard without a gap; a source plays at least each 10 ms while it sounds.
    pub fn play(&self, at_ns: u64, rate_hz: u32, samples: &[Stereo]) {
        if samples.is_empty() {
            return;
        }
        let mut state = self.mixer.state.lock();
        state.lines[self.line].play(position(at_ns), rate_hz, samples);
        let begins = !std::mem::replace(&mut state.sounding, true);
        drop(state);
        if begins {
            let waker = self.mixer.sounds.lock().clone();
            waker.inspect(|waker| waker());
        }
    }
}

impl Line {
    fn new(name: &str) -> Line {
        Line {
            name: name.to_owned(),
            volume: 1.0,
            muted: false,
            gain: 1.0,
            resampler: None,
            queue: VecDeque::new(),
            start: 0,
            peak: 0.0,
            lost: 0,
        }
    }

    fn play(&mut self, at: u64, rate_hz: u32, samples: &[Stereo]) {
        let next = self.start + self.queue.len() as u64;
        if self.queue.is_empty() && at.abs_diff(next) > TOLERANCE {
            self.start = at;
            self.resampler = None;
        } else if at > next + TOLERANCE {
            let gap = ((at - next) as usize).min(AHEAD_MAX - self.queue.len());
            self.queue.extend(std::iter::repeat_n([0.0; 2], gap));
        }
        let rate_hz = rate_hz.clamp(1_000, 1_000_000);
        if self.resampler.as_ref().is_none_or(|(rate, _)| *rate != rate_hz) {
            self.resampler = Some((rate_hz, Resampler::new(rate_hz, RATE_HZ)));
        }
        let Some((_, resampler)) = &mut self.resampler else { return };
        let (queue, lost) = (&mut self.queue, &mut self.lost);
        resampler.pass(samples, |sample| match queue.len() < AHEAD_MAX {
            true => queue.push_back(sample),
            false => *lost += 1,
        });
    }

    /// Adds what sounds from `position` on to `block`.
    fn add_to(&mut self, position: u64, block: &mut [Stereo]) {
        let late = position.saturating_sub(self.start).min(self.queue.len() as u64);
        self.queue.drain(..late as usize);
        self.start += late;
        self.lost += late;
        let skip = usize::try_from(self.start.saturating_sub(position)).unwrap_or(usize::MAX);
        let Some(block) = block.get_mut(skip..).filter(|_| !self.queue.is_empty()) else {
            self.peak *= 0.9;
            return;
        };
        let count = block.len().min(self.queue.len());
        let wanted = if self.muted { 0.0 } else { self.volume };
        let step = (wanted - self.gain) / BLOCK as f32;
        let mut peak = 0.0_f32;
        for (sum, sample) in block.iter_mut().zip(self.queue.drain(..count)) {
            self.gain = approach(self.gain, wanted, step);
            let [left, right] = sample.map(|value| value * self.gain);
            peak = peak.max(left.abs()).max(right.abs());
            *sum = [sum[0] + left, sum[1] + right];
        }
        self.start += count as u64;
        self.peak = peak.max(self.peak * 0.9).min(1.0);
    }
}

/// One step from `gain` to `wanted`: a jump would be heard as a click.
fn approach(gain: f32, wanted: f32, step: f32) -> f32 {
    let next = gain + step;
    if step == 0.0 || (step > 0.0) == (next >= wanted) { wanted } else { next }
}

impl State {
    fn mix_until(&mut self, until: u64) {
        while self.position < until {
            let first = self.lines.iter().filter(|line| !line.queue.is_empty()).map(|line| line.start).min();
            let silent = first.unwrap_or(until).clamp(self.position, until) - self.position;
            if silent > 0 {
                if let Some(sink) = &mut self.output.sink {
                    sink.silence(silent);
                }
                self.peak = 0.0;
                self.position += silent;
                continue;
            }
            self.mix_block((until - self.position).min(BLOCK as u64) as usize);
        }
    }

    fn mix_block(&mut self, length: usize) {
        let mut block = [[0.0; 2]; BLOCK];
        let block = &mut block[..length];
        for line in &mut self.lines {
            line.add_to(self.position, block);
        }
        let wanted = if self.muted { 0.0 } else { self.volume };
        let step = (wanted - self.gain) / BLOCK as f32;
        let mut peak = 0.0_f32;
        for sample in block.iter_mut() {
            self.gain = approach(self.gain, wanted, step);
            *sample = sample.map(|value| (value * self.gain).clamp(-1.0, 1.0));
            peak = peak.max(sample[0].abs()).max(sample[1].abs());
        }
        self.peak = peak.max(self.peak * 0.9);
        if let Some(sink) = &mut self.output.sink {
            sink.play(block);
        }
        self.position += length as u64;
        self.sounded_until = self.position;
    }

    fn rest(&mut self) {
        self.sounding = false;
        if let Some(sink) = &mut self.output.sink {
            sink.rest();
        }
    }

    fn start_at(&mut self, position: u64) {
        self.position = position;
        self.sounded_until = position;
        for line in &mut self.lines {
            line.queue.clear();
            line.resampler = None;
            line.start = position;
        }
    }
}

#[cfg(test)]
#[path = "mixer_tests.rs"]
mod tests;
