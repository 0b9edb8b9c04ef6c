//! What a video adapter scans out at one moment: its mode, and the part of video memory that shows.
//!
//! The adapter fills a [`Picture`]; the scan-out turns it into a [`crate::Frame`]. Fields are plain
//! data so that a test can make any picture without an adapter.

/// A moment of scan-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Picture {
    /// The monitor is dark (screen off, sequencer reset, no mode set).
    Blank,
    /// Character cells.
    Text(Text),
    /// Palette indices or colours, already in the order of the screen.
    Pixels(Pixels),
}

/// A text screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Character columns.
    pub columns: u32,
    /// Character rows.
    pub rows: u32,
    /// Width of a cell in pixels: 8 or 9.
    pub cell_width: u32,
    /// Height of a cell in scan lines, 1 to 32.
    pub cell_height: u32,
    /// How often each line is shown (200-line text: 2).
    pub repeat_lines: u32,
    /// How often each pixel is shown (40-column text: 2).
    pub repeat_columns: u32,
    /// `columns * rows` cells: character in the low byte, attribute in the high byte.
    pub cells: Vec<u16>,
    /// Two fonts, the second for characters whose attribute has bit 3; 256 glyphs of 32 lines each.
    pub fonts: Box<[[[u8; 32]; 256]; 2]>,
    /// The 16 colours, 0x00RRGGBB.
    pub colours: [u32; 16],
    /// Where the cursor is and which scan lines it covers; `None` when it is switched off or outside.
    pub cursor: Option<Cursor>,
    /// How attributes are read.
    pub attributes: Attributes,
}

/// A text cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Column.
    pub column: u32,
    /// Row.
    pub row: u32,
    /// First scan line of the cell that it covers.
    pub first_line: u32,
    /// Last scan line of the cell that it covers.
    pub last_line: u32,
    /// Whether it shows now: it blinks, twice as fast as characters do.
    pub lit: bool,
}

/// The attribute controller's mode bits that matter for text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Attribute bit 7 blinks the character instead of brightening the background.
    pub blink: bool,
    /// In 9-pixel cells, characters 0xC0 to 0xDF repeat their eighth column.
    pub line_graphics: bool,
    /// Whether blinking characters show now.
    pub blink_phase: bool,
    /// In monochrome text, the scan line on which attribute colour 1 underlines.
    pub underline: Option<u32>,
}

/// A graphics screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Width in guest pixels.
    pub width: u32,
    /// Height in guest lines.
    pub height: u32,
    /// How often each line is shown (double-scanned modes: 2).
    pub repeat_lines: u32,
    /// How often each pixel is shown (320-pixel modes on a VGA: 2).
    pub repeat_columns: u32,
    /// `width * height` pixels, 0x00RRGGBB.
    pub colours: Vec<u32>,
}
