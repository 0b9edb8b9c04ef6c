//! The stack: frames by the frame pointer, and the words on it, in the width of the code that uses it.

use cpu::Registers;
use cpu::registers::{general, segment};
use serde::Serialize;

use super::summary::code_bits;
use super::{PhysicalMemory, read_linear};

/// Frames followed at the most.
const MOST_FRAMES: usize = 64;
/// Words shown at the most.
const MOST_WORDS: usize = 4096;

/// A function that called another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// Linear address of the saved frame pointer.
    pub at: u64,
    /// Where the call returns to: an offset of the code segment.
    pub returns_to: u64,
}

/// A word on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Word {
    /// Linear address.
    pub at: u64,
    /// What is there.
    pub value: u64,
}

/// The width of a word on the stack, in bytes.
pub fn word_bytes(registers: &Registers) -> u64 {
    u64::from(code_bits(registers) / 8)
}

/// The offset of the stack segment a pointer means: as many of its bits as the stack is wide.
pub fn offset(registers: &Registers, pointer: u64) -> u64 {
    match code_bits(registers) {
        64 => pointer,
        _ if registers.segments[segment::SS].is_big() => pointer & 0xFFFF_FFFF,
        _ => pointer & 0xFFFF,
    }
}

/// Linear address of an offset of the stack segment.
pub fn linear(registers: &Registers, pointer: u64) -> u64 {
    let stack = registers.segments[segment::SS];
    let offset = offset(registers, pointer);
    match code_bits(registers) {
        64 => offset,
        _ if stack.is_big() => stack.base.wrapping_add(offset) & 0xFFFF_FFFF,
        _ => stack.base.wrapping_add(offset),
    }
}

/// The word at a linear address; `None` where there is no memory.
pub fn read(registers: &Registers, memory: &dyn PhysicalMemory, at: u64) -> Option<u64> {
    let bytes = word_bytes(registers) as usize;
    let mut value = [0; 8];
    let there = read_linear(registers, memory, at, &mut value[..bytes]);
    (there == bytes).then(|| u64::from_le_bytes(value))
}

/// The callers, innermost first, as far as each has saved its caller's frame pointer (RBP) first. Code built without
/// frame pointers gives none, or nonsense: the words are the truth.
pub fn frames(registers: &Registers, memory: &dyn PhysicalMemory) -> Vec<Frame> {
    let word = word_bytes(registers);
    let mut frames = Vec::new();
    let mut pointer = registers.general[general::RBP];
    while frames.len() < MOST_FRAMES {
        let at = linear(registers, pointer);
        let saved = read(registers, memory, at);
        let (Some(next), Some(returns_to)) = (saved, read(registers, memory, at.wrapping_add(word))) else {
            break;
        };
        if returns_to == 0 {
            break;
        }
        frames.push(Frame { at, returns_to });
        // Stacks grow down: callers lie above.
        if linear(registers, next) <= at {
            break;
        }
        pointer = next;
    }
    frames
}

/// The words from the top of the stack on.
pub fn words(registers: &Registers, memory: &dyn PhysicalMemory, count: usize) -> Vec<Word> {
    let top = linear(registers, registers.general[general::RSP]);
    let word = word_bytes(registers);
    let places = (0..count.min(MOST_WORDS) as u64).map(|n| top.wrapping_add(n * word));
    places.map_while(|at| Some(Word { at, value: read(registers, memory, at)? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::testing::Flat;

    #[test]
    fn frames_are_followed_upwards_and_no_further() {
        let mut registers = Registers::reset();
        let mut memory = Flat::new(0x4000);
        registers.segments[segment::SS] = cpu::Segment::real(0x100); // base 0x1000
        registers.general[general::RSP] = 0x1F0;
        registers.general[general::RBP] = 0x200;
        for (at, value) in [(0x1200, 0x300), (0x1202, 0x1111), (0x1300, 0x280), (0x1302, 0x2222), (0x11F0, 7)]
        {
            memory.put(at, value, 2);
        }
        let frame = |at, returns_to| Frame { at, returns_to };
        assert_eq!(frames(&registers, &memory), [frame(0x1200, 0x1111), frame(0x1300, 0x2222)]);
        let words = words(&registers, &memory, 3);
        assert_eq!((words[0], words[1].at, words.len()), (Word { at: 0x11F0, value: 7 }, 0x11F2, 3));
    }
}
