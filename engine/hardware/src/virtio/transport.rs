//! The common configuration of a virtio device: features, status, queues, interrupt cause. Virtio 1.2 §2.1,
//! §2.2 and §4.1.4.3. A chip: the rings behind the queues' addresses are touched only to check them.

use serde::{Deserialize, Serialize};

use super::chain::Violation;
use super::queue::{NO_VECTOR, Queue};
use crate::access::Width;
use crate::memory::Memory;

/// Device status bits, §2.1.
pub mod status {
    /// Device and driver agree on the features.
    pub const FEATURES_OK: u8 = 8;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = 4;
    /// The device met something it cannot go on from.
    pub const NEEDS_RESET: u8 = 0x40;
    /// What a driver can set: acknowledge, driver, driver ok, features ok, failed.
    pub const BY_DRIVER: u8 = 0x8F;
}

/// Feature bits of every device, §6.
pub mod feature {
    /// Indirect descriptor tables.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Notification and interrupt suppression by index.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Version 1 of the specification: demanded of every driver.
    pub const VERSION_1: u64 = 1 << 32;
}

/// Interrupt cause bits, §4.1.4.5.
pub mod cause {
    /// A queue has used buffers.
    pub const QUEUE: u8 = 1;
    /// The device's configuration changed.
    pub const CONFIG: u8 = 2;
}

/// Bytes of the common configuration that are defined.
pub const COMMON_BYTES: u64 = 60;

/// What a write to the common configuration asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing more.
    None,
    /// The driver is ready: the device starts.
    Start,
    /// The driver wants the device reset.
    Reset,
    /// A queue was set up as it cannot be.
    Wrong(Violation),
}

/// The registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transport {
    device_features: u64,
    driver_features: u64,
    device_select: u32,
    driver_select: u32,
    config_vector: u16,
    status: u8,
    generation: u8,
    queue_select: u16,
    cause: u8,
    /// The queues.
    pub queues: Vec<Queue>,
}

impl Transport {
    /// A device of these features, and of queues of these sizes.
    pub fn new(features: u64, queue_sizes: &[u16]) -> Transport {
        use feature::{EVENT_IDX, INDIRECT_DESC, VERSION_1};
        Transport {
            device_features: features | INDIRECT_DESC | EVENT_IDX | VERSION_1,
            driver_features: 0,
            device_select: 0,
            driver_select: 0,
            config_vector: NO_VECTOR,
            status: 0,
            generation: 0,
            queue_select: 0,
            cause: 0,
            queues: queue_sizes.iter().map(|size| Queue::new(*size)).collect(),
        }
    }

    /// Back to the state after power-on.
    pub fn reset(&mut self) {
        let sizes: Vec<u16> = self.queues.iter().map(|queue| queue.max_size).collect();
        *self = Transport::new(self.device_features, &sizes);
    }

    /// The features both sides agreed on; none before they did.
    pub fn features(&self) -> u64 {
        if self.status & status::FEATURES_OK != 0 { self.driver_features } else { 0 }
    }

    /// Whether the driver is ready and nothing went wrong.
    pub fn is_live(&self) -> bool {
        self.status & (status::DRIVER_OK | status::NEEDS_RESET) == status::DRIVER_OK
    }

    /// The status register.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// The interrupt vector of configuration changes.
    pub fn config_vector(&self) -> u16 {
        self.config_vector
    }

    /// The device cannot go on. Says whether the driver is to be told.
    pub fn fail(&mut self) -> bool {
        let told = self.status & (status::DRIVER_OK | status::NEEDS_RESET) == status::DRIVER_OK;
        self.status |= status::NEEDS_RESET;
        told
    }

    /// The device's configuration changed.
    pub fn next_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Adds an interrupt cause.
    pub fn add_cause(&mut self, cause: u8) {
        self.cause |= cause;
    }

    /// Whether there is an interrupt cause the driver has not read.
    pub fn has_cause(&self) -> bool {
        self.cause != 0
    }

    /// The driver reads the interrupt cause, which clears it.
    pub fn take_cause(&mut self) -> u8 {
        std::mem::take(&mut self.cause)
    }

    /// The driver reads the common configuration.
    pub fn read(&self, offset: u64, width: Width) -> u64 {
        let bytes = self.registers();
        (0..width.bytes()).fold(0, |value, n| {
            let byte = bytes.get((offset + n) as usize).copied().unwrap_or(0);
            value | u64::from(byte) << (8 * n)
        })
    }

