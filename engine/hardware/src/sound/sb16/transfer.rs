//! One transfer of the DSP: what the samples are, how many a block has, and how far it is.

use display::sound::Stereo;
use serde::{Deserialize, Serialize};

use crate::clock::Nanoseconds;
use crate::sound::Pace;

/// Where samples come from or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// From memory to the loudspeaker.
    Output,
    /// Silence to memory.
    Input,
    /// The DSP pauses for a while, and then interrupts.
    Silence,
}

/// What samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    pub sixteen_bits: bool,
    pub stereo: bool,
    pub signed: bool,
}

impl Format {
    /// Bytes of one element, which DMA and lengths count.
    pub fn element_bytes(self) -> usize {
        if self.sixteen_bits { 2 } else { 1 }
    }

    /// Elements of one sample of all channels.
    pub fn channels(self) -> u32 {
        if self.stereo { 2 } else { 1 }
    }

    /// Bytes of silence.
    pub fn silence(self, elements: usize) -> Vec<u8> {
        match (self.sixteen_bits, self.signed) {
            (false, false) => vec![0x80; elements],
            (true, false) => [0, 0x80].repeat(elements),
            _ => vec![0; elements * self.element_bytes()],
        }
    }

    /// Samples as the mixer takes them.
    pub fn decode(self, bytes: &[u8], gain: [f32; 2]) -> Vec<Stereo> {
        let values: Vec<f32> =
            bytes.chunks_exact(self.element_bytes()).map(|bytes| self.value(bytes)).collect();
        values
            .chunks_exact(self.channels() as usize)
            .map(|sample| [sample[0] * gain[0], sample[sample.len() - 1] * gain[1]])
            .collect()
    }

    fn value(self, bytes: &[u8]) -> f32 {
        match (bytes, self.signed) {
            ([byte], false) => (f32::from(*byte) - 128.0) / 128.0,
            ([byte], true) => f32::from(byte.cast_signed()) / 128.0,
            ([low, high], false) => (f32::from(u16::from_le_bytes([*low, *high])) - 32_768.0) / 32_768.0,
            ([low, high], true) => f32::from(i16::from_le_bytes([*low, *high])) / 32_768.0,
            _ => 0.0,
        }
    }
}

/// The transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub kind: Kind,
    pub format: Format,
    /// The next block follows by itself.
    pub repeats: bool,
    /// Elements of a block, and those left of this one.
    pub block: u32,
    pub left: u32,
    rate_hz: u32,
    /// `None` while it is paused.
    pub pace: Option<Pace>,
}

impl Transfer {
    /// A transfer that starts at `now`, of blocks of `block` elements.
    pub fn start(
        kind: Kind,
        format: Format,
        repeats: bool,
        block: u32,
        rate_hz: u32,
        now: Nanoseconds,
    ) -> Transfer {
        let pace = Some(Pace::start(now, rate_hz));
        Transfer { kind, format, repeats, block, left: block, rate_hz: rate_hz.max(1), pace }
    }

    /// It pauses.
    pub fn pause(&mut self) {
        self.pace = None;
    }

    /// It goes on.
    pub fn go_on(&mut self, now: Nanoseconds) {
        if self.pace.is_none() {
            self.pace = Some(Pace::start(now, self.rate_hz));
        }
    }

    /// Samples left of this block.
    pub fn samples_left(&self) -> u32 {
        self.left.div_ceil(self.format.channels())
    }

    /// When this block ends.
    pub fn end_ns(&self) -> Option<Nanoseconds> {
        self.pace.map(|pace| pace.time_of(self.samples_left().into()))
    }

    /// Whether a saved transfer can be used.
    pub fn is_valid(&self) -> bool {
        (1..=0x1_0000).contains(&self.block)
            && (1..=self.block).contains(&self.left)
            && self.rate_hz > 0
            && self.pace.is_none_or(|pace| pace.is_valid())
    }
}
