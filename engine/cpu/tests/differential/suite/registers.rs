//! Registers a case starts with: pointers into the window, edges, noise.

use super::case::Mode;
use super::descriptors::{self, CODE_16, CODES_32, DATA};
use super::random::Random;
use super::window::{self, BASE, STACK};

/// Registers, and which of them point into the window.
pub struct Start {
    /// RAX to R15.
    pub general: [u64; 16],
    /// One bit for each that is a pointer.
    pub pointers: u16,
    /// ES, CS, SS, DS, FS, GS.
    pub selectors: [u16; 6],
    /// FS and GS bases.
    pub bases: [u64; 2],
    /// EFLAGS.
    pub flags: u64,
}

/// Linear base of a segment register of the case.
pub fn base(mode: Mode, selectors: &[u16; 6], bases: &[u64; 2], segment: usize) -> u64 {
    match (mode, segment) {
        (Mode::Bits64, 4 | 5) => bases[segment - 4],
        (Mode::Bits64, _) => 0,
        _ => descriptors::segment(selectors[segment]).base,
    }
}

fn selectors(mode: Mode, random: &mut Random) -> [u16; 6] {
    let mut data = || match random.below(12) {
        0 => random.pick(&[descriptors::local(6), descriptors::local(7), descriptors::local(11), 0]),
        1 => random.pick(&[descriptors::local(8), descriptors::local(2), CODES_32[0], 3]),
        _ => random.pick(&DATA),
    };
    let (es, ds, fs, gs) = (data(), data(), data(), data());
    match mode {
        Mode::Bits64 => [0, descriptors::CODE_64, 0x2B, 0, 0, 0],
        Mode::Bits32 => [es, random.pick(&CODES_32), random.pick(&DATA), ds, fs, gs],
        Mode::Bits16 => [es, CODE_16, random.pick(&DATA), ds, fs, gs],
    }
}

impl Start {
    /// Chooses them.
    pub fn new(mode: Mode, random: &mut Random) -> Start {
        let selectors = selectors(mode, random);
        let bases = match mode {
            Mode::Bits64 => [BASE + random.below(0x1000), BASE - random.below(0x1000) * 8],
            _ => [0; 2],
        };
        let flags = 0x202 | random.next() & 0x8D5 | if random.one_in(4) { 1 << 10 } else { 0 };
        let mut start = Start { general: [0; 16], pointers: 0, selectors, bases, flags };
        let data = base(mode, &selectors, &bases, 3);
        for register in 0..16 {
            let is_pointer = match register {
                6 | 7 => !random.one_in(5),
                3 | 5 => !random.one_in(3),
                _ => random.below(5) < 2,
            };
            start.general[register] = if is_pointer {
                start.pointers |= 1 << register;
                (BASE + window::data_offset(random)).wrapping_sub(data)
            } else {
                random.value()
            };
        }
        if random.one_in(2) {
            start.general[1] = random.below(40);
            start.pointers &= !2;
        }
        if random.one_in(8) {
            let register = random.pick(&[0usize, 1, 2, 3]);
            start.general[register] = u64::from(random.pick(&descriptors::ANY));
            start.pointers &= !(1 << register);
        }
        let (es, ss) = (base(mode, &selectors, &bases, 0), base(mode, &selectors, &bases, 2));
        if start.pointers & 0x80 != 0 && es != data {
            start.general[7] = start.general[7].wrapping_add(data).wrapping_sub(es);
        }
        let stack = STACK as u64
            + match random.below(10) {
                0 => random.below(40),
                1 => 0x2000 - random.below(20),
                2 => random.below(0x3000),
                _ => 0x1000 + random.below(0x100) * 8,
            };
        start.general[4] = (BASE + stack).wrapping_sub(ss);
        start.pointers |= 1 << 4;
        if mode != Mode::Bits64 {
            start.general.iter_mut().for_each(|value| *value &= 0xFFFF_FFFF);
            start.general[8..].fill(0);
            start.pointers &= 0xFF;
        }
        start
    }
}
