//! One operator: a phase, an envelope, and the registers that shape them.

use serde::{Deserialize, Serialize};

use super::envelope::{Envelope, Shape};
use super::{Opl3, register};

/// Twice the multiple of the frequency, by the register's four bits (datasheet, table "MULT").
const DOUBLED_MULTIPLE: [u32; 16] = [1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 20, 24, 24, 30, 30];
/// How much softer higher notes are, by the top four bits of the frequency number: 3/16 dB each (table "KSL").
const KEY_SCALE: [i32; 16] = [0, 32, 40, 45, 48, 51, 53, 55, 56, 58, 59, 60, 61, 62, 63, 64];
/// Right shifts that make it 0, 3, 1.5 and 6 dB an octave.
const KEY_SCALE_SHIFT: [u32; 4] = [31, 1, 2, 0];
/// The phase's bits below the ten that are looked up.
const PHASE_SHIFT: u32 = 9;

/// What moves in an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// 19 bits.
    pub phase: u32,
    pub envelope: Envelope,
    /// The last two outputs, for feedback.
    pub outputs: [i32; 2],
}

impl Operator {
    /// The ten bits of phase that are looked up.
    pub fn place(&self) -> u32 {
        self.phase >> PHASE_SHIFT
    }

    /// Whether a saved operator can be used.
    pub fn is_valid(&self) -> bool {
        self.phase < 1 << 19
            && self.envelope.is_valid()
            && self.outputs.iter().all(|output| (-0x2000..0x2000).contains(output))
    }
}

/// Where the registers of operator `n` lie, from 0x20, 0x40 ... on.
pub fn offset(n: usize) -> usize {
    let within = n % 18;
    ((n / 18) << 8) | (within / 6 * 8 + within % 6)
}

/// The channel of operator `n`.
fn channel(n: usize) -> usize {
    let within = n % 18;
    n / 18 * 9 + within / 6 * 3 + within % 3
}

/// A note: frequency number and octave.
#[derive(Clone, Copy)]
struct Note {
    number: u32,
    block: u32,
}

impl Opl3 {
    /// The note of a channel; the second half of a four-operator channel sounds the first half's.
    fn note(&self, channel: usize) -> Note {
        let bank = channel / 9;
        let first = match channel % 9 {
            n @ 3..=5 if self.has_four_operators(channel - 3) => n - 3,
            n => n,
        };
        let at = |base: usize| u32::from(self.register((bank << 8) | (base + first)));
        Note { number: (at(0xB0) & 3) << 8 | at(0xA0), block: at(0xB0) >> 2 & 7 }
    }

    /// Advances phase and envelope of operator `n` by one sample.
    pub(super) fn step_operator(&mut self, n: usize) {
        if self.operators[n].envelope.is_silent() {
            return;
        }
        let note = self.note(channel(n));
        let at = offset(n);
        let flags = self.register(0x20 + at);
        let (attack_decay, sustain_release) = (self.register(0x60 + at), self.register(0x80 + at));
        let scaling = self.key_number(note) >> if flags & 0x10 != 0 { 0 } else { 2 };
        let shape = Shape {
            attack: attack_decay >> 4,
            decay: attack_decay & 0xF,
            release: sustain_release & 0xF,
            sustain: sustain_release >> 4,
            holds: flags & 0x20 != 0,
            scaling: scaling as u8,
        };
        let step = self.phase_step(note, flags);
        let count = self.count;
        let operator = &mut self.operators[n];
        operator.envelope.advance(&shape, count);
        operator.phase = (operator.phase + step) & 0x7_FFFF;
    }

    /// Octave, and one bit of the frequency number: register 08h says which.
    fn key_number(&self, note: Note) -> u32 {
        let bit = if self.register(register::NOTE_SELECT) & 0x40 != 0 { 8 } else { 9 };
        note.block << 1 | note.number >> bit & 1
    }

    fn phase_step(&self, note: Note, flags: u8) -> u32 {
        let mut number = note.number;
        if flags & 0x40 != 0 {
            number = number.saturating_add_signed(self.vibrato(note.number));
        }
        let multiple = DOUBLED_MULTIPLE[usize::from(flags & 0xF)];
        (((number << note.block) >> 1) * multiple) >> 1
    }

    /// 6.1 Hz, 7 or 14 cents: eight places of 1024 samples each.
    fn vibrato(&self, number: u32) -> i32 {
        let place = self.count >> 10 & 7;
        let deep = self.register(register::DEPTH_AND_RHYTHM) & 0x40 != 0;
        let full = number >> 7 & 7;
        let range = match place & 3 {
            0 => 0,
            2 => full,
            _ => full >> 1,
        } >> u32::from(!deep);
        if place & 4 != 0 { -(range.cast_signed()) } else { range.cast_signed() }
    }

    /// 3.7 Hz, 1 or 4.8 dB: a triangle of 210 places of 64 samples each.
    fn tremolo(&self) -> u32 {
        let place = (self.count >> 6) % 210;
        let deep = self.register(register::DEPTH_AND_RHYTHM) & 0x80 != 0;
        place.min(210 - place) >> if deep { 2 } else { 4 }
    }

    /// How soft operator `n` is now, in 3/16 dB, by all there is.
    pub(super) fn attenuation(&self, n: usize) -> u32 {
        let at = offset(n);
        let (flags, levels) = (self.register(0x20 + at), self.register(0x40 + at));
        let note = self.note(channel(n));
        let key = (KEY_SCALE[(note.number >> 6) as usize] << 2) - ((8 - note.block.cast_signed()) << 5);
        let key = key.max(0).cast_unsigned() >> KEY_SCALE_SHIFT[usize::from(levels >> 6)];
        let tremolo = if flags & 0x80 != 0 { self.tremolo() } else { 0 };
        u32::from(self.operators[n].envelope.level()) + (u32::from(levels & 0x3F) << 2) + key + tremolo
    }

    /// The wave operator `n` has: four on a YM3812 that was told so, eight on a YMF262.
    pub(super) fn wave_of(&self, n: usize) -> u8 {
        let chosen = self.register(0xE0 + offset(n));
        match (self.is_new(), self.register(register::WAVES) & 0x20 != 0) {
            (true, _) => chosen & 7,
            (false, true) => chosen & 3,
            (false, false) => 0,
        }
    }
}
