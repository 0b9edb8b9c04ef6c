//! Flat code and boot sectors: at 0x7C00, entered in real mode as a BIOS enters a boot sector.

use cpu::registers::{general, segment};
use cpu::{Registers, Segment};
use hardware::layout::address;

use super::{Image, Piece, Room};

/// Where a PC's BIOS puts a boot sector.
const LOAD_ADDRESS: u64 = 0x7C00;

/// Flat code, refused when it is empty or does not fit below the video memory.
pub fn load(code: Vec<u8>, room: Room) -> Result<Image, String> {
    let space = room.low.min(address::VGA_WINDOW) - LOAD_ADDRESS;
    match code.len() as u64 {
        0 => return Err("the file is empty".to_owned()),
        length if length > space => {
            return Err(format!(
                "flat code goes to {LOAD_ADDRESS:#x} and may have {space} bytes; it has {length}"
            ));
        }
        _ => {}
    }
    let mut registers = Registers::reset();
    registers.segments[segment::CS] = Segment { attributes: 0x9B, ..Segment::real(0) };
    registers.rip = LOAD_ADDRESS;
    registers.general[general::RSP] = LOAD_ADDRESS;
    registers.general[general::RDX] = 0;
    // Caches on, as a BIOS leaves them.
    registers.cr0 = 0x10;
    Ok(Image::new(vec![Piece::new(LOAD_ADDRESS, code)], registers))
}
