//! What the manual says of a system case on whose first event KVM errs: worked out from the case alone, by none of
//! the software CPU's code. Only what KVMs are known to get wrong is here.

use cpu::soft::model::{CpuModel, Feature};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::manual_returns;
use super::system::{Guest, Kind};
use super::system_tables::{descriptor, gate};

/// The first event of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// An exception of the instruction: vector, and error code if it has one.
    Fault(u64, Option<u16>),
    /// The instruction ends, and HLT follows.
    Next,
    /// It ends with ZF so, and HLT follows.
    Zero(bool),
    /// It ends, and the handler of a vector follows.
    Enters(u64),
    /// It goes on at this offset with this CPL, and HLT is there.
    Lands(u64, u16),
    /// A single-step trap comes before the instruction at this offset.
    Traps(u64),
    /// CR0 is this, and nothing can be fetched any more.
    Unmapped(u64),
}

use Expected::{Enters, Fault, Lands, Next, Traps, Unmapped, Zero};

/// Of the `host` model.
const PHYSICAL_BITS: u32 = 40;

const UD: Expected = Fault(6, None);
const GP: Expected = Fault(13, Some(0));

/// The code of a selector in an error code.
fn code(selector: u16) -> Option<u16> {
    Some(selector & !3)
}

/// What the first event is; `None` where this does not tell.
pub fn expected(guest: &Guest, i: &Instruction) -> Option<Expected> {
    use Mnemonic::*;
    let (kind, cpl) = (guest.kind, guest.cpl());
    let unprotected = matches!(kind, Kind::Real | Kind::Virtual8086);
    let privileged = cpl == 3;
    Some(match i.mnemonic() {
        // SDM 2: none of these is recognised in real-address and virtual-8086 mode
        Lar | Lsl | Verr | Verw | Arpl | Sldt | Str | Lldt | Ltr if unprotected => UD,
        Lar | Lsl | Verr | Verw => Zero(is_visible(guest, i.mnemonic())),
        Lldt | Ltr if privileged => GP,
        Ltr => system_segment(guest, &[9, 1]),
        Lldt => system_segment(guest, &[2]),
        Ud2 => UD,
        Div => Fault(0, None),
        // SDM 2B, MOV CR: CR1 and CR5 to CR7 are not there; SDM 3A 6.9: that comes before privilege
        INVALID => UD,
        Xgetbv | Xsetbv if guest.registers.cr4 & 1 << 18 == 0 => UD,
        Syscall | Sysret | Sysretq if kind != Kind::Long => UD,
        Dec if kind != Kind::Long => UD, // 48 0F 07, SYSRET behind what is REX in 64-bit code
        Sysret | Sysretq | Sysexit | Sysexitq if privileged => GP,
        Syscall => Lands(guest.registers.msrs.lstar, 0),
        // with TF it traps at once, as if SYSCALL had just been completed
        Sysret | Sysretq if guest.registers.general[11] & 0x100 != 0 => Traps(guest.registers.general[1]),
        Sysret | Sysretq => Lands(guest.registers.general[1], 3),
        Lgdt | Lidt | Clts | Lmsw | Rdmsr | Wrmsr | Hlt | Invd | Wbinvd | Invlpg if privileged => GP,
        Cli | Sti if privileged => {
            if guest.iopl() < 3 {
                GP
            } else {
                Next
            }
        }
        // no permission map lets any port through
        In | Out | Insb | Insw | Insd | Outsb | Outsw | Outsd if privileged => GP,
        Sgdt | Sidt | Smsw if guest.registers.cr4 & 1 << 11 == 0 => Next,
        Wrmsr => write_msr(guest),
        Mov if is_system_move(i) && privileged => GP,
        Mov if is_system_move(i) => write_register(guest, i)?,
        Mov if i.op0_register().is_segment_register() => load_segment(guest, i.op0_register()),
        Push => load_segment(guest, second(guest, i)),
        Int | Int3 | Into | Int1 => interrupt(guest, i)?,
        Iret | Iretd if kind == Kind::Virtual8086 && guest.iopl() < 3 => GP,
        Jmp | Call if !unprotected => far(guest, i)?,
        Retf | Iret | Iretd | Iretq if !unprotected => manual_returns::expected(guest, i)?,
        _ => return None,
    })
}

/// PUSH EAX; POP FS or GS: the register that is popped.
fn second(guest: &Guest, push: &Instruction) -> Register {
    if guest.code()[push.len() + 1] == 0xA1 { Register::FS } else { Register::GS }
}

fn is_system_move(i: &Instruction) -> bool {
    (0..2).any(|n| i.op_kind(n) == OpKind::Register && (i.op_register(n).is_cr() || i.op_register(n).is_dr()))
}

