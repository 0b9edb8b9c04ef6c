//! What a machine counts and measures, to be read while it runs.

use hardware::histogram::Histogram;
use hardware::interrupts::LapicView;

use super::edges::Edge;
use super::recent::{self, Told};
use super::virtual_cpu::CpuCounts;
use super::{Machine, Network, tally};
use crate::stats::{self, ExitCounts, HandlingSeconds, KernelCount, PortCount, Stats, TimerCounts};

impl Machine {
    /// Counters and times so far.
    pub fn stats(&self) -> Stats {
        let cpus: Vec<CpuCounts> = self.cpus.iter().map(|cpu| cpu.counts()).collect();
        let (memory_read, memory_write) = self.exits.memory();
        let ports: Vec<(u16, u64)> = self.exits.ports();
        let slices: Vec<(u64, u64)> = self.entities.iter().map(|entity| entity.slices()).collect();
        let (edges, merged) = self.board.timer_edges();
        let devices = self.bus.counts();
        Stats {
            backend: self.platform.note.clone(),
            wall_seconds: self.started.elapsed().as_secs_f64(),
            guest_seconds: self.clock.now() as f64 / 1e9,
            process_cpu_seconds: (stats::process_cpu_time() - self.cpu_time_at_start).as_secs_f64(),
            waited_seconds: self.entities.first().map_or(0.0, |entity| entity.waited().as_secs_f64()),
            vcpu_seconds: self.entities.iter().map(|entity| entity.ran().as_secs_f64()).sum(),
            instructions: cpus.iter().map(|cpu| cpu.instructions).sum(),
            exits: ExitCounts {
                port: ports.iter().map(|(_, n)| n).sum(),
                memory_read,
                memory_write,
                interrupt: self.cpus.iter().map(|cpu| cpu.bus().interrupts()).sum(),
                halt: cpus.iter().map(|cpu| cpu.halts).sum(),
                kick: cpus.iter().map(|cpu| cpu.kicks).sum(),
                seconds: HandlingSeconds::of(&devices),
                unclaimed: self.bus.unclaimed(),
                ports: ports
                    .into_iter()
                    .map(|(port, accesses)| PortCount { port: format!("{port:#06x}"), accesses })
                    .collect(),
            },
            cpus,
            kernel: self.kernel_counts(),
            work: tally::of_devices(&self.bus, &devices, &self.board.tally),
            devices,
            interrupts: self.board.line_counts(),
            network: self.network.as_ref().map(Network::stats),
            sound: self.sound.stats(),
            drives: self.drives.work(),
            timers: TimerCounts {
                guest: self.board.timers(self.clock.now(), |alarm| self.lateness[alarm].summary()),
                guest_8254_edges: edges,
                guest_8254_merged: merged,
                host_slices: slices.iter().map(|(all, _)| all).sum(),
                host_quantum_expiries: slices.iter().map(|(_, preempted)| preempted).sum(),
            },
        }
    }

    /// What the host's kernel counts, summed over all vCPUs.
    fn kernel_counts(&self) -> Vec<KernelCount> {
        let mut sums: Vec<KernelCount> = Vec::new();
        for (name, count) in self.cpus.iter().flat_map(|cpu| cpu.kernel_counts()) {
            match sums.iter_mut().find(|sum| sum.name == name) {
                Some(sum) => sum.count += count,
                None => sums.push(KernelCount { name, count }),
            }
        }
        sums
    }

    /// The local APIC of a vCPU; `None` where the host's kernel keeps it.
    pub fn local_apic(&self, cpu: usize) -> Option<LapicView> {
        self.board.fabric()?.lapic(cpu)
    }

    /// The latest timer edges from number `from` on, and the number to ask from next.
    pub fn edges_since(&self, from: u64) -> (Vec<Edge>, u64) {
        self.edges.since(from)
    }

    /// How late each device with an alarm was called: its name, and a histogram of (largest lateness in guest
    /// nanoseconds, deadlines).
    pub fn lateness_histograms(&self) -> Vec<(String, Vec<(u64, u64)>)> {
        let names = self.board.timed.iter().map(|device| device.lock().name().to_owned());
        names.zip(self.lateness.iter().map(Histogram::histogram)).collect()
    }

    /// What its vCPUs are to the scheduler's log of slices.
    pub fn entity_ids(&self) -> Vec<u64> {
        self.entities.iter().map(|entity| entity.id()).collect()
    }

    /// The last device accesses of a vCPU, oldest first, with what they say.
    pub fn recent_accesses(&self, cpu: usize) -> Vec<Told> {
        recent::in_words(&self.cpus[cpu].bus().recent().list(), &self.bus.counts())
    }
}
