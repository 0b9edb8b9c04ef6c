//! One drive of a channel, disk or CD: what the channel and the bus master do with either.

use serde::{Deserialize, Serialize};

use super::ata::AtaDisk;
use super::atapi::Optical;
use super::bay::Bay;
use super::task::{Flow, Task};

/// A drive's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Drive {
    /// An ATA disk.
    Disk(Box<AtaDisk>),
    /// An ATAPI CD drive.
    Optical(Box<Optical>),
}

impl Drive {
    /// Its registers.
    pub fn task(&self) -> &Task {
        match self {
            Drive::Disk(disk) => &disk.task,
            Drive::Optical(optical) => &optical.task,
        }
    }

    /// Its registers, to be written.
    pub fn task_mut(&mut self) -> &mut Task {
        match self {
            Drive::Disk(disk) => &mut disk.task,
            Drive::Optical(optical) => &mut optical.task,
        }
    }

    /// Power-on.
    pub fn power_on(&mut self) {
        match self {
            Drive::Disk(disk) => disk.power_on(),
            Drive::Optical(optical) => optical.power_on(),
        }
    }

    /// Software reset.
    pub fn soft_reset(&mut self) {
        match self {
            Drive::Disk(disk) => disk.soft_reset(),
            Drive::Optical(optical) => optical.soft_reset(),
        }
        self.task_mut().device = 0;
    }

    /// The guest wrote the command register.
    pub fn command(&mut self, code: u8, bay: &mut Bay) {
        match self {
            Drive::Disk(disk) => disk.command(code, bay),
            Drive::Optical(optical) => optical.command(code, bay),
        }
    }

    /// The guest reads the data port.
    pub fn read_data(&mut self, bytes: u64, bay: &mut Bay) -> u64 {
        if self.task().flow() != Flow::In {
            return 0;
        }
        let value = self.task_mut().read_data(bytes);
        self.go_on(bay);
        value
    }

    /// The guest writes the data port.
    pub fn write_data(&mut self, bytes: u64, value: u64, bay: &mut Bay) {
        if self.task().flow() != Flow::Out {
            return;
        }
        self.task_mut().write_data(bytes, value);
        self.go_on(bay);
    }

    fn go_on(&mut self, bay: &mut Bay) {
        if !self.task().is_done() {
            return;
        }
        match self {
            Drive::Disk(disk) => disk.next_block(bay),
            Drive::Optical(optical) => optical.next_block(bay),
        }
    }

    /// Which way a DMA command waits to move.
    pub fn dma_flow(&self) -> Flow {
        match self {
            Drive::Disk(disk) => disk.dma_flow(),
            Drive::Optical(optical) => optical.dma_flow(),
        }
    }

    /// Data for memory; gives how much. 0 after an error.
    pub fn dma_in(&mut self, buffer: &mut [u8], bay: &mut Bay) -> usize {
        match self {
            Drive::Disk(disk) => disk.dma_in(buffer, bay),
            Drive::Optical(optical) => optical.dma_in(buffer, bay),
        }
    }

    /// Data from memory; gives how much was wanted. 0 after an error.
    pub fn dma_out(&mut self, bytes: &[u8], bay: &mut Bay) -> usize {
        match self {
            Drive::Disk(disk) => disk.dma_out(bytes, bay),
            Drive::Optical(optical) => optical.dma_out(bytes),
        }
    }

    /// The controller cannot go on with the command under way.
    pub fn give_up(&mut self) {
        match self {
            Drive::Disk(disk) => disk.give_up(),
            Drive::Optical(optical) => optical.give_up(),
        }
    }

    /// Whether a loaded state fits in the place of `now`.
    pub fn is_valid(&self, now: &Drive) -> bool {
        match (self, now) {
            (Drive::Disk(loaded), Drive::Disk(now)) => loaded.is_valid(now),
            (Drive::Optical(loaded), Drive::Optical(_)) => loaded.is_valid(),
            _ => false,
        }
    }
}