/// SDM 2B, MOV: moves to segment registers.
fn load_segment(guest: &Guest, register: Register) -> Expected {
    let selector = guest.registers.general[0] as u16;
    if register == Register::CS {
        return UD;
    }
    if matches!(guest.kind, Kind::Real | Kind::Virtual8086) {
        return Next;
    }
    let (cpl, rpl) = (guest.cpl(), selector & 3);
    if selector & !3 == 0 {
        let fits = register != Register::SS || guest.kind == Kind::Long && cpl != 3 && rpl == cpl;
        return if fits { Next } else { GP };
    }
    let Some(found) = descriptor(guest, selector) else { return Fault(13, code(selector)) };
    let allowed = if register == Register::SS {
        rpl == cpl && found.is_writable_data() && found.dpl == cpl
    } else {
        found.is_readable() && (found.is_conforming() || rpl.max(cpl) <= found.dpl)
    };
    match (allowed, found.present) {
        (false, _) => Fault(13, code(selector)),
        (_, false) => Fault(if register == Register::SS { 12 } else { 11 }, code(selector)),
        _ => Next,
    }
}

/// SDM 2A, LAR and LSL; SDM 2B, VERR and VERW.
fn is_visible(guest: &Guest, mnemonic: Mnemonic) -> bool {
    let selector = guest.registers.general[0] as u16;
    let Some(found) = descriptor(guest, selector).filter(|_| selector & !3 != 0) else { return false };
    let types: &[u8] = match (mnemonic, guest.kind.is_long()) {
        (Mnemonic::Lar, true) => &[2, 9, 11, 12],
        (Mnemonic::Lar, false) => &[1, 2, 3, 4, 5, 9, 11, 12],
        (_, true) => &[2, 9, 11],
        (_, false) => &[1, 2, 3, 9, 11],
    };
    let fits = match mnemonic {
        Mnemonic::Verr => found.is_readable(),
        Mnemonic::Verw => found.is_writable_data(),
        _ => found.is_segment || types.contains(&found.kind),
    };
    fits && (found.is_conforming() || found.dpl >= guest.cpl().max(selector & 3))
}

/// SDM 2A, LTR and LLDT in ring 0: types in IA-32e mode, and the one more there is outside it.
/// Whether the descriptor that LTR or LLDT loads in IA-32e mode has a type in its upper half, where none belongs.
pub fn is_malformed(guest: &Guest) -> bool {
    let found = descriptor(guest, guest.registers.general[0] as u16);
    guest.kind.is_long() && found.is_some_and(|found| found.upper.is_none_or(|upper| upper >> 40 & 0x1F != 0))
}

fn system_segment(guest: &Guest, types: &[u8]) -> Expected {
    let selector = guest.registers.general[0] as u16;
    if selector & !3 == 0 {
        return if types == [2] { Next } else { GP };
    }
    let refused = Fault(13, code(selector));
    let types = if guest.kind.is_long() { &types[..1] } else { types };
    match descriptor(guest, selector) {
        Some(found) if selector & 4 == 0 && !found.is_segment && types.contains(&found.kind) => {
            match found.present {
                false => Fault(11, code(selector)),
                true if guest.kind.is_long() && found.upper.is_none_or(|upper| upper >> 40 & 0x1F != 0) => {
                    refused
                }
                true => Next,
            }
        }
        _ => refused,
    }
}

/// SDM 2A, JMP and CALL to code segments, and to what is none.
fn far(guest: &Guest, i: &Instruction) -> Option<Expected> {
    let selector = match i.op0_kind() {
        OpKind::FarBranch16 | OpKind::FarBranch32 => i.far_branch_selector(),
        OpKind::Memory => guest.word(0xD100 + i.memory_size().size() as u64 - 2),
        _ => return None,
    };
    if selector & !3 == 0 {
        return Some(GP);
    }
    let refused = Some(Fault(13, code(selector)));
    let Some(found) = descriptor(guest, selector) else { return refused };
    let (cpl, rpl) = (guest.cpl(), selector & 3);
    if !found.is_segment {
        let types: &[u8] = if guest.kind.is_long() { &[12] } else { &[1, 9, 4, 5, 12] };
        let is_visible = types.contains(&found.kind) && found.dpl >= cpl.max(rpl);
        return if is_visible { None } else { refused };
    }
    let allowed = found.is_code()
        && !(guest.kind.is_long() && found.is_long && found.is_big)
        && if found.is_conforming() { found.dpl <= cpl } else { rpl <= cpl && found.dpl == cpl };
    match (allowed, found.present) {
        (false, _) => refused,
        (_, false) => Some(Fault(11, code(selector))),
        _ => None,
    }
}

