//! One case: code, and everything it starts from; and what is left after it.

use std::fmt;

use cpu::registers::Fpu;
use iced_x86::{Code, Instruction};

use super::descriptors;
use super::masks::ARITHMETIC;

/// What kind of code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// 64-bit.
    Bits64,
    /// 32-bit, in compatibility mode.
    Bits32,
    /// 16-bit, in compatibility mode.
    Bits16,
}

impl Mode {
    /// For a decoder.
    pub fn bits(self) -> u32 {
        match self {
            Mode::Bits64 => 64,
            Mode::Bits32 => 32,
            Mode::Bits16 => 16,
        }
    }
}

/// One instruction of a case.
#[derive(Clone)]
pub struct Item {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The same decoded.
    pub instruction: Instruction,
    /// Arithmetic flags that are undefined before it.
    pub undefined: u64,
}

/// A case before it runs.
#[derive(Clone)]
pub struct Case {
    /// Kind of code.
    pub mode: Mode,
    /// RAX to R15 in encoding order.
    pub general: [u64; 16],
    /// EFLAGS.
    pub flags: u64,
    /// ES, CS, SS, DS, FS, GS.
    pub selectors: [u16; 6],
    /// FS and GS bases of 64-bit code.
    pub bases: [u64; 2],
    /// x87, SSE and AVX state in XSAVE layout, if any of it matters.
    pub fpu: Option<Box<[u8; 832]>>,
    /// Where the code begins in the window.
    pub code_at: usize,
    /// The instructions; HLT follows.
    pub items: Vec<Item>,
    /// Bytes put into the window first.
    pub pokes: Vec<(usize, Vec<u8>)>,
    /// Undefined flags behind the last instruction.
    pub undefined_at_end: u64,
}

/// What a case ends with: always an exception.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// RAX to R15 in encoding order.
    pub general: [u64; 16],
    /// RIP.
    pub rip: u64,
    /// EFLAGS.
    pub flags: u64,
    /// ES, CS, SS, DS, FS, GS.
    pub selectors: [u16; 6],
    /// FS and GS bases.
    pub bases: [u64; 2],
    /// Vector of the exception.
    pub vector: u8,
    /// Its error code, or 0.
    pub error: u64,
    /// CR2 of a page fault, else 0.
    pub address: u64,
    /// x87, SSE and AVX state.
    pub fpu: Option<Box<Fpu>>,
}

/// Bits of RFLAGS that are compared: all user code can see, but RF.
pub const FLAGS: u64 = 0x0024_7FD7;

impl Case {
    /// The instruction's bytes one after the other.
    pub fn code(&self) -> Vec<u8> {
        self.items.iter().flat_map(|item| item.bytes.iter().copied()).collect()
    }

    /// Linear address of the first instruction less its offset in the code segment.
    pub fn code_base(&self) -> u64 {
        match self.mode {
            Mode::Bits64 => 0,
            _ => descriptors::segment(self.selectors[1]).base,
        }
    }

    /// The instruction pointer the case begins with.
    pub fn ip(&self) -> u64 {
        super::window::BASE + self.code_at as u64 - self.code_base()
    }

    /// The instruction codes in it.
    pub fn codes(&self) -> impl Iterator<Item = Code> {
        self.items.iter().map(|item| item.instruction.code())
    }

    /// The instruction at `rip`.
    pub fn item_at(&self, rip: u64) -> Option<&Item> {
        let mut at = self.ip();
        self.items.iter().find(|item| {
            let here = at;
            at += item.bytes.len() as u64;
            here == rip
        })
    }

    /// Whether code at `rip` of a segment is in the case's own code, but not as it was looked at: in the middle of
    /// an instruction, or in another mode.
    pub fn is_astray(&self, selector: u16, rip: u64) -> bool {
        let (base, mode) = descriptors::code_segment(selector);
        let offset = rip.wrapping_add(base).wrapping_sub(super::window::BASE + self.code_at as u64);
        let mut at = 0;
        let begins = self.items.iter().any(|item| {
            let here = at;
            at += item.bytes.len() as u64;
            here == offset
        });
        offset < at && !(begins && mode == self.mode)
    }

