//! Interrupt wires: a line between a device's output and whoever listens, and the port messages go to.

use std::fmt;
use std::sync::Arc;

/// Who listens at the far end of interrupt lines.
pub trait LineSink: Send + Sync {
    /// Line `number` now has `level`. Called on every settle, so equal levels may be repeated.
    fn set(&self, number: u32, level: bool);

    /// Whether an interrupt that line `number` requested has not been taken yet, so that another edge would be lost.
    /// Who cannot tell says no.
    fn is_pending(&self, _number: u32) -> bool {
        false
    }

    /// Whether line `number` leads anywhere: another device may have its place.
    fn is_connected(&self, _number: u32) -> bool {
        true
    }
}

/// A device's end of one interrupt line.
#[derive(Clone)]
pub struct Line {
    sink: Arc<dyn LineSink>,
    number: u32,
}

impl Line {
    /// A line that drives input `number` of `sink`.
    pub fn new(sink: Arc<dyn LineSink>, number: u32) -> Line {
        Line { sink, number }
    }

    /// A line that ends nowhere, for devices whose output is not connected and for chip tests.
    pub fn unconnected() -> Line {
        struct Nowhere;
        impl LineSink for Nowhere {
            fn set(&self, _number: u32, _level: bool) {}
        }
        Line::new(Arc::new(Nowhere), 0)
    }

    /// Drives the line.
    pub fn set(&self, level: bool) {
        self.sink.set(self.number, level);
    }

    /// Whether the last interrupt it requested has not been taken yet.
    pub fn is_pending(&self) -> bool {
        self.sink.is_pending(self.number)
    }

    /// Whether it leads anywhere: another device may have its place.
    pub fn is_connected(&self) -> bool {
        self.sink.is_connected(self.number)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.number)
    }
}

/// Where a device's message-signalled interrupts go.
pub trait MessagePort: Send + Sync {
    /// The device writes `data` to `address`. What is no interrupt message is dropped.
    fn send(&self, address: u64, data: u32);
}

/// A device's end of the way of its messages.
#[derive(Clone)]
pub struct Messages(Arc<dyn MessagePort>);

impl Messages {
    /// Messages that go to `port`.
    pub fn new(port: Arc<dyn MessagePort>) -> Messages {
        Messages(port)
    }

    /// Messages that nobody receives.
    pub fn unconnected() -> Messages {
        struct Nowhere;
        impl MessagePort for Nowhere {
            fn send(&self, _address: u64, _data: u32) {}
        }
        Messages(Arc::new(Nowhere))
    }

    /// The port.
    pub fn port(&self) -> &dyn MessagePort {
        &*self.0
    }
}

/// Far ends that remember, for the tests of devices.
#[cfg(test)]
pub mod testing {
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::Mutex;

    use super::{LineSink, MessagePort};

    /// Messages sent, in order.
    #[derive(Default)]
    pub struct SentMessages(Mutex<Vec<(u64, u32)>>);

    impl SentMessages {
        /// Takes (address, data) of all sent since the last call.
        pub fn take(&self) -> Vec<(u64, u32)> {
            std::mem::take(&mut self.0.lock())
        }
    }

    impl MessagePort for SentMessages {
        fn send(&self, address: u64, data: u32) {
            self.0.lock().push((address, data));
        }
    }

    /// The level of a line.
    #[derive(Default)]
    pub struct Level(AtomicBool);

    impl Level {
        /// The level now.
        pub fn get(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl LineSink for Level {
        fn set(&self, _number: u32, level: bool) {
            self.0.store(level, Ordering::SeqCst);
        }
    }
}
