//! Cases: one random instruction, or a sequence whose branches go forwards.

use iced_x86::{Code, FlowControl, Instruction, Mnemonic, OpKind};

use super::case::{Case, Item, Mode};
use super::catalogue::{Catalogue, Kind};
use super::descriptors;
use super::encode::{self, Encoded};
use super::forms::decode;
use super::masks::{ARITHMETIC, read_by, undefined_after, why_not_compared, why_not_on_host};
use super::random::Random;
use super::registers::Start;
use super::silicon;
use super::window::{BASE, BYTES, CODE, CODE_END, STACK, STACK_BYTES};

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
            {
                return self.place(encoded, left, random);
            }
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
        self.has_vectors |= encoded.instruction.is_vector();
        self.push(encoded.bytes, encoded.instruction);
    }

    /// Gives branches, returns and operands something to find.
    fn aim(&mut self, encoded: &mut Encoded, left: usize, random: &mut Random) {
        let instruction = encoded.instruction;
        match instruction.op0_kind() {
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                let Some(immediate) = encoded.immediate else { return };
                let item = self.items.len();
                let target = item + 1 + random.below(left.min(3) as u64 + 1) as usize;
                if !random.one_in(30) {
                    self.branches.push(Branch { item, immediate, target });
                }
                self.joins.push((target, self.undefined));
                return;
            }
            OpKind::FarBranch16 | OpKind::FarBranch32 => {
                let Some((at, _)) = encoded.immediate else { return };
                let (selector, offset) = self.far_target(random);
                let bytes = if instruction.op0_kind() == OpKind::FarBranch16 { 2 } else { 4 };
                if !random.one_in(8) {
                    encoded.bytes[at..at + bytes].copy_from_slice(&offset.to_le_bytes()[..bytes]);
                    let selector_at = encoded.bytes.len() - 2;
                    encoded.bytes[selector_at..].copy_from_slice(&selector.to_le_bytes());
                    encoded.instruction = decode(self.mode, &encoded.bytes, self.ip);
                }
                return;
            }
            _ => {}
        }
        if let Some(at) = encoded.operand {
            self.poke_operand(&instruction, at, random);
        }
        if matches!(instruction.flow_control(), FlowControl::Return) {
            self.poke_frame(&instruction, random);
        }
        if instruction.is_call_near_indirect() | instruction.is_jmp_near_indirect()
            && instruction.op0_kind() == OpKind::Register
            && random.one_in(2)
        {
            let register =
                instruction.op0_register().full_register() as usize - iced_x86::Register::RAX as usize;
            if register != 4 {
                self.start.general[register] = self.near_target(random);
            }
        }
    }

    fn near_target(&self, random: &mut Random) -> u64 {
        (self.ip & !0xFFF) + random.below(0x1000)
    }

    fn far_target(&self, random: &mut Random) -> (u16, u64) {
        // with a stack base, where a call to 64-bit code pushes is the maker's: before or after the switch
        let stack_base = super::registers::base(self.mode, &self.start.selectors, &self.start.bases, 2);
        let selector = match random.below(6) {
            0 => Some(random.pick(&descriptors::ANY)).filter(|&any| any != descriptors::CODE_64).unwrap_or(0),
            1 if stack_base == 0 => descriptors::CODE_64,
            2 => descriptors::CODE_16,
            _ => random.pick(&descriptors::CODES_32),
        };
        let linear = BASE + CODE as u64 + random.below(0x1000);
        (selector, linear.wrapping_sub(descriptors::segment(selector).base))
    }

    fn poke(&mut self, at: usize, bytes: &[u8]) {
        if at < BYTES
            && super::window::RIGHTS[at >> 12] != super::window::Rights::Absent
            && at + bytes.len() <= (at & !0xFFF) + 0x1000
            && !(CODE..CODE_END).contains(&at)
        {
            self.pokes.push((at, bytes.to_vec()));
        }
    }

    fn poke_operand(&mut self, instruction: &Instruction, at: usize, random: &mut Random) {
        use FlowControl::{Call, IndirectBranch, IndirectCall, UnconditionalBranch};
        match instruction.flow_control() {
            IndirectBranch | IndirectCall | UnconditionalBranch | Call => {
                let far = instruction.is_jmp_far_indirect() || instruction.is_call_far_indirect();
                if far {
                    let (selector, offset) = self.far_target(random);
                    let offset_bytes = instruction.memory_size().size() - 2;
                    let mut bytes = offset.to_le_bytes()[..offset_bytes].to_vec();
                    bytes.extend(selector.to_le_bytes());
                    self.poke(at, &bytes);
                } else {
                    let target = self.near_target(random);
                    self.poke(at, &target.to_le_bytes());
                }
            }
            _ if matches!(
                instruction.mnemonic(),
                Mnemonic::Lds
                    | Mnemonic::Les
                    | Mnemonic::Lfs
                    | Mnemonic::Lgs
                    | Mnemonic::Lss
                    | Mnemonic::Mov
                    | Mnemonic::Pop
            ) && random.one_in(2) =>
            {
                let selector = random.pick(&descriptors::ANY).to_le_bytes();
                let size = instruction.memory_size().size();
                let offset = if matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Pop) {
                    0
                } else {
                    size.saturating_sub(2)
                };
                self.poke(at + offset, &selector);
            }
            _ if instruction.is_vector() => {
                let bytes = silicon::random::lanes(random);
                self.poke(at, &bytes);
            }
            _ if random.one_in(2) => {
                let value = random.value().to_le_bytes();
                self.poke(at, &value);
            }
            _ => {}
        }
    }

    /// Puts a return frame where the stack pointer is at the start.
    fn poke_frame(&mut self, instruction: &Instruction, random: &mut Random) {
        let mnemonic = instruction.mnemonic();
        let is_interrupt = matches!(mnemonic, Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq);
        let is_far = is_interrupt || mnemonic == Mnemonic::Retf;
        let bytes = match instruction.code() {
            Code::Iretw | Code::Retfw | Code::Retfw_imm16 | Code::Retnw | Code::Retnw_imm16 => 2,
            Code::Iretq | Code::Retfq | Code::Retfq_imm16 | Code::Retnq | Code::Retnq_imm16 => 8,
            _ => 4,
        };
        let (selector, offset) = self.far_target(random);
        let target = if is_far { offset } else { self.near_target(random) };
        let stack_base = super::registers::base(self.mode, &self.start.selectors, &self.start.bases, 2);
        let stack = self.start.general[4].wrapping_add(stack_base).wrapping_sub(BASE);
        let mut frame = Vec::new();
        let mut word = |value: u64| frame.extend_from_slice(&value.to_le_bytes()[..bytes]);
        word(target);
        if is_far {
            word(u64::from(selector));
        }
        if is_interrupt {
            // not TF: a trap right behind is another test's
            word(random.next() & if random.one_in(3) { 0x3F_7FFF } else { 0xDD7 });
            word(self.start.general[4].wrapping_add(random.below(64)));
            word(u64::from(if random.one_in(4) {
                random.pick(&descriptors::ANY)
            } else {
                random.pick(&descriptors::DATA)
            }));
        }
        if (STACK as u64..(STACK + STACK_BYTES) as u64).contains(&stack) {
            self.poke(stack as usize, &frame);
        }
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

/// What an instruction works on, for the state it needs.
trait Vectors {
    /// x87, MMX, SSE or AVX.
    fn is_vector(&self) -> bool;
}

impl Vectors for Instruction {
    fn is_vector(&self) -> bool {
        super::catalogue::is_vector(self.code())
    }
}
