//! VMware's image, read only: one sparse file, a description with flat or sparse extents, and the compressed
//! form of OVA files. Source: VMware, *Virtual Disk Format 5.0*.
//!
//! Extents are files beside the description; a name that leads elsewhere is refused. Left out on purpose: ESX's
//! own sparse formats, raw device mappings, writing (a qcow2 overlay takes what is written).

mod check;
mod descriptor;
mod sparse;

use std::path::{Path, PathBuf};

pub use descriptor::Descriptor;
use descriptor::{ExtentLine, TEXT_MAX_BYTES};
use sparse::{Grain, Sparse, damaged, unsupported};

use crate::disk::{Disk, DiskError, Extent, SECTOR, check_range, extent_padded, read_padded};
use crate::open::OpenError;
use crate::pieces::pieces;
use crate::store::{Access, HostFile, Store, read_exact};

/// Longest disk: what the format's documents allow, many times over.
const SECTORS_MAX: u64 = 1 << 40;

/// An opened VMDK image.
pub struct Vmdk {
    extents: Vec<Part>,
    length_bytes: u64,
    parent: Option<Box<dyn Disk>>,
    path: PathBuf,
    content_id: u32,
}

/// One part of the disk.
struct Part {
    start_bytes: u64,
    length_bytes: u64,
    content: Content,
}

enum Content {
    Zero,
    Flat { store: Box<dyn Store>, offset: u64 },
    Sparse(Box<Sparse>),
}

impl Vmdk {
    /// Opens an image; `parent` finds the disk of a name and content id that is behind it.
    pub fn open(
        store: Box<dyn Store>,
        parent: impl FnOnce(&str, u32) -> Result<Box<dyn Disk>, OpenError>,
    ) -> Result<Vmdk, OpenError> {
        let path = store.path().to_owned();
        let mut mark = [0; 4];
        store.read_at(0, &mut mark).map_err(|error| OpenError::from_host(&path, "read", false, error))?;
        let mut disk = Vmdk { extents: Vec::new(), length_bytes: 0, parent: None, path, content_id: 0 };
        let descriptor = if &mark == b"# Di" {
            let descriptor = disk.parse(&*store, 0, store.length_bytes())?;
            for line in &descriptor.extents {
                disk.add_line(line)?;
            }
            descriptor
        } else {
            let sparse = Sparse::open(store)?;
            let descriptor = match sparse.description {
                Some((offset, length)) => disk.parse(sparse.store(), offset, length)?,
                None => Descriptor::default(),
            };
            disk.add(sparse.sectors, Content::Sparse(Box::new(sparse)))?;
            descriptor
        };
        disk.content_id = descriptor.content_id;
        if let Some(id) = descriptor.parent_id {
            let name = descriptor.parent_name.unwrap_or_default();
            disk.parent = Some(parent(&name, id)?);
        }
        Ok(disk)
    }

    /// Changes with each writing of the content.
    pub fn content_id(&self) -> u32 {
        self.content_id
    }

    fn parse(&self, store: &dyn Store, offset: u64, length: u64) -> Result<Descriptor, OpenError> {
        let wrong = |what: String| damaged(&self.path, what);
        if length > TEXT_MAX_BYTES {
            return Err(wrong("its description is too long".into()));
        }
        let bytes =
            read_exact(store, offset, length).map_err(|_| wrong("its description is missing".into()))?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Descriptor::parse(&String::from_utf8_lossy(&bytes[..end])).map_err(wrong)
    }

