//! The driver's side of virtio, for the tests of devices: rings in guest memory, and a whole PCI driver.

use std::collections::HashMap;
use std::sync::Arc;

use super::function::{Kind, VirtioPci};
use super::queue::Queue;
use super::transport::feature;
use crate::access::{At, Width};
use crate::device::Device;
use crate::line::testing::{Level, SentMessages};
use crate::line::{Line, Messages};
use crate::memory::Memory;

/// The driver's side of one queue, in guest memory of its own 64 KiB.
pub struct Driver {
    /// Guest memory.
    pub memory: Arc<Memory>,
    base: u64,
    size: u16,
    offered: u16,
    seen: u16,
    next_descriptor: u16,
    next_buffer: u64,
    writable: HashMap<u16, Vec<(u64, u32)>>,
}

const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFERS: u64 = 0x4000;
const END: u64 = 0x1_0000;

impl Driver {
    /// A queue of `size` descriptors in memory of its own.
    pub fn new(size: u16) -> Driver {
        Driver::at(Memory::new(1 << 20, 0).unwrap(), 0, size)
    }

    /// Queue `number`, in `memory`.
    pub fn at(memory: Arc<Memory>, number: u16, size: u16) -> Driver {
        let base = 0x1_0000 * (u64::from(number) + 1);
        let writable = HashMap::new();
        Driver { memory, base, size, offered: 0, seen: 0, next_descriptor: 0, next_buffer: BUFFERS, writable }
    }

    /// The device's side of it, enabled.
    pub fn queue(&self, event_index: bool) -> Queue {
        let mut queue = Queue::new(self.size);
        queue.descriptors = self.base;
        queue.available = self.base + AVAILABLE;
        queue.used = self.base + USED;
        queue.enable(&self.memory, 0).unwrap();
        queue.start(event_index, true);
        queue
    }

    fn room(&mut self, length: u64) -> u64 {
        if self.next_buffer + length > END {
            self.next_buffer = BUFFERS;
        }
        let at = self.base + self.next_buffer;
        self.next_buffer += length.next_multiple_of(16);
        at
    }

    /// Offers a chain of these buffers to read, and these lengths to write; gives its head.
    pub fn offer(&mut self, readable: &[&[u8]], writable: &[u32]) -> u16 {
        let mut buffers = Vec::new();
        for bytes in readable {
            let at = self.room(bytes.len() as u64);
            self.memory.dma_write(at, bytes);
            buffers.push((at, bytes.len() as u32, 0));
        }
        let places: Vec<(u64, u32)> =
            writable.iter().map(|length| (self.room(u64::from(*length)), *length)).collect();
        buffers.extend(places.iter().map(|(at, length)| (*at, *length, 2u16)));
        let head = self.next_descriptor;
        for (n, (at, length, flags)) in buffers.iter().enumerate() {
            let number = self.next_descriptor;
            self.next_descriptor = (number + 1) % self.size;
            let more = u16::from(n + 1 < buffers.len());
            let mut descriptor = at.to_le_bytes().to_vec();
            descriptor.extend(length.to_le_bytes());
            descriptor.extend((flags | more).to_le_bytes());
            descriptor.extend(self.next_descriptor.to_le_bytes());
            self.memory.dma_write(self.base + 16 * u64::from(number), &descriptor);
        }
        self.writable.insert(head, places);
        let available = self.base + AVAILABLE;
        self.memory.store_u16(available + 4 + 2 * u64::from(self.offered % self.size), head);
        self.offered = self.offered.wrapping_add(1);
        self.memory.store_u16(available + 2, self.offered);
        head
    }

    /// What the device gave back since this was last asked: heads, and bytes written.
    pub fn used(&mut self) -> Vec<(u16, u32)> {
        let used = self.base + USED;
        let now = self.memory.load_u16(used + 2);
        let mut all = Vec::new();
        while self.seen != now {
            let mut element = [0; 8];
            self.memory.dma_read(used + 4 + 8 * u64::from(self.seen % self.size), &mut element);
            let word = |at: usize| u32::from_le_bytes(element[at..at + 4].try_into().unwrap());
            all.push((word(0) as u16, word(4)));
            self.seen = self.seen.wrapping_add(1);
        }
        all
    }

    /// What stands in the buffers to write of the chain at `head`.
    pub fn written(&self, head: u16) -> Vec<u8> {
        let mut all = Vec::new();
        for (at, length) in &self.writable[&head] {
            let start = all.len();
            all.resize(start + *length as usize, 0);
            self.memory.dma_read(*at, &mut all[start..]);
        }
        all
    }
}

/// A device with a driver in front of it that has negotiated everything offered, with MSI-X on and
/// vector n + 1 for queue n.
pub struct Rig<K: Kind> {
    /// The device.
    pub device: VirtioPci<K>,
    /// Guest memory.
    pub memory: Arc<Memory>,
    /// The driver's side of each queue.
    pub queues: Vec<Driver>,
    /// Where its messages go.
    pub sent: Arc<SentMessages>,
    /// Where its pin leads.
    pub level: Arc<Level>,
}

