//! A throw-away copy-on-write layer over any disk: the guest writes, the base is never touched.
//!
//! What is written lives in clusters of 64 KiB in an unlinked temporary file, which the host frees when
//! the overlay is dropped, even by a crash. The file is sparse: cluster n lies at n × 64 KiB.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::disk::{Disk, DiskError, Extent, check_range};
use crate::pieces::pieces;

/// Bytes of one cluster, the unit that is copied up.
pub const CLUSTER: u64 = 64 << 10;

/// A writable disk over a base that stays as it is.
pub struct Overlay {
    base: Box<dyn Disk>,
    file: File,
    /// One bit per cluster: it is in the file. Words without a bit are left out.
    copied: HashMap<u64, u64>,
    length_bytes: u64,
    /// One cluster of room for copying up.
    scratch: Vec<u8>,
}

impl Overlay {
    /// An overlay whose writes go to the host's temporary folder.
    pub fn new(base: Box<dyn Disk>) -> io::Result<Overlay> {
        Ok(Overlay::with_file(base, tempfile::tempfile()?))
    }

    /// An overlay whose writes go to an unnamed file in `folder`, for temporary folders that are small.
    pub fn new_in(base: Box<dyn Disk>, folder: &Path) -> io::Result<Overlay> {
        Ok(Overlay::with_file(base, tempfile::tempfile_in(folder)?))
    }

    fn with_file(base: Box<dyn Disk>, file: File) -> Overlay {
        let length_bytes = base.length_bytes();
        Overlay { base, file, copied: HashMap::new(), length_bytes, scratch: Vec::new() }
    }

    /// Bytes that differ, or may differ, from the base: what is lost when the overlay is dropped.
    pub fn changed_bytes(&self) -> u64 {
        self.copied.values().map(|word| u64::from(word.count_ones())).sum::<u64>() * CLUSTER
    }

    /// Calls `act` with each cluster that differs, or may differ, from the base: its place and its content.
    pub fn each_change(&mut self, mut act: impl FnMut(u64, &[u8])) -> Result<(), DiskError> {
        let mut clusters: Vec<u64> = self.copied.keys().flat_map(|word| word * 64..word * 64 + 64).collect();
        clusters.retain(|cluster| self.is_copied(*cluster));
        clusters.sort_unstable();
        for cluster in clusters {
            let length = self.cluster_bytes(cluster);
            self.scratch.resize(CLUSTER as usize, 0);
            self.file.read_exact_at(&mut self.scratch[..length], cluster * CLUSTER)?;
            act(cluster * CLUSTER, &self.scratch[..length]);
        }
        Ok(())
    }

    /// Forgets everything written: the disk is as its base again.
    pub fn discard(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.copied.clear();
        Ok(())
    }

    fn is_copied(&self, cluster: u64) -> bool {
        self.copied.get(&(cluster / 64)).is_some_and(|word| word >> (cluster % 64) & 1 != 0)
    }

    /// Length of a cluster: the last one may be short.
    fn cluster_bytes(&self, cluster: u64) -> usize {
        CLUSTER.min(self.length_bytes - cluster * CLUSTER) as usize
    }

    /// Brings a cluster of the base into the file.
    fn copy_up(&mut self, cluster: u64) -> Result<(), DiskError> {
        let length = self.cluster_bytes(cluster);
        self.scratch.resize(CLUSTER as usize, 0);
        let scratch = &mut self.scratch[..length];
        self.base.read_at(cluster * CLUSTER, scratch)?;
        Ok(self.file.write_all_at(scratch, cluster * CLUSTER)?)
    }
}

