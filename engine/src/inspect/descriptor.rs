//! Descriptors and the tables they lie in: GDT, LDT and IDT entries in words.
//! Source: Intel SDM 3A, §3.4.5 (segment descriptors), §3.5 (system descriptors), §6.11 and §6.14 (gates).

use cpu::{Registers, Segment, Table};
use serde::Serialize;

use super::{PhysicalMemory, read_linear};

/// Entries read of one table at the most: a GDT's 8192.
const MOST: usize = 8192;

/// What a descriptor describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Descriptor {
    /// All zero.
    Null,
    /// Code, data, LDT or TSS.
    Segment {
        /// Linear address.
        base: u64,
        /// Last valid offset in bytes, granularity applied.
        limit: u32,
        /// As in [`Segment::attributes`].
        attributes: u16,
    },
    /// A call, interrupt or trap gate.
    Gate {
        /// "call", "interrupt" or "trap".
        name: &'static str,
        /// Width of what it pushes, in bits.
        bits: u32,
        /// Code segment it leads to.
        selector: u16,
        /// Offset there.
        offset: u64,
        /// Least privileged ring that may use it.
        dpl: u8,
        /// Interrupt-stack-table entry (long mode), or parameters copied (call gates).
        extra: u8,
        /// Whether it can be used.
        present: bool,
    },
    /// A task gate.
    TaskGate {
        /// TSS it leads to.
        selector: u16,
        /// Least privileged ring that may use it.
        dpl: u8,
        /// Whether it can be used.
        present: bool,
    },
    /// A type the manual reserves.
    Reserved {
        /// Type field.
        kind: u8,
    },
}

/// One entry of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Selector (GDT, LDT) or vector (IDT).
    pub number: u16,
    /// What it describes.
    #[serde(flatten)]
    pub descriptor: Descriptor,
}

/// Access rights in words; `attributes` as in [`Segment::attributes`].
pub fn rights_in_words(attributes: u16) -> String {
    let kind = attributes & 0xF;
    let is_code_or_data = attributes & 0x10 != 0;
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
    let size = match (is_code_or_data, attributes >> 13 & 1 != 0, attributes >> 14 & 1 != 0) {
        (false, _, _) => "",
        (true, true, _) => " 64",
        (true, false, true) => " 32",
        (true, false, false) => " 16",
    };
    let absent = if attributes & 0x80 == 0 { " absent" } else { "" };
    format!("{what}{size} DPL{}{absent}", attributes >> 5 & 3)
}

impl Descriptor {
    /// Decodes a descriptor; `high` is the second half of a 16-byte one (long mode), else 0.
    pub fn decode(low: u64, high: u64, long: bool) -> Descriptor {
        if low == 0 && high == 0 {
            return Descriptor::Null;
        }
        let kind = (low >> 40 & 0xF) as u8;
        let is_code_or_data = low >> 44 & 1 != 0;
        let (dpl, present) = ((low >> 45 & 3) as u8, low >> 47 & 1 != 0);
        let selector = (low >> 16 & 0xFFFF) as u16;
        let gate = |name, bits| {
            let offset = low & 0xFFFF | if bits > 16 { low >> 32 & 0xFFFF_0000 } else { 0 };
            let (offset, bits) = if long { (offset | high << 32, 64) } else { (offset, bits) };
            let extra = (low >> 32 & if long && name != "call" { 7 } else { 0x1F }) as u8;
            Descriptor::Gate { name, bits, selector, offset, dpl, extra, present }
        };
        match (is_code_or_data, kind) {
            (true, _) | (false, 1 | 2 | 3 | 9 | 11) => {
                let wide = !is_code_or_data && long;
                let base =
                    low >> 16 & 0xFF_FFFF | low >> 32 & 0xFF00_0000 | if wide { high << 32 } else { 0 };
                let raw = (low & 0xFFFF | low >> 32 & 0xF_0000) as u32;
                let limit = if low >> 55 & 1 != 0 { raw << 12 | 0xFFF } else { raw };
                Descriptor::Segment { base, limit, attributes: (low >> 40 & 0xF0FF) as u16 }
            }
            (false, 4) => gate("call", 16),
            (false, 5) => Descriptor::TaskGate { selector, dpl, present },
            (false, 6) => gate("interrupt", 16),
            (false, 7) => gate("trap", 16),
            (false, 12) => gate("call", 32),
            (false, 14) => gate("interrupt", 32),
            (false, 15) => gate("trap", 32),
            (false, kind) => Descriptor::Reserved { kind },
        }
    }

