//! One request of a block driver: parsed in the access that brings it, done in the worker. Virtio 1.2 §5.2.6.

use storage::DiskError;
use storage::disk::SECTOR;

use crate::ide::Bay;
use crate::memory::Memory;
use crate::virtio::chain::{Buffer, Chain, Violation};

/// Request types.
mod kind {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// Status bytes.
pub mod status {
    /// Done.
    pub const OK: u8 = 0;
    /// Not done.
    pub const IO_ERROR: u8 = 1;
    /// Not known.
    pub const UNSUPPORTED: u8 = 2;
}

/// Most sectors of one discarded range.
pub const DISCARD_MAX_SECTORS: u32 = 1 << 22;
/// Most sectors of one range of zeros.
pub const ZEROES_MAX_SECTORS: u32 = 1 << 17;
/// Most ranges of one request.
pub const RANGES_MAX: u32 = 16;
/// Type, reserved, sector.
const HEADER_BYTES: u32 = 16;
/// Sector, count, flags of one range.
const RANGE_BYTES: usize = 16;
/// Moved at a time between memory and disk.
const PIECE_BYTES: u32 = 1 << 20;
const UNMAP: u32 = 1;

/// A request whose buffers are RAM.
#[derive(Debug)]
pub struct Request {
    kind: u32,
    sector: u64,
    /// What follows the header.
    sent: Buffer,
    /// What lies before the status byte.
    room: Buffer,
    status: Buffer,
}

/// How it ended.
pub struct Answer {
    pub status: u8,
    /// Bytes written to the driver before the status byte.
    pub written: u32,
}

impl Request {
    /// Takes a chain apart.
    pub fn parse(chain: Chain, memory: &Memory) -> Result<Request, Violation> {
        let header: Option<[u8; HEADER_BYTES as usize]> = chain.readable.read_array(memory);
        let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header.ok_or(Violation::Request("its header"))?;
        let room = chain.writable.length().checked_sub(1);
        let (room, status) = chain.writable.split(room.ok_or(Violation::Request("its status byte"))?);
        Ok(Request {
            kind: u32::from_le_bytes([k0, k1, k2, k3]),
            sector: u64::from_le_bytes(sector),
            sent: chain.readable.split(HEADER_BYTES).1,
            room,
            status,
        })
    }

    /// Tells the driver how it ended.
    pub fn answer(&self, memory: &Memory, status: u8) {
        self.status.write(memory, 0, &[status]);
    }

    /// Does it. With `durable`, what is written is on the host's disk afterwards.
    pub fn perform(&self, bay: &mut Bay, memory: &Memory, serial: &[u8], durable: bool) -> Answer {
        bay.count.commands += 1;
        let mut written = 0;
        let result = match self.kind {
            kind::IN => self.read(bay, memory, &mut written),
            kind::OUT => self.write(bay, memory).and_then(|()| settle(bay, durable)),
            kind::FLUSH => bay.flush(),
            kind::GET_ID => {
                written = self.room.write(memory, 0, serial) as u32;
                Ok(())
            }
            kind::DISCARD | kind::WRITE_ZEROES => match self.ranges(bay, memory) {
                Some(result) => result.and_then(|()| settle(bay, durable)),
                None => return Answer { status: status::UNSUPPORTED, written: 0 },
            },
            _ => return Answer { status: status::UNSUPPORTED, written: 0 },
        };
        Answer { status: if result.is_ok() { status::OK } else { status::IO_ERROR }, written }
    }

    /// Where on the disk `length` bytes go: whole sectors inside it.
    fn place(&self, bay: &Bay, length: u32) -> Result<u64, DiskError> {
        let out_of_range = DiskError::OutOfRange { offset: self.sector, bytes: length.into() };
        let start = self.sector.checked_mul(SECTOR);
        let end = start.and_then(|start| start.checked_add(length.into()));
        match (start, end) {
            (Some(start), Some(end))
                if end <= bay.length_bytes() && u64::from(length).is_multiple_of(SECTOR) =>
            {
                Ok(start)
            }
            _ => Err(out_of_range),
        }
    }

    fn read(&self, bay: &mut Bay, memory: &Memory, written: &mut u32) -> Result<(), DiskError> {
        let length = self.room.length();
        let start = self.place(bay, length)?;
        let mut piece = vec![0; length.min(PIECE_BYTES) as usize];
        while *written < length {
            let now = (length - *written).min(PIECE_BYTES) as usize;
            bay.read(start + u64::from(*written), &mut piece[..now])?;
            *written += self.room.write(memory, *written, &piece[..now]) as u32;
        }
        Ok(())
    }

    fn write(&self, bay: &mut Bay, memory: &Memory) -> Result<(), DiskError> {
        let length = self.sent.length();
        let start = self.place(bay, length)?;
        if bay.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        let mut piece = vec![0; length.min(PIECE_BYTES) as usize];
        let mut done = 0;
        while done < length {
            let now = (length - done).min(PIECE_BYTES) as usize;
            self.sent.read(memory, done, &mut piece[..now]);
            bay.write(start + u64::from(done), &piece[..now])?;
            done += now as u32;
        }
        Ok(())
    }

    /// Discards, or writes zeros to, the ranges sent; `None` if a range asks for what is not known.
    fn ranges(&self, bay: &mut Bay, memory: &Memory) -> Option<Result<(), DiskError>> {
        let length = self.sent.length();
        let whole = (length as usize).is_multiple_of(RANGE_BYTES) && length > 0;
        if !whole || length as usize / RANGE_BYTES > RANGES_MAX as usize {
            return Some(Err(DiskError::OutOfRange { offset: 0, bytes: length.into() }));
        }
        let mut bytes = vec![0; length as usize];
        self.sent.read(memory, 0, &mut bytes);
        let zero = self.kind == kind::WRITE_ZEROES;
        for range in bytes.chunks_exact(RANGE_BYTES) {
            let word =
                |at: usize| u32::from_le_bytes([range[at], range[at + 1], range[at + 2], range[at + 3]]);
            let (sector, count, flags) = (u64::from(word(4)) << 32 | u64::from(word(0)), word(8), word(12));
            // Unmapping is only a wish, and only of zeros, §5.2.6.1.
            if flags & !UNMAP != 0 || flags != 0 && !zero {
                return None;
            }
            let most = if zero { ZEROES_MAX_SECTORS } else { DISCARD_MAX_SECTORS };
            if let Err(error) = wipe(bay, sector, count, most, zero) {
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }
}

fn settle(bay: &mut Bay, durable: bool) -> Result<(), DiskError> {
    if durable { bay.flush() } else { Ok(()) }
}

fn wipe(bay: &mut Bay, sector: u64, count: u32, most: u32, zero: bool) -> Result<(), DiskError> {
    let bytes = u64::from(count) * SECTOR;
    let sectors = bay.length_bytes() / SECTOR;
    let inside = sector.checked_add(count.into()).is_some_and(|end| end <= sectors);
    if !inside || count > most {
        return Err(DiskError::OutOfRange { offset: sector.saturating_mul(SECTOR), bytes });
    }
    let medium = bay.medium.as_mut().filter(|medium| !medium.is_read_only()).ok_or(DiskError::ReadOnly)?;
    match zero {
        true => medium.write_zeros(sector * SECTOR, bytes),
        false => medium.discard(sector * SECTOR, bytes),
    }
}
