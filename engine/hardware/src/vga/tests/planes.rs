//! Write and read modes of the planes, against the truth tables of the technical reference, bit by bit.

use super::*;

/// Every setting that matters to one write, from a seed.
struct Setting {
    write_mode: u8,
    set_reset: u8,
    enable: u8,
    rotate: u8,
    function: u8,
    bit_mask: u8,
    map_mask: u8,
    latches: u32,
    value: u8,
}

impl Setting {
    fn from_seed(seed: u64) -> Setting {
        let byte = |n: u64| pattern(seed * 64 + n);
        Setting {
            write_mode: byte(0) & 3,
            set_reset: byte(1) & 15,
            enable: byte(2) & 15,
            rotate: byte(3) & 7,
            function: byte(4) & 3,
            bit_mask: byte(5),
            map_mask: byte(6) & 15,
            latches: u32::from_le_bytes([byte(7), byte(8), byte(9), byte(10)]),
            value: byte(11),
        }
    }

    /// One bit of one plane after the write, by the words of the reference.
    fn expected_bit(&self, before: bool, plane: u8, bit: u8) -> bool {
        if self.map_mask >> plane & 1 == 0 {
            return before;
        }
        let latch = self.latches >> (8 * plane + bit) & 1 != 0;
        let rotated = self.value >> ((bit + self.rotate) % 8) & 1 != 0;
        let set = self.set_reset >> plane & 1 != 0;
        let masked_in = self.bit_mask >> bit & 1 != 0;
        let (data, masked_in) = match self.write_mode {
            0 if self.enable >> plane & 1 != 0 => (set, masked_in),
            0 => (rotated, masked_in),
            1 => return latch,
            2 => (self.value >> plane & 1 != 0, masked_in),
            _ => (set, masked_in && rotated),
        };
        let result = match self.function {
            0 => data,
            1 => data && latch,
            2 => data || latch,
            _ => data != latch,
        };
        if masked_in { result } else { latch }
    }
}

/// A chip with the 64 KiB window, planes in sequence, nothing masked.
fn planar() -> Vga {
    let mut vga = Vga::new();
    vga.port_write(0x3C2, 0x03);
    set_indexed(&mut vga, 0x3C4, 2, &[0x0F, 0x00, 0x06]);
    set_indexed(&mut vga, 0x3CE, 0, &[0, 0, 0, 0, 0, 0, 0x05, 0x0F, 0xFF]);
    vga
}

#[test]
fn every_write_mode_agrees_with_the_reference_bit_by_bit() {
    for seed in 0..5_000 {
        let setting = Setting::from_seed(seed);
        let mut vga = planar();
        vga.planes.set_cell(7, setting.latches);
        vga.planes_read(7);
        let before = !setting.latches ^ 0x0F0F_3355;
        vga.planes.set_cell(9, before);
        let rotate = setting.function << 3 | setting.rotate;
        set_indexed(&mut vga, 0x3CE, 0, &[setting.set_reset, setting.enable, 0, rotate]);
        set_indexed(&mut vga, 0x3CE, 5, &[setting.write_mode]);
        set_indexed(&mut vga, 0x3CE, 8, &[setting.bit_mask]);
        set_indexed(&mut vga, 0x3C4, 2, &[setting.map_mask]);
        vga.planes_write(9, setting.value);
        for plane in 0..4u8 {
            for bit in 0..8u8 {
                let at = 8 * plane + bit;
                let expected = setting.expected_bit(before >> at & 1 != 0, plane, bit);
                let mode = setting.write_mode;
                assert_eq!(vga.planes.cell(9) >> at & 1 != 0, expected, "seed {seed} mode {mode} bit {at}");
            }
        }
    }
}

#[test]
fn read_mode_0_gives_the_selected_plane_and_fills_the_latches() {
    let mut vga = planar();
    vga.planes.set_cell(0x1234, 0x4433_2211);
    for (plane, byte) in [(0, 0x11), (1, 0x22), (2, 0x33), (3, 0x44)] {
        set_indexed(&mut vga, 0x3CE, 4, &[plane]);
        assert_eq!(vga.planes_read(0x1234), byte);
    }
    // Write mode 1 copies all planes at once.
    set_indexed(&mut vga, 0x3CE, 5, &[1]);
    vga.planes_write(0x4321, 0);
    assert_eq!(vga.planes.cell(0x4321), 0x4433_2211);
}

