//! A CD or DVD image: a read-only raw file of 2048-byte blocks (ECMA-119). The last block, if the file
//! stops inside it, is completed with zeros. Left out on purpose: images of raw 2352-byte sectors (bin/cue).

use std::path::Path;

use crate::disk::{Disk, DiskError, check_range, read_padded};
use crate::format::Format;
use crate::image::{Image, format};
use crate::open::OpenError;
use crate::raw::RawDisk;
use crate::store::{Access, HostFile};

/// Bytes of one block of a data CD or DVD.
pub const BLOCK: u64 = 2048;

/// An opened CD or DVD image.
pub struct IsoDisk {
    disk: Box<dyn Disk>,
    length_bytes: u64,
}

impl IsoDisk {
    /// Opens an image: a plain one, or one in an image format.
    pub fn open(path: &Path) -> Result<IsoDisk, OpenError> {
        let disk: Box<dyn Disk> = match format(path)? {
            Format::Raw => Box::new(RawDisk::of_any_length(HostFile::open(path, Access::ReadOnly)?)),
            _ => Box::new(Image::open(path, Access::ReadOnly)?),
        };
        let length_bytes = disk.length_bytes().next_multiple_of(BLOCK);
        Ok(IsoDisk { disk, length_bytes })
    }
}

impl Disk for IsoDisk {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes, offset, buffer.len() as u64)?;
        read_padded(&mut *self.disk, offset, buffer)
    }

    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        Err(DiskError::ReadOnly)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_is_completed_with_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cd.iso");
        std::fs::write(&path, vec![7; 2048 + 3]).unwrap();
        let mut disc = IsoDisk::open(&path).unwrap();
        assert_eq!(disc.length_bytes(), 4096);
        let mut bytes = [1; 6];
        disc.read_at(2048, &mut bytes).unwrap();
        assert_eq!(bytes, [7, 7, 7, 0, 0, 0]);
        disc.read_at(4090, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 6]);
        assert!(matches!(disc.read_at(4091, &mut bytes), Err(DiskError::OutOfRange { .. })));
        assert!(matches!(disc.write_at(0, &[1]), Err(DiskError::ReadOnly)));
    }
}
