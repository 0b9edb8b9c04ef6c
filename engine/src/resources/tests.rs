//! The ledger and its transfers with machines that are only pretended.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::profile::{Profile, Size};

const MIB: u64 = 1 << 20;

/// A guest that fills its balloon by `step_bytes` each time it is looked at, down to `least_bytes` of its own.
struct Fake(Mutex<Inner>);

struct Inner {
    reading: Reading,
    ceiling_bytes: u64,
    least_bytes: u64,
    step_bytes: u64,
    allotment: Option<Allotment>,
    throttles: Option<Throttles>,
}

impl Holder for Fake {
    fn reading(&self) -> Reading {
        let inner = &mut *self.0.lock();
        let most = inner.ceiling_bytes.saturating_sub(inner.least_bytes);
        if let Some(balloon) = &mut inner.reading.balloon {
            let wanted = balloon.target_bytes.min(most);
            balloon.actual_bytes = match balloon.actual_bytes < wanted {
                true => (balloon.actual_bytes + inner.step_bytes).min(wanted),
                false => balloon.actual_bytes.saturating_sub(inner.step_bytes).max(wanted),
            };
        }
        inner.reading.clone()
    }
    fn ask_statistics(&self) {}
    fn set_balloon_target(&self, bytes: u64) {
        if let Some(balloon) = &mut self.0.lock().reading.balloon {
            balloon.target_bytes = bytes;
        }
    }
    fn set_allotment(&self, allotment: Allotment) {
        self.0.lock().allotment = Some(allotment);
    }
    fn set_throttles(&self, throttles: Throttles) {
        self.0.lock().throttles = Some(throttles);
    }
}

impl Fake {
    fn filled(&self, bytes: u64) {
        let balloon =
            BalloonReading { is_driven: true, target_bytes: bytes, actual_bytes: bytes, statistics: None };
        self.0.lock().reading.balloon = Some(balloon);
    }
}

/// A ledger of 2 GiB and two CPUs, and machines of 512 MiB in it.
struct Host {
    resources: Arc<Resources>,
    seats: Vec<(Seat, Arc<Fake>)>,
}

impl Host {
    fn with(names: &[&str]) -> Host {
        let capacity = Capacity { processor: Some(200), memory: Some(2048 * MIB), ..Capacity::default() };
        let mut host = Host { resources: Resources::new(capacity), seats: Vec::new() };
        names.iter().for_each(|name| {
            host.start(&profile(name)).unwrap();
        });
        host
    }

    fn start(&mut self, profile: &Profile) -> Result<MachineId, Refusal> {
        let seat = self.resources.seat(profile)?;
        let balloon = BalloonReading { is_driven: true, ..BalloonReading::default() };
        let fake = Arc::new(Fake(Mutex::new(Inner {
            reading: Reading { is_running: true, balloon: Some(balloon), ..Reading::default() },
            ceiling_bytes: profile.memory.bytes(),
            least_bytes: 64 * MIB,
            step_bytes: 16 * MIB,
            allotment: None,
            throttles: None,
        })));
        let weak: Weak<dyn Holder> = Arc::downgrade(&(fake.clone() as Arc<dyn Holder>));
        seat.sit(weak);
        let id = seat.id();
        self.seats.push((seat, fake));
        Ok(id)
    }

    fn id(&self, n: usize) -> MachineId {
        self.seats[n].0.id()
    }

    fn fake(&self, n: usize) -> &Fake {
        &self.seats[n].1
    }

    fn now_mib(&self, n: usize) -> u64 {
        self.resources.report().machines[n].grant.memory.now_bytes / MIB
    }

    /// Waits until transfer `number` is over, and gives it; the ledger adds up all the way.
    fn over(&self, number: u64) -> Transfer {
        loop {
            let report = self.resources.report();
            let line = report.lines[1];
            let charged: u64 = report.machines.iter().map(|machine| machine.grant.memory.charged_bytes).sum();
            assert_eq!(line.granted, charged);
            assert_eq!(line.granted + line.held + line.free.unwrap(), line.limit.unwrap() + line.over);
            let transfer = self.resources.transfer_numbered(number).unwrap();
            if transfer.state.is_over() {
                return transfer;
            }
            std::thread::yield_now();
        }
    }
}

