//! ELF programs, 32 and 64 bits: the pieces to put into memory, and where to begin.

use object::elf::{FileHeader32, FileHeader64, NoteType, PF_X, PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

use super::Piece;

/// Type of the note that names the 32-bit PVH entry (`XEN_ELFNOTE_PHYS32_ENTRY`).
const PVH_ENTRY_NOTE: NoteType = NoteType(18);

/// A program's parts.
pub struct Program {
    /// What goes into memory, at its physical addresses.
    pub pieces: Vec<Piece>,
    /// Physical address of the first instruction.
    pub entry: u64,
    /// Physical address of the 32-bit PVH entry, when a note names one.
    pub pvh_entry: Option<u64>,
    /// ELF64.
    pub is_64_bit: bool,
}

impl Program {
    /// Reads a program's headers.
    pub fn parse(image: &[u8]) -> Result<Program, String> {
        match FileKind::parse(image) {
            Ok(FileKind::Elf32) => Program::read::<FileHeader32<Endianness>>(image),
            Ok(FileKind::Elf64) => Program::read::<FileHeader64<Endianness>>(image),
            _ => Err("it is no kernel: neither bzImage, nor multiboot, nor ELF".to_owned()),
        }
    }

    fn read<Header: FileHeader<Endian = Endianness>>(image: &[u8]) -> Result<Program, String> {
        let header = Header::parse(image).map_err(damaged)?;
        let endian = header.endian().map_err(damaged)?;
        let linked_entry: u64 = header.e_entry(endian).into();
        let mut program = Program {
            pieces: Vec::new(),
            entry: linked_entry,
            pvh_entry: None,
            is_64_bit: header.is_class_64(),
        };
        for segment in header.program_headers(endian, image).map_err(damaged)? {
            let (physical, linked): (u64, u64) =
                (segment.p_paddr(endian).into(), segment.p_vaddr(endian).into());
            let size: u64 = segment.p_memsz(endian).into();
            if segment.p_type(endian) == PT_NOTE {
                let entry = pvh_entry::<Header>(segment, endian, image).map_err(damaged)?;
                program.pvh_entry = entry.or(program.pvh_entry);
            }
            if segment.p_type(endian) != PT_LOAD || size == 0 {
                continue;
            }
            // Kernels linked high are entered at the physical address of their entry point.
            let holds_entry = (linked..linked.saturating_add(size)).contains(&linked_entry);
            if segment.p_flags(endian).contains(PF_X) && holds_entry {
                program.entry = (linked_entry - linked).wrapping_add(physical);
            }
            let bytes = segment
                .data(endian, image)
                .map_err(|()| "this ELF file is damaged: a segment lies outside the file".to_owned())?;
            let zeros = size.saturating_sub(bytes.len() as u64);
            program.pieces.push(Piece { address: physical, bytes: bytes.to_vec(), zeros });
        }
        Ok(program)
    }
}

fn damaged(error: object::Error) -> String {
    format!("this ELF file is damaged: {error}")
}

fn pvh_entry<Header: FileHeader<Endian = Endianness>>(
    segment: &Header::ProgramHeader,
    endian: Endianness,
    image: &[u8],
) -> object::Result<Option<u64>> {
    let Some(mut notes) = segment.notes(endian, image)? else { return Ok(None) };
    while let Some(note) = notes.next()? {
        if note.name() == b"Xen" && note.n_type(endian) == PVH_ENTRY_NOTE {
            let mut entry = [0; 8];
            let length = note.desc().len().min(8);
            entry[..length].copy_from_slice(&note.desc()[..length]);
            return Ok(Some(u64::from_le_bytes(entry)));
        }
    }
    Ok(None)
}
