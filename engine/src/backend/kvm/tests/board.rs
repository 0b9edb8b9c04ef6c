//! The board under the test guests: memory, a port and memory recorder, an interrupt source.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use cpu::registers::{Registers, Segment, segment};
use cpu::{GuestBus, HostPage, Pins, RunLimit, Signal, Stop};
use hardware::Memory;
use parking_lot::Mutex;

use crate::backend::kvm::{Host, KvmVcpu, KvmVm};
use crate::backend::{InterruptMode, Vcpu};

pub const CODE: u64 = 0x1000;
pub const MEMORY_BYTES: u64 = 1 << 20;

/// One access as the bus saw it: what, where, bytes, value.
pub type Seen = (&'static str, u64, usize, u64);

pub struct Board {
    pub memory: Arc<Memory>,
    pub pins: Arc<Pins>,
    pub seen: Mutex<Vec<Seen>>,
    /// Vectors to hand out, first to last.
    pub vectors: Mutex<VecDeque<u8>>,
    pub priority: AtomicU8,
    pub apic_msrs: Mutex<Vec<(u32, u64)>>,
}

impl Board {
    pub fn raise(&self, vector: u8) {
        self.vectors.lock().push_back(vector);
        self.pins.raise(Signal::Interrupt);
    }

    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock())
    }
}

impl GuestBus for Board {
    fn page(&self, _address: u64) -> HostPage {
        HostPage::DEVICE
    }
    fn map_generation(&self) -> u64 {
        self.memory.generation()
    }
    fn read(&self, address: u64, bytes: usize) -> u64 {
        if let Some(offset) = self.memory.page(address).read {
            let mut data = [0; 8];
            self.memory.read_at(offset + address % 4096, &mut data[..bytes]);
            return u64::from_le_bytes(data);
        }
        let value = (0x1122_3344_5566_7788 ^ address) & u64::MAX >> (64 - 8 * bytes);
        self.seen.lock().push(("read", address, bytes, value));
        value
    }
    fn write(&self, address: u64, bytes: usize, value: u64) {
        self.seen.lock().push(("write", address, bytes, value));
    }
    fn port_in(&self, port: u16, bytes: usize) -> u32 {
        let mut seen = self.seen.lock();
        let value = (0xA0B0_C0D0_u32.wrapping_add(seen.len() as u32)) & u32::MAX >> (32 - 8 * bytes);
        seen.push(("in", u64::from(port), bytes, u64::from(value)));
        value
    }
    fn port_out(&self, port: u16, bytes: usize, value: u32) {
        self.seen.lock().push(("out", u64::from(port), bytes, u64::from(value)));
    }
    fn acknowledge_interrupt(&self) -> Option<u8> {
        let mut vectors = self.vectors.lock();
        let vector = vectors.pop_front();
        if vectors.is_empty() {
            self.pins.lower(Signal::Interrupt);
        }
        vector
    }
    fn timestamp(&self) -> u64 {
        1_000_000
    }
    fn timestamp_hz(&self) -> u64 {
        1_000_000_000
    }
    fn read_apic_msr(&self, index: u32) -> Option<u64> {
        let msrs = self.apic_msrs.lock();
        msrs.iter().rev().find(|(i, _)| *i == index).map(|(_, value)| *value)
    }
    fn write_apic_msr(&self, index: u32, value: u64) -> bool {
        self.apic_msrs.lock().push((index, value));
        index != 0x8FF
    }
    fn task_priority(&self) -> u8 {
        self.priority.load(Ordering::SeqCst)
    }
    fn set_task_priority(&self, priority: u8) {
        self.priority.store(priority, Ordering::SeqCst);
    }
}

pub struct Guest {
    pub board: Arc<Board>,
    pub vm: Arc<KvmVm>,
    pub vcpu: KvmVcpu,
}

/// The host, or `None` with the reason printed.
pub fn host() -> Option<Host> {
    Host::open().map_err(|problem| println!("skipped: {problem}")).ok()
}

/// Real mode, everything based at 0, running `CODE`.
pub fn start_state() -> Registers {
    let mut state = Registers::reset();
    state.segments[segment::CS] = Segment { attributes: 0x9B, ..Segment::real(0) };
    state.rip = CODE;
    state.general[4] = 0x8000;
    state
}

/// A guest with `code` at [`CODE`], or `None` where there is no KVM.
pub fn guest(code: &[u8]) -> Option<Guest> {
    guest_in(InterruptMode::Glass, code)
}

pub fn guest_in(mode: InterruptMode, code: &[u8]) -> Option<Guest> {
    let host = host()?;
    let memory = Memory::new(MEMORY_BYTES, 0x1_0000).unwrap();
    memory.write_at(CODE, code);
    let pins = Arc::new(Pins::new());
    let vm = match KvmVm::new(&host, memory.clone(), mode) {
        Ok(vm) => vm,
        Err(error) if error.kind == crate::backend::VcpuErrorKind::Unsupported => {
            println!("skipped: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let mut vcpu = vm.create_vcpu(0, 1, pins.clone()).unwrap();
    vcpu.set_registers(&start_state()).unwrap();
    let board = Arc::new(Board {
        memory,
        pins,
        seen: Mutex::default(),
        vectors: Mutex::default(),
        priority: AtomicU8::new(0),
        apic_msrs: Mutex::default(),
    });
    Some(Guest { board, vm, vcpu })
}

impl Guest {
    pub fn run(&mut self) -> Stop {
        self.vcpu.run(&*self.board, RunLimit::NONE).unwrap()
    }

    pub fn step(&mut self) -> Stop {
        self.vcpu.run(&*self.board, RunLimit::STEP).unwrap()
    }

    pub fn state(&mut self) -> Registers {
        self.vcpu.registers().unwrap()
    }

    /// Points real-mode vector `vector` at `offset` in segment 0, and puts `code` there.
    pub fn handler(&self, vector: u8, offset: u16, code: &[u8]) {
        self.board.memory.write_at(4 * u64::from(vector), &u32::from(offset).to_le_bytes());
        self.board.memory.write_at(u64::from(offset), code);
    }

    /// A byte of memory.
    pub fn byte(&self, address: u64) -> u8 {
        let mut byte = [0];
        self.board.memory.read_at(address, &mut byte);
        byte[0]
    }
}
