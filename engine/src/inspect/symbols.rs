//! Names of addresses: from an ELF file's symbol table, or a list of `address name` as System.map is one.

use std::collections::HashMap;

use object::elf::{FileHeader32, FileHeader64, STT_FUNC, STT_NOTYPE, STT_OBJECT};
use object::read::SymbolIndex;
use object::read::elf::{FileHeader, Sym};
use object::{Endianness, FileKind};

/// Symbols taken of one file at the most.
const MOST: usize = 4_000_000;
/// How far behind a symbol an address may lie and still be named by it.
const FARTHEST: u64 = 1 << 20;

/// Names of addresses, sorted by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    entries: Vec<(u64, String)>,
    by_name: HashMap<String, u64>,
}

impl Symbols {
    /// Reads an ELF file's symbols, or a list of them.
    pub fn parse(file: &[u8]) -> Result<Symbols, String> {
        let entries = match FileKind::parse(file) {
            Ok(FileKind::Elf32) => elf::<FileHeader32<Endianness>>(file)?,
            Ok(FileKind::Elf64) => elf::<FileHeader64<Endianness>>(file)?,
            _ => list(file)?,
        };
        if entries.is_empty() {
            return Err("the file has no symbols (stripped?)".to_owned());
        }
        Ok(Symbols::of(entries))
    }

    fn of(mut entries: Vec<(u64, String)>) -> Symbols {
        entries.sort_by_key(|(address, _)| *address);
        let by_name = entries.iter().map(|(address, name)| (name.clone(), *address)).collect();
        Symbols { entries, by_name }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// "name" or "name+0x12" for an address that lies in or behind a symbol.
    pub fn name_of(&self, address: u64) -> Option<String> {
        let behind = self.entries.partition_point(|(at, _)| *at <= address);
        let (at, name) = self.entries.get(behind.checked_sub(1)?)?;
        match address - at {
            0 => Some(name.clone()),
            offset if offset < FARTHEST => Some(format!("{name}+{offset:#x}")),
            _ => None,
        }
    }

    /// The address of "name", "name+0x12" or a number.
    pub fn address_of(&self, text: &str) -> Result<u64, String> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return crate::debugger::words::number(text);
        }
        let (name, offset) = match text.rsplit_once('+') {
            Some((name, offset)) => (name, crate::debugger::words::number(offset)?),
            None => (text, 0),
        };
        let known = self.by_name.get(name).map(|at| at.wrapping_add(offset));
        known.ok_or_else(|| match self.is_empty() {
            true => format!("'{text}' is no number, and no symbols are loaded: symbols load FILE"),
            false => format!("no symbol is called '{name}'"),
        })
    }
}

fn elf<Header: FileHeader<Endian = Endianness>>(file: &[u8]) -> Result<Vec<(u64, String)>, String> {
    let damaged = |error: object::Error| format!("the ELF file is damaged: {error}");
    let header = Header::parse(file).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let sections = header.sections(endian, file).map_err(damaged)?;
    let table = sections.symbols(endian, file, object::elf::SHT_SYMTAB).map_err(damaged)?;
    let mut entries = Vec::new();
    // Number 0 stands for none.
    for index in 1..table.len().min(MOST) {
        let symbol = table.symbol(SymbolIndex(index)).map_err(damaged)?;
        let kind = symbol.st_type();
        let is_place = kind == STT_FUNC || kind == STT_OBJECT || kind == STT_NOTYPE;
        if !is_place || symbol.is_undefined(endian) || symbol.is_absolute(endian) {
            continue;
        }
        let name = table.symbol_name(endian, symbol).map_err(damaged)?;
        if !name.is_empty() {
            entries.push((symbol.st_value(endian).into(), String::from_utf8_lossy(name).into_owned()));
        }
    }
    Ok(entries)
}

/// Lines of `address name` or, as nm writes, `address type name`; the address is hexadecimal.
fn list(file: &[u8]) -> Result<Vec<(u64, String)>, String> {
    let text =
        std::str::from_utf8(file).map_err(|_| "this is neither ELF nor a list of symbols".to_owned())?;
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate().take(MOST) {
        let mut words = line.split_whitespace();
        let (Some(address), Some(name)) = (words.next(), words.next()) else {
            if line.trim().is_empty() || line.trim().starts_with('#') {
                continue;
            }
            return Err(format!("line {}: write ADDRESS NAME", number + 1));
        };
        let digits = address.trim_start_matches("0x");
        let address = u64::from_str_radix(digits, 16)
            .map_err(|_| format!("line {}: '{address}' is no hexadecimal address", number + 1))?;
        let name = match words.next() {
            Some(longer) if name.len() == 1 => longer,
            _ => name,
        };
        entries.push((address, name.to_owned()));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_both_kinds_name_addresses() {
        let symbols = Symbols::parse(b"00007c00 start\n0x7c20 T loop\n\nffffffff81000000 T _text\n").unwrap();
        assert_eq!(symbols.len(), 3);
        assert_eq!(symbols.name_of(0x7C00).as_deref(), Some("start"));
        assert_eq!(symbols.name_of(0x7C25).as_deref(), Some("loop+0x5"));
        assert_eq!((symbols.name_of(0), symbols.name_of(0x4000_0000)), (None, None));
        assert_eq!(symbols.address_of("loop+0x10"), Ok(0x7C30));
        assert_eq!(symbols.address_of("0x10"), Ok(0x10));
        assert!(symbols.address_of("gone").unwrap_err().contains("no symbol"));
        assert!(Symbols::default().address_of("x").unwrap_err().contains("symbols load"));
    }

    #[test]
    fn what_is_no_list_is_told_by_its_line() {
        assert!(Symbols::parse(b"1000 a\nzz b\n").unwrap_err().starts_with("line 2"));
        assert!(Symbols::parse(&[0xFF, 0xFE]).is_err());
        assert!(Symbols::parse(b"").unwrap_err().contains("no symbols"));
    }

    /// The test program itself is an ELF file with symbols.
    #[test]
    fn an_elf_file_names_its_functions() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let symbols = Symbols::parse(&file).unwrap();
        let main = symbols.address_of("main").unwrap();
        assert_eq!(symbols.name_of(main + 1).as_deref(), Some("main+0x1"));
    }
}
