//! Delivery of exceptions and interrupts through the interrupt vector table and the IDT, in every mode
//! (Intel SDM 3A, chapter 6, section 21.3), and what happens when a delivery faults itself.

use iced_x86::{Instruction, Mnemonic};

use crate::registers::{Event, EventKind, Segment, segment};
use crate::soft::descriptor::{Descriptor, code_of, is_null, kind};
use crate::soft::fault::{Fallible, Fault, Flow};
use crate::soft::segmentation::{is_canonical, null_segment, real_segment};
use crate::soft::stack::Stack;
use crate::soft::state::Cpu;
use crate::soft::state::flag as flags;
use crate::soft::task::TaskSwitch;
use crate::stop::FaultRecord;

/// Why an event is delivered: decides privilege checks, the EXT bit and the saved RF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An interrupt controller or the NMI pin.
    External,
    /// A fault or trap the processor found.
    Exception,
    /// INT n: the gate's DPL is checked, and in virtual-8086 mode IOPL.
    Software,
    /// INT3 and INTO: the gate's DPL is checked.
    SoftwareException,
    /// INT1: no check.
    Icebp,
}

impl Cause {
    const fn is_software(self) -> bool {
        matches!(self, Cause::Software | Cause::SoftwareException)
    }

    const fn ext(self) -> u32 {
        !self.is_software() as u32
    }
}

/// How two exceptions combine (Intel SDM 3A, table 6-5).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

const fn class(vector: u8) -> Class {
    match vector {
        0 | 10..=13 => Class::Contributory,
        14 => Class::PageFault,
        8 => Class::DoubleFault,
        _ => Class::Benign,
    }
}

const DOUBLE_FAULT: Fault = Fault { vector: 8, error_code: Some(0) };

/// The error code of a fault about IDT entry `vector`.
const fn idt_code(vector: u8) -> u32 {
    (vector as u32) << 3 | 2
}

impl Cpu {
    /// Delivers an event, and whatever its delivery raises, with `rip` as the return address. `Err` is a
    /// shutdown (triple fault), with the exceptions that led to it.
    pub fn deliver(&mut self, event: Event) -> Result<(), Vec<FaultRecord>> {
        let cause = match event.kind {
            EventKind::Interrupt | EventKind::Nmi => Cause::External,
            EventKind::Exception => Cause::Exception,
            EventKind::Software => Cause::Software,
        };
        let mut records = Vec::new();
        let mut current = Fault { vector: event.vector, error_code: event.error_code };
        let mut cause = cause;
        loop {
            let address = self.cr2;
            let Err(next) = self.vector_through(current.vector, current.error_code, cause) else {
                return Ok(());
            };
            // A failed delivery leaves the registers alone, so the record can wait until it is needed.
            if cause == Cause::Exception {
                records.push(self.fault_record(current, address));
            }
            let first = if cause == Cause::Exception { class(current.vector) } else { Class::Benign };
            current = match (first, class(next.vector)) {
                (Class::Contributory, Class::Contributory)
                | (Class::PageFault, Class::Contributory | Class::PageFault) => {
                    records.push(self.fault_record(next, self.cr2));
                    DOUBLE_FAULT
                }
                (Class::DoubleFault, Class::Contributory | Class::PageFault) => {
                    records.push(self.fault_record(next, self.cr2));
                    return Err(records);
                }
                // Serial delivery cannot go round for long: each round climbs towards a double fault,
                // but a benign fault out of a broken IDT could repeat itself.
                _ if records.len() > 8 => return Err(records),
                _ => next,
            };
            cause = Cause::Exception;
        }
    }

    fn fault_record(&self, fault: Fault, address: u64) -> FaultRecord {
        FaultRecord {
            vector: fault.vector,
            error_code: fault.error_code,
            address: (fault.vector == 14).then_some(address),
            registers: Some(Box::new(self.registers())),
        }
    }

