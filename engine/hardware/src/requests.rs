//! What a device may ask of whoever runs the machine.

use std::sync::Arc;

/// A device's wish that concerns the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reset every CPU and device (keyboard controller, port 0xCF9, ACPI reset register).
    Reset,
    /// The guest switched the machine off (ACPI S5).
    PowerOff,
    /// The guest entered ACPI S3 sleep.
    Suspend,
    /// The guest wrote this value to the debug-exit port 0xF4.
    DebugExit(u8),
    /// Reset the CPUs only (INIT, as the keyboard controller's pulse and port 0x92 bit 0 do).
    ResetCpus,
}

/// The wire over which devices ask. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Requests(Arc<dyn Fn(Request) + Send + Sync>);

impl Requests {
    /// A wire that calls `listener`, which must not take a device's lock.
    pub fn new(listener: impl Fn(Request) + Send + Sync + 'static) -> Requests {
        Requests(Arc::new(listener))
    }

    /// A wire that ends nowhere.
    pub fn unconnected() -> Requests {
        Requests::new(|_| {})
    }

    /// Asks.
    pub fn ask(&self, request: Request) {
        (self.0)(request);
    }
}
