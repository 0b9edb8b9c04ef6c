//! Memory transfers step by step, with balloons that are two numbers.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const MS: u64 = 1_000_000;

fn party(number: u64, name: &str) -> Party {
    Party { id: MachineId(number), name: name.to_owned(), spent_before_bytes: 0, spent_bytes: 0 }
}

/// Two machines, and what the ledger would hold.
struct Rig {
    transfer: Transfer,
    moving: MemoryMove,
    donor: Filling,
    receiver: Filling,
    held: u64,
    now_ns: u64,
}

impl Rig {
    fn begin(donor: Filling, receiver: Filling, bytes: u64) -> Rig {
        let transfer = Transfer::new(1, party(1, "a"), party(2, "b"), Goods::Memory(bytes), 0);
        let (moving, actions) = MemoryMove::begin(donor, receiver, bytes, 0);
        let mut rig = Rig { transfer, moving, donor, receiver, held: 0, now_ns: 0 };
        rig.act(actions);
        rig
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::DonorTarget(bytes) => self.donor.target_bytes = bytes,
                Action::ReceiverTarget(bytes) => self.receiver.target_bytes = bytes,
                Action::Hold(bytes) => self.held += bytes,
                Action::LetGo(bytes) => self.held = self.held.checked_sub(bytes).expect("no more than held"),
            }
        }
    }

    fn step(&mut self, ms: u64) {
        self.now_ns += ms * MS;
        let actions =
            self.moving.step(&mut self.transfer, Some(self.donor), Some(self.receiver), self.now_ns);
        self.act(actions);
    }
}

const EMPTY: Filling = Filling { target_bytes: 0, actual_bytes: 0 };
const FULL: Filling = Filling { target_bytes: 256 * MIB, actual_bytes: 256 * MIB };

#[test]
fn memory_goes_through_all_states() {
    let mut rig = Rig::begin(EMPTY, FULL, 128 * MIB);
    assert_eq!(rig.donor.target_bytes, 128 * MIB);
    rig.step(10);
    assert_eq!(rig.transfer.state, TransferState::Asked);
    rig.donor.actual_bytes = 50 * MIB;
    rig.step(10);
    assert_eq!(
        (rig.transfer.state, rig.transfer.given, rig.held),
        (TransferState::Inflating, 50 * MIB, 50 * MIB)
    );
    rig.donor.actual_bytes = 128 * MIB;
    rig.step(10);
    assert_eq!((rig.transfer.state, rig.held), (TransferState::Granted, 0));
    assert_eq!(rig.receiver.target_bytes, 128 * MIB);
    rig.receiver.actual_bytes = 128 * MIB;
    rig.step(10);
    use TransferState::{Asked, Done, Freed, Granted, Inflating};
    let states: Vec<_> = rig.transfer.times.iter().map(|(state, at_ns)| (*state, at_ns / MS)).collect();
    assert_eq!(states, [(Asked, 0), (Inflating, 20), (Freed, 30), (Granted, 30), (Done, 40)]);
    assert_eq!((rig.transfer.given, rig.transfer.taken), (128 * MIB, 128 * MIB));
    assert_eq!(rig.transfer.outcome, "128 MiB went from a to b");
    assert_eq!(rig.transfer.lasted_ns(), 40 * MS);
}

#[test]
fn a_donor_that_stalls_keeps_what_it_did_not_give() {
    let mut rig = Rig::begin(EMPTY, FULL, 128 * MIB);
    rig.donor.actual_bytes = 96 * MIB;
    rig.step(10);
    rig.step(STALL_NS / MS);
    assert_eq!((rig.donor.target_bytes, rig.receiver.target_bytes), (96 * MIB, 160 * MIB));
    rig.receiver.actual_bytes = 160 * MIB;
    rig.step(10);
    assert_eq!(rig.transfer.state, TransferState::Done);
    assert!(rig.transfer.outcome.contains("32 MiB of 128 MiB were not given"), "{}", rig.transfer.outcome);
}

#[test]
fn a_donor_that_gives_nothing_fails_and_is_asked_for_nothing_more() {
    let mut rig = Rig::begin(EMPTY, FULL, 128 * MIB);
    rig.step(STALL_NS / MS);
    assert_eq!((rig.transfer.state, rig.donor.target_bytes, rig.held), (TransferState::Failed, 0, 0));
    assert!(rig.transfer.outcome.contains("a gave nothing"));
}

#[test]
fn a_receiver_that_stalls_hands_back_what_it_did_not_take() {
    let mut rig = Rig::begin(EMPTY, FULL, 128 * MIB);
    rig.donor.actual_bytes = 128 * MIB;
    rig.step(10);
    rig.receiver.actual_bytes = 200 * MIB;
    rig.step(10);
    rig.step(STALL_NS / MS);
    assert_eq!((rig.donor.target_bytes, rig.receiver.target_bytes), (56 * MIB, 200 * MIB));
    assert_eq!((rig.transfer.state, rig.transfer.given), (TransferState::Done, 56 * MIB));
    assert!(rig.transfer.outcome.contains("72 MiB went back to a"), "{}", rig.transfer.outcome);
}

#[test]
fn it_can_be_called_off_until_it_is_granted() {
    let mut rig = Rig::begin(Filling { target_bytes: 8 * MIB, actual_bytes: 8 * MIB }, FULL, 64 * MIB);
    rig.donor.actual_bytes = 40 * MIB;
    rig.step(10);
    let actions = rig.moving.cancel(&mut rig.transfer, 50 * MS).expect("it is still inflating");
    rig.act(actions);
    assert_eq!((rig.donor.target_bytes, rig.held), (8 * MIB, 0));
    assert_eq!(rig.transfer.state, TransferState::Cancelled);
    assert!(rig.moving.cancel(&mut rig.transfer, 60 * MS).is_none());
}

#[test]
fn a_machine_that_ends_leaves_nothing_held() {
    for (donor_ends, given) in [(true, 0), (true, 32), (false, 0), (false, 32)] {
        let mut rig = Rig::begin(EMPTY, FULL, 128 * MIB);
        rig.donor.actual_bytes = given * MIB;
        rig.step(10);
        let (donor, receiver) = if donor_ends { (None, Some(rig.receiver)) } else { (Some(rig.donor), None) };
        let actions = rig.moving.step(&mut rig.transfer, donor, receiver, 20 * MS);
        rig.act(actions);
        assert_eq!((rig.transfer.state, rig.held), (TransferState::Failed, 0));
        assert!(donor_ends || rig.donor.target_bytes == 0);
    }
}

proptest! {
    /// Whatever the guests do, the two targets and what is held are what they were together, and nothing stays held.
    #[test]
    fn nothing_is_lost_or_made(
        bytes in 1..256u64,
        moves in prop::collection::vec((0..300u64, 0..300u64, 1..2000u64), 1..40),
    ) {
        let mut rig = Rig::begin(EMPTY, FULL, bytes * MIB);
        for (donor, receiver, ms) in moves {
            rig.donor.actual_bytes = donor * MIB;
            rig.receiver.actual_bytes = receiver * MIB;
            rig.step(ms);
            let (asked, grown) = (rig.donor.target_bytes, FULL.target_bytes - rig.receiver.target_bytes);
            prop_assert!(rig.held <= asked, "held {} of {asked}", rig.held);
            prop_assert!(grown <= asked, "the receiver gets no more than the donor was asked for");
            if rig.transfer.state.is_over() {
                prop_assert_eq!(rig.held, 0);
                prop_assert_eq!(asked, grown);
            }
        }
    }
}
