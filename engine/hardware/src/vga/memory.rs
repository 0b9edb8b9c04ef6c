//! VGA video memory: four planes, the latches, and what the CPU's accesses do to them.
//!
//! IBM PS/2 Hardware Interface Technical Reference, Video Subsystem, "Graphics Controller Operations". Planes
//! are twice as long as IBM's: the planar modes of the Bochs display interface reach the second half by
//! their bank. Byte N of a cell is plane N.

use serde::{Deserialize, Serialize};

use crate::vga::blob;
use crate::vga::graphics::Graphics;
use crate::vga::sequencer::Sequencer;

/// Bytes in each plane.
pub const PLANE_BYTES: usize = 0x2_0000;

/// The planes and the latches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planes {
    #[serde(with = "blob::cells")]
    cells: Vec<u32>,
    latches: u32,
}

impl Default for Planes {
    fn default() -> Planes {
        Planes { cells: vec![0; PLANE_BYTES], latches: 0 }
    }
}

/// The same byte in all planes.
fn in_all_planes(byte: u8) -> u32 {
    u32::from(byte) * 0x0101_0101
}

/// All ones in the planes whose bit is set.
pub fn planes_of(bits: u8) -> u32 {
    (0..4).filter(|plane| bits >> plane & 1 != 0).fold(0, |mask, plane| mask | 0xFF << (8 * plane))
}

/// The cell of a chain-4 address. Its lowest bits chose the plane; address bits 14 and 15 take their place,
/// as the CRTC's doubleword addressing expects.
fn chained(low: usize) -> usize {
    low & 0xFFFC | low >> 14 & 3
}

/// Where one CPU access goes.
struct Target {
    cell: usize,
    planes: u8,
}

impl Planes {
    /// Whether a saved state is one of this chip.
    pub fn is_valid(&self) -> bool {
        self.cells.len() == PLANE_BYTES
    }

    /// The bytes of all planes at `address`; byte N is plane N.
    pub fn cell(&self, address: usize) -> u32 {
        self.cells[address % PLANE_BYTES]
    }

    /// Sets the bytes of all planes at `address`.
    pub fn set_cell(&mut self, address: usize, cell: u32) {
        self.cells[address % PLANE_BYTES] = cell;
    }

    /// Sets everything to zero.
    pub fn clear(&mut self) {
        self.cells.fill(0);
    }

    fn target(offset: u32, bank: u32, sequencer: &Sequencer) -> Target {
        let high = (bank as usize) << 16;
        let low = (offset & 0xFFFF) as usize;
        let (low, planes) = if sequencer.chain_4() {
            (chained(low), 1 << (offset & 3))
        } else if sequencer.odd_even() {
            (low & !1, 0b0101 << (offset & 1))
        } else {
            (low, 0b1111)
        };
        Target { cell: (high | low) % PLANE_BYTES, planes }
    }

    /// The CPU reads a byte at `offset` in the window; `bank` counts 64 KiB.
    pub fn read(&mut self, offset: u32, bank: u32, sequencer: &Sequencer, graphics: &Graphics) -> u8 {
        let target = Planes::target(offset, bank, sequencer);
        self.latches = self.cells[target.cell];
        if graphics.compares_colours() {
            let differ = (self.latches ^ planes_of(graphics.registers[2])) & planes_of(graphics.registers[7]);
            let differ = differ | differ >> 16;
            return !(differ | differ >> 8) as u8;
        }
        let select = graphics.registers[4] & 3;
        let plane = if sequencer.chain_4() {
            offset as u8 & 3
        } else if graphics.odd_even_reads() {
            select & 2 | offset as u8 & 1
        } else {
            select
        };
        (self.latches >> (8 * plane)) as u8
    }

    /// The CPU writes a byte at `offset` in the window; `bank` counts 64 KiB.
    pub fn write(&mut self, offset: u32, bank: u32, value: u8, sequencer: &Sequencer, graphics: &Graphics) {
        let target = Planes::target(offset, bank, sequencer);
        let planes = planes_of(target.planes & sequencer.map_mask());
        let result = self.combine(value, graphics);
        let cell = &mut self.cells[target.cell];
        *cell = *cell & !planes | result & planes;
    }

    /// What the graphics controller makes of the CPU's byte and the latches, for all planes.
    fn combine(&self, value: u8, graphics: &Graphics) -> u32 {
        let [set_reset, enable, _, rotate, .., bit_mask] = graphics.registers;
        let rotated = value.rotate_right((rotate & 7).into());
        let (data, bit_mask) = match graphics.write_mode() {
            0 => {
                let enabled = planes_of(enable);
                (in_all_planes(rotated) & !enabled | planes_of(set_reset) & enabled, bit_mask)
            }
            1 => return self.latches,
            2 => (planes_of(value), bit_mask),
            _ => (planes_of(set_reset), bit_mask & rotated),
        };
        let data = match rotate >> 3 & 3 {
            0 => data,
            1 => data & self.latches,
            2 => data | self.latches,
            _ => data ^ self.latches,
        };
        let bits = in_all_planes(bit_mask);
        data & bits | self.latches & !bits
    }

    /// The CPU writes four aligned bytes in chain-4 mode, unchanged: the common case of mode 13h.
    pub fn write_chained(&mut self, offset: u32, value: u32) {
        self.cells[chained((offset & 0xFFFC) as usize)] = value;
    }
}