    /// The instruction an outcome is at, whichever segment names it.
    pub fn item_of(&self, outcome: &Outcome) -> Option<&Item> {
        let (base, _) = descriptors::code_segment(outcome.selectors[1]);
        self.item_at(outcome.rip.wrapping_add(base).wrapping_sub(self.code_base()))
    }

    /// The same with the instructions that are in the window now: code may have changed itself.
    pub fn with_code(&self, window: &[u8]) -> Case {
        let mut case = self.clone();
        let (mut at, mut ip) = (case.code_at, case.ip());
        for item in &mut case.items {
            if !window[at..].starts_with(&item.bytes) {
                let bytes = &window[at..window.len().min(at + 15)];
                item.instruction = super::forms::decode(case.mode, bytes, ip);
            }
            at += item.bytes.len();
            ip += item.bytes.len() as u64;
        }
        case
    }

    /// Flags that are undefined at `rip`.
    pub fn undefined_at(&self, rip: u64) -> u64 {
        let mut at = self.ip();
        for item in &self.items {
            if at == rip {
                return item.undefined;
            }
            at += item.bytes.len() as u64;
        }
        // elsewhere: a branch led into the middle of an instruction, and who knows through what
        if at == rip { self.undefined_at_end } else { ARITHMETIC }
    }
}

impl Outcome {
    /// Takes out what cannot or need not agree: `undefined` flags, x87 pointers, the halves of registers that
    /// 32-bit code does not have, whether kernel memory is mapped.
    pub fn normalised(mut self, case: &Case, undefined: u64) -> Outcome {
        self.flags &= FLAGS & !undefined;
        if self.selectors[1] != descriptors::CODE_64 {
            self.general.iter_mut().for_each(|value| *value &= 0xFFFF_FFFF);
            self.bases = [0; 2]; // hidden
        }
        if case.mode != Mode::Bits64 {
            self.general[8..].fill(0);
        }
        for segment in [0, 3, 4, 5] {
            if self.selectors[segment] < 4 {
                self.selectors[segment] = 0; // the way out of the kernel clears the RPL of null selectors
            }
        }
        // the kernel's half, and the page below it that Linux keeps empty
        if self.vector == 14 && self.address >= 0x7FFF_FFFF_F000 {
            self.error &= !1;
        }
        if let Some(fpu) = &mut self.fpu {
            (fpu.opcode, fpu.instruction, fpu.data) = (0, 0, 0);
        }
        self
    }
}

impl Outcome {
    /// The exception in short.
    pub fn ending(&self) -> String {
        let error = if matches!(self.error, 0..=7) { self.error.to_string() } else { "selector".into() };
        format!("#{}({error})", self.vector)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ip = self.ip();
        for item in &self.items {
            let bytes: String = item.bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
            let (code, undefined) = (item.instruction.code(), item.undefined);
            let lines = format!("  {ip:#x}: {bytes:34} {}", item.instruction);
            writeln!(f, "{lines:85} {code:?}, undefined {undefined:#x}")?;
            ip += item.bytes.len() as u64;
        }
        writeln!(f, "before: general {:x?}", self.general)?;
        let (selectors, bases) = (self.selectors, self.bases);
        writeln!(f, "  flags {:#x} selectors {selectors:x?} bases {bases:x?}", self.flags)?;
        for (at, bytes) in &self.pokes {
            writeln!(f, "  window[{at:#x}] = {bytes:02x?}")?;
        }
        if let Some(area) = &self.fpu {
            writeln!(f, "  xsave {:02x?}", &area[..])?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vector {} error {:#x} address {:#x} ", self.vector, self.error, self.address)?;
        write!(f, "rip {:#x} flags {:#x} selectors {:x?} ", self.rip, self.flags, self.selectors)?;
        write!(f, "bases {:x?}\n  general {:x?}", self.bases, self.general)
    }
}
