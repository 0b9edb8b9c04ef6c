//! Far JMP, CALL, RET and IRET in every mode, with call gates and stack switches (Intel SDM 2A: JMP, CALL,
//! RET, IRET; SDM 3A, section 5.8). Task switches are in `task.rs`.

use iced_x86::{Code, Instruction, OpKind};

use crate::registers::{Segment, segment};
use crate::soft::descriptor::{Descriptor, attribute, code_of, is_null, kind};
use crate::soft::fault::{ColdHandler, Fallible, Fault, Flow};
use crate::soft::operand::{address_bytes, truncate};
use crate::soft::segmentation::{is_canonical, null_segment, real_segment};
use crate::soft::stack::Stack;
use crate::soft::state::Cpu;
use crate::soft::state::flag as flags;
use crate::soft::task::TaskSwitch;

/// The cold handler of a far transfer.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    Some(match instruction.code() {
        Code::Jmp_ptr1616 | Code::Jmp_ptr1632 | Code::Jmp_m1616 | Code::Jmp_m1632 | Code::Jmp_m1664 => {
            far_jump
        }
        Code::Call_ptr1616 | Code::Call_ptr1632 | Code::Call_m1616 | Code::Call_m1632 | Code::Call_m1664 => {
            far_call
        }
        Code::Retfw | Code::Retfd | Code::Retfq => far_return,
        Code::Retfw_imm16 | Code::Retfd_imm16 | Code::Retfq_imm16 => far_return,
        Code::Iretw | Code::Iretd | Code::Iretq => interrupt_return,
        _ => return None,
    })
}

/// Operand size of a far transfer in bytes.
fn operand_bytes(code: Code) -> usize {
    match code {
        Code::Jmp_ptr1616 | Code::Jmp_m1616 | Code::Call_ptr1616 | Code::Call_m1616 => 2,
        Code::Retfw | Code::Retfw_imm16 | Code::Iretw => 2,
        Code::Jmp_m1664 | Code::Call_m1664 | Code::Retfq | Code::Retfq_imm16 | Code::Iretq => 8,
        _ => 4,
    }
}

