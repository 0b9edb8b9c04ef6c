//! Handlers of the commonest instructions: moves, arithmetic, shifts, conditions, by operand form and width.
//! Each memory form has a fast handler for flat segments and a general one, which also is where the fast
//! ones go when the TLB does not know.

#![allow(clippy::missing_safety_doc)] // all handlers: see `Run`

use super::arithmetic::Alu;
use super::op::{Address, Op, check, finish, get, next, offset, put};
use super::state::Cpu;
use super::word::Word;

/// Host address of a read, or the general handler.
macro_rules! read_hit {
    ($cpu:ident, $op:ident, $address:ty, $word:ty, $general:expr) => {{
        let linear = <$address>::linear($cpu, $op);
        match (*$cpu.tlb).read_hit::<$word>(linear) {
            Some(host) => host,
            None => return $general($cpu, $op),
        }
    }};
}

/// Host address of a write, or the general handler.
macro_rules! write_hit {
    ($cpu:ident, $op:ident, $address:ty, $word:ty, $general:expr) => {{
        let linear = <$address>::linear($cpu, $op);
        match (*$cpu.tlb).write_hit::<$word>(linear) {
            Some(host) => host,
            None => return $general($cpu, $op),
        }
    }};
}

/// Handlers: the bodies run as unsafe code under the contract of `Run`.
macro_rules! handlers {
    ($($(#[$meta:meta])* fn $name:ident<$($generic:tt $(: $bound:tt)? $(const $constant:ident : $kind:ty)?),*>($cpu:ident, $op:ident) $body:block)*) => {
        $(
            $(#[$meta])*
            pub unsafe fn $name<$($generic $(: $bound)?),*>($cpu: &mut Cpu, $op: *const Op) {
                // SAFETY: see `Run`; TLB hits are host addresses with room for the access.
                unsafe { $body }
            }
        )*
    };
}

handlers! {
    fn mov_rr<T: Word>(cpu, op) {
        let value = get::<T>(cpu, (*op).b);
        put::<T>(cpu, (*op).a, value);
        next!(cpu, op);
    }

    fn mov_ri<T: Word>(cpu, op) {
        put::<T>(cpu, (*op).a, T::of((*op).imm));
        next!(cpu, op);
    }

    fn load<T: Word, A: Address>(cpu, op) {
        let host = read_hit!(cpu, op, A, T, load_general::<T>);
        let value = host.read_unaligned();
        put::<T>(cpu, (*op).a, value);
        next!(cpu, op);
    }

    #[inline(never)]
    fn load_general<T: Word>(cpu, op) {
        let offset = offset(cpu, op);
        let value = check!(cpu, op, cpu.read::<T>((*op).segment(), offset));
        put::<T>(cpu, (*op).a, value);
        finish!(cpu, op);
    }

    fn store<T: Word, A: Address>(cpu, op) {
        let host = write_hit!(cpu, op, A, T, store_general::<T>);
        host.write_unaligned(get::<T>(cpu, (*op).b));
        next!(cpu, op);
    }

    #[inline(never)]
    fn store_general<T: Word>(cpu, op) {
        let offset = offset(cpu, op);
        let value = get::<T>(cpu, (*op).b);
        check!(cpu, op, cpu.write::<T>((*op).segment(), offset, value));
        finish!(cpu, op);
    }

    fn store_imm<T: Word, A: Address>(cpu, op) {
        let host = write_hit!(cpu, op, A, T, store_imm_general::<T>);
        host.write_unaligned(T::of((*op).imm));
        next!(cpu, op);
    }

    #[inline(never)]
    fn store_imm_general<T: Word>(cpu, op) {
        let offset = offset(cpu, op);
        check!(cpu, op, cpu.write::<T>((*op).segment(), offset, T::of((*op).imm)));
        finish!(cpu, op);
    }

    fn movzx_rr<T: Word, S: Word>(cpu, op) {
        let value = get::<S>(cpu, (*op).b).wide();
        put::<T>(cpu, (*op).a, T::of(value));
        next!(cpu, op);
    }

    fn movsx_rr<T: Word, S: Word>(cpu, op) {
        let value = get::<S>(cpu, (*op).b).signed();
        put::<T>(cpu, (*op).a, T::of(value));
        next!(cpu, op);
    }

    fn movzx_rm<T: Word, S: Word, A: Address>(cpu, op) {
        let host = read_hit!(cpu, op, A, S, movzx_general::<T, S>);
        let value = host.read_unaligned().wide();
        put::<T>(cpu, (*op).a, T::of(value));
        next!(cpu, op);
    }

    #[inline(never)]
    fn movzx_general<T: Word, S: Word>(cpu, op) {
        let offset = offset(cpu, op);
        let value = check!(cpu, op, cpu.read::<S>((*op).segment(), offset)).wide();
        put::<T>(cpu, (*op).a, T::of(value));
        finish!(cpu, op);
    }

    fn movsx_rm<T: Word, S: Word, A: Address>(cpu, op) {
        let host = read_hit!(cpu, op, A, S, movsx_general::<T, S>);
        let value = host.read_unaligned().signed();
        put::<T>(cpu, (*op).a, T::of(value));
        next!(cpu, op);
    }

    #[inline(never)]
    fn movsx_general<T: Word, S: Word>(cpu, op) {
        let offset = offset(cpu, op);
        let value = check!(cpu, op, cpu.read::<S>((*op).segment(), offset)).signed();
        put::<T>(cpu, (*op).a, T::of(value));
        finish!(cpu, op);
    }

    fn lea<T: Word, A: Address>(cpu, op) {
        let value = A::linear(cpu, op);
        put::<T>(cpu, (*op).a, T::of(value));
        next!(cpu, op);
    }

    fn lea_general<T: Word>(cpu, op) {
        let value = offset(cpu, op);
        put::<T>(cpu, (*op).a, T::of(value));
        next!(cpu, op);
    }

    fn xchg_rr<T: Word>(cpu, op) {
        let (a, b) = (get::<T>(cpu, (*op).a), get::<T>(cpu, (*op).b));
        put::<T>(cpu, (*op).a, b);
        put::<T>(cpu, (*op).b, a);
        next!(cpu, op);
    }

    fn alu_rm<T: Word, O: Alu, A: Address>(cpu, op) {
        let host = read_hit!(cpu, op, A, T, alu_rm_general::<T, O>);
        let b = host.read_unaligned();
        let a = get::<T>(cpu, (*op).a);
        let result = O::run::<T, true>(cpu, a, b);
        if O::WRITES {
            put::<T>(cpu, (*op).a, result);
        }
        next!(cpu, op);
    }

    #[inline(never)]
    fn alu_rm_general<T: Word, O: Alu>(cpu, op) {
        let offset = offset(cpu, op);
        let b = check!(cpu, op, cpu.read::<T>((*op).segment(), offset));
        let a = get::<T>(cpu, (*op).a);
        let result = O::run::<T, true>(cpu, a, b);
        if O::WRITES {
            put::<T>(cpu, (*op).a, result);
        }
        finish!(cpu, op);
    }

    fn alu_mr<T: Word, O: Alu, A: Address>(cpu, op) {
        if O::WRITES {
            let host = write_hit!(cpu, op, A, T, alu_mr_general::<T, O>);
            let b = get::<T>(cpu, (*op).b);
            let result = O::run::<T, true>(cpu, host.read_unaligned(), b);
            host.write_unaligned(result);
        } else {
            let host = read_hit!(cpu, op, A, T, alu_mr_general::<T, O>);
            let b = get::<T>(cpu, (*op).b);
            O::run::<T, true>(cpu, host.read_unaligned(), b);
        }
        next!(cpu, op);
    }

    #[inline(never)]
    fn alu_mr_general<T: Word, O: Alu>(cpu, op) {
        let b = get::<T>(cpu, (*op).b);
        check!(cpu, op, modify::<T, O>(cpu, op, b));
        finish!(cpu, op);
    }

    fn alu_mi<T: Word, O: Alu, A: Address>(cpu, op) {
        if O::WRITES {
            let host = write_hit!(cpu, op, A, T, alu_mi_general::<T, O>);
            let result = O::run::<T, true>(cpu, host.read_unaligned(), T::of((*op).imm));
            host.write_unaligned(result);
        } else {
            let host = read_hit!(cpu, op, A, T, alu_mi_general::<T, O>);
            O::run::<T, true>(cpu, host.read_unaligned(), T::of((*op).imm));
        }
        next!(cpu, op);
    }

    #[inline(never)]
    fn alu_mi_general<T: Word, O: Alu>(cpu, op) {
        check!(cpu, op, modify::<T, O>(cpu, op, T::of((*op).imm)));
        finish!(cpu, op);
    }

    fn imul_rr<T: Word>(cpu, op) {
        let (a, b) = (get::<T>(cpu, (*op).a), get::<T>(cpu, (*op).b));
        let result = multiply(cpu, a, b);
        put::<T>(cpu, (*op).a, result);
        next!(cpu, op);
    }

    fn imul_rri<T: Word>(cpu, op) {
        let b = get::<T>(cpu, (*op).b);
        let result = multiply(cpu, b, T::of((*op).imm));
        put::<T>(cpu, (*op).a, result);
        next!(cpu, op);
    }

    fn imul_rm<T: Word, A: Address>(cpu, op) {
        let host = read_hit!(cpu, op, A, T, imul_rm_general::<T>);
        let b = host.read_unaligned();
        let a = get::<T>(cpu, (*op).a);
        let result = multiply(cpu, a, b);
        put::<T>(cpu, (*op).a, result);
        next!(cpu, op);
    }

    #[inline(never)]
    fn imul_rm_general<T: Word>(cpu, op) {
        let offset = offset(cpu, op);
        let b = check!(cpu, op, cpu.read::<T>((*op).segment(), offset));
        let a = get::<T>(cpu, (*op).a);
        let result = multiply(cpu, a, b);
        put::<T>(cpu, (*op).a, result);
        finish!(cpu, op);
    }

    /// CBW, CWDE, CDQE.
    fn widen<T: Word, S: Word>(cpu, op) {
        let value = get::<S>(cpu, 0).signed();
        put::<T>(cpu, 0, T::of(value));
        next!(cpu, op);
    }

    /// CWD, CDQ, CQO.
    fn spread<T: Word>(cpu, op) {
        let value = (get::<T>(cpu, 0).signed() as i64 >> 63) as u64;
        put::<T>(cpu, 16, T::of(value));
        next!(cpu, op);
    }
}

/// NOP, PAUSE, prefetches.
pub unsafe fn nop(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe { next!(cpu, op) }
}

/// Register and register.
pub unsafe fn alu_rr<T: Word, O: Alu, const F: bool>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let (a, b) = (get::<T>(cpu, (*op).a), get::<T>(cpu, (*op).b));
        let result = O::run::<T, F>(cpu, a, b);
        if O::WRITES {
            put::<T>(cpu, (*op).a, result);
        }
        next!(cpu, op);
    }
}

/// Register and immediate, or register alone.
pub unsafe fn alu_ri<T: Word, O: Alu, const F: bool>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let a = get::<T>(cpu, (*op).a);
        let result = O::run::<T, F>(cpu, a, T::of((*op).imm));
        if O::WRITES {
            put::<T>(cpu, (*op).a, result);
        }
        next!(cpu, op);
    }
}

