//! Numbers that are the same each time for one seed, and that devices may find interesting.

/// RAM of a bare board that drivers use; devices are also sent past its end.
pub const RAM_BYTES: u64 = 2 << 20;

/// xorshift64*, by Vigna.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len() as u64) as usize]
    }

    /// Any number, with small ones as likely as large ones.
    pub fn any(&mut self) -> u64 {
        self.next() >> self.below(64)
    }

    /// A guest-physical address, with room to add to it: mostly RAM, with room behind it; sometimes RAM's end, device memory or nowhere.
    pub fn address(&mut self) -> u64 {
        match self.below(64) {
            0 => self.any() >> 1,
            1 => RAM_BYTES - self.below(64),
            2 => self.of(&[
                0xA_0000,
                0xC_0000,
                0xFEC0_0000,
                0xFEE0_0000,
                0xF000_0000,
                0xFFFF_FFF0,
                u64::MAX - 0xF_FFFF,
            ]),
            3 => self.below(RAM_BYTES),
            _ => self.below(RAM_BYTES / 2 / 512) * 512 + RAM_BYTES / 4,
        }
    }

    /// What a register or a descriptor's field may hold.
    pub fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => self.next(),
            1 => self.any(),
            2 => 1 << self.below(64),
            3 => self.address(),
            4 => {
                self.of(&[0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, u64::MAX])
            }
            _ => self.below(256),
        }
    }

    /// What is right, but for one time in `n`.
    pub fn mostly(&mut self, right: u64, n: u64) -> u64 {
        if self.one_in(n) { self.value() } else { right }
    }
}
