//! Late-bound wires: devices and vCPUs are built before those who listen to them.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use cpu::Signal;
use hardware::Request;
use hardware::interrupts::CpuLines;

use super::turns::Turns;
use super::virtual_cpu::{Incident, VirtualCpu};
use crate::scheduler::{Entity, Scheduler};

/// What a machine asks of its supervisor.
#[derive(Debug)]
pub enum Wish {
    /// A device's request.
    Device(Request),
    /// Something a vCPU met.
    Cpu(Incident),
    /// A deterministic machine has made the steps it was to make.
    Arrived,
    /// Something it was to stop at was met.
    Stopped,
    /// A disk of the host is full: the machine is to stand still until there is room.
    DiskFull,
}

type Listener = Box<dyn Fn(Wish) + Send + Sync>;
/// From devices and vCPUs to those who listen, and from interrupt controllers to vCPUs.
#[derive(Default)]
pub struct Wires {
    pub listener: ArcSwapOption<Listener>,
    pub cpus: ArcSwapOption<Vec<Arc<VirtualCpu>>>,
    /// One for each vCPU, or one for all.
    pub entities: ArcSwapOption<Vec<Arc<Entity>>>,
    pub turns: ArcSwapOption<Turns>,
}

impl Wires {
    /// Tells whoever listens; a deterministic machine makes no step before that is dealt with.
    pub fn wish(&self, wish: Wish) {
        if let Some(turns) = &*self.turns.load() {
            turns.stall();
        }
        if let Some(listener) = &*self.listener.load() {
            listener(wish);
        }
    }

    /// Has the scheduler run a vCPU that sleeps.
    pub fn wake(&self, cpu: usize) {
        if let Some(entity) =
            self.entities.load().as_ref().and_then(|entities| entities.get(cpu).or(entities.first()))
        {
            Scheduler::global().wake(entity);
        }
    }

    fn with_cpu(&self, cpu: usize, act: impl FnOnce(&VirtualCpu) -> bool) {
        if let Some(virtual_cpu) = self.cpus.load().as_ref().and_then(|cpus| cpus.get(cpu))
            && act(virtual_cpu)
        {
            self.wake(cpu);
        }
    }
}

/// The interrupt controllers' wires to the vCPUs.
pub struct CpuWires(pub Arc<Wires>);

impl CpuLines for CpuWires {
    fn interrupt(&self, cpu: usize, level: bool) {
        self.0.with_cpu(cpu, |virtual_cpu| virtual_cpu.interrupt(level));
    }

    fn nmi(&self, cpu: usize) {
        self.0.with_cpu(cpu, |virtual_cpu| {
            virtual_cpu.signal(Signal::Nmi);
            true
        });
    }

    fn init(&self, cpu: usize) {
        self.0.with_cpu(cpu, |virtual_cpu| {
            virtual_cpu.init();
            true
        });
    }

    fn startup(&self, cpu: usize, vector: u8) {
        self.0.with_cpu(cpu, |virtual_cpu| {
            virtual_cpu.start(vector);
            true
        });
    }
}
