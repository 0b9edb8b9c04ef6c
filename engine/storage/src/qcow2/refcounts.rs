//! How often each cluster of the file is referred to, and where the next free one is.
//!
//! Refcounts change in memory; [`Refcounts::write`] brings them to the file. Only a block or table that did
//! not exist before is written at once, and synced before anything refers to it. After a crash a refcount may
//! be too high (a leak), and never too low. Source: `qcow2.txt`, "Host cluster management".

use std::collections::HashSet;
use std::io;
use std::ops::Range;

use super::cache::Cache;
use super::header::Header;
use crate::disk::DiskError;
use crate::fields::{be64_table, put_be64};
use crate::store::{Store, read_exact};

/// Bits 9 to 63 of a table entry: where the block lies.
const OFFSET: u64 = !0x1FF;
/// Largest refcount table that is made, in bytes.
const TABLE_MAX_BYTES: u64 = 8 << 20;

/// The refcounts of an image that is written.
pub struct Refcounts {
    cluster_bits: u32,
    order: u32,
    table_offset: u64,
    table: Vec<u64>,
    blocks: Cache,
    /// No cluster below is free.
    hint: u64,
    /// No cluster from here on was ever used.
    end: u64,
}

/// The blocks of refcounts that a file has.
#[derive(Default)]
pub struct Blocks {
    /// The clusters they are, in the table's order.
    pub clusters: Vec<u64>,
    /// What they count, in ascending order: what is in no block has no refcount.
    pub counted: Vec<Range<u64>>,
    /// Offsets where the table says that a block lies, and none can: outside the file, in the midst of a
    /// cluster, or where another one is.
    pub misplaced: Vec<u64>,
}

impl Blocks {
    /// Whether a block counts this cluster.
    pub fn count(&self, cluster: u64) -> bool {
        let after = self.counted.partition_point(|range| range.start <= cluster);
        after > 0 && cluster < self.counted[after - 1].end
    }
}

impl Refcounts {
    /// Reads the table; blocks are read when needed.
    pub fn open(store: &dyn Store, header: &Header) -> io::Result<Refcounts> {
        let bytes = u64::from(header.refcount_table_clusters) << header.cluster_bits;
        Ok(Refcounts {
            cluster_bits: header.cluster_bits,
            order: header.refcount_order,
            table_offset: header.refcount_table_offset,
            table: be64_table(&read_exact(store, header.refcount_table_offset, bytes)?),
            blocks: Cache::new(header.cluster_bytes()),
            hint: 0,
            end: store.length_bytes().div_ceil(header.cluster_bytes()),
        })
    }

    /// One past the last cluster in use.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The clusters of the table itself.
    pub fn table_clusters(&self) -> Range<u64> {
        let from = self.table_offset >> self.cluster_bits;
        from..from + ((self.table.len() as u64 * 8) >> self.cluster_bits)
    }

    /// Where the blocks lie in a file of `file_bytes`, and what they count.
    pub fn blocks(&self, file_bytes: u64) -> Blocks {
        let mut blocks = Blocks::default();
        let mut taken = HashSet::new();
        for (index, offset) in self.table.iter().map(|entry| entry & OFFSET).enumerate() {
            if offset == 0 {
                continue;
            }
            let is_cluster = offset.is_multiple_of(1 << self.cluster_bits) && offset < file_bytes;
            if !is_cluster || !taken.insert(offset) {
                blocks.misplaced.push(offset);
                continue;
            }
            blocks.clusters.push(offset >> self.cluster_bits);
            let first = index as u64 * self.per_block();
            match blocks.counted.last_mut() {
                Some(last) if last.end == first => last.end += self.per_block(),
                _ => blocks.counted.push(first..first + self.per_block()),
            }
        }
        blocks
    }

    /// Whether the cluster at `offset` holds refcounts.
    pub fn holds(&self, offset: u64) -> bool {
        self.blocks.holds(offset) || self.table_clusters().contains(&(offset >> self.cluster_bits))
    }

    /// Whether changes should be written before there are more.
    pub fn is_crowded(&self) -> bool {
        self.blocks.is_crowded()
    }

    /// The largest refcount there can be.
    pub fn most(&self) -> u64 {
        u64::MAX >> (64 - (1u32 << self.order))
    }

    fn per_block(&self) -> u64 {
        ((1 << self.cluster_bits) * 8) >> self.order
    }

    fn block_of(&self, cluster: u64) -> usize {
        (cluster / self.per_block()) as usize
    }

    fn block_offset(&self, index: usize) -> Option<u64> {
        self.table.get(index).map(|entry| entry & OFFSET).filter(|offset| *offset != 0)
    }

    /// The refcount of a cluster.
    pub fn get(&mut self, store: &dyn Store, cluster: u64) -> Result<u64, DiskError> {
        let (index, order) = (cluster % self.per_block(), self.order);
        match self.block_offset(self.block_of(cluster)) {
            None => Ok(0),
            Some(offset) => Ok(get(&self.blocks.load(store, offset)?.bytes, index, order)),
        }
    }

