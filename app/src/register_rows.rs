//! All registers of a vCPU as named values in groups, as the window and `ctl registers --explain` show them.

use cpu::Registers;
use engine::inspect::{bits, exception, summary};
use hardware::interrupts::LapicView;

use crate::names;

/// Registers that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// RAX to R15.
    General,
    /// RIP and RFLAGS.
    Execution,
    /// Segment registers with their hidden parts.
    Segments,
    /// GDTR and IDTR.
    Tables,
    /// CR0 to CR8, EFER, XCR0.
    Control,
    /// DR0 to DR7.
    Debug,
    /// Model-specific registers.
    Msrs,
    /// Memory types.
    Mtrrs,
    /// x87 and MMX.
    X87,
    /// SSE and AVX.
    Vector,
    /// The local APIC, which is a device: not among [`GROUPS`].
    LocalApic,
}

/// All groups in the panel's order; the flag says whether a group is open at first.
pub const GROUPS: [(Group, &str, bool); 10] = [
    (Group::Execution, "Execution", true),
    (Group::General, "General", true),
    (Group::Segments, "Segments", true),
    (Group::Tables, "Descriptor tables", true),
    (Group::Control, "Control", true),
    (Group::Debug, "Debug", false),
    (Group::Msrs, "Model-specific", false),
    (Group::Mtrrs, "Memory types (MTRR)", false),
    (Group::X87, "x87", false),
    (Group::Vector, "SSE and AVX", false),
];

/// A register with its value as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name in the manual.
    pub name: String,
    /// Value in hexadecimal; what changes here is marked.
    pub value: String,
    /// What the value means.
    pub meaning: String,
}

fn row(name: impl Into<String>, value: String) -> Row {
    Row { name: name.into(), value, meaning: String::new() }
}

/// A register of 64 bits.
pub fn wide(name: impl Into<String>, value: u64) -> Row {
    row(name, format!("{value:016x}"))
}

fn meant(name: &str, value: u64, meaning: String) -> Row {
    Row { name: name.to_owned(), value: format!("{value:016x}"), meaning }
}

/// What the local APIC holds.
pub fn local_apic(apic: &LapicView) -> Vec<Row> {
    let narrow = |name: &str, value: u32| row(name, format!("{value:08x}"));
    let vectors = |name: &str, meaning: &str, vectors: &[u8]| {
        let list: Vec<String> = vectors.iter().map(|vector| format!("{vector:02x}")).collect();
        let value = if list.is_empty() { "none".to_owned() } else { list.join(" ") };
        Row { name: name.to_owned(), value, meaning: meaning.to_owned() }
    };
    let enabled = if apic.is_enabled { "enabled by software" } else { "not enabled by software" };
    let mut rows = vec![
        row("ID", format!("{:x}", apic.id)),
        Row { name: "mode".to_owned(), value: apic.mode.to_owned(), meaning: enabled.to_owned() },
        row("TPR", format!("{:02x}", apic.tpr)),
        row("PPR", format!("{:02x}", apic.ppr)),
        vectors("IRR", "vectors requested", &apic.requested),
        vectors("ISR", "vectors being served", &apic.in_service),
        vectors("TMR", "vectors triggered by level", &apic.level_triggered),
        narrow("SVR", apic.svr),
        narrow("LDR", apic.ldr),
        narrow("DFR", apic.dfr),
        narrow("ESR", apic.esr),
        wide("ICR", apic.icr),
    ];
    for (name, value) in LVT.iter().zip(apic.lvt) {
        let masked = if value >> 16 & 1 != 0 { "masked" } else { "" };
        rows.push(Row { meaning: masked.to_owned(), ..narrow(name, value) });
    }
    rows.push(Row { meaning: apic.timer_mode.to_owned(), ..narrow("TMICT", apic.timer_initial) });
    rows.push(narrow("TMCCT", apic.timer_current));
    rows.push(narrow("TMDCR", apic.timer_divide));
    rows.push(wide("TSC deadline", apic.tsc_deadline));
    rows
}

/// Entries of the local vector table in the order of their registers.
const LVT: [&str; 6] = ["LVT timer", "LVT thermal", "LVT perf", "LVT LINT0", "LVT LINT1", "LVT error"];

/// The rows of a group.
pub fn rows(registers: &Registers, group: Group) -> Vec<Row> {
    match group {
        Group::General => {
            names::GENERAL.iter().zip(registers.general).map(|(name, value)| wide(*name, value)).collect()
        }
        Group::Execution => execution(registers),
        Group::Segments => segments(registers),
        Group::Tables => [("GDTR", registers.gdtr), ("IDTR", registers.idtr)]
            .into_iter()
            .map(|(name, table)| row(name, format!("{:016x}  limit {:04x}", table.base, table.limit)))
            .collect(),
        Group::Control => vec![
            meant("CR0", registers.cr0, bits::names(registers.cr0, &bits::CR0).join(" ")),
            wide("CR2", registers.cr2),
            wide("CR3", registers.cr3),
            meant("CR4", registers.cr4, bits::names(registers.cr4, &bits::CR4).join(" ")),
            wide("CR8", registers.cr8),
            meant("EFER", registers.efer, bits::names(registers.efer, &bits::EFER).join(" ")),
            wide("XCR0", registers.xcr0),
        ],
        Group::Debug => [0, 1, 2, 3, 6, 7]
            .iter()
            .zip(registers.debug)
            .map(|(number, value)| wide(format!("DR{number}"), value))
            .collect(),
        Group::Msrs => msrs(registers),
        Group::Mtrrs => mtrrs(registers),
        Group::X87 => x87(registers),
        Group::Vector => vector(registers),
        Group::LocalApic => Vec::new(),
    }
}

