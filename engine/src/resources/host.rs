//! What the host has to grant.

use std::fs;

use serde::Serialize;

use super::amount::Resource;

/// The host's means. What is `None` is not known: it is granted without a bound, and said to be so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// In percent of one CPU: 100 for each worker of the scheduler.
    pub processor: Option<u64>,
    /// Bytes of memory: what is built in, or what this process's control group may have if that is less.
    pub memory: Option<u64>,
    /// Disk accesses per second, if the user says how many the host can do.
    pub disk_operations: Option<u64>,
    /// Bytes per second of the host's disks, if the user says.
    pub disk_bytes: Option<u64>,
    /// Bytes per second of the host's network, if the user says.
    pub network_bytes: Option<u64>,
}

impl Capacity {
    /// This host's, with `workers` threads that run vCPUs. Rates of disks and network are not guessed.
    pub fn of_host(workers: usize) -> Capacity {
        let built_in =
            fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo_bytes(&text, "MemTotal:"));
        let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
        let allowed = group.and_then(|text| text.trim().parse().ok());
        let memory = [built_in, allowed].into_iter().flatten().min();
        Capacity { processor: Some(workers as u64 * 100), memory, ..Capacity::default() }
    }

    /// How much there is of `resource`.
    pub fn of(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Processor => self.processor,
            Resource::Memory => self.memory,
            Resource::DiskOperations => self.disk_operations,
            Resource::DiskBytes => self.disk_bytes,
            Resource::NetworkBytes => self.network_bytes,
        }
    }

    /// Says how much there is.
    pub fn set(&mut self, resource: Resource, amount: Option<u64>) {
        *match resource {
            Resource::Processor => &mut self.processor,
            Resource::Memory => &mut self.memory,
            Resource::DiskOperations => &mut self.disk_operations,
            Resource::DiskBytes => &mut self.disk_bytes,
            Resource::NetworkBytes => &mut self.network_bytes,
        } = amount;
    }
}

/// A line of `/proc/meminfo`, in bytes.
pub fn meminfo_bytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_memory_and_processors() {
        let host = Capacity::of_host(3);
        assert_eq!(host.of(Resource::Processor), Some(300));
        assert!(host.of(Resource::Memory).is_some_and(|bytes| bytes > 64 << 20));
        assert_eq!(host.of(Resource::DiskBytes), None);
    }

    #[test]
    fn meminfo_is_read_by_field() {
        let text = "MemTotal:       503104 kB\nMemFree:        454756 kB\n";
        assert_eq!(meminfo_bytes(text, "MemFree:"), Some(454_756 << 10));
        assert_eq!(meminfo_bytes(text, "Cached:"), None);
    }
}
