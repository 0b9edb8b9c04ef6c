//! Serial ports.

pub mod port;
pub mod uart16550;

pub use port::SerialPort;
