//! The header of a qcow2 image, checked against its file. Source: QEMU `docs/interop/qcow2.txt`, "Header".

use std::path::Path;

use crate::fields::{be32, be64, put_be32, put_be64};
use crate::format::Format;
use crate::open::OpenError;
use crate::store::Store;

/// Largest first-level table, in bytes: QEMU's own bound (64 TiB with clusters of 64 KiB).
pub const L1_MAX_BYTES: u64 = 32 << 20;
/// Largest refcount table, in bytes.
const REFCOUNT_TABLE_MAX_BYTES: u64 = 8 << 20;
/// Longest backing file name.
const BACKING_NAME_MAX_BYTES: u32 = 1023;
/// Most internal snapshots that are looked at.
const SNAPSHOTS_MAX: u32 = 65_536;

/// Incompatible feature bits.
mod incompatible {
    pub const DIRTY: u64 = 1 << 0;
    pub const CORRUPT: u64 = 1 << 1;
    pub const EXTERNAL_DATA: u64 = 1 << 2;
    pub const COMPRESSION_TYPE: u64 = 1 << 3;
    pub const EXTENDED_L2: u64 = 1 << 4;
}

/// Header extensions.
mod extension {
    pub const END: u32 = 0;
    pub const BACKING_FORMAT: u32 = 0xE279_2ACA;
    pub const BITMAPS: u32 = 0x2385_2875;
}

/// How compressed clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Deflate without a zlib header.
    Zlib,
    /// Zstandard.
    Zstd,
}

/// The header, with all numbers known to be sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// log2 of the bytes of a cluster.
    pub cluster_bits: u32,
    /// Length of the disk.
    pub length_bytes: u64,
    /// Entries of the first-level table.
    pub l1_entries: u32,
    /// Where it lies.
    pub l1_offset: u64,
    /// Where the refcount table lies.
    pub refcount_table_offset: u64,
    /// How many clusters it takes.
    pub refcount_table_clusters: u32,
    /// log2 of the bits of a refcount.
    pub refcount_order: u32,
    /// How compressed clusters are compressed.
    pub compression: Compression,
    /// Refcounts may be wrong (left by a program that died with lazy refcounts).
    pub is_dirty: bool,
    /// Another program found it damaged.
    pub is_corrupt: bool,
    /// Some autoclear bit is set, which a writer must clear.
    pub has_autoclear: bool,
    /// It holds bitmaps, which are left alone.
    pub has_bitmaps: bool,
    /// The name of the backing file, as stored.
    pub backing_name: Option<String>,
    /// The format it is said to have.
    pub backing_format: Option<String>,
    /// Number of internal snapshots.
    pub snapshots: u32,
    /// Where their table lies.
    pub snapshots_offset: u64,
}

impl Header {
    /// Bytes of a cluster.
    pub fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Entries of a second-level table.
    pub fn l2_entries(&self) -> u64 {
        self.cluster_bytes() / 8
    }

    /// Clusters of the disk; the last may be short.
    pub fn clusters(&self) -> u64 {
        self.length_bytes.div_ceil(self.cluster_bytes())
    }

