//! The character generator of a machine that starts without firmware: code page 437, 8 dots wide.
//!
//! The 8x16 glyphs are Spleen (BSD-2-Clause), the 8x8 glyphs font8x8 (public domain), both taken from
//! their crates and put in the order of code page 437 here. Thirteen glyphs that Spleen lacks are drawn
//! below, and all line graphics in their own file. What font8x8 lacks (the pictures of the control codes,
//! some mathematics) is the 8x16 glyph at half height; 8x14 is 8x16 with two lines left out.

use font8x8::UnicodeFonts;

use crate::line_graphics::line_graphics;
use crate::text::CODE_PAGE_437;

/// 256 glyphs of up to 32 lines, highest bit left: the layout of a font in VGA plane 2.
pub type Glyphs = [[u8; 32]; 256];

/// The 16-line font of the 400-line text modes.
pub fn font_8x16() -> Box<Glyphs> {
    let spleen = Psf1::parse(spleen_font::FONT_8X16);
    let mut font = glyphs(|character| {
        let drawn = DRAWN.iter().find(|(drawn, _)| *drawn == character).map(|(_, glyph)| *glyph);
        drawn.or_else(|| spleen.as_ref()?.glyph(character)).unwrap_or([0; 16])
    });
    draw_line_graphics(&mut font, 16);
    font
}

/// The 14-line font of the 350-line text modes.
pub fn font_8x14() -> Box<Glyphs> {
    let mut font = font_8x16();
    for glyph in font.iter_mut() {
        let mut lines = glyph[..16].to_vec();
        lines.pop();
        // An accent begins on the first line: then one of two equal lines below it goes instead.
        let spare = (1..11).find(|&line| lines[0] != 0 && lines[line] == lines[line + 1]).unwrap_or(0);
        lines.remove(spare);
        lines.resize(32, 0);
        glyph.copy_from_slice(&lines);
    }
    draw_line_graphics(&mut font, 14);
    font
}

/// The 8-line font of the 200-line modes.
pub fn font_8x8() -> Box<Glyphs> {
    let tall = font_8x16();
    let mut font = glyphs(|character| glyph_8x8(character).unwrap_or([0; 8]));
    for (code, glyph) in font.iter_mut().enumerate() {
        if glyph_8x8(CODE_PAGE_437[code]).is_none() {
            for line in 0..8 {
                glyph[line] = tall[code][2 * line] | tall[code][2 * line + 1];
            }
        }
    }
    draw_line_graphics(&mut font, 8);
    font
}

fn draw_line_graphics(font: &mut Glyphs, height: usize) {
    for (code, glyph) in font.iter_mut().enumerate() {
        if let Some(drawn) = line_graphics(code, height) {
            *glyph = drawn;
        }
    }
}

fn blank() -> Box<Glyphs> {
    Box::new([[0; 32]; 256])
}

fn glyphs<const LINES: usize>(glyph: impl Fn(char) -> [u8; LINES]) -> Box<Glyphs> {
    let mut font = blank();
    for (target, &character) in font.iter_mut().zip(&CODE_PAGE_437) {
        target[..LINES].copy_from_slice(&glyph(character));
    }
    font
}

/// A glyph of font8x8, whose lowest bit is left.
fn glyph_8x8(character: char) -> Option<[u8; 8]> {
    let glyph = font8x8::BASIC_FONTS
        .get(character)
        .or_else(|| font8x8::LATIN_FONTS.get(character))
        .or_else(|| font8x8::BOX_FONTS.get(character))
        .or_else(|| font8x8::BLOCK_FONTS.get(character))
        .or_else(|| font8x8::GREEK_FONTS.get(character))
        .or_else(|| font8x8::MISC_FONTS.get(character))?;
    Some(glyph.map(u8::reverse_bits))
}

/// A PC screen font, version 1, 16 lines high, with its Unicode table: the format of Spleen's 8x16.
struct Psf1<'a> {
    glyphs: &'a [u8],
    table: &'a [u8],
}

impl<'a> Psf1<'a> {
    const HEIGHT: usize = 16;
    const END_OF_GLYPH: u16 = 0xFFFF;

    fn parse(file: &'a [u8]) -> Option<Psf1<'a>> {
        let (&[0x36, 0x04, mode, 16], rest) = file.split_first_chunk()? else { return None };
        let count = if mode & 1 != 0 { 512 } else { 256 };
        let (glyphs, table) = rest.split_at_checked(count * Self::HEIGHT)?;
        (mode & 2 != 0).then_some(Psf1 { glyphs, table })
    }

    fn glyph(&self, character: char) -> Option<[u8; 16]> {
        let mut index = 0;
        for entry in self.table.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])) {
            if entry == Self::END_OF_GLYPH {
                index += 1;
            } else if u32::from(entry) == u32::from(character) {
                let glyph = self.glyphs.get(index * Self::HEIGHT..(index + 1) * Self::HEIGHT)?;
                return glyph.try_into().ok();
            }
        }
        None
    }
}

