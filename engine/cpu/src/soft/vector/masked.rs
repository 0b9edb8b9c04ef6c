//! Instructions that touch memory element by element: masked moves and AVX2 gathers; and VZEROUPPER, VZEROALL.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::form::{self, Class};
use crate::registers::general::RDI;
use crate::soft::fault::{Fallible, Fault, Flow};
use crate::soft::model::Feature;
use crate::soft::operand::{address_bytes, segment_index, truncate};
use crate::soft::state::Cpu;

/// A vector register's 32 bytes.
type Lanes = [u8; 32];

impl Cpu {
    fn lanes(&self, register: Register) -> Lanes {
        let number = register.number();
        let mut lanes = [0; 32];
        lanes[..16].copy_from_slice(&self.fpu.bytes[160 + 16 * number..176 + 16 * number]);
        lanes[16..].copy_from_slice(&self.fpu.bytes[576 + 16 * number..592 + 16 * number]);
        lanes
    }

    fn set_lanes(&mut self, register: Register, lanes: &Lanes) {
        let number = register.number();
        self.fpu.bytes[160 + 16 * number..176 + 16 * number].copy_from_slice(&lanes[..16]);
        self.fpu.bytes[576 + 16 * number..592 + 16 * number].copy_from_slice(&lanes[16..]);
    }

    fn check_vex(&self, instruction: &Instruction) -> Fallible<()> {
        for &feature in instruction.cpuid_features() {
            self.require(form::feature(feature).ok_or(Fault::invalid_opcode())?)?;
        }
        self.check_class(Class::Avx)
    }
}

fn selected(mask: &Lanes, element: usize, bytes: usize) -> bool {
    mask[element * bytes + bytes - 1] & 0x80 != 0
}

/// Reads one element of 4 or 8 bytes.
fn read_element(cpu: &mut Cpu, segment: usize, offset: u64, into: &mut [u8]) -> Fallible<()> {
    if into.len() == 4 {
        into.copy_from_slice(&cpu.read::<u32>(segment, offset)?.to_le_bytes());
    } else {
        into.copy_from_slice(&cpu.read::<u64>(segment, offset)?.to_le_bytes());
    }
    Ok(())
}

/// VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ, loads and stores. No fault comes from an element that is not
/// selected.
pub fn vmaskmov(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_vex(instruction)?;
    let (segment, offset) = cpu.effective_address(instruction);
    let element_bytes = match instruction.mnemonic() {
        Mnemonic::Vmaskmovps | Mnemonic::Vpmaskmovd => 4,
        _ => 8,
    };
    let bits = address_bytes(instruction);
    let at = |element: usize| truncate(offset.wrapping_add((element * element_bytes) as u64), bits);
    let mask = cpu.lanes(instruction.op1_register());
    let count = instruction.op1_register().size() / element_bytes;
    // "No AC# reported for any mask bit combination" (Intel SDM 2C): byte by byte nothing is misaligned
    let step = if cpu.checks_alignment() { 1 } else { element_bytes };
    let chosen = (0..count).filter(|&element| selected(&mask, element, element_bytes));
    if instruction.op0_kind() == OpKind::Memory {
        let source = cpu.lanes(instruction.op2_register());
        for element in chosen.clone() {
            for piece in (0..element_bytes).step_by(step) {
                cpu.prepare_write(segment, at(element).wrapping_add(piece as u64), step as u64)?;
            }
        }
        for element in chosen {
            let bytes = &source[element * element_bytes..(element + 1) * element_bytes];
            for (n, piece) in bytes.chunks_exact(step).enumerate() {
                cpu.write_block(segment, at(element).wrapping_add((n * step) as u64), piece)?;
            }
        }
    } else {
        let mut result = [0; 32];
        for element in chosen {
            let into = &mut result[element * element_bytes..(element + 1) * element_bytes];
            for (n, piece) in into.chunks_exact_mut(step).enumerate() {
                cpu.read_block(segment, at(element).wrapping_add((n * step) as u64), piece)?;
            }
        }
        cpu.set_lanes(instruction.op0_register(), &result);
    }
    Ok(Flow::Next)
}

