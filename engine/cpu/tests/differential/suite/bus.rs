//! Guest memory between guard pages, and devices that answer all-ones.

use std::cell::Cell;
use std::sync::Arc;

use cpu::{GuestBus, HostPage, Pins, Signal};

/// Memory from guest-physical 0. What follows and precedes it in this process is inaccessible.
pub struct Bus {
    memory: *mut u8,
    bytes: usize,
    /// Guest-physical range that can only be read.
    pub rom: std::ops::Range<u64>,
    ticks: Cell<u64>,
    /// Accesses to devices.
    pub touched: Cell<u64>,
    /// After so many of them this processor is called back.
    pub patience: Option<(u64, Arc<Pins>)>,
}

const GUARD: usize = 1 << 20;

impl Bus {
    /// This many pages.
    pub fn new(pages: usize) -> Bus {
        let bytes = pages * 4096;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, its middle made accessible.
        let memory = unsafe {
            let all = libc::mmap(std::ptr::null_mut(), bytes + 2 * GUARD, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(all, libc::MAP_FAILED);
            let memory = all.cast::<u8>().add(GUARD);
            assert_eq!(libc::mprotect(memory.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE), 0);
            memory
        };
        Bus { memory, bytes, rom: 0..0, ticks: Cell::new(0), touched: Cell::new(0), patience: None }
    }

    /// The memory.
    pub fn memory(&mut self) -> &mut [u8] {
        // SAFETY: our mapping; no vCPU runs while it is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.memory, self.bytes) }
    }

    /// Where it is in this process.
    pub fn address(&self) -> u64 {
        self.memory as u64
    }

    /// Puts bytes at a guest-physical address.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.memory()[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// Puts a quadword at a guest-physical address.
    pub fn put64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    fn touch(&self) {
        self.touched.set(self.touched.get() + 1);
        if let Some((limit, pins)) = &self.patience
            && self.touched.get() == *limit
        {
            pins.raise(Signal::Kick);
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.memory.sub(GUARD).cast(), self.bytes + 2 * GUARD) };
    }
}

impl GuestBus for Bus {
    fn page(&self, address: u64) -> HostPage {
        let offset = address & !0xFFF;
        if offset >= self.bytes as u64 {
            return HostPage::DEVICE;
        }
        let read = self.memory.wrapping_add(offset as usize);
        let write = if self.rom.contains(&offset) { std::ptr::null_mut() } else { read };
        HostPage { read, write, offset }
    }
    fn map_generation(&self) -> u64 {
        0
    }
    fn read(&self, _: u64, bytes: usize) -> u64 {
        self.touch();
        u64::MAX >> (64 - 8 * bytes)
    }
    fn write(&self, _: u64, _: usize, _: u64) {
        self.touch();
    }
    fn port_in(&self, _: u16, bytes: usize) -> u32 {
        self.touch();
        (u64::MAX >> (64 - 8 * bytes)) as u32
    }
    fn port_out(&self, _: u16, _: usize, _: u32) {
        self.touch();
    }
    fn acknowledge_interrupt(&self) -> Option<u8> {
        None
    }
    fn timestamp(&self) -> u64 {
        self.ticks.set(self.ticks.get() + 1);
        self.ticks.get()
    }
    fn timestamp_hz(&self) -> u64 {
        1_000_000_000
    }
    fn read_apic_msr(&self, _: u32) -> Option<u64> {
        None
    }
    fn write_apic_msr(&self, _: u32, _: u64) -> bool {
        false
    }
    fn task_priority(&self) -> u8 {
        0
    }
    fn set_task_priority(&self, _: u8) {}
}
