//! An ATA disk (ATA/ATAPI-6, T13/1410D): registers in `task.rs`, IDENTIFY data in `identify.rs`.
//!
//! PIO, multiple, DMA and 48-bit transfers; CHS and LBA addresses; power states that cost nothing (a
//! sleeping disk wakes at the next command rather than at a reset only). An error inside a block of
//! several sectors names the block's first. Left out: what `mod.rs` names, and the long commands.

use serde::{Deserialize, Serialize};
use storage::DiskError;

use super::bay::Bay;
use super::identify;
use super::task::{Flow, Task, error, status};

const SECTOR: u64 = 512;
/// The most sectors READ/WRITE MULTIPLE moves per interrupt.
pub const MULTIPLE_MAX: u8 = 16;
/// Sectors addressable with 28 bits.
const LBA28_SECTORS: u64 = 1 << 28;
/// The most sectors of one command.
const TRANSFER_MAX_SECTORS: u64 = 65536;

/// What the disk is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Job {
    None,
    /// Reading by PIO: `next` sector to fetch, `left` to fetch, `block` per interrupt.
    Read {
        next: u64,
        left: u64,
        block: u64,
        wide: bool,
    },
    /// Writing by PIO: the data port fills for sector `next`; `left` counts it.
    Write {
        next: u64,
        left: u64,
        block: u64,
        wide: bool,
    },
    /// DMA: `next` byte and bytes `left`.
    Dma {
        next: u64,
        left: u64,
        write: bool,
        wide: bool,
    },
}

/// How awake the disk is, as CHECK POWER MODE tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Power {
    Active,
    Idle,
    Standby,
}

/// The disk's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtaDisk {
    /// Registers.
    pub task: Task,
    /// Serial number shown to the guest.
    pub(super) serial: String,
    /// Length in sectors, as identified.
    pub(super) total_sectors: u64,
    /// Translation in force: heads per cylinder, sectors per track.
    pub(super) heads: u8,
    pub(super) sectors: u8,
    /// Sectors per interrupt of READ/WRITE MULTIPLE; 0: not set.
    pub(super) multiple: u8,
    /// As SET FEATURES 03h takes it.
    pub(super) transfer_mode: u8,
    pub(super) write_cache: bool,
    pub(super) look_ahead: bool,
    /// Behind a controller that queues commands: serial ATA.
    pub(super) queues: bool,
    power: Power,
    job: Job,
}

type Result<T> = std::result::Result<T, u8>;

impl AtaDisk {
    /// A disk of `length_bytes` after power-on.
    pub fn new(serial: &str, length_bytes: u64) -> AtaDisk {
        let mut disk = AtaDisk {
            task: Task::new(),
            serial: serial.to_owned(),
            total_sectors: length_bytes / SECTOR,
            heads: 16,
            sectors: 63,
            multiple: 0,
            transfer_mode: 0x22,
            write_cache: true,
            look_ahead: true,
            queues: false,
            power: Power::Active,
            job: Job::None,
        };
        disk.task.sign(false);
        disk
    }

    /// The same disk as a serial ATA one, whose controller queues commands for it.
    pub fn with_queue(mut self) -> AtaDisk {
        self.queues = true;
        self
    }

    /// Power-on.
    pub fn power_on(&mut self) {
        let queues = self.queues;
        *self = AtaDisk { queues, ..AtaDisk::new(&self.serial, self.total_sectors * SECTOR) };
    }

    /// Software reset: the settings stay, what was under way is given up.
    pub fn soft_reset(&mut self) {
        self.job = Job::None;
        self.power = Power::Active;
        self.task.interrupt = false;
        self.task.sign(false);
    }

    /// Cylinders of the translation in force.
    pub(super) fn cylinders(&self) -> u64 {
        let per_cylinder = u64::from(self.heads) * u64::from(self.sectors);
        (self.total_sectors / per_cylinder.max(1)).min(65535)
    }