    /// One delivery. A fault leaves the registers as they were (but for a task gate).
    pub fn vector_through(&mut self, vector: u8, error_code: Option<u32>, cause: Cause) -> Fallible<()> {
        let from = self.code_linear(self.rip);
        let delivered = if !self.is_protected_or_v8086() {
            self.deliver_real(vector)
        } else if self.is_long_mode() {
            self.deliver_long(vector, error_code, cause)
        } else {
            self.deliver_protected(vector, error_code, cause)
        };
        if delivered.is_ok() && self.notices_deliveries() {
            self.notice_delivery(vector, error_code, cause, from);
        }
        delivered.map_err(|mut fault| {
            if let (10..=13, Some(code)) = (fault.vector, &mut fault.error_code) {
                *code |= cause.ext();
            }
            fault
        })
    }

    fn deliver_real(&mut self, vector: u8) -> Fallible<()> {
        let entry = u32::from(vector) * 4;
        if entry + 3 > u32::from(self.idtr.limit) {
            return Err(Fault::general_protection(idt_code(vector)));
        }
        let pointer =
            self.read_system::<u32>(self.wrap_linear(self.idtr.base.wrapping_add(u64::from(entry))))?;
        let mut stack = Stack::current(self);
        let old = self.flags();
        stack.push(self, old, 2)?;
        stack.push(self, u64::from(self.segments[segment::CS].selector), 2)?;
        stack.push(self, self.rip, 2)?;
        stack.commit_pointer(self);
        let code = real_segment(&self.segments[segment::CS], (pointer >> 16) as u16, false);
        self.set_segment(segment::CS, code);
        self.rip = u64::from(pointer & 0xFFFF);
        self.load_flags(old & !(flags::IF | flags::TF | flags::AC | flags::RF));
        Ok(())
    }

    /// Flags as they are saved: RF is set for faults, so that returning does not trap again.
    fn flags_to_save(&mut self, vector: u8, cause: Cause) -> u64 {
        let is_fault = cause == Cause::Exception && vector != 1;
        self.flags() | if is_fault { flags::RF } else { 0 }
    }

    /// The gate of a vector, checked for type, privilege and presence.
    fn gate(&mut self, vector: u8, cause: Cause, kinds: &[u8], bytes: u32) -> Fallible<Descriptor> {
        let entry = u32::from(vector) * bytes;
        let code = idt_code(vector);
        if entry + bytes - 1 > u32::from(self.idtr.limit) {
            return Err(Fault::general_protection(code));
        }
        let address = self.wrap_linear(self.idtr.base.wrapping_add(u64::from(entry)));
        let gate = Descriptor { raw: self.read_system::<u64>(address)?, address };
        if !gate.is_system() || !kinds.contains(&gate.kind()) {
            return Err(Fault::general_protection(code));
        }
        if cause.is_software() && gate.dpl() < self.cpl {
            return Err(Fault::general_protection(code));
        }
        if !gate.is_present() {
            return Err(Fault::segment_not_present(code));
        }
        Ok(gate)
    }

