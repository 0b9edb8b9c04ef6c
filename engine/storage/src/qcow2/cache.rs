//! Tables of one cluster each (second-level tables, refcount blocks), kept in memory and written when told.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use crate::disk::{DiskError, SECTOR};
use crate::fields::{be64, put_be64};
use crate::store::Store;

/// Room for each kind of table, in bytes.
const ROOM_BYTES: u64 = 8 << 20;
/// However large the clusters are, so many tables are kept.
const FEWEST: usize = 8;

/// A table of one cluster.
pub struct Table {
    /// Its content, as in the file.
    pub bytes: Vec<u8>,
    /// What of it is not in the file yet.
    dirty: Option<Range<usize>>,
    /// Nothing in the file refers to it yet, so it may be written at any time.
    is_new: bool,
    used: u64,
}

impl Table {
    /// Marks bytes as changed.
    pub fn touch(&mut self, range: Range<usize>) {
        self.dirty = Some(match self.dirty.take() {
            None => range,
            Some(old) => old.start.min(range.start)..old.end.max(range.end),
        });
    }

    /// Entry `index` of a table of 64-bit numbers.
    pub fn entry(&self, index: u64) -> u64 {
        be64(&self.bytes, index as usize * 8)
    }

    /// Changes an entry of a table of 64-bit numbers.
    pub fn set_entry(&mut self, index: u64, value: u64) {
        let at = index as usize * 8;
        put_be64(&mut self.bytes, at, value);
        self.touch(at..at + 8);
    }
}

/// Tables by their offset in the file.
pub struct Cache {
    tables: HashMap<u64, Table>,
    cluster_bytes: u64,
    most: usize,
    clock: u64,
}

impl Cache {
    /// An empty one.
    pub fn new(cluster_bytes: u64) -> Cache {
        let most = ((ROOM_BYTES / cluster_bytes) as usize).max(FEWEST);
        Cache { tables: HashMap::new(), cluster_bytes, most, clock: 0 }
    }

    /// Whether the cluster at `offset` is a table known here.
    pub fn holds(&self, offset: u64) -> bool {
        self.tables.contains_key(&offset)
    }

    /// Whether so much waits to be written that it should be, before more is taken in.
    pub fn is_crowded(&self) -> bool {
        self.tables.len() >= self.most
            && self.tables.values().filter(|table| table.dirty.is_some()).count() >= self.most / 2
    }

    /// The table at `offset`, from memory or the file.
    pub fn load(&mut self, store: &dyn Store, offset: u64) -> Result<&mut Table, DiskError> {
        self.clock += 1;
        if !self.tables.contains_key(&offset) {
            if !offset.is_multiple_of(self.cluster_bytes) || offset == 0 || offset >= store.length_bytes() {
                let what = format!("a table is said to lie at byte {offset}");
                return Err(DiskError::Damaged { path: store.path().to_owned(), what });
            }
            let mut bytes = vec![0; self.cluster_bytes as usize];
            store.read_at(offset, &mut bytes)?;
            self.insert(offset, Table { bytes, dirty: None, is_new: false, used: 0 });
        }
        let table = self.tables.get_mut(&offset).expect("just put there");
        table.used = self.clock;
        Ok(table)
    }

    /// Takes in a table that is not in the file yet.
    pub fn add(&mut self, offset: u64, bytes: Vec<u8>) {
        let dirty = Some(0..bytes.len());
        self.insert(offset, Table { bytes, dirty, is_new: true, used: self.clock });
    }

    /// Takes in a table that is in the file as it is here.
    pub fn add_written(&mut self, offset: u64, bytes: Vec<u8>) {
        self.insert(offset, Table { bytes, dirty: None, is_new: false, used: self.clock });
    }

    fn insert(&mut self, offset: u64, table: Table) {
        if self.tables.len() >= self.most {
            let clean = self.tables.iter().filter(|(_, table)| table.dirty.is_none());
            if let Some(oldest) = clean.min_by_key(|(_, table)| table.used).map(|(offset, _)| *offset) {
                self.tables.remove(&oldest);
            }
        }
        self.tables.insert(offset, table);
    }

    /// Forgets a table whose cluster is free again.
    pub fn forget(&mut self, offset: u64) {
        self.tables.remove(&offset);
    }

    /// Writes what changed in new tables, which nothing in the file refers to yet.
    pub fn write_new(&mut self, store: &mut dyn Store) -> io::Result<bool> {
        self.write(store, true)
    }

    /// Writes what changed in all tables; whether there was anything.
    pub fn write_all(&mut self, store: &mut dyn Store) -> io::Result<bool> {
        self.write(store, false)
    }

    fn write(&mut self, store: &mut dyn Store, only_new: bool) -> io::Result<bool> {
        let mut wrote = false;
        for (offset, table) in &mut self.tables {
            if only_new && !table.is_new {
                continue;
            }
            if let Some(range) = table.dirty.clone() {
                let sector = SECTOR as usize;
                let (from, to) = (range.start / sector * sector, range.end.next_multiple_of(sector));
                store.write_at(offset + from as u64, &table.bytes[from..to])?;
                table.dirty = None;
                wrote = true;
            }
            // From now on the file may refer to it.
            table.is_new = false;
        }
        Ok(wrote)
    }
}
