//! VGA CRT controller, ports 0x3B4/0x3D4 (index) and 0x3B5/0x3D5 (data): geometry and addresses of the picture.
//!
//! IBM PS/2 Hardware Interface Technical Reference, Video Subsystem, "CRT Controller Registers". Left out:
//! skews, the light pen, halved vertical timing (mode control bit 2), and the vertical interrupt, which no
//! BIOS enables and which is not wired on a PCI card.

use serde::{Deserialize, Serialize};

/// The CRT controller's registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crtc {
    /// Index register.
    pub index: u8,
    /// Registers 0x00 to 0x18.
    pub registers: [u8; 25],
}

impl Crtc {
    /// Reads the data port.
    pub fn read(&self) -> u8 {
        self.registers.get(usize::from(self.index)).copied().unwrap_or(0)
    }

    /// Writes the data port. Bit 7 of register 0x11 protects registers 0 to 7, but for bit 4 of 7.
    pub fn write(&mut self, value: u8) {
        let protected = self.registers[0x11] & 0x80 != 0;
        match self.index {
            7 if protected => self.registers[7] = self.registers[7] & !0x10 | value & 0x10,
            0..8 if protected => {}
            index => {
                if let Some(register) = self.registers.get_mut(usize::from(index)) {
                    *register = value;
                }
            }
        }
    }

    /// A register, with bit 8 and bit 9 taken from where the EGA and the VGA found room for them.
    fn extended(&self, register: usize, bit_8: (usize, u8), bit_9: (usize, u8)) -> u32 {
        let bit = |(register, bit): (usize, u8)| u32::from(self.registers[register] >> bit & 1);
        u32::from(self.registers[register]) | bit(bit_8) << 8 | bit(bit_9) << 9
    }

    /// Characters per line, shown or not.
    pub fn horizontal_total(&self) -> u32 {
        u32::from(self.registers[0]) + 5
    }

    /// Characters shown per line.
    pub fn columns(&self) -> u32 {
        u32::from(self.registers[1]) + 1
    }

    /// Scan lines per frame, shown or not.
    pub fn vertical_total(&self) -> u32 {
        self.extended(0x06, (7, 0), (7, 5)) + 2
    }

    /// Scan lines shown per frame.
    pub fn lines(&self) -> u32 {
        self.extended(0x12, (7, 1), (7, 6)) + 1
    }

    /// First scan line of vertical retrace.
    pub fn retrace_start(&self) -> u32 {
        self.extended(0x10, (7, 2), (7, 7))
    }

    /// Length of vertical retrace in scan lines: the end register compares four bits.
    pub fn retrace_lines(&self) -> u32 {
        u32::from(self.registers[0x11].wrapping_sub(self.registers[0x10]) & 0x0F).max(1)
    }

    /// The scan line after which the picture goes on at address 0.
    pub fn line_compare(&self) -> u32 {
        self.extended(0x18, (7, 4), (9, 6))
    }

    /// Scan lines per row of characters, 1 to 32.
    pub fn row_lines(&self) -> u32 {
        u32::from(self.registers[9] & 0x1F) + 1
    }

    /// Each scan line shows twice.
    pub fn double_scan(&self) -> bool {
        self.registers[9] & 0x80 != 0
    }

    /// Scan line within its row at which the picture starts.
    pub fn preset_row(&self) -> u32 {
        (self.registers[8] & 0x1F).into()
    }

    /// Address of the first character.
    pub fn start(&self) -> u32 {
        u32::from(self.registers[0x0C]) << 8 | u32::from(self.registers[0x0D])
    }

    /// Further characters by which the picture starts later.
    pub fn byte_panning(&self) -> u32 {
        (self.registers[8] >> 5 & 3).into()
    }

    /// Addresses from one row to the next.
    pub fn pitch(&self) -> u32 {
        u32::from(self.registers[0x13]) * 2
    }

    /// Address of the cursor.
    pub fn cursor(&self) -> u32 {
        u32::from(self.registers[0x0E]) << 8 | u32::from(self.registers[0x0F])
    }

    /// First and last scan line of the cursor in its cell; `None` when it is off.
    pub fn cursor_lines(&self) -> Option<(u32, u32)> {
        let (first, last) = (self.registers[0x0A] & 0x1F, self.registers[0x0B] & 0x1F);
        (self.registers[0x0A] & 0x20 == 0 && first <= last).then_some((first.into(), last.into()))
    }

    /// The scan line of the underline in a cell.
    pub fn underline(&self) -> u32 {
        (self.registers[0x14] & 0x1F).into()
    }

    /// Retraces are driven; without them a monitor is dark.
    pub fn synchronizes(&self) -> bool {
        self.registers[0x17] & 0x80 != 0
    }

    /// Whether the scan line within the row is part of the address (CGA and Hercules layouts).
    pub fn rows_interleave(&self) -> bool {
        self.registers[0x17] & 3 != 3
    }

    /// Characters per address: the address counter may count every second or fourth character.
    pub fn characters_per_address(&self) -> u32 {
        match (self.registers[0x14] & 0x20 != 0, self.registers[0x17] & 8 != 0) {
            (true, _) => 4,
            (_, true) => 2,
            _ => 1,
        }
    }

    /// The byte in each plane that address counter `counter` shows on line `row_scan` of its row.
    pub fn plane_address(&self, counter: u32, row_scan: u32) -> u32 {
        let mode = self.registers[0x17];
        let counter = counter & 0xFFFF;
        let mut address = if self.registers[0x14] & 0x40 != 0 {
            counter << 2 | counter >> 12 & 3
        } else if mode & 0x40 == 0 {
            let wrapped = if mode & 0x20 != 0 { counter >> 15 } else { counter >> 13 };
            counter << 1 | wrapped & 1
        } else {
            counter
        };
        if mode & 1 == 0 {
            address = address & !0x2000 | (row_scan & 1) << 13;
        }
        if mode & 2 == 0 {
            address = address & !0x4000 | (row_scan & 2) << 13;
        }
        address & 0xFFFF
    }
}
