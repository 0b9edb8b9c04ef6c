//! What a disk is to the devices in front of it.

use std::io;

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
    /// The host could not do it.
    #[error("the host could not access the disk image: {0}")]
    Host(#[from] io::Error),
}

/// Checks that an access lies inside a disk of `length_bytes`.
pub(crate) fn check_range(length_bytes: u64, offset: u64, bytes: usize) -> Result<(), DiskError> {
    let bytes = bytes as u64;
    match offset.checked_add(bytes) {
        Some(end) if end <= length_bytes => Ok(()),
        _ => Err(DiskError::OutOfRange { offset, bytes }),
    }
}
