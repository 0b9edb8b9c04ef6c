//! The second level of the software TLB: whole translations, so that refilling a first-level entry costs
//! no page walk, and global pages outlive a CR3 load. Every address space (PCID) has an epoch of its own: leaving
//! and entering it costs nothing, and flushing it is giving it a fresh one.

use crate::bus::HostPage;
use crate::soft::walk::{Access, Privilege, Translation};

const ENTRIES: usize = 2048;
/// Process-context identifiers (Intel SDM 3A, 4.10.1).
const SPACES: usize = 1 << 12;
/// A tag no page has: tags have their low twelve bits clear.
const NO_PAGE: u64 = 1;

/// What is known of one linear page.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    tag: u64,
    epoch: u32,
    /// One bit per (privilege, access) that needs no walk.
    permits: u16,
    /// In every address space.
    pub global: bool,
    /// Guest-physical page.
    pub physical: u64,
    /// Its backing.
    pub host: HostPage,
}

/// The remembered translations of one vCPU.
#[derive(Clone, Debug)]
pub struct Translations {
    entries: Box<[Entry]>,
    /// The space entries are found and remembered for.
    space: u16,
    /// Its epoch.
    epoch: u32,
    /// Of global pages.
    global_epoch: u32,
    /// The epoch each space had when it was last left or flushed.
    epochs: Box<[u32; SPACES]>,
    /// Epochs below are over: their spaces have nothing left.
    oldest: u32,
    /// The last one given out, to a space or to the global pages.
    newest: u32,
    /// A global page was seen at an address whose slot depends on the space.
    scattered: bool,
    /// 2 MiB regions (hashed) that hold fragments of large pages.
    large_regions: [u64; 64],
    /// A page larger than 4 MiB was seen since the last full flush.
    huge: bool,
}

/// What has to be dropped elsewhere for one INVLPG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The 4 KiB page alone.
    Page,
    /// Everything: the page was, or may have been, a fragment of a larger one, or is in several places.
    All,
}

// SAFETY: the host pointers are only followed by the vCPU that owns the table, while the machine whose
// memory they point to lives; moving the owner between threads changes neither.
unsafe impl Send for Translations {}

fn permit(access: Access, privilege: Privilege) -> u16 {
    1 << (privilege as u16 * 3 + access as u16)
}

/// Programs like the same addresses: those of the lower half are spread by space. The upper half is the system's,
/// mostly global, and must be found from every space.
fn slot(linear: u64, space: u16) -> usize {
    let page = linear >> 12;
    let spread = if is_upper(linear) { 0 } else { u64::from(space).wrapping_mul(0x9E5) };
    page.wrapping_add(page >> 11).wrapping_add(page >> 22).wrapping_add(spread) as usize & (ENTRIES - 1)
}

const fn is_upper(linear: u64) -> bool {
    linear >> 63 != 0
}

fn region(linear: u64) -> (usize, u64) {
    let hashed = (linear >> 21) ^ (linear >> 33);
    ((hashed >> 6 & 63) as usize, 1 << (hashed & 63))
}

impl Default for Translations {
    fn default() -> Translations {
        Translations::new()
    }
}

impl Translations {
    /// Nothing remembered.
    pub fn new() -> Translations {
        let host = HostPage::DEVICE;
        let empty = Entry { tag: NO_PAGE, epoch: 0, permits: 0, global: false, physical: 0, host };
        Translations {
            entries: vec![empty; ENTRIES].into_boxed_slice(),
            space: 0,
            epoch: 1,
            global_epoch: 2,
            epochs: vec![0; SPACES].into_boxed_slice().try_into().expect("the length is the array's"),
            oldest: 1,
            newest: 2,
            scattered: false,
            large_regions: [0; 64],
            huge: false,
        }
    }

    /// What is known of the page of `linear`, if it allows the access without a walk.
    pub fn find(&self, access: Access, privilege: Privilege, linear: u64) -> Option<Entry> {
        let entry = &self.entries[slot(linear, self.space)];
        let epoch = if entry.global { self.global_epoch } else { self.epoch };
        let usable = entry.tag == linear & !0xFFF
            && entry.epoch == epoch
            && entry.permits & permit(access, privilege) != 0;
        usable.then_some(*entry)
    }

    /// Remembers a translation for the accesses [`Paging::permits`](super::walk::Paging::permits) says yes to.
    pub fn remember(&mut self, linear: u64, page: &Translation, host: HostPage, permits: u16) -> Entry {
        if page.page_shift > 22 {
            self.huge = true;
        } else if page.page_shift > 12 {
            let other = if page.page_shift == 22 { linear ^ 1 << 21 } else { linear };
            for half in [linear, other] {
                let (word, bit) = region(half);
                self.large_regions[word] |= bit;
            }
        }
        self.scattered |= page.global && self.space != 0 && !is_upper(linear);
        let entry = Entry {
            tag: linear & !0xFFF,
            epoch: if page.global { self.global_epoch } else { self.epoch },
            permits,
            global: page.global,
            physical: page.physical & !0xFFF,
            host,
        };
        self.entries[slot(linear, self.space)] = entry;
        entry
    }

    /// Goes over to an address space (below 4096), and finds again what was remembered for it.
    pub fn enter(&mut self, space: u16) {
        if space == self.space {
            return;
        }
        self.epochs[usize::from(self.space)] = self.epoch;
        self.space = space;
        self.epoch = self.epochs[usize::from(space)];
        if self.epoch < self.oldest {
            self.flush();
        }
    }

    /// Forgets everything of the current space but global pages (MOV CR3).
    pub fn flush(&mut self) {
        self.epoch = self.fresh_epoch();
    }

