//! Which memory pages of a machine hold cached code, shared by all its vCPUs and by whoever writes to memory
//! behind their backs. A page is named by its memory offset; one bit for each 64-byte granule with code.

use std::ops::Range;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::pins::{Pins, Signal};

const PAGES_PER_CHUNK: usize = 1 << 15;
const CHUNKS: usize = 1 << 13;
/// Beyond this many unseen changes a vCPU drops all its code instead of listing them.
const LONGEST_LIST: usize = 1024;

type Chunk = [AtomicU64; PAGES_PER_CHUNK];

/// The code pages of one machine (up to 1 TiB of memory offsets; pages above are not cached).
#[derive(Debug)]
pub struct CodeWatch {
    chunks: Box<[AtomicPtr<Chunk>]>,
    members: Mutex<Vec<Option<Arc<Inbox>>>>,
}

/// What one vCPU has still to hear.
#[derive(Debug)]
struct Inbox {
    pins: Arc<Pins>,
    notices: Mutex<Notices>,
    /// The line whose writing wakes it (memory offset, 64 bytes), or [`NO_LINE`].
    line: AtomicU64,
}

const NO_LINE: u64 = u64::MAX;

/// Changes since a vCPU last asked.
#[derive(Debug, Default)]
pub struct Notices {
    /// Written code: memory offset of the page, granules.
    pub written: Vec<(u64, u64)>,
    /// Pages that another vCPU has begun to cache code of: direct write access must go.
    pub guarded: Vec<u64>,
    /// Too many to list: all of the above for all pages.
    pub everything: bool,
}

/// A vCPU's membership; leaving is dropping it.
#[derive(Debug)]
pub struct Member {
    watch: Arc<CodeWatch>,
    inbox: Arc<Inbox>,
    index: usize,
}

/// The granules of `start..end`, which lies in one page.
pub fn granules(start: u64, end: u64) -> u64 {
    // offsets within one page, end exclusive and above start
    let (first, last) = ((start & 0xFFF) >> 6, ((end - 1) & 0xFFF) >> 6);
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}

impl CodeWatch {
    /// Watches nothing yet.
    pub fn new() -> Arc<CodeWatch> {
        let chunks = (0..CHUNKS).map(|_| AtomicPtr::default()).collect();
        Arc::new(CodeWatch { chunks, members: Mutex::default() })
    }

    fn word(&self, offset: u64) -> Option<&AtomicU64> {
        let page = (offset >> 12) as usize;
        let chunk = self.chunks.get(page / PAGES_PER_CHUNK)?.load(Ordering::Acquire);
        // SAFETY: a non-null chunk was leaked from a box by `mark` and lives until `self` is dropped.
        unsafe { chunk.as_ref() }.map(|chunk| &chunk[page % PAGES_PER_CHUNK])
    }

    /// Granules with cached code in the page of this memory offset.
    #[inline]
    pub fn code_granules(&self, offset: u64) -> u64 {
        self.word(offset).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    /// Whether the page of this memory offset can be watched.
    pub fn can_watch(&self, offset: u64) -> bool {
        (offset >> 12) < (CHUNKS * PAGES_PER_CHUNK) as u64
    }

    /// Something other than a software vCPU's own store (a device, the monitor) wrote to memory.
    pub fn wrote(&self, range: Range<u64>) {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min((start | 0xFFF) + 1);
            self.wrote_in_page(start, end, None);
            start = end;
        }
    }

    /// Takes the granules of `start..end` (one page) off the map, telling every vCPU but `author`.
    fn wrote_in_page(&self, start: u64, end: u64, author: Option<usize>) -> u64 {
        let Some(word) = self.word(start) else { return 0 };
        let hit = granules(start, end) & word.load(Ordering::SeqCst);
        if hit != 0 {
            word.fetch_and(!hit, Ordering::SeqCst);
            let page = start & !0xFFF;
            self.tell(author, |notices| notices.written.push((page, hit)));
            self.wake(author, |line| line & !0xFFF == page && hit >> ((line & 0xFFF) >> 6) & 1 != 0);
        }
        hit
    }

    fn tell(&self, author: Option<usize>, what: impl Fn(&mut Notices)) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, inbox) in members.iter().enumerate() {
            let Some(inbox) = inbox.as_ref().filter(|_| author != Some(index)) else { continue };
            let mut notices = inbox.notices.lock().unwrap_or_else(PoisonError::into_inner);
            if notices.written.len() + notices.guarded.len() >= LONGEST_LIST {
                *notices = Notices { everything: true, ..Notices::default() };
            }
            if !notices.everything {
                what(&mut notices);
            }
            drop(notices);
            inbox.pins.raise(Signal::CodeChanged);
        }
    }

    /// Wakes the vCPUs that wait for such a line to be written. After they were told.
    fn wake(&self, author: Option<usize>, is_written: impl Fn(u64) -> bool) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let others = members.iter().enumerate().filter(|&(index, _)| author != Some(index));
        for inbox in others.filter_map(|(_, inbox)| inbox.as_ref()) {
            let line = inbox.line.load(Ordering::SeqCst);
            if line != NO_LINE && is_written(line) {
                inbox.pins.wake();
            }
        }
    }

    /// Takes a vCPU in.
    pub fn join(self: &Arc<CodeWatch>, pins: Arc<Pins>) -> Member {
        let inbox = Arc::new(Inbox { pins, notices: Mutex::default(), line: AtomicU64::new(NO_LINE) });
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let index = members.iter().position(Option::is_none).unwrap_or(members.len());
        if index == members.len() {
            members.push(None);
        }
        members[index] = Some(inbox.clone());
        drop(members);
        Member { watch: self.clone(), inbox, index }
    }
}