    /// A guest writes the command register.
    pub fn command(&mut self, code: u8, bay: &mut Bay) {
        self.job = Job::None;
        self.task.stop_data();
        self.task.interrupt = false;
        self.task.error = 0;
        bay.count.commands += 1;
        if !matches!(code, 0x94..=0x99 | 0xE0..=0xE6) {
            self.power = Power::Active;
        }
        if let Err(error) = self.execute(code, bay) {
            self.fail(error);
        }
    }

    /// ATA/ATAPI-6 table 9 gives the codes.
    fn execute(&mut self, code: u8, bay: &mut Bay) -> Result<()> {
        match code {
            0x10..=0x1F => self.recalibrate(),
            0x20 | 0x21 => self.start_read(1, false, bay),
            0x24 => self.start_read(1, true, bay),
            0x25 => self.start_dma(false, true, bay),
            0x27 => self.native_max(true),
            0x29 => self.start_read(self.multiple_block()?, true, bay),
            0x30 | 0x31 | 0x3C => self.start_write(1, false, bay), // 3C: with verify
            0x34 => self.start_write(1, true, bay),
            0x35 => self.start_dma(true, true, bay),
            0x39 => self.start_write(self.multiple_block()?, true, bay),
            0x40 | 0x41 => self.verify(false, bay),
            0x42 => self.verify(true, bay),
            0x70..=0x7F => self.seek(),
            0x91 => self.set_translation(),
            0x94..=0x99 | 0xE0..=0xE3 | 0xE5 | 0xE6 => self.set_power(code, bay),
            0xC4 => self.start_read(self.multiple_block()?, false, bay),
            0xC5 => self.start_write(self.multiple_block()?, false, bay),
            0xC6 => self.set_multiple(),
            0xC8 | 0xC9 => self.start_dma(false, false, bay),
            0xCA | 0xCB => self.start_dma(true, false, bay),
            0xE7 | 0xEA => self.flush(bay),
            0xEC => self.identify(),
            0xEF => self.set_features(),
            0xF8 => self.native_max(false),
            _ => Err(error::ABORTED), // NOP and PACKET among them
        }
    }

    /// The controller cannot go on with the command.
    pub fn give_up(&mut self) {
        self.fail(error::ABORTED);
    }

    fn fail(&mut self, error: u8) {
        self.job = Job::None;
        self.task.fail(error);
    }

    /// First sector and number of sectors of a command, checked against the disk's end.
    fn range(&self, wide: bool) -> Result<(u64, u64)> {
        let first = self.address(wide)?;
        let count = match wide {
            true => u16::from_be_bytes([self.task.previous_count, self.task.count]).into(),
            false => u64::from(self.task.count),
        };
        let count = match (count, wide) {
            (0, true) => 65536,
            (0, false) => 256,
            (count, _) => count,
        };
        if first + count > self.total_sectors {
            return Err(error::ID_NOT_FOUND);
        }
        Ok((first, count))
    }

    /// The sector the registers name.
    fn address(&self, wide: bool) -> Result<u64> {
        let [low, mid, high] = self.task.lba.map(u64::from);
        let head = u64::from(self.task.device & 0x0F);
        if wide {
            let [low2, mid2, high2] = self.task.previous_lba.map(u64::from);
            return Ok(high2 << 40 | mid2 << 32 | low2 << 24 | high << 16 | mid << 8 | low);
        }
        if self.is_lba() {
            return Ok(head << 24 | high << 16 | mid << 8 | low);
        }
        let (cylinder, sectors, heads) = (high << 8 | mid, u64::from(self.sectors), u64::from(self.heads));
        if low == 0 || low > sectors || head >= heads {
            return Err(error::ID_NOT_FOUND);
        }
        Ok((cylinder * heads + head) * sectors + low - 1)
    }

