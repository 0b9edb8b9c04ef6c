//! Differences that the manual leaves open or that this host's maker decides otherwise than the SDM: each narrow,
//! counted, and printed with its reason.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::case::{Case, Item, Mode, Outcome};
use super::descriptors;

/// Faults of memory operands.
const MEMORY_FAULTS: [u8; 3] = [12, 13, 14];

/// RFLAGS.ZF.
const ZF: u64 = 0x40;

/// Whether the first operand, a register, is all that differs.
fn only_differs_in(item: &Item, host: &Outcome, software: &Outcome) -> bool {
    let register = item.instruction.op0_register().full_register() as usize - Register::RAX as usize;
    let mut other = software.clone();
    other.general[register] = host.general[register];
    other == *host
}

/// Why this difference, of memory too, is none.
pub fn excuse_with_memory(case: &Case, host: &Outcome, software: &Outcome) -> Option<&'static str> {
    if software.vector == 13
        && case.item_of(software).is_some_and(|item| is_sha(item.instruction.mnemonic()))
        && (host.rip != software.rip || host.vector == 17 || MEMORY_FAULTS.contains(&host.vector))
    {
        return Some("SDM 2B, SHA1MSG1: exceptions type 4 check alignment; AMD's processors do not");
    }
    if wraps_in_parts(case, host, software) {
        return Some(
            "SDM 3A 5.3: an operand across 64 KiB violates the limit; AMD's processors wrap the parts of x87 ones",
        );
    }
    if software.vector == 13
        && case.item_of(software).is_some_and(|item| loads_mxcsr(item.instruction.mnemonic()))
        && host.fpu.as_ref().is_some_and(|fpu| fpu.mxcsr >> 16 == 2)
    {
        return Some("SDM 1 10.2.3: bit 17 of MXCSR is reserved; AMD's processors have it (APM 1 4.2.2, MM)");
    }
    let item = case.item_of(host).or_else(|| case.item_of(software))?;
    let instruction = &item.instruction;
    let is_masked =
        matches!(instruction.mnemonic(), Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu);
    let went_on = software.rip > host.rip || case.item_of(software).is_none();
    if is_masked && MEMORY_FAULTS.contains(&host.vector) && went_on {
        return Some(
            "SDM 2B, MASKMOVQ: whether bytes that are not written fault is implementation dependent",
        );
    }
    if host.vector == 17 && instruction.memory_size().size() >= 16 {
        return Some(
            "SDM 3A 6.15: whether 16 bytes and more that are not aligned raise #AC is the model's; AMD's do",
        );
    }
    if instruction.mnemonic() == Mnemonic::Pop
        && matches!(host.vector, 12 | 14 | 17)
        && instruction.op0_register().is_segment_register()
        && (went_on || software.rip == host.rip)
    {
        return Some("SDM 2B, POP: how many bytes a wide pop of a segment register reads is the model's");
    }
    let is_far_call = |item: &Item| item.instruction.is_call_far() || item.instruction.is_call_far_indirect();
    let pushed_first = host.rip == software.rip && host.general == software.general && software.vector == 13;
    let switched = software.selectors[1] != host.selectors[1];
    let host_faults = is_far_call(item) && MEMORY_FAULTS.contains(&host.vector) && (switched || pushed_first);
    (host_faults || called_64_bit_code(case, host, software)).then_some(
        "SDM 2A, CALL: whether a far call pushes before it checks and switches is the maker's; AMD's switch first",
    )
}

/// Whether the software CPU could not push for a far call as the old code's stack is, and the host, which had
/// switched before, could.
fn called_64_bit_code(case: &Case, host: &Outcome, software: &Outcome) -> bool {
    let Some(item) = case.item_of(software) else { return false };
    let is_far_call = item.instruction.is_call_far() || item.instruction.is_call_far_indirect();
    let changes_width = (case.mode == Mode::Bits64) != (host.selectors[1] == descriptors::CODE_64);
    is_far_call && changes_width && matches!(software.vector, 12 | 14)
}

/// Whether the software CPU refused an x87 operand of many parts across the end of 64 KiB, and the host did not.
fn wraps_in_parts(case: &Case, host: &Outcome, software: &Outcome) -> bool {
    use Mnemonic::*;
    let Some(item) = case.item_of(software) else { return false };
    let instruction = &item.instruction;
    let has_parts = matches!(instruction.mnemonic(), Fld | Fstp | Fbld | Fbstp | Fldenv | Frstor | Fxrstor)
        && instruction.memory_size().size() >= 10;
    has_parts
        && matches!(software.vector, 12 | 13)
        && (host.rip != software.rip || host.vector == 14)
        && offset_16(instruction, software)
            .is_some_and(|offset| offset + instruction.memory_size().size() as u64 > 0x1_0000)
}

