//! Counts all references to clusters and compares them with the refcounts; and counts anew.

use std::collections::HashMap;
use std::ops::Range;

use super::Qcow2;
use super::entry::{COPIED, Mapping, OFFSET};
use super::refcounts::{Blocks, Refcounts};
use crate::check::Findings;
use crate::disk::DiskError;
use crate::fields::{be16, be32, be64, be64_table};
use crate::progress::Progress;
use crate::store::read_exact;

/// Counters in one chunk of the sparse array.
const CHUNK: usize = 1024;
/// Longest part of a snapshot's entry that is not fixed.
const SNAPSHOT_ENTRY_MAX_BYTES: u64 = 4 << 20;

/// How often each cluster is referred to: as large as what is referred to, not as the file.
#[derive(Default)]
struct References {
    chunks: HashMap<u64, Box<[u32; CHUNK]>>,
    end: u64,
}

impl References {
    fn add(&mut self, cluster: u64) {
        let chunk = self.chunks.entry(cluster / CHUNK as u64).or_insert_with(|| Box::new([0; CHUNK]));
        let count = &mut chunk[(cluster % CHUNK as u64) as usize];
        *count = count.saturating_add(1);
        self.end = self.end.max(cluster + 1);
    }

    /// Those that are referred to, in ascending order.
    fn clusters(&self) -> impl Iterator<Item = u64> {
        let mut starts: Vec<u64> = self.chunks.keys().map(|chunk| chunk * CHUNK as u64).collect();
        starts.sort_unstable();
        let all = starts.into_iter().flat_map(|start| start..start + CHUNK as u64);
        all.filter(|cluster| self.get(*cluster) != 0)
    }

    fn get(&self, cluster: u64) -> u64 {
        self.chunks
            .get(&(cluster / CHUNK as u64))
            .map_or(0, |chunk| chunk[(cluster % CHUNK as u64) as usize].into())
    }
}

impl Qcow2 {
    /// Looks through the whole image. Leaks cost room and harm nothing.
    pub fn check(&mut self, progress: Progress<'_>) -> Result<Findings, DiskError> {
        self.commit()?;
        let mut findings = Findings::default();
        let mut refcounts = Refcounts::open(&*self.store, &self.header)?;
        let blocks = refcounts.blocks(self.store.length_bytes());
        let Some(references) =
            self.references(refcounts.table_clusters(), &blocks, &mut findings, progress)?
        else {
            return Ok(findings);
        };
        let end = references.end.max(refcounts.end());
        for cluster in candidates(&blocks, &references, end) {
            let expected = references.get(cluster);
            let found = if blocks.count(cluster) { refcounts.get(&*self.store, cluster)? } else { 0 };
            if found < expected {
                findings.add(format!("cluster {cluster} is used {expected} times and counted {found} times"));
            } else if found > expected && !self.header.has_bitmaps {
                findings.leaked_bytes += self.header.cluster_bytes();
            }
        }
        self.check_copied(&references, &mut findings)?;
        Ok(findings)
    }

    /// Entries that say that their cluster is theirs alone must be right: it is written in place.
    fn check_copied(&mut self, references: &References, findings: &mut Findings) -> Result<(), DiskError> {
        let bits = self.header.cluster_bits;
        for l1 in self.l1.clone() {
            let offset = l1 & OFFSET;
            if offset == 0 || !self.is_table_place(offset) {
                continue;
            }
            if l1 & COPIED != 0 && references.get(offset >> bits) > 1 {
                findings.add(format!("the shared table at {offset} is marked as not shared"));
            }
            for entry in be64_table(&self.l2.load(&*self.store, offset)?.bytes) {
                let mapping = Mapping::of(entry, self.header.version, bits);
                if let Mapping::Data { host, exclusive: true } = mapping
                    && references.get(host >> bits) > 1
                {
                    findings.add(format!("the shared cluster at {host} is marked as not shared"));
                }
            }
        }
        Ok(())
    }

    /// All references; `None` if the caller gave up.
    fn references(
        &mut self,
        refcount_table: Range<u64>,
        blocks: &Blocks,
        findings: &mut Findings,
        progress: Progress<'_>,
    ) -> Result<Option<References>, DiskError> {
        let bits = self.header.cluster_bits;
        let mut references = References::default();
        references.add(0);
        let counters = refcount_table.chain(blocks.clusters.iter().copied());
        counters.for_each(|cluster| references.add(cluster));
        for offset in &blocks.misplaced {
            findings.add(format!("refcounts are said to lie at byte {offset}"));
        }
        let l1_bytes = self.l1.len() as u64 * 8;
        let mut maps = vec![(self.header.l1_offset, self.l1.clone())];
        add_range(&mut references, self.header.l1_offset, l1_bytes, bits);
        self.add_snapshots(&mut references, &mut maps)?;
        let total: u64 = maps.iter().map(|(_, l1)| l1.len() as u64).sum();
        let mut done = 0;
        for (_, l1) in maps {
            for l1_entry in l1 {
                done += 1;
                if l1_entry & OFFSET == 0 {
                    continue;
                }
                if !progress(done, total) {
                    findings.is_cancelled = true;
                    return Ok(None);
                }
                self.add_table(l1_entry & OFFSET, &mut references, findings)?;
            }
        }
        Ok(Some(references))
    }

