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
        check_range(self.length_bytes(), offset, length_bytes as usize)
    }
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
