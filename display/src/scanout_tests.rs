//! What a person sees for a given picture.

use proptest::prelude::*;

use super::*;
use crate::picture::Attributes;

/// Grey-scale text picture with a font whose glyph N has the bits N on every line.
pub(crate) fn text_picture(columns: u32, rows: u32, lines: &[&[u8]]) -> Text {
    let mut fonts = Box::new([[[0; 32]; 256]; 2]);
    for code in 0..256 {
        fonts[0][code] = [code as u8; 32];
        fonts[1][code] = [!code as u8; 32];
    }
    Text {
        columns,
        rows,
        cell_width: 8,
        cell_height: 2,
        repeat_lines: 1,
        repeat_columns: 1,
        cells: lines.concat().iter().map(|&byte| 0x0700 | u16::from(byte)).collect(),
        fonts,
        colours: std::array::from_fn(|n| n as u32 * 0x11_1111),
        cursor: None,
        attributes: Attributes::default(),
    }
}

fn shown(text: &Text) -> Frame {
    let mut frame = Frame::default();
    assert!(render(&Picture::Text(text.clone()), &mut frame));
    frame
}

#[test]
fn a_glyph_is_drawn_from_its_highest_bit_in_ink_on_paper() {
    let mut text = text_picture(2, 1, &[&[0xA1, 0x0F]]);
    text.cells[1] |= 0x1000;
    let frame = shown(&text);
    assert_eq!((frame.width, frame.height), (16, 2));
    let (ink, blue) = (0x77_7777, 0x11_1111);
    let expected = [
        [ink, 0, ink, 0, 0, 0, 0, ink],
        [blue, blue, blue, blue, ink, ink, ink, ink], //
    ];
    assert_eq!(frame.pixels[..16], expected.concat());
    assert_eq!(frame.pixels[16..], expected.concat());
}

#[test]
fn the_ninth_column_repeats_only_for_line_graphics() {
    let mut text = text_picture(2, 1, &[&[0xC1, 0x41]]);
    text.cell_width = 9;
    assert_eq!(shown(&text).pixels[8], 0);
    text.attributes.line_graphics = true;
    let frame = shown(&text);
    assert_eq!(frame.pixels[8], 0x77_7777, "0xC1 is in the line graphics range");
    assert_eq!(frame.pixels[17], 0, "0x41 is not");
}

#[test]
fn attribute_bit_3_takes_the_second_font_and_brightens() {
    let mut text = text_picture(1, 1, &[&[0xF0]]);
    text.cells[0] = 0x0FF0;
    assert_eq!(shown(&text).pixels[..8], [0, 0, 0, 0, 0xFF_FFFF, 0xFF_FFFF, 0xFF_FFFF, 0xFF_FFFF]);
}

#[test]
fn attribute_bit_7_blinks_or_brightens_the_paper() {
    let mut text = text_picture(1, 1, &[&[0xF0]]);
    text.cells[0] = 0x97F0;
    assert_eq!(shown(&text).pixels[7], 0x99_9999, "bright paper");
    text.attributes.blink = true;
    assert_eq!(shown(&text).pixels[..8], [0x11_1111; 8], "blinked away");
    text.attributes.blink_phase = true;
    assert_eq!(shown(&text).pixels[0], 0x77_7777);
    assert_eq!(shown(&text).pixels[7], 0x11_1111);
}

#[test]
fn the_cursor_covers_its_lines_of_its_cell_in_ink() {
    let mut text = text_picture(2, 2, &[b"\0\0", b"\0\0"]);
    text.cursor = Some(Cursor { column: 1, row: 1, first_line: 1, last_line: 1, lit: true });
    let frame = shown(&text);
    let lit: Vec<usize> = (0..frame.pixels.len()).filter(|&at| frame.pixels[at] != 0).collect();
    assert_eq!(lit, (3 * 16 + 8..3 * 16 + 16).collect::<Vec<_>>());
}

#[test]
fn monochrome_underlines_colour_one() {
    let mut text = text_picture(1, 1, &[&[0]]);
    text.cells[0] = 0x0100;
    text.attributes.underline = Some(1);
    let frame = shown(&text);
    assert_eq!(frame.pixels[..8], [0; 8]);
    assert_eq!(frame.pixels[8..], [0x11_1111; 8]);
}

#[test]
fn serial_counts_only_frames_that_differ() {
    let mut frame = Frame::default();
    let mut text = text_picture(2, 1, &[b"ab"]);
    assert!(render(&Picture::Text(text.clone()), &mut frame));
    assert!(!render(&Picture::Text(text.clone()), &mut frame));
    assert_eq!(frame.serial, 1);
    text.cells[1] ^= 1;
    assert!(render(&Picture::Text(text), &mut frame));
    assert!(render(&Picture::Blank, &mut frame));
    assert!(!render(&Picture::Blank, &mut frame));
    assert_eq!(frame.serial, 3);
    assert_eq!((frame.width, frame.height), (16, 2), "a dark monitor keeps its size");
}

#[test]
fn a_monitor_without_a_signal_is_dark_and_has_a_size() {
    let mut frame = Frame::default();
    assert!(render(&Picture::Blank, &mut frame));
    assert_eq!((frame.width, frame.height, frame.pixels.len()), (720, 400, 288_000));
}

proptest! {
    #[test]
    fn repeated_pixels_agree_with_the_obvious_loop(
        width in 1u32..9, height in 1u32..9, across in 1u32..4, down in 1u32..4, seed: u32,
    ) {
        let colours: Vec<u32> =
            (0..width * height).map(|n| n.wrapping_mul(seed | 1) & 0xFF_FFFF).collect();
        let pixels = Pixels { width, height, repeat_lines: down, repeat_columns: across, colours };
        let mut frame = Frame::default();
        render(&Picture::Pixels(pixels.clone()), &mut frame);
        prop_assert_eq!((frame.width, frame.height), (width * across, height * down));
        for y in 0..frame.height {
            for x in 0..frame.width {
                let source = (y / down) * width + x / across;
                prop_assert_eq!(frame.pixels[(y * frame.width + x) as usize], pixels.colours[source as usize]);
            }
        }
        prop_assert!(!render(&Picture::Pixels(pixels), &mut frame));
    }
}
