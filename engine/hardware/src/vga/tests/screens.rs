//! Each graphics mode against an obvious per-pixel reading of what the guest wrote.

use display::Pixels;

use super::registers::{dac_colour, program, set_attribute, set_palette};
use super::*;
use crate::vga::vbe::{enable, register};

// IBM PS/2 Hardware Interface Technical Reference, "VGA register values by mode".
const CRTC_320X200: [u8; 25] = [
    0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x41, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9C,
    0x8E, 0x8F, 0x28, 0x40, 0x96, 0xB9, 0xA3, 0xFF,
];
const CRTC_640X480: [u8; 25] = [
    0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x0B, 0x3E, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xEA,
    0x8C, 0xDF, 0x28, 0x00, 0xE7, 0x04, 0xE3, 0xFF,
];
const CRTC_CGA_4: [u8; 25] = [
    0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9C,
    0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xA2, 0xFF,
];
const CRTC_CGA_2: [u8; 25] = [
    0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9C,
    0x8E, 0x8F, 0x28, 0x00, 0x96, 0xB9, 0xC2, 0xFF,
];
const STRAIGHT: [u8; 20] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x01, 0x00, 0x0F, 0x00];

fn graphics(mode: u8, misc: u8) -> [u8; 9] {
    [0, 0, 0, 0, 0, mode, misc, 0x0F, 0xFF]
}

fn mode_13h() -> Vga {
    let mut vga = Vga::new();
    program(&mut vga, 0x63, [0x01, 0x0F, 0x00, 0x0E], CRTC_320X200, STRAIGHT, graphics(0x40, 0x05));
    set_palette(&mut vga);
    vga
}

fn mode_12h() -> Vga {
    let mut vga = Vga::new();
    program(&mut vga, 0xE3, [0x01, 0x0F, 0x00, 0x06], CRTC_640X480, STRAIGHT, graphics(0x00, 0x05));
    set_palette(&mut vga);
    vga
}

fn write(vga: &mut Vga, address: u64, value: u8) {
    match vga.window_target(address - 0xA_0000) {
        WindowTarget::Planes(offset) => vga.planes_write(offset, value),
        other => panic!("{address:#x} is {other:?}"),
    }
}

fn pixels(vga: &Vga) -> Pixels {
    match picture(vga) {
        Picture::Pixels(pixels) => pixels,
        other => panic!("not pixels: {other:?}"),
    }
}

fn check(vga: &Vga, size: (u32, u32), shown: (u32, u32), colour: impl Fn(u32, u32) -> u32) {
    let pixels = pixels(vga);
    assert_eq!((pixels.width, pixels.height), size);
    assert_eq!((pixels.width * pixels.repeat_columns, pixels.height * pixels.repeat_lines), shown);
    assert_eq!(pixels.colours.len(), (size.0 * size.1) as usize);
    for y in 0..size.1 {
        for x in 0..size.0 {
            let found = pixels.colours[(y * size.0 + x) as usize];
            assert_eq!(found, colour(x, y), "pixel {x}, {y}");
        }
    }
}

#[test]
fn mode_13h_is_one_byte_per_pixel() {
    let mut vga = mode_13h();
    for offset in 0..64_000 {
        write(&mut vga, 0xA_0000 + offset, pattern(offset));
    }
    check(&vga, (320, 200), (640, 400), |x, y| dac_colour(pattern(u64::from(y * 320 + x))));
}

#[test]
fn mode_x_is_four_planes_and_square_pixels() {
    // Abrash, Graphics Programming Black Book, chapter 47.
    let mut vga = mode_13h();
    set_indexed(&mut vga, 0x3C4, 4, &[0x06]);
    set_indexed(&mut vga, 0x3D4, 0x11, &[0x2C]);
    for (index, value) in [
        (0x06, 0x0D),
        (0x07, 0x3E),
        (0x09, 0x41),
        (0x10, 0xEA),
        (0x11, 0xAC),
        (0x12, 0xDF),
        (0x14, 0x00),
        (0x15, 0xE7),
        (0x16, 0x06),
        (0x17, 0xE3),
    ] {
        set_indexed(&mut vga, 0x3D4, index, &[value]);
    }
    vga.port_write(0x3C2, 0xE3);
    for plane in 0..4 {
        set_indexed(&mut vga, 0x3C4, 2, &[1 << plane]);
        for offset in 0..80 * 240 {
            write(&mut vga, 0xA_0000 + offset, pattern(4 * offset + plane));
        }
    }
    check(&vga, (320, 240), (640, 480), |x, y| dac_colour(pattern(u64::from(y * 320 + x))));
    // Page flip: the second page starts behind the first, and is empty.
    set_indexed(&mut vga, 0x3D4, 0x0C, &[0x4B, 0x00]);
    check(&vga, (320, 240), (640, 480), |_, _| dac_colour(0));
    // Panning by pixels: 256-colour pixels are two dots wide.
    set_indexed(&mut vga, 0x3D4, 0x0C, &[0x00, 0x00]);
    set_attribute(&mut vga, 0x13, &[0x06]);
    check(&vga, (320, 240), (640, 480), |x, y| match u64::from(y * 320 + x + 3) {
        at if at < 320 * 240 => dac_colour(pattern(at)),
        _ => dac_colour(0),
    });
}

