//! What is not compared, and why: flags the manual leaves undefined, and instructions whose result is not the
//! instruction's alone.

use iced_x86::{Code, CodeSize, Instruction, Mnemonic, OpKind, Register, RflagsBits};

/// CF, PF, AF, ZF, SF, OF.
pub const ARITHMETIC: u64 = 0x8D5;

/// Flags undefined after an instruction, from its code (iced's table is the SDM's "Flags Affected" of each
/// instruction: shifts by other than one leave OF undefined and all but rotates AF; MUL and IMUL SF, ZF, AF and PF;
/// DIV and IDIV all six; BT and its kin all but CF and ZF; BSF and BSR all but ZF; logic AF; and so on).
fn listed(instruction: &Instruction) -> u64 {
    let undefined = arithmetic(instruction.rflags_undefined());
    // SDM 2B, RCL: OF is undefined but for a masked count of one, also if the count modulo 9 or 17 is 0 or 1
    let turns_carry = matches!(instruction.mnemonic(), Mnemonic::Rcl | Mnemonic::Rcr);
    let by_immediate = instruction.op_count() > 1 && instruction.op1_kind() == OpKind::Immediate8;
    if turns_carry && by_immediate && !matches!(instruction.immediate8() & 31, 0 | 1) {
        return undefined | 0x800;
    }
    undefined
}

/// Whether the instruction may leave flags alone that its code says it sets: shifts and rotates by CL (SDM 2B,
/// SAL: "if the count is 0, the flags are not affected") and repeated comparisons of nothing.
fn may_leave_alone(instruction: &Instruction) -> bool {
    let by_register = instruction.op_count() > 1
        && instruction.op_kind(instruction.op_count() - 1) == OpKind::Register
        && instruction.op_register(instruction.op_count() - 1) == Register::CL;
    by_register || instruction.has_rep_prefix() || instruction.has_repne_prefix()
}

/// Flags undefined after `instruction`, if those in `before` were undefined before it.
pub fn undefined_after(instruction: &Instruction, before: u64) -> u64 {
    let modified = if may_leave_alone(instruction) { 0 } else { arithmetic(instruction.rflags_modified()) };
    before & !modified | listed(instruction)
}

/// iced's flag bits as RFLAGS bits.
fn arithmetic(bits: u32) -> u64 {
    [
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 4),
        (RflagsBits::AF, 0x10),
        (RflagsBits::ZF, 0x40),
        (RflagsBits::SF, 0x80),
        (RflagsBits::OF, 0x800),
    ]
    .into_iter()
    .filter(|(theirs, _)| bits & theirs != 0)
    .fold(0, |all, (_, ours)| all | ours)
}

/// Flags an instruction looks at.
pub fn read_by(instruction: &Instruction) -> u64 {
    arithmetic(instruction.rflags_read())
}

/// Why an instruction is not run against the host's processor, if it is not.
pub fn why_not_on_host(instruction: &Instruction) -> Option<&'static str> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Syscall | Sysenter | Sysexit | Sysret | Sysexitq | Sysretq => "enters or leaves the host's kernel",
        Int3 | Int1 | Into => "the host's IDT lets user code through",
        Int if matches!(instruction.immediate8(), 3 | 4 | 0x80) => "the host's IDT lets user code through",
        Cpuid | Xgetbv => "answers what the model is",
        Rdtsc | Rdtscp | Rdpmc | Rdrand | Rdseed | Rdpid => "answers something else every time",
        Sgdt | Sidt | Sldt | Str | Smsw => "tells of the host's tables, or is emulated by its kernel (UMIP)",
        Fnstenv | Fstenv | Fnsave | Fsave | Fxsave | Fxsave64 => "stores x87 pointers; group silicon",
        Xsave | Xsave64 | Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 | Xrstor | Xrstor64 => {
            "depends on the host's XCR0; group silicon"
        }
        Monitor | Mwait => "privileged here, and at any privilege on some hosts",
        _ => return None,
    })
}

/// VEX.W of the three-byte form.
fn is_vex_wide(code: &[u8]) -> bool {
    code.iter()
        .position(|&byte| byte == 0xC4)
        .and_then(|at| code.get(at + 2))
        .is_some_and(|byte| byte >> 7 != 0)
}

/// Why an instruction is compared only alone, and with which CL: what it leaves undefined is no flag.
pub fn why_only_alone(instruction: &Instruction, cl: u64) -> Option<&'static str> {
    use Mnemonic::*;
    let counts_by_cl = instruction.op_count() == 3 && instruction.op2_kind() == OpKind::Register;
    match instruction.mnemonic() {
        Bsf | Bsr => Some("SDM 2A, BSF: with a zero source the destination is undefined"),
        Shld | Shrd if counts_by_cl && instruction.op1_register().size() == 2 && cl & 31 > 16 => {
            Some("SDM 2B, SHLD: with a count above the operand's size everything is undefined")
        }
        _ => None,
    }
}

/// Why the result of this very encoding is not compared, if it is not.
pub fn why_not_compared(instruction: &Instruction, code: &[u8]) -> Option<&'static str> {
    use Code::{Pushd_CS, Pushd_DS, Pushd_ES, Pushd_FS, Pushd_GS, Pushd_SS};
    use Mnemonic::*;
    let is_near =
        matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
            || instruction.is_call_near_indirect()
            || instruction.is_jmp_near_indirect()
            || instruction.mnemonic() == Ret;
    if is_near && instruction.code_size() == CodeSize::Code64 && code.iter().take(5).any(|&byte| byte == 0x66)
    {
        return Some("SDM 2A 2.2.1.2: near branches are 64-bit whatever 66 says; AMD's processors obey it");
    }
    let bytes = |operand| match instruction.op_kind(operand) {
        OpKind::Register => instruction.op_register(operand).size(),
        _ => instruction.memory_size().size(),
    };
    match instruction.mnemonic() {
        Loop | Loope | Loopne if code.iter().take(5).any(|byte| matches!(byte, 0xF2 | 0xF3)) => {
            Some("SDM 2A 2.1.1: repeat prefixes with other instructions are reserved")
        }
        Vpextrd | Vpextrq | Vpinsrd | Vpinsrq
            if instruction.code_size() != CodeSize::Code64 && is_vex_wide(code) =>
        {
            Some("SDM 2B, PINSRD: VEX.W is ignored outside 64-bit mode; AMD's processors raise #UD")
        }
        Movsxd if bytes(0) == 2 && instruction.op1_kind() == OpKind::Memory => {
            Some("SDM 2B, MOVSXD: a 16-bit one reads 16 bits; AMD's processors read 32")
        }
        Bswap if bytes(0) == 2 => Some("SDM 2A, BSWAP: the result of a 16-bit swap is undefined"),
        Shld | Shrd
            if bytes(0) == 2
                && instruction.op2_kind() != OpKind::Register
                && instruction.immediate8() & 31 > 16 =>
        {
            Some("SDM 2B, SHLD: with a count above the operand's size everything is undefined")
        }
        Push if matches!(
            instruction.code(),
            Pushd_CS | Pushd_DS | Pushd_ES | Pushd_FS | Pushd_GS | Pushd_SS
        ) =>
        {
            Some(
                "SDM 2B, PUSH: the upper half a 32-bit push of a segment register writes, or does not, is the model's",
            )
        }
        _ => None,
    }
}
