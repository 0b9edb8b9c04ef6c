//! Segment and gate descriptors, and how they are found (Intel SDM 3A, sections 3.4.5, 3.5, 6.11, 8.2).

use crate::registers::{Segment, Table};
use crate::soft::fault::{Fallible, Fault};
use crate::soft::state::Cpu;

/// Types of system descriptors (S = 0).
pub mod kind {
    /// Available 16-bit TSS.
    pub const TSS16: u8 = 1;
    /// LDT.
    pub const LDT: u8 = 2;
    /// Busy 16-bit TSS.
    pub const TSS16_BUSY: u8 = 3;
    /// 16-bit call gate.
    pub const CALL_GATE16: u8 = 4;
    /// Task gate.
    pub const TASK_GATE: u8 = 5;
    /// 16-bit interrupt gate.
    pub const INTERRUPT_GATE16: u8 = 6;
    /// 16-bit trap gate.
    pub const TRAP_GATE16: u8 = 7;
    /// Available 32- or 64-bit TSS.
    pub const TSS32: u8 = 9;
    /// Busy 32- or 64-bit TSS.
    pub const TSS32_BUSY: u8 = 11;
    /// 32- or 64-bit call gate.
    pub const CALL_GATE32: u8 = 12;
    /// 32- or 64-bit interrupt gate.
    pub const INTERRUPT_GATE32: u8 = 14;
    /// 32- or 64-bit trap gate.
    pub const TRAP_GATE32: u8 = 15;
}

/// Attribute bits of [`Segment`].
pub mod attribute {
    /// Accessed (code and data).
    pub const ACCESSED: u16 = 1;
    /// Writable (data) or readable (code); busy (TSS).
    pub const WRITABLE: u16 = 1 << 1;
    /// Expand-down (data) or conforming (code).
    pub const EXPAND_DOWN: u16 = 1 << 2;
    /// Code.
    pub const CODE: u16 = 1 << 3;
    /// Code or data (S).
    pub const NOT_SYSTEM: u16 = 1 << 4;
    /// Present.
    pub const PRESENT: u16 = 1 << 7;
    /// L.
    pub const LONG: u16 = 1 << 13;
    /// D/B.
    pub const BIG: u16 = 1 << 14;
    /// G.
    pub const GRANULARITY: u16 = 1 << 15;
}

/// The error code a selector makes: without its RPL.
pub const fn code_of(selector: u16) -> u32 {
    (selector & 0xFFFC) as u32
}

/// Whether a selector is null.
pub const fn is_null(selector: u16) -> bool {
    selector & 0xFFFC == 0
}

/// Eight bytes of a descriptor table, and where they came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The bytes.
    pub raw: u64,
    /// Linear address in the table.
    pub address: u64,
}

impl Descriptor {
    /// Rights in the form of [`Segment::attributes`].
    pub const fn attributes(self) -> u16 {
        (self.raw >> 40) as u16 & 0xF0FF
    }

    /// Type field.
    pub const fn kind(self) -> u8 {
        (self.raw >> 40) as u8 & 15
    }

    /// S = 0.
    pub const fn is_system(self) -> bool {
        self.attributes() & attribute::NOT_SYSTEM == 0
    }

    /// A code segment.
    pub const fn is_code(self) -> bool {
        !self.is_system() && self.attributes() & attribute::CODE != 0
    }

    /// A data segment.
    pub const fn is_data(self) -> bool {
        !self.is_system() && self.attributes() & attribute::CODE == 0
    }

    /// A writable data segment.
    pub const fn is_writable_data(self) -> bool {
        self.is_data() && self.attributes() & attribute::WRITABLE != 0
    }

    /// Data, or code that may be read.
    pub const fn is_readable(self) -> bool {
        self.is_data() || self.is_code() && self.attributes() & attribute::WRITABLE != 0
    }

    /// A conforming code segment.
    pub const fn is_conforming(self) -> bool {
        self.is_code() && self.attributes() & attribute::EXPAND_DOWN != 0
    }

    /// P.
    pub const fn is_present(self) -> bool {
        self.attributes() & attribute::PRESENT != 0
    }

    /// L.
    pub const fn is_long(self) -> bool {
        self.attributes() & attribute::LONG != 0
    }