    fn is_table_place(&self, offset: u64) -> bool {
        offset.is_multiple_of(self.header.cluster_bytes()) && offset < self.store.length_bytes()
    }

    fn add_table(
        &mut self,
        offset: u64,
        references: &mut References,
        findings: &mut Findings,
    ) -> Result<(), DiskError> {
        if !self.is_table_place(offset) {
            findings.add(format!("a table is said to lie at byte {offset}"));
            return Ok(());
        }
        let bits = self.header.cluster_bits;
        references.add(offset >> bits);
        let file_bytes = self.store.length_bytes();
        for entry in be64_table(&self.l2.load(&*self.store, offset)?.bytes) {
            let mapping = Mapping::of(entry, self.header.version, bits);
            let sound = match mapping {
                Mapping::Data { host, .. } | Mapping::Zero { host: Some(host), .. } => {
                    host < file_bytes && host.is_multiple_of(self.header.cluster_bytes())
                }
                Mapping::Compressed { host, .. } => host < file_bytes,
                _ => true,
            };
            if sound {
                mapping.clusters(bits).for_each(|cluster| references.add(cluster));
                findings.used_bytes +=
                    if mapping.clusters(bits).is_empty() { 0 } else { self.header.cluster_bytes() };
            } else {
                findings.add(format!("data is said to lie outside: {mapping:x?}"));
            }
        }
        Ok(())
    }

    /// Source: `qcow2.txt`, "Snapshots".
    fn add_snapshots(
        &self,
        references: &mut References,
        maps: &mut Vec<(u64, Vec<u64>)>,
    ) -> Result<(), DiskError> {
        let mut at = self.header.snapshots_offset;
        for _ in 0..self.header.snapshots {
            let entry = read_exact(&*self.store, at, 40)?;
            let (offset, entries) = (be64(&entry, 0), u64::from(be32(&entry, 8)));
            let rest =
                u64::from(be32(&entry, 36)) + u64::from(be16(&entry, 12)) + u64::from(be16(&entry, 14));
            if rest > SNAPSHOT_ENTRY_MAX_BYTES || entries * 8 > super::header::L1_MAX_BYTES {
                return Err(self.damaged("an internal snapshot is beyond the format".into()));
            }
            maps.push((offset, be64_table(&read_exact(&*self.store, offset, entries * 8)?)));
            add_range(references, offset, entries * 8, self.header.cluster_bits);
            at += (40 + rest).next_multiple_of(8);
        }
        let length = at - self.header.snapshots_offset;
        add_range(references, self.header.snapshots_offset, length, self.header.cluster_bits);
        Ok(())
    }

    /// Sets all refcounts to what they should be. The image must be writable and its tables sound; whether
    /// it was finished.
    pub fn rebuild_refcounts(&mut self, progress: Progress<'_>) -> Result<bool, DiskError> {
        self.commit()?;
        let Some(refcounts) = &self.refcounts else { return Err(DiskError::ReadOnly) };
        let (table, blocks) = (refcounts.table_clusters(), refcounts.blocks(self.store.length_bytes()));
        let mut findings = Findings::default();
        let Some(references) = self.references(table, &blocks, &mut findings, progress)? else {
            return Ok(false);
        };
        if let Some(damage) = findings.damage.first() {
            return Err(self.damaged(damage.clone()));
        }
        let bits = self.header.cluster_bits;
        let Some(refcounts) = &mut self.refcounts else { return Ok(false) };
        // New refcount blocks, if some are missing, go behind everything.
        refcounts.set_end(references.end);
        let most = refcounts.most();
        // New blocks lie behind this end: they count themselves.
        for cluster in candidates(&blocks, &references, refcounts.end()) {
            let expected = references.get(cluster).min(most);
            let found = refcounts.get(&*self.store, cluster)?;
            if found != expected {
                refcounts.set(&mut *self.store, cluster, expected)?;
                if expected == 0 {
                    let _ = self.store.punch(cluster << bits, 1 << bits);
                }
            }
        }
        refcounts.look_from_start();
        self.commit()?;
        Ok(true)
    }
}

/// The clusters before `end` whose refcount may be wrong: those that are counted, and those that are referred
/// to. All others, of however large a file, are neither.
fn candidates(blocks: &Blocks, references: &References, end: u64) -> impl Iterator<Item = u64> {
    let counted = blocks.counted.iter().flat_map(move |range| range.start..range.end.min(end));
    counted.chain(references.clusters().filter(|cluster| !blocks.count(*cluster)))
}

fn add_range(references: &mut References, offset: u64, length: u64, bits: u32) {
    if length > 0 {
        ((offset >> bits)..=((offset + length - 1) >> bits)).for_each(|cluster| references.add(cluster));
    }
}
