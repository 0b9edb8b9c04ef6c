//! Guest memory: one memfd that holds RAM, ROMs and video memory, and the map of where the guest sees what.
//!
//! The map answers, for each guest-physical address, from which byte of the memfd a read comes and to
//! which a write goes. RAM has both, a ROM only the first, shadow RAM being filled has two different
//! ones, and where there is none the access goes to the [`crate::Bus`]. Layers stack: RAM lies at the
//! bottom; chipset (PAM, A20), ROMs and linear framebuffers lie over it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, fstat, ftruncate, memfd_create};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap, MmapRegion, VolatileMemory};

use crate::layout::address;

/// Size of a page: everything in the map is aligned to it.
pub const PAGE: u64 = 4096;

/// A run of guest-physical addresses with one backing. Offsets are into the memfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First guest-physical address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Where a read of `start` comes from; `None`: from the bus.
    pub read: Option<u64>,
    /// Where a write to `start` goes; `None`: to the bus.
    pub write: Option<u64>,
}

impl Mapping {
    /// Memory that can be read and written.
    pub const fn ram(start: u64, end: u64, offset: u64) -> Mapping {
        Mapping { start, end, read: Some(offset), write: Some(offset) }
    }

    /// Memory that can only be read; writes go to the bus.
    pub const fn rom(start: u64, end: u64, offset: u64) -> Mapping {
        Mapping { start, end, read: Some(offset), write: None }
    }

    /// Nothing: all accesses go to the bus.
    pub const fn hole(start: u64, end: u64) -> Mapping {
        Mapping { start, end, read: None, write: None }
    }

    /// The part of this mapping inside `start..end`.
    fn clip(self, start: u64, end: u64) -> Option<Mapping> {
        let (start, end) = (start.max(self.start), end.min(self.end));
        let shift = |offset: u64| offset + (start - self.start);
        (start < end).then(|| Mapping {
            start,
            end,
            read: self.read.map(shift),
            write: self.write.map(shift),
        })
    }

    fn continues(&self, next: &Mapping) -> bool {
        let length = self.end - self.start;
        self.end == next.start
            && self.read.map(|o| o + length) == next.read
            && self.write.map(|o| o + length) == next.write
    }
}

/// Host pointers of one guest-physical page, for backends that access memory directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Memfd offset that reads come from.
    pub read: Option<u64>,
    /// Memfd offset that writes go to.
    pub write: Option<u64>,
}

type Listener = Box<dyn Fn() + Send + Sync>;
type WriteObserver = Box<dyn Fn(Range<u64>) + Send + Sync>;

/// The memory of one machine.
pub struct Memory {
    file: Arc<File>,
    whole: MmapRegion,
    ram: GuestMemoryMmap,
    ram_bytes: u64,
    /// Next unused memfd offset behind RAM.
    allotted: Mutex<u64>,
    layers: Mutex<Vec<Vec<Mapping>>>,
    map: ArcSwap<Vec<Mapping>>,
    generation: AtomicU64,
    layout_listeners: RwLock<Vec<Listener>>,
    write_observers: RwLock<Vec<WriteObserver>>,
}

/// One layer over RAM, owned by the device that shapes it.
pub struct Layer {
    memory: Arc<Memory>,
    index: usize,
}

