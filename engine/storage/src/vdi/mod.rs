//! VirtualBox's image, dynamic and fixed. Source: VirtualBox `src/VBox/Storage/VDICore.h`.
//!
//! **What survives.** Data and the count of used blocks go to the file before the map that names the blocks,
//! with a sync between: wherever it is cut, the map names only blocks that are written, each once.
//!
//! Left out on purpose: differencing images (type 4), blocks with extra data, giving back discarded blocks
//! (other programs take a block that is counted and not mapped for damage).

mod create;
mod header;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use create::{Kind, create};
use header::BLOCKS_MAX;
pub use header::Header;

use crate::check::Findings;
use crate::disk::{
    Disk, DiskError, Extent, NOT_LONGER, NOT_SHORTER, SECTOR, TOO_LONG, block_on_disk, check_range,
    not_in_file,
};
use crate::fields::le32_table;
use crate::format::Format;
use crate::open::OpenError;
use crate::pieces::pieces;
use crate::progress::Progress;
use crate::store::{Store, read_exact};

/// A block that was never written.
const ABSENT: u32 = 0xFFFF_FFFF;
/// A block of zeros; this and all larger numbers have no place in the file.
const ZERO: u32 = 0xFFFF_FFFE;

/// An opened VDI image.
pub struct Vdi {
    store: Box<dyn Store>,
    header: Header,
    is_writable: bool,
    map: Vec<u32>,
    /// Blocks whose place is not in the file's map yet.
    changed: BTreeSet<u64>,
    /// Places that are counted as used and not in the map: left by a crash.
    free: Vec<u32>,
    /// The file's count of used blocks is out of date.
    count_changed: bool,
    must_sync: bool,
}

impl Vdi {
    /// Opens an image.
    pub fn open(store: Box<dyn Store>, is_writable: bool) -> Result<Vdi, OpenError> {
        let header = Header::read(&*store)?;
        let path = store.path().to_owned();
        let map = read_exact(&*store, header.map_offset, u64::from(header.blocks) * 4)
            .map_err(|error| OpenError::from_host(&path, "read", is_writable, error))?;
        let mut disk = Vdi {
            map: le32_table(&map),
            store,
            header,
            is_writable,
            changed: BTreeSet::new(),
            free: Vec::new(),
            count_changed: false,
            must_sync: false,
        };
        if is_writable {
            disk.find_free(&path)?;
        }
        Ok(disk)
    }

