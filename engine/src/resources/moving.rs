//! Transfers between machines that run: checked, begun, moved forward, called off, taken back.

use crate::profile::Size;

use super::ledger::{MachineId, Refusal};
use super::transfer::{Action, Filling, Goods, MemoryMove, Party, Transfer, TransferState};
use super::{GrantError, Looked, Resources, State, amount, spending};

/// Transfers kept; of older ones that are over only the number is known.
pub const TRANSFERS_KEPT: usize = 64;

/// Why nothing was moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// One of the machines does not run.
    #[error("the machine does not run (any more)")]
    Unknown,
    /// From a machine to itself.
    #[error("a machine cannot give to itself")]
    Same,
    /// Nothing, or no whole pages.
    #[error("{0}: an amount must be above 0, and memory a multiple of 4 KiB")]
    Amount(Goods),
    /// A guest that cannot give or take memory.
    #[error("{name} can neither give nor take memory: {reason}")]
    Unable {
        /// The machine.
        name: String,
        /// Why.
        reason: String,
    },
    /// The donor would be left with too little.
    #[error("{name} has {have} now and keeps at least {floor}: it can give {spare}, not {wanted}")]
    Floor {
        /// The donor.
        name: String,
        /// What it has.
        have: String,
        /// What it must keep.
        floor: String,
        /// What it can give.
        spare: String,
        /// What was asked for.
        wanted: String,
    },
    /// The receiver would have more than it can.
    #[error("{name} has {have} now and can have {ceiling} at most: {room}")]
    Ceiling {
        /// The receiver.
        name: String,
        /// What it has.
        have: String,
        /// What it can have.
        ceiling: String,
        /// What it can take, in words.
        room: String,
    },
    /// A machine whose rate has no bound has nothing to give, and needs nothing.
    #[error("{name} has no bound on its {what}: set one first (`vitrine ctl '{name}' set {key}=...`)")]
    Unbounded {
        /// The machine.
        name: String,
        /// Of what.
        what: &'static str,
        /// How it is set.
        key: &'static str,
    },
    /// Memory of one of them is on its way already.
    #[error("memory of {0} is on its way already; wait until that is done, or cancel it")]
    Busy(String),
    /// The ledger refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No such transfer, or too long ago.
    #[error("there is no transfer {0} (any more); `ctl moves` lists those that are kept")]
    NoSuch(u64),
    /// It is in no state for this.
    #[error("transfer {number} is {state}: {advice}")]
    State {
        /// The transfer.
        number: u64,
        /// Its state.
        state: &'static str,
        /// What can be done instead.
        advice: &'static str,
    },
}

impl From<GrantError> for TransferError {
    fn from(error: GrantError) -> TransferError {
        match error {
            GrantError::Refused(refusal) => TransferError::Refused(refusal),
            _ => TransferError::Unknown,
        }
    }
}

impl Resources {
    /// Begins to move `goods`; the transfer's number. Shares and rates have moved when this returns; memory moves as
    /// the guests give and take.
    pub fn transfer(
        &self,
        donor: MachineId,
        receiver: MachineId,
        goods: Goods,
    ) -> Result<u64, TransferError> {
        self.begin(donor, receiver, goods, |_| {})
    }

    pub(super) fn begin(
        &self,
        donor: MachineId,
        receiver: MachineId,
        goods: Goods,
        mark: impl FnOnce(&mut Transfer),
    ) -> Result<u64, TransferError> {
        let _turn = self.turn.lock();
        let mut looked = self.look();
        let mut state = self.state.lock();
        state.observe(&looked);
        let number = state.begin(&mut looked, donor, receiver, goods, self.now_ns(), mark)?;
        drop(state);
        self.bell.notify_all();
        Ok(number)
    }

    /// The transfers that are kept, oldest first.
    pub fn transfers(&self) -> Vec<Transfer> {
        self.state.lock().transfers.iter().cloned().collect()
    }

    /// One transfer.
    pub fn transfer_numbered(&self, number: u64) -> Option<Transfer> {
        self.state.lock().transfers.iter().find(|transfer| transfer.number == number).cloned()
    }

