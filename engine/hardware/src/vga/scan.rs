//! From the registers and video memory of a moment to the picture on the screen.
//!
//! IBM PS/2 Hardware Interface Technical Reference, Video Subsystem. Left out: smooth scrolling of text by less
//! than a cell, a split in the middle of a text row, and 9-dot graphics.

use display::{Attributes, Cursor, Picture, Pixels, Text};

use crate::clock::Nanoseconds;
use crate::vga::Vga;
use crate::vga::timing::Timing;
use crate::vga::vbe::{self, Mode};

/// Linear video memory, as the scan-out reads it.
pub trait Linear {
    /// Copies out bytes from `address`; the run lies inside [`vbe::MEMORY_BYTES`].
    fn read(&self, address: u64, bytes: &mut [u8]);
}

/// What is on the screen at guest time `now`.
pub fn scan(vga: &Vga, linear: &dyn Linear, now: Nanoseconds) -> Picture {
    if !vga.attribute.screen_on() {
        return Picture::Blank;
    }
    if let Some(mode) = vga.vbe.mode() {
        return Picture::Pixels(if mode.depth == 4 {
            planar_mode(vga, mode)
        } else {
            packed(vga, mode, linear)
        });
    }
    if !vga.sequencer.running() || vga.sequencer.screen_off() || !vga.crtc.synchronizes() {
        return Picture::Blank;
    }
    if vga.graphics.graphics_mode() { Picture::Pixels(graphics(vga)) } else { Picture::Text(text(vga, now)) }
}

/// The 16 colours that 4-bit pixels and text attributes choose from.
fn colours_16(vga: &Vga) -> [u32; 16] {
    std::array::from_fn(|colour| vga.dac.colour(vga.attribute.dac_index(colour as u8)))
}

fn colours_256(vga: &Vga) -> [u32; 256] {
    std::array::from_fn(|index| vga.dac.colour(index as u8))
}

fn repeats(doubled: bool) -> u32 {
    if doubled { 2 } else { 1 }
}

/// The line a scan line shows: its address, its line within the row, and whether it belongs to the lower
/// part of a split screen.
struct Source {
    address: u32,
    row_scan: u32,
    below_split: bool,
}

fn source(vga: &Vga, scan_line: u32) -> Source {
    let crtc = &vga.crtc;
    let below_split = scan_line > crtc.line_compare();
    let (line, start, preset) = if below_split {
        (scan_line - crtc.line_compare() - 1, 0, 0)
    } else {
        (scan_line, crtc.start() + crtc.byte_panning(), crtc.preset_row())
    };
    let line = line / repeats(crtc.double_scan()) + preset;
    let row = line / crtc.row_lines();
    Source { address: start + row * crtc.pitch(), row_scan: line % crtc.row_lines(), below_split }
}

fn text(vga: &Vga, now: Nanoseconds) -> Text {
    let crtc = &vga.crtc;
    let beam = Timing::of(vga).beam(now);
    let (columns, cell_height) = (crtc.columns(), crtc.row_lines());
    let repeat_lines = repeats(crtc.double_scan());
    // A row cut off at the bottom is not one that software counts.
    let rows = (crtc.lines() / (cell_height * repeat_lines)).max(1);
    let mut cells = Vec::with_capacity((columns * rows) as usize);
    let mut cursor = None;
    let cursor_lines = crtc.cursor_lines().filter(|lines| lines.0 < cell_height);
    for row in 0..rows {
        let address = source(vga, row * cell_height * repeat_lines).address;
        for column in 0..columns {
            let counter = (address + column / crtc.characters_per_address()) & 0xFFFF;
            let cell = vga.planes.cell(crtc.plane_address(counter, 0) as usize);
            cells.push(cell as u16);
            if let Some((first_line, last_line)) = cursor_lines.filter(|_| counter == crtc.cursor()) {
                let last_line = last_line.min(cell_height - 1);
                cursor = Some(Cursor { column, row, first_line, last_line, lit: beam.cursor_lit() });
            }
        }
    }
    Text {
        columns,
        rows,
        cell_width: vga.sequencer.dots_per_character(),
        cell_height,
        repeat_lines,
        repeat_columns: repeats(vga.sequencer.half_dot_clock()),
        cells,
        fonts: fonts(vga),
        colours: colours_16(vga),
        cursor,
        attributes: Attributes {
            blink: vga.attribute.blinks(),
            line_graphics: vga.attribute.line_graphics(),
            blink_phase: beam.characters_lit(),
            underline: vga.attribute.monochrome().then(|| crtc.underline()),
        },
    }
}