impl Drop for CodeWatch {
    fn drop(&mut self) {
        for chunk in self.chunks.iter_mut() {
            let chunk = std::mem::take(chunk.get_mut());
            if !chunk.is_null() {
                // SAFETY: it came from `Box::into_raw` in `mark`, and nobody else can see it any more.
                drop(unsafe { Box::from_raw(chunk) });
            }
        }
    }
}

impl Member {
    /// The map itself.
    pub fn watch(&self) -> &Arc<CodeWatch> {
        &self.watch
    }

    /// Granules with cached code in the page of this memory offset.
    #[inline]
    pub fn code_granules(&self, offset: u64) -> u64 {
        self.watch.code_granules(offset)
    }

    /// This vCPU is about to cache code in `start..end` (one page). True if the page had none before: this
    /// vCPU must drop its own direct write access; the others are told to.
    pub fn mark(&self, start: u64, end: u64) -> bool {
        let page = (start >> 12) as usize;
        let Some(slot) = self.watch.chunks.get(page / PAGES_PER_CHUNK) else { return false };
        if slot.load(Ordering::Acquire).is_null() {
            let fresh: Box<Chunk> = (0..PAGES_PER_CHUNK)
                .map(|_| AtomicU64::new(0))
                .collect::<Vec<_>>()
                .into_boxed_slice()
                .try_into()
                .expect("the length is the chunk's");
            let fresh = Box::into_raw(fresh);
            let null = std::ptr::null_mut();
            if slot.compare_exchange(null, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: it was made above and not published.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
        let word = self.watch.word(start).expect("the chunk is there");
        let bits = granules(start, end);
        if word.load(Ordering::SeqCst) & bits == bits {
            return false;
        }
        let before = word.fetch_or(bits, Ordering::SeqCst);
        if before == 0 {
            self.watch.tell(Some(self.index), |notices| notices.guarded.push(start & !0xFFF));
        }
        before == 0
    }

    /// This vCPU stored to `start..end` (one page); which granules of cached code that hit.
    pub fn wrote(&self, start: u64, end: u64) -> u64 {
        self.watch.wrote_in_page(start, end, Some(self.index))
    }

    /// This vCPU may have stored anything to this page before it was told of code there: everyone else
    /// must look again.
    pub fn may_have_written(&self, page: u64) {
        self.watch.wrote_in_page(page, page + 0x1000, Some(self.index));
    }

    /// Whether, and for the writing of which marked line (memory offset, 64 bytes), this vCPU waits. From then on
    /// its pins' wake is called; what was told before is on its pins.
    pub fn wait_for(&self, line: Option<u64>) {
        self.inbox.line.store(line.unwrap_or(NO_LINE), Ordering::SeqCst);
    }

    /// What others did since the last call.
    pub fn notices(&self) -> Notices {
        std::mem::take(&mut *self.inbox.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut members = self.watch.members.lock().unwrap_or_else(PoisonError::into_inner);
        members[self.index] = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_told_to_everyone_but_its_author_and_only_where_code_is() {
        let watch = CodeWatch::new();
        let pins = [Arc::new(Pins::new()), Arc::new(Pins::new())];
        let [a, b] = [watch.join(pins[0].clone()), watch.join(pins[1].clone())];
        assert!(a.mark(0x1040, 0x1050));
        assert_eq!(b.notices().guarded, [0x1000]);
        pins[1].take(Signal::CodeChanged);
        assert_eq!(b.wrote(0x1000, 0x1040), 0);
        assert!(!pins[0].is_raised(Signal::CodeChanged));
        assert_eq!(b.wrote(0x103F, 0x1041), 0b10);
        assert_eq!(a.notices().written, [(0x1000, 0b10)]);
        assert!(pins[0].is_raised(Signal::CodeChanged) && !pins[1].is_raised(Signal::CodeChanged));
        assert_eq!(watch.code_granules(0x1FFF), 0);
        a.mark(0x1FC0, 0x2000);
        watch.wrote(0x0..0x10_0000);
        assert_eq!(a.notices().written, [(0x1000, 1 << 63)]);
    }

    #[test]
    fn a_flood_of_changes_becomes_one_notice() {
        let watch = CodeWatch::new();
        let member = watch.join(Arc::new(Pins::new()));
        for page in 0..2000u64 {
            member.mark(page << 12, (page << 12) + 64);
            watch.wrote(page << 12..(page << 12) + 1);
        }
        assert!(member.notices().everything);
    }
}
