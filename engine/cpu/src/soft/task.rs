//! Task switches through 16- and 32-bit TSS, and the I/O permission bitmap (Intel SDM 3A, chapter 8;
//! SDM 1, section 19.5).
//!
//! Until the commit point a fault belongs to the old task. After it the new task is the one that faults, so
//! the exception is left in [`Cpu::pending`], with the new task's EIP as its return address.

use crate::registers::{Event, EventKind, Segment, segment};
use crate::soft::descriptor::{Descriptor, attribute, code_of, is_null, kind};
use crate::soft::fault::{Fallible, Fault};
use crate::soft::segmentation::{null_segment, real_segment};
use crate::soft::stack::Stack;
use crate::soft::state::{Cpu, flag};
use crate::soft::walk::{Access, bits};

/// What switches tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskSwitch {
    /// JMP.
    Jump,
    /// CALL.
    Call,
    /// IRET with NT set.
    Return,
    /// A task gate in the IDT.
    Event {
        /// Pushed on the new task's stack.
        error_code: Option<u32>,
    },
}

impl TaskSwitch {
    /// The new task links back to the old one, which stays busy.
    const fn nests(self) -> bool {
        matches!(self, TaskSwitch::Call | TaskSwitch::Event { .. })
    }
}

/// Last byte the processor uses of a 32-bit TSS.
const LIMIT_32: u32 = 0x67;
/// Last byte the processor uses of a 16-bit TSS.
const LIMIT_16: u32 = 0x2B;
/// DR6.BT.
const DR6_BT: u64 = 1 << 15;
/// DR7: LE and L0 to L3.
const DR7_LOCAL: u64 = 0x155;

/// The part of a TSS that a switch loads.
#[derive(Clone, Copy, Debug, Default)]
struct TaskState {
    cr3: u64,
    rip: u64,
    flags: u64,
    general: [u64; 8],
    /// In the order of instruction encodings, which is the TSS's.
    selectors: [u16; 6],
    ldt: u16,
    trap: bool,
}

impl Cpu {
    /// Switches to the task a task gate names.
    pub fn switch_through_gate(&mut self, tss: u16, how: TaskSwitch) -> Fallible<()> {
        self.switch_task(tss, how)
    }

    /// Switches to the task of an available TSS.
    pub fn switch_task(&mut self, selector: u16, how: TaskSwitch) -> Fallible<()> {
        let code = code_of(selector);
        if selector & 4 != 0 || is_null(selector) {
            return Err(Fault::general_protection(code));
        }
        let descriptor = self.descriptor(selector, Fault::general_protection)?;
        if !descriptor.is_system() || !matches!(descriptor.kind(), kind::TSS16 | kind::TSS32) {
            return Err(Fault::general_protection(code));
        }
        if !descriptor.is_present() {
            return Err(Fault::segment_not_present(code));
        }
        self.switch(selector, descriptor, how)
    }

    /// IRET with NT set: back to the task that called.
    pub fn return_from_task(&mut self) -> Fallible<()> {
        let link = self.read_system::<u16>(self.tr.base)?;
        let code = code_of(link);
        if link & 4 != 0 || is_null(link) {
            return Err(Fault::invalid_tss(code));
        }
        let descriptor = self.descriptor(link, Fault::invalid_tss)?;
        if !descriptor.is_system() || !matches!(descriptor.kind(), kind::TSS16_BUSY | kind::TSS32_BUSY) {
            return Err(Fault::invalid_tss(code));
        }
        if !descriptor.is_present() {
            return Err(Fault::segment_not_present(code));
        }
        self.switch(link, descriptor, TaskSwitch::Return)
    }

