//! The AHCI controller, 8086:2922, in a PCI slot of its own: global registers and six ports.
//!
//! AHCI 1.3.1 §2 and §3.1. Base address register 5 decodes 4 KiB of memory: global registers at 0, port n at 0x100 +
//! 0x80 × n. Interrupts by INTA. AHCI mode only; 32 slots, native command queueing, 64-bit addresses.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage::{Disk, DiskError};

use super::port::Port;
use crate::access::{At, Width};
use crate::bus::{Bus, WindowSpec};
use crate::device::{Device, LoadError, Shared, decode, encode};
use crate::ide::ata::AtaDisk;
use crate::ide::atapi::Optical;
use crate::ide::bay::{Bay, DriveCount};
use crate::ide::drive::Drive;
use crate::line::Line;
use crate::memory::Memory;
use crate::pci::{BarWindows, ConfigSpace, Function};

/// Number of ports.
pub const PORTS: usize = 6;
const BAR: usize = 5;
const BAR_BYTES: u32 = 0x1000;
const FIRST_PORT: u64 = 0x100;
const PORT_BYTES: u64 = 0x80;

/// Global registers.
mod register {
    pub const CAPABILITIES: u64 = 0x00;
    pub const CONTROL: u64 = 0x04;
    pub const INTERRUPT: u64 = 0x08;
    pub const IMPLEMENTED: u64 = 0x0C;
    pub const VERSION: u64 = 0x10;
}

/// 64-bit addresses, native queueing, AHCI only, first generation, 32 slots, six ports: §3.1.1.
const CAPABILITIES: u32 = 1 << 31 | 1 << 30 | 1 << 18 | 1 << 20 | 31 << 8 | (PORTS as u32 - 1);
const VERSION: u32 = 0x0001_0301;
/// Global control bits, §3.1.2.
const RESET: u32 = 1 << 0;
const INTERRUPTS: u32 = 1 << 1;
const AHCI: u32 = 1 << 31;

/// A wish that no port there can fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// There is no CD drive.
    #[error("there is no CD drive at port {0}; add one to the machine first")]
    NoOpticalDrive(usize),
    /// There are six ports.
    #[error("there is no port {0}: an AHCI controller has ports 0 to 5")]
    NoPort(usize),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Chip {
    config: ConfigSpace,
    control: u32,
    interrupt: u32,
    ports: [Port; PORTS],
}

/// The controller with its drives.
pub struct AhciController {
    chip: Chip,
    bays: [Bay; PORTS],
    line: Line,
    memory: Arc<Memory>,
    windows: BarWindows,
}

fn config_at_reset() -> ConfigSpace {
    // Class 01 (mass storage) 06 (SATA), interface 01 (AHCI).
    ConfigSpace::new(0x8086, 0x2922, 0x01_0601, 2)
        .subsystem(0x8086, 0x2922)
        .interrupt_pin(1)
        .bar_memory(BAR, BAR_BYTES, false)
}

impl AhciController {
    /// A controller without drives.
    pub fn new(line: Line, memory: Arc<Memory>) -> AhciController {
        let chip = Chip { config: config_at_reset(), control: AHCI, interrupt: 0, ports: Default::default() };
        let windows = BarWindows::unconnected();
        let mut controller = AhciController { chip, bays: Default::default(), line, memory, windows };
        controller.reset();
        controller
    }

    /// Puts its registers on the bus. Its PCI function goes to the root by `Root::attach`.
    pub fn connect(ahci: &Shared<AhciController>, bus: &Arc<Bus>) {
        let spec = WindowSpec::memory(BAR_BYTES.into(), Width::Dword).widths(Width::Dword, Width::Dword);
        let window = bus.add(ahci, 0, spec, None);
        let mut windows = BarWindows::new(bus.clone());
        windows.add(BAR, 0, window);
        let mut device = ahci.lock();
        windows.follow(&device.chip.config);
        device.windows = windows;
    }

    fn port(&mut self, port: usize) -> Result<(&mut Port, &mut Bay), PortError> {
        match (self.chip.ports.get_mut(port), self.bays.get_mut(port)) {
            (Some(chip), Some(bay)) => Ok((chip, bay)),
            _ => Err(PortError::NoPort(port)),
        }
    }

    /// Plugs a disk into `port`, while the machine runs or before; gives back the medium that was there.
    pub fn plug_disk(
        &mut self,
        port: usize,
        disk: Box<dyn Disk>,
    ) -> Result<Option<Box<dyn Disk>>, PortError> {
        let drive = AtaDisk::new(&serial(port), disk.length_bytes()).with_queue();
        let (chip, bay) = self.port(port)?;
        chip.plug(Drive::Disk(Box::new(drive)));
        let before = std::mem::replace(bay, Bay::with(disk)).medium;
        self.settle();
        Ok(before)
    }

    /// Plugs a CD drive into `port`, with a disc in it or without.
    pub fn plug_optical(&mut self, port: usize, disc: Option<Box<dyn Disk>>) -> Result<(), PortError> {
        let (chip, bay) = self.port(port)?;
        chip.plug(Drive::Optical(Box::new(Optical::new(&serial(port)))));
        *bay = Bay { medium: disc, count: DriveCount::default() };
        self.settle();
        Ok(())
    }

