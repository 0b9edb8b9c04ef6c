//! Making a new, empty image: header, refcount table, its first blocks, first-level table.

use std::io;

use super::header::{Compression, Header, L1_MAX_BYTES};
use crate::disk::SECTOR;
use crate::fields::put_be64;
use crate::store::Store;

/// log2 of the bytes of a cluster, unless asked for otherwise: QEMU's own choice.
pub const CLUSTER_BITS: u32 = 16;
/// Refcounts of 16 bits.
const REFCOUNT_ORDER: u32 = 4;
/// Most clusters the first refcount table takes; it grows when needed.
const REFCOUNT_TABLE_MAX: u64 = 64;

/// What a new image is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Length of the disk; rounded up to whole sectors.
    pub length_bytes: u64,
    /// log2 of the bytes of a cluster, 9 to 21.
    pub cluster_bits: u32,
    /// The backing file as named in the image, and its format's word.
    pub backing: Option<(String, &'static str)>,
}

impl Layout {
    /// An image without a backing file.
    pub fn new(length_bytes: u64) -> Layout {
        Layout { length_bytes, cluster_bits: CLUSTER_BITS, backing: None }
    }
}

/// Writes an empty image into an empty store.
pub fn create(store: &mut dyn Store, layout: &Layout) -> io::Result<()> {
    let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
    let length_bytes = layout.length_bytes.checked_next_multiple_of(SECTOR).ok_or_else(too_large)?;
    let bits = layout.cluster_bits.clamp(9, 21);
    let cluster_bytes = 1u64 << bits;
    let clusters = length_bytes.div_ceil(cluster_bytes);
    let l1_entries = clusters.div_ceil(cluster_bytes / 8);
    if l1_entries * 8 > L1_MAX_BYTES {
        return Err(too_large());
    }
    let l1_clusters = (l1_entries * 8).div_ceil(cluster_bytes).max(1);
    let per_block = (cluster_bytes * 8) >> REFCOUNT_ORDER;
    let blocks_at_most = (clusters + clusters / 8).div_ceil(per_block) + 1;
    let table_clusters = (blocks_at_most * 8).div_ceil(cluster_bytes).min(REFCOUNT_TABLE_MAX);
    // Blocks count themselves too.
    let mut blocks = 1;
    while (1 + table_clusters + blocks + l1_clusters) > blocks * per_block {
        blocks += 1;
    }
    let used = 1 + table_clusters + blocks + l1_clusters;
    let header = Header {
        version: 3,
        cluster_bits: bits,
        length_bytes,
        l1_entries: l1_entries as u32,
        l1_offset: (1 + table_clusters + blocks) << bits,
        refcount_table_offset: 1 << bits,
        refcount_table_clusters: table_clusters as u32,
        refcount_order: REFCOUNT_ORDER,
        compression: Compression::Zlib,
        is_dirty: false,
        is_corrupt: false,
        has_autoclear: false,
        has_bitmaps: false,
        backing_name: layout.backing.as_ref().map(|(name, _)| name.clone()),
        backing_format: layout.backing.as_ref().map(|(_, format)| (*format).to_owned()),
        snapshots: 0,
        snapshots_offset: 0,
    };
    let head = header.encode();
    if head.len() as u64 > cluster_bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the backing file's name is too long"));
    }
    store.set_length(used << bits)?;
    let mut table = vec![0; (blocks * 8) as usize];
    for block in 0..blocks {
        put_be64(&mut table, block as usize * 8, (1 + table_clusters + block) << bits);
    }
    store.write_at(1 << bits, &table)?;
    let counts: Vec<u8> = (0..used).flat_map(|_| 1u16.to_be_bytes()).collect();
    store.write_at((1 + table_clusters) << bits, &counts)?;
    store.write_at(0, &head)?;
    store.sync()
}
