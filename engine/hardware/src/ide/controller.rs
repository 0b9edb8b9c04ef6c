//! The IDE function of the PIIX3, 8086:7010, at slot 1.1: two legacy channels and their bus master.
//!
//! Intel 82371SB datasheet (290550), §2.3 and §2.7. Ports 1F0h–1F7h and 3F6h on IRQ 14, 170h–177h and
//! 376h on IRQ 15; bus master ports at base address register 4. The legacy ports always answer, also
//! while the decode enable bits are off, and IDETIM comes up with decoding on as a BIOS leaves it: a
//! kernel started without one finds its disks. Timings are kept and have no effect.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage::{Disk, DiskError};

use super::ata::AtaDisk;
use super::atapi::Optical;
use super::bay::{Bay, DriveCount};
use super::channel::{Bays, Channel};
use super::drive::Drive;
use crate::access::{At, Width};
use crate::bus::{Bus, WindowSpec};
use crate::device::{Device, LoadError, Shared, decode, encode};
use crate::line::Line;
use crate::memory::Memory;
use crate::pci::{BarWindows, ConfigSpace, Function};

/// The legacy ports: command block and control block of each channel.
pub const LEGACY_PORTS: [(u64, u64); 2] = [(0x1F0, 0x3F6), (0x170, 0x376)];
/// Base address register of the bus master.
const BUS_MASTER_BAR: usize = 4;
/// Primary and secondary timing registers; bit 15 enables decoding.
const IDETIM: u8 = 0x40;

/// Window numbers: command block and control block of channel 0, then 1, then the bus master.
mod window {
    pub const COMMAND: [u8; 2] = [0, 2];
    pub const CONTROL: [u8; 2] = [1, 3];
    pub const BUS_MASTER: u8 = 4;
}

/// One of the four places for a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Position {
    /// First channel, drive 0.
    PrimaryMaster,
    /// First channel, drive 1.
    PrimarySlave,
    /// Second channel, drive 0.
    SecondaryMaster,
    /// Second channel, drive 1.
    SecondarySlave,
}

impl Position {
    /// All four, in the order a BIOS looks.
    pub const ALL: [Position; 4] = [
        Position::PrimaryMaster,
        Position::PrimarySlave,
        Position::SecondaryMaster,
        Position::SecondarySlave,
    ];

    fn channel(self) -> usize {
        self as usize / 2
    }

    fn drive(self) -> usize {
        self as usize % 2
    }

    /// The serial number a drive there shows.
    fn serial(self) -> String {
        format!("VT{:08}", self as usize + 1)
    }
}

/// A wish that no drive there can fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The drive there is none whose medium can be changed.
    #[error("there is no CD drive at {0:?}; add one to the machine first")]
    NoOpticalDrive(Position),
}

/// The state of both channels and of the PCI function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Chip {
    config: ConfigSpace,
    channels: [Channel; 2],
}

/// The controller with its drives.
pub struct IdeController {
    chip: Chip,
    bays: [Bays; 2],
    lines: [Line; 2],
    memory: Arc<Memory>,
    windows: BarWindows,
}

fn config_at_reset() -> ConfigSpace {
    // Class 01 (mass storage) 01 (IDE), interface 80 (bus master, both channels legacy).
    let mut config = ConfigSpace::new(0x8086, 0x7010, 0x01_0180, 0).bar_io(BUS_MASTER_BAR, 16);
    config.set_word(0x06, 0x0280); // medium DEVSEL#, fast back-to-back
    config.set_writable(IDETIM, u32::MAX);
    config.set_dword(IDETIM, 0x8000_8000);
    config
}

impl IdeController {
    /// A controller without drives. `lines` are IRQ 14 and 15, `memory` is where the bus master writes.
    pub fn new(lines: [Line; 2], memory: Arc<Memory>) -> IdeController {
        let chip = Chip { config: config_at_reset(), channels: Default::default() };
        IdeController { chip, bays: Default::default(), lines, memory, windows: BarWindows::unconnected() }
    }

