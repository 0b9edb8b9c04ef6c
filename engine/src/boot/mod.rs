//! Starting without firmware: a program or kernel put straight into memory, and the registers with
//! which the first vCPU begins.

mod elf;
mod flat;
mod linux;
mod multiboot;
mod multiboot2;
mod protected;
mod pvh;
mod sections;
mod tables;

use std::io;
use std::path::{Path, PathBuf};

use cpu::Registers;
use hardware::Memory;
use hardware::layout::address;

use crate::builtin;
use crate::profile::Direct;

/// Why a program or kernel cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The file is not what it is used as, or does not fit the machine.
    #[error("{path}: {reason}", path = .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// There is no built-in guest of this name.
    #[error("there is no built-in guest called '{0}'; there are: {names}", names = builtin::names().join(", "))]
    NoSuchGuest(String),
}

/// What is put into memory at each power-on, and how the first vCPU begins. Read and checked once.
#[derive(Debug)]
pub struct Image {
    pieces: Vec<Piece>,
    registers: Registers,
    /// Where so many bytes of ACPI's root pointer are wanted, too.
    root_pointers: Vec<(u64, usize)>,
}

/// Bytes for one place in guest memory, and zeros after them.
#[derive(Debug)]
struct Piece {
    address: u64,
    bytes: Vec<u8>,
    zeros: u64,
}

/// RAM as a loader sees it.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Bytes of RAM below the PCI hole.
    low: u64,
    /// Bytes of RAM from 4 GiB on.
    high: u64,
}

/// A kernel's parts, read from the host.
struct Kernel {
    image: Vec<u8>,
    initrd: Option<Vec<u8>>,
    append: String,
}

impl Image {
    fn new(pieces: Vec<Piece>, registers: Registers) -> Image {
        Image { pieces, registers, root_pointers: Vec::new() }
    }

    /// Reads and checks what `direct` names, for a machine with `memory`.
    pub fn read(direct: &Direct, memory: &Memory) -> Result<Image, BootError> {
        let low = memory.low_ram_bytes();
        let room = Room { low, high: memory.ram_bytes() - low };
        match direct {
            Direct::BuiltIn(name) => {
                let guest = builtin::find(name).ok_or_else(|| BootError::NoSuchGuest(name.clone()))?;
                flat::load(guest.image.to_vec(), room).map_err(|reason| unusable(Path::new(name), reason))
            }
            Direct::Flat(path) => {
                flat::load(read_file(path, room)?, room).map_err(|reason| unusable(path, reason))
            }
            Direct::Kernel { image, initrd, append } => {
                let kernel = Kernel {
                    image: read_file(image, room)?,
                    initrd: initrd.as_ref().map(|path| read_file(path, room)).transpose()?,
                    append: append.clone(),
                };
                load_kernel(kernel, room).map_err(|reason| unusable(image, reason))
            }
        }
    }

    /// Puts it into memory; gives the registers to begin with.
    pub fn place(&self, memory: &Memory) -> Registers {
        const CHUNK: u64 = 1 << 20;
        for piece in &self.pieces {
            memory.dma_write(piece.address, &piece.bytes);
            let mut at = piece.address + piece.bytes.len() as u64;
            let end = at + piece.zeros;
            while at < end {
                let length = (end - at).min(CHUNK);
                memory.dma_write(at, &vec![0; length as usize]);
                at += length;
            }
        }
        self.registers.clone()
    }
}

impl Piece {
    fn new(address: u64, bytes: Vec<u8>) -> Piece {
        Piece { address, bytes, zeros: 0 }
    }

    fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64).saturating_add(self.zeros)
    }
}

impl Room {
    /// Refuses pieces that do not lie in RAM.
    fn check(self, pieces: &[Piece]) -> Result<(), String> {
        for piece in pieces {
            let (start, end) = (piece.address, piece.end());
            let fits = end <= self.low || start >= address::HIGH_RAM && end - address::HIGH_RAM <= self.high;
            if !fits {
                return Err(format!(
                    "it wants memory at {start:#x} to {end:#x}, and the machine has {} MiB; give it more memory",
                    (self.low + self.high) >> 20
                ));
            }
        }
        Ok(())
    }

    /// The memory map a kernel is given: (start, bytes) of usable RAM.
    fn usable(self) -> Vec<(u64, u64)> {
        let mut usable = vec![(0, 0x9_FC00), (address::MEGABYTE, self.low.saturating_sub(address::MEGABYTE))];
        if self.high > 0 {
            usable.push((address::HIGH_RAM, self.high));
        }
        usable
    }
}

/// The first protocol the kernel offers: Linux's own, multiboot 2, multiboot 1, PVH, plain ELF.
fn load_kernel(kernel: Kernel, room: Room) -> Result<Image, String> {
    if linux::is_bzimage(&kernel.image) {
        return linux::load(kernel, room);
    }
    if let Some(header) = multiboot2::find_header(&kernel.image) {
        return multiboot2::load(kernel, header, room);
    }
    if let Some(header) = multiboot::find_header(&kernel.image) {
        return multiboot::load(kernel, header, room);
    }
    let program = elf::Program::parse(&kernel.image)?;
    match program.pvh_entry {
        Some(entry) => pvh::load(kernel, program, entry, room),
        None => protected::load(program, room),
    }
}

fn unusable(path: &Path, reason: String) -> BootError {
    BootError::Unusable { path: path.to_owned(), reason }
}

fn read_file(path: &Path, room: Room) -> Result<Vec<u8>, BootError> {
    let unreadable = |source| BootError::Unreadable { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > room.low {
        return Err(unusable(
            path,
            format!("{length} bytes do not fit the machine's {} of memory", room.low),
        ));
    }
    std::fs::read(path).map_err(unreadable)
}

#[cfg(test)]
mod tests;
