//! The Bochs display interface, ports 0x1CE (index) and 0x1CF or 0x1D0 (data): packed-pixel modes of any size.
//!
//! Bochs `iodev/display/vbe.h`, interface identifiers 0xB0C0 to 0xB0C5; SeaBIOS's and Linux's drivers speak it.
//! Resolution and depth are fixed while a mode is enabled, as in Bochs. Left out: the DDC register, and
//! access windows other than 0xA0000.

use serde::{Deserialize, Serialize};

/// Bytes of linear video memory.
pub const MEMORY_BYTES: u64 = 16 << 20;
/// Bytes of one bank of the window at 0xA0000.
pub const BANK_BYTES: u64 = 64 << 10;
/// The widest mode.
pub const MOST_COLUMNS: u16 = 2560;
/// The highest mode.
pub const MOST_LINES: u16 = 1600;

/// Numbers of the registers.
pub mod register {
    /// Interface identifier.
    pub const ID: u16 = 0;
    /// Columns.
    pub const X_RESOLUTION: u16 = 1;
    /// Lines.
    pub const Y_RESOLUTION: u16 = 2;
    /// Bits per pixel.
    pub const DEPTH: u16 = 3;
    /// Enable and its flags.
    pub const ENABLE: u16 = 4;
    /// 64 KiB bank in the window at 0xA0000.
    pub const BANK: u16 = 5;
    /// Columns in memory.
    pub const VIRTUAL_WIDTH: u16 = 6;
    /// Lines in memory.
    pub const VIRTUAL_HEIGHT: u16 = 7;
    /// First column shown.
    pub const X_OFFSET: u16 = 8;
    /// First line shown.
    pub const Y_OFFSET: u16 = 9;
    /// Video memory in units of 64 KiB.
    pub const MEMORY: u16 = 10;
}

/// Bits of the enable register.
pub mod enable {
    /// The mode is on.
    pub const ENABLED: u16 = 0x01;
    /// Resolution and depth registers read as their largest values.
    pub const CAPABILITIES: u16 = 0x02;
    /// The DAC has 8 bits per component.
    pub const EIGHT_BIT_DAC: u16 = 0x20;
    /// The linear framebuffer is used.
    pub const LINEAR: u16 = 0x40;
    /// Enabling leaves video memory as it is.
    pub const KEEP_MEMORY: u16 = 0x80;
    pub(super) const WRITABLE: u16 = 0xE3;
}

const NEWEST_ID: u16 = 0xB0C5;

/// The display interface's registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vbe {
    /// Index register.
    pub index: u16,
    id: u16,
    x_resolution: u16,
    y_resolution: u16,
    depth: u16,
    enable: u16,
    bank: u16,
    virtual_width: u16,
    x_offset: u16,
    y_offset: u16,
}

impl Default for Vbe {
    fn default() -> Vbe {
        Vbe {
            index: 0,
            id: NEWEST_ID,
            x_resolution: 640,
            y_resolution: 480,
            depth: 8,
            enable: 0,
            bank: 0,
            virtual_width: 640,
            x_offset: 0,
            y_offset: 0,
        }
    }
}

/// An enabled mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Columns shown.
    pub width: u32,
    /// Lines shown.
    pub height: u32,
    /// Bits per pixel: 4, 8, 15, 16, 24 or 32.
    pub depth: u16,
    /// Bytes from one line to the next (in each plane, when planar).
    pub line_bytes: u64,
    /// Address of the first pixel shown (planar: of its byte).
    pub start: u64,
}

impl Vbe {
    /// Whether a saved state is one of this chip.
    pub fn is_valid(&self) -> bool {
        self.x_resolution <= MOST_COLUMNS
            && self.y_resolution <= MOST_LINES
            && is_depth(self.depth)
            && (!self.enabled() || self.x_resolution > 0 && self.y_resolution > 0)
    }

    /// Whether a mode of this interface is on.
    pub fn enabled(&self) -> bool {
        self.enable & enable::ENABLED != 0
    }

    /// Whether a mode with pixels side by side in linear memory is on.
    pub fn packed(&self) -> bool {
        self.enabled() && self.depth != 4
    }

    /// Whether the DAC has 8 bits per component.
    pub fn eight_bit_dac(&self) -> bool {
        self.enable & enable::EIGHT_BIT_DAC != 0
    }

    /// The bank in the window at 0xA0000, while a mode is on.
    pub fn bank(&self) -> u32 {
        if self.enabled() { self.bank.into() } else { 0 }
    }

    /// The mode that is on.
    pub fn mode(&self) -> Option<Mode> {
        let line_bytes = self.line_bytes();
        let across = match self.depth {
            4 => u64::from(self.x_offset) / 8,
            depth => u64::from(self.x_offset) * bytes_per_pixel(depth),
        };
        self.enabled().then(|| Mode {
            width: self.x_resolution.into(),
            height: self.y_resolution.into(),
            depth: self.depth,
            line_bytes,
            start: u64::from(self.y_offset) * line_bytes + across,
        })
    }

