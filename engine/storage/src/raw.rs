//! A raw disk image: byte n of the file is byte n of the disk. Also host disks (`/dev/sdx`).
//!
//! Left out on purpose: discard (holes are kept as the file has them) and asynchronous I/O.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskError, SECTOR, check_range};
use crate::open::OpenError;

/// How an image is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The guest may only read; others may read too, but none may write meanwhile.
    ReadOnly,
    /// The guest reads and writes; nobody else may use the image meanwhile.
    ReadWrite,
}

/// An opened raw image. Dropping it gives up the lock.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    path: PathBuf,
    length_bytes: u64,
    access: Access,
}

impl RawDisk {
    /// Opens a raw disk image, whose length must be a whole number of sectors.
    pub fn open(path: &Path, access: Access) -> Result<RawDisk, OpenError> {
        let disk = RawDisk::open_any_length(path, access)?;
        if !disk.length_bytes.is_multiple_of(SECTOR) {
            let (path, length_bytes) = (disk.path, disk.length_bytes);
            return Err(OpenError::PartialSector { path, length_bytes });
        }
        Ok(disk)
    }

    /// Opens a file of any length but zero.
    pub(crate) fn open_any_length(path: &Path, access: Access) -> Result<RawDisk, OpenError> {
        let disk = RawDisk::open_unlocked(path, access)?;
        lock(&disk.file, path, access)?;
        Ok(disk)
    }

    /// Opens a file of any length but zero, whoever else uses it: to look what it is.
    pub(crate) fn open_unlocked(path: &Path, access: Access) -> Result<RawDisk, OpenError> {
        let write = access == Access::ReadWrite;
        let host = |action, error| OpenError::from_host(path, action, write, error);
        // Looked at before it is opened: opening a pipe would wait for its other end.
        let kind = std::fs::metadata(path).map_err(|e| host("opened", e))?.file_type();
        if kind.is_dir() {
            return Err(OpenError::Directory { path: path.to_owned() });
        }
        if !kind.is_file() && !kind.is_block_device() {
            return Err(OpenError::Special { path: path.to_owned() });
        }
        let mut file =
            OpenOptions::new().read(true).write(write).open(path).map_err(|e| host("opened", e))?;
        let length_bytes = file.seek(SeekFrom::End(0)).map_err(|e| host("measured", e))?;
        if length_bytes == 0 {
            return Err(OpenError::Empty { path: path.to_owned() });
        }
        Ok(RawDisk { file, path: path.to_owned(), length_bytes, access })
    }

    /// Makes a new image of zeros that takes no room on the host until it is written, and opens it.
    /// `length_bytes` is rounded up to whole sectors.
    pub fn create(path: &Path, length_bytes: u64) -> Result<RawDisk, OpenError> {
        let host = |error| OpenError::from_host(path, "made", true, error);
        let length_bytes = length_bytes.max(1).checked_next_multiple_of(SECTOR);
        let length_bytes = length_bytes.ok_or_else(|| host(io::ErrorKind::FileTooLarge.into()))?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(host)?;
        lock(&file, path, Access::ReadWrite)?;
        file.set_len(length_bytes).map_err(host)?;
        Ok(RawDisk { file, path: path.to_owned(), length_bytes, access: Access::ReadWrite })
    }

    /// The file behind the disk.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Takes the advisory lock of the whole file: shared for readers, exclusive for a writer.
fn lock(file: &File, path: &Path, access: Access) -> Result<(), OpenError> {
    let (locked, how) = match access {
        Access::ReadOnly => (file.try_lock_shared(), " that writes it"),
        Access::ReadWrite => (file.try_lock(), ""),
    };
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned(), how }),
        // Some network file systems know no locks; the image is usable there, at the person's risk.
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(()),
        Err(TryLockError::Error(error)) => {
            Err(OpenError::Host { path: path.to_owned(), action: "locked", source: error })
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    [Errno::OPNOTSUPP, Errno::NOSYS, Errno::NOLCK, Errno::INVAL]
        .iter()
        .any(|e| code == Some(e.raw_os_error()))
}

impl Disk for RawDisk {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes, offset, buffer.len())?;
        Ok(self.file.read_exact_at(buffer, offset)?)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        check_range(self.length_bytes, offset, bytes.len())?;
        Ok(self.file.write_all_at(bytes, offset)?)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Ok(());
        }
        Ok(self.file.sync_data()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
