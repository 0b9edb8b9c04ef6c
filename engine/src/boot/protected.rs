//! The state in which kernels are entered directly: 32-bit protected mode, flat segments, no paging;
//! and plain ELF programs, which are entered like that at their entry point.

use cpu::registers::segment;
use cpu::{Registers, Segment, Table};

use super::elf::Program;
use super::{Image, Piece, Room};

/// Where the descriptor table lies.
const GDT_ADDRESS: u64 = 0x500;
/// Selectors of the flat code and data segments, as Linux's boot protocol names them.
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;
/// Descriptors: null, null, flat code, flat data, a busy 32-bit TSS that nobody uses.
const GDT: [u64; 5] = [0, 0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x0000_8B00_0000_0067];

// IA32_MTRR_DEF_TYPE, Intel SDM 3A, 13.11.2.1.
const MTRR_ENABLE: u64 = 1 << 11;
const MTRR_FIXED_ENABLE: u64 = 1 << 10;
const WRITE_BACK: u64 = 6;

/// The descriptor table for [`registers`].
pub fn descriptors() -> Piece {
    Piece::new(GDT_ADDRESS, GDT.iter().flat_map(|descriptor| descriptor.to_le_bytes()).collect())
}

/// 32-bit protected mode at `entry`.
pub fn registers(entry: u64) -> Registers {
    let mut registers = Registers::reset();
    let flat =
        |selector, attributes| Segment { selector, base: 0, limit: u32::MAX, attributes, unusable: false };
    registers.segments = [flat(DATA, 0xC093); 6];
    registers.segments[segment::CS] = flat(CODE, 0xC09B);
    registers.tr = Segment { selector: TASK, base: 0, limit: 0x67, attributes: 0x8B, unusable: false };
    registers.gdtr = Table { base: GDT_ADDRESS, limit: (GDT.len() * 8 - 1) as u16 };
    registers.idtr = Table::default();
    registers.rip = entry;
    registers.cr0 = 0x11; // PE, ET
    // Memory types as firmware sets them: all write-back but 0xA0000 to 0xFFFFF. Linux leaves the page
    // attribute table alone where it finds the MTRRs off.
    registers.msrs.mtrr_default = MTRR_ENABLE | MTRR_FIXED_ENABLE | WRITE_BACK;
    registers.msrs.mtrr_fixed = [0; 11];
    registers.msrs.mtrr_fixed[..2].fill(WRITE_BACK * 0x0101_0101_0101_0101);
    registers
}

/// A program with no boot protocol of its own.
pub fn load(program: Program, room: Room) -> Result<Image, String> {
    if program.is_64_bit {
        return Err("it is a 64-bit program without a boot protocol (no multiboot header, no PVH note); \
                    it must be started by a boot loader"
            .to_owned());
    }
    let mut pieces = program.pieces;
    room.check(&pieces)?;
    pieces.push(descriptors());
    Ok(Image::new(pieces, registers(program.entry)))
}
