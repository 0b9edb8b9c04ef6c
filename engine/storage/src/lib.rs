//! Disk images behind one [`Disk`] trait, and the question what a file is.

pub mod aside;
pub mod check;
#[cfg(test)]
mod crash_tests;
pub mod disk;
mod fields;
pub mod floppy;
pub mod folder;
pub mod foreign;
pub mod format;
pub mod image;
pub mod iso;
pub mod job;
pub mod kind;
pub mod memory;
pub mod open;
pub mod overlay;
mod pieces;
pub mod progress;
pub mod qcow2;
pub mod raw;
pub mod store;
pub mod throttle;
pub mod vdi;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;

pub use check::Findings;
pub use disk::{Disk, DiskError};
pub use floppy::FloppyGeometry;
pub use format::Format;
pub use image::Image;
pub use iso::IsoDisk;
pub use kind::{IdentifyError, Kind, identify};
pub use memory::MemoryDisk;
pub use open::OpenError;
pub use overlay::Overlay;
pub use progress::Progress;
pub use raw::RawDisk;
pub use store::Access;
