//! Differences from KVM, read: what KVM gets wrong is judged by the manual instead, and what it refuses by nobody.
//! The host's own processor judges most of the latter in user mode (groups `transfers` and `single`), directed guests
//! the rest (`tests/guests`: rings, rings64, gates, v8086, task).

use cpu::Registers;
use iced_x86::{Instruction, Mnemonic, Register};

use super::kvm::End;
use super::manual::{self, Expected, expected};
use super::manual_returns;
use super::system::{CODE, Guest, HANDLERS, Kind};

/// EFLAGS.NT and EFLAGS.IOPL.
const NT: u64 = 1 << 14;
const IOPL: u64 = 3 << 12;

/// What a difference is.
#[derive(Clone, Copy, Debug)]
pub enum Reading {
    /// KVM is wrong, and the software CPU does what the manual says.
    Excused(&'static str),
    /// KVM does not do this at all.
    Refused(&'static str),
    /// One.
    Difference,
}

/// What one of the two left.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    /// How it ended.
    pub end: End,
    /// Its registers.
    pub registers: &'a Registers,
    /// Its memory.
    pub memory: &'a [u8],
}

/// The exception whose handler a guest ended in.
pub fn vector(registers: &Registers) -> Option<u64> {
    let at = registers.rip.wrapping_sub(HANDLERS + 1);
    (at < 64 * 16 && at.is_multiple_of(16)).then_some(at / 16)
}

/// Whether an exception has an error code, outside real mode.
fn has_code(vector: u64) -> bool {
    matches!(vector, 8 | 10..=14 | 17)
}

impl Left<'_> {
    /// A word of the frame the handler found, counted from the stack pointer.
    fn frame(&self, kind: Kind, word: usize) -> Option<u64> {
        let r = self.registers;
        let bytes = match kind {
            Kind::Real => 2,
            _ if kind.is_long() => 8,
            _ => 4,
        };
        let base = if kind.is_long() { 0 } else { r.segments[2].base };
        let pointer = r.general[4] & if kind == Kind::Real { 0xFFFF } else { u64::MAX };
        let at = usize::try_from(base.wrapping_add(pointer)).ok()? + word * bytes;
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(self.memory.get(at..at + bytes)?);
        Some(u64::from_le_bytes(value))
    }

    /// The exception it ended in, its error code, and where it was.
    fn exception(&self, kind: Kind) -> Option<(u64, Option<u16>, u64)> {
        let vector = vector(self.registers).filter(|_| self.end == End::Halted)?;
        if kind != Kind::Real && has_code(vector) {
            return Some((vector, Some(self.frame(kind, 0)? as u16), self.frame(kind, 1)?));
        }
        Some((vector, None, self.frame(kind, 0)?))
    }

    /// Whether it ended at an exception of what are tables, not code.
    fn runs_into_tables(&self, kind: Kind) -> bool {
        self.exception(kind).is_some_and(|(_, _, at)| (super::system::GDT..HANDLERS).contains(&at))
    }

    /// In short.
    pub fn ending(&self, kind: Kind) -> String {
        match self.exception(kind) {
            Some((vector, Some(error), _)) => format!("#{vector}({error:04x})"),
            Some((vector, None, _)) => format!("#{vector}"),
            None => format!("at {:#x}", self.registers.rip),
        }
    }
}

/// Reads a difference.
pub fn read(guest: &Guest, i: &Instruction, theirs: Left, ours: Left) -> Reading {
    if let Some(expected) = expected(guest, i) {
        let start = meant(i).0;
        return match follows(guest, i, expected, ours) {
            true => Reading::Excused(reason(guest, i, expected)),
            false
                if manual_returns::goes_beyond(guest, i)
                    && ours.exception(guest.kind) == Some((13, Some(0), start)) =>
            {
                Reading::Excused(
                    "SDM 3A 6.9: the order of a return's checks, of SS and of the target, is not defined",
                )
            }
            false => ways_of_both(guest, i, expected, ours).map_or(Reading::Difference, Reading::Excused),
        };
    }
    use Mnemonic::*;
    let refusal = match theirs.exception(guest.kind) {
        Some((6, _, CODE)) => Some("KVM's emulator raises #UD for what it does not know"),
        Some((13, Some(0), at)) if at == CODE || at == CODE + 1 => match i.mnemonic() {
            Iret | Iretd | Iretq | Syscall | Sysret | Sysretq | Sysexit | Sysenter => {
                Some("KVM's emulator raises #GP(0) for IRET and fast system calls it does not do")
            }
            Jmp | Call => Some("KVM's emulator raises #GP(0) for gates and tasks it does not do"),
            _ => None,
        },
        _ => None,
    };
    let is_v8086 = guest.kind == Kind::Virtual8086;
    match i.mnemonic() {
        _ if refusal.is_some() => refusal.map_or(Reading::Difference, Reading::Refused),
        Jmp | Call | Retf | Iret | Iretd if is_v8086 => {
            Reading::Refused("KVM's emulator takes far transfers of virtual-8086 code for protected mode's")
        }
        Iret | Iretd | Iretq if lost_flags(guest, theirs, ours) => {
            Reading::Excused("SDM 2A, IRET: NT is loaded, and IOPL at CPL 0; KVM here clears them")
        }
        Jmp | Call | Retf | Iret | Iretd if wraps(guest.kind, theirs, ours) => {
            Reading::Excused("SDM 3A 5.3: what lies beyond the limit raises #GP; KVM fetches across 4 GiB")
        }
        Jmp | Call | Retf if theirs.runs_into_tables(guest.kind) && ours.runs_into_tables(guest.kind) => {
            Reading::Refused(
                "it leads into the tables, by hundreds of ADD [RAX], AL: KVM's emulator loses some",
            )
        }
        _ => Reading::Difference,
    }
}

