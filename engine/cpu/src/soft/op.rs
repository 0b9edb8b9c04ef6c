//! A decoded instruction, and how handlers get at its operands and go on to the next one.
//!
//! A handler ends in a call in tail position to the next op's handler; LLVM makes it a jump because the
//! arguments stay in registers and nothing is left to drop. Everything unlikely is a call in tail position
//! too, to a function of its own, so that no handler needs a stack frame.

use super::fault::Fault;
use super::state::{Cpu, mode};
use super::word::Word;

/// What executes an op: CPU, the op.
///
/// # Safety
/// The op belongs to a block of this CPU, its fields are what the handler expects, and the block outlives
/// the call (blocks are freed by the dispatcher only).
pub type Run = unsafe fn(&mut Cpu, *const Op);

/// One decoded instruction, or the exit of a block.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Op {
    /// The handler.
    pub run: Run,
    /// Immediate; of an exit, the target's offset.
    pub imm: u64,
    /// Displacement; of an exit, the `jump_key` its link is valid for (0: not linked).
    pub disp: u64,
    /// The instruction's own offset; of an exit, the number of the linked block.
    pub rip: u64,
    /// Byte offset of the first register operand in [`Cpu`].
    pub a: u8,
    /// Byte offset of the second.
    pub b: u8,
    /// Byte offset of the base register.
    pub base: u8,
    /// Byte offset of the index register.
    pub index: u8,
    /// Shift of the index (bits 0 and 1), segment (bits 2 to 4), address size (bits 5 and 6: 16, 32, 64).
    pub memory: u8,
    /// Length of the instruction in bytes.
    pub length: u8,
    /// Instructions of the block before this one; of an exit, all of them.
    pub number: u8,
    /// Operand size of stack and branch instructions in bytes.
    pub bytes: u8,
    /// A `Cold`, or the first op of the linked block.
    pub extra: *const (),
}

/// The offset in [`Cpu`] that always reads as zero.
pub const ZERO: u8 = 128;

impl Op {
    /// Segment of the memory operand.
    #[inline(always)]
    pub fn segment(&self) -> usize {
        (self.memory >> 2 & 7) as usize
    }

    /// Offset of the instruction after this one.
    #[inline(always)]
    pub fn next_rip(&self) -> u64 {
        self.rip + u64::from(self.length)
    }
}

/// Reads a register operand.
///
/// # Safety
/// `at` is a byte offset into `Cpu::general` (or [`ZERO`]) with room for a `T`.
#[inline(always)]
pub unsafe fn get<T: Word>(cpu: &Cpu, at: u8) -> T {
    // SAFETY: `general` is at offset 0 of the `repr(C)` CPU, and `zero` follows it.
    unsafe { (&raw const *cpu as *const u8).add(at as usize).cast::<T>().read_unaligned() }
}

/// Writes a register operand.
///
/// # Safety
/// As for [`get`]; of 32- and 64-bit registers `at` is the start.
#[inline(always)]
pub unsafe fn put<T: Word>(cpu: &mut Cpu, at: u8, value: T) {
    // SAFETY: as above.
    unsafe { value.put((&raw mut *cpu as *mut u8).add(at as usize)) }
}

/// How a memory operand is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reach {
    /// As [`Base`].
    Base,
    /// As [`Full`].
    Full,
    /// As [`Flat32`].
    Flat32,
    /// With a segment, or in 16 bits.
    General,
}

impl Reach {
    /// From its number.
    pub fn of(number: u8) -> Reach {
        [Reach::Base, Reach::Full, Reach::Flat32].get(usize::from(number)).copied().unwrap_or(Reach::General)
    }
}

/// How a memory operand's linear address is found, when that is simple.
pub trait Address: 'static {
    /// The linear address.
    ///
    /// # Safety
    /// As for [`Run`].
    unsafe fn linear(cpu: &Cpu, op: *const Op) -> u64;
}

/// Flat, 64-bit, a base register at most.
pub struct Base;
/// Flat, 64-bit, base and scaled index.
pub struct Full;
/// Flat, 32-bit.
pub struct Flat32;

impl Address for Base {
    #[inline(always)]
    unsafe fn linear(cpu: &Cpu, op: *const Op) -> u64 {
        // SAFETY: the caller's.
        unsafe { get::<u64>(cpu, (*op).base).wrapping_add((*op).disp) }
    }
}

impl Address for Full {
    #[inline(always)]
    unsafe fn linear(cpu: &Cpu, op: *const Op) -> u64 {
        // SAFETY: the caller's.
        unsafe {
            let index = get::<u64>(cpu, (*op).index) << ((*op).memory & 3);
            get::<u64>(cpu, (*op).base).wrapping_add(index).wrapping_add((*op).disp)
        }
    }
}

impl Address for Flat32 {
    #[inline(always)]
    unsafe fn linear(cpu: &Cpu, op: *const Op) -> u64 {
        // SAFETY: the caller's.
        unsafe { Full::linear(cpu, op) & 0xFFFF_FFFF }
    }
}

/// Offset of the memory operand in its segment, whatever the address size.
///
/// # Safety
/// As for [`Run`].
#[inline(always)]
pub unsafe fn offset(cpu: &Cpu, op: *const Op) -> u64 {
    // SAFETY: the caller's.
    let (full, size) = unsafe { (Full::linear(cpu, op), (*op).memory >> 5) };
    match size {
        0 => full & 0xFFFF,
        1 => full & 0xFFFF_FFFF,
        _ => full,
    }
}

/// Goes on with the op after this one.
macro_rules! next {
    ($cpu:expr, $op:expr) => {{
        let next = $op.add(1);
        return ((*next).run)($cpu, next);
    }};
}
pub(super) use next;

/// The same from where a store or a device access may have happened.
macro_rules! finish {
    ($cpu:expr, $op:expr) => {{
        if $cpu.leave_block {
            return crate::soft::op::leave_after($cpu, $op);
        }
        crate::soft::op::next!($cpu, $op);
    }};
}
pub(super) use finish;

/// Unwraps, or ends the instruction with its fault.
macro_rules! check {
    ($cpu:expr, $op:expr, $result:expr) => {
        match $result {
            Ok(value) => value,
            Err(fault) => return crate::soft::op::fail($cpu, $op, fault),
        }
    };
}
pub(super) use check;

/// The instruction faulted: back to the dispatcher, which delivers.
///
/// # Safety
/// As for [`Run`].
#[cold]
#[inline(never)]
pub unsafe fn fail(cpu: &mut Cpu, op: *const Op, fault: Fault) {
    // SAFETY: the caller's.
    unsafe {
        cpu.rip = (*op).rip;
        cpu.budget -= i64::from((*op).number);
    }
    cpu.outcome.fault = Some(fault);
}

/// The instruction is complete, and the dispatcher wanted.
///
/// # Safety
/// As for [`Run`].
#[cold]
#[inline(never)]
pub unsafe fn leave_after(cpu: &mut Cpu, op: *const Op) {
    // SAFETY: the caller's.
    unsafe {
        if cpu.may_go_on(op) {
            cpu.leave_block = false;
            next!(cpu, op);
        }
        cpu.rip = (*op).next_rip();
        cpu.budget -= i64::from((*op).number) + 1;
    }
    if cpu.mode & mode::LONG == 0 {
        cpu.rip &= 0xFFFF_FFFF;
    }
}
