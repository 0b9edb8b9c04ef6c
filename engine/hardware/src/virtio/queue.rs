//! One split virtqueue: where its rings lie, how far both sides are, and when to interrupt. Virtio 1.2 §2.7.
//!
//! Left out: packed rings (§2.8), in-order use, and queue reset on its own (§2.6.1), which are not offered.

use std::sync::atomic::{Ordering, fence};

use serde::{Deserialize, Serialize};

use super::chain::{Chain, DESCRIPTOR_BYTES, Violation};
use crate::memory::Memory;

/// No vector, for a queue that interrupts by none, §4.1.4.3.
pub const NO_VECTOR: u16 = 0xFFFF;
/// The driver wants no interrupt, §2.7.6.
const NO_INTERRUPT: u16 = 1;

/// The registers of a queue, and its place in the rings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// The most descriptors it may have: a power of two.
    pub max_size: u16,
    /// Descriptors, as the driver chose.
    pub size: u16,
    /// Its interrupt vector.
    pub vector: u16,
    /// Guest-physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest-physical address of the available ring (driver area).
    pub available: u64,
    /// Guest-physical address of the used ring (device area).
    pub used: u64,
    /// In use, and checked.
    enabled: bool,
    next_available: u16,
    next_used: u16,
    /// `next_used` when an interrupt was last decided on.
    told_used: u16,
    /// Chains taken and not given back.
    outstanding: u16,
    /// RING_EVENT_IDX and INDIRECT_DESC were negotiated.
    event_index: bool,
    indirect: bool,
}

impl Queue {
    /// A queue of at most `max_size` descriptors, not in use.
    pub fn new(max_size: u16) -> Queue {
        assert!(max_size.is_power_of_two() && max_size <= 1 << 15, "§2.7: a power of two, at most 32768");
        Queue {
            max_size,
            size: max_size,
            vector: NO_VECTOR,
            descriptors: 0,
            available: 0,
            used: 0,
            enabled: false,
            next_available: 0,
            next_used: 0,
            told_used: 0,
            outstanding: 0,
            event_index: false,
            indirect: false,
        }
    }

    /// Whether the driver uses it.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Chains taken and not given back.
    pub fn outstanding(&self) -> u16 {
        self.outstanding
    }

    /// The driver puts queue `number` into use; says what is wrong with its rings.
    pub fn enable(&mut self, memory: &Memory, number: u16) -> Result<(), Violation> {
        self.enabled = self.rings_are_good(memory);
        if self.enabled { Ok(()) } else { Err(Violation::Rings(number)) }
    }

    /// The device goes to work, with these features.
    pub fn start(&mut self, event_index: bool, indirect: bool) {
        (self.event_index, self.indirect) = (event_index, indirect);
    }

    /// Alignment of §2.7, and every byte in RAM.
    fn rings_are_good(&self, memory: &Memory) -> bool {
        let size = u64::from(self.size);
        let good = |at: u64, bytes: u64, align: u64| at.is_multiple_of(align) && memory.is_ram(at, bytes);
        self.size.is_power_of_two()
            && self.size <= self.max_size
            && good(self.descriptors, DESCRIPTOR_BYTES * size, 16)
            && good(self.available, 6 + 2 * size, 2)
            && good(self.used, 6 + 8 * size, 4)
    }

    /// Takes the next chain the driver offers. When there is none the driver is asked to tell of the next.
    pub fn take(&mut self, memory: &Memory) -> Result<Option<Chain>, Violation> {
        if !self.enabled {
            return Ok(None);
        }
        let mut offered = self.offered(memory);
        if offered == 0 && self.event_index {
            // avail_event, §2.7.10; then look again, lest the driver offered before it saw this.
            memory.store_u16(self.used + 4 + 8 * u64::from(self.size), self.next_available);
            fence(Ordering::SeqCst);
            offered = self.offered(memory);
        }
        if offered == 0 {
            return Ok(None);
        }
        if offered > self.size || self.outstanding >= self.size {
            return Err(Violation::TooManyOffered);
        }
        let place = u64::from(self.next_available % self.size);
        let head = memory.load_u16(self.available + 4 + 2 * place);
        let chain = Chain::follow(memory, self.descriptors, self.size, head, self.indirect)?;
        self.next_available = self.next_available.wrapping_add(1);
        self.outstanding += 1;
        Ok(Some(chain))
    }

    /// Leaves the last `count` chains taken with the driver after all.
    pub fn put_back(&mut self, count: u16) {
        let count = count.min(self.outstanding);
        self.next_available = self.next_available.wrapping_sub(count);
        self.outstanding -= count;
    }

    /// Chains offered and not taken yet.
    fn offered(&self, memory: &Memory) -> u16 {
        memory.load_u16(self.available + 2).wrapping_sub(self.next_available)
    }

