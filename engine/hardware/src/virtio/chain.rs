//! Descriptor chains: from a head in guest memory to buffers whose every byte is RAM. Virtio 1.2 §2.7.5.
//!
//! Everything a guest can get wrong is a [`Violation`]: loops, chains that are too long, buffers outside
//! RAM or empty, buffers to read behind buffers to write, nested or misplaced indirect tables.

use crate::memory::Memory;

/// Bytes of one descriptor, §2.7.5.
pub const DESCRIPTOR_BYTES: u64 = 16;
/// The most buffers of one chain, direct or indirect.
pub const CHAIN_MAX_BUFFERS: usize = 1024;

/// Descriptor flags, §2.7.5.
mod flag {
    pub const NEXT: u16 = 1;
    pub const WRITE: u16 = 2;
    pub const INDIRECT: u16 = 4;
}

/// What a driver did against the specification. The device then needs a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A ring is not aligned or not in RAM, or its size is no power of two or too large.
    #[error("queue {0} was set up with rings that cannot be")]
    Rings(u16),
    /// More buffers were offered than the queue has places.
    #[error("more buffers were offered than the queue has places")]
    TooManyOffered,
    /// A descriptor's number is not in its table.
    #[error("descriptor {0} is not in its table")]
    NoSuchDescriptor(u16),
    /// A chain has more buffers than the queue or an indirect table may hold; perhaps it is a loop.
    #[error("a chain is too long, or a loop")]
    ChainTooLong,
    /// A buffer is empty or not all in RAM.
    #[error("a buffer of {length} bytes at {address:#x} is empty or outside RAM")]
    Buffer {
        /// Guest-physical address.
        address: u64,
        /// Length in bytes.
        length: u32,
    },
    /// A chain is longer than 4 GiB.
    #[error("a chain holds more than 4 GiB")]
    ChainTooLarge,
    /// A buffer the device reads follows one it writes.
    #[error("a buffer to read follows one to write")]
    Order,
    /// An indirect table that was not negotiated, is nested, empty or not whole descriptors.
    #[error("an indirect table is not allowed here or has an impossible length")]
    Indirect,
    /// A request lacks its header, its status byte, or room for the answer.
    #[error("a request lacks {0}")]
    Request(&'static str),
}

/// A piece of guest memory, all of it RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    address: u64,
    length: u32,
}

/// Pieces of guest memory that together are one buffer of at most 4 GiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffer {
    pieces: Vec<Piece>,
}

/// One request of the driver: what the device reads, and where it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The descriptor it starts at: its name in the used ring.
    pub head: u16,
    /// What the driver sends.
    pub readable: Buffer,
    /// Where the answer goes.
    pub writable: Buffer,
}

struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

impl Chain {
    /// Follows the chain at `head` of the `size` descriptors at `table`.
    pub fn follow(
        memory: &Memory,
        table: u64,
        size: u16,
        head: u16,
        indirect: bool,
    ) -> Result<Chain, Violation> {
        let mut chain = Chain { head, readable: Buffer::default(), writable: Buffer::default() };
        if head >= size {
            return Err(Violation::NoSuchDescriptor(head));
        }
        let first = Descriptor::read(memory, table, head);
        if first.flags & flag::INDIRECT == 0 {
            return chain.walk(memory, table, size, first).map(|()| chain);
        }
        let whole = first.length.is_multiple_of(DESCRIPTOR_BYTES as u32) && first.length > 0;
        // A table that follows others or goes on is allowed by no driver we know, and by §2.7.5.3.1 only
        // as the last; ours is the only one of its chain.
        if !indirect || !whole || first.flags & (flag::NEXT | flag::WRITE) != 0 {
            return Err(Violation::Indirect);
        }
        if !memory.is_ram(first.address, first.length.into()) {
            return Err(Violation::Buffer { address: first.address, length: first.length });
        }
        let entries = u64::from(first.length) / DESCRIPTOR_BYTES;
        let entries = entries.min(u64::from(u16::MAX)) as u16;
        let start = Descriptor::read(memory, first.address, 0);
        chain.walk(memory, first.address, entries, start).map(|()| chain)
    }

