//! The PCI bus: configuration space, configuration mechanism 1, MSI-X, and the windows that base address registers move.

pub mod config;
pub mod msix;
pub mod root;
pub mod windows;

pub use config::ConfigSpace;
pub use msix::MsiX;
pub use root::{Function, Root};
pub use windows::BarWindows;
