//! A floppy drive: its head's position, its disk-change line, and the disk in it.
//!
//! The motor is always at speed and a step takes no time. Left out: deleted-data marks and sector sizes
//! other than 512, which an image of plain sectors cannot hold.

use serde::{Deserialize, Serialize};
use storage::{DiskError, FloppyGeometry};

use crate::ide::Bay;

/// The last track the head can reach.
const LAST_TRACK: u8 = 83;

/// A drive's mechanical state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drive {
    /// Where the head stands.
    pub track: u8,
    /// The disk was changed, and no step pulse came since.
    pub changed: bool,
    /// The sector whose ID passed under the head last.
    rotation: u8,
}

impl Drive {
    /// A drive after power-on: a disk in it counts as changed.
    pub fn new() -> Drive {
        Drive { track: 0, changed: true, rotation: 0 }
    }

    /// Step pulses towards the spindle (positive) or outwards. The first one clears the disk-change
    /// line, if there is a disk.
    pub fn step(&mut self, tracks: i16, has_disk: bool) {
        if tracks != 0 && has_disk {
            self.changed = false;
        }
        self.track = (i16::from(self.track) + tracks).clamp(0, LAST_TRACK.into()) as u8;
    }

    /// The next sector ID to pass under the head.
    pub fn rotate(&mut self, geometry: &FloppyGeometry) -> u8 {
        self.rotation = self.rotation % geometry.sectors.max(1) + 1;
        self.rotation
    }

    /// Whether a loaded state is one that a drive can be in.
    pub fn is_valid(&self) -> bool {
        self.track <= LAST_TRACK
    }
}

impl Default for Drive {
    fn default() -> Drive {
        Drive::new()
    }
}

/// The disk in a drive: its layout comes from its length.
#[derive(Default)]
pub struct FloppyBay {
    /// The disk and its counters.
    pub bay: Bay,
    geometry: Option<FloppyGeometry>,
}

impl FloppyBay {
    /// Changes the disk; one of unknown length is not taken.
    pub fn set(&mut self, disk: Option<Box<dyn storage::Disk>>) -> Option<Box<dyn storage::Disk>> {
        self.geometry = disk.as_ref().and_then(|disk| FloppyGeometry::of_length(disk.length_bytes()));
        std::mem::replace(&mut self.bay.medium, disk)
    }

    /// The layout of the disk in the drive, if there is one.
    pub fn geometry(&self) -> Option<FloppyGeometry> {
        self.geometry
    }

    /// Reads the sector at byte `offset`.
    pub fn read(&mut self, offset: u64, sector: &mut [u8]) -> Result<(), DiskError> {
        self.bay.read(offset, sector)
    }

    /// Writes the sector at byte `offset`.
    pub fn write(&mut self, offset: u64, sector: &[u8]) -> Result<(), DiskError> {
        self.bay.write(offset, sector)
    }
}