    /// Forgets everything of a space but global pages.
    pub fn flush_space(&mut self, space: u16) {
        if space == self.space {
            self.flush();
        } else {
            self.epochs[usize::from(space)] = 0;
        }
    }

    /// Forgets everything of all spaces but global pages.
    pub fn flush_spaces(&mut self) {
        self.epoch = self.fresh_epoch();
        self.oldest = self.epoch;
    }

    /// Forgets everything.
    pub fn flush_all(&mut self) {
        self.large_regions = [0; 64];
        self.huge = false;
        self.scattered = false;
        self.global_epoch = self.fresh_epoch();
        self.flush_spaces();
    }

    /// An epoch no entry has. Entries of one 2^32 flushes ago must not come back to life.
    fn fresh_epoch(&mut self) -> u32 {
        if self.newest > u32::MAX - 2 {
            self.entries.iter_mut().for_each(|entry| entry.tag = NO_PAGE);
            self.epochs.fill(0);
            (self.epoch, self.global_epoch, self.oldest, self.newest) = (1, 2, 1, 2);
        }
        self.newest += 1;
        self.newest
    }

    /// Forgets the page of `linear`, however large it is (INVLPG), and says what else must go.
    pub fn flush_page(&mut self, linear: u64) -> Reach {
        let (word, bit) = region(linear);
        if self.huge || self.scattered {
            self.flush_all();
            Reach::All
        } else if self.large_regions[word] & bit != 0 {
            let region = self.entries.iter_mut().filter(|entry| entry.tag >> 22 == linear >> 22);
            region.for_each(|entry| entry.tag = NO_PAGE);
            Reach::All
        } else {
            let entry = &mut self.entries[slot(linear, self.space)];
            if entry.tag == linear & !0xFFF {
                entry.tag = NO_PAGE;
            }
            Reach::Page
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(physical: u64, global: bool, page_shift: u8) -> Translation {
        let yes = true;
        Translation { physical, page_shift, writable: yes, user: yes, executable: yes, global, dirty: yes }
    }

    fn knows(table: &Translations, linear: u64) -> bool {
        table.find(Access::Read, Privilege::User, linear).is_some()
    }

    #[test]
    fn global_pages_outlive_a_flush_and_not_a_full_one() {
        let mut table = Translations::new();
        table.remember(0x1000, &page(0x5000, true, 12), HostPage::DEVICE, u16::MAX);
        table.remember(0x2000, &page(0x6000, false, 12), HostPage::DEVICE, u16::MAX);
        table.flush();
        assert!(knows(&table, 0x1FFF) && !knows(&table, 0x2000));
        table.flush_all();
        assert!(!knows(&table, 0x1000));
    }

    #[test]
    fn invalidating_one_address_drops_every_fragment_of_its_large_page() {
        let mut table = Translations::new();
        for linear in [0x40_0000, 0x41_0000] {
            table.remember(linear, &page(linear, false, 21), HostPage::DEVICE, u16::MAX);
        }
        table.remember(0x1_0000_0000, &page(0x9000, false, 12), HostPage::DEVICE, u16::MAX);
        assert_eq!(table.flush_page(0x40_5000), Reach::All);
        assert!(!knows(&table, 0x40_0000) && !knows(&table, 0x41_0000));
        assert!(knows(&table, 0x1_0000_0000));
        assert_eq!(table.flush_page(0x1_0000_0123), Reach::Page);
        assert!(!knows(&table, 0x1_0000_0000));
    }

    #[test]
    fn a_space_keeps_its_pages_while_another_is_entered() {
        let mut table = Translations::new();
        table.enter(5);
        table.remember(0x1000, &page(0x5000, false, 12), HostPage::DEVICE, u16::MAX);
        table.enter(6);
        assert!(!knows(&table, 0x1000));
        table.remember(0x1000, &page(0x6000, false, 12), HostPage::DEVICE, u16::MAX);
        table.enter(5);
        assert_eq!(table.find(Access::Read, Privilege::User, 0x1000).unwrap().physical, 0x5000);
        table.flush_space(6);
        assert!(knows(&table, 0x1000));
        table.enter(6);
        assert!(!knows(&table, 0x1000), "flushed from afar");
        table.enter(5);
        table.flush_spaces();
        assert!(!knows(&table, 0x1000));
    }

    #[test]
    fn global_pages_are_everywhere_and_go_everywhere() {
        let mut table = Translations::new();
        let upper = 0xFFFF_8000_0000_0000;
        table.enter(5);
        for linear in [upper, 0x1000] {
            table.remember(linear, &page(0x5000, true, 12), HostPage::DEVICE, u16::MAX);
        }
        table.enter(6);
        table.flush_spaces();
        assert!(knows(&table, upper));
        table.flush_page(0x1000);
        table.flush_page(upper);
        table.enter(5);
        assert!(!knows(&table, upper) && !knows(&table, 0x1000));
    }

    #[test]
    fn epochs_start_over_with_nothing() {
        let mut table = Translations::new();
        table.enter(5);
        table.remember(0x1000, &page(0x5000, false, 12), HostPage::DEVICE, u16::MAX);
        table.enter(6);
        table.newest = u32::MAX - 1;
        table.flush();
        assert!(table.newest < 8);
        table.enter(5);
        assert!(!knows(&table, 0x1000));
    }

    #[test]
    fn only_what_is_permitted_is_found() {
        let mut table = Translations::new();
        let permits = permit(Access::Read, Privilege::Supervisor);
        table.remember(0x1000, &page(0x5000, false, 12), HostPage::DEVICE, permits);
        assert!(table.find(Access::Read, Privilege::Supervisor, 0x1800).is_some());
        assert!(table.find(Access::Write, Privilege::Supervisor, 0x1800).is_none());
        assert!(table.find(Access::Read, Privilege::User, 0x1800).is_none());
    }
}
