//! A machine for tests: RAM from address 0, a ROM range, devices that record what they are told.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::bus::{GuestBus, HostPage};
use crate::pins::Pins;
use crate::soft::code_watch::CodeWatch;
use crate::soft::dispatch::WORK;
use crate::soft::state::Cpu;

/// One access to something that is not RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Read of device memory: address, bytes.
    Read(u64, usize),
    /// Write of device memory: address, bytes, value.
    Write(u64, usize, u64),
    /// IN: port, bytes.
    In(u16, usize),
    /// OUT: port, bytes, value.
    Out(u16, usize, u32),
}

/// The bus of the test machine.
pub struct TestBus {
    memory: *mut u8,
    bytes: usize,
    /// Range of RAM that cannot be written directly.
    pub rom: RefCell<std::ops::Range<u64>>,
    /// What devices saw.
    pub touched: RefCell<Vec<Touch>>,
    /// What device reads and IN answer.
    pub answer: Cell<u64>,
    /// The vector the next interrupt acknowledge gives.
    pub vector: Cell<Option<u8>>,
    /// The time-stamp counter; each look moves it by one.
    pub timestamp: Cell<u64>,
    /// Wall time at time-stamp 0.
    pub wall_clock_ns: Cell<u64>,
    /// IA32_TSC_DEADLINE of the local APIC.
    pub tsc_deadline: Cell<u64>,
    /// Called at each control point.
    pub at_control_point: RefCell<Option<Box<dyn Fn()>>>,
    priority: Cell<u8>,
}

impl TestBus {
    /// RAM of this many pages, zeroed.
    pub fn new(pages: usize) -> TestBus {
        let bytes = pages * 4096;
        let layout = Layout::from_size_align(bytes, 4096).expect("a small machine");
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        assert!(!memory.is_null());
        TestBus {
            memory,
            bytes,
            rom: RefCell::new(0..0),
            touched: RefCell::default(),
            answer: Cell::new(u64::MAX),
            vector: Cell::new(None),
            timestamp: Cell::new(0),
            wall_clock_ns: Cell::new(0),
            tsc_deadline: Cell::new(0),
            at_control_point: RefCell::default(),
            priority: Cell::new(0),
        }
    }

    /// Puts bytes into RAM.
    pub fn put(&self, address: u64, data: &[u8]) {
        assert!(address as usize + data.len() <= self.bytes);
        // SAFETY: within the allocation, by the assertion.
        unsafe { data.as_ptr().copy_to(self.memory.add(address as usize), data.len()) };
    }

    /// Puts a little-endian dword into RAM.
    pub fn put32(&self, address: u64, value: u32) {
        self.put(address, &value.to_le_bytes());
    }

    /// Puts a little-endian qword into RAM.
    pub fn put64(&self, address: u64, value: u64) {
        self.put(address, &value.to_le_bytes());
    }

    /// Bytes of RAM.
    pub fn get(&self, address: u64, count: usize) -> Vec<u8> {
        assert!(address as usize + count <= self.bytes);
        let mut data = vec![0; count];
        // SAFETY: within the allocation, by the assertion.
        unsafe { self.memory.add(address as usize).copy_to(data.as_mut_ptr(), count) };
        data
    }

    /// A little-endian word of RAM.
    pub fn get16(&self, address: u64) -> u16 {
        u16::from_le_bytes(self.get(address, 2).try_into().unwrap())
    }

    /// A little-endian dword of RAM.
    pub fn get32(&self, address: u64) -> u32 {
        u32::from_le_bytes(self.get(address, 4).try_into().unwrap())
    }

    /// A little-endian qword of RAM.
    pub fn get64(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.get(address, 8).try_into().unwrap())
    }
}

impl Drop for TestBus {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(self.bytes, 4096).expect("as in new");
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.memory, layout) };
    }
}

impl GuestBus for TestBus {
    fn page(&self, address: u64) -> HostPage {
        let offset = address & !0xFFF;
        if offset as usize >= self.bytes {
            return HostPage::DEVICE;
        }
        // SAFETY: the page lies within the allocation.
        let host = unsafe { self.memory.add(offset as usize) };
        let write = if self.rom.borrow().contains(&offset) { std::ptr::null_mut() } else { host };
        HostPage { read: host, write, offset }
    }

    fn map_generation(&self) -> u64 {
        0
    }

    fn read(&self, address: u64, bytes: usize) -> u64 {
        self.touched.borrow_mut().push(Touch::Read(address, bytes));
        self.answer.get() & u64::MAX >> (64 - 8 * bytes)
    }

    fn write(&self, address: u64, bytes: usize, value: u64) {
        self.touched.borrow_mut().push(Touch::Write(address, bytes, value));
    }

    fn port_in(&self, port: u16, bytes: usize) -> u32 {
        self.touched.borrow_mut().push(Touch::In(port, bytes));
        (self.answer.get() & u64::MAX >> (64 - 8 * bytes)) as u32
    }

    fn port_out(&self, port: u16, bytes: usize, value: u32) {
        self.touched.borrow_mut().push(Touch::Out(port, bytes, value));
    }

    fn acknowledge_interrupt(&self) -> Option<u8> {
        self.vector.take()
    }

    fn timestamp(&self) -> u64 {
        self.timestamp.set(self.timestamp.get() + 1);
        self.timestamp.get()
    }

    fn control_point(&self) -> i64 {
        if let Some(called) = &*self.at_control_point.borrow() {
            called();
        }
        WORK
    }

    fn timestamp_hz(&self) -> u64 {
        1_000_000_000
    }

    fn wall_clock_at_zero_ns(&self) -> u64 {
        self.wall_clock_ns.get()
    }

    fn read_apic_msr(&self, index: u32) -> Option<u64> {
        match index {
            0x1B => Some(0xFEE0_0900),
            0x6E0 => Some(self.tsc_deadline.get()),
            _ => None,
        }
    }

    fn write_apic_msr(&self, index: u32, value: u64) -> bool {
        if index == 0x6E0 {
            self.tsc_deadline.set(value);
        }
        matches!(index, 0x1B | 0x6E0)
    }

    fn task_priority(&self) -> u8 {
        self.priority.get()
    }

    fn set_task_priority(&self, priority: u8) {
        self.priority.set(priority);
    }
}

/// A processor after reset, and a machine with this many pages of RAM.
pub fn machine(pages: usize) -> (Box<Cpu>, TestBus) {
    (Cpu::new(Arc::new(Pins::new()), 0, &CodeWatch::new()), TestBus::new(pages))
}
