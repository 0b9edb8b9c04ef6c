//! Registers as a guest reads and writes them: flip-flop, protection, DAC, display interface.

use super::registers::{dac_colour, set_palette};
use super::*;
use crate::vga::vbe::{Vbe, enable, register};

#[test]
fn the_attribute_port_takes_index_and_data_by_turns() {
    let mut vga = Vga::new();
    vga.port_write(0x3C2, 1);
    vga.port_read(0x3DA, 0);
    for value in [0x03, 0x2A, 0x11, 0x3F, 0x23] {
        vga.port_write(0x3C0, value);
    }
    assert_eq!((vga.attribute.registers[3], vga.attribute.registers[0x11]), (0x2A, 0x3F));
    assert_eq!((vga.port_read(0x3C0, 0), vga.port_read(0x3C1, 0)), (0x23, 0x2A));
    vga.port_read(0x3DA, 0);
    vga.port_write(0x3C0, 0x11);
    assert_eq!(vga.port_read(0x3C1, 0), 0x3F, "reading 0x3DA made an index of it");
    vga.port_write(0x3C0, 0x15);
    assert_eq!(vga.attribute.registers[0x11], 0x15);
}

#[test]
fn ports_move_with_the_colour_bit() {
    let mut vga = Vga::new();
    set_indexed(&mut vga, 0x3B4, 0x0E, &[0x12]);
    assert_eq!((vga.port_read(0x3B5, 0), vga.port_read(0x3D5, 0)), (0x12, 0xFF));
    vga.port_write(0x3C2, 1);
    assert_eq!((vga.port_read(0x3B5, 0), vga.port_read(0x3D5, 0)), (0xFF, 0x12));
    assert_eq!(vga.port_read(0x3CC, 0), 1);
}

#[test]
fn the_first_eight_crtc_registers_can_be_protected() {
    let mut vga = Vga::new();
    vga.port_write(0x3C2, 1);
    set_indexed(&mut vga, 0x3D4, 0, &[0x11; 8]);
    set_indexed(&mut vga, 0x3D4, 0x11, &[0x80]);
    set_indexed(&mut vga, 0x3D4, 0, &[0xEE; 9]);
    assert_eq!(vga.crtc.registers[..7], [0x11; 7]);
    assert_eq!(vga.crtc.registers[7], 0x01, "bit 4, of line compare, stays writable");
    assert_eq!(vga.crtc.registers[8], 0xEE);
}

#[test]
fn reserved_bits_and_registers_read_as_zero() {
    let mut vga = Vga::new();
    for port in [0x3C4, 0x3CE] {
        for index in 0..=255 {
            set_indexed(&mut vga, port, index, &[0xFF]);
        }
    }
    assert_eq!(vga.sequencer.registers, [0x03, 0x3D, 0x0F, 0x3F, 0x0E]);
    assert_eq!(vga.graphics.registers, [0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF]);
    vga.port_write(0x3CE, 9);
    assert_eq!(vga.port_read(0x3CF, 0), 0);
}

#[test]
fn the_dac_counts_up_by_threes_and_wraps() {
    let mut vga = Vga::new();
    vga.port_write(0x3C8, 254);
    for value in 1..=9 {
        vga.port_write(0x3C9, value | 0xC0);
    }
    assert_eq!(vga.port_read(0x3C8, 0), 1);
    assert_eq!(vga.port_read(0x3C7, 0), 0, "writing");
    vga.port_write(0x3C7, 255);
    assert_eq!(vga.port_read(0x3C7, 0), 3, "reading");
    let read: Vec<u8> = (0..6).map(|_| vga.port_read(0x3C9, 0)).collect();
    assert_eq!(read, [4, 5, 6, 7, 8, 9], "entry 255, then entry 0; six bits each");
    // An index in the middle of an entry starts over; the unfinished entry is not changed.
    vga.port_write(0x3C8, 255);
    vga.port_write(0x3C9, 33);
    vga.port_write(0x3C7, 255);
    assert_eq!(vga.port_read(0x3C9, 0), 4);
}

#[test]
fn the_dac_masks_and_widens() {
    let mut vga = Vga::new();
    set_palette(&mut vga);
    assert_eq!(vga.dac.colour(0x3F), dac_colour(0x3F));
    assert_eq!(vga.dac.colour(0x3F) >> 16, 0xFF, "six bits all ones are full brightness");
    vga.port_write(0x3C6, 0x0F);
    assert_eq!(vga.dac.colour(0x35), dac_colour(0x05));
    vga.set_vbe_register(register::ENABLE, enable::EIGHT_BIT_DAC);
    vga.port_write(0x3C8, 5);
    for value in [0x81, 0x42, 0xFE] {
        vga.port_write(0x3C9, value);
    }
    assert_eq!(vga.dac.colour(5), 0x81_42FE);
}

