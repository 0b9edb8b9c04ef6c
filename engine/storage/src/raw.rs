//! A raw disk image: byte n of the file is byte n of the disk. Also host disks (`/dev/sdx`).
//!
//! A guest may not write the mark of an image format to the start of its raw disk: told by content, the disk
//! would be opened as that format next time, with any file of the host as its backing file. Nor the mark of an
//! image that is not read here: its disk would not be opened again.

use std::io;
use std::path::Path;

use crate::disk::{Disk, DiskError, Extent, SECTOR, TOO_LONG, check_range};
use crate::foreign::Foreign;
use crate::format::{Format, refuse_disguise};
use crate::open::OpenError;
use crate::store::Store;
pub use crate::store::{Access, HostFile};

/// An opened raw image. Dropping it gives up the lock.
#[derive(Debug)]
pub struct RawDisk {
    file: HostFile,
}

impl RawDisk {
    /// Opens a raw disk image, whose length must be a whole number of sectors.
    pub fn open(path: &Path, access: Access) -> Result<RawDisk, OpenError> {
        RawDisk::with_file(HostFile::open(path, access)?)
    }

    /// A disk in a file that is opened already.
    pub(crate) fn with_file(file: HostFile) -> Result<RawDisk, OpenError> {
        let length_bytes = file.length_bytes();
        if !length_bytes.is_multiple_of(SECTOR) {
            return Err(OpenError::PartialSector { path: file.path().to_owned(), length_bytes });
        }
        Ok(RawDisk { file })
    }

    /// A disk in a file of any length, to be read with care for its end.
    pub(crate) fn of_any_length(file: HostFile) -> RawDisk {
        RawDisk { file }
    }

    /// Makes a new image of zeros that takes no room on the host until it is written, and opens it.
    /// `length_bytes` is rounded up to whole sectors.
    pub fn create(path: &Path, length_bytes: u64) -> Result<RawDisk, OpenError> {
        let host = |error| OpenError::from_host(path, "made", true, error);
        let length_bytes = length_bytes.max(1).checked_next_multiple_of(SECTOR);
        let length_bytes = length_bytes.ok_or_else(|| host(io::ErrorKind::FileTooLarge.into()))?;
        let mut file = HostFile::create(path)?;
        file.set_length(length_bytes).map_err(host)?;
        Ok(RawDisk { file })
    }

    /// Changes the length, rounded up to whole sectors; what is cut off is lost.
    pub fn resize(&mut self, length_bytes: u64) -> Result<(), DiskError> {
        let whole = length_bytes.max(1).checked_next_multiple_of(SECTOR);
        let length_bytes = whole.ok_or(DiskError::Unsupported(TOO_LONG))?;
        Ok(self.file.set_length(length_bytes)?)
    }

    /// The file behind the disk.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl Disk for RawDisk {
    fn length_bytes(&self) -> u64 {
        self.file.length_bytes()
    }

    fn is_read_only(&self) -> bool {
        self.file.access() == Access::ReadOnly
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes(), offset, buffer.len() as u64)?;
        Ok(self.file.read_at(offset, buffer)?)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        check_range(self.length_bytes(), offset, bytes.len() as u64)?;
        refuse_disguise(&self.file, offset, bytes, mark)?;
        Ok(self.file.write_at(offset, bytes)?)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Ok(());
        }
        Ok(self.file.sync()?)
    }

    fn write_zeros(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        check_range(self.length_bytes(), offset, length_bytes)?;
        Ok(self.file.punch(offset, length_bytes)?)
    }

    fn discard(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        self.write_zeros(offset, length_bytes)
    }

    fn extent(&mut self, offset: u64) -> Result<Extent, DiskError> {
        let run = self.file.run_at(offset)?;
        Ok(Extent { length_bytes: run.length_bytes, is_zero: run.is_hole })
    }
}

