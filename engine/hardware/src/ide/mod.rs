//! IDE: the PIIX3's two channels, disks (ATA/ATAPI-6) and CD drives (ATAPI, MMC-3) behind them.
//!
//! Commands run to their end inside the access that starts or feeds them, so a guest never sees BSY but
//! in a software reset. Left out: tagged queueing, SMART, security, host protected area, overlap.

pub mod ata;
pub mod atapi;
pub mod bay;
pub mod busmaster;
pub mod channel;
pub mod controller;
pub mod drive;
pub mod identify;
pub mod mmc;
pub mod raw_sector;
pub mod task;

pub use bay::{Bay, DriveCount};
pub use controller::{IdeController, Position};
