//! One command slot: its header and table in memory, and the scattered memory data goes to. AHCI 1.3.1 §4.2.2 and §4.2.3.

use crate::memory::Memory;

/// Bytes of a command header.
const HEADER_BYTES: u64 = 32;
/// Offsets in a command table.
const PACKET: u64 = 0x40;
const REGIONS: u64 = 0x80;
const REGION_BYTES: u64 = 16;

/// A command header.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    at: u64,
    /// The command is a packet.
    pub packet: bool,
    regions: u16,
    table: u64,
}

impl Header {
    /// Reads header `slot` of the list at `list`.
    pub fn read(memory: &Memory, list: u64, slot: u32) -> Header {
        let at = list.wrapping_add(HEADER_BYTES * u64::from(slot));
        let mut bytes = [0; 16];
        memory.dma_read(at, &mut bytes);
        let word = |n: usize| u32::from_le_bytes([bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]]);
        let flags = word(0);
        Header {
            at,
            packet: flags & 1 << 5 != 0,
            regions: (flags >> 16) as u16,
            table: u64::from(word(12)) << 32 | u64::from(word(8) & !0x7F),
        }
    }

    /// The command frame.
    pub fn frame<const N: usize>(&self, memory: &Memory) -> [u8; N] {
        let mut bytes = [0; N];
        memory.dma_read(self.table, &mut bytes);
        bytes
    }

    /// The packet.
    pub fn packet_bytes<const N: usize>(&self, memory: &Memory) -> [u8; N] {
        let mut bytes = [0; N];
        memory.dma_read(self.table.wrapping_add(PACKET), &mut bytes);
        bytes
    }

    /// Says how many bytes were moved.
    pub fn tell_moved(&self, memory: &Memory, bytes: u32) {
        memory.dma_write(self.at.wrapping_add(4), &bytes.to_le_bytes());
    }

    /// The memory data goes to.
    pub fn scatter<'a>(&self, memory: &'a Memory) -> Scatter<'a> {
        let next = self.table.wrapping_add(REGIONS);
        Scatter { memory, next, left: self.regions, address: 0, room: 0, moved: 0 }
    }
}

/// Regions of memory, one after the other.
pub struct Scatter<'a> {
    memory: &'a Memory,
    next: u64,
    left: u16,
    address: u64,
    room: u32,
    /// Bytes moved so far.
    pub moved: u32,
}

impl Scatter<'_> {
    /// How much of at most `most` bytes fits into the region at hand; 0 at the end of all.
    pub fn room(&mut self, most: usize) -> usize {
        while self.room == 0 && self.left > 0 {
            let mut entry = [0; REGION_BYTES as usize];
            self.memory.dma_read(self.next, &mut entry);
            let word = |n: usize| u32::from_le_bytes([entry[n], entry[n + 1], entry[n + 2], entry[n + 3]]);
            // Whole words, length less one in 22 bits.
            self.address = u64::from(word(4)) << 32 | u64::from(word(0) & !1);
            self.room = (word(12) & 0x3F_FFFF | 1) + 1;
            self.next = self.next.wrapping_add(REGION_BYTES);
            self.left -= 1;
        }
        most.min(self.room as usize)
    }

    fn advance(&mut self, bytes: usize) {
        self.address = self.address.wrapping_add(bytes as u64);
        self.room -= bytes as u32;
        self.moved = self.moved.wrapping_add(bytes as u32);
    }

    /// Moves bytes to memory; gives how many there was room for.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let now = self.room(bytes.len() - done);
            if now == 0 {
                break;
            }
            self.memory.dma_write(self.address, &bytes[done..done + now]);
            self.advance(now);
            done += now;
        }
        done
    }

    /// Looks at the next bytes (as many as [`Scatter::room`] said) without moving on.
    pub fn peek(&self, bytes: &mut [u8]) {
        self.memory.dma_read(self.address, bytes);
    }

    /// `bytes` of what was looked at are used.
    pub fn used(&mut self, bytes: usize) {
        self.advance(bytes.min(self.room as usize));
    }
}