    fn add_line(&mut self, line: &ExtentLine) -> Result<(), OpenError> {
        let content = match line.kind.as_str() {
            "ZERO" => Content::Zero,
            "FLAT" | "VMFS" => {
                let store = self.beside(&line.file)?;
                let offset = line.offset_sectors.saturating_mul(SECTOR);
                let end = line.sectors.checked_mul(SECTOR).and_then(|bytes| bytes.checked_add(offset));
                if end.is_none_or(|end| end > store.length_bytes()) {
                    return Err(damaged(store.path(), "it is shorter than its description says".into()));
                }
                Content::Flat { store, offset }
            }
            "SPARSE" => {
                let sparse = Sparse::open(self.beside(&line.file)?)?;
                if sparse.sectors < line.sectors {
                    let what = "it is shorter than its description says".into();
                    return Err(damaged(sparse.store().path(), what));
                }
                Content::Sparse(Box::new(sparse))
            }
            other => return Err(unsupported(&self.path, format!("an extent of kind {other}"))),
        };
        self.add(line.sectors, content)
    }

    fn add(&mut self, sectors: u64, content: Content) -> Result<(), OpenError> {
        if sectors > SECTORS_MAX - self.length_bytes / SECTOR {
            return Err(damaged(&self.path, format!("{sectors} sectors are beyond the format")));
        }
        let (start_bytes, length_bytes) = (self.length_bytes, sectors * SECTOR);
        self.length_bytes += length_bytes;
        if length_bytes > 0 {
            self.extents.push(Part { start_bytes, length_bytes, content });
        }
        Ok(())
    }

    /// Opens a file in the folder of the description.
    fn beside(&self, name: &str) -> Result<Box<dyn Store>, OpenError> {
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(unsupported(&self.path, format!("an extent that is not beside it ({name})")));
        }
        let path = self.path.parent().unwrap_or(Path::new("")).join(name);
        let file = HostFile::open(&path, Access::ReadOnly)
            .map_err(|source| OpenError::Backing { path: self.path.clone(), source: Box::new(source) })?;
        Ok(Box::new(file))
    }

    /// The part at an offset, which is before the end.
    fn part_at(&self, offset: u64) -> usize {
        self.extents.partition_point(|part| part.start_bytes + part.length_bytes <= offset)
    }

    fn read_part(&mut self, index: usize, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let part = &mut self.extents[index];
        let within = offset - part.start_bytes;
        match &mut part.content {
            Content::Zero => buffer.fill(0),
            Content::Flat { store, offset } => store.read_at(*offset + within, buffer)?,
            Content::Sparse(sparse) => {
                for piece in pieces(within, buffer.len(), sparse.grain_bytes) {
                    let at = offset + piece.range.start as u64;
                    let bytes = &mut buffer[piece.range];
                    match (sparse.lookup(piece.unit)?, &mut self.parent) {
                        (Grain::At(sector), _) => sparse.read(sector, piece.within, bytes)?,
                        (Grain::Absent, Some(parent)) => read_padded(&mut **parent, at, bytes)?,
                        (Grain::Zero | Grain::Absent, _) => bytes.fill(0),
                    }
                }
            }
        }
        Ok(())
    }
}

impl Disk for Vmdk {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes, offset, buffer.len() as u64)?;
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let index = self.part_at(at);
            let part = &self.extents[index];
            let rest = part.start_bytes + part.length_bytes - at;
            let now = rest.min((buffer.len() - done) as u64) as usize;
            self.read_part(index, at, &mut buffer[done..done + now])?;
            done += now;
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
        let index = self.part_at(offset);
        let part = &mut self.extents[index];
        let within = offset - part.start_bytes;
        let rest = part.length_bytes - within;
        match &mut part.content {
            Content::Zero => Ok(Extent { length_bytes: rest, is_zero: true }),
            Content::Flat { store, offset } => {
                let run = store.run_at(*offset + within)?;
                Ok(Extent { length_bytes: run.length_bytes.clamp(1, rest), is_zero: run.is_hole })
            }
            Content::Sparse(sparse) => {
                let length_bytes = (sparse.grain_bytes - within % sparse.grain_bytes).min(rest);
                match sparse.lookup(within / sparse.grain_bytes)? {
                    Grain::At(_) => Ok(Extent { length_bytes, is_zero: false }),
                    Grain::Zero => Ok(Extent { length_bytes, is_zero: true }),
                    Grain::Absent => extent_padded(self.parent.as_mut(), offset, length_bytes),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
