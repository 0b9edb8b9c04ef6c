//! Instructions with a stub as ops: the stub is looked up at the first execution, the memory operand is where the TLB
//! says, and whatever is not that simple goes the long way (`execute.rs`).

#![allow(clippy::missing_safety_doc)] // all handlers: see `Run`

use super::code;
use super::execute::{refused, run};
use super::thunk::Form;
use crate::soft::blocks::Cold;
use crate::soft::fault::{Fallible, Flow};
use crate::soft::op::{Address, Base, Flat32, Full, Op, Reach, Run, fail, next};
use crate::soft::state::{Cpu, flag, mode};
use crate::soft::tlb::TlbSet;

/// Arithmetic flags go in or out.
const FLAGS: u8 = 1;
/// x87 or MMX registers must be live.
const X87: u8 = 2;

/// Where the memory operand is.
trait Operand {
    /// Its linear address; `None` if there is no operand.
    unsafe fn linear(cpu: &Cpu, op: *const Op) -> Option<u64>;
}

/// There is none.
struct Nowhere;

impl Operand for Nowhere {
    #[inline(always)]
    unsafe fn linear(_: &Cpu, _: *const Op) -> Option<u64> {
        None
    }
}

impl<A: Address> Operand for A {
    #[inline(always)]
    unsafe fn linear(cpu: &Cpu, op: *const Op) -> Option<u64> {
        // SAFETY: the caller's.
        Some(unsafe { A::linear(cpu, op) })
    }
}

/// The first execution: finds the form, and the handler for all further ones. `a` says how the operand is reached.
pub unsafe fn first(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`. Nothing here may need a stack frame: the call must become a jump.
    unsafe {
        if resolve(cpu, op) {
            ((*op).run)(cpu, op)
        }
    }
}

/// Whether the handler is known now; if not, the instruction has ended.
#[cold]
#[inline(never)]
unsafe fn resolve(cpu: &mut Cpu, op: *const Op) -> bool {
    // SAFETY: see `Run`; ops and colds are the block's own memory, which nothing else looks at now.
    unsafe {
        let cold = (*op).extra as *mut Cold;
        match cpu.find_form(&(*cold).instruction) {
            Err(fault) => fail(cpu, op, fault),
            Ok(None) => {
                cpu.rip = (*op).rip;
                cpu.budget -= i64::from((*op).number);
            }
            Ok(Some(form)) if cpu.mode & form.care != form.want => {
                fail(cpu, op, form.class.refusal(cpu.mode))
            }
            Ok(Some(form)) => {
                (*cold).form = Some(form);
                (*op.cast_mut()).run = handler(&form, Reach::of((*op).a));
                return true;
            }
        }
        false
    }
}

fn handler(form: &Form, reach: Reach) -> Run {
    macro_rules! kinds {
        ($operand:ty) => {
            match (form.x87, form.flags_in || form.flags_out) {
                (true, true) => short::<$operand, { X87 | FLAGS }> as Run,
                (true, false) => short::<$operand, X87>,
                (false, true) => short::<$operand, FLAGS>,
                (false, false) => short::<$operand, 0>,
            }
        };
    }
    match reach {
        _ if form.bytes == 0 => kinds!(Nowhere),
        Reach::Base => kinds!(Base),
        Reach::Full => kinds!(Full),
        Reach::Flat32 => kinds!(Flat32),
        Reach::General => long,
    }
}

unsafe fn form(op: *const Op) -> &'static Form {
    // SAFETY: see `Run`; `first` has put it there. It lives as long as the op, and is used no longer.
    unsafe { (*((*op).extra as *const Cold)).form.as_ref().unwrap_unchecked() }
}

/// `KIND`: what besides vector and general registers it needs.
unsafe fn short<O: Operand, const KIND: u8>(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`; a TLB hit has room for the access.
    unsafe {
        let form = form(op);
        if KIND & X87 != 0 && !cpu.vector.live {
            return long(cpu, op);
        }
        let mut memory = std::ptr::null_mut();
        let linear = O::linear(cpu, op);
        if let Some(linear) = linear {
            let set = &*cpu.tlb;
            let table = if form.writes { &set.write } else { &set.read };
            match TlbSet::hit(table, linear, u64::from(form.bytes)) {
                Some(host) if linear & u64::from(form.misaligned) == 0 => memory = host as *mut u8,
                _ => return long(cpu, op),
            }
        }
        if KIND & FLAGS != 0 && form.flags_in {
            cpu.vector.frame.flags = cpu.flags() & flag::ARITHMETIC | 2;
        }
        let answer = form.call(cpu, memory);
        if answer != code::DONE {
            return failed(cpu, op, answer);
        }
        if KIND & FLAGS != 0 && form.flags_out {
            cpu.set_arithmetic(cpu.vector.frame.flags);
        }
        if KIND & X87 != 0 && form.pointers {
            cpu.note_x87((*op).rip, form.opcode, linear.map(|linear| ((*op).segment(), linear)));
        }
        next!(cpu, op);
    }
}

#[cold]
#[inline(never)]
unsafe fn failed(cpu: &mut Cpu, op: *const Op, answer: u32) {
    // SAFETY: see `Run`.
    unsafe {
        cpu.rip = (*op).next_rip();
        let result = refused(cpu, answer, &(*((*op).extra as *const Cold)).instruction);
        finish(cpu, op, result)
    }
}

#[inline(never)]
unsafe fn long(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: see `Run`.
    unsafe {
        cpu.rip = (*op).next_rip();
        if cpu.mode & mode::LONG == 0 {
            cpu.rip &= 0xFFFF_FFFF;
        }
        let result = run(cpu, &(*((*op).extra as *const Cold)).instruction, form(op));
        finish(cpu, op, result)
    }
}

#[inline(always)]
unsafe fn finish(cpu: &mut Cpu, op: *const Op, result: Fallible<Flow>) {
    // SAFETY: see `Run`.
    unsafe {
        match result {
            Ok(Flow::Next) if !cpu.leave_block => next!(cpu, op),
            Ok(_) => cpu.budget -= i64::from((*op).number) + 1,
            Err(fault) => fail(cpu, op, fault),
        }
    }
}
