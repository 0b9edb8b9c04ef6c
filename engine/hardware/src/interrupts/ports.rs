//! The interrupt fabric as the buses see it: one device with five windows.

use std::sync::Arc;

use super::fabric::Fabric;
use crate::access::{At, Width};
use crate::device::{Device, LoadError};

/// The adapter; all state is in the [`Fabric`].
pub struct Ports {
    fabric: Arc<Fabric>,
}

impl Ports {
    /// Window of ports 0x20 and 0x21.
    pub const MASTER: u8 = 0;
    /// Window of ports 0xA0 and 0xA1.
    pub const SLAVE: u8 = 1;
    /// Window of ports 0x4D0 and 0x4D1.
    pub const ELCR: u8 = 2;
    /// Window at 0xFEC00000.
    pub const IOAPIC: u8 = 3;
    /// Window at 0xFEE00000.
    pub const LOCAL_APIC: u8 = 4;

    /// The adapter of `fabric`.
    pub fn new(fabric: Arc<Fabric>) -> Ports {
        Ports { fabric }
    }
}

impl Device for Ports {
    fn name(&self) -> &str {
        "interrupts"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        let port = at.offset as u8 & 1;
        match at.window {
            Ports::MASTER | Ports::SLAVE => self.fabric.pic_read(at.window, port).into(),
            Ports::ELCR => self.fabric.elcr_read(port).into(),
            Ports::IOAPIC => self.fabric.ioapic_read(at.offset).into(),
            Ports::LOCAL_APIC => self.fabric.lapic_read(at.cpu, at.offset).into(),
            _ => width.ones(),
        }
    }

    fn write(&mut self, at: At, _width: Width, value: u64) {
        let port = at.offset as u8 & 1;
        match at.window {
            Ports::MASTER | Ports::SLAVE => self.fabric.pic_write(at.window, port, value as u8),
            Ports::ELCR => self.fabric.elcr_write(port, value as u8),
            Ports::IOAPIC => self.fabric.ioapic_write(at.offset, value as u32),
            Ports::LOCAL_APIC => self.fabric.lapic_write(at.cpu, at.offset, value as u32),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.fabric.reset();
    }

    fn advance(&mut self) {
        self.fabric.advance();
    }

    fn save(&self) -> Vec<u8> {
        self.fabric.save()
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        self.fabric.load(state)
    }
}
