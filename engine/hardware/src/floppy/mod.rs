//! The floppy controller and its two drives.

pub mod controller;
pub mod drive;
pub mod fdc;
pub mod transfer;

pub use controller::{FloppyController, InsertError};
