//! The digital sound processor, version 4.05: its command port, and the transfers it makes. HPG, chapters 3 and 6.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::transfer::{Format, Kind, Transfer};
use crate::clock::Nanoseconds;

/// The version it tells.
const VERSION: [u8; 2] = [4, 5];
const COPYRIGHT: &[u8] = b"COPYRIGHT (C) CREATIVE TECHNOLOGY LTD, 1992.\0";
/// What is answered to a reset.
const READY: u8 = 0xAA;
/// Room for answers.
const ANSWERS_MAX: usize = 64;
/// Rates the converters can run at.
const RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=45_454;

/// Unsigned bytes, mono: all that older DSPs know.
const OLD: Format = Format { sixteen_bits: false, stereo: false, signed: false };

/// What the DSP says to the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The converter shows this byte, unsigned, from now on.
    Direct(u8),
}

/// The processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dsp {
    /// The last value of the reset port.
    in_reset: bool,
    answers: VecDeque<u8>,
    last_answer: u8,
    command: Option<u8>,
    parameters: Vec<u8>,
    rate_hz: u32,
    /// The rate came as a time constant, which counts elements.
    by_time_constant: bool,
    /// Elements of a block, for commands that do not say.
    block: u32,
    speaker: bool,
    test: u8,
    pub transfer: Option<Transfer>,
    /// Interrupts of transfers of 8 and of 16 bits.
    pub interrupts: [bool; 2],
}

impl Default for Dsp {
    fn default() -> Dsp {
        Dsp {
            in_reset: false,
            answers: VecDeque::new(),
            last_answer: 0,
            command: None,
            parameters: Vec::new(),
            rate_hz: 22_050,
            by_time_constant: false,
            block: 0x800,
            speaker: false,
            test: 0,
            transfer: None,
            interrupts: [false; 2],
        }
    }
}

/// How many bytes follow a command.
fn parameters(command: u8) -> usize {
    match command {
        0x04 | 0x0F | 0x10 | 0x38 | 0x40 | 0xE0 | 0xE2 | 0xE4 => 1,
        0x05 | 0x0E | 0x14..=0x17 | 0x24 | 0x41 | 0x42 | 0x48 | 0x74..=0x77 | 0x80 => 2,
        0xB0..=0xCF => 3,
        _ => 0,
    }
}

impl Dsp {
    /// Writes the reset port: 1, then 0, resets.
    pub fn write_reset(&mut self, value: u8) {
        let resets = self.in_reset && value & 1 == 0;
        self.in_reset = value & 1 != 0;
        if resets {
            *self = Dsp { last_answer: self.last_answer, ..Dsp::default() };
            self.answer(READY);
        }
    }

    /// Reads an answer.
    pub fn read_data(&mut self) -> u8 {
        if let Some(answer) = self.answers.pop_front() {
            self.last_answer = answer;
        }
        self.last_answer
    }

    /// Whether there is an answer.
    pub fn has_data(&self) -> bool {
        !self.answers.is_empty()
    }

    fn answer(&mut self, value: u8) {
        if self.answers.len() < ANSWERS_MAX {
            self.answers.push_back(value);
        }
    }

    /// Writes a byte of a command.
    pub fn write_command(&mut self, value: u8, pro_stereo: bool, now: Nanoseconds) -> Effect {
        let command = match self.command {
            None => {
                self.parameters.clear();
                value
            }
            Some(command) => {
                self.parameters.push(value);
                command
            }
        };
        if self.parameters.len() < parameters(command) {
            self.command = Some(command);
            return Effect::None;
        }
        self.command = None;
        self.execute(command, pro_stereo, now)
    }

    fn parameter(&self, n: usize) -> u8 {
        self.parameters.get(n).copied().unwrap_or(0)
    }

    /// Two parameters from `n` on, low byte first.
    fn count(&self, n: usize) -> u32 {
        u32::from(u16::from_le_bytes([self.parameter(n), self.parameter(n + 1)]))
    }

