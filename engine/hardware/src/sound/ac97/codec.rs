//! The codec's mixer registers, AC'97 2.3 §5.7.

use serde::{Deserialize, Serialize};

/// Register offsets, AC'97 2.3 table 15.
mod register {
    pub const RESET: u8 = 0x00;
    pub const MASTER: u8 = 0x02;
    pub const MONO: u8 = 0x06;
    pub const PCM_OUT: u8 = 0x18;
    pub const RECORD_SELECT: u8 = 0x1A;
    pub const RECORD_GAIN: u8 = 0x1C;
    pub const GENERAL: u8 = 0x20;
    pub const POWER: u8 = 0x26;
    pub const EXTENDED_ID: u8 = 0x28;
    pub const EXTENDED_STATUS: u8 = 0x2A;
    pub const FRONT_RATE: u8 = 0x2C;
    pub const RECORD_RATE: u8 = 0x32;
    pub const MICROPHONE_RATE: u8 = 0x34;
    pub const VENDOR_1: u8 = 0x7C;
    pub const VENDOR_2: u8 = 0x7E;
}

const MUTE: u16 = 1 << 15;
/// Extended audio id and status: variable rates, of the microphone too.
const VRA: u16 = 1 << 0;
const VRM: u16 = 1 << 3;
/// Power-down register: reference, mixer, DAC and ADC are ready.
const READY: u16 = 0x000F;
/// Rates the converters can run at.
const RATES_HZ: std::ops::RangeInclusive<u16> = 4_000..=48_000;
const FIXED_HZ: u32 = 48_000;
/// A step of a volume is 1.5 dB.
const STEP_DB: f32 = 1.5;
/// PCM out at this value is neither louder nor softer.
const PCM_UNITY: u16 = 8;

/// The registers, 64 words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Codec {
    words: Vec<u16>,
}

impl Default for Codec {
    fn default() -> Codec {
        let mut codec = Codec { words: vec![0; 64] };
        for (offset, value) in [
            (register::MASTER, MUTE),
            (register::MONO, MUTE),
            (0x0C, MUTE | 8), // phone
            (0x0E, MUTE | 8), // microphone
            (0x10, 0x8808),   // line in
            (0x12, 0x8808),   // CD
            (0x14, 0x8808),   // video
            (0x16, 0x8808),   // auxiliary
            (register::PCM_OUT, 0x8808),
            (register::RECORD_GAIN, MUTE),
            (register::POWER, READY),
            (register::EXTENDED_ID, VRA | VRM),
            (register::FRONT_RATE, 48_000),
            (register::RECORD_RATE, 48_000),
            (register::MICROPHONE_RATE, 48_000),
            // SigmaTel STAC9700: "SGT", table of AC'97 vendors.
            (register::VENDOR_1, 0x8384),
            (register::VENDOR_2, 0x7600),
        ] {
            codec.set(offset, value);
        }
        codec
    }
}

impl Codec {
    /// A register at an even offset below 0x80; others read as zero.
    pub fn read(&self, offset: u8) -> u16 {
        self.words.get(usize::from(offset / 2)).copied().unwrap_or(0)
    }

    fn set(&mut self, offset: u8, value: u16) {
        self.words[usize::from(offset / 2)] = value;
    }

    /// A guest's write.
    pub fn write(&mut self, offset: u8, value: u16) {
        use register::*;
        let rates = self.read(EXTENDED_STATUS);
        let kept = match offset {
            RESET => {
                *self = Codec::default();
                return;
            }
            // Five bits are there; the sixth means softest, §5.7.2.1.
            MASTER => MUTE & value | volume(value >> 8) << 8 | volume(value),
            MONO => MUTE & value | volume(value),
            0x0C | 0x0E => value & 0x805F,
            0x10 | 0x12 | 0x14 | 0x16 | PCM_OUT => value & 0x9F1F,
            RECORD_SELECT => value & 0x0707,
            RECORD_GAIN => value & 0x8F0F,
            GENERAL => value & 0xA381,
            POWER => value & 0xFF00 | READY,
            EXTENDED_STATUS => {
                if value & VRA == 0 {
                    self.set(FRONT_RATE, 48_000);
                    self.set(RECORD_RATE, 48_000);
                }
                if value & VRM == 0 {
                    self.set(MICROPHONE_RATE, 48_000);
                }
                value & (VRA | VRM)
            }
            FRONT_RATE | RECORD_RATE if rates & VRA != 0 => value.clamp(*RATES_HZ.start(), *RATES_HZ.end()),
            MICROPHONE_RATE if rates & VRM != 0 => value.clamp(*RATES_HZ.start(), *RATES_HZ.end()),
            _ => return,
        };
        self.set(offset, kept);
    }

    /// The rates of PCM in, PCM out and microphone.
    pub fn rates_hz(&self) -> [u32; 3] {
        [register::RECORD_RATE, register::FRONT_RATE, register::MICROPHONE_RATE]
            .map(|offset| u32::from(self.read(offset)))
    }

    /// How loud PCM out is, left and right: 1 is as it came.
    pub fn gain(&self) -> [f32; 2] {
        let (master, pcm) = (self.read(register::MASTER), self.read(register::PCM_OUT));
        if (master | pcm) & MUTE != 0 {
            return [0.0; 2];
        }
        [8, 0].map(|shift| {
            let steps = (master >> shift & 0x1F) as f32 + (pcm >> shift & 0x1F) as f32 - f32::from(PCM_UNITY);
            10_f32.powf(-STEP_DB * steps / 20.0)
        })
    }

    /// Whether a saved codec can be used.
    pub fn is_valid(&self) -> bool {
        self.words.len() == 64 && self.rates_hz().iter().all(|hz| (1..=FIXED_HZ).contains(hz))
    }
}

fn volume(value: u16) -> u16 {
    if value & 0x20 != 0 { 0x1F } else { value & 0x1F }
}
