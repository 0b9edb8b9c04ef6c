//! Making a new VHD image.

use std::io;

use super::footer::{BLOCK_BYTES, FOOTER, Footer, HEADER, Header, Kind};
use crate::disk::SECTOR;
use crate::store::Store;

/// The longest disk there can be: what the format's documents allow.
const LENGTH_MAX_BYTES: u64 = 2040 << 30;

/// Writes an empty image, fixed or dynamic, into an empty store. `id` tells it from all others.
pub fn create(store: &mut dyn Store, length_bytes: u64, kind: Kind, id: [u8; 16]) -> io::Result<()> {
    if length_bytes > LENGTH_MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let length_bytes = length_bytes.next_multiple_of(SECTOR);
    if kind == Kind::Fixed {
        let footer = Footer { kind, length_bytes, header_offset: u64::MAX, id };
        store.write_at(length_bytes, &footer.encode())?;
        return store.sync();
    }
    let footer = Footer { kind: Kind::Dynamic, length_bytes, header_offset: FOOTER, id };
    let blocks = length_bytes.div_ceil(BLOCK_BYTES).max(1) as u32;
    let header = Header {
        table_offset: FOOTER + HEADER,
        blocks,
        block_bytes: BLOCK_BYTES,
        parent_id: [0; 16],
        parent_names: Vec::new(),
    };
    let table = vec![0xFF; (blocks as usize * 4).next_multiple_of(SECTOR as usize)];
    store.write_at(FOOTER, &header.encode())?;
    store.write_at(header.table_offset, &table)?;
    store.write_at(header.table_offset + table.len() as u64, &footer.encode())?;
    store.write_at(0, &footer.encode())?;
    store.sync()
}