    fn deliver_protected(&mut self, vector: u8, error_code: Option<u32>, cause: Cause) -> Fallible<()> {
        const KINDS: &[u8] = &[
            kind::TASK_GATE,
            kind::INTERRUPT_GATE16,
            kind::TRAP_GATE16,
            kind::INTERRUPT_GATE32,
            kind::TRAP_GATE32,
        ];
        let gate = self.gate(vector, cause, KINDS, 8)?;
        if gate.kind() == kind::TASK_GATE {
            return self.switch_through_gate(gate.gate_selector(), TaskSwitch::Event { error_code });
        }
        let bytes = if gate.kind() & 8 != 0 { 4 } else { 2 };
        let offset = if bytes == 4 { gate.gate_offset() } else { gate.gate_offset() & 0xFFFF };
        let (code, new_cpl) = self.handler_segment(gate.gate_selector(), u64::from(offset))?;
        let v8086 = self.is_v8086();
        if v8086 && new_cpl != 0 {
            return Err(Fault::general_protection(code_of(gate.gate_selector())));
        }
        let old_flags = self.flags_to_save(vector, cause);
        let old_ss = self.segments[segment::SS].selector;
        let old_sp = self.general[4];
        let mut stack = if new_cpl < self.cpl {
            let (selector, pointer) = self.stack_from_tss(new_cpl)?;
            let ss = self.inner_stack_segment(selector, new_cpl)?;
            let mut stack = Stack::inner(ss, pointer, new_cpl, false);
            if v8086 {
                for index in [segment::GS, segment::FS, segment::DS, segment::ES] {
                    stack.push(self, u64::from(self.segments[index].selector), bytes)?;
                }
            }
            stack.push(self, u64::from(old_ss), bytes)?;
            stack.push(self, old_sp, bytes)?;
            stack
        } else {
            Stack::current(self)
        };
        stack.push(self, old_flags, bytes)?;
        stack.push(self, u64::from(self.segments[segment::CS].selector), bytes)?;
        stack.push(self, self.rip, bytes)?;
        if let Some(error_code) = error_code {
            stack.push(self, u64::from(error_code), bytes)?;
        }
        if v8086 {
            for index in [segment::ES, segment::DS, segment::FS, segment::GS] {
                self.set_segment(index, null_segment(0));
            }
        }
        self.enter_handler(code, u64::from(offset), stack, gate.kind() & 1 == 0);
        Ok(())
    }

    fn deliver_long(&mut self, vector: u8, error_code: Option<u32>, cause: Cause) -> Fallible<()> {
        let gate = self.gate(vector, cause, &[kind::INTERRUPT_GATE32, kind::TRAP_GATE32], 16)?;
        let upper = self.read_system::<u64>(gate.address.wrapping_add(8))?;
        let offset = upper << 32 | u64::from(gate.gate_offset());
        let (code, new_cpl) = self.handler_segment(gate.gate_selector(), offset)?;
        let ist = (gate.raw >> 32) as u8 & 7;
        let old_ss = self.segments[segment::SS];
        let old_rsp = self.general[4];
        let old_flags = self.flags_to_save(vector, cause);
        let (ss, pointer) = if new_cpl < self.cpl {
            let pointer = if ist != 0 { self.tss_ist(ist)? } else { self.tss_rsp(new_cpl)? };
            // The new SS is null, with the new privilege as its RPL.
            let ss = Segment { attributes: u16::from(new_cpl) << 5, ..null_segment(u16::from(new_cpl)) };
            (ss, pointer)
        } else {
            (old_ss, if ist != 0 { self.tss_ist(ist)? } else { old_rsp })
        };
        let mut stack = Stack::inner(ss, pointer & !15, new_cpl, true);
        stack.fault_code = 0;
        stack.push(self, u64::from(old_ss.selector), 8)?;
        stack.push(self, old_rsp, 8)?;
        stack.push(self, old_flags, 8)?;
        stack.push(self, u64::from(self.segments[segment::CS].selector), 8)?;
        stack.push(self, self.rip, 8)?;
        if let Some(error_code) = error_code {
            stack.push(self, u64::from(error_code), 8)?;
        }
        self.enter_handler(code, offset, stack, gate.kind() & 1 == 0);
        Ok(())
    }

    /// Checks a gate's code segment; returns it with its selector's RPL set, and the handler's CPL.
    fn handler_segment(&mut self, selector: u16, offset: u64) -> Fallible<(Segment, u8)> {
        if is_null(selector) {
            return Err(Fault::general_protection(0));
        }
        let code = code_of(selector);
        let mut descriptor = self.descriptor(selector, Fault::general_protection)?;
        if !descriptor.is_code() || descriptor.dpl() > self.cpl {
            return Err(Fault::general_protection(code));
        }
        if self.is_long_mode() && (!descriptor.is_long() || descriptor.is_big()) {
            return Err(Fault::general_protection(code));
        }
        if !descriptor.is_present() {
            return Err(Fault::segment_not_present(code));
        }
        let in_range =
            if self.is_long_mode() { is_canonical(offset) } else { offset <= u64::from(descriptor.limit()) };
        if !in_range {
            return Err(Fault::general_protection(0));
        }
        let new_cpl = if descriptor.is_conforming() { self.cpl } else { descriptor.dpl() };
        self.set_accessed(&mut descriptor)?;
        Ok((descriptor.segment(selector & !3 | u16::from(new_cpl)), new_cpl))
    }

