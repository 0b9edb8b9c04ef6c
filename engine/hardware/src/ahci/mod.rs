//! AHCI: an ICH9-like SATA controller with disks and CD drives, whose command logic is that of [`crate::ide`].
//!
//! Serial ATA AHCI 1.3.1. As with IDE, commands run to their end inside the access that issues them. Left
//! out: port multipliers, power management of links, enclosure and staggered spin-up, command coalescing.

mod command;
pub mod controller;
mod fis;
mod port;

pub use controller::{AhciController, PORTS};
