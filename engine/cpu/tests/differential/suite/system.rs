//! Cases of whole guests: system instructions, gates and mode changes, on descriptor tables full of chance. Every
//! exception has a handler that halts where its vector shows.

use cpu::registers::segment;
use cpu::{Registers, Segment, Table};

use super::case::Mode;
use super::random::Random;

/// Bytes of guest memory.
pub const BYTES: usize = 0x4_0000;
/// Page tables of the modes that page: one large page.
const TABLES: u64 = 0x1000;
/// GDT, of 32 entries.
pub const GDT: u64 = 0x5000;
/// LDT, of 16 entries.
pub const LDT: u64 = 0x5200;
const TSS: u64 = 0x5400;
/// IDT, of 256 entries.
pub const IDT: u64 = 0x6000;
/// HLT for each vector, sixteen bytes apart.
pub const HANDLERS: u64 = 0x7000;
/// One page of stack for each ring, from here.
const STACKS: u64 = 0x8000;
/// Code, and HLT all around it.
pub const CODE: u64 = 0xC000;
const DATA: u64 = 0xD000;
const TSS_2: u64 = 0xE000;

/// Code segments 0 and 3, data segments 0 and 3 at fixed places, TSS and LDT behind.
const CODE_0: u16 = 0x08;
const DATA_0: u16 = 0x10;
const CODE_3: u16 = 0x1B;
const DATA_3: u16 = 0x23;
const TASK: u16 = 0x28;
const LOCAL: u16 = 0x38;
/// First descriptor left to chance.
const FREE: u64 = 10;
/// Handlers' code: 64-bit in long mode.
pub const HANDLER: u16 = 0x48;

/// What the guest runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Real mode.
    Real,
    /// Protected mode, 16-bit code.
    Protected16,
    /// Protected mode, 32-bit code.
    Protected32,
    /// Virtual-8086 mode.
    Virtual8086,
    /// Long mode, 32-bit code.
    Compatibility,
    /// 64-bit.
    Long,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [
        Kind::Real,
        Kind::Protected16,
        Kind::Protected32,
        Kind::Virtual8086,
        Kind::Compatibility,
        Kind::Long,
    ];

    /// IA-32e mode.
    pub fn is_long(self) -> bool {
        matches!(self, Kind::Compatibility | Kind::Long)
    }

    /// The mode of code it is.
    pub fn mode(self) -> Mode {
        match self.bits() {
            16 => Mode::Bits16,
            32 => Mode::Bits32,
            _ => Mode::Bits64,
        }
    }

    /// Operand size of the code.
    pub fn bits(self) -> u32 {
        match self {
            Kind::Real | Kind::Protected16 | Kind::Virtual8086 => 16,
            Kind::Protected32 | Kind::Compatibility => 32,
            Kind::Long => 64,
        }
    }
}

/// A guest before it runs.
pub struct Guest {
    /// What it runs in.
    pub kind: Kind,
    /// All its registers.
    pub registers: Registers,
    /// All its memory.
    pub memory: Vec<u8>,
}

/// A code or data descriptor, or a system segment.
fn descriptor(base: u64, limit: u64, access: u64, high: u64) -> u64 {
    limit & 0xFFFF
        | (base & 0xFF_FFFF) << 16
        | access << 40
        | (limit >> 16 & 15) << 48
        | high << 52
        | (base >> 24 & 0xFF) << 56
}

fn gate(selector: u16, offset: u64, access: u64, parameters: u64) -> u64 {
    offset & 0xFFFF
        | u64::from(selector) << 16
        | parameters << 32
        | access << 40
        | (offset >> 16 & 0xFFFF) << 48
}

/// A selector of any kind.
pub fn any_selector(random: &mut Random) -> u16 {
    let entry = random.below(34) as u16;
    let table = if random.one_in(4) { 4 } else { 0 };
    entry << 3 | table | random.below(4) as u16
}

fn random_descriptor(kind: Kind, random: &mut Random) -> u64 {
    let present = if random.one_in(8) { 0 } else { 0x80 };
    let access = present | random.below(4) << 5;
    if random.below(4) != 0 {
        let base = if random.one_in(4) { DATA } else { 0 };
        let (limit, granular) =
            random.pick(&[(0xF_FFFFu64, 8u64), (0xF_FFFF, 8), (0xFFFF, 0), (0x7FF, 0), (0, 0)]);
        let long = if kind.is_long() && random.one_in(2) { 2 } else { 0 };
        let big = if random.one_in(3) && long == 0 { 0 } else { 4 - 2 * long };
        return descriptor(base, limit, access | 0x10 | random.below(16), granular | long | big & 4);
    }
    let kind_of_system = random.below(16);
    match kind_of_system {
        4..=7 | 12 | 14 | 15 => {
            let selector =
                if random.one_in(2) { any_selector(random) } else { CODE_0 | random.below(4) as u16 };
            let selector = if kind_of_system == 5 { any_selector(random) } else { selector };
            gate(selector, CODE + 0x100, access | kind_of_system, random.below(4))
        }
        1 | 3 | 9 | 11 => {
            let limit = random.pick(&[0x67, 0x67, 0x80, 0x2B, 0x10]);
            descriptor(TSS_2, limit, access | kind_of_system, 0)
        }
        2 => descriptor(LDT, 0x7F, access | 2, 0),
        other => descriptor(DATA, 0xFFF, access | other, 0),
    }
}