fn profile(name: &str) -> Profile {
    let mut profile = Profile::new(name);
    profile.memory = Size::mib(512);
    profile.memory_floor = Some(Size::mib(128));
    profile
}

#[test]
fn memory_goes_there_and_back() {
    let host = Host::with(&["a", "b"]);
    host.fake(1).filled(256 * MIB);
    let number = host.resources.transfer(host.id(0), host.id(1), Goods::Memory(128 * MIB)).unwrap();
    let done = host.over(number);
    assert_eq!((done.state, done.given, done.taken), (TransferState::Done, 128 * MIB, 128 * MIB));
    assert_eq!((host.now_mib(0), host.now_mib(1)), (384, 384));
    let undoing = host.resources.undo(number).unwrap();
    assert_eq!(host.over(undoing).state, TransferState::Done);
    assert_eq!((host.now_mib(0), host.now_mib(1)), (512, 256));
    let undone = host.resources.transfer_numbered(number).unwrap();
    assert_eq!((undone.state, undone.undone_by), (TransferState::Undone, Some(undoing)));
    assert!(matches!(host.resources.undo(number), Err(TransferError::State { .. })));
}

#[test]
fn what_cannot_move_is_refused_with_the_reason() {
    let host = Host::with(&["a", "b", "c"]);
    let (a, b) = (host.id(0), host.id(1));
    let move_memory =
        |mib: u64| host.resources.transfer(a, b, Goods::Memory(mib * MIB)).unwrap_err().to_string();
    let full = move_memory(128);
    assert!(
        full.contains("b has 512 MiB now and can have 512 MiB") && full.contains("balloon is empty"),
        "{full}"
    );
    host.fake(1).filled(64 * MIB);
    assert!(move_memory(128).contains("it can take 64 MiB, not 128 MiB"));
    let floor = move_memory(400);
    assert!(floor.contains("keeps at least 128 MiB: it can give 384 MiB, not 400 MiB"), "{floor}");
    host.fake(0).0.lock().reading.balloon = None;
    assert!(move_memory(1).contains("without a balloon"));
    host.resources.transfer(a, b, Goods::Shares(24)).expect("its shares can still move");
    for (from, to, goods) in [
        (a, a, Goods::Shares(1)),
        (a, MachineId(99), Goods::Shares(1)),
        (a, b, Goods::Memory(5)),
        (a, b, Goods::Shares(0)),
        (a, b, Goods::Shares(1000)),
        (a, b, Goods::DiskBytes(MIB)),
    ] {
        assert!(host.resources.transfer(from, to, goods).is_err(), "{goods}");
    }
    assert_eq!(host.resources.transfers().len(), 1, "what is refused leaves no trace");
}

#[test]
fn shares_and_rates_move_at_once_and_back() {
    let host = Host::with(&["a", "b"]);
    let (a, b) = (host.id(0), host.id(1));
    let number = host.resources.transfer(a, b, Goods::Shares(100)).unwrap();
    let shares = |n: usize| host.fake(n).0.lock().allotment.unwrap().shares;
    assert_eq!((shares(0), shares(1)), (924, 1124));
    host.resources.undo(number).unwrap();
    assert_eq!((shares(0), shares(1)), (1024, 1024));
    for id in [a, b] {
        let throttles = Throttles { disk_bytes: Some(Size::mib(20)), ..Throttles::default() };
        host.resources.set_throttles(id, throttles).unwrap();
    }
    host.resources.transfer(b, a, Goods::DiskBytes(5 * MIB)).unwrap();
    let rate = |n: usize| host.fake(n).0.lock().throttles.unwrap().disk_bytes.unwrap().bytes() / MIB;
    assert_eq!((rate(0), rate(1)), (25, 15));
}

#[test]
fn a_start_that_does_not_fit_is_refused_until_something_is_free() {
    let mut host = Host::with(&["a", "b", "c", "d"]);
    let refusal = host.start(&profile("e")).unwrap_err().to_string();
    assert!(refusal.contains("e wants 512 MiB of memory, and 0 B are free"), "{refusal}");
    drop(host.seats.remove(0));
    host.start(&profile("e")).unwrap();
    assert_eq!(host.resources.report().machines.last().unwrap().name, "e");
}

