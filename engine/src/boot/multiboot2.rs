//! Multiboot 2 kernels: ELF, or described by tags of the header.
//! Source: Multiboot2 Specification 2.0; section numbers are its own.
//!
//! Given to the kernel: command line, loader name, module, basic memory, memory map, EGA text screen, ACPI root
//! pointers, load address, and sections if it asks for them. Left out: EFI, APM, VBE, the BIOS's boot device.

use cpu::registers::general;
use hardware::layout::address;

use super::sections::{self, Sections};
use super::{Image, Kernel, Piece, Room, elf, protected};

const MAGIC: u32 = 0xE852_50D6;
/// What EAX holds at the entry.
const LOADER_MAGIC: u64 = 0x36D7_6289;
/// The header lies in this much of the file, aligned to eight bytes.
const SEARCHED: usize = 32_768;
const I386: u32 = 0;

const INFORMATION_ADDRESS: u64 = 0x9000;
/// Below the extended BIOS data area, with room for a stack.
const INFORMATION_END: u64 = 0x8_0000;
const PAGE: u64 = 4096;

/// Tags of the header, §3.1.4 and following.
mod asks {
    pub const END: u16 = 0;
    pub const INFORMATION: u16 = 1;
    pub const ADDRESSES: u16 = 2;
    pub const ENTRY: u16 = 3;
    pub const CONSOLE: u16 = 4;
    pub const FRAMEBUFFER: u16 = 5;
    pub const MODULE_ALIGNMENT: u16 = 6;
    pub const EFI_ENTRY_I386: u16 = 8;
    pub const EFI_ENTRY_AMD64: u16 = 9;
    pub const RELOCATABLE: u16 = 10;
}

/// Tags of the information, §3.6.
mod tells {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const LOADER_NAME: u32 = 2;
    pub const MODULE: u32 = 3;
    pub const BASIC_MEMORY: u32 = 4;
    pub const MEMORY_MAP: u32 = 6;
    pub const FRAMEBUFFER: u32 = 8;
    pub const ELF_SECTIONS: u32 = 9;
    pub const ACPI_OLD: u32 = 14;
    pub const ACPI_NEW: u32 = 15;
    pub const LOAD_BASE: u32 = 21;
    pub const ALL: [u32; 10] = [
        COMMAND_LINE,
        LOADER_NAME,
        MODULE,
        BASIC_MEMORY,
        MEMORY_MAP,
        FRAMEBUFFER,
        ELF_SECTIONS,
        ACPI_OLD,
        ACPI_NEW,
        LOAD_BASE,
    ];
}

/// Lengths of the root pointer in ACPI 1.0 and since.
const ROOT_OLD: usize = 20;
const ROOT_NEW: usize = 36;

/// A header found in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    offset: usize,
    architecture: u32,
    length: usize,
}

/// What a header asks for.
#[derive(Debug, Default)]
struct Wishes {
    /// Header, load, load end, bss end.
    addresses: Option<[u32; 4]>,
    entry: Option<u32>,
    sections: bool,
    /// Least and greatest address, alignment, preference.
    relocatable: Option<[u32; 4]>,
}

/// Looks for the header.
pub fn find_header(image: &[u8]) -> Option<Header> {
    let searched = &image[..image.len().min(SEARCHED)];
    (0..searched.len().saturating_sub(15)).step_by(8).find_map(|offset| {
        let [magic, architecture, length, checksum] = words(searched, offset)?;
        let sum = magic.wrapping_add(architecture).wrapping_add(length).wrapping_add(checksum);
        (magic == MAGIC && sum == 0).then_some(Header { offset, architecture, length: length as usize })
    })
}

