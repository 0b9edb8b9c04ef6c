//! Why a guest crashed: from the first fault to the triple fault, in sentences a person can act on.

use cpu::registers::segment;
use cpu::{FaultRecord, Registers};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic};
use serde::Serialize;

use super::code::{LONGEST, at_instruction_pointer};
use super::delivery::{Obstacle, obstacle};
use super::descriptor;
use super::exception::short;
use super::summary::{code_bits, mode, privilege};
use super::{PhysicalMemory, walk};
use crate::inspect::walk::Outcome;

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Everything in one sentence or two.
    pub sentence: String,
    /// What the first fault was about.
    pub origin: String,
    /// Why it, and then the double fault, found no handler.
    pub obstacles: Vec<Obstacle>,
}

const DOUBLE_FAULT: u8 = 8;

/// Reads a crash: its faults, first to last, and the registers and memory they left.
pub fn diagnose(registers: &Registers, faults: &[FaultRecord], memory: &dyn PhysicalMemory) -> Diagnosis {
    let Some(first) = faults.first() else {
        let sentence = "The processor shut down, and the backend could not tell which faults led to it.";
        return Diagnosis { sentence: sentence.to_owned(), ..Diagnosis::default() };
    };
    let at_fault = first.registers.as_deref().unwrap_or(registers);
    let scene = Scene::new(at_fault, memory);
    let origin = scene.origin(first);
    let vectors = [first.vector, DOUBLE_FAULT];
    let tried = if first.vector == DOUBLE_FAULT { &vectors[1..] } else { &vectors[..] };
    let obstacles: Vec<Obstacle> =
        tried.iter().filter_map(|vector| obstacle(at_fault, memory, *vector)).collect();
    let sentence = match &obstacles[..] {
        [] => format!("{origin}; each attempt to handle it faulted again."),
        [only] => format!("{origin}. {} could not be delivered: {}.", short(only.vector), only.reason),
        [one, other, ..] if one.reason == other.reason => {
            format!("{origin}. Neither it nor the double fault could be delivered: {}.", one.reason)
        }
        [one, other, ..] => format!(
            "{origin}. It could not be delivered: {}; nor could the double fault: {}.",
            one.reason, other.reason
        ),
    };
    Diagnosis { sentence, origin, obstacles }
}

/// The faulting instruction and what surrounds it.
struct Scene<'a> {
    registers: &'a Registers,
    memory: &'a dyn PhysicalMemory,
    bytes: Vec<u8>,
    text: String,
    instruction: Instruction,
}

