//! Descriptors and gates of a system case, read as the manual draws them (SDM 3A, figures 3-8, 5-8, 6-2, 6-8).

use super::system::{GDT, Guest, IDT, LDT};

/// One entry, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// All of its eight bytes.
    pub raw: u64,
    /// The eight behind it, if they are in the table.
    pub upper: Option<u64>,
    /// S: code or data.
    pub is_segment: bool,
    /// Type.
    pub kind: u8,
    /// DPL.
    pub dpl: u16,
    /// P.
    pub present: bool,
    /// L.
    pub is_long: bool,
    /// D.
    pub is_big: bool,
}

fn entry(raw: u64, upper: Option<u64>) -> Descriptor {
    Descriptor {
        raw,
        upper,
        is_segment: raw >> 44 & 1 != 0,
        kind: (raw >> 40 & 15) as u8,
        dpl: (raw >> 45 & 3) as u16,
        present: raw >> 47 & 1 != 0,
        is_long: raw >> 53 & 1 != 0,
        is_big: raw >> 54 & 1 != 0,
    }
}

/// The descriptor of a selector, if its table has it.
pub fn descriptor(guest: &Guest, selector: u16) -> Option<Descriptor> {
    let (base, limit) = if selector & 4 == 0 { (GDT, 0xFF) } else { (LDT, 0x7F) };
    let offset = u64::from(selector & !7);
    let read = |offset: u64| (offset + 7 <= limit).then(|| guest.quad(base + offset));
    read(offset).map(|raw| entry(raw, read(offset + 8)))
}

/// The gate of a vector outside real mode.
pub fn gate(guest: &Guest, vector: u8) -> Descriptor {
    let bytes = if guest.kind.is_long() { 16 } else { 8 };
    let at = IDT + bytes * u64::from(vector);
    entry(guest.quad(at), Some(guest.quad(at + 8)))
}

impl Descriptor {
    /// Code segment.
    pub fn is_code(&self) -> bool {
        self.is_segment && self.kind & 8 != 0
    }

    /// Conforming code segment.
    pub fn is_conforming(&self) -> bool {
        self.is_code() && self.kind & 4 != 0
    }

    /// Data segment that can be written.
    pub fn is_writable_data(&self) -> bool {
        self.is_segment && self.kind & 10 == 2
    }

    /// Data, or code that can be read.
    pub fn is_readable(&self) -> bool {
        self.is_segment && self.kind & 10 != 8
    }

    /// Base of a segment.
    pub fn base(&self) -> u64 {
        self.raw >> 16 & 0xFF_FFFF | self.raw >> 56 << 24
    }

    /// Limit of a segment in bytes.
    pub fn limit(&self) -> u64 {
        let limit = self.raw & 0xFFFF | self.raw >> 32 & 0xF_0000;
        if self.raw >> 55 & 1 != 0 { limit << 12 | 0xFFF } else { limit }
    }

    /// A gate's selector.
    pub fn selector(&self) -> u16 {
        (self.raw >> 16) as u16
    }
}
