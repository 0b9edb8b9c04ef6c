//! A transfer: something of one machine's goes to another, as one object with its progress and its outcome.
//!
//! Memory moves by the balloons. The donor is *asked* (its balloon's target grows), it *inflates*, and what it gives
//! is punched out of its memory file at once: *freed* on the host. The amount is held in the ledger meanwhile, so
//! that nobody else gets it, and then *granted*: the receiver's balloon target shrinks, and when the guest has taken
//! it back the transfer is *done*. A donor that stalls keeps what it did not give; a receiver that stalls hands back
//! what it did not take. Shares and rates move in one step.
//!
//! Two numbers fall when memory is given: the donor's *grant* falls by exactly the amount. What the host *spends* on
//! it falls by what the guest had touched of it and not reported free before.

use serde::{Deserialize, Serialize};

use super::amount::{self, Resource};
use super::ledger::MachineId;

/// A guest that has given (or taken) nothing for this long will not.
pub const STALL_NS: u64 = 3_000_000_000;

/// What a transfer moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goods {
    /// Memory, in bytes; whole pages.
    Memory(u64),
    /// Processor shares.
    Shares(u32),
    /// Disk accesses per second.
    DiskOperations(u32),
    /// Disk data, in bytes per second.
    DiskBytes(u64),
    /// Network data, in bytes per second.
    NetworkBytes(u64),
}

impl Goods {
    /// How much, in its own unit.
    pub fn amount(self) -> u64 {
        match self {
            Goods::Memory(amount) | Goods::DiskBytes(amount) | Goods::NetworkBytes(amount) => amount,
            Goods::Shares(amount) | Goods::DiskOperations(amount) => amount.into(),
        }
    }

    /// The same kind, another amount.
    pub fn with_amount(self, amount: u64) -> Goods {
        let small = u32::try_from(amount).unwrap_or(u32::MAX);
        match self {
            Goods::Memory(_) => Goods::Memory(amount),
            Goods::Shares(_) => Goods::Shares(small),
            Goods::DiskOperations(_) => Goods::DiskOperations(small),
            Goods::DiskBytes(_) => Goods::DiskBytes(amount),
            Goods::NetworkBytes(_) => Goods::NetworkBytes(amount),
        }
    }
}

impl std::fmt::Display for Goods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Goods::Memory(bytes) => write!(f, "{} of memory", amount::bytes(bytes)),
            Goods::Shares(shares) => write!(f, "{shares} processor shares"),
            Goods::DiskOperations(n) => f.write_str(&Resource::DiskOperations.write(n.into())),
            Goods::DiskBytes(bytes) => write!(f, "{} of disk data", Resource::DiskBytes.write(bytes)),
            Goods::NetworkBytes(bytes) => {
                write!(f, "{} of network data", Resource::NetworkBytes.write(bytes))
            }
        }
    }
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransferState {
    /// The donor was asked, and has given nothing yet.
    Asked,
    /// The donor gives.
    Inflating,
    /// All of it is back at the host.
    Freed,
    /// It is the receiver's, who may not have taken all of it yet.
    Granted,
    /// The receiver has it.
    Done,
    /// Nothing has moved, or what had was handed back.
    Failed,
    /// It was called off; what the donor had given it has back.
    Cancelled,
    /// It was done, and a later transfer took it back.
    Undone,
}

impl TransferState {
    /// Whether nothing more happens to it by itself.
    pub fn is_over(self) -> bool {
        use TransferState::{Cancelled, Done, Failed, Undone};
        matches!(self, Done | Failed | Cancelled | Undone)
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            TransferState::Asked => "asked",
            TransferState::Inflating => "inflating",
            TransferState::Freed => "freed on host",
            TransferState::Granted => "granted",
            TransferState::Done => "done",
            TransferState::Failed => "failed",
            TransferState::Cancelled => "cancelled",
            TransferState::Undone => "undone",
        }
    }
}

/// One side of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Party {
    /// The machine.
    pub id: MachineId,
    /// Its name when the transfer began.
    pub name: String,
    /// What the host spent on its memory before, in bytes.
    pub spent_before_bytes: u64,
    /// What it spends now, or spent when the transfer was over.
    pub spent_bytes: u64,
}

/// A transfer as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transfer {
    /// Its number, counted from 1.
    pub number: u64,
    /// Who gives.
    pub donor: Party,
    /// Who gets.
    pub receiver: Party,
    /// What was asked for.
    pub goods: Goods,
    /// How far it is.
    pub state: TransferState,
    /// How much the donor has given, in the unit of `goods`.
    pub given: u64,
    /// How much the receiver has taken.
    pub taken: u64,
    /// When it entered each state, in nanoseconds since the ledger was opened; the first is its beginning.
    pub times: Vec<(TransferState, u64)>,
    /// What came of it, in a sentence; empty while it is under way.
    pub outcome: String,
    /// Why it was made, if the policy made it.
    pub reason: Option<String>,
    /// The transfer this one takes back.
    pub undo_of: Option<u64>,
    /// The transfer that took this one back.
    pub undone_by: Option<u64>,
}

