//! Headers, region table and metadata of a VHDX. Source: \[MS-VHDX\] 2.2, 2.4 to 2.6.

use std::path::Path;

use super::crc32c::crc32c;
use super::log::{LOG_MAX_BYTES, Replayed};
use crate::fields::{le16, le32, le64};
use crate::format::Format;
use crate::open::OpenError;
use crate::store::{Store, read_exact};

/// GUIDs as they stand in files: the first three fields little-endian.
const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> [u8; 16] {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

const BAT_REGION: [u8; 16] =
    guid(0x2DC2_7766, 0xF623, 0x4200, [0x9D, 0x64, 0x11, 0x5E, 0x9B, 0xFD, 0x4A, 0x08]);
const METADATA_REGION: [u8; 16] =
    guid(0x8B7C_A206, 0x4790, 0x4B9A, [0xB8, 0xFE, 0x57, 0x5F, 0x05, 0x0F, 0x88, 0x6E]);
const FILE_PARAMETERS: [u8; 16] =
    guid(0xCAA1_6737, 0xFA36, 0x4D43, [0xB3, 0xB6, 0x33, 0xF0, 0xAA, 0x44, 0xE7, 0x6B]);
const DISK_LENGTH: [u8; 16] =
    guid(0x2FA5_4224, 0xCD1B, 0x4876, [0xB2, 0x11, 0x5D, 0xBE, 0xD8, 0x3B, 0xF4, 0xB8]);
const SECTOR_LENGTH: [u8; 16] =
    guid(0x8141_BF1D, 0xA96F, 0x4709, [0xBA, 0x47, 0xF2, 0x33, 0xA8, 0xFA, 0xAB, 0x5F]);
const PHYSICAL_SECTOR: [u8; 16] =
    guid(0xCDA3_48C7, 0x445D, 0x4471, [0x9C, 0xC9, 0xE9, 0x88, 0x52, 0x51, 0xC5, 0x56]);
const PAGE_83: [u8; 16] = guid(0xBECA_12AB, 0xB2E6, 0x4523, [0x93, 0xEF, 0xC3, 0x09, 0xE0, 0x00, 0xC7, 0x46]);

const REGION_TABLE_BYTES: u64 = 64 << 10;
/// Largest block allocation table: that of 64 TiB in blocks of 1 MiB.
const BAT_MAX_BYTES: u64 = 512 << 20;

/// What the tables say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the disk.
    pub length_bytes: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
    /// Bytes of a sector of the guest's.
    pub sector_bytes: u64,
    /// Where the block allocation table lies.
    pub bat_offset: u64,
    /// The log had to be replayed.
    pub was_open: bool,
}

/// Reads the tables. The store that comes back is to be used from now on: its log is replayed.
pub fn read(store: Box<dyn Store>) -> Result<(Box<dyn Store>, Header), OpenError> {
    let path = store.path().to_owned();
    let newest = [64 << 10, 128 << 10]
        .into_iter()
        .filter_map(|at| read_exact(&*store, at, 4096).ok())
        .filter(|head| head.starts_with(b"head") && crc32c(head, 4) == le32(head, 4))
        .max_by_key(|head| le64(head, 8));
    let head = newest.ok_or_else(|| damaged(&path, "neither of its headers is sound".into()))?;
    if le16(&head, 66) != 1 {
        return Err(unsupported(&path, format!("version {} of the format", le16(&head, 66))));
    }
    let id = &head[48..64];
    let was_open = id.iter().any(|byte| *byte != 0);
    let store = if was_open { replay(store, &path, &head, id)? } else { store };
    let mut header = regions(&*store)?;
    header.was_open = was_open;
    Ok((store, header))
}

fn replay(store: Box<dyn Store>, path: &Path, head: &[u8], id: &[u8]) -> Result<Box<dyn Store>, OpenError> {
    let (length, offset) = (u64::from(le32(head, 68)), le64(head, 72));
    if length == 0 || length > LOG_MAX_BYTES || !length.is_multiple_of(4096) || le16(head, 64) != 0 {
        return Err(unsupported(path, format!("a log of {length} bytes")));
    }
    let replayed = Replayed::new(store, offset, length, id);
    replayed.map(|store| Box::new(store) as _).map_err(|error| damaged(path, error.to_string()))
}

