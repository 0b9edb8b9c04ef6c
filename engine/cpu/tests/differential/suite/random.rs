//! Random numbers that depend on nothing but a seed.

/// SplitMix64: small, and good enough to choose operands.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The stream of one case of a group, whatever ran before it.
    pub fn of_case(seed: u64, group: &str, case: u64) -> Random {
        let name = group.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        });
        let mut random = Random(seed ^ name);
        random.0 = random.next().wrapping_add(case.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        random.next();
        random
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
        (self.next() >> 32) % limit
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of a list.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// A value, edges more often than chance has them.
    pub fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(4),
            1 => u64::MAX - self.below(3),
            2 => (1u64 << self.pick(&[7, 8, 15, 16, 31, 32, 63])) - self.below(2),
            3 => self.below(256),
            4 => self.next() & 0xFFFF_FFFF,
            5 => self.next() as u32 as i32 as u64,
            _ => self.next(),
        }
    }
}
