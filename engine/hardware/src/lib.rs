//! Everything on the board but the CPUs: buses, interrupt lines, PCI, and every chip and device.
//!
//! A device is two layers: a pure *chip* (registers in, registers out; no host, no lock, time passed
//! in) and a thin *adapter* that implements [`Device`] (ports, lines, alarms). Adapters are wired at
//! construction with small handles ([`Line`], [`Alarm`], [`Requests`]) and never learn who listens.

pub mod access;
pub mod ahci;
pub mod alarm;
pub mod bus;
pub mod chipset;
pub mod clock;
pub mod contents;
#[cfg(test)]
pub mod contract;
pub mod debug;
pub mod device;
pub mod dma;
pub mod firmware;
pub mod floppy;
pub mod histogram;
pub mod ide;
pub mod input;
pub mod interrupts;
pub mod jobs;
pub mod layout;
pub mod line;
pub mod memory;
pub mod net;
pub mod pages;
pub mod pci;
pub mod requests;
pub mod serial;
pub mod sound;
pub mod spoken;
pub mod test_device;
pub mod timers;
pub mod vga;
pub mod virtio;

pub use access::{At, Width};
pub use alarm::{Alarm, Alarms};
pub use bus::{Bus, Space, WindowSpec};
pub use clock::Clock;
pub use contents::Contents;
pub use device::{Calls, Device, LoadError, Shared, shared};
pub use jobs::Jobs;
pub use line::{Line, LineSink, MessagePort, Messages};
pub use memory::Memory;
pub use requests::{Request, Requests};
