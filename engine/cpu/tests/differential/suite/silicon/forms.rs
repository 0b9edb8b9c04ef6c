//! Every vector and x87 instruction form iced knows and the software CPU has: found by decoding the whole
//! opcode space with random registers and immediates.

use std::collections::BTreeMap;

use iced_x86::{Instruction, OpKind, Register};

use super::super::random::Random;
use super::software::Software;

/// One encoding of a form.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The same decoded.
    pub instruction: Instruction,
    /// The general register that points to memory, if any.
    pub pointer: Option<usize>,
}

/// Samples by form: instruction code, and whether the operand is memory.
pub type Forms = BTreeMap<(String, bool), Vec<Sample>>;

const RBX: usize = 3;

/// Decodes one candidate; `None` if it is not wanted.
fn sample(mut bytes: Vec<u8>, random: &mut Random) -> Option<Sample> {
    bytes.extend((0..10).map(|_| random.next() as u8)); // displacement-free: only immediates come of these
    let instruction = Software::decode(&bytes)?;
    bytes.truncate(instruction.len());
    let kinds = || (0..instruction.op_count()).map(|n| (n, instruction.op_kind(n)));
    let explicit = |register: Register| {
        kinds().any(|(n, kind)| {
            kind == OpKind::Register
                && instruction.op_register(n).is_gpr()
                && instruction.op_register(n).full_register() == register
        })
    };
    let memory = kinds().any(|(_, kind)| kind == OpKind::Memory);
    let implicit = kinds().any(|(_, kind)| kind == OpKind::MemorySegRDI);
    if explicit(Register::RSP)
        || memory && (explicit(Register::RBX) || instruction.memory_base() != Register::RBX)
    {
        return None;
    }
    if memory
        && (instruction.memory_displ_size() != 0
            || !instruction.is_vsib() && instruction.memory_index() != Register::None)
    {
        return None;
    }
    let pointer = if memory { Some(RBX) } else { implicit.then_some(7) };
    Some(Sample { bytes, instruction, pointer })
}

/// A ModRM byte: memory [rbx], memory [rbx + vector index], or a register.
fn modrm(kind: u8, field: u8, random: &mut Random) -> Vec<u8> {
    let register = field << 3;
    match kind {
        0 => vec![register | 3],
        1 => vec![register | 4, (random.below(3) as u8) << 6 | (random.below(8) as u8) << 3 | 3],
        _ => vec![0xC0 | register | random.below(8) as u8],
    }
}

/// At most `most` samples of each form, from `passes` walks through the opcode space.
pub fn all(random: &mut Random, passes: usize, most: usize) -> Forms {
    let mut forms = Forms::new();
    let mut try_one = |bytes: Vec<u8>, random: &mut Random| {
        if let Some(sample) = sample(bytes, random) {
            let key = (format!("{:?}", sample.instruction.code()), sample.pointer == Some(RBX));
            let list = forms.entry(key).or_default();
            if list.len() < most {
                list.push(sample);
            }
        }
    };
    for _ in 0..passes {
        for escape in 0xD8..=0xDFu8 {
            for second in 0..=255u8 {
                let second = if second < 0xC0 { second & 0x38 | 3 } else { second };
                try_one(vec![escape, second], random);
            }
        }
        try_one(vec![0x9B], random);
        for prefix in [None, Some(0x66), Some(0xF3), Some(0xF2)] {
            for map in [&[0x0F][..], &[0x0F, 0x38], &[0x0F, 0x3A]] {
                for opcode in 0..=255u8 {
                    for field in 0..8 {
                        for kind in [0, 2] {
                            let mut bytes: Vec<u8> = prefix.into_iter().collect();
                            if random.below(2) == 0 {
                                // REX.R and (registers only) REX.B, and W at random
                                let rex = 0x40 | (random.below(4) as u8) << 2;
                                bytes.push(rex | u8::from(kind == 2 && random.below(2) == 0));
                            }
                            bytes.extend(map);
                            bytes.push(opcode);
                            bytes.extend(modrm(kind, field, random));
                            try_one(bytes, random);
                        }
                    }
                }
            }
        }
        for map in 1..=3u8 {
            for variant in 0..16u8 {
                for opcode in 0..=255u8 {
                    for kind in 0..3 {
                        let r_x_b = 0x60 | (random.below(2) as u8) << 7;
                        let unused = random.below(3) == 0;
                        let vvvv = if unused { 0xF } else { random.below(16) as u8 };
                        let third = variant & 7 | vvvv << 3 | variant >> 3 << 7;
                        let mut bytes = vec![0xC4, r_x_b | map, third, opcode];
                        bytes.extend(modrm(kind, random.below(8) as u8, random));
                        try_one(bytes, random);
                        // the same with no second source, for forms that have none
                        let mut bytes = vec![0xC4, r_x_b | map, third | 0x78, opcode];
                        bytes.extend(modrm(kind, random.below(8) as u8, random));
                        try_one(bytes, random);
                    }
                }
            }
        }
    }
    forms
}