    /// Puts the sector last moved, or the one that failed, into the registers.
    fn set_address(&mut self, sector: u64, wide: bool) {
        let byte = |n: u32| (sector >> (8 * n)) as u8;
        if wide {
            self.task.lba = [byte(0), byte(1), byte(2)];
            self.task.previous_lba = [byte(3), byte(4), byte(5)];
        } else if self.is_lba() {
            self.task.lba = [byte(0), byte(1), byte(2)];
            self.task.device = self.task.device & 0xF0 | byte(3) & 0x0F;
        } else {
            let (sectors, heads) = (u64::from(self.sectors), u64::from(self.heads));
            let (track, number) = (sector / sectors, sector % sectors + 1);
            let (cylinder, head) = (track / heads, track % heads);
            self.task.lba = [number as u8, cylinder as u8, (cylinder >> 8) as u8];
            self.task.device = self.task.device & 0xF0 | head as u8 & 0x0F;
        }
    }

    fn is_lba(&self) -> bool {
        self.task.device & 0x40 != 0
    }

    fn multiple_block(&self) -> Result<u64> {
        if self.multiple == 0 { Err(error::ABORTED) } else { Ok(self.multiple.into()) }
    }

    fn start_read(&mut self, block: u64, wide: bool, bay: &mut Bay) -> Result<()> {
        let (next, left) = self.range(wide)?;
        self.job = Job::Read { next, left, block, wide };
        self.next_block(bay);
        Ok(())
    }

    fn start_write(&mut self, block: u64, wide: bool, bay: &mut Bay) -> Result<()> {
        let (next, left) = self.range(wide)?;
        if bay.is_read_only() {
            return Err(error::ABORTED);
        }
        self.job = Job::Write { next, left, block, wide };
        // The first block is asked for without an interrupt, ATA/ATAPI-6 §9.7.
        self.task.ask((left.min(block) * SECTOR) as usize);
        Ok(())
    }

    fn start_dma(&mut self, write: bool, wide: bool, bay: &Bay) -> Result<()> {
        let (first, count) = self.range(wide)?;
        if write && bay.is_read_only() {
            return Err(error::ABORTED);
        }
        self.job = Job::Dma { next: first * SECTOR, left: count * SECTOR, write, wide };
        self.task.status = status::IDLE | status::DATA;
        Ok(())
    }

    /// The guest has moved all the data port held.
    pub fn next_block(&mut self, bay: &mut Bay) {
        match self.job {
            Job::Read { next, left, block, wide } => self.fetch(next, left, block, wide, bay),
            Job::Write { next, left, block, wide } => self.store(next, left, block, wide, bay),
            Job::None | Job::Dma { .. } => {
                // IDENTIFY DEVICE data was read to its end.
                self.task.stop_data();
                self.task.status = status::IDLE;
            }
        }
    }

    fn fetch(&mut self, next: u64, left: u64, block: u64, wide: bool, bay: &mut Bay) {
        if left == 0 {
            // The end of the last block is told by status alone, without an interrupt.
            self.job = Job::None;
            self.task.stop_data();
            self.task.status = status::IDLE;
            return;
        }
        let now = left.min(block);
        match self.task.offer((now * SECTOR) as usize, |data| bay.read(next * SECTOR, data)) {
            Ok(()) => {
                self.task.interrupt = true;
                self.moved(next, now, left, wide);
                self.job = Job::Read { next: next + now, left: left - now, block, wide };
            }
            Err(error) => self.medium_error(next, wide, false, &error),
        }
    }

    fn store(&mut self, next: u64, left: u64, block: u64, wide: bool, bay: &mut Bay) {
        let now = left.min(block);
        if let Err(error) = bay.write(next * SECTOR, self.task.data()) {
            return self.medium_error(next, wide, true, &error);
        }
        self.moved(next, now, left, wide);
        let left = left - now;
        if left == 0 {
            return self.end_of_write(bay);
        }
        self.job = Job::Write { next: next + now, left, block, wide };
        self.task.ask((left.min(block) * SECTOR) as usize);
        self.task.interrupt = true;
    }

