//! The mixer CT1745: volumes, and which interrupt and DMA lines the card uses. HPG, chapter 4.

use serde::{Deserialize, Serialize};

/// Register numbers.
mod register {
    pub const RESET: u8 = 0x00;
    /// As on the Sound Blaster Pro: left in the high four bits, right in the low.
    pub const PRO_VOICE: u8 = 0x04;
    pub const PRO_OUTPUT: u8 = 0x0E;
    pub const PRO_MASTER: u8 = 0x22;
    pub const PRO_MIDI: u8 = 0x26;
    pub const MASTER: u8 = 0x30;
    pub const VOICE: u8 = 0x32;
    pub const MIDI: u8 = 0x34;
    pub const INTERRUPT: u8 = 0x80;
    pub const DMA: u8 = 0x81;
    pub const STATUS: u8 = 0x82;
}

/// A step of a volume, of 32.
const STEP_DB: f32 = 2.0;
/// What volumes are after a reset, 24 of 31 twice, is as loud as it came: the card's amplifier makes up for it.
const MADE_UP_DB: f32 = 28.0;

/// The interrupt lines by the bits of register 80h.
pub const INTERRUPT_LINES: [u8; 4] = [9, 5, 7, 10];
const IRQ_5: u8 = 1 << 1;
const DMA_1_AND_5: u8 = 1 << 1 | 1 << 5;

/// The mixer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mixer {
    selected: u8,
    registers: Vec<u8>,
}

impl Default for Mixer {
    fn default() -> Mixer {
        let mut mixer = Mixer { selected: 0, registers: vec![0; 256] };
        mixer.registers[usize::from(register::INTERRUPT)] = IRQ_5;
        mixer.registers[usize::from(register::DMA)] = DMA_1_AND_5;
        mixer.reset();
        mixer
    }
}

impl Mixer {
    /// Volumes as after power-on; lines stay.
    fn reset(&mut self) {
        for pair in [register::MASTER, register::VOICE, register::MIDI] {
            self.registers[usize::from(pair)] = 0xC0;
            self.registers[usize::from(pair) + 1] = 0xC0;
        }
        // HPG, table 4-4: treble and bass in the middle, all inputs of the output mixer on.
        (0x44..0x48).for_each(|n| self.registers[n] = 0x80);
        self.registers[0x3C] = 0x1F;
        self.registers[0x3D] = 0x15;
        self.registers[0x3E] = 0x0B;
        self.registers[usize::from(register::PRO_OUTPUT)] = 0;
    }

    /// Chooses a register.
    pub fn select(&mut self, number: u8) {
        self.selected = number;
    }

    /// Reads it; `status` is what the card's interrupts are.
    pub fn read(&self, status: u8) -> u8 {
        let pair = |first: u8| self.register(first) & 0xF0 | self.register(first + 1) >> 4;
        match self.selected {
            register::PRO_VOICE => pair(register::VOICE),
            register::PRO_MASTER => pair(register::MASTER),
            register::PRO_MIDI => pair(register::MIDI),
            register::STATUS => status,
            number => self.register(number),
        }
    }

    /// Writes it.
    pub fn write(&mut self, value: u8) {
        let n = usize::from(self.selected);
        let pair = |first: u8| usize::from(first);
        match self.selected {
            register::RESET => self.reset(),
            register::PRO_VOICE => self.set_pair(pair(register::VOICE), value),
            register::PRO_MASTER => self.set_pair(pair(register::MASTER), value),
            register::PRO_MIDI => self.set_pair(pair(register::MIDI), value),
            register::PRO_OUTPUT => self.registers[n] = value & 0x22,
            0x30..=0x3A => self.registers[n] = value & 0xF8,
            0x3B | 0x3F..=0x42 => self.registers[n] = value & 0xC0,
            0x3C => self.registers[n] = value & 0x1F,
            0x3D | 0x3E => self.registers[n] = value & 0x7F,
            0x43 => self.registers[n] = value & 1,
            0x44..=0x47 => self.registers[n] = value & 0xF0,
            register::INTERRUPT => self.registers[n] = value & 0x0F,
            register::DMA => self.registers[n] = value & 0xEB,
            _ => {}
        }
    }

    fn set_pair(&mut self, first: usize, value: u8) {
        self.registers[first] = value & 0xF0 | 8;
        self.registers[first + 1] = value << 4 | 8;
    }

    fn register(&self, number: u8) -> u8 {
        self.registers[usize::from(number)]
    }

    /// Whether transfers as on the Sound Blaster Pro are stereo.
    pub fn is_pro_stereo(&self) -> bool {
        self.register(register::PRO_OUTPUT) & 2 != 0
    }

    /// How loud samples are, left and right.
    pub fn voice_gain(&self) -> [f32; 2] {
        self.gain(register::VOICE)
    }

    /// How loud FM is.
    pub fn midi_gain(&self) -> [f32; 2] {
        self.gain(register::MIDI)
    }

    fn gain(&self, pair: u8) -> [f32; 2] {
        [0, 1].map(|side| {
            let steps = |first: u8| f32::from(31 - (self.register(first + side) >> 3));
            let softer_db = (steps(pair) + steps(register::MASTER)) * STEP_DB - MADE_UP_DB;
            10_f32.powf(-softer_db.max(0.0) / 20.0)
        })
    }

    /// Which of [`INTERRUPT_LINES`] is chosen.
    pub fn interrupt(&self) -> Option<usize> {
        (0..4).find(|bit| self.register(register::INTERRUPT) >> bit & 1 != 0)
    }

    /// The DMA channel for samples of 8 bits.
    pub fn dma_8(&self) -> Option<usize> {
        [0, 1, 3].into_iter().find(|bit| self.register(register::DMA) >> bit & 1 != 0)
    }

    /// The DMA channel for samples of 16 bits; without one, that for 8 bits.
    pub fn dma_16(&self) -> Option<usize> {
        [5, 6, 7].into_iter().find(|bit| self.register(register::DMA) >> bit & 1 != 0).or(self.dma_8())
    }

    /// Whether a saved mixer can be used.
    pub fn is_valid(&self) -> bool {
        self.registers.len() == 256
    }
}
