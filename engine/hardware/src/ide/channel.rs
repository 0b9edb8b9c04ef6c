//! One IDE channel: two drives on a cable, their shared registers, INTRQ. ATA/ATAPI-6 §6 and §9.16.
//!
//! Register writes reach both drives, reads come from the selected one. A drive that is not there
//! reads as zeros, so nobody waits for it. The drive address register (3F7h) is the floppy controller's.

use serde::{Deserialize, Serialize};

use super::bay::Bay;
use super::busmaster::BusMaster;
use super::drive::Drive;
use super::task::status;
use crate::access::Width;
use crate::memory::Memory;

/// Device control register bits, ATA/ATAPI-6 §7.8.
mod control {
    pub const HIGH_ORDER: u8 = 0x80;
    pub const SOFTWARE_RESET: u8 = 0x04;
    pub const NO_INTERRUPT: u8 = 0x02;
}

const EXECUTE_DEVICE_DIAGNOSTIC: u8 = 0x90;
const DEVICE_RESET: u8 = 0x08;

/// The media of a channel's drives.
pub type Bays = [Bay; 2];

/// A channel's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// The drives: 0 is the master.
    pub drives: [Option<Drive>; 2],
    /// Its half of the bus master.
    pub bus_master: BusMaster,
    selected: u8,
    control: u8,
    /// The level INTRQ had, to find its edges.
    interrupt: bool,
}

impl Channel {
    /// Power-on.
    pub fn power_on(&mut self) {
        let mut drives = std::mem::take(&mut self.drives);
        drives.iter_mut().flatten().for_each(Drive::power_on);
        *self = Channel { drives, ..Channel::default() };
    }

    fn drive(&self) -> Option<&Drive> {
        self.drives[usize::from(self.selected & 1)].as_ref()
    }

    /// The selected drive and its bay.
    fn selected<'a>(&'a mut self, bays: &'a mut Bays) -> Option<(&'a mut Drive, &'a mut Bay)> {
        let n = usize::from(self.selected & 1);
        Some((self.drives[n].as_mut()?, &mut bays[n]))
    }

    fn in_reset(&self) -> bool {
        self.control & control::SOFTWARE_RESET != 0
    }

    /// A guest reads command block register `register`.
    pub fn read(&mut self, register: u64, width: Width, bays: &mut Bays) -> u64 {
        match register {
            0 if self.in_reset() => 0,
            0 => self.selected(bays).map_or(0, |(drive, bay)| drive.read_data(width.bytes(), bay)),
            7 => {
                // Only this register, not the alternate, acknowledges the interrupt.
                if let (false, Some((drive, _))) = (self.in_reset(), self.selected(bays)) {
                    drive.task_mut().interrupt = false;
                }
                self.status().into()
            }
            _ => {
                let high_order = self.control & control::HIGH_ORDER != 0;
                self.drive().map_or(0, |drive| drive.task().read(register, high_order)).into()
            }
        }
    }

    /// The status register, without acknowledging: what the alternate status register reads as.
    pub fn status(&self) -> u8 {
        match self.drive() {
            None => 0,
            Some(_) if self.in_reset() => status::BUSY,
            Some(drive) => drive.task().status,
        }
    }

    /// A guest writes command block register `register`.
    pub fn write(&mut self, register: u64, width: Width, value: u64, bays: &mut Bays) {
        if self.in_reset() {
            return;
        }
        let byte = value as u8;
        match register {
            0 => {
                if let Some((drive, bay)) = self.selected(bays) {
                    drive.write_data(width.bytes(), value, bay);
                }
            }
            1..=6 => {
                self.control &= !control::HIGH_ORDER;
                self.drives.iter_mut().flatten().for_each(|drive| drive.task_mut().write(register, byte));
                if register == 6 {
                    self.selected = byte >> 4 & 1;
                }
            }
            7 => self.command(byte, bays),
            _ => {}
        }
    }

    fn command(&mut self, code: u8, bays: &mut Bays) {
        self.control &= !control::HIGH_ORDER;
        if code == EXECUTE_DEVICE_DIAGNOSTIC {
            // Both drives take it, whichever is selected, and drive 0 reports.
            self.reset_drives();
            if let Some(drive) = &mut self.drives[0] {
                drive.task_mut().interrupt = true;
            }
            return;
        }
        if let Some((drive, bay)) = self.selected(bays) {
            // Packet devices take a command at any time; a disk in the middle of a transfer gives it up.
            if code == DEVICE_RESET {
                drive.task_mut().interrupt = false;
            }
            drive.command(code, bay);
        }
    }

    /// A guest writes the device control register.
    pub fn write_control(&mut self, value: u8) {
        let was_in_reset = self.in_reset();
        self.control = value;
        match (was_in_reset, self.in_reset()) {
            (false, true) => {
                self.drives.iter_mut().flatten().for_each(|drive| drive.task_mut().interrupt = false);
            }
            (true, false) => self.reset_drives(),
            _ => {}
        }
    }

    fn reset_drives(&mut self) {
        self.drives.iter_mut().flatten().for_each(Drive::soft_reset);
        self.selected = 0;
    }

    /// Lets the bus master move what it can.
    pub fn pump(&mut self, bays: &mut Bays, memory: &Memory) {
        let n = usize::from(self.selected & 1);
        if let Some(drive) = &mut self.drives[n] {
            self.bus_master.pump(drive, &mut bays[n], memory);
        }
    }

    /// The level of INTRQ: the selected drive drives it, unless the guest turned it off. A rising edge
    /// is kept by the bus master.
    pub fn derive_interrupt(&mut self) -> bool {
        let enabled = self.control & control::NO_INTERRUPT == 0 && !self.in_reset();
        let level = enabled && self.drive().is_some_and(|drive| drive.task().interrupt);
        if level && !self.interrupt {
            self.bus_master.interrupt();
        }
        self.interrupt = level;
        level
    }

    /// Whether a loaded state fits in the place of `now`.
    pub fn is_valid(&self, now: &Channel) -> bool {
        let drive_ok = |pair: (&Option<Drive>, &Option<Drive>)| match pair {
            (Some(loaded), Some(now)) => loaded.is_valid(now),
            (None, None) => true,
            _ => false,
        };
        self.drives.iter().zip(&now.drives).all(drive_ok) && self.bus_master.is_valid()
    }
}
