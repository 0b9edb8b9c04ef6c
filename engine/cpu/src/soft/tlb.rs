//! The software TLB's tables: tag compare that also rejects page crossings, one table each for reads,
//! writes and instruction fetches, one set for user and one for supervisor accesses. `memory.rs` fills them.

/// Entries in each table.
pub const ENTRIES: usize = 1024;

/// Slots remembered one by one, so that a flush soon after another costs little.
const FEW: usize = 96;

/// A tag that no access matches.
pub const EMPTY: u64 = 1;

/// Added to the tag of a write entry whose page holds cached code: misses the fast path, but lets the slow
/// path find host address and memory offset without a page walk.
pub const WATCHED: u64 = 2;

/// Data translation of one linear page.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DataEntry {
    /// Linear address of the page, or [`EMPTY`], or with [`WATCHED`].
    pub tag: u64,
    /// Added (wrapping) to a linear address gives the host address.
    pub addend: u64,
}

/// Translation of one linear page for instruction fetches.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CodeEntry {
    /// Linear address of the page, or [`EMPTY`].
    pub tag: u64,
    /// Host address of the page's first byte.
    pub host: *const u8,
    /// [`crate::HostPage::offset`] of the page: what code is cached under.
    pub offset: u64,
}

/// The translations for one privilege.
#[derive(Debug)]
#[repr(C)]
pub struct TlbSet {
    /// For reads.
    pub read: [DataEntry; ENTRIES],
    /// For writes: only to pages that are writable, dirty and hold no cached code.
    pub write: [DataEntry; ENTRIES],
    /// For fetches.
    pub code: [CodeEntry; ENTRIES],
    /// Memory offset of the page behind `write` entries of the same index.
    pub write_offset: [u64; ENTRIES],
    /// The slots filled since the last clear, if they are few.
    filled: [u16; FEW],
    /// How many there were; above [`FEW`] anything may be filled.
    fills: u32,
    /// The same for those filled from pages that are not global.
    local: [u16; FEW],
    locals: u32,
}

/// The slot of a linear address; folds high page-number bits in, so that large strides do not collide.
///
/// Sums, not exclusive-ors: two adjacent pages must never share a slot, because a hit compares the page of
/// the last byte only (0x7FFFF and 0x80000 would, and an access over their border would then read host
/// memory before the page).
#[inline(always)]
pub const fn slot(linear: u64) -> usize {
    let page = linear >> 12;
    page.wrapping_add(page >> 10).wrapping_add(page >> 20) as usize & (ENTRIES - 1)
}

impl TlbSet {
    /// A set with nothing in it, on the heap.
    pub fn new() -> Box<TlbSet> {
        let mut set = Box::<TlbSet>::new_uninit();
        let at = set.as_mut_ptr();
        for index in 0..ENTRIES {
            // SAFETY: every field of the allocation is written exactly here, index is in range.
            unsafe {
                (&raw mut (*at).read[index]).write(DataEntry { tag: EMPTY, addend: 0 });
                (&raw mut (*at).write[index]).write(DataEntry { tag: EMPTY, addend: 0 });
                let code = CodeEntry { tag: EMPTY, host: std::ptr::null(), offset: u64::MAX };
                (&raw mut (*at).code[index]).write(code);
                (&raw mut (*at).write_offset[index]).write(u64::MAX);
            }
        }
        // SAFETY: they are inside the allocation, and with it every field is initialised.
        unsafe {
            (&raw mut (*at).filled).write([0; FEW]);
            (&raw mut (*at).fills).write(0);
            (&raw mut (*at).local).write([0; FEW]);
            (&raw mut (*at).locals).write(0);
            set.assume_init()
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        let fills = std::mem::take(&mut self.fills) as usize;
        self.locals = 0;
        if fills <= FEW {
            for index in 0..fills {
                self.clear_slot(usize::from(self.filled[index]));
            }
        } else {
            for index in 0..ENTRIES {
                self.clear_slot(index);
            }
        }
    }

    /// Forgets everything but global pages.
    pub fn clear_local(&mut self) {
        let locals = std::mem::take(&mut self.locals) as usize;
        if locals > FEW {
            return self.clear();
        }
        for index in 0..locals {
            self.clear_slot(usize::from(self.local[index]));
        }
    }

    /// Whether nothing was filled since the last clear.
    pub fn is_empty(&self) -> bool {
        self.fills == 0
    }

    fn clear_slot(&mut self, index: usize) {
        self.read[index].tag = EMPTY;
        self.write[index].tag = EMPTY;
        self.code[index].tag = EMPTY;
    }

    /// Must be called for every slot something is filled into, with whether its page is global.
    pub fn note_fill(&mut self, index: usize, global: bool) {
        if let Some(place) = self.filled.get_mut(self.fills as usize) {
            *place = index as u16;
        }
        self.fills = self.fills.saturating_add(1);
        if !global {
            if let Some(place) = self.local.get_mut(self.locals as usize) {
                *place = index as u16;
            }
            self.locals = self.locals.saturating_add(1);
        }
    }

    /// Forgets one linear page.
    pub fn clear_page(&mut self, linear: u64) {
        self.clear_slot(slot(linear));
    }

    /// Host address for a read that hits and stays inside its page.
    #[inline(always)]
    pub fn read_hit<T>(&self, linear: u64) -> Option<*const T> {
        Self::hit(&self.read, linear, size_of::<T>() as u64).map(|host| host as *const T)
    }

    /// Host address for a write that hits and stays inside its page.
    #[inline(always)]
    pub fn write_hit<T>(&self, linear: u64) -> Option<*mut T> {
        Self::hit(&self.write, linear, size_of::<T>() as u64).map(|host| host as *mut T)
    }

    /// Host address for an access of so many bytes that hits and stays inside its page.
    #[inline(always)]
    pub fn hit(table: &[DataEntry; ENTRIES], linear: u64, bytes: u64) -> Option<u64> {
        let entry = &table[slot(linear)];
        if linear.wrapping_add(bytes - 1) & !0xFFF == entry.tag {
            Some(linear.wrapping_add(entry.addend))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_what_is_local_keeps_global_pages_however_many_there_are() {
        let mut set = TlbSet::new();
        for (page, global) in [(0x1000, true), (0x2000, false)] {
            set.read[slot(page)].tag = page;
            set.note_fill(slot(page), global);
        }
        set.clear_local();
        assert!(set.read_hit::<u8>(0x1000).is_some() && set.read_hit::<u8>(0x2000).is_none());
        (0..2 * FEW).for_each(|_| set.note_fill(slot(0x1000), true));
        set.clear_local();
        assert!(set.read_hit::<u8>(0x1000).is_some());
        (0..2 * FEW).for_each(|_| set.note_fill(slot(0x1000), false));
        set.clear_local();
        assert!(set.is_empty() && set.read_hit::<u8>(0x1000).is_none());
    }

    #[test]
    fn adjacent_pages_never_share_a_slot() {
        let carries = (0..52).map(|bits| (1u64 << bits) - 1);
        for page in carries.chain(0x7_0000..0x9_0000).chain([0x7FFFF, 0xF_FFFF, 0x7_FFFF_FFFF]) {
            assert_ne!(slot(page << 12), slot(page.wrapping_add(1) << 12), "{page:#x}");
        }
    }
}