impl Disk for Overlay {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes, offset, buffer.len() as u64)?;
        for piece in pieces(offset, buffer.len(), CLUSTER) {
            let at = offset + piece.range.start as u64;
            let bytes = &mut buffer[piece.range];
            if self.is_copied(piece.unit) {
                self.file.read_exact_at(bytes, at)?;
            } else {
                self.base.read_at(at, bytes)?;
            }
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        check_range(self.length_bytes, offset, bytes.len() as u64)?;
        for piece in pieces(offset, bytes.len(), CLUSTER) {
            let at = offset + piece.range.start as u64;
            let bytes = &bytes[piece.range];
            let replaced = bytes.len() == self.cluster_bytes(piece.unit);
            if !replaced && !self.is_copied(piece.unit) {
                self.copy_up(piece.unit)?;
            }
            self.file.write_all_at(bytes, at)?;
            // Only now: a cluster counts as copied when all of it is in the file.
            *self.copied.entry(piece.unit / 64).or_default() |= 1 << (piece.unit % 64);
        }
        Ok(())
    }

    fn extent(&mut self, offset: u64) -> Result<Extent, DiskError> {
        let length_bytes = (CLUSTER - offset % CLUSTER).min(self.length_bytes - offset);
        if self.is_copied(offset / CLUSTER) {
            return Ok(Extent { length_bytes, is_zero: false });
        }
        let extent = self.base.extent(offset)?;
        Ok(Extent { length_bytes: extent.length_bytes.min(length_bytes), ..extent })
    }

    /// Nothing to do: what is thrown away need not survive the host.
    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryDisk;
    use crate::raw::{Access, RawDisk};
    use proptest::prelude::*;

    fn base(length: usize) -> Box<MemoryDisk> {
        Box::new(MemoryDisk::new((0..length).map(|n| (n / 512) as u8).collect()).unwrap().read_only())
    }

    #[test]
    fn reads_mix_what_was_written_with_the_base() {
        let mut disk = Overlay::new(base(3 * 65536)).unwrap();
        disk.write_at(65534, &[0xEE; 4]).unwrap();
        let mut bytes = [0; 8];
        disk.read_at(65532, &mut bytes).unwrap();
        assert_eq!(bytes, [127, 127, 0xEE, 0xEE, 0xEE, 0xEE, 128, 128]);
        assert_eq!(disk.changed_bytes(), 2 * CLUSTER);
        let mut changes = Vec::new();
        disk.each_change(|offset, bytes| changes.push((offset, bytes.len(), bytes[0]))).unwrap();
        assert_eq!(changes, [(0, 65536, 0), (65536, 65536, 0xEE)]);
        disk.discard().unwrap();
        disk.read_at(65532, &mut bytes).unwrap();
        assert_eq!(bytes, [127, 127, 127, 127, 128, 128, 128, 128]);
    }

    #[test]
    fn the_base_file_is_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.img");
        std::fs::write(&path, vec![5; 4096]).unwrap();
        let raw = RawDisk::open(&path, Access::ReadOnly).unwrap();
        let mut disk = Overlay::new_in(Box::new(raw), folder.path()).unwrap();
        disk.write_at(0, &[6; 4096]).unwrap();
        disk.flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), vec![5; 4096]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file has no name");
    }

    #[test]
    fn a_short_last_cluster_is_whole() {
        let mut disk = Overlay::new(base(65536 + 512)).unwrap();
        disk.write_at(65536, &[9; 512]).unwrap();
        let mut last = [0; 512];
        disk.read_at(65536, &mut last).unwrap();
        assert_eq!(last, [9; 512]);
        assert!(matches!(disk.write_at(65536 + 511, &[0; 2]), Err(DiskError::OutOfRange { .. })));
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_plain_array(
            writes in prop::collection::vec((0usize..190_000, 1usize..70_000, any::<u8>()), 1..12),
        ) {
            let length = 3 * 65536;
            let mut plain = base(length).bytes().to_vec();
            let mut disk = Overlay::new(base(length)).unwrap();
            for (offset, count, value) in writes {
                let count = count.min(length - offset);
                plain[offset..offset + count].fill(value);
                disk.write_at(offset as u64, &vec![value; count]).unwrap();
            }
            let mut all = vec![0; length];
            disk.read_at(0, &mut all).unwrap();
            prop_assert!(all == plain);
        }
    }
}
