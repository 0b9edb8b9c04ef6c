//! A machine's memory in three numbers that are always told apart, and what else it uses of the host.

use hardware::virtio::balloon::Statistics;
use serde::Serialize;

use super::ledger::{Grant, MachineId};
use crate::scheduler::Allotment;

use super::throttles::Throttles;

/// What a machine lets the ledger see of it, and do to it.
pub trait Holder: Send + Sync {
    /// How it stands now.
    fn reading(&self) -> Reading;
    /// Asks the guest for a new report on its memory, which comes within milliseconds.
    fn ask_statistics(&self);
    /// What its balloon shall hold, in bytes.
    fn set_balloon_target(&self, bytes: u64);
    /// Its part of the processors, at once.
    fn set_allotment(&self, allotment: Allotment);
    /// What it may take of disks and network, at once.
    fn set_throttles(&self, throttles: Throttles);
}

/// A machine's balloon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalloonReading {
    /// Whether the guest has a driver at work.
    pub is_driven: bool,
    /// What it shall hold, in bytes.
    pub target_bytes: u64,
    /// What it holds.
    pub actual_bytes: u64,
    /// The guest's last report.
    pub statistics: Option<Statistics>,
}

/// A machine at a moment; what only grows counts from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Its time runs: a machine that stands still neither gives nor takes.
    pub is_running: bool,
    /// Its balloon, if it has one.
    pub balloon: Option<BalloonReading>,
    /// What the host spends on its memory.
    pub spent_bytes: u64,
    /// Host CPU time of its vCPUs.
    pub ran_ns: u64,
    /// Time its vCPUs could have run and waited for a worker.
    pub waited_ns: u64,
    /// Disk accesses.
    pub disk_operations: u64,
    /// Disk data, read and written.
    pub disk_bytes: u64,
    /// Network data, the larger direction.
    pub network_bytes: u64,
}

/// The three numbers, and what goes with them. In bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spending {
    /// What the guest sees: the memory its kernel manages (`MemTotal`). `None`: it does not say.
    pub seen_bytes: Option<u64>,
    /// What it uses: what it sees, less what new programs could have. `None`: it does not say.
    pub used_bytes: Option<u64>,
    /// What it has free and unused (`MemFree`).
    pub free_bytes: Option<u64>,
    /// What the host really spends: pages of its memory file that are there. ROMs and video memory are among them;
    /// free pages the guest has reported are not.
    pub spent_bytes: u64,
    /// What its balloon holds.
    pub balloon_bytes: u64,
    /// Why it can neither give nor take memory; `None` if it can.
    pub unable: Option<String>,
}

impl Spending {
    /// From a reading.
    pub fn of(reading: &Reading) -> Spending {
        let balloon = reading.balloon.as_ref();
        let statistics = balloon.and_then(|balloon| balloon.statistics.as_ref());
        let seen_bytes = statistics.and_then(|told| told.total_bytes);
        let spare = statistics.and_then(|told| told.available_bytes.or(told.free_bytes));
        Spending {
            seen_bytes,
            used_bytes: seen_bytes.zip(spare).map(|(seen, spare)| seen.saturating_sub(spare)),
            free_bytes: statistics.and_then(|told| told.free_bytes),
            spent_bytes: reading.spent_bytes,
            balloon_bytes: balloon.map_or(0, |balloon| balloon.actual_bytes),
            unable: unable(reading).map(str::to_owned),
        }
    }
}

/// Why a guest can neither give nor take memory.
pub fn unable(reading: &Reading) -> Option<&'static str> {
    match &reading.balloon {
        None => Some("the machine was built without a balloon (paravirtual.balloon in its profile)"),
        Some(balloon) if !balloon.is_driven => Some(
            "its guest has no balloon driver at work (virtio_balloon); its CPU shares and rates can still move",
        ),
        Some(_) if !reading.is_running => Some("it stands still; resume it first"),
        Some(_) => None,
    }
}

/// What a machine has used per second lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Percent of one host CPU.
    pub processor_percent: f64,
    /// Percent of one host CPU that it could have used and had to wait for.
    pub waiting_percent: f64,
    /// Disk accesses per second.
    pub disk_operations: f64,
    /// Bytes per second.
    pub disk_bytes: f64,
    /// Bytes per second.
    pub network_bytes: f64,
}

impl Rates {
    /// Between two readings, `passed_ns` apart.
    pub fn between(before: &Reading, after: &Reading, passed_ns: u64) -> Rates {
        let seconds = passed_ns.max(1) as f64 / 1e9;
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        Rates {
            processor_percent: rate(before.ran_ns, after.ran_ns) / 1e7,
            waiting_percent: rate(before.waited_ns, after.waited_ns) / 1e7,
            disk_operations: rate(before.disk_operations, after.disk_operations),
            disk_bytes: rate(before.disk_bytes, after.disk_bytes),
            network_bytes: rate(before.network_bytes, after.network_bytes),
        }
    }
}

/// A machine in the ledger's report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachineReport {
    /// Which.
    pub id: MachineId,
    /// Its name; no two in a report have the same.
    pub name: String,
    /// What it is granted.
    pub grant: Grant,
    /// Its memory in three numbers.
    pub memory: Spending,
    /// What it used per second lately.
    pub rates: Rates,
    /// The part of all workers its shares are worth when everybody wants them, in percent of one CPU.
    pub entitled_percent: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_numbers_are_told_apart() {
        let told = Statistics {
            total_bytes: Some(480 << 20),
            available_bytes: Some(400 << 20),
            free_bytes: Some(380 << 20),
            ..Statistics::default()
        };
        let balloon = BalloonReading { is_driven: true, statistics: Some(told), ..BalloonReading::default() };
        let reading = Reading {
            is_running: true,
            balloon: Some(balloon),
            spent_bytes: 150 << 20,
            ..Reading::default()
        };
        let spending = Spending::of(&reading);
        assert_eq!(spending.seen_bytes, Some(480 << 20));
        assert_eq!(spending.used_bytes, Some(80 << 20));
        assert_eq!(spending.spent_bytes, 150 << 20);
        assert_eq!(spending.unable, None);
    }

    #[test]
    fn a_guest_without_a_driver_is_said_to_be_so() {
        let mut reading = Reading { is_running: true, ..Reading::default() };
        assert!(Spending::of(&reading).unable.unwrap().contains("without a balloon"));
        reading.balloon = Some(BalloonReading::default());
        assert!(Spending::of(&reading).unable.unwrap().contains("virtio_balloon"));
        assert_eq!(Spending::of(&reading).used_bytes, None);
    }

    #[test]
    fn rates_are_per_second() {
        let before = Reading::default();
        let after = Reading { ran_ns: 500_000_000, disk_bytes: 2 << 20, ..Reading::default() };
        let rates = Rates::between(&before, &after, 2_000_000_000);
        assert_eq!((rates.processor_percent, rates.disk_bytes), (25.0, f64::from(1 << 20)));
    }
}
