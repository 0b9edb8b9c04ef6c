//! The stack as far transfers and deliveries use it: the current one, and one about to become current.

use crate::registers::{Segment, segment};
use crate::soft::descriptor::{attribute, code_of};
use crate::soft::fault::{Fallible, Fault};
use crate::soft::operand::truncate;
use crate::soft::segmentation::is_canonical;
use crate::soft::state::Cpu;

/// Whether `bytes` bytes at `offset` lie within a segment's limit (expand-down ones have it below).
pub fn within_limit(segment: &Segment, offset: u64, bytes: u64) -> bool {
    let last = offset + (bytes - 1);
    let expand_down = attribute::NOT_SYSTEM | attribute::CODE | attribute::EXPAND_DOWN;
    if segment.attributes & expand_down == attribute::NOT_SYSTEM | attribute::EXPAND_DOWN {
        let top = if segment.is_big() { 0xFFFF_FFFF } else { 0xFFFF };
        offset > u64::from(segment.limit) && last <= top
    } else {
        last <= u64::from(segment.limit)
    }
}

/// Values pushed on a stack whose registers are not loaded yet. Nothing of the CPU changes until
/// [`Stack::commit`]; what is written below the stack pointer before a fault is not seen.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// SS as it will be.
    pub segment: Segment,
    /// RSP as it will be.
    pub pointer: u64,
    /// Privilege the stack is used with.
    pub cpl: u8,
    /// 64-bit mode: no limits, all of RSP.
    pub long: bool,
    /// Error code of the #SS a push beyond the limit raises.
    pub fault_code: u32,
}

impl Stack {
    /// The stack in use.
    pub fn current(cpu: &Cpu) -> Stack {
        Stack {
            segment: cpu.segments[segment::SS],
            pointer: cpu.general[4],
            cpl: cpu.cpl,
            long: cpu.is_64_bit(),
            fault_code: 0,
        }
    }

    /// A stack a privilege change leads to.
    pub fn inner(segment: Segment, pointer: u64, cpl: u8, long: bool) -> Stack {
        Stack { segment, pointer, cpl, long, fault_code: code_of(segment.selector) }
    }

    /// The pointer as far as this stack's width shows it.
    pub fn visible(&self) -> u64 {
        truncate(self.pointer, self.width())
    }

    fn width(&self) -> usize {
        match (self.long, self.segment.is_big()) {
            (true, _) => 8,
            (_, true) => 4,
            _ => 2,
        }
    }

    fn place(&mut self, moved: u64) {
        let mask = match self.width() {
            2 => 0xFFFF,
            4 => 0xFFFF_FFFF,
            _ => u64::MAX,
        };
        // A 32-bit stack outside 64-bit mode clears the upper half, which is not visible there.
        let kept = if mask == 0xFFFF { self.pointer & 0xFFFF_0000 } else { 0 };
        self.pointer = kept | moved & mask;
    }

    fn linear(&self, offset: u64, bytes: u64) -> Fallible<u64> {
        if self.long {
            let last = offset.wrapping_add(bytes - 1);
            if !is_canonical(offset) || !is_canonical(last) {
                return Err(Fault::stack(self.fault_code));
            }
            return Ok(offset);
        }
        if self.segment.unusable || !within_limit(&self.segment, offset, bytes) {
            return Err(Fault::stack(self.fault_code));
        }
        // 32 bits outside 64-bit mode, compatibility mode included (SDM 3A, 3.3.3)
        Ok(self.segment.base.wrapping_add(offset) & 0xFFFF_FFFF)
    }

    /// The same, with #AC where user code asks for it.
    fn aligned_linear(&self, cpu: &Cpu, offset: u64, bytes: u64) -> Fallible<u64> {
        let linear = self.linear(offset, bytes)?;
        if self.cpl == 3 && cpu.checks_alignment() && linear & (bytes - 1) != 0 {
            return Err(Fault::alignment_check());
        }
        Ok(linear)
    }

    /// Pushes the low `bytes` bytes of a value.
    #[inline]
    pub fn push(&mut self, cpu: &mut Cpu, value: u64, bytes: usize) -> Fallible<()> {
        if self.long && bytes == 8 {
            let pointer = self.pointer.wrapping_sub(8);
            // misaligned is for the general way: #AC
            if pointer & 7 == 0 && cpu.write_hit_as(self.cpl, pointer, value) {
                self.pointer = pointer;
                return Ok(());
            }
        }
        self.push_general(cpu, value, bytes)
    }

    #[inline(never)]
    fn push_general(&mut self, cpu: &mut Cpu, value: u64, bytes: usize) -> Fallible<()> {
        let pointer = truncate(self.visible().wrapping_sub(bytes as u64), self.width());
        let linear = self.aligned_linear(cpu, pointer, bytes as u64)?;
        cpu.write_linear_as(self.cpl, linear, bytes, value)?;
        cpu.watch_access(linear, bytes as u64, true);
        self.place(pointer);
        Ok(())
    }

    /// Pops `bytes` bytes.
    #[inline]
    pub fn pop(&mut self, cpu: &mut Cpu, bytes: usize) -> Fallible<u64> {
        if self.long
            && bytes == 8
            && self.pointer & 7 == 0
            && let Some(value) = cpu.read_hit_as(self.cpl, self.pointer)
        {
            self.pointer = self.pointer.wrapping_add(8);
            return Ok(value);
        }
        self.pop_general(cpu, bytes)
    }

    #[inline(never)]
    fn pop_general(&mut self, cpu: &mut Cpu, bytes: usize) -> Fallible<u64> {
        let value = self.peek(cpu, 0, bytes)?;
        self.release(bytes as u64);
        Ok(value)
    }

    /// Reads `bytes` bytes at a distance above the stack pointer.
    pub fn peek(&self, cpu: &mut Cpu, distance: u64, bytes: usize) -> Fallible<u64> {
        let offset = truncate(self.visible().wrapping_add(distance), self.width());
        let linear = self.aligned_linear(cpu, offset, bytes as u64)?;
        let value = cpu.read_linear_as(self.cpl, linear, bytes)?;
        cpu.watch_access(linear, bytes as u64, false);
        Ok(value)
    }

    /// Moves the pointer up.
    pub fn release(&mut self, bytes: u64) {
        self.place(self.visible().wrapping_add(bytes));
    }

    /// Makes this the CPU's stack pointer (SS is loaded by the caller, who knows about CPL).
    pub fn commit_pointer(&self, cpu: &mut Cpu) {
        cpu.set_general(4, self.pointer);
    }
}

impl Cpu {
    /// Pushes on the current stack.
    pub fn push(&mut self, value: u64, bytes: usize) -> Fallible<()> {
        let mut stack = Stack::current(self);
        stack.push(self, value, bytes)?;
        stack.commit_pointer(self);
        Ok(())
    }

    /// Pops from the current stack.
    pub fn pop(&mut self, bytes: usize) -> Fallible<u64> {
        let mut stack = Stack::current(self);
        let value = stack.pop(self, bytes)?;
        stack.commit_pointer(self);
        Ok(value)
    }
}