    /// Sets the refcount of a cluster whose block exists.
    fn put(&mut self, store: &dyn Store, cluster: u64, value: u64) -> Result<(), DiskError> {
        let (index, order) = (cluster % self.per_block(), self.order);
        let offset = self.block_offset(self.block_of(cluster)).expect("the block exists");
        let block = self.blocks.load(store, offset)?;
        let touched = put(&mut block.bytes, index, order, value);
        block.touch(touched);
        if value == 0 {
            self.hint = self.hint.min(cluster);
        }
        Ok(())
    }

    /// Sets the refcount of any cluster.
    pub fn set(&mut self, store: &mut dyn Store, cluster: u64, value: u64) -> Result<(), DiskError> {
        if value == 0 && self.block_offset(self.block_of(cluster)).is_none() {
            return Ok(());
        }
        self.ensure_block(store, self.block_of(cluster))?;
        self.end = self.end.max(cluster + 1);
        self.put(store, cluster, value)
    }

    /// Takes a free cluster; its refcount is 1, in memory.
    pub fn allocate(&mut self, store: &mut dyn Store) -> Result<u64, DiskError> {
        let mut cluster = self.hint;
        loop {
            if self.get(store, cluster)? != 0 {
                cluster += 1;
                continue;
            }
            self.ensure_block(store, self.block_of(cluster))?;
            // The new block may have taken the very cluster.
            if self.get(store, cluster)? == 0 {
                self.put(store, cluster, 1)?;
                self.hint = cluster + 1;
                self.end = self.end.max(cluster + 1);
                return Ok(cluster);
            }
        }
    }

    /// Takes `count` clusters in a row from the end of the file.
    pub fn allocate_run(&mut self, store: &mut dyn Store, count: u64) -> Result<u64, DiskError> {
        loop {
            let start = self.end;
            for index in self.block_of(start)..=self.block_of(start + count - 1) {
                self.ensure_block(store, index)?;
            }
            // Unless blocks had to be made there, the place is free.
            if self.end == start {
                (start..start + count).try_for_each(|cluster| self.put(store, cluster, 1))?;
                self.end = start + count;
                return Ok(start);
            }
        }
    }

    /// One reference less; whether the cluster is free now.
    pub fn release(&mut self, store: &dyn Store, cluster: u64) -> Result<bool, DiskError> {
        match self.get(store, cluster)? {
            // It was too low already: a damaged image, which a check tells.
            0 => Ok(false),
            count => self.put(store, cluster, count - 1).map(|()| count == 1),
        }
    }

    /// Writes what changed.
    pub fn write(&mut self, store: &mut dyn Store) -> io::Result<bool> {
        self.blocks.write_all(store)
    }

    /// From now on new clusters are taken from `cluster` on, if `end` is not beyond already.
    pub fn set_end(&mut self, cluster: u64) {
        self.end = self.end.max(cluster);
        self.hint = self.hint.max(self.end);
    }

    /// From now on free clusters are looked for from the start.
    pub fn look_from_start(&mut self) {
        self.hint = 0;
    }

    fn ensure_block(&mut self, store: &mut dyn Store, index: usize) -> Result<(), DiskError> {
        while self.block_offset(index).is_none() {
            // The block goes to the end of the file, and if the block that counts that cluster is missing
            // too, that one goes there first, and counts itself.
            let at = self.end;
            let own = self.block_of(at);
            let target = if self.block_offset(own).is_some() { index } else { own };
            if target >= self.table.len() {
                self.grow_table(store, target)?;
            } else {
                self.add_block(store, target, at)?;
            }
        }
        Ok(())
    }

    /// Makes the block `target` in cluster `at`.
    fn add_block(&mut self, store: &mut dyn Store, target: usize, at: u64) -> Result<(), DiskError> {
        let mut bytes = vec![0; 1 << self.cluster_bits];
        let counts_itself = self.block_of(at) == target;
        if counts_itself {
            put(&mut bytes, at % self.per_block(), self.order, 1);
        } else {
            self.put(store, at, 1)?;
        }
        let offset = at << self.cluster_bits;
        let entry = offset.to_be_bytes();
        let entry_at = self.table_offset + target as u64 * 8;
        let written = store
            .write_at(offset, &bytes)
            .and_then(|()| self.blocks.write_all(store))
            .and_then(|_| store.sync())
            .and_then(|()| store.write_at(entry_at, &entry));
        if let Err(error) = written {
            if !counts_itself {
                self.put(store, at, 0)?;
            }
            return Err(error.into());
        }
        self.table[target] = offset;
        self.blocks.add_written(offset, bytes);
        self.end = at + 1;
        Ok(())
    }

