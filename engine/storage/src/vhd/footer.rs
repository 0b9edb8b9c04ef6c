//! The footer of a VHD and the header of a dynamic one. Source: Microsoft, *Virtual Hard Disk Image Format
//! Specification*, version 1.0 (2006).

use std::path::Path;

use crate::fields::{be16, be32, be64, put_be16, put_be32, put_be64};
use crate::format::Format;
use crate::open::OpenError;
use crate::store::Store;

/// Bytes of the footer.
pub const FOOTER: u64 = 512;
/// Bytes of the header of a dynamic disk.
pub const HEADER: u64 = 1024;
/// Blocks of this size are made.
pub const BLOCK_BYTES: u64 = 2 << 20;
/// Largest block that is read.
const BLOCK_MAX_BYTES: u64 = 256 << 20;
/// Most entries of a block allocation table: 128 MiB of it.
const TABLE_MAX: u32 = 1 << 25;

/// How the disk is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Byte for byte, before the footer.
    Fixed,
    /// In blocks that come when they are written.
    Dynamic,
    /// As dynamic; what is not there is in the parent.
    Differencing,
}

/// The footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// How the disk is kept.
    pub kind: Kind,
    /// Length of the disk.
    pub length_bytes: u64,
    /// Where the dynamic header lies.
    pub header_offset: u64,
    /// Tells it from other disks.
    pub id: [u8; 16],
}

/// The header of a dynamic or differencing disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the block allocation table lies.
    pub table_offset: u64,
    /// Its entries.
    pub blocks: u32,
    /// Bytes of a block, a power of two.
    pub block_bytes: u64,
    /// The parent's id.
    pub parent_id: [u8; 16],
    /// Names the parent may be found by, best first.
    pub parent_names: Vec<String>,
}

/// The sum of all bytes, complemented; the checksum's own field counts as zero.
fn checksum(bytes: &[u8], field: usize) -> u32 {
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = bytes[field..field + 4].iter().map(|byte| u32::from(*byte)).sum();
    !(sum - own)
}