    /// Which places may be written, and that no two blocks share one.
    fn find_free(&mut self, path: &Path) -> Result<(), OpenError> {
        let mut used: Vec<u32> = self.map.iter().copied().filter(|place| *place < ZERO).collect();
        used.sort_unstable();
        let end = used.last().map_or(0, |place| place + 1);
        let is_twice = used.windows(2).any(|pair| pair[0] == pair[1]);
        if is_twice || end > self.header.blocks {
            let what = "its map names a block twice, or one beyond the last".to_owned();
            return Err(OpenError::Damaged { path: path.to_owned(), format: Format::Vdi, what });
        }
        // Growing the file for a new block would make zeros of what was cut off.
        let is_cut = |(block, place): (usize, &u32)| *place < ZERO && !self.is_in_file(block as u64, *place);
        if let Some(block) = self.map.iter().enumerate().position(is_cut) {
            let what = not_in_file("block", block);
            return Err(OpenError::Damaged { path: path.to_owned(), format: Format::Vdi, what });
        }
        let mut is_used = vec![false; end as usize];
        used.iter().for_each(|place| is_used[*place as usize] = true);
        self.free = (0..end).rev().filter(|place| !is_used[*place as usize]).collect();
        // Nothing refers to what lies behind.
        self.count_changed = self.header.allocated != end;
        self.header.allocated = end;
        Ok(())
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn place_offset(&self, place: u32) -> u64 {
        self.header.data_offset + u64::from(place) * self.header.block_bytes
    }

    /// Whether the file holds all that the disk has of a block: the last one may be cut where the disk ends.
    fn is_in_file(&self, block: u64, place: u32) -> bool {
        let needed = block_on_disk(block, self.header.block_bytes, self.length_bytes());
        needed == 0 || self.place_offset(place) + needed <= self.store.length_bytes()
    }

    /// Where a block lies in the file.
    fn lookup(&self, block: u64) -> Result<Option<u64>, DiskError> {
        let damaged = |what| DiskError::Damaged { path: PathBuf::from(self.store.path()), what };
        match self.map[block as usize] {
            place if place >= ZERO => Ok(None),
            place if place >= self.header.blocks => {
                Err(damaged(format!("block {block} is said to lie at place {place}")))
            }
            place if !self.is_in_file(block, place) => Err(damaged(not_in_file("block", block))),
            place => Ok(Some(self.place_offset(place))),
        }
    }

    /// Gives a block a place full of zeros; where that is.
    fn allocate(&mut self, block: u64) -> Result<(u32, u64), DiskError> {
        let place = self.free.last().copied().unwrap_or(self.header.allocated);
        if place >= self.header.blocks {
            let what = format!("block {block} finds no place");
            return Err(DiskError::Damaged { path: PathBuf::from(self.store.path()), what });
        }
        let offset = self.place_offset(place);
        self.store.punch(offset, self.header.block_bytes)?;
        if self.store.length_bytes() < offset + self.header.block_bytes {
            self.store.set_length(offset + self.header.block_bytes)?;
        }
        Ok((place, offset))
    }

    /// The block is written: the map may name it.
    fn link(&mut self, block: u64, place: u32) {
        if self.free.last() == Some(&place) {
            self.free.pop();
        } else {
            self.header.allocated = place + 1;
            self.count_changed = true;
        }
        self.map[block as usize] = place;
        self.changed.insert(block);
    }

    fn commit(&mut self) -> Result<(), DiskError> {
        if !self.is_writable {
            return Ok(());
        }
        if self.count_changed {
            self.store.write_at(Header::ALLOCATED_AT, &self.header.allocated.to_le_bytes())?;
            self.count_changed = false;
        }
        self.store.sync()?;
        while let Some(block) = self.changed.first().copied() {
            let entry = self.map[block as usize].to_le_bytes();
            self.store.write_at(self.header.map_offset + block * 4, &entry)?;
            self.changed.remove(&block);
            self.must_sync = true;
        }
        if self.must_sync {
            self.store.sync()?;
            self.must_sync = false;
        }
        Ok(())
    }

    /// Looks through the map.
    pub fn check(&mut self, progress: Progress<'_>) -> Result<Findings, DiskError> {
        self.commit()?;
        let mut findings = Findings::default();
        let mut is_used = vec![false; self.header.blocks as usize];
        for block in 0..self.map.len() {
            if block.is_multiple_of(4096) && !progress(block as u64, self.map.len() as u64) {
                findings.is_cancelled = true;
                return Ok(findings);
            }
            match self.map[block] {
                place if place >= ZERO => continue,
                place if place >= self.header.allocated.min(self.header.blocks) => {
                    findings.add(format!("block {block} lies at place {place}, which is not in use"));
                }
                place if std::mem::replace(&mut is_used[place as usize], true) => {
                    findings.add(format!("block {block} lies at place {place}, as another block does"));
                }
                place => {
                    findings.used_bytes += self.header.block_bytes;
                    if !self.is_in_file(block as u64, place) {
                        findings.add(not_in_file("block", block));
                    }
                }
            }
        }
        let counted = u64::from(self.header.allocated) * self.header.block_bytes;
        findings.leaked_bytes = counted.saturating_sub(findings.used_bytes);
        Ok(findings)
    }

    /// Grows with zeros, where the room before the data lets the map grow.
    pub fn resize(&mut self, length_bytes: u64) -> Result<(), DiskError> {
        self.commit()?;
        let whole = length_bytes.checked_next_multiple_of(SECTOR);
        let length_bytes = whole.ok_or(DiskError::Unsupported(TOO_LONG))?;
        if length_bytes < self.header.length_bytes {
            return Err(DiskError::Unsupported(NOT_SHORTER));
        }
        // Some programs make more blocks than the disk needs.
        let blocks = length_bytes.div_ceil(self.header.block_bytes).max(self.header.blocks.into());
        let room = ((self.header.data_offset - self.header.map_offset) / 4).min(BLOCKS_MAX.into());
        if blocks > room {
            return Err(DiskError::Unsupported(NOT_LONGER));
        }
        // The last block is whole from now on, also in a file that ended where the disk did.
        if let Some(last) = self.header.length_bytes.checked_sub(1)
            && let Some(place) = self.lookup(last / self.header.block_bytes)?
        {
            let end = place + self.header.block_bytes;
            if self.store.length_bytes() < end {
                self.store.set_length(end)?;
            }
        }
        let from = self.map.len();
        self.map.resize(blocks as usize, ABSENT);
        let added = vec![0xFF; (blocks as usize - from) * 4];
        self.store.write_at(self.header.map_offset + from as u64 * 4, &added)?;
        self.store.sync()?;
        (self.header.length_bytes, self.header.blocks) = (length_bytes, blocks as u32);
        let mut head = vec![0; 512];
        self.store.read_at(0, &mut head)?;
        self.header.put_length(&mut head);
        self.store.write_at(0, &head)?;
        Ok(self.store.sync()?)
    }
}

impl Disk for Vdi {
    fn length_bytes(&self) -> u64 {
        self.header.length_bytes
    }

    fn is_read_only(&self) -> bool {
        !self.is_writable
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes(), offset, buffer.len() as u64)?;
        for piece in pieces(offset, buffer.len(), self.header.block_bytes) {
            let bytes = &mut buffer[piece.range];
            match self.lookup(piece.unit)? {
                None => bytes.fill(0),
                Some(place) => self.store.read_at(place + piece.within, bytes)?,
            }
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if !self.is_writable {
            return Err(DiskError::ReadOnly);
        }
        check_range(self.length_bytes(), offset, bytes.len() as u64)?;
        for piece in pieces(offset, bytes.len(), self.header.block_bytes) {
            let bytes = &bytes[piece.range];
            match self.lookup(piece.unit)? {
                Some(place) => self.store.write_at(place + piece.within, bytes)?,
                None => {
                    let (place, offset) = self.allocate(piece.unit)?;
                    self.store.write_at(offset + piece.within, bytes)?;
                    self.link(piece.unit, place);
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.commit()
    }

    fn write_zeros(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        if !self.is_writable {
            return Err(DiskError::ReadOnly);
        }
        check_range(self.length_bytes(), offset, length_bytes)?;
        let (mut at, end) = (offset, offset + length_bytes);
        while at < end {
            let within = at % self.header.block_bytes;
            let now = (self.header.block_bytes - within).min(end - at);
            if let Some(place) = self.lookup(at / self.header.block_bytes)? {
                self.store.punch(place + within, now)?;
            }
            at += now;
        }
        Ok(())
    }

    fn extent(&mut self, offset: u64) -> Result<Extent, DiskError> {
        let rest = self.header.block_bytes - offset % self.header.block_bytes;
        let is_zero = self.lookup(offset / self.header.block_bytes)?.is_none();
        Ok(Extent { length_bytes: rest.min(self.length_bytes() - offset), is_zero })
    }
}

impl Drop for Vdi {
    /// What was written and not flushed need not survive, but it should.
    fn drop(&mut self) {
        let _ = self.commit();
    }
}

#[cfg(test)]
mod tests;
