//! The section headers of an ELF file, as multiboot 2 hands them to a kernel that asks for them: those that are no
//! part of the running program (symbols, names) are loaded too, and their headers say where.

use super::Piece;

/// Section headers and what they refer to.
pub struct Sections {
    /// Number of headers.
    pub count: u32,
    /// Bytes of each.
    pub entry_bytes: u32,
    /// Which section holds the sections' names.
    pub names: u32,
    /// The headers.
    pub headers: Vec<u8>,
    /// What was loaded because of this.
    pub loaded: Vec<Piece>,
}

/// Where the fields lie, in ELF32 and ELF64 (System V ABI, "Sections").
struct Layout {
    /// Bytes of an address.
    word: usize,
    /// In the file header: offset of the section headers, and bytes of one, their number, the names' index.
    table: usize,
    sizes: usize,
    /// In a section header, after name and type: flags, address, offset, size, one word each.
    fields: usize,
    entry_bytes: usize,
}

const ELF32: Layout = Layout { word: 4, table: 0x20, sizes: 0x2E, fields: 8, entry_bytes: 40 };
const ELF64: Layout = Layout { word: 8, table: 0x28, sizes: 0x3A, fields: 8, entry_bytes: 64 };

const ALLOCATED: u64 = 2;
const NO_BITS: u64 = 8;

/// Reads the headers of `image`; `place` finds memory for what is not loaded yet. `None`: it has none, or is no ELF.
pub fn read(image: &[u8], mut place: impl FnMut(Vec<u8>) -> Piece) -> Result<Option<Sections>, String> {
    let damaged = || "this ELF file is damaged: its sections lie outside the file".to_owned();
    let layout = match image.get(..5) {
        Some([0x7F, b'E', b'L', b'F', 1]) => ELF32,
        Some([0x7F, b'E', b'L', b'F', 2]) => ELF64,
        _ => return Ok(None),
    };
    let number = |at: usize, bytes: usize| number(image, at, bytes).ok_or_else(damaged);
    let table = number(layout.table, layout.word)? as usize;
    let (entry_bytes, count, names) =
        (number(layout.sizes, 2)?, number(layout.sizes + 2, 2)?, number(layout.sizes + 4, 2)?);
    if count == 0 {
        return Ok(None);
    }
    if entry_bytes as usize != layout.entry_bytes {
        return Err(damaged());
    }
    let end = table.checked_add(layout.entry_bytes * count as usize).ok_or_else(damaged)?;
    let mut headers = image.get(table..end).ok_or_else(damaged)?.to_vec();
    let mut loaded = Vec::new();
    for header in headers.chunks_exact_mut(layout.entry_bytes) {
        let field =
            |n: usize| self::number(header, layout.fields + n * layout.word, layout.word).unwrap_or(0);
        let (flags, offset, size) = (field(0), field(2) as usize, field(3) as usize);
        let kind = self::number(header, 4, 4).unwrap_or(0);
        if flags & ALLOCATED != 0 || kind == NO_BITS || size == 0 {
            continue;
        }
        let bytes = offset.checked_add(size).and_then(|end| image.get(offset..end)).ok_or_else(damaged)?;
        let piece = place(bytes.to_vec());
        let at = layout.fields + layout.word;
        header[at..at + layout.word].copy_from_slice(&piece.address.to_le_bytes()[..layout.word]);
        loaded.push(piece);
    }
    Ok(Some(Sections {
        count: count as u32,
        entry_bytes: entry_bytes as u32,
        names: names as u32,
        headers,
        loaded,
    }))
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let mut value = [0; 8];
    value[..length].copy_from_slice(bytes.get(at..at.checked_add(length)?)?);
    Some(u64::from_le_bytes(value))
}
