//! Text screens, from the bytes a guest writes to what a person reads.

use display::{Frame, render, screen_text};

use super::*;

/// Writes `text` in `attribute` at a cell of an 80-column screen, as a guest does: bytes at 0xB8000.
fn print(vga: &mut Vga, row: u32, column: u32, attribute: u8, text: &[u8]) {
    for (n, &character) in (0..).zip(text) {
        let offset = 2 * (80 * row + column + n);
        let WindowTarget::Planes(inside) = vga.window_target(0x1_8000 + u64::from(offset)) else {
            panic!("0xB8000 is decoded in text mode")
        };
        vga.planes_write(inside, character);
        vga.planes_write(inside + 1, attribute);
    }
}

fn text_of(vga: &Vga) -> display::Text {
    match picture(vga) {
        Picture::Text(text) => text,
        other => panic!("not text: {other:?}"),
    }
}

fn text_vga() -> Vga {
    let mut vga = Vga::new();
    vga.set_text_mode();
    vga
}

#[test]
fn a_machine_that_was_just_switched_on_is_dark() {
    assert_eq!(picture(&Vga::new()), Picture::Blank);
}

#[test]
fn what_a_guest_prints_can_be_read() {
    let mut vga = text_vga();
    print(&mut vga, 0, 0, 0x07, b"Hello, world!");
    print(&mut vga, 1, 77, 0x1F, b"\xC9\xCD\xBB");
    print(&mut vga, 24, 0, 0x70, b"last");
    let expected = format!("Hello, world!\n{:77}╔═╗{}last", "", "\n".repeat(23));
    assert_eq!(screen_text(&picture(&vga)).unwrap(), expected);
}

#[test]
fn mode_3_is_a_screen_of_720_by_400_with_the_ega_colours() {
    let mut vga = text_vga();
    print(&mut vga, 0, 0, 0x1E, b"\xDB\xDB");
    let text = text_of(&vga);
    assert_eq!((text.columns, text.rows, text.cell_width, text.cell_height), (80, 25, 9, 16));
    let ega = [
        0x00_0000, 0x00_00AA, 0x00_AA00, 0x00_AAAA, 0xAA_0000, 0xAA_00AA, 0xAA_5500, 0xAA_AAAA, 0x55_5555,
        0x55_55FF, 0x55_FF55, 0x55_FFFF, 0xFF_5555, 0xFF_55FF, 0xFF_FF55, 0xFF_FFFF,
    ];
    assert_eq!(text.colours, ega);
    let mut frame = Frame::default();
    render(&picture(&vga), &mut frame);
    assert_eq!((frame.width, frame.height), (720, 400));
    assert_eq!(frame.pixels[0], 0xFF_FF55, "a full block is all ink");
    assert_eq!(frame.pixels[8], 0xFF_FF55, "and is joined to its neighbour by the ninth dot");
    assert_eq!(frame.pixels[18], 0);
}

#[test]
fn the_cursor_follows_its_registers() {
    let mut vga = text_vga();
    set_indexed(&mut vga, 0x3D4, 0x0E, &[0x01, 0x43]); // 4 * 80 + 3
    let cursor = text_of(&vga).cursor.unwrap();
    assert_eq!((cursor.column, cursor.row, cursor.first_line, cursor.last_line), (3, 4, 13, 14));
    assert!(cursor.lit);
    set_indexed(&mut vga, 0x3D4, 0x0A, &[0x2D]);
    assert_eq!(text_of(&vga).cursor, None, "switched off");
    set_indexed(&mut vga, 0x3D4, 0x0A, &[0x0F, 0x0E]);
    assert_eq!(text_of(&vga).cursor, None, "its end lies before its start");
}

#[test]
fn the_cursor_blinks_twice_as_fast_as_characters() {
    let vga = text_vga();
    let beam = |frame: u64| timing::Timing::of(&vga).beam(frame * 14_280_000);
    let cursor: Vec<bool> = (0..32).map(|frame| beam(frame).cursor_lit()).collect();
    let changes = |lit: &[bool]| lit.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let characters: Vec<bool> = (0..32).map(|frame| beam(frame).characters_lit()).collect();
    assert_eq!((changes(&cursor), changes(&characters)), (3, 1));
}

#[test]
fn the_start_address_scrolls_and_line_compare_splits() {
    let mut vga = text_vga();
    print(&mut vga, 0, 0, 7, b"status");
    for row in 1..50 {
        print(&mut vga, row, 0, 7, format!("line {row}").as_bytes());
    }
    set_indexed(&mut vga, 0x3D4, 0x0C, &[(800u16 >> 8) as u8, 800u16 as u8]);
    let shown = screen_text(&picture(&vga)).unwrap();
    assert_eq!(shown.lines().next(), Some("line 10"));
    assert_eq!(shown.lines().last(), Some("line 34"));
    // Split after 23 rows: line compare is 10 bits, of which bit 8 is register 7 bit 4, bit 9 register 9 bit 6.
    let compare = 23 * 16 - 1;
    set_indexed(&mut vga, 0x3D4, 0x18, &[compare as u8]);
    set_indexed(&mut vga, 0x3D4, 0x09, &[0x0F]);
    let shown = screen_text(&picture(&vga)).unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[21..], ["line 31", "line 32", "status", "line 1"]);
}

