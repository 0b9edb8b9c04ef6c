//! Memory as instructions see it: segment checks, the TLB's hit paths, and the slow paths behind them.
//!
//! A hit costs one compare. A miss checks canonical form, asks the second level or walks, fills the TLB,
//! and takes the access apart where it crosses a page or meets a device. Both pages of a crossing access
//! are checked before any byte is written. Pages with a data breakpoint get no TLB entry, and user code with
//! alignment checking has an empty TLB of its own: both are looked at on the miss paths only. Left out on
//! purpose: data breakpoints on the stack pushes of deliveries and far transfers.

use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::bus::HostPage;
use crate::registers::{Event, EventKind, Segment, segment};
use crate::soft::descriptor::attribute;
use crate::soft::dispatch::is_debug_trap;
use crate::soft::fault::{Fallible, Fault};
use crate::soft::page_cache::{CachedPages, memory_page};
use crate::soft::segmentation::is_canonical;
use crate::soft::stack::within_limit;
use crate::soft::state::{Cpu, flag, mode};
use crate::soft::tlb::{CodeEntry, DataEntry, WATCHED, slot};
use crate::soft::translations::Entry;
use crate::soft::walk::{Access, BusMemory, Paging, Privilege, bits};

const PAGE: u64 = 0x1000;
/// Work of a translation that the TLB did not have but the second level did.
const SECOND_LEVEL: u64 = 4;
/// Work of a walk of page tables.
const WALK: u64 = 24;

/// Plain data a load or store moves: any bit pattern is a value, and there is no padding.
///
/// # Safety
/// Only for types of which that is true, of at most 64 bytes.
pub unsafe trait Plain: Copy + Default {}

// SAFETY: integers, and arrays of integers, are plain; none is longer than 64 bytes.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for u128 {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u64; N] where [u64; N]: Default {}

/// Integers the host changes atomically.
pub trait Atomic: Plain + Eq {
    /// Replaces `*at` if it is `old`; `Err` tells what it is instead.
    ///
    /// # Safety
    /// `at` must be valid for reads and writes, and aligned.
    unsafe fn exchange(at: *mut Self, old: Self, new: Self) -> Result<Self, Self>;
}

macro_rules! atomic {
    ($($integer:ty: $atomic:ty),*) => {$(
        impl Atomic for $integer {
            #[inline(always)]
            unsafe fn exchange(at: *mut Self, old: Self, new: Self) -> Result<Self, Self> {
                // SAFETY: the caller says `at` is valid and aligned.
                let at = unsafe { <$atomic>::from_ptr(at) };
                at.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            }
        }
    )*};
}
atomic!(u8: AtomicU8, u16: AtomicU16, u32: AtomicU32, u64: AtomicU64);

/// Locked accesses the host cannot make atomic (over a page's end, unaligned, or to a device) take turns.
static BUS_LOCK: Mutex<()> = Mutex::new(());

/// A run of translated bytes within one page.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Guest-physical address.
    pub physical: u64,
    /// The page's backing.
    pub host: HostPage,
}

impl Place {
    fn in_page(self) -> usize {
        (self.physical & (PAGE - 1)) as usize
    }

    /// Where writes go directly: RAM that reads back what is written. A page that reads from one memory and
    /// writes to another (shadow RAM half open) is left to the bus, since code is known by what reads see.
    fn writable(self) -> Option<*mut u8> {
        (!self.host.write.is_null() && ptr::eq(self.host.read, self.host.write)).then(|| {
            // SAFETY: the offset is within the page the pointer is valid for.
            unsafe { self.host.write.add(self.in_page()) }
        })
    }

    fn readable(self) -> Option<*const u8> {
        (!self.host.read.is_null()).then(|| {
            // SAFETY: the offset is within the page the pointer is valid for.
            unsafe { self.host.read.add(self.in_page()) }
        })
    }
}

impl Cpu {
    /// The rights accesses are made with now.
    pub fn privilege(&self) -> Privilege {
        if self.cpl == 3 {
            Privilege::User
        } else if self.cr4 & bits::CR4_SMAP != 0 && self.system_flags & flag::AC != 0 {
            Privilege::SupervisorAc
        } else {
            Privilege::Supervisor
        }
    }

