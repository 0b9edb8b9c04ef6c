//! The PIIX3's bus master: one channel's registers and its walk through the descriptor table.
//!
//! 82371SB datasheet §2.7; Programming Interface for Bus Master IDE Controller 1.0. The drive's command
//! says which way data moves; the direction bit is kept for the guest and not obeyed.

use serde::{Deserialize, Serialize};

use super::bay::Bay;
use super::drive::Drive;
use super::task::Flow;
use crate::memory::Memory;

/// Status register bits.
mod status {
    pub const ACTIVE: u8 = 1;
    pub const ERROR: u8 = 2;
    pub const INTERRUPT: u8 = 4;
    /// "This drive can do DMA": scratch for firmware.
    pub const CAPABLE: u8 = 0x60;
}

const START: u8 = 1;
const TO_MEMORY: u8 = 8;
/// A table lies inside 64 KiB.
const TABLE_MAX_ENTRIES: u32 = 8192;
const CHUNK: usize = 64 << 10;

/// What is left of one descriptor's region of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Region {
    address: u32,
    left: u32,
    last: bool,
}

/// The registers of one channel, and how far it has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BusMaster {
    command: u8,
    status: u8,
    table: u32,
    region: Region,
    /// Descriptors read since the start.
    entries: u32,
}

impl BusMaster {
    /// A guest reads register 0 to 7.
    pub fn read(&self, register: u64) -> u8 {
        match register {
            0 => self.command,
            2 => self.status,
            4..=7 => self.table.to_le_bytes()[(register - 4) as usize],
            _ => 0,
        }
    }

    /// A guest writes register 0 to 7.
    pub fn write(&mut self, register: u64, value: u8) {
        match register {
            0 => self.control(value),
            2 => {
                let cleared = value & (status::ERROR | status::INTERRUPT);
                self.status = self.status & !status::CAPABLE & !cleared | value & status::CAPABLE;
            }
            4..=7 => {
                let mut bytes = self.table.to_le_bytes();
                bytes[(register - 4) as usize] = value;
                self.table = u32::from_le_bytes(bytes) & !3;
            }
            _ => {}
        }
    }

    fn control(&mut self, value: u8) {
        let started = value & !self.command & START != 0;
        self.command = value & (START | TO_MEMORY);
        if started {
            self.region = Region::default();
            self.entries = 0;
            self.status |= status::ACTIVE;
        } else if value & START == 0 {
            self.status &= !status::ACTIVE;
        }
    }

    /// The drive's interrupt came.
    pub fn interrupt(&mut self) {
        self.status |= status::INTERRUPT;
    }

    /// Whether it was started and has descriptors left.
    pub fn is_active(&self) -> bool {
        self.status & status::ACTIVE != 0
    }

    /// Moves all that the drive's DMA command has and the table has room for.
    pub fn pump(&mut self, drive: &mut Drive, bay: &mut Bay, memory: &Memory) {
        if !self.is_active() || drive.dma_flow() == Flow::None {
            return;
        }
        let mut buffer = vec![0; CHUNK];
        loop {
            let flow = drive.dma_flow();
            if self.region.left == 0 && self.region.last {
                // The table is at its end. If the drive is not, it waits, and the guest will time out.
                self.status &= !status::ACTIVE;
                return;
            }
            if flow == Flow::None {
                return; // the drive is at its end, the table not: active stays, as the datasheet says
            }
            if self.region.left == 0 && !self.next_region(memory) {
                return;
            }
            let room = (self.region.left as usize).min(CHUNK);
            let address = u64::from(self.region.address);
            let moved = if flow == Flow::In {
                let moved = drive.dma_in(&mut buffer[..room], bay);
                memory.dma_write(address, &buffer[..moved]);
                moved
            } else {
                memory.dma_read(address, &mut buffer[..room]);
                drive.dma_out(&buffer[..room], bay)
            };
            self.region.address = self.region.address.wrapping_add(moved as u32);
            self.region.left = self.region.left.saturating_sub(moved as u32);
            if moved == 0 {
                return; // the drive gave up, and says why
            }
        }
    }

    /// Reads the next descriptor: address, then length (0: 64 KiB) and the end mark in bit 31.
    fn next_region(&mut self, memory: &Memory) -> bool {
        if self.entries >= TABLE_MAX_ENTRIES {
            self.status = self.status & !status::ACTIVE | status::ERROR;
            return false;
        }
        let mut entry = [0; 8];
        let address = self.table.wrapping_add(8 * self.entries);
        memory.dma_read(address.into(), &mut entry);
        self.entries += 1;
        let [a, b, c, d, low, high, _, end] = entry;
        let left = match u32::from(u16::from_le_bytes([low, high])) & !1 {
            0 => 0x1_0000,
            length => length,
        };
        self.region = Region { address: u32::from_le_bytes([a, b, c, d]) & !1, left, last: end & 0x80 != 0 };
        true
    }

    /// Whether a loaded state is one that accesses can lead to.
    pub fn is_valid(&self) -> bool {
        self.region.left <= 0x1_0000 && self.entries <= TABLE_MAX_ENTRIES
    }
}