impl Footer {
    /// Reads the footer: at the end of the file, or, if that was lost, its copy at the start.
    pub fn read(store: &dyn Store) -> Result<Footer, OpenError> {
        let path = store.path();
        let end = store.length_bytes().saturating_sub(FOOTER);
        for at in [end, 0] {
            let mut bytes = [0; FOOTER as usize];
            store
                .read_at(at, &mut bytes)
                .map_err(|error| OpenError::from_host(path, "read", false, error))?;
            if !bytes.starts_with(b"conectix") || checksum(&bytes, 64) != be32(&bytes, 64) {
                continue;
            }
            let footer = Footer::decode(path, &bytes)?;
            let is_fixed = footer.kind == Kind::Fixed;
            if is_fixed && footer.length_bytes > end {
                return Err(damaged(path, format!("{} bytes do not fit in it", footer.length_bytes)));
            }
            // Dynamic disks have both; a guest's disk that merely ends like one is not opened as one.
            let mut mark = [0; 8];
            store.read_at(0, &mut mark).map_err(|error| OpenError::from_host(path, "read", false, error))?;
            if is_fixed || &mark == b"conectix" {
                return Ok(footer);
            }
        }
        Err(damaged(path, "neither its footer nor the copy at its start is sound".into()))
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Footer, OpenError> {
        let kind = match be32(bytes, 60) {
            2 => Kind::Fixed,
            3 => Kind::Dynamic,
            4 => Kind::Differencing,
            other => return Err(damaged(path, format!("disks of type {other} do not exist"))),
        };
        Ok(Footer {
            kind,
            length_bytes: be64(bytes, 48),
            header_offset: be64(bytes, 16),
            id: *bytes[68..].first_chunk().expect("inside the footer"),
        })
    }

    /// The footer's bytes.
    pub fn encode(&self) -> [u8; FOOTER as usize] {
        let mut bytes = [0; FOOTER as usize];
        bytes[..8].copy_from_slice(b"conectix");
        put_be32(&mut bytes, 8, 2);
        put_be32(&mut bytes, 12, 0x0001_0000);
        put_be64(&mut bytes, 16, self.header_offset);
        // Programs tell by the creator whether the length counts or the geometry: with this one, the length.
        bytes[28..32].copy_from_slice(b"win ");
        put_be32(&mut bytes, 32, 0x000A_0000);
        bytes[36..40].copy_from_slice(b"Wi2k");
        put_be64(&mut bytes, 40, self.length_bytes);
        put_be64(&mut bytes, 48, self.length_bytes);
        let (cylinders, heads, sectors) = geometry(self.length_bytes / 512);
        put_be16(&mut bytes, 56, cylinders);
        (bytes[58], bytes[59]) = (heads, sectors);
        let kind = match self.kind {
            Kind::Fixed => 2,
            Kind::Dynamic => 3,
            Kind::Differencing => 4,
        };
        put_be32(&mut bytes, 60, kind);
        bytes[68..84].copy_from_slice(&self.id);
        let sum = checksum(&bytes, 64);
        put_be32(&mut bytes, 64, sum);
        bytes
    }
}

/// The geometry for a number of sectors: the specification's appendix, "CHS Calculation".
fn geometry(sectors: u64) -> (u16, u8, u8) {
    let total = sectors.min(65_535 * 16 * 255);
    if total >= 65_535 * 16 * 63 {
        return ((total / 255 / 16) as u16, 16, 255);
    }
    let (mut per_track, mut heads) = (17, (total / 17).div_ceil(1024).max(4));
    let mut cylinders_heads = total / 17;
    for wider in [31, 63] {
        if cylinders_heads >= heads * 1024 || heads > 16 {
            (per_track, heads) = (wider, 16);
            cylinders_heads = total / wider;
        }
    }
    ((cylinders_heads / heads) as u16, heads as u8, per_track as u8)
}

impl Header {
    /// Reads and checks the header of a dynamic disk.
    pub fn read(store: &dyn Store, footer: &Footer) -> Result<Header, OpenError> {
        let path = store.path();
        let mut bytes = vec![0; HEADER as usize];
        store
            .read_at(footer.header_offset, &mut bytes)
            .map_err(|error| OpenError::from_host(path, "read", false, error))?;
        if !bytes.starts_with(b"cxsparse") || checksum(&bytes, 36) != be32(&bytes, 36) {
            return Err(damaged(path, "its second header is not sound".into()));
        }
        let header = Header {
            table_offset: be64(&bytes, 16),
            blocks: be32(&bytes, 28),
            block_bytes: be32(&bytes, 32).into(),
            parent_id: *bytes[40..].first_chunk().expect("inside the header"),
            parent_names: parent_names(store, &bytes),
        };
        let block_bytes = header.block_bytes;
        if !block_bytes.is_power_of_two() || !(512..=BLOCK_MAX_BYTES).contains(&block_bytes) {
            return Err(damaged(path, format!("blocks of {block_bytes} bytes do not exist")));
        }
        let covered = u64::from(header.blocks) * block_bytes;
        if header.blocks > TABLE_MAX || covered < footer.length_bytes {
            return Err(damaged(path, format!("{} blocks for {} bytes", header.blocks, footer.length_bytes)));
        }
        let end = header.table_offset.checked_add(u64::from(header.blocks) * 4);
        if end.is_none_or(|end| end > store.length_bytes()) {
            return Err(damaged(path, "its table does not lie in the file, which may be cut".into()));
        }
        Ok(header)
    }

    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER as usize];
        bytes[..8].copy_from_slice(b"cxsparse");
        bytes[8..16].fill(0xFF);
        put_be64(&mut bytes, 16, self.table_offset);
        put_be32(&mut bytes, 24, 0x0001_0000);
        put_be32(&mut bytes, 28, self.blocks);
        put_be32(&mut bytes, 32, self.block_bytes as u32);
        let sum = checksum(&bytes, 36);
        put_be32(&mut bytes, 36, sum);
        bytes
    }

    /// Bytes of the bitmap before each block.
    pub fn bitmap_bytes(&self) -> u64 {
        (self.block_bytes / 512 / 8).next_multiple_of(512)
    }
}

/// The parent's names, from the locators ("W2ru": relative) and the header itself.
fn parent_names(store: &dyn Store, header: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for locator in header[576..576 + 8 * 24].chunks_exact(24) {
        let (length, offset) = (be32(locator, 8), be64(locator, 16));
        if &locator[..4] == b"W2ru" && length <= 4096 {
            let mut bytes = vec![0; length as usize];
            if store.read_at(offset, &mut bytes).is_ok() {
                names.push(utf16(bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]))));
            }
        }
    }
    names.push(utf16((64..576).step_by(2).map(|at| be16(header, at))));
    names.retain(|name| !name.is_empty());
    names.iter().map(|name| name.replace('\\', "/")).collect()
}

fn utf16(units: impl Iterator<Item = u16>) -> String {
    char::decode_utf16(units.take_while(|unit| *unit != 0)).map(|c| c.unwrap_or('\u{FFFD}')).collect()
}

pub(super) fn damaged(path: &Path, what: String) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), format: Format::Vhd, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry_as_the_specification_computes_it() {
        // 10 MiB, 1 GiB and 100 GiB.
        assert_eq!(geometry(20_480), (301, 4, 17));
        assert_eq!(geometry(2_097_152), (2080, 16, 63));
        assert_eq!(geometry(209_715_200), (51400, 16, 255));
    }
}