    /// The registers page walks depend on.
    pub fn paging(&self) -> Paging {
        Paging {
            cr0: self.cr0,
            cr3: self.cr3,
            cr4: self.cr4,
            efer: self.efer,
            pdptes: self.pdptes,
            physical_bits: self.model.physical_bits(),
            gigabyte_pages: self.model.offers(crate::soft::model::Feature::GigabytePages),
        }
    }

    /// Linear address of `bytes` bytes at `offset` of a segment, with limit and rights checked. In 64-bit mode
    /// canonical form is checked on a TLB miss only: no TLB entry has an address that is not.
    #[inline(always)]
    pub fn linear(&self, segment: usize, offset: u64, bytes: u64, write: bool) -> Fallible<u64> {
        if self.mode & mode::LONG != 0 {
            let base = if segment >= segment::FS { self.segments[segment].base } else { 0 };
            return Ok(offset.wrapping_add(base));
        }
        if self.mode & mode::FLAT != 0 && segment < segment::FS && !(write && segment == segment::CS) {
            return Ok(offset & 0xFFFF_FFFF);
        }
        self.linear_checked(segment, offset, bytes, write)
    }

    #[inline(never)]
    fn linear_checked(&self, index: usize, offset: u64, bytes: u64, write: bool) -> Fallible<u64> {
        let segment = &self.segments[index];
        if !within_limit(segment, offset, bytes) || !self.segment_allows(segment, write) {
            return Err(segment_fault(index));
        }
        Ok(segment.base.wrapping_add(offset) & 0xFFFF_FFFF)
    }

    fn segment_allows(&self, segment: &Segment, write: bool) -> bool {
        if self.mode & mode::REAL != 0 {
            return true;
        }
        let is_code = segment.attributes & attribute::CODE != 0;
        let bit_1 = segment.attributes & attribute::WRITABLE != 0;
        !segment.unusable && if write { !is_code && bit_1 } else { !is_code || bit_1 }
    }

    /// #SS or #GP for an address that is not canonical; nothing outside 64-bit mode.
    fn check_canonical(&self, index: usize, linear: u64, bytes: u64) -> Fallible<()> {
        let last = linear.wrapping_add(bytes - 1);
        if self.mode & mode::LONG != 0 && !(is_canonical(linear) && is_canonical(last)) {
            return Err(segment_fault(index));
        }
        Ok(())
    }

    /// What a miss of an instruction's own access checks first: canonical form, then alignment.
    fn check_explicit(&self, segment: usize, linear: u64, bytes: u64) -> Fallible<()> {
        self.check_canonical(segment, linear, bytes)?;
        if bytes <= 8 && linear & (bytes - 1) != 0 && self.checks_alignment() {
            return Err(Fault::alignment_check());
        }
        Ok(())
    }

    /// The breakpoints (bits 0 to 3) of some kinds (DR7's R/W field) that touch `bytes` bytes at `start`.
    fn breakpoints_at(&self, start: u64, bytes: u64, is_meant: impl Fn(u64) -> bool) -> u64 {
        let control = self.debug[5];
        if control & 0xFF == 0 {
            return 0;
        }
        let mut hits = 0;
        for n in 0..4 {
            let length = [1, 2, 8, 4][(control >> (18 + 4 * n) & 3) as usize];
            let from = self.debug[n] & !(length - 1);
            let overlaps = from < start.wrapping_add(bytes) && start < from.wrapping_add(length);
            if control >> (2 * n) & 3 != 0 && is_meant(control >> (16 + 4 * n) & 3) && overlaps {
                hits |= 1 << n;
            }
        }
        hits
    }

    /// The data breakpoints that `bytes` bytes at `linear` touch. R/W 1: writes, 3: reads and writes.
    fn watchpoints(&self, linear: u64, bytes: u64, write: bool) -> u64 {
        self.breakpoints_at(linear, bytes, |kind| kind == 3 || kind == 1 && write)
    }

