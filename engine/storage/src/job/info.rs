//! What an image is: from its own header, whoever uses it, and whether or not what it is based on is there.

use std::path::{Path, PathBuf};

use crate::format::Format;
use crate::image::told;
use crate::memory::MemoryDisk;
use crate::open::OpenError;
use crate::qcow2::header::Compression;
use crate::store::{Access, HostFile, Store};
use crate::{qcow2, vdi, vhd, vhdx, vmdk};

/// What an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Length of the disk in it.
    pub length_bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// What the file takes on the host's disk.
    pub allocated_bytes: u64,
    /// Bytes of what it allocates at a time.
    pub unit_bytes: Option<u64>,
    /// What it is based on, as named in it.
    pub backing: Option<String>,
    /// The format that is said to have.
    pub backing_format: Option<String>,
    /// More, in words.
    pub notes: Vec<String>,
}

/// Looks at an image.
pub fn info(path: &Path) -> Result<Info, OpenError> {
    let file = HostFile::open_unlocked(path, Access::ReadOnly)?;
    let host = |error| OpenError::from_host(path, "read", false, error);
    let mut info = Info {
        path: path.to_owned(),
        format: told(&file)?,
        length_bytes: file.length_bytes(),
        file_bytes: file.length_bytes(),
        allocated_bytes: file.allocated_bytes().map_err(host)?,
        unit_bytes: None,
        backing: None,
        backing_format: None,
        notes: Vec::new(),
    };
    match info.format {
        Format::Raw => {}
        Format::Qcow2 => info.qcow2(qcow2::Header::read(&file)?),
        Format::Vdi => info.vdi(&vdi::Header::read(&file)?),
        Format::Vhd => info.vhd(file)?,
        Format::Vhdx => info.vhdx(file)?,
        Format::Vmdk => info.vmdk(file)?,
    }
    Ok(info)
}

impl Info {
    fn note(&mut self, is_so: bool, note: &str) {
        if is_so {
            self.notes.push(note.to_owned());
        }
    }

    fn qcow2(&mut self, header: qcow2::Header) {
        self.length_bytes = header.length_bytes;
        self.unit_bytes = Some(header.cluster_bytes());
        self.notes.push(format!("version {}", header.version));
        self.note(header.compression == Compression::Zstd, "compressed clusters use zstd");
        self.note(header.is_dirty, "was not closed: its refcounts are mended when it is written next");
        self.note(header.is_corrupt, "marked as damaged by another program");
        self.note(header.has_bitmaps, "holds bitmaps, which are not kept up to date");
        if header.snapshots > 0 {
            self.notes.push(format!("holds {} internal snapshots", header.snapshots));
        }
        (self.backing, self.backing_format) = (header.backing_name, header.backing_format);
    }

    fn vdi(&mut self, header: &vdi::Header) {
        self.length_bytes = header.length_bytes;
        self.unit_bytes = Some(header.block_bytes);
        self.note(header.is_fixed, "fixed");
    }

    fn vhd(&mut self, file: HostFile) -> Result<(), OpenError> {
        let mut backing = None;
        let image = vhd::Vhd::open(Box::new(file), false, |header| {
            backing = header.parent_names.first().cloned();
            Ok(no_disk())
        })?;
        let unit_bytes = image.block_bytes();
        self.length_bytes = image.footer().length_bytes;
        self.note(unit_bytes.is_none(), "fixed");
        (self.unit_bytes, self.backing) = (unit_bytes, backing);
        Ok(())
    }

    fn vhdx(&mut self, file: HostFile) -> Result<(), OpenError> {
        let image = vhdx::Vhdx::open(Box::new(file))?;
        self.length_bytes = image.header().length_bytes;
        self.unit_bytes = Some(image.header().block_bytes);
        self.note(image.header().was_open, "was not closed: its log is replayed whenever it is read");
        Ok(())
    }

    fn vmdk(&mut self, file: HostFile) -> Result<(), OpenError> {
        let mut backing = None;
        let image = vmdk::Vmdk::open(Box::new(file), |name, _| {
            backing = Some(name.to_owned());
            Ok(no_disk())
        })?;
        self.length_bytes = crate::Disk::length_bytes(&image);
        self.backing = backing;
        Ok(())
    }
}

/// Stands for a parent that nobody reads.
fn no_disk() -> Box<dyn crate::Disk> {
    Box::new(MemoryDisk::new(Vec::new()).expect("an empty disk fits in memory"))
}
