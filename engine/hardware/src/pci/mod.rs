//! The PCI bus: configuration space, configuration mechanism 1, and the windows that base address registers move.

pub mod config;
pub mod root;
pub mod windows;

pub use config::ConfigSpace;
pub use root::{Function, Root};
pub use windows::BarWindows;
