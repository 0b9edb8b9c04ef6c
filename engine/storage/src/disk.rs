//! What a disk is to the devices in front of it.

use std::io;
use std::path::PathBuf;

/// Bytes of one sector, the unit a guest's disk commands count in.
pub const SECTOR: u64 = 512;

/// A disk image, opened. Offsets and lengths are in bytes and need no alignment.
pub trait Disk: Send {
    /// Length in bytes.
    fn length_bytes(&self) -> u64;

    /// Whether writes are refused.
    fn is_read_only(&self) -> bool;

    /// Fills `buffer` from `offset`.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Returns when all earlier writes are on the host's disk.
    fn flush(&mut self) -> Result<(), DiskError>;

    /// Makes zeros of a range, in as little room as the format can.
    fn write_zeros(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        let zeros = vec![0; (64 << 10).min(length_bytes) as usize];
        let mut done = 0;
        while done < length_bytes {
            let now = (length_bytes - done).min(zeros.len() as u64);
            self.write_at(offset + done, &zeros[..now as usize])?;
            done += now;
        }
        Ok(())
    }

    /// The content of a range is no longer needed: it may read as zeros from now on, and its room may be
    /// given back. A disk that cannot do that leaves it as it is.
    fn discard(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        check_range(self.length_bytes(), offset, length_bytes)
    }

    /// The run that starts at `offset`, which is before the end: whether it is known to be zeros.
    fn extent(&mut self, offset: u64) -> Result<Extent, DiskError> {
        Ok(Extent { length_bytes: self.length_bytes() - offset, is_zero: false })
    }
}

/// A run of bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How long it is, at least 1.
    pub length_bytes: u64,
    /// Known to read as zeros, without a look at the data.
    pub is_zero: bool,
}

/// Why a disk did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The access reaches past the end.
    #[error("the access at byte {offset} ({bytes} bytes) reaches past the end of the disk")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        bytes: u64,
    },
    /// The image was opened for reading only.
    #[error("the disk is read-only")]
    ReadOnly,
    /// There is no room on the host's disk. Nothing is lost: the same access succeeds when there is room.
    #[error("the host's disk is full: {0}. Make room there, then continue")]
    Full(#[source] io::Error),
    /// The host could not do it.
    #[error("the host could not access the disk image: {0}")]
    Host(#[source] io::Error),
    /// The image contradicts itself.
    #[error("{path} is damaged: {what}. `vitrine disk check` says more")]
    Damaged {
        /// The image.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The format, or this image, does not allow it.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The guest tried to make its raw disk look like something else, which would then be believed when it is
    /// opened next.
    #[error("a raw disk may not start with the mark of {0}, which it would be taken for; a qcow2 disk may")]
    Disguise(&'static str),
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> DiskError {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded => DiskError::Full(error),
            _ => DiskError::Host(error),
        }
    }
}

/// Why an image cannot be made longer.
pub(crate) const NOT_LONGER: &str = "it has no room in its tables for that length. Make a longer copy of it: \
    `vitrine disk convert OLD NEW --size SIZE --format FORMAT`";

/// Why an image cannot be made shorter.
pub(crate) const NOT_SHORTER: &str = "images of its format cannot be made shorter. Copies in another can: \
    `vitrine disk convert OLD NEW.qcow2`, then `vitrine disk resize NEW.qcow2 SIZE --shrink`";

/// Why no image can be so long.
pub(crate) const TOO_LONG: &str = "no disk can be that long";

/// Checks that an access lies inside a disk of `length_bytes`.
pub(crate) fn check_range(length_bytes: u64, offset: u64, bytes: u64) -> Result<(), DiskError> {
    match offset.checked_add(bytes) {
        Some(end) if end <= length_bytes => Ok(()),
        _ => Err(DiskError::OutOfRange { offset, bytes }),
    }
}

/// How many bytes of block `block` a disk of `disk_bytes` has: its last block may be cut where the disk ends, and none
/// behind it has any.
pub(crate) fn block_on_disk(block: u64, block_bytes: u64, disk_bytes: u64) -> u64 {
    block_bytes.min(disk_bytes.saturating_sub(block.saturating_mul(block_bytes)))
}

/// What is said of a block that a cut file does not hold.
pub(crate) fn not_in_file(what: &str, number: impl std::fmt::Display) -> String {
    format!("{what} {number} does not lie in the file, which may be cut")
}

/// Reads from a disk that may be shorter than the one in front of it; past its end there are zeros.
pub(crate) fn read_padded(disk: &mut dyn Disk, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
    let stored = disk.length_bytes().saturating_sub(offset).min(buffer.len() as u64) as usize;
    let (stored, past) = buffer.split_at_mut(stored);
    past.fill(0);
    if stored.is_empty() { Ok(()) } else { disk.read_at(offset, stored) }
}

/// The extent of a disk behind another, which may be longer and is `length_bytes` long.
pub(crate) fn extent_padded(
    disk: Option<&mut Box<dyn Disk>>,
    offset: u64,
    length_bytes: u64,
) -> Result<Extent, DiskError> {
    match disk {
        Some(disk) if offset < disk.length_bytes() => {
            let extent = disk.extent(offset)?;
            Ok(Extent { length_bytes: extent.length_bytes.min(length_bytes), ..extent })
        }
        _ => Ok(Extent { length_bytes, is_zero: true }),
    }
}