    /// Reads and checks the header of an image.
    pub fn read(store: &dyn Store) -> Result<Header, OpenError> {
        let path = store.path();
        let mut head = [0; 112];
        read(store, 0, &mut head)?;
        let version = be32(&head, 4);
        if !head.starts_with(b"QFI\xFB") || !(1..=3).contains(&version) {
            return Err(damaged(path, format!("version {version} does not exist")));
        }
        if version == 1 {
            let advice = "Convert it: `qemu-img convert -f qcow -O qcow2`";
            return Err(unsupported(path, "version 1 of the format", advice));
        }
        let v3 = version == 3;
        let header_bytes = if v3 { be32(&head, 100) } else { 72 };
        let features = if v3 { be64(&head, 72) } else { 0 };
        check_features(path, features)?;
        if be32(&head, 32) != 0 {
            return Err(unsupported(path, "encryption", "Decrypt it with qemu-img first"));
        }
        let compression = match head[104] {
            _ if header_bytes <= 104 || features & incompatible::COMPRESSION_TYPE == 0 => Compression::Zlib,
            0 => Compression::Zlib,
            1 => Compression::Zstd,
            _ => return Err(unsupported(path, "an unknown compression", "Convert it with qemu-img first")),
        };
        let mut header = Header {
            version,
            cluster_bits: be32(&head, 20),
            length_bytes: be64(&head, 24),
            l1_entries: be32(&head, 36),
            l1_offset: be64(&head, 40),
            refcount_table_offset: be64(&head, 48),
            refcount_table_clusters: be32(&head, 56),
            refcount_order: if v3 { be32(&head, 96) } else { 4 },
            compression,
            is_dirty: features & incompatible::DIRTY != 0,
            is_corrupt: features & incompatible::CORRUPT != 0,
            has_autoclear: v3 && be64(&head, 88) != 0,
            has_bitmaps: false,
            backing_name: None,
            backing_format: None,
            snapshots: be32(&head, 60),
            snapshots_offset: be64(&head, 64),
        };
        header.check(store)?;
        if !(72..=header.cluster_bytes()).contains(&header_bytes.into()) || (v3 && header_bytes < 104) {
            return Err(damaged(path, format!("its header is {header_bytes} bytes long")));
        }
        header.read_backing_name(store, be64(&head, 8), be32(&head, 16))?;
        header.read_extensions(store, header_bytes.into())?;
        Ok(header)
    }

    fn check(&self, store: &dyn Store) -> Result<(), OpenError> {
        let wrong = |what: String| Err(damaged(store.path(), what));
        if !(9..=21).contains(&self.cluster_bits) {
            return wrong(format!("clusters of 2^{} bytes do not exist", self.cluster_bits));
        }
        if self.refcount_order > 6 {
            return wrong(format!("refcounts of 2^{} bits do not exist", self.refcount_order));
        }
        let per_table = self.cluster_bytes() * self.l2_entries();
        if u64::from(self.l1_entries) < self.length_bytes.div_ceil(per_table) {
            return wrong(format!("its table is too short for {} bytes", self.length_bytes));
        }
        let l1_bytes = u64::from(self.l1_entries) * 8;
        let refcount_bytes = u64::from(self.refcount_table_clusters) << self.cluster_bits;
        if l1_bytes > L1_MAX_BYTES || refcount_bytes > REFCOUNT_TABLE_MAX_BYTES {
            return wrong(format!("tables of {l1_bytes} and {refcount_bytes} bytes are beyond the format"));
        }
        if self.snapshots > SNAPSHOTS_MAX {
            return wrong(format!("{} snapshots are beyond the format", self.snapshots));
        }
        let l1 = (self.l1_offset, l1_bytes);
        let refcounts = (self.refcount_table_offset, refcount_bytes);
        for (name, (offset, bytes)) in [("cluster", l1), ("refcount", refcounts)] {
            let end = offset.checked_add(bytes);
            if !offset.is_multiple_of(self.cluster_bytes())
                || end.is_none_or(|end| end > store.length_bytes())
                || (bytes > 0 && offset == 0)
            {
                return wrong(format!("its {name} table does not lie in the file, which may be cut"));
            }
        }
        Ok(())
    }

    fn read_backing_name(&mut self, store: &dyn Store, offset: u64, length: u32) -> Result<(), OpenError> {
        if offset == 0 || length == 0 {
            return Ok(());
        }
        let end = offset.checked_add(length.into());
        if length > BACKING_NAME_MAX_BYTES || end.is_none_or(|end| end > self.cluster_bytes()) {
            return Err(damaged(
                store.path(),
                "the name of its backing file does not lie in the header".into(),
            ));
        }
        let mut name = vec![0; length as usize];
        read(store, offset, &mut name)?;
        self.backing_name = Some(text(store.path(), name)?);
        Ok(())
    }

