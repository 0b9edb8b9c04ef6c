//! Segment register loads and the instructions that test selectors, in real, protected, virtual-8086 and
//! 64-bit mode (Intel SDM 2A: MOV, LDS, LAR, LSL, VERR, ARPL; SDM 3A, chapter 5).

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use crate::registers::{Segment, segment};
use crate::soft::descriptor::{Descriptor, attribute, code_of, is_null, kind};
use crate::soft::fault::{ColdHandler, Fallible, Fault, Flow};
use crate::soft::operand::segment_index;
use crate::soft::stack::Stack;
use crate::soft::state::Cpu;
use crate::soft::state::flag as flags;

/// The cold handler of a segmentation instruction.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Mov if is_segment(instruction, 0) => mov_to_segment,
        Mnemonic::Mov if is_segment(instruction, 1) => mov_from_segment,
        Mnemonic::Push if is_segment(instruction, 0) => push_segment,
        Mnemonic::Pop if is_segment(instruction, 0) => pop_segment,
        Mnemonic::Lds | Mnemonic::Les | Mnemonic::Lfs | Mnemonic::Lgs | Mnemonic::Lss => load_far_pointer,
        Mnemonic::Lar => lar,
        Mnemonic::Lsl => lsl,
        Mnemonic::Verr => verr,
        Mnemonic::Verw => verw,
        Mnemonic::Arpl => arpl,
        _ => return None,
    })
}

fn is_segment(instruction: &Instruction, number: u32) -> bool {
    instruction.op_count() > number
        && instruction.op_kind(number) == OpKind::Register
        && instruction.op_register(number).is_segment_register()
}

/// The segment register real mode and virtual-8086 mode make of a selector.
pub fn real_segment(old: &Segment, selector: u16, v8086: bool) -> Segment {
    let base = u64::from(selector) << 4;
    if v8086 {
        return Segment { selector, base, limit: 0xFFFF, attributes: 0xF3, unusable: false };
    }
    // Real mode leaves limit and D/B alone: "unreal" mode lives on this.
    let kept = old.attributes & (attribute::BIG | attribute::GRANULARITY);
    Segment { selector, base, limit: old.limit, attributes: kept | 0x93, unusable: false }
}

/// A null selector's register.
pub fn null_segment(selector: u16) -> Segment {
    Segment { selector, base: 0, limit: 0, attributes: 0, unusable: true }
}

impl Cpu {
    /// Loads any segment register but CS, with all checks of the current mode.
    pub fn load_segment(&mut self, index: usize, selector: u16) -> Fallible<()> {
        if !self.is_protected() {
            let segment = real_segment(&self.segments[index], selector, self.is_v8086());
            self.set_segment(index, segment);
            return Ok(());
        }
        let loaded = self.check_segment(index, selector, self.cpl, Fault::general_protection)?;
        self.set_segment(index, loaded);
        Ok(())
    }