    /// Puts the controller's ports on the bus. Its PCI function goes to the root by `Root::attach`.
    pub fn connect(ide: &Shared<IdeController>, bus: &Arc<Bus>) {
        let command = WindowSpec::ports(8).widths(Width::Byte, Width::Dword);
        for (channel, (command_base, control_base)) in LEGACY_PORTS.into_iter().enumerate() {
            bus.add(ide, window::COMMAND[channel], command, Some(command_base));
            bus.add(ide, window::CONTROL[channel], WindowSpec::ports(1), Some(control_base));
        }
        let bus_master = bus.add(ide, window::BUS_MASTER, WindowSpec::ports(16), None);
        let mut windows = BarWindows::new(bus.clone());
        windows.add(BUS_MASTER_BAR, 0, bus_master);
        let mut device = ide.lock();
        windows.follow(&device.chip.config);
        device.windows = windows;
    }

    /// Puts a disk drive at `position`, in place of what was there. For a machine under construction.
    pub fn attach_disk(&mut self, position: Position, disk: Box<dyn Disk>) {
        let drive = AtaDisk::new(&position.serial(), disk.length_bytes());
        *self.bay(position) = Bay::with(disk);
        self.put(position, Drive::Disk(Box::new(drive)));
    }

    /// Puts a CD drive at `position`, in place of what was there, with a disc in it or without.
    /// For a machine under construction.
    pub fn attach_optical(&mut self, position: Position, disc: Option<Box<dyn Disk>>) {
        *self.bay(position) = Bay { medium: disc, count: DriveCount::default() };
        self.put(position, Drive::Optical(Box::new(Optical::new(&position.serial()))));
    }

    fn put(&mut self, position: Position, drive: Drive) {
        self.chip.channels[position.channel()].drives[position.drive()] = Some(drive);
    }

    fn bay(&mut self, position: Position) -> &mut Bay {
        &mut self.bays[position.channel()][position.drive()]
    }

    fn optical(&mut self, position: Position) -> Result<&mut Optical, MediaError> {
        match &mut self.chip.channels[position.channel()].drives[position.drive()] {
            Some(Drive::Optical(optical)) => Ok(optical),
            _ => Err(MediaError::NoOpticalDrive(position)),
        }
    }

    /// Puts a disc into a CD drive and closes its tray; gives back the one that was in it. The guest is
    /// told by a unit attention and a media event.
    pub fn insert(
        &mut self,
        position: Position,
        disc: Box<dyn Disk>,
    ) -> Result<Option<Box<dyn Disk>>, MediaError> {
        self.optical(position)?.inserted();
        Ok(self.bay(position).medium.replace(disc))
    }

    /// Takes the disc out, even one the guest has locked, and leaves the tray open.
    pub fn eject(&mut self, position: Position) -> Result<Option<Box<dyn Disk>>, MediaError> {
        self.optical(position)?.removed();
        Ok(self.bay(position).medium.take())
    }

    /// Asks the guest to open the tray, as the button of a locked drive does.
    pub fn request_eject(&mut self, position: Position) -> Result<(), MediaError> {
        self.optical(position)?.request_eject();
        Ok(())
    }

    /// Whether the guest has locked the disc in.
    pub fn is_locked(&mut self, position: Position) -> bool {
        self.optical(position).is_ok_and(|optical| optical.is_locked())
    }

    /// Whether the tray is open: the guest may have opened it.
    pub fn is_open(&mut self, position: Position) -> bool {
        self.optical(position).is_ok_and(|optical| optical.is_open())
    }

    /// The counters of each drive there is.
    pub fn counts(&self) -> Vec<(Position, DriveCount)> {
        let present = |p: &Position| self.chip.channels[p.channel()].drives[p.drive()].as_ref().map(|_| *p);
        let count = |p: Position| (p, self.bays[p.channel()][p.drive()].count);
        Position::ALL.iter().filter_map(present).map(count).collect()
    }

