//! The header of a VDI image, version 1.1. Source: VirtualBox `VDICore.h`, `VDIHEADER1PLUS`.

use crate::fields::{le32, le64, put_le32, put_le64};
use crate::format::Format;
use crate::open::OpenError;
use crate::store::Store;

/// Blocks of this size are made, and the only ones others read.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// Largest block that is read.
const BLOCK_MAX_BYTES: u64 = 256 << 20;
/// Most blocks: a map of 256 MiB.
pub(super) const BLOCKS_MAX: u32 = 1 << 26;

/// The header, with all numbers known to be sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// All blocks have a place from the start.
    pub is_fixed: bool,
    /// Where the map lies.
    pub map_offset: u64,
    /// Where the first block lies.
    pub data_offset: u64,
    /// Length of the disk.
    pub length_bytes: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
    /// Blocks of the disk.
    pub blocks: u32,
    /// Blocks that have a place in the file.
    pub allocated: u32,
}

impl Header {
    /// Where the count of used blocks lies.
    pub(super) const ALLOCATED_AT: u64 = 0x184;

    /// Reads and checks the header of an image.
    pub fn read(store: &dyn Store) -> Result<Header, OpenError> {
        let path = store.path();
        let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), format: Format::Vdi, what };
        let unsupported = |feature: String| OpenError::Unsupported {
            path: path.to_owned(),
            format: Format::Vdi,
            feature,
            advice: "Convert it with VBoxManage (`VBoxManage clonemedium`)",
        };
        let mut head = [0; 512];
        store.read_at(0, &mut head).map_err(|error| OpenError::from_host(path, "read", false, error))?;
        if le32(&head, 0x44) >> 16 != 1 {
            return Err(unsupported(format!("version {:#x} of the format", le32(&head, 0x44))));
        }
        let is_fixed = match le32(&head, 0x4C) {
            1 => false,
            2 => true,
            4 => return Err(unsupported("a parent image (a snapshot)".into())),
            kind => return Err(unsupported(format!("type {kind}"))),
        };
        let header = Header {
            is_fixed,
            map_offset: le32(&head, 0x154).into(),
            data_offset: le32(&head, 0x158).into(),
            length_bytes: le64(&head, 0x170),
            block_bytes: le32(&head, 0x178).into(),
            blocks: le32(&head, 0x180),
            allocated: le32(&head, 0x184),
        };
        if le32(&head, 0x17C) != 0 {
            return Err(unsupported("extra data in each block".into()));
        }
        if header.block_bytes > BLOCK_MAX_BYTES || header.block_bytes < 512 {
            return Err(damaged(format!("blocks of {} bytes do not exist", header.block_bytes)));
        }
        let map_end = header.map_offset + u64::from(header.blocks) * 4;
        let covered = u64::from(header.blocks) * header.block_bytes;
        if header.blocks > BLOCKS_MAX || covered < header.length_bytes {
            return Err(damaged(format!("{} blocks for {} bytes", header.blocks, header.length_bytes)));
        }
        if header.map_offset < 0x190 || map_end > header.data_offset || map_end > store.length_bytes() {
            return Err(damaged("its map does not lie in the file, which may be cut".into()));
        }
        Ok(header)
    }

    /// The header of a new image, with `id` to tell it from others.
    pub(super) fn encode(&self, id: [u8; 16]) -> Vec<u8> {
        let mut head = vec![0; 512];
        let text = b"<<< Vitrine VirtualBox Disk Image >>>\n";
        head[..text.len()].copy_from_slice(text);
        put_le32(&mut head, 0x40, 0xBEDA_107F);
        put_le32(&mut head, 0x44, 0x0001_0001);
        put_le32(&mut head, 0x48, 0x190);
        put_le32(&mut head, 0x4C, if self.is_fixed { 2 } else { 1 });
        put_le32(&mut head, 0x154, self.map_offset as u32);
        put_le32(&mut head, 0x158, self.data_offset as u32);
        put_le32(&mut head, 0x168, 512);
        put_le32(&mut head, 0x178, self.block_bytes as u32);
        put_le32(&mut head, 0x184, self.allocated);
        self.put_length(&mut head);
        head[0x188..0x198].copy_from_slice(&id);
        // The modification differs from the creation, as VirtualBox expects.
        head[0x198..0x1A8].copy_from_slice(&id.map(|byte| byte ^ 0x55));
        head
    }

    /// What a resize changes.
    pub(super) fn put_length(&self, head: &mut [u8]) {
        put_le64(head, 0x170, self.length_bytes);
        put_le32(head, 0x180, self.blocks);
    }
}