impl Transfer {
    pub(super) fn new(number: u64, donor: Party, receiver: Party, goods: Goods, now_ns: u64) -> Transfer {
        Transfer {
            number,
            donor,
            receiver,
            goods,
            state: TransferState::Asked,
            given: 0,
            taken: 0,
            times: vec![(TransferState::Asked, now_ns)],
            outcome: String::new(),
            reason: None,
            undo_of: None,
            undone_by: None,
        }
    }

    pub(super) fn enter(&mut self, state: TransferState, now_ns: u64) {
        if self.state != state {
            self.state = state;
            self.times.push((state, now_ns));
        }
    }

    pub(super) fn end(&mut self, state: TransferState, outcome: String, now_ns: u64) {
        self.enter(state, now_ns);
        self.outcome = outcome;
    }

    /// Nanoseconds from its beginning to its latest state.
    pub fn lasted_ns(&self) -> u64 {
        let (first, last) = (self.times.first(), self.times.last());
        first.zip(last).map_or(0, |((_, first), (_, last))| last - first)
    }

    /// How much of it is done, 0 to 1: half for giving, half for taking.
    pub fn progress(&self) -> f64 {
        match self.state {
            TransferState::Done | TransferState::Undone => 1.0,
            _ => (self.given + self.taken) as f64 / (2.0 * self.goods.amount().max(1) as f64),
        }
    }
}

/// What a balloon holds and shall hold, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filling {
    /// What it shall hold.
    pub target_bytes: u64,
    /// What the guest says it holds.
    pub actual_bytes: u64,
}

/// What a memory transfer wants done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Set the donor's balloon target, in bytes.
    DonorTarget(u64),
    /// Set the receiver's.
    ReceiverTarget(u64),
    /// Keep this much more for the receiver.
    Hold(u64),
    /// Keep this much less.
    LetGo(u64),
}

/// A memory transfer under way. Pure: it is told the balloons' fillings and the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryMove {
    /// The donor's target before.
    donor_before_bytes: u64,
    /// The receiver's target before, and the one it was given.
    receiver_before_bytes: u64,
    /// How much shall be given; less once the donor has stalled.
    wanted_bytes: u64,
    given_bytes: u64,
    taken_bytes: u64,
    progress_ns: u64,
}

impl MemoryMove {
    /// Begins to move `bytes` between two balloons with these fillings; the bounds were checked.
    pub fn begin(donor: Filling, receiver: Filling, bytes: u64, now_ns: u64) -> (MemoryMove, Vec<Action>) {
        let begun = MemoryMove {
            donor_before_bytes: donor.target_bytes,
            receiver_before_bytes: receiver.target_bytes,
            wanted_bytes: bytes,
            given_bytes: 0,
            taken_bytes: 0,
            progress_ns: now_ns,
        };
        (begun, vec![Action::DonorTarget(donor.target_bytes + bytes)])
    }

    /// Looks at the balloons; brings `transfer` up to date and says what is to be done. `None` for a machine that
    /// has ended.
    pub fn step(
        &mut self,
        transfer: &mut Transfer,
        donor: Option<Filling>,
        receiver: Option<Filling>,
        now_ns: u64,
    ) -> Vec<Action> {
        let actions = match transfer.state {
            TransferState::Asked | TransferState::Inflating => {
                self.take_from_donor(transfer, donor, receiver, now_ns)
            }
            TransferState::Granted => self.give_to_receiver(transfer, donor, receiver, now_ns),
            _ => Vec::new(),
        };
        (transfer.given, transfer.taken) = (self.given_bytes, self.taken_bytes);
        actions
    }

