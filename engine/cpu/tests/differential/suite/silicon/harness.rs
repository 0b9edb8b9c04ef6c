//! The software CPU against the silicon it runs on: the same instruction, the same random state, everything
//! compared but the x87 pointers (which name different addresses).

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::Mnemonic;

use super::super::masks::undefined_after;
use super::super::random::Random;
use super::forms::{self, Sample};
use super::native::{Native, State};
use super::random::{self, fit_vector_index};
use super::software::{OPERAND, Software};

/// What was compared, and what differed.
#[derive(Default)]
pub struct Totals {
    /// Runs on both.
    pub runs: u64,
    /// Runs that ended in an exception on both.
    pub exceptions: u64,
    /// Forms that ran to their end with agreement.
    pub covered: BTreeSet<u16>,
    /// First difference of each form that has any, and how many.
    pub differences: BTreeMap<String, (String, u64)>,
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Makes the random state fit instructions that would otherwise raise #GP or leave the buffer.
fn fit(sample: &Sample, state: &mut State, random: &mut Random) {
    use Mnemonic as M;
    let memory = &mut state.memory;
    match sample.instruction.mnemonic() {
        M::Ldmxcsr | M::Vldmxcsr => memory[2..4].fill(0),
        M::Fxrstor | M::Fxrstor64 => memory[26..28].fill(0),
        M::Xrstor | M::Xrstor64 => {
            memory[26..28].fill(0);
            memory[512..576].fill(0);
            let stored = random.below(8);
            put(memory, 512, stored);
            if random.below(2) == 0 {
                put(memory, 520, 1 << 63 | stored | random.below(8));
            }
        }
        _ => {}
    }
    if format!("{:?}", sample.instruction.mnemonic()).starts_with('X') {
        state.general[0] &= 7; // the host may have more components
        state.general[2] = 0;
    }
    fit_vector_index(&sample.instruction, &mut state.area, random);
}

/// Takes out what the two cannot have in common.
fn normalise(sample: &Sample, state: &mut State) {
    use Mnemonic as M;
    if let Some(pointer) = sample.pointer {
        state.general[pointer] = 0;
    }
    state.area[5..24].fill(0);
    state.area[28..32].fill(0);
    state.area[416..576].fill(0);
    for register in 0..8 {
        state.area[42 + 16 * register..48 + 16 * register].fill(0);
    }
    let memory = &mut state.memory;
    match sample.instruction.mnemonic() {
        M::Fnstenv | M::Fnsave if matches!(sample.instruction.memory_size().size(), 14 | 94) => {
            memory[6..14].fill(0);
        }
        M::Fnstenv | M::Fnsave => memory[12..28].fill(0),
        M::Fxsave | M::Fxsave64 => {
            memory[5..24].fill(0);
            memory[28..32].fill(0); // MXCSR_MASK: the host's maker's
        }
        M::Lzcnt | M::Tzcnt => state.flags &= !undefined_after(&sample.instruction, 0),
        M::Xsave | M::Xsave64 | M::Xsaveopt | M::Xsaveopt64 | M::Xsavec | M::Xsavec64 => {
            memory[5..24].fill(0);
            memory[28..32].fill(0);
        }
        _ => {}
    }
}

fn describe(sample: &Sample, before: &State, native: &State, software: &State) -> String {
    let mut parts = Vec::new();
    for n in 0..16 {
        if native.general[n] != software.general[n] {
            parts.push(format!("r{n} {:#x} not {:#x}", software.general[n], native.general[n]));
        }
    }
    if native.flags != software.flags {
        parts.push(format!("flags {:#x} not {:#x}", software.flags, native.flags));
    }
    for (name, a, b) in
        [("area", &native.area[..], &software.area[..]), ("memory", &native.memory, &software.memory)]
    {
        let differing: Vec<usize> = (0..a.len()).filter(|&n| a[n] != b[n]).collect();
        if let (Some(&first), Some(&last)) = (differing.first(), differing.last()) {
            let last = last.min(first + 31);
            let (mine, its) = (&b[first..=last], &a[first..=last]);
            parts.push(format!("{name}[{first}..={last}] {mine:02x?} not {its:02x?}"));
        }
    }
    let words = &before.area[..5];
    let mxcsr = u32::from_le_bytes(before.area[24..28].try_into().unwrap());
    format!(
        "{} {:02x?}: {} (x87 {words:02x?}, mxcsr {mxcsr:#x})",
        sample.instruction,
        sample.bytes,
        parts.join("; ")
    )
}

/// Puts signal handlers in their order: this oracle's, the software CPU's over them; later ones go over both.
pub fn prepare() {
    let mut native = Native::new();
    let mut random = Random::new(0);
    let add = [0x0F, 0x58, 0xC1]; // ADDPS: makes the software CPU install its own
    native.prepare(&add);
    let instruction = Software::decode(&add).expect("SSE is there");
    let mut state = random::state(false, &mut random);
    Software::new().run(&instruction, &mut state).expect("masked exceptions");
}

/// Compares `runs` random states for each sample of each form.
pub fn compare(seed: u64, passes: usize, samples: usize, runs: usize, unmasked: bool) -> Totals {
    let mut random = Random::new(seed);
    let mut native = Native::new();
    let mut software = Software::new();
    let forms = forms::all(&mut random, passes, samples);
    let mut totals = Totals::default();
    for ((code, memory), samples) in &forms {
        for sample in samples {
            native.prepare(&sample.bytes);
            for _ in 0..runs {
                let mut before = random::state(unmasked, &mut random);
                fit(sample, &mut before, &mut random);
                let (mut theirs, mut ours) = (before.clone(), before.clone());
                if let Some(pointer) = sample.pointer {
                    theirs.general[pointer] = native.operand();
                    ours.general[pointer] = OPERAND;
                }
                let expected = native.run(&mut theirs);
                let actual = software.run(&sample.instruction, &mut ours);
                normalise(sample, &mut theirs);
                normalise(sample, &mut ours);
                totals.runs += 1;
                totals.exceptions += u64::from(expected.is_err() && expected == actual);
                let same_outcome = expected == actual;
                if same_outcome && theirs == ours {
                    if expected.is_ok() {
                        totals.covered.insert(sample.instruction.code() as u16);
                    }
                    continue;
                }
                let entry = totals.differences.entry(format!("{code}{}", if *memory { " m" } else { "" }));
                let (_, count) = entry.or_insert_with(|| {
                    let what = describe(sample, &before, &theirs, &ours);
                    (format!("{expected:?} {actual:?} {what}"), 0)
                });
                *count += 1;
            }
        }
    }
    totals
}