/// SDM 3A 6.12: INT n, INT3, INTO and INT1 through a gate that leads to the handler's own code.
fn interrupt(guest: &Guest, i: &Instruction) -> Option<Expected> {
    let vector = match i.mnemonic() {
        Mnemonic::Int1 => 1,
        Mnemonic::Int3 => 3,
        Mnemonic::Into if guest.registers.rflags & 0x800 == 0 => return Some(Next),
        Mnemonic::Into => 4,
        _ => i.immediate8(),
    };
    if guest.kind == Kind::Real {
        return Some(Enters(u64::from(vector)));
    }
    if guest.kind == Kind::Virtual8086 && i.mnemonic() == Mnemonic::Int && guest.iopl() < 3 {
        return Some(GP);
    }
    let gate = gate(guest, vector);
    let types: &[u8] = if guest.kind.is_long() { &[14, 15] } else { &[5, 6, 7, 14, 15] };
    let error = Some(u16::from(vector) * 8 + 2);
    let checks_privilege = i.mnemonic() != Mnemonic::Int1;
    if gate.is_segment || !types.contains(&gate.kind) || checks_privilege && gate.dpl < guest.cpl() {
        return Some(Fault(13, error));
    }
    if !gate.present {
        return Some(Fault(11, error));
    }
    let is_plain = gate.selector() == super::system::HANDLER && matches!(gate.kind, 14 | 15);
    (is_plain && gate.raw >> 32 & 7 == 0).then_some(Enters(u64::from(vector & 63)))
}

/// SDM 4, 2.1, and SDM 2B, WRMSR.
fn write_msr(guest: &Guest) -> Expected {
    let r = &guest.registers;
    let value = r.general[2] << 32 | r.general[0] & 0xFFFF_FFFF;
    let is_canonical = (value as i64) << 16 >> 16 == value as i64;
    let types = value.to_le_bytes();
    let fits = match r.general[1] as u32 {
        0x175 | 0x176 | 0xC000_0082 | 0xC000_0083 | 0xC000_0100..=0xC000_0102 => is_canonical,
        0x174 | 0xC000_0081 => true,
        0x277 => types.iter().all(|kind| matches!(kind, 0 | 1 | 4..=7)),
        0xC000_0084 => value >> 32 == 0,
        0xC000_0080 => {
            let changes_mode = (value ^ r.efer) & 0x100 != 0 && r.cr0 >> 31 != 0;
            value & !0xD01 == 0 && !changes_mode
        }
        _ => false,
    };
    if fits { Next } else { GP }
}

/// SDM 2B, MOV CR and MOV DR in ring 0. Not what turns paging on or off.
fn write_register(guest: &Guest, i: &Instruction) -> Option<Expected> {
    let long = guest.kind == Kind::Long;
    let value = guest.registers.general[0] & if long { u64::MAX } else { 0xFFFF_FFFF };
    let refuses = match i.op0_register() {
        Register::CR0 => {
            let [pe, nw, cd, pg] = [0, 29, 30, 31].map(|bit| value >> bit & 1 != 0);
            if pg && !pe || nw && !cd || value >> 32 != 0 {
                true
            } else if pg != (guest.registers.cr0 >> 31 != 0) {
                return turns_paging(guest, value);
            } else {
                false
            }
        }
        Register::CR3 => long && value >> PHYSICAL_BITS != 0,
        Register::CR4 => {
            value & !offered_in_cr4() != 0
                || guest.kind.is_long() && value & 1 << 5 == 0
                || value & 1 << 17 != 0 && (!guest.kind.is_long() || guest.registers.cr3 & 0xFFF != 0)
        }
        Register::CR8 => value > 15,
        register if register.is_dr() => {
            matches!(register as usize - Register::DR0 as usize, 4..) && value >> 32 != 0
        }
        _ => false,
    };
    Some(if refuses { GP } else { Next })
}

/// Paging turned off is the end of IA-32e mode, which 64-bit code may not be in; turned on, in these cases, it finds
/// no table: neither the next instruction nor a handler is there.
fn turns_paging(guest: &Guest, value: u64) -> Option<Expected> {
    let turns_on = value >> 31 & 1 != 0;
    match guest.kind {
        Kind::Long if !turns_on => Some(GP),
        Kind::Compatibility if !turns_on => Some(Next),
        Kind::Real | Kind::Protected16 | Kind::Protected32 if turns_on => {
            Some(Unmapped(value & 0xE005_003F | 0x10))
        }
        _ => None,
    }
}

fn offered_in_cr4() -> u64 {
    let features = CpuModel::Host.features();
    let optional = [
        (Feature::Umip, 11),
        (Feature::FsGsBase, 16),
        (Feature::Pcid, 17),
        (Feature::Xsave, 18),
        (Feature::Smep, 20),
        (Feature::Smap, 21),
    ];
    let always = 0x7FC; // TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT
    optional
        .into_iter()
        .filter(|(feature, _)| features.has(*feature))
        .fold(always, |all, (_, bit)| all | 1 << bit)
}
