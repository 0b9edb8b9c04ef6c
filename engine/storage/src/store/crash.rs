//! A store for tests that can lose power: what was not synced survives only in an arbitrary subset of its
//! 512-byte sectors. It can also run full, and die in the middle of any operation.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Run, Store};
use crate::disk::SECTOR;

/// A handle on the medium; clones share it, so a test keeps one and the image gets the other.
#[derive(Clone)]
pub struct CrashStore(Arc<Mutex<Medium>>);

struct Medium {
    /// What a power failure cannot take.
    durable: Vec<u8>,
    /// What the program sees.
    current: Vec<u8>,
    pending: Vec<Pending>,
    /// Changing operations until it is dead; `None` for ever.
    fuse: Option<u32>,
    /// No write beyond this length succeeds.
    room_bytes: u64,
}

enum Pending {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

impl CrashStore {
    /// A medium with this content, all of it durable.
    pub fn new(bytes: Vec<u8>) -> CrashStore {
        let current = bytes.clone();
        CrashStore(Arc::new(Mutex::new(Medium {
            durable: bytes,
            current,
            pending: Vec::new(),
            fuse: None,
            room_bytes: u64::MAX,
        })))
    }

    /// It dies at the `operations`-th change from now.
    pub fn set_fuse(&self, operations: u32) {
        self.0.lock().fuse = Some(operations);
    }

    /// Writes beyond this length fail as on a full disk.
    pub fn set_room(&self, bytes: u64) {
        self.0.lock().room_bytes = bytes;
    }

    /// What the program sees.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().current.clone()
    }

    /// Cuts the power: what `keeps` says of each unsynced sector write is what is found afterwards.
    /// Handles taken before are dead.
    pub fn crash(&self, mut keeps: impl FnMut() -> bool) -> CrashStore {
        let mut medium = self.0.lock();
        medium.fuse = Some(0);
        let mut left = medium.durable.clone();
        for pending in &medium.pending {
            match pending {
                Pending::Length(length) => {
                    if keeps() {
                        left.resize(*length as usize, 0);
                    }
                }
                Pending::Write { offset, bytes } => {
                    for piece in crate::pieces::pieces(*offset, bytes.len(), SECTOR) {
                        if keeps() {
                            put(&mut left, offset + piece.range.start as u64, &bytes[piece.range]);
                        }
                    }
                }
            }
        }
        CrashStore::new(left)
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, what: &[u8]) {
    let (from, to) = (offset as usize, offset as usize + what.len());
    if bytes.len() < to {
        bytes.resize(to, 0);
    }
    bytes[from..to].copy_from_slice(what);
}

impl Medium {
    fn burn(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Some(0) => return Err(io::Error::other("no power")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }
}

impl Store for CrashStore {
    fn length_bytes(&self) -> u64 {
        self.0.lock().current.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let medium = self.0.lock();
        let stored = (medium.current.len() as u64).saturating_sub(offset).min(buffer.len() as u64) as usize;
        let (stored, past) = buffer.split_at_mut(stored);
        past.fill(0);
        if !stored.is_empty() {
            stored.copy_from_slice(&medium.current[offset as usize..][..stored.len()]);
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut medium = self.0.lock();
        medium.burn()?;
        if offset + bytes.len() as u64 > medium.room_bytes.max(medium.current.len() as u64) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        put(&mut medium.current, offset, bytes);
        medium.pending.push(Pending::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn set_length(&mut self, length_bytes: u64) -> io::Result<()> {
        let mut medium = self.0.lock();
        medium.burn()?;
        medium.current.resize(length_bytes as usize, 0);
        medium.pending.push(Pending::Length(length_bytes));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut medium = self.0.lock();
        medium.burn()?;
        medium.durable = medium.current.clone();
        medium.pending.clear();
        Ok(())
    }

    fn punch(&mut self, offset: u64, length_bytes: u64) -> io::Result<()> {
        let length_bytes = length_bytes.min(self.length_bytes().saturating_sub(offset));
        self.write_at(offset, &vec![0; length_bytes as usize])
    }

    fn run_at(&self, offset: u64) -> io::Result<Run> {
        Ok(Run { length_bytes: self.length_bytes().saturating_sub(offset), is_hole: false })
    }

    fn path(&self) -> &Path {
        Path::new("medium of a test")
    }
}