    fn switch(&mut self, selector: u16, descriptor: Descriptor, how: TaskSwitch) -> Fallible<()> {
        self.count_exactly()?; // later it could not be begun again
        let is_32 = descriptor.kind() & 8 != 0;
        let old_is_32 = self.tr.attributes & 8 != 0;
        let limit = |is_32| if is_32 { LIMIT_32 } else { LIMIT_16 };
        if descriptor.limit() < limit(is_32) {
            return Err(Fault::invalid_tss(code_of(selector)));
        }
        if self.tr.unusable || self.tr.limit < limit(old_is_32) {
            return Err(Fault::invalid_tss(code_of(self.tr.selector)));
        }
        let (old_base, new_base) = (self.tr.base, descriptor.base());
        self.probe_system(old_base, limit(old_is_32) as usize + 1, Access::Write)?;
        let access = if how.nests() { Access::Write } else { Access::Read };
        self.probe_system(new_base, limit(is_32) as usize + 1, access)?;
        self.probe_system(descriptor.address, 8, Access::Write)?;
        let mut new = self.read_task(new_base, is_32)?;

        let mut old_flags = self.flags();
        if how == TaskSwitch::Return {
            old_flags &= !flag::NT;
        }
        self.save_task(old_base, old_is_32, old_flags)?;
        if !how.nests()
            && let Some(address) = self.descriptor_address(self.tr.selector, 8)
        {
            self.set_busy(address, false)?;
        }
        if how.nests() {
            self.write_system::<u16>(new_base, self.tr.selector)?;
            new.flags |= flag::NT;
        }
        if how != TaskSwitch::Return {
            self.set_busy(descriptor.address, true)?;
        }
        self.tr = descriptor.segment(selector);
        self.tr.attributes |= attribute::WRITABLE;

        // The commit point.
        let entered = self.enter_task(&new, is_32, how);
        if let Err(fault) = entered {
            let Fault { vector, error_code } = fault;
            self.pending = Some(Event { vector, error_code, kind: EventKind::Exception });
        } else if new.trap {
            self.debug[4] |= DR6_BT;
            self.pending = Some(Event { vector: 1, error_code: None, kind: EventKind::Exception });
        }
        self.leave_block = true;
        Ok(())
    }

    fn field(&mut self, base: u64, offset: u64, bytes: usize) -> Fallible<u64> {
        let at = self.wrap_linear(base.wrapping_add(offset));
        Ok(match bytes {
            2 => u64::from(self.read_system::<u16>(at)?),
            _ => u64::from(self.read_system::<u32>(at)?),
        })
    }

    fn set_field(&mut self, base: u64, offset: u64, bytes: usize, value: u64) -> Fallible<()> {
        let at = self.wrap_linear(base.wrapping_add(offset));
        match bytes {
            2 => self.write_system::<u16>(at, value as u16),
            _ => self.write_system::<u32>(at, value as u32),
        }
    }

    fn read_task(&mut self, base: u64, is_32: bool) -> Fallible<TaskState> {
        let mut state = TaskState::default();
        if is_32 {
            state.cr3 = self.field(base, 28, 4)?;
            state.rip = self.field(base, 32, 4)?;
            state.flags = self.field(base, 36, 4)?;
            for n in 0..8 {
                state.general[n] = self.field(base, 40 + 4 * n as u64, 4)?;
            }
            for n in 0..6 {
                state.selectors[n] = self.field(base, 72 + 4 * n as u64, 2)? as u16;
            }
            state.ldt = self.field(base, 96, 2)? as u16;
            state.trap = self.field(base, 100, 2)? & 1 != 0;
        } else {
            state.rip = self.field(base, 14, 2)?;
            state.flags = self.field(base, 16, 2)?;
            for n in 0..8 {
                state.general[n] = self.field(base, 18 + 2 * n as u64, 2)? | self.general[n] & 0xFFFF_0000;
            }
            for n in 0..4 {
                state.selectors[n] = self.field(base, 34 + 2 * n as u64, 2)? as u16;
            }
            state.ldt = self.field(base, 42, 2)? as u16;
        }
        Ok(state)
    }

    fn save_task(&mut self, base: u64, is_32: bool, flags: u64) -> Fallible<()> {
        let (rip_at, general_at, selectors_at, bytes, selectors) =
            if is_32 { (32, 40, 72, 4, 6) } else { (14, 18, 34, 2, 4) };
        self.set_field(base, rip_at, bytes, self.rip)?;
        self.set_field(base, rip_at + bytes as u64, bytes, flags)?;
        for n in 0..8 {
            self.set_field(base, general_at + (bytes * n) as u64, bytes, self.general[n])?;
        }
        for n in 0..selectors {
            let selector = u64::from(self.segments[n].selector);
            self.set_field(base, selectors_at + (bytes * n) as u64, 2, selector)?;
        }
        Ok(())
    }