/// The kernel, its information and its module.
pub fn load(kernel: Kernel, header: Header, room: Room) -> Result<Image, String> {
    if header.architecture != I386 {
        return Err(format!("its multiboot 2 header is for architecture {}, not i386", header.architecture));
    }
    let wishes = Wishes::read(&kernel.image, header)?;
    let (mut pieces, mut entry) = match wishes.addresses {
        Some(addresses) => described(&kernel.image, header, addresses)?,
        None => {
            let program = elf::Program::parse(&kernel.image)?;
            (program.pieces, program.entry)
        }
    };
    if let Some(wanted) = wishes.entry {
        entry = wanted.into();
    } else if wishes.addresses.is_some() {
        return Err("its multiboot 2 header gives addresses but no entry".to_owned());
    }
    if let Some(limits) = wishes.relocatable {
        let moved = relocation(&pieces, limits, room)?;
        pieces.iter_mut().for_each(|piece| piece.address = piece.address.wrapping_add(moved));
        entry = entry.wrapping_add(moved);
    }
    let base = pieces.iter().map(|piece| piece.address).min().unwrap_or(0);
    let mut end = pieces.iter().map(Piece::end).max().unwrap_or(0).max(address::MEGABYTE);
    let mut place = |bytes: Vec<u8>| {
        let piece = Piece::new(end.next_multiple_of(PAGE), bytes);
        end = piece.end();
        piece
    };
    let module = kernel.initrd.map(&mut place);
    let sections = match wishes.sections {
        true => sections::read(&kernel.image, place)?,
        false => None,
    };
    let information = Information::new(&kernel.append, module.as_ref(), base, sections.as_ref(), room);
    let occupied = INFORMATION_ADDRESS..INFORMATION_ADDRESS + information.bytes.len() as u64;
    if occupied.end > INFORMATION_END {
        return Err("its command line and sections do not fit below the first megabyte".to_owned());
    }
    if pieces.iter().any(|piece| piece.address < occupied.end && occupied.start < piece.end()) {
        return Err(format!("it wants the memory at {:#x}, where its information lies", occupied.start));
    }
    let root_pointers = information.root_pointers();
    pieces.push(Piece::new(INFORMATION_ADDRESS, information.bytes));
    pieces.extend(module);
    pieces.extend(sections.into_iter().flat_map(|sections| sections.loaded));
    room.check(&pieces)?;
    pieces.push(protected::descriptors());
    let mut registers = protected::registers(entry);
    registers.general[general::RAX] = LOADER_MAGIC;
    registers.general[general::RBX] = INFORMATION_ADDRESS;
    Ok(Image { pieces, registers, root_pointers })
}

impl Wishes {
    fn read(image: &[u8], header: Header) -> Result<Wishes, String> {
        let truncated = "its multiboot 2 header is truncated";
        let tags =
            image.get(header.offset + 16..header.offset.saturating_add(header.length)).ok_or(truncated)?;
        let mut wishes = Wishes::default();
        let mut at = 0;
        loop {
            let [kinds, size] = words(tags, at).ok_or(truncated)?;
            let (kind, optional) = (kinds as u16, kinds >> 16 & 1 != 0);
            let body = tags.get(at + 8..at.saturating_add(size as usize)).ok_or(truncated)?;
            let fields = || words::<4>(body, 0).ok_or(truncated);
            match kind {
                asks::END => return Ok(wishes),
                asks::INFORMATION => wishes.ask(body, optional)?,
                asks::ADDRESSES => wishes.addresses = Some(fields()?),
                asks::ENTRY => wishes.entry = Some(words::<1>(body, 0).ok_or(truncated)?[0]),
                // Bit 0: there must be a console; bit 1: it can be EGA text, which is what there is.
                asks::CONSOLE => {
                    let [flags] = words(body, 0).ok_or(truncated)?;
                    if flags & 3 == 1 && !optional {
                        return Err(
                            "it needs a graphical console from its loader; only text is set up".to_owned()
                        );
                    }
                }
                asks::RELOCATABLE => wishes.relocatable = Some(fields()?),
                // A preference, modules that lie on pages anyway, and entries for loaders that are EFI programs.
                asks::FRAMEBUFFER | asks::MODULE_ALIGNMENT | asks::EFI_ENTRY_I386 | asks::EFI_ENTRY_AMD64 => {
                }
                _ if optional => {}
                _ => {
                    return Err(format!(
                        "its multiboot 2 header requires a feature unknown here (tag {kind})"
                    ));
                }
            }
            at += (size as usize).max(8).next_multiple_of(8);
        }
    }

    fn ask(&mut self, body: &[u8], optional: bool) -> Result<(), String> {
        for [kind] in (0..body.len()).step_by(4).filter_map(|at| words::<1>(body, at)) {
            if !optional && !tells::ALL.contains(&kind) {
                return Err(format!("it requires information that there is none of here (tag {kind})"));
            }
            self.sections |= kind == tells::ELF_SECTIONS;
        }
        Ok(())
    }
}

/// A kernel whose header holds its addresses (§3.1.6); its entry is another tag's.
fn described(image: &[u8], header: Header, addresses: [u32; 4]) -> Result<(Vec<Piece>, u64), String> {
    let inconsistent = "the addresses in its multiboot 2 header contradict each other";
    let [header_address, load, load_end, bss_end] = addresses;
    // All ones: the file is loaded from its beginning.
    let skipped = match load {
        u32::MAX => header.offset,
        load => header_address.checked_sub(load).ok_or(inconsistent)? as usize,
    };
    let start = header.offset.checked_sub(skipped).ok_or(inconsistent)?;
    let load = u64::from(header_address).checked_sub(skipped as u64).ok_or(inconsistent)?;
    let length = match load_end {
        0 => image.len() - start,
        end => u64::from(end).checked_sub(load).ok_or(inconsistent)? as usize,
    };
    let bytes = image.get(start..start.saturating_add(length));
    let bytes = bytes.ok_or("the file is shorter than its multiboot 2 header says")?;
    let zeros = u64::from(bss_end).saturating_sub(load + length as u64);
    Ok((vec![Piece { address: load, bytes: bytes.to_vec(), zeros }], load))
}