impl Memory {
    /// Memory with `ram_bytes` of RAM and room for `extra_bytes` of ROM and video memory.
    /// Both are multiples of a page. Untouched pages cost the host nothing.
    pub fn new(ram_bytes: u64, extra_bytes: u64) -> io::Result<Arc<Memory>> {
        assert!(ram_bytes.is_multiple_of(PAGE) && extra_bytes.is_multiple_of(PAGE) && ram_bytes > 0);
        let total = ram_bytes + extra_bytes;
        let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC)?);
        ftruncate(&file, total)?;
        let file = Arc::new(file);
        let at = |offset| FileOffset::from_arc(file.clone(), offset);
        let whole = MmapRegion::from_file(at(0), total as usize).map_err(io::Error::other)?;
        let base = base_layer(ram_bytes);
        let ranges = base.iter().map(|m| {
            let offset = m.read.expect("RAM can be read");
            (GuestAddress(m.start), (m.end - m.start) as usize, Some(at(offset)))
        });
        let ram = GuestMemoryMmap::from_ranges_with_files(ranges).map_err(io::Error::other)?;
        Ok(Arc::new(Memory {
            file,
            whole,
            ram,
            ram_bytes,
            allotted: Mutex::new(ram_bytes),
            map: ArcSwap::from_pointee(base.clone()),
            layers: Mutex::new(vec![base]),
            generation: AtomicU64::new(1),
            layout_listeners: RwLock::default(),
            write_observers: RwLock::default(),
        }))
    }

    /// Bytes of RAM.
    pub fn ram_bytes(&self) -> u64 {
        self.ram_bytes
    }

    /// Bytes of RAM below the PCI hole; the rest starts at 4 GiB.
    pub fn low_ram_bytes(&self) -> u64 {
        self.ram_bytes.min(address::LOW_RAM_END)
    }

    /// RAM as `vm-memory` sees it, for virtqueues and loaders. Writers must call [`Memory::wrote`].
    pub fn ram(&self) -> &GuestMemoryMmap {
        &self.ram
    }

    /// The memfd that holds everything.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The start of the whole mapping in this process; memfd offset 0.
    pub fn host_base(&self) -> *mut u8 {
        self.whole.as_ptr()
    }

    /// Length of the whole mapping in bytes.
    pub fn host_bytes(&self) -> u64 {
        self.whole.size() as u64
    }

    /// Takes `bytes` (rounded up to pages) of the room behind RAM; gives its memfd offset.
    pub fn allot(&self, bytes: u64) -> u64 {
        let mut next = self.allotted.lock();
        let offset = *next;
        *next += bytes.next_multiple_of(PAGE);
        assert!(*next <= self.host_bytes(), "the board asks for more video memory and ROM than it reserved");
        offset
    }

    /// Copies out of the memfd at `offset` (video memory, ROM, RAM).
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) {
        let slice = self.whole.get_slice(offset as usize, bytes.len()).expect("inside the memfd");
        slice.copy_to(bytes);
    }

    /// Copies into the memfd at `offset`, and tells the write observers.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) {
        let slice = self.whole.get_slice(offset as usize, bytes.len()).expect("inside the memfd");
        slice.copy_from(bytes);
        self.wrote(offset..offset + bytes.len() as u64);
    }

    /// A device reads RAM at guest-physical `from`. What is not RAM reads as ones.
    pub fn dma_read(&self, from: u64, bytes: &mut [u8]) {
        let done = self.ram.read(bytes, GuestAddress(from)).unwrap_or(0);
        bytes[done..].fill(0xFF);
    }

    /// A device writes RAM at guest-physical `to`. What falls outside RAM is dropped.
    pub fn dma_write(&self, to: u64, bytes: &[u8]) {
        let done = self.ram.write(bytes, GuestAddress(to)).unwrap_or(0) as u64;
        if done > 0 {
            self.wrote_ram(to, done);
        }
    }

    /// Whether all of `bytes` from guest-physical `from` are RAM.
    pub fn is_ram(&self, from: u64, bytes: u64) -> bool {
        let inside =
            |start: u64, end: u64| from >= start && from.checked_add(bytes).is_some_and(|after| after <= end);
        let high = self.ram_bytes - self.low_ram_bytes();
        inside(0, self.low_ram_bytes()) || inside(address::HIGH_RAM, address::HIGH_RAM + high)
    }

    /// A device reads an aligned word of RAM that the guest writes meanwhile. What is not RAM reads as ones.
    pub fn load_u16(&self, from: u64) -> u16 {
        self.ram.load(GuestAddress(from), Ordering::Acquire).unwrap_or(u16::MAX)
    }

    /// A device writes an aligned word of RAM, after everything it has written before.
    pub fn store_u16(&self, to: u64, value: u16) {
        if self.ram.store(value, GuestAddress(to), Ordering::Release).is_ok() {
            self.wrote_ram(to, 2);
        }
    }

    /// Gives whole pages of RAM from guest-physical `from` back to the host; the guest reads zeros there.
    /// Says whether the host took them.
    pub fn discard(&self, from: u64, bytes: u64) -> bool {
        let whole_pages = (from | bytes).is_multiple_of(PAGE) && bytes > 0;
        if !whole_pages || !self.is_ram(from, bytes) {
            return false;
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let taken = fallocate(&*self.file, hole, ram_offset(from), bytes).is_ok();
        if taken {
            self.wrote_ram(from, bytes);
        }
        taken
    }

    /// What the host spends on all of the machine's memory now, in bytes.
    pub fn spent_bytes(&self) -> u64 {
        const BLOCK: u64 = 512;
        fstat(&*self.file).map_or(0, |status| status.st_blocks as u64 * BLOCK)
    }

    fn wrote_ram(&self, to: u64, bytes: u64) {
        let offset = ram_offset(to);
        self.wrote(offset..offset + bytes);
    }

    /// Says that a device or loader wrote these memfd offsets, so that cached code is dropped.
    pub fn wrote(&self, offsets: Range<u64>) {
        for observer in self.write_observers.read().iter() {
            observer(offsets.clone());
        }
    }

    /// Calls `observer` with each range of memfd offsets written by other than a CPU.
    pub fn observe_writes(&self, observer: impl Fn(Range<u64>) + Send + Sync + 'static) {
        self.write_observers.write().push(Box::new(observer));
    }

    /// Calls `listener` after each change of the map, in the thread that changed it.
    pub fn on_layout_change(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.layout_listeners.write().push(Box::new(listener));
    }

    /// The map: sorted, without overlap, neighbours merged; holes are left out.
    pub fn map(&self) -> Arc<Vec<Mapping>> {
        self.map.load_full()
    }

    /// Counts the changes of the map.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What backs the page of guest-physical `address`.
    pub fn page(&self, address: u64) -> Page {
        let address = address & !(PAGE - 1);
        let map = self.map.load();
        let found = map.partition_point(|m| m.end <= address);
        match map.get(found).and_then(|m| m.clip(address, address + PAGE)) {
            Some(m) => Page { read: m.read, write: m.write },
            None => Page { read: None, write: None },
        }
    }

    /// A new layer over all earlier ones, empty.
    pub fn layer(self: &Arc<Self>) -> Layer {
        let mut layers = self.layers.lock();
        layers.push(Vec::new());
        Layer { memory: self.clone(), index: layers.len() - 1 }
    }

    fn rebuild(&self) {
        let layers = self.layers.lock();
        let mut map = Vec::new();
        for layer in layers.iter() {
            for mapping in layer {
                map = cover(map, *mapping);
            }
        }
        map.retain(|m: &Mapping| m.read.is_some() || m.write.is_some());
        let mut merged: Vec<Mapping> = Vec::with_capacity(map.len());
        for mapping in map {
            match merged.last_mut() {
                Some(last) if last.continues(&mapping) => last.end = mapping.end,
                _ => merged.push(mapping),
            }
        }
        if **self.map.load() == merged {
            return;
        }
        self.map.store(Arc::new(merged));
        self.generation.fetch_add(1, Ordering::Release);
        drop(layers);
        for listener in self.layout_listeners.read().iter() {
            listener();
        }
    }
}