/// Selector and offset a far JMP or CALL names.
fn target(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<(u16, u64)> {
    match instruction.op0_kind() {
        OpKind::FarBranch16 => Ok((instruction.far_branch_selector(), u64::from(instruction.far_branch16()))),
        OpKind::FarBranch32 => Ok((instruction.far_branch_selector(), u64::from(instruction.far_branch32()))),
        _ => {
            let bytes = operand_bytes(instruction.code());
            let (segment, offset) = cpu.effective_address(instruction);
            let target = cpu.read_bytes(segment, offset, bytes)?;
            let second = truncate(offset.wrapping_add(bytes as u64), address_bytes(instruction));
            Ok((cpu.read_bytes(segment, second, 2)? as u16, target))
        }
    }
}

/// A code segment that has passed its checks, and where in it to go on.
struct CodeTarget {
    segment: Segment,
    rip: u64,
}

impl Cpu {
    /// Marks a checked code descriptor as accessed, makes the register with `cpl` as RPL, and checks `rip`.
    fn code_target(
        &mut self,
        mut descriptor: Descriptor,
        selector: u16,
        cpl: u8,
        rip: u64,
    ) -> Fallible<CodeTarget> {
        let code = code_of(selector);
        if !descriptor.is_present() {
            return Err(Fault::segment_not_present(code));
        }
        let long = self.is_long_mode() && descriptor.is_long();
        let in_range = if long { is_canonical(rip) } else { rip <= u64::from(descriptor.limit()) };
        if !in_range {
            return Err(Fault::general_protection(0));
        }
        self.set_accessed(&mut descriptor)?;
        Ok(CodeTarget { segment: descriptor.segment(selector & !3 | u16::from(cpl)), rip })
    }

    /// L and D together are reserved in IA-32e mode.
    fn is_bad_long_code(&self, descriptor: Descriptor) -> bool {
        self.is_long_mode() && descriptor.is_long() && descriptor.is_big()
    }

    fn direct_target(&mut self, descriptor: Descriptor, selector: u16, rip: u64) -> Fallible<CodeTarget> {
        let (cpl, rpl) = (self.cpl, (selector & 3) as u8);
        let allowed = if descriptor.is_conforming() {
            descriptor.dpl() <= cpl
        } else {
            rpl <= cpl && descriptor.dpl() == cpl
        };
        if !allowed || self.is_bad_long_code(descriptor) {
            return Err(Fault::general_protection(code_of(selector)));
        }
        self.code_target(descriptor, selector, cpl, rip)
    }

    fn enter_code(&mut self, target: &CodeTarget) {
        self.set_segment(segment::CS, target.segment);
        self.rip = target.rip;
    }

    /// The descriptor a far JMP or CALL names.
    fn transfer_descriptor(&mut self, selector: u16) -> Fallible<Descriptor> {
        if is_null(selector) {
            return Err(Fault::general_protection(0));
        }
        let descriptor = self.descriptor(selector, Fault::general_protection)?;
        let usable = if descriptor.is_system() {
            let weakest = self.cpl.max((selector & 3) as u8);
            let known = match descriptor.kind() {
                kind::CALL_GATE32 => true,
                kind::CALL_GATE16 | kind::TASK_GATE | kind::TSS16 | kind::TSS32 => !self.is_long_mode(),
                _ => false,
            };
            known && descriptor.dpl() >= weakest
        } else {
            descriptor.is_code()
        };
        if !usable {
            return Err(Fault::general_protection(code_of(selector)));
        }
        if descriptor.is_system() && !descriptor.is_present() {
            return Err(Fault::segment_not_present(code_of(selector)));
        }
        Ok(descriptor)
    }

    /// The code segment a call gate leads to: descriptor, selector, offset.
    fn through_gate(&mut self, gate: Descriptor, gate_selector: u16) -> Fallible<(Descriptor, u16, u64)> {
        let mut offset = u64::from(gate.gate_offset());
        if gate.kind() == kind::CALL_GATE16 {
            offset &= 0xFFFF;
        }
        if self.is_long_mode() {
            let upper = self.descriptor_upper(gate_selector, Fault::general_protection)?;
            if upper >> 40 & 0x1F != 0 {
                return Err(Fault::general_protection(code_of(gate_selector)));
            }
            offset |= upper << 32;
        }
        let selector = gate.gate_selector();
        if is_null(selector) {
            return Err(Fault::general_protection(0));
        }
        let descriptor = self.descriptor(selector, Fault::general_protection)?;
        let long_ok = !self.is_long_mode() || descriptor.is_long() && !descriptor.is_big();
        if !descriptor.is_code() || descriptor.dpl() > self.cpl || !long_ok {
            return Err(Fault::general_protection(code_of(selector)));
        }
        Ok((descriptor, selector, offset))
    }

    fn real_target(&self, selector: u16, offset: u64) -> Fallible<CodeTarget> {
        let segment = real_segment(&self.segments[segment::CS], selector, self.is_v8086());
        if offset > u64::from(segment.limit) {
            return Err(Fault::general_protection(0));
        }
        Ok(CodeTarget { segment, rip: offset })
    }

    /// JMP to `selector:offset`.
    pub fn far_jump(&mut self, selector: u16, offset: u64) -> Fallible<()> {
        if !self.is_protected() {
            let target = self.real_target(selector, offset)?;
            self.enter_code(&target);
            return Ok(());
        }
        let descriptor = self.transfer_descriptor(selector)?;
        let target = match descriptor.kind() {
            _ if !descriptor.is_system() => self.direct_target(descriptor, selector, offset)?,
            kind::TASK_GATE => return self.switch_through_gate(descriptor.gate_selector(), TaskSwitch::Jump),
            kind::TSS16 | kind::TSS32 => return self.switch_task(selector, TaskSwitch::Jump),
            _ => {
                let (code, selector, offset) = self.through_gate(descriptor, selector)?;
                if !code.is_conforming() && code.dpl() != self.cpl {
                    return Err(Fault::general_protection(code_of(selector)));
                }
                self.code_target(code, selector, self.cpl, offset)?
            }
        };
        self.enter_code(&target);
        Ok(())
    }

    /// CALL to `selector:offset` with an operand size of `bytes`.
    pub fn far_call(&mut self, selector: u16, offset: u64, bytes: usize) -> Fallible<()> {
        if !self.is_protected() {
            let target = self.real_target(selector, offset)?;
            return self.call_on(Stack::current(self), &target, bytes);
        }
        let descriptor = self.transfer_descriptor(selector)?;
        match descriptor.kind() {
            _ if !descriptor.is_system() => {
                let target = self.direct_target(descriptor, selector, offset)?;
                self.call_on(Stack::current(self), &target, bytes)
            }
            kind::TASK_GATE => self.switch_through_gate(descriptor.gate_selector(), TaskSwitch::Call),
            kind::TSS16 | kind::TSS32 => self.switch_task(selector, TaskSwitch::Call),
            _ => self.call_through_gate(descriptor, selector),
        }
    }

    fn call_on(&mut self, mut stack: Stack, target: &CodeTarget, bytes: usize) -> Fallible<()> {
        stack.push(self, u64::from(self.segments[segment::CS].selector), bytes)?;
        stack.push(self, self.rip, bytes)?;
        self.segments[segment::SS] = stack.segment;
        stack.commit_pointer(self);
        self.enter_code(target);
        Ok(())
    }

    fn call_through_gate(&mut self, gate: Descriptor, gate_selector: u16) -> Fallible<()> {
        let (code, selector, offset) = self.through_gate(gate, gate_selector)?;
        let long = self.is_long_mode();
        let bytes = if long {
            8
        } else if gate.kind() == kind::CALL_GATE32 {
            4
        } else {
            2
        };
        if code.is_conforming() || code.dpl() == self.cpl {
            let target = self.code_target(code, selector, self.cpl, offset)?;
            let mut stack = Stack::current(self);
            stack.long = long;
            return self.call_on(stack, &target, bytes);
        }
        let cpl = code.dpl();
        let old = Stack::current(self);
        let mut stack = if long {
            let pointer = self.tss_rsp(cpl)?;
            let ss = Segment { attributes: u16::from(cpl) << 5, ..null_segment(u16::from(cpl)) };
            Stack::inner(ss, pointer, cpl, true)
        } else {
            let (ss, pointer) = self.stack_from_tss(cpl)?;
            Stack::inner(self.inner_stack_segment(ss, cpl)?, pointer, cpl, false)
        };
        let target = self.code_target(code, selector, cpl, offset)?;
        stack.push(self, u64::from(old.segment.selector), bytes)?;
        stack.push(self, old.visible(), bytes)?;
        if !long {
            for n in (0..u64::from(gate.gate_parameters())).rev() {
                let parameter = old.peek(self, n * bytes as u64, bytes)?;
                stack.push(self, parameter, bytes)?;
            }
        }
        self.call_on(stack, &target, bytes)
    }

    /// RET to another segment, releasing `extra` bytes of parameters.
    pub fn far_return(&mut self, bytes: usize, extra: u64) -> Fallible<()> {
        let mut stack = Stack::current(self);
        let rip = stack.pop(self, bytes)?;
        let selector = stack.pop(self, bytes)? as u16;
        if !self.is_protected() {
            let target = self.real_target(selector, rip)?;
            stack.release(extra);
            stack.commit_pointer(self);
            self.enter_code(&target);
            return Ok(());
        }
        let target = self.return_target(selector, rip)?;
        if (selector & 3) as u8 == self.cpl {
            stack.commit_pointer(self);
            self.enter_code(&target);
            let mut stack = Stack::current(self); // as wide as the new code segment makes it
            stack.release(extra);
            stack.commit_pointer(self);
            return Ok(());
        }
        stack.release(extra);
        let rsp = stack.pop(self, bytes)?;
        let ss = stack.pop(self, bytes)? as u16;
        let mut outer = self.outer_stack(ss, rsp, &target, bytes)?;
        self.segments[segment::SS] = outer.segment;
        self.enter_code(&target);
        outer.release(extra);
        outer.commit_pointer(self);
        self.drop_inner_segments();
        Ok(())
    }

    /// Checks the code segment RET or IRET goes back to.
    fn return_target(&mut self, selector: u16, rip: u64) -> Fallible<CodeTarget> {
        if is_null(selector) {
            return Err(Fault::general_protection(0));
        }
        let code = code_of(selector);
        let rpl = (selector & 3) as u8;
        let descriptor = self.descriptor(selector, Fault::general_protection)?;
        let level_fits =
            if descriptor.is_conforming() { descriptor.dpl() <= rpl } else { descriptor.dpl() == rpl };
        if !descriptor.is_code() || rpl < self.cpl || !level_fits || self.is_bad_long_code(descriptor) {
            return Err(Fault::general_protection(code));
        }
        self.code_target(descriptor, selector, rpl, rip)
    }

    /// Checks the stack a return to `target` goes back to.
    fn outer_stack(&mut self, selector: u16, rsp: u64, target: &CodeTarget, bytes: usize) -> Fallible<Stack> {
        let cpl = (target.segment.selector & 3) as u8;
        let long = self.is_long_mode() && target.segment.is_long();
        let code = code_of(selector);
        let segment = if is_null(selector) {
            if !long || cpl == 3 || (selector & 3) as u8 != cpl {
                return Err(Fault::general_protection(0));
            }
            Segment { attributes: u16::from(cpl) << 5, ..null_segment(selector) }
        } else {
            let mut descriptor = self.descriptor(selector, Fault::general_protection)?;
            let fits = (selector & 3) as u8 == cpl && descriptor.dpl() == cpl;
            if !fits || !descriptor.is_writable_data() {
                return Err(Fault::general_protection(code));
            }
            if !descriptor.is_present() {
                return Err(Fault::stack(code));
            }
            self.set_accessed(&mut descriptor)?;
            descriptor.segment(selector)
        };
        // A 16-bit stack keeps the upper half of ESP, whatever was popped.
        let pointer = if long || segment.is_big() {
            truncate(rsp, if long { bytes } else { 4 })
        } else {
            self.general[4] & 0xFFFF_0000 | rsp & 0xFFFF
        };
        Ok(Stack { segment, pointer, cpl, long, fault_code: 0 })
    }

    /// After a return to less privilege: data segments it may not see become null.
    fn drop_inner_segments(&mut self) {
        let cpl = self.cpl;
        for index in [segment::ES, segment::DS, segment::FS, segment::GS] {
            let segment = self.segments[index];
            let conforming = attribute::CODE | attribute::EXPAND_DOWN;
            let is_conforming = segment.attributes & conforming == conforming;
            if !segment.unusable && segment.dpl() < cpl && !is_conforming {
                // Only the selector goes: in 64-bit mode the bases of FS and GS live on.
                self.set_segment(index, Segment { selector: 0, unusable: true, ..segment });
            }
        }
    }

    /// IRET with an operand size of `bytes`.
    pub fn interrupt_return(&mut self, bytes: usize) -> Fallible<()> {
        // Even if it faults (Intel SDM 3A, 6.7.1).
        if std::mem::take(&mut self.nmi_blocked) {
            self.pins.merge_nmis();
        }
        if !self.is_protected() {
            self.return_from_real_interrupt(bytes)?;
        } else if self.flags() & flags::NT != 0 {
            if self.is_long_mode() {
                return Err(Fault::general_protection(0));
            }
            self.return_from_task()?;
        } else {
            self.return_from_interrupt(bytes)?;
        }
        Ok(())
    }

    fn return_from_real_interrupt(&mut self, bytes: usize) -> Fallible<()> {
        let v8086 = self.is_v8086();
        if v8086 && self.iopl() < 3 {
            return Err(Fault::general_protection(0));
        }
        let mut stack = Stack::current(self);
        let rip = stack.pop(self, bytes)?;
        let selector = stack.pop(self, bytes)? as u16;
        let popped = stack.pop(self, bytes)?;
        let target = self.real_target(selector, rip)?;
        let mut writable = flags::RETURN | flags::IF;
        if !v8086 {
            writable |= flags::IOPL;
        }
        if bytes == 2 {
            writable &= 0xFFFF;
        }
        self.enter_code(&target);
        stack.commit_pointer(self);
        let kept = self.flags() & !writable;
        self.load_flags(kept | popped & writable);
        Ok(())
    }

    fn return_from_interrupt(&mut self, bytes: usize) -> Fallible<()> {
        let mut stack = Stack::current(self);
        let rip = stack.pop(self, bytes)?;
        let selector = stack.pop(self, bytes)? as u16;
        let popped = stack.pop(self, bytes)?;
        let cpl = self.cpl;
        if popped & flags::VM != 0 && bytes == 4 && cpl == 0 && !self.is_long_mode() {
            return self.return_to_v8086(stack, selector, rip, popped);
        }
        let target = self.return_target(selector, rip)?;
        let mut writable = flags::RETURN;
        if cpl <= self.iopl() {
            writable |= flags::IF;
        }
        if cpl == 0 {
            writable |= flags::IOPL | flags::VIF | flags::VIP;
        }
        if bytes == 2 {
            writable &= 0xFFFF;
        }
        let outward = (selector & 3) as u8 != cpl;
        if outward || self.is_64_bit() {
            let rsp = stack.pop(self, bytes)?;
            let ss = stack.pop(self, bytes)? as u16;
            let outer = self.outer_stack(ss, rsp, &target, bytes)?;
            self.segments[segment::SS] = outer.segment;
            outer.commit_pointer(self);
        } else {
            stack.commit_pointer(self);
        }
        let kept = self.flags() & !writable;
        self.set_flags(kept | popped & writable);
        self.leave_block = true;
        self.enter_code(&target);
        if outward {
            self.drop_inner_segments();
        }
        Ok(())
    }

    fn return_to_v8086(&mut self, mut stack: Stack, cs: u16, rip: u64, popped: u64) -> Fallible<()> {
        let esp = stack.pop(self, 4)?;
        let mut selectors = [0; 6];
        selectors[segment::CS] = cs;
        for index in [segment::SS, segment::ES, segment::DS, segment::FS, segment::GS] {
            selectors[index] = stack.pop(self, 4)? as u16;
        }
        if rip > 0xFFFF {
            return Err(Fault::general_protection(0));
        }
        let kept = self.flags() & !flags::ALL;
        self.load_flags(kept | popped & flags::ALL);
        for (index, selector) in selectors.into_iter().enumerate() {
            let segment = real_segment(&self.segments[index], selector, true);
            self.set_segment(index, segment);
        }
        self.set_general(4, esp);
        self.rip = rip;
        Ok(())
    }
}

fn far_jump(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let (selector, offset) = target(cpu, instruction)?;
    cpu.far_jump(selector, offset)?;
    Ok(Flow::Jumped)
}

fn far_call(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let (selector, offset) = target(cpu, instruction)?;
    cpu.far_call(selector, offset, operand_bytes(instruction.code()))?;
    Ok(Flow::Jumped)
}

fn far_return(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let extra = if instruction.op_count() == 0 { 0 } else { u64::from(instruction.immediate16()) };
    cpu.far_return(operand_bytes(instruction.code()), extra)?;
    Ok(Flow::Jumped)
}

fn interrupt_return(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.interrupt_return(operand_bytes(instruction.code()))?;
    Ok(Flow::Jumped)
}
