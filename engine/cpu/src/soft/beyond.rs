//! Direct branches to offsets beyond the code segment: #GP before anything has changed, if they are taken (Intel
//! SDM 2A, Jcc, JMP, CALL, LOOP). They are rare, and known when they are decoded.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};

use super::fault::{ColdHandler, Fallible, Fault, Flow};
use super::generic::holds;
use super::select::counter_size;
use super::state::Cpu;
use crate::registers::segment;

const RCX: usize = 1;

/// Jcc, JMP, CALL, LOOP or JCXZ outside 64-bit mode; not XBEGIN, whose operand looks the same.
fn is_branch(instruction: &Instruction) -> bool {
    use FlowControl::{Call, ConditionalBranch, UnconditionalBranch};
    matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32)
        && matches!(instruction.flow_control(), Call | ConditionalBranch | UnconditionalBranch)
}

/// Whether an instruction branches to where no code can be.
pub fn is_beyond(instruction: &Instruction, limit: u64) -> bool {
    is_branch(instruction) && instruction.near_branch_target() > limit
}

/// Who executes a direct branch that the core has not taken for itself.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    (is_branch(instruction) && !instruction.has_lock_prefix()).then_some(branch)
}

/// The branch; the limit is looked at again, since blocks outlive it.
fn branch(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    use Mnemonic::*;
    let target = instruction.near_branch_target();
    let mask = if counter_size(instruction) == 0 { 0xFFFF } else { 0xFFFF_FFFF };
    let before = cpu.general[RCX] & mask;
    let counts = matches!(instruction.mnemonic(), Loop | Loope | Loopne);
    let counter = before.wrapping_sub(u64::from(counts)) & mask;
    let taken = match instruction.mnemonic() {
        Jmp | Call => true,
        Loop => counter != 0,
        Loope => counter != 0 && cpu.zero_flag(),
        Loopne => counter != 0 && !cpu.zero_flag(),
        Jcxz | Jecxz => counter == 0,
        _ => holds(cpu, instruction),
    };
    if taken && target > u64::from(cpu.segments[segment::CS].limit) {
        return Err(Fault::general_protection(0));
    }
    if instruction.mnemonic() == Call {
        let bytes = if instruction.op0_kind() == OpKind::NearBranch16 { 2 } else { 4 };
        cpu.push(instruction.next_ip(), bytes)?;
    }
    if counts {
        cpu.general[RCX] = cpu.general[RCX] & !mask | counter;
    }
    if !taken {
        return Ok(Flow::Next);
    }
    cpu.rip = target;
    Ok(Flow::Jumped)
}
