//! VGA graphics controller, ports 0x3CE (index) and 0x3CF (data): how the CPU's bytes and the planes meet.
//!
//! IBM PS/2 Hardware Interface Technical Reference, Video Subsystem, "Graphics Controller Registers".
//! Left out: the odd/even chain bit of the miscellaneous register, whose page select no BIOS mode uses.

use serde::{Deserialize, Serialize};

/// Which bits of each register can be written.
const WRITABLE: [u8; 9] = [0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF];

/// The graphics controller's registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graphics {
    /// Index register.
    pub index: u8,
    /// Set/reset, its enable, colour compare, rotate and function, read map select, mode,
    /// miscellaneous, colour don't care, bit mask.
    pub registers: [u8; 9],
}

impl Graphics {
    /// Reads the data port.
    pub fn read(&self) -> u8 {
        self.registers.get(usize::from(self.index)).copied().unwrap_or(0)
    }

    /// Writes the data port.
    pub fn write(&mut self, value: u8) {
        let at = usize::from(self.index);
        if let (Some(register), Some(mask)) = (self.registers.get_mut(at), WRITABLE.get(at)) {
            *register = value & mask;
        }
    }

    /// Write mode 0 to 3.
    pub fn write_mode(&self) -> u8 {
        self.registers[5] & 3
    }

    /// Read mode 1: the CPU reads where colours agree, not a plane.
    pub fn compares_colours(&self) -> bool {
        self.registers[5] & 8 != 0
    }

    /// The CPU reads even addresses from even planes and odd addresses from odd planes.
    pub fn odd_even_reads(&self) -> bool {
        self.registers[5] & 0x10 != 0
    }

    /// Shift registers give two bits per pixel, as on a CGA.
    pub fn shift_interleaved(&self) -> bool {
        self.registers[5] & 0x20 != 0
    }

    /// Shift registers give eight bits per pixel.
    pub fn shift_256(&self) -> bool {
        self.registers[5] & 0x40 != 0
    }

    /// Graphics, not text.
    pub fn graphics_mode(&self) -> bool {
        self.registers[6] & 1 != 0
    }

    /// Where `offset` from 0xA0000 falls in the window that is decoded; `None` outside of it.
    pub fn window(&self, offset: u64) -> Option<u32> {
        let (start, length) = match self.registers[6] >> 2 & 3 {
            0 => (0, 0x2_0000),
            1 => (0, 0x1_0000),
            2 => (0x1_0000, 0x8000),
            _ => (0x1_8000, 0x8000),
        };
        offset.checked_sub(start).filter(|&inside| inside < length).map(|inside| inside as u32)
    }

    /// Whether write mode 0 passes the CPU's byte through unchanged.
    pub fn passes_through(&self) -> bool {
        self.write_mode() == 0
            && self.registers[1] == 0
            && self.registers[3] == 0
            && self.registers[8] == 0xFF
    }
}
