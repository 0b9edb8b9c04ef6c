//! The block device. Virtio 1.2 §5.2; its requests are in `request.rs`.
//!
//! Up to [`QUEUES_MAX`] queues, served in order by one worker, for a disk image is one file. Features: read-only,
//! segment count, block size, topology, flush, write-back switch, multi-queue, discard, write zeroes.
//! Left out: SCSI commands and secure erase.
//!
//! The disk is touched in the worker alone: the access that notifies returns when the requests are handed
//! out, and their end comes by interrupt. What is saved is a device that is idle: drain it first.

mod request;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use storage::Disk;

use super::chain::Violation;
use super::function::{Identity, Io, Kind, VirtioPci};
use crate::device::Shared;
use crate::ide::{Bay, DriveCount};
use crate::jobs::Jobs;
use crate::memory::Memory;
use request::{Answer, Request};

/// Most queues of one disk.
pub const QUEUES_MAX: u16 = 8;
const QUEUE_SIZE: u16 = 256;
/// The most requests handed to the worker at a time, over all queues.
const REQUESTS_MAX: usize = 128;
/// Longest serial number, §5.2.6.
const SERIAL_BYTES: usize = 20;

/// Feature bits, §5.2.3.
mod feature {
    pub const SEGMENTS: u64 = 1 << 2;
    pub const READ_ONLY: u64 = 1 << 5;
    pub const BLOCK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const WRITE_BACK_SWITCH: u64 = 1 << 11;
    pub const QUEUES: u64 = 1 << 12;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// Where the write-back switch lies in the configuration, §5.2.4.
const WRITE_BACK: usize = 32;

/// What is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    write_back: bool,
    /// Length of the disk, which must be the same.
    sectors: u64,
}

/// What the device and its worker share.
struct Store {
    bay: Mutex<Bay>,
    ended: Mutex<VecDeque<Ended>>,
    one_ended: Condvar,
    /// Has the device look at `ended`.
    bell: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A request that is over.
struct Ended {
    queue: u16,
    head: u16,
    written: u32,
}

/// The device.
pub struct Block {
    store: Arc<Store>,
    jobs: Jobs,
    serial: [u8; SERIAL_BYTES],
    sectors: u64,
    read_only: bool,
    queues: u16,
    write_back: bool,
    under_way: usize,
    /// A queue may hold requests that were not taken, because too many were under way.
    backlog: bool,
}

impl Block {
    /// A device of `disk` that shows `serial` (20 bytes at most) and does its work over `jobs`.
    pub fn new(disk: Box<dyn Disk>, serial: &str, queues: u16, jobs: Jobs) -> Block {
        assert!((1..=QUEUES_MAX).contains(&queues), "a disk has 1 to {QUEUES_MAX} queues");
        let mut padded = [0; SERIAL_BYTES];
        let length = serial.len().min(SERIAL_BYTES);
        padded[..length].copy_from_slice(&serial.as_bytes()[..length]);
        let (sectors, read_only) = (disk.length_bytes() / storage::disk::SECTOR, disk.is_read_only());
        let store = Arc::new(Store {
            bay: Mutex::new(Bay::with(disk)),
            ended: Mutex::default(),
            one_ended: Condvar::new(),
            bell: OnceLock::new(),
        });
        let serial = padded;
        let (write_back, under_way, backlog) = (true, 0, false);
        Block { store, jobs, serial, sectors, read_only, queues, write_back, under_way, backlog }
    }

    /// Has the worker tell `device` when a request is over. Once, after the device was put on the board.
    pub fn connect(device: &Shared<VirtioPci<Block>>) {
        let listener: Weak<_> = Arc::downgrade(device);
        let ring = move || {
            if let Some(device) = listener.upgrade() {
                device.lock().with(Block::go_on);
            }
        };
        let store = device.lock().kind().store.clone();
        assert!(store.bell.set(Box::new(ring)).is_ok(), "a device is connected once");
    }

    /// Waits until nothing is under way, at most `longest`; says whether that is so. No vCPU may run.
    pub fn drain(device: &Shared<VirtioPci<Block>>, longest: Duration) -> bool {
        let until = Instant::now() + longest;
        let store = device.lock().kind().store.clone();
        loop {
            let mut ended = store.ended.lock();
            // The worker adds to `ended` before it rings, and rings without this lock.
            if ended.is_empty() {
                if device.try_lock().is_some_and(|device| device.kind().is_idle()) {
                    return true;
                }
                let pause = Duration::from_millis(5);
                store.one_ended.wait_for(&mut ended, pause);
            } else {
                drop(ended);
                device.lock().with(Block::go_on);
            }
            if Instant::now() >= until {
                return device.lock().kind().is_idle();
            }
        }
    }

