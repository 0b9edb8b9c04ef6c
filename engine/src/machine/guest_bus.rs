//! The rest of the machine as one vCPU sees it, for both backends: every access passes here and the
//! buses behind it, and is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cpu::soft::WORK;
use cpu::{CALL_PORT, GuestBus, HostPage};
use hardware::interrupts::Fabric;
use hardware::memory::PAGE;
use hardware::{Bus, Clock, Memory, Space, Width, bus::Traced};

use super::recent::Recent;
use super::timeline::Timeline;
use crate::debugger::Lookout;
use crate::scheduler;
use crate::trace::{Stamps, Trace, What};

/// Frequency of the guest's time-stamp counter before any offset: one tick per nanosecond of guest time.
pub const TIMESTAMP_HZ: u64 = 1_000_000_000;

/// One vCPU's way to everything that is not the vCPU.
pub struct MachineBus {
    memory: Arc<Memory>,
    bus: Arc<Bus>,
    clock: Clock,
    /// Wall time at guest time 0, in nanoseconds since 1970.
    started_ns: Arc<AtomicU64>,
    /// `None` when the interrupt controllers live in the host's kernel.
    fabric: Option<Arc<Fabric>>,
    cpu: usize,
    exits: Arc<Exits>,
    /// What counts the time, in a deterministic machine.
    timeline: Option<Arc<Timeline>>,
    recent: Arc<Recent>,
    trace: Arc<Trace>,
    /// When traced accesses happened.
    stamps: Stamps,
    /// What the machine is to stop at.
    lookout: Arc<Lookout>,
    /// Interrupts this vCPU has taken.
    taken: AtomicU64,
}

/// Counters of what traps, over all vCPUs.
pub struct Exits {
    /// Reads and writes per port.
    ports: Vec<AtomicU64>,
    memory_reads: AtomicU64,
    memory_writes: AtomicU64,
}

impl Exits {
    /// All zero.
    pub fn new() -> Arc<Exits> {
        // Zeroed by the host when touched: untouched ports cost nothing.
        let ports = std::iter::repeat_with(AtomicU64::default).take(0x1_0000).collect();
        Arc::new(Exits { ports, memory_reads: AtomicU64::new(0), memory_writes: AtomicU64::new(0) })
    }

    /// Ports that were accessed, with how often.
    pub fn ports(&self) -> Vec<(u16, u64)> {
        let count = |(port, n): (usize, &AtomicU64)| (port as u16, n.load(Ordering::Relaxed));
        self.ports.iter().enumerate().map(count).filter(|(_, n)| *n > 0).collect()
    }

