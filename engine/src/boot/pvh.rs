//! PVH: ELF kernels with a note that names a 32-bit entry point (Linux's vmlinux, many hobby kernels).
//! Source: Xen, docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h.

use cpu::registers::general;

use super::elf::Program;
use super::{Image, Kernel, Piece, Room, protected};

const MAGIC: u32 = 0x336E_C578;
const START_ADDRESS: u64 = 0x6000;
const MODULE_LIST: usize = 0x40;
const MEMORY_MAP: usize = 0x80;
const COMMAND_LINE: usize = 0x200;
const PAGE_BYTES: usize = 0x1000;

/// The kernel, its start information, command line and ramdisk.
pub fn load(kernel: Kernel, program: Program, entry: u64, room: Room) -> Result<Image, String> {
    let mut pieces = program.pieces;
    let end = pieces.iter().map(Piece::end).max().unwrap_or(0);
    let ramdisk = kernel.initrd.map(|bytes| {
        let start = room.low.saturating_sub(bytes.len() as u64) & !0xFFF;
        Piece::new(start.max(end.next_multiple_of(4096)), bytes)
    });
    pieces.push(start_information(&kernel.append, ramdisk.as_ref(), room)?);
    pieces.extend(ramdisk);
    room.check(&pieces)?;
    pieces.push(protected::descriptors());
    let mut registers = protected::registers(entry);
    registers.general[general::RBX] = START_ADDRESS;
    Ok(Image::new(pieces, registers))
}

fn start_information(append: &str, ramdisk: Option<&Piece>, room: Room) -> Result<Piece, String> {
    let line = append.as_bytes();
    if line.len() >= PAGE_BYTES - COMMAND_LINE {
        return Err("the command line is too long".to_owned());
    }
    let mut page = vec![0; PAGE_BYTES];
    let at = |offset: usize| START_ADDRESS + offset as u64;
    page[COMMAND_LINE..COMMAND_LINE + line.len()].copy_from_slice(line);
    let usable = room.usable();
    for (n, (start, bytes)) in usable.iter().enumerate() {
        let entry = &mut page[MEMORY_MAP + 24 * n..][..24];
        entry[..8].copy_from_slice(&start.to_le_bytes());
        entry[8..16].copy_from_slice(&bytes.to_le_bytes());
        entry[16..20].copy_from_slice(&1_u32.to_le_bytes());
    }
    if let Some(ramdisk) = ramdisk {
        page[MODULE_LIST..MODULE_LIST + 8].copy_from_slice(&ramdisk.address.to_le_bytes());
        page[MODULE_LIST + 8..MODULE_LIST + 16].copy_from_slice(&(ramdisk.bytes.len() as u64).to_le_bytes());
    }
    let mut put = |offset: usize, bytes: &[u8]| page[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC.to_le_bytes());
    put(4, &1_u32.to_le_bytes()); // version 1: with a memory map
    put(12, &u32::from(ramdisk.is_some()).to_le_bytes());
    put(16, &at(MODULE_LIST).to_le_bytes());
    put(24, &at(COMMAND_LINE).to_le_bytes());
    put(40, &at(MEMORY_MAP).to_le_bytes());
    put(48, &(usable.len() as u32).to_le_bytes());
    Ok(Piece::new(START_ADDRESS, page))
}