#[test]
fn unchained_360_by_480() {
    let mut vga = mode_13h();
    set_indexed(&mut vga, 0x3C4, 4, &[0x06]);
    set_indexed(&mut vga, 0x3D4, 0x11, &[0x2C]);
    for (index, value) in [
        (0x00, 0x6B),
        (0x01, 0x59),
        (0x06, 0x0D),
        (0x07, 0x3E),
        (0x09, 0x40),
        (0x12, 0xDF),
        (0x13, 0x2D),
        (0x14, 0x00),
        (0x17, 0xE3),
    ] {
        set_indexed(&mut vga, 0x3D4, index, &[value]);
    }
    for plane in 0..4 {
        set_indexed(&mut vga, 0x3C4, 2, &[1 << plane]);
        for offset in 0..90 * 480 {
            write(&mut vga, 0xA_0000 + offset, pattern(4 * offset + plane));
        }
    }
    check(&vga, (360, 480), (720, 480), |x, y| dac_colour(pattern(u64::from(y * 360 + x))));
}

#[test]
fn mode_12h_takes_one_bit_from_each_plane() {
    let mut vga = mode_12h();
    for plane in 0..4 {
        set_indexed(&mut vga, 0x3C4, 2, &[1 << plane]);
        for offset in 0..80 * 480 {
            write(&mut vga, 0xA_0000 + offset, pattern(offset + 100_000 * plane));
        }
    }
    let index = |x: u32, y: u32| {
        let at = u64::from(y * 80 + x / 8);
        (0..4).fold(0, |index, plane| index | (pattern(at + 100_000 * plane) >> (7 - x % 8) & 1) << plane)
    };
    check(&vga, (640, 480), (640, 480), |x, y| dac_colour(index(x, y)));
    // The attribute controller can take planes out, and shift by dots.
    set_attribute(&mut vga, 0x12, &[0x05, 0x03]);
    check(&vga, (640, 480), (640, 480), |x, y| {
        let in_line = if x + 3 < 640 { index(x + 3, y) } else { index(x + 3 - 640, y + 1) };
        dac_colour(if y == 479 && x + 3 >= 640 { 0 } else { in_line & 5 })
    });
}

#[test]
fn cga_four_colours_interleave_even_and_odd_lines() {
    let mut vga = Vga::new();
    program(&mut vga, 0x63, [0x09, 0x03, 0x00, 0x02], CRTC_CGA_4, STRAIGHT, graphics(0x30, 0x0F));
    set_palette(&mut vga);
    for offset in 0..0x4000 {
        write(&mut vga, 0xB_8000 + offset, pattern(offset));
    }
    check(&vga, (320, 200), (640, 400), |x, y| {
        let byte = pattern(u64::from(0x2000 * (y % 2) + 80 * (y / 2) + x / 4));
        dac_colour(byte >> (6 - 2 * (x % 4)) & 3)
    });
}

#[test]
fn cga_two_colours_interleave_even_and_odd_lines() {
    let mut vga = Vga::new();
    let attribute = [0, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 0x01, 0x00, 0x01, 0x00];
    program(&mut vga, 0x63, [0x01, 0x01, 0x00, 0x06], CRTC_CGA_2, attribute, graphics(0x00, 0x0D));
    set_palette(&mut vga);
    for offset in 0..0x4000 {
        write(&mut vga, 0xB_8000 + offset, pattern(offset));
    }
    check(&vga, (640, 200), (640, 400), |x, y| {
        let byte = pattern(u64::from(0x2000 * (y % 2) + 80 * (y / 2) + x / 8));
        dac_colour(if byte >> (7 - x % 8) & 1 != 0 { 23 } else { 0 })
    });
}

