//! Cases: one random instruction, or a sequence whose branches go forwards.

mod aim;

use iced_x86::{FlowControl, Instruction, Mnemonic};

use super::case::{Case, Item, Mode};
use super::catalogue::{Catalogue, Kind, is_vector};
use super::descriptors;
use super::encode::{self, Encoded};
use super::forms::decode;
use super::masks::{ARITHMETIC, read_by, undefined_after, why_not_compared, why_not_on_host, why_only_alone};
use super::random::Random;
use super::registers::Start;
use super::silicon;
use super::window::{BASE, CODE, CODE_END};

/// A branch whose displacement is still to be filled in.
struct Branch {
    item: usize,
    immediate: (usize, usize),
    /// The item it goes to.
    target: usize,
}

struct Builder<'a> {
    catalogue: &'a Catalogue,
    start: Start,
    mode: Mode,
    items: Vec<Item>,
    ip: u64,
    undefined: u64,
    branches: Vec<Branch>,
    /// Undefined flags that come in by a branch: target item, flags.
    joins: Vec<(usize, u64)>,
    pokes: Vec<(usize, Vec<u8>)>,
    has_vectors: bool,
}

/// How many instructions, of which kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// One of any kind.
    Single,
    /// Two to twelve, integer mostly.
    Sequence,
    /// String instructions with all their prefixes.
    Strings,
    /// Calls, returns, jumps, segment loads, stack.
    Transfers,
}

/// Makes a case; `None` when chance does not find one.
pub fn generate(catalogue: &Catalogue, plan: Plan, random: &mut Random) -> Option<Case> {
    let mode = catalogue.mode;
    let mut start = Start::new(mode, random);
    let count = match plan {
        Plan::Single | Plan::Strings => 1,
        Plan::Transfers => 1 + random.below(3),
        Plan::Sequence => 2 + random.below(11),
    };
    if plan == Plan::Strings {
        start.general[1] = if random.one_in(8) { random.value() } else { random.below(300) };
        start.general[0] = if random.one_in(2) { random.below(3) } else { random.value() };
        if mode != Mode::Bits64 {
            start.general[0] &= 0xFFFF_FFFF;
            start.general[1] &= 0xFFFF_FFFF;
        }
    }
    let code_at = match random.below(8) {
        _ if plan == Plan::Strings => CODE + random.below(0xE00) as usize,
        0 => CODE + 0x1000 - random.below(40) as usize,
        1 => CODE_END - 1 - random.below(40) as usize,
        2 => CODE + 0x1000 + random.below(0xE00) as usize,
        _ => CODE + random.below(0xE00) as usize,
    };
    let code_base = match mode {
        Mode::Bits64 => 0,
        _ => descriptors::segment(start.selectors[1]).base,
    };
    let mut builder = Builder {
        catalogue,
        ip: BASE + code_at as u64 - code_base,
        start,
        mode,
        items: Vec::new(),
        undefined: 0,
        branches: Vec::new(),
        joins: Vec::new(),
        pokes: Vec::new(),
        has_vectors: false,
    };
    for left in (0..count).rev() {
        let kind = match plan {
            Plan::Single => Kind::Any,
            Plan::Strings => Kind::String,
            Plan::Transfers => Kind::Transfer,
            Plan::Sequence => match random.below(20) {
                0..=6 => Kind::Hot,
                7..=10 => Kind::Reader,
                11 => Kind::Vector,
                12 => Kind::Transfer,
                _ => Kind::Integer,
            },
        };
        builder.add(kind, left as usize, random);
    }
    builder.finish(code_at, random)
}