impl Scene<'_> {
    fn new<'a>(registers: &'a Registers, memory: &'a dyn PhysicalMemory) -> Scene<'a> {
        let (bytes, text) = at_instruction_pointer(registers, memory);
        let bits = code_bits(registers);
        let instruction = Decoder::with_ip(bits, &bytes, registers.rip, DecoderOptions::NONE).decode();
        Scene { registers, memory, bytes, text, instruction }
    }

    /// The place, for sentences: `mov ax,[0] at 0008:1234`.
    fn place(&self) -> String {
        let place = format!("{:04x}:{:x}", self.registers.segments[segment::CS].selector, self.registers.rip);
        if self.bytes.is_empty() { place } else { format!("{} at {place}", self.text) }
    }

    /// What the fault was about.
    fn origin(&self, fault: &FaultRecord) -> String {
        let code = fault.error_code.unwrap_or(0);
        if let (10..=13, true) = (fault.vector, code & 2 != 0) {
            return self.undeliverable((code >> 3) as u8, code & 1 != 0);
        }
        match fault.vector {
            0 => format!("{} divided by zero, or the quotient did not fit (#DE)", self.place()),
            6 => self.invalid_opcode(),
            7 => format!("{} needs the x87 or SSE unit, which CR0 says is not available (#NM)", self.place()),
            DOUBLE_FAULT => format!("A fault could not be delivered at {} (#DF)", self.place()),
            10 => self.selector("the task-state segment or a stack selector in it is invalid", code, "#TS"),
            11 => self.selector("a segment or gate marked absent was used", code, "#NP"),
            12 if code & !7 != 0 => self.selector("a stack segment could not be used", code, "#SS"),
            12 => self.stack_fault(),
            13 if code & !7 != 0 => self.selector("a selector could not be loaded", code, "#GP"),
            13 => self.protection(),
            14 => self.page_fault(code, fault.address.unwrap_or(self.registers.cr2)),
            17 => format!("{} was not aligned (#AC)", self.place()),
            vector => format!("{} raised {}", self.place(), short(vector)),
        }
    }

    /// The first fault is itself about a vector that could not be delivered.
    fn undeliverable(&self, vector: u8, external: bool) -> String {
        let what = match (external, vector) {
            (true, 0..=31) => format!("{} was raised", short(vector)),
            (true, _) => format!("Interrupt {vector:#04x} arrived from a device"),
            (false, _) => format!("INT {vector:#04x} was executed"),
        };
        match obstacle(self.registers, self.memory, vector) {
            Some(Obstacle { reason, .. }) => format!("{what} and could not be delivered: {reason}"),
            None => format!("{what} and its gate may not be used from ring {}", privilege(self.registers)),
        }
    }

    fn invalid_opcode(&self) -> String {
        let place = format!("{:04x}:{:x}", self.registers.segments[segment::CS].selector, self.registers.rip);
        let bytes: Vec<String> = self.bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        if self.bytes.iter().take(8).all(|byte| *byte == 0) && !self.bytes.is_empty() {
            return format!("Execution ran into empty memory at {place} (#UD)");
        }
        if self.instruction.mnemonic() == Mnemonic::Ud2 {
            return format!("{} is there to raise #UD", self.place());
        }
        match self.instruction.is_invalid() {
            true => format!(
                "The bytes {} at {place} are no instruction in {} (#UD)",
                bytes.join(" "),
                mode(self.registers)
            ),
            false => format!(
                "{} cannot be used in {} or on this CPU model (#UD)",
                self.place(),
                mode(self.registers)
            ),
        }
    }

    fn selector(&self, what: &str, code: u32, fault: &str) -> String {
        let selector = (code & 0xFFFC) as u16;
        let table = if selector & 4 == 0 { "GDT" } else { "LDT" };
        let found = descriptor::of_selector(self.registers, self.memory, selector);
        let limit = u64::from(self.registers.gdtr.limit);
        let entry = match found {
            _ if selector & 4 == 0 && u64::from(selector | 7) > limit => {
                format!("it lies beyond the GDT's limit {limit:#x}")
            }
            None | Some(descriptor::Descriptor::Null) => format!("the {table} has nothing there"),
            Some(found) => format!("the {table} says: {}", found.in_words()),
        };
        format!("{}: {what}, {selector:04x}; {entry} ({fault})", self.place())
    }

    fn stack_fault(&self) -> String {
        let stack = self.registers.segments[segment::SS];
        let pointer = self.registers.general[4];
        format!(
            "{} left the stack segment: stack pointer {pointer:#x}, limit {:#x}; the stack is full or was never set \
             up (#SS)",
            self.place(),
            stack.limit
        )
    }

    fn protection(&self) -> String {
        let place = self.place();
        let ring = privilege(self.registers);
        if self.instruction.is_privileged() && ring != 0 {
            return format!("{place} is privileged and was executed in ring {ring} (#GP)");
        }
        if let Some(index) = self.null_segment() {
            let name = ["ES", "CS", "SS", "DS", "FS", "GS"][index];
            return format!("{place} used {name}, which holds the null selector (#GP)");
        }
        match self.instruction.mnemonic() {
            Mnemonic::Mov if self.instruction.op0_register().is_cr() => {
                format!("{place} would set control-register bits that cannot be set together (#GP)")
            }
            Mnemonic::Wrmsr | Mnemonic::Rdmsr => {
                let index = self.registers.general[1] as u32;
                format!("{place}: there is no such register, {index:#x}, or it cannot hold that value (#GP)")
            }
            _ => {
                format!("{place} broke a protection rule: a limit, a right, or a value that may not be (#GP)")
            }
        }
    }

    /// A segment register the instruction's memory operand goes through, if it holds the null selector.
    fn null_segment(&self) -> Option<usize> {
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(&self.instruction);
        let unusable = |index: usize| self.registers.segments[index].unusable;
        let index = |memory: &iced_x86::UsedMemory| match memory.segment() {
            iced_x86::Register::ES => segment::ES,
            iced_x86::Register::CS => segment::CS,
            iced_x86::Register::SS => segment::SS,
            iced_x86::Register::FS => segment::FS,
            iced_x86::Register::GS => segment::GS,
            _ => segment::DS,
        };
        info.used_memory().iter().map(index).find(|index| unusable(*index))
    }

    fn page_fault(&self, code: u32, address: u64) -> String {
        let walk = walk(self.registers, self.memory, address);
        let is_fetch = code & 16 != 0 || address == self.registers.linear_rip() && self.bytes.is_empty();
        let access = match (is_fetch, code & 2 != 0) {
            (true, _) => "executing",
            (false, true) => "writing",
            (false, false) => "reading",
        };
        let why = match (code & 1 != 0, code & 8 != 0, &walk.outcome) {
            (_, true, _) => "a page-table entry on the way has reserved bits set".to_owned(),
            (true, _, Outcome::Mapped { writable: false, .. }) if code & 2 != 0 => {
                "it is read-only".to_owned()
            }
            (true, _, Outcome::Mapped { user: false, .. }) if code & 4 != 0 => {
                "it is the kernel's".to_owned()
            }
            (true, _, Outcome::Mapped { executable: false, .. }) if is_fetch => {
                "it holds no code (NX)".to_owned()
            }
            (true, ..) => "its rights forbid it".to_owned(),
            (false, ..) => walk.in_words(),
        };
        if is_fetch {
            let selector = self.registers.segments[segment::CS].selector;
            let rip = self.registers.rip;
            return format!(
                "The code at {selector:04x}:{rip:x} (linear {address:#x}) cannot be executed: {why} (#PF)"
            );
        }
        let subject = self.place();
        if self.is_stack_access(address) {
            return format!(
                "{subject} used the stack at {address:#x}, which is full or was never set up: {why} (#PF)"
            );
        }
        format!("{subject} failed {access} {address:#x}: {why} (#PF)")
    }

    /// Whether the instruction was pushing or popping around `address`.
    fn is_stack_access(&self, address: u64) -> bool {
        let pushes = self.instruction.is_stack_instruction()
            || matches!(self.instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        let stack = self.registers.segments[segment::SS];
        let long = code_bits(self.registers) == 64;
        let pointer =
            if long { self.registers.general[4] } else { stack.base.wrapping_add(self.registers.general[4]) };
        pushes && pointer.wrapping_sub(address) <= LONGEST as u64 * 8
    }
}

