//! The bits of control and flag registers, in words. Sources: Intel SDM 1, §3.4.3 (EFLAGS); SDM 3A, §2.5 (control
//! registers); SDM 4, table 2-2 (EFER).

use cpu::Registers;
use serde::Serialize;

/// One bit of a register.
#[derive(Clone, Copy, Debug)]
pub struct Bit {
    /// Its number.
    pub bit: u32,
    /// Its name in the manual.
    pub name: &'static str,
    /// What it means when set.
    pub set: &'static str,
    /// What it means when clear.
    pub clear: &'static str,
}

/// A bit with its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its number.
    pub bit: u32,
    /// Its name in the manual.
    pub name: &'static str,
    /// Whether it is set.
    pub is_set: bool,
    /// What that means.
    pub meaning: &'static str,
}

const fn bit(bit: u32, name: &'static str, set: &'static str, clear: &'static str) -> Bit {
    Bit { bit, name, set, clear }
}

/// CR0, highest first.
pub const CR0: [Bit; 11] = [
    bit(31, "PG", "paging is on", "paging is off: linear addresses are physical"),
    bit(30, "CD", "caches are off", "caches are on"),
    bit(29, "NW", "not write-through", "write-through as usual"),
    bit(18, "AM", "user code may ask for alignment checks", "alignment is never checked"),
    bit(16, "WP", "the kernel cannot write read-only pages", "the kernel writes read-only pages too"),
    bit(5, "NE", "x87 errors raise #MF", "x87 errors raise IRQ 13, as on the PC AT"),
    bit(4, "ET", "the x87 unit is a 387 or later", "the x87 unit is a 287"),
    bit(3, "TS", "the next x87 or SSE instruction raises #NM", "x87 and SSE can be used"),
    bit(2, "EM", "there is no x87 unit: its instructions raise #NM", "x87 instructions are executed"),
    bit(1, "MP", "WAIT looks at TS too", "WAIT ignores TS"),
    bit(0, "PE", "protected mode", "real mode"),
];

/// CR4, highest first.
pub const CR4: [Bit; 20] = [
    bit(24, "PKS", "supervisor pages have protection keys", "no protection keys for supervisor pages"),
    bit(23, "CET", "control-flow enforcement is on", "no control-flow enforcement"),
    bit(22, "PKE", "user pages have protection keys", "no protection keys"),
    bit(21, "SMAP", "the kernel cannot touch user pages by mistake", "the kernel may touch user pages"),
    bit(20, "SMEP", "the kernel cannot execute user pages", "the kernel may execute user pages"),
    bit(18, "OSXSAVE", "XSAVE and AVX can be used", "no XSAVE"),
    bit(17, "PCIDE", "address spaces have identifiers in CR3", "no address-space identifiers"),
    bit(16, "FSGSBASE", "user code sets FS and GS bases itself", "only the kernel sets FS and GS bases"),
    bit(13, "VMXE", "virtualization instructions are on", "no virtualization instructions"),
    bit(12, "LA57", "five-level paging", "four-level paging at most"),
    bit(11, "UMIP", "user code cannot read descriptor tables", "user code can read descriptor tables"),
    bit(10, "OSXMMEXCPT", "SSE errors raise #XM", "SSE errors raise #UD"),
    bit(9, "OSFXSR", "SSE can be used", "SSE raises #UD"),
    bit(8, "PCE", "user code reads performance counters", "only the kernel reads performance counters"),
    bit(7, "PGE", "global pages stay in the TLB", "no global pages"),
    bit(6, "MCE", "machine checks are reported", "a machine check shuts down"),
    bit(5, "PAE", "page-table entries of 64 bits", "page-table entries of 32 bits"),
    bit(4, "PSE", "4 MiB pages", "no 4 MiB pages in 32-bit paging"),
    bit(3, "DE", "I/O breakpoints; DR4 and DR5 raise #UD", "DR4 and DR5 are DR6 and DR7"),
    bit(2, "TSD", "only the kernel reads the time-stamp counter", "anyone reads the time-stamp counter"),
];

/// EFER, highest first.
pub const EFER: [Bit; 4] = [
    bit(11, "NXE", "pages can forbid execution", "no execute-disable bit"),
    bit(10, "LMA", "long mode is active", "long mode is not active"),
    bit(8, "LME", "paging will begin in long mode", "paging begins in 32-bit mode"),
    bit(0, "SCE", "SYSCALL can be used", "SYSCALL raises #UD"),
];