/// Offset of a memory operand with a 16-bit address.
fn offset_16(instruction: &Instruction, registers: &Outcome) -> Option<u64> {
    let operand = (0..instruction.op_count()).find(|&n| instruction.op_kind(n) == OpKind::Memory)?;
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let is_narrow = base.size() == 2 || index.size() == 2 || instruction.memory_displ_size() == 2;
    let value = |register: Register, _: usize, _: usize| match register.is_segment_register() {
        true => Some(0),
        false => Some(registers.general[register.full_register() as usize - Register::RAX as usize] & 0xFFFF),
    };
    if is_narrow { instruction.virtual_address(operand, 0, value) } else { None }
}

fn loads_mxcsr(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(mnemonic, Ldmxcsr | Vldmxcsr | Fxrstor | Fxrstor64)
}

fn is_sha(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(mnemonic, Sha1msg1 | Sha1msg2 | Sha1nexte | Sha1rnds4 | Sha256msg1 | Sha256msg2 | Sha256rnds2)
}

/// Why this difference is none; `None` if it is one.
pub fn excuse(case: &Case, host: &Outcome, software: &Outcome) -> Option<&'static str> {
    use Mnemonic::*;
    if let [item] = &case.items[..]
        && matches!(item.instruction.mnemonic(), Bsf | Bsr)
        && host.flags & ZF != 0
        && only_differs_in(item, host, software)
    {
        return Some("SDM 2A, BSF: with a zero source the destination is undefined");
    }
    let item = case.item_of(host).or_else(|| case.item_of(software))?;
    let mnemonic = item.instruction.mnemonic();
    let same_place = host.rip == software.rip
        && host.general == software.general
        && host.flags == software.flags
        && host.selectors == software.selectors;
    let both_memory = MEMORY_FAULTS.contains(&host.vector) && MEMORY_FAULTS.contains(&software.vector);
    if case.mode != Mode::Bits64
        && same_place
        && matches!((host.vector, software.vector), (12 | 13, 14))
        && software.address >= 0xFFFF_FFE0
    {
        return Some("SDM 3A 5.3: whether an access across 4 GiB violates a limit of 4 GiB is the model's");
    }
    if same_place && host.vector == 17 && software.vector == 14 {
        return Some("SDM 3A 6.9: whether #AC or #PF comes first is not defined");
    }
    if same_place && software.vector == 6 && host.vector == 14 && host.error & 0x10 != 0 {
        return Some("SDM 3A 6.9: whether #UD or the fault of fetching more comes first is the model's");
    }
    match mnemonic {
        Fldenv | Frstor | Fxrstor | Fxrstor64
            if same_place
                && (host.vector, software.vector) == (14, 14)
                && host.address.abs_diff(software.address) < 512 =>
        {
            Some("SDM 3A 4.7: CR2 may name any byte of a wide operand")
        }
        Fldenv | Frstor if same_place && both_memory => {
            Some("SDM 1 8.1: how much of an image is loaded before its fault is not defined")
        }
        Maskmovq | Maskmovdqu | Vmaskmovdqu
            if MEMORY_FAULTS.contains(&host.vector) && software.vector == 13 =>
        {
            Some("SDM 2B, MASKMOVQ: whether a mask of zero faults is implementation dependent")
        }
        Popa | Popad if host.rip == software.rip && both_memory => {
            Some("SDM 2B, POPA: which registers are loaded before a fault is not defined")
        }
        Cmpsb | Cmpsw | Cmpsd | Cmpsq if same_place && (both_memory || software.vector == 17) => {
            Some("SDM 3A 6.9: the order of faults of two operands is not defined")
        }
        Fxrstor | Fxrstor64 | Retf | Iret | Iretd | Iretq if same_place && both_memory => {
            Some("SDM 3A 6.9: the order of checks of one instruction is not defined")
        }
        Call if same_place && both_memory => {
            Some("SDM 3A 6.9: whether the push or the target of a call faults first is not defined")
        }
        Retf | Call if same_place && host.vector == 17 && MEMORY_FAULTS.contains(&software.vector) => {
            Some("SDM 3A 6.9: the order of checks of one instruction is not defined")
        }
        Maskmovq | Maskmovdqu | Vmaskmovdqu if same_place && both_memory => {
            Some("SDM 2B, MASKMOVQ: which byte faults, and MMX state then, are implementation dependent")
        }
        _ => None,
    }
}
