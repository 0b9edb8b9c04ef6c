//! Mode 3 as a BIOS leaves it: 80x25 characters, 16 colours, 720x400. For machines without firmware.
//!
//! IBM PS/2 Hardware Interface Technical Reference, "VGA register values by mode".

use display::font;

use crate::vga::Vga;

const MISC_OUTPUT: u8 = 0x67;
const SEQUENCER: [u8; 5] = [0x03, 0x00, 0x03, 0x00, 0x02];
const CRTC: [u8; 25] = [
    0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00, 0x00, 0x00, 0x00, 0x9C,
    0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF,
];
const GRAPHICS: [u8; 9] = [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x0F, 0xFF];
const ATTRIBUTE: [u8; 21] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F, 0x0C,
    0x00, 0x0F, 0x08, 0x00,
];
/// Attribute controller index with the screen on.
const SCREEN_ON: u8 = 0x20;
/// A space, light grey on black.
const EMPTY_CELL: u32 = 0x0720;

/// Programs mode 3, its palette and its font, and clears the screen.
pub(super) fn set_text_mode(vga: &mut Vga) {
    vga.vbe = Default::default();
    vga.misc_output = MISC_OUTPUT;
    vga.sequencer.registers = SEQUENCER;
    vga.crtc.registers = CRTC;
    vga.graphics.registers = GRAPHICS;
    vga.attribute.registers = ATTRIBUTE;
    (vga.attribute.index, vga.attribute.data_next) = (SCREEN_ON, false);
    set_palette(vga);
    let font = font::font_8x16();
    for address in 0..0x1_0000 {
        let glyph_line = font.as_flattened().get(address).copied().unwrap_or(0);
        vga.planes.set_cell(address, u32::from(glyph_line) << 16 | EMPTY_CELL);
    }
}

/// The 64 colours of the EGA: two bits per component, the lower one weaker.
fn set_palette(vga: &mut Vga) {
    vga.dac = Default::default();
    vga.dac.set_write_index(0);
    for colour in 0..64u8 {
        for component in [2, 1, 0] {
            let (strong, weak) = (colour >> component & 1, colour >> (component + 3) & 1);
            vga.dac.write(strong * 0x2A + weak * 0x15);
        }
    }
    vga.dac.set_write_index(0);
}