    fn line_bytes(&self) -> u64 {
        match self.depth {
            4 => u64::from(self.virtual_width) / 8,
            depth => u64::from(self.virtual_width) * bytes_per_pixel(depth),
        }
    }

    /// Bytes a line may be looked up in: planar modes have a plane's length.
    fn room(&self) -> u64 {
        if self.depth == 4 { super::memory::PLANE_BYTES as u64 } else { MEMORY_BYTES }
    }

    fn virtual_height(&self) -> u16 {
        let lines = self.room().checked_div(self.line_bytes()).unwrap_or(0);
        lines.min(u64::from(u16::MAX)) as u16
    }

    /// Reads the selected register.
    pub fn read(&self) -> u16 {
        self.register(self.index)
    }

    /// Reads register `number`.
    pub fn register(&self, number: u16) -> u16 {
        let capabilities = self.enable & enable::CAPABILITIES != 0;
        match number {
            register::ID => self.id,
            register::X_RESOLUTION if capabilities => MOST_COLUMNS,
            register::X_RESOLUTION => self.x_resolution,
            register::Y_RESOLUTION if capabilities => MOST_LINES,
            register::Y_RESOLUTION => self.y_resolution,
            register::DEPTH if capabilities => 32,
            register::DEPTH => self.depth,
            register::ENABLE => self.enable,
            register::BANK => self.bank,
            register::VIRTUAL_WIDTH => self.virtual_width,
            register::VIRTUAL_HEIGHT => self.virtual_height(),
            register::X_OFFSET => self.x_offset,
            register::Y_OFFSET => self.y_offset,
            register::MEMORY => (MEMORY_BYTES / BANK_BYTES) as u16,
            _ => 0,
        }
    }

    /// Writes register `number`. Gives the mode whose memory must be cleared, if one was enabled so.
    pub fn set_register(&mut self, number: u16, value: u16) -> Option<Mode> {
        let fixed = self.enabled();
        match number {
            register::ID if (0xB0C0..=NEWEST_ID).contains(&value) => self.id = value,
            register::X_RESOLUTION if !fixed && value <= MOST_COLUMNS => self.x_resolution = value,
            register::Y_RESOLUTION if !fixed && value <= MOST_LINES => self.y_resolution = value,
            // Depth 0 meant 8 in the first version of the interface.
            register::DEPTH if !fixed && value == 0 => self.depth = 8,
            register::DEPTH if !fixed && is_depth(value) => self.depth = value,
            register::ENABLE => return self.set_enable(value & enable::WRITABLE),
            register::BANK if u64::from(value) < self.banks() => self.bank = value,
            register::VIRTUAL_WIDTH => self.set_virtual_width(value),
            register::X_OFFSET => {
                self.x_offset = value.min(self.virtual_width.saturating_sub(self.x_resolution));
            }
            register::Y_OFFSET => {
                self.y_offset = value.min(self.virtual_height().saturating_sub(self.y_resolution));
            }
            _ => {}
        }
        None
    }

    fn banks(&self) -> u64 {
        self.room() / BANK_BYTES
    }

    /// A line never becomes shorter than what is shown, nor so long that the picture leaves memory.
    fn set_virtual_width(&mut self, width: u16) {
        let before = self.virtual_width;
        self.virtual_width = width.max(self.x_resolution) & if self.depth == 4 { !7 } else { !0 };
        if self.virtual_height() < self.y_resolution {
            self.virtual_width = before;
        }
        self.set_register(register::X_OFFSET, self.x_offset);
        self.set_register(register::Y_OFFSET, self.y_offset);
    }

    fn set_enable(&mut self, value: u16) -> Option<Mode> {
        let was_enabled = self.enabled();
        self.enable = value;
        if was_enabled || !self.enabled() {
            if !self.enabled() {
                self.bank = 0;
            }
            return None;
        }
        (self.virtual_width, self.x_offset, self.y_offset, self.bank) = (self.x_resolution, 0, 0, 0);
        let empty = self.x_resolution == 0 || self.y_resolution == 0;
        if empty || self.virtual_height() < self.y_resolution {
            self.enable &= !enable::ENABLED;
            return None;
        }
        self.mode().filter(|_| value & enable::KEEP_MEMORY == 0)
    }
}

fn is_depth(depth: u16) -> bool {
    matches!(depth, 4 | 8 | 15 | 16 | 24 | 32)
}

/// Bytes of a packed pixel.
pub fn bytes_per_pixel(depth: u16) -> u64 {
    u64::from(depth).div_ceil(8)
}