/// SETcc of a register.
pub unsafe fn set_r<const C: u8>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let value = u8::from(cpu.condition::<C>());
        put::<u8>(cpu, (*op).a, value);
        next!(cpu, op);
    }
}

/// CMOVcc between registers.
pub unsafe fn cmov_rr<T: Word, const C: u8>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        let from = if cpu.condition::<C>() { (*op).b } else { (*op).a };
        let value = get::<T>(cpu, from);
        put::<T>(cpu, (*op).a, value); // clears the upper half even if the condition is false
        next!(cpu, op);
    }
}

/// Read-modify-write (or a compare) through the general memory path.
#[inline(always)]
unsafe fn modify<T: Word, O: Alu>(cpu: &mut Cpu, op: *const Op, b: T) -> super::fault::Fallible<()> {
    // SAFETY: see `Run`.
    let (segment, offset) = unsafe { ((*op).segment(), offset(cpu, op)) };
    if O::WRITES {
        let linear = cpu.linear(segment, offset, T::BYTES, true)?;
        // SAFETY: a hit is the address of writable guest memory with room for a `T`.
        unsafe {
            if let Some(host) = (*cpu.tlb).write_hit::<T>(linear) {
                let result = O::run::<T, true>(cpu, host.read_unaligned(), b);
                host.write_unaligned(result);
                return Ok(());
            }
        }
        if let Some(host) = cpu.watched_hit::<T>(linear) {
            // SAFETY: as above.
            unsafe {
                let result = O::run::<T, true>(cpu, host.read_unaligned(), b);
                host.write_unaligned(result);
            }
            cpu.watched_written::<T>(linear);
            return Ok(());
        }
        cpu.prepare_write(segment, offset, T::BYTES)?;
        let a = cpu.read::<T>(segment, offset)?;
        let flags = (cpu.result, cpu.carries);
        let result = O::run::<T, true>(cpu, a, b);
        cpu.write::<T>(segment, offset, result).inspect_err(|_| (cpu.result, cpu.carries) = flags)
    } else {
        let a = cpu.read::<T>(segment, offset)?;
        O::run::<T, true>(cpu, a, b);
        Ok(())
    }
}

/// The signed product's low half; flags say whether that is all of it.
#[inline(always)]
pub fn multiply<T: Word>(cpu: &mut Cpu, a: T, b: T) -> T {
    let (a, b) = (a.signed() as i64, b.signed() as i64);
    let (product, wrapped) = a.overflowing_mul(b);
    let low = T::of(product as u64);
    cpu.set_product(low, wrapped || low.signed() != product as u64);
    low
}