    fn execute(&mut self, command: u8, pro_stereo: bool, now: Nanoseconds) -> Effect {
        let old = Format { stereo: pro_stereo, ..OLD };
        match command {
            0x10 => return Effect::Direct(self.parameter(0)),
            0x14 | 0x15 => self.start(Kind::Output, old, false, self.count(0) + 1, now),
            0x1C | 0x90 => self.start(Kind::Output, old, true, self.block, now),
            0x91 => self.start(Kind::Output, old, false, self.block, now),
            0x20 => self.answer(0x80),
            0x24 => self.start(Kind::Input, old, false, self.count(0) + 1, now),
            0x2C | 0x98 => self.start(Kind::Input, old, true, self.block, now),
            0x99 => self.start(Kind::Input, old, false, self.block, now),
            0x40 => {
                // The constant is 256 - 1 000 000 / (rate * channels).
                self.rate_hz = 1_000_000 / (256 - u32::from(self.parameter(0)));
                self.by_time_constant = true;
            }
            0x41 | 0x42 => {
                let rate = u16::from_be_bytes([self.parameter(0), self.parameter(1)]);
                self.rate_hz = u32::from(rate).clamp(*RATES_HZ.start(), *RATES_HZ.end());
                self.by_time_constant = false;
            }
            0x48 => self.block = self.count(0) + 1,
            0x80 => self.start(Kind::Silence, OLD, false, self.count(0) + 1, now),
            0xB0..=0xCF => self.start_new(command, now),
            0xD0 | 0xD5 => self.of_width(command == 0xD5, Transfer::pause),
            0xD4 | 0xD6 => self.of_width(command == 0xD6, |transfer| transfer.go_on(now)),
            0xD9 | 0xDA => self.of_width(command == 0xD9, |transfer| transfer.repeats = false),
            0xD1 => self.speaker = true,
            0xD3 => self.speaker = false,
            0xD8 => self.answer(if self.speaker { 0xFF } else { 0 }),
            0xE0 => self.answer(!self.parameter(0)),
            0xE1 => VERSION.into_iter().for_each(|part| self.answer(part)),
            0xE3 => COPYRIGHT.iter().for_each(|byte| self.answer(*byte)),
            0xE4 => self.test = self.parameter(0),
            0xE8 => self.answer(self.test),
            0xF2 => self.interrupts[0] = true,
            0xF3 => self.interrupts[1] = true,
            0xF8 => self.answer(0),
            _ => {}
        }
        Effect::None
    }

    /// Commands B0h to CFh: everything in one, HPG pages 6-22 to 6-24.
    fn start_new(&mut self, command: u8, now: Nanoseconds) {
        let mode = self.parameter(0);
        let format =
            Format { sixteen_bits: command < 0xC0, stereo: mode & 0x20 != 0, signed: mode & 0x10 != 0 };
        let kind = if command & 8 != 0 { Kind::Input } else { Kind::Output };
        self.start(kind, format, command & 4 != 0, self.count(1) + 1, now);
    }

    fn start(&mut self, kind: Kind, format: Format, repeats: bool, block: u32, now: Nanoseconds) {
        let channels = if self.by_time_constant { format.channels() } else { 1 };
        let rate_hz = (self.rate_hz / channels).clamp(1_000, *RATES_HZ.end());
        self.transfer = Some(Transfer::start(kind, format, repeats, block, rate_hz, now));
    }

    /// Acts on the transfer, if it is of 16 or of 8 bits.
    fn of_width(&mut self, sixteen_bits: bool, act: impl FnOnce(&mut Transfer)) {
        if let Some(transfer) =
            self.transfer.as_mut().filter(|transfer| transfer.format.sixteen_bits == sixteen_bits)
        {
            act(transfer);
        }
    }

    /// The block of the transfer is over.
    pub fn end_block(&mut self) {
        let Some(transfer) = &mut self.transfer else { return };
        self.interrupts[usize::from(transfer.format.sixteen_bits)] = true;
        if transfer.repeats {
            transfer.left = transfer.block;
        } else {
            self.transfer = None;
        }
    }

    /// Whether a saved processor can be used.
    pub fn is_valid(&self) -> bool {
        self.answers.len() <= ANSWERS_MAX
            && self.parameters.len() <= 3
            && self.rate_hz > 0
            && (1..=0x1_0000).contains(&self.block)
            && self.transfer.is_none_or(|transfer| transfer.is_valid())
    }
}
