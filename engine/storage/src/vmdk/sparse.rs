//! A sparse extent: grains found through a directory and tables. Also compressed ones, as in OVA files.
//! Source: VMware, *Virtual Disk Format 5.0*, "Hosted Sparse Extents" and "Stream-Optimized".

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use flate2::{Decompress, FlushDecompress};

use crate::disk::{DiskError, SECTOR, block_on_disk, not_in_file};
use crate::fields::{le16, le32, le32_table, le64};
use crate::format::Format;
use crate::open::OpenError;
use crate::store::{Store, read_exact};

/// Flag bits of the header.
const ZERO_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
/// The directory's place is in a copy of the header at the end of the file.
const AT_END: u64 = u64::MAX;
/// Largest grain, and most tables of a directory.
const GRAIN_MAX_BYTES: u64 = 16 << 20;
const TABLES_MAX: u64 = 1 << 24;
/// What stands before a compressed grain.
const MARKER_BYTES: u64 = 12;
/// Grain tables kept in memory.
const TABLES_KEPT: usize = 2048;

/// An opened sparse extent.
pub struct Sparse {
    store: Box<dyn Store>,
    /// Length of the extent.
    pub sectors: u64,
    /// Bytes of a grain.
    pub grain_bytes: u64,
    has_zero_grains: bool,
    pub(super) is_compressed: bool,
    pub(super) entries_per_table: u64,
    pub(super) directory: Vec<u32>,
    tables: HashMap<u32, Vec<u32>>,
    /// The grain inflated last.
    inflated: Option<(u32, Vec<u8>)>,
    /// Where a description is embedded, and its length, in bytes.
    pub description: Option<(u64, u64)>,
}

/// Where a grain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Not in this image.
    Absent,
    /// Zeros.
    Zero,
    /// At this sector of the file.
    At(u32),
}

impl Sparse {
    /// Opens an extent.
    pub fn open(store: Box<dyn Store>) -> Result<Sparse, OpenError> {
        let path = store.path().to_owned();
        let host = |error| OpenError::from_host(&path, "read", false, error);
        let damaged = |what: &str| damaged(&path, what.to_owned());
        let mut head = [0; 512];
        store.read_at(0, &mut head).map_err(host)?;
        if head.starts_with(b"COWD") {
            return Err(unsupported(&path, "the sparse format of ESX 3".into()));
        }
        if !head.starts_with(b"KDMV") {
            return Err(damaged("it does not start with an extent's header"));
        }
        if le64(&head, 56) == AT_END {
            // End-of-stream marker and footer take a sector each.
            let at = store.length_bytes().saturating_sub(2 * SECTOR);
            store.read_at(at, &mut head).map_err(host)?;
            if !head.starts_with(b"KDMV") || le64(&head, 56) == AT_END {
                return Err(damaged("its footer is missing; the copy or download did not finish"));
            }
        }
        if !(1..=3).contains(&le32(&head, 4)) {
            return Err(unsupported(&path, format!("version {} of the format", le32(&head, 4))));
        }
        let flags = le32(&head, 8);
        let (sectors, grain_sectors) = (le64(&head, 12), le64(&head, 20));
        let entries_per_table = u64::from(le32(&head, 44));
        let is_grain = grain_sectors.is_power_of_two() && grain_sectors <= GRAIN_MAX_BYTES / SECTOR;
        if !is_grain || !(1..=1 << 16).contains(&entries_per_table) {
            return Err(damaged("its grains are of no size there is"));
        }
        if flags & COMPRESSED != 0 && le16(&head, 77) != 1 {
            return Err(unsupported(&path, "an unknown compression".into()));
        }
        let tables = sectors.div_ceil(grain_sectors * entries_per_table);
        let offset = le64(&head, 56).checked_mul(SECTOR);
        let directory = offset
            .filter(|_| tables <= TABLES_MAX)
            .and_then(|offset| read_exact(&*store, offset, tables * 4).ok())
            .ok_or_else(|| damaged("its directory does not lie in the file, which may be cut"))?;
        let (description, length) = (le64(&head, 28), le64(&head, 36));
        Ok(Sparse {
            sectors,
            grain_bytes: grain_sectors * SECTOR,
            has_zero_grains: flags & ZERO_GRAINS != 0,
            is_compressed: flags & COMPRESSED != 0,
            entries_per_table,
            directory: le32_table(&directory),
            tables: HashMap::new(),
            inflated: None,
            description: (description != 0)
                .then(|| (description.saturating_mul(SECTOR), length.saturating_mul(SECTOR))),
            store,
        })
    }

