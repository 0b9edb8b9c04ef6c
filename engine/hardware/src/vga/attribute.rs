//! VGA attribute controller, port 0x3C0 (index and data by turns) and 0x3C1 (data read): the palette.
//!
//! IBM PS/2 Hardware Interface Technical Reference, Video Subsystem, "Attribute Controller Registers". Left
//! out: blinking in graphics modes, and the border (overscan) colour, which no frame shows.

use serde::{Deserialize, Serialize};

const PALETTE_ADDRESS_SOURCE: u8 = 0x20;
const MODE: usize = 0x10;
const PLANE_ENABLE: usize = 0x12;
const PANNING: usize = 0x13;
const COLOUR_SELECT: usize = 0x14;

/// The attribute controller's registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Index register; bit 5 lets the palette reach the screen.
    pub index: u8,
    /// Whether the next write to port 0x3C0 is data.
    pub data_next: bool,
    /// 16 palette registers, mode, overscan, plane enable, panning, colour select.
    pub registers: [u8; 21],
}

impl Attribute {
    /// Writes port 0x3C0: index and data by turns.
    pub fn write(&mut self, value: u8) {
        if !self.data_next {
            self.index = value & 0x3F;
        } else if let Some(register) = self.registers.get_mut(usize::from(self.index & 0x1F)) {
            *register = value & if self.index & 0x1F < 0x10 { 0x3F } else { 0xFF };
        }
        self.data_next = !self.data_next;
    }

    /// Reads port 0x3C1.
    pub fn read(&self) -> u8 {
        self.registers.get(usize::from(self.index & 0x1F)).copied().unwrap_or(0)
    }

    /// Whether the palette drives the screen; otherwise it is dark.
    pub fn screen_on(&self) -> bool {
        self.index & PALETTE_ADDRESS_SOURCE != 0
    }

    /// The DAC entry of a 4-bit colour.
    pub fn dac_index(&self, colour: u8) -> u8 {
        let colour = self.registers[usize::from(colour & self.registers[PLANE_ENABLE] & 0x0F)];
        let select = self.registers[COLOUR_SELECT];
        if self.registers[MODE] & 0x80 != 0 {
            colour & 0x0F | (select & 0x0F) << 4
        } else {
            colour & 0x3F | (select & 0x0C) << 4
        }
    }

    /// Attribute bit 7 blinks the character.
    pub fn blinks(&self) -> bool {
        self.registers[MODE] & 8 != 0
    }

    /// In 9-dot cells, line graphics characters run into the ninth dot.
    pub fn line_graphics(&self) -> bool {
        self.registers[MODE] & 4 != 0
    }

    /// Attributes are those of the monochrome adapter.
    pub fn monochrome(&self) -> bool {
        self.registers[MODE] & 2 != 0
    }

    /// The part below a split screen does not pan.
    pub fn split_stands_still(&self) -> bool {
        self.registers[MODE] & 0x20 != 0
    }

    /// Dots by which an 8-dot picture is shifted to the left.
    pub fn panning(&self) -> u32 {
        match self.registers[PANNING] & 0x0F {
            dots @ 0..8 => dots.into(),
            _ => 0,
        }
    }
}
