//! How operators make channels: two or four of them, feedback, and the percussion voices.

use super::tables::Tables;
use super::{Opl3, register};

/// Keys that hold an operator.
const NOTE_KEY: u8 = 1;
const RHYTHM_KEY: u8 = 2;

/// The first and second operator of `channel`; the second is three further.
fn operators(channel: usize) -> [usize; 2] {
    let within = channel % 9;
    let first = channel / 9 * 18 + within / 3 * 6 + within % 3;
    [first, first + 3]
}

/// The register of `channel` with sides, feedback and connection.
pub fn feedback_register(channel: usize) -> usize {
    ((channel / 9) << 8) | (0xC0 + channel % 9)
}

/// The percussion voices' shared phases, if they are on.
pub struct Rhythm {
    on: bool,
    hi_hat: u32,
    snare: u32,
    cymbal: u32,
}

/// Operators of hi-hat, snare drum, tom-tom and cymbal.
const HI_HAT: usize = 13;
const SNARE: usize = 16;
const TOM: usize = 14;
const CYMBAL: usize = 17;

impl Rhythm {
    /// Hi-hat, snare and cymbal mix bits of two operators' phases with noise.
    pub fn of(chip: &Opl3) -> Rhythm {
        let on = chip.register(register::DEPTH_AND_RHYTHM) & 0x20 != 0;
        let (hat, cymbal) = (chip.operators[HI_HAT].place(), chip.operators[CYMBAL].place());
        let bit = |phase: u32, n: u32| phase >> n & 1;
        let mixed =
            (bit(hat, 2) ^ bit(hat, 7)) | (bit(hat, 3) ^ bit(cymbal, 5)) | (bit(cymbal, 3) ^ bit(cymbal, 5));
        let noise = chip.noise & 1;
        let hi_hat = mixed << 9 | if mixed ^ noise != 0 { 0xD0 } else { 0x34 };
        let snare = bit(hat, 8) << 9 | (bit(hat, 8) ^ noise) << 8;
        Rhythm { on, hi_hat, snare, cymbal: mixed << 9 | 0x80 }
    }
}

impl Opl3 {
    /// Whether `channel` and the one three further are one channel of four operators.
    pub(super) fn has_four_operators(&self, channel: usize) -> bool {
        let bit = channel / 9 * 3 + channel % 9;
        channel % 9 < 3 && self.is_new() && self.register(register::FOUR_OPERATORS) >> bit & 1 != 0
    }

    /// Whether `channel` is the second half of a channel of four operators.
    fn is_second_half(&self, channel: usize) -> bool {
        (3..6).contains(&(channel % 9)) && self.has_four_operators(channel - 3)
    }

    /// A channel's key.
    pub(super) fn key(&mut self, channel: usize, down: bool) {
        if self.is_second_half(channel) {
            return;
        }
        for n in operators(channel) {
            self.key_operator(n, NOTE_KEY, down);
        }
        if self.has_four_operators(channel) {
            for n in operators(channel + 3) {
                self.key_operator(n, NOTE_KEY, down);
            }
        }
    }

    /// The percussion keys, register BDh.
    pub(super) fn key_rhythm(&mut self, value: u8) {
        let [bass, bass_2] = operators(6);
        let keys = [(bass, 4), (bass_2, 4), (SNARE, 3), (TOM, 2), (CYMBAL, 1), (HI_HAT, 0)];
        for (n, bit) in keys {
            self.key_operator(n, RHYTHM_KEY, value & 0x20 != 0 && value >> bit & 1 != 0);
        }
    }

    fn key_operator(&mut self, n: usize, key: u8, down: bool) {
        let operator = &mut self.operators[n];
        if operator.envelope.key(key, down) {
            operator.phase = 0;
        }
    }

    /// The output of operator `n`, with its phase moved by `modulation`.
    fn operator(&mut self, n: usize, modulation: i32, tables: &Tables) -> i32 {
        let phase = self.operators[n].place().wrapping_add_signed(modulation);
        self.operator_at(n, phase, tables)
    }

    /// The output of operator `n` at `phase`.
    fn operator_at(&mut self, n: usize, phase: u32, tables: &Tables) -> i32 {
        if self.operators[n].envelope.is_silent() {
            self.operators[n].outputs = [0; 2];
            return 0;
        }
        let output = tables.wave(self.wave_of(n), phase, self.attenuation(n));
        let last = self.operators[n].outputs[0];
        self.operators[n].outputs = [output, last];
        output
    }

    /// The first operator of `channel`, which modulates itself.
    fn with_feedback(&mut self, channel: usize, tables: &Tables) -> i32 {
        let [first, _] = operators(channel);
        let feedback = u32::from(self.register(feedback_register(channel)) >> 1 & 7);
        let [one, other] = self.operators[first].outputs;
        let modulation = if feedback == 0 { 0 } else { (one + other) >> (9 - feedback) };
        self.operator(first, modulation, tables)
    }

    fn adds(&self, channel: usize) -> bool {
        self.register(feedback_register(channel)) & 1 != 0
    }

    /// What is heard of `channel`.
    pub(super) fn channel(&mut self, channel: usize, rhythm: &Rhythm, tables: &Tables) -> i32 {
        if self.is_second_half(channel) {
            return 0;
        }
        if rhythm.on && (6..9).contains(&channel) {
            return self.percussion(channel, rhythm, tables);
        }
        let [_, second] = operators(channel);
        let first = self.with_feedback(channel, tables);
        if !self.has_four_operators(channel) {
            return match self.adds(channel) {
                false => self.operator(second, first, tables),
                true => first + self.operator(second, 0, tables),
            };
        }
        // Datasheet, figure "four-operator mode": the connections of both halves choose one of four.
        let [third, fourth] = operators(channel + 3);
        match (self.adds(channel), self.adds(channel + 3)) {
            (false, false) => {
                let second = self.operator(second, first, tables);
                let third = self.operator(third, second, tables);
                self.operator(fourth, third, tables)
            }
            (false, true) => {
                let second = self.operator(second, first, tables);
                let third = self.operator(third, 0, tables);
                second + self.operator(fourth, third, tables)
            }
            (true, false) => {
                let second = self.operator(second, 0, tables);
                let third = self.operator(third, second, tables);
                first + self.operator(fourth, third, tables)
            }
            (true, true) => {
                let second = self.operator(second, 0, tables);
                let third = self.operator(third, second, tables);
                first + third + self.operator(fourth, 0, tables)
            }
        }
    }

    /// Channels 6 to 8 as five percussion voices, each twice as loud.
    fn percussion(&mut self, channel: usize, rhythm: &Rhythm, tables: &Tables) -> i32 {
        2 * match channel {
            6 => {
                let first = self.with_feedback(6, tables);
                let modulation = if self.adds(6) { 0 } else { first };
                self.operator(operators(6)[1], modulation, tables)
            }
            7 => {
                self.operator_at(HI_HAT, rhythm.hi_hat, tables)
                    + self.operator_at(SNARE, rhythm.snare, tables)
            }
            _ => self.operator(TOM, 0, tables) + self.operator_at(CYMBAL, rhythm.cymbal, tables),
        }
    }
}
