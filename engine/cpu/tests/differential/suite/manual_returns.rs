//! What the manual says of RETF and IRET in protected and IA-32e mode (SDM 2A, IRET; SDM 2B, RET), but for returns from
//! tasks and to virtual-8086 mode.

use iced_x86::{Code, Instruction};

use super::manual::Expected;
use super::system::{CODE, Guest, Kind};
use super::system_tables::{Descriptor, descriptor};

const GP: Expected = Expected::Fault(13, Some(0));
const NT: u64 = 1 << 14;
const TF: u64 = 1 << 8;
const VM: u64 = 1 << 17;

fn refused(selector: u16) -> Expected {
    Expected::Fault(13, Some(selector & !3))
}

/// Bytes of a word of the frame, and whether it is an interrupt's.
fn frame(i: &Instruction) -> Option<(u64, bool)> {
    match i.code() {
        Code::Iretw => Some((2, true)),
        Code::Iretd => Some((4, true)),
        Code::Iretq => Some((8, true)),
        Code::Retfw | Code::Retfw_imm16 => Some((2, false)),
        Code::Retfd | Code::Retfd_imm16 => Some((4, false)),
        _ => None,
    }
}

fn word(guest: &Guest, n: u64, bytes: u64) -> u64 {
    let value = guest.quad(guest.registers.general[4] + n * bytes);
    if bytes == 8 { value } else { value & ((1 << (8 * bytes)) - 1) }
}

/// Whether it is a return to a good code segment, but beyond its limit.
pub fn goes_beyond(guest: &Guest, i: &Instruction) -> bool {
    if matches!(guest.kind, Kind::Real | Kind::Virtual8086) {
        return false;
    }
    let Some((bytes, _)) = frame(i) else { return false };
    let Ok(code) = code_segment(guest, word(guest, 1, bytes) as u16) else { return false };
    !(guest.kind.is_long() && code.is_long) && word(guest, 0, bytes) > code.limit()
}

/// The first event of a return; `None` where this does not tell.
pub fn expected(guest: &Guest, i: &Instruction) -> Option<Expected> {
    let (bytes, is_interrupt) = frame(i)?;
    let kind = guest.kind;
    let word = |n: u64| word(guest, n, bytes);
    let (target, selector) = (word(0), word(1) as u16);
    let flags = if is_interrupt { word(2) } else { 0 };
    if is_interrupt && guest.registers.rflags & NT != 0 {
        return kind.is_long().then_some(GP);
    }
    if is_interrupt && flags & VM != 0 && !kind.is_long() && guest.cpl() == 0 {
        return None;
    }
    let code = match code_segment(guest, selector) {
        Ok(code) => code,
        Err(fault) => return Some(fault),
    };
    let is_outer = selector & 3 > guest.cpl();
    if is_outer || is_interrupt && kind == Kind::Long {
        let stack = word(if is_interrupt { 4 } else { 3 }) as u16;
        if let Some(fault) = stack_segment(guest, stack, selector & 3, code.is_long) {
            return Some(fault);
        }
    }
    lands(guest, target, selector, &code, flags)
}

fn code_segment(guest: &Guest, selector: u16) -> Result<Descriptor, Expected> {
    if selector & !3 == 0 {
        return Err(GP);
    }
    let found = descriptor(guest, selector).ok_or(refused(selector))?;
    let rpl = selector & 3;
    let allowed = found.is_code()
        && rpl >= guest.cpl()
        && if found.is_conforming() { found.dpl <= rpl } else { found.dpl == rpl }
        && !(guest.kind.is_long() && found.is_long && found.is_big);
    match (allowed, found.present) {
        (false, _) => Err(refused(selector)),
        (_, false) => Err(Expected::Fault(11, Some(selector & !3))),
        _ => Ok(found),
    }
}

/// What is wrong with the stack segment a return loads.
fn stack_segment(guest: &Guest, selector: u16, rpl: u16, to_64_bit: bool) -> Option<Expected> {
    if selector & !3 == 0 {
        let fits = guest.kind.is_long() && to_64_bit && rpl != 3 && selector & 3 == rpl;
        return if fits { None } else { Some(GP) };
    }
    let Some(found) = descriptor(guest, selector) else { return Some(refused(selector)) };
    let allowed = selector & 3 == rpl && found.is_writable_data() && found.dpl == rpl;
    match (allowed, found.present) {
        (false, _) => Some(refused(selector)),
        (_, false) => Some(Expected::Fault(12, Some(selector & !3))),
        _ => None,
    }
}

/// Where it goes on, if HLT is there and nothing comes between.
fn lands(guest: &Guest, target: u64, selector: u16, code: &Descriptor, flags: u64) -> Option<Expected> {
    let is_64_bit = guest.kind.is_long() && code.is_long;
    if is_64_bit && (target as i64) << 16 >> 16 != target as i64 || !is_64_bit && target > code.limit() {
        return Some(GP);
    }
    let is_halt = (CODE + 0x100..CODE + 0x140).contains(&target) && (is_64_bit || code.base() == 0);
    (is_halt && flags & TF == 0).then_some(Expected::Lands(target, selector & 3))
}
