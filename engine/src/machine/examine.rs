//! A look at a stopped vCPU: the code at RIP, read as the guest would read it, and as an instruction.

use cpu::registers::segment;
use cpu::{GuestBus, Registers};
use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};

/// Longest x86 instruction.
const INSTRUCTION_BYTES: u64 = 15;

const CR0_PAGING: u64 = 1 << 31;
const CR4_PAGE_SIZE_EXTENSION: u64 = 1 << 4;
const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const FRAME: u64 = 0x000F_FFFF_FFFF_F000;

/// The bytes at RIP, as far as they can be read, and the instruction they make.
pub fn code_at_rip(registers: &Registers, bus: &dyn GuestBus) -> (Vec<u8>, String) {
    let start = registers.linear_rip();
    let mut code = Vec::new();
    for n in 0..INSTRUCTION_BYTES {
        let Some(address) = translate(registers, bus, start.wrapping_add(n)) else { break };
        // Looking must not touch a device: only memory is read.
        if bus.page(address).read.is_null() {
            break;
        }
        code.push(bus.read(address, 1) as u8);
    }
    let text = disassemble(registers, &code);
    (code, text)
}

fn disassemble(registers: &Registers, code: &[u8]) -> String {
    let cs = registers.segments[segment::CS];
    let bits = match () {
        () if registers.efer & EFER_LONG_MODE_ACTIVE != 0 && cs.is_long() => 64,
        () if cs.is_big() => 32,
        () => 16,
    };
    if code.is_empty() {
        return "(no memory is mapped there)".to_owned();
    }
    let instruction = Decoder::with_ip(bits, code, registers.rip, DecoderOptions::NONE).decode();
    let mut text = String::new();
    NasmFormatter::new().format(&instruction, &mut text);
    text
}

/// Guest-physical address of a linear one, by the guest's own page tables; permissions are not looked at.
/// Source: Intel SDM 3A, chapter 5 (paging).
pub fn translate(registers: &Registers, bus: &dyn GuestBus, linear: u64) -> Option<u64> {
    if registers.cr0 & CR0_PAGING == 0 {
        return Some(linear & 0xFFFF_FFFF);
    }
    let long = registers.efer & EFER_LONG_MODE_ACTIVE != 0;
    let wide = registers.cr4 & CR4_PHYSICAL_ADDRESS_EXTENSION != 0;
    let large_pages = wide || registers.cr4 & CR4_PAGE_SIZE_EXTENSION != 0;
    // (levels, index bits, entry bytes, root)
    let (levels, bits, entry_bytes, root) = match (long, wide) {
        (true, _) => (4, 9, 8, registers.cr3 & FRAME),
        (false, true) => (3, 9, 8, registers.cr3 & 0xFFFF_FFE0),
        (false, false) => (2, 10, 4, registers.cr3 & 0xFFFF_F000),
    };
    let linear = if long { linear } else { linear & 0xFFFF_FFFF };
    let mut table = root;
    for level in (0..levels).rev() {
        let shift = 12 + bits * level;
        let index = (linear >> shift) & ((1 << bits) - 1);
        let entry = bus.read(table + index * entry_bytes as u64, entry_bytes);
        if entry & PRESENT == 0 {
            return None;
        }
        let largest = if long { 2 } else { 1 };
        let is_page = level == 0 || (entry & LARGE != 0 && large_pages && level <= largest);
        if is_page {
            let offset = linear & ((1 << shift) - 1);
            return Some((entry & FRAME & !((1 << shift) - 1)) | offset);
        }
        table = entry & FRAME;
    }
    None
}
