//! Lazy arithmetic flags. `result` is the last result, sign-extended to 64 bits: ZF, SF and PF come from it.
//! `carries` is its carry (or borrow) vector: bit 63 is CF, bit 62 is CF xor OF, bit 3 is AF; bit 0 inverts
//! PF and bit 1 inverts SF, for the combinations no result gives.

use super::state::{Cpu, flag};

/// Inverts PF.
pub const PARITY_DELTA: u64 = 1;
/// Inverts SF.
pub const SIGN_DELTA: u64 = 2;
/// CF.
pub const CARRY: u64 = 1 << 63;
/// CF xor OF.
pub const PARTIAL: u64 = 1 << 62;
/// AF.
pub const AUXILIARY: u64 = 1 << 3;

impl Cpu {
    /// CF.
    #[inline(always)]
    pub fn carry(&self) -> bool {
        self.carries >> 63 != 0
    }

    /// OF.
    #[inline(always)]
    pub fn overflow(&self) -> bool {
        (self.carries ^ self.carries << 1) >> 63 != 0
    }

    /// ZF.
    #[inline(always)]
    pub fn zero_flag(&self) -> bool {
        self.result == 0
    }

    /// SF.
    #[inline(always)]
    pub fn sign(&self) -> bool {
        (self.result ^ self.carries << 62) >> 63 != 0
    }

    /// PF.
    #[inline(always)]
    pub fn parity(&self) -> bool {
        ((self.result as u8).count_ones() as u64 ^ self.carries) & 1 == 0
    }

    /// AF.
    #[inline(always)]
    pub fn auxiliary(&self) -> bool {
        self.carries & AUXILIARY != 0
    }

    /// All of RFLAGS.
    pub fn flags(&self) -> u64 {
        let mut flags = self.system_flags & !flag::ARITHMETIC | 2;
        for (set, bit) in [
            (self.carry(), flag::CF),
            (self.parity(), flag::PF),
            (self.auxiliary(), flag::AF),
            (self.zero_flag(), flag::ZF),
            (self.sign(), flag::SF),
            (self.overflow(), flag::OF),
        ] {
            if set {
                flags |= bit;
            }
        }
        flags
    }

    /// Sets all of RFLAGS. After a change of VM or AC: `update_mode`.
    pub fn set_flags(&mut self, flags: u64) {
        self.system_flags = flags & !flag::ARITHMETIC & 0x3F_7FD7 | 2;
        self.set_arithmetic(flags);
    }

    /// Sets the six arithmetic flags alone.
    pub fn set_arithmetic(&mut self, flags: u64) {
        let on = |bit: u64| u64::from(flags & bit != 0);
        let (carry, overflow, sign, parity) = (on(flag::CF), on(flag::OF), on(flag::SF), on(flag::PF));
        let mut carries = carry << 63 | (carry ^ overflow) << 62 | on(flag::AF) << 3;
        if flags & flag::ZF != 0 {
            self.result = 0;
            carries |= (sign * SIGN_DELTA) | ((parity ^ 1) * PARITY_DELTA);
        } else {
            self.result = sign << 63 | 1 << 8 | (parity ^ 1);
        }
        self.carries = carries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pins;
    use crate::soft::code_watch::CodeWatch;
    use std::sync::Arc;

    #[test]
    fn every_combination_of_flags_survives() {
        let mut cpu = Cpu::new(Arc::new(Pins::new()), 0, &CodeWatch::new());
        for bits in 0..64u64 {
            let all = [flag::CF, flag::PF, flag::AF, flag::ZF, flag::SF, flag::OF];
            let flags = (0..6).filter(|bit| bits & 1 << bit != 0).map(|bit| all[bit]).sum::<u64>() | 2;
            cpu.set_flags(flags);
            assert_eq!(cpu.flags(), flags);
        }
    }
}
