//! The floppy formats a PC knows, told by the length of the image. Sectors are of 512 bytes in all of them.

use crate::disk::SECTOR;

/// The layout of a floppy disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloppyGeometry {
    /// Tracks per side.
    pub cylinders: u8,
    /// Sides.
    pub heads: u8,
    /// Sectors per track.
    pub sectors: u8,
    /// Bits per second the controller must be set to, in thousands (MFM).
    pub rate_kbps: u16,
    /// What the format is called.
    pub name: &'static str,
}

const fn format(cylinders: u8, heads: u8, sectors: u8, rate_kbps: u16, name: &'static str) -> FloppyGeometry {
    FloppyGeometry { cylinders, heads, sectors, rate_kbps, name }
}

/// Every known format, smallest first. No two have the same length.
pub const FLOPPY_FORMATS: [FloppyGeometry; 11] = [
    format(40, 1, 8, 250, "160 KB"),
    format(40, 1, 9, 250, "180 KB"),
    format(40, 2, 8, 250, "320 KB"),
    format(40, 2, 9, 250, "360 KB"),
    format(80, 2, 8, 250, "640 KB"),
    format(80, 2, 9, 250, "720 KB"),
    format(80, 2, 15, 500, "1.2 MB"),
    format(80, 2, 18, 500, "1.44 MB"),
    format(80, 2, 21, 500, "1.68 MB"),
    format(82, 2, 21, 500, "1.72 MB"),
    format(80, 2, 36, 1000, "2.88 MB"),
];

impl FloppyGeometry {
    /// The 3½-inch high-density format that a boot sector is padded to.
    pub const HD_1440K: FloppyGeometry = FLOPPY_FORMATS[7];

    /// The format of an image of this length, if there is one.
    pub fn of_length(length_bytes: u64) -> Option<FloppyGeometry> {
        FLOPPY_FORMATS.into_iter().find(|format| format.length_bytes() == length_bytes)
    }

    /// Length of an image in bytes.
    pub fn length_bytes(&self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors) * SECTOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_length() {
        assert_eq!(FloppyGeometry::of_length(1_474_560), Some(FloppyGeometry::HD_1440K));
        assert_eq!(FloppyGeometry::of_length(163_840).unwrap().name, "160 KB");
        assert_eq!(FloppyGeometry::of_length(2_949_120).unwrap().rate_kbps, 1000);
        assert_eq!(FloppyGeometry::of_length(1_474_559), None);
        assert!(FLOPPY_FORMATS.windows(2).all(|pair| pair[0].length_bytes() < pair[1].length_bytes()));
    }
}
