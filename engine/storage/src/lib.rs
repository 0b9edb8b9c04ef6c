//! Disk images behind one [`Disk`] trait, and the question what a file is.

pub mod disk;
pub mod floppy;
pub mod iso;
pub mod kind;
pub mod memory;
pub mod open;
pub mod overlay;
pub mod raw;

pub use disk::{Disk, DiskError};
pub use floppy::FloppyGeometry;
pub use iso::IsoDisk;
pub use kind::{IdentifyError, Kind, identify};
pub use memory::MemoryDisk;
pub use open::OpenError;
pub use overlay::Overlay;
pub use raw::{Access, RawDisk};