#[test]
fn forty_columns_of_eight_lines_show_as_large() {
    let mut vga = text_vga();
    set_indexed(&mut vga, 0x3D4, 0x11, &[0x0E]);
    set_indexed(&mut vga, 0x3D4, 0x01, &[39]);
    set_indexed(&mut vga, 0x3D4, 0x13, &[20]);
    set_indexed(&mut vga, 0x3D4, 0x09, &[0xC7]);
    set_indexed(&mut vga, 0x3C4, 0x01, &[0x09]);
    let text = text_of(&vga);
    assert_eq!((text.columns, text.rows, text.cell_width, text.cell_height), (40, 25, 8, 8));
    let mut frame = Frame::default();
    render(&picture(&vga), &mut frame);
    assert_eq!((frame.width, frame.height), (640, 400));
}

#[test]
fn a_font_written_through_plane_2_shows() {
    let mut vga = text_vga();
    // The sequence of the IBM BIOS: planes in sequence, write plane 2 only, window at 0xA0000.
    set_indexed(&mut vga, 0x3C4, 2, &[0x04, 0x00, 0x06]);
    set_indexed(&mut vga, 0x3CE, 4, &[0x02, 0x00, 0x04]);
    let glyph: Vec<u8> = (0..16).map(|line| 0x80 >> (line % 8)).collect();
    for (line, &bits) in (0..).zip(&glyph) {
        let WindowTarget::Planes(at) = vga.window_target(0x4000 + 32 * 0x41 + line) else {
            panic!("decoded")
        };
        vga.planes_write(at, bits);
        assert_eq!(vga.planes_read(at), bits);
    }
    // Map A (attribute bit 3) at 16 KiB, map B at 0; back to text.
    set_indexed(&mut vga, 0x3C4, 2, &[0x03, 0x04, 0x02]);
    set_indexed(&mut vga, 0x3CE, 4, &[0x00, 0x10, 0x0E]);
    set_indexed(&mut vga, 0x3D4, 0x0A, &[0x20]);
    print(&mut vga, 0, 0, 0x0F, b"A");
    let text = text_of(&vga);
    assert_eq!(text.fonts[1][0x41][..16], glyph);
    assert_eq!(text.fonts[0][0x41], display::font::font_8x16()[0x41]);
    let mut frame = Frame::default();
    render(&picture(&vga), &mut frame);
    for line in 0..16 {
        let lit: Vec<usize> = (0..9).filter(|&dot| frame.pixels[720 * line + dot] != 0).collect();
        assert_eq!(lit, [line % 8]);
    }
}

#[test]
fn font_places_are_those_of_the_character_map_select_register() {
    let mut vga = text_vga();
    for (select, map_b, map_a) in
        [(0x00, 0, 0), (0x05, 16, 16), (0x10, 8, 0), (0x20, 0, 8), (0x3F, 56, 56), (0x0E, 32, 48)]
    {
        set_indexed(&mut vga, 0x3C4, 3, &[select]);
        assert_eq!(vga.sequencer.font_offsets(), [map_b * 1024, map_a * 1024], "{select:#x}");
    }
}

#[test]
fn the_screen_goes_dark_by_each_of_its_switches() {
    let vga = text_vga();
    let dark = |change: &dyn Fn(&mut Vga)| {
        let mut vga = vga.clone();
        change(&mut vga);
        picture(&vga) == Picture::Blank
    };
    assert!(!dark(&|_| {}));
    assert!(dark(&|vga| set_indexed(vga, 0x3C4, 1, &[0x20])), "screen off");
    assert!(dark(&|vga| set_indexed(vga, 0x3C4, 0, &[1])), "synchronous reset");
    assert!(dark(&|vga| set_indexed(vga, 0x3D4, 0x17, &[0x23])), "no retraces");
    assert!(dark(&|vga| {
        vga.port_read(0x3DA, 0);
        vga.port_write(0x3C0, 0);
    }));
}

#[test]
fn mode_7_is_monochrome_text_at_b0000() {
    let crtc = [
        0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4D, 0x0B, 0x0C, 0x00, 0x00, 0x00, 0x00, 0x83,
        0x85, 0x5D, 0x28, 0x0D, 0x63, 0xBA, 0xA3, 0xFF,
    ];
    let attribute =
        [0, 8, 8, 8, 8, 8, 8, 8, 0x10, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x0E, 0, 0x0F, 8];
    let mut vga = text_vga();
    registers::program(
        &mut vga,
        0xA6,
        [0, 3, 0, 2],
        crtc,
        attribute,
        [0, 0, 0, 0, 0, 0x10, 0x0A, 0x0F, 0xFF],
    );
    vga.port_write(0x3C2, 0xA6);
    assert_eq!(vga.window_target(0x1_8000), WindowTarget::Nowhere, "0xB8000 is the colour adapter's");
    for (n, byte) in (0..).zip(b"M\x01D\x01A\x01") {
        let WindowTarget::Planes(at) = vga.window_target(0x1_0000 + n) else { panic!("0xB0000 is decoded") };
        vga.planes_write(at, *byte);
    }
    set_indexed(&mut vga, 0x3B4, 0x0E, &[0, 3]);
    let text = text_of(&vga);
    assert_eq!((text.columns, text.rows, text.cell_width, text.cell_height), (80, 25, 9, 14));
    assert_eq!(text.attributes.underline, Some(13));
    assert_eq!(text.cursor.map(|cursor| (cursor.column, cursor.first_line)), Some((3, 11)));
    assert_eq!(screen_text(&picture(&vga)).unwrap().trim_end(), "MDA");
    let mut frame = Frame::default();
    render(&picture(&vga), &mut frame);
    assert_eq!((frame.width, frame.height), (720, 350));
    assert!(frame.pixels[13 * 720..][..27].iter().all(|&pixel| pixel == text.colours[1]), "underlined");
}
