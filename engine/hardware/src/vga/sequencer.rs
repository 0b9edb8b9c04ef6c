//! VGA sequencer, ports 0x3C4 (index) and 0x3C5 (data): clocking, map mask, font choice, memory mode.
//!
//! IBM PS/2 Hardware Interface Technical Reference, Video Subsystem, "Sequencer Registers". Left out: the
//! video-load bits of the clocking mode register, which only change how memory is fetched.

use serde::{Deserialize, Serialize};

/// Which bits of each register can be written.
const WRITABLE: [u8; 5] = [0x03, 0x3D, 0x0F, 0x3F, 0x0E];

/// The sequencer's registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequencer {
    /// Index register.
    pub index: u8,
    /// Reset, clocking mode, map mask, character map select, memory mode.
    pub registers: [u8; 5],
}

impl Sequencer {
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

    /// Not held in reset, synchronous or asynchronous.
    pub fn running(&self) -> bool {
        self.registers[0] & 3 == 3
    }

    /// Screen off: the CPU has all memory cycles.
    pub fn screen_off(&self) -> bool {
        self.registers[1] & 0x20 != 0
    }

    /// Dots per character: 8 or 9.
    pub fn dots_per_character(&self) -> u32 {
        if self.registers[1] & 1 != 0 { 8 } else { 9 }
    }

    /// The dot clock is halved: each dot shows twice (40-column and 320-pixel modes).
    pub fn half_dot_clock(&self) -> bool {
        self.registers[1] & 8 != 0
    }

    /// Planes the CPU writes, one bit each.
    pub fn map_mask(&self) -> u8 {
        self.registers[2]
    }

    /// Where in plane 2 the fonts start: for attribute bit 3 clear (map B), and set (map A).
    pub fn font_offsets(&self) -> [usize; 2] {
        // The third select bits lie apart from the first two, for compatibility with the EGA.
        let select = self.registers[3];
        let offset = |low: u8, high: u8| usize::from(low & 3) * 0x4000 + usize::from(high & 1) * 0x2000;
        [offset(select, select >> 4), offset(select >> 2, select >> 5)]
    }

    /// Odd and even CPU addresses go to odd and even planes.
    pub fn odd_even(&self) -> bool {
        self.registers[4] & 4 == 0
    }

    /// CPU address bits 0 and 1 choose the plane.
    pub fn chain_4(&self) -> bool {
        self.registers[4] & 8 != 0
    }
}
