//! Virtual PC's image: fixed, dynamic, and (read only) differencing. Source: Microsoft, *Virtual Hard Disk
//! Image Format Specification*, version 1.0.
//!
//! **What survives.** A new block takes the footer's place; its data, its bitmap and the new footer go to the
//! file before the table that names the block, with a sync between. If the footer at the end is lost, its
//! copy at the start serves.
//!
//! Left out on purpose: giving back blocks, batmap (Hyper-V's hint), writing differencing images.

pub mod create;
pub mod footer;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use footer::{FOOTER, Footer, HEADER, Header, Kind, damaged};

use crate::check::Findings;
use crate::disk::{
    Disk, DiskError, Extent, NOT_LONGER, NOT_SHORTER, SECTOR, TOO_LONG, block_on_disk, check_range,
    extent_padded, not_in_file, read_padded,
};
use crate::fields::be32_table;
use crate::format::{Format, refuse_disguise};
use crate::open::OpenError;
use crate::pieces::pieces;
use crate::progress::Progress;
use crate::store::{Store, read_exact};

/// A block that was never written.
const ABSENT: u32 = 0xFFFF_FFFF;
/// Most bitmaps kept in memory.
const BITMAPS_MAX: usize = 1024;

/// An opened VHD image.
pub struct Vhd {
    store: Box<dyn Store>,
    footer: Footer,
    is_writable: bool,
    /// `None` for a fixed disk.
    dynamic: Option<Dynamic>,
    parent: Option<Box<dyn Disk>>,
}

struct Dynamic {
    header: Header,
    /// First sector of each block, where its bitmap lies.
    table: Vec<u32>,
    /// Blocks whose place is not in the file's table yet.
    changed: BTreeSet<usize>,
    /// Bitmaps of blocks that are not whole, and whether they differ from the file's.
    bitmaps: BTreeMap<usize, (Vec<u8>, bool)>,
    /// Where the next block goes.
    end: u64,
    /// The footer in the file does not stand at the end.
    footer_moved: bool,
    must_sync: bool,
}

impl Vhd {
    /// Opens an image; `parent` finds the disk behind a differencing one.
    pub fn open(
        store: Box<dyn Store>,
        is_writable: bool,
        parent: impl FnOnce(&Header) -> Result<Box<dyn Disk>, OpenError>,
    ) -> Result<Vhd, OpenError> {
        let footer = Footer::read(&*store)?;
        let mut disk = Vhd { store, footer, is_writable, dynamic: None, parent: None };
        if disk.footer.kind != Kind::Fixed {
            let header = Header::read(&*disk.store, &disk.footer)?;
            if disk.footer.kind == Kind::Differencing {
                disk.parent = Some(parent(&header)?);
            }
            disk.dynamic = Some(disk.read_table(header)?);
        }
        Ok(disk)
    }

    fn read_table(&self, header: Header) -> Result<Dynamic, OpenError> {
        let path = self.store.path();
        let bytes = u64::from(header.blocks) * 4;
        let table = read_exact(&*self.store, header.table_offset, bytes)
            .map_err(|error| OpenError::from_host(path, "read", false, error))?;
        let table = be32_table(&table);
        let block_end = |sector: u32| u64::from(sector) * SECTOR + header.bitmap_bytes() + header.block_bytes;
        let mut places: Vec<u32> = table.iter().copied().filter(|sector| *sector != ABSENT).collect();
        places.sort_unstable();
        let overlap = places.windows(2).any(|pair| block_end(pair[0]) > u64::from(pair[1]) * SECTOR);
        let tables_end = (header.table_offset + bytes).max(self.footer.header_offset.saturating_add(HEADER));
        let is_low =
            places.first().is_some_and(|sector| u64::from(*sector) * SECTOR < tables_end.max(FOOTER));
        if self.is_writable && (overlap || is_low) {
            return Err(damaged(path, "blocks overlap".into()));
        }
        // Growing the file for a new block would make zeros of what was cut off.
        let is_cut = places.last().is_some_and(|sector| block_end(*sector) > self.store.length_bytes());
        if self.is_writable && is_cut {
            return Err(damaged(path, "its last block does not lie in the file, which may be cut".into()));
        }
        let end = places.last().map_or(0, |sector| block_end(*sector)).max(tables_end);
        Ok(Dynamic {
            header,
            table,
            changed: BTreeSet::new(),
            bitmaps: BTreeMap::new(),
            end: end.next_multiple_of(SECTOR),
            footer_moved: false,
            must_sync: false,
        })
    }