    /// Everything after the commit point.
    fn enter_task(&mut self, new: &TaskState, is_32: bool, how: TaskSwitch) -> Fallible<()> {
        self.cr0 |= bits::CR0_TS;
        self.debug[5] &= !DR7_LOCAL;
        self.breakpoints_changed();
        self.general[..8].copy_from_slice(&new.general);
        self.rip = new.rip;
        self.load_flags(new.flags);
        for (index, &selector) in new.selectors.iter().enumerate() {
            self.set_segment(index, null_segment(selector));
        }
        self.ldtr = null_segment(new.ldt);
        if is_32 && self.cr0 & bits::CR0_PG != 0 && new.cr3 != self.cr3 {
            self.load_cr3(new.cr3)?;
        }
        if !is_null(new.ldt) {
            self.ldtr = self.task_ldt(new.ldt)?;
        }
        if new.flags & flag::VM != 0 && is_32 {
            for (index, &selector) in new.selectors.iter().enumerate() {
                let segment = real_segment(&self.segments[index], selector, true);
                self.set_segment(index, segment);
            }
        } else {
            let code = self.task_code(new.selectors[segment::CS])?;
            self.set_segment(segment::CS, code);
            for index in [segment::SS, segment::ES, segment::DS, segment::FS, segment::GS] {
                let loaded = self.check_segment(index, new.selectors[index], self.cpl, Fault::invalid_tss)?;
                self.set_segment(index, loaded);
            }
        }
        if let TaskSwitch::Event { error_code: Some(error_code) } = how {
            let mut stack = Stack::current(self);
            stack.push(self, u64::from(error_code), if is_32 { 4 } else { 2 })?;
            stack.commit_pointer(self);
        }
        if new.rip > u64::from(self.segments[segment::CS].limit) {
            return Err(Fault::general_protection(0));
        }
        Ok(())
    }

    fn task_ldt(&mut self, selector: u16) -> Fallible<Segment> {
        let checked = self.check_system_segment(selector, &[kind::LDT], Fault::invalid_tss);
        let (segment, _) = checked.map_err(|fault| match fault.vector {
            11 => Fault::invalid_tss(code_of(selector)),
            _ => fault,
        })?;
        Ok(segment)
    }

    fn task_code(&mut self, selector: u16) -> Fallible<Segment> {
        let code = code_of(selector);
        if is_null(selector) {
            return Err(Fault::invalid_tss(0));
        }
        let mut descriptor = self.descriptor(selector, Fault::invalid_tss)?;
        let rpl = (selector & 3) as u8;
        let fits = if descriptor.is_conforming() { descriptor.dpl() <= rpl } else { descriptor.dpl() == rpl };
        if !descriptor.is_code() || !fits {
            return Err(Fault::invalid_tss(code));
        }
        if !descriptor.is_present() {
            return Err(Fault::segment_not_present(code));
        }
        self.set_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// Whether IN, OUT, INS or OUTS may touch `bytes` ports from `port` on.
    pub fn check_io(&mut self, port: u16, bytes: usize) -> Fallible<()> {
        if !self.is_protected_or_v8086() || !self.is_v8086() && self.cpl <= self.iopl() {
            return Ok(());
        }
        let denied = Fault::general_protection(0);
        if self.tr.unusable || self.tr.attributes & 8 == 0 || self.tr.limit < 103 {
            return Err(denied);
        }
        let map = u32::from(self.read_system::<u16>(self.wrap_linear(self.tr.base.wrapping_add(102)))?);
        let offset = map + u32::from(port) / 8;
        // Two bytes are always read, so that one of them may lie behind the ports' own.
        if offset + 1 > self.tr.limit {
            return Err(denied);
        }
        let at = self.wrap_linear(self.tr.base.wrapping_add(u64::from(offset)));
        let bits = self.read_system::<u16>(at)? >> (port & 7);
        if bits & ((1 << bytes) - 1) != 0 { Err(denied) } else { Ok(()) }
    }
}