    fn walk(
        &mut self,
        memory: &Memory,
        table: u64,
        size: u16,
        mut descriptor: Descriptor,
    ) -> Result<(), Violation> {
        let mut total = 0u64;
        for _ in 0..CHAIN_MAX_BUFFERS.min(size.into()) {
            let Descriptor { address, length, flags, next } = descriptor;
            if flags & flag::INDIRECT != 0 {
                return Err(Violation::Indirect);
            }
            if length == 0 || !memory.is_ram(address, length.into()) {
                return Err(Violation::Buffer { address, length });
            }
            total += u64::from(length);
            if total > u64::from(u32::MAX) {
                return Err(Violation::ChainTooLarge);
            }
            match flags & flag::WRITE != 0 {
                true => self.writable.pieces.push(Piece { address, length }),
                false if self.writable.is_empty() => self.readable.pieces.push(Piece { address, length }),
                false => return Err(Violation::Order),
            }
            if flags & flag::NEXT == 0 {
                return Ok(());
            }
            if next >= size {
                return Err(Violation::NoSuchDescriptor(next));
            }
            descriptor = Descriptor::read(memory, table, next);
        }
        Err(Violation::ChainTooLong)
    }
}

impl Descriptor {
    fn read(memory: &Memory, table: u64, number: u16) -> Descriptor {
        let mut bytes = [0; DESCRIPTOR_BYTES as usize];
        memory.dma_read(table + DESCRIPTOR_BYTES * u64::from(number), &mut bytes);
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
        Descriptor {
            address: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
        }
    }
}

impl Buffer {
    /// Length in bytes.
    pub fn length(&self) -> u32 {
        self.pieces.iter().map(|piece| piece.length).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The first `length` bytes (or all there are), and the rest.
    pub fn split(&self, length: u32) -> (Buffer, Buffer) {
        let (mut front, mut back) = (Buffer::default(), Buffer::default());
        let mut left = length;
        for piece in &self.pieces {
            let now = left.min(piece.length);
            left -= now;
            front.push(piece.address, now);
            back.push(piece.address + u64::from(now), piece.length - now);
        }
        (front, back)
    }

    fn push(&mut self, address: u64, length: u32) {
        if length > 0 {
            self.pieces.push(Piece { address, length });
        }
    }

    /// The pieces, as guest-physical address and length.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.pieces.iter().map(|piece| (piece.address, piece.length))
    }

    /// Reads from `offset`; gives how much there was.
    pub fn read(&self, memory: &Memory, offset: u32, bytes: &mut [u8]) -> usize {
        self.each_piece(offset, bytes.len(), |address, range| memory.dma_read(address, &mut bytes[range]))
    }

    /// Writes at `offset`; gives how much there was room for.
    pub fn write(&self, memory: &Memory, offset: u32, bytes: &[u8]) -> usize {
        self.each_piece(offset, bytes.len(), |address, range| memory.dma_write(address, &bytes[range]))
    }