#[test]
fn read_mode_1_compares_the_colours_it_cares_about() {
    let mut vga = planar();
    let planes = [0b1100_1010, 0b1010_0110, 0b1111_0000, 0b0101_0101];
    vga.planes.set_cell(0, u32::from_le_bytes(planes));
    set_indexed(&mut vga, 0x3CE, 5, &[8]);
    for colour in 0..16 {
        for care in 0..16 {
            set_indexed(&mut vga, 0x3CE, 2, &[colour]);
            set_indexed(&mut vga, 0x3CE, 7, &[care]);
            let read = vga.planes_read(0);
            for bit in 0..8 {
                let pixel = (0..4).fold(0, |pixel, plane| pixel | (planes[plane] >> bit & 1) << plane);
                let agrees = pixel & care == colour & care;
                assert_eq!(read >> bit & 1 != 0, agrees, "colour {colour} care {care} bit {bit}");
            }
        }
    }
}

#[test]
fn chain_4_spreads_bytes_over_the_planes() {
    let mut vga = planar();
    set_indexed(&mut vga, 0x3C4, 4, &[0x0E]);
    for offset in 0..16 {
        vga.planes_write(offset, 0xA0 + offset as u8);
    }
    assert_eq!(vga.planes.cell(4), 0xA7A6_A5A4);
    assert_eq!(vga.planes.cell(5), 0);
    assert_eq!(
        (0..16).map(|offset| vga.planes_read(offset)).collect::<Vec<_>>(),
        (0xA0..0xB0).collect::<Vec<_>>()
    );
    set_indexed(&mut vga, 0x3C4, 2, &[0x0D]);
    assert!(!vga.writes_chained());
    vga.planes_write(5, 0);
    assert_eq!(vga.planes.cell(4), 0xA7A6_A5A4, "plane 1 is masked");
}

#[test]
fn odd_and_even_addresses_go_to_odd_and_even_planes() {
    let mut vga = planar();
    set_indexed(&mut vga, 0x3C4, 2, &[0x03, 0x00, 0x02]);
    set_indexed(&mut vga, 0x3CE, 5, &[0x10, 0x0E]);
    for (offset, byte) in [(0, 0x41), (1, 0x07), (2, 0x42), (3, 0x1F)] {
        vga.planes_write(offset, byte);
        assert_eq!(vga.planes_read(offset), byte);
    }
    assert_eq!((vga.planes.cell(0), vga.planes.cell(2), vga.planes.cell(1)), (0x0741, 0x1F42, 0));
    set_indexed(&mut vga, 0x3C4, 2, &[0x0F]);
    vga.planes_write(1, 0xEE);
    assert_eq!(vga.planes.cell(0), 0xEE00_EE41, "planes 1 and 3");
}

#[test]
fn the_window_lies_where_the_miscellaneous_register_says() {
    let mut vga = planar();
    let at = |address: u64| address - 0xA_0000;
    for (select, first, last) in
        [(0u8, 0xA_0000, 0xB_FFFF), (1, 0xA_0000, 0xA_FFFF), (2, 0xB_0000, 0xB_7FFF), (3, 0xB_8000, 0xB_FFFF)]
    {
        set_indexed(&mut vga, 0x3CE, 6, &[select << 2]);
        assert_eq!(vga.window_target(at(first)), WindowTarget::Planes(0));
        assert_eq!(vga.window_target(at(last)), WindowTarget::Planes((last - first) as u32));
        if first > 0xA_0000 {
            assert_eq!(vga.window_target(at(first) - 1), WindowTarget::Nowhere);
        }
        assert_eq!(vga.window_target(at(last) + 1), WindowTarget::Nowhere);
    }
    vga.port_write(0x3C2, 0x01);
    assert_eq!(vga.window_target(0x1_8000), WindowTarget::Nowhere, "the CPU is shut out");
}
