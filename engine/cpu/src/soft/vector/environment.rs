//! FNSTENV, FLDENV, FNSAVE, FRSTOR in their four layouts (16 and 32 bits, protected and real mode). Intel SDM 1,
//! figures 8-9 to 8-12. Reserved halves of 32-bit fields are written as ones, as Intel's processors do.

use iced_x86::{Code, Instruction};

use super::form::Class;
use crate::soft::fault::{Fallible, Flow};
use crate::soft::state::{Cpu, mode};

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn dword(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) | u32::from(word(bytes, at + 2)) << 16
}

/// The two-bit tags of registers 0 to 7 from the abridged ones and what the registers hold.
fn full_tags(area: &[u8]) -> u16 {
    let top = word(area, 2) >> 11 & 7;
    let mut tags = 0;
    for register in 0..8u16 {
        let tag = if area[4] >> register & 1 == 0 {
            3
        } else {
            let at = 32 + 16 * usize::from(register.wrapping_sub(top) & 7);
            let exponent = word(area, at + 8) & 0x7FFF;
            let mantissa = u64::from(dword(area, at)) | u64::from(dword(area, at + 4)) << 32;
            match (exponent, mantissa) {
                (0, 0) => 1,
                (0 | 0x7FFF, _) => 2,
                (_, mantissa) if mantissa >> 63 == 0 => 2,
                _ => 0,
            }
        };
        tags |= tag << (2 * register);
    }
    tags
}

fn abridged_tags(full: u16) -> u8 {
    (0..8).fold(0, |tags, n| tags | u8::from(full >> (2 * n) & 3 != 3) << n)
}

/// Which of the four layouts.
#[derive(Clone, Copy)]
struct Layout {
    wide: bool,
    real: bool,
}

impl Layout {
    fn of(cpu: &Cpu, instruction: &Instruction) -> Layout {
        let narrow = matches!(
            instruction.code(),
            Code::Fnstenv_m14byte | Code::Fldenv_m14byte | Code::Fnsave_m94byte | Code::Frstor_m94byte
        );
        Layout { wide: !narrow, real: cpu.mode & (mode::REAL | mode::VIRTUAL_8086) != 0 }
    }

    const fn bytes(self) -> usize {
        if self.wide { 28 } else { 14 }
    }

    /// SDM 3A, table 6-7: 4 or 2, as the operand size.
    const fn alignment(self) -> u64 {
        if self.wide { 4 } else { 2 }
    }
}

impl Cpu {
    /// The environment as it is stored. State must have been taken.
    fn x87_environment(&self, layout: Layout) -> [u8; 28] {
        let area = &self.fpu.bytes;
        let [code, data] = self.vector.selectors;
        let linear = |selector: u16, offset: u32| (u32::from(selector) << 4).wrapping_add(offset);
        let (mut instruction, mut operand) = (dword(area, 8), dword(area, 16));
        let opcode = u32::from(word(area, 6) & 0x7FF);
        if layout.real {
            (instruction, operand) = (linear(code, instruction), linear(data, operand));
        }
        let (control, status, tags) = (word(area, 0), word(area, 2), full_tags(area));
        let mut result = [0; 28];
        if layout.wide {
            let high = |value: u16| 0xFFFF_0000 | u32::from(value);
            let fields = if layout.real {
                [
                    0xFFFF_0000 | instruction & 0xFFFF,
                    (instruction >> 16) << 12 | opcode,
                    0xFFFF_0000 | operand & 0xFFFF,
                    (operand >> 16) << 12,
                ]
            } else {
                [instruction, u32::from(code) | opcode << 16, operand, high(data)]
            };
            let head = [high(control), high(status), high(tags)];
            for (n, field) in head.into_iter().chain(fields).enumerate() {
                result[4 * n..4 * n + 4].copy_from_slice(&field.to_le_bytes());
            }
        } else {
            let fields = if layout.real {
                let high = |address: u32| (address >> 4) as u16 & 0xF000;
                [instruction as u16, high(instruction) | opcode as u16, operand as u16, high(operand)]
            } else {
                [instruction as u16, code, operand as u16, data]
            };
            for (n, field) in [control, status, tags].into_iter().chain(fields).enumerate() {
                result[2 * n..2 * n + 2].copy_from_slice(&field.to_le_bytes());
            }
        }
        result
    }