    /// D/B.
    pub const fn is_big(self) -> bool {
        self.attributes() & attribute::BIG != 0
    }

    /// DPL.
    pub const fn dpl(self) -> u8 {
        (self.raw >> 45) as u8 & 3
    }

    /// Base, 32 bits.
    pub const fn base(self) -> u64 {
        self.raw >> 16 & 0xFF_FFFF | self.raw >> 32 & 0xFF00_0000
    }

    /// Limit in bytes, granularity applied.
    pub const fn limit(self) -> u32 {
        let limit = (self.raw & 0xFFFF | self.raw >> 32 & 0xF_0000) as u32;
        if self.attributes() & attribute::GRANULARITY != 0 { limit << 12 | 0xFFF } else { limit }
    }

    /// Target selector of a gate.
    pub const fn gate_selector(self) -> u16 {
        (self.raw >> 16) as u16
    }

    /// Target offset of a 16- or 32-bit gate (low half of a 64-bit one).
    pub const fn gate_offset(self) -> u32 {
        (self.raw & 0xFFFF | self.raw >> 32 & 0xFFFF_0000) as u32
    }

    /// Parameter count of a call gate.
    pub const fn gate_parameters(self) -> u8 {
        (self.raw >> 32) as u8 & 31
    }

    /// The segment register this descriptor makes.
    pub const fn segment(self, selector: u16) -> Segment {
        Segment {
            selector,
            base: self.base(),
            limit: self.limit(),
            attributes: self.attributes(),
            unusable: false,
        }
    }
}

impl Cpu {
    /// The descriptor table a selector points into, its base and limit; `None` for an unusable LDT.
    fn table_of(&self, selector: u16) -> Option<(u64, u32)> {
        if selector & 4 == 0 {
            let Table { base, limit } = self.gdtr;
            Some((base, u32::from(limit)))
        } else {
            (!self.ldtr.unusable).then_some((self.ldtr.base, self.ldtr.limit))
        }
    }

    /// Whether a descriptor of `bytes` (8 or 16) lies within its table, and where.
    pub fn descriptor_address(&self, selector: u16, bytes: u32) -> Option<u64> {
        let (base, limit) = self.table_of(selector)?;
        let offset = u32::from(selector & 0xFFF8);
        (offset + bytes - 1 <= limit).then(|| self.wrap_linear(base.wrapping_add(u64::from(offset))))
    }

    /// Reads the descriptor of a selector; outside its table it is `fault(selector)`.
    pub fn descriptor(&mut self, selector: u16, fault: fn(u32) -> Fault) -> Fallible<Descriptor> {
        let address = self.descriptor_address(selector, 8).ok_or(fault(code_of(selector)))?;
        Ok(Descriptor { raw: self.read_system::<u64>(address)?, address })
    }

    /// The upper eight bytes of a 16-byte descriptor, or `fault(selector)`.
    pub fn descriptor_upper(&mut self, selector: u16, fault: fn(u32) -> Fault) -> Fallible<u64> {
        let address = self.descriptor_address(selector, 16).ok_or(fault(code_of(selector)))?;
        self.read_system::<u64>(self.wrap_linear(address.wrapping_add(8)))
    }

    /// Linear addresses outside IA-32e mode have 32 bits.
    pub fn wrap_linear(&self, linear: u64) -> u64 {
        if self.is_long_mode() { linear } else { linear & 0xFFFF_FFFF }
    }

    /// Sets the accessed bit of a code or data descriptor, in memory and in the value.
    pub fn set_accessed(&mut self, descriptor: &mut Descriptor) -> Fallible<()> {
        if descriptor.raw >> 40 & 1 == 0 {
            descriptor.raw |= 1 << 40;
            let rights = self.wrap_linear(descriptor.address.wrapping_add(5));
            self.write_system::<u8>(rights, (descriptor.raw >> 40) as u8)?;
        }
        Ok(())
    }

    /// Sets or clears the busy bit of a TSS descriptor in memory.
    pub fn set_busy(&mut self, address: u64, busy: bool) -> Fallible<()> {
        let rights = self.wrap_linear(address.wrapping_add(5));
        let old = self.read_system::<u8>(rights)?;
        self.write_system::<u8>(rights, if busy { old | 2 } else { old & !2 })
    }
}
