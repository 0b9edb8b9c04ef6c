//! Resources under control: the host's [`Ledger`], what machines are granted and use of it, and the transfers that move
//! memory, shares and rates from one running machine to another.
//!
//! [`Resources::global`] is the process's: every [`crate::Session`] takes a [`Seat`] in it before it is built, and a
//! start that does not fit is refused with the numbers. Pages and the command line read [`Resources::report`] (a
//! snapshot, cheap enough for ten times a second) and [`Resources::transfers`], and act by [`Resources::transfer`],
//! [`Resources::cancel`], [`Resources::undo`] and the setters. Nothing here waits for a guest.
//!
//! The pure parts are [`ledger`], [`transfer`], [`policy`]; this file and `moving.rs` tie them to machines, which are
//! anything that is a [`Holder`].

pub mod amount;
pub mod host;
mod keeper;
pub mod ledger;
mod moving;
pub mod policy;
pub mod spending;
pub mod throttles;
pub mod transfer;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use crate::profile::Profile;
use crate::scheduler::{Allotment, AllotmentError, Scheduler};

pub use amount::Resource;
pub use host::Capacity;
pub use ledger::{Grant, Ledger, Line, MachineId, MemoryGrant, OVERCOMMIT_PERCENT, Refusal};
pub use moving::{TRANSFERS_KEPT, TransferError};
pub use policy::{Decision, PolicyReport};
pub use spending::{BalloonReading, Holder, MachineReport, Rates, Reading, Spending};
pub use throttles::{Throttles, ThrottlesError};
pub use transfer::{Goods, Party, Transfer, TransferState};

use policy::Policy;
use transfer::MemoryMove;

/// Why what a machine is granted was not changed. It is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It does not run (any more).
    #[error("the machine does not run")]
    Unknown,
    /// No machine can have such an allotment.
    #[error(transparent)]
    Allotment(#[from] AllotmentError),
    /// No machine can have such throttles.
    #[error(transparent)]
    Throttles(#[from] ThrottlesError),
    /// There is not enough of it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Memory outside floor and ceiling.
    #[error(
        "{} is outside {} (its floor) and {} (its ceiling)",
        amount::bytes(*.wanted),
        amount::bytes(*.floor),
        amount::bytes(*.ceiling)
    )]
    Memory {
        /// What was asked for, in bytes.
        wanted: u64,
        /// Least.
        floor: u64,
        /// Most.
        ceiling: u64,
    },
    /// A floor above the ceiling.
    #[error("a floor of {} is above the ceiling of {}", amount::bytes(*.floor), amount::bytes(*.ceiling))]
    Floor {
        /// What was asked for, in bytes.
        floor: u64,
        /// The ceiling.
        ceiling: u64,
    },
    /// Its memory cannot change now.
    #[error("{0}")]
    Unable(String),
}

/// The resources of the host, as this process hands them out.
pub struct Resources {
    /// Who changes grants does so alone. Taken before `state`; never needed to leave.
    turn: Mutex<()>,
    state: Mutex<State>,
    /// Wakes the keeper.
    bell: Condvar,
    opened: Instant,
}

struct State {
    ledger: Ledger,
    members: BTreeMap<MachineId, Member>,
    next_machine: u64,
    /// All transfers that are kept, oldest first.
    transfers: VecDeque<Transfer>,
    next_transfer: u64,
    /// The memory transfers under way, by number.
    moving: BTreeMap<u64, MemoryMove>,
    policy: Policy,
    has_keeper: bool,
}

struct Member {
    name: String,
    cpus: u32,
    /// `None` while it is being built.
    holder: Option<Weak<dyn Holder>>,
    sample: Reading,
    sampled_ns: u64,
    rates: Rates,
}

/// A machine that was looked at, and stays alive meanwhile.
struct Looked {
    id: MachineId,
    holder: Arc<dyn Holder>,
    reading: Reading,
}