#[cfg(test)]
mod tests {
    use cpu::registers::Table;

    use super::*;
    use crate::inspect::testing::Flat;

    fn protected(code: &[u8]) -> (Registers, Flat) {
        let mut memory = Flat::new(0x4000);
        memory.0[0x1000..0x1000 + code.len()].copy_from_slice(code);
        memory.put(0x2008, 0x00CF_9A00_0000_FFFF, 8);
        memory.put(0x2010, 0x00CF_9200_0000_FFFF, 8);
        let mut registers = Registers::reset();
        registers.cr0 |= 1;
        registers.gdtr = Table { base: 0x2000, limit: 0x17 };
        registers.idtr = Table { base: 0, limit: 0 };
        registers.rip = 0x1000;
        registers.general[4] = 0x4000;
        for (index, segment) in registers.segments.iter_mut().enumerate() {
            let (selector, attributes) = if index == segment::CS { (8, 0xC09B) } else { (0x10, 0xC093) };
            *segment = cpu::Segment { selector, base: 0, limit: u32::MAX, attributes, unusable: false };
        }
        (registers, memory)
    }

    fn fault(vector: u8, error_code: Option<u32>) -> FaultRecord {
        FaultRecord { vector, error_code, address: None, registers: None }
    }

    #[test]
    fn no_idt_is_named_once_for_both_faults() {
        let (registers, memory) = protected(&[0x0F, 0x0B]);
        let diagnosis = diagnose(&registers, &[fault(6, None), fault(8, Some(0))], &memory);
        assert!(diagnosis.sentence.contains("ud2 at 0008:1000"), "{}", diagnosis.sentence);
        assert!(diagnosis.sentence.ends_with(
            "Neither it nor the double fault could be delivered: there is no IDT: its limit is 0."
        ));
        assert_eq!(diagnosis.obstacles.len(), 2);
    }

    #[test]
    fn the_wrong_entry_is_shown() {
        let (mut registers, mut memory) = protected(&[0xF4]);
        registers.idtr = Table { base: 0x3000, limit: 0x7FF };
        memory.put(0x3000 + 8 * 13, 0x0000_8E00_0018_1234, 8); // beyond the GDT
        memory.put(0x3000 + 8 * 8, 0x0000_8E00_0010_1234, 8); // a data segment
        let diagnosis = diagnose(&registers, &[fault(13, Some(0x1A))], &memory);
        let [gate, double] = &diagnosis.obstacles[..] else { panic!("{diagnosis:?}") };
        assert!(gate.reason.contains("0018, which lies beyond the GDT's limit 0x17"), "{gate:?}");
        assert!(
            double.reason.contains("no code segment") && double.entry.as_ref().unwrap().contains("data rw-")
        );
        assert!(diagnosis.origin.contains("INT 0x03"), "the code names the IDT: {}", diagnosis.origin);
    }

    #[test]
    fn a_backend_that_cannot_tell_is_said_so() {
        let (registers, memory) = protected(&[]);
        assert!(diagnose(&registers, &[], &memory).sentence.contains("could not tell"));
    }
}