/// What the software CPU may do besides, when KVM does not do what is expected either.
fn ways_of_both(guest: &Guest, i: &Instruction, expected: Expected, ours: Left) -> Option<&'static str> {
    const SMEP: u64 = 1 << 20;
    let sets_smep = i.op0_register() == Register::CR4 && ours.registers.cr4 & SMEP != 0;
    let error = |expected| match expected {
        Expected::Fault(11, error) => error,
        _ => None,
    };
    match i.mnemonic() {
        Mnemonic::Ltr | Mnemonic::Lldt
            if manual::is_malformed(guest)
                && error(expected).is_some()
                && ours.exception(guest.kind) == Some((13, error(expected), CODE)) =>
        {
            Some(
                "SDM 3A 6.9: the order of a descriptor's checks, of its presence and its upper half, is not defined",
            )
        }
        Mnemonic::Mov if expected == Expected::Next && sets_smep && ours.end == End::Shutdown => Some(
            "SDM 3A 4.6: with SMEP the next fetch from a user page faults; KVM here refuses PCIDE beside it",
        ),
        _ => None,
    }
}

/// Whether both went on to the same exception, and KVM without the NT or IOPL that was popped.
fn lost_flags(guest: &Guest, theirs: Left, ours: Left) -> bool {
    let kind = guest.kind;
    let same = theirs.exception(kind).is_some_and(|exception| ours.exception(kind) == Some(exception));
    let flags = |left: Left| {
        let at = 2 + usize::from(vector(left.registers).is_some_and(has_code));
        left.frame(kind, at)
    };
    let loses = |all: u64, mask: u64| all & mask != 0 && flags(theirs) == Some(all & !mask);
    let losable = if guest.cpl() == 0 { [NT, IOPL, NT | IOPL].as_slice() } else { &[NT] };
    same && flags(ours).is_some_and(|all| losable.iter().any(|mask| loses(all, *mask)))
}

/// Whether both went on to the last byte of 4 GiB, and KVM beyond it.
fn wraps(kind: Kind, theirs: Left, ours: Left) -> bool {
    const LAST: u64 = 0xFFFF_FFFF;
    theirs.exception(kind) == Some((6, None, LAST)) && ours.exception(kind) == Some((13, Some(0), LAST))
}

/// Where the first of two instructions ends, of which the second is meant: PUSH, and DEC in 32-bit code.
fn meant(i: &Instruction) -> (u64, u64) {
    match i.mnemonic() {
        Mnemonic::Push => (CODE + 1, CODE + 3),
        Mnemonic::Dec => (CODE + 1, CODE + 3),
        _ => (CODE, CODE + i.len() as u64),
    }
}

