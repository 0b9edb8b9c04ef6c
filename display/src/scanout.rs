//! Scan-out: a [`Picture`] becomes the pixels of a [`Frame`], and only what differs is written.

use crate::frame::Frame;
use crate::picture::{Cursor, Picture, Pixels, Text};

/// Size of the dark frame shown before any mode is set: VGA text.
const DARK: (u32, u32) = (720, 400);
/// No adapter makes a larger frame; a picture beyond it is cut.
const LARGEST_SIDE: u32 = 16_384;

/// Draws `picture` into `frame`, which keeps its pixels between calls. Says whether anything differs
/// from what the frame showed before; then `serial` has counted up.
pub fn render(picture: &Picture, frame: &mut Frame) -> bool {
    let changed = match picture {
        Picture::Blank => blank(frame),
        Picture::Text(text) => draw_text(text, frame),
        Picture::Pixels(pixels) => draw_pixels(pixels, frame),
    };
    if changed {
        frame.serial += 1;
    }
    changed
}

fn blank(frame: &mut Frame) -> bool {
    let resized = frame.pixels.is_empty() && resize(frame, DARK.0, DARK.1);
    let lit = frame.pixels.iter().any(|&pixel| pixel != 0);
    if lit {
        frame.pixels.fill(0);
    }
    resized || lit
}

fn resize(frame: &mut Frame, width: u32, height: u32) -> bool {
    if (frame.width, frame.height) == (width, height) {
        return false;
    }
    (frame.width, frame.height) = (width, height);
    frame.pixels.clear();
    frame.pixels.resize(width as usize * height as usize, 0);
    true
}

fn draw_pixels(pixels: &Pixels, frame: &mut Frame) -> bool {
    let (across, down) = (pixels.repeat_columns.max(1), pixels.repeat_lines.max(1));
    let width = pixels.width.saturating_mul(across).min(LARGEST_SIDE);
    let height = pixels.height.saturating_mul(down).min(LARGEST_SIDE);
    let mut changed = resize(frame, width, height);
    if pixels.width == 0 || width == 0 {
        return changed;
    }
    let mut wide = vec![0; width as usize];
    let lines = frame.pixels.chunks_mut(width as usize * down as usize);
    for (source, lines) in pixels.colours.chunks_exact(pixels.width as usize).zip(lines) {
        let line = if across == 1 {
            &source[..width as usize]
        } else {
            for (group, &colour) in wide.chunks_mut(across as usize).zip(source) {
                group.fill(colour);
            }
            &wide
        };
        changed |= put_lines(line, lines);
    }
    changed
}

/// Writes `line` into each of `lines` that differs from it.
fn put_lines(line: &[u32], lines: &mut [u32]) -> bool {
    let mut changed = false;
    for shown in lines.chunks_exact_mut(line.len()) {
        if shown != line {
            shown.copy_from_slice(line);
            changed = true;
        }
    }
    changed
}

fn draw_text(text: &Text, frame: &mut Frame) -> bool {
    let (across, down) = (text.repeat_columns.max(1), text.repeat_lines.max(1));
    let cell_width = text.cell_width.clamp(1, 16);
    let cell_height = text.cell_height.clamp(1, 32);
    let width = text.columns.saturating_mul(cell_width).saturating_mul(across).min(LARGEST_SIDE);
    let height = text.rows.saturating_mul(cell_height).saturating_mul(down).min(LARGEST_SIDE);
    let mut changed = resize(frame, width, height);
    if width == 0 {
        return changed;
    }
    let mut line = Vec::with_capacity(width as usize + 32);
    let mut lines = frame.pixels.chunks_mut(width as usize * down as usize);
    for (row, cells) in text.cells.chunks_exact(text.columns as usize).take(text.rows as usize).enumerate() {
        for scan in 0..cell_height {
            let Some(shown) = lines.next() else { return changed };
            line.clear();
            for (column, &cell) in cells.iter().enumerate() {
                let cursor = text.cursor.filter(|c| (c.column, c.row) == (column as u32, row as u32));
                let (bits, ink, paper) = cell_line(text, cell, scan, cursor);
                for x in 0..cell_width {
                    let colour = if dot(text, cell, bits, x) { ink } else { paper };
                    line.extend(std::iter::repeat_n(colour, across as usize));
                }
            }
            line.resize(width as usize, 0);
            changed |= put_lines(&line, shown);
        }
    }
    changed
}

/// One scan line of a cell: its eight dots, and the colours of set and clear dots.
fn cell_line(text: &Text, cell: u16, scan: u32, cursor: Option<Cursor>) -> (u8, u32, u32) {
    let attribute = usize::from(cell >> 8);
    let font = usize::from(attribute & 0x08 != 0);
    let ink = text.colours[attribute & 0x0F];
    let blinks = text.attributes.blink && attribute & 0x80 != 0;
    let paper_mask = if text.attributes.blink { 0x07 } else { 0x0F };
    let paper = text.colours[(attribute >> 4) & paper_mask];
    let bits = text.fonts[font][usize::from(cell & 0xFF)][scan as usize];
    // Cursor and underline fill the ninth dot too.
    if cursor.is_some_and(|c| c.lit && (c.first_line..=c.last_line).contains(&scan)) {
        return (bits, ink, ink);
    }
    if blinks && !text.attributes.blink_phase {
        return (0, ink, paper);
    }
    if text.attributes.underline == Some(scan) && attribute & 0x07 == 1 {
        return (bits, ink, ink);
    }
    (bits, ink, paper)
}

/// Whether dot `x` of a cell line is set; the ninth is clear or repeats the eighth.
fn dot(text: &Text, cell: u16, bits: u8, x: u32) -> bool {
    match x {
        0..8 => bits & (0x80 >> x) != 0,
        8 => text.attributes.line_graphics && (0xC0..=0xDF).contains(&(cell & 0xFF)) && bits & 1 != 0,
        _ => false,
    }
}

#[cfg(test)]
#[path = "scanout_tests.rs"]
pub(crate) mod tests;
