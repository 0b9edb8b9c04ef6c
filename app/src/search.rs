//! Looking for bytes in a machine's memory.

use cpu::Registers;
use engine::inspect::{self, PhysicalMemory};

/// Bytes a search looks through.
pub const SPAN: u64 = 256 << 20;

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
    hexadecimal(text).filter(|bytes| !bytes.is_empty())
}

/// Bytes as two hexadecimal digits each, with or without blanks between.
pub fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|_| pair.iter().all(u8::is_ascii_hexdigit));
        u8::from_str_radix(pair.filter(|pair| pair.len() == 2)?, 16).ok()
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::Running;
    use crate::running::fake::Fake;

    #[test]
    fn bytes_are_found_across_chunks_and_not_beyond_the_span() {
        let fake = Fake::new("one");
        fake.set_memory(0xFFF, &[0x12, 0x78]);
        let registers = fake.registers(0).unwrap();
        let look = |wanted: &[u8], span| find(&registers, fake.memory(), 0, true, wanted, span);
        assert_eq!(look(&[0x12, 0x78], 1 << 16), Some(0xFFF));
        assert_eq!(look(&[0x12, 0x79], 1 << 16), None);
        assert_eq!(find(&registers, fake.memory(), 0x1000, true, &[0x12], 1 << 16), None);
    }

    #[test]
    fn bytes_are_looked_for_as_hex_or_text() {
        assert_eq!(wanted("55 aa"), Some(vec![0x55, 0xAA]));
        assert_eq!(wanted("\"RSD PTR \""), Some(b"RSD PTR ".to_vec()));
        assert!(wanted("5").is_none() && wanted("xy").is_none() && wanted("").is_none());
    }
}
