//! The policy that balances by need: who is short of memory or waits for processors gets some of who has it to spare.
//! Off until it is switched on. Each decision names donor, receiver, amount, and the reason with its numbers.
//!
//! It is calm by construction: between "short" and "to spare" lies a gap that a decision never crosses from either
//! side, a rest follows each decision, and who was given something gives nothing for a while. It never takes a
//! machine below its floor.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::amount::bytes;
use super::ledger::MachineId;
use super::transfer::Goods;
use crate::scheduler::DEFAULT_SHARES;

/// Decisions kept.
pub const DECISIONS_KEPT: usize = 128;

/// A guest with less than this part of its memory available is short of it, in percent.
const SHORT_PERCENT: u64 = 10;
/// One that is given some is brought up to this.
const ENOUGH_PERCENT: u64 = 20;
/// One with more than this has some to spare.
const AMPLE_PERCENT: u64 = 30;
/// And keeps this.
const KEEPS_PERCENT: u64 = 25;
/// Memory moves in whole pieces of this.
const PIECE_BYTES: u64 = 16 << 20;

/// A machine that waits for this part of the time it could have run, in percent, is short of processors.
const WAITS_PERCENT: f64 = 20.0;
/// One that waits for less than this has some to spare.
const HARDLY_WAITS_PERCENT: f64 = 5.0;
/// A machine that wants less than this of a CPU is not worth a decision, in percent.
const LEAST_DEMAND_PERCENT: f64 = 10.0;
/// Shares that a decision leaves a donor, and lets a receiver have.
const SHARES: std::ops::RangeInclusive<u32> = DEFAULT_SHARES / 4..=DEFAULT_SHARES * 4;

/// After a decision, none of the same kind for this long.
const REST_NS: u64 = 10_000_000_000;
/// Who received something gives none of it for this long.
const GRACE_NS: u64 = 60_000_000_000;

/// What the policy knows of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Which.
    pub id: MachineId,
    /// Its name.
    pub name: String,
    /// What it shall have of memory now, in bytes.
    pub now_bytes: u64,
    /// What it keeps at least.
    pub floor_bytes: u64,
    /// What it can have at most.
    pub ceiling_bytes: u64,
    /// What its programs could still have; `None` if it does not say, or cannot give and take.
    pub available_bytes: Option<u64>,
    /// Its shares.
    pub shares: u32,
    /// What it used lately, in percent of one CPU.
    pub ran_percent: f64,
    /// What it could have used and waited for.
    pub waited_percent: f64,
}

/// A move the policy wants.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// When, in nanoseconds since the ledger was opened.
    pub at_ns: u64,
    /// Who gives.
    pub donor: MachineId,
    /// Who gets.
    pub receiver: MachineId,
    /// What.
    pub goods: Goods,
    /// Why, in a sentence with numbers.
    pub reason: String,
    /// The transfer that came of it, or why none did.
    pub result: Result<u64, String>,
}

/// What decisions depend on beside the samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// When each kind of goods was last moved.
    moved_ns: [Option<u64>; 2],
    /// When a machine last received each kind.
    received_ns: BTreeMap<MachineId, [Option<u64>; 2]>,
}

const MEMORY: usize = 0;
const PROCESSOR: usize = 1;

/// The policy, on or off, with the log of its decisions.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Whether it decides.
    pub is_on: bool,
    memory: Memory,
    log: VecDeque<Decision>,
}

/// As it stands, for a person or a program.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyReport {
    /// Whether it decides.
    pub is_on: bool,
    /// Its latest decisions, oldest first.
    pub decisions: Vec<Decision>,
}

impl Policy {
    /// What shall move, given these samples.
    pub fn decide(&mut self, samples: &[Sample], now_ns: u64) -> Vec<Decision> {
        let decisions = decide(samples, &self.memory, now_ns);
        for decision in &decisions {
            self.memory.note(decision);
        }
        let is_there = |id: &MachineId| samples.iter().any(|sample| sample.id == *id);
        self.memory.received_ns.retain(|id, _| is_there(id));
        decisions
    }

    /// Keeps a decision, with what came of it.
    pub fn log(&mut self, decision: Decision) {
        if self.log.len() == DECISIONS_KEPT {
            self.log.pop_front();
        }
        self.log.push_back(decision);
    }

    /// As it stands.
    pub fn report(&self) -> PolicyReport {
        PolicyReport { is_on: self.is_on, decisions: self.log.iter().cloned().collect() }
    }
}

impl Memory {
    fn note(&mut self, decision: &Decision) {
        let kind = kind(decision.goods);
        self.moved_ns[kind] = Some(decision.at_ns);
        self.received_ns.entry(decision.receiver).or_default()[kind] = Some(decision.at_ns);
    }

