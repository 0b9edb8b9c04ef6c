//! Whole guests on the software CPU: every mode there is, one after the other (`modes.asm`).

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Arc;

use cpu::soft::{CpuModel, SoftCpu};
use cpu::{GuestBus, HostPage, Pins, RunLimit, Stop};

/// RAM from address 0, and nothing else.
struct Ram {
    memory: *mut u8,
    layout: Layout,
}

impl Ram {
    fn new(bytes: usize) -> Ram {
        let layout = Layout::from_size_align(bytes, 4096).unwrap();
        // SAFETY: the size is not zero.
        Ram { memory: unsafe { alloc_zeroed(layout) }, layout }
    }

    fn put(&self, address: usize, data: &[u8]) {
        assert!(address + data.len() <= self.layout.size());
        // SAFETY: within the allocation.
        unsafe { data.as_ptr().copy_to(self.memory.add(address), data.len()) };
    }

    fn get(&self, address: usize, count: usize) -> Vec<u8> {
        assert!(address + count <= self.layout.size());
        // SAFETY: within the allocation; no vCPU runs.
        unsafe { std::slice::from_raw_parts(self.memory.add(address), count) }.to_vec()
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.memory, self.layout) };
    }
}

impl GuestBus for Ram {
    fn page(&self, address: u64) -> HostPage {
        let offset = address & !0xFFF;
        if offset as usize >= self.layout.size() {
            return HostPage::DEVICE;
        }
        // SAFETY: the page lies within the allocation.
        let host = unsafe { self.memory.add(offset as usize) };
        HostPage { read: host, write: host, offset }
    }
    fn map_generation(&self) -> u64 {
        0
    }
    fn read(&self, _: u64, bytes: usize) -> u64 {
        u64::MAX >> (64 - 8 * bytes)
    }
    fn write(&self, _: u64, _: usize, _: u64) {}
    fn port_in(&self, _: u16, bytes: usize) -> u32 {
        (u64::MAX >> (64 - 8 * bytes)) as u32
    }
    fn port_out(&self, _: u16, _: usize, _: u32) {}
    fn acknowledge_interrupt(&self) -> Option<u8> {
        None
    }
    fn timestamp(&self) -> u64 {
        0
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

const EXPECTED: &[u8] = b"RPG\x80U\x03G\x00C\x34V\xCD\xC0F\x00\x30p\x20\x60TtTtlLDgZS\x01S\x02\x40";

fn log(ram: &Ram) -> Vec<u8> {
    let end = u32::from_le_bytes(ram.get(0x4FC, 4).try_into().unwrap()) as usize;
    ram.get(0x500, end.saturating_sub(0x500).min(256))
}

fn start() -> (SoftCpu, Ram) {
    let ram = Ram::new(2 << 20);
    ram.put(0x7C00, include_bytes!("modes.bin"));
    let mut cpu = SoftCpu::new(CpuModel::X86_64V1, Arc::new(Pins::new()), 0);
    let mut registers = cpu.registers();
    registers.segments[1] = cpu::Segment { attributes: 0x9B, ..cpu::Segment::real(0) };
    registers.rip = 0x7C00;
    cpu.set_registers(&registers);
    (cpu, ram)
}

#[test]
fn a_guest_walks_through_every_mode_and_into_a_shutdown() {
    let (mut cpu, ram) = start();
    let stop = cpu.run(&ram, RunLimit { instructions: 100_000 });
    assert_eq!(String::from_utf8_lossy(&log(&ram)), String::from_utf8_lossy(EXPECTED));
    assert_eq!(stop, Stop::Halted);
    let mut registers = cpu.registers();
    registers.halted = false;
    cpu.set_registers(&registers);
    let Stop::Shutdown(chain) = cpu.run(&ram, RunLimit { instructions: 100_000 }) else {
        panic!("the guest goes on without an IDT");
    };
    let vectors: Vec<u8> = chain.iter().map(|record| record.vector).collect();
    assert_eq!(vectors, [6, 13, 13, 8, 13]);
}

#[test]
fn single_steps_come_to_the_same_end() {
    let (mut cpu, ram) = start();
    let mut steps = 0;
    while !matches!(cpu.run(&ram, RunLimit::STEP), Stop::Halted) {
        steps += 1;
        assert!(steps < 20_000, "at {:#x}", cpu.registers().rip);
    }
    assert_eq!(String::from_utf8_lossy(&log(&ram)), String::from_utf8_lossy(EXPECTED));
}

#[test]
fn saving_and_restoring_between_any_two_instructions_changes_nothing() {
    let (mut cpu, ram) = start();
    let mut steps = 0;
    while !matches!(cpu.run(&ram, RunLimit { instructions: 3 }), Stop::Halted) {
        let registers = cpu.registers();
        cpu = SoftCpu::new(CpuModel::X86_64V1, Arc::new(Pins::new()), 0);
        cpu.set_registers(&registers);
        steps += 1;
        assert!(steps < 20_000);
    }
    assert_eq!(String::from_utf8_lossy(&log(&ram)), String::from_utf8_lossy(EXPECTED));
}