    /// All registers, in the order of §4.1.4.3.
    fn registers(&self) -> [u8; COMMON_BYTES as usize] {
        let mut bytes = [0; COMMON_BYTES as usize];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        put(0, &self.device_select.to_le_bytes());
        put(4, &half(self.device_features, self.device_select).to_le_bytes());
        put(8, &self.driver_select.to_le_bytes());
        put(12, &half(self.driver_features, self.driver_select).to_le_bytes());
        put(16, &self.config_vector.to_le_bytes());
        put(18, &(self.queues.len() as u16).to_le_bytes());
        put(20, &[self.status, self.generation]);
        put(22, &self.queue_select.to_le_bytes());
        // A queue that is not there has size 0.
        if let Some(queue) = self.queues.get(usize::from(self.queue_select)) {
            put(24, &queue.size.to_le_bytes());
            put(26, &queue.vector.to_le_bytes());
            put(28, &u16::from(queue.is_enabled()).to_le_bytes());
            put(30, &self.queue_select.to_le_bytes());
            put(32, &queue.descriptors.to_le_bytes());
            put(40, &queue.available.to_le_bytes());
            put(48, &queue.used.to_le_bytes());
        }
        bytes
    }

    /// The driver writes the common configuration. Accesses of another width than the field's have no
    /// effect, but for halves of 64-bit fields, §4.1.3.1. `vectors` are those the device has.
    pub fn write(
        &mut self,
        offset: u64,
        width: Width,
        value: u64,
        vectors: usize,
        memory: &Memory,
    ) -> Effect {
        let agreed = self.status & status::FEATURES_OK != 0;
        let word = value as u16;
        match (offset, width) {
            (0, Width::Dword) => self.device_select = value as u32,
            (8, Width::Dword) => self.driver_select = value as u32,
            (12, Width::Dword) if !agreed => self.choose_features(value as u32),
            (16, Width::Word) => self.config_vector = existing(word, vectors),
            (20, Width::Byte) => return self.write_status(value as u8),
            (22, Width::Word) => self.queue_select = word,
            (24..=55, _) => return self.write_queue(offset, width, value, vectors, memory),
            _ => {}
        }
        Effect::None
    }

    fn choose_features(&mut self, value: u32) {
        let shift = match self.driver_select {
            0 => 0,
            1 => 32,
            _ => return,
        };
        let mask = u64::from(u32::MAX) << shift;
        self.driver_features = self.driver_features & !mask | u64::from(value) << shift;
    }

    fn write_status(&mut self, value: u8) -> Effect {
        if value == 0 {
            return Effect::Reset;
        }
        let mut new = value & status::BY_DRIVER & !self.status;
        let acceptable = self.driver_features & !self.device_features == 0
            && self.driver_features & feature::VERSION_1 != 0;
        if !acceptable {
            new &= !status::FEATURES_OK;
        }
        // §3.1.1: the features come first.
        if (self.status | new) & status::FEATURES_OK == 0 {
            new &= !status::DRIVER_OK;
        }
        self.status |= new;
        if new & status::DRIVER_OK == 0 {
            return Effect::None;
        }
        let (event_index, indirect) = (
            self.driver_features & feature::EVENT_IDX != 0,
            self.driver_features & feature::INDIRECT_DESC != 0,
        );
        self.queues.iter_mut().for_each(|queue| queue.start(event_index, indirect));
        Effect::Start
    }

    fn write_queue(
        &mut self,
        offset: u64,
        width: Width,
        value: u64,
        vectors: usize,
        memory: &Memory,
    ) -> Effect {
        let number = self.queue_select;
        let Some(queue) = self.queues.get_mut(usize::from(number)) else { return Effect::None };
        match (offset, width) {
            (26, Width::Word) => queue.vector = existing(value as u16, vectors),
            // What a queue in use is made of cannot change, §4.1.4.3.2.
            _ if queue.is_enabled() => {}
            (24, Width::Word) => queue.size = value as u16,
            (28, Width::Word) if value == 1 => {
                if let Err(violation) = queue.enable(memory, number) {
                    return Effect::Wrong(violation);
                }
            }
            (32.., _) => {
                let fields = [&mut queue.descriptors, &mut queue.available, &mut queue.used];
                let field = &mut *fields[(offset as usize - 32) / 8];
                match (offset % 8, width) {
                    (0, Width::Qword) => *field = value,
                    (0, Width::Dword) => *field = *field & !0xFFFF_FFFF | value,
                    (4, Width::Dword) => *field = *field & 0xFFFF_FFFF | value << 32,
                    _ => {}
                }
            }
            _ => {}
        }
        Effect::None
    }

