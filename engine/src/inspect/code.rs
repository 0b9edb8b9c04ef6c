//! Code as instructions, right for 16, 32 and 64 bits.

use cpu::Registers;
use cpu::registers::segment;
use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};
use serde::Serialize;

use super::summary::code_bits;
use super::{PhysicalMemory, read_linear};

/// Longest x86 instruction, in bytes.
pub const LONGEST: usize = 15;
/// Instructions disassembled at once, at the most.
const MOST: usize = 4096;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Offset in the code segment.
    pub offset: u64,
    /// Linear address.
    pub linear: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// In NASM's syntax.
    pub text: String,
    /// Linear address that a direct branch or call leads to.
    pub target: Option<u64>,
}

/// Linear address of an offset of the code segment.
pub fn linear(registers: &Registers, offset: u64) -> u64 {
    match code_bits(registers) {
        64 => offset,
        bits => {
            let base = registers.segments[segment::CS].base;
            base.wrapping_add(offset & (u64::MAX >> (64 - bits))) & 0xFFFF_FFFF
        }
    }
}

/// `count` instructions from `offset` of the code segment on, in the mode the vCPU is in; fewer where memory
/// ends. Bytes that are no instruction are shown one at a time.
pub fn disassemble(
    registers: &Registers,
    memory: &dyn PhysicalMemory,
    offset: u64,
    count: usize,
) -> Vec<Line> {
    let bits = code_bits(registers);
    let base = if bits == 64 { 0 } else { registers.segments[segment::CS].base };
    let mask = if bits == 64 { u64::MAX } else { 0xFFFF_FFFF };
    let mut formatter = NasmFormatter::new();
    let mut lines = Vec::new();
    let mut offset = offset;
    while lines.len() < count.min(MOST) {
        let linear = base.wrapping_add(offset) & mask;
        let mut bytes = [0; LONGEST];
        let read = read_linear(registers, memory, linear, &mut bytes);
        if read == 0 {
            break;
        }
        let instruction = Decoder::with_ip(bits, &bytes[..read], offset, DecoderOptions::NONE).decode();
        let mut text = String::new();
        let length = if instruction.is_invalid() {
            text = format!("db {:#04x}", bytes[0]);
            1
        } else {
            formatter.format(&instruction, &mut text);
            instruction.len()
        };
        let target = (!instruction.is_invalid() && instruction.near_branch_target() != 0)
            .then(|| base.wrapping_add(instruction.near_branch_target()) & mask);
        lines.push(Line { offset, linear, bytes: bytes[..length].to_vec(), text, target });
        offset = offset.wrapping_add(length as u64) & mask;
    }
    lines
}

/// The bytes at the instruction pointer, as far as they can be read, and the instruction they make.
pub fn at_instruction_pointer(registers: &Registers, memory: &dyn PhysicalMemory) -> (Vec<u8>, String) {
    let bits = code_bits(registers);
    let mask = if bits == 64 { u64::MAX } else { 0xFFFF_FFFF };
    let linear = if bits == 64 { registers.rip } else { registers.linear_rip() & mask };
    let mut bytes = vec![0; LONGEST];
    let read = read_linear(registers, memory, linear, &mut bytes);
    bytes.truncate(read);
    let text = disassemble(registers, memory, registers.rip, 1).into_iter().next().map(|line| line.text);
    (bytes, text.unwrap_or_else(|| "(no memory is mapped there)".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::testing::Flat;

    fn code(bytes: &[u8]) -> (Registers, Flat) {
        let mut memory = Flat::new(0x2000);
        memory.0[0x1000..0x1000 + bytes.len()].copy_from_slice(bytes);
        let mut registers = Registers::reset();
        registers.segments[segment::CS].base = 0x1000;
        registers.rip = 0;
        (registers, memory)
    }

    #[test]
    fn the_same_bytes_read_by_the_mode() {
        let (mut registers, memory) = code(&[0xB8, 0x34, 0x12, 0xCD, 0x10, 0xF4]);
        let texts = |registers: &Registers, offset| -> Vec<String> {
            disassemble(registers, &memory, offset, 3).into_iter().map(|line| line.text).collect()
        };
        assert_eq!(texts(&registers, 0), ["mov ax,1234h", "int 10h", "hlt"]);
        registers.cr0 |= 1;
        registers.segments[segment::CS].attributes = 0xC09B;
        assert_eq!(texts(&registers, 0)[0], "mov eax,10CD1234h");
        assert_eq!(disassemble(&registers, &memory, 0, 1)[0].target, None);
        registers.efer = 1 << 10;
        registers.segments[segment::CS].attributes = 0xA09B;
        assert_eq!(texts(&registers, 0x1005)[0], "hlt", "no segment base in 64-bit mode");
    }

    #[test]
    fn offsets_are_linear_in_every_mode() {
        let mut registers = Registers::reset();
        assert_eq!(linear(&registers, 0x1_0001), 0xFFFF_0001, "offsets wrap at 64 KiB");
        registers.cr0 |= 1;
        registers.segments[segment::CS].attributes = 0xC09B;
        assert_eq!(linear(&registers, 0x1_0001), 1, "and addresses at 4 GiB");
        registers.efer = 1 << 10;
        registers.segments[segment::CS].attributes = 0xA09B;
        assert_eq!(linear(&registers, u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_no_instruction_is_a_byte_and_what_is_no_memory_ends_it() {
        let (mut registers, memory) = code(&[0x0F, 0xFF]);
        registers.segments[segment::CS].base = 0x1FFF;
        let lines = disassemble(&registers, &memory, 0, 5);
        assert_eq!(lines.len(), 1);
        registers.rip = 0x10;
        let (bytes, text) = at_instruction_pointer(&registers, &memory);
        assert!(bytes.is_empty() && text.contains("no memory"));
    }
}
