//! Where a drive's medium sits: the host's end of a drive, with its counters. Not part of saved state.

use serde::Serialize;
use storage::{Disk, DiskError};

/// What one drive has done since power-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DriveCount {
    /// Commands, packets included.
    pub commands: u64,
    /// Bytes read from the medium.
    pub bytes_read: u64,
    /// Bytes written to the medium.
    pub bytes_written: u64,
}

/// A medium, or none, and what was done with it.
#[derive(Default)]
pub struct Bay {
    /// The medium.
    pub medium: Option<Box<dyn Disk>>,
    /// The counters.
    pub count: DriveCount,
}

impl Bay {
    /// A bay with a medium in it.
    pub fn with(medium: Box<dyn Disk>) -> Bay {
        Bay { medium: Some(medium), count: DriveCount::default() }
    }

    /// Length of the medium in bytes; 0 without one.
    pub fn length_bytes(&self) -> u64 {
        self.medium.as_ref().map_or(0, |medium| medium.length_bytes())
    }

    /// Whether writes are refused.
    pub fn is_read_only(&self) -> bool {
        self.medium.as_ref().is_none_or(|medium| medium.is_read_only())
    }

    /// Reads, and counts what was read.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let bytes = buffer.len() as u64;
        let medium = self.medium.as_mut().ok_or(DiskError::OutOfRange { offset, bytes })?;
        medium.read_at(offset, buffer)?;
        self.count.bytes_read += bytes;
        Ok(())
    }

    /// Writes, and counts what was written.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let length = bytes.len() as u64;
        let medium = self.medium.as_mut().ok_or(DiskError::OutOfRange { offset, bytes: length })?;
        medium.write_at(offset, bytes)?;
        self.count.bytes_written += length;
        Ok(())
    }

    /// Brings all earlier writes to the host's disk.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        self.medium.as_mut().map_or(Ok(()), |medium| medium.flush())
    }
}
