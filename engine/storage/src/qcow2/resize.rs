//! Changing the length of the disk. Wherever it is cut, the image has the old length or the new one.

use super::Qcow2;
use super::header::{Header, L1_MAX_BYTES};
use crate::disk::{Disk, DiskError, NOT_LONGER, SECTOR, TOO_LONG};
use crate::fields::{put_be32, put_be64};

impl Qcow2 {
    /// Grows with zeros, or cuts off.
    pub fn resize(&mut self, length_bytes: u64) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        if self.header.snapshots > 0 {
            let what = "images with internal snapshots are not resized; `qemu-img snapshot -d` removes them";
            return Err(DiskError::Unsupported(what));
        }
        let whole = length_bytes.checked_next_multiple_of(SECTOR);
        let length_bytes = whole.ok_or(DiskError::Unsupported(TOO_LONG))?;
        let old_bytes = self.length_bytes();
        if length_bytes < old_bytes {
            self.clear(length_bytes, old_bytes - length_bytes, true)?;
            self.commit()?;
            return self.set_header(length_bytes);
        }
        let covered = self.header.cluster_bytes() * self.header.l2_entries();
        let entries = length_bytes.div_ceil(covered).max(self.l1.len() as u64);
        if entries * 8 > L1_MAX_BYTES {
            return Err(DiskError::Unsupported(NOT_LONGER));
        }
        self.commit()?;
        self.grow_l1(entries as usize, length_bytes)?;
        // Nothing of a longer backing file may come to light.
        let backing_bytes = self.backing.as_ref().map_or(0, |backing| backing.length_bytes());
        if backing_bytes > old_bytes {
            self.clear(old_bytes, backing_bytes.min(length_bytes) - old_bytes, true)?;
        }
        self.commit()
    }

    fn grow_l1(&mut self, entries: usize, length_bytes: u64) -> Result<(), DiskError> {
        if entries == self.l1.len() {
            return self.set_header(length_bytes);
        }
        let bits = self.header.cluster_bits;
        let mut l1 = self.l1.clone();
        l1.resize(entries, 0);
        let mut bytes = vec![0; entries * 8];
        for (n, entry) in l1.iter().enumerate() {
            put_be64(&mut bytes, n * 8, *entry);
        }
        let refcounts = self.refcounts.as_mut().ok_or(DiskError::ReadOnly)?;
        let clusters = (bytes.len() as u64).div_ceil(1 << bits);
        let start = refcounts.allocate_run(&mut *self.store, clusters)?;
        self.store.set_length((start + clusters) << bits)?;
        self.store.write_at(start << bits, &bytes)?;
        refcounts.write(&mut *self.store)?;
        self.store.sync()?;
        let (old_offset, old_bytes) = (self.header.l1_offset, self.l1.len() as u64 * 8);
        (self.l1, self.header.l1_offset, self.header.l1_entries) = (l1, start << bits, entries as u32);
        self.set_header(length_bytes)?;
        if old_bytes > 0 {
            self.unlinked.extend((old_offset >> bits)..=((old_offset + old_bytes - 1) >> bits));
        }
        Ok(())
    }

    /// Length, first-level table and its place are one write inside the first sector.
    fn set_header(&mut self, length_bytes: u64) -> Result<(), DiskError> {
        let mut fields = [0; 24];
        put_be64(&mut fields, 0, length_bytes);
        let l1_at = (Header::L1_ENTRIES_AT - Header::LENGTH_AT) as usize;
        put_be32(&mut fields, l1_at, self.header.l1_entries);
        put_be64(&mut fields, l1_at + 4, self.header.l1_offset);
        self.store.write_at(Header::LENGTH_AT, &fields)?;
        self.store.sync()?;
        self.header.length_bytes = length_bytes;
        Ok(())
    }
}
