//! The log of an image that was not closed, replayed in memory: the file is left as it is.
//! Source: \[MS-VHDX\] 2.3.

use std::io;
use std::path::Path;

use super::crc32c::crc32c;
use crate::fields::{le32, le64};
use crate::store::{Run, Store, read_exact};

/// Entries, descriptors and data are counted in these.
const SECTOR: u64 = 4096;
/// Largest log that is read; programs make logs of 1 MiB.
pub const LOG_MAX_BYTES: u64 = 32 << 20;
/// How often the whole log may be checksummed in search of its newest sequence.
const PASSES: u64 = 16;

/// What the log says a part of the file should hold.
enum Patch {
    Zeros { offset: u64, length_bytes: u64 },
    Data { offset: u64, bytes: Box<[u8]> },
}

/// A file as it would be with its log replayed.
pub struct Replayed {
    store: Box<dyn Store>,
    patches: Vec<Patch>,
    length_bytes: u64,
}

/// One entry of the log.
struct Entry {
    sequence: u64,
    tail: u64,
    length_bytes: u64,
    last_file_bytes: u64,
    bytes: Vec<u8>,
}

impl Replayed {
    /// Replays the log at `offset` of `length_bytes`, whose entries bear `id`.
    pub fn new(
        store: Box<dyn Store>,
        offset: u64,
        length_bytes: u64,
        id: &[u8],
    ) -> Result<Replayed, io::Error> {
        let log = read_exact(&*store, offset, length_bytes)?;
        let mut replayed = Replayed { length_bytes: store.length_bytes(), store, patches: Vec::new() };
        let entries = newest_sequence(&log, id)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no sequence of its log is whole"))?;
        for entry in entries {
            replayed.length_bytes = replayed.length_bytes.max(entry.last_file_bytes);
            replayed.add(&entry)?;
        }
        Ok(replayed)
    }

    fn add(&mut self, entry: &Entry) -> Result<(), io::Error> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("its log: {what}"));
        let count = u64::from(le32(&entry.bytes, 24));
        let descriptors_end = 64 + count * 32;
        let mut data = descriptors_end.next_multiple_of(SECTOR);
        for at in (64..descriptors_end).step_by(32) {
            let Some(descriptor) = entry.bytes.get(at as usize..at as usize + 32) else {
                return Err(wrong("a descriptor lies outside its entry"));
            };
            let offset = le64(descriptor, 16);
            match &descriptor[..4] {
                b"zero" => self.patches.push(Patch::Zeros { offset, length_bytes: le64(descriptor, 8) }),
                b"desc" => {
                    let Some(sector) = entry.bytes.get(data as usize..(data + SECTOR) as usize) else {
                        return Err(wrong("data lie outside their entry"));
                    };
                    // The ends of the sector, where the data sector has its own marks, are in the descriptor.
                    let mut bytes = sector.to_vec();
                    bytes[..8].copy_from_slice(&descriptor[8..16]);
                    bytes[4092..].copy_from_slice(&descriptor[4..8]);
                    self.patches.push(Patch::Data { offset, bytes: bytes.into() });
                    data += SECTOR;
                }
                _ => return Err(wrong("a descriptor is of no known kind")),
            }
        }
        Ok(())
    }
}

/// The entries of the newest sequence that is whole, from its tail.
fn newest_sequence(log: &[u8], id: &[u8]) -> Option<Vec<Entry>> {
    let length = log.len() as u64;
    let mut budget = PASSES * length;
    let mut best: Option<(u64, u64)> = None;
    for start in (0..length).step_by(SECTOR as usize) {
        let Some(first) = entry_at(log, start, id, &mut budget) else { continue };
        let (mut head, mut at, mut walked) = (first, start, 0);
        loop {
            walked += head.length_bytes;
            at = (at + head.length_bytes) % length;
            match entry_at(log, at, id, &mut budget) {
                Some(next) if walked < length && next.sequence == head.sequence.wrapping_add(1) => {
                    head = next
                }
                _ => break,
            }
        }
        // The newest entry names where its sequence starts; only that start is the tail.
        if head.tail == start && best.is_none_or(|(sequence, _)| head.sequence > sequence) {
            best = Some((head.sequence, start));
        }
    }
    let (last, mut at) = best?;
    budget = PASSES * length;
    let mut entries = Vec::new();
    while entries.last().is_none_or(|entry: &Entry| entry.sequence != last) {
        let entry = entry_at(log, at, id, &mut budget)?;
        at = (at + entry.length_bytes) % length;
        entries.push(entry);
    }
    Some(entries)
}

/// The entry at an offset of the log, which is a ring, if there is a whole one.
fn entry_at(log: &[u8], at: u64, id: &[u8], budget: &mut u64) -> Option<Entry> {
    let head = log.get(at as usize..at as usize + 64)?;
    let length_bytes = u64::from(le32(head, 8));
    let is_entry = head.starts_with(b"loge")
        && &head[32..48] == id
        && length_bytes > 0
        && length_bytes <= log.len() as u64
        && length_bytes.is_multiple_of(SECTOR)
        && le64(head, 16) != 0;
    if !is_entry || *budget < length_bytes {
        return None;
    }
    *budget -= length_bytes;
    let (at, length) = (at as usize, length_bytes as usize);
    let mut bytes = log[at..log.len().min(at + length)].to_vec();
    bytes.extend_from_slice(&log[..length - bytes.len()]);
    if crc32c(&bytes, 4) != le32(&bytes, 4) {
        return None;
    }
    Some(Entry {
        sequence: le64(&bytes, 16),
        tail: le32(&bytes, 12).into(),
        length_bytes,
        last_file_bytes: le64(&bytes, 56),
        bytes,
    })
}

impl Store for Replayed {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.store.read_at(offset, buffer)?;
        let end = offset + buffer.len() as u64;
        for patch in &self.patches {
            let (from, length, bytes) = match patch {
                Patch::Zeros { offset, length_bytes } => (*offset, *length_bytes, None),
                Patch::Data { offset, bytes } => (*offset, bytes.len() as u64, Some(bytes)),
            };
            let (first, last) = (from.max(offset), from.saturating_add(length).min(end));
            if first < last {
                let part = &mut buffer[(first - offset) as usize..(last - offset) as usize];
                match bytes {
                    None => part.fill(0),
                    Some(bytes) => part.copy_from_slice(&bytes[(first - from) as usize..][..part.len()]),
                }
            }
        }
        Ok(())
    }

    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_length(&mut self, _length_bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn punch(&mut self, _offset: u64, _length_bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn run_at(&self, offset: u64) -> io::Result<Run> {
        Ok(Run { length_bytes: self.length_bytes.saturating_sub(offset), is_hole: false })
    }

    fn path(&self) -> &Path {
        self.store.path()
    }
}
