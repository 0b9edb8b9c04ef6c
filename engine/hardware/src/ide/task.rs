//! The command block registers of one drive, and its data port. ATA/ATAPI-6 §7.

use serde::{Deserialize, Serialize};

/// Status register bits, ATA/ATAPI-6 §7.15.
pub mod status {
    /// The drive owns the registers.
    pub const BUSY: u8 = 0x80;
    /// The drive takes commands.
    pub const READY: u8 = 0x40;
    /// A write went wrong on the medium.
    pub const FAULT: u8 = 0x20;
    /// Seek complete; on a packet device, service.
    pub const SEEK_DONE: u8 = 0x10;
    /// The data port has or wants data.
    pub const DATA: u8 = 0x08;
    /// The error register says what went wrong.
    pub const ERROR: u8 = 0x01;
    /// An idle disk.
    pub const IDLE: u8 = READY | SEEK_DONE;
}

/// Error register bits, ATA/ATAPI-6 §7.9.
pub mod error {
    /// The data cannot be read back.
    pub const UNCORRECTABLE: u8 = 0x40;
    /// There is no such sector.
    pub const ID_NOT_FOUND: u8 = 0x10;
    /// The command is unknown, or was given up.
    pub const ABORTED: u8 = 0x04;
}

/// The most bytes the data port holds at a time: one packet's byte count limit.
pub const DATA_MAX_BYTES: usize = 1 << 16;

/// Which way the data port flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flow {
    /// Nothing to move.
    None,
    /// The guest reads.
    In,
    /// The guest writes.
    Out,
}

/// The registers of one drive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Features, last written.
    pub features: u8,
    /// Sector count; interrupt reason of a packet device.
    pub count: u8,
    /// LBA low, mid and high (sector number, cylinder low, cylinder high).
    pub lba: [u8; 3],
    /// What the count register held before (48-bit commands).
    pub previous_count: u8,
    /// What the LBA registers held before (48-bit commands).
    pub previous_lba: [u8; 3],
    /// Device register.
    pub device: u8,
    /// Status register.
    pub status: u8,
    /// Error register.
    pub error: u8,
    /// The drive wants its interrupt.
    pub interrupt: bool,
    flow: Flow,
    data: Vec<u8>,
    position: usize,
}

impl Task {
    /// All zero: a signature follows.
    pub fn new() -> Task {
        Task {
            features: 0,
            count: 0,
            lba: [0; 3],
            previous_count: 0,
            previous_lba: [0; 3],
            device: 0,
            status: 0,
            error: 0,
            interrupt: false,
            flow: Flow::None,
            data: Vec::new(),
            position: 0,
        }
    }

    /// Puts the signature that tells disks from packet devices, ATA/ATAPI-6 §9.12, and the
    /// diagnostic code "passed".
    pub fn sign(&mut self, packet: bool) {
        self.stop_data();
        self.count = 1;
        self.lba = if packet { [1, 0x14, 0xEB] } else { [1, 0, 0] };
        self.previous_count = 0;
        self.previous_lba = [0; 3];
        self.device = 0;
        self.error = 1;
        self.status = if packet { 0 } else { status::IDLE };
    }

    /// A guest writes command block register 1 to 6.
    pub fn write(&mut self, register: u64, value: u8) {
        match register {
            1 => self.features = value,
            2 => {
                self.previous_count = self.count;
                self.count = value;
            }
            3..=5 => {
                let n = (register - 3) as usize;
                self.previous_lba[n] = self.lba[n];
                self.lba[n] = value;
            }
            6 => self.device = value,
            _ => {}
        }
    }

    /// A guest reads command block register 1 to 7. `high_order` shows what was written before.
    pub fn read(&self, register: u64, high_order: bool) -> u8 {
        match (register, high_order) {
            (1, _) => self.error,
            (2, false) => self.count,
            (2, true) => self.previous_count,
            (3..=5, false) => self.lba[(register - 3) as usize],
            (3..=5, true) => self.previous_lba[(register - 3) as usize],
            // Bits 7 and 5 read as ones since ATA-1.
            (6, _) => self.device | 0xA0,
            (7, _) => self.status,
            _ => 0xFF,
        }
    }

    /// The command ended well.
    pub fn finish(&mut self) {
        self.stop_data();
        self.status = status::IDLE;
        self.error = 0;
        self.interrupt = true;
    }

    /// The command ended badly.
    pub fn fail(&mut self, error: u8) {
        self.stop_data();
        self.status = status::IDLE | status::ERROR;
        self.error = error;
        self.interrupt = true;
    }

    /// Nothing moves through the data port any more.
    pub fn stop_data(&mut self) {
        self.flow = Flow::None;
        self.data.clear();
        self.position = 0;
        self.status &= !status::DATA;
    }

    /// Offers `length` bytes (at most [`DATA_MAX_BYTES`]) for reading, filled by `fill`. On an error
    /// nothing is offered.
    pub fn offer<E>(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.stop_data();
        self.data.resize(length.min(DATA_MAX_BYTES), 0);
        if let Err(error) = fill(&mut self.data) {
            self.stop_data();
            return Err(error);
        }
        self.flow = Flow::In;
        self.status = status::IDLE | status::DATA;
        Ok(())
    }

    /// Asks for `length` bytes (at most [`DATA_MAX_BYTES`]).
    pub fn ask(&mut self, length: usize) {
        self.stop_data();
        self.data.resize(length.min(DATA_MAX_BYTES), 0);
        self.flow = Flow::Out;
        self.status = status::IDLE | status::DATA;
    }

    /// Which way data moves now.
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// The bytes asked for, once [`Task::is_done`].
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Whether the guest has moved all that was offered or asked for.
    pub fn is_done(&self) -> bool {
        self.position >= self.data.len()
    }

    /// A guest reads the data port. Past the end, and when nothing is offered, it reads zeros.
    pub fn read_data(&mut self, bytes: u64) -> u64 {
        if self.flow != Flow::In {
            return 0;
        }
        let rest = self.data.get(self.position..).unwrap_or_default();
        let taken = rest.len().min(bytes as usize);
        let value = rest[..taken].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        self.position += taken;
        value
    }

    /// A guest writes the data port. What nobody asked for is dropped.
    pub fn write_data(&mut self, bytes: u64, value: u64) {
        if self.flow != Flow::Out {
            return;
        }
        let rest = self.data.get_mut(self.position..).unwrap_or_default();
        let taken = rest.len().min(bytes as usize);
        rest[..taken].copy_from_slice(&value.to_le_bytes()[..taken]);
        self.position += taken;
    }

    /// Whether a loaded state is one that accesses can lead to.
    pub fn is_valid(&self) -> bool {
        self.data.len() <= DATA_MAX_BYTES && self.position <= self.data.len()
    }
}

impl Default for Task {
    fn default() -> Task {
        Task::new()
    }
}
