//! What the inspector shows beside the registers: stack, memory in lines.

use cpu::Registers;
use cpu::registers::general;
use engine::inspect::{self, PhysicalMemory, stack};

/// Bytes in a line of memory.
pub const LINE: usize = 16;

/// One entry of the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackLine {
    /// Offset in the stack segment.
    pub offset: u64,
    /// What lies there; `None`: no memory.
    pub value: Option<u64>,
}

/// The top of the stack, `count` entries as wide as the mode's.
pub fn stack(registers: &Registers, memory: &dyn PhysicalMemory, count: u64) -> (usize, Vec<StackLine>) {
    let width = stack::word_bytes(registers);
    let line = |n: u64| {
        let pointer = registers.general[general::RSP].wrapping_add(n * width);
        let offset = stack::offset(registers, pointer);
        StackLine { offset, value: stack::read(registers, memory, stack::linear(registers, pointer)) }
    };
    (width as usize, (0..count).map(line).collect())
}

/// A line of memory: its bytes, `None` where there is no memory.
pub fn line(
    registers: &Registers,
    memory: &dyn PhysicalMemory,
    address: u64,
    physical: bool,
) -> [Option<u8>; LINE] {
    let mut bytes = [0; LINE];
    let read = match physical {
        true => memory.read(address, &mut bytes),
        false => inspect::read_linear(registers, memory, address, &mut bytes),
    };
    std::array::from_fn(|n| (n < read).then(|| bytes[n]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::Running;
    use crate::running::fake::Fake;

    #[test]
    fn stack_and_memory_are_read_where_the_mode_says() {
        let fake = Fake::new("one");
        fake.set_memory(0x7BFC, &[0x34, 0x12, 0x78, 0x56]);
        fake.set_registers(|registers| registers.general[4] = 0x7BFC);
        let registers = fake.registers(0).unwrap();
        let (width, lines) = stack(&registers, fake.memory(), 2);
        assert_eq!(width, 2);
        assert_eq!(lines[1], StackLine { offset: 0x7BFE, value: Some(0x5678) });
        let end = line(&registers, fake.memory(), 0xFFF8, true);
        assert_eq!((end[7], end[8]), (Some(0), None));
    }
}
