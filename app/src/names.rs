//! What the manual calls registers, flags and exceptions.

use engine::inspect::bits;

/// General registers in the order of instruction encodings.
pub const GENERAL: [&str; 16] = [
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
    "R15",
];

/// Segment registers in the order of instruction encodings.
pub const SEGMENTS: [&str; 6] = ["ES", "CS", "SS", "DS", "FS", "GS"];

/// The flags that are set, and the I/O privilege level when it is not 0.
pub fn flags(rflags: u64) -> Vec<String> {
    let mut names: Vec<String> = bits::names(rflags, &bits::RFLAGS).into_iter().map(str::to_owned).collect();
    if rflags >> 12 & 3 != 0 {
        names.push(format!("IOPL={}", rflags >> 12 & 3));
    }
    names
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
    fn flags_read_as_in_the_manual() {
        assert_eq!(flags(0x3202), ["IF", "IOPL=3"]);
        assert_eq!(exception(13), "#GP general protection");
        assert_eq!(exception(0x30), "interrupt 0x30");
    }
}
