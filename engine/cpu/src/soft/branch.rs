//! Handlers that end blocks or move the stack pointer: jumps, calls, returns, fused compare-and-branch,
//! push and pop; and how blocks follow each other.
//!
//! A direct exit is linked to its target's first op once that was found, and the link is good for one
//! `jump_key` (mode and translations). Indirect ones go through the jump cache, which has the same key.

#![allow(clippy::missing_safety_doc)] // all handlers: see `Run`

use super::arithmetic::Alu;
use super::blocks::Cold;
use super::fault::{Fault, Flow};
use super::op::{Address, Op, check, fail, finish, get, next, offset, put};
use super::segmentation::is_canonical;
use super::state::{Cpu, mode};
use super::word::Word;
use crate::registers::{general::RSP, segment};

/// Byte offset of RSP in [`Cpu`].
const STACK: u8 = RSP as u8 * 8;

/// Work of an instruction without a handler of its own.
const COLD: u64 = 8;

/// Leaves the block through an exit slot.
#[inline(always)]
unsafe fn follow(cpu: &mut Cpu, exit: *const Op) {
    // SAFETY: see `Run`; a link with the right key is the first op of a live block.
    unsafe {
        cpu.budget -= i64::from((*exit).number);
        if cpu.budget > 0 && (*exit).disp == cpu.jump_key {
            let target = (*exit).extra as *const Op;
            return ((*target).run)(cpu, target);
        }
        unlinked(cpu, exit)
    }
}

#[cold]
#[inline(never)]
unsafe fn unlinked(cpu: &mut Cpu, exit: *const Op) {
    // SAFETY: see `Run`.
    unsafe { cpu.rip = (*exit).imm }
    cpu.outcome.link_from = exit;
}

/// The end of a block that is no branch, and JMP.
pub unsafe fn exit(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe { follow(cpu, op) }
}

