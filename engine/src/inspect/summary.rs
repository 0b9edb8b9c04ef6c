//! What all registers together mean now, in one sentence.

use cpu::registers::segment;
use cpu::{Registers, Segment};

/// The operating mode. Source: Intel SDM 3A, §2.2.
pub fn mode(registers: &Registers) -> &'static str {
    let code = registers.segments[segment::CS];
    match registers {
        r if r.cr0 & 1 == 0 => "real mode",
        r if r.rflags >> 17 & 1 != 0 => "virtual-8086 mode",
        r if r.efer >> 10 & 1 != 0 && code.is_long() => "64-bit mode",
        r if r.efer >> 10 & 1 != 0 && code.is_big() => "compatibility mode, 32-bit",
        r if r.efer >> 10 & 1 != 0 => "compatibility mode, 16-bit",
        _ if code.is_big() => "protected mode, 32-bit",
        _ => "protected mode, 16-bit",
    }
}

/// Width of addresses and operands by default: 16, 32 or 64 bits.
pub fn code_bits(registers: &Registers) -> u32 {
    let code = registers.segments[segment::CS];
    match () {
        () if registers.efer >> 10 & 1 != 0 && code.is_long() && registers.cr0 & 1 != 0 => 64,
        () if code.is_big() => 32,
        () => 16,
    }
}

/// Current privilege level. Source: Intel SDM 3A, §5.5.
pub fn privilege(registers: &Registers) -> u8 {
    match registers {
        r if r.cr0 & 1 == 0 => 0,
        r if r.rflags >> 17 & 1 != 0 => 3,
        r => r.segments[segment::SS].dpl(),
    }
}

/// How linear addresses become physical ones.
pub fn paging(registers: &Registers) -> String {
    if registers.cr0 >> 31 & 1 == 0 {
        return "paging off".to_owned();
    }
    let (levels, root) = match (registers.efer >> 10 & 1 != 0, registers.cr4 >> 5 & 1 != 0) {
        (true, _) if registers.cr4 >> 12 & 1 != 0 => ("five levels", registers.cr3 & 0x000F_FFFF_FFFF_F000),
        (true, _) => ("four levels", registers.cr3 & 0x000F_FFFF_FFFF_F000),
        (false, true) => ("three levels (PAE)", registers.cr3 & 0xFFFF_FFE0),
        (false, false) => ("two levels", registers.cr3 & 0xFFFF_F000),
    };
    let space = match registers.cr4 >> 17 & 1 != 0 {
        true => format!(", address space {}", registers.cr3 & 0xFFF),
        false => String::new(),
    };
    format!("paging on, {levels}, root at {root:#x}{space}")
}

/// Everything in one sentence: mode, paging, who runs, interrupts.
pub fn sentence(registers: &Registers) -> String {
    let ring = privilege(registers);
    let who = match (registers.cr0 & 1 != 0, ring) {
        (false, _) => String::new(),
        (true, 0) => ", kernel code (ring 0)".to_owned(),
        (true, 3) => ", user code (ring 3)".to_owned(),
        (true, ring) => format!(", ring {ring}"),
    };
    let interrupts = if registers.rflags >> 9 & 1 != 0 { "interrupts on" } else { "interrupts off" };
    let state = match registers {
        r if r.halted => ", halted until an interrupt",
        r if r.interrupt_shadow => ", held off for one more instruction",
        _ => "",
    };
    format!("{}, {}{who}, {interrupts}{state}", mode(registers), paging(registers))
}

/// The hidden attributes of a segment register in words. Source: Intel SDM 3A, §3.4.5 and §3.5.
pub fn segment_rights(segment: &Segment) -> String {
    if segment.unusable {
        return "unusable".to_owned();
    }
    super::descriptor::rights_in_words(segment.attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_is_real_mode_and_long_mode_names_its_root() {
        let mut registers = Registers::reset();
        assert_eq!(sentence(&registers), "real mode, paging off, interrupts off");
        registers.cr0 |= 0x8000_0001;
        registers.cr4 = 1 << 5;
        registers.efer = 0x500;
        registers.cr3 = 0x123_4000;
        registers.rflags |= 1 << 9;
        registers.segments[segment::CS].attributes = 0xA0FB;
        registers.segments[segment::SS].attributes = 0xC0F3;
        assert_eq!(
            sentence(&registers),
            "64-bit mode, paging on, four levels, root at 0x1234000, user code (ring 3), interrupts on"
        );
        assert_eq!(code_bits(&registers), 64);
    }

    #[test]
    fn the_mode_follows_control_registers_and_code_segment() {
        let mut registers = Registers::reset();
        registers.cr0 |= 1;
        assert_eq!(mode(&registers), "protected mode, 16-bit");
        registers.efer = 0x500;
        registers.segments[segment::CS].attributes = 0xC09B;
        assert_eq!((mode(&registers), code_bits(&registers)), ("compatibility mode, 32-bit", 32));
    }
}
