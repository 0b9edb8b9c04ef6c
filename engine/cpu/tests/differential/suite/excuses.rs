//! Differences that the manual leaves open or that this host's maker decides otherwise than the SDM: each narrow,
//! counted, and printed with its reason.

use iced_x86::Mnemonic;

use super::case::{Case, Outcome};

/// Faults of memory operands.
const MEMORY_FAULTS: [u8; 3] = [12, 13, 14];

/// Why this difference is none; `None` if it is one.
pub fn excuse(case: &Case, host: &Outcome, software: &Outcome) -> Option<&'static str> {
    use Mnemonic::*;
    let item = case.item_at(host.rip).or_else(|| case.item_at(software.rip))?;
    let mnemonic = item.instruction.mnemonic();
    let same_place = host.rip == software.rip
        && host.general == software.general
        && host.flags == software.flags
        && host.selectors == software.selectors;
    let both_memory = MEMORY_FAULTS.contains(&host.vector) && MEMORY_FAULTS.contains(&software.vector);
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
        Maskmovq | Maskmovdqu | Vmaskmovdqu if MEMORY_FAULTS.contains(&host.vector) && software.vector == 13 => {
            Some("SDM 2B, MASKMOVQ: whether a mask of zero faults is implementation dependent")
        }
        Cmpsb | Cmpsw | Cmpsd | Cmpsq if same_place && both_memory => {
            Some("SDM 3A 6.9: the order of faults of two operands is not defined")
        }
        Retf | Iret | Iretd | Iretq if same_place && both_memory => {
            Some("SDM 3A 6.9: the order of checks of one instruction is not defined")
        }
        Maskmovq | Maskmovdqu | Vmaskmovdqu if same_place && both_memory => {
            Some("SDM 2B, MASKMOVQ: which byte faults, and MMX state then, are implementation dependent")
        }
        Sha1msg1 | Sha1msg2 | Sha1nexte | Sha1rnds4 | Sha256msg1 | Sha256msg2 | Sha256rnds2
            if software.vector == 13 && (host.rip != software.rip || both_memory) =>
        {
            Some("SDM 2B, SHA1MSG1: exceptions type 4 check alignment; AMD's processors do not")
        }
        _ => None,
    }
}
