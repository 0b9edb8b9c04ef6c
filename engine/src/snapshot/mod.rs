//! Saved state: a machine that runs or stands still, whole, in a file, and back again on either backend.
//!
//! [`States`] is the folder in which one machine's states lie. [`take`] saves a machine while it goes on, [`restore`]
//! puts a saved state into a machine that runs, [`start`] starts a machine from one, and [`suspend`] saves a machine
//! and switches it off, to be started again by `start` with [`Which::Suspended`]. What a saved file holds is in
//! `file.rs`, what becomes of disks in `layers.rs`.
//!
//! What is not saved, and what becomes of it: connections of the guest through NAT (its next segment is answered by a
//! reset), host ends of serial ports and consoles (those of the process that continues it), frames on the network's
//! line (lost, as on any line), and host time (the guest's clocks go on from where they stood).

mod error;
mod file;
mod head;
mod layers;
mod pages;
mod restore;
mod states;
mod take;
#[cfg(test)]
mod tests;

pub use error::SnapshotError;
pub use head::{DriveRecord, Head, Identity, MediumKind};
pub use restore::{restore, start};
pub use states::{Entry, States, Which};
pub use take::{Taken, suspend, take};