fn fonts(vga: &Vga) -> Box<[[[u8; 32]; 256]; 2]> {
    let mut fonts = Box::new([[[0; 32]; 256]; 2]);
    for (font, offset) in fonts.iter_mut().zip(vga.sequencer.font_offsets()) {
        for (address, line) in (offset..).zip(font.as_flattened_mut()) {
            *line = (vga.planes.cell(address) >> 16) as u8;
        }
    }
    fonts
}

/// How the shift registers turn the four bytes of a cell into pixels.
#[derive(Clone, Copy)]
enum Shift {
    /// One bit from each plane: eight pixels.
    Planar,
    /// Two bits from planes 0 and 2, then from 1 and 3, as on a CGA: eight pixels.
    Interleaved,
    /// A byte from each plane in turn: four pixels.
    Whole,
}

impl Shift {
    fn of(vga: &Vga) -> Shift {
        match (vga.graphics.shift_256(), vga.graphics.shift_interleaved()) {
            (true, _) => Shift::Whole,
            (false, true) => Shift::Interleaved,
            _ => Shift::Planar,
        }
    }

    fn pixels(self) -> u32 {
        if matches!(self, Shift::Whole) { 4 } else { 8 }
    }

    /// Appends the pixels of `cell`, as indices.
    fn unpack(self, cell: u32, indices: &mut Vec<u8>) {
        let planes = cell.to_le_bytes();
        match self {
            Shift::Whole => indices.extend(planes),
            Shift::Planar => indices.extend((0..8).rev().map(|bit| {
                let at = |plane: usize| (planes[plane] >> bit & 1) << plane;
                at(0) | at(1) | at(2) | at(3)
            })),
            Shift::Interleaved => {
                for (low, high) in [(planes[0], planes[2]), (planes[1], planes[3])] {
                    let pair = |shift: u32| low >> shift & 3 | (high >> shift & 3) << 2;
                    indices.extend([6, 4, 2, 0].map(pair));
                }
            }
        }
    }
}

fn graphics(vga: &Vga) -> Pixels {
    let crtc = &vga.crtc;
    let shift = Shift::of(vga);
    let width = crtc.columns() * shift.pixels();
    let repeat_lines = line_repeat(vga);
    let height = crtc.lines().div_ceil(repeat_lines);
    let (colours_16, colours_256) = (colours_16(vga), colours_256(vga));
    let mut colours = Vec::with_capacity((width * height) as usize);
    let mut indices = Vec::with_capacity(width as usize + 8);
    for line in 0..height {
        let source = source(vga, line * repeat_lines);
        let stands_still = source.below_split && vga.attribute.split_stands_still();
        let panning = match shift {
            _ if stands_still => 0,
            // A 256-colour pixel lasts two dots.
            Shift::Whole => vga.attribute.panning() / 2,
            _ => vga.attribute.panning(),
        };
        indices.clear();
        for column in 0..=crtc.columns() {
            let counter = source.address + column / crtc.characters_per_address();
            let address = crtc.plane_address(counter, source.row_scan);
            shift.unpack(vga.planes.cell(address as usize), &mut indices);
        }
        let shown = &indices[panning as usize..][..width as usize];
        match shift {
            Shift::Whole => colours.extend(shown.iter().map(|&index| colours_256[usize::from(index)])),
            _ => colours.extend(shown.iter().map(|&index| colours_16[usize::from(index & 0x0F)])),
        }
    }
    let doubled = matches!(shift, Shift::Whole) || vga.sequencer.half_dot_clock();
    Pixels { width, height, repeat_lines, repeat_columns: repeats(doubled), colours }
}

