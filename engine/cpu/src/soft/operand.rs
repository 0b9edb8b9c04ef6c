//! Operands of cold instructions, straight from the decoded instruction: registers and addresses.

use iced_x86::{CodeSize, Instruction, OpKind, Register};

use crate::registers::segment;
use crate::soft::fault::Fallible;
use crate::soft::state::Cpu;

/// Index of a segment register in [`crate::Registers::segments`].
pub fn segment_index(register: Register) -> usize {
    match register {
        Register::ES => segment::ES,
        Register::CS => segment::CS,
        Register::SS => segment::SS,
        Register::FS => segment::FS,
        Register::GS => segment::GS,
        _ => segment::DS,
    }
}

/// Bytes of an effective address: 2, 4 or 8.
pub fn address_bytes(instruction: &Instruction) -> usize {
    let of_register = |register: Register| (register != Register::None).then(|| register.size());
    of_register(instruction.memory_base()).or_else(|| of_register(instruction.memory_index())).unwrap_or(
        match (instruction.memory_displ_size(), instruction.code_size()) {
            (2, _) => 2,
            (4, _) => 4,
            (8, _) => 8,
            (_, CodeSize::Code16) => 2,
            (_, CodeSize::Code64) => 8,
            _ => 4,
        },
    )
}

/// Zero-extends the low `bytes` bytes.
pub const fn truncate(value: u64, bytes: usize) -> u64 {
    match bytes {
        1 => value & 0xFF,
        2 => value & 0xFFFF,
        4 => value & 0xFFFF_FFFF,
        _ => value,
    }
}

impl Cpu {
    /// Value of a general register of any size, zero-extended.
    pub fn register(&self, register: Register) -> u64 {
        let number = register.number();
        match register.size() {
            1 if is_high_byte(register) => self.general[number - 4] >> 8 & 0xFF,
            1 => {
                // SPL to R15L come after AH to BH in iced's numbering of 8-bit registers.
                self.general[low_byte_number(register)] & 0xFF
            }
            bytes => truncate(self.general[number], bytes),
        }
    }

    /// Writes a general register: 8 and 16 bits keep the rest, 32 bits clear the upper half.
    pub fn set_register(&mut self, register: Register, value: u64) {
        let number = register.number();
        match register.size() {
            1 if is_high_byte(register) => {
                let old = self.general[number - 4];
                self.set_general(number - 4, old & !0xFF00 | (value & 0xFF) << 8);
            }
            1 => {
                let number = low_byte_number(register);
                let old = self.general[number];
                self.set_general(number, old & !0xFF | value & 0xFF);
            }
            2 => {
                let old = self.general[number];
                self.set_general(number, old & !0xFFFF | value & 0xFFFF);
            }
            4 => self.set_general(number, value & 0xFFFF_FFFF),
            _ => self.set_general(number, value),
        }
    }

    /// Segment and offset of the memory operand.
    pub fn effective_address(&self, instruction: &Instruction) -> (usize, u64) {
        let segment = segment_index(instruction.memory_segment());
        (segment, truncate(self.unsized_address(instruction), address_bytes(instruction)))
    }

    fn unsized_address(&self, instruction: &Instruction) -> u64 {
        let displacement = instruction.memory_displacement64();
        let base = match instruction.memory_base() {
            Register::None | Register::RIP | Register::EIP => 0, // iced has added RIP already
            register => self.register(register),
        };
        let index = match instruction.memory_index() {
            Register::None => 0,
            register => self.register(register).wrapping_mul(u64::from(instruction.memory_index_scale())),
        };
        displacement.wrapping_add(base).wrapping_add(index)
    }

    /// Reads operand `number` (register, memory or immediate) of 1, 2, 4 or 8 bytes.
    pub fn operand(&mut self, instruction: &Instruction, number: u32, bytes: usize) -> Fallible<u64> {
        match instruction.op_kind(number) {
            OpKind::Register => Ok(truncate(self.register(instruction.op_register(number)), bytes)),
            OpKind::Memory => {
                let (segment, offset) = self.effective_address(instruction);
                self.read_bytes(segment, offset, bytes)
            }
            _ => Ok(truncate(instruction.immediate(number), bytes)),
        }
    }

    /// Writes operand `number`: a register of its own size, or memory of `bytes`.
    pub fn set_operand(
        &mut self,
        instruction: &Instruction,
        number: u32,
        bytes: usize,
        value: u64,
    ) -> Fallible<()> {
        if instruction.op_kind(number) == OpKind::Register {
            self.set_register(instruction.op_register(number), value);
            return Ok(());
        }
        let (segment, offset) = self.effective_address(instruction);
        self.write_bytes(segment, offset, bytes, value)
    }

    /// Reads 1, 2, 4 or 8 bytes.
    pub fn read_bytes(&mut self, segment: usize, offset: u64, bytes: usize) -> Fallible<u64> {
        Ok(match bytes {
            1 => u64::from(self.read::<u8>(segment, offset)?),
            2 => u64::from(self.read::<u16>(segment, offset)?),
            4 => u64::from(self.read::<u32>(segment, offset)?),
            _ => self.read::<u64>(segment, offset)?,
        })
    }

    /// Writes 1, 2, 4 or 8 bytes.
    pub fn write_bytes(&mut self, segment: usize, offset: u64, bytes: usize, value: u64) -> Fallible<()> {
        match bytes {
            1 => self.write::<u8>(segment, offset, value as u8),
            2 => self.write::<u16>(segment, offset, value as u16),
            4 => self.write::<u32>(segment, offset, value as u32),
            _ => self.write::<u64>(segment, offset, value),
        }
    }
}

fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}

fn low_byte_number(register: Register) -> usize {
    register.full_register().number()
}