/// Whether the software CPU did what is expected.
fn follows(guest: &Guest, i: &Instruction, expected: Expected, ours: Left) -> bool {
    let kind = guest.kind;
    let (start, next) = meant(i);
    let at_next = |flag: Option<bool>| {
        // HLT halts in ring 0 and faults elsewhere
        let halted = ours.end == End::Halted && ours.registers.rip == next + 1;
        let faulted = ours.exception(kind) == Some((13, Some(0), next));
        let flags = if guest.cpl() == 3 { ours.frame(kind, 3) } else { Some(ours.registers.rflags) };
        let agrees = flag.is_none_or(|flag| flags.is_some_and(|flags| flags >> 6 & 1 == u64::from(flag)));
        agrees && (if guest.cpl() == 3 { faulted && leaves_v8086(guest, i, ours) } else { halted })
    };
    match expected {
        Expected::Fault(vector, error) => {
            let error = error.filter(|_| kind != Kind::Real);
            ours.exception(kind) == Some((vector, error, start)) && leaves_v8086(guest, i, ours)
        }
        Expected::Next => at_next(None),
        Expected::Zero(flag) => at_next(Some(flag)),
        Expected::Enters(vector) => {
            let halted = ours.end == End::Halted && ours.registers.rip == HANDLERS + 16 * vector + 1;
            halted && ours.frame(kind, 0) == Some(next)
        }
        Expected::Lands(target, 0) => ours.end == End::Halted && ours.registers.rip == target + 1,
        Expected::Lands(target, _) => ours.exception(kind) == Some((13, Some(0), target)),
        Expected::Traps(target) => ours.exception(kind) == Some((1, None, target)),
        Expected::Unmapped(cr0) => ours.end == End::Shutdown && ours.registers.cr0 == cr0,
    }
}

/// Whether the frame of an exception of virtual-8086 code has what belongs there (SDM 3B, figure 21-3): CS, EFLAGS
/// with VM, ESP and SS as they were, and the data segments, which are null in the handler.
fn leaves_v8086(guest: &Guest, i: &Instruction, ours: Left) -> bool {
    if guest.kind != Kind::Virtual8086 {
        return true;
    }
    let first = 1 + usize::from(vector(ours.registers).is_some_and(has_code));
    let word = |n: usize| ours.frame(guest.kind, first + n);
    let before = &guest.registers;
    let loads_stack = i.mnemonic() == Mnemonic::Mov && i.op0_register() == Register::SS;
    let stack = if loads_stack { before.general[0] as u16 } else { before.segments[2].selector };
    word(0) == Some(u64::from(before.segments[1].selector))
        && word(1).is_some_and(|flags| flags >> 17 & 1 == 1)
        && word(3) == Some(u64::from(stack))
        && [0, 3, 4, 5].into_iter().all(|n| ours.registers.segments[n].selector == 0)
}

fn reason(guest: &Guest, i: &Instruction, expected: Expected) -> &'static str {
    use Mnemonic::*;
    match i.mnemonic() {
        _ if guest.kind == Kind::Virtual8086 => {
            "SDM 3B 21.2: virtual-8086 code; KVM's emulator takes it for ring 0 or real mode"
        }
        Int | Int3 | Into => {
            "SDM 3A 6.12: gates are checked, vectors below 32 too; KVM's emulator does not do all of it"
        }
        Int1 => "SDM 3A 6.3.1: INT1 is a trap; KVM's emulator treats it as a fault or as no instruction",
        Xgetbv | Xsetbv => "SDM 2D, XGETBV: #UD unless CR4.OSXSAVE is set; KVM's emulator does not look",
        INVALID => "SDM 2B, MOV CR: #UD for registers that are not there; KVM's emulator raises #GP first",
        Ltr | Lldt => "SDM 2A, LTR: #GP(selector) for what is no such segment; KVM's emulator pushes 0",
        Lar | Lsl | Verr | Verw => {
            "SDM 2A, LAR: conforming code is accessible at any CPL; KVM's emulator looks at its DPL, or raises #UD"
        }
        Sysret | Sysretq | Sysexit | Dec | Syscall => {
            "SDM 2B, SYSRET and SYSCALL: #UD outside 64-bit mode, selectors from STAR, IOPL from R11; KVM here has its own"
        }
        Retf | Iret | Iretd | Iretq => {
            "SDM 2A, IRET: CS is checked before SS; KVM's emulator raises #UD or #GP(0), or checks otherwise"
        }
        Jmp | Call => {
            "SDM 2A, JMP: #GP(selector); KVM's emulator raises #UD, or pushes 0 or what it read last"
        }
        Mov if matches!(expected, Expected::Unmapped(_)) => {
            "SDM 3A 5.1.2: paging outside IA-32e mode; some KVMs know paging in long mode alone, and raise #GP(0)"
        }
        Mov if i.op0_register().is_segment_register() => {
            "SDM 2B, MOV: descriptors are checked for type and DPL; KVM's emulator lets some through"
        }
        Push => "SDM 2B, POP: descriptors are checked for type and DPL; KVM's emulator lets some through",
        Mov if expected == Expected::Next => {
            "SDM 3A 2.5: bits that CPUID offers can be set; some KVMs refuse them (PCIDE, PG)"
        }
        Mov | Wrmsr | Rdmsr => {
            "SDM 2B, MOV CR; SDM 4 2: reserved bits raise #GP; KVM's emulator lets them through"
        }
        _ => "the instruction's own page of the SDM, which KVM's emulator does not follow",
    }
}
