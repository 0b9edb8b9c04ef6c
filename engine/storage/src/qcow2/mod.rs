//! QEMU's copy-on-write image, versions 2 and 3. Source: QEMU `docs/interop/qcow2.txt`.
//!
//! **What survives.** Data goes to its cluster at once. Second-level tables, the first-level table and
//! refcounts change in memory; a flush brings them to the file in an order that leaves a sound image wherever
//! it is cut, even if sectors of one step reach the medium in any order:
//!
//! 1. data (written before), refcounts, and tables that nothing refers to yet; *sync*;
//! 2. entries of tables that are in use; *sync*;
//! 3. only now clusters that lost their last reference may be used again.
//!
//! Thus nothing in the file refers to a cluster that is not written or not counted. A crash loses what was
//! written since the last flush, and may leave clusters that are counted and not used (leaks).
//!
//! Left out on purpose: encryption, external data files, subclusters, making internal snapshots (they are kept
//! when others made them), bitmaps (left alone, and marked as out of date).

mod cache;
pub mod check;
mod commit;
mod compressed;
pub mod create;
pub mod entry;
pub mod header;
mod refcounts;
mod resize;
mod write;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use cache::Cache;
use compressed::Inflated;
use entry::{Mapping, OFFSET};
pub use header::Header;
use refcounts::Refcounts;

use crate::disk::{Disk, DiskError, Extent, check_range, extent_padded, read_padded};
use crate::fields::be64_table;
use crate::open::OpenError;
use crate::pieces::pieces;
use crate::store::{Store, read_exact};

/// An opened qcow2 image.
pub struct Qcow2 {
    store: Box<dyn Store>,
    header: Header,
    /// What shows through where this image has nothing.
    backing: Option<Box<dyn Disk>>,
    l1: Vec<u64>,
    /// First-level entries that are not in the file yet.
    l1_changed: BTreeSet<usize>,
    l2: Cache,
    /// `None` if it is only read.
    refcounts: Option<Refcounts>,
    /// Clusters without a reference in memory, to which the file may still refer.
    unlinked: Vec<u64>,
    /// Entries were written that are not synced.
    must_sync: bool,
    inflated: Inflated,
}

/// What an image itself holds, whatever it is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Nothing: what it is based on shows through.
    Nothing,
    /// Zeros.
    Zeros,
    /// Data.
    Data,
}

