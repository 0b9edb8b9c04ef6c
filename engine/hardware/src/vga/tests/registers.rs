//! Programming the chip as a guest does.

use super::*;

/// Programs a mode as a BIOS table lists it: miscellaneous output, sequencer from register 1 on, CRTC,
/// attribute and graphics controllers.
pub fn program(
    vga: &mut Vga,
    misc: u8,
    sequencer: [u8; 4],
    crtc: [u8; 25],
    attribute: [u8; 20],
    graphics: [u8; 9],
) {
    vga.port_write(0x3C2, misc | 1);
    set_indexed(vga, 0x3C4, 0, &[1]);
    set_indexed(vga, 0x3C4, 1, &sequencer);
    set_indexed(vga, 0x3C4, 0, &[3]);
    set_indexed(vga, 0x3D4, 0x11, &[crtc[0x11] & 0x7F]);
    set_indexed(vga, 0x3D4, 0, &crtc);
    set_indexed(vga, 0x3CE, 0, &graphics);
    set_attribute(vga, 0, &attribute);
}

pub fn set_attribute(vga: &mut Vga, first: u8, values: &[u8]) {
    vga.port_read(0x3DA, 0);
    for (index, &value) in (first..).zip(values) {
        vga.port_write(0x3C0, index);
        vga.port_write(0x3C0, value);
    }
    vga.port_write(0x3C0, 0x20);
}

/// A palette whose entry N is told by N.
pub fn set_palette(vga: &mut Vga) {
    vga.port_write(0x3C8, 0);
    for index in 0..=255u8 {
        for component in [index, index.wrapping_mul(3), index.wrapping_mul(7)] {
            vga.port_write(0x3C9, component & 0x3F);
        }
    }
}

pub fn dac_colour(index: u8) -> u32 {
    let component = |value: u8| {
        let value = u32::from(value & 0x3F);
        value << 2 | value >> 4
    };
    component(index) << 16 | component(index.wrapping_mul(3)) << 8 | component(index.wrapping_mul(7))
}
