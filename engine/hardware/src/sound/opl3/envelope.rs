//! An operator's envelope: attack, decay, sustain, release, in steps of 3/16 dB.

use serde::{Deserialize, Serialize};

/// The softest: 96 dB.
pub const SILENT: u16 = 0x1FF;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Attack,
    Decay,
    Sustain,
    Release,
}

/// The generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    stage: Stage,
    level: u16,
    /// Keys that hold it down: the channel's, and a percussion key.
    keys: u8,
}

impl Default for Envelope {
    fn default() -> Envelope {
        Envelope { stage: Stage::Release, level: SILENT, keys: 0 }
    }
}

/// What the registers say of an envelope.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Rates of attack, decay and release, 4 bits each.
    pub attack: u8,
    pub decay: u8,
    pub release: u8,
    /// Where the decay ends, 4 bits of 3 dB; 15 is 93 dB.
    pub sustain: u8,
    /// The sustain lasts as long as the key.
    pub holds: bool,
    /// What the note's pitch adds to the rates.
    pub scaling: u8,
}

/// Steps of the level in eight turns, by the two low bits of the rate.
const STEPS: [[u16; 8]; 4] =
    [[0, 1, 0, 1, 0, 1, 0, 1], [0, 1, 0, 1, 1, 1, 0, 1], [0, 1, 1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1, 1]];
/// The same above rate 51, before doubling.
const FAST_STEPS: [[u16; 8]; 4] =
    [[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 2, 1, 1, 1, 2], [1, 2, 1, 2, 1, 2, 1, 2], [1, 2, 2, 2, 1, 2, 2, 2]];

/// How far the level moves in sample `count` at `rate` (6 bits).
fn step(rate: u8, count: u32) -> u16 {
    let row = usize::from(rate & 3);
    match rate / 4 {
        0 => 0,
        high @ 1..=12 => {
            let shift = 12 - u32::from(high);
            let turn = (count >> shift & 7) as usize;
            if count & ((1 << shift) - 1) == 0 { STEPS[row][turn] } else { 0 }
        }
        13 => FAST_STEPS[row][(count & 7) as usize],
        14 => 2 * FAST_STEPS[row][(count & 7) as usize],
        _ => 4,
    }
}

impl Envelope {
    /// The level, 0 (loudest) to [`SILENT`].
    pub fn level(&self) -> u16 {
        self.level
    }

    /// Whether nothing can be heard until a key goes down.
    pub fn is_silent(&self) -> bool {
        self.level == SILENT && self.stage == Stage::Release
    }

    /// A key goes down or up; says whether a note begins.
    pub fn key(&mut self, key: u8, down: bool) -> bool {
        let held = self.keys;
        self.keys = if down { held | key } else { held & !key };
        if held != 0 && self.keys == 0 {
            self.stage = Stage::Release;
        }
        let begins = held == 0 && self.keys != 0;
        if begins {
            self.stage = Stage::Attack;
        }
        begins
    }

    /// One sample's step.
    pub fn advance(&mut self, shape: &Shape, count: u32) {
        let rate = |register: u8| match register {
            0 => 0,
            register => (4 * register + shape.scaling).min(63),
        };
        match self.stage {
            Stage::Attack => {
                let rate = rate(shape.attack);
                if rate >= 60 {
                    self.level = 0;
                } else {
                    // Faster while it is soft: an exponential.
                    self.level -= ((u32::from(self.level) + 1) * u32::from(step(rate, count)))
                        .div_ceil(8)
                        .min(u32::from(self.level)) as u16;
                }
                if self.level == 0 {
                    self.stage = Stage::Decay;
                }
            }
            Stage::Decay => {
                let end = if shape.sustain == 15 { 0x1F0 } else { u16::from(shape.sustain) << 4 };
                if self.level >= end {
                    self.stage = Stage::Sustain;
                } else {
                    self.soften(step(rate(shape.decay), count));
                }
            }
            Stage::Sustain if shape.holds => {}
            Stage::Sustain | Stage::Release => self.soften(step(rate(shape.release), count)),
        }
    }

    fn soften(&mut self, step: u16) {
        self.level = (self.level + step).min(SILENT);
        if self.level == SILENT && self.stage == Stage::Sustain {
            self.stage = Stage::Release;
        }
    }

    /// Whether a saved envelope can be used.
    pub fn is_valid(&self) -> bool {
        self.level <= SILENT
    }
}
