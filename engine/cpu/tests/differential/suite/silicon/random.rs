//! Random operands: bit patterns, and the values where floating-point arithmetic is special.

use iced_x86::Instruction;

use super::super::random::Random;
use super::native::{ARITHMETIC, MEMORY, State};

fn single(random: &mut Random) -> u32 {
    let special = [
        0,
        1,
        0x7F_FFFF,
        0x80_0000,
        0x3F80_0000,
        0x7F7F_FFFF,
        0x7F80_0000,
        0x7F80_0001,
        0x7FC0_0000,
        0x4B00_0000,
        0x3380_0000,
        0x4F00_0000,
    ];
    let sign = (random.next() as u32) << 31;
    match random.below(4) {
        0 => random.next() as u32,
        1 => (random.below(2000) as f32 - 1000.0).to_bits(),
        2 => {
            sign | (random.next() as u32 & 0x7F_FFFF)
                | (random.pick(&[0u32, 1, 2, 127, 128, 150, 253, 254]) << 23)
        }
        _ => sign | random.pick(&special),
    }
}

fn double(random: &mut Random) -> u64 {
    let special = [
        0,
        1,
        0xF_FFFF_FFFF_FFFF,
        0x10_0000_0000_0000,
        0x3FF0_0000_0000_0000,
        0x7FEF_FFFF_FFFF_FFFF,
        0x7FF0_0000_0000_0000,
        0x7FF0_0000_0000_0001,
        0x7FF8_0000_0000_0000,
        0x41E0_0000_0000_0000,
        0x43E0_0000_0000_0000,
        0x36A0_0000_0000_0000,
    ];
    let sign = random.next() << 63;
    match random.below(4) {
        0 => random.next(),
        1 => (random.below(2000) as f64 - 1000.0).to_bits(),
        2 => {
            let exponent =
                random.pick(&[0u64, 1, 2, 873, 896, 897, 1022, 1023, 1024, 1150, 1151, 2045, 2046]);
            sign | random.next() >> 12 | exponent << 52
        }
        _ => sign | random.pick(&special),
    }
}

fn extended(random: &mut Random) -> [u8; 10] {
    let mantissa = match random.below(4) {
        0 => 1 << 63,
        1 => random.next() | 1 << 63,
        2 => random.pick(&[0, 1, 1 << 62, u64::MAX, 3 << 62, 1 << 63 | 1]),
        _ => random.next(),
    };
    let exponents = [0u16, 1, 0x3FFF, 0x4000, 0x400E, 0x403D, 0x403E, 0x7FFE, 0x7FFF, 0x3C01, 0x3F81, 0x407E];
    let exponent = if random.below(4) == 0 { random.next() as u16 } else { random.pick(&exponents) };
    let mut value = [0; 10];
    value[..8].copy_from_slice(&mantissa.to_le_bytes());
    value[8..].copy_from_slice(&(exponent & 0x7FFF | (random.next() as u16) << 15).to_le_bytes());
    value
}

/// Sixteen bytes as lanes of some kind.
pub fn lanes(random: &mut Random) -> [u8; 16] {
    let mut bytes = [0; 16];
    match random.below(4) {
        0 => bytes.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&random.next().to_le_bytes())),
        1 => bytes.chunks_exact_mut(4).for_each(|c| c.copy_from_slice(&single(random).to_le_bytes())),
        2 => bytes.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&double(random).to_le_bytes())),
        _ => {
            let edges = [0u8, 1, 0x7F, 0x80, 0xFF, 0x20];
            bytes.iter_mut().for_each(|byte| *byte = random.pick(&edges));
        }
    }
    bytes
}

/// x87, SSE and AVX state in XSAVE layout.
pub fn area(unmasked: bool, random: &mut Random) -> [u8; 832] {
    let mut area = [0; 832];
    let precision = random.pick(&[0u16, 2, 3, 3]) << 8;
    let mut control = 0x7F | precision | (random.below(4) as u16) << 10;
    let mut sticky = random.next() as u16 & 0x3F;
    if unmasked {
        control &= !(random.next() as u16 & 0x3F);
        if random.below(8) != 0 {
            sticky &= control;
        }
    }
    let stack_fault = sticky & 1 << 6;
    let mut status = sticky | stack_fault | random.next() as u16 & 0x7F00;
    if sticky & !control & 0x3F != 0 {
        status |= 0x8080;
    }
    area[..2].copy_from_slice(&control.to_le_bytes());
    area[2..4].copy_from_slice(&status.to_le_bytes());
    area[4] = if random.below(4) == 0 { random.next() as u8 } else { 0xFF };
    let mut mxcsr = 0x1F80 | random.next() as u32 & 0xE07F;
    if unmasked {
        mxcsr &= !(random.next() as u32 & 0x1F80);
    }
    area[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    for register in 0..8 {
        let value = if random.below(3) == 0 {
            let mut value = [0xFF; 10];
            value[..8].copy_from_slice(&lanes(random)[..8]);
            value
        } else {
            extended(random)
        };
        area[32 + 16 * register..42 + 16 * register].copy_from_slice(&value);
    }
    for register in 0..16 {
        area[160 + 16 * register..176 + 16 * register].copy_from_slice(&lanes(random));
        area[576 + 16 * register..592 + 16 * register].copy_from_slice(&lanes(random));
    }
    area
}

/// Small indices in the vector register a gather is indexed by.
pub fn fit_vector_index(instruction: &Instruction, area: &mut [u8; 832], random: &mut Random) {
    if !instruction.is_vsib() {
        return;
    }
    let index = instruction.memory_index().number();
    for at in [160 + 16 * index, 576 + 16 * index] {
        for half in 0..2 {
            area[at + 8 * half..at + 8 * half + 8].copy_from_slice(&random.below(100).to_le_bytes());
        }
    }
}

/// Everything random. `unmasked` lets exceptions through and pending ones be there.
pub fn state(unmasked: bool, random: &mut Random) -> State {
    let mut state =
        State { general: [0; 16], flags: random.next() & ARITHMETIC, area: [0; 832], memory: [0; MEMORY] };
    for register in &mut state.general {
        *register = match random.below(3) {
            0 => random.next(),
            1 => random.next() as u32 as i32 as u64,
            _ => random.below(64),
        };
    }
    state.area = area(unmasked, random);
    for part in 0..MEMORY / 16 {
        let bytes = lanes(random);
        state.memory[16 * part..16 * part + 16].copy_from_slice(&bytes);
    }
    if random.below(2) == 0 {
        let value = extended(random);
        state.memory[..10].copy_from_slice(&value);
    }
    state
}
