//! The host's ledger: what is granted to whom, what is on its way, and what is free. It always adds up: of each
//! resource, granted and held and free together are the limit, and more than that only by what is named `over`.
//!
//! Memory is charged by what a guest may touch, not by what it has touched: its ceiling, less what its balloon
//! holds. What the host really spends is another number ([`super::Spending`]): free pages that a guest reports are
//! given back to the host without its grant getting any smaller.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::amount::Resource;
use super::host::Capacity;
use super::throttles::Throttles;
use crate::scheduler::Allotment;

/// A machine of this process, for as long as it runs. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MachineId(pub u64);

/// A machine's memory as it is granted, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryGrant {
    /// Most it can ever have: what it was built with.
    pub ceiling_bytes: u64,
    /// What it shall have now: the ceiling, less what its balloon is asked to hold.
    pub now_bytes: u64,
    /// What transfers and the policy leave it at least.
    pub floor_bytes: u64,
    /// What it may touch now: `now_bytes`, or more while its balloon still fills, or was emptied by a reset.
    pub charged_bytes: u64,
}

/// All that a machine is granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Memory.
    pub memory: MemoryGrant,
    /// Its part of the processors. What is reserved is granted; shares and cap say who gets the rest.
    pub allotment: Allotment,
    /// What it may take of disks and network at most. Without a bound, nothing is granted and nothing refused.
    pub throttles: Throttles,
}

impl Grant {
    /// How much of `resource` this grants; `None` for no bound.
    pub fn of(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Processor => Some(self.allotment.reservation_percent.into()),
            Resource::Memory => Some(self.memory.charged_bytes),
            Resource::DiskOperations => self.throttles.disk_operations.map(u64::from),
            Resource::DiskBytes => self.throttles.disk_bytes.map(|size| size.bytes()),
            Resource::NetworkBytes => self.throttles.network_bytes.map(|size| size.bytes()),
        }
    }
}

/// One resource in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Which.
    pub resource: Resource,
    /// What the host has; `None` if that is not known.
    pub capacity: Option<u64>,
    /// What may be granted: the capacity, times the over-commit limit.
    pub limit: Option<u64>,
    /// What is granted to machines.
    pub granted: u64,
    /// What a transfer has taken from its donor and not yet granted to its receiver.
    pub held: u64,
    /// What can still be granted.
    pub free: Option<u64>,
    /// What is granted beyond the limit: it was lowered, or a guest took memory back.
    pub over: u64,
    /// Machines that are not bounded.
    pub unbounded: usize,
}

/// Why something is not granted, with the numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{who} wants {} of {}, and {} are free: {} are granted to machines and {} are on their way, of {} that may be \
     granted (the host has {}, over-commit {overcommit_percent} %). {}",
    .line.resource.write(*.wanted),
    .line.resource.name(),
    .line.resource.write(.line.free.unwrap_or(0)),
    .line.resource.write(.line.granted),
    .line.resource.write(.line.held),
    .line.resource.write(.line.limit.unwrap_or(0)),
    .line.resource.write(.line.capacity.unwrap_or(0)),
    "Take some from another machine, or raise the limit (--overcommit PERCENT, or `vitrine ctl set overcommit=PERCENT`)"
)]
pub struct Refusal {
    /// The machine that asked.
    pub who: String,
    /// How much more it wanted.
    pub wanted: u64,
    /// The ledger as it stands.
    pub line: Box<Line>,
    /// The over-commit limit, in percent of the capacity.
    pub overcommit_percent: u32,
}

/// Smallest and largest over-commit limit, in percent of the host's capacity.
pub const OVERCOMMIT_PERCENT: std::ops::RangeInclusive<u32> = 10..=1000;

/// The ledger. Pure: it knows numbers, and neither machines nor time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    capacity: Capacity,
    overcommit_percent: u32,
    grants: BTreeMap<MachineId, Grant>,
    /// Memory that a transfer has taken from its donor and not yet granted.
    held_bytes: u64,
}

impl Ledger {
    /// An empty ledger; no more than the capacity may be granted.
    pub fn new(capacity: Capacity) -> Ledger {
        Ledger { capacity, overcommit_percent: 100, grants: BTreeMap::new(), held_bytes: 0 }
    }

    /// What the host has.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Says what the host has. What is granted stays granted.
    pub fn set_capacity(&mut self, resource: Resource, amount: Option<u64>) {
        self.capacity.set(resource, amount);
    }

    /// How much of the capacity may be granted, in percent.
    pub fn overcommit_percent(&self) -> u32 {
        self.overcommit_percent
    }

    /// Sets that, within [`OVERCOMMIT_PERCENT`]. What is granted stays granted.
    pub fn set_overcommit_percent(&mut self, percent: u32) {
        self.overcommit_percent = percent.clamp(*OVERCOMMIT_PERCENT.start(), *OVERCOMMIT_PERCENT.end());
    }

    /// What a machine is granted.
    pub fn grant(&self, machine: MachineId) -> Option<&Grant> {
        self.grants.get(&machine)
    }

    /// Every resource.
    pub fn lines(&self) -> Vec<Line> {
        Resource::ALL.map(|resource| self.line(resource)).to_vec()
    }

    /// One resource.
    pub fn line(&self, resource: Resource) -> Line {
        let granted = self.grants.values().filter_map(|grant| grant.of(resource)).sum();
        let unbounded = self.grants.values().filter(|grant| grant.of(resource).is_none()).count();
        let held = if resource == Resource::Memory { self.held_bytes } else { 0 };
        let capacity = self.capacity.of(resource);
        let limit = capacity.map(|capacity| {
            let limit = u128::from(capacity) * u128::from(self.overcommit_percent) / 100;
            limit.min(u64::MAX.into()) as u64
        });
        let taken: u64 = granted + held;
        let free = limit.map(|limit| limit.saturating_sub(taken));
        let over = limit.map_or(0, |limit| taken.saturating_sub(limit));
        Line { resource, capacity, limit, granted, held, free, over, unbounded }
    }

    /// Enters a new machine, or changes what one is granted: lowering is always possible, raising only within
    /// the limit. On a refusal nothing has changed.
    pub fn grant_to(&mut self, machine: MachineId, name: &str, grant: Grant) -> Result<(), Refusal> {
        let before = self.grants.get(&machine);
        for resource in Resource::ALL {
            let had = before.and_then(|before| before.of(resource)).unwrap_or(0);
            let more = grant.of(resource).unwrap_or(0).saturating_sub(had);
            let line = self.line(resource);
            if more > 0 && line.free.is_some_and(|free| more > free) {
                let overcommit_percent = self.overcommit_percent;
                return Err(Refusal {
                    who: name.to_owned(),
                    wanted: more,
                    line: Box::new(line),
                    overcommit_percent,
                });
            }
        }
        self.grants.insert(machine, grant);
        Ok(())
    }

    /// Enters a fact: the machine may touch this much memory now, whether that is within the limit or not.
    pub fn observe(&mut self, machine: MachineId, memory: MemoryGrant) {
        if let Some(grant) = self.grants.get_mut(&machine) {
            grant.memory = memory;
        }
    }

    /// Strikes a machine out: all it was granted is free.
    pub fn strike(&mut self, machine: MachineId) {
        self.grants.remove(&machine);
    }

    /// Keeps `bytes` for the receiver of a transfer.
    pub fn hold(&mut self, bytes: u64) {
        self.held_bytes += bytes;
    }

    /// Gives back what was kept, or grants it: the receiver is entered in the same breath.
    pub fn let_go(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.held_bytes, "no more is let go than was held");
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