    fn enter_handler(&mut self, code: Segment, rip: u64, stack: Stack, is_interrupt: bool) {
        let mut clear = flags::TF | flags::NT | flags::RF | flags::VM;
        if is_interrupt {
            clear |= flags::IF;
        }
        self.system_flags &= !clear;
        self.leave_block = true;
        self.set_code_and_stack(code, stack.segment);
        stack.commit_pointer(self);
        self.rip = rip;
    }

    /// SS and (E)SP for privilege `cpl` from the 16- or 32-bit TSS.
    pub fn stack_from_tss(&mut self, cpl: u8) -> Fallible<(u16, u64)> {
        let is_32 = self.tr.attributes & 8 != 0;
        let (offset, bytes) = if is_32 { (4 + u32::from(cpl) * 8, 4) } else { (2 + u32::from(cpl) * 4, 2) };
        if self.tr.unusable || offset + if is_32 { 5 } else { 3 } > self.tr.limit {
            return Err(Fault::invalid_tss(code_of(self.tr.selector)));
        }
        let at = self.wrap_linear(self.tr.base.wrapping_add(u64::from(offset)));
        let pointer =
            if is_32 { self.read_system::<u32>(at)? } else { u32::from(self.read_system::<u16>(at)?) };
        let selector = self.read_system::<u16>(self.wrap_linear(at.wrapping_add(bytes)))?;
        Ok((selector, u64::from(pointer)))
    }

    /// Checks a stack segment out of the TSS.
    pub fn inner_stack_segment(&mut self, selector: u16, cpl: u8) -> Fallible<Segment> {
        if is_null(selector) {
            return Err(Fault::invalid_tss(0));
        }
        let code = code_of(selector);
        let mut descriptor = self.descriptor(selector, Fault::invalid_tss)?;
        if (selector & 3) as u8 != cpl || descriptor.dpl() != cpl || !descriptor.is_writable_data() {
            return Err(Fault::invalid_tss(code));
        }
        if !descriptor.is_present() {
            return Err(Fault::stack(code));
        }
        self.set_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    fn tss_field(&mut self, offset: u32) -> Fallible<u64> {
        if self.tr.unusable || offset + 7 > self.tr.limit {
            return Err(Fault::invalid_tss(code_of(self.tr.selector)));
        }
        let value = self.read_system::<u64>(self.tr.base.wrapping_add(u64::from(offset)))?;
        if is_canonical(value) { Ok(value) } else { Err(Fault::stack(0)) }
    }

    /// RSP for a privilege, from the 64-bit TSS.
    pub fn tss_rsp(&mut self, cpl: u8) -> Fallible<u64> {
        self.tss_field(4 + 8 * u32::from(cpl))
    }

    fn tss_ist(&mut self, number: u8) -> Fallible<u64> {
        self.tss_field(28 + 8 * u32::from(number))
    }
}

/// INT n, INT3, INTO, INT1.
pub fn int(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let (vector, cause) = match instruction.mnemonic() {
        Mnemonic::Int3 => (3, Cause::SoftwareException),
        Mnemonic::Int1 => (1, Cause::Icebp),
        Mnemonic::Into => {
            if cpu.flags() & flags::OF == 0 {
                return Ok(Flow::Next);
            }
            (4, Cause::SoftwareException)
        }
        _ => (instruction.immediate8(), Cause::Software),
    };
    if cause == Cause::Software && cpu.is_v8086() && cpu.iopl() < 3 {
        return Err(Fault::general_protection(0));
    }
    cpu.vector_through(vector, None, cause)?;
    if cause == Cause::Icebp {
        cpu.drop_debug_trap();
    }
    Ok(Flow::Jumped)
}
