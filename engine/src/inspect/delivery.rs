//! Why an exception or interrupt could not be delivered: the way through IDT, gate, code segment and stack is gone
//! as the processor goes it, up to the first thing that is wrong. Source: Intel SDM 3A, §6.12 to §6.14.

use cpu::Registers;
use cpu::registers::segment;
use serde::Serialize;

use super::descriptor::{self, Descriptor};
use super::summary::privilege;
use super::{PhysicalMemory, read_linear, walk};
use crate::inspect::walk::Outcome;

/// What is in the way of one vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// The vector that was to be delivered.
    pub vector: u8,
    /// The table entry that is wrong, in words, if one is.
    pub entry: Option<String>,
    /// What is wrong, as the end of "... because".
    pub reason: String,
}

/// Bytes of the stack frame that are looked at, downwards from the stack pointer.
const FRAME_WORDS: u64 = 6;

/// What is in the way of `vector`; `None` if nothing is.
pub fn obstacle(registers: &Registers, memory: &dyn PhysicalMemory, vector: u8) -> Option<Obstacle> {
    let look = Look { registers, memory, long: registers.efer >> 10 & 1 != 0 };
    look.obstacle(vector).err().map(|(entry, reason)| Obstacle { vector, entry, reason })
}

struct Look<'a> {
    registers: &'a Registers,
    memory: &'a dyn PhysicalMemory,
    long: bool,
}

/// The entry, and what is wrong.
type Wrong = (Option<String>, String);