#[test]
fn a_split_screen_goes_on_at_address_0_on_any_line() {
    let mut vga = mode_13h();
    for offset in 0..0x1_0000 {
        write(&mut vga, 0xA_0000 + offset, pattern(offset));
    }
    let start = 1000u32;
    set_indexed(&mut vga, 0x3D4, 0x0C, &[(start >> 8) as u8, start as u8]);
    set_attribute(&mut vga, 0x10, &[0x21]);
    set_attribute(&mut vga, 0x13, &[0x02]);
    for last_before in [99u32, 100, 301] {
        set_indexed(&mut vga, 0x3D4, 0x11, &[0x0E]);
        set_indexed(&mut vga, 0x3D4, 0x07, &[0x0F | (last_before >> 4) as u8 & 0x10]);
        set_indexed(&mut vga, 0x3D4, 0x09, &[0x01]);
        set_indexed(&mut vga, 0x3D4, 0x18, &[last_before as u8]);
        let whole = (last_before + 1).is_multiple_of(2);
        let lines = if whole { 200 } else { 400 };
        check(&vga, (320, lines), (640, 400), |x, y| {
            let scan_line = y * (400 / lines);
            let at = match scan_line.checked_sub(last_before + 1) {
                None => 4 * start + scan_line / 2 * 320 + x + 1,
                Some(below) => below / 2 * 320 + x,
            };
            dac_colour(pattern(u64::from(at)))
        });
    }
}

/// Sets a mode of the display interface.
fn vbe_mode(width: u16, height: u16, depth: u16) -> Vga {
    let mut vga = Vga::new();
    vga.port_write(0x3C2, 3);
    set_attribute(&mut vga, 0, &STRAIGHT);
    set_palette(&mut vga);
    vga.set_vbe_register(register::X_RESOLUTION, width);
    vga.set_vbe_register(register::Y_RESOLUTION, height);
    vga.set_vbe_register(register::DEPTH, depth);
    vga.set_vbe_register(register::ENABLE, enable::ENABLED | enable::LINEAR | enable::KEEP_MEMORY);
    vga
}

/// `value` of `bits` bits as eight bits, by its first bits repeated.
fn widen(value: u32, bits: u32) -> u32 {
    value << (8 - bits) | value >> (2 * bits - 8)
}

#[test]
fn packed_modes_of_every_depth() {
    for depth in [8u16, 15, 16, 24, 32] {
        let mut vga = vbe_mode(100, 60, depth);
        vga.set_vbe_register(register::VIRTUAL_WIDTH, 128);
        vga.set_vbe_register(register::X_OFFSET, 5);
        vga.set_vbe_register(register::Y_OFFSET, 7);
        let bytes = u64::from(depth).div_ceil(8);
        check(&vga, (100, 60), (100, 60), |x, y| {
            let at = (u64::from(y + 7) * 128 + u64::from(x + 5)) * bytes;
            let value = (0..bytes).fold(0, |value, n| value | u32::from(pattern(at + n)) << (8 * n));
            let field = |shift: u32, bits: u32| value >> shift & ((1 << bits) - 1);
            match depth {
                8 => dac_colour(value as u8),
                15 => widen(field(10, 5), 5) << 16 | widen(field(5, 5), 5) << 8 | widen(field(0, 5), 5),
                16 => widen(field(11, 5), 5) << 16 | widen(field(5, 6), 6) << 8 | widen(field(0, 5), 5),
                _ => field(0, 24),
            }
        });
    }
}

#[test]
fn planar_modes_of_the_display_interface_reach_their_lower_part_by_bank() {
    let mut vga = vbe_mode(1024, 768, 4);
    set_indexed(&mut vga, 0x3C4, 2, &[0x0F, 0x00, 0x06]);
    set_indexed(&mut vga, 0x3CE, 0, &graphics(0x02, 0x05));
    vga.set_vbe_register(register::BANK, 1);
    let last = 1024 / 8 * 768 - 1 - 0x1_0000;
    write(&mut vga, 0xA_0000 + last, 0x0D);
    check(&vga, (1024, 768), (1024, 768), |x, y| dac_colour(if y == 767 && x >= 1016 { 0x0D } else { 0 }));
}

#[test]
fn any_registers_make_a_picture() {
    let (mut texts, mut others) = (0, 0);
    for seed in 0..80u64 {
        let mut vga = if seed % 4 == 0 { vbe_mode(u16::from(pattern(seed)) + 1, 7, 4) } else { Vga::new() };
        let mut at = seed << 16;
        let mut random = || {
            at += 1;
            pattern(at)
        };
        vga.sequencer.registers = std::array::from_fn(|_| random());
        vga.crtc.registers = std::array::from_fn(|_| random());
        vga.graphics.registers = std::array::from_fn(|_| random());
        vga.attribute.registers = std::array::from_fn(|_| random());
        vga.sequencer.registers[..2].copy_from_slice(&[3, random() & 0x1F]);
        vga.crtc.registers[0x17] |= 0x80;
        vga.attribute.index = 0x20;
        let mut frame = display::Frame::default();
        display::render(&picture(&vga), &mut frame);
        assert_eq!(frame.pixels.len(), frame.width as usize * frame.height as usize);
        assert!(!frame.pixels.is_empty());
        match picture(&vga) {
            Picture::Text(_) => texts += 1,
            _ => others += 1,
        }
    }
    assert!(texts > 10 && others > 10, "both kinds are reached");
}
