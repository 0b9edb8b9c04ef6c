//! What can be granted, and how amounts of it are written for a person.

use serde::{Deserialize, Serialize};

/// Something of the host's that machines share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Guaranteed processor time, in percent of one host CPU.
    Processor,
    /// Memory, in bytes.
    Memory,
    /// Disk accesses, per second.
    DiskOperations,
    /// Disk data, in bytes per second.
    DiskBytes,
    /// Network data, in bytes per second, in each direction.
    NetworkBytes,
}

impl Resource {
    /// All of them, in the ledger's order.
    pub const ALL: [Resource; 5] = [
        Resource::Processor,
        Resource::Memory,
        Resource::DiskOperations,
        Resource::DiskBytes,
        Resource::NetworkBytes,
    ];

    /// Its name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Processor => "processor",
            Resource::Memory => "memory",
            Resource::DiskOperations => "disk accesses",
            Resource::DiskBytes => "disk data",
            Resource::NetworkBytes => "network data",
        }
    }

    /// An amount of it with its unit.
    pub fn write(self, amount: u64) -> String {
        match self {
            Resource::Processor => format!("{amount} % of a CPU"),
            Resource::Memory => bytes(amount),
            Resource::DiskOperations => format!("{amount} accesses/s"),
            Resource::DiskBytes | Resource::NetworkBytes => format!("{}/s", bytes(amount)),
        }
    }
}

/// Bytes with the largest unit that leaves at most one digit behind the point.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fits =
        |(unit, _): &&(u64, &str)| bytes >= *unit && (bytes.is_multiple_of(*unit) || bytes >= 10 * unit);
    match UNITS.iter().find(fits).or_else(|| UNITS.iter().find(|(unit, _)| bytes >= *unit)) {
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_with_their_units() {
        for (amount, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (4096, "4 KiB"),
            (128 << 20, "128 MiB"),
            ((128 << 20) + 4096, "128.0 MiB"),
            (1 << 30, "1 GiB"),
            ((1 << 30) + (512 << 20), "1536 MiB"),
            (23 << 30 | 1 << 29, "23.5 GiB"),
        ] {
            assert_eq!(bytes(amount), text);
        }
        assert_eq!(Resource::DiskBytes.write(10 << 20), "10 MiB/s");
    }
}
