//! A host file (or a host's block device) as a store: locked against other users, errors with their place.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Run, Store};
use crate::open::OpenError;

/// How an image is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The guest may only read; others may read too, but none may write meanwhile.
    ReadOnly,
    /// The guest reads and writes; nobody else may use the image meanwhile.
    ReadWrite,
}

/// An opened file. Dropping it gives up the lock.
#[derive(Debug)]
pub struct HostFile {
    file: File,
    path: PathBuf,
    length_bytes: u64,
    access: Access,
    /// A sync failed: the host has forgotten what it could not write, so no later one can be believed.
    lost: bool,
}

/// Where a host error happened. The kind of the `io::Error` around it is the host's.
#[derive(Debug, thiserror::Error)]
#[error("{path} could not be {action} at byte {offset}: {source}")]
struct FileError {
    path: PathBuf,
    action: &'static str,
    offset: u64,
    source: io::Error,
}

impl HostFile {
    /// Opens a file of any length but zero, and locks it.
    pub fn open(path: &Path, access: Access) -> Result<HostFile, OpenError> {
        let file = HostFile::open_unlocked(path, access)?;
        file.lock()?;
        Ok(file)
    }

    /// Opens a file of any length but zero, whoever else uses it: to look what it is.
    pub(crate) fn open_unlocked(path: &Path, access: Access) -> Result<HostFile, OpenError> {
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
        Ok(HostFile { file, path: path.to_owned(), length_bytes, access, lost: false })
    }

    /// Makes a new, empty file, locked. A file that is there already is never replaced.
    pub fn create(path: &Path) -> Result<HostFile, OpenError> {
        let host = |error| OpenError::from_host(path, "made", true, error);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(host)?;
        let file =
            HostFile { file, path: path.to_owned(), length_bytes: 0, access: Access::ReadWrite, lost: false };
        file.lock()?;
        Ok(file)
    }

    /// How it was opened.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Bytes it takes on the host's disk.
    pub fn allocated_bytes(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// Takes the advisory lock of the whole file: shared for readers, exclusive for a writer.
    fn lock(&self) -> Result<(), OpenError> {
        let path = || self.path.clone();
        let (locked, how) = match self.access {
            Access::ReadOnly => (self.file.try_lock_shared(), " that writes it"),
            Access::ReadWrite => (self.file.try_lock(), ""),
        };
        match locked {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path(), how }),
            // Some network file systems know no locks; the image is usable there, at the person's risk.
            Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(()),
            Err(TryLockError::Error(error)) => {
                Err(OpenError::Host { path: path(), action: "locked", source: error })
            }
        }
    }

    fn failed(&self, action: &'static str, offset: u64, source: io::Error) -> io::Error {
        io::Error::new(source.kind(), FileError { path: self.path.clone(), action, offset, source })
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::OPNOTSUPP, Errno::NOSYS, Errno::NOLCK, Errno::INVAL]
        .iter()
        .any(|e| code == Some(e.raw_os_error()))
}

impl Store for HostFile {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let stored = self.length_bytes.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let (stored, past) = buffer.split_at_mut(stored);
        past.fill(0);
        self.file.read_exact_at(stored, offset).map_err(|error| self.failed("read", offset, error))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(bytes, offset) {
            // A part of it may be there: the file is as long as it is.
            if let Ok(data) = self.file.metadata()
                && data.is_file()
            {
                self.length_bytes = self.length_bytes.max(data.len());
            }
            return Err(self.failed("written", offset, error));
        }
        self.length_bytes = self.length_bytes.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn set_length(&mut self, length_bytes: u64) -> io::Result<()> {
        self.file.set_len(length_bytes).map_err(|error| self.failed("resized", length_bytes, error))?;
        self.length_bytes = length_bytes;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let failed = if self.lost {
            io::Error::other("an earlier flush failed, so what was written before it may be lost")
        } else {
            match self.file.sync_data() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            }
        };
        self.lost = true;
        Err(self.failed("flushed", self.length_bytes, failed))
    }

    fn punch(&mut self, offset: u64, length_bytes: u64) -> io::Result<()> {
        let length_bytes = length_bytes.min(self.length_bytes.saturating_sub(offset));
        if length_bytes == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, offset, length_bytes) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => {
                write_zeros(self, offset, length_bytes)
            }
            Err(error) => Err(self.failed("freed", offset, error.into())),
        }
    }

    fn run_at(&self, offset: u64) -> io::Result<Run> {
        let rest = self.length_bytes.saturating_sub(offset);
        let seek = |whence| match rustix::fs::seek(&self.file, whence) {
            Ok(at) => Ok(at),
            // Nothing of the kind up to the end.
            Err(Errno::NXIO) => Ok(self.length_bytes),
            Err(error) => Err(error),
        };
        let data = match seek(rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) => data,
            // A file system that knows no holes has none.
            Err(Errno::INVAL) => return Ok(Run { length_bytes: rest, is_hole: false }),
            Err(error) => return Err(self.failed("searched", offset, error.into())),
        };
        if data > offset {
            return Ok(Run { length_bytes: (data - offset).min(rest), is_hole: true });
        }
        let hole = seek(rustix::fs::SeekFrom::Hole(offset))
            .map_err(|error| self.failed("searched", offset, error.into()))?;
        Ok(Run { length_bytes: hole.saturating_sub(offset).clamp(1, rest.max(1)), is_hole: false })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Zeros in pieces of bounded size.
fn write_zeros(file: &mut HostFile, mut offset: u64, mut length_bytes: u64) -> io::Result<()> {
    let zeros = vec![0; (64 << 10).min(length_bytes) as usize];
    while length_bytes > 0 {
        let now = length_bytes.min(zeros.len() as u64);
        file.write_at(offset, &zeros[..now as usize])?;
        offset += now;
        length_bytes -= now;
    }
    Ok(())
}
