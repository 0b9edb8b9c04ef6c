//! The file of a saved state: a mark, a version, and sections, each with its length and checksum.
//!
//! All numbers are little-endian. Mark (16 bytes), version (4), then sections: tag (4), length of the content in bytes
//! (8), CRC-32 of tag, length and content (4), content. The last section is `END `, with the number of sections before
//! it; nothing follows. A file is written under a temporary name, synced, and renamed, so that under its name it is
//! whole or not there. Whatever it says, reading it takes no more memory than the limits below.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Crc;

use super::error::{SnapshotError, host};

/// What every saved state begins with. The last characters betray a transfer as text.
const MARK: &[u8; 16] = b"VITRINE STATE\r\n\x1A";
/// The format written, and the newest that is read.
pub const VERSION: u32 = 1;

/// Kinds of sections.
pub mod tag {
    /// What it is of: JSON.
    pub const HEAD: [u8; 4] = *b"HEAD";
    /// Registers and devices: MessagePack.
    pub const MACHINE: [u8; 4] = *b"MACH";
    /// What is in a drive that no file holds.
    pub const MEDIUM: [u8; 4] = *b"MEDI";
    /// Pages of memory.
    pub const PAGES: [u8; 4] = *b"PAGE";
    /// The end.
    pub const END: [u8; 4] = *b"END ";
}

/// Longest content of any section: a GPU's pictures are the longest state of a device.
const SECTION_MAX_BYTES: u64 = 128 << 20;
/// Tag, length, checksum.
const SECTION_HEAD_BYTES: u64 = 16;

/// Writes a state.
pub struct Writer {
    out: BufWriter<tempfile::NamedTempFile>,
    path: PathBuf,
    sections: u64,
}

fn checksum(head: &[u8], content: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(head);
    crc.update(content);
    crc.sum()
}

impl Writer {
    /// Begins the file that is to be at `path`.
    pub fn new(path: &Path) -> Result<Writer, SnapshotError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let begin = || {
            let file = tempfile::Builder::new().prefix(".saving.").tempfile_in(folder)?;
            let mut out = BufWriter::with_capacity(1 << 20, file);
            out.write_all(MARK)?;
            out.write_all(&VERSION.to_le_bytes())?;
            Ok(out)
        };
        let out = begin().map_err(host(path))?;
        Ok(Writer { out, path: path.to_owned(), sections: 0 })
    }

    /// Adds a section.
    pub fn section(&mut self, tag: [u8; 4], content: &[u8]) -> Result<(), SnapshotError> {
        let length = content.len() as u64;
        if length > SECTION_MAX_BYTES {
            return Err(SnapshotError::Refused(format!(
                "the state of the machine is too large ({length} bytes)"
            )));
        }
        self.sections += 1;
        let mut head = tag.to_vec();
        head.extend(length.to_le_bytes());
        let sum = checksum(&head, content);
        let parts = [&head[..], &sum.to_le_bytes(), content];
        parts.into_iter().try_for_each(|part| self.out.write_all(part)).map_err(host(&self.path))
    }

    /// Ends the file and gives it its name, in place of an earlier one; gives its length.
    pub fn finish(mut self) -> Result<u64, SnapshotError> {
        let sections = self.sections.to_le_bytes();
        self.section(tag::END, &sections)?;
        let path = self.path;
        let file = self.out.into_inner().map_err(|error| host(&path)(error.into_error()))?;
        file.as_file().sync_all().map_err(host(&path))?;
        let bytes = file.as_file().metadata().map_err(host(&path))?.len();
        file.persist(&path).map_err(|error| host(&path)(error.error))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(host(&path))?;
        Ok(bytes)
    }
}

/// A section: its tag and its content.
pub type Section = ([u8; 4], Vec<u8>);

/// Reads a state, section by section.
pub struct Reader {
    input: BufReader<File>,
    path: PathBuf,
    /// Bytes not read yet.
    left: u64,
    sections: u64,
}