    fn rests(&self, kind: usize, now_ns: u64) -> bool {
        self.moved_ns[kind].is_some_and(|at| now_ns.saturating_sub(at) < REST_NS)
    }

    fn may_give(&self, machine: MachineId, kind: usize, now_ns: u64) -> bool {
        let received = self.received_ns.get(&machine).and_then(|times| times[kind]);
        received.is_none_or(|at| now_ns.saturating_sub(at) >= GRACE_NS)
    }
}

fn kind(goods: Goods) -> usize {
    if matches!(goods, Goods::Memory(_)) { MEMORY } else { PROCESSOR }
}

/// At most one move of each kind.
pub fn decide(samples: &[Sample], memory: &Memory, now_ns: u64) -> Vec<Decision> {
    [move_memory(samples, memory, now_ns), move_shares(samples, memory, now_ns)]
        .into_iter()
        .flatten()
        .collect()
}

fn percent(sample: &Sample, percent: u64) -> u64 {
    (u128::from(sample.now_bytes) * u128::from(percent) / 100) as u64
}

fn move_memory(samples: &[Sample], memory: &Memory, now_ns: u64) -> Option<Decision> {
    if memory.rests(MEMORY, now_ns) {
        return None;
    }
    let told = samples.iter().filter_map(|sample| Some((sample, sample.available_bytes?)));
    let short = told.clone().filter(|(sample, available)| *available < percent(sample, SHORT_PERCENT));
    let room = |sample: &Sample| sample.ceiling_bytes.saturating_sub(sample.now_bytes);
    let neediest = short.filter(|(sample, _)| room(sample) >= PIECE_BYTES);
    let (receiver, has) = neediest.min_by_key(|(sample, has)| has * 1000 / sample.now_bytes.max(1))?;
    let spare = |(sample, available): &(&Sample, u64)| {
        let above_floor = sample.now_bytes.saturating_sub(sample.floor_bytes);
        above_floor.min(available.saturating_sub(percent(sample, KEEPS_PERCENT)))
    };
    let (donor, available) = told
        .filter(|(sample, available)| {
            let ample = *available > percent(sample, AMPLE_PERCENT);
            sample.id != receiver.id && ample && memory.may_give(sample.id, MEMORY, now_ns)
        })
        .max_by_key(spare)?;
    let lacks = percent(receiver, ENOUGH_PERCENT).saturating_sub(has);
    let bytes_moved = spare(&(donor, available)).min(room(receiver)).min(lacks.next_multiple_of(PIECE_BYTES));
    let goods = Goods::Memory(bytes_moved / PIECE_BYTES * PIECE_BYTES);
    (goods.amount() > 0).then(|| Decision {
        at_ns: now_ns,
        donor: donor.id,
        receiver: receiver.id,
        goods,
        reason: format!(
            "{} has {} of {} available, less than {SHORT_PERCENT} %; {} has {} of {}, more than {AMPLE_PERCENT} %",
            receiver.name,
            bytes(has),
            bytes(receiver.now_bytes),
            donor.name,
            bytes(available),
            bytes(donor.now_bytes),
        ),
        result: Err(String::new()),
    })
}

/// Of the time it could have run, how much it waited, in percent; 0 if it wanted hardly any.
fn waits(sample: &Sample) -> f64 {
    let wanted = sample.ran_percent + sample.waited_percent;
    if wanted < LEAST_DEMAND_PERCENT { 0.0 } else { sample.waited_percent * 100.0 / wanted }
}

fn move_shares(samples: &[Sample], memory: &Memory, now_ns: u64) -> Option<Decision> {
    if memory.rests(PROCESSOR, now_ns) {
        return None;
    }
    let neediest =
        samples.iter().filter(|sample| waits(sample) > WAITS_PERCENT && sample.shares < *SHARES.end());
    let receiver = neediest.max_by(|a, b| waits(a).total_cmp(&waits(b)))?;
    let calm = samples.iter().filter(|sample| {
        sample.id != receiver.id
            && waits(sample) < HARDLY_WAITS_PERCENT
            && sample.shares > *SHARES.start()
            && memory.may_give(sample.id, PROCESSOR, now_ns)
    });
    let donor = calm.max_by_key(|sample| sample.shares)?;
    let shares =
        (donor.shares / 8).min(donor.shares - SHARES.start()).min(SHARES.end() - receiver.shares).max(1);
    Some(Decision {
        at_ns: now_ns,
        donor: donor.id,
        receiver: receiver.id,
        goods: Goods::Shares(shares),
        reason: format!(
            "{} waited for a worker {:.0} % of the time it could have run, more than {WAITS_PERCENT} %; {} {:.0} %, \
             less than {HARDLY_WAITS_PERCENT} %",
            receiver.name,
            waits(receiver),
            donor.name,
            waits(donor),
        ),
        result: Err(String::new()),
    })
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