    /// The descriptor in words.
    pub fn in_words(&self) -> String {
        match self {
            Descriptor::Null => "null".to_owned(),
            Descriptor::Segment { base, limit, attributes } => {
                format!("{}, base {base:#x}, limit {limit:#x}", rights_in_words(*attributes))
            }
            Descriptor::Gate { name, bits, selector, offset, dpl, extra, present } => {
                let extra = match (*extra, *name) {
                    (0, _) => String::new(),
                    (n, "call") => format!(", {n} parameters"),
                    (n, _) => format!(", stack {n} of the TSS"),
                };
                let absent = if *present { "" } else { ", absent" };
                format!("{name} gate {bits}, to {selector:04x}:{offset:x}, DPL{dpl}{extra}{absent}")
            }
            Descriptor::TaskGate { selector, dpl, present } => {
                format!("task gate, to {selector:04x}, DPL{dpl}{}", if *present { "" } else { ", absent" })
            }
            Descriptor::Reserved { kind } => format!("type {kind}, which is reserved"),
        }
    }
}

fn is_long(registers: &Registers) -> bool {
    registers.efer >> 10 & 1 != 0
}

fn table_bytes(registers: &Registers, memory: &dyn PhysicalMemory, table: Table) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(table.limit) + 1];
    let read = read_linear(registers, memory, table.base, &mut bytes);
    bytes.truncate(read);
    bytes
}

fn value(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |slice| u64::from_le_bytes(slice.try_into().expect("8 bytes")))
}

/// The GDT's entries, as far as its memory can be read. Null entries after the first are left out.
pub fn global_table(registers: &Registers, memory: &dyn PhysicalMemory) -> Vec<Entry> {
    segments(&table_bytes(registers, memory, registers.gdtr), is_long(registers))
}

/// The current LDT's entries.
pub fn local_table(registers: &Registers, memory: &dyn PhysicalMemory) -> Vec<Entry> {
    let Segment { base, limit, unusable, selector, .. } = registers.ldtr;
    if unusable || selector & !3 == 0 {
        return Vec::new();
    }
    let table = Table { base, limit: limit.min(0xFFFF) as u16 };
    segments(&table_bytes(registers, memory, table), is_long(registers))
}

fn segments(bytes: &[u8], long: bool) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at + 8 <= bytes.len() && entries.len() < MOST {
        let low = value(bytes, at);
        // System descriptors are twice as long in long mode.
        let is_wide = long && low >> 44 & 1 == 0 && low != 0;
        let descriptor = Descriptor::decode(low, if is_wide { value(bytes, at + 8) } else { 0 }, long);
        if at == 0 || descriptor != Descriptor::Null {
            entries.push(Entry { number: at as u16, descriptor });
        }
        at += if is_wide { 16 } else { 8 };
    }
    entries
}

/// The IDT's entries (in real mode: the interrupt vector table's, as 16-bit interrupt gates).
pub fn interrupt_table(registers: &Registers, memory: &dyn PhysicalMemory) -> Vec<Entry> {
    let long = is_long(registers);
    let bytes = table_bytes(registers, memory, registers.idtr);
    if registers.cr0 & 1 == 0 {
        let vector = |(number, entry): (usize, &[u8])| {
            let word = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
            let descriptor = Descriptor::Gate {
                name: "interrupt",
                bits: 16,
                selector: word(2),
                offset: u64::from(word(0)),
                dpl: 3,
                extra: 0,
                present: true,
            };
            Entry { number: number as u16, descriptor }
        };
        return bytes.chunks_exact(4).take(256).enumerate().map(vector).collect();
    }
    let size = if long { 16 } else { 8 };
    let gate = |(number, entry): (usize, &[u8])| {
        let high = if long { value(entry, 8) } else { 0 };
        Entry { number: number as u16, descriptor: Descriptor::decode(value(entry, 0), high, long) }
    };
    bytes.chunks_exact(size).take(256).enumerate().map(gate).collect()
}