/// The eight AVX2 gathers. A fault leaves the elements before it gathered, and their mask bits clear.
pub fn gather(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_vex(instruction)?;
    let (target, mask_register) = (instruction.op0_register(), instruction.op2_register());
    let index_register = instruction.memory_index();
    let numbers = [target.number(), mask_register.number(), index_register.number()];
    if numbers[0] == numbers[1] || numbers[0] == numbers[2] || numbers[1] == numbers[2] {
        return Err(Fault::invalid_opcode());
    }
    use Mnemonic as M;
    let element_bytes = match instruction.mnemonic() {
        M::Vgatherdps | M::Vgatherqps | M::Vpgatherdd | M::Vpgatherqd => 4,
        _ => 8,
    };
    let index_bytes = match instruction.mnemonic() {
        M::Vgatherdps | M::Vgatherdpd | M::Vpgatherdd | M::Vpgatherdq => 4,
        _ => 8,
    };
    let count = (target.size() / element_bytes).min(index_register.size() / index_bytes);
    let segment = segment_index(instruction.memory_segment());
    let bits = gather_address_bytes(instruction);
    let base = match instruction.memory_base() {
        Register::None | Register::RIP | Register::EIP => 0,
        register => cpu.register(register),
    };
    let base = base.wrapping_add(instruction.memory_displacement64());
    let scale = u64::from(instruction.memory_index_scale());
    let indices = cpu.lanes(index_register);
    let (mut result, mut mask) = (cpu.lanes(target), cpu.lanes(mask_register));
    let mut outcome = Ok(Flow::Next);
    for element in 0..count {
        let lane = element * element_bytes..(element + 1) * element_bytes;
        if selected(&mask, element, element_bytes) {
            let raw = &indices[element * index_bytes..(element + 1) * index_bytes];
            let index = if index_bytes == 4 {
                i64::from(i32::from_le_bytes(raw.try_into().expect("four bytes"))) as u64
            } else {
                u64::from_le_bytes(raw.try_into().expect("eight bytes"))
            };
            let offset = truncate(base.wrapping_add(index.wrapping_mul(scale)), bits);
            if let Err(fault) = read_element(cpu, segment, offset, &mut result[lane.clone()]) {
                outcome = Err(fault);
                break;
            }
        }
        mask[lane].fill(0);
    }
    if outcome.is_ok() {
        mask = [0; 32];
        result[count * element_bytes..].fill(0);
    }
    cpu.set_lanes(target, &result);
    cpu.set_lanes(mask_register, &mask);
    outcome
}

/// Address size of a VSIB operand: the base's, or the mode's as iced tells by the displacement.
fn gather_address_bytes(instruction: &Instruction) -> usize {
    match (instruction.memory_base(), instruction.memory_displ_size()) {
        (Register::None, 4) => 4,
        (Register::None, 8) => 8,
        (Register::None, _) if instruction.code_size() == iced_x86::CodeSize::Code64 => 8,
        (Register::None, _) => 4,
        (base, _) => base.size(),
    }
}

/// Offset of the implicit [rDI], and the address size.
fn implicit_offset(cpu: &Cpu, instruction: &Instruction) -> (u64, usize) {
    let bytes = match instruction.op0_kind() {
        OpKind::MemorySegDI => 2,
        OpKind::MemorySegEDI => 4,
        _ => 8,
    };
    (truncate(cpu.general[RDI], bytes), bytes)
}

/// Stores the bytes that are selected, each checked before any is written.
fn store_selected(cpu: &mut Cpu, instruction: &Instruction, source: &[u8], mask: &[u8]) -> Fallible<()> {
    let segment = segment_index(instruction.memory_segment());
    let (offset, bits) = implicit_offset(cpu, instruction);
    let at = |n: usize| truncate(offset.wrapping_add(n as u64), bits);
    let chosen = (0..source.len()).filter(|&n| mask[n] & 0x80 != 0);
    for n in chosen.clone() {
        cpu.prepare_write(segment, at(n), 1)?;
    }
    for n in chosen {
        cpu.write::<u8>(segment, at(n), source[n])?;
    }
    Ok(())
}

/// MASKMOVDQU, VMASKMOVDQU.
pub fn maskmovdqu(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    if instruction.mnemonic() == Mnemonic::Vmaskmovdqu {
        cpu.check_vex(instruction)?;
    } else {
        cpu.require(Feature::Sse2)?;
        cpu.check_class(Class::Sse)?;
    }
    let (source, mask) = (cpu.lanes(instruction.op1_register()), cpu.lanes(instruction.op2_register()));
    store_selected(cpu, instruction, &source[..16], &mask[..16])?;
    Ok(Flow::Next)
}

/// MASKMOVQ. Like every MMX instruction it marks all registers used, and clears TOP.
pub fn maskmovq(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require(Feature::Sse)?;
    cpu.check_class(Class::Mmx)?;
    cpu.take_x87();
    if let Some(pending) = cpu.x87_pending(instruction) {
        return pending;
    }
    // MM registers are physical ones, the area has them in stack order
    let top = usize::from(cpu.fpu.bytes[3] >> 3 & 7);
    let physical = |cpu: &Cpu, register: Register| {
        let at = 32 + 16 * (register.number().wrapping_sub(top) & 7);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&cpu.fpu.bytes[at..at + 8]);
        bytes
    };
    let (source, mask) =
        (physical(cpu, instruction.op1_register()), physical(cpu, instruction.op2_register()));
    store_selected(cpu, instruction, &source, &mask)?;
    cpu.set_x87_top(0);
    cpu.fpu.bytes[4] = 0xFF;
    Ok(Flow::Next)
}

/// VZEROUPPER.
pub fn vzeroupper(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_vex(instruction)?;
    let registers = if cpu.is_64_bit() { 16 } else { 8 };
    cpu.fpu.bytes[576..576 + 16 * registers].fill(0);
    Ok(Flow::Next)
}

/// VZEROALL.
pub fn vzeroall(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_vex(instruction)?;
    let registers = if cpu.is_64_bit() { 16 } else { 8 };
    cpu.fpu.bytes[160..160 + 16 * registers].fill(0);
    cpu.fpu.bytes[576..576 + 16 * registers].fill(0);
    Ok(Flow::Next)
}