/// How many scan lines in a row show the same: one picture line each, unless something cuts through.
fn line_repeat(vga: &Vga) -> u32 {
    let crtc = &vga.crtc;
    let doubled = repeats(crtc.double_scan());
    let repeat = if crtc.rows_interleave() { doubled } else { doubled * crtc.row_lines() };
    let split = crtc.line_compare() + 1;
    let even = crtc.lines().is_multiple_of(repeat)
        && crtc.preset_row() == 0
        && (split >= crtc.lines() || split.is_multiple_of(repeat));
    if even { repeat } else { 1 }
}

/// A 16-colour mode of the display interface: planes, without the CRTC's addressing.
fn planar_mode(vga: &Vga, mode: Mode) -> Pixels {
    let palette = colours_16(vga);
    let mut colours = Vec::with_capacity((mode.width * mode.height) as usize);
    let mut indices = Vec::new();
    for line in 0..u64::from(mode.height) {
        let start = mode.start + line * mode.line_bytes;
        indices.clear();
        for column in 0..u64::from(mode.width.div_ceil(8)) {
            Shift::Planar.unpack(vga.planes.cell((start + column) as usize), &mut indices);
        }
        colours.extend(indices[..mode.width as usize].iter().map(|&index| palette[usize::from(index)]));
    }
    Pixels { width: mode.width, height: mode.height, repeat_lines: 1, repeat_columns: 1, colours }
}

fn packed(vga: &Vga, mode: Mode, linear: &dyn Linear) -> Pixels {
    let palette = colours_256(vga);
    let row_bytes = u64::from(mode.width) * vbe::bytes_per_pixel(mode.depth);
    let mut row = vec![0; row_bytes as usize];
    let mut colours = Vec::with_capacity((mode.width * mode.height) as usize);
    for line in 0..u64::from(mode.height) {
        let start = mode.start + line * mode.line_bytes;
        // A restored state can place the last lines outside of memory; they are dark.
        if start + row_bytes <= vbe::MEMORY_BYTES {
            linear.read(start, &mut row);
        } else {
            row.fill(0);
        }
        unpack_row(mode.depth, &row, &palette, &mut colours);
    }
    Pixels { width: mode.width, height: mode.height, repeat_lines: 1, repeat_columns: 1, colours }
}

/// Appends the pixels of a row of packed pixels.
fn unpack_row(depth: u16, row: &[u8], palette: &[u32; 256], colours: &mut Vec<u32>) {
    match depth {
        8 => colours.extend(row.iter().map(|&index| palette[usize::from(index)])),
        15 => colours.extend(row.as_chunks().0.iter().map(|&pixel| from_15(u16::from_le_bytes(pixel)))),
        16 => colours.extend(row.as_chunks().0.iter().map(|&pixel| from_16(u16::from_le_bytes(pixel)))),
        24 => colours.extend(row.as_chunks().0.iter().map(|&[b, g, r]| u32::from_le_bytes([b, g, r, 0]))),
        _ => colours.extend(row.as_chunks().0.iter().map(|&pixel| u32::from_le_bytes(pixel) & 0xFF_FFFF)),
    }
}

fn from_15(pixel: u16) -> u32 {
    let pixel = u32::from(pixel);
    five_bits(pixel >> 10) << 16 | five_bits(pixel >> 5) << 8 | five_bits(pixel)
}

fn from_16(pixel: u16) -> u32 {
    let pixel = u32::from(pixel);
    let green = pixel >> 5 & 0x3F;
    five_bits(pixel >> 11) << 16 | (green << 2 | green >> 4) << 8 | five_bits(pixel)
}

/// The low five bits as eight, so that all ones are white.
fn five_bits(value: u32) -> u32 {
    let value = value & 0x1F;
    value << 3 | value >> 2
}