#[test]
fn text_palette_goes_through_the_colour_select_register() {
    let mut vga = Vga::new();
    vga.set_text_mode();
    set_palette(&mut vga);
    assert_eq!(vga.attribute.dac_index(9), 0x39);
    vga.attribute.registers[0x14] = 0x0E;
    assert_eq!(vga.attribute.dac_index(9), 0xF9);
    vga.attribute.registers[0x10] |= 0x80;
    assert_eq!(vga.attribute.dac_index(9), 0xE9);
}

fn set(vbe: &mut Vbe, values: &[(u16, u16)]) {
    for &(number, value) in values {
        vbe.set_register(number, value);
    }
}

#[test]
fn the_display_interface_tells_its_version_and_its_limits() {
    let mut vbe = Vbe::default();
    assert_eq!((vbe.register(register::ID), vbe.register(register::MEMORY)), (0xB0C5, 256));
    for (written, read) in [(0xB0C0, 0xB0C0), (0xB0C4, 0xB0C4), (0xB0C6, 0xB0C4), (0x1234, 0xB0C4)] {
        vbe.set_register(register::ID, written);
        assert_eq!(vbe.register(register::ID), read);
    }
    vbe.set_register(register::ENABLE, enable::CAPABILITIES);
    let limits = [register::X_RESOLUTION, register::Y_RESOLUTION, register::DEPTH].map(|n| vbe.register(n));
    assert_eq!(limits, [2560, 1600, 32]);
    assert!(!vbe.enabled());
}

#[test]
fn every_depth_sets_its_line_length() {
    for (depth, bytes) in [(4, 100), (8, 800), (15, 1600), (16, 1600), (24, 2400), (32, 3200)] {
        let mut vbe = Vbe::default();
        set(
            &mut vbe,
            &[(register::X_RESOLUTION, 800), (register::Y_RESOLUTION, 600), (register::DEPTH, depth)],
        );
        let cleared = vbe.set_register(register::ENABLE, enable::ENABLED);
        assert_eq!(cleared, vbe.mode());
        let mode = vbe.mode().unwrap();
        assert_eq!(
            (mode.width, mode.height, mode.depth, mode.line_bytes, mode.start),
            (800, 600, depth, bytes, 0)
        );
        let room = if depth == 4 { 128 << 10 } else { 16 << 20 };
        assert_eq!(u64::from(vbe.register(register::VIRTUAL_HEIGHT)), room / bytes);
    }
}

#[test]
fn panning_stays_inside_the_virtual_screen() {
    let mut vbe = Vbe::default();
    set(&mut vbe, &[(register::X_RESOLUTION, 640), (register::Y_RESOLUTION, 480), (register::DEPTH, 32)]);
    set(&mut vbe, &[(register::ENABLE, 1), (register::VIRTUAL_WIDTH, 1024)]);
    set(&mut vbe, &[(register::X_OFFSET, 10), (register::Y_OFFSET, 20)]);
    assert_eq!(vbe.mode().unwrap().start, 20 * 4096 + 40);
    set(&mut vbe, &[(register::X_OFFSET, 5000), (register::Y_OFFSET, 65535)]);
    assert_eq!((vbe.register(register::X_OFFSET), vbe.register(register::Y_OFFSET)), (384, 4096 - 480));
    set(&mut vbe, &[(register::VIRTUAL_WIDTH, 100)]);
    assert_eq!(vbe.register(register::VIRTUAL_WIDTH), 640, "not narrower than what is shown");
    assert_eq!(vbe.register(register::X_OFFSET), 0);
}

#[test]
fn what_cannot_be_shown_is_not_enabled() {
    let mut vbe = Vbe::default();
    set(&mut vbe, &[(register::X_RESOLUTION, 0), (register::ENABLE, 1)]);
    assert!(!vbe.enabled());
    set(&mut vbe, &[(register::X_RESOLUTION, 2560), (register::Y_RESOLUTION, 1600), (register::DEPTH, 4)]);
    vbe.set_register(register::ENABLE, 1);
    assert!(!vbe.enabled(), "planes are too short for it");
    set(&mut vbe, &[(register::DEPTH, 32), (register::ENABLE, 1)]);
    assert!(vbe.enabled());
    set(&mut vbe, &[(register::X_RESOLUTION, 640), (register::DEPTH, 8), (register::BANK, 255)]);
    assert_eq!(vbe.mode().unwrap().width, 2560, "fixed while enabled");
    assert_eq!(vbe.bank(), 255);
    vbe.set_register(register::BANK, 256);
    assert_eq!(vbe.bank(), 255, "there are 256 banks");
    set(&mut vbe, &[(register::DEPTH, 7), (register::X_RESOLUTION, 2561)]);
    assert!(vbe.is_valid());
}
