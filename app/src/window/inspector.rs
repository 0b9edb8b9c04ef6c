//! What the inspector shows beside the registers: stack, memory in lines, bits in words.

use cpu::Registers;
use cpu::registers::general;
use engine::inspect::bits::{self, Explained};
use engine::inspect::{self, PhysicalMemory, stack};

/// Bytes in a line of memory.
pub const LINE: usize = 16;

/// A register whose bits are explained, with the manual's place.
pub struct Bits {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// Where the manual says it.
    pub source: &'static str,
    /// Bit by bit.
    pub bits: Vec<Explained>,
}

/// Every register whose bits have words.
pub fn explained(registers: &Registers) -> Vec<Bits> {
    [
        ("CR0", registers.cr0, "Intel SDM 3A, §2.5", &bits::CR0[..]),
        ("CR4", registers.cr4, "Intel SDM 3A, §2.5", &bits::CR4),
        ("EFER", registers.efer, "Intel SDM 4, table 2-2", &bits::EFER),
        ("RFLAGS", registers.rflags, "Intel SDM 1, §3.4.3", &bits::RFLAGS),
    ]
    .into_iter()
    .map(|(name, value, source, table)| Bits { name, value, source, bits: bits::explain(value, table) })
    .collect()
}

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

/// Looks for bytes from `from` on, over at most `span` bytes; where they begin.
pub fn find(
    registers: &Registers,
    memory: &dyn PhysicalMemory,
    from: u64,
    physical: bool,
    wanted: &[u8],
    span: u64,
) -> Option<u64> {
    const CHUNK: usize = 4096;
    if wanted.is_empty() || wanted.len() > CHUNK {
        return None;
    }
    let mut chunk = vec![0; CHUNK + wanted.len() - 1];
    let mut at = from;
    while at.wrapping_sub(from) < span {
        let read = match physical {
            true => memory.read(at, &mut chunk),
            false => inspect::read_linear(registers, memory, at, &mut chunk),
        };
        if let Some(place) = chunk[..read].windows(wanted.len()).position(|bytes| bytes == wanted) {
            return Some(at.wrapping_add(place as u64));
        }
        at = at.checked_add(CHUNK as u64)?;
    }
    None
}

/// What a person typed to look for: hexadecimal bytes, or text in quotes.
pub fn wanted(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if let Some(quoted) = text.strip_prefix('"') {
        return Some(quoted.trim_end_matches('"').as_bytes().to_vec()).filter(|bytes| !bytes.is_empty());
    }
    let digits: Vec<char> = text.chars().filter(|character| !character.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).ok();
    (digits.len() >= 2 && digits.len().is_multiple_of(2)).then(|| digits.chunks(2).map(byte).collect())?
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
        assert_eq!(find(&registers, fake.memory(), 0, true, &[0x12, 0x78], 1 << 16), Some(0x7BFD));
        assert_eq!(find(&registers, fake.memory(), 0, true, &[0x12, 0x79], 1 << 16), None);
    }

    #[test]
    fn bytes_are_looked_for_as_hex_or_text() {
        assert_eq!(wanted("55 aa"), Some(vec![0x55, 0xAA]));
        assert_eq!(wanted("\"RSD PTR \""), Some(b"RSD PTR ".to_vec()));
        assert!(wanted("5").is_none() && wanted("xy").is_none() && wanted("").is_none());
    }

    #[test]
    fn bits_come_with_their_names() {
        let mut registers = Registers::reset();
        registers.cr0 |= 1;
        let bits = explained(&registers);
        assert!(bits.iter().any(|bits| bits.bits.iter().any(|bit| bit.name == "PE" && bit.is_set)));
    }
}
