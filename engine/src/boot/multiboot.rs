//! Multiboot 1 kernels: ELF, or described by the header itself.
//! Source: Multiboot Specification 0.6.96.

use cpu::registers::general;
use hardware::layout::address;

use super::{Image, Kernel, Piece, Room, elf, protected};

const MAGIC: u32 = 0x1BAD_B002;
/// What EAX holds at the entry.
const LOADER_MAGIC: u64 = 0x2BAD_B002;
/// The header lies in this much of the file, aligned to four bytes.
const SEARCHED: usize = 8192;
/// Header flag: load addresses are in the header.
const ADDRESSES_VALID: u32 = 1 << 16;
/// Header flags of the lower half that a loader must know to obey: page alignment, memory, video.
const KNOWN_REQUIREMENTS: u32 = 0b111;

const INFORMATION_ADDRESSES: std::ops::Range<u64> = 0x9000..0x9_F000;
const INFORMATION_BYTES: usize = 0x58;
const MEMORY_MAP: usize = 0x100;
const MODULE_LIST: usize = 0x200;
const LOADER_NAME: usize = 0x240;
const COMMAND_LINE: usize = 0x300;
const PAGE_BYTES: usize = 0x1000;

/// Bits of the information structure's flags.
mod valid {
    pub const MEMORY: u32 = 1 << 0;
    pub const COMMAND_LINE: u32 = 1 << 2;
    pub const MODULES: u32 = 1 << 3;
    pub const MEMORY_MAP: u32 = 1 << 6;
    pub const LOADER_NAME: u32 = 1 << 9;
}

/// A header found in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    offset: usize,
    flags: u32,
}

/// Looks for the header.
pub fn find_header(image: &[u8]) -> Option<Header> {
    let searched = &image[..image.len().min(SEARCHED)];
    (0..searched.len().saturating_sub(11)).step_by(4).find_map(|offset| {
        let word = |n: usize| u32_at(searched, offset + 4 * n);
        let sum = word(0).wrapping_add(word(1)).wrapping_add(word(2));
        (word(0) == MAGIC && sum == 0).then(|| Header { offset, flags: word(1) })
    })
}

/// The kernel, its information structure and its module.
pub fn load(kernel: Kernel, header: Header, room: Room) -> Result<Image, String> {
    if header.flags & 0xFFFF & !KNOWN_REQUIREMENTS != 0 {
        return Err(format!(
            "its multiboot header requires features unknown here (flags {:#x})",
            header.flags
        ));
    }
    let (mut pieces, entry) = match header.flags & ADDRESSES_VALID {
        0 => {
            let program = elf::Program::parse(&kernel.image)?;
            (program.pieces, program.entry)
        }
        _ => described(&kernel.image, header)?,
    };
    let end = pieces.iter().map(Piece::end).max().unwrap_or(0).max(address::MEGABYTE);
    let module = kernel.initrd.map(|bytes| Piece::new(end.next_multiple_of(4096), bytes));
    let information_address = free_page(&pieces)?;
    pieces.push(information(information_address, &kernel.append, module.as_ref(), room)?);
    pieces.extend(module);
    room.check(&pieces)?;
    pieces.push(protected::descriptors());
    let mut registers = protected::registers(entry);
    registers.general[general::RAX] = LOADER_MAGIC;
    registers.general[general::RBX] = information_address;
    Ok(Image::new(pieces, registers))
}

/// A kernel whose header holds its addresses (§3.1.3).
fn described(image: &[u8], header: Header) -> Result<(Vec<Piece>, u64), String> {
    let fields = header.offset + 12..header.offset + 32;
    let fields = image.get(fields).ok_or("its multiboot header is truncated")?;
    let field = |n: usize| u64::from(u32_at(fields, 4 * n));
    let (header_address, load, load_end, bss_end, entry) = (field(0), field(1), field(2), field(3), field(4));
    let inconsistent = "the addresses in its multiboot header contradict each other";
    let skipped = header_address.checked_sub(load).ok_or(inconsistent)? as usize;
    let start = header.offset.checked_sub(skipped).ok_or(inconsistent)?;
    let length = match load_end {
        0 => image.len() - start,
        end => end.checked_sub(load).ok_or(inconsistent)? as usize,
    };
    let bytes =
        image.get(start..start.saturating_add(length)).ok_or("the file is shorter than its header says")?;
    let zeros = bss_end.saturating_sub(load + length as u64);
    Ok((vec![Piece { address: load, bytes: bytes.to_vec(), zeros }], entry))
}

/// A page of conventional memory that the kernel leaves free: it must not be loaded over.
fn free_page(pieces: &[Piece]) -> Result<u64, String> {
    let bytes = PAGE_BYTES as u64;
    let is_free =
        |page: &u64| pieces.iter().all(|piece| piece.end() <= *page || *page + bytes <= piece.address);
    let found = INFORMATION_ADDRESSES.step_by(PAGE_BYTES).find(is_free);
    found.ok_or_else(|| "it leaves no room below 640 KiB for what it is told".to_owned())
}

/// The information structure (§3.3) and all it points to, in one page.
fn information(address: u64, append: &str, module: Option<&Piece>, room: Room) -> Result<Piece, String> {
    let mut page = vec![0; PAGE_BYTES];
    let at = |offset: usize| (address as usize + offset) as u32;
    let mut flags = valid::MEMORY | valid::COMMAND_LINE | valid::MEMORY_MAP | valid::LOADER_NAME;

    let line = append.as_bytes();
    if line.len() >= PAGE_BYTES - COMMAND_LINE {
        return Err("the command line is too long".to_owned());
    }
    page[COMMAND_LINE..COMMAND_LINE + line.len()].copy_from_slice(line);
    let name = b"Vitrine";
    page[LOADER_NAME..LOADER_NAME + name.len()].copy_from_slice(name);

    let usable = room.usable();
    for (n, (start, bytes)) in usable.iter().enumerate() {
        let entry = &mut page[MEMORY_MAP + 24 * n..][..24];
        entry[..4].copy_from_slice(&20_u32.to_le_bytes());
        entry[4..12].copy_from_slice(&start.to_le_bytes());
        entry[12..20].copy_from_slice(&bytes.to_le_bytes());
        entry[20..].copy_from_slice(&1_u32.to_le_bytes());
    }
    if let Some(module) = module {
        flags |= valid::MODULES;
        let words = [module.address as u32, module.end() as u32, at(COMMAND_LINE), 0];
        for (n, word) in words.into_iter().enumerate() {
            put_u32(&mut page, MODULE_LIST + 4 * n, word);
        }
    }
    let fields = [
        (0, flags),
        (4, (0x9_FC00 >> 10) as u32),
        (8, (room.low.saturating_sub(address::MEGABYTE) >> 10) as u32),
        (16, at(COMMAND_LINE)),
        (20, u32::from(module.is_some())),
        (24, at(MODULE_LIST)),
        (44, (usable.len() * 24) as u32),
        (48, at(MEMORY_MAP)),
        (64, at(LOADER_NAME)),
    ];
    for (offset, value) in fields {
        debug_assert!(offset < INFORMATION_BYTES);
        put_u32(&mut page, offset, value);
    }
    Ok(Piece::new(address, page))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
