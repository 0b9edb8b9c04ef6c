//! Random operands: bit patterns, and the values where floating-point arithmetic is special.

use crate::native::{ARITHMETIC, MEMORY, State};

/// SplitMix64: small, and good enough to choose operands.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    fn single(&mut self) -> u32 {
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
        let sign = (self.next() as u32) << 31;
        match self.below(4) {
            0 => self.next() as u32,
            1 => (self.below(2000) as f32 - 1000.0).to_bits(),
            2 => {
                sign | (self.next() as u32 & 0x7F_FFFF)
                    | (self.pick(&[0u32, 1, 2, 127, 128, 150, 253, 254]) << 23)
            }
            _ => sign | self.pick(&special),
        }
    }

    fn double(&mut self) -> u64 {
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
        let sign = self.next() << 63;
        match self.below(4) {
            0 => self.next(),
            1 => (self.below(2000) as f64 - 1000.0).to_bits(),
            2 => {
                let exponent =
                    self.pick(&[0u64, 1, 2, 873, 896, 897, 1022, 1023, 1024, 1150, 1151, 2045, 2046]);
                sign | self.next() >> 12 | exponent << 52
            }
            _ => sign | self.pick(&special),
        }
    }

    fn extended(&mut self) -> [u8; 10] {
        let mantissa = match self.below(4) {
            0 => 1 << 63,
            1 => self.next() | 1 << 63,
            2 => self.pick(&[0, 1, 1 << 62, u64::MAX, 3 << 62, 1 << 63 | 1]),
            _ => self.next(),
        };
        let exponents =
            [0u16, 1, 0x3FFF, 0x4000, 0x400E, 0x403D, 0x403E, 0x7FFE, 0x7FFF, 0x3C01, 0x3F81, 0x407E];
        let exponent = if self.below(4) == 0 { self.next() as u16 } else { self.pick(&exponents) };
        let mut value = [0; 10];
        value[..8].copy_from_slice(&mantissa.to_le_bytes());
        value[8..].copy_from_slice(&(exponent & 0x7FFF | (self.next() as u16) << 15).to_le_bytes());
        value
    }

    /// Sixteen bytes as lanes of some kind.
    fn lanes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        match self.below(4) {
            0 => bytes.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&self.next().to_le_bytes())),
            1 => bytes.chunks_exact_mut(4).for_each(|c| c.copy_from_slice(&self.single().to_le_bytes())),
            2 => bytes.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&self.double().to_le_bytes())),
            _ => {
                let edges = [0u8, 1, 0x7F, 0x80, 0xFF, 0x20];
                bytes.iter_mut().for_each(|byte| *byte = self.pick(&edges));
            }
        }
        bytes
    }

    /// Everything random. `unmasked` lets exceptions through and pending ones be there.
    pub fn state(&mut self, unmasked: bool) -> State {
        let mut state =
            State { general: [0; 16], flags: self.next() & ARITHMETIC, area: [0; 832], memory: [0; MEMORY] };
        for register in &mut state.general {
            *register = match self.below(3) {
                0 => self.next(),
                1 => self.next() as u32 as i32 as u64,
                _ => self.below(64),
            };
        }
        let area = &mut state.area;
        let precision = self.pick(&[0u16, 2, 3, 3]) << 8;
        let mut control = 0x7F | precision | (self.below(4) as u16) << 10;
        let mut sticky = self.next() as u16 & 0x3F;
        if unmasked {
            control &= !(self.next() as u16 & 0x3F);
            if self.below(8) != 0 {
                sticky &= control;
            }
        }
        let stack_fault = sticky & 1 << 6;
        let mut status = sticky | stack_fault | self.next() as u16 & 0x7F00;
        if sticky & !control & 0x3F != 0 {
            status |= 0x8080;
        }
        area[..2].copy_from_slice(&control.to_le_bytes());
        area[2..4].copy_from_slice(&status.to_le_bytes());
        area[4] = if self.below(4) == 0 { self.next() as u8 } else { 0xFF };
        let mut mxcsr = 0x1F80 | self.next() as u32 & 0xE07F;
        if unmasked {
            mxcsr &= !(self.next() as u32 & 0x1F80);
        }
        area[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        for register in 0..8 {
            let value = if self.below(3) == 0 {
                let mut value = [0xFF; 10];
                value[..8].copy_from_slice(&self.lanes()[..8]);
                value
            } else {
                self.extended()
            };
            area[32 + 16 * register..42 + 16 * register].copy_from_slice(&value);
        }
        for register in 0..16 {
            area[160 + 16 * register..176 + 16 * register].copy_from_slice(&self.lanes());
            area[576 + 16 * register..592 + 16 * register].copy_from_slice(&self.lanes());
        }
        for part in 0..MEMORY / 16 {
            let bytes = self.lanes();
            state.memory[16 * part..16 * part + 16].copy_from_slice(&bytes);
        }
        if self.below(2) == 0 {
            let value = self.extended();
            state.memory[..10].copy_from_slice(&value);
        }
        state
    }
}
