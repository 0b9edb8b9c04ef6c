//! The linker/loader script that tells firmware where tables go and which pointers and checksums to fix.
//!
//! SeaBIOS fw/romfile_loader.h: entries of 128 bytes, little-endian. [`Script::place`] carries the
//! script out here, for boots without firmware and for tests.

use std::collections::BTreeMap;

const ENTRY_BYTES: usize = 128;
const NAME_BYTES: usize = 56;

/// Where firmware puts a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Anywhere in RAM.
    High = 1,
    /// Between 0xE0000 and 0xFFFFF, where systems look for it.
    FSegment = 2,
}

/// One step of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Allocate { file: String, align: u32, zone: Zone },
    AddPointer { file: String, target: String, offset: u32, bytes: u8 },
    AddChecksum { file: String, offset: u32, start: u32, length: u32 },
}

/// A script in the making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script(Vec<Command>);

impl Script {
    /// Loads `file` to an address that is a multiple of `align`.
    pub fn allocate(&mut self, file: &str, align: u32, zone: Zone) {
        self.0.push(Command::Allocate { file: file.to_owned(), align, zone });
    }

    /// Adds the address of `target` to the `bytes` bytes at `offset` of `file`.
    pub fn add_pointer(&mut self, file: &str, target: &str, offset: usize, bytes: u8) {
        let (file, target) = (file.to_owned(), target.to_owned());
        self.0.push(Command::AddPointer { file, target, offset: offset as u32, bytes });
    }

    /// Makes the `length` bytes from `start` of `file` sum to zero by the byte at `offset`.
    pub fn add_checksum(&mut self, file: &str, offset: usize, start: usize, length: usize) {
        let (offset, start, length) = (offset as u32, start as u32, length as u32);
        self.0.push(Command::AddChecksum { file: file.to_owned(), offset, start, length });
    }

    /// The script as the firmware reads it.
    pub fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|command| command.encode()).collect()
    }

    /// Carries the script out on `files`, each with the address it is placed at.
    pub fn place(&self, files: &mut BTreeMap<String, (u32, Vec<u8>)>) {
        for command in &self.0 {
            match command {
                Command::Allocate { file, align, .. } => {
                    debug_assert!(files[file].0.is_multiple_of(*align), "{file} is misplaced");
                }
                Command::AddPointer { file, target, offset, bytes } => {
                    let address = u64::from(files[target].0);
                    let (_, content) = files.get_mut(file).expect("a file of the script");
                    let field = &mut content[*offset as usize..][..usize::from(*bytes)];
                    let mut value = [0; 8];
                    value[..field.len()].copy_from_slice(field);
                    let value = u64::from_le_bytes(value).wrapping_add(address).to_le_bytes();
                    field.copy_from_slice(&value[..field.len()]);
                }
                Command::AddChecksum { file, offset, start, length } => {
                    let (_, content) = files.get_mut(file).expect("a file of the script");
                    let range = &content[*start as usize..][..*length as usize];
                    let sum = range.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
                    let byte = &mut content[*offset as usize];
                    *byte = byte.wrapping_sub(sum);
                }
            }
        }
    }
}

impl Command {
    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut entry = Vec::with_capacity(ENTRY_BYTES);
        let number: u32 = match self {
            Command::Allocate { .. } => 1,
            Command::AddPointer { .. } => 2,
            Command::AddChecksum { .. } => 3,
        };
        entry.extend_from_slice(&number.to_le_bytes());
        let name = |entry: &mut Vec<u8>, name: &str| {
            assert!(name.len() < NAME_BYTES);
            let end = entry.len() + NAME_BYTES;
            entry.extend_from_slice(name.as_bytes());
            entry.resize(end, 0);
        };
        match self {
            Command::Allocate { file, align, zone } => {
                name(&mut entry, file);
                entry.extend_from_slice(&align.to_le_bytes());
                entry.push(*zone as u8);
            }
            Command::AddPointer { file, target, offset, bytes } => {
                name(&mut entry, file);
                name(&mut entry, target);
                entry.extend_from_slice(&offset.to_le_bytes());
                entry.push(*bytes);
            }
            Command::AddChecksum { file, offset, start, length } => {
                name(&mut entry, file);
                for value in [offset, start, length] {
                    entry.extend_from_slice(&value.to_le_bytes());
                }
            }
        }
        entry.resize(ENTRY_BYTES, 0);
        entry.try_into().expect("128 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_seabios_reads_them() {
        let mut script = Script::default();
        script.allocate("a", 64, Zone::FSegment);
        script.add_pointer("a", "b", 0x1234, 4);
        script.add_checksum("a", 9, 0, 36);
        let bytes = script.encode();
        assert_eq!(bytes.len(), 3 * 128);
        assert_eq!((bytes[0], bytes[4], bytes[60], bytes[64]), (1, b'a', 64, 2));
        let pointer = &bytes[128..];
        assert_eq!(
            (pointer[0], pointer[60], pointer[116], pointer[117], pointer[120]),
            (2, b'b', 0x34, 0x12, 4)
        );
        let checksum = &bytes[256..];
        assert_eq!((checksum[0], checksum[60], checksum[64], checksum[68]), (3, 9, 0, 36));
    }

    #[test]
    fn placing_adds_addresses_and_sums_to_zero() {
        let mut script = Script::default();
        script.allocate("a", 16, Zone::High);
        script.add_pointer("a", "a", 4, 4);
        script.add_checksum("a", 0, 0, 8);
        let mut files = BTreeMap::from([("a".to_owned(), (0x1230, vec![7, 1, 2, 3, 8, 0, 0, 0]))]);
        script.place(&mut files);
        let content = &files["a"].1;
        assert_eq!(content[4..8], 0x1238u32.to_le_bytes());
        assert_eq!(content.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    }
}
