//! Descriptor-table registers, and translation and cache invalidation (Intel SDM 2A: LGDT, SGDT, LLDT, LTR,
//! SLDT, STR, INVLPG, INVPCID, INVD, WBINVD).

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use crate::registers::Table;
use crate::soft::fault::{ColdHandler, Fallible, Fault, Flow};
use crate::soft::model::Feature;
use crate::soft::operand::{address_bytes, truncate};
use crate::soft::segmentation::is_canonical;
use crate::soft::state::Cpu;
use crate::soft::walk::bits;

const GP: Fault = Fault::general_protection(0);

/// The cold handler of a table or invalidation instruction.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Lgdt | Mnemonic::Lidt => load_table,
        Mnemonic::Sgdt | Mnemonic::Sidt => store_table,
        Mnemonic::Lldt => lldt,
        Mnemonic::Ltr => ltr,
        Mnemonic::Sldt | Mnemonic::Str => store_selector,
        Mnemonic::Invlpg => invlpg,
        Mnemonic::Invpcid => invpcid,
        Mnemonic::Invd | Mnemonic::Wbinvd | Mnemonic::Wbnoinvd => write_back,
        _ => return None,
    })
}

impl Cpu {
    /// #GP where CR4.UMIP keeps an instruction from user mode.
    pub fn check_umip(&self) -> Fallible<()> {
        if self.cr4 & bits::CR4_UMIP != 0 && self.cpl > 0 { Err(GP) } else { Ok(()) }
    }
}

fn base_offset(cpu: &Cpu, instruction: &Instruction) -> (usize, u64, u64) {
    let (segment, offset) = cpu.effective_address(instruction);
    (segment, offset, truncate(offset.wrapping_add(2), address_bytes(instruction)))
}

fn load_table(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require_ring_0()?;
    let (segment, limit_at, base_at) = base_offset(cpu, instruction);
    let limit = cpu.read::<u16>(segment, limit_at)?;
    let base = if cpu.is_64_bit() {
        cpu.read::<u64>(segment, base_at)?
    } else {
        let base = cpu.read::<u32>(segment, base_at)?;
        let is_16 = matches!(instruction.code(), Code::Lgdt_m1632_16 | Code::Lidt_m1632_16);
        u64::from(if is_16 { base & 0xFF_FFFF } else { base })
    };
    if !is_canonical(base) {
        return Err(GP);
    }
    let table = Table { base, limit };
    if instruction.mnemonic() == Mnemonic::Lgdt {
        cpu.gdtr = table;
    } else {
        cpu.idtr = table;
    }
    Ok(Flow::Next)
}

fn store_table(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_umip()?;
    let table = if instruction.mnemonic() == Mnemonic::Sgdt { cpu.gdtr } else { cpu.idtr };
    let (segment, limit_at, base_at) = base_offset(cpu, instruction);
    let bytes = if cpu.is_64_bit() { 8 } else { 4 };
    cpu.prepare_write(segment, base_at, bytes)?;
    cpu.write::<u16>(segment, limit_at, table.limit)?;
    cpu.write_bytes(segment, base_at, bytes as usize, table.base)?;
    Ok(Flow::Next)
}

fn lldt(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require_protected()?;
    cpu.require_ring_0()?;
    let selector = cpu.operand(instruction, 0, 2)? as u16;
    cpu.load_ldtr(selector, Fault::general_protection)?;
    Ok(Flow::Next)
}

fn ltr(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require_protected()?;
    cpu.require_ring_0()?;
    let selector = cpu.operand(instruction, 0, 2)? as u16;
    cpu.load_tr(selector)?;
    Ok(Flow::Next)
}

fn store_selector(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require_protected()?;
    cpu.check_umip()?;
    let register = if instruction.mnemonic() == Mnemonic::Sldt { cpu.ldtr } else { cpu.tr };
    cpu.set_operand(instruction, 0, 2, u64::from(register.selector))?;
    Ok(Flow::Next)
}

fn invlpg(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    if cpu.model.signature() < 0x400 {
        return Err(Fault::invalid_opcode());
    }
    cpu.require_ring_0()?;
    let (segment, offset) = cpu.effective_address(instruction);
    let base = cpu.segments[segment].base;
    let linear = match cpu.is_64_bit() {
        true if segment < crate::registers::segment::FS => offset,
        true => base.wrapping_add(offset),
        false => base.wrapping_add(offset) & 0xFFFF_FFFF, // compatibility mode too
    };
    if is_canonical(linear) {
        cpu.flush_page(linear);
    }
    Ok(Flow::Jumped)
}

fn invpcid(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    if !cpu.model.offers(Feature::Invpcid) || cpu.is_v8086() {
        return Err(Fault::invalid_opcode());
    }
    cpu.require_ring_0()?;
    debug_assert_eq!(instruction.op1_kind(), OpKind::Memory);
    let kind = cpu.register(instruction.op0_register());
    let (segment, offset) = cpu.effective_address(instruction);
    let low = cpu.read::<u64>(segment, offset)?;
    let linear = cpu.read::<u64>(segment, offset.wrapping_add(8))?;
    if kind > 3
        || low >> 12 != 0
        || kind <= 1 && low != 0 && cpu.cr4 & bits::CR4_PCIDE == 0
        || kind == 0 && !is_canonical(linear)
    {
        return Err(GP);
    }
    let space = low as u16;
    match kind {
        0 if space == cpu.space() => cpu.flush_page(linear),
        // Another space loses more than was asked for, which it may at any time.
        0 | 1 => cpu.flush_space(space),
        2 => cpu.flush_translations(true),
        _ => cpu.flush_spaces(),
    }
    Ok(Flow::Jumped)
}

fn write_back(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    cpu.require_ring_0()?;
    Ok(Flow::Next)
}
