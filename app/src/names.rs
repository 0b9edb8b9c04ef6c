//! What the manual calls registers and flags.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_as_in_the_manual() {
        assert_eq!(flags(0x3202), ["IF", "IOPL=3"]);
    }
}
