//! Making a new VDI image.

use std::io;

use super::header::{BLOCK_BYTES, Header};
use crate::disk::SECTOR;
use crate::store::Store;

/// Room for the map to grow, so that the disk can: that of the map of this many bytes.
const MAP_ROOM_FOR_BYTES: u64 = 256 << 30;

/// How its blocks come into being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// When they are written.
    Dynamic,
    /// All at once, as a hole.
    Fixed,
}

/// Writes an empty image into an empty store. `id` tells it from all others.
pub fn create(store: &mut dyn Store, length_bytes: u64, kind: Kind, id: [u8; 16]) -> io::Result<()> {
    let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
    let length_bytes = length_bytes.checked_next_multiple_of(SECTOR).ok_or_else(too_large)?;
    let blocks = u32::try_from(length_bytes.div_ceil(BLOCK_BYTES)).map_err(|_| too_large())?;
    if blocks > 1 << 26 {
        return Err(too_large());
    }
    let map_entries = u64::from(blocks).max(MAP_ROOM_FOR_BYTES / BLOCK_BYTES);
    let is_fixed = kind == Kind::Fixed;
    let header = Header {
        is_fixed,
        map_offset: 512,
        data_offset: (512 + map_entries * 4).next_multiple_of(BLOCK_BYTES),
        length_bytes,
        block_bytes: BLOCK_BYTES,
        blocks,
        allocated: if is_fixed { blocks } else { 0 },
    };
    let map: Vec<u8> = match kind {
        Kind::Dynamic => vec![0xFF; blocks as usize * 4],
        Kind::Fixed => (0..blocks).flat_map(u32::to_le_bytes).collect(),
    };
    store.set_length(header.data_offset + u64::from(header.allocated) * BLOCK_BYTES)?;
    store.write_at(header.map_offset, &map)?;
    store.write_at(0, &header.encode(id))?;
    store.sync()
}
