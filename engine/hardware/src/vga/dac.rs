//! The VGA's palette DAC, ports 0x3C6 (mask), 0x3C7 (read index, state), 0x3C8 (write index), 0x3C9 (data).
//!
//! INMOS IMSG171 data sheet; the 8-bit mode is the Bochs display interface's. Indices count up after each
//! third byte of data.

use serde::{Deserialize, Serialize};

/// The palette.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dac {
    /// Pixel mask: ANDed to every index on its way to the screen.
    pub mask: u8,
    read_index: u8,
    write_index: u8,
    /// Red, green or blue is next: 0 to 2.
    component: u8,
    reading: bool,
    /// Red and green of the entry being written; the entry changes with blue.
    pending: [u8; 2],
    /// Components have 8 bits, not 6.
    pub eight_bits: bool,
    colours: Vec<[u8; 3]>,
}

impl Default for Dac {
    fn default() -> Dac {
        Dac {
            mask: 0xFF,
            read_index: 0,
            write_index: 0,
            component: 0,
            reading: false,
            pending: [0; 2],
            eight_bits: false,
            colours: vec![[0; 3]; 256],
        }
    }
}

impl Dac {
    /// Whether a saved state is one of this chip.
    pub fn is_valid(&self) -> bool {
        self.colours.len() == 256 && self.component < 3
    }

    /// Writes port 0x3C7.
    pub fn set_read_index(&mut self, index: u8) {
        (self.read_index, self.component, self.reading) = (index, 0, true);
    }

    /// Writes port 0x3C8.
    pub fn set_write_index(&mut self, index: u8) {
        (self.write_index, self.component, self.reading) = (index, 0, false);
    }

    /// Reads port 0x3C8.
    pub fn write_index(&self) -> u8 {
        self.write_index
    }

    /// Reads port 0x3C7: 3 while the last index was one to read from, 0 for one to write to.
    pub fn state(&self) -> u8 {
        if self.reading { 3 } else { 0 }
    }

    /// Reads port 0x3C9.
    pub fn read(&mut self) -> u8 {
        let value = self.colours[usize::from(self.read_index)][usize::from(self.component)];
        self.component += 1;
        if self.component == 3 {
            self.component = 0;
            self.read_index = self.read_index.wrapping_add(1);
        }
        value
    }

    /// Writes port 0x3C9.
    pub fn write(&mut self, value: u8) {
        let value = if self.eight_bits { value } else { value & 0x3F };
        if self.component < 2 {
            self.pending[usize::from(self.component)] = value;
            self.component += 1;
            return;
        }
        self.colours[usize::from(self.write_index)] = [self.pending[0], self.pending[1], value];
        self.component = 0;
        self.write_index = self.write_index.wrapping_add(1);
    }

    /// What a pixel with this index looks like, 0x00RRGGBB.
    pub fn colour(&self, index: u8) -> u32 {
        let [red, green, blue] = self.colours[usize::from(index & self.mask)]
            .map(|component| if self.eight_bits { component } else { component << 2 | component >> 4 & 3 });
        u32::from_be_bytes([0, red, green, blue])
    }
}