impl Builder<'_> {
    fn add(&mut self, kind: Kind, left: usize, random: &mut Random) {
        for _ in 0..10 {
            let (code, template) = self.catalogue.choose(kind, random);
            let encoded = encode::encode(&template, code, &self.start, self.mode, self.ip, random);
            if let Some(encoded) = encoded
                && why_not_on_host(&encoded.instruction).is_none()
                && why_not_compared(&encoded.instruction, &encoded.bytes).is_none()
                && self.is_fit(&encoded.instruction, kind)
            {
                return self.place(encoded, left, random);
            }
        }
    }

    /// Whether what the instruction leaves undefined does not matter here.
    fn is_fit(&self, instruction: &Instruction, kind: Kind) -> bool {
        let is_shift = matches!(instruction.mnemonic(), Mnemonic::Shld | Mnemonic::Shrd);
        let is_alone = kind == Kind::Any;
        match why_only_alone(instruction, if is_alone { self.start.general[1] } else { 31 }) {
            Some(_) => is_alone && !is_shift,
            None => true,
        }
    }

    fn push(&mut self, bytes: Vec<u8>, instruction: Instruction) {
        let at = self.items.len();
        for &(target, undefined) in &self.joins {
            if target == at {
                self.undefined |= undefined;
            }
        }
        self.ip += bytes.len() as u64;
        let undefined = self.undefined;
        self.undefined = undefined_after(&instruction, undefined);
        self.items.push(Item { bytes, instruction, undefined });
    }

    /// Makes all flags defined: CMP of two registers.
    fn define_flags(&mut self, random: &mut Random) {
        let bytes = vec![0x39, 0xC0 | random.below(64) as u8];
        let instruction = decode(self.mode, &bytes, self.ip);
        self.push(bytes, instruction);
    }

    fn place(&mut self, encoded: Encoded, left: usize, random: &mut Random) {
        let at = self.items.len();
        let joined = self.joins.iter().filter(|join| join.0 == at).fold(0, |all, join| all | join.1);
        let looks = read_by(&encoded.instruction);
        let looks = if branches(&encoded.instruction) { looks | ARITHMETIC } else { looks };
        let mut encoded = encoded;
        if looks & (self.undefined | joined) != 0 {
            self.define_flags(random);
            // the displacement of a RIP-relative operand moves with it: no matter, but what is shown would
            encoded.instruction = decode(self.mode, &encoded.bytes, self.ip);
        }
        self.aim(&mut encoded, left, random);
        self.has_vectors |= is_vector(encoded.instruction.code());
        self.push(encoded.bytes, encoded.instruction);
    }

    fn finish(mut self, code_at: usize, random: &mut Random) -> Option<Case> {
        if self.items.is_empty() {
            return None;
        }
        let mut ends = Vec::with_capacity(self.items.len() + 1);
        let mut ip = self.ip - self.items.iter().map(|item| item.bytes.len() as u64).sum::<u64>();
        let first = ip;
        for item in &self.items {
            ip += item.bytes.len() as u64;
            ends.push(ip);
        }
        for branch in &self.branches {
            let target = branch.target.min(self.items.len());
            let to = if target == 0 { first } else { ends[target - 1] };
            let distance = to.wrapping_sub(ends[branch.item]).to_le_bytes();
            let (at, bytes) = branch.immediate;
            let item = &mut self.items[branch.item];
            item.bytes[at..at + bytes].copy_from_slice(&distance[..bytes]);
            let length = item.bytes.len() as u64;
            item.instruction = decode(self.mode, &item.bytes, ends[branch.item] - length);
        }
        for &(target, undefined) in &self.joins {
            if target >= self.items.len() {
                self.undefined |= undefined;
            }
        }
        let repeats = |item: &Item| item.instruction.is_string_instruction();
        if code_at + 256 > CODE + 0x1000 && self.items.iter().any(repeats) {
            return None; // whether a repetition that overwrites itself goes on is nobody's promise
        }
        let code: usize = self.items.iter().map(|item| item.bytes.len()).sum();
        if code_at + code > CODE_END {
            // it runs into the page that is not there
            let mut at = code_at;
            let fits = self.items.iter().take_while(|item| {
                at += item.bytes.len();
                at <= CODE_END
            });
            let fits = fits.count();
            self.undefined = ARITHMETIC;
            self.items.truncate(fits);
            if self.items.is_empty() {
                return None;
            }
        }
        let fpu = self.has_vectors.then(|| {
            let unmasked = random.one_in(4);
            let mut area = Box::new(silicon::random::area(unmasked, random));
            for item in &self.items {
                silicon::random::fit_vector_index(&item.instruction, &mut area, random);
            }
            area
        });
        Some(Case {
            mode: self.mode,
            general: self.start.general,
            flags: self.start.flags,
            selectors: self.start.selectors,
            bases: self.start.bases,
            fpu,
            code_at,
            items: self.items,
            pokes: self.pokes,
            undefined_at_end: self.undefined,
        })
    }
}

/// Whether the instruction goes elsewhere.
fn branches(instruction: &Instruction) -> bool {
    !matches!(instruction.flow_control(), FlowControl::Next)
}
