//! Where the guest's time with devices goes: accesses, bytes, time, and interrupts of each device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hardware::bus::WindowCount;
use hardware::histogram::Summary;
use hardware::layout::irq;
use hardware::{Bus, Line, LineSink, MessagePort, Messages};
use parking_lot::Mutex;
use serde::Serialize;

/// What a device has done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeviceWork {
    /// The device.
    pub device: String,
    /// The guest's reads of its registers.
    pub reads: u64,
    /// The guest's writes to them.
    pub writes: u64,
    /// Bytes moved by these; what a device moves by itself is told of its drive or cable.
    pub bytes: u64,
    /// Interrupts: rising edges of its line, and messages.
    pub interrupts: u64,
    /// How long the accesses took, in host nanoseconds, of one in eight.
    pub access: Summary,
}

/// Counts the interrupts of each device, at its end of the line.
#[derive(Default)]
pub struct Tally(Mutex<Vec<(String, Arc<AtomicU64>)>>);

struct CountedLine {
    line: Line,
    level: AtomicBool,
    count: Arc<AtomicU64>,
}

struct CountedMessages {
    messages: Messages,
    count: Arc<AtomicU64>,
}

impl LineSink for CountedLine {
    fn set(&self, _number: u32, level: bool) {
        if level && !self.level.swap(level, Ordering::Relaxed) {
            self.count.fetch_add(1, Ordering::Relaxed);
        } else if !level {
            self.level.store(false, Ordering::Relaxed);
        }
        self.line.set(level);
    }

    fn is_pending(&self, _number: u32) -> bool {
        self.line.is_pending()
    }
}

impl MessagePort for CountedMessages {
    fn send(&self, address: u64, data: u32) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.messages.port().send(address, data);
    }
}

impl Tally {
    fn counter(&self, device: &str) -> Arc<AtomicU64> {
        let mut counters = self.0.lock();
        if let Some((_, counter)) = counters.iter().find(|(name, _)| name == device) {
            return counter.clone();
        }
        let counter = Arc::new(AtomicU64::new(0));
        counters.push((device.to_owned(), counter.clone()));
        counter
    }

    /// `line`, with its rising edges counted for `device`.
    pub fn line(&self, device: &str, line: Line) -> Line {
        let count = self.counter(device);
        Line::new(Arc::new(CountedLine { line, level: AtomicBool::new(false), count }), 0)
    }

    /// The same for a line of the ISA bus, each of which has its owner; those that PCI shares have none.
    pub fn isa_line(&self, number: u32, line: Line) -> Line {
        let owner = match number {
            irq::TIMER => "8254",
            irq::KEYBOARD | irq::MOUSE => "8042",
            irq::COM1 => "com1",
            irq::FLOPPY => "floppy",
            irq::RTC => "mc146818",
            irq::IDE_PRIMARY | irq::IDE_SECONDARY => "ide",
            _ => return line,
        };
        self.line(owner, line)
    }

    /// `messages`, counted for `device`.
    pub fn messages(&self, device: &str, messages: Messages) -> Messages {
        Messages::new(Arc::new(CountedMessages { messages, count: self.counter(device) }))
    }

    fn of(&self, device: &str) -> u64 {
        let counters = self.0.lock();
        counters.iter().find(|(name, _)| name == device).map_or(0, |(_, count)| count.load(Ordering::Relaxed))
    }
}

/// Every device on the buses, in the order in which they were put there. `counts`: of their windows.
pub fn of_devices(bus: &Bus, counts: &[WindowCount], tally: &Tally) -> Vec<DeviceWork> {
    let work = |(device, bytes, access): (String, u64, Summary)| {
        let windows = counts.iter().filter(|window| window.device == device);
        let sum = |of: fn(&WindowCount) -> u64| windows.clone().map(of).sum();
        DeviceWork {
            reads: sum(|window| window.reads),
            writes: sum(|window| window.writes),
            bytes,
            interrupts: tally.of(&device),
            access,
            device,
        }
    };
    bus.times().into_iter().map(work).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An input whose interrupt is never taken.
    struct Deaf;

    impl LineSink for Deaf {
        fn set(&self, _number: u32, _level: bool) {}
        fn is_pending(&self, _number: u32) -> bool {
            true
        }
    }

    #[test]
    fn a_counted_line_says_what_its_input_says() {
        let line = Tally::default().line("8254", Line::new(Arc::new(Deaf), 0));
        assert!(line.is_pending());
    }

    #[test]
    fn edges_and_messages_are_counted_for_their_device() {
        let tally = Tally::default();
        let line = tally.line("disk", Line::unconnected());
        [true, true, false, true, false].into_iter().for_each(|level| line.set(level));
        let messages = tally.messages("disk", Messages::unconnected());
        messages.port().send(0xFEE0_0000, 0);
        tally.isa_line(irq::COM1, Line::unconnected()).set(true);
        tally.isa_line(11, Line::unconnected()).set(true);
        assert_eq!((tally.of("disk"), tally.of("com1"), tally.of("none")), (3, 1, 0));
    }
}