    /// Calls a memory transfer off, as long as the receiver was granted nothing: the donor keeps everything.
    pub fn cancel(&self, number: u64) -> Result<(), TransferError> {
        let _turn = self.turn.lock();
        let mut looked = self.look();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.observe(&looked);
        let transfer = numbered(state.transfers.iter_mut(), number)?;
        let refused = |state: TransferState| TransferError::State {
            number,
            state: state.word(),
            advice: if state.is_over() { "there is nothing to call off" } else { "undo it when it is done" },
        };
        let moving = state.moving.get_mut(&number).ok_or_else(|| refused(transfer.state))?;
        let actions = moving.cancel(transfer, self.now_ns()).ok_or_else(|| refused(transfer.state))?;
        let (donor, receiver) = (transfer.donor.id, transfer.receiver.id);
        state.moving.remove(&number);
        state.act(&mut looked, donor, receiver, actions);
        Ok(())
    }

    /// Takes a transfer that is done back, by another; that one's number.
    pub fn undo(&self, number: u64) -> Result<u64, TransferError> {
        let original = self.transfer_numbered(number).ok_or(TransferError::NoSuch(number))?;
        if original.state != TransferState::Done || original.undone_by.is_some() {
            let advice = match original.state {
                TransferState::Done => "it is being taken back already",
                state if state.is_over() => "there is nothing to take back",
                _ => "cancel it, or wait until it is done",
            };
            return Err(TransferError::State { number, state: original.state.word(), advice });
        }
        let goods = original.goods.with_amount(original.given);
        let undoing = self.begin(original.receiver.id, original.donor.id, goods, |transfer| {
            transfer.undo_of = Some(number);
        })?;
        let mut state = self.state.lock();
        let over = state.transfers.iter().find(|transfer| transfer.number == undoing).map(|t| t.state);
        if let Ok(original) = numbered(state.transfers.iter_mut(), number) {
            // One that has failed already can be tried again.
            original.undone_by =
                over.filter(|state| !state.is_over() || *state == TransferState::Done).map(|_| undoing);
            if over == Some(TransferState::Done) {
                original.enter(TransferState::Undone, self.now_ns());
            }
        }
        Ok(undoing)
    }

    /// Moves every memory transfer forward; says whether any is still under way.
    pub(super) fn advance(&self) -> bool {
        let _turn = self.turn.lock();
        let mut looked = self.look();
        let mut state = self.state.lock();
        state.follow(&mut looked, self.now_ns());
        !state.moving.is_empty()
    }
}

fn numbered<'a>(
    mut transfers: impl Iterator<Item = &'a mut Transfer>,
    number: u64,
) -> Result<&'a mut Transfer, TransferError> {
    transfers.find(|transfer| transfer.number == number).ok_or(TransferError::NoSuch(number))
}

fn filling(one: &Looked) -> Filling {
    let balloon = one.reading.balloon.as_ref();
    balloon.map_or(Filling::default(), |balloon| Filling {
        target_bytes: balloon.target_bytes,
        actual_bytes: balloon.actual_bytes,
    })
}

fn find(looked: &[Looked], machine: MachineId) -> Option<&Looked> {
    looked.iter().find(|one| one.id == machine)
}

impl State {
    fn begin(
        &mut self,
        looked: &mut [Looked],
        donor: MachineId,
        receiver: MachineId,
        goods: Goods,
        now_ns: u64,
        mark: impl FnOnce(&mut Transfer),
    ) -> Result<u64, TransferError> {
        if donor == receiver {
            return Err(TransferError::Same);
        }
        let whole = !matches!(goods, Goods::Memory(bytes) if !bytes.is_multiple_of(hardware::memory::PAGE));
        if goods.amount() == 0 || !whole {
            return Err(TransferError::Amount(goods));
        }
        let party = |machine: MachineId| -> Result<Party, TransferError> {
            let one = find(looked, machine).ok_or(TransferError::Unknown)?;
            let name = self.members.get(&machine).ok_or(TransferError::Unknown)?.name.clone();
            let spent = one.reading.spent_bytes;
            Ok(Party { id: machine, name, spent_before_bytes: spent, spent_bytes: spent })
        };
        let number = self.next_transfer;
        let mut transfer = Transfer::new(number, party(donor)?, party(receiver)?, goods, now_ns);
        mark(&mut transfer);
        match goods {
            Goods::Memory(bytes) => {
                let [from, to] = self.check_memory(looked, &transfer, bytes)?;
                let (moving, actions) = MemoryMove::begin(from, to, bytes, now_ns);
                self.moving.insert(number, moving);
                self.act(looked, donor, receiver, actions);
            }
            _ => {
                self.swap(looked, &transfer)?;
                (transfer.given, transfer.taken) = (goods.amount(), goods.amount());
                transfer.enter(TransferState::Granted, now_ns);
                let outcome =
                    format!("{goods} went from {} to {}", transfer.donor.name, transfer.receiver.name);
                transfer.end(TransferState::Done, outcome, now_ns);
            }
        }
        self.next_transfer += 1;
        self.keep(transfer);
        Ok(number)
    }