    /// Data and port breakpoints are traps: #DB waits for the end of the instruction.
    /// What DR6 tells of is that of one instruction.
    pub(super) fn trap_after(&mut self, hits: u64) {
        if hits != 0 {
            if !self.pending.is_some_and(is_debug_trap) {
                self.debug[4] &= !15;
            }
            self.debug[4] |= hits;
            self.pending = Some(Event { vector: 1, error_code: None, kind: EventKind::Exception });
            self.leave_block = true;
        }
    }

    pub(super) fn watch_access(&mut self, linear: u64, bytes: u64, write: bool) {
        let hits = self.watchpoints(linear, bytes, write);
        self.trap_after(hits);
        if self.monitor.watches_data() {
            self.notice_access(linear, bytes, write);
        }
    }

    /// After an IN or OUT: R/W 2, with CR4.DE (Intel SDM 3B, 18.2.4).
    pub(super) fn watch_port(&mut self, port: u16, bytes: usize) {
        if self.debug[5] & 0xFF != 0 && self.cr4 & bits::CR4_DE != 0 {
            let hits = self.breakpoints_at(u64::from(port), bytes as u64, |kind| kind == 2);
            self.trap_after(hits);
        }
    }

    /// Whether accesses to a page must be looked at one by one.
    fn is_watched(&self, page: u64, physical: u64) -> bool {
        self.checks_alignment()
            || self.debug[5] & 0xFF != 0 && self.watchpoints(page, PAGE, true) != 0
            || self.monitor.watches_data() && self.monitor.watches_page(page, physical)
    }

    /// Reads a value.
    #[inline(always)]
    pub fn read<T: Plain>(&mut self, segment: usize, offset: u64) -> Fallible<T> {
        let linear = self.linear(segment, offset, size_of::<T>() as u64, false)?;
        // SAFETY: `tlb` points into `tlbs`, which is owned and never moves; a hit lies within one page of
        // guest memory that is valid for reads.
        unsafe {
            if let Some(host) = (*self.tlb).read_hit::<T>(linear) {
                return Ok(host.read_unaligned());
            }
        }
        self.read_miss(segment, linear)
    }

    #[cold]
    #[inline(never)]
    fn read_miss<T: Plain>(&mut self, segment: usize, linear: u64) -> Fallible<T> {
        self.check_explicit(segment, linear, size_of::<T>() as u64)?;
        let value = self.read_slow(linear, self.privilege())?;
        self.watch_access(linear, size_of::<T>() as u64, false);
        Ok(value)
    }

    /// Writes a value.
    #[inline(always)]
    pub fn write<T: Plain>(&mut self, segment: usize, offset: u64, value: T) -> Fallible<()> {
        let linear = self.linear(segment, offset, size_of::<T>() as u64, true)?;
        // SAFETY: as in `read`, with the write table, whose pages are valid for writes.
        unsafe {
            if let Some(host) = (*self.tlb).write_hit::<T>(linear) {
                host.write_unaligned(value);
                return Ok(());
            }
        }
        self.write_miss(segment, linear, value)
    }

    #[cold]
    #[inline(never)]
    fn write_miss<T: Plain>(&mut self, segment: usize, linear: u64, value: T) -> Fallible<()> {
        if let Some(host) = self.watched_hit::<T>(linear) {
            // SAFETY: as in `write`: the page is one that is writable but for the code in it.
            unsafe { host.write_unaligned(value) };
            self.watched_written::<T>(linear);
            return Ok(());
        }
        self.check_explicit(segment, linear, size_of::<T>() as u64)?;
        self.write_slow(linear, self.privilege(), value)?;
        self.watch_access(linear, size_of::<T>() as u64, true);
        Ok(())
    }

    /// Raises whatever a write of an operand would raise, and writes nothing.
    pub fn prepare_write(&mut self, segment: usize, offset: u64, bytes: u64) -> Fallible<()> {
        if bytes.is_power_of_two() {
            let linear = self.linear(segment, offset, bytes, true)?;
            self.check_explicit(segment, linear, bytes)?;
        }
        self.prepare_block(segment, offset, bytes)
    }

    /// The same for a run of `bytes` (at most 4096) bytes, which has no alignment.
    pub fn prepare_block(&mut self, segment: usize, offset: u64, bytes: u64) -> Fallible<()> {
        let linear = self.linear(segment, offset, bytes, true)?;
        self.check_canonical(segment, linear, bytes)?;
        let (first, second) = self.places(linear, bytes as usize, Access::Write, self.privilege())?;
        self.count_device_write(first, second)
    }