    fn take_from_donor(
        &mut self,
        transfer: &mut Transfer,
        donor: Option<Filling>,
        receiver: Option<Filling>,
        now_ns: u64,
    ) -> Vec<Action> {
        let Some(donor) = donor else {
            let outcome = format!("{} ended before it had given all", transfer.donor.name);
            transfer.end(TransferState::Failed, outcome, now_ns);
            return self.let_go_all();
        };
        if receiver.is_none() {
            let outcome =
                format!("{} ended; {} keeps its memory", transfer.receiver.name, transfer.donor.name);
            transfer.end(TransferState::Failed, outcome, now_ns);
            return [vec![Action::DonorTarget(self.donor_before_bytes)], self.let_go_all()].concat();
        }
        let given = donor.actual_bytes.saturating_sub(self.donor_before_bytes).min(self.wanted_bytes);
        let mut actions = Vec::new();
        match given.cmp(&self.given_bytes) {
            std::cmp::Ordering::Greater => {
                actions.push(Action::Hold(given - self.given_bytes));
                transfer.enter(TransferState::Inflating, now_ns);
                self.progress_ns = now_ns;
            }
            // It took some back: short of memory, or reset.
            std::cmp::Ordering::Less => actions.push(Action::LetGo(self.given_bytes - given)),
            std::cmp::Ordering::Equal => {}
        }
        self.given_bytes = given;
        if given < self.wanted_bytes {
            if now_ns.saturating_sub(self.progress_ns) < STALL_NS {
                return actions;
            }
            actions.push(Action::DonorTarget(self.donor_before_bytes + given));
            if given == 0 {
                let outcome = format!(
                    "{} gave nothing for {} s: it has none to spare, or its driver does not answer",
                    transfer.donor.name,
                    STALL_NS / 1_000_000_000
                );
                transfer.end(TransferState::Failed, outcome, now_ns);
                return actions;
            }
            // What it gave goes on its way; what it did not give it keeps.
            self.wanted_bytes = given;
        }
        transfer.enter(TransferState::Freed, now_ns);
        transfer.enter(TransferState::Granted, now_ns);
        self.progress_ns = now_ns;
        actions.push(Action::LetGo(given));
        actions.push(Action::ReceiverTarget(self.receiver_before_bytes - given));
        actions
    }

    fn give_to_receiver(
        &mut self,
        transfer: &mut Transfer,
        donor: Option<Filling>,
        receiver: Option<Filling>,
        now_ns: u64,
    ) -> Vec<Action> {
        let Some(receiver) = receiver else {
            let outcome =
                format!("{} ended before it had taken all; the rest is free", transfer.receiver.name);
            transfer.end(TransferState::Failed, outcome, now_ns);
            return Vec::new();
        };
        let taken = self.receiver_before_bytes.saturating_sub(receiver.actual_bytes).min(self.given_bytes);
        if taken != self.taken_bytes {
            self.taken_bytes = taken;
            self.progress_ns = now_ns;
        }
        if taken == self.given_bytes {
            let outcome = self.outcome(transfer);
            transfer.end(TransferState::Done, outcome, now_ns);
            return Vec::new();
        }
        if now_ns.saturating_sub(self.progress_ns) < STALL_NS {
            return Vec::new();
        }
        let back = self.given_bytes - taken;
        self.given_bytes = taken;
        let mut actions = vec![Action::ReceiverTarget(self.receiver_before_bytes - taken)];
        if donor.is_some() {
            actions.push(Action::DonorTarget(self.donor_before_bytes + taken));
        }
        let (state, what) = match taken {
            0 => (TransferState::Failed, "took nothing".to_owned()),
            _ => (TransferState::Done, format!("took only {}", amount::bytes(taken))),
        };
        let outcome = format!(
            "{} {what} for {} s; {} went back to {}",
            transfer.receiver.name,
            STALL_NS / 1_000_000_000,
            amount::bytes(back),
            transfer.donor.name
        );
        transfer.end(state, outcome, now_ns);
        actions
    }

    fn outcome(&self, transfer: &Transfer) -> String {
        let asked = transfer.goods.amount();
        let (donor, receiver) = (&transfer.donor.name, &transfer.receiver.name);
        let moved = format!("{} went from {donor} to {receiver}", amount::bytes(self.given_bytes));
        match asked - self.given_bytes {
            0 => moved,
            kept => format!(
                "{moved}; {} of {} were not given within {} s and stay with {donor}",
                amount::bytes(kept),
                amount::bytes(asked),
                STALL_NS / 1_000_000_000
            ),
        }
    }

    /// Calls it off, as long as the receiver was granted nothing.
    pub fn cancel(&mut self, transfer: &mut Transfer, now_ns: u64) -> Option<Vec<Action>> {
        if !matches!(transfer.state, TransferState::Asked | TransferState::Inflating) {
            return None;
        }
        let outcome = format!("called off; {} has everything back", transfer.donor.name);
        transfer.end(TransferState::Cancelled, outcome, now_ns);
        let actions = [vec![Action::DonorTarget(self.donor_before_bytes)], self.let_go_all()].concat();
        transfer.given = 0;
        Some(actions)
    }

    fn let_go_all(&mut self) -> Vec<Action> {
        match std::mem::take(&mut self.given_bytes) {
            0 => Vec::new(),
            held => vec![Action::LetGo(held)],
        }
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
