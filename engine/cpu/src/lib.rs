//! x86 architectural state, and the software CPU that executes it. Knows no device, no KVM, no thread.

pub mod bus;
pub mod notice;
pub mod pins;
mod possible;
pub mod registers;
pub mod soft;
pub mod stop;

pub use bus::{CALL_PORT, GuestBus, HostPage};
pub use notice::{DataWatch, Interest, Mode, ModeKind, Notice, Source, Vectors};
pub use pins::{Pins, Signal};
pub use registers::{Registers, Segment, Table};
pub use soft::model::CpuModel;
pub use stop::{FaultRecord, RunLimit, Stop};