/// The descriptor a segment register was loaded from, if it can still be read.
pub fn of_selector(registers: &Registers, memory: &dyn PhysicalMemory, selector: u16) -> Option<Descriptor> {
    let local = registers.ldtr;
    let table = match selector & 4 == 0 {
        true => registers.gdtr,
        false if local.unusable || local.selector & !3 == 0 => return None,
        false => Table { base: local.base, limit: local.limit.min(0xFFFF) as u16 },
    };
    let at = u64::from(selector & !7);
    let mut bytes = [0; 16];
    let inside = (u64::from(table.limit) + 1).saturating_sub(at).min(16) as usize;
    let read = read_linear(registers, memory, table.base.wrapping_add(at), &mut bytes[..inside]);
    if read < 8 {
        return None;
    }
    let (low, long) = (value(&bytes, 0), is_long(registers));
    let is_wide = long && low >> 44 & 1 == 0 && low != 0;
    let high = if is_wide && read == 16 { value(&bytes, 8) } else { 0 };
    match Descriptor::decode(low, high, long) {
        Descriptor::Null if at != 0 => None,
        descriptor => Some(descriptor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::testing::Flat;

    #[test]
    fn the_usual_descriptors_read_as_in_the_manual() {
        let words = |low, high, long| Descriptor::decode(low, high, long).in_words();
        assert_eq!(words(0x00CF_9A00_0000_FFFF, 0, false), "code r-x 32 DPL0, base 0x0, limit 0xffffffff");
        assert_eq!(words(0x00AF_9A00_0000_FFFF, 0, true), "code r-x 64 DPL0, base 0x0, limit 0xffffffff");
        assert_eq!(words(0x0040_F300_1000_000F, 0, false), "data rw- 32 DPL3, base 0x1000, limit 0xf");
        assert_eq!(words(0x1000_8E00_0008_2345, 0, false), "interrupt gate 32, to 0008:10002345, DPL0");
        assert_eq!(
            words(0x8123_EF03_0010_4567, 0xFFFF_FFFF, true),
            "trap gate 64, to 0010:ffffffff81234567, DPL3, stack 3 of the TSS"
        );
        assert_eq!(words(0x0000_8500_0028_0000, 0, false), "task gate, to 0028, DPL0");
        assert_eq!(words(0, 0, true), "null");
    }

    #[test]
    fn system_descriptors_take_two_places_in_long_mode() {
        let mut memory = Flat::new(0x4000);
        memory.put(0x2008, 0x00AF_9A00_0000_FFFF, 8);
        memory.put(0x2010, 0x1200_8B34_5678_0067, 8);
        memory.put(0x2018, 0xFFFF_FFFF, 8);
        memory.put(0x2020, 0x00CF_F300_0000_FFFF, 8);
        let mut registers = Registers::reset();
        registers.efer = 1 << 10;
        registers.gdtr = Table { base: 0x2000, limit: 0x27 };
        let numbers: Vec<u16> = global_table(&registers, &memory).iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [0, 8, 0x10, 0x20]);
        let task = of_selector(&registers, &memory, 0x13).unwrap();
        assert_eq!(task, Descriptor::Segment { base: 0xFFFF_FFFF_1234_5678, limit: 0x67, attributes: 0x8B });
    }

    #[test]
    fn a_real_mode_vector_is_a_far_pointer() {
        let mut memory = Flat::new(0x1000);
        memory.put(0x10 * 4, 0xF000_1234, 4);
        let mut registers = Registers::reset();
        registers.idtr = Table { base: 0, limit: 0x3FF };
        let table = interrupt_table(&registers, &memory);
        assert_eq!(table.len(), 256);
        assert_eq!(table[0x10].descriptor.in_words(), "interrupt gate 16, to f000:1234, DPL3");
    }
}
