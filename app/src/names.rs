//! What the manual calls registers, flags, segment types and exceptions.

use cpu::registers::Segment;

/// General registers in the order of instruction encodings.
pub const GENERAL: [&str; 16] = [
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
    "R15",
];

/// Segment registers in the order of instruction encodings.
pub const SEGMENTS: [&str; 6] = ["ES", "CS", "SS", "DS", "FS", "GS"];

/// One-bit flags of RFLAGS, highest first. Source: Intel SDM 1, §3.4.3.
pub const FLAGS: [(u32, &str, &str); 16] = [
    (21, "ID", "identification: CPUID can be used"),
    (20, "VIP", "virtual interrupt pending"),
    (19, "VIF", "virtual interrupt flag"),
    (18, "AC", "alignment check"),
    (17, "VM", "virtual-8086 mode"),
    (16, "RF", "resume: no instruction breakpoint"),
    (14, "NT", "nested task"),
    (11, "OF", "overflow"),
    (10, "DF", "direction: strings run downwards"),
    (9, "IF", "interrupts are enabled"),
    (8, "TF", "trap: single step"),
    (7, "SF", "sign"),
    (6, "ZF", "zero"),
    (4, "AF", "auxiliary carry"),
    (2, "PF", "parity"),
    (0, "CF", "carry"),
];

/// Bits of CR0. Source: Intel SDM 3A, §2.5.
pub const CR0: [(u32, &str); 11] = [
    (31, "PG"),
    (30, "CD"),
    (29, "NW"),
    (18, "AM"),
    (16, "WP"),
    (5, "NE"),
    (4, "ET"),
    (3, "TS"),
    (2, "EM"),
    (1, "MP"),
    (0, "PE"),
];

/// Bits of CR4. Source: Intel SDM 3A, §2.5.
pub const CR4: [(u32, &str); 18] = [
    (22, "PKE"),
    (21, "SMAP"),
    (20, "SMEP"),
    (18, "OSXSAVE"),
    (17, "PCIDE"),
    (16, "FSGSBASE"),
    (13, "VMXE"),
    (11, "UMIP"),
    (10, "OSXMMEXCPT"),
    (9, "OSFXSR"),
    (8, "PCE"),
    (7, "PGE"),
    (6, "MCE"),
    (5, "PAE"),
    (4, "PSE"),
    (3, "DE"),
    (2, "TSD"),
    (0, "VME"),
];

/// Bits of EFER. Source: Intel SDM 4, table 2-2.
pub const EFER: [(u32, &str); 4] = [(11, "NXE"), (10, "LMA"), (8, "LME"), (0, "SCE")];

/// The names of the bits that are set.
pub fn set_bits(value: u64, bits: &[(u32, &'static str)]) -> Vec<&'static str> {
    bits.iter().filter(|(bit, _)| value >> bit & 1 != 0).map(|(_, name)| *name).collect()
}

/// The flags that are set, and the I/O privilege level when it is not 0.
pub fn flags(rflags: u64) -> Vec<String> {
    let mut names: Vec<String> = FLAGS
        .iter()
        .filter(|(bit, _, _)| rflags >> bit & 1 != 0)
        .map(|(_, name, _)| (*name).to_owned())
        .collect();
    if rflags >> 12 & 3 != 0 {
        names.push(format!("IOPL={}", rflags >> 12 & 3));
    }
    names
}

/// The hidden attributes of a segment in words. Source: Intel SDM 3A, §3.4.5 and §3.5.
pub fn segment(segment: &Segment) -> String {
    if segment.unusable {
        return "unusable".to_owned();
    }
    let kind = segment.attributes & 0xF;
    let is_code_or_data = segment.attributes & 0x10 != 0;
    let what = match (is_code_or_data, kind & 8 != 0) {
        (true, true) => format!(
            "code {}{}",
            if kind & 4 != 0 { "conforming " } else { "" },
            if kind & 2 != 0 { "r-x" } else { "--x" }
        ),
        (true, false) => format!(
            "data {}{}",
            if kind & 4 != 0 { "down " } else { "" },
            if kind & 2 != 0 { "rw-" } else { "r--" }
        ),
        (false, _) => match kind {
            1 => "TSS16",
            2 => "LDT",
            3 => "TSS16 busy",
            9 => "TSS",
            11 => "TSS busy",
            _ => "system",
        }
        .to_owned(),
    };
    let size = match (is_code_or_data, segment.is_long(), segment.is_big()) {
        (false, _, _) => "",
        (true, true, _) => " 64",
        (true, false, true) => " 32",
        (true, false, false) => " 16",
    };
    let absent = if segment.attributes & 0x80 == 0 { " absent" } else { "" };
    format!("{what}{size} DPL{}{absent}", segment.dpl())
}

/// The operating mode, in words.
pub fn mode(registers: &cpu::Registers) -> &'static str {
    let code = registers.segments[1];
    match registers {
        r if r.cr0 & 1 == 0 => "real mode",
        r if r.rflags >> 17 & 1 != 0 => "virtual-8086 mode",
        r if r.efer >> 10 & 1 != 0 && code.is_long() => "64-bit mode",
        r if r.efer >> 10 & 1 != 0 => "compatibility mode",
        _ if code.is_big() => "protected mode, 32-bit",
        _ => "protected mode, 16-bit",
    }
}

/// An exception by its vector. Source: Intel SDM 3A, table 6-1.
pub fn exception(vector: u8) -> String {
    let name = match vector {
        0 => "#DE divide error",
        1 => "#DB debug exception",
        2 => "NMI",
        3 => "#BP breakpoint",
        4 => "#OF overflow",
        5 => "#BR bound range exceeded",
        6 => "#UD invalid opcode",
        7 => "#NM device not available",
        8 => "#DF double fault",
        10 => "#TS invalid TSS",
        11 => "#NP segment not present",
        12 => "#SS stack-segment fault",
        13 => "#GP general protection",
        14 => "#PF page fault",
        16 => "#MF x87 floating-point error",
        17 => "#AC alignment check",
        18 => "#MC machine check",
        19 => "#XM SIMD floating-point exception",
        20 => "#VE virtualization exception",
        21 => "#CP control protection",
        other => return format!("interrupt {other:#04x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_mode_segments_and_flags_read_as_in_the_manual() {
        assert_eq!(segment(&Segment::real(0)), "data rw- 16 DPL0");
        assert_eq!(segment(&Segment { attributes: 0xA09B, ..Segment::real(8) }), "code r-x 64 DPL0");
        assert_eq!(segment(&Segment { attributes: 0x8B, ..Segment::real(8) }), "TSS busy DPL0");
        assert_eq!(segment(&Segment { unusable: true, ..Segment::default() }), "unusable");
        assert_eq!(flags(0x3202), ["IF", "IOPL=3"]);
        assert_eq!(set_bits(0x8000_0011, &CR0), ["PG", "ET", "PE"]);
    }

    #[test]
    fn the_mode_follows_control_registers_and_code_segment() {
        let mut registers = cpu::Registers::reset();
        assert_eq!(mode(&registers), "real mode");
        registers.cr0 |= 1;
        assert_eq!(mode(&registers), "protected mode, 16-bit");
        registers.efer = 0x500;
        registers.segments[1].attributes = 0xA09B;
        assert_eq!(mode(&registers), "64-bit mode");
    }
}