/// Everything at a moment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Nanoseconds since the ledger was opened; [`Transfer::times`] count on the same clock.
    pub at_ns: u64,
    /// How much of the capacity may be granted.
    pub overcommit_percent: u32,
    /// Each resource: granted, held, free.
    pub lines: Vec<Line>,
    /// What all machines use of each per second (of memory: what the host spends), in the lines' order.
    pub used: Vec<u64>,
    /// Each machine, in the order of their start.
    pub machines: Vec<MachineReport>,
}

/// A machine's place in the ledger; what it was granted is free when this is dropped.
pub struct Seat {
    id: MachineId,
    resources: Arc<Resources>,
}

impl Seat {
    /// Which machine.
    pub fn id(&self) -> MachineId {
        self.id
    }

    /// The machine was built: from now on it is looked at.
    pub fn sit(&self, holder: Weak<dyn Holder>) {
        if let Some(member) = self.resources.state.lock().members.get_mut(&self.id) {
            member.holder = Some(holder);
        }
        self.resources.wake_keeper();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.resources.state.lock();
        state.members.remove(&self.id);
        state.ledger.strike(self.id);
        drop(state);
        self.resources.wake_keeper();
    }
}

impl Resources {
    /// This process's, of this host.
    pub fn global() -> &'static Arc<Resources> {
        static RESOURCES: OnceLock<Arc<Resources>> = OnceLock::new();
        RESOURCES.get_or_init(|| Resources::new(Capacity::of_host(Scheduler::global().workers())))
    }

    /// A ledger of its own.
    pub fn new(capacity: Capacity) -> Arc<Resources> {
        let state = State {
            ledger: Ledger::new(capacity),
            members: BTreeMap::new(),
            next_machine: 1,
            transfers: VecDeque::new(),
            next_transfer: 1,
            moving: BTreeMap::new(),
            policy: Policy::default(),
            has_keeper: false,
        };
        Arc::new(Resources {
            turn: Mutex::new(()),
            state: Mutex::new(state),
            bell: Condvar::new(),
            opened: Instant::now(),
        })
    }

    /// Enters a machine, if what its profile asks for can still be granted. Its memory counts with its ceiling
    /// until its balloon is filled.
    pub fn seat(self: &Arc<Self>, profile: &Profile) -> Result<Seat, Refusal> {
        let _turn = self.turn.lock();
        let mut looked = self.look();
        let mut state = self.state.lock();
        state.follow(&mut looked, self.now_ns());
        let id = MachineId(state.next_machine);
        let wanted = &profile.name;
        let taken = |name: &String| state.members.values().any(|member| member.name == *name);
        let numbered = (2u32..).map(|n| format!("{wanted}-{n}"));
        let name = std::iter::once(wanted.clone()).chain(numbered).find(|name| !taken(name));
        let name = name.expect("there are more numbers than machines");
        state.ledger.grant_to(id, &name, granted_by(profile))?;
        state.next_machine += 1;
        let (sample, rates) = (Reading::default(), Rates::default());
        let member =
            Member { name, cpus: profile.cpus, holder: None, sample, sampled_ns: self.now_ns(), rates };
        state.members.insert(id, member);
        drop(state);
        self.start_keeper();
        Ok(Seat { id, resources: self.clone() })
    }

    /// Everything as it stands.
    pub fn report(&self) -> Report {
        let _turn = self.turn.lock();
        let mut looked = self.look();
        let mut state = self.state.lock();
        state.follow(&mut looked, self.now_ns());
        state.report(&looked, self.now_ns())
    }

    /// What a machine is granted.
    pub fn grant(&self, machine: MachineId) -> Option<Grant> {
        self.state.lock().ledger.grant(machine).copied()
    }

    /// Gives a machine another part of the processors, in force at once.
    pub fn set_allotment(&self, machine: MachineId, allotment: Allotment) -> Result<(), GrantError> {
        self.change(machine, |member, grant| {
            allotment.check(member.cpus)?;
            grant.allotment = allotment;
            Ok(())
        })
    }

    /// Changes what a machine may take of disks and network, in force at once.
    pub fn set_throttles(&self, machine: MachineId, throttles: Throttles) -> Result<(), GrantError> {
        self.change(machine, |_, grant| {
            throttles.check()?;
            grant.throttles = throttles;
            Ok(())
        })
    }

    /// Sets what transfers leave a machine at least, in bytes of memory.
    pub fn set_floor(&self, machine: MachineId, floor: u64) -> Result<(), GrantError> {
        self.change(machine, |_, grant| {
            let ceiling = grant.memory.ceiling_bytes;
            if floor > ceiling {
                return Err(GrantError::Floor { floor, ceiling });
            }
            grant.memory.floor_bytes = floor;
            Ok(())
        })
    }

    /// Sets how much memory a machine shall have now, between its floor and its ceiling. Its guest gives or takes in
    /// its own time.
    pub fn set_memory_now(&self, machine: MachineId, wanted: u64) -> Result<(), GrantError> {
        let _turn = self.turn.lock();
        let mut looked = self.look();
        let mut state = self.state.lock();
        state.follow(&mut looked, self.now_ns());
        let Some(one) = looked.iter().find(|one| one.id == machine) else { return Err(GrantError::Unknown) };
        let name = state.members.get(&machine).map_or("", |member| &member.name).to_owned();
        let Some(mut grant) = state.ledger.grant(machine).copied() else { return Err(GrantError::Unknown) };
        let MemoryGrant { ceiling_bytes: ceiling, floor_bytes: floor, .. } = grant.memory;
        if !(floor..=ceiling).contains(&wanted) {
            return Err(GrantError::Memory { wanted, floor, ceiling });
        }
        if let Some(reason) = spending::unable(&one.reading) {
            return Err(GrantError::Unable(format!("{name} can neither give nor take memory: {reason}")));
        }
        if state.is_moving(machine) {
            return Err(GrantError::Unable(format!(
                "memory of {name} is on its way; wait, or cancel that first"
            )));
        }
        let target = (ceiling - wanted) & !(hardware::memory::PAGE - 1);
        grant.memory.now_bytes = ceiling - target;
        grant.memory.charged_bytes = grant.memory.charged_bytes.max(ceiling - target);
        state.ledger.grant_to(machine, &name, grant)?;
        one.holder.set_balloon_target(target);
        Ok(())
    }

    /// How much of the host's capacity may be granted, in percent, within [`OVERCOMMIT_PERCENT`].
    pub fn set_overcommit_percent(&self, percent: u32) {
        self.state.lock().ledger.set_overcommit_percent(percent);
    }

    /// Says how much of `resource` the host has; `None`: that is not known, and nothing is refused.
    pub fn set_capacity(&self, resource: Resource, amount: Option<u64>) {
        self.state.lock().ledger.set_capacity(resource, amount);
    }

    /// Switches the policy that balances by need on or off. It is off at first.
    pub fn set_policy(&self, on: bool) {
        self.state.lock().policy.is_on = on;
    }

    /// The policy, with its latest decisions.
    pub fn policy(&self) -> PolicyReport {
        self.state.lock().policy.report()
    }

    /// Changes what a machine is granted, in the ledger and then in the machine.
    fn change(
        &self,
        machine: MachineId,
        change: impl FnOnce(&Member, &mut Grant) -> Result<(), GrantError>,
    ) -> Result<(), GrantError> {
        let _turn = self.turn.lock();
        let mut looked = self.look();
        let mut state = self.state.lock();
        state.follow(&mut looked, self.now_ns());
        let State { ledger, members, .. } = &mut *state;
        let member = members.get(&machine).ok_or(GrantError::Unknown)?;
        let before = ledger.grant(machine).copied().ok_or(GrantError::Unknown)?;
        let mut grant = before;
        change(member, &mut grant)?;
        ledger.grant_to(machine, &member.name, grant)?;
        if let Some(one) = looked.iter().find(|one| one.id == machine) {
            one.enforce(&before, &grant);
        }
        Ok(())
    }

    /// Looks at every machine. Called without the state: a machine that ends meanwhile leaves it.
    fn look(&self) -> Vec<Looked> {
        let state = self.state.lock();
        let alive = |(id, member): (&MachineId, &Member)| Some((*id, member.holder.as_ref()?.upgrade()?));
        let holders: Vec<_> = state.members.iter().filter_map(alive).collect();
        drop(state);
        holders.into_iter().map(|(id, holder)| Looked { id, reading: holder.reading(), holder }).collect()
    }

    fn now_ns(&self) -> u64 {
        self.opened.elapsed().as_nanos() as u64
    }
}

