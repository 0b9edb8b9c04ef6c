//! Linux kernels (bzImage), entered at their 32-bit entry point.
//! Source: Documentation/arch/x86/boot.rst and zero-page.rst of Linux.

use cpu::registers::general;

use super::{Image, Kernel, Piece, Room, protected, tables};

/// Offsets in the setup header, which has the same place in the file and in the boot parameters.
mod header {
    pub const START: usize = 0x1F1;
    pub const SETUP_SECTORS: usize = 0x1F1;
    pub const VIDEO_MODE: usize = 0x1FA;
    pub const JUMP: usize = 0x200;
    pub const MAGIC: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const LOADER_TYPE: usize = 0x210;
    pub const LOAD_FLAGS: usize = 0x211;
    pub const CODE32_START: usize = 0x214;
    pub const RAMDISK_IMAGE: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21C;
    pub const HEAP_END: usize = 0x224;
    pub const COMMAND_LINE: usize = 0x228;
    pub const RAMDISK_MAX: usize = 0x22C;
    pub const COMMAND_LINE_SIZE: usize = 0x238;
    pub const INIT_SIZE: usize = 0x260;
}

/// Offsets in the boot parameters ("zero page").
mod parameters {
    pub const BYTES: usize = 4096;
    pub const EXTENDED_VIDEO: usize = 0x00;
    pub const E820_ENTRIES: usize = 0x1E8;
    pub const E820_TABLE: usize = 0x2D0;
    pub const E820_ENTRY_BYTES: usize = 20;
}

const LOADED_HIGH: u8 = 1 << 0;
const CAN_USE_HEAP: u8 = 1 << 7;
/// A boot loader without an assigned number.
const UNKNOWN_LOADER: u8 = 0xFF;
/// First protocol with everything used here (2.06: command line size).
const OLDEST_VERSION: u16 = 0x0206;

const E820_USABLE: u32 = 1;
const E820_RESERVED: u32 = 2;

const PARAMETERS_ADDRESS: u64 = 0x7000;
const COMMAND_LINE_ADDRESS: u64 = 0x2_0000;
const KERNEL_ADDRESS: u64 = 0x10_0000;

/// Whether the file carries Linux's boot header.
pub fn is_bzimage(image: &[u8]) -> bool {
    image.len() > header::INIT_SIZE + 4 && &image[header::MAGIC..header::MAGIC + 4] == b"HdrS"
}

/// The kernel, its command line, ramdisk and boot parameters.
pub fn load(kernel: Kernel, room: Room) -> Result<Image, String> {
    let image = &kernel.image;
    let version = u16_at(image, header::VERSION);
    if version < OLDEST_VERSION || image[header::LOAD_FLAGS] & LOADED_HIGH == 0 {
        return Err(format!("this kernel's boot protocol {:#x} is older than {OLDEST_VERSION:#x}", version));
    }
    let setup_sectors = match image[header::SETUP_SECTORS] {
        0 => 4,
        n => usize::from(n),
    };
    let setup_bytes = (setup_sectors + 1) * 512;
    let code = image.get(setup_bytes..).filter(|code| !code.is_empty());
    let code = code.ok_or("this kernel is truncated: the file ends inside its setup code")?.to_vec();
    let longest = u32_at(image, header::COMMAND_LINE_SIZE) as usize;
    if kernel.append.len() > longest {
        return Err(format!("the command line is longer than this kernel's {longest} bytes"));
    }

    let mut parameters = boot_parameters(image, room);
    let mut pieces = Vec::new();
    let kernel_end = KERNEL_ADDRESS + (code.len() as u64).max(u64::from(u32_at(image, header::INIT_SIZE)));
    if let Some(initrd) = kernel.initrd {
        let highest = room.low.min(u64::from(u32_at(image, header::RAMDISK_MAX)) + 1);
        let start = highest.checked_sub(initrd.len() as u64).map(|start| start & !0xFFF);
        let start = start.filter(|start| *start >= kernel_end);
        let start = start.ok_or("kernel and ramdisk do not fit into memory; give the machine more")?;
        put_u32(&mut parameters, header::RAMDISK_IMAGE, start as u32);
        put_u32(&mut parameters, header::RAMDISK_SIZE, initrd.len() as u32);
        pieces.push(Piece::new(start, initrd));
    }
    pieces.push(Piece::new(KERNEL_ADDRESS, code));
    pieces.push(Piece::new(PARAMETERS_ADDRESS, parameters));
    pieces.push(Piece::new(COMMAND_LINE_ADDRESS, [kernel.append.as_bytes(), &[0]].concat()));
    room.check(&pieces)?;
    pieces.push(protected::descriptors());

    let mut registers = protected::registers(KERNEL_ADDRESS);
    registers.general[general::RSI] = PARAMETERS_ADDRESS;
    Ok(Image::new(pieces, registers))
}

