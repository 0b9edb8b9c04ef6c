//! What all guest memory holds, page by page: taken, put back, and summed up. Pages of zeros are left out, so that
//! memory nobody has used costs nothing.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};

use crate::memory::{Memory, PAGE};

/// The pages of a machine's memory (RAM, ROMs, video memory) that are not all zeros, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    offsets: Vec<u64>,
    bytes: Vec<u8>,
}

impl Contents {
    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Its pages, each with its place in memory. Some may be zeros.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.offsets.iter().copied().zip(self.bytes.chunks_exact(PAGE as usize))
    }

    /// Makes what was copied while the guest ran equal to what `memory` holds now; gives how many pages had
    /// changed. Nothing may write to memory meanwhile. Comparing is faster than copying into fresh room, so that
    /// the guest stands still for a shorter time. Pages that are new come last.
    pub fn caught_up(mut self, memory: &Memory) -> (Contents, usize) {
        let (known, mut next, mut changed) = (self.offsets.len(), 0, 0);
        let room = |n: usize| n * PAGE as usize..(n + 1) * PAGE as usize;
        memory.each_page(|offset, page| {
            // Pages that became zeros, or were given back, are not visited.
            while next < known && self.offsets[next] < offset {
                self.bytes[room(next)].fill(0);
                changed += 1;
                next += 1;
            }
            if next < known && self.offsets[next] == offset {
                if self.bytes[room(next)] != *page {
                    self.bytes[room(next)].copy_from_slice(page);
                    changed += 1;
                }
                next += 1;
            } else {
                self.offsets.push(offset);
                self.bytes.extend(page);
                changed += 1;
            }
        });
        self.bytes[room(next).start..room(known).start].fill(0);
        (self, changed + known - next)
    }
}

impl Memory {
    /// Copies what memory holds. What is written meanwhile may be in it or not, in parts.
    pub fn contents(&self) -> Contents {
        let mut contents = Contents::default();
        contents.bytes.reserve(self.spent_bytes().min(self.host_bytes()) as usize);
        self.each_page(|offset, page| {
            contents.offsets.push(offset);
            contents.bytes.extend(page);
        });
        contents
    }

    /// Puts back what memory held. Nothing may use it meanwhile.
    pub fn set_contents(&self, contents: &Contents) -> io::Result<()> {
        self.forget()?;
        for (offset, page) in contents.pages() {
            self.write_at(offset, page);
        }
        Ok(())
    }

    /// Makes zeros of all memory, and gives it back to the host. Nothing may use it meanwhile.
    pub fn forget(&self) -> io::Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(self.file().as_fd(), hole, 0, self.host_bytes())?;
        self.wrote(0..self.host_bytes());
        Ok(())
    }

    /// A number that differs, but for the unlikeliest chance, where contents differ (64-bit FNV-1a over qwords).
    pub fn contents_sum(&self) -> u64 {
        let mut sum = 0xCBF2_9CE4_8422_2325_u64;
        let mut add = |word: u64| sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(29);
        self.each_page(|offset, page| {
            add(offset);
            page.as_chunks::<8>().0.iter().for_each(|word| add(u64::from_le_bytes(*word)));
        });
        sum
    }

    /// Calls `act` with each page that is not all zeros.
    pub(crate) fn each_page(&self, mut act: impl FnMut(u64, &[u8; PAGE as usize])) {
        let (file, end) = (self.file().as_fd(), self.host_bytes());
        let mut page = [0; PAGE as usize];
        let mut at = 0;
        // What the host has never given a page is not looked at.
        while let Some(start) = seek(file, SeekFrom::Data(at)).ok().filter(|start| *start < end) {
            let stop = seek(file, SeekFrom::Hole(start)).unwrap_or(end).min(end);
            for offset in (start.max(at) & !(PAGE - 1)..stop).step_by(PAGE as usize) {
                self.read_at(offset, &mut page);
                if page != [0; PAGE as usize] {
                    act(offset, &page);
                }
            }
            at = stop.max(start + PAGE);
            if at >= end {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_come_back_and_their_sum_tells_them_apart() {
        let memory = Memory::new(1 << 20, 1 << 16).unwrap();
        memory.dma_write(0x1800, &[1; 0x1000]);
        memory.write_at(1 << 20, &[2]); // behind RAM
        let (before, sum) = (memory.contents(), memory.contents_sum());
        assert_eq!((before.offsets.as_slice(), before.bytes()), (&[0x1000, 0x2000, 1 << 20][..], 3 * 4096));
        memory.dma_write(0x1800, &[0]);
        memory.dma_write(0x8000, &[9]);
        assert_ne!(memory.contents_sum(), sum);
        memory.set_contents(&before).unwrap();
        assert_eq!((memory.contents(), memory.contents_sum()), (before, sum));
        memory.dma_write(0x9000, &[0]); // touched, and still zeros
        assert_eq!(memory.contents_sum(), sum);
    }

    #[test]
    fn what_changed_since_it_was_copied_is_caught_up() {
        let memory = Memory::new(1 << 20, 0).unwrap();
        for page in [2u64, 3, 5, 9] {
            memory.dma_write(page << 12, &[page as u8; 4096]);
        }
        let contents = memory.contents();
        memory.dma_write(1 << 12, &[1]); // new, before all
        memory.dma_write(3 << 12, &[0; 4096]); // zeros now
        memory.dma_write((5 << 12) + 7, &[0xEE]);
        assert!(memory.discard(9 << 12, 4096)); // given back, after all
        memory.dma_write(7 << 12, &[7]);
        let (contents, changed) = contents.caught_up(&memory);
        assert_eq!(changed, 5);
        let other = Memory::new(1 << 20, 0).unwrap();
        other.set_contents(&contents).unwrap();
        assert_eq!((other.contents(), other.contents_sum()), (memory.contents(), memory.contents_sum()));
    }
}
