//! A finished picture: what the monitor shows at one moment.

/// Pixels as 0x00RRGGBB, row by row from the top left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `width * height` pixels.
    pub pixels: Vec<u32>,
    /// Counts up with each frame that differs from the one before.
    pub serial: u64,
}