fn boot_parameters(image: &[u8], room: Room) -> Vec<u8> {
    let mut page = vec![0; parameters::BYTES];
    // The byte after the jump says where the header ends.
    let header_end = header::MAGIC + usize::from(image[header::JUMP + 1]);
    page[header::START..header_end].copy_from_slice(&image[header::START..header_end]);
    page[header::LOADER_TYPE] = UNKNOWN_LOADER;
    page[header::LOAD_FLAGS] |= CAN_USE_HEAP;
    page[header::HEAP_END..][..2].copy_from_slice(&0xFE00_u16.to_le_bytes());
    page[header::VIDEO_MODE..][..2].copy_from_slice(&0xFFFF_u16.to_le_bytes());
    put_u32(&mut page, header::CODE32_START, KERNEL_ADDRESS as u32);
    put_u32(&mut page, header::COMMAND_LINE, COMMAND_LINE_ADDRESS as u32);
    // screen_info: 80x25 colour text, 16 lines a character; cursor at the top.
    let screen = &mut page[parameters::EXTENDED_VIDEO..][..0x12];
    screen[0x06] = 3; // mode
    screen[0x07] = 80;
    screen[0x0E] = 25;
    screen[0x0F] = 1; // VGA
    screen[0x10] = 16;
    let usable = room.usable().into_iter().map(|range| (range, E820_USABLE));
    let reserved = tables::RESERVED.into_iter().map(|range| (range, E820_RESERVED));
    let mut map: Vec<_> = usable.chain(reserved).collect();
    map.sort_unstable();
    page[parameters::E820_ENTRIES] = map.len() as u8;
    for (n, ((start, bytes), kind)) in map.into_iter().enumerate() {
        let entry = &mut page[parameters::E820_TABLE + n * parameters::E820_ENTRY_BYTES..];
        entry[..8].copy_from_slice(&start.to_le_bytes());
        entry[8..16].copy_from_slice(&bytes.to_le_bytes());
        entry[16..20].copy_from_slice(&kind.to_le_bytes());
    }
    page
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_map_is_sorted_and_keeps_the_tables_out() {
        let mut image = vec![0; 0x300];
        image[header::JUMP + 1] = 0x60;
        let page = boot_parameters(&image, Room { low: 64 << 20, high: 1 << 30 });
        let entry = |n: usize| {
            let at = parameters::E820_TABLE + n * parameters::E820_ENTRY_BYTES;
            let qword = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
            (qword(at), qword(at + 8), u32_at(&page, at + 16))
        };
        let map: Vec<_> = (0..usize::from(page[parameters::E820_ENTRIES])).map(entry).collect();
        let expected = [
            (0, 0x9_FC00, 1),
            (0x9_FC00, 0x400, 2),
            (0xE_0000, 0x2_0000, 2),
            (0x10_0000, 63 << 20, 1),
            (1 << 32, 1 << 30, 1),
        ];
        assert_eq!(map, expected);
    }
}