    /// What was done with the disk so far.
    pub fn count(&self) -> DriveCount {
        self.store.bay.lock().count
    }

    /// Gives back what is over, and takes up what was left lying for want of room.
    fn go_on(&mut self, io: &mut Io) -> Result<(), Violation> {
        self.collect(io);
        if !std::mem::take(&mut self.backlog) {
            return Ok(());
        }
        (0..self.queues).try_for_each(|queue| self.hand_out(queue, io))
    }

    /// Gives what is over back to the driver.
    fn collect(&mut self, io: &mut Io) {
        loop {
            let Some(ended) = self.store.ended.lock().pop_front() else { return };
            self.under_way -= 1;
            io.give_back(ended.queue, ended.head, ended.written);
        }
    }

    /// Hands requests of `queue` to the worker, as many as there may be.
    fn hand_out(&mut self, queue: u16, io: &mut Io) -> Result<(), Violation> {
        while self.under_way < REQUESTS_MAX {
            let Some(chain) = io.take(queue)? else { return Ok(()) };
            let head = chain.head;
            let request = Request::parse(chain, io.memory)?;
            let durable = !self.write_back || !io.has(feature::FLUSH);
            let (store, memory, serial) = (self.store.clone(), io.memory.clone(), self.serial);
            let ring = !self.jobs.are_done_at_once();
            self.under_way += 1;
            self.jobs.hand_out(Box::new(move || {
                let written = store.perform(&request, &memory, &serial, durable);
                store.ended.lock().push_back(Ended { queue, head, written });
                store.one_ended.notify_all();
                if let Some(bell) = store.bell.get().filter(|_| ring) {
                    bell();
                }
            }));
            if !ring {
                self.collect(io);
            }
        }
        self.backlog = true;
        Ok(())
    }
}

impl Store {
    /// Does one request; gives the bytes written to the driver, its status byte included.
    fn perform(&self, request: &Request, memory: &Memory, serial: &[u8], durable: bool) -> u32 {
        let mut bay = self.bay.lock();
        let Answer { status, written } = request.perform(&mut bay, memory, serial, durable);
        request.answer(memory, status);
        written + 1
    }
}

impl Kind for Block {
    const IDENTITY: Identity = Identity { number: 2, class_code: 0x01_0000 };
    type State = State;

    fn features(&self) -> u64 {
        use feature::*;
        let written = if self.read_only { READ_ONLY } else { DISCARD | WRITE_ZEROES };
        SEGMENTS | BLOCK_SIZE | FLUSH | TOPOLOGY | WRITE_BACK_SWITCH | QUEUES | written
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; self.queues.into()]
    }

    /// §5.2.4.
    fn config(&self) -> Vec<u8> {
        let mut config = vec![0; 60];
        let mut put = |at: usize, value: &[u8]| config[at..at + value.len()].copy_from_slice(value);
        put(0, &self.sectors.to_le_bytes());
        put(12, &u32::from(QUEUE_SIZE - 2).to_le_bytes()); // header and status take a descriptor each
        put(20, &512u32.to_le_bytes());
        put(24, &[3, 0]); // 4096-byte blocks are best
        put(26, &1u16.to_le_bytes());
        put(WRITE_BACK, &[self.write_back.into()]);
        put(34, &self.queues.to_le_bytes());
        put(36, &request::DISCARD_MAX_SECTORS.to_le_bytes());
        put(40, &request::RANGES_MAX.to_le_bytes());
        put(44, &8u32.to_le_bytes()); // alignment of discards in sectors
        put(48, &request::ZEROES_MAX_SECTORS.to_le_bytes());
        put(52, &request::RANGES_MAX.to_le_bytes());
        put(56, &[1]); // write zeroes may discard
        config
    }

    fn write_config(&mut self, offset: usize, value: &[u8]) {
        if offset == WRITE_BACK && value.len() == 1 {
            self.write_back = value[0] & 1 != 0;
        }
    }

    fn notified(&mut self, queue: u16, io: &mut Io) -> Result<(), Violation> {
        self.collect(io);
        self.hand_out(queue, io)
    }

    fn reset(&mut self) {
        (self.write_back, self.backlog) = (true, false);
    }

    fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    fn state(&self) -> State {
        State { write_back: self.write_back, sectors: self.sectors }
    }

    fn set_state(&mut self, state: State) -> Result<(), &'static str> {
        if state.sectors != self.sectors {
            return Err("the disk has another length");
        }
        self.write_back = state.write_back;
        Ok(())
    }
}

#[cfg(test)]
#[path = "block/tests.rs"]
mod tests;