    /// Whether a loaded state fits in the place of `now`, over `memory`.
    pub fn is_valid(&self, now: &Transport, memory: &Memory) -> bool {
        let agreed =
            self.status & status::FEATURES_OK == 0 || self.driver_features & !self.device_features == 0;
        let in_order = self.status & status::DRIVER_OK == 0 || self.status & status::FEATURES_OK != 0;
        self.device_features == now.device_features
            && agreed
            && in_order
            && self.queues.len() == now.queues.len()
            && self.queues.iter().zip(&now.queues).all(|(queue, now)| queue.is_valid(now, memory))
    }
}

/// A vector the device has, or none: what reading back tells the driver, §4.1.5.1.2.
fn existing(vector: u16, vectors: usize) -> u16 {
    if usize::from(vector) < vectors { vector } else { NO_VECTOR }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(transport: &mut Transport, offset: u64, width: Width, value: u64) -> Effect {
        let memory = Memory::new(1 << 20, 0).unwrap();
        transport.write(offset, width, value, 2, &memory)
    }

    fn choose(transport: &mut Transport, features: u64) {
        for half in 0..2 {
            write(transport, 8, Width::Dword, half);
            write(transport, 12, Width::Dword, features >> (32 * half) & 0xFFFF_FFFF);
        }
    }

    #[test]
    fn features_are_agreed_on_or_refused() {
        let mut transport = Transport::new(1 << 5, &[8]);
        write(&mut transport, 0, Width::Dword, 0);
        let offered = transport.read(4, Width::Dword);
        assert_eq!(offered, 1 << 5 | feature::INDIRECT_DESC | feature::EVENT_IDX);
        for (features, accepted) in
            [(1 << 5, false), (feature::VERSION_1 | 1 << 6, false), (feature::VERSION_1 | 1 << 5, true)]
        {
            choose(&mut transport, features);
            write(&mut transport, 20, Width::Byte, 1 | 2 | 8);
            assert_eq!(transport.read(20, Width::Byte) & 8 != 0, accepted, "{features:#x}");
        }
        choose(&mut transport, feature::VERSION_1);
        assert_eq!(transport.features(), feature::VERSION_1 | 1 << 5, "agreed is agreed");
        assert_eq!(write(&mut transport, 20, Width::Byte, 0xF), Effect::Start);
        assert!(transport.is_live());
        assert_eq!(write(&mut transport, 20, Width::Byte, 0xF), Effect::None, "it has started");
        assert_eq!(write(&mut transport, 20, Width::Byte, 0), Effect::Reset);
    }

    #[test]
    fn a_driver_that_skips_the_features_does_not_start_the_device() {
        let mut transport = Transport::new(0, &[8]);
        assert_eq!(write(&mut transport, 20, Width::Byte, 7), Effect::None);
        assert_eq!(transport.read(20, Width::Byte), 3);
        assert!(!transport.fail() && !transport.is_live());
    }

    #[test]
    fn queues_are_selected_and_sized() {
        let mut transport = Transport::new(0, &[8, 16]);
        assert_eq!(transport.read(18, Width::Word), 2);
        write(&mut transport, 22, Width::Word, 1);
        assert_eq!(transport.read(24, Width::Word), 16);
        assert_eq!(transport.read(30, Width::Word), 1);
        write(&mut transport, 26, Width::Word, 1);
        assert_eq!(transport.read(26, Width::Word), 1);
        write(&mut transport, 26, Width::Word, 2);
        assert_eq!(transport.read(26, Width::Word), 0xFFFF, "the device has two vectors");
        write(&mut transport, 32, Width::Dword, 0x1000);
        write(&mut transport, 36, Width::Dword, 1);
        assert_eq!(transport.queues[1].descriptors, 0x1_0000_1000);
        assert_eq!(
            write(&mut transport, 28, Width::Word, 1),
            Effect::Wrong(Violation::Rings(1)),
            "no RAM there"
        );
        write(&mut transport, 22, Width::Word, 2);
        assert_eq!(transport.read(24, Width::Dword), 0, "there is no third");
    }
}