    fn count_device_write(&mut self, first: Place, second: Option<Place>) -> Fallible<()> {
        match [Some(first), second].into_iter().flatten().all(|place| place.writable().is_some()) {
            true => Ok(()),
            false => self.count_exactly(),
        }
    }

    /// Raises whatever a read of `bytes` (at most 4096) bytes would raise.
    pub fn prepare_read(&mut self, segment: usize, offset: u64, bytes: u64) -> Fallible<()> {
        let linear = self.linear(segment, offset, bytes, false)?;
        self.check_canonical(segment, linear, bytes)?;
        self.places(linear, bytes as usize, Access::Read, self.privilege())?;
        Ok(())
    }

    /// Changes a value in memory as one locked access, and returns the old one.
    #[inline(always)]
    pub fn atomic<T: Atomic>(
        &mut self,
        segment: usize,
        offset: u64,
        change: impl FnMut(T) -> T,
    ) -> Fallible<T> {
        let linear = self.linear(segment, offset, size_of::<T>() as u64, true)?;
        // SAFETY: as in `write`.
        if let Some(host) = unsafe { (*self.tlb).write_hit::<T>(linear) }
            && host.is_aligned()
        {
            // SAFETY: the hit is valid for writes, and aligned.
            return Ok(unsafe { exchange_loop(host, change) });
        }
        self.check_explicit(segment, linear, size_of::<T>() as u64)?;
        let old = self.atomic_slow(linear, change)?;
        self.watch_access(linear, size_of::<T>() as u64, true);
        Ok(old)
    }

    #[inline(never)]
    fn atomic_slow<T: Atomic>(&mut self, linear: u64, mut change: impl FnMut(T) -> T) -> Fallible<T> {
        let bytes = size_of::<T>();
        let (place, second) = self.places(linear, bytes, Access::Write, self.privilege())?;
        if second.is_none()
            && let Some(host) = place.writable()
            && host.cast::<T>().is_aligned()
        {
            // SAFETY: writable RAM, aligned, within its page.
            let old = unsafe { exchange_loop(host.cast::<T>(), change) };
            self.note_write(place, bytes);
            return Ok(old);
        }
        let _turn = BUS_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.read_slow::<T>(linear, self.privilege())?;
        let new = change(old);
        self.write_slow(linear, self.privilege(), new)?;
        Ok(old)
    }

    /// Reads at a linear address with the current rights.
    pub fn read_linear<T: Plain>(&mut self, linear: u64) -> Fallible<T> {
        self.read_slow(linear, self.privilege())
    }

    /// Writes at a linear address with the current rights.
    pub fn write_linear<T: Plain>(&mut self, linear: u64, value: T) -> Fallible<()> {
        self.write_slow(linear, self.privilege(), value)
    }

    /// Reads a system structure (descriptor table, TSS): supervisor rights at any CPL.
    pub fn read_system<T: Plain>(&mut self, linear: u64) -> Fallible<T> {
        self.read_with(linear, Privilege::Supervisor)
    }

    fn read_with<T: Plain>(&mut self, linear: u64, privilege: Privilege) -> Fallible<T> {
        // SAFETY: a hit lies within one page valid for reads.
        unsafe {
            if let Some(host) = self.tlbs[privilege as usize].read_hit::<T>(linear) {
                return Ok(host.read_unaligned());
            }
        }
        self.read_slow(linear, privilege)
    }

    fn write_with<T: Plain>(&mut self, linear: u64, privilege: Privilege, value: T) -> Fallible<()> {
        // SAFETY: a hit lies within one page valid for writes.
        unsafe {
            if let Some(host) = self.tlbs[privilege as usize].write_hit::<T>(linear) {
                host.write_unaligned(value);
                return Ok(());
            }
        }
        self.write_slow(linear, privilege, value)
    }

    /// Writes a system structure.
    pub fn write_system<T: Plain>(&mut self, linear: u64, value: T) -> Fallible<()> {
        self.write_with(linear, Privilege::Supervisor, value)
    }

