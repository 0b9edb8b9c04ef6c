//! Disk images behind one [`Disk`] trait.

pub mod disk;

pub use disk::{Disk, DiskError};
