//! Writing: in place where a cluster is this image's alone, else to a new one.

use super::Qcow2;
use super::entry::{COPIED, Mapping, OFFSET, ZERO};
use super::refcounts::Refcounts;
use crate::disk::{Disk, DiskError, check_range};
use crate::pieces::pieces;
use crate::store::Store;

/// Most clusters that wait to be free before they are made so.
const UNLINKED_MAX: usize = 1 << 16;

impl Qcow2 {
    /// The refcounts and the file, of an image that is written.
    fn counted(&mut self) -> (&mut Refcounts, &mut dyn Store) {
        (self.refcounts.as_mut().expect("only a writable image is changed"), &mut *self.store)
    }

    /// Brings changes to the file before too many of them are in memory.
    pub(super) fn make_room(&mut self) -> Result<(), DiskError> {
        let refcounts = self.refcounts.as_ref().is_some_and(Refcounts::is_crowded);
        if refcounts || self.l2.is_crowded() || self.unlinked.len() >= UNLINKED_MAX {
            self.commit()?;
        }
        Ok(())
    }

    /// Writes inside one cluster.
    pub(super) fn write_cluster(&mut self, cluster: u64, within: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let old = self.mapping(cluster)?;
        if let Mapping::Data { host, exclusive: true } = old {
            return Ok(self.store.write_at(host + within, bytes)?);
        }
        let table = self.own_table(cluster)?;
        let cluster_bytes = self.header.cluster_bytes();
        if bytes.len() as u64 == cluster_bytes {
            return self.replace(cluster, table, old, bytes, 0);
        }
        let is_zero =
            matches!(old, Mapping::Zero { .. }) || (old == Mapping::Absent && self.backing.is_none());
        let place = self.place_for(old)?;
        if is_zero && place.is_fresh {
            // Past the end of the file there are zeros already.
            return self.link(cluster, table, old, place, within, bytes);
        }
        let mut whole = vec![0; cluster_bytes as usize];
        if !is_zero {
            let read = self.read_cluster(cluster, 0, &mut whole);
            if let Err(error) = read {
                self.give_back(place)?;
                return Err(error);
            }
        }
        whole[within as usize..][..bytes.len()].copy_from_slice(bytes);
        self.link(cluster, table, old, place, 0, &whole)
    }

    fn replace(
        &mut self,
        cluster: u64,
        table: u64,
        old: Mapping,
        bytes: &[u8],
        within: u64,
    ) -> Result<(), DiskError> {
        let place = self.place_for(old)?;
        self.link(cluster, table, old, place, within, bytes)
    }

    /// Where the new content of a cluster goes: the one kept for it, or a free one.
    fn place_for(&mut self, old: Mapping) -> Result<Place, DiskError> {
        if let Mapping::Zero { host: Some(host), exclusive: true } = old {
            return Ok(Place { host, is_kept: true, is_fresh: false });
        }
        let bits = self.header.cluster_bits;
        let (refcounts, store) = self.counted();
        let host = refcounts.allocate(store)? << bits;
        Ok(Place { host, is_kept: false, is_fresh: host >= store.length_bytes() })
    }

    fn give_back(&mut self, place: Place) -> Result<(), DiskError> {
        if !place.is_kept {
            let cluster = place.host >> self.header.cluster_bits;
            let (refcounts, store) = self.counted();
            refcounts.release(store, cluster)?;
        }
        Ok(())
    }

    /// Writes content to its place, then lets the table refer to it.
    fn link(
        &mut self,
        cluster: u64,
        table: u64,
        old: Mapping,
        place: Place,
        within: u64,
        bytes: &[u8],
    ) -> Result<(), DiskError> {
        if let Err(error) = self.store.write_at(place.host + within, bytes) {
            self.give_back(place)?;
            return Err(error.into());
        }
        self.set_entry(cluster, table, place.host | COPIED)?;
        if !place.is_kept {
            self.unlink(old);
        }
        Ok(())
    }