    /// With the write cache off, a write has ended when it is on the host's disk.
    fn end_of_write(&mut self, bay: &mut Bay) {
        self.job = Job::None;
        match if self.write_cache { Ok(()) } else { bay.flush() } {
            Ok(()) => self.task.finish(),
            Err(_) => self.fault(),
        }
    }

    fn fault(&mut self) {
        self.fail(error::ABORTED);
        self.task.status |= status::FAULT;
    }

    /// `now` sectors from `next` were moved, of `left`.
    fn moved(&mut self, next: u64, now: u64, left: u64, wide: bool) {
        self.set_address(next + now - 1, wide);
        self.task.count = (left - now) as u8;
        self.task.previous_count = if wide { ((left - now) >> 8) as u8 } else { 0 };
    }

    fn medium_error(&mut self, sector: u64, wide: bool, write: bool, error: &DiskError) {
        self.set_address(sector, wide);
        match error {
            DiskError::OutOfRange { .. } => self.fail(error::ID_NOT_FOUND),
            DiskError::ReadOnly => self.fail(error::ABORTED),
            _ if write => self.fault(),
            _ => self.fail(error::UNCORRECTABLE),
        }
    }

    /// Which way a DMA command waits to move.
    pub fn dma_flow(&self) -> Flow {
        match self.job {
            Job::Dma { write: false, .. } => Flow::In,
            Job::Dma { write: true, .. } => Flow::Out,
            _ => Flow::None,
        }
    }

    /// The bus master takes data for memory; gives how much. 0 after an error.
    pub fn dma_in(&mut self, buffer: &mut [u8], bay: &mut Bay) -> usize {
        let Job::Dma { next, left, write: false, wide } = self.job else { return 0 };
        let now = left.min(buffer.len() as u64);
        match bay.read(next, &mut buffer[..now as usize]) {
            Ok(()) => self.dma_moved(next, now, left, false, wide, bay),
            Err(error) => self.medium_error(next / SECTOR, wide, false, &error),
        }
        if self.task.status & status::ERROR == 0 { now as usize } else { 0 }
    }

    /// The bus master brings data from memory; gives how much was wanted. 0 after an error.
    pub fn dma_out(&mut self, bytes: &[u8], bay: &mut Bay) -> usize {
        let Job::Dma { next, left, write: true, wide } = self.job else { return 0 };
        let now = left.min(bytes.len() as u64);
        match bay.write(next, &bytes[..now as usize]) {
            Ok(()) => self.dma_moved(next, now, left, true, wide, bay),
            Err(error) => self.medium_error(next / SECTOR, wide, true, &error),
        }
        if self.task.status & status::ERROR == 0 { now as usize } else { 0 }
    }

    fn dma_moved(&mut self, next: u64, now: u64, left: u64, write: bool, wide: bool, bay: &mut Bay) {
        if now < left {
            self.job = Job::Dma { next: next + now, left: left - now, write, wide };
            return;
        }
        self.set_address((next + now).div_ceil(SECTOR).saturating_sub(1), wide);
        (self.task.count, self.task.previous_count) = (0, 0);
        if write {
            self.end_of_write(bay);
        } else {
            self.job = Job::None;
            self.task.finish();
        }
    }

    fn verify(&mut self, wide: bool, bay: &mut Bay) -> Result<()> {
        let (first, count) = self.range(wide)?;
        let mut buffer = vec![0; (count.min(128) * SECTOR) as usize];
        let mut next = first;
        while next < first + count {
            let now = (first + count - next).min(128);
            if let Err(error) = bay.read(next * SECTOR, &mut buffer[..(now * SECTOR) as usize]) {
                self.medium_error(next, wide, false, &error);
                return Ok(());
            }
            next += now;
        }
        self.moved(first, count, count, wide);
        self.task.finish();
        Ok(())
    }

    fn recalibrate(&mut self) -> Result<()> {
        self.task.finish();
        Ok(())
    }

    fn seek(&mut self) -> Result<()> {
        if self.address(false)? >= self.total_sectors {
            return Err(error::ID_NOT_FOUND);
        }
        self.task.finish();
        Ok(())
    }

