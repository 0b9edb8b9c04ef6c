//! Stack instructions without a hot handler: PUSH and POP of memory, all registers, ENTER and LEAVE; BOUND.

use iced_x86::{Code, Instruction, Mnemonic};

use super::fault::{Fallible, Fault, Flow};
use super::operand::{address_bytes, truncate};
use super::state::{Cpu, mode};
use crate::registers::segment;

/// Runs `action`; RSP is as before if it faults.
fn with_stack(cpu: &mut Cpu, action: impl FnOnce(&mut Cpu) -> Fallible<()>) -> Fallible<Flow> {
    let stack = cpu.general[4];
    action(cpu).inspect_err(|_| cpu.general[4] = stack)?;
    Ok(Flow::Next)
}

fn stack_bytes(cpu: &Cpu) -> usize {
    match cpu.mode & (mode::LONG | mode::STACK_32) {
        0 => 2,
        mode::STACK_32 => 4,
        _ => 8,
    }
}

fn set_stack(cpu: &mut Cpu, value: u64) {
    cpu.general[4] = match stack_bytes(cpu) {
        2 => cpu.general[4] & !0xFFFF | value & 0xFFFF,
        bytes => truncate(value, bytes),
    };
}

/// PUSH m.
pub fn push_memory(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = i.memory_size().size();
    let value = cpu.operand(i, 0, bytes)?; // the address with RSP as it was
    with_stack(cpu, |cpu| cpu.push(value, bytes))
}

/// POP m.
pub fn pop_memory(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = i.memory_size().size();
    with_stack(cpu, |cpu| {
        let value = cpu.pop(bytes)?;
        cpu.set_operand(i, 0, bytes, value) // the address with RSP after the pop
    })
}

/// ENTER.
pub fn enter(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let (room, level) = (i.immediate(0) & 0xFFFF, i.immediate(1) & 31);
    let bytes = match i.code() {
        Code::Enterw_imm16_imm8 => 2,
        Code::Enterd_imm16_imm8 => 4,
        _ => 8,
    };
    with_stack(cpu, |cpu| {
        let base = cpu.general[5];
        cpu.push(truncate(base, bytes), bytes)?;
        let frame = cpu.general[4];
        if level > 0 {
            for above in 1..level {
                let at = truncate(base.wrapping_sub(above * bytes as u64), stack_bytes(cpu));
                let value = cpu.read_bytes(segment::SS, at, bytes)?;
                cpu.push(value, bytes)?;
            }
            cpu.push(truncate(frame, bytes), bytes)?;
        }
        let top = cpu.general[4].wrapping_sub(room);
        set_stack(cpu, top);
        // the new top must be writable
        let top = truncate(cpu.general[4], stack_bytes(cpu));
        cpu.prepare_write(segment::SS, top, bytes as u64)?;
        cpu.general[5] = match bytes {
            2 => base & !0xFFFF | frame & 0xFFFF,
            _ => truncate(frame, stack_bytes(cpu).max(bytes)),
        };
        Ok(())
    })
}

/// LEAVE in any mode.
pub fn leave(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = match i.code() {
        Code::Leavew => 2,
        Code::Leaved => 4,
        _ => 8,
    };
    with_stack(cpu, |cpu| {
        let base = cpu.general[5];
        set_stack(cpu, base);
        let value = cpu.pop(bytes)?;
        cpu.general[5] = if bytes == 2 { base & !0xFFFF | value } else { value };
        Ok(())
    })
}

/// PUSHA, PUSHAD.
pub fn pusha(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = if i.mnemonic() == Mnemonic::Pusha { 2 } else { 4 };
    let saved = cpu.general;
    with_stack(cpu, |cpu| saved[..8].iter().try_for_each(|&value| cpu.push(truncate(value, bytes), bytes)))
}

/// POPA, POPAD.
pub fn popa(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = if i.mnemonic() == Mnemonic::Popa { 2 } else { 4 };
    let mut values = [0; 8];
    with_stack(cpu, |cpu| {
        for value in values.iter_mut().rev() {
            *value = cpu.pop(bytes)?;
        }
        for (number, &value) in values.iter().enumerate().filter(|&(number, _)| number != 4) {
            let old = cpu.general[number];
            cpu.general[number] = if bytes == 2 { old & !0xFFFF | value } else { value };
        }
        Ok(())
    })
}

/// BOUND.
pub fn bound(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = i.op0_register().size();
    let (segment, offset) = cpu.effective_address(i);
    let signed = |value: u64| if bytes == 2 { value as i16 as i64 } else { value as i32 as i64 };
    let index = signed(cpu.register(i.op0_register()));
    let low = signed(cpu.read_bytes(segment, offset, bytes)?);
    let second = truncate(offset.wrapping_add(bytes as u64), address_bytes(i));
    let high = signed(cpu.read_bytes(segment, second, bytes)?);
    if index < low || index > high { Err(Fault::bound_range()) } else { Ok(Flow::Next) }
}