    /// Pulls the drive out of `port`; gives its medium back.
    pub fn unplug(&mut self, port: usize) -> Result<Option<Box<dyn Disk>>, PortError> {
        let (chip, bay) = self.port(port)?;
        chip.unplug();
        let medium = bay.medium.take();
        self.settle();
        Ok(medium)
    }

    fn optical(&mut self, port: usize) -> Result<(&mut Optical, &mut Bay), PortError> {
        let (chip, bay) = self.port(port)?;
        match &mut chip.drive {
            Some(Drive::Optical(optical)) => Ok((optical, bay)),
            _ => Err(PortError::NoOpticalDrive(port)),
        }
    }

    /// Puts a disc into a CD drive and closes its tray; gives back the one that was in it.
    pub fn insert(&mut self, port: usize, disc: Box<dyn Disk>) -> Result<Option<Box<dyn Disk>>, PortError> {
        let (optical, bay) = self.optical(port)?;
        optical.inserted();
        Ok(bay.medium.replace(disc))
    }

    /// Takes the disc out, even one the guest has locked, and leaves the tray open.
    pub fn eject(&mut self, port: usize) -> Result<Option<Box<dyn Disk>>, PortError> {
        let (optical, bay) = self.optical(port)?;
        optical.removed();
        Ok(bay.medium.take())
    }

    /// The counters of each port with a drive.
    pub fn counts(&self) -> Vec<(usize, DriveCount)> {
        let ports = self.chip.ports.iter().zip(&self.bays).enumerate();
        ports.filter(|(_, (port, _))| port.drive.is_some()).map(|(n, (_, bay))| (n, bay.count)).collect()
    }

    /// Brings all that was written to the host's disks.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        self.bays.iter_mut().try_for_each(Bay::flush)
    }

    /// Derives all outputs: which ports want an interrupt, and the line.
    fn settle(&mut self) {
        for (n, port) in self.chip.ports.iter().enumerate() {
            self.chip.interrupt |= u32::from(port.wants_interrupt()) << n;
        }
        let enabled = self.chip.control & INTERRUPTS != 0 && !self.chip.config.interrupts_disabled();
        self.line.set(enabled && self.chip.interrupt != 0);
    }

    fn reset_controller(&mut self) {
        (self.chip.control, self.chip.interrupt) = (AHCI, 0);
        self.chip.ports.iter_mut().for_each(Port::reset);
    }

    /// Which port an offset is in, and where.
    fn place(offset: u64) -> Option<(usize, u64)> {
        let inside = offset.checked_sub(FIRST_PORT)?;
        let port = (inside / PORT_BYTES) as usize;
        (port < PORTS).then_some((port, inside % PORT_BYTES))
    }

    fn read_register(&self, offset: u64) -> u32 {
        if let Some((port, register)) = Self::place(offset) {
            return self.chip.ports[port].read(register);
        }
        match offset {
            register::CAPABILITIES => CAPABILITIES,
            register::CONTROL => self.chip.control,
            register::INTERRUPT => self.chip.interrupt,
            register::IMPLEMENTED => (1 << PORTS) - 1,
            register::VERSION => VERSION,
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        if let Some((port, register)) = Self::place(offset) {
            let (chip, bay) = (&mut self.chip.ports[port], &mut self.bays[port]);
            return chip.write(register, value, bay, &self.memory);
        }
        match offset {
            register::CONTROL if value & RESET != 0 => self.reset_controller(),
            register::CONTROL => self.chip.control = AHCI | value & INTERRUPTS,
            register::INTERRUPT => self.chip.interrupt &= !value,
            _ => {}
        }
    }
}

/// The serial number a drive shows.
fn serial(port: usize) -> String {
    format!("VTA{:07}", port + 1)
}

impl Device for AhciController {
    fn name(&self) -> &str {
        "ahci"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        if at.window != 0 || !at.offset.is_multiple_of(4) {
            return width.ones();
        }
        self.read_register(at.offset).into()
    }

    fn write(&mut self, at: At, width: Width, value: u64) {
        if at.window == 0 && at.offset.is_multiple_of(4) && width >= Width::Dword {
            self.write_register(at.offset, value as u32);
            self.settle();
        }
    }

    fn reset(&mut self) {
        self.chip.config = config_at_reset();
        self.reset_controller();
        self.windows.follow(&self.chip.config);
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let refused = |reason: &str| LoadError { device: "ahci".to_owned(), reason: reason.to_owned() };
        let chip: Chip = decode(self.name(), state)?;
        if !chip.config.same_shape(&config_at_reset()) {
            return Err(refused("it is of another PCI function"));
        }
        if !chip.ports.iter().zip(&self.chip.ports).all(|(loaded, now)| loaded.is_valid(now)) {
            return Err(refused("the drives are not those of this machine, or their state is damaged"));
        }
        self.chip = chip;
        self.windows.follow(&self.chip.config);
        self.settle();
        Ok(())
    }
}

impl Function for AhciController {
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
