//! One stream: its parameters, its state, and how far it has played. Virtio 1.2 §5.14.6.6.

use display::sound::Stereo;
use serde::{Deserialize, Serialize};

use super::request::{self, format};
use super::status;
use crate::clock::Nanoseconds;
use crate::sound::Pace;

/// States, §5.14.6.6.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// No parameters yet.
    #[default]
    New,
    Set,
    Prepared,
    Running,
    Stopped,
}

/// The stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    phase: Phase,
    channels: u8,
    format: u8,
    rate_hz: u32,
    pace: Option<Pace>,
    /// Bytes done of the first buffer in the queue, and those left in it.
    offset: u32,
    left: u32,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream {
            phase: Phase::New,
            channels: 2,
            format: format::S16,
            rate_hz: 48_000,
            pace: None,
            offset: 0,
            left: 0,
        }
    }
}

impl Stream {
    /// SET_PARAMS: buffer and period lengths are the driver's own affair.
    pub fn set_parameters(&mut self, bytes: &[u8]) -> u32 {
        let (Some(features), Some([channels, format, rate, _])) =
            (request::word(bytes, 16), bytes.get(20..24).and_then(|b| <[u8; 4]>::try_from(b).ok()))
        else {
            return status::BAD_MESSAGE;
        };
        if matches!(self.phase, Phase::Running | Phase::Stopped) {
            return status::BAD_MESSAGE;
        }
        let rate_hz = request::RATES_HZ.get(usize::from(rate));
        let known = format::OFFERED.contains(&format) && (1..=2).contains(&channels) && features == 0;
        let Some(&rate_hz) = rate_hz.filter(|_| known) else { return status::NOT_SUPPORTED };
        *self = Stream { phase: Phase::Set, channels, format, rate_hz, ..Stream::default() };
        status::OK
    }

    /// PREPARE.
    pub fn prepare(&mut self) -> u32 {
        self.go(&[Phase::Set, Phase::Prepared], Phase::Prepared)
    }

    /// START.
    pub fn start(&mut self, now: Nanoseconds) -> u32 {
        let told = self.go(&[Phase::Prepared, Phase::Stopped], Phase::Running);
        if told == status::OK {
            self.pace = Some(Pace::start(now, self.rate_hz));
        }
        told
    }

    /// STOP: buffers stay.
    pub fn stop(&mut self) -> u32 {
        let told = self.go(&[Phase::Running], Phase::Stopped);
        if told == status::OK {
            self.pace = None;
        }
        told
    }

    /// RELEASE.
    pub fn release(&mut self) -> u32 {
        let told = self.go(&[Phase::Prepared, Phase::Stopped], Phase::Set);
        if told == status::OK {
            (self.offset, self.left) = (0, 0);
        }
        told
    }

    fn go(&mut self, from: &[Phase], to: Phase) -> u32 {
        if !from.contains(&self.phase) {
            return status::BAD_MESSAGE;
        }
        self.phase = to;
        status::OK
    }

    /// Whether it plays or records.
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether the driver may offer buffers.
    pub fn takes_buffers(&self) -> bool {
        matches!(self.phase, Phase::Prepared | Phase::Running | Phase::Stopped)
    }

    /// Samples a second.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Bytes of one sample of all channels.
    pub fn sample_bytes(&self) -> u32 {
        u32::from(self.channels) * self.width()
    }

    fn width(&self) -> u32 {
        match self.format {
            format::S8 | format::U8 => 1,
            format::S16 | format::U16 => 2,
            _ => 4,
        }
    }

    /// So many bytes of silence.
    pub fn silence(&self, bytes: usize) -> Vec<u8> {
        match self.format {
            format::U8 => vec![0x80; bytes],
            format::U16 => [0, 0x80].into_iter().cycle().take(bytes).collect(),
            _ => vec![0; bytes],
        }
    }

    /// Bytes done of the first buffer.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Bytes that have sounded by `now` and were not yet played: whole samples.
    pub fn due_bytes(&self, now: Nanoseconds) -> u64 {
        self.pace.map_or(0, |pace| pace.due(now) * u64::from(self.sample_bytes()))
    }

    /// When the next sample sounds.
    pub fn next_ns(&self) -> Nanoseconds {
        self.pace.map_or(0, |pace| pace.next_ns())
    }

    /// So many bytes of the first buffer were played: whole samples, but at its end.
    pub fn move_on(&mut self, bytes: u32) {
        self.offset += bytes;
        let samples = bytes.div_ceil(self.sample_bytes());
        if let Some(pace) = &mut self.pace {
            pace.play(samples.into());
        }
    }

    /// So many bytes are left of the first buffer.
    pub fn set_left(&mut self, bytes: u32) {
        self.left = bytes;
    }

    /// The first buffer is done.
    pub fn end_buffer(&mut self) {
        (self.offset, self.left) = (0, 0);
    }

    /// What was due up to `now` and had no buffer is silence: the converter does not wait.
    pub fn skip_to(&mut self, now: Nanoseconds) {
        if let Some(pace) = &mut self.pace {
            pace.play(pace.due(now));
        }
    }

    /// When the first buffer will have sounded, if there is one.
    pub fn end_ns(&self) -> Option<Nanoseconds> {
        let samples = self.left / self.sample_bytes();
        self.pace.filter(|_| samples > 0).map(|pace| pace.time_of(samples.into()))
    }

    /// Samples as the mixer takes them. A last one that lacks bytes is left out.
    pub fn decode(&self, bytes: &[u8]) -> Vec<Stereo> {
        let width = self.width() as usize;
        let sample = |bytes: &[u8]| {
            let places = bytes.get(bytes.len() - width..).unwrap_or_default();
            [self.value(bytes), self.value(places)]
        };
        bytes.chunks_exact(self.sample_bytes() as usize).map(sample).collect()
    }

    fn value(&self, bytes: &[u8]) -> f32 {
        match (self.format, bytes) {
            (format::S8, [byte, ..]) => f32::from(byte.cast_signed()) / 128.0,
            (format::U8, [byte, ..]) => (f32::from(*byte) - 128.0) / 128.0,
            (format::S16, [low, high, ..]) => f32::from(i16::from_le_bytes([*low, *high])) / 32_768.0,
            (format::U16, [low, high, ..]) => {
                (f32::from(u16::from_le_bytes([*low, *high])) - 32_768.0) / 32_768.0
            }
            (format::S32, [a, b, c, d, ..]) => i32::from_le_bytes([*a, *b, *c, *d]) as f32 / 2_147_483_648.0,
            (format::FLOAT, [a, b, c, d, ..]) => {
                let value = f32::from_le_bytes([*a, *b, *c, *d]);
                if value.is_finite() { value.clamp(-1.0, 1.0) } else { 0.0 }
            }
            _ => 0.0,
        }
    }

    /// Whether a saved stream can be used.
    pub fn is_valid(&self) -> bool {
        let plays = self.phase == Phase::Running;
        format::OFFERED.contains(&self.format)
            && (1..=2).contains(&self.channels)
            && request::RATES_HZ.contains(&self.rate_hz)
            && self.pace.is_some() == plays
            && self.pace.is_none_or(|pace| pace.is_valid() && pace.rate_hz() == self.rate_hz)
    }
}