impl Guest {
    /// CPL it begins with.
    pub fn cpl(&self) -> u16 {
        match self.kind {
            Kind::Real => 0,
            Kind::Virtual8086 => 3,
            _ => self.registers.segments[segment::CS].selector & 3,
        }
    }

    /// EFLAGS.IOPL.
    pub fn iopl(&self) -> u64 {
        self.registers.rflags >> 12 & 3
    }

    /// The code.
    pub fn code(&self) -> &[u8] {
        &self.memory[CODE as usize..CODE as usize + 16]
    }

    /// A word of memory.
    pub fn word(&self, at: u64) -> u16 {
        self.quad(at) as u16
    }

    /// A quadword of memory.
    pub fn quad(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.memory[at as usize..at as usize + 8]);
        u64::from_le_bytes(bytes)
    }

    /// Tables, stacks and registers; `cpl` 0 or 3 where the mode has both.
    pub fn new(kind: Kind, cpl: u8, random: &mut Random) -> Guest {
        let mut guest = Guest { kind, registers: Registers::reset(), memory: vec![0; BYTES] };
        guest.memory[CODE as usize..CODE as usize + 0x1000].fill(0xF4);
        guest.memory[HANDLERS as usize..HANDLERS as usize + 0x1000].fill(0xF4);
        guest.descriptors(random);
        guest.interrupts(random);
        guest.tasks(random);
        guest.pages();
        guest.start(cpl, random);
        guest
    }

    /// Puts bytes into memory.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn put64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    fn descriptors(&mut self, random: &mut Random) {
        let code = if self.kind == Kind::Long { 0xA } else { 0xC };
        let code = if self.kind == Kind::Protected16 { 0x8 } else { code };
        let local = if self.kind.is_long() { 0x5200 } else { LDT };
        for (selector, value) in [
            (CODE_0, descriptor(0, 0xF_FFFF, 0x9B, code)),
            (DATA_0, descriptor(0, 0xF_FFFF, 0x93, 0xC)),
            (CODE_3, descriptor(0, 0xF_FFFF, 0xFB, code)),
            (DATA_3, descriptor(0, 0xF_FFFF, 0xF3, 0xC)),
            (TASK, descriptor(TSS, 0x87, 0x8B, 0)),
            (LOCAL, descriptor(local, 0x7F, 0x82, 0)),
            (HANDLER, descriptor(0, 0xF_FFFF, 0x9B, if self.kind.is_long() { 0xA } else { 0xC })),
        ] {
            self.put64(GDT + u64::from(selector & !7), value);
        }
        for entry in FREE..32 {
            let value = random_descriptor(self.kind, random);
            self.put64(GDT + 8 * entry, value);
            let is_wide = self.kind.is_long() && value >> 44 & 1 == 0;
            if is_wide && entry % 2 == 1 && entry < 31 && !random.one_in(8) {
                self.put64(GDT + 8 * entry + 8, 0);
            }
        }
        for entry in 0..16 {
            let value = random_descriptor(self.kind, random);
            self.put64(LDT + 8 * entry, value);
        }
    }

    fn interrupts(&mut self, random: &mut Random) {
        for vector in 0..256u64 {
            let own = HANDLERS + 16 * (vector & 63);
            let chance = vector >= 32;
            let selector = if chance && random.one_in(2) { any_selector(random) } else { HANDLER };
            let access = if chance {
                let present = if random.one_in(8) { 0 } else { 0x80 };
                present | random.below(4) << 5 | random.pick(&[14, 15, 14, 15, 5, 6, 7, 12, 0, 9])
            } else {
                0x8E
            };
            let parameters =
                if self.kind.is_long() && chance { random.below(3) * random.below(2) } else { 0 };
            let entry = gate(selector, own, access, parameters);
            match self.kind {
                Kind::Real => {
                    self.put(IDT + 4 * vector, &(own as u32).to_le_bytes());
                }
                _ if self.kind.is_long() => {
                    self.put64(IDT + 16 * vector, entry);
                    self.put64(IDT + 16 * vector + 8, 0);
                }
                _ => self.put64(IDT + 8 * vector, entry),
            }
        }
    }

    fn tasks(&mut self, random: &mut Random) {
        if self.kind.is_long() {
            for ring in 0..3 {
                self.put64(TSS + 4 + 8 * ring, STACKS + 0x1000 * ring + 0xF00);
            }
            for ist in 0..7 {
                self.put64(TSS + 0x24 + 8 * ist, STACKS + 0x800 + 0x10 * ist);
            }
        } else {
            for ring in 0..3u64 {
                self.put64(TSS + 4 + 8 * ring, (STACKS + 0x1000 * ring + 0xF00) | (0x10 + ring) << 32);
            }
            self.put64(TSS + 8, u64::from(DATA_0));
            self.put64(TSS + 4, (STACKS + 0xF00) | u64::from(DATA_0) << 32);
        }
        self.put(TSS + 0x66, &0x68u16.to_le_bytes()); // the I/O permission map follows
        self.put(TSS + 0x68, &[0xFF; 0x20]);
        let at = |index: u64| TSS_2 + index;
        self.put(at(0), &[0; 0x68]);
        self.put(at(0x20), &(CODE as u32 + 0x200).to_le_bytes());
        self.put(at(0x24), &(random.next() as u32 & 0x1CD5 | 2).to_le_bytes());
        self.put(at(0x38), &(STACKS as u32 + 0xE00).to_le_bytes());
        let segments = [DATA_0, CODE_0, DATA_0, DATA_0, DATA_0, DATA_0];
        for (n, selector) in segments.into_iter().enumerate() {
            let selector = if random.one_in(10) { any_selector(random) } else { selector };
            self.put(at(0x48 + 4 * n as u64), &selector.to_le_bytes());
        }
        self.put(at(0x60), &if random.one_in(4) { LOCAL } else { 0 }.to_le_bytes());
        self.put(at(0x66), &0x68u16.to_le_bytes());
    }

    fn pages(&mut self) {
        self.put64(TABLES, 0x2007);
        self.put64(0x2000, 0x3007);
        self.put64(0x3000, 0xE7);
    }

    fn start(&mut self, cpl: u8, random: &mut Random) {
        let is_user = cpl == 3;
        let r = &mut self.registers;
        r.general = std::array::from_fn(|_| random.value());
        r.general[4] = STACKS + 0x1000 * u64::from(cpl) + 0x800;
        r.rip = CODE;
        r.rflags = 0x2 | random.next() & 0x8D5;
        r.gdtr = Table { base: GDT, limit: 0xFF };
        r.idtr = Table { base: IDT, limit: 0xFFF };
        r.cr0 = 0x31;
        r.cr4 = 0x600;
        r.debug[5] = 0x400;
        let dpl = if is_user { 0x60 } else { 0 };
        let flat = |selector: u16, attributes: u16| Segment {
            selector,
            base: 0,
            limit: u32::MAX,
            attributes: attributes | dpl,
            unusable: false,
        };
        let (code, data) = if is_user { (CODE_3, DATA_3) } else { (CODE_0, DATA_0) };
        r.segments = [flat(data, 0xC093); 6];
        r.segments[segment::CS] = match self.kind {
            Kind::Long => flat(code, 0xA09B),
            Kind::Protected16 => flat(code, 0x809B),
            _ => flat(code, 0xC09B),
        };
        r.tr = Segment { selector: TASK, base: TSS, limit: 0x87, attributes: 0x8B, unusable: false };
        r.ldtr = Segment { selector: LOCAL, base: LDT, limit: 0x7F, attributes: 0x82, unusable: false };
        match self.kind {
            Kind::Real => {
                r.cr0 = 0x30;
                r.segments = [Segment::real(0); 6];
                r.segments[segment::CS].attributes = 0x9B;
                r.general[4] = STACKS + 0x800;
                r.idtr.limit = 0x3FF;
            }
            Kind::Virtual8086 => {
                r.rflags |= 1 << 17 | random.below(4) << 12;
                r.segments = [Segment { attributes: 0xF3, ..Segment::real(0) }; 6];
                r.general[4] = STACKS + 0x800;
            }
            _ => {}
        }
        if self.kind.is_long() {
            r.cr0 |= 1 << 31;
            r.cr3 = TABLES;
            r.cr4 |= 1 << 5;
            r.efer = 0xD01;
        }
        let m = &mut r.msrs;
        m.sysenter_cs = u64::from(CODE_0);
        (m.sysenter_esp, m.sysenter_eip) = (STACKS + 0xA00, CODE + 0x300);
        m.star = 0x0013_0008_0000_C340;
        (m.lstar, m.cstar, m.fmask) = (CODE + 0x340, CODE + 0x380, random.next() & 0xFFF);
    }
}
