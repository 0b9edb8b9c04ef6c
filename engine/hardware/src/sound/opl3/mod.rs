//! Yamaha YMF262 (OPL3) FM synthesiser, and the YM3812 (OPL2) it starts as.
//!
//! YMF262 datasheet (LSI-4MF2622); what it does not say is known from the chips' decapped dies: the logarithmic sine, the
//! exponential, the envelope's steps (*OPLx decapsulated*, Gambrell and Niemitalo, 2008). Two banks of 256
//! registers; 36 operators, 18 channels, of two operators or (six of them) four, five percussion voices; two timers.
//! One sample each 288 ticks of 14.31818 MHz. A pure chip: a sound card gives it ports.
//! Left out: the test registers, the third and fourth output, CSM mode.

mod channel;
mod envelope;
mod operator;
mod tables;
mod timers;

use std::sync::LazyLock;

use display::sound::Stereo;
use serde::{Deserialize, Serialize};

use channel::Rhythm;
use operator::Operator;
use tables::Tables;
use timers::Timers;

use crate::clock::Nanoseconds;

/// Samples a second: 14.31818 MHz / 288.
pub const RATE_HZ: u32 = 49_716;
const OPERATORS: usize = 36;
const CHANNELS: usize = 18;
const REGISTERS: usize = 512;

static TABLES: LazyLock<Tables> = LazyLock::new(Tables::new);

/// Registers of the whole chip, by bank and number.
mod register {
    pub const TIMERS: std::ops::RangeInclusive<usize> = 0x02..=0x04;
    pub const NOTE_SELECT: usize = 0x08;
    pub const DEPTH_AND_RHYTHM: usize = 0xBD;
    pub const FOUR_OPERATORS: usize = 0x104;
    pub const NEW: usize = 0x105;
    /// YM3812: other waves than the sine may be chosen.
    pub const WAVES: usize = 0x01;
}

/// The chip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opl3 {
    registers: Vec<u8>,
    /// What an address port chose, in either bank.
    selected: u16,
    operators: Vec<Operator>,
    timers: Timers,
    /// Samples made: what the slow oscillators and envelopes count.
    count: u32,
    noise: u32,
}

impl Default for Opl3 {
    fn default() -> Opl3 {
        Opl3 {
            registers: vec![0; REGISTERS],
            selected: 0,
            operators: vec![Operator::default(); OPERATORS],
            timers: Timers::default(),
            count: 0,
            noise: 1,
        }
    }
}

impl Opl3 {
    /// Reads one of the four ports: status at all.
    pub fn read(&self, _port: u8, now: Nanoseconds) -> u8 {
        self.timers.status(now)
    }

    /// Writes one of the four ports: address, data, address of the second bank, data.
    pub fn write(&mut self, port: u8, value: u8, now: Nanoseconds) {
        match port & 3 {
            0 => self.selected = value.into(),
            // The YM3812 knows one bank; the register that says it is a YMF262 is reached all the same.
            2 => {
                let bank = self.is_new() || usize::from(value) == register::NEW & 0xFF;
                self.selected = u16::from(bank) << 8 | u16::from(value);
            }
            _ => self.set(usize::from(self.selected), value, now),
        }
    }

    fn set(&mut self, number: usize, value: u8, now: Nanoseconds) {
        if register::TIMERS.contains(&number) {
            self.timers.write(number, value, now);
        }
        self.registers[number] = value;
        let low = number & 0xFF;
        if (0xB0..=0xB8).contains(&low) {
            let channel = (number >> 8) * 9 + (low - 0xB0);
            self.key(channel, value & 0x20 != 0);
        } else if number == register::DEPTH_AND_RHYTHM {
            self.key_rhythm(value);
        }
    }

    fn register(&self, number: usize) -> u8 {
        self.registers[number]
    }

    /// It is a YMF262: NEW is set.
    fn is_new(&self) -> bool {
        self.register(register::NEW) & 1 != 0
    }

    /// Whether something sounds.
    pub fn sounds(&self) -> bool {
        self.operators.iter().any(|operator| !operator.envelope.is_silent())
    }

    /// The next sample.
    pub fn sample(&mut self) -> Stereo {
        let tables = &*TABLES;
        let rhythm = Rhythm::of(self);
        for n in 0..OPERATORS {
            self.step_operator(n);
        }
        let mut sum = [0_i32; 2];
        for channel in 0..CHANNELS {
            let output = self.channel(channel, &rhythm, tables);
            let sides =
                if self.is_new() { self.register(channel::feedback_register(channel)) >> 4 & 3 } else { 3 };
            sum[0] += if sides & 1 != 0 { output } else { 0 };
            sum[1] += if sides & 2 != 0 { output } else { 0 };
        }
        self.count = self.count.wrapping_add(1);
        let bit = (self.noise ^ self.noise >> 14) & 1;
        self.noise = self.noise >> 1 | bit << 22;
        sum.map(|side| side.clamp(-32_768, 32_767) as f32 / 32_768.0)
    }

    /// Whether a saved chip can be used.
    pub fn is_valid(&self) -> bool {
        self.registers.len() == REGISTERS
            && self.operators.len() == OPERATORS
            && usize::from(self.selected) < REGISTERS
            && self.noise != 0
            && self.operators.iter().all(Operator::is_valid)
    }
}

#[cfg(test)]
mod tests;