impl Layer {
    /// Replaces what this layer covers. Mappings are page-aligned and may lie in any order; later ones
    /// cover earlier ones.
    pub fn set(&self, mappings: Vec<Mapping>) {
        debug_assert!(mappings.iter().all(|m| m.start < m.end && (m.start | m.end).is_multiple_of(PAGE)));
        self.memory.layers.lock()[self.index] = mappings;
        self.memory.rebuild();
    }
}

/// Where the RAM at guest-physical `address` lies in the memfd.
fn ram_offset(address: u64) -> u64 {
    if address < address::HIGH_RAM { address } else { address - address::HIGH_RAM + address::LOW_RAM_END }
}

fn base_layer(ram_bytes: u64) -> Vec<Mapping> {
    let low = ram_bytes.min(address::LOW_RAM_END);
    let mut base = vec![Mapping::ram(0, low, 0)];
    if ram_bytes > low {
        base.push(Mapping::ram(address::HIGH_RAM, address::HIGH_RAM + (ram_bytes - low), low));
    }
    base
}

/// Lays `top` over a sorted map.
fn cover(map: Vec<Mapping>, top: Mapping) -> Vec<Mapping> {
    let mut result = Vec::with_capacity(map.len() + 2);
    result.extend(map.iter().filter_map(|m| m.clip(0, top.start)));
    result.push(top);
    result.extend(map.iter().filter_map(|m| m.clip(top.end, u64::MAX)));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_rom_and_a_hole_lie_over_ram() {
        let memory = Memory::new(4 * MIB, MIB).unwrap();
        let rom = memory.allot(0x1_0000);
        memory.write_at(rom, b"55AA");
        memory.layer().set(vec![Mapping::hole(0xA_0000, 0xC_0000), Mapping::rom(0xF_0000, 0x10_0000, rom)]);
        assert_eq!(
            *memory.map(),
            vec![
                Mapping::ram(0, 0xA_0000, 0),
                Mapping::ram(0xC_0000, 0xF_0000, 0xC_0000),
                Mapping::rom(0xF_0000, 0x10_0000, rom),
                Mapping::ram(0x10_0000, 4 * MIB, 0x10_0000),
            ]
        );
        assert_eq!(memory.page(0xF_1234), Page { read: Some(rom + 0x1000), write: None });
        assert_eq!(memory.page(0xB_8000), Page { read: None, write: None });
        assert_eq!(memory.page(8 * MIB), Page { read: None, write: None });
    }

    #[test]
    fn a_layer_that_goes_away_leaves_one_run_of_ram() {
        let memory = Memory::new(4 * MIB, 0).unwrap();
        let layer = memory.layer();
        let before = memory.generation();
        layer.set(vec![Mapping::hole(0xA_0000, 0xB_0000)]);
        layer.set(Vec::new());
        assert_eq!(*memory.map(), vec![Mapping::ram(0, 4 * MIB, 0)]);
        assert_eq!(memory.generation(), before + 2);
    }

    #[test]
    fn dma_outside_ram_reads_ones_and_is_dropped() {
        let memory = Memory::new(MIB, 0).unwrap();
        memory.dma_write(MIB - 2, &[1, 2, 3, 4]);
        let mut bytes = [0; 4];
        memory.dma_read(MIB - 2, &mut bytes);
        assert_eq!(bytes, [1, 2, 0xFF, 0xFF]);
    }

    #[test]
    fn pages_given_back_cost_nothing_and_read_as_zeros() {
        let memory = Memory::new(4 * MIB, 0).unwrap();
        memory.dma_write(0, &vec![0x5A; 2 * MIB as usize]);
        assert_eq!(memory.spent_bytes(), 2 * MIB);
        assert!(memory.discard(MIB / 2, MIB));
        assert_eq!(memory.spent_bytes(), MIB);
        let mut bytes = [1; 2];
        memory.dma_read(MIB / 2 - 1, &mut bytes);
        assert_eq!(bytes, [0x5A, 0]);
        assert!(!memory.discard(4 * MIB - PAGE, 2 * PAGE), "half of it is no RAM");
        assert!(!memory.discard(1, PAGE) && !memory.discard(u64::MAX - PAGE + 1, PAGE));
    }
}
