//! Which flags nobody will see: handlers that need not compute them are faster.

use iced_x86::{Instruction, Mnemonic, OpKind, RflagsBits};

use super::select::{is_immediate, is_memory};

/// The six arithmetic flags, in iced's bits.
const ARITHMETIC: u32 =
    RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

/// Whether nobody can see the flags instruction `at` leaves: a later one replaces them all, and none before
/// that reads them, faults, or leaves the block.
pub fn flags_are_dead(block: &[Instruction], at: usize) -> bool {
    use Mnemonic::*;
    for later in &block[at + 1..] {
        let harmless = matches!(
            later.mnemonic(),
            Mov | Lea
                | Add
                | Sub
                | And
                | Or
                | Xor
                | Cmp
                | Test
                | Inc
                | Dec
                | Neg
                | Not
                | Shl
                | Shr
                | Sar
                | Movzx
                | Movsx
                | Movsxd
        );
        let touches_memory = later.mnemonic() != Lea && (0..later.op_count()).any(|n| is_memory(later, n));
        let registers = (0..later.op_count())
            .all(|n| later.op_kind(n) != OpKind::Register || later.op_register(n).is_gpr());
        if !harmless || touches_memory || !registers || later.rflags_read() & ARITHMETIC != 0 {
            return false;
        }
        // a shift by nothing leaves all flags alone
        let shifts = !matches!(later.mnemonic(), Shl | Shr | Sar)
            || is_immediate(later, 1) && later.immediate(1) & 31 != 0;
        if shifts && later.rflags_modified() & ARITHMETIC == ARITHMETIC {
            return true;
        }
    }
    false
}
