//! What an image format keeps its bytes in: a host file, or in tests one that loses power.

#[cfg(test)]
pub(crate) mod crash;
mod host;

use std::io;
use std::path::Path;

pub use host::{Access, HostFile};

/// A run of bytes of a store that is of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How long it is.
    pub length_bytes: u64,
    /// It is a hole, which reads as zeros and takes no room.
    pub is_hole: bool,
}

/// A growable array of bytes that survives its program, and the host's power only as far as it was synced.
pub trait Store: Send {
    /// Length in bytes.
    fn length_bytes(&self) -> u64;

    /// Fills `buffer`; what lies past the end reads as zeros.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes, and grows to hold what is written. Without a sync, any part of it may be lost, in any order.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts, or grows with zeros.
    fn set_length(&mut self, length_bytes: u64) -> io::Result<()>;

    /// Returns when everything before is on the medium.
    fn sync(&mut self) -> io::Result<()>;

    /// Makes zeros of a range, and gives its room back where the host can.
    fn punch(&mut self, offset: u64, length_bytes: u64) -> io::Result<()>;

    /// The run that starts at `offset`, which is before the end.
    fn run_at(&self, offset: u64) -> io::Result<Run>;

    /// What it is called.
    fn path(&self) -> &Path;
}

/// Reads `length` bytes that must lie inside the store: tables whose size a header names.
pub(crate) fn read_exact(store: &dyn Store, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    if offset.checked_add(length).is_none_or(|end| end > store.length_bytes()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = vec![0; length as usize];
    store.read_at(offset, &mut bytes)?;
    Ok(bytes)
}
