//! The device accesses of one vCPU: the last ones, always, which is what a crash report shows of the way there; and,
//! while the trace is on, those it has yet to take, under the same lock.

use hardware::bus::{Traced, WindowCount};
use hardware::{Space, Width, spoken};
use parking_lot::Mutex;
use serde::Serialize;

use crate::trace::{Event, What, Writer};

/// Accesses kept.
const KEPT: usize = 32;
/// Accesses that wait for the trace to take them, at most.
const WAITING: usize = 64;

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

/// An access with whom it spoke to, and what was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The access.
    pub access: Access,
    /// The device that claims the address; `None`: nobody.
    pub device: Option<String>,
    /// In the datasheet's words.
    pub words: String,
}

/// Puts accesses, oldest first, into words. `windows` are those of the bus.
pub fn in_words(accesses: &[Access], windows: &[WindowCount]) -> Vec<Told> {
    let mut context = spoken::Context::default();
    let told = |access: &Access| {
        let claims = |window: &&WindowCount| {
            let end = |base: u64| base.saturating_add(window.length);
            window.space == access.space
                && window.base.is_some_and(|base| (base..end(base)).contains(&access.address))
        };
        // A later window lies over an earlier one.
        let window = windows.iter().rev().find(claims);
        let spoken = spoken::Access {
            device: window.map_or("", |window| &window.device),
            window: window.map_or(0, |window| window.number),
            offset: access.address - window.and_then(|window| window.base).unwrap_or(0),
            space: access.space,
            address: access.address,
            width: Width::from_bytes(access.bytes.into()).unwrap_or(Width::Byte),
            value: access.value,
            write: access.write,
        };
        let context = context.follow(&spoken);
        Told {
            access: *access,
            device: window.map(|window| window.device.clone()),
            words: spoken::speak(&spoken, context),
        }
    };
    accesses.iter().map(told).collect()
}

impl Access {
    /// `out 0x43, 0x34`, `in 0x60 = 0x1c`.
    pub fn instruction(&self) -> String {
        let spoken = spoken::Access {
            device: "",
            window: 0,
            offset: 0,
            space: self.space,
            address: self.address,
            width: Width::from_bytes(self.bytes.into()).unwrap_or(Width::Byte),
            value: self.value,
            write: self.write,
        };
        spoken.instruction()
    }
}

/// The latest accesses. Only its vCPU adds to it, so the lock is never waited for but by a reader.
#[derive(Default)]
pub struct Recent(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    accesses: [Option<Access>; KEPT],
    next: usize,
    /// Newer ones, which the trace has yet to take, oldest first.
    waiting: Vec<Event>,
}

impl Ring {
    fn push(&mut self, access: Access) {
        self.accesses[self.next] = Some(access);
        self.next = (self.next + 1) % KEPT;
    }

    /// The latest of those that wait, oldest first.
    fn latest_waiting(&self) -> impl Iterator<Item = Access> + '_ {
        let from = self.waiting.len().saturating_sub(KEPT);
        self.waiting[from..].iter().filter_map(Access::of)
    }
}

impl Access {
    fn of(event: &Event) -> Option<Access> {
        match event.what {
            What::Access { space, address, width, value, write, .. } => {
                Some(Access { space, address, bytes: width.bytes() as u8, value, write })
            }
            _ => None,
        }
    }
}

impl Recent {
    /// Remembers an access.
    pub fn note(&self, access: &Traced) {
        let Traced { space, address, width, value, write, .. } = *access;
        self.0.lock().push(Access { space, address, bytes: width.bytes() as u8, value, write });
    }

    /// Remembers an access that happened at this guest time, also for the trace; whether that should take what waits.
    pub fn note_for_trace(&self, access: &Traced, at_ns: u64) -> bool {
        let mut ring = self.0.lock();
        ring.waiting.push(Event::access(at_ns, access));
        ring.waiting.len() >= WAITING
    }

    /// What is remembered, oldest first.
    pub fn list(&self) -> Vec<Access> {
        let ring = self.0.lock();
        let (newer, older) = ring.accesses.split_at(ring.next);
        let kept = older.iter().chain(newer).filter_map(|access| *access);
        let mut list: Vec<Access> = kept.chain(ring.latest_waiting()).collect();
        list.drain(..list.len().saturating_sub(KEPT));
        list
    }
}

impl Writer for Recent {
    fn drain(&self, into: &mut Vec<Event>) {
        let mut ring = self.0.lock();
        let latest: Vec<Access> = ring.latest_waiting().collect();
        latest.into_iter().for_each(|access| ring.push(access));
        into.append(&mut ring.waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(address: u64, value: u64, write: bool) -> Traced {
        Traced { space: Space::Port, address, width: Width::Byte, value, write, cpu: 0, window: None }
    }

    #[test]
    fn what_is_remembered_is_told_in_words() {
        let window = WindowCount {
            device: "8254".into(),
            number: 0,
            space: Space::Port,
            base: Some(0x40),
            length: 4,
            reads: 0,
            writes: 0,
            read_ns: 0,
            write_ns: 0,
        };
        let recent = Recent::default();
        recent.note(&access(0x43, 0x34, true));
        recent.note(&access(0x2F8, 0xFF, false));
        let told = in_words(&recent.list(), &[window]);
        assert_eq!(told[0].words, "8254: channel 0, mode 2, low then high byte");
        assert_eq!((told[1].words.as_str(), &told[1].device), ("nobody: in 0x2f8 = 0xff", &None));
        assert_eq!(told[1].access.instruction(), "in 0x2f8 = 0xff");
    }

    #[test]
    fn the_oldest_go_first() {
        let recent = Recent::default();
        assert!(recent.list().is_empty());
        for n in 0..KEPT as u64 + 5 {
            recent.note(&access(n, n, true));
        }
        let list = recent.list();
        assert_eq!((list.len(), list[0].address, list[KEPT - 1].address), (KEPT, 5, KEPT as u64 + 4));
        // Those that wait for the trace are the newest, before and after it takes them.
        for n in 100..103 {
            assert!(!recent.note_for_trace(&access(n, n, true), n));
        }
        let (before, mut taken) = (recent.list(), Vec::new());
        recent.drain(&mut taken);
        assert_eq!((taken.len(), recent.list()), (3, before.clone()));
        assert_eq!((before.len(), before[0].address, before[KEPT - 1].address), (KEPT, 8, 102));
    }
}