    /// Raises whatever a read or write of a system structure would raise.
    pub fn probe_system(&mut self, linear: u64, bytes: usize, access: Access) -> Fallible<()> {
        self.places(linear, bytes, access, Privilege::Supervisor)?;
        Ok(())
    }

    fn privilege_of(&self, cpl: u8) -> Privilege {
        match (cpl, self.privilege()) {
            (3, _) => Privilege::User,
            (_, Privilege::SupervisorAc) => Privilege::SupervisorAc,
            _ if self.cr4 & bits::CR4_SMAP != 0 && self.system_flags & flag::AC != 0 => {
                Privilege::SupervisorAc
            }
            _ => Privilege::Supervisor,
        }
    }

    /// Reads 8 bytes of a stack used with privilege `cpl`, if the TLB knows where they are.
    #[inline(always)]
    pub(super) fn read_hit_as(&self, cpl: u8, linear: u64) -> Option<u64> {
        let host = self.tlbs[self.privilege_of(cpl) as usize].read_hit::<u64>(linear)?;
        // SAFETY: a hit lies within one page valid for reads.
        Some(unsafe { host.read_unaligned() })
    }

    /// Writes 8 bytes of a stack used with privilege `cpl`, if the TLB knows where they are; whether it does.
    #[inline(always)]
    pub(super) fn write_hit_as(&self, cpl: u8, linear: u64, value: u64) -> bool {
        let host = self.tlbs[self.privilege_of(cpl) as usize].write_hit::<u64>(linear);
        // SAFETY: a hit lies within one page valid for writes.
        host.inspect(|host| unsafe { host.write_unaligned(value) }).is_some()
    }

    /// Reads 2, 4 or 8 bytes of a stack used with privilege `cpl`.
    pub fn read_linear_as(&mut self, cpl: u8, linear: u64, bytes: usize) -> Fallible<u64> {
        let privilege = self.privilege_of(cpl);
        Ok(match bytes {
            2 => u64::from(self.read_with::<u16>(linear, privilege)?),
            4 => u64::from(self.read_with::<u32>(linear, privilege)?),
            _ => self.read_with::<u64>(linear, privilege)?,
        })
    }

    /// Writes 2, 4 or 8 bytes of a stack used with privilege `cpl`.
    pub fn write_linear_as(&mut self, cpl: u8, linear: u64, bytes: usize, value: u64) -> Fallible<()> {
        let privilege = self.privilege_of(cpl);
        match bytes {
            2 => self.write_with(linear, privilege, value as u16),
            4 => self.write_with(linear, privilege, value as u32),
            _ => self.write_with(linear, privilege, value),
        }
    }

    /// Host bytes of the readable run at `linear` (at most to its page's end); `None` for devices. Needs a
    /// checked segment; canonical form is checked here, as by DS.
    pub fn host_read_run(&mut self, linear: u64, bytes: u64) -> Fallible<Option<(*const u8, u64)>> {
        self.check_canonical(segment::DS, linear, 1)?;
        let place = self.translate(linear, Access::Read, self.privilege())?;
        if self.is_watched(linear & !(PAGE - 1), place.physical) {
            return Ok(None);
        }
        Ok(place.readable().map(|host| (host, bytes.min(PAGE - (linear & (PAGE - 1))))))
    }

    /// Host bytes of the writable run at `linear`; `None` for devices, ROM, and pages with cached code.
    pub fn host_write_run(&mut self, linear: u64, bytes: u64) -> Fallible<Option<(*mut u8, u64)>> {
        self.check_canonical(segment::ES, linear, 1)?;
        let place = self.translate(linear, Access::Write, self.privilege())?;
        if self.holds_code(place.host.offset) || self.is_watched(linear & !(PAGE - 1), place.physical) {
            return Ok(None);
        }
        Ok(place.writable().map(|host| (host, bytes.min(PAGE - (linear & (PAGE - 1))))))
    }

    /// Copies code bytes at `linear` up to the end of its page; how many there were.
    pub fn fetch(&mut self, linear: u64, bytes: &mut [u8; 15]) -> Fallible<usize> {
        let place = self.translate_code(linear)?;
        let count = bytes.len().min((PAGE - (linear & (PAGE - 1))) as usize);
        self.read_place(place, &mut bytes[..count]);
        Ok(count)
    }