impl Look<'_> {
    fn obstacle(&self, vector: u8) -> Result<(), Wrong> {
        if self.registers.cr0 & 1 == 0 {
            self.table_reaches(vector, 4)?;
            return self.stack_takes(self.registers.general[4], segment::SS, 2);
        }
        let gate = self.gate(vector)?;
        let words = || Some(format!("IDT entry {vector:#04x}: {}", gate.in_words()));
        let (selector, offset, stack_number, bits) = match &gate {
            Descriptor::Gate { selector, offset, extra, present: true, name, bits, .. }
                if *name != "call" =>
            {
                (*selector, *offset, *extra, *bits)
            }
            Descriptor::TaskGate { .. } if !self.long => return Ok(()),
            Descriptor::Gate { present: false, .. } | Descriptor::TaskGate { present: false, .. } => {
                return Err((words(), "its gate is marked absent".to_owned()));
            }
            Descriptor::Null => return Err((words(), "its IDT entry is empty".to_owned())),
            _ => return Err((words(), "its IDT entry is no interrupt, trap or task gate".to_owned())),
        };
        let ring = self.handler(selector, offset)?;
        self.stack(ring, stack_number, if self.long { 8 } else { u64::from(bits / 8) })
    }

    /// The IDT is long enough, and its memory is there.
    fn table_reaches(&self, vector: u8, entry_bytes: u64) -> Result<(), Wrong> {
        let idtr = self.registers.idtr;
        let last = u64::from(vector) * entry_bytes + entry_bytes - 1;
        if last > u64::from(idtr.limit) {
            let entries = (u64::from(idtr.limit) + 1) / entry_bytes;
            let reason = match idtr.limit {
                0 => "there is no IDT: its limit is 0".to_owned(),
                limit => format!("the IDT ends before it: limit {limit:#x} has room for {entries} entries"),
            };
            return Err((None, reason));
        }
        Ok(())
    }

    fn gate(&self, vector: u8) -> Result<Descriptor, Wrong> {
        let entry_bytes = if self.long { 16 } else { 8 };
        self.table_reaches(vector, entry_bytes)?;
        let at = self.registers.idtr.base.wrapping_add(u64::from(vector) * entry_bytes);
        let mut raw = [0; 16];
        let bytes = &mut raw[..entry_bytes as usize];
        if read_linear(self.registers, self.memory, at, bytes) < bytes.len() {
            return Err((None, format!("the IDT cannot be read: {}", self.where_is(at))));
        }
        let half = |n: usize| u64::from_le_bytes(raw[8 * n..8 * n + 8].try_into().expect("8 bytes"));
        Ok(Descriptor::decode(half(0), half(1), self.long))
    }

    fn where_is(&self, linear: u64) -> String {
        format!("{linear:#x} is {}", walk(self.registers, self.memory, linear).in_words())
    }

    /// The gate's code segment can be entered; gives the ring it runs in.
    fn handler(&self, selector: u16, offset: u64) -> Result<u8, Wrong> {
        if selector & !3 == 0 {
            return Err((None, "its gate names the null selector".to_owned()));
        }
        let name = format!("selector {selector:04x}");
        if selector & 4 == 0 && u64::from(selector | 7) > u64::from(self.registers.gdtr.limit) {
            let limit = self.registers.gdtr.limit;
            return Err((
                None,
                format!("its gate names {name}, which lies beyond the GDT's limit {limit:#x}"),
            ));
        }
        let found = descriptor::of_selector(self.registers, self.memory, selector);
        let Some(code) = found.filter(|code| *code != Descriptor::Null) else {
            let base = self.registers.gdtr.base;
            return Err((None, format!("its gate names {name}, and the GDT at {base:#x} has nothing there")));
        };
        let words = || Some(format!("GDT entry {:04x}: {}", selector & !7, code.in_words()));
        let Descriptor::Segment { limit, attributes, .. } = code else {
            return Err((words(), format!("its gate names {name}, which is no code segment")));
        };
        if attributes & 0x18 != 0x18 {
            return Err((words(), format!("its gate names {name}, which is no code segment")));
        }
        if attributes & 0x80 == 0 {
            return Err((words(), format!("the code segment of {name} is marked absent")));
        }
        if self.long && attributes & 1 << 13 == 0 {
            return Err((words(), format!("the code segment of {name} is not a 64-bit one")));
        }
        let (dpl, current) = ((attributes >> 5 & 3) as u8, privilege(self.registers));
        if dpl > current {
            return Err((
                words(),
                format!("its handler would run in ring {dpl}, outside the current {current}"),
            ));
        }
        if !self.long && offset > u64::from(limit) {
            return Err((
                words(),
                format!("its handler at {offset:#x} lies beyond its segment's limit {limit:#x}"),
            ));
        }
        let is_conforming = attributes & 4 != 0;
        Ok(if is_conforming { current } else { dpl })
    }

    /// The stack the frame goes to can take it.
    fn stack(&self, ring: u8, stack_number: u8, word_bytes: u64) -> Result<(), Wrong> {
        let registers = self.registers;
        if self.long {
            let pointer = match (stack_number, ring < privilege(registers)) {
                (1..=7, _) => self.task_field(u64::from(28 + 8 * u32::from(stack_number)), 8)?,
                (_, true) => self.task_field(u64::from(4 + 8 * u32::from(ring)), 8)?,
                (_, false) => registers.general[4],
            };
            return self.pages_take(pointer & !15, 8);
        }
        if ring < privilege(registers) {
            let wide = registers.tr.attributes & 8 != 0;
            let ring = u64::from(ring);
            let (at, bytes) = if wide { (4 + 8 * ring, 4) } else { (2 + 4 * ring, 2) };
            let pointer = self.task_field(at, bytes)?;
            let selector = self.task_field(at + bytes as u64, 2)? as u16;
            return self.inner_stack(selector, pointer, ring as u8, word_bytes);
        }
        self.stack_takes(registers.general[4], segment::SS, word_bytes)
    }

    /// A field of the task-state segment.
    fn task_field(&self, offset: u64, bytes: usize) -> Result<u64, Wrong> {
        let tr = self.registers.tr;
        if tr.unusable || tr.selector & !3 == 0 {
            return Err((
                None,
                "no task register is loaded, so there is no stack for the inner ring".to_owned(),
            ));
        }
        if offset + bytes as u64 - 1 > u64::from(tr.limit) {
            let limit = tr.limit;
            return Err((
                None,
                format!("the TSS ends (limit {limit:#x}) before the stack pointer it should hold"),
            ));
        }
        let mut value = [0; 8];
        let at = tr.base.wrapping_add(offset);
        if read_linear(self.registers, self.memory, at, &mut value[..bytes]) < bytes {
            return Err((None, format!("the TSS cannot be read: {}", self.where_is(at))));
        }
        Ok(u64::from_le_bytes(value))
    }

    fn inner_stack(&self, selector: u16, pointer: u64, ring: u8, word_bytes: u64) -> Result<(), Wrong> {
        let found = descriptor::of_selector(self.registers, self.memory, selector);
        let words =
            found.as_ref().map(|found| format!("GDT entry {:04x}: {}", selector & !7, found.in_words()));
        let Some(Descriptor::Segment { base, attributes, .. }) = found.filter(|_| selector & !3 != 0) else {
            return Err((
                words,
                format!("the TSS names {selector:04x} as the stack of ring {ring}, which is none"),
            ));
        };
        let is_writable_data = attributes & 0x1A == 0x12;
        if !is_writable_data || (attributes >> 5 & 3) as u8 != ring || (selector & 3) as u8 != ring {
            let reason = format!("the TSS names {selector:04x}, which cannot be a stack of ring {ring}");
            return Err((words, reason));
        }
        self.pages_take(base.wrapping_add(pointer) & 0xFFFF_FFFF, word_bytes)
    }

    /// A frame fits below `pointer` of a loaded stack segment.
    fn stack_takes(&self, pointer: u64, index: usize, word_bytes: u64) -> Result<(), Wrong> {
        let stack = self.registers.segments[index];
        let mask = if stack.is_big() { 0xFFFF_FFFF } else { 0xFFFF };
        let top = pointer & mask;
        let first = top.wrapping_sub(word_bytes) & mask;
        let is_down = stack.attributes & 0x1C == 0x14;
        let fits = match is_down {
            true => first > u64::from(stack.limit),
            false => first + word_bytes - 1 <= u64::from(stack.limit),
        };
        if !fits {
            let limit = stack.limit;
            return Err((
                None,
                format!("the stack pointer {top:#x} has no room in its segment (limit {limit:#x})"),
            ));
        }
        self.pages_take(stack.base.wrapping_add(top) & 0xFFFF_FFFF, word_bytes)
    }

    /// The pages right below linear `top` can be written.
    fn pages_take(&self, top: u64, word_bytes: u64) -> Result<(), Wrong> {
        if self.registers.cr0 >> 31 & 1 == 0 {
            return Ok(());
        }
        for word in 1..=FRAME_WORDS {
            let at = top.wrapping_sub(word * word_bytes);
            let walk = walk(self.registers, self.memory, at);
            let writable = match walk.outcome {
                Outcome::Mapped { writable, .. } => writable || self.registers.cr0 >> 16 & 1 == 0,
                _ => false,
            };
            if !writable {
                let words = walk.in_words();
                return Err((None, format!("its frame does not fit on the stack: {at:#x} is {words}")));
            }
        }
        Ok(())
    }
}
