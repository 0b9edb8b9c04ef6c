//! The last device accesses of one vCPU: what a crash report shows of the way there.

use hardware::{Space, Width};
use parking_lot::Mutex;
use serde::Serialize;

/// Accesses kept.
const KEPT: usize = 32;

/// One access to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Port or memory.
    pub space: Space,
    /// The address the guest used.
    pub address: u64,
    /// Width in bytes.
    pub bytes: u8,
    /// The value read or written.
    pub value: u64,
    /// Whether the guest wrote.
    pub write: bool,
}

/// The latest accesses. Only its vCPU adds to it, so the lock is never waited for but by a reader.
#[derive(Default)]
pub struct Recent(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    accesses: [Option<Access>; KEPT],
    next: usize,
}

impl Recent {
    /// Remembers an access.
    pub fn note(&self, space: Space, address: u64, width: Width, value: u64, write: bool) {
        let mut ring = self.0.lock();
        let at = ring.next;
        let bytes = width.bytes() as u8;
        ring.accesses[at] = Some(Access { space, address, bytes, value, write });
        ring.next = (at + 1) % KEPT;
    }

    /// What is remembered, oldest first.
    pub fn list(&self) -> Vec<Access> {
        let ring = self.0.lock();
        let (newer, older) = ring.accesses.split_at(ring.next);
        older.iter().chain(newer).filter_map(|access| *access).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let recent = Recent::default();
        assert!(recent.list().is_empty());
        for n in 0..KEPT as u64 + 5 {
            recent.note(Space::Port, n, Width::Byte, n, true);
        }
        let list = recent.list();
        assert_eq!((list.len(), list[0].address, list[KEPT - 1].address), (KEPT, 5, KEPT as u64 + 4));
    }
}