/// Drawn in Spleen's proportions: two dots for upright strokes, base line after line 11.
const DRAWN: [(char, [u8; 16]); 13] = [
    ('▲', [0, 0, 0, 0, 0x10, 0x10, 0x38, 0x38, 0x7C, 0x7C, 0xFE, 0xFE, 0, 0, 0, 0]),
    ('▼', [0, 0, 0, 0, 0xFE, 0xFE, 0x7C, 0x7C, 0x38, 0x38, 0x10, 0x10, 0, 0, 0, 0]),
    ('►', [0, 0, 0, 0xC0, 0xE0, 0xF8, 0xFC, 0xFE, 0xFC, 0xF8, 0xE0, 0xC0, 0, 0, 0, 0]),
    ('◄', [0, 0, 0, 0x06, 0x0E, 0x3E, 0x7E, 0xFE, 0x7E, 0x3E, 0x0E, 0x06, 0, 0, 0, 0]),
    ('∟', [0, 0, 0, 0, 0, 0xC0, 0xC0, 0xC0, 0xC0, 0xC0, 0xFE, 0xFE, 0, 0, 0, 0]),
    ('α', [0, 0, 0, 0, 0, 0x76, 0xDC, 0xCC, 0xCC, 0xCC, 0xDC, 0x76, 0, 0, 0, 0]),
    ('Σ', [0, 0, 0xFE, 0xC2, 0x60, 0x30, 0x18, 0x18, 0x30, 0x60, 0xC2, 0xFE, 0, 0, 0, 0]),
    ('σ', [0, 0, 0, 0, 0, 0x7E, 0xD8, 0xCC, 0xCC, 0xCC, 0xCC, 0x78, 0, 0, 0, 0]),
    ('τ', [0, 0, 0, 0, 0, 0x7E, 0x18, 0x18, 0x18, 0x18, 0x1A, 0x0C, 0, 0, 0, 0]),
    ('Θ', [0, 0, 0x7C, 0xC6, 0xC6, 0xC6, 0xFE, 0xC6, 0xC6, 0xC6, 0xC6, 0x7C, 0, 0, 0, 0]),
    ('δ', [0, 0, 0x3C, 0x60, 0x30, 0x18, 0x7C, 0xC6, 0xC6, 0xC6, 0xC6, 0x7C, 0, 0, 0, 0]),
    ('φ', [0, 0, 0, 0x18, 0x18, 0x7E, 0xDB, 0xDB, 0xDB, 0xDB, 0xDB, 0x7E, 0x18, 0x18, 0, 0]),
    ('ε', [0, 0, 0, 0, 0, 0x3C, 0x66, 0x60, 0x38, 0x60, 0x66, 0x3C, 0, 0, 0, 0]),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes that show nothing: NUL, space, and the no-break space.
    const EMPTY: [usize; 3] = [0x00, 0x20, 0xFF];

    #[test]
    fn every_code_has_its_own_glyph_within_its_height() {
        for (font, height) in [(font_8x8(), 8), (font_8x14(), 14), (font_8x16(), 16)] {
            for (code, glyph) in font.iter().enumerate() {
                assert_eq!(*glyph == [0; 32], EMPTY.contains(&code), "{code:#04x} at height {height}");
                assert!(glyph[height..].iter().all(|&line| line == 0));
            }
            for code in b'!'..b'~' {
                assert_ne!(font[usize::from(code)], font[usize::from(code) + 1]);
            }
        }
    }

    #[test]
    fn line_graphics_meet_their_neighbours() {
        for (font, height) in [(font_8x8(), 8), (font_8x14(), 14), (font_8x16(), 16)] {
            let upright = &font[0xB3][..height];
            assert!(upright.iter().all(|&line| line == upright[0] && line != 0), "│ at height {height}");
            let level: Vec<u8> = font[0xC4][..height].iter().copied().filter(|&line| line != 0).collect();
            assert!(!level.is_empty() && level.iter().all(|&line| line == 0xFF), "─ at height {height}");
            assert!(font[0xDB][..height].iter().all(|&line| line == 0xFF), "█ at height {height}");
        }
    }

    #[test]
    fn letters_are_upright_and_not_mirrored() {
        for font in [font_8x8(), font_8x16()] {
            let ink = |code: u8| font[usize::from(code)].iter().fold(0, |ink, line| ink | line);
            let left = |code: u8| {
                font[usize::from(code)].iter().filter(|&line| line & ink(code) & 0xF0 != 0).count()
            };
            let right = |code: u8| {
                font[usize::from(code)].iter().filter(|&line| line & ink(code) & 0x0E != 0).count()
            };
            assert!(left(b'L') > right(b'L'), "L has its stem on the left");
            assert!(left(b'[') > right(b'['));
            assert!(left(b']') <= right(b']') || left(b']') < left(b'['));
        }
    }
}