fn execution(registers: &Registers) -> Vec<Row> {
    let mut states = Vec::new();
    if registers.halted {
        states.push("halted");
    }
    if registers.interrupt_shadow {
        states.push("interrupt shadow");
    }
    if registers.nmi_blocked {
        states.push("NMI blocked");
    }
    let pending = match &registers.pending {
        None => "none".to_owned(),
        Some(event) => format!("{:02x}", event.vector),
    };
    let pending_meaning = registers.pending.map(|event| exception::name(event.vector)).unwrap_or_default();
    vec![
        meant("RIP", registers.rip, format!("linear {:x}", registers.linear_rip())),
        wide("RFLAGS", registers.rflags),
        row("mode", summary::mode(registers).to_owned()),
        row("state", if states.is_empty() { "executing".to_owned() } else { states.join(", ") }),
        Row { name: "pending".to_owned(), value: pending, meaning: pending_meaning },
    ]
}

fn segments(registers: &Registers) -> Vec<Row> {
    let system = [("LDTR", &registers.ldtr), ("TR", &registers.tr)];
    names::SEGMENTS
        .into_iter()
        .zip(&registers.segments)
        .chain(system)
        .map(|(name, segment)| Row {
            name: name.to_owned(),
            value: format!("{:04x}  {:016x}  {:08x}", segment.selector, segment.base, segment.limit),
            meaning: format!("{:04x} {}", segment.attributes, summary::segment_rights(segment)),
        })
        .collect()
}

fn msrs(registers: &Registers) -> Vec<Row> {
    let msrs = &registers.msrs;
    [
        ("APIC_BASE", msrs.apic_base),
        ("TSC offset", msrs.tsc_offset),
        ("TSC_AUX", msrs.tsc_aux),
        ("SYSENTER_CS", msrs.sysenter_cs),
        ("SYSENTER_ESP", msrs.sysenter_esp),
        ("SYSENTER_EIP", msrs.sysenter_eip),
        ("STAR", msrs.star),
        ("LSTAR", msrs.lstar),
        ("CSTAR", msrs.cstar),
        ("FMASK", msrs.fmask),
        ("KERNEL_GS_BASE", msrs.kernel_gs_base),
        ("PAT", msrs.pat),
        ("MISC_ENABLE", msrs.misc_enable),
    ]
    .into_iter()
    .map(|(name, value)| wide(name, value))
    .collect()
}

fn mtrrs(registers: &Registers) -> Vec<Row> {
    let fixed = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26A, 0x26B, 0x26C, 0x26D, 0x26E, 0x26F];
    let mut rows = vec![wide("DEF_TYPE", registers.msrs.mtrr_default)];
    rows.extend(
        fixed
            .iter()
            .zip(registers.msrs.mtrr_fixed)
            .map(|(number, value)| wide(format!("fixed {number:x}"), value)),
    );
    for (pair, values) in registers.msrs.mtrr_variable.chunks(2).enumerate() {
        rows.push(wide(format!("PHYSBASE{pair}"), values[0]));
        rows.push(wide(format!("PHYSMASK{pair}"), values[1]));
    }
    rows
}

fn x87(registers: &Registers) -> Vec<Row> {
    let fpu = &registers.fpu;
    let mut rows = vec![
        row("FCW", format!("{:04x}", fpu.control)),
        row("FSW", format!("{:04x}", fpu.status)),
        row("FTW", format!("{:02x}", fpu.tags)),
        row("FOP", format!("{:04x}", fpu.opcode)),
        wide("FIP", fpu.instruction),
        wide("FDP", fpu.data),
    ];
    rows.extend(fpu.stack.iter().enumerate().map(|(number, bytes)| {
        let digits: String = bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect();
        row(format!("ST{number}"), digits)
    }));
    rows
}

fn vector(registers: &Registers) -> Vec<Row> {
    let mut rows = vec![row("MXCSR", format!("{:08x}", registers.fpu.mxcsr))];
    for (number, value) in registers.fpu.ymm.iter().enumerate() {
        rows.push(row(format!("XMM{number}"), format!("{:016x}{:016x}", value[1], value[0])));
        // The upper half of YMM, only where it is used: most guests never touch it.
        if value[2..] != [0, 0] {
            rows.push(row(format!("YMM{number} high"), format!("{:016x}{:016x}", value[3], value[2])));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_has_a_row() {
        let registers = Registers::reset();
        let count = |group| rows(&registers, group).len();
        assert_eq!(GROUPS.map(|(group, _, _)| count(group)), [5, 16, 8, 2, 7, 6, 13, 28, 14, 17]);
        assert_eq!(rows(&registers, Group::General)[3].name, "RBX");
        assert_eq!(rows(&registers, Group::Debug)[5], wide("DR7", 0x400));
        assert_eq!(rows(&registers, Group::Execution)[0].meaning, "linear fffffff0");
        assert_eq!(rows(&registers, Group::Segments)[1].value, "f000  00000000ffff0000  0000ffff");
    }
}
