//! The image formats, told by their marks.

use std::fmt;
use std::str::FromStr;

use crate::disk::{DiskError, SECTOR};
use crate::store::Store;

/// How an image keeps its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Byte for byte.
    Raw,
    /// QEMU's copy-on-write image, versions 2 and 3.
    Qcow2,
    /// VirtualBox's image.
    Vdi,
    /// Virtual PC's image.
    Vhd,
    /// Hyper-V's image.
    Vhdx,
    /// VMware's image: a sparse extent, or the text that describes an image.
    Vmdk,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 6] =
        [Format::Raw, Format::Qcow2, Format::Vdi, Format::Vhd, Format::Vhdx, Format::Vmdk];

    /// The format that a file's first sector is the start of; `None` if of none but raw.
    pub fn of_head(head: &[u8]) -> Option<Format> {
        let marks: [(usize, &[u8], Format); 7] = [
            (0, b"QFI\xFB", Format::Qcow2),
            (0, b"KDMV", Format::Vmdk),
            (0, b"COWD", Format::Vmdk),
            (0, b"# Disk DescriptorFile", Format::Vmdk),
            (0, b"vhdxfile", Format::Vhdx),
            (0, b"conectix", Format::Vhd),
            (0x40, &[0x7F, 0x10, 0xDA, 0xBE], Format::Vdi),
        ];
        let is_there = |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
        marks.into_iter().find(|(at, mark, _)| is_there(*at, mark)).map(|(_, _, format)| format)
    }

    /// The format of a file with this first and last sector.
    pub fn of(head: &[u8], tail: &[u8]) -> Format {
        // A fixed VHD has its mark in the last sector only.
        let fixed = || tail.starts_with(b"conectix").then_some(Format::Vhd);
        Format::of_head(head).or_else(fixed).unwrap_or(Format::Raw)
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "a raw disk image",
            Format::Qcow2 => "a QCOW2 disk image",
            Format::Vdi => "a VirtualBox disk image (VDI)",
            Format::Vhd => "a Virtual PC disk image (VHD)",
            Format::Vhdx => "a Hyper-V disk image (VHDX)",
            Format::Vmdk => "a VMware disk image (VMDK)",
        }
    }

    /// The word for it in commands and files.
    pub fn word(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Vdi => "vdi",
            Format::Vhd => "vhd",
            Format::Vhdx => "vhdx",
            Format::Vmdk => "vmdk",
        }
    }
}

/// Refuses a guest's write of `bytes` at `offset` of a disk that is kept byte for byte, if it would make the
/// first sector one that is taken for something else: `mark` names it.
pub(crate) fn refuse_disguise(
    store: &dyn Store,
    offset: u64,
    bytes: &[u8],
    mark: impl Fn(&[u8]) -> Option<&'static str>,
) -> Result<(), DiskError> {
    if offset >= SECTOR {
        return Ok(());
    }
    let mut first = [0; SECTOR as usize];
    store.read_at(0, &mut first)?;
    let before = mark(&first);
    let at = offset as usize;
    let count = bytes.len().min(first.len() - at);
    first[at..at + count].copy_from_slice(&bytes[..count]);
    match mark(&first) {
        Some(name) if before != Some(name) => Err(DiskError::Disguise(name)),
        _ => Ok(()),
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Format, String> {
        let word = word.to_ascii_lowercase();
        // QEMU's word for VHD.
        let word = if word == "vpc" { "vhd" } else { &word };
        let known = Format::ALL.into_iter().find(|format| format.word() == word);
        known
            .ok_or_else(|| format!("'{word}' is no image format; there are raw, qcow2, vdi, vhd, vhdx, vmdk"))
    }
}