impl Looked {
    /// Makes the machine keep to what changed of its grant.
    fn enforce(&self, before: &Grant, after: &Grant) {
        if before.allotment != after.allotment {
            self.holder.set_allotment(after.allotment);
        }
        if before.throttles != after.throttles {
            self.holder.set_throttles(after.throttles);
        }
    }
}

impl State {
    /// Enters what machines may touch of memory now.
    fn observe(&mut self, looked: &[Looked]) {
        for one in looked {
            let Some(mut memory) = self.ledger.grant(one.id).map(|grant| grant.memory) else { continue };
            let (target, actual) = one
                .reading
                .balloon
                .as_ref()
                .map_or((0, 0), |balloon| (balloon.target_bytes, balloon.actual_bytes));
            let left = |taken: u64| memory.ceiling_bytes.saturating_sub(taken);
            (memory.now_bytes, memory.charged_bytes) = (left(target), left(target).max(left(actual)));
            self.ledger.observe(one.id, memory);
        }
    }

    /// Enters what is so now, and keeps for their receivers what donors of transfers gave since: nobody else gets it.
    fn follow(&mut self, looked: &mut [Looked], now_ns: u64) {
        self.observe(looked);
        self.advance(looked, now_ns);
    }

    fn is_moving(&self, machine: MachineId) -> bool {
        let concerns = |transfer: &Transfer| transfer.donor.id == machine || transfer.receiver.id == machine;
        self.transfers.iter().any(|transfer| !transfer.state.is_over() && concerns(transfer))
    }