/// How far a relocatable kernel is moved (§3.1.11), as what is added to its addresses.
fn relocation(pieces: &[Piece], limits: [u32; 4], room: Room) -> Result<u64, String> {
    const HIGHEST: u32 = 2;
    let [least, most, alignment, preference] = limits;
    let start = pieces.iter().map(|piece| piece.address).min().unwrap_or(0);
    let length = pieces.iter().map(Piece::end).max().unwrap_or(0) - start;
    let alignment = u64::from(alignment).max(1);
    let lowest = u64::from(least).max(address::MEGABYTE).next_multiple_of(alignment);
    let last = room.low.min(u64::from(most).saturating_add(1)).saturating_sub(length);
    let highest = last - last % alignment;
    if highest < lowest {
        return Err(format!("there is no room for it between {least:#x} and {most:#x}; give it more memory"));
    }
    let linked_fits = (lowest..=highest).contains(&start) && start.is_multiple_of(alignment);
    let target = match preference {
        0 if linked_fits => start,
        HIGHEST => highest,
        _ => lowest,
    };
    Ok(target.wrapping_sub(start))
}

/// The information in the making, tag after tag.
struct Information {
    bytes: Vec<u8>,
    old_root: usize,
    new_root: usize,
}

impl Information {
    fn new(
        append: &str,
        module: Option<&Piece>,
        base: u64,
        sections: Option<&Sections>,
        room: Room,
    ) -> Information {
        let mut all = Information { bytes: vec![0; 8], old_root: 0, new_root: 0 };
        all.tag(tells::COMMAND_LINE, &[append.as_bytes(), &[0]].concat());
        all.tag(tells::LOADER_NAME, b"Vitrine\0");
        if let Some(module) = module {
            let (start, end) = (module.address as u32, module.end() as u32);
            all.tag(tells::MODULE, &[&start.to_le_bytes()[..], &end.to_le_bytes(), &[0]].concat());
        }
        let upper_kib = (room.low.saturating_sub(address::MEGABYTE) >> 10) as u32;
        all.tag(tells::BASIC_MEMORY, &[639_u32.to_le_bytes(), upper_kib.to_le_bytes()].concat());
        let mut map = [24_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat();
        for (start, bytes) in room.usable() {
            map.extend([start.to_le_bytes(), bytes.to_le_bytes(), 1_u64.to_le_bytes()].concat());
        }
        all.tag(tells::MEMORY_MAP, &map);
        // EGA text (type 2): 80 by 25 cells of two bytes, sizes in characters.
        let mut screen = 0xB_8000_u64.to_le_bytes().to_vec();
        screen.extend([160_u32, 80, 25].iter().flat_map(|field| field.to_le_bytes()));
        screen.extend([16, 2, 0, 0]);
        all.tag(tells::FRAMEBUFFER, &screen);
        if let Some(sections) = sections {
            let fields = [sections.count, sections.entry_bytes, sections.names];
            let fields = fields.iter().flat_map(|field| field.to_le_bytes());
            all.tag(tells::ELF_SECTIONS, &fields.chain(sections.headers.iter().copied()).collect::<Vec<_>>());
        }
        // Filled in when the board's tables are known.
        all.old_root = all.tag(tells::ACPI_OLD, &[0; ROOT_OLD]);
        all.new_root = all.tag(tells::ACPI_NEW, &[0; ROOT_NEW]);
        all.tag(tells::LOAD_BASE, &(base as u32).to_le_bytes());
        all.tag(tells::END, &[]);
        let total = all.bytes.len() as u32;
        all.bytes[..4].copy_from_slice(&total.to_le_bytes());
        all
    }

    /// Adds a tag; gives where its body lies.
    fn tag(&mut self, kind: u32, body: &[u8]) -> usize {
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((8 + body.len() as u32).to_le_bytes());
        let at = self.bytes.len();
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        at
    }

    fn root_pointers(&self) -> Vec<(u64, usize)> {
        let at = |offset: usize| INFORMATION_ADDRESS + offset as u64;
        vec![(at(self.old_root), ROOT_OLD), (at(self.new_root), ROOT_NEW)]
    }
}

/// Little-endian dwords at `at`, if they are all there.
fn words<const N: usize>(bytes: &[u8], at: usize) -> Option<[u32; N]> {
    let bytes = bytes.get(at..at.checked_add(4 * N)?)?;
    Some(std::array::from_fn(|n| u32::from_le_bytes(std::array::from_fn(|byte| bytes[4 * n + byte]))))
}

#[cfg(test)]
#[path = "multiboot2_tests.rs"]
mod tests;