    /// Device memory reads and writes.
    pub fn memory(&self) -> (u64, u64) {
        (self.memory_reads.load(Ordering::Relaxed), self.memory_writes.load(Ordering::Relaxed))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl MachineBus {
    /// The bus of vCPU `cpu`. `started_ns` is the wall time at guest time 0, in nanoseconds since 1970.
    pub fn new(
        memory: Arc<Memory>,
        bus: Arc<Bus>,
        clock: Clock,
        started_ns: Arc<AtomicU64>,
        fabric: Option<Arc<Fabric>>,
        cpu: usize,
        exits: Arc<Exits>,
    ) -> MachineBus {
        MachineBus {
            memory,
            bus,
            trace: Trace::new(clock.clone(), &[], Vec::new()),
            clock,
            started_ns,
            fabric,
            cpu,
            exits,
            timeline: None,
            recent: Arc::default(),
            stamps: Stamps::default(),
            lookout: Arc::default(),
            taken: AtomicU64::new(0),
        }
    }

    /// The same, in a deterministic machine.
    pub fn counted_by(self, timeline: Option<Arc<Timeline>>) -> MachineBus {
        MachineBus { timeline, ..self }
    }

    /// The same, telling `trace` what happens on it.
    pub fn traced_by(self, trace: &Arc<Trace>) -> MachineBus {
        trace.take_from(self.recent.clone());
        MachineBus { trace: trace.clone(), ..self }
    }

    /// Where it tells what happens.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The same, with somebody who looks at what passes.
    pub fn watched_by(self, lookout: Arc<Lookout>) -> MachineBus {
        MachineBus { lookout, ..self }
    }

    /// Guest memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Interrupts this vCPU has taken from the controllers.
    pub fn interrupts(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The last device accesses of this vCPU.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    fn read_device(&self, space: Space, address: u64, bytes: usize) -> u64 {
        let width = Self::width(bytes);
        let (value, window) = self.bus.read_placed(space, address, width, self.cpu);
        self.note(Traced { space, address, width, value, write: false, cpu: self.cpu, window });
        self.look(space, address, width, value, false);
        value
    }

    fn write_device(&self, space: Space, address: u64, bytes: usize, value: u64) {
        let width = Self::width(bytes);
        let value = value & width.ones();
        let window = if self.trace.is_on() { self.bus.place_of(space, address) } else { None };
        // Before what comes of it.
        self.note(Traced { space, address, width, value, write: true, cpu: self.cpu, window });
        self.bus.write(space, address, width, value, self.cpu);
        self.look(space, address, width, value, true);
    }

    /// Remembers an access, and has the trace take it.
    fn note(&self, access: Traced) {
        if !self.trace.is_on() {
            return self.recent.note(&access);
        }
        let at_ns = self.stamps.now(&self.clock, self.trace.pushed());
        if self.recent.note_for_trace(&access, at_ns) {
            self.trace.gather();
        }
    }

    fn look(&self, space: Space, address: u64, width: Width, value: u64, write: bool) {
        self.lookout.accessed(self.cpu, space, address, width, value, write);
        if self.lookout.looks_at_timers() {
            self.lookout.look_at_timers(Some(self.cpu));
        }
    }

    fn width(bytes: usize) -> Width {
        Width::from_bytes(bytes).expect("backends split accesses to 1, 2, 4 or 8 bytes")
    }

    fn crosses_page(address: u64, bytes: usize) -> bool {
        address % PAGE + bytes as u64 > PAGE
    }
}

impl GuestBus for MachineBus {
    fn page(&self, address: u64) -> HostPage {
        let page = self.memory.page(address);
        let host = |offset: u64| self.memory.host_base().wrapping_add(offset as usize);
        HostPage {
            read: page.read.map_or(std::ptr::null(), |offset| host(offset).cast_const()),
            write: page.write.map_or(std::ptr::null_mut(), host),
            offset: page.read.unwrap_or(u64::MAX),
        }
    }

    fn map_generation(&self) -> u64 {
        self.memory.generation()
    }

    fn read(&self, address: u64, bytes: usize) -> u64 {
        if Self::crosses_page(address, bytes) {
            return (0..bytes as u64).fold(0, |v, n| v | self.read(address.wrapping_add(n), 1) << (8 * n));
        }
        if let Some(page) = self.memory.page(address).read {
            let mut value = [0; 8];
            self.memory.read_at(page + address % PAGE, &mut value[..bytes]);
            return u64::from_le_bytes(value);
        }
        count(&self.exits.memory_reads);
        self.read_device(Space::Memory, address, bytes)
    }

    fn write(&self, address: u64, bytes: usize, value: u64) {
        if Self::crosses_page(address, bytes) {
            return (0..bytes as u64).for_each(|n| self.write(address.wrapping_add(n), 1, value >> (8 * n)));
        }
        if let Some(page) = self.memory.page(address).write {
            return self.memory.write_at(page + address % PAGE, &value.to_le_bytes()[..bytes]);
        }
        count(&self.exits.memory_writes);
        self.write_device(Space::Memory, address, bytes, value);
    }

    fn port_in(&self, port: u16, bytes: usize) -> u32 {
        count(&self.exits.ports[usize::from(port)]);
        self.read_device(Space::Port, u64::from(port), bytes) as u32
    }

    fn port_out(&self, port: u16, bytes: usize, value: u32) {
        count(&self.exits.ports[usize::from(port)]);
        self.write_device(Space::Port, u64::from(port), bytes, u64::from(value));
    }

    fn call(&self, registers: &mut [u32; 4]) -> bool {
        let (space, address, width) = (Space::Port, u64::from(CALL_PORT), Width::Dword);
        let window = self.bus.call(address, registers);
        if window.is_some() {
            count(&self.exits.ports[usize::from(CALL_PORT)]);
            let value = u64::from(registers[0]);
            self.note(Traced { space, address, width, value, write: false, cpu: self.cpu, window });
            self.look(space, address, width, value, false);
        }
        window.is_some()
    }

    fn acknowledge_interrupt(&self) -> Option<u8> {
        let vector = self.fabric.as_ref()?.acknowledge(self.cpu);
        if let Some(vector) = vector {
            self.trace.note(Some(self.cpu), What::Acknowledged { vector });
            count(&self.taken);
            self.lookout.acknowledged(self.cpu, vector);
        }
        vector
    }

    fn timestamp(&self) -> u64 {
        self.clock.now()
    }

    fn reached(&self, steps: u64) {
        if let Some(timeline) = &self.timeline {
            timeline.reached(steps);
        }
    }

    fn control_point(&self) -> i64 {
        // Guest time is a function of steps in a deterministic machine, and of no clock.
        if !self.trace.is_on() || self.timeline.is_some() {
            scheduler::control_point();
            return WORK;
        }
        if self.stamps.renew() {
            scheduler::control_point();
        }
        WORK / Stamps::PER_LOOK
    }

    fn random(&self) -> Option<u64> {
        self.timeline.as_ref().map(|timeline| timeline.random())
    }

    fn timestamp_hz(&self) -> u64 {
        TIMESTAMP_HZ
    }

    fn wall_clock_at_zero_ns(&self) -> u64 {
        self.started_ns.load(Ordering::Relaxed)
    }

    fn read_apic_msr(&self, index: u32) -> Option<u64> {
        self.fabric.as_ref()?.read_apic_msr(self.cpu, index)
    }

    fn write_apic_msr(&self, index: u32, value: u64) -> bool {
        self.fabric.as_ref().is_some_and(|fabric| fabric.write_apic_msr(self.cpu, index, value))
    }

    fn task_priority(&self) -> u8 {
        self.fabric.as_ref().map_or(0, |fabric| fabric.task_priority(self.cpu))
    }

    fn set_task_priority(&self, priority: u8) {
        if let Some(fabric) = &self.fabric {
            fabric.set_task_priority(self.cpu, priority);
        }
    }
}
