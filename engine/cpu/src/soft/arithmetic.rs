//! What the two-operand, one-operand and shift instructions compute, with their flags, for every width.

use super::flags::{AUXILIARY, CARRY, PARTIAL};
use super::state::Cpu;
use super::word::Word;

/// A two-operand operation; one-operand ones ignore the second.
pub trait Alu: 'static {
    /// The result goes to the first operand (not CMP and TEST).
    const WRITES: bool = true;

    /// The result; flags too if `F` (operations that read or keep flags set them anyway).
    fn run<T: Word, const F: bool>(cpu: &mut Cpu, a: T, b: T) -> T;

    /// Condition `C` after the operation, where it follows from the operands faster than from the flags.
    #[inline(always)]
    fn condition<T: Word, const C: u8>(cpu: &Cpu, _a: T, _b: T, _result: T) -> bool {
        cpu.condition::<C>()
    }
}

macro_rules! operations {
    ($($name:ident),*) => { $(#[doc = stringify!($name)] pub struct $name;)* };
}
operations!(
    Add, Or, Adc, Sbb, And, Sub, Xor, Cmp, Test, Inc, Dec, Neg, Not, Shl, Shr, Sar, Rol, Ror, Rcl, Rcr
);

#[inline(always)]
fn set<T: Word>(cpu: &mut Cpu, result: T, carries: u64) {
    cpu.result = result.signed();
    cpu.carries = carries;
}

#[inline(always)]
fn add<T: Word, const F: bool>(cpu: &mut Cpu, a: T, b: T, carry: u64) -> T {
    let result = T::of(a.wide().wrapping_add(b.wide()).wrapping_add(carry));
    if F {
        let (x, y, r) = (a.wide(), b.wide(), result.wide());
        set(cpu, result, T::of(x & y | (x | y) & !r).carries());
    }
    result
}

#[inline(always)]
fn subtract<T: Word, const F: bool>(cpu: &mut Cpu, a: T, b: T, borrow: u64) -> T {
    let result = T::of(a.wide().wrapping_sub(b.wide()).wrapping_sub(borrow));
    if F {
        let (x, y, r) = (a.wide(), b.wide(), result.wide());
        set(cpu, result, T::of(!x & y | (!x | y) & r).carries());
    }
    result
}

#[inline(always)]
fn logic<T: Word, const F: bool>(cpu: &mut Cpu, result: u64) -> T {
    let result = T::of(result);
    if F {
        set(cpu, result, 0);
    }
    result
}

/// After INC and DEC: OF as computed, CF as it was.
#[inline(always)]
fn keep_carry(cpu: &mut Cpu, old: u64) {
    let changed = (cpu.carries ^ old) & CARRY;
    cpu.carries ^= changed | changed >> 1;
}

#[inline(always)]
fn compared<T: Word, const C: u8>(cpu: &Cpu, a: T, b: T, result: T) -> bool {
    match C {
        2 => a < b,
        3 => a >= b,
        4 => a == b,
        5 => a != b,
        6 => a <= b,
        7 => a > b,
        8 => (result.signed() as i64) < 0,
        9 => (result.signed() as i64) >= 0,
        12 => (a.signed() as i64) < b.signed() as i64,
        13 => (a.signed() as i64) >= b.signed() as i64,
        14 => a.signed() as i64 <= b.signed() as i64,
        15 => a.signed() as i64 > b.signed() as i64,
        _ => cpu.condition::<C>(),
    }
}

#[inline(always)]
fn masked<T: Word, const C: u8>(cpu: &Cpu, result: T) -> bool {
    let result = result.signed() as i64;
    match C {
        0 | 2 => false,
        1 | 3 => true,
        4 | 6 => result == 0,
        5 | 7 => result != 0,
        8 | 12 => result < 0,
        9 | 13 => result >= 0,
        14 => result <= 0,
        15 => result > 0,
        _ => cpu.condition::<C>(),
    }
}

macro_rules! alu {
    ($name:ident, $t:ident, $f:ident, |$cpu:ident, $a:ident, $b:ident| $run:expr $(, $extra:item)*) => {
        impl Alu for $name {
            #[inline(always)]
            fn run<$t: Word, const $f: bool>($cpu: &mut Cpu, $a: $t, $b: $t) -> $t {
                $run
            }
            $($extra)*
        }
    };
}

alu!(Add, T, F, |cpu, a, b| add::<T, F>(cpu, a, b, 0));
alu!(Adc, T, F, |cpu, a, b| {
    let carry = u64::from(cpu.carry());
    add::<T, true>(cpu, a, b, carry)
});
alu!(Sbb, T, F, |cpu, a, b| {
    let borrow = u64::from(cpu.carry());
    subtract::<T, true>(cpu, a, b, borrow)
});
alu!(
    Sub,
    T,
    F,
    |cpu, a, b| subtract::<T, F>(cpu, a, b, 0),
    #[inline(always)]
    fn condition<T: Word, const C: u8>(cpu: &Cpu, a: T, b: T, result: T) -> bool {
        compared::<T, C>(cpu, a, b, result)
    }
);
alu!(
    Cmp,
    T,
    F,
    |cpu, a, b| subtract::<T, F>(cpu, a, b, 0),
    const WRITES: bool = false;,
    #[inline(always)]
    fn condition<T: Word, const C: u8>(cpu: &Cpu, a: T, b: T, result: T) -> bool {
        compared::<T, C>(cpu, a, b, result)
    }
);
alu!(
    And,
    T,
    F,
    |cpu, a, b| logic::<T, F>(cpu, a.wide() & b.wide()),
    #[inline(always)]
    fn condition<T: Word, const C: u8>(cpu: &Cpu, _a: T, _b: T, result: T) -> bool {
        masked::<T, C>(cpu, result)
    }
);
alu!(
    Test,
    T,
    F,
    |cpu, a, b| logic::<T, F>(cpu, a.wide() & b.wide()),
    const WRITES: bool = false;,
    #[inline(always)]
    fn condition<T: Word, const C: u8>(cpu: &Cpu, _a: T, _b: T, result: T) -> bool {
        masked::<T, C>(cpu, result)
    }
);
alu!(Or, T, F, |cpu, a, b| logic::<T, F>(cpu, a.wide() | b.wide()));
alu!(Xor, T, F, |cpu, a, b| logic::<T, F>(cpu, a.wide() ^ b.wide()));
alu!(Inc, T, F, |cpu, a, _b| {
    let old = cpu.carries;
    let result = add::<T, F>(cpu, a, T::of(1), 0);
    if F {
        keep_carry(cpu, old);
    }
    result
});
alu!(Dec, T, F, |cpu, a, _b| {
    let old = cpu.carries;
    let result = subtract::<T, F>(cpu, a, T::of(1), 0);
    if F {
        keep_carry(cpu, old);
    }
    result
});
alu!(Neg, T, F, |cpu, a, _b| subtract::<T, F>(cpu, T::of(0), a, 0));
alu!(Not, T, F, |_cpu, a, _b| T::of(!a.wide()));

#[inline(always)]
fn count<T: Word>(b: T) -> u32 {
    b.wide() as u32 & if T::BITS == 64 { 63 } else { 31 }
}

/// CF and OF together, as the top of a carry vector.
#[inline(always)]
fn carry_overflow(carry: bool, overflow: bool) -> u64 {
    u64::from(carry) << 63 | u64::from(carry ^ overflow) << 62
}

fn top<T: Word>(value: u64) -> bool {
    value >> (T::BITS - 1) & 1 != 0
}

alu!(Shl, T, F, |cpu, a, b| {
    let count = count(b);
    if count == 0 {
        return a;
    }
    let result = T::of(a.wide() << count);
    if F {
        // the last bit out; beyond the width it is zero
        let carry = count <= T::BITS && a.wide() >> (T::BITS - count) & 1 != 0;
        set(cpu, result, carry_overflow(carry, carry ^ top::<T>(result.wide())));
    }
    result
});
alu!(Shr, T, F, |cpu, a, b| {
    let count = count(b);
    if count == 0 {
        return a;
    }
    let result = T::of(a.wide() >> count);
    if F {
        let carry = a.wide() >> (count - 1) & 1 != 0;
        // the sign of the value when shifted by one, as the result's two top bits show it
        set(cpu, result, carry_overflow(carry, top::<T>(result.wide() << 1 ^ result.wide())));
    }
    result
});
alu!(Sar, T, F, |cpu, a, b| {
    let count = count(b);
    if count == 0 {
        return a;
    }
    let value = a.signed() as i64;
    let result = T::of((value >> count) as u64);
    if F {
        set(cpu, result, carry_overflow(value >> (count - 1) & 1 != 0, false));
    }
    result
});

/// Rotates leave SF, ZF, PF and AF alone.
#[inline(always)]
fn set_rotated(cpu: &mut Cpu, carry: bool, overflow: bool) {
    cpu.carries = cpu.carries & !(CARRY | PARTIAL) | carry_overflow(carry, overflow);
}

alu!(Rol, T, F, |cpu, a, b| {
    let count = count(b);
    if count == 0 {
        return a;
    }
    let (turn, value) = (count % T::BITS, a.wide());
    let result = T::of(value << turn | value.checked_shr(T::BITS - turn).unwrap_or(0));
    let carry = result.wide() & 1 != 0;
    set_rotated(cpu, carry, carry ^ top::<T>(result.wide()));
    result
});
alu!(Ror, T, F, |cpu, a, b| {
    let count = count(b);
    if count == 0 {
        return a;
    }
    let (turn, value) = (count % T::BITS, a.wide());
    let result = T::of(value >> turn | value.checked_shl(T::BITS - turn).unwrap_or(0));
    set_rotated(cpu, top::<T>(result.wide()), top::<T>(result.wide() << 1 ^ result.wide()));
    result
});
alu!(Rcl, T, F, |cpu, a, b| {
    let turn = count(b) % (T::BITS + 1);
    if turn == 0 {
        return a;
    }
    let mask = u128::MAX >> (127 - T::BITS);
    let value = u128::from(cpu.carry()) << T::BITS | u128::from(a.wide());
    let turned = (value << turn | value >> (T::BITS + 1 - turn)) & mask;
    let (result, carry) = (T::of(turned as u64), turned >> T::BITS & 1 != 0);
    set_rotated(cpu, carry, carry ^ top::<T>(result.wide()));
    result
});
alu!(Rcr, T, F, |cpu, a, b| {
    let turn = count(b) % (T::BITS + 1);
    if turn == 0 {
        return a;
    }
    let mask = u128::MAX >> (127 - T::BITS);
    let value = u128::from(cpu.carry()) << T::BITS | u128::from(a.wide());
    let turned = (value >> turn | value << (T::BITS + 1 - turn)) & mask;
    let (result, carry) = (T::of(turned as u64), turned >> T::BITS & 1 != 0);
    set_rotated(cpu, carry, top::<T>(result.wide() << 1 ^ result.wide()));
    result
});

/// SHLD; `None` leaves everything alone. A count above 16 bits' width is undefined there.
pub fn double_shift_left<T: Word>(cpu: &mut Cpu, a: T, b: T, by: u64) -> Option<T> {
    let count = by as u32 & if T::BITS == 64 { 63 } else { 31 };
    if count == 0 {
        return None;
    }
    let wide = (u128::from(a.wide()) << T::BITS | u128::from(b.wide())) << (128 - 2 * T::BITS);
    // bits that leave a 16-bit pair come in again behind it, as on the real thing
    let turned = wide.checked_shl(count).unwrap_or(0) | if T::BITS == 16 { wide >> (32 - count) } else { 0 };
    let result = T::of((turned >> (128 - T::BITS)) as u64);
    let carry = wide >> (128 - count) & 1 != 0;
    set(cpu, result, carry_overflow(carry, top::<T>(a.wide() ^ result.wide())));
    Some(result)
}

/// SHRD; `None` leaves everything alone.
pub fn double_shift_right<T: Word>(cpu: &mut Cpu, a: T, b: T, by: u64) -> Option<T> {
    let count = by as u32 & if T::BITS == 64 { 63 } else { 31 };
    if count == 0 {
        return None;
    }
    let pair = u128::from(b.wide()) << T::BITS | u128::from(a.wide());
    let pair = if T::BITS == 16 { pair | u128::from(a.wide()) << 32 } else { pair };
    let result = T::of((pair >> count) as u64);
    let carry = pair >> (count - 1) & 1 != 0;
    set(cpu, result, carry_overflow(carry, top::<T>(a.wide() ^ result.wide())));
    Some(result)
}

impl Cpu {
    /// The condition of Jcc, SETcc and CMOVcc with this low nibble.
    #[inline(always)]
    pub(super) fn condition<const C: u8>(&self) -> bool {
        let positive = match C >> 1 {
            0 => self.overflow(),
            1 => self.carry(),
            2 => self.zero_flag(),
            3 => self.carry() | self.zero_flag(),
            4 => self.sign(),
            5 => self.parity(),
            6 => self.sign() != self.overflow(),
            _ => self.zero_flag() | (self.sign() != self.overflow()),
        };
        positive != (C & 1 != 0)
    }

    /// CF and OF alike (multiplications); the rest from the low half of the product.
    #[inline(always)]
    pub(super) fn set_product<T: Word>(&mut self, low: T, overflow: bool) {
        set(self, low, carry_overflow(overflow, overflow));
    }

    /// A logical result: CF, OF and AF clear.
    pub(super) fn set_logic<T: Word>(&mut self, result: T) {
        set(self, result, 0);
    }

    /// Sets CF alone.
    #[inline(always)]
    pub(super) fn set_carry(&mut self, carry: bool) {
        let changed = (self.carries ^ u64::from(carry) << 63) & CARRY;
        self.carries ^= changed | changed >> 1; // OF stays
    }

    /// Sets ZF alone.
    pub(super) fn set_zero(&mut self, zero: bool) {
        let others = self.flags() & !super::state::flag::ZF;
        self.set_arithmetic(others | u64::from(zero) << 6);
    }

    /// Sets AF alone.
    pub(super) fn set_auxiliary(&mut self, auxiliary: bool) {
        self.carries = self.carries & !AUXILIARY | u64::from(auxiliary) << 3;
    }
}