/// What a file with this first sector is taken for, if not for a raw disk.
fn mark(head: &[u8]) -> Option<&'static str> {
    let foreign = || Foreign::of_head(head).filter(|form| form.is_image()).map(Foreign::name);
    Format::of_head(head).map(Format::name).or_else(foreign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn image(length: usize) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        std::fs::write(&path, vec![0xA5; length]).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_written_is_in_the_file() {
        let (_folder, path) = image(1024);
        let mut disk = RawDisk::open(&path, Access::ReadWrite).unwrap();
        disk.write_at(510, &[1, 2, 3, 4]).unwrap();
        disk.flush().unwrap();
        let mut four = [0; 4];
        disk.read_at(511, &mut four).unwrap();
        assert_eq!(four, [2, 3, 4, 0xA5]);
        assert_eq!(std::fs::read(&path).unwrap()[509..515], [0xA5, 1, 2, 3, 4, 0xA5]);
    }

    #[test]
    fn accesses_past_the_end_are_refused_and_do_not_grow_the_file() {
        let (_folder, path) = image(1024);
        let mut disk = RawDisk::open(&path, Access::ReadWrite).unwrap();
        assert!(matches!(
            disk.write_at(1023, &[0; 2]),
            Err(DiskError::OutOfRange { offset: 1023, bytes: 2 })
        ));
        assert!(matches!(disk.read_at(u64::MAX, &mut [0; 2]), Err(DiskError::OutOfRange { .. })));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1024);
    }

    #[test]
    fn a_partial_sector_is_named_with_its_remedy() {
        let (_folder, path) = image(1000);
        let error = RawDisk::open(&path, Access::ReadOnly).unwrap_err().to_string();
        assert!(error.contains("1000 bytes") && error.contains("truncate -s %512"), "{error}");
    }

    #[test]
    fn two_writers_are_refused_and_two_readers_are_not() {
        let (_folder, path) = image(512);
        let first = RawDisk::open(&path, Access::ReadWrite).unwrap();
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let error = RawDisk::open(&path, access).unwrap_err();
            assert!(matches!(error, OpenError::InUse { .. }), "{error}");
            assert!(error.to_string().contains("disk.img"));
        }
        drop(first);
        let _reader = RawDisk::open(&path, Access::ReadOnly).unwrap();
        let _another = RawDisk::open(&path, Access::ReadOnly).unwrap();
        assert!(matches!(RawDisk::open(&path, Access::ReadWrite), Err(OpenError::InUse { .. })));
    }

    #[test]
    fn a_read_only_disk_refuses_writes() {
        let (_folder, path) = image(512);
        let mut disk = RawDisk::open(&path, Access::ReadOnly).unwrap();
        assert!(matches!(disk.write_at(0, &[0]), Err(DiskError::ReadOnly)));
        disk.flush().unwrap();
    }

    #[test]
    fn missing_empty_and_folder_are_told_apart() {
        let (folder, path) = image(0);
        let open = |path: &Path| RawDisk::open(path, Access::ReadOnly).unwrap_err();
        assert!(matches!(open(&path), OpenError::Empty { .. }));
        assert!(matches!(open(folder.path()), OpenError::Directory { .. }));
        assert!(matches!(open(&folder.path().join("none")), OpenError::Missing { .. }));
        assert!(matches!(open(Path::new("/dev/null")), OpenError::Special { .. }));
    }

    #[test]
    fn a_new_image_has_whole_sectors_and_never_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.img");
        let mut disk = RawDisk::create(&path, 1000).unwrap();
        assert_eq!(disk.length_bytes(), 1024);
        let mut byte = [1];
        disk.read_at(1023, &mut byte).unwrap();
        assert_eq!(byte, [0]);
        assert!(matches!(RawDisk::create(&path, 512), Err(OpenError::Exists { .. })));
    }

    #[test]
    fn a_guest_cannot_disguise_its_disk_as_another_format() {
        let (_folder, path) = image(4096);
        let mut disk = RawDisk::open(&path, Access::ReadWrite).unwrap();
        disk.write_at(0, b"QF").unwrap();
        assert!(matches!(disk.write_at(2, b"I\xFB"), Err(DiskError::Disguise(_))));
        assert!(matches!(disk.write_at(0, b"vhdxfile"), Err(DiskError::Disguise(_))));
        assert!(matches!(disk.write_at(0x3F, &[0, 0x7F, 0x10, 0xDA, 0xBE]), Err(DiskError::Disguise(_))));
        disk.write_at(512, b"QFI\xFB").unwrap();
    }

    #[test]
    fn discarded_ranges_are_zeros_and_holes() {
        let (_folder, path) = image(1 << 20);
        let mut disk = RawDisk::open(&path, Access::ReadWrite).unwrap();
        disk.discard(4096, 64 << 10).unwrap();
        let mut bytes = [9; 2];
        disk.read_at(4095, &mut bytes).unwrap();
        assert_eq!(bytes, [0xA5, 0]);
        assert!(!disk.extent(0).unwrap().is_zero);
        assert!(matches!(disk.discard(0, 2 << 20), Err(DiskError::OutOfRange { .. })));
    }
}
