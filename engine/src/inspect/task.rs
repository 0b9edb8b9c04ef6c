//! The task-state segment in words. Source: Intel SDM 3A, §8.2.1 (32-bit) and §8.7 (64-bit).

use cpu::Registers;
use serde::Serialize;

use super::{PhysicalMemory, read_linear};

/// A named field of the TSS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// The manual's name.
    pub name: String,
    /// Its value.
    pub value: u64,
}

/// The fields of the current TSS that the processor reads by itself; empty if there is none to read.
pub fn fields(registers: &Registers, memory: &dyn PhysicalMemory) -> Vec<Field> {
    if registers.tr.unusable || registers.tr.selector & !3 == 0 {
        return Vec::new();
    }
    let (long, busy_16) = (registers.efer >> 10 & 1 != 0, registers.tr.attributes & 0xF == 3);
    let field = |(name, offset, bytes): (&str, u64, usize)| {
        let mut value = [0; 8];
        let linear = registers.tr.base.wrapping_add(offset);
        let read = read_linear(registers, memory, linear, &mut value[..bytes]);
        let field = Field { name: name.to_owned(), value: u64::from_le_bytes(value) };
        (read == bytes && offset + bytes as u64 - 1 <= u64::from(registers.tr.limit)).then_some(field)
    };
    let layout: &[(&str, u64, usize)] = match (long, busy_16) {
        (true, _) => &[
            ("RSP0", 0x04, 8),
            ("RSP1", 0x0C, 8),
            ("RSP2", 0x14, 8),
            ("IST1", 0x24, 8),
            ("IST2", 0x2C, 8),
            ("IST3", 0x34, 8),
            ("IST4", 0x3C, 8),
            ("IST5", 0x44, 8),
            ("IST6", 0x4C, 8),
            ("IST7", 0x54, 8),
            ("I/O map base", 0x66, 2),
        ],
        (false, false) => &[
            ("previous task", 0x00, 2),
            ("ESP0", 0x04, 4),
            ("SS0", 0x08, 2),
            ("ESP1", 0x0C, 4),
            ("SS1", 0x10, 2),
            ("ESP2", 0x14, 4),
            ("SS2", 0x18, 2),
            ("CR3", 0x1C, 4),
            ("I/O map base", 0x66, 2),
        ],
        (false, true) => &[
            ("previous task", 0x00, 2),
            ("SP0", 0x02, 2),
            ("SS0", 0x04, 2),
            ("SP1", 0x06, 2),
            ("SS1", 0x08, 2),
            ("SP2", 0x0A, 2),
            ("SS2", 0x0C, 2),
        ],
    };
    layout.iter().copied().filter_map(field).collect()
}

#[cfg(test)]
mod tests {
    use cpu::Segment;

    use super::*;
    use crate::inspect::testing::Flat;

    #[test]
    fn a_64_bit_tss_has_stacks_and_no_task() {
        let mut memory = Flat::new(0x4000);
        memory.put(0x3004, 0xFFFF_8000_0000_1000, 8);
        memory.put(0x3066, 0x68, 2);
        let mut registers = Registers::reset();
        registers.efer = 1 << 10;
        registers.tr =
            Segment { selector: 0x40, base: 0x3000, limit: 0x67, attributes: 0x8B, unusable: false };
        let fields = fields(&registers, &memory);
        assert_eq!((fields[0].name.as_str(), fields[0].value), ("RSP0", 0xFFFF_8000_0000_1000));
        assert_eq!(fields.last().unwrap().value, 0x68);
        registers.tr.limit = 0x20;
        assert_eq!(super::fields(&registers, &memory).len(), 3, "what lies behind the limit is not read");
    }
}
