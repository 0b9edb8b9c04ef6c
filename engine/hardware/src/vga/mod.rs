//! The VGA with Bochs display extensions: a chip of five parts and four planes, and its PCI card.
//!
//! IBM PS/2 Hardware Interface Technical Reference, Video Subsystem; Bochs display interface. Ports 0x3B0 to
//! 0x3DF, 0x1CE to 0x1D1; memory 0xA0000 to 0xBFFFF and the linear framebuffer. The chip ([`Vga`]) knows no
//! host: linear video memory and guest time are handed in. Left out: the vertical interrupt, the
//! feature connector, the sleep port 0x3C3 beyond being readable, and monitor detection by switch sense.

pub mod adapter;
pub mod attribute;
pub mod blob;
pub mod crtc;
pub mod dac;
pub mod graphics;
pub mod memory;
mod modes;
pub mod scan;
pub mod sequencer;
pub mod timing;
pub mod vbe;

use serde::{Deserialize, Serialize};

use crate::clock::Nanoseconds;

pub use adapter::VgaCard;
pub use scan::Linear;

use timing::Timing;

/// The chip.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vga {
    /// Sequencer.
    pub sequencer: sequencer::Sequencer,
    /// CRT controller.
    pub crtc: crtc::Crtc,
    /// Graphics controller.
    pub graphics: graphics::Graphics,
    /// Attribute controller.
    pub attribute: attribute::Attribute,
    /// Palette.
    pub dac: dac::Dac,
    /// Bochs display interface.
    pub vbe: vbe::Vbe,
    /// Miscellaneous output register: colour ports, memory enable, clock select.
    pub misc_output: u8,
    /// Feature control register.
    pub feature_control: u8,
    /// Video subsystem enable, port 0x3C3.
    pub subsystem_enable: u8,
    /// The four planes.
    pub planes: memory::Planes,
}

/// Where an access to the window at 0xA0000 goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowTarget {
    /// Nothing decodes it.
    Nowhere,
    /// The planes, at this offset into the decoded window.
    Planes(u32),
    /// Linear video memory, at this address.
    Linear(u64),
}

impl Vga {
    /// The chip after power-on: dark, nothing programmed.
    pub fn new() -> Vga {
        Vga::default()
    }

    /// Puts the chip into 80x25 colour text (mode 3), as a BIOS would: registers, palette, font, empty screen.
    pub fn set_text_mode(&mut self) {
        modes::set_text_mode(self);
    }

    /// Whether a saved state is one of this chip.
    pub fn is_valid(&self) -> bool {
        self.dac.is_valid() && self.vbe.is_valid() && self.planes.is_valid()
    }

    /// Reads a VGA port, 0x3B0 to 0x3DF.
    pub fn port_read(&mut self, port: u16, now: Nanoseconds) -> u8 {
        match self.colour_port(port) {
            Some(0x3C0) => self.attribute.index,
            Some(0x3C1) => self.attribute.read(),
            Some(0x3C2) => self.input_status_0(now),
            Some(0x3C3) => self.subsystem_enable,
            Some(0x3C4) => self.sequencer.index,
            Some(0x3C5) => self.sequencer.read(),
            Some(0x3C6) => self.dac.mask,
            Some(0x3C7) => self.dac.state(),
            Some(0x3C8) => self.dac.write_index(),
            Some(0x3C9) => self.dac.read(),
            Some(0x3CA) => self.feature_control,
            Some(0x3CC) => self.misc_output,
            Some(0x3CE) => self.graphics.index,
            Some(0x3CF) => self.graphics.read(),
            Some(0x3D4) => self.crtc.index,
            Some(0x3D5) => self.crtc.read(),
            Some(0x3DA) => {
                self.attribute.data_next = false;
                self.input_status_1(now)
            }
            _ => 0xFF,
        }
    }

    /// Writes a VGA port, 0x3B0 to 0x3DF.
    pub fn port_write(&mut self, port: u16, value: u8) {
        match self.colour_port(port) {
            Some(0x3C0) => self.attribute.write(value),
            Some(0x3C2) => self.misc_output = value,
            Some(0x3C3) => self.subsystem_enable = value & 1,
            Some(0x3C4) => self.sequencer.index = value,
            Some(0x3C5) => self.sequencer.write(value),
            Some(0x3C6) => self.dac.mask = value,
            Some(0x3C7) => self.dac.set_read_index(value),
            Some(0x3C8) => self.dac.set_write_index(value),
            Some(0x3C9) => self.dac.write(value),
            Some(0x3CE) => self.graphics.index = value,
            Some(0x3CF) => self.graphics.write(value),
            Some(0x3D4) => self.crtc.index = value,
            Some(0x3D5) => self.crtc.write(value),
            Some(0x3DA) => self.feature_control = value & 3,
            _ => {}
        }
    }

    /// The colour adapter's number of a port; `None` for the half that bit 0 of the miscellaneous output
    /// register switches off.
    fn colour_port(&self, port: u16) -> Option<u16> {
        let colour = self.misc_output & 1 != 0;
        match port {
            0x3B0..0x3C0 if !colour => Some(port + 0x20),
            0x3D0..0x3E0 if colour => Some(port),
            0x3C0..0x3D0 => Some(port),
            _ => None,
        }
    }

    fn input_status_0(&self, now: Nanoseconds) -> u8 {
        let beam = Timing::of(self).beam(now);
        // Bit 4: a monitor is sensed.
        u8::from(beam.vertical_retrace) << 7 | 0x10
    }

    fn input_status_1(&self, now: Nanoseconds) -> u8 {
        let beam = Timing::of(self).beam(now);
        u8::from(beam.vertical_retrace) << 3 | u8::from(!beam.shows)
    }

    /// Writes register `number` of the display interface. Linear memory from 0 to the given end must then
    /// be cleared.
    pub fn set_vbe_register(&mut self, number: u16, value: u16) -> Option<u64> {
        let cleared = self.vbe.set_register(number, value);
        self.dac.eight_bits = self.vbe.eight_bit_dac();
        let mode = cleared?;
        if mode.depth == 4 {
            self.planes.clear();
            return None;
        }
        Some(mode.line_bytes * u64::from(mode.height))
    }

    /// Where the byte `offset` bytes above 0xA0000 is.
    pub fn window_target(&self, offset: u64) -> WindowTarget {
        if self.vbe.packed() {
            let address = u64::from(self.vbe.bank()) * vbe::BANK_BYTES + offset;
            let inside = offset < vbe::BANK_BYTES && address < vbe::MEMORY_BYTES;
            return if inside { WindowTarget::Linear(address) } else { WindowTarget::Nowhere };
        }
        // Miscellaneous output bit 1: the CPU can reach video memory.
        let window = self.graphics.window(offset).filter(|_| self.misc_output & 2 != 0);
        window.map_or(WindowTarget::Nowhere, WindowTarget::Planes)
    }

    /// Reads a byte of the planes.
    pub fn planes_read(&mut self, offset: u32) -> u8 {
        self.planes.read(offset, self.vbe.bank(), &self.sequencer, &self.graphics)
    }

    /// Writes a byte of the planes.
    pub fn planes_write(&mut self, offset: u32, value: u8) {
        self.planes.write(offset, self.vbe.bank(), value, &self.sequencer, &self.graphics);
    }

    /// Whether four aligned bytes can go to the planes as they are: mode 13h.
    pub fn writes_chained(&self) -> bool {
        self.sequencer.chain_4()
            && self.sequencer.map_mask() == 0x0F
            && self.graphics.passes_through()
            && self.vbe.bank() == 0
    }
}

#[cfg(test)]
mod tests;