/// RFLAGS without IOPL, highest first.
pub const RFLAGS: [Bit; 16] = [
    bit(21, "ID", "CPUID can be used", "CPUID can be used if this bit can be changed"),
    bit(20, "VIP", "a virtual interrupt is pending", "no virtual interrupt is pending"),
    bit(19, "VIF", "virtual interrupts are on", "virtual interrupts are off"),
    bit(18, "AC", "alignment is checked (SMAP: user pages may be touched)", "no alignment check"),
    bit(17, "VM", "virtual-8086 mode", "not in virtual-8086 mode"),
    bit(16, "RF", "the next instruction's breakpoint is passed over", "breakpoints as usual"),
    bit(14, "NT", "IRET returns to another task", "IRET returns within this task"),
    bit(11, "OF", "signed overflow", "no signed overflow"),
    bit(10, "DF", "strings run downwards", "strings run upwards"),
    bit(9, "IF", "interrupts are taken", "interrupts are held off"),
    bit(8, "TF", "single step: #DB after each instruction", "no single step"),
    bit(7, "SF", "the result was negative", "the result was not negative"),
    bit(6, "ZF", "the result was zero", "the result was not zero"),
    bit(4, "AF", "carry out of bit 3", "no carry out of bit 3"),
    bit(2, "PF", "the low byte has an even number of ones", "the low byte has an odd number of ones"),
    bit(0, "CF", "carry or borrow", "no carry"),
];

/// CR3 without the address of the tables and the identifier of the address space (PCID, with CR4.PCIDE).
pub const CR3: [Bit; 2] = [
    bit(4, "PCD", "the top page table is not cached", "the top page table is cached"),
    bit(3, "PWT", "the top page table is written through", "the top page table is written back"),
];

/// What each I/O privilege level (RFLAGS, bits 12 and 13) allows.
const IOPL: [&str; 4] = [
    "only ring 0 may use IN, OUT, CLI and STI",
    "rings 0 and 1 may use IN, OUT, CLI and STI",
    "rings 0 to 2 may use IN, OUT, CLI and STI",
    "user code too may use IN, OUT, CLI and STI",
];

/// RFLAGS: every bit, and the I/O privilege level in its place.
pub fn explain_rflags(value: u64) -> Vec<Explained> {
    let mut all = explain(value, &RFLAGS);
    let level = (value >> 12 & 3) as usize;
    let at = all.partition_point(|bit| bit.bit > 12);
    all.insert(at, Explained { bit: 12, name: "IOPL", is_set: level != 0, meaning: IOPL[level] });
    all
}

/// Every bit of a register with what its state means.
pub fn explain(value: u64, bits: &[Bit]) -> Vec<Explained> {
    let explained = |bit: &Bit| {
        let is_set = value >> bit.bit & 1 != 0;
        let meaning = if is_set { bit.set } else { bit.clear };
        Explained { bit: bit.bit, name: bit.name, is_set, meaning }
    };
    bits.iter().map(explained).collect()
}

/// A register whose bits have words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// Where the manual explains it.
    pub source: &'static str,
    /// Each bit, highest first.
    pub bits: Vec<Explained>,
}

/// Every register whose bits have words.
pub fn all(registers: &Registers) -> Vec<Bits> {
    let system = "Intel SDM 3A, §2.5";
    [
        ("CR0", registers.cr0, system, explain(registers.cr0, &CR0)),
        ("CR3", registers.cr3, system, explain(registers.cr3, &CR3)),
        ("CR4", registers.cr4, system, explain(registers.cr4, &CR4)),
        ("EFER", registers.efer, "Intel SDM 4, table 2-2", explain(registers.efer, &EFER)),
        ("RFLAGS", registers.rflags, "Intel SDM 1, §3.4.3", explain_rflags(registers.rflags)),
    ]
    .into_iter()
    .map(|(name, value, source, bits)| Bits { name, value, source, bits })
    .collect()
}

/// The names of the bits that are set.
pub fn names(value: u64, bits: &[Bit]) -> Vec<&'static str> {
    bits.iter().filter(|bit| value >> bit.bit & 1 != 0).map(|bit| bit.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_stands_once_and_highest_first() {
        for table in [&CR0[..], &CR3, &CR4, &EFER, &RFLAGS] {
            assert!(table.windows(2).all(|pair| pair[0].bit > pair[1].bit));
        }
    }

    #[test]
    fn the_io_privilege_level_stands_in_its_place() {
        let flags = explain_rflags(0x3002);
        assert!(flags.windows(2).all(|pair| pair[0].bit > pair[1].bit));
        let level = flags.iter().find(|bit| bit.name == "IOPL").unwrap();
        assert!(level.is_set && level.meaning.contains("user code"));
        assert!(
            explain_rflags(2).iter().any(|bit| bit.name == "IOPL" && bit.meaning.contains("only ring 0"))
        );
    }

    #[test]
    fn bits_come_with_their_names() {
        let mut registers = Registers::reset();
        registers.cr0 |= 1;
        let bits = all(&registers);
        assert!(bits.iter().any(|bits| bits.bits.iter().any(|bit| bit.name == "PE" && bit.is_set)));
    }

    #[test]
    fn a_value_reads_as_words() {
        assert_eq!(names(0x8000_0011, &CR0), ["PG", "ET", "PE"]);
        let paging = explain(0x11, &CR0).into_iter().find(|bit| bit.name == "PG").unwrap();
        assert!(!paging.is_set && paging.meaning.contains("off"));
    }
}