impl Reader {
    /// Opens the file at `path`, which is one of ours and no newer than we are.
    pub fn open(path: &Path) -> Result<Reader, SnapshotError> {
        let file = File::open(path).map_err(host(path))?;
        let length = file.metadata().map_err(host(path))?.len();
        let mut input = BufReader::with_capacity(1 << 20, file);
        let mut head = [0; 20];
        match input.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(SnapshotError::Foreign { path: path.to_owned() });
            }
            Err(error) => return Err(host(path)(error)),
        }
        let (mark, version) = head.split_at(16);
        if mark != MARK {
            return Err(SnapshotError::Foreign { path: path.to_owned() });
        }
        let version = u32::from_le_bytes([version[0], version[1], version[2], version[3]]);
        if version > VERSION {
            return Err(SnapshotError::Newer { path: path.to_owned(), version, known: VERSION });
        }
        Ok(Reader { input, path: path.to_owned(), left: length.saturating_sub(20), sections: 0 })
    }

    /// The next section, its content checked; `None` at the end, which is the file's.
    pub fn next(&mut self) -> Result<Option<Section>, SnapshotError> {
        if self.left < SECTION_HEAD_BYTES {
            return Err(self.damaged("it is cut off"));
        }
        let mut head = [0; SECTION_HEAD_BYTES as usize];
        self.input.read_exact(&mut head).map_err(host(&self.path))?;
        self.left -= SECTION_HEAD_BYTES;
        let [t0, t1, t2, t3, length @ .., s0, s1, s2, s3] = head;
        let (tag, length) = ([t0, t1, t2, t3], u64::from_le_bytes(length));
        if length > SECTION_MAX_BYTES {
            return Err(self.damaged("a section has an impossible length"));
        }
        if length > self.left {
            return Err(self.damaged("it is cut off"));
        }
        let mut content = vec![0; length as usize];
        self.input.read_exact(&mut content).map_err(host(&self.path))?;
        self.left -= length;
        if checksum(&head[..12], &content) != u32::from_le_bytes([s0, s1, s2, s3]) {
            let name = String::from_utf8_lossy(&tag).trim().to_owned();
            return Err(self.damaged(format!("the checksum of section {name:?} is wrong")));
        }
        if tag == tag::END {
            return match content == self.sections.to_le_bytes() && self.left == 0 {
                true => Ok(None),
                false => Err(self.damaged("sections are missing, or something follows the end")),
            };
        }
        self.sections += 1;
        Ok(Some((tag, content)))
    }

    /// An error about this file.
    pub fn damaged(&self, what: impl Into<String>) -> SnapshotError {
        SnapshotError::Damaged { path: self.path.clone(), what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &Path) -> Vec<u8> {
        let mut writer = Writer::new(path).unwrap();
        writer.section(tag::HEAD, b"one").unwrap();
        writer.section(tag::PAGES, &[7; 300]).unwrap();
        writer.finish().unwrap();
        std::fs::read(path).unwrap()
    }

    fn read(path: &Path) -> Result<usize, SnapshotError> {
        let mut reader = Reader::open(path)?;
        let mut bytes = 0;
        while let Some((_, content)) = reader.next()? {
            bytes += content.len();
        }
        Ok(bytes)
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.state");
        let bytes = written(&path);
        assert_eq!(read(&path).unwrap(), 303);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(read(&path).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&path, &changed).unwrap();
            assert!(read(&path).is_err() || at < 20, "byte {at}");
        }
        std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
        assert!(matches!(read(&path), Err(SnapshotError::Damaged { .. })));
    }

    #[test]
    fn foreign_and_newer_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.state");
        let mut bytes = written(&path);
        bytes[16] = 2;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(read(&path), Err(SnapshotError::Newer { version: 2, .. })));
        std::fs::write(&path, b"QFI\xFB and more than twenty bytes").unwrap();
        assert!(matches!(read(&path), Err(SnapshotError::Foreign { .. })));
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(read(&path), Err(SnapshotError::Foreign { .. })));
    }

    #[test]
    fn a_file_that_is_not_finished_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.state");
        let before = written(&path);
        let mut writer = Writer::new(&path).unwrap();
        writer.section(tag::HEAD, b"two").unwrap();
        drop(writer);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
