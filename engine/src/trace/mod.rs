//! The trace: everything a machine does at its edges, as one bounded stream of events that panels, the command line,
//! export and tests read. Off by default; while it is off, an access costs one look at a flag. While it is on, each vCPU
//! keeps its accesses beside those it remembers anyway, and they go into the ring by the dozen.

mod conversation;
mod event;
mod export;
mod ring;
mod stamp;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hardware::Clock;
use hardware::bus::{Traced, WindowCount};
use hardware::interrupts::fabric::Happening;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;

pub use conversation::{Conversation, Filter, Row, grouped};
pub use event::{Event, SliceEnding, What};
pub use export::export;
pub use ring::{Batch, CAPACITY};
pub use stamp::Stamps;

use ring::Ring;

/// A window of a device: whom an access spoke to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The device's name.
    pub device: String,
    /// Which of its windows.
    pub window: u8,
}

/// Where events wait that one thread notes so often that a lock for each would cost too much.
pub trait Writer: Send + Sync {
    /// Moves what waits, oldest first.
    fn drain(&self, into: &mut Vec<Event>);
}

/// The trace of one machine.
pub struct Trace {
    on: AtomicBool,
    clock: Clock,
    /// By the window's place in [`Bus::counts`].
    lanes: Vec<Lane>,
    /// Devices by the number of their alarm.
    alarms: Vec<String>,
    ring: Mutex<Ring>,
    /// Events that no writer kept.
    pushed: AtomicU64,
    writers: Mutex<Vec<Arc<dyn Writer>>>,
}

/// How a trace stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Whether it takes events.
    pub on: bool,
    /// Events since it was first switched on.
    pub events: u64,
    /// How many of them are kept.
    pub kept: u64,
    /// Memory that holds them, in bytes.
    pub memory_bytes: u64,
}

impl Trace {
    /// The trace, off, of a machine with these windows and alarms.
    pub fn new(clock: Clock, windows: &[WindowCount], alarms: Vec<String>) -> Arc<Trace> {
        let lane = |window: &WindowCount| Lane { device: window.device.clone(), window: window.number };
        let lanes = windows.iter().map(lane).collect();
        let (on, ring, writers) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        let pushed = AtomicU64::new(0);
        Arc::new(Trace { on, clock, lanes, alarms, ring, pushed, writers })
    }

    /// Whether it takes events.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Takes events from now on, or no more; what was taken can still be read.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Forgets all events, and gives their memory back. Cursors stay good.
    pub fn clear(&self) {
        self.up_to_date().clear();
    }

    /// Something happened now.
    pub fn note(&self, cpu: Option<usize>, what: What) {
        if self.is_on() {
            self.push(self.clock.now(), cpu, what);
        }
    }

    /// Something happened at this guest time, after all that waits.
    pub fn push(&self, at_ns: u64, cpu: Option<usize>, what: What) {
        let cpu = cpu.map_or(Event::NO_CPU, Event::cpu);
        self.pushed.fetch_add(1, Ordering::Relaxed);
        self.up_to_date().push(Event { at_ns, cpu, what });
    }

    /// Events so far that no writer kept.
    pub fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed)
    }

    /// From now on events that wait at `writer` are taken too, before any that happen after them.
    pub fn take_from(&self, writer: Arc<dyn Writer>) {
        self.writers.lock().push(writer);
    }

    /// Takes what waits.
    pub fn gather(&self) {
        drop(self.up_to_date());
    }

    /// The ring, with all that waits taken into it.
    fn up_to_date(&self) -> MutexGuard<'_, Ring> {
        let mut ring = self.ring.lock();
        ring.take_from(&self.writers.lock());
        ring
    }

    /// An access that happens now, and that no writer keeps.
    pub fn access(&self, access: Traced) {
        self.note(Some(access.cpu), Event::access(0, &access).what);
    }

    /// Something the interrupt controllers did.
    pub fn happening(&self, happening: Happening) {
        match happening {
            Happening::Raised { line } => self.note(None, What::Raised { line }),
            Happening::Delivered { line, vector } => self.note(None, What::Delivered { line, vector }),
            Happening::Timer { cpu, merged } => {
                self.note(Some(usize::from(cpu)), What::LocalTimer { merged });
            }
        }
    }

    /// At most `most` events from number `from` on, as far as they are kept.
    pub fn read(&self, from: u64, most: usize) -> Batch {
        self.up_to_date().read(from, most)
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let ring = self.up_to_date();
        Standing {
            on: self.is_on(),
            events: ring.count(),
            kept: ring.len() as u64,
            memory_bytes: ring.memory_bytes(),
        }
    }

    /// The window an event's access fell into, if anybody's.
    pub fn lane(&self, lane: u16) -> Option<&Lane> {
        self.lanes.get(usize::from(lane))
    }

    /// The device with this alarm.
    pub fn alarm(&self, alarm: u8) -> &str {
        self.alarms.get(usize::from(alarm)).map_or("a device", String::as_str)
    }

    /// The names of all devices on the buses, each once, in order.
    pub fn devices(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.lanes.iter().map(|lane| lane.device.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// `0x60` or `0x3f8-0x3ff`: a range of addresses as people write it.
pub fn range(text: &str) -> Option<std::ops::RangeInclusive<u64>> {
    let number = |text: &str| {
        let digits = text.trim().trim_start_matches("0x").trim_start_matches("0X");
        u64::from_str_radix(digits, 16).ok()
    };
    match text.split_once('-') {
        Some((first, last)) => Some(number(first)?..=number(last)?).filter(|range| !range.is_empty()),
        None => number(text).map(|address| address..=address),
    }
}

#[cfg(test)]
mod tests;
