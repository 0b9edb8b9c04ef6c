//! Hyper-V's image, read only. Source: Microsoft, \[MS-VHDX\] Virtual Hard Disk v2 File Format.
//!
//! The log of an image that was not closed is replayed in memory. Left out on purpose: parents
//! (differencing disks), writing (a qcow2 overlay takes what is written).

mod check;
mod crc32c;
mod header;
mod log;

use std::path::PathBuf;

pub use header::Header;

use crate::disk::{Disk, DiskError, Extent, block_on_disk, check_range, not_in_file};
use crate::fields::le64;
use crate::open::OpenError;
use crate::pieces::pieces;
use crate::store::{Store, read_exact};

/// Bits 20 to 63 of a table entry: where the block lies.
const OFFSET: u64 = !0xF_FFFF;
/// States of a block (bits 0 to 2): fully there. Others read as zeros, but 7 needs a parent.
const PRESENT: u64 = 6;
const PARTLY_PRESENT: u64 = 7;

/// An opened VHDX image.
pub struct Vhdx {
    store: Box<dyn Store>,
    header: Header,
    /// The table, without the entries of sector bitmaps.
    blocks: Vec<u64>,
}

impl Vhdx {
    /// Opens an image.
    pub fn open(store: Box<dyn Store>) -> Result<Vhdx, OpenError> {
        let (store, header) = header::read(store)?;
        let bat = read_exact(&*store, header.bat_offset, header.bat_entries() * 8)
            .map_err(|error| OpenError::from_host(store.path(), "read", false, error))?;
        let chunk = header.chunk() as usize;
        let entries = bat.chunks_exact(8).map(|entry| le64(entry, 0)).enumerate();
        let blocks = entries.filter(|(n, _)| n % (chunk + 1) != chunk).map(|(_, entry)| entry).collect();
        Ok(Vhdx { store, header, blocks })
    }

    /// What its tables say.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether the file holds all that the disk has of a block: the last one may be cut where the disk ends.
    fn is_in_file(&self, block: u64, place: u64) -> bool {
        let needed = block_on_disk(block, self.header.block_bytes, self.length_bytes());
        place != 0 && place.checked_add(needed).is_some_and(|end| end <= self.store.length_bytes())
    }

    fn lookup(&self, block: u64) -> Result<Option<u64>, DiskError> {
        let entry = self.blocks[block as usize];
        let damaged = |what| DiskError::Damaged { path: PathBuf::from(self.store.path()), what };
        match entry & 7 {
            PRESENT if !self.is_in_file(block, entry & OFFSET) => Err(damaged(not_in_file("block", block))),
            PRESENT => Ok(Some(entry & OFFSET)),
            PARTLY_PRESENT => Err(damaged(format!("block {block} needs a parent, and there is none"))),
            _ => Ok(None),
        }
    }
}

impl Disk for Vhdx {
    fn length_bytes(&self) -> u64 {
        self.header.length_bytes
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes(), offset, buffer.len() as u64)?;
        for piece in pieces(offset, buffer.len(), self.header.block_bytes) {
            let bytes = &mut buffer[piece.range];
            match self.lookup(piece.unit)? {
                Some(place) => self.store.read_at(place + piece.within, bytes)?,
                None => bytes.fill(0),
            }
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
        let block_bytes = self.header.block_bytes;
        let length_bytes = (block_bytes - offset % block_bytes).min(self.length_bytes() - offset);
        Ok(Extent { length_bytes, is_zero: self.lookup(offset / block_bytes)?.is_none() })
    }
}

#[cfg(test)]
mod tests;
