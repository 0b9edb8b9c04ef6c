//! The four operand sizes, so that one handler text serves all of them.

use super::memory::Atomic;

/// An operand of 8, 16, 32 or 64 bits.
pub trait Word: Atomic + Ord + 'static {
    /// Width in bits.
    const BITS: u32;
    /// Width in bytes.
    const BYTES: u64 = Self::BITS as u64 / 8;

    /// The low bits of a value.
    fn of(value: u64) -> Self;
    /// Zero-extended.
    fn wide(self) -> u64;
    /// Sign-extended.
    fn signed(self) -> u64;
    /// A carry vector in the form of `Cpu::carries`.
    fn carries(self) -> u64;
    /// Writes a general register: 8 and 16 bits keep the rest, 32 bits clear the upper half.
    ///
    /// # Safety
    /// `at` points into `Cpu::general`; to its start, for 32 and 64 bits.
    unsafe fn put(self, at: *mut u8);
}

macro_rules! word {
    ($word:ty, $signed:ty, $bits:expr, |$value:ident| $carries:expr, $stored:ty) => {
        impl Word for $word {
            const BITS: u32 = $bits;

            #[inline(always)]
            fn of(value: u64) -> Self {
                value as $word
            }

            #[inline(always)]
            fn wide(self) -> u64 {
                self as u64
            }

            #[inline(always)]
            fn signed(self) -> u64 {
                self as $signed as i64 as u64
            }

            #[inline(always)]
            fn carries(self) -> u64 {
                let $value = self as u64;
                $carries
            }

            #[inline(always)]
            unsafe fn put(self, at: *mut u8) {
                // SAFETY: the caller's.
                unsafe { (at as *mut $stored).write_unaligned(self as $stored) }
            }
        }
    };
}

word!(u8, i8, 8, |c| c & 8 | c << 56, u8);
word!(u16, i16, 16, |c| c & 8 | c << 48, u16);
word!(u32, i32, 32, |c| c & 8 | c << 32, u64);
word!(u64, i64, 64, |c| c & !7, u64);