    /// Takes over a stored environment; the registers keep their places in the stack.
    fn set_x87_environment(&mut self, layout: Layout, bytes: &[u8]) {
        let at = |n: usize| if layout.wide { 4 * n } else { 2 * n };
        let control = word(bytes, at(0)) & 0x1F7F | 0x40;
        let status = with_summary(word(bytes, at(1)), control);
        let tags = abridged_tags(word(bytes, at(2)));
        let (instruction, operand, opcode);
        if layout.real {
            let pointer = |low: usize| {
                let high = if layout.wide {
                    dword(bytes, at(low + 1)) >> 12 & 0xFFFF
                } else {
                    u32::from(word(bytes, at(low + 1)) >> 12)
                };
                high << 16 | u32::from(word(bytes, at(low)))
            };
            (instruction, operand) = (pointer(3), pointer(5));
            opcode = word(bytes, at(4)) & 0x7FF;
            self.vector.selectors = [0; 2];
        } else {
            if layout.wide {
                (instruction, operand) = (dword(bytes, 12), dword(bytes, 20));
                opcode = word(bytes, 18) & 0x7FF;
            } else {
                (instruction, operand) = (u32::from(word(bytes, 6)), u32::from(word(bytes, 10)));
                opcode = 0;
            }
            self.vector.selectors = [word(bytes, at(4)), word(bytes, at(6))];
        }
        self.set_x87_top((status >> 11 & 7) as u8);
        let area = &mut self.fpu.bytes;
        area[0..2].copy_from_slice(&control.to_le_bytes());
        area[2..4].copy_from_slice(&status.to_le_bytes());
        area[4] = tags;
        area[6..8].copy_from_slice(&opcode.to_le_bytes());
        area[8..16].copy_from_slice(&u64::from(instruction).to_le_bytes());
        area[16..24].copy_from_slice(&u64::from(operand).to_le_bytes());
    }
}

/// The status word with ES and B as the flags and masks have them.
pub fn with_summary(status: u16, control: u16) -> u16 {
    let pending = status & !control & 0x3F != 0;
    status & !0x8080 | if pending { 0x8080 } else { 0 }
}

/// FNSTENV: stores the environment, then masks all exceptions.
pub fn fnstenv(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_class(Class::X87)?;
    let (segment, offset) = cpu.effective_address(instruction);
    let layout = Layout::of(cpu, instruction);
    cpu.take_x87();
    let image = cpu.x87_environment(layout);
    cpu.check_user_alignment(segment, offset, layout.alignment())?;
    cpu.write_block(segment, offset, &image[..layout.bytes()])?;
    cpu.fpu.bytes[0] |= 0x3F;
    let status = with_summary(word(&cpu.fpu.bytes, 2), word(&cpu.fpu.bytes, 0));
    cpu.fpu.bytes[2..4].copy_from_slice(&status.to_le_bytes());
    Ok(Flow::Next)
}

/// FNSAVE: stores the environment and ST0 to ST7, then FNINIT.
pub fn fnsave(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_class(Class::X87)?;
    let (segment, offset) = cpu.effective_address(instruction);
    let layout = Layout::of(cpu, instruction);
    cpu.take_x87();
    let mut image = [0; 108];
    let start = layout.bytes();
    image[..28].copy_from_slice(&cpu.x87_environment(layout));
    for n in 0..8 {
        image[start + 10 * n..start + 10 * n + 10].copy_from_slice(&cpu.fpu.bytes[32 + 16 * n..42 + 16 * n]);
    }
    cpu.check_user_alignment(segment, offset, layout.alignment())?;
    cpu.write_block(segment, offset, &image[..start + 80])?;
    cpu.reset_x87();
    Ok(Flow::Next)
}

/// FLDENV.
pub fn fldenv(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_class(Class::X87)?;
    let (segment, offset) = cpu.effective_address(instruction);
    let layout = Layout::of(cpu, instruction);
    cpu.take_x87();
    if let Some(pending) = cpu.x87_pending(instruction) {
        return pending;
    }
    let mut image = [0; 28];
    cpu.read_block(segment, offset, &mut image[..layout.bytes()])?;
    cpu.check_user_alignment(segment, offset, layout.alignment())?;
    cpu.set_x87_environment(layout, &image);
    Ok(Flow::Next)
}

/// FRSTOR.
pub fn frstor(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_class(Class::X87)?;
    let (segment, offset) = cpu.effective_address(instruction);
    let layout = Layout::of(cpu, instruction);
    cpu.take_x87();
    if let Some(pending) = cpu.x87_pending(instruction) {
        return pending;
    }
    let mut image = [0; 108];
    let start = layout.bytes();
    cpu.read_block(segment, offset, &mut image[..start + 80])?;
    cpu.check_user_alignment(segment, offset, layout.alignment())?;
    cpu.set_x87_environment(layout, &image);
    for n in 0..8 {
        cpu.fpu.bytes[32 + 16 * n..42 + 16 * n].copy_from_slice(&image[start + 10 * n..start + 10 * n + 10]);
    }
    Ok(Flow::Next)
}