#[test]
fn what_is_on_its_way_is_nobody_elses() {
    let mut host = Host::with(&["a", "b", "c", "d"]);
    host.fake(1).filled(256 * MIB);
    // The receiver gives nothing back by itself, and its ballooned 256 MiB are free.
    host.start(&Profile { memory: Size::mib(256), memory_floor: None, ..profile("e") }).unwrap();
    host.fake(0).0.lock().step_bytes = MIB;
    let number = host.resources.transfer(host.id(0), host.id(1), Goods::Memory(128 * MIB)).unwrap();
    while host.resources.transfer_numbered(number).unwrap().given < 8 * MIB {
        std::thread::yield_now();
    }
    let tiny = Profile { memory: Size::mib(1), memory_floor: None, ..profile("f") };
    if !host.resources.transfer_numbered(number).unwrap().state.is_over() {
        assert!(host.start(&tiny).is_err());
    }
    assert_eq!(host.over(number).state, TransferState::Done);
    assert!(host.start(&tiny).is_err(), "the receiver has it now");
}

#[test]
fn a_guest_that_has_no_more_keeps_the_rest() {
    let host = Host::with(&["a", "b"]);
    host.fake(0).0.lock().least_bytes = 448 * MIB;
    host.fake(1).filled(256 * MIB);
    let number = host.resources.transfer(host.id(0), host.id(1), Goods::Memory(128 * MIB)).unwrap();
    let done = host.over(number);
    assert_eq!((done.state, done.given), (TransferState::Done, 64 * MIB));
    assert!(done.outcome.contains("64 MiB of 128 MiB were not given"), "{}", done.outcome);
    assert_eq!((host.now_mib(0), host.now_mib(1)), (448, 320));
}

#[test]
fn a_transfer_can_be_called_off_and_its_machines_are_busy_until_then() {
    let host = Host::with(&["a", "b", "c"]);
    host.fake(0).0.lock().step_bytes = 4096;
    host.fake(1).filled(256 * MIB);
    host.fake(2).filled(256 * MIB);
    let number = host.resources.transfer(host.id(0), host.id(1), Goods::Memory(256 * MIB)).unwrap();
    let busy = host.resources.transfer(host.id(0), host.id(2), Goods::Memory(MIB)).unwrap_err();
    assert_eq!(busy, TransferError::Busy("a".into()));
    assert!(host.resources.set_memory_now(host.id(0), 256 * MIB).is_err());
    host.resources.cancel(number).unwrap();
    assert_eq!(host.over(number).state, TransferState::Cancelled);
    assert_eq!(host.now_mib(0), 512);
    assert_eq!(host.resources.report().lines[1].held, 0);
    assert!(host.resources.cancel(number).is_err());
}

#[test]
fn a_machine_has_between_its_floor_and_its_ceiling() {
    let host = Host::with(&["a"]);
    let set = |mib: u64| host.resources.set_memory_now(host.id(0), mib * MIB);
    set(256).unwrap();
    assert_eq!(host.now_mib(0), 256);
    assert!(set(100).unwrap_err().to_string().contains("100 MiB is outside 128 MiB (its floor)"));
    assert!(set(600).is_err());
    host.resources.set_floor(host.id(0), 64 * MIB).unwrap();
    set(100).unwrap();
    assert!(host.resources.set_floor(host.id(0), 600 * MIB).is_err());
}

#[test]
fn past_transfers_are_bounded_and_names_are_told_apart() {
    let host = Host::with(&["a", "a"]);
    let names: Vec<String> =
        host.resources.report().machines.into_iter().map(|machine| machine.name).collect();
    assert_eq!(names, ["a", "a-2"]);
    for _ in 0..TRANSFERS_KEPT + 10 {
        host.resources.transfer(host.id(0), host.id(1), Goods::Shares(1)).unwrap();
    }
    let kept = host.resources.transfers();
    assert_eq!((kept.len(), kept[0].number), (TRANSFERS_KEPT, 11));
    assert_eq!(host.resources.undo(3), Err(TransferError::NoSuch(3)));
}
