//! An interrupt line: the wire between a device's output and whoever listens.

use std::fmt;
use std::sync::Arc;

/// Who listens at the far end of interrupt lines.
pub trait LineSink: Send + Sync {
    /// Line `number` now has `level`. Called on every settle, so equal levels may be repeated.
    fn set(&self, number: u32, level: bool);
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
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.number)
    }
}
