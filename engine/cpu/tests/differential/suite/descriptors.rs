//! Segment descriptors random code finds: Linux's user-visible GDT entries, and an LDT of our own.

use cpu::Segment;

use super::case::Mode;

/// Entry of the local descriptor table as `modify_ldt` takes it.
#[derive(Clone, Copy)]
pub struct Local {
    base: u32,
    limit: u32,
    /// Descriptor type without the accessed bit: 0 data, 2 code (doubled for expand-down, conforming).
    contents: u32,
    big: bool,
    pages: bool,
    fixed: bool,
    present: bool,
}

const WINDOW: u32 = super::window::BASE as u32;

const fn data(base: u32, limit: u32, big: bool) -> Local {
    Local { base, limit, contents: 0, big, pages: false, fixed: false, present: true }
}

const fn code(base: u32, limit: u32, big: bool, pages: bool) -> Local {
    Local { base, limit, contents: 2, big, pages, fixed: false, present: true }
}

/// The LDT, from entry 0.
pub const LDT: [Local; 14] = [
    code(WINDOW, 0xFFFF, false, false),
    code(0, 0xF_FFFF, true, true),
    code(WINDOW, 0xFFFF, true, false),
    data(WINDOW, 0xFFFF, false),
    Local { pages: true, ..data(0, 0xF_FFFF, true) },
    data(WINDOW, 0xFFFF, true),
    Local { fixed: true, ..data(WINDOW, 0x7FFF, true) },
    Local { contents: 1, ..data(WINDOW, 0x3FFF, true) },
    Local { contents: 1, ..data(WINDOW, 0x3FFF, false) },
    Local { present: false, ..data(WINDOW, 0xFFFF, true) },
    Local { fixed: true, ..code(WINDOW, 0xFFFF, false, false) },
    data(WINDOW + 0x1234, 0x9FFF, true),
    Local { present: false, ..code(WINDOW, 0xFFFF, true, false) },
    Local { pages: true, ..data(WINDOW, 0xF, true) },
];

/// Selector of an LDT entry, RPL 3.
pub const fn local(entry: u16) -> u16 {
    entry << 3 | 7
}

/// 16-bit code at the window.
pub const CODE_16: u16 = local(0);
/// 32-bit code selectors: Linux's, flat, and one at the window.
pub const CODES_32: [u16; 3] = [0x23, local(1), local(2)];
/// Data segments that begin at the window or at 0 and reach all of it.
pub const DATA: [u16; 5] = [0x2B, local(3), local(4), local(5), local(13)];
/// Linux's 64-bit user code.
pub const CODE_64: u16 = 0x33;
/// Selectors worth loading.
pub const ANY: [u16; 24] = [
    0,
    3,
    0x23,
    0x2B,
    0x33,
    0x10,
    0x18,
    0x7B,
    local(0),
    local(1),
    local(2),
    local(3),
    local(4),
    local(5),
    local(6),
    local(7),
    local(8),
    local(9),
    local(10),
    local(11),
    local(12),
    local(13),
    local(14),
    local(3) & !3,
];

impl Local {
    /// `struct user_desc` of `modify_ldt(2)`.
    pub fn user_desc(&self, entry: u32) -> [u32; 4] {
        let flags = u32::from(self.big)
            | self.contents << 1
            | u32::from(self.fixed) << 3
            | u32::from(self.pages) << 4
            | u32::from(!self.present) << 5
            | 1 << 6;
        [entry, self.base, self.limit, flags]
    }

    /// The descriptor Linux makes of it: DPL 3, accessed.
    pub fn descriptor(&self) -> u64 {
        let kind = 1 | u64::from(!self.fixed) << 1 | u64::from(self.contents) << 2;
        let high = u64::from(self.pages) << 3 | u64::from(self.big) << 2 | 1;
        descriptor(self.base, self.limit, kind | 0x70 | u64::from(self.present) << 7, high)
    }
}

fn descriptor(base: u32, limit: u32, access: u64, high: u64) -> u64 {
    u64::from(limit & 0xFFFF)
        | u64::from(base & 0xFF_FFFF) << 16
        | access << 40
        | u64::from(limit >> 16) << 48
        | high << 52
        | u64::from(base >> 24) << 56
}

/// Linux's GDT as user code can tell it (arch/x86/include/asm/segment.h): entries 1 to 6, and the per-CPU one.
pub fn gdt() -> [u64; 16] {
    let mut gdt = [0; 16];
    gdt[1] = 0x00CF_9B00_0000_FFFF;
    gdt[2] = 0x00AF_9B00_0000_FFFF;
    gdt[3] = 0x00CF_9300_0000_FFFF;
    gdt[4] = 0x00CF_FB00_0000_FFFF;
    gdt[5] = 0x00CF_F300_0000_FFFF;
    gdt[6] = 0x00AF_FB00_0000_FFFF;
    gdt[15] = descriptor(0, 0, 0xF5, 4);
    gdt
}

/// Base and mode of the code of a selector.
pub fn code_segment(selector: u16) -> (u64, Mode) {
    let segment = segment(selector);
    match selector {
        CODE_64 => (0, Mode::Bits64),
        _ if segment.is_big() => (segment.base, Mode::Bits32),
        _ => (segment.base, Mode::Bits16),
    }
}

/// The segment register that holds this selector; unusable for null and what cannot be loaded.
pub fn segment(selector: u16) -> Segment {
    let entry = usize::from(selector >> 3);
    let found = match selector & 4 != 0 {
        true => LDT.get(entry).map_or(0, Local::descriptor),
        false => gdt().get(entry).copied().unwrap_or(0),
    };
    if found == 0 {
        return Segment { selector, unusable: true, ..Segment::default() };
    }
    let attributes = (found >> 40) as u16 & 0xF0FF;
    let limit = (found & 0xFFFF | found >> 32 & 0xF_0000) as u32;
    let limit = if attributes & 0x8000 != 0 { limit << 12 | 0xFFF } else { limit };
    let base = found >> 16 & 0xFF_FFFF | found >> 56 << 24;
    Segment { selector, base, limit, attributes, unusable: false }
}