fn regions(store: &dyn Store) -> Result<Header, OpenError> {
    let path = store.path();
    let table = [192 << 10, 256 << 10]
        .into_iter()
        .filter_map(|at| read_exact(store, at, REGION_TABLE_BYTES).ok())
        .find(|table| table.starts_with(b"regi") && crc32c(table, 4) == le32(table, 4))
        .ok_or_else(|| damaged(path, "neither of its region tables is sound".into()))?;
    let (mut bat, mut metadata) = (None, None);
    let count = le32(&table, 8).min(2047) as usize;
    for entry in table[16..16 + count * 32].chunks_exact(32) {
        let place = (le64(entry, 16), u64::from(le32(entry, 24)));
        match entry[..16].try_into().expect("sixteen bytes") {
            BAT_REGION => bat = Some(place),
            METADATA_REGION => metadata = Some(place),
            _ if le32(entry, 28) & 1 != 0 => return Err(unsupported(path, "an unknown region".into())),
            _ => {}
        }
    }
    let ((bat_offset, bat_bytes), (metadata_offset, _)) =
        bat.zip(metadata).ok_or_else(|| damaged(path, "a region is missing".into()))?;
    let mut header = read_metadata(store, metadata_offset)?;
    header.bat_offset = bat_offset;
    let needed = header.bat_entries() * 8;
    let end = bat_offset.checked_add(needed);
    if needed > bat_bytes || needed > BAT_MAX_BYTES || end.is_none_or(|end| end > store.length_bytes()) {
        return Err(damaged(path, "its table does not lie in the file, which may be cut".into()));
    }
    Ok(header)
}

fn read_metadata(store: &dyn Store, offset: u64) -> Result<Header, OpenError> {
    let path = store.path();
    let table = read_exact(store, offset, REGION_TABLE_BYTES)
        .ok()
        .filter(|table| table.starts_with(b"metadata"))
        .ok_or_else(|| damaged(path, "its metadata are missing".into()))?;
    let (mut parameters, mut length_bytes, mut sector_bytes) = (None, None, None);
    let count = usize::from(le16(&table, 10)).min(2047);
    for entry in table[32..32 + count * 32].chunks_exact(32) {
        let item = offset.saturating_add(le32(entry, 16).into());
        let item = || read_exact(store, item, 8).map_err(|_| damaged(path, "an item lies outside".into()));
        match entry[..16].try_into().expect("sixteen bytes") {
            FILE_PARAMETERS => parameters = Some(item()?),
            DISK_LENGTH => length_bytes = Some(le64(&item()?, 0)),
            SECTOR_LENGTH => sector_bytes = Some(u64::from(le32(&item()?, 0))),
            PHYSICAL_SECTOR | PAGE_83 => {}
            // Bit 2: an item that must be understood. A parent's locator is one.
            _ if le32(entry, 24) & 4 != 0 => {
                return Err(unsupported(path, "a parent image, or another unknown item".into()));
            }
            _ => {}
        }
    }
    let (Some(parameters), Some(length_bytes), Some(sector_bytes)) = (parameters, length_bytes, sector_bytes)
    else {
        return Err(damaged(path, "a required item is missing".into()));
    };
    if le32(&parameters, 4) & 2 != 0 {
        return Err(unsupported(path, "a parent image".into()));
    }
    let block_bytes = u64::from(le32(&parameters, 0));
    if !block_bytes.is_power_of_two() || !((1 << 20)..=(256 << 20)).contains(&block_bytes) {
        return Err(damaged(path, format!("blocks of {block_bytes} bytes do not exist")));
    }
    if ![512, 4096].contains(&sector_bytes) || length_bytes > 64 << 40 {
        return Err(damaged(path, format!("{length_bytes} bytes in sectors of {sector_bytes}")));
    }
    Ok(Header { length_bytes, block_bytes, sector_bytes, bat_offset: 0, was_open: false })
}

impl Header {
    /// Blocks for which there is one sector bitmap, whose entry follows theirs.
    pub fn chunk(&self) -> u64 {
        (self.sector_bytes << 23) / self.block_bytes
    }

    /// Entries of the table.
    pub fn bat_entries(&self) -> u64 {
        let blocks = self.length_bytes.div_ceil(self.block_bytes);
        blocks + blocks.saturating_sub(1) / self.chunk()
    }
}

pub(super) fn damaged(path: &Path, what: String) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), format: Format::Vhdx, what }
}

fn unsupported(path: &Path, feature: String) -> OpenError {
    let advice = "Convert it with the program that made it";
    OpenError::Unsupported { path: path.to_owned(), format: Format::Vhdx, feature, advice }
}