    /// Moves the table to the end of the file, large enough for the block `needed`. The clusters it and its
    /// new blocks take there are counted before the header names it.
    fn grow_table(&mut self, store: &mut dyn Store, needed: usize) -> Result<(), DiskError> {
        let start = self.end;
        let entries_per_cluster = 1u64 << (self.cluster_bits - 3);
        let (mut clusters, mut blocks, mut last) = (0, 0, needed);
        loop {
            let enough = (last as u64 + 1).max(self.table.len() as u64 * 3 / 2).div_ceil(entries_per_cluster);
            let end = start + enough + blocks;
            let last_block = self.block_of(end - 1).max(needed);
            let missing = (self.block_of(start)..=self.block_of(end - 1))
                .filter(|index| self.block_offset(*index).is_none())
                .count() as u64;
            if enough == clusters && missing == blocks && last_block == last {
                break;
            }
            (clusters, blocks, last) = (enough, blocks.max(missing), last.max(last_block));
            if clusters << self.cluster_bits > TABLE_MAX_BYTES {
                return Err(DiskError::Host(io::ErrorKind::FileTooLarge.into()));
            }
        }
        let end = start + clusters + blocks;
        let mut table = self.table.clone();
        table.resize((clusters * entries_per_cluster) as usize, 0);
        let counting = self.block_of(start)..=self.block_of(end - 1);
        let fresh = counting.filter(|index| self.block_offset(*index).is_none());
        for (index, place) in fresh.zip(start + clusters..) {
            table[index] = place << self.cluster_bits;
        }
        self.install_table(store, table, start, end)
    }

    fn install_table(
        &mut self,
        store: &mut dyn Store,
        table: Vec<u64>,
        start: u64,
        end: u64,
    ) -> Result<(), DiskError> {
        let offset = start << self.cluster_bits;
        let clusters = ((table.len() as u64 * 8) >> self.cluster_bits) as u32;
        let mut fresh = Vec::new();
        let counting = self.block_of(start)..=self.block_of(end - 1);
        for (index, entry) in counting.map(|index| (index, table[index])) {
            let first = index as u64 * self.per_block();
            let counted = start.max(first)..end.min(first + self.per_block());
            if self.block_offset(index).is_some() {
                counted.into_iter().try_for_each(|cluster| self.put(store, cluster, 1))?;
            } else {
                let mut bytes = vec![0; 1 << self.cluster_bits];
                for cluster in counted {
                    put(&mut bytes, cluster - first, self.order, 1);
                }
                fresh.push((entry, bytes));
            }
        }
        for (offset, bytes) in &fresh {
            store.write_at(*offset, bytes)?;
        }
        self.blocks.write_all(store)?;
        let mut bytes = vec![0; table.len() * 8];
        for (n, entry) in table.iter().enumerate() {
            put_be64(&mut bytes, n * 8, *entry);
        }
        store.write_at(offset, &bytes)?;
        store.sync()?;
        let mut field = [0; 12];
        put_be64(&mut field, 0, offset);
        field[8..].copy_from_slice(&clusters.to_be_bytes());
        store.write_at(Header::REFCOUNT_TABLE_AT, &field)?;
        store.sync()?;
        let old = self.table_clusters();
        (self.table, self.table_offset, self.end) = (table, offset, end);
        for (offset, bytes) in fresh {
            self.blocks.add_written(offset, bytes);
        }
        for cluster in old {
            self.release(store, cluster)?;
        }
        Ok(())
    }
}

/// Reads a refcount of 2^`order` bits. Narrow ones fill bytes from the lowest bit.
fn get(bytes: &[u8], index: u64, order: u32) -> u64 {
    let index = index as usize;
    match order {
        0..=2 => {
            let bit = index << order;
            u64::from(bytes[bit / 8] >> (bit % 8)) & ((1 << (1 << order)) - 1)
        }
        _ => {
            let width = 1 << (order - 3);
            bytes[index * width..][..width].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
        }
    }
}

/// Writes a refcount; the bytes it touched.
fn put(bytes: &mut [u8], index: u64, order: u32, value: u64) -> Range<usize> {
    let index = index as usize;
    match order {
        0..=2 => {
            let bit = index << order;
            let mask = ((1u8 << (1 << order)) - 1) << (bit % 8);
            bytes[bit / 8] = bytes[bit / 8] & !mask | (value as u8) << (bit % 8) & mask;
            bit / 8..bit / 8 + 1
        }
        _ => {
            let width = 1 << (order - 3);
            bytes[index * width..][..width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
            index * width..(index + 1) * width
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refcounts_of_all_widths() {
        for order in 0..=6 {
            let mut bytes = vec![0; 64];
            let most = u64::MAX >> (64 - (1u32 << order));
            put(&mut bytes, 3, order, most);
            assert_eq!([2, 3, 4].map(|index| get(&bytes, index, order)), [0, most, 0], "order {order}");
            put(&mut bytes, 3, order, 1);
            assert_eq!(get(&bytes, 3, order), 1);
        }
    }
}