/// Jcc: exits for "not taken" and "taken" come after it.
pub unsafe fn jump_if<const C: u8>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`; the block has both exits.
    unsafe { if cpu.condition::<C>() { follow(cpu, op.add(2)) } else { follow(cpu, op.add(1)) } }
}

/// A two-register operation and the Jcc after it.
pub unsafe fn alu_rr_jump<T: Word, O: Alu, const C: u8>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let (a, b) = (get::<T>(cpu, (*op).a), get::<T>(cpu, (*op).b));
        let result = O::run::<T, true>(cpu, a, b);
        if O::WRITES {
            put::<T>(cpu, (*op).a, result);
        }
        if O::condition::<T, C>(cpu, a, b, result) { follow(cpu, op.add(2)) } else { follow(cpu, op.add(1)) }
    }
}

/// A register-and-immediate operation and the Jcc after it.
pub unsafe fn alu_ri_jump<T: Word, O: Alu, const C: u8>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let (a, b) = (get::<T>(cpu, (*op).a), T::of((*op).imm));
        let result = O::run::<T, true>(cpu, a, b);
        if O::WRITES {
            put::<T>(cpu, (*op).a, result);
        }
        if O::condition::<T, C>(cpu, a, b, result) { follow(cpu, op.add(2)) } else { follow(cpu, op.add(1)) }
    }
}

/// LOOP, LOOPE, LOOPNE, JCXZ: `a` says which (0 to 3 as the opcode's low bits), the address size is the
/// counter's.
pub unsafe fn loop_jump(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let (kind, mask) = ((*op).a, [0xFFFF, 0xFFFF_FFFF, u64::MAX][((*op).memory >> 5) as usize]);
        let step = u64::from(kind != 3);
        let count = cpu.general[1].wrapping_sub(step) & mask;
        if kind != 3 {
            // a 32-bit counter clears the upper half in 64-bit mode; elsewhere that is not visible
            cpu.general[1] = if mask == 0xFFFF { cpu.general[1] & !0xFFFF | count } else { count };
        }
        let taken = match kind {
            0 => count != 0 && !cpu.zero_flag(),
            1 => count != 0 && cpu.zero_flag(),
            2 => count != 0,
            _ => count == 0,
        };
        if taken { follow(cpu, op.add(2)) } else { follow(cpu, op.add(1)) }
    }
}

/// Slot of the jump cache.
#[inline(always)]
pub fn jump_slot(rip: u64) -> usize {
    ((rip ^ rip >> 12) & (super::blocks::JUMPS as u64 - 1)) as usize
}

/// Goes to a computed offset. `undo` is taken from RSP if it turns out not to be a place to go to.
#[inline(always)]
unsafe fn follow_indirect(cpu: &mut Cpu, op: *const Op, target: u64, undo: u64) {
    // SAFETY: see `Run`; a cached jump with the right key is the first op of a live block.
    unsafe {
        cpu.budget -= i64::from((*op).number) + 1;
        let entry = &*cpu.blocks.jumps.add(jump_slot(target));
        let here = entry.rip == target
            && entry.key == cpu.jump_key
            && entry.code_base == cpu.segments[segment::CS].base;
        if here && cpu.budget > 0 {
            let first = entry.op;
            return ((*first).run)(cpu, first);
        }
        indirect_unknown(cpu, op, target, undo)
    }
}

/// Whether there can be code at an offset.
fn can_go_to(cpu: &Cpu, target: u64) -> bool {
    if cpu.mode & mode::LONG != 0 {
        is_canonical(target)
    } else {
        target <= u64::from(cpu.segments[segment::CS].limit)
    }
}

#[cold]
#[inline(never)]
unsafe fn indirect_unknown(cpu: &mut Cpu, op: *const Op, target: u64, undo: u64) {
    if can_go_to(cpu, target) {
        cpu.rip = target;
        return;
    }
    let stack = cpu.general[RSP];
    cpu.general[RSP] = match cpu.mode & (mode::LONG | mode::STACK_32) {
        0 => stack & !0xFFFF | stack.wrapping_sub(undo) & 0xFFFF,
        mode::STACK_32 => stack.wrapping_sub(undo) & 0xFFFF_FFFF,
        _ => stack.wrapping_sub(undo),
    };
    // SAFETY: see `Run`.
    unsafe {
        cpu.budget += i64::from((*op).number) + 1; // `fail` counts those before it
        fail(cpu, op, Fault::general_protection(0))
    }
}

/// Truncates to the operand size of a branch.
#[inline(always)]
fn sized(value: u64, bytes: u8) -> u64 {
    match bytes {
        2 => value & 0xFFFF,
        4 => value & 0xFFFF_FFFF,
        _ => value,
    }
}

/// JMP r.
pub unsafe fn jump_r(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let target = sized(get::<u64>(cpu, (*op).a), (*op).bytes);
        follow_indirect(cpu, op, target, 0)
    }
}

/// JMP m (and CALL m if `CALL`), any mode.
#[inline(never)]
pub unsafe fn jump_m<const CALL: bool>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let (segment, offset, bytes) = ((*op).segment(), offset(cpu, op), (*op).bytes);
        let target = match bytes {
            2 => u64::from(check!(cpu, op, cpu.read::<u16>(segment, offset))),
            4 => u64::from(check!(cpu, op, cpu.read::<u32>(segment, offset))),
            _ => check!(cpu, op, cpu.read::<u64>(segment, offset)),
        };
        if CALL {
            return call_indirect(cpu, op, target);
        }
        follow_indirect(cpu, op, target, 0)
    }
}

/// JMP m, flat 64-bit.
pub unsafe fn jump_m64<A: Address, const CALL: bool>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let linear = A::linear(cpu, op);
        let Some(host) = (*cpu.tlb).read_hit::<u64>(linear) else {
            return jump_m::<CALL>(cpu, op);
        };
        let target = host.read_unaligned();
        if CALL {
            return call_indirect(cpu, op, target);
        }
        follow_indirect(cpu, op, target, 0)
    }
}

#[inline(always)]
unsafe fn call_indirect(cpu: &mut Cpu, op: *const Op, target: u64) {
    // SAFETY: see `Run`.
    unsafe {
        let next = (*op).next_rip();
        if (*op).bytes == 8 && is_canonical(target) {
            let stack = cpu.general[RSP].wrapping_sub(8);
            if let Some(host) = (*cpu.tlb).write_hit::<u64>(stack) {
                host.write_unaligned(next);
                cpu.general[RSP] = stack;
                return follow_indirect(cpu, op, target, 8u64.wrapping_neg());
            }
        }
        call_indirect_general(cpu, op, target)
    }
}

#[inline(never)]
unsafe fn call_indirect_general(cpu: &mut Cpu, op: *const Op, target: u64) {
    // SAFETY: see `Run`.
    unsafe {
        let (next, bytes) = ((*op).next_rip(), (*op).bytes);
        if !can_go_to(cpu, target) {
            return fail(cpu, op, Fault::general_protection(0)); // nothing is pushed
        }
        check!(cpu, op, cpu.push(sized(next, bytes), bytes as usize));
        follow_indirect(cpu, op, target, u64::from(bytes).wrapping_neg())
    }
}

/// CALL r.
pub unsafe fn call_r(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let target = sized(get::<u64>(cpu, (*op).a), (*op).bytes);
        call_indirect(cpu, op, target)
    }
}

/// CALL rel: the exit comes after it.
#[inline(never)]
pub unsafe fn call_general(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let (next, bytes) = ((*op).next_rip(), (*op).bytes);
        check!(cpu, op, cpu.push(sized(next, bytes), bytes as usize));
        if cpu.leave_block {
            return unlinked_after(cpu, op.add(1));
        }
        follow(cpu, op.add(1))
    }
}

#[cold]
unsafe fn unlinked_after(cpu: &mut Cpu, exit: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        cpu.rip = (*exit).imm;
        cpu.budget -= i64::from((*exit).number);
    }
}

/// The stack pointer after moving by `by`, for a flat stack of `T`'s width.
#[inline(always)]
fn moved<T: Word>(stack: u64, by: u64) -> u64 {
    T::of(stack.wrapping_add(by)).wide()
}

/// CALL rel, flat stack of `T`'s width.
pub unsafe fn call_flat<T: Word>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let stack = moved::<T>(cpu.general[RSP], T::BYTES.wrapping_neg());
        let Some(host) = (*cpu.tlb).write_hit::<T>(stack) else {
            return call_general(cpu, op);
        };
        host.write_unaligned(T::of((*op).next_rip()));
        cpu.general[RSP] = stack;
        follow(cpu, op.add(1))
    }
}

/// RET and RET n (in `imm`), any mode.
#[inline(never)]
pub unsafe fn ret_general(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let bytes = (*op).bytes;
        let before = cpu.general[RSP];
        let target = check!(cpu, op, cpu.pop(bytes as usize));
        let after = cpu.general[RSP].wrapping_add((*op).imm);
        cpu.general[RSP] = match cpu.mode & (mode::LONG | mode::STACK_32) {
            0 => before & !0xFFFF | after & 0xFFFF,
            mode::STACK_32 => after & 0xFFFF_FFFF,
            _ => after,
        };
        follow_indirect(cpu, op, target, u64::from(bytes) + (*op).imm)
    }
}

/// RET and RET n, flat stack of `T`'s width.
pub unsafe fn ret_flat<T: Word>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let stack = T::of(cpu.general[RSP]).wide();
        let Some(host) = (*cpu.tlb).read_hit::<T>(stack) else {
            return ret_general(cpu, op);
        };
        let target = host.read_unaligned().wide();
        let by = T::BYTES + (*op).imm;
        cpu.general[RSP] = moved::<T>(stack, by);
        follow_indirect(cpu, op, target, by)
    }
}

/// PUSH r or PUSH imm (register [`super::op::ZERO`] and an immediate), any mode.
#[inline(never)]
pub unsafe fn push_general(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let value = get::<u64>(cpu, (*op).b) | (*op).imm;
        let bytes = (*op).bytes;
        check!(cpu, op, cpu.push(sized(value, bytes), bytes as usize));
        finish!(cpu, op);
    }
}

/// PUSH r or imm, flat stack of `T`'s width.
pub unsafe fn push_flat<T: Word>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let value = get::<T>(cpu, (*op).b);
        let stack = moved::<T>(cpu.general[RSP], T::BYTES.wrapping_neg());
        let Some(host) = (*cpu.tlb).write_hit::<T>(stack) else {
            return push_general(cpu, op);
        };
        host.write_unaligned(value);
        cpu.general[RSP] = stack;
        next!(cpu, op);
    }
}

/// PUSH imm, flat stack of `T`'s width.
pub unsafe fn push_imm_flat<T: Word>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let stack = moved::<T>(cpu.general[RSP], T::BYTES.wrapping_neg());
        let Some(host) = (*cpu.tlb).write_hit::<T>(stack) else {
            return push_general(cpu, op);
        };
        host.write_unaligned(T::of((*op).imm));
        cpu.general[RSP] = stack;
        next!(cpu, op);
    }
}

/// POP r, any mode.
#[inline(never)]
pub unsafe fn pop_general(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let value = check!(cpu, op, cpu.pop((*op).bytes as usize));
        match (*op).bytes {
            2 => put::<u16>(cpu, (*op).a, value as u16),
            4 => put::<u32>(cpu, (*op).a, value as u32),
            _ => put::<u64>(cpu, (*op).a, value),
        }
        finish!(cpu, op);
    }
}

/// POP r, flat stack of `T`'s width.
pub unsafe fn pop_flat<T: Word>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let stack = T::of(cpu.general[RSP]).wide();
        let Some(host) = (*cpu.tlb).read_hit::<T>(stack) else {
            return pop_general(cpu, op);
        };
        let value = host.read_unaligned();
        put::<T>(cpu, STACK, T::of(stack.wrapping_add(T::BYTES)));
        put::<T>(cpu, (*op).a, value); // after the pointer: POP RSP keeps the value
        next!(cpu, op);
    }
}

/// LEAVE, flat stack of `T`'s width; `extra` has the general form.
pub unsafe fn leave_flat<T: Word>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let frame = T::of(cpu.general[5]).wide();
        let Some(host) = (*cpu.tlb).read_hit::<T>(frame) else {
            return cold(cpu, op);
        };
        cpu.general[5] = host.read_unaligned().wide();
        cpu.general[RSP] = moved::<T>(frame, T::BYTES);
        next!(cpu, op);
    }
}

/// Any instruction without a handler of its own.
#[inline(never)]
pub unsafe fn cold(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`; `extra` is this op's `Cold`, which lives as long as its block.
    unsafe {
        let cold = &*((*op).extra as *const Cold);
        cpu.worked(COLD);
        cpu.rip = (*op).next_rip();
        if cpu.mode & mode::LONG == 0 {
            cpu.rip &= 0xFFFF_FFFF;
        }
        match (cold.handler)(cpu, &cold.instruction) {
            Ok(Flow::Next) if !cpu.leave_block => next!(cpu, op),
            Ok(Flow::Next | Flow::Jumped) => cpu.budget -= i64::from((*op).number) + 1,
            Ok(Flow::Again) => cpu.budget -= i64::from((*op).number),
            Ok(Flow::Halt) => {
                cpu.budget -= i64::from((*op).number) + 1;
                cpu.halted = true;
            }
            Err(fault) => fail(cpu, op, fault),
        }
    }
}

/// Stands before a block that begins at a breakpoint: the dispatcher looks at it.
pub unsafe fn breakpoint(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe { cpu.rip = (*op).rip }
    cpu.outcome.breakpoint = true;
}

/// The end of a block that must not be followed by another one (single steps).
pub unsafe fn stop(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        cpu.rip = (*op).imm;
        cpu.budget -= i64::from((*op).number);
    }
}
