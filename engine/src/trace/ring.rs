//! The ring that keeps the latest events in memory of a fixed size; readers come with a cursor of their own and are told
//! what they missed.

use std::sync::Arc;

use super::{Event, Writer};

/// Events kept; older ones make room.
pub const CAPACITY: usize = 1 << 20;

/// The latest events.
#[derive(Default)]
pub struct Ring {
    /// Grows to [`CAPACITY`], then goes round.
    events: Vec<Event>,
    /// Number of the next event, counted from the first of all.
    next: u64,
    /// Events on their way here; empty, but keeps its memory.
    taken: Vec<Event>,
    /// Numbers that no event had: they were passed over.
    forgotten: u64,
}

/// What a reader gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Number of the first event here.
    pub first: u64,
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// Where to read on.
    pub next: u64,
    /// Events between the cursor and the first one here that are gone.
    pub missed: u64,
}

impl Ring {
    pub fn push(&mut self, event: Event) {
        if self.events.len() < CAPACITY {
            self.events.push(event);
        } else {
            self.events[self.next as usize % CAPACITY] = event;
        }
        self.next += 1;
    }

    /// Takes what waits at `writers`, in order of time.
    pub fn take_from(&mut self, writers: &[Arc<dyn Writer>]) {
        let mut taken = std::mem::take(&mut self.taken);
        for writer in writers {
            writer.drain(&mut taken);
        }
        // Each writer's are in order: this only merges them.
        taken.sort_by_key(|event| event.at_ns);
        for event in taken.drain(..) {
            self.push(event);
        }
        self.taken = taken;
    }

    pub fn clear(&mut self) {
        self.events = Vec::new();
        self.forgotten += self.next.next_multiple_of(CAPACITY as u64) - self.next;
        // Places are found by number modulo capacity: start at a whole round.
        self.next = self.next.next_multiple_of(CAPACITY as u64);
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Events so far, the forgotten ones too.
    pub fn count(&self) -> u64 {
        self.next - self.forgotten
    }

    pub fn memory_bytes(&self) -> u64 {
        (self.events.capacity() * size_of::<Event>()) as u64
    }

    pub fn read(&self, from: u64, most: usize) -> Batch {
        let oldest = self.next - self.events.len() as u64;
        let first = from.clamp(oldest, self.next);
        let count = (self.next - first).min(most as u64);
        let events = (first..first + count).map(|number| self.events[number as usize % CAPACITY]).collect();
        Batch { first, events, next: first + count, missed: first.saturating_sub(from) }
    }
}
