//! What all guest memory holds, in pages that several moments share where nothing changed between them: for many
//! checkpoints of one run.

use std::collections::HashSet;
use std::sync::Arc;

use crate::memory::{Memory, PAGE};

type Page = [u8; PAGE as usize];

/// The pages of a machine's memory that are not all zeros, in order.
#[derive(Clone, Debug, Default)]
pub struct Pages(Vec<(u64, Arc<Page>)>);

impl Pages {
    /// Memory they take besides the pages that were seen already, which these join.
    pub fn unseen_bytes(&self, seen: &mut HashSet<usize>) -> u64 {
        self.0.iter().filter(|(_, page)| seen.insert(Arc::as_ptr(page) as usize)).count() as u64 * PAGE
    }
}

impl Memory {
    /// Copies what memory holds, but for the pages that are as they were in `earlier`. Nothing may write to it
    /// meanwhile.
    pub fn pages_since(&self, earlier: &Pages) -> Pages {
        let mut known = earlier.0.iter().peekable();
        let mut pages = Vec::with_capacity(earlier.0.len());
        self.each_page(|offset, now| {
            while known.next_if(|(at, _)| *at < offset).is_some() {}
            let page = match known.peek() {
                Some((at, page)) if *at == offset && **page == *now => page.clone(),
                _ => Arc::new(*now),
            };
            pages.push((offset, page));
        });
        Pages(pages)
    }

    /// Puts back what memory held; only what differs is written. Nothing may use it meanwhile.
    pub fn set_pages(&self, pages: &Pages) {
        let mut now = Vec::new();
        let mut wanted = pages.0.iter().peekable();
        self.each_page(|offset, page| {
            while let Some((at, missing)) = wanted.next_if(|(at, _)| *at < offset) {
                now.push((*at, Some(missing.clone())));
            }
            match wanted.next_if(|(at, _)| *at == offset) {
                Some((_, same)) if **same == *page => {}
                Some((_, other)) => now.push((offset, Some(other.clone()))),
                None => now.push((offset, None)),
            }
        });
        now.extend(wanted.map(|(at, missing)| (*at, Some(missing.clone()))));
        for (offset, page) in now {
            let zeros: &Page = &[0; PAGE as usize];
            self.write_at(offset, page.as_deref().unwrap_or(zeros));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_back_and_share_what_did_not_change() {
        let memory = Memory::new(1 << 20, 1 << 16).unwrap();
        memory.dma_write(0x1000, &[1; 0x3000]);
        memory.dma_write(0x9000, &[9]);
        let (first, first_sum) = (memory.pages_since(&Pages::default()), memory.contents_sum());
        memory.dma_write(0x2010, &[7]);
        memory.dma_write(0x9000, &[0]);
        memory.write_at(1 << 20, &[5]); // behind RAM
        let (second, second_sum) = (memory.pages_since(&first), memory.contents_sum());
        let mut seen = HashSet::new();
        assert_eq!(first.unseen_bytes(&mut seen), 4 * PAGE);
        assert_eq!(second.unseen_bytes(&mut seen), 2 * PAGE);
        let written = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = written.clone();
        memory.observe_writes(move |range| log.lock().unwrap().push(range.start));
        memory.set_pages(&first);
        assert_eq!(memory.contents_sum(), first_sum);
        assert_eq!(*written.lock().unwrap(), [0x2000, 0x9000, 1 << 20]);
        memory.set_pages(&second);
        assert_eq!(memory.contents_sum(), second_sum);
    }
}