    /// Translates an instruction fetch, and fills the code entry of its page if it is memory.
    pub fn translate_code(&mut self, linear: u64) -> Fallible<Place> {
        if self.mode & mode::LONG != 0 && !is_canonical(linear) {
            return Err(Fault::general_protection(0));
        }
        self.translate(linear, Access::Execute, self.privilege())
    }

    /// Translates `linear`, raising #PF (with CR2 set) if it may not be accessed so.
    pub fn translate(&mut self, linear: u64, access: Access, privilege: Privilege) -> Fallible<Place> {
        let linear = self.wrap_linear(linear);
        if let Some(entry) = self.translations.find(access, privilege, linear) {
            self.worked(SECOND_LEVEL);
            self.install(linear, access, privilege, &entry);
            return Ok(Place { physical: entry.physical | linear & (PAGE - 1), host: entry.host });
        }
        if self.pdptes_stale {
            self.pdptes_stale = false;
            let legacy_pae = self.cr4 & bits::CR4_PAE != 0 && !self.is_long_mode();
            if legacy_pae && self.cr0 & bits::CR0_PG != 0 {
                // A saved state had valid ones; should memory have changed since, nothing is present.
                self.pdptes = self.paging().load_pdptes(&BusMemory(self.bus()), self.cr3).unwrap_or_default();
            }
        }
        self.worked(WALK);
        let paging = self.paging();
        let memory = CachedPages { bus: self.bus(), pages: &self.pages };
        let walked = paging.walk(&memory, linear, access, privilege);
        let page = match walked {
            Ok(page) => page,
            Err(code) => {
                self.cr2 = linear;
                return Err(Fault::page_fault(code));
            }
        };
        let physical = self.bus_address(page.physical);
        let host = memory_page(self.bus(), &self.pages, physical);
        let page = crate::soft::walk::Translation { physical, ..page };
        let entry = self.translations.remember(linear, &page, host, paging.permits(&page));
        self.install(linear, access, privilege, &entry);
        Ok(Place { physical, host })
    }

    /// Physical addresses wider than the model has wrap.
    fn bus_address(&self, physical: u64) -> u64 {
        physical & ((1 << self.model.physical_bits()) - 1)
    }

    fn install(&mut self, linear: u64, access: Access, privilege: Privilege, known: &Entry) {
        let host = known.host;
        let page = linear & !(PAGE - 1);
        let entry = |host: *const u8| DataEntry { tag: page, addend: (host as u64).wrapping_sub(page) };
        if host.read.is_null() || access != Access::Execute && self.is_watched(page, known.physical) {
            return;
        }
        let is_guarded = access == Access::Write && self.holds_code(host.offset);
        let set = &mut self.tlbs[privilege as usize];
        let index = slot(page);
        match access {
            Access::Read => set.read[index] = entry(host.read),
            Access::Write if ptr::eq(host.read, host.write) => {
                set.write[index] = entry(host.write);
                if is_guarded {
                    set.write[index].tag |= WATCHED;
                }
                set.write_offset[index] = host.offset;
            }
            Access::Write => return,
            Access::Execute => {
                set.code[index] = CodeEntry { tag: page, host: host.read, offset: host.offset }
            }
        }
        set.note_fill(index, known.global);
    }

    /// Translates both parts of an access that may cross into the next page.
    fn places(
        &mut self,
        linear: u64,
        bytes: usize,
        access: Access,
        privilege: Privilege,
    ) -> Fallible<(Place, Option<Place>)> {
        let first = self.translate(linear, access, privilege)?;
        let next = (linear | (PAGE - 1)).wrapping_add(1);
        let crosses = (linear & (PAGE - 1)) + bytes as u64 > PAGE;
        let second = if crosses { Some(self.translate(next, access, privilege)?) } else { None };
        Ok((first, second))
    }