    /// Checks a protected-mode load of a data or stack segment at `cpl` and returns what it makes. `invalid`
    /// is #GP, or #TS during a task switch or a stack switch.
    pub fn check_segment(
        &mut self,
        index: usize,
        selector: u16,
        cpl: u8,
        invalid: fn(u32) -> Fault,
    ) -> Fallible<Segment> {
        if index == segment::SS {
            return self.check_stack_segment(selector, cpl, invalid);
        }
        if is_null(selector) {
            return Ok(null_segment(selector));
        }
        let mut descriptor = self.descriptor(selector, invalid)?;
        let rpl = (selector & 3) as u8;
        let private = !descriptor.is_conforming() && (rpl > descriptor.dpl() || cpl > descriptor.dpl());
        if descriptor.is_system() || !descriptor.is_readable() || private {
            return Err(invalid(code_of(selector)));
        }
        if !descriptor.is_present() {
            return Err(Fault::segment_not_present(code_of(selector)));
        }
        self.set_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    fn check_stack_segment(
        &mut self,
        selector: u16,
        cpl: u8,
        invalid: fn(u32) -> Fault,
    ) -> Fallible<Segment> {
        let rpl = (selector & 3) as u8;
        if is_null(selector) {
            if self.is_64_bit() && cpl < 3 && rpl == cpl {
                return Ok(Segment { attributes: u16::from(cpl) << 5, ..null_segment(selector) });
            }
            return Err(invalid(0));
        }
        let mut descriptor = self.descriptor(selector, invalid)?;
        if rpl != cpl || descriptor.dpl() != cpl || !descriptor.is_writable_data() {
            return Err(invalid(code_of(selector)));
        }
        if !descriptor.is_present() {
            return Err(Fault::stack(code_of(selector)));
        }
        self.set_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// LLDT.
    pub fn load_ldtr(&mut self, selector: u16, invalid: fn(u32) -> Fault) -> Fallible<()> {
        if is_null(selector) {
            self.ldtr = null_segment(selector);
            return Ok(());
        }
        self.ldtr = self.check_system_segment(selector, &[kind::LDT], invalid)?.0;
        Ok(())
    }

    /// LTR: the descriptor becomes busy.
    pub fn load_tr(&mut self, selector: u16) -> Fallible<()> {
        let available: &[u8] = if self.is_long_mode() { &[kind::TSS32] } else { &[kind::TSS16, kind::TSS32] };
        if is_null(selector) {
            return Err(Fault::general_protection(0));
        }
        let (mut tr, address) = self.check_system_segment(selector, available, Fault::general_protection)?;
        self.set_busy(address, true)?;
        tr.attributes |= attribute::WRITABLE;
        self.tr = tr;
        Ok(())
    }

    /// Checks a load of LDTR or TR, and returns the register and the descriptor's address.
    pub fn check_system_segment(
        &mut self,
        selector: u16,
        kinds: &[u8],
        invalid: fn(u32) -> Fault,
    ) -> Fallible<(Segment, u64)> {
        if selector & 4 != 0 {
            return Err(invalid(code_of(selector)));
        }
        let descriptor = self.descriptor(selector, invalid)?;
        if !descriptor.is_system() || !kinds.contains(&descriptor.kind()) {
            return Err(invalid(code_of(selector)));
        }
        let mut segment = descriptor.segment(selector);
        if self.is_long_mode() {
            let upper = self.descriptor_upper(selector, invalid)?;
            segment.base |= upper << 32;
            // Bits 12 to 8 of the last dword are a type, and must be zero.
            if upper >> 40 & 0x1F != 0 || !is_canonical(segment.base) {
                return Err(invalid(code_of(selector)));
            }
        }
        if !descriptor.is_present() {
            return Err(Fault::segment_not_present(code_of(selector)));
        }
        Ok((segment, descriptor.address))
    }

    /// The descriptor LAR, LSL, VERR and VERW look at: `None` if the selector leads nowhere or is private.
    fn visible_descriptor(&mut self, selector: u16) -> Fallible<Option<Descriptor>> {
        if is_null(selector) || self.descriptor_address(selector, 8).is_none() {
            return Ok(None);
        }
        let descriptor = self.descriptor(selector, Fault::general_protection)?;
        let weakest = self.cpl.max((selector & 3) as u8);
        Ok((descriptor.is_conforming() || weakest <= descriptor.dpl()).then_some(descriptor))
    }

    fn set_zero_flag(&mut self, zero: bool) {
        let rest = self.flags() & !flags::ZF;
        self.set_flags(rest | if zero { flags::ZF } else { 0 });
    }

    /// #UD outside protected mode, for the instructions that exist only there.
    pub fn require_protected(&self) -> Fallible<()> {
        if self.is_protected() { Ok(()) } else { Err(Fault::invalid_opcode()) }
    }
}

/// Whether bits 63 to 47 are all equal.
pub const fn is_canonical(linear: u64) -> bool {
    (linear as i64) << 16 >> 16 == linear as i64
}

fn after_load(cpu: &mut Cpu, index: usize) -> Flow {
    if index == segment::SS {
        cpu.interrupt_shadow = true;
        cpu.shadow_of_sti = false;
    }
    Flow::Jumped
}

fn mov_to_segment(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    if instruction.op0_register() == Register::CS {
        return Err(Fault::invalid_opcode());
    }
    let selector = cpu.operand(instruction, 1, 2)? as u16;
    let index = segment_index(instruction.op0_register());
    cpu.load_segment(index, selector)?;
    Ok(after_load(cpu, index))
}

fn mov_from_segment(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let selector = cpu.segments[segment_index(instruction.op1_register())].selector;
    cpu.set_operand(instruction, 0, 2, u64::from(selector))?;
    Ok(Flow::Next)
}

fn push_segment(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let selector = cpu.segments[segment_index(instruction.op0_register())].selector;
    let bytes = instruction.stack_pointer_increment().unsigned_abs() as usize;
    let mut stack = Stack::current(cpu);
    if bytes == 4 {
        // Modern processors write only the selector's two bytes of the slot.
        stack.release(2u64.wrapping_neg());
        stack.push(cpu, u64::from(selector), 2)?;
    } else {
        stack.push(cpu, u64::from(selector), bytes)?;
    }
    stack.commit_pointer(cpu);
    Ok(Flow::Next)
}

fn pop_segment(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let index = segment_index(instruction.op0_register());
    let bytes = instruction.stack_pointer_increment().unsigned_abs() as usize;
    let before = cpu.general[4];
    let mut stack = Stack::current(cpu);
    let selector = stack.peek(cpu, 0, 2)? as u16;
    stack.release(bytes as u64);
    // A change of SS changes how wide the stack pointer is, so the pop is done first and undone on a fault.
    stack.commit_pointer(cpu);
    if let Err(fault) = cpu.load_segment(index, selector) {
        cpu.general[4] = before;
        return Err(fault);
    }
    Ok(after_load(cpu, index))
}

fn load_far_pointer(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let index = match instruction.mnemonic() {
        Mnemonic::Lds => segment::DS,
        Mnemonic::Les => segment::ES,
        Mnemonic::Lfs => segment::FS,
        Mnemonic::Lgs => segment::GS,
        _ => segment::SS,
    };
    let register = instruction.op0_register();
    let (from, offset) = cpu.effective_address(instruction);
    let bytes = register.size();
    let pointer = cpu.read_bytes(from, offset, bytes)?;
    let address_bytes = super::operand::address_bytes(instruction);
    let second = super::operand::truncate(offset.wrapping_add(bytes as u64), address_bytes);
    let selector = cpu.read_bytes(from, second, 2)? as u16;
    cpu.load_segment(index, selector)?;
    cpu.set_register(register, pointer);
    // LSS loads stack pointer and segment at once: no shadow is needed, and none is given.
    Ok(Flow::Jumped)
}

fn lar(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require_protected()?;
    let selector = cpu.operand(instruction, 1, 2)? as u16;
    let long = cpu.is_long_mode();
    let found = cpu.visible_descriptor(selector)?.filter(|descriptor| {
        !descriptor.is_system()
            || match descriptor.kind() {
                kind::LDT | kind::TSS32 | kind::TSS32_BUSY | kind::CALL_GATE32 => true,
                kind::TSS16 | kind::TSS16_BUSY | kind::CALL_GATE16 | kind::TASK_GATE => !long,
                _ => false,
            }
    });
    if let Some(descriptor) = found {
        cpu.set_register(instruction.op0_register(), descriptor.raw >> 32 & 0x00FF_FF00);
    }
    cpu.set_zero_flag(found.is_some());
    Ok(Flow::Next)
}

fn lsl(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require_protected()?;
    let selector = cpu.operand(instruction, 1, 2)? as u16;
    let long = cpu.is_long_mode();
    let found = cpu.visible_descriptor(selector)?.filter(|descriptor| {
        !descriptor.is_system()
            || match descriptor.kind() {
                kind::LDT | kind::TSS32 | kind::TSS32_BUSY => true,
                kind::TSS16 | kind::TSS16_BUSY => !long,
                _ => false,
            }
    });
    if let Some(descriptor) = found {
        cpu.set_register(instruction.op0_register(), u64::from(descriptor.limit()));
    }
    cpu.set_zero_flag(found.is_some());
    Ok(Flow::Next)
}

fn verr(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require_protected()?;
    let selector = cpu.operand(instruction, 0, 2)? as u16;
    let readable = cpu.visible_descriptor(selector)?.is_some_and(Descriptor::is_readable);
    cpu.set_zero_flag(readable);
    Ok(Flow::Next)
}

fn verw(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require_protected()?;
    let selector = cpu.operand(instruction, 0, 2)? as u16;
    let writable = cpu.visible_descriptor(selector)?.is_some_and(Descriptor::is_writable_data);
    cpu.set_zero_flag(writable);
    Ok(Flow::Next)
}

fn arpl(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    debug_assert!(matches!(instruction.code(), Code::Arpl_rm16_r16 | Code::Arpl_r32m16_r32));
    cpu.require_protected()?;
    let destination = cpu.operand(instruction, 0, 2)?;
    let source = cpu.operand(instruction, 1, 2)?;
    let weaker = destination & 3 < source & 3;
    if weaker {
        let adjusted = destination & !3 | source & 3;
        if instruction.op0_kind() == OpKind::Register {
            let number = instruction.op0_register().number();
            let old = cpu.general[number];
            cpu.set_general(number, old & !0xFFFF | adjusted);
        } else {
            cpu.set_operand(instruction, 0, 2, adjusted)?;
        }
    }
    cpu.set_zero_flag(weaker);
    Ok(Flow::Next)
}
