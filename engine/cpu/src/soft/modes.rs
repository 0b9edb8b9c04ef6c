//! Which mode the processor is in, and the changes that must keep the derived state right: segment
//! registers (CPL, mode word), flags (VM, AC, IF, TF).

use crate::registers::{Segment, segment};
use crate::soft::state::{Cpu, flag, mode};
use crate::soft::walk::bits;

impl Cpu {
    /// CR0.PE set and not virtual-8086.
    pub fn is_protected(&self) -> bool {
        self.mode & (mode::REAL | mode::VIRTUAL_8086) == 0
    }

    /// CR0.PE set.
    pub fn is_protected_or_v8086(&self) -> bool {
        self.mode & mode::REAL == 0
    }

    /// Virtual-8086 mode.
    pub fn is_v8086(&self) -> bool {
        self.mode & mode::VIRTUAL_8086 != 0
    }

    /// IA-32e mode: 64-bit or compatibility.
    pub fn is_long_mode(&self) -> bool {
        self.efer & bits::EFER_LMA != 0
    }

    /// 64-bit mode.
    pub fn is_64_bit(&self) -> bool {
        self.mode & mode::LONG != 0
    }

    /// EFLAGS.IOPL.
    pub fn iopl(&self) -> u8 {
        (self.system_flags >> 12 & 3) as u8
    }

    /// #AC is on: CR0.AM, EFLAGS.AC and CPL 3.
    pub fn checks_alignment(&self) -> bool {
        self.cpl == 3 && self.cr0 & bits::CR0_AM != 0 && self.system_flags & flag::AC != 0
    }

    /// Puts a checked value into a segment register. CS brings CPL with it.
    pub fn set_segment(&mut self, index: usize, value: Segment) {
        self.segments[index] = value;
        if index == segment::CS {
            self.cpl = if self.cr0 & bits::CR0_PE == 0 {
                0
            } else if self.system_flags & flag::VM != 0 {
                3
            } else {
                (value.selector & 3) as u8
            };
        }
        self.update_mode();
    }

    /// Puts checked values into CS and SS, after RFLAGS.
    pub fn set_code_and_stack(&mut self, code: Segment, stack: Segment) {
        self.segments[segment::SS] = stack;
        self.set_segment(segment::CS, code);
    }

    /// Sets all of RFLAGS, with whatever depends on it.
    pub fn load_flags(&mut self, value: u64) {
        self.set_flags(value);
        self.update_mode();
        self.leave_block = true;
    }

    /// Sets a general register.
    pub fn set_general(&mut self, number: usize, value: u64) {
        self.general[number] = value;
    }
}
