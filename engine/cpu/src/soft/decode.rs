//! From bytes to instructions: as many as go into a block, or the one at an address, over the end of a page too.

use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, Register};

use super::blocks::NONE;
use super::fault::{Fallible, Fault};
use super::state::{Cpu, mode};
use crate::registers::segment;

/// What `Cpu::collect` has got.
pub(super) struct Collected {
    pub(super) instructions: Vec<Instruction>,
    pub(super) bytes: u64,
    /// Memory offset of the page its last bytes are in, if that is another one.
    pub(super) second: u64,
}

impl Cpu {
    /// Instructions from `rip` on, whose page is at `host`.
    pub(super) fn collect(&mut self, rip: u64, host: *const u8, most: usize) -> Fallible<Collected> {
        let linear = self.code_linear(rip);
        let in_page = (linear & 0xFFF) as usize;
        let mut bytes = [0u8; 288];
        let count = bytes.len().min(0x1000 - in_page);
        // SAFETY: `host` is valid for the page, and the bytes lie within it.
        unsafe { host.add(in_page).copy_to_nonoverlapping(bytes.as_mut_ptr(), count) };
        let limit = self.last_code_offset();
        let watching = !self.blocks.breakpoints.is_empty() || self.debug[5] & 0xFF != 0;
        let mut decoder = Decoder::with_ip(self.bitness(), &bytes[..count], rip, DecoderOptions::NONE);
        let mut instructions = std::mem::take(&mut self.blocks.scratch.instructions);
        instructions.clear();
        let mut length = 0;
        while instructions.len() < most && decoder.can_decode() {
            if watching && !instructions.is_empty() && self.is_breakpoint(self.code_linear(rip + length)) {
                break;
            }
            // in place: a fresh instruction is slow to copy
            instructions.push(Instruction::default());
            let instruction = instructions.last_mut().expect("just pushed");
            decoder.decode_out(instruction);
            let end = length + instruction.len() as u64;
            if decoder.last_error() == DecoderError::NoMoreBytes || rip.saturating_add(end - 1) > limit {
                instructions.pop();
                break;
            }
            *instruction = self.corrected(*instruction, &bytes[length as usize..end as usize]);
            length = end;
            if instruction.is_invalid() || instruction.flow_control() != FlowControl::Next {
                break;
            }
        }
        if !instructions.is_empty() {
            return Ok(Collected { instructions, bytes: length, second: NONE });
        }
        let mut first = [0; 15];
        let count = count.min(15);
        first[..count].copy_from_slice(&bytes[..count]);
        let (instruction, second) = self.decode_one(rip, first, count)?;
        Ok(Collected { instructions: vec![instruction], bytes: instruction.len() as u64, second })
    }

    pub(super) fn last_code_offset(&self) -> u64 {
        if self.mode & mode::LONG != 0 { u64::MAX } else { u64::from(self.segments[segment::CS].limit) }
    }

    fn bitness(&self) -> u32 {
        match self.mode & (mode::LONG | mode::CODE_32) {
            0 => 16,
            mode::CODE_32 => 32,
            _ => 64,
        }
    }

    /// One instruction of which `count` bytes are in its first page; with the memory offset of the second
    /// page if it needs that.
    pub(super) fn decode_one(
        &mut self,
        rip: u64,
        mut bytes: [u8; 15],
        count: usize,
    ) -> Fallible<(Instruction, u64)> {
        let bitness = self.bitness();
        let decode = |bytes: &[u8]| {
            let mut decoder = Decoder::with_ip(bitness, bytes, rip, DecoderOptions::NONE);
            let instruction = decoder.decode();
            (instruction, decoder.last_error())
        };
        let (mut instruction, error) = decode(&bytes[..count]);
        let mut second = NONE;
        if error == DecoderError::NoMoreBytes && count < 15 {
            let linear = self.code_linear(rip.wrapping_add(count as u64));
            let mut rest = [0; 15];
            self.fetch(linear, &mut rest)?;
            second = self.translate_code(linear)?.host.offset & !0xFFF;
            bytes[count..].copy_from_slice(&rest[..15 - count]);
            let error;
            (instruction, error) = decode(&bytes);
            if error == DecoderError::NoMoreBytes {
                return Err(Fault::general_protection(0));
            }
        } else if error == DecoderError::NoMoreBytes {
            return Err(Fault::general_protection(0)); // longer than 15 bytes
        }
        let last = rip.saturating_add(instruction.len() as u64 - 1);
        if self.mode & mode::LONG == 0 && last > u64::from(self.segments[segment::CS].limit) {
            return Err(Fault::general_protection(0));
        }
        let instruction = self.corrected(instruction, &bytes[..instruction.len()]);
        Ok((instruction, second))
    }

    /// What 64-bit code means otherwise than the decoder says: overrides with ES, CS, SS and DS do nothing there
    /// (Intel SDM 1, 3.4.2.1), so they do not make a stack reference of another or the reverse; and F3 90 with
    /// REX.B is XCHG, not PAUSE.
    fn corrected(&self, mut instruction: Instruction, bytes: &[u8]) -> Instruction {
        if self.mode & mode::LONG == 0 {
            return instruction;
        }
        if matches!(instruction.segment_prefix(), Register::ES | Register::CS | Register::SS | Register::DS) {
            instruction.set_segment_prefix(Register::None);
        }
        if instruction.code() == Code::Pause && bytes.len() > 2 && bytes[bytes.len() - 2] & 0xF1 == 0x41 {
            let is_narrow = bytes[..bytes.len() - 2].contains(&0x66);
            let (code, register, accumulator) = match bytes[bytes.len() - 2] & 8 {
                0 if is_narrow => (Code::Xchg_r16_AX, Register::R8W, Register::AX),
                0 => (Code::Xchg_r32_EAX, Register::R8D, Register::EAX),
                _ => (Code::Xchg_r64_RAX, Register::R8, Register::RAX),
            };
            let next = instruction.next_ip();
            if let Ok(mut exchange) = Instruction::with2(code, register, accumulator) {
                exchange.set_len(bytes.len());
                exchange.set_next_ip(next);
                return exchange;
            }
        }
        instruction
    }
}