    /// INITIALIZE DEVICE PARAMETERS.
    fn set_translation(&mut self) -> Result<()> {
        if self.task.count == 0 {
            return Err(error::ABORTED);
        }
        self.sectors = self.task.count;
        self.heads = (self.task.device & 0x0F) + 1;
        self.task.finish();
        Ok(())
    }

    fn set_multiple(&mut self) -> Result<()> {
        match self.task.count {
            0 => self.multiple = 0,
            count if count.is_power_of_two() && count <= MULTIPLE_MAX => self.multiple = count,
            _ => return Err(error::ABORTED),
        }
        self.task.finish();
        Ok(())
    }

    /// STANDBY, IDLE, CHECK POWER MODE and SLEEP, by their codes of today and of ATA-1.
    fn set_power(&mut self, code: u8, bay: &mut Bay) -> Result<()> {
        match code {
            0x95 | 0xE1 | 0x97 | 0xE3 => self.power = Power::Idle,
            0x98 | 0xE5 => {
                self.task.count = match self.power {
                    Power::Active => 0xFF,
                    Power::Idle => 0x80,
                    Power::Standby => 0x00,
                }
            }
            _ => {
                self.power = Power::Standby;
                return self.flush(bay);
            }
        }
        self.task.finish();
        Ok(())
    }

    fn flush(&mut self, bay: &mut Bay) -> Result<()> {
        match bay.flush() {
            Ok(()) => self.task.finish(),
            Err(_) => self.fault(),
        }
        Ok(())
    }

    fn native_max(&mut self, wide: bool) -> Result<()> {
        if !self.is_lba() {
            return Err(error::ABORTED);
        }
        let last = self.total_sectors.saturating_sub(1);
        self.set_address(if wide { last } else { last.min(LBA28_SECTORS - 1) }, wide);
        self.task.finish();
        Ok(())
    }

    fn identify(&mut self) -> Result<()> {
        let words = identify::disk(self);
        self.task.offer(512, |data| {
            data.copy_from_slice(&words);
            Ok::<(), u8>(())
        })?;
        self.task.interrupt = true;
        Ok(())
    }

    fn set_features(&mut self) -> Result<()> {
        match self.task.features {
            0x02 => self.write_cache = true,
            0x82 => self.write_cache = false,
            0x03 if identify::is_transfer_mode(self.task.count) => self.transfer_mode = self.task.count,
            0xAA => self.look_ahead = true,
            0x55 => self.look_ahead = false,
            0x66 | 0xCC => {} // keep or revert settings at a software reset: they are kept
            _ => return Err(error::ABORTED),
        }
        self.task.finish();
        Ok(())
    }

    /// Whether a loaded state is that of this disk, and one that accesses can lead to.
    pub fn is_valid(&self, now: &AtaDisk) -> bool {
        let port = self.task.data().len() as u64;
        let end = self.total_sectors;
        let inside = |next: u64, left: u64, end: u64| next.checked_add(left).is_some_and(|sum| sum <= end);
        let job = match self.job {
            Job::None => true,
            Job::Read { next, left, block, .. } => {
                inside(next, left, end) && (1..=u64::from(MULTIPLE_MAX)).contains(&block)
            }
            Job::Write { next, left, block, .. } => {
                let block_ok = (1..=u64::from(MULTIPLE_MAX)).contains(&block);
                left > 0 && inside(next, left, end) && block_ok && port == left.min(block) * SECTOR
            }
            Job::Dma { next, left, .. } => {
                left <= TRANSFER_MAX_SECTORS * SECTOR && left > 0 && inside(next, left, end * SECTOR)
            }
        };
        let multiple = self.multiple == 0 || self.multiple.is_power_of_two() && self.multiple <= MULTIPLE_MAX;
        self.task.is_valid()
            && self.total_sectors == now.total_sectors
            && self.queues == now.queues
            && (1..=16).contains(&self.heads)
            && self.sectors > 0
            && multiple
            && job
    }
}
