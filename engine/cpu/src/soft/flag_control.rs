//! Instructions about the system flags: CLI, STI, PUSHF, POPF, CLAC, STAC (Intel SDM 2A, 2B).

use iced_x86::{Code, Instruction, Mnemonic};

use crate::soft::fault::{ColdHandler, Fallible, Fault, Flow};
use crate::soft::model::Feature;
use crate::soft::stack::Stack;
use crate::soft::state::{Cpu, flag};

const GP: Fault = Fault::general_protection(0);

/// The cold handler of a flag instruction.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Cli => cli,
        Mnemonic::Sti => sti,
        Mnemonic::Pushf | Mnemonic::Pushfd | Mnemonic::Pushfq => pushf,
        Mnemonic::Popf | Mnemonic::Popfd | Mnemonic::Popfq => popf,
        Mnemonic::Clac => set_ac::<false>,
        Mnemonic::Stac => set_ac::<true>,
        _ => return None,
    })
}

fn operand_bytes(instruction: &Instruction) -> usize {
    match instruction.code() {
        Code::Pushfw | Code::Popfw => 2,
        Code::Pushfd | Code::Popfd => 4,
        _ => 8,
    }
}

/// CLI and STI need CPL within IOPL (virtual-8086 mode has CPL 3).
fn may_change_if(cpu: &Cpu) -> bool {
    !cpu.is_protected_or_v8086() || cpu.cpl <= cpu.iopl()
}

fn cli(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    if !may_change_if(cpu) {
        return Err(GP);
    }
    cpu.system_flags &= !flag::IF;
    Ok(Flow::Next)
}

fn sti(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    if !may_change_if(cpu) {
        return Err(GP);
    }
    if cpu.system_flags & flag::IF == 0 {
        cpu.system_flags |= flag::IF;
        cpu.interrupt_shadow = true;
        cpu.shadow_of_sti = true;
    }
    Ok(Flow::Jumped)
}

fn pushf(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    if cpu.is_v8086() && cpu.iopl() < 3 {
        return Err(GP);
    }
    let image = cpu.flags() & !(flag::VM | flag::RF);
    cpu.push(image, operand_bytes(instruction))?;
    Ok(Flow::Next)
}

fn popf(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    if cpu.is_v8086() && cpu.iopl() < 3 {
        return Err(GP);
    }
    let bytes = operand_bytes(instruction);
    let mut stack = Stack::current(cpu);
    let popped = stack.pop(cpu, bytes)?;
    stack.commit_pointer(cpu);
    let mut writable = flag::RETURN & !flag::RF;
    if may_change_if(cpu) {
        writable |= flag::IF;
    }
    if cpu.cpl == 0 {
        writable |= flag::IOPL;
    }
    if bytes == 2 {
        writable &= 0xFFFF;
    }
    let kept = cpu.flags() & !(writable | flag::RF);
    cpu.load_flags(kept | popped & writable);
    Ok(Flow::Jumped)
}

fn set_ac<const SET: bool>(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    if !cpu.model.offers(Feature::Smap) || cpu.cpl != 0 {
        return Err(Fault::invalid_opcode());
    }
    if SET {
        cpu.system_flags |= flag::AC;
    } else {
        cpu.system_flags &= !flag::AC;
    }
    cpu.update_mode();
    Ok(Flow::Jumped)
}