impl<K: Kind> Rig<K> {
    /// The device of `kind`, at work, without the features in `refused`.
    pub fn start(kind: K, refused: u64) -> Rig<K> {
        let mut rig = Rig::new(kind);
        rig.enable_messages();
        let features = rig.offered() & !refused & !feature::EVENT_IDX;
        rig.negotiate(features);
        rig
    }

    /// The device of `kind` after power-on, decoding its memory.
    pub fn new(kind: K) -> Rig<K> {
        let memory = Memory::new(1 << 20, 0).unwrap();
        let (sent, level) = (Arc::<SentMessages>::default(), Arc::<Level>::default());
        let line = Line::new(level.clone(), 0);
        let device = VirtioPci::new("device", kind, memory.clone(), line, Messages::new(sent.clone()));
        Rig { device, memory, queues: Vec::new(), sent, level }
    }

    /// Reads the device's memory.
    pub fn read(&mut self, offset: u64, width: Width) -> u64 {
        self.device.read(At::new(0, offset), width)
    }

    /// Writes the device's memory.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) {
        self.device.write(At::new(0, offset), width, value);
    }

    /// The features offered.
    pub fn offered(&mut self) -> u64 {
        (0..2).fold(0, |all, half| {
            self.write(0, Width::Dword, half);
            all | self.read(4, Width::Dword) << (32 * half)
        })
    }

    /// MSI-X on, vector n of address 0xFEE0_0000 and data 0x40 + n.
    pub fn enable_messages(&mut self) {
        use crate::pci::Function;
        let vectors = self.read(18, Width::Word) + 1;
        for n in 0..vectors {
            for (field, value) in [0xFEE0_0000, 0, 0x40 + n, 0].into_iter().enumerate() {
                self.write(0x4000 + 16 * n + 4 * field as u64, Width::Dword, value);
            }
        }
        let mut at = self.device.config_read(0x34, Width::Byte) as u8;
        while self.device.config_read(at, Width::Byte) != 0x11 {
            at = self.device.config_read(at + 1, Width::Byte) as u8;
        }
        self.device.config_write(at + 2, Width::Word, 0x8000);
    }

    /// From reset to ready, with these features.
    pub fn negotiate(&mut self, features: u64) {
        self.negotiate_until(features, |_| {});
    }

    /// The same; `early` acts when all queues are set up, before the driver says that it is ready.
    pub fn negotiate_until(&mut self, features: u64, early: impl FnOnce(&mut Rig<K>)) {
        self.write(20, Width::Byte, 3);
        for half in 0..2 {
            self.write(8, Width::Dword, half);
            self.write(12, Width::Dword, features >> (32 * half) & 0xFFFF_FFFF);
        }
        self.write(20, Width::Byte, 0xB);
        assert_eq!(self.read(20, Width::Byte), 0xB, "the features are accepted");
        self.write(16, Width::Word, 0);
        self.queues.clear();
        for number in 0..self.read(18, Width::Word) as u16 {
            self.write(22, Width::Word, number.into());
            let size = self.read(24, Width::Word) as u16;
            let driver = Driver::at(self.memory.clone(), number, size);
            // New rings are empty rings.
            self.memory.dma_write(driver.base, &[0; BUFFERS as usize]);
            self.write(26, Width::Word, u64::from(number) + 1);
            for (field, at) in [(32, 0), (40, AVAILABLE), (48, USED)] {
                self.write(field, Width::Qword, driver.base + at);
            }
            self.write(28, Width::Word, 1);
            assert_eq!(self.read(28, Width::Word), 1, "queue {number} is in use");
            self.queues.push(driver);
        }
        early(self);
        self.write(20, Width::Byte, 0xF);
    }

    /// Tells the device that there is something in `queue`.
    pub fn notify(&mut self, queue: u16) {
        self.write(0x3000 + 4 * u64::from(queue), Width::Word, queue.into());
    }

    /// Offers a chain in `queue`, tells the device, and gives the head.
    pub fn submit(&mut self, queue: u16, readable: &[&[u8]], writable: &[u32]) -> u16 {
        let head = self.queues[usize::from(queue)].offer(readable, writable);
        self.notify(queue);
        head
    }

    /// The vectors sent since this was last asked.
    pub fn vectors(&self) -> Vec<u32> {
        self.sent.take().into_iter().map(|(_, data)| data - 0x40).collect()
    }

    /// The device's status register.
    pub fn status(&mut self) -> u64 {
        self.read(20, Width::Byte)
    }

    /// `N` bytes of the kind's configuration.
    pub fn config<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        std::array::from_fn(|n| self.read(0x2000 + offset + n as u64, Width::Byte) as u8)
    }
}