    /// Brings all that was written to the host's disks.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        self.bays.iter_mut().flatten().try_for_each(Bay::flush)
    }

    /// Derives all outputs from the state: transfers that can go on, windows, lines.
    fn settle(&mut self) {
        let bus_master = self.chip.config.bus_master();
        for (n, channel) in self.chip.channels.iter_mut().enumerate() {
            if bus_master {
                channel.pump(&mut self.bays[n], &self.memory);
            }
            let level = channel.derive_interrupt();
            self.lines[n].set(level);
        }
    }

    fn read_command(&mut self, n: usize, at: At, width: Width) -> u64 {
        let (channel, bays) = (&mut self.chip.channels[n], &mut self.bays[n]);
        if at.offset == 0 {
            return channel.read(0, width, bays);
        }
        // Only the data port is wider than a byte.
        let byte = |n: u64| match at.offset.checked_add(n) {
            Some(register @ 1..8) => channel.read(register, Width::Byte, bays) & 0xFF,
            _ => 0xFF,
        };
        (0..width.bytes()).map(byte).enumerate().fold(0, |value, (n, byte)| value | byte << (8 * n))
    }

    fn write_command(&mut self, n: usize, at: At, width: Width, value: u64) {
        let (channel, bays) = (&mut self.chip.channels[n], &mut self.bays[n]);
        if at.offset == 0 {
            return channel.write(0, width, value, bays);
        }
        for n in 0..width.bytes() {
            if let Some(register @ 1..8) = at.offset.checked_add(n) {
                channel.write(register, Width::Byte, value >> (8 * n) & 0xFF, bays);
            }
        }
    }

    fn bus_master_register(at: At) -> Option<(usize, u64)> {
        (at.offset < 16).then_some(((at.offset / 8) as usize, at.offset % 8))
    }
}

impl Device for IdeController {
    fn name(&self) -> &str {
        "ide"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        let value = match at.window {
            0 | 2 => self.read_command(usize::from(at.window / 2), at, width),
            1 | 3 if at.offset == 0 => self.chip.channels[usize::from(at.window / 2)].status().into(),
            window::BUS_MASTER => Self::bus_master_register(at)
                .map_or(width.ones(), |(n, register)| self.chip.channels[n].bus_master.read(register).into()),
            _ => width.ones(),
        };
        self.settle();
        value
    }

    fn write(&mut self, at: At, width: Width, value: u64) {
        match at.window {
            0 | 2 => self.write_command(usize::from(at.window / 2), at, width, value),
            1 | 3 if at.offset == 0 => {
                self.chip.channels[usize::from(at.window / 2)].write_control(value as u8);
            }
            window::BUS_MASTER => {
                if let Some((n, register)) = Self::bus_master_register(at) {
                    self.chip.channels[n].bus_master.write(register, value as u8);
                }
            }
            _ => {}
        }
        self.settle();
    }

    fn reset(&mut self) {
        self.chip.config = config_at_reset();
        self.chip.channels.iter_mut().for_each(Channel::power_on);
        self.windows.follow(&self.chip.config);
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let refused = |reason: &str| LoadError { device: "ide".to_owned(), reason: reason.to_owned() };
        let chip: Chip = decode(self.name(), state)?;
        if !chip.config.same_shape(&config_at_reset()) {
            return Err(refused("it is of another PCI function"));
        }
        if !chip.channels.iter().zip(&self.chip.channels).all(|(loaded, now)| loaded.is_valid(now)) {
            return Err(refused("the drives are not those of this machine, or their state is damaged"));
        }
        self.chip = chip;
        self.windows.follow(&self.chip.config);
        self.settle();
        Ok(())
    }
}

impl Function for IdeController {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.chip.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        self.chip.config.write(offset, width, value);
        self.windows.follow(&self.chip.config);
        self.settle();
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