impl Qcow2 {
    /// Opens an image whose header was read, and whose backing file, if it names one, was opened. One that a
    /// program left in the middle of its work is mended first, if it is to be written.
    pub fn open(
        store: Box<dyn Store>,
        header: Header,
        backing: Option<Box<dyn Disk>>,
        is_writable: bool,
    ) -> Result<Qcow2, OpenError> {
        let path = store.path().to_owned();
        let host = |error: io::Error| OpenError::from_host(&path, "read", is_writable, error);
        if is_writable && header.is_corrupt {
            let what = "another program has marked it so; `qemu-img check -r all` may mend it".to_owned();
            return Err(header::damaged(&path, what));
        }
        let l1 = read_exact(&*store, header.l1_offset, u64::from(header.l1_entries) * 8).map_err(host)?;
        let refcounts = is_writable.then(|| Refcounts::open(&*store, &header)).transpose().map_err(host)?;
        if let Some(offset) = refcounts
            .as_ref()
            .and_then(|refcounts| refcounts.blocks(store.length_bytes()).misplaced.first().copied())
        {
            let what =
                format!("refcounts are said to lie at byte {offset}; `qemu-img check -r all` may mend it");
            return Err(header::damaged(&path, what));
        }
        let mut disk = Qcow2 {
            l1: be64_table(&l1),
            l1_changed: BTreeSet::new(),
            l2: Cache::new(header.cluster_bytes()),
            refcounts,
            unlinked: Vec::new(),
            must_sync: false,
            inflated: Inflated::default(),
            store,
            header,
            backing,
        };
        if is_writable {
            disk.prepare_writing().map_err(|error| OpenError::from_disk(&path, error))?;
        }
        Ok(disk)
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    fn damaged(&self, what: String) -> DiskError {
        DiskError::Damaged { path: PathBuf::from(self.store.path()), what }
    }

    /// First-level index and second-level index of a cluster.
    fn indices(&self, cluster: u64) -> (usize, u64) {
        ((cluster / self.header.l2_entries()) as usize, cluster % self.header.l2_entries())
    }

    /// What there is at a cluster.
    fn mapping(&mut self, cluster: u64) -> Result<Mapping, DiskError> {
        let (index, within) = self.indices(cluster);
        let offset = self.l1[index] & OFFSET;
        if offset == 0 {
            return Ok(Mapping::Absent);
        }
        let entry = self.l2.load(&*self.store, offset)?.entry(within);
        let mapping = Mapping::of(entry, self.header.version, self.header.cluster_bits);
        match mapping {
            Mapping::Data { host, .. } | Mapping::Zero { host: Some(host), .. } => self.check_host(host)?,
            Mapping::Compressed { host, .. } if host >= self.store.length_bytes() => {
                return Err(self.damaged(format!("compressed data is said to lie at byte {host}")));
            }
            _ => {}
        }
        Ok(mapping)
    }

    /// A cluster of data lies in the file, and not where the image keeps its tables.
    fn check_host(&self, host: u64) -> Result<(), DiskError> {
        let bytes = self.header.cluster_bytes();
        let l1_end = self.header.l1_offset + self.l1.len() as u64 * 8;
        let is_table = host < bytes
            || (self.header.l1_offset..l1_end).contains(&host)
            || self.l2.holds(host)
            || self.refcounts.as_ref().is_some_and(|refcounts| refcounts.holds(host));
        let is_inside = match &self.refcounts {
            Some(refcounts) => host >> self.header.cluster_bits < refcounts.end(),
            None => host < self.store.length_bytes(),
        };
        if is_table || !is_inside || !host.is_multiple_of(bytes) {
            return Err(self.damaged(format!("data is said to lie at byte {host}")));
        }
        Ok(())
    }

    /// What this image itself holds at an offset, which is before the end, and for how many bytes.
    pub fn own(&mut self, offset: u64) -> Result<(Own, u64), DiskError> {
        let unit = self.header.cluster_bytes();
        let rest = (unit - offset % unit).min(self.header.length_bytes - offset);
        let own = match self.mapping(offset >> self.header.cluster_bits)? {
            Mapping::Absent => Own::Nothing,
            Mapping::Zero { .. } => Own::Zeros,
            Mapping::Data { .. } | Mapping::Compressed { .. } => Own::Data,
        };
        Ok((own, rest))
    }

    /// Reads inside one cluster.
    fn read_cluster(&mut self, cluster: u64, within: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        match self.mapping(cluster)? {
            Mapping::Zero { .. } => buffer.fill(0),
            Mapping::Data { host, .. } => self.store.read_at(host + within, buffer)?,
            Mapping::Absent => match &mut self.backing {
                None => buffer.fill(0),
                Some(backing) => {
                    let offset = (cluster << self.header.cluster_bits) + within;
                    read_padded(&mut **backing, offset, buffer)?;
                }
            },
            Mapping::Compressed { host, length_bytes } => {
                let bytes = self.inflated.get(&*self.store, &self.header, host, length_bytes)?;
                buffer.copy_from_slice(&bytes[within as usize..][..buffer.len()]);
            }
        }
        Ok(())
    }
}

impl Disk for Qcow2 {
    fn length_bytes(&self) -> u64 {
        self.header.length_bytes
    }

    fn is_read_only(&self) -> bool {
        self.refcounts.is_none()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes(), offset, buffer.len() as u64)?;
        for piece in pieces(offset, buffer.len(), self.header.cluster_bytes()) {
            self.read_cluster(piece.unit, piece.within, &mut buffer[piece.range])?;
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        check_range(self.length_bytes(), offset, bytes.len() as u64)?;
        for piece in pieces(offset, bytes.len(), self.header.cluster_bytes()) {
            self.make_room()?;
            self.write_cluster(piece.unit, piece.within, &bytes[piece.range])?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.commit()
    }

    fn write_zeros(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        self.clear(offset, length_bytes, true)
    }

    fn discard(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        self.clear(offset, length_bytes, false)
    }

    fn extent(&mut self, offset: u64) -> Result<Extent, DiskError> {
        let bits = self.header.cluster_bits;
        let rest = self.length_bytes() - offset;
        let to_end_of = |unit: u64| (unit - offset % unit).min(rest);
        let cluster = offset >> bits;
        let (index, _) = self.indices(cluster);
        if self.l1[index] & OFFSET == 0 {
            let covered = to_end_of(self.header.l2_entries() << bits);
            return extent_padded(self.backing.as_mut(), offset, covered);
        }
        let length_bytes = to_end_of(1 << bits);
        match self.mapping(cluster)? {
            Mapping::Absent => extent_padded(self.backing.as_mut(), offset, length_bytes),
            mapping => Ok(Extent { length_bytes, is_zero: matches!(mapping, Mapping::Zero { .. }) }),
        }
    }
}

impl Drop for Qcow2 {
    /// What was written and not flushed need not survive, but it should.
    fn drop(&mut self) {
        // The second one brings the refcounts of what the first one freed.
        let _ = self.commit().and_then(|()| self.commit());
    }
}

#[cfg(test)]
mod tests;