    /// The footer.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Bytes of a block, if it has blocks.
    pub fn block_bytes(&self) -> Option<u64> {
        self.dynamic.as_ref().map(|dynamic| dynamic.header.block_bytes)
    }

    fn commit(&mut self) -> Result<(), DiskError> {
        if !self.is_writable {
            return Ok(());
        }
        let Some(dynamic) = &mut self.dynamic else { return Ok(self.store.sync()?) };
        if dynamic.footer_moved {
            self.store.write_at(dynamic.end, &self.footer.encode())?;
            self.store.set_length(dynamic.end + FOOTER)?;
            dynamic.footer_moved = false;
        }
        self.store.sync()?;
        dynamic.write_tables(&mut *self.store)?;
        if dynamic.must_sync {
            self.store.sync()?;
            dynamic.must_sync = false;
        }
        Ok(())
    }

    /// Looks through the table.
    pub fn check(&mut self, progress: Progress<'_>) -> Result<Findings, DiskError> {
        self.commit()?;
        let mut findings = Findings::default();
        let Some(dynamic) = &self.dynamic else { return Ok(findings) };
        let size = dynamic.header.bitmap_bytes() + dynamic.header.block_bytes;
        let mut places: Vec<(u64, usize)> = dynamic.places().collect();
        places.sort_unstable();
        if !progress(0, 1) {
            findings.is_cancelled = true;
            return Ok(findings);
        }
        let first = dynamic.header.table_offset + dynamic.table.len() as u64 * 4;
        let mut end = first.max(self.footer.header_offset + HEADER);
        let mut gaps = 0;
        for (place, block) in places {
            if place < end {
                findings.add(format!("block {block} lies over something else, at byte {place}"));
            } else {
                gaps += (place - end) / size * size;
            }
            if place + size > self.store.length_bytes() {
                findings.add(format!("block {block} lies past the end, at byte {place}"));
            }
            end = end.max(place + size);
            findings.used_bytes += size;
        }
        findings.leaked_bytes = gaps + self.store.length_bytes().saturating_sub(end + FOOTER) / size * size;
        Ok(findings)
    }

    /// Changes the length: of a fixed disk, or of a dynamic one within its table.
    pub fn resize(&mut self, length_bytes: u64) -> Result<(), DiskError> {
        self.commit()?;
        let whole = length_bytes.checked_next_multiple_of(SECTOR);
        let length_bytes = whole.ok_or(DiskError::Unsupported(TOO_LONG))?;
        if length_bytes < self.footer.length_bytes {
            return Err(DiskError::Unsupported(NOT_SHORTER));
        }
        let room =
            self.dynamic.as_ref().map(|dynamic| dynamic.table.len() as u64 * dynamic.header.block_bytes);
        if room.is_some_and(|room| length_bytes > room) {
            return Err(DiskError::Unsupported(NOT_LONGER));
        }
        let old = self.footer.length_bytes;
        self.footer.length_bytes = length_bytes;
        match &mut self.dynamic {
            None => {
                self.store.write_at(length_bytes, &self.footer.encode())?;
                self.store.sync()?;
                // The old footer is in the disk now.
                let old_footer = FOOTER.min(length_bytes - old);
                self.store.punch(old, old_footer)?;
            }
            Some(dynamic) => {
                dynamic.footer_moved = true;
                self.store.write_at(0, &self.footer.encode())?;
            }
        }
        self.commit()
    }
}

impl Dynamic {
    fn places(&self) -> impl Iterator<Item = (u64, usize)> {
        let places = self.table.iter().enumerate().filter(|(_, sector)| **sector != ABSENT);
        places.map(|(block, sector)| (u64::from(*sector) * SECTOR, block))
    }

    /// Whether the file holds all that a disk of `disk_bytes` has of a block.
    fn is_in_file(&self, store: &dyn Store, block: usize, place: u64, disk_bytes: u64) -> bool {
        let needed = block_on_disk(block as u64, self.header.block_bytes, disk_bytes);
        place + self.header.bitmap_bytes() + needed <= store.length_bytes()
    }

