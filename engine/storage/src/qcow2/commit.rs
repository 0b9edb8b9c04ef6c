//! From memory to the file, in the order that the module's head promises.

use super::Qcow2;
use super::header::Header;
use crate::disk::{Disk, DiskError};
use crate::fields::put_be64;

impl Qcow2 {
    /// Everything written before is on the medium when this returns. After an error (a full disk, say)
    /// nothing in memory is lost, and it can be called again.
    pub(super) fn commit(&mut self) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Ok(());
        }
        self.settle()?;
        self.free_unlinked()
    }

    /// The two ordered steps.
    fn settle(&mut self) -> Result<(), DiskError> {
        let Some(refcounts) = &mut self.refcounts else { return Ok(()) };
        let end = refcounts.end() << self.header.cluster_bits;
        if self.store.length_bytes() < end {
            self.store.set_length(end)?;
        }
        refcounts.write(&mut *self.store)?;
        self.l2.write_new(&mut *self.store)?;
        self.store.sync()?;
        let mut wrote = self.l2.write_all(&mut *self.store)?;
        while let Some(index) = self.l1_changed.first().copied() {
            let mut entry = [0; 8];
            put_be64(&mut entry, 0, self.l1[index]);
            self.store.write_at(self.header.l1_offset + index as u64 * 8, &entry)?;
            self.l1_changed.remove(&index);
            wrote = true;
        }
        self.must_sync |= wrote;
        if self.must_sync {
            self.store.sync()?;
            self.must_sync = false;
        }
        Ok(())
    }

    /// The file refers to these no more: their room can be used again. Their refcounts go to the file with
    /// the next commit.
    fn free_unlinked(&mut self) -> Result<(), DiskError> {
        let Some(refcounts) = &mut self.refcounts else { return Ok(()) };
        let bits = self.header.cluster_bits;
        while let Some(cluster) = self.unlinked.pop() {
            if refcounts.release(&*self.store, cluster)? {
                self.l2.forget(cluster << bits);
                // Room that the host does not take back is room wasted, and no error.
                let _ = self.store.punch(cluster << bits, 1 << bits);
            }
        }
        Ok(())
    }

    /// Makes an image fit for being written: what another program left undone is done first.
    pub(super) fn prepare_writing(&mut self) -> Result<(), DiskError> {
        if self.header.is_dirty {
            self.rebuild_refcounts(&mut |_, _| true)?;
            self.commit()?;
            // Only when refcounts are right in the file may it say so.
            self.clear_dirty()?;
        }
        if self.header.has_autoclear {
            self.store.write_at(Header::AUTOCLEAR_AT, &[0; 8])?;
            self.store.sync()?;
            self.header.has_autoclear = false;
        }
        Ok(())
    }

    pub(super) fn clear_dirty(&mut self) -> Result<(), DiskError> {
        let mut features = [0; 8];
        self.store.read_at(Header::INCOMPATIBLE_AT, &mut features)?;
        features[7] &= !1;
        self.store.write_at(Header::INCOMPATIBLE_AT, &features)?;
        self.store.sync()?;
        self.header.is_dirty = false;
        Ok(())
    }
}