    /// Reads the first `N` bytes, if there are as many.
    pub fn read_array<const N: usize>(&self, memory: &Memory) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.read(memory, 0, &mut bytes) == N).then_some(bytes)
    }

    /// Calls `act` with each piece of `length` bytes from `offset`, and the range it is of them.
    fn each_piece(
        &self,
        offset: u32,
        length: usize,
        mut act: impl FnMut(u64, std::ops::Range<usize>),
    ) -> usize {
        let (mut skip, mut done) = (u64::from(offset), 0);
        for piece in &self.pieces {
            let here = u64::from(piece.length);
            if skip >= here {
                skip -= here;
                continue;
            }
            let now = ((here - skip) as usize).min(length - done);
            act(piece.address + skip, done..done + now);
            (skip, done) = (0, done + now);
            if done == length {
                break;
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const TABLE: u64 = 0x1000;

    fn memory(descriptors: &[(u64, u32, u16, u16)]) -> Arc<Memory> {
        let memory = Memory::new(1 << 20, 0).unwrap();
        put(&memory, TABLE, descriptors);
        memory
    }

    fn put(memory: &Memory, table: u64, descriptors: &[(u64, u32, u16, u16)]) {
        for (n, (address, length, flags, next)) in descriptors.iter().enumerate() {
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend(length.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend(next.to_le_bytes());
            memory.dma_write(table + 16 * n as u64, &bytes);
        }
    }

    fn follow(memory: &Memory, size: u16) -> Result<Chain, Violation> {
        Chain::follow(memory, TABLE, size, 0, true)
    }

    #[test]
    fn a_chain_is_what_is_read_and_then_what_is_written() {
        let memory = memory(&[(0x8000, 4, 1, 2), (0xA000, 3, 2, 0), (0x9000, 2, 1, 1)]);
        let chain = follow(&memory, 4).unwrap();
        assert_eq!((chain.readable.length(), chain.writable.length()), (6, 3));
        memory.dma_write(0x8000, b"abcd");
        memory.dma_write(0x9000, b"ef");
        let mut read = [0; 8];
        assert_eq!(chain.readable.read(&memory, 3, &mut read), 3);
        assert_eq!(&read[..3], b"def");
        assert_eq!(chain.readable.read_array::<7>(&memory), None);
        assert_eq!(chain.writable.write(&memory, 1, b"xyz"), 2);
        let (front, back) = chain.readable.split(5);
        assert_eq!((front.length(), back.length()), (5, 1));
        assert_eq!(back.read_array::<1>(&memory), Some(*b"f"));
    }

    #[test]
    fn loops_and_long_chains_end() {
        let memory = memory(&[(0x8000, 4, 1, 1), (0x8000, 4, 1, 0)]);
        assert_eq!(follow(&memory, 256), Err(Violation::ChainTooLong));
        assert_eq!(follow(&memory, 1), Err(Violation::NoSuchDescriptor(1)));
        assert_eq!(Chain::follow(&memory, TABLE, 4, 4, true), Err(Violation::NoSuchDescriptor(4)));
    }

    #[test]
    fn buffers_must_be_ram_and_in_order() {
        for (address, length) in [(0x10_0000, 1), (0xF_FFFF, 2), (u64::MAX, 2), (0x8000, 0)] {
            let memory = memory(&[(address, length, 0, 0)]);
            assert_eq!(follow(&memory, 4), Err(Violation::Buffer { address, length }));
        }
        let memory = memory(&[(0x8000, 4, 3, 1), (0x8000, 4, 0, 0)]);
        assert_eq!(follow(&memory, 4), Err(Violation::Order));
    }

    #[test]
    fn an_indirect_table_is_one_level_and_negotiated() {
        let memory = memory(&[(0x2000, 32, 4, 0)]);
        put(&memory, 0x2000, &[(0x8000, 4, 1, 1), (0x9000, 4, 2, 0)]);
        let chain = follow(&memory, 1).unwrap();
        assert_eq!((chain.readable.length(), chain.writable.length()), (4, 4));
        assert_eq!(Chain::follow(&memory, TABLE, 1, 0, false), Err(Violation::Indirect));
        put(&memory, 0x2000, &[(0x3000, 16, 4, 0)]);
        assert_eq!(follow(&memory, 1), Err(Violation::Indirect), "nested");
        put(&memory, TABLE, &[(0x2000, 24, 4, 0)]);
        assert_eq!(follow(&memory, 1), Err(Violation::Indirect), "one and a half descriptors");
    }

    #[test]
    fn four_gibibytes_are_too_many() {
        let memory = Memory::new(1 << 32, 0).unwrap();
        put(&memory, TABLE, &[(0, 3 << 30, 1, 1), (0, 3 << 30, 0, 0)]);
        assert_eq!(follow(&memory, 2), Err(Violation::ChainTooLarge));
    }
}
