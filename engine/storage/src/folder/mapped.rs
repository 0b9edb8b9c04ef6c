//! A disk that is put together from pieces of memory and of host files; the rest is zeros.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use super::scan::{FileEntry, Identity, Skipped};
use crate::disk::{Disk, DiskError, Extent, check_range};

/// Most host files that are open at a time.
const OPEN_MAX: usize = 16;

/// Where a span's bytes come from.
pub(super) enum Source {
    Memory(Arc<[u8]>),
    /// The file of this number, from its start.
    File(usize),
}

struct Span {
    start: u64,
    length_bytes: u64,
    source: Source,
}

/// A read-only disk made from a folder.
pub struct MappedDisk {
    /// In order, none over another.
    spans: Vec<Span>,
    files: Vec<FileEntry>,
    /// Open files by number, the latest used last.
    open: Vec<(usize, File)>,
    length_bytes: u64,
    skipped: Vec<Skipped>,
}

impl MappedDisk {
    pub(super) fn new(length_bytes: u64, files: Vec<FileEntry>, skipped: Vec<Skipped>) -> MappedDisk {
        MappedDisk { spans: Vec::new(), files, open: Vec::new(), length_bytes, skipped }
    }

    /// Puts bytes where nothing is yet.
    pub(super) fn put(&mut self, start: u64, bytes: impl Into<Arc<[u8]>>) {
        let bytes = bytes.into();
        self.insert(start, bytes.len() as u64, Source::Memory(bytes));
    }

    /// Puts a file's content where nothing is yet.
    pub(super) fn put_file(&mut self, start: u64, file: usize) {
        self.insert(start, self.files[file].identity.length_bytes, Source::File(file));
    }

    fn insert(&mut self, start: u64, length_bytes: u64, source: Source) {
        if length_bytes > 0 {
            let at = self.spans.partition_point(|span| span.start < start);
            debug_assert!(at == 0 || self.spans[at - 1].start + self.spans[at - 1].length_bytes <= start);
            self.spans.insert(at, Span { start, length_bytes, source });
        }
    }

    /// What of the folder the guest does not see, and why.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The file of this number, opened; it must be what it was when the disk was made.
    fn open_file(&mut self, file: usize) -> io::Result<&File> {
        let entry = &self.files[file];
        if let Some(at) = self.open.iter().position(|(number, _)| *number == file) {
            let used = self.open.remove(at);
            self.open.push(used);
        } else {
            // A link that came into its place is not followed; a pipe does not block.
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            let opened = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(&entry.path)?;
            if self.open.len() >= OPEN_MAX {
                self.open.remove(0);
            }
            self.open.push((file, opened));
        }
        let (_, opened) = self.open.last().expect("put there just now");
        if Identity::of(&opened.metadata()?) != entry.identity {
            return Err(io::Error::other("it was changed since the disk was made from its folder"));
        }
        Ok(opened)
    }

    fn read_file(&mut self, file: usize, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let read = self.open_file(file).and_then(|opened| opened.read_exact_at(buffer, offset));
        read.map_err(|source| {
            let path = self.files[file].path.clone();
            DiskError::Host(io::Error::new(source.kind(), FileError { path, source }))
        })
    }
}

/// Which file of the folder failed.
#[derive(Debug, thiserror::Error)]
#[error("{path} could not be read: {source}")]
struct FileError {
    path: PathBuf,
    source: io::Error,
}

impl Disk for MappedDisk {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes, offset, buffer.len() as u64)?;
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        let mut at = self.spans.partition_point(|span| span.start + span.length_bytes <= offset);
        while let Some(span) = self.spans.get(at).filter(|span| span.start < end) {
            let (from, to) = (span.start.max(offset), (span.start + span.length_bytes).min(end));
            let part = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            let within = from - span.start;
            match &span.source {
                Source::Memory(bytes) => part.copy_from_slice(&bytes[within as usize..][..part.len()]),
                Source::File(file) => {
                    let file = *file;
                    self.read_file(file, within, part)?;
                }
            }
            at += 1;
        }
        Ok(())
    }

    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        Err(DiskError::ReadOnly)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }

    fn extent(&mut self, offset: u64) -> Result<Extent, DiskError> {
        let at = self.spans.partition_point(|span| span.start + span.length_bytes <= offset);
        let (end, is_zero) = match self.spans.get(at) {
            None => (self.length_bytes, true),
            Some(span) if span.start > offset => (span.start, true),
            Some(span) => (span.start + span.length_bytes, false),
        };
        Ok(Extent { length_bytes: end - offset, is_zero })
    }
}