    /// The file.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Where a grain is.
    pub fn lookup(&mut self, grain: u64) -> Result<Grain, DiskError> {
        let table = self.directory[(grain / self.entries_per_table) as usize];
        if table == 0 {
            return Ok(Grain::Absent);
        }
        if !self.tables.contains_key(&table) {
            if self.tables.len() >= TABLES_KEPT {
                self.tables.clear();
            }
            let read = read_exact(&*self.store, u64::from(table) * SECTOR, self.entries_per_table * 4);
            let bytes =
                read.map_err(|_| self.damaged(format!("a table is said to lie at sector {table}")))?;
            self.tables.insert(table, le32_table(&bytes));
        }
        self.grain(grain, self.tables[&table][(grain % self.entries_per_table) as usize])
    }

    /// Where a grain is whose entry is `entry`.
    pub(super) fn grain(&self, grain: u64, entry: u32) -> Result<Grain, DiskError> {
        match entry {
            0 => Ok(Grain::Absent),
            1 if self.has_zero_grains => Ok(Grain::Zero),
            sector if self.is_in_file(grain, sector) => Ok(Grain::At(sector)),
            _ => Err(self.damaged(not_in_file("grain", grain))),
        }
    }

    /// Whether the file holds all that the extent has of a grain (the last one may be cut where the extent ends), or
    /// the marker of a compressed one.
    fn is_in_file(&self, grain: u64, sector: u32) -> bool {
        let needed = match self.is_compressed {
            true => MARKER_BYTES,
            false => block_on_disk(grain, self.grain_bytes, self.sectors.saturating_mul(SECTOR)),
        };
        u64::from(sector) * SECTOR + needed <= self.store.length_bytes()
    }

    /// What a grain that is there takes of the file.
    pub(super) fn stored_bytes(&self, sector: u32) -> Result<u64, DiskError> {
        match self.is_compressed {
            true => Ok(MARKER_BYTES + self.packed_bytes(u64::from(sector) * SECTOR)?),
            false => Ok(self.grain_bytes),
        }
    }

    /// Reads inside a grain that is there.
    pub fn read(&mut self, sector: u32, within: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let at = u64::from(sector) * SECTOR;
        if !self.is_compressed {
            return Ok(self.store.read_at(at + within, buffer)?);
        }
        if self.inflated.as_ref().is_none_or(|(inflated, _)| *inflated != sector) {
            self.inflated = Some((sector, self.inflate(at)?));
        }
        let (_, bytes) = self.inflated.as_ref().expect("inflated just now");
        buffer.copy_from_slice(&bytes[within as usize..][..buffer.len()]);
        Ok(())
    }

    /// The length of a compressed grain, from the marker before it, which also names the grain's first sector.
    fn packed_bytes(&self, at: u64) -> Result<u64, DiskError> {
        let wrong = |what: &str| self.damaged(format!("the grain at byte {at} {what}"));
        let mut marker = [0; MARKER_BYTES as usize];
        self.store.read_at(at, &mut marker)?;
        let length = u64::from(le32(&marker, 8));
        if length > 2 * self.grain_bytes + 1024 {
            return Err(wrong("is longer than a grain can be"));
        }
        if at + MARKER_BYTES + length > self.store.length_bytes() {
            return Err(wrong("ends too early"));
        }
        Ok(length)
    }

    /// A marker, then zlib data.
    fn inflate(&self, at: u64) -> Result<Vec<u8>, DiskError> {
        let wrong = |what: &str| self.damaged(format!("the grain at byte {at} {what}"));
        let packed = read_exact(&*self.store, at + MARKER_BYTES, self.packed_bytes(at)?)?;
        // The last grain of a disk may be short; the rest is zeros.
        let mut bytes = vec![0; self.grain_bytes as usize];
        Decompress::new(true)
            .decompress(&packed, &mut bytes, FlushDecompress::Finish)
            .map_err(|error| wrong(&format!("cannot be inflated: {error}")))?;
        Ok(bytes)
    }

    fn damaged(&self, what: String) -> DiskError {
        DiskError::Damaged { path: PathBuf::from(self.store.path()), what }
    }
}

pub(super) fn damaged(path: &Path, what: String) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), format: Format::Vmdk, what }
}

pub(super) fn unsupported(path: &Path, feature: String) -> OpenError {
    let advice = "Convert it with qemu-img, or with VMware's vmware-vdiskmanager";
    OpenError::Unsupported { path: path.to_owned(), format: Format::Vmdk, feature, advice }
}
