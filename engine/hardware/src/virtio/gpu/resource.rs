//! A picture that the driver keeps in the device, and the guest memory behind it.

use serde::{Deserialize, Serialize};

use super::Answer;
use super::command::{ENTRIES_START, Rectangle};
use crate::memory::Memory;
use crate::vga::blob::cells;
use crate::virtio::chain::Buffer;

const PIXEL_BYTES: u64 = 4;
/// Bytes of an entry: address, length, padding.
const ENTRY_BYTES: u32 = 16;

/// Where blue, green, red and alpha lie in a pixel, §5.7.6.8 (`virtio_gpu_formats`); without alpha, `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Format {
    blue_green_red: [u8; 3],
    alpha: Option<u8>,
}

impl Format {
    fn of(number: u32) -> Option<Format> {
        let (blue_green_red, alpha) = match number {
            1 => ([0, 1, 2], Some(3)),   // B8G8R8A8
            2 => ([0, 1, 2], None),      // B8G8R8X8
            3 => ([3, 2, 1], Some(0)),   // A8R8G8B8
            4 => ([3, 2, 1], None),      // X8R8G8B8
            67 => ([2, 1, 0], Some(3)),  // R8G8B8A8
            68 => ([1, 2, 3], None),     // X8B8G8R8
            121 => ([1, 2, 3], Some(0)), // A8B8G8R8
            134 => ([2, 1, 0], None),    // R8G8B8X8
            _ => return None,
        };
        Some(Format { blue_green_red, alpha })
    }

    /// 0xAARRGGBB.
    fn colour(self, pixel: [u8; 4]) -> u32 {
        let byte = |at: u8| pixel[usize::from(at & 3)];
        let [blue, green, red] = self.blue_green_red.map(byte);
        u32::from_le_bytes([blue, green, red, self.alpha.map_or(0xFF, byte)])
    }
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    pub id: u32,
    format: Format,
    pub width: u32,
    pub height: u32,
    /// 0xAARRGGBB.
    #[serde(with = "cells")]
    pub pixels: Vec<u32>,
    pub backing: Option<Backing>,
}

impl Resource {
    /// A black one. The caller has looked at its size.
    pub fn new(id: u32, format: u32, width: u32, height: u32) -> Result<Resource, Answer> {
        let format =
            Format::of(format).filter(|_| width > 0 && height > 0).ok_or(Answer::InvalidParameter)?;
        let pixels = vec![0; width as usize * height as usize];
        Ok(Resource { id, format, width, height, pixels, backing: None })
    }

    /// Whether `part` is a part of it.
    pub fn holds(&self, part: Rectangle) -> Result<(), Answer> {
        part.is_inside(self.width, self.height).then_some(()).ok_or(Answer::InvalidParameter)
    }

    /// The pixels of a part that it holds.
    pub fn part(&self, part: Rectangle) -> Vec<u32> {
        let mut pixels = Vec::with_capacity(part.width as usize * part.height as usize);
        for line in 0..part.height {
            pixels.extend_from_slice(&self.pixels[self.line(part, line)]);
        }
        pixels
    }

    /// Where line `line` of `part` is.
    fn line(&self, part: Rectangle, line: u32) -> std::ops::Range<usize> {
        let start = (part.y + line) as usize * self.width as usize + part.x as usize;
        start..start + part.width as usize
    }

    /// Fetches `part` from guest memory, where its first pixel is at `offset` and lines are as long as the picture's.
    pub fn fetch(&mut self, part: Rectangle, offset: u64, memory: &Memory) -> Result<(), Answer> {
        self.holds(part)?;
        let stride = PIXEL_BYTES * u64::from(self.width);
        let last = stride * u64::from(part.height - 1) + PIXEL_BYTES * u64::from(part.width);
        let backing = self.backing.as_ref().ok_or(Answer::Unspecified)?;
        if offset.checked_add(last).is_none_or(|end| end > backing.bytes()) {
            return Err(Answer::InvalidParameter);
        }
        let mut reader = backing.reader();
        let mut bytes = vec![0; PIXEL_BYTES as usize * part.width as usize];
        for line in 0..part.height {
            reader.read(offset + stride * u64::from(line), &mut bytes, memory);
            let range = self.line(part, line);
            for (pixel, bytes) in self.pixels[range].iter_mut().zip(bytes.as_chunks::<4>().0) {
                *pixel = self.format.colour(*bytes);
            }
        }
        Ok(())
    }

    /// Whether a saved one can be one.
    pub fn is_sound(&self) -> bool {
        let pixels = u64::from(self.width) * u64::from(self.height);
        self.id != 0 && pixels > 0 && self.pixels.len() as u64 == pixels
    }
}

/// Pieces of guest memory that together hold a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backing(Vec<(u64, u32)>);

impl Backing {
    /// The `count` entries in `request`.
    pub fn read(request: &Buffer, count: u32, memory: &Memory) -> Result<Backing, Answer> {
        if request.length() < ENTRIES_START || (request.length() - ENTRIES_START) / ENTRY_BYTES < count {
            return Err(Answer::InvalidParameter);
        }
        let mut bytes = vec![[0; ENTRY_BYTES as usize]; count as usize];
        request.read(memory, ENTRIES_START, bytes.as_flattened_mut());
        let pieces = bytes.into_iter().map(|entry| {
            let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, ..] = entry;
            let address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
            let length = u32::from_le_bytes([l0, l1, l2, l3]);
            memory.is_ram(address, length.into()).then_some((address, length)).ok_or(Answer::InvalidParameter)
        });
        Ok(Backing(pieces.collect::<Result<_, _>>()?))
    }

    /// Number of pieces.
    pub fn entries(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, length)| u64::from(*length)).sum()
    }

    fn reader(&self) -> Reader<'_> {
        Reader { pieces: &self.0, start: 0 }
    }
}

/// Reads pieces from front to back.
struct Reader<'a> {
    /// The piece that was read last, and those after it.
    pieces: &'a [(u64, u32)],
    /// Where it begins in the whole.
    start: u64,
}

impl Reader<'_> {
    /// Reads from `offset`, which is never less than it was.
    fn read(&mut self, mut offset: u64, mut bytes: &mut [u8], memory: &Memory) {
        while let (Some((address, length)), false) = (self.pieces.first(), bytes.is_empty()) {
            let length = u64::from(*length);
            let inside = offset - self.start;
            if inside >= length {
                self.start += length;
                self.pieces = &self.pieces[1..];
                continue;
            }
            let (now, rest) = bytes.split_at_mut(((length - inside) as usize).min(bytes.len()));
            memory.dma_read(address.wrapping_add(inside), now);
            offset += now.len() as u64;
            bytes = rest;
        }
    }
}
