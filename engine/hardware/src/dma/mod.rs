//! Direct memory access of the ISA bus.

pub mod i8237;

pub use i8237::{Direction, IsaDma, Moved};
