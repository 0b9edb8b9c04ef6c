//! The floppy controller on the board: ports 3F0h–3F5h and 3F7h, IRQ 6, DMA channel 2, two drives.
//!
//! 3F6h belongs to the first IDE channel. The chip is in `fdc.rs`.

use std::sync::Arc;

use serde::Serialize;
use storage::{Disk, DiskError, FloppyGeometry};

use super::drive::FloppyBay;
use super::fdc::{DRIVES, Fdc, Outside};
use super::transfer::Dma;
use crate::access::{At, Width};
use crate::bus::{Bus, WindowSpec};
use crate::device::{Device, LoadError, Shared, decode, encode};
use crate::dma::{Direction, IsaDma, Moved};
use crate::ide::DriveCount;
use crate::line::Line;
use crate::memory::Memory;

/// First port.
pub const PORT: u64 = 0x3F0;
/// Digital input and configuration control register.
const PORT_7: u64 = 7;
/// The DMA channel.
const CHANNEL: usize = 2;

/// Why a disk was not put into a drive.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// There is no such drive.
    #[error("the machine has no floppy drive {drive}; it has {there}")]
    NoDrive {
        /// The drive asked for.
        drive: usize,
        /// How many there are.
        there: usize,
    },
    /// The image is no floppy's.
    #[error(
        "an image of {length_bytes} bytes is no floppy disk: a known one has 160, 180, 320, 360, 640 or 720 KiB, \
         or 1.2, 1.44, 1.68, 1.72 or 2.88 MB. Attach it as a disk instead"
    )]
    UnknownFormat {
        /// Its length.
        length_bytes: u64,
    },
}

/// A drive, for those who show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FloppyState {
    /// What it has done.
    pub count: DriveCount,
    /// Whether the guest has its motor on.
    pub spinning: bool,
    /// Whether a disk is in it.
    pub has_disk: bool,
}

/// The controller with its drives.
pub struct FloppyController {
    chip: Fdc,
    bays: [FloppyBay; DRIVES],
    line: Line,
    dma: Shared<IsaDma>,
    memory: Arc<Memory>,
}

/// DMA channel 2 of this board.
struct Channel<'a> {
    dma: &'a Shared<IsaDma>,
    memory: &'a Memory,
}

impl Dma for Channel<'_> {
    fn transfer(&mut self, direction: Direction, buffer: &mut [u8]) -> Moved {
        self.dma.lock().transfer(CHANNEL, self.memory, direction, buffer)
    }
}

impl FloppyController {
    /// A controller with `drives` (0 to 2) empty drives. `line` is IRQ 6.
    pub fn new(drives: usize, line: Line, dma: Shared<IsaDma>, memory: Arc<Memory>) -> FloppyController {
        let chip = Fdc::new([drives > 0, drives > 1]);
        FloppyController { chip, bays: Default::default(), line, dma, memory }
    }

    /// Puts the controller's ports on the bus.
    pub fn connect(floppy: &Shared<FloppyController>, bus: &Bus) {
        bus.add(floppy, 0, WindowSpec::ports(6), Some(PORT));
        bus.add(floppy, 1, WindowSpec::ports(1), Some(PORT + PORT_7));
    }

    /// How many drives there are.
    pub fn drives(&self) -> usize {
        self.chip.drives.iter().flatten().count()
    }

    /// Puts a disk into a drive; gives back the one that was in it. The guest sees the disk-change line.
    pub fn insert(
        &mut self,
        drive: usize,
        disk: Box<dyn Disk>,
    ) -> Result<Option<Box<dyn Disk>>, InsertError> {
        let there = self.drives();
        if drive >= there {
            return Err(InsertError::NoDrive { drive, there });
        }
        let length_bytes = disk.length_bytes();
        if FloppyGeometry::of_length(length_bytes).is_none() {
            return Err(InsertError::UnknownFormat { length_bytes });
        }
        self.chip.disk_changed(drive);
        Ok(self.bays[drive].set(Some(disk)))
    }

    /// Takes the disk out of a drive.
    pub fn eject(&mut self, drive: usize) -> Option<Box<dyn Disk>> {
        self.chip.disk_changed(drive);
        self.bays.get_mut(drive)?.set(None)
    }

    /// The type of drive that CMOS register 10h tells: by its disk, or 1.44 MB while it is empty. 0: none.
    pub fn cmos_type(&self, drive: usize) -> u8 {
        if drive >= self.drives() {
            return 0;
        }
        match self.bays[drive].geometry() {
            Some(FloppyGeometry { cylinders: 40, .. }) => 1,
            Some(FloppyGeometry { sectors: 15, .. }) => 2,
            Some(FloppyGeometry { rate_kbps: 250, .. }) => 3,
            Some(FloppyGeometry { rate_kbps: 1000, .. }) => 5,
            _ => 4,
        }
    }

    /// What each drive does.
    pub fn states(&self) -> Vec<FloppyState> {
        let state = |n: usize| FloppyState {
            count: self.bays[n].bay.count,
            spinning: self.chip.is_spinning(n),
            has_disk: self.bays[n].geometry().is_some(),
        };
        (0..self.drives()).map(state).collect()
    }

    /// Brings all that was written to the host's disks.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        self.bays.iter_mut().try_for_each(|bay| bay.bay.flush())
    }

    /// Calls the chip with what is outside it.
    fn with_outside<R>(&mut self, call: impl FnOnce(&mut Fdc, &mut Outside) -> R) -> R {
        let mut dma = Channel { dma: &self.dma, memory: &self.memory };
        call(&mut self.chip, &mut Outside { bays: &mut self.bays, dma: &mut dma })
    }

    fn settle(&mut self) {
        self.line.set(self.chip.interrupt_level());
    }

    /// Moving a byte that asked by an interrupt ends that interrupt; the next byte's is a new edge.
    fn acknowledge_byte(&mut self, register: u64) {
        if register == 5 && self.chip.interrupts_per_byte() {
            self.line.set(false);
        }
    }

    fn register(at: At) -> Option<u64> {
        match (at.window, at.offset) {
            (0, offset @ 0..6) => Some(offset),
            (1, 0) => Some(PORT_7),
            _ => None,
        }
    }
}

impl Device for FloppyController {
    fn name(&self) -> &str {
        "floppy"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        let Some(register) = Self::register(at) else { return width.ones() };
        self.acknowledge_byte(register);
        let value = self.with_outside(|chip, outside| chip.read(register, outside));
        self.settle();
        value.into()
    }

    fn write(&mut self, at: At, _width: Width, value: u64) {
        let Some(register) = Self::register(at) else { return };
        self.acknowledge_byte(register);
        self.with_outside(|chip, outside| chip.write(register, value as u8, outside));
        self.settle();
    }

    fn reset(&mut self) {
        self.chip.power_on();
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let chip: Fdc = decode(self.name(), state)?;
        if !chip.is_valid(&self.chip) {
            let reason = "the drives are not those of this machine, or their state is damaged".to_owned();
            return Err(LoadError { device: self.name().to_owned(), reason });
        }
        self.chip = chip;
        self.settle();
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