    fn read_extensions(&mut self, store: &dyn Store, mut at: u64) -> Result<(), OpenError> {
        // Each takes at least 8 bytes of the first cluster, so this ends.
        while at + 8 <= self.cluster_bytes() {
            let mut start = [0; 8];
            read(store, at, &mut start)?;
            let (kind, length) = (be32(&start, 0), u64::from(be32(&start, 4)));
            if kind == extension::END {
                break;
            }
            if length > self.cluster_bytes() - at - 8 {
                return Err(damaged(store.path(), "a header extension is longer than the header".into()));
            }
            match kind {
                extension::BACKING_FORMAT => {
                    let mut name = vec![0; length.min(64) as usize];
                    read(store, at + 8, &mut name)?;
                    self.backing_format = Some(text(store.path(), name)?);
                }
                extension::BITMAPS => self.has_bitmaps = true,
                _ => {}
            }
            at += 8 + length.next_multiple_of(8);
        }
        Ok(())
    }

    /// The first cluster of a new image (version 3), as far as it is not zeros.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = vec![0; 104];
        head[..4].copy_from_slice(b"QFI\xFB");
        put_be32(&mut head, 4, 3);
        put_be32(&mut head, 20, self.cluster_bits);
        put_be64(&mut head, 24, self.length_bytes);
        put_be32(&mut head, 36, self.l1_entries);
        put_be64(&mut head, 40, self.l1_offset);
        put_be64(&mut head, 48, self.refcount_table_offset);
        put_be32(&mut head, 56, self.refcount_table_clusters);
        put_be32(&mut head, 96, self.refcount_order);
        put_be32(&mut head, 100, 104);
        if let Some(format) = &self.backing_format {
            head.extend_from_slice(&extension::BACKING_FORMAT.to_be_bytes());
            head.extend_from_slice(&(format.len() as u32).to_be_bytes());
            head.extend_from_slice(format.as_bytes());
            head.resize(head.len().next_multiple_of(8), 0);
        }
        head.extend_from_slice(&[0; 8]);
        if let Some(name) = &self.backing_name {
            let (at, length) = (head.len() as u64, name.len() as u32);
            put_be64(&mut head, 8, at);
            put_be32(&mut head, 16, length);
            head.extend_from_slice(name.as_bytes());
        }
        head
    }

    /// Offsets of fields that are changed in place, each inside the first sector: one write is one step.
    pub(super) const LENGTH_AT: u64 = 24;
    pub(super) const L1_ENTRIES_AT: u64 = 36;
    pub(super) const REFCOUNT_TABLE_AT: u64 = 48;
    pub(super) const INCOMPATIBLE_AT: u64 = 72;
    pub(super) const AUTOCLEAR_AT: u64 = 88;
}

fn check_features(path: &Path, features: u64) -> Result<(), OpenError> {
    use incompatible::{COMPRESSION_TYPE, CORRUPT, DIRTY, EXTENDED_L2, EXTERNAL_DATA};
    if features & EXTERNAL_DATA != 0 {
        return Err(unsupported(path, "an external data file", "Convert it with qemu-img first"));
    }
    if features & EXTENDED_L2 != 0 {
        return Err(unsupported(path, "subclusters (extended L2 entries)", "Convert it with qemu-img first"));
    }
    match features & !(DIRTY | CORRUPT | COMPRESSION_TYPE) {
        0 => Ok(()),
        unknown => Err(unsupported(
            path,
            &format!("features unknown here (bits {unknown:#x})"),
            "Convert it with the program that made it",
        )),
    }
}

fn read(store: &dyn Store, offset: u64, bytes: &mut [u8]) -> Result<(), OpenError> {
    store.read_at(offset, bytes).map_err(|error| OpenError::from_host(store.path(), "read", false, error))
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, OpenError> {
    String::from_utf8(bytes).map_err(|_| damaged(path, "a name in its header is not UTF-8".into()))
}

pub(super) fn damaged(path: &Path, what: String) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), format: Format::Qcow2, what }
}

pub(super) fn unsupported(path: &Path, feature: &str, advice: &'static str) -> OpenError {
    let feature = feature.to_owned();
    OpenError::Unsupported { path: path.to_owned(), format: Format::Qcow2, feature, advice }
}
