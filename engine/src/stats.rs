//! Counters and times of a run: what `--stats` writes and the window shows.

use std::time::Duration;

use hardware::Space;
use hardware::bus::WindowCount;
use serde::Serialize;

use crate::machine::{CpuCounts, DeviceWork, DriveWork, NetworkStats, Timer};
use crate::sound::SoundStats;

/// Everything counted since the machine was started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Which backend ran it.
    pub backend: String,
    /// Host time since the start.
    pub wall_seconds: f64,
    /// Guest time since the start; it stands still while paused.
    pub guest_seconds: f64,
    /// CPU time of the whole process.
    pub process_cpu_seconds: f64,
    /// Host time the vCPUs were on a worker.
    pub vcpu_seconds: f64,
    /// Host time the vCPUs were ready and waited for a worker.
    pub waited_seconds: f64,
    /// Instructions executed, where the backend counts them.
    pub instructions: Option<u64>,
    /// Per vCPU.
    pub cpus: Vec<CpuCounts>,
    /// Traps by kind.
    pub exits: ExitCounts,
    /// Every window of every device, with its reads and writes.
    pub devices: Vec<WindowCount>,
    /// Interrupts per request line: (line, raised).
    pub interrupts: Vec<LineCount>,
    /// What passed over the network card's cable, if there is one.
    pub network: Option<NetworkStats>,
    /// Where sound goes, and how well.
    pub sound: SoundStats,
    /// What each device has done, and how long the guest's accesses to it took.
    pub work: Vec<DeviceWork>,
    /// What each drive has done, and how long the host took for it.
    pub drives: Vec<DriveWork>,
    /// The guest's timers and the host's.
    pub timers: TimerCounts,
    /// What the host's kernel counts by itself (KVM): exits that never come out of it among them, over all vCPUs.
    pub kernel: Vec<KernelCount>,
}

/// A statistic of the host's kernel.
#[derive(Clone, Debug, Serialize)]
pub struct KernelCount {
    /// The kernel's name for it.
    pub name: String,
    /// Its value.
    pub count: u64,
}

/// Traps by kind.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ExitCounts {
    /// IN and OUT.
    pub port: u64,
    /// Reads of device memory.
    pub memory_read: u64,
    /// Writes of device memory.
    pub memory_write: u64,
    /// Interrupts acknowledged.
    pub interrupt: u64,
    /// HLT with nothing pending.
    pub halt: u64,
    /// Slices ended by the monitor.
    pub kick: u64,
    /// Host time that handling them took, in seconds, reckoned from one in eight.
    pub seconds: HandlingSeconds,
    /// Accesses that no device claimed, reads and writes.
    pub unclaimed: (u64, u64),
    /// Per port: accesses.
    pub ports: Vec<PortCount>,
}

/// Host time that the monitor spent on accesses to devices, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct HandlingSeconds {
    /// IN and OUT.
    pub port: f64,
    /// Reads of device memory.
    pub memory_read: f64,
    /// Writes of device memory.
    pub memory_write: f64,
}

impl HandlingSeconds {
    /// What accesses to these windows took.
    pub fn of(windows: &[WindowCount]) -> HandlingSeconds {
        let mut sum = HandlingSeconds::default();
        for window in windows {
            let (read, write) = (window.read_ns as f64 / 1e9, window.write_ns as f64 / 1e9);
            match window.space {
                Space::Port => sum.port += read + write,
                Space::Memory => {
                    sum.memory_read += read;
                    sum.memory_write += write;
                }
            }
        }
        sum
    }
}

/// Accesses to one port.
#[derive(Clone, Debug, Serialize)]
pub struct PortCount {
    /// The port, in hexadecimal.
    pub port: String,
    /// IN and OUT together.
    pub accesses: u64,
}

/// Interrupts of one line.
#[derive(Clone, Debug, Serialize)]
pub struct LineCount {
    /// Request line (GSI).
    pub line: u32,
    /// Rising edges.
    pub raised: u64,
    /// Served by the 8259A pair, or sent as a message by the I/O APIC.
    pub delivered: u64,
}

/// Timers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TimerCounts {
    /// Every timer of the guest that is not the host kernel's.
    pub guest: Vec<Timer>,
    /// Output edges of the guest's 8254 channel 0, and how many of them came too late to be told apart.
    pub guest_8254_edges: u64,
    /// Edges merged because the machine was late.
    pub guest_8254_merged: u64,
    /// Slices given to vCPUs by the scheduler.
    pub host_slices: u64,
    /// Slices that the host's quantum timer ended.
    pub host_quantum_expiries: u64,
}

/// CPU time of this process so far.
pub fn process_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
