//! What a file is, told by its content and never by its name: CD, floppy, disk, boot sector, kernel.
//!
//! Sources: ECMA-119 §8 (volume descriptors), El Torito 1.0, UEFI 2.10 §5 (GPT), Linux boot protocol,
//! Multiboot 0.6.96 §3.1, Multiboot2 §3.1, ELF gABI. Left out on purpose: raw CD sectors (bin/cue).

use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskError, SECTOR};
use crate::floppy::FloppyGeometry;
use crate::format::Format;
use crate::image;
use crate::iso::BLOCK;
use crate::open::OpenError;
use crate::raw::RawDisk;
use crate::store::{Access, HostFile};

/// How much of the start of a file is looked at: the volume descriptors of a CD end well before.
const HEAD_BYTES: u64 = 128 << 10;

/// Files up to this length that end their first sector with 55 AA are boot sectors, not disks.
const BOOT_SECTOR_MAX_BYTES: u64 = 2_949_120;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A CD or DVD image.
    Iso {
        /// It has an El Torito boot record.
        bootable: bool,
    },
    /// An image of the length of a floppy disk.
    Floppy {
        /// Its layout.
        geometry: FloppyGeometry,
    },
    /// An image of a whole disk, of any format.
    DiskImage {
        /// How it is divided.
        table: PartitionTable,
    },
    /// Code that a BIOS loads to 0x7C00: its first sector ends with 55 AA, and it may be longer.
    BootSector,
    /// A Linux bzImage.
    LinuxKernel,
    /// A kernel with a Multiboot header.
    Multiboot1,
    /// A kernel with a Multiboot2 header.
    Multiboot2,
    /// A 32-bit ELF file without a Multiboot header.
    Elf32,
    /// A 64-bit ELF file without a Multiboot header.
    Elf64,
    /// Anything else: bytes without a known form.
    Flat,
}

/// How a disk is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionTable {
    /// A master boot record.
    Mbr,
    /// A GUID partition table.
    Gpt,
    /// None: a file system or boot code lies on the bare disk.
    None,
}

/// Why a file cannot be used, or not as it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It was opened, but not read.
    #[error(
        "{path} could not be read: {source}. The medium it lies on may be damaged: copy it from elsewhere"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: DiskError,
    },
    /// Its own header speaks of more than there is.
    #[error(
        "{path} is truncated: its header speaks of {expected_bytes} bytes, and it has {length_bytes}. The copy \
         or download did not finish: get it again"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What the header says.
        expected_bytes: u64,
        /// What there is.
        length_bytes: u64,
    },
}

/// Tells what the file at `path` is, by its content. It need not be free: a disk in use is told as well.
pub fn identify(path: &Path) -> Result<Kind, IdentifyError> {
    let file = HostFile::open_unlocked(path, Access::ReadOnly)?;
    if image::told(&file)? != Format::Raw {
        drop(file);
        return match look(path, &mut image::Image::look(path)?)? {
            kind @ (Kind::Iso { .. } | Kind::Floppy { .. } | Kind::DiskImage { .. }) => Ok(kind),
            // Who puts it into an image means it for a drive.
            _ => Ok(Kind::DiskImage { table: PartitionTable::None }),
        };
    }
    look(path, &mut RawDisk::of_any_length(file))
}

/// Tells what is on an opened disk.
fn look(path: &Path, disk: &mut dyn Disk) -> Result<Kind, IdentifyError> {
    let length_bytes = disk.length_bytes();
    let mut head = vec![0; HEAD_BYTES.min(length_bytes) as usize];
    disk.read_at(0, &mut head)
        .map_err(|source| IdentifyError::Unreadable { path: path.to_owned(), source })?;
    match (Image { head: &head, length_bytes }).kind() {
        Ok(kind) => Ok(kind),
        Err(Truncated { expected_bytes }) => {
            Err(IdentifyError::Truncated { path: path.to_owned(), expected_bytes, length_bytes })
        }
    }
}

/// The header speaks of more than there is.
struct Truncated {
    expected_bytes: u64,
}

/// The parts of a file that say what it is.
struct Image<'a> {
    head: &'a [u8],
    length_bytes: u64,
}

