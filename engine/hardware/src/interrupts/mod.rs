//! Interrupt controllers: the 8259A pair, the I/O APIC, the local APICs, and the fabric that joins them.

pub mod counts;
pub mod fabric;
pub mod ioapic;
pub mod lapic;
pub mod lapic_timer;
pub mod lapic_view;
pub mod message;
pub mod pic;
pub mod ports;
pub mod vectors;

pub use counts::InterruptCounts;
pub use fabric::{CpuLines, Fabric, MessageSink};
pub use lapic::{Lapic, Lvt};
pub use lapic_timer::TimerMode;
pub use lapic_view::LapicView;
pub use message::{DeliveryMode, Message};
