//! Physical pages and their backing, remembered: page walks and TLB fills ask the bus but once.

use std::cell::Cell;

use crate::bus::{GuestBus, HostPage};
use crate::soft::walk::Physical;

/// The backing of physical pages lately used, so that walks need not ask the bus each time.
#[derive(Debug)]
pub struct PageCache(Box<[Cell<(u64, HostPage)>; 256]>);

impl Default for PageCache {
    fn default() -> PageCache {
        PageCache(Box::new([const { Cell::new((u64::MAX, HostPage::DEVICE)) }; 256]))
    }
}

impl PageCache {
    /// Drops all of them: the memory map changed.
    pub fn forget(&self) {
        self.0.iter().for_each(|entry| entry.set((u64::MAX, HostPage::DEVICE)));
    }
}

/// The backing of a physical page, by way of the cache.
pub fn memory_page(bus: &dyn GuestBus, pages: &PageCache, address: u64) -> HostPage {
    let page = address & !(0xFFF);
    let entry = &pages.0[(page >> 12) as usize & 255];
    let (known, host) = entry.get();
    if known == page {
        return host;
    }
    let host = bus.page(page);
    entry.set((page, host));
    host
}

/// Physical memory as walks see it: through the cache.
pub struct CachedPages<'a> {
    /// The rest of the machine.
    pub bus: &'a dyn GuestBus,
    /// What is known of its pages.
    pub pages: &'a PageCache,
}

impl Physical for CachedPages<'_> {
    fn page(&self, address: u64) -> HostPage {
        memory_page(self.bus, self.pages, address)
    }
    fn read(&self, address: u64, bytes: usize) -> u64 {
        self.bus.read(address, bytes)
    }
    fn write(&self, address: u64, bytes: usize, value: u64) {
        self.bus.write(address, bytes, value);
    }
}