    fn report(&self, looked: &[Looked], at_ns: u64) -> Report {
        let lines = self.ledger.lines();
        let all_shares: u64 = looked
            .iter()
            .filter_map(|one| self.ledger.grant(one.id))
            .map(|grant| u64::from(grant.allotment.shares))
            .sum();
        let workers = self.ledger.capacity().processor.unwrap_or(0) as f64;
        let machine = |one: &Looked| {
            let (member, grant) = (self.members.get(&one.id)?, *self.ledger.grant(one.id)?);
            let fair = workers * f64::from(grant.allotment.shares) / all_shares.max(1) as f64;
            let most = grant.allotment.cap_percent.unwrap_or(member.cpus * 100).min(member.cpus * 100);
            Some(MachineReport {
                id: one.id,
                name: member.name.clone(),
                grant,
                memory: Spending::of(&one.reading),
                rates: member.rates,
                entitled_percent: fair.min(f64::from(most)),
            })
        };
        let machines: Vec<MachineReport> = looked.iter().filter_map(machine).collect();
        let used = |resource: &Resource| {
            let of = |machine: &MachineReport| match resource {
                Resource::Processor => machine.rates.processor_percent,
                Resource::Memory => machine.memory.spent_bytes as f64,
                Resource::DiskOperations => machine.rates.disk_operations,
                Resource::DiskBytes => machine.rates.disk_bytes,
                Resource::NetworkBytes => machine.rates.network_bytes,
            };
            machines.iter().map(of).sum::<f64>().round() as u64
        };
        let used = Resource::ALL.iter().map(used).collect();
        Report { at_ns, overcommit_percent: self.ledger.overcommit_percent(), lines, used, machines }
    }
}

/// What a profile asks for. Without a floor of its own, a machine keeps a quarter of its memory.
fn granted_by(profile: &Profile) -> Grant {
    let ceiling_bytes = profile.memory.bytes();
    let floor_bytes = profile.memory_floor.map_or(ceiling_bytes / 4, |floor| floor.bytes());
    let memory =
        MemoryGrant { ceiling_bytes, now_bytes: ceiling_bytes, floor_bytes, charged_bytes: ceiling_bytes };
    Grant { memory, allotment: profile.processor, throttles: profile.throttles }
}

#[cfg(test)]
mod tests;
