//! The memory random code sees: sixteen pages at one linear address, on the host and in the guest, with pages
//! that are missing, read-only and executable among them.

use super::random::Random;

/// Linear address of the first page.
pub const BASE: u64 = 0x1000_0000;
/// Pages.
pub const PAGES: usize = 16;
/// Bytes in all of them: what a 16-bit segment reaches.
pub const BYTES: usize = PAGES * 4096;

/// What may be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Nothing: it is not there.
    Absent,
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// Read and execute.
    Execute,
    /// Everything.
    All,
}

impl Rights {
    /// Whether user code can write.
    pub fn writable(self) -> bool {
        matches!(self, Rights::Write | Rights::All)
    }

    /// Whether user code can execute.
    pub fn executable(self) -> bool {
        matches!(self, Rights::Execute | Rights::All)
    }
}

/// The pages.
pub const RIGHTS: [Rights; PAGES] = {
    use Rights::*;
    [
        Write, Write, Read, Absent, Write, Write, Write, Absent, Execute, All, Absent, Write, Write, Write,
        Write, Write,
    ]
};

/// Offset of the two code pages; nothing follows them.
pub const CODE: usize = 0x8000;
/// Where the code pages end.
pub const CODE_END: usize = 0xA000;
/// The stack: three pages behind a missing one.
pub const STACK: usize = 0xB000;
/// Bytes of stack.
pub const STACK_BYTES: usize = 0x3000;

/// What every case starts from: noise, runs of equal bytes, small numbers, pointers. Code pages are full of HLT.
pub fn pristine(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    for chunk in bytes.chunks_exact_mut(64) {
        match random.below(6) {
            0 => chunk.fill(random.below(3) as u8),
            1 => chunk.chunks_exact_mut(8).for_each(|word| {
                let pointer = BASE + random.below(BYTES as u64);
                word.copy_from_slice(&pointer.to_le_bytes());
            }),
            2 => chunk
                .chunks_exact_mut(8)
                .for_each(|word| word.copy_from_slice(&random.below(1000).to_le_bytes())),
            _ => {
                chunk.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&random.next().to_le_bytes()))
            }
        }
    }
    bytes[CODE..CODE_END].fill(0xF4);
    for (page, rights) in RIGHTS.iter().enumerate() {
        if *rights == Rights::Absent {
            bytes[page * 4096..(page + 1) * 4096].fill(0);
        }
    }
    bytes
}

/// An offset of data: anywhere, or near the end of a page.
pub fn data_offset(random: &mut Random) -> u64 {
    let page = random.pick(&[0u64, 0, 1, 1, 2, 4, 5, 5, 6, 6, 11, 12, 13, 14, 15, 8, 9, 3]);
    let within = match random.below(8) {
        0 => 4096 - random.below(33),
        1 => random.below(16),
        2 | 3 => random.below(4096),
        4 => 4096 - 16 * random.below(8),
        _ => random.below(128) * 32,
    };
    (page * 4096 + within) & 0xFFFF
}