    fn set_entry(&mut self, cluster: u64, table: u64, entry: u64) -> Result<(), DiskError> {
        let (_, within) = self.indices(cluster);
        self.l2.load(&*self.store, table)?.set_entry(within, entry);
        Ok(())
    }

    /// The clusters of a mapping that no longer counts; they are free after the next commit.
    pub(super) fn unlink(&mut self, old: Mapping) {
        self.unlinked.extend(old.clusters(self.header.cluster_bits));
        if matches!(old, Mapping::Compressed { .. }) {
            self.inflated.clear();
        }
    }

    /// The second-level table for a cluster, made or copied so that it is this image's alone.
    fn own_table(&mut self, cluster: u64) -> Result<u64, DiskError> {
        let (index, _) = self.indices(cluster);
        let (old, is_own) = (self.l1[index] & OFFSET, self.l1[index] & COPIED != 0);
        if old != 0 && is_own {
            return Ok(old);
        }
        let bytes = match old {
            0 => vec![0; self.header.cluster_bytes() as usize],
            _ => self.l2.load(&*self.store, old)?.bytes.clone(),
        };
        let bits = self.header.cluster_bits;
        let (refcounts, store) = self.counted();
        let new = refcounts.allocate(store)? << bits;
        self.l2.add(new, bytes);
        self.l1[index] = new | COPIED;
        self.l1_changed.insert(index);
        if old != 0 {
            self.unlinked.push(old >> bits);
        }
        Ok(new)
    }

    /// Makes zeros of a range. A discard leaves the parts of clusters at its ends alone, and what only
    /// version 3 can say.
    pub(super) fn clear(&mut self, offset: u64, length_bytes: u64, must: bool) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        check_range(self.length_bytes(), offset, length_bytes)?;
        let cluster_bytes = self.header.cluster_bytes();
        let end = offset + length_bytes;
        let mut at = offset;
        while at < end {
            let next = (at - at % cluster_bytes + cluster_bytes).min(end);
            let is_whole = at.is_multiple_of(cluster_bytes)
                && (next.is_multiple_of(cluster_bytes) || next == self.length_bytes());
            self.make_room()?;
            if is_whole && self.backing.is_none() && self.l1[self.indices(at / cluster_bytes).0] == 0 {
                // A whole table of nothing.
                let covered = cluster_bytes * self.header.l2_entries();
                at = (at - at % covered + covered).min(end - end % cluster_bytes).max(next);
                continue;
            }
            let is_clear = is_whole && self.clear_cluster(at / cluster_bytes)?;
            if !is_clear && must {
                self.write_zero_bytes(at, next - at)?;
            }
            at = next;
        }
        Ok(())
    }

    fn write_zero_bytes(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        let zeros = vec![0; length_bytes.min(64 << 10) as usize];
        for piece in pieces(offset, length_bytes as usize, zeros.len() as u64) {
            self.write_at(offset + piece.range.start as u64, &zeros[..piece.range.len()])?;
        }
        Ok(())
    }

    /// Makes zeros of a cluster by its entry alone, if the format can say that.
    fn clear_cluster(&mut self, cluster: u64) -> Result<bool, DiskError> {
        let old = self.mapping(cluster)?;
        let entry = match (&self.backing, self.header.version) {
            (None, _) => 0,
            (Some(_), 3) => ZERO,
            _ => return Ok(false),
        };
        let is_clear = match old {
            Mapping::Absent => self.backing.is_none(),
            Mapping::Zero { host, .. } => host.is_none(),
            _ => false,
        };
        if !is_clear {
            let table = self.own_table(cluster)?;
            self.set_entry(cluster, table, entry)?;
            self.unlink(old);
        }
        Ok(true)
    }
}

/// A cluster of the file that new content goes to.
#[derive(Clone, Copy)]
struct Place {
    host: u64,
    /// It belonged to the guest's cluster before.
    is_kept: bool,
    /// It lies past the end of the file.
    is_fresh: bool,
}
