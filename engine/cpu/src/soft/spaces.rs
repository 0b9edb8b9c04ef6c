//! Address spaces: which translations a CR3 load, INVLPG or INVPCID drops, and which are kept while another
//! space runs (Intel SDM 3A, 4.10). With CR4.PCIDE a space left keeps its user TLB set, for some spaces; the
//! second level (`translations.rs`) keeps all of them; supervisor sets keep global pages only.

use super::state::Cpu;
use super::tlb::TlbSet;
use super::translations::Reach;
use super::walk::bits;

/// Spaces besides the current one that keep a TLB set.
const PARKED: usize = 3;
/// The TLB set of user accesses.
const USER: usize = 0;

/// A user TLB set whose space does not run.
#[derive(Debug)]
pub(super) struct Parked {
    space: u16,
    set: Box<TlbSet>,
}

impl Cpu {
    /// The process-context identifier of CR3; 0 while there are none.
    pub(super) fn space(&self) -> u16 {
        if self.cr4 & bits::CR4_PCIDE != 0 { (self.cr3 & 0xFFF) as u16 } else { 0 }
    }

    /// Every TLB set there is.
    pub(super) fn all_tlb_sets(&mut self) -> impl Iterator<Item = &mut TlbSet> {
        let parked = self.parked.iter_mut().map(|parked| &mut *parked.set);
        self.tlbs.iter_mut().map(|set| &mut **set).chain(parked)
    }

    /// Forgets translations: all, or all of the current space but global ones.
    pub fn flush_translations(&mut self, global_too: bool) {
        if global_too {
            self.all_tlb_sets().for_each(TlbSet::clear);
            self.pages.forget();
            self.translations.flush_all();
            self.translations.enter(self.space());
            self.parked.iter_mut().for_each(|parked| parked.space = u16::MAX);
        } else {
            self.tlbs.iter_mut().for_each(|set| set.clear_local());
            self.translations.flush();
        }
        self.translations_changed();
    }

    /// Loads CR3, whose value is checked. `keeps`: what is known of its space need not be dropped.
    pub(super) fn switch_space(&mut self, cr3: u64, keeps: bool) {
        let old = self.space();
        self.cr3 = cr3;
        let new = self.space();
        if new != old {
            self.translations.enter(new);
            let mut set = self.unpark(new);
            std::mem::swap(&mut set, &mut self.tlbs[USER]);
            self.parked.push(Parked { space: old, set });
            self.tlbs[USER + 1..].iter_mut().for_each(|set| set.clear_local());
            self.update_mode();
        }
        if !keeps {
            self.tlbs.iter_mut().for_each(|set| set.clear_local());
            self.translations.flush();
        }
        self.translations_changed();
    }

    /// The set a space left, or an empty one.
    fn unpark(&mut self, space: u16) -> Box<TlbSet> {
        if let Some(at) = self.parked.iter().position(|parked| parked.space == space) {
            return self.parked.remove(at).set;
        }
        if self.parked.len() < PARKED {
            return TlbSet::new();
        }
        let mut longest_away = self.parked.remove(0).set;
        longest_away.clear();
        longest_away
    }

    /// Forgets the translations of one space but global ones (INVPCID).
    pub(super) fn flush_space(&mut self, space: u16) {
        if space == self.space() {
            return self.flush_translations(false);
        }
        self.translations.flush_space(space);
        for parked in self.parked.iter_mut().filter(|parked| parked.space == space) {
            parked.set.clear();
        }
    }

    /// Forgets the translations of all spaces but global ones (INVPCID).
    pub(super) fn flush_spaces(&mut self) {
        self.all_tlb_sets().for_each(TlbSet::clear_local);
        self.translations.flush_spaces();
        self.translations_changed();
    }

    /// Forgets the translation of one page in the current space, and its global ones in every space.
    pub fn flush_page(&mut self, linear: u64) {
        match self.translations.flush_page(linear) {
            Reach::All => self.all_tlb_sets().for_each(TlbSet::clear),
            Reach::Page => {
                self.all_tlb_sets().for_each(|set| set.clear_page(linear));
                if !self.blocks.may_reach(linear) {
                    return;
                }
            }
        }
        self.translations_changed();
    }
}