impl Image<'_> {
    fn kind(&self) -> Result<Kind, Truncated> {
        if self.has(16 * BLOCK as usize + 1, b"CD001") {
            return self.iso();
        }
        if self.has(0x202, b"HdrS") && self.has_boot_signature() {
            return self.linux();
        }
        if let Some(kind) = self.multiboot() {
            return Ok(kind);
        }
        if self.has(0, b"\x7FELF") {
            return self.elf();
        }
        if self.has(SECTOR as usize, b"EFI PART") {
            return Ok(Kind::DiskImage { table: PartitionTable::Gpt });
        }
        if let Some(geometry) = FloppyGeometry::of_length(self.length_bytes) {
            return Ok(Kind::Floppy { geometry });
        }
        Ok(match self.has_boot_signature() {
            false => Kind::Flat,
            true if self.has_partitions() => Kind::DiskImage { table: PartitionTable::Mbr },
            true if self.length_bytes <= BOOT_SECTOR_MAX_BYTES => Kind::BootSector,
            true => Kind::DiskImage { table: PartitionTable::None },
        })
    }

    fn iso(&self) -> Result<Kind, Truncated> {
        let primary = 16 * BLOCK as usize;
        // ECMA-119 §8.4.8 and §8.4.12: the volume's length in logical blocks, and their size.
        let blocks = u64::from(self.u32(primary + 80).unwrap_or(0));
        let block_bytes = u64::from(self.u32(primary + 128).unwrap_or(0) & 0xFFFF);
        let expected_bytes = blocks * block_bytes;
        // Recorders pad the end of a track with up to 150 blocks, which some images count and leave out.
        if expected_bytes > self.length_bytes.saturating_add(150 * BLOCK) {
            return Err(Truncated { expected_bytes });
        }
        let descriptors = (primary..self.head.len()).step_by(BLOCK as usize);
        let bootable = descriptors
            .take_while(|at| self.has(at + 1, b"CD001") && !self.has(*at, &[0xFF]))
            .any(|at| self.has(at, b"\0CD001\x01EL TORITO SPECIFICATION"));
        Ok(Kind::Iso { bootable })
    }

    fn linux(&self) -> Result<Kind, Truncated> {
        // Linux boot protocol: setup_sects at 0x1F1 (0 means 4), syssize at 0x1F4 in units of 16 bytes.
        let setup_sectors = match self.head[0x1F1] {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let system_bytes = u64::from(self.u32(0x1F4).unwrap_or(0)) * 16;
        // syssize is rounded up, so the last unit may be incomplete.
        let least_bytes = (setup_sectors + 1) * SECTOR + system_bytes.saturating_sub(15);
        if least_bytes > self.length_bytes {
            return Err(Truncated { expected_bytes: least_bytes });
        }
        Ok(Kind::LinuxKernel)
    }

    fn multiboot(&self) -> Option<Kind> {
        let first = |length: usize, step: usize, is_header: &dyn Fn(usize) -> Option<bool>| {
            (0..length).step_by(step).any(|at| is_header(at) == Some(true))
        };
        // Magic, flags and checksum add up to zero.
        let is_1 = |at| {
            let (magic, flags, sum) = (self.u32(at)?, self.u32(at + 4)?, self.u32(at + 8)?);
            Some(magic == 0x1BAD_B002 && magic.wrapping_add(flags).wrapping_add(sum) == 0)
        };
        // Magic, architecture, length and checksum add up to zero; architecture 0 is the i386.
        let is_2 = |at| {
            let (magic, arch) = (self.u32(at)?, self.u32(at + 4)?);
            let (length, sum) = (self.u32(at + 8)?, self.u32(at + 12)?);
            let total = magic.wrapping_add(arch).wrapping_add(length).wrapping_add(sum);
            Some(magic == 0xE852_50D6 && arch == 0 && total == 0)
        };
        if first(32 << 10, 8, &is_2) {
            Some(Kind::Multiboot2)
        } else {
            first(8 << 10, 4, &is_1).then_some(Kind::Multiboot1)
        }
    }

    fn elf(&self) -> Result<Kind, Truncated> {
        let (kind, header_bytes) = match self.head.get(4) {
            Some(1) => (Kind::Elf32, 52),
            Some(2) => (Kind::Elf64, 64),
            _ => return Ok(Kind::Flat),
        };
        let u16_at = |at| self.u32(at).map_or(0, |v| u64::from(v & 0xFFFF));
        let u32_at = |at| self.u32(at).map_or(0, u64::from);
        // e_phoff + e_phentsize × e_phnum
        let headers_end = match kind {
            Kind::Elf32 => u32_at(28) + u16_at(42) * u16_at(44),
            _ => (u32_at(32) | u32_at(36) << 32).saturating_add(u16_at(54) * u16_at(56)),
        };
        let expected_bytes = headers_end.max(header_bytes);
        if expected_bytes > self.length_bytes {
            return Err(Truncated { expected_bytes });
        }
        Ok(kind)
    }

    fn has_boot_signature(&self) -> bool {
        self.has(510, &[0x55, 0xAA])
    }

    /// Whether the four entries at 446 are a partition table, not code: each is active or not, and at
    /// least one describes sectors that start on this disk.
    fn has_partitions(&self) -> bool {
        let sectors = self.length_bytes / SECTOR;
        let entries = || (446..510).step_by(16);
        let plausible = entries().all(|at| self.head[at] & 0x7F == 0);
        let used = |at: usize| {
            let (start, count) = (self.u32(at + 8).unwrap_or(0), self.u32(at + 12).unwrap_or(0));
            self.head[at + 4] != 0 && start != 0 && u64::from(start) < sectors && count != 0
        };
        plausible && entries().any(used)
    }

    fn has(&self, at: usize, bytes: &[u8]) -> bool {
        self.head.get(at..).is_some_and(|rest| rest.starts_with(bytes))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.head.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }
}

#[cfg(test)]
mod tests;