    /// Keeps a transfer, and forgets the oldest that is over if there are too many.
    fn keep(&mut self, transfer: Transfer) {
        self.transfers.push_back(transfer);
        if self.transfers.len() > TRANSFERS_KEPT
            && let Some(oldest) = self.transfers.iter().position(|transfer| transfer.state.is_over())
        {
            self.transfers.remove(oldest);
        }
    }

    /// Whether `bytes` can move; gives both balloons' fillings.
    fn check_memory(
        &self,
        looked: &[Looked],
        transfer: &Transfer,
        bytes: u64,
    ) -> Result<[Filling; 2], TransferError> {
        for party in [&transfer.donor, &transfer.receiver] {
            let one = find(looked, party.id).ok_or(TransferError::Unknown)?;
            if self.is_moving(party.id) {
                return Err(TransferError::Busy(party.name.clone()));
            }
            if let Some(reason) = spending::unable(&one.reading) {
                return Err(TransferError::Unable { name: party.name.clone(), reason: reason.to_owned() });
            }
        }
        let memory = |party: &Party| -> Result<_, TransferError> {
            self.ledger.grant(party.id).map(|grant| grant.memory).ok_or(TransferError::Unknown)
        };
        let (from, to) = (memory(&transfer.donor)?, memory(&transfer.receiver)?);
        let spare = from.now_bytes.saturating_sub(from.floor_bytes);
        if bytes > spare {
            return Err(TransferError::Floor {
                name: transfer.donor.name.clone(),
                have: amount::bytes(from.now_bytes),
                floor: amount::bytes(from.floor_bytes),
                spare: amount::bytes(spare),
                wanted: amount::bytes(bytes),
            });
        }
        let room = to.ceiling_bytes.saturating_sub(to.now_bytes);
        if bytes > room {
            return Err(TransferError::Ceiling {
                name: transfer.receiver.name.clone(),
                have: amount::bytes(to.now_bytes),
                ceiling: amount::bytes(to.ceiling_bytes),
                room: match room {
                    0 => "its balloon is empty, so it can take nothing; only what is ballooned out of a machine \
                          can be given to it"
                        .to_owned(),
                    room => format!("it can take {}, not {}", amount::bytes(room), amount::bytes(bytes)),
                },
            });
        }
        let fill = |party: &Party| find(looked, party.id).map(filling).ok_or(TransferError::Unknown);
        Ok([fill(&transfer.donor)?, fill(&transfer.receiver)?])
    }