    /// Gives the chain at `head` back, with `written` bytes written into it.
    pub fn give_back(&mut self, memory: &Memory, head: u16, written: u32) {
        if !self.enabled {
            return;
        }
        let place = u64::from(self.next_used % self.size);
        let mut element = [0; 8];
        element[..2].copy_from_slice(&head.to_le_bytes());
        element[4..].copy_from_slice(&written.to_le_bytes());
        memory.dma_write(self.used + 4 + 8 * place, &element);
        self.next_used = self.next_used.wrapping_add(1);
        self.outstanding = self.outstanding.saturating_sub(1);
        memory.store_u16(self.used + 2, self.next_used);
    }

    /// Whether the driver wants an interrupt for what was given back since this was last asked.
    pub fn wants_interrupt(&mut self, memory: &Memory) -> bool {
        let new = self.next_used.wrapping_sub(self.told_used);
        if !self.enabled || new == 0 {
            return false;
        }
        let before = std::mem::replace(&mut self.told_used, self.next_used);
        // What was given back must be seen before the driver's wish is read, §2.7.7.1.
        fence(Ordering::SeqCst);
        if !self.event_index {
            return memory.load_u16(self.available) & NO_INTERRUPT == 0;
        }
        let event = memory.load_u16(self.available + 4 + 2 * u64::from(self.size));
        event.wrapping_sub(before) < new
    }

    /// Whether a loaded state fits in the place of `now`, over `memory`.
    pub fn is_valid(&self, now: &Queue, memory: &Memory) -> bool {
        self.max_size == now.max_size
            && self.outstanding <= self.max_size
            && (!self.enabled || self.rings_are_good(memory))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Driver;
    use super::*;

    #[test]
    fn chains_are_taken_in_order_and_given_back() {
        let mut driver = Driver::new(4);
        let mut queue = driver.queue(false);
        assert_eq!(queue.take(&driver.memory), Ok(None));
        let first = driver.offer(&[b"abc"], &[]);
        let second = driver.offer(&[], &[8]);
        let memory = driver.memory.clone();
        let taken = queue.take(&memory).unwrap().unwrap();
        assert_eq!((taken.head, taken.readable.read_array::<3>(&memory)), (first, Some(*b"abc")));
        let next = queue.take(&memory).unwrap().unwrap();
        assert_eq!((next.head, next.writable.length(), queue.outstanding()), (second, 8, 2));
        queue.give_back(&memory, second, 5);
        assert_eq!(driver.used(), [(second, 5)]);
        assert!(queue.wants_interrupt(&memory));
        assert!(!queue.wants_interrupt(&memory), "asked already");
    }

    #[test]
    fn the_driver_says_when_it_wants_to_hear() {
        let mut driver = Driver::new(4);
        let mut queue = driver.queue(false);
        let memory = driver.memory.clone();
        let head = driver.offer(&[b"x"], &[]);
        queue.take(&memory).unwrap();
        memory.store_u16(queue.available, NO_INTERRUPT);
        queue.give_back(&memory, head, 0);
        assert!(!queue.wants_interrupt(&memory));

        let mut driver = Driver::new(4);
        let mut queue = driver.queue(true);
        let memory = driver.memory.clone();
        memory.store_u16(queue.available + 4 + 2 * 4, 1); // used_event: after the second
        let wanted: Vec<bool> = (0..3)
            .map(|_| {
                let head = driver.offer(&[b"x"], &[]);
                queue.take(&memory).unwrap();
                queue.give_back(&memory, head, 0);
                queue.wants_interrupt(&memory)
            })
            .collect();
        assert_eq!(wanted, [false, true, false]);
        assert_eq!(queue.take(&memory), Ok(None));
        assert_eq!(memory.load_u16(queue.used + 4 + 8 * 4), 3, "avail_event asks for the next");
    }

    #[test]
    fn more_than_fits_is_a_violation() {
        let driver = Driver::new(4);
        let mut queue = driver.queue(false);
        driver.memory.store_u16(queue.available + 2, 5);
        assert_eq!(queue.take(&driver.memory), Err(Violation::TooManyOffered));
        let mut driver = Driver::new(4);
        let mut queue = driver.queue(false);
        for _ in 0..4 {
            driver.offer(&[b"x"], &[]);
            queue.take(&driver.memory).unwrap().unwrap();
        }
        driver.offer(&[b"x"], &[]);
        assert_eq!(queue.take(&driver.memory), Err(Violation::TooManyOffered), "none was given back");
    }

    #[test]
    fn rings_that_cannot_be_are_refused() {
        let driver = Driver::new(4);
        let good = driver.queue(false);
        let spoil: [fn(&mut Queue); 5] = [
            |queue| queue.descriptors += 8,
            |queue| queue.available += 1,
            |queue| queue.used = (1 << 20) - 32,
            |queue| queue.size = 3,
            |queue| queue.size = 0x8000,
        ];
        for spoil in spoil {
            let mut queue = good.clone();
            spoil(&mut queue);
            assert_eq!(queue.enable(&driver.memory, 0), Err(Violation::Rings(0)));
            assert!(!queue.is_enabled());
        }
    }
}