    fn read_slow<T: Plain>(&mut self, linear: u64, privilege: Privilege) -> Fallible<T> {
        let bytes = size_of::<T>();
        let (first, second) = self.places(linear, bytes, Access::Read, privilege)?;
        if second.is_none()
            && let Some(host) = first.readable()
        {
            // SAFETY: all of the value lies within one page valid for reads.
            return Ok(unsafe { host.cast::<T>().read_unaligned() });
        }
        if [Some(first), second].into_iter().flatten().any(|place| place.readable().is_none()) {
            self.count_exactly()?;
        }
        let mut buffer = [0u8; 64];
        let split = bytes.min(PAGE as usize - first.in_page());
        self.read_place(first, &mut buffer[..split]);
        if let Some(second) = second {
            self.read_place(second, &mut buffer[split..bytes]);
        }
        // SAFETY: `T` is plain and no longer than the buffer.
        Ok(unsafe { buffer.as_ptr().cast::<T>().read_unaligned() })
    }

    fn write_slow<T: Plain>(&mut self, linear: u64, privilege: Privilege, value: T) -> Fallible<()> {
        let bytes = size_of::<T>();
        let (first, second) = self.places(linear, bytes, Access::Write, privilege)?;
        if second.is_none()
            && let Some(host) = first.writable()
        {
            // SAFETY: all of the value lies within one page valid for writes.
            unsafe { host.cast::<T>().write_unaligned(value) };
            self.note_write(first, bytes);
            return Ok(());
        }
        self.count_device_write(first, second)?;
        let mut buffer = [0u8; 64];
        // SAFETY: `T` is plain and no longer than the buffer.
        unsafe { buffer.as_mut_ptr().cast::<T>().write_unaligned(value) };
        let split = bytes.min(PAGE as usize - first.in_page());
        self.write_place(first, &buffer[..split]);
        if let Some(second) = second {
            self.write_place(second, &buffer[split..bytes]);
        }
        Ok(())
    }

    /// After a direct store of `bytes` bytes within a page.
    fn note_write(&mut self, place: Place, bytes: usize) {
        if self.holds_code(place.host.offset) {
            self.code_written(place.host.offset + place.in_page() as u64, bytes as u64);
        }
    }

    pub(super) fn read_place(&mut self, place: Place, out: &mut [u8]) {
        if let Some(host) = place.readable() {
            // SAFETY: the caller splits at page ends, so the bytes lie within the page.
            unsafe { ptr::copy_nonoverlapping(host, out.as_mut_ptr(), out.len()) };
            return;
        }
        self.leave_block = true;
        for (at, bytes) in device_parts(out.len()) {
            let value = self.bus().read(place.physical + at as u64, bytes);
            out[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
    }

    pub(super) fn write_place(&mut self, place: Place, data: &[u8]) {
        if let Some(host) = place.writable() {
            // SAFETY: as in `read_place`.
            unsafe { ptr::copy_nonoverlapping(data.as_ptr(), host, data.len()) };
            self.note_write(place, data.len());
            return;
        }
        self.leave_block = true;
        for (at, bytes) in device_parts(data.len()) {
            let mut value = [0; 8];
            value[..bytes].copy_from_slice(&data[at..at + bytes]);
            self.bus().write(place.physical + at as u64, bytes, u64::from_le_bytes(value));
        }
    }
}

/// The fault of a segment limit, rights or canonical violation: #SS for the stack, else #GP.
pub fn segment_fault(index: usize) -> Fault {
    if index == segment::SS { Fault::stack(0) } else { Fault::general_protection(0) }
}

/// # Safety
/// `at` must be valid for reads and writes, and aligned.
#[inline(always)]
unsafe fn exchange_loop<T: Atomic>(at: *mut T, mut change: impl FnMut(T) -> T) -> T {
    // SAFETY: valid and aligned, says the caller. A torn or stale first value only costs one more round.
    let mut old = unsafe { at.read_volatile() };
    loop {
        let new = change(old);
        // SAFETY: as above.
        match unsafe { T::exchange(at, old, new) } {
            Ok(old) => return old,
            Err(now) => old = now,
        }
    }
}

/// Splits what goes to a device into accesses of 8, 4, 2 and 1 bytes.
fn device_parts(length: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let bytes = 1 << (length - at).min(8).checked_ilog2()?;
        at += bytes;
        Some((at - bytes, bytes))
    })
}