    /// Moves shares or rates: less for the donor first, so that the receiver's raise is within the limit.
    fn swap(&mut self, looked: &[Looked], transfer: &Transfer) -> Result<(), TransferError> {
        let grant = |party: &Party| self.ledger.grant(party.id).copied().ok_or(TransferError::Unknown);
        let before = [grant(&transfer.donor)?, grant(&transfer.receiver)?];
        let mut after = before;
        for (n, party) in [&transfer.donor, &transfer.receiver].into_iter().enumerate() {
            let amount = transfer.goods.amount();
            let change = |have: u64, write: &dyn Fn(u64) -> String| {
                if n == 1 {
                    return Ok(have.saturating_add(amount));
                }
                have.checked_sub(amount).filter(|left| *left > 0).ok_or_else(|| TransferError::Floor {
                    name: party.name.clone(),
                    have: write(have),
                    floor: write(1),
                    spare: write(have.saturating_sub(1)),
                    wanted: write(amount),
                })
            };
            let unbounded = |what: &'static str, key: &'static str| TransferError::Unbounded {
                name: party.name.clone(),
                what,
                key,
            };
            let (shares, throttles) = (&mut after[n].allotment.shares, &mut after[n].throttles);
            match transfer.goods {
                Goods::Memory(_) => {}
                Goods::Shares(_) => {
                    let wanted = change(u64::from(*shares), &|shares| format!("{shares} shares"))?;
                    if wanted > u64::from(crate::scheduler::MOST_SHARES) {
                        return Err(TransferError::Ceiling {
                            name: party.name.clone(),
                            have: format!("{shares} shares"),
                            ceiling: format!("{} shares", crate::scheduler::MOST_SHARES),
                            room: format!("it can take {}", crate::scheduler::MOST_SHARES - *shares),
                        });
                    }
                    *shares = wanted as u32;
                }
                Goods::DiskOperations(_) => {
                    let have =
                        throttles.disk_operations.ok_or_else(|| unbounded("disk accesses", "disk-iops"))?;
                    let left = change(have.into(), &|n| super::Resource::DiskOperations.write(n))?;
                    throttles.disk_operations = Some(u32::try_from(left).unwrap_or(u32::MAX));
                }
                Goods::DiskBytes(_) => {
                    let have = throttles.disk_bytes.ok_or_else(|| unbounded("disk data", "disk-rate"))?;
                    let left = change(have.bytes(), &|n| super::Resource::DiskBytes.write(n))?;
                    throttles.disk_bytes = Some(Size::of_bytes(left));
                }
                Goods::NetworkBytes(_) => {
                    let have =
                        throttles.network_bytes.ok_or_else(|| unbounded("network data", "network-rate"))?;
                    let left = change(have.bytes(), &|n| super::Resource::NetworkBytes.write(n))?;
                    throttles.network_bytes = Some(Size::of_bytes(left));
                }
            }
        }
        let parties = [&transfer.donor, &transfer.receiver];
        for (party, (before, after)) in parties.into_iter().zip(before.iter().zip(&after)) {
            self.ledger.grant_to(party.id, &party.name, *after)?;
            if let Some(one) = find(looked, party.id) {
                one.enforce(before, after);
            }
        }
        Ok(())
    }

    /// Does what a memory transfer wants done, in the ledger and the machines.
    fn act(&mut self, looked: &mut [Looked], donor: MachineId, receiver: MachineId, actions: Vec<Action>) {
        for action in actions {
            let (machine, target) = match action {
                Action::Hold(bytes) => {
                    self.ledger.hold(bytes);
                    continue;
                }
                Action::LetGo(bytes) => {
                    self.ledger.let_go(bytes);
                    continue;
                }
                Action::DonorTarget(bytes) => (donor, bytes),
                Action::ReceiverTarget(bytes) => (receiver, bytes),
            };
            let Some(one) = looked.iter_mut().find(|one| one.id == machine) else { continue };
            one.holder.set_balloon_target(target);
            if let Some(balloon) = &mut one.reading.balloon {
                balloon.target_bytes = target;
            }
        }
        self.observe(looked);
    }

    pub(super) fn advance(&mut self, looked: &mut [Looked], now_ns: u64) {
        let numbers: Vec<u64> = self.moving.keys().copied().collect();
        for number in numbers {
            let Some(at) = self.transfers.iter().position(|transfer| transfer.number == number) else {
                continue;
            };
            let Some(moving) = self.moving.get_mut(&number) else { continue };
            let transfer = &mut self.transfers[at];
            let (donor, receiver) = (transfer.donor.id, transfer.receiver.id);
            let [from, to] = [donor, receiver].map(|machine| find(looked, machine));
            for (party, one) in [(&mut transfer.donor, from), (&mut transfer.receiver, to)] {
                if let Some(one) = one {
                    party.spent_bytes = one.reading.spent_bytes;
                }
            }
            let actions = moving.step(transfer, from.map(filling), to.map(filling), now_ns);
            let (over, undo_of) = (transfer.state, transfer.undo_of);
            if over.is_over() {
                self.moving.remove(&number);
                self.settle_undo(over, undo_of, now_ns);
            }
            self.act(looked, donor, receiver, actions);
        }
    }

    /// A transfer that takes another back is over: so is the other, or it can be tried again.
    fn settle_undo(&mut self, state: TransferState, undo_of: Option<u64>, now_ns: u64) {
        let Some(original) = undo_of else { return };
        let Ok(original) = numbered(self.transfers.iter_mut(), original) else { return };
        match state {
            TransferState::Done => original.enter(TransferState::Undone, now_ns),
            _ => original.undone_by = None,
        }
    }
}