    /// Where a block's bitmap lies, on a disk of `disk_bytes`.
    fn lookup(&self, store: &dyn Store, block: usize, disk_bytes: u64) -> Result<Option<u64>, DiskError> {
        match self.table[block] {
            ABSENT => Ok(None),
            sector => {
                let place = u64::from(sector) * SECTOR;
                if !self.is_in_file(store, block, place, disk_bytes) {
                    let what = not_in_file("block", block);
                    return Err(DiskError::Damaged { path: PathBuf::from(store.path()), what });
                }
                Ok(Some(place))
            }
        }
    }

    /// The bitmap of a block: which sectors it has.
    fn bitmap(
        &mut self,
        store: &dyn Store,
        block: usize,
        place: u64,
    ) -> Result<&mut (Vec<u8>, bool), DiskError> {
        if !self.bitmaps.contains_key(&block) {
            if self.bitmaps.len() >= BITMAPS_MAX {
                self.bitmaps.retain(|_, (_, is_changed)| *is_changed);
            }
            let mut bits = vec![0; self.header.bitmap_bytes() as usize];
            store.read_at(place, &mut bits)?;
            self.bitmaps.insert(block, (bits, false));
        }
        Ok(self.bitmaps.get_mut(&block).expect("just put there"))
    }

    /// Whether a sector is in its block, and how many after it are alike, at most `most`.
    fn run(
        &mut self,
        store: &dyn Store,
        block: usize,
        place: u64,
        sector: u64,
        most: u64,
    ) -> Result<(bool, u64), DiskError> {
        let (bits, _) = self.bitmap(store, block, place)?;
        let is_set = |sector: u64| bits[(sector / 8) as usize] & 0x80 >> (sector % 8) != 0;
        let first = is_set(sector);
        let count = (sector..sector + most).take_while(|sector| is_set(*sector) == first).count();
        Ok((first, count as u64))
    }

    fn mark(
        &mut self,
        store: &dyn Store,
        block: usize,
        place: u64,
        sectors: std::ops::RangeInclusive<u64>,
    ) -> Result<(), DiskError> {
        let (bits, is_changed) = self.bitmap(store, block, place)?;
        for sector in sectors {
            let (byte, bit) = ((sector / 8) as usize, 0x80 >> (sector % 8));
            if bits[byte] & bit == 0 {
                bits[byte] |= bit;
                *is_changed = true;
            }
        }
        Ok(())
    }

    /// Gives a block a place full of zeros, with a bitmap that says it is whole.
    fn allocate(&mut self, store: &mut dyn Store) -> Result<u64, DiskError> {
        let (place, size) = (self.end, self.header.bitmap_bytes() + self.header.block_bytes);
        if u32::try_from(place / SECTOR).is_err() {
            return Err(DiskError::Host(io::ErrorKind::FileTooLarge.into()));
        }
        // The footer stood there.
        self.footer_moved = true;
        store.punch(place, size)?;
        if store.length_bytes() < place + size {
            store.set_length(place + size)?;
        }
        store.write_at(place, &vec![0xFF; self.header.bitmap_bytes() as usize])?;
        Ok(place)
    }

    fn link(&mut self, block: usize, place: u64) {
        self.table[block] = (place / SECTOR) as u32;
        self.changed.insert(block);
        self.end = place + self.header.bitmap_bytes() + self.header.block_bytes;
    }

    fn write_tables(&mut self, store: &mut dyn Store) -> io::Result<()> {
        while let Some(block) = self.changed.first().copied() {
            store.write_at(self.header.table_offset + block as u64 * 4, &self.table[block].to_be_bytes())?;
            self.changed.remove(&block);
            self.must_sync = true;
        }
        for (block, (bits, is_changed)) in &mut self.bitmaps {
            if *is_changed {
                store.write_at(u64::from(self.table[*block]) * SECTOR, bits)?;
                *is_changed = false;
                self.must_sync = true;
            }
        }
        Ok(())
    }
}

impl Disk for Vhd {
    fn length_bytes(&self) -> u64 {
        self.footer.length_bytes
    }

