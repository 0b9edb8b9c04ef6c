//! A disk in this process's memory: built-in images, padded boot sectors, and tests. At most 64 MiB.

use crate::disk::{Disk, DiskError, SECTOR, check_range};

/// The largest disk kept in memory, in bytes.
pub const MEMORY_DISK_MAX_BYTES: u64 = 64 << 20;

/// A disk whose content is lost when it is dropped.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    bytes: Vec<u8>,
    read_only: bool,
}

/// An image too large to be kept in memory.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an image of {length_bytes} bytes is too large to be kept in memory (at most {MEMORY_DISK_MAX_BYTES}); \
     save it as a file and attach that"
)]
pub struct TooLarge {
    /// The length asked for.
    pub length_bytes: u64,
}

impl MemoryDisk {
    /// A disk with this content, its last sector completed with zeros.
    pub fn new(bytes: Vec<u8>) -> Result<MemoryDisk, TooLarge> {
        let length = bytes.len() as u64;
        MemoryDisk::padded(bytes, length)
    }

    /// A disk of at least `length_bytes`: this content, then zeros. A boot sector becomes a floppy so.
    pub fn padded(mut bytes: Vec<u8>, length_bytes: u64) -> Result<MemoryDisk, TooLarge> {
        let length_bytes = length_bytes.max(bytes.len() as u64).max(1);
        if length_bytes > MEMORY_DISK_MAX_BYTES {
            return Err(TooLarge { length_bytes });
        }
        bytes.resize(length_bytes.next_multiple_of(SECTOR) as usize, 0);
        Ok(MemoryDisk { bytes, read_only: false })
    }

    /// The same disk, refusing writes.
    pub fn read_only(mut self) -> MemoryDisk {
        self.read_only = true;
        self
    }

    /// The whole content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Disk for MemoryDisk {
    fn length_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes(), offset, buffer.len() as u64)?;
        buffer.copy_from_slice(&self.bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if self.read_only {
            return Err(DiskError::ReadOnly);
        }
        check_range(self.length_bytes(), offset, bytes.len() as u64)?;
        self.bytes[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_padded_to_the_length_asked_for() {
        let mut disk = MemoryDisk::padded(vec![1; 513], 2000).unwrap();
        assert_eq!(disk.length_bytes(), 2048);
        let mut two = [9; 2];
        disk.read_at(512, &mut two).unwrap();
        assert_eq!(two, [1, 0]);
        assert_eq!(MemoryDisk::new(vec![1; 513]).unwrap().length_bytes(), 1024);
    }

    #[test]
    fn it_is_bounded() {
        let error = MemoryDisk::padded(Vec::new(), MEMORY_DISK_MAX_BYTES + 1).unwrap_err();
        assert_eq!(error, TooLarge { length_bytes: MEMORY_DISK_MAX_BYTES + 1 });
    }

    #[test]
    fn a_read_only_disk_keeps_its_content() {
        let mut disk = MemoryDisk::new(vec![3; 512]).unwrap().read_only();
        assert!(matches!(disk.write_at(0, &[1]), Err(DiskError::ReadOnly)));
        assert_eq!(disk.bytes(), [3; 512]);
    }
}