    fn is_read_only(&self) -> bool {
        !self.is_writable
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes(), offset, buffer.len() as u64)?;
        let Some(dynamic) = &mut self.dynamic else {
            return Ok(self.store.read_at(offset, buffer)?);
        };
        for piece in pieces(offset, buffer.len(), dynamic.header.block_bytes) {
            let block = piece.unit as usize;
            let place = dynamic.lookup(&*self.store, block, self.footer.length_bytes)?;
            // In a block, runs of sectors that are there and of those that are not.
            let (mut at, end) = (piece.range.start, piece.range.end);
            while at < end {
                let within = piece.within + (at - piece.range.start) as u64;
                let (is_there, to) = match place {
                    None => (false, end),
                    Some(place) => {
                        let sector = within / SECTOR;
                        let last = (within + (end - at) as u64 - 1) / SECTOR;
                        let (is_there, count) =
                            dynamic.run(&*self.store, block, place, sector, last - sector + 1)?;
                        let run_bytes = (sector + count) * SECTOR - within;
                        (is_there, end.min(at + run_bytes as usize))
                    }
                };
                let bytes = &mut buffer[at..to];
                match (is_there.then_some(place).flatten(), &mut self.parent) {
                    (Some(place), _) => {
                        self.store.read_at(place + dynamic.header.bitmap_bytes() + within, bytes)?;
                    }
                    (None, Some(parent)) => read_padded(&mut **parent, offset + at as u64, bytes)?,
                    (None, None) => bytes.fill(0),
                }
                at = to;
            }
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if !self.is_writable {
            return Err(DiskError::ReadOnly);
        }
        check_range(self.length_bytes(), offset, bytes.len() as u64)?;
        let Some(dynamic) = &mut self.dynamic else {
            refuse_disguise(&*self.store, offset, bytes, |head| Format::of_head(head).map(Format::name))?;
            return Ok(self.store.write_at(offset, bytes)?);
        };
        for piece in pieces(offset, bytes.len(), dynamic.header.block_bytes) {
            let (block, bytes) = (piece.unit as usize, &bytes[piece.range]);
            let data = dynamic.header.bitmap_bytes() + piece.within;
            match dynamic.lookup(&*self.store, block, self.footer.length_bytes)? {
                Some(place) => {
                    self.store.write_at(place + data, bytes)?;
                    let last = (piece.within + bytes.len() as u64 - 1) / SECTOR;
                    dynamic.mark(&*self.store, block, place, piece.within / SECTOR..=last)?;
                }
                None => {
                    let place = dynamic.allocate(&mut *self.store)?;
                    self.store.write_at(place + data, bytes)?;
                    dynamic.link(block, place);
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
            let (place, now) = match &self.dynamic {
                None => (Some(at), end - at),
                Some(dynamic) => {
                    let within = at % dynamic.header.block_bytes;
                    let block = (at / dynamic.header.block_bytes) as usize;
                    let place = dynamic.lookup(&*self.store, block, self.footer.length_bytes)?;
                    let data = dynamic.header.bitmap_bytes() + within;
                    (place.map(|place| place + data), (dynamic.header.block_bytes - within).min(end - at))
                }
            };
            if let Some(place) = place {
                self.store.punch(place, now)?;
            }
            at += now;
        }
        Ok(())
    }

    fn extent(&mut self, offset: u64) -> Result<Extent, DiskError> {
        let rest = self.length_bytes() - offset;
        let Some(dynamic) = &self.dynamic else {
            let run = self.store.run_at(offset)?;
            return Ok(Extent { length_bytes: run.length_bytes.min(rest), is_zero: run.is_hole });
        };
        let block_bytes = dynamic.header.block_bytes;
        let length_bytes = (block_bytes - offset % block_bytes).min(rest);
        match dynamic.lookup(&*self.store, (offset / block_bytes) as usize, self.footer.length_bytes)? {
            Some(_) => Ok(Extent { length_bytes, is_zero: false }),
            None => extent_padded(self.parent.as_mut(), offset, length_bytes),
        }
    }
}

impl Drop for Vhd {
    /// What was written and not flushed need not survive, but it should.
    fn drop(&mut self) {
        let _ = self.commit();
    }
}

#[cfg(test)]
mod tests;
