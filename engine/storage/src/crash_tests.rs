//! What every writable format must survive: power lost at any moment, any subset of unsynced sectors kept;
//! and a host's disk that is full for a while. Formats call these from their tests.

use proptest::prelude::*;

use crate::check::Findings;
use crate::disk::{Disk, DiskError, SECTOR};
use crate::store::crash::CrashStore;

/// What a guest does.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Write { sector: u64, count: u64 },
    Zero { sector: u64, count: u64 },
    Discard { sector: u64, count: u64 },
    Flush,
}

/// Random actions on a disk of `sectors`.
pub(crate) fn actions(sectors: u64) -> impl Strategy<Value = Vec<Action>> {
    let range = move || {
        (0..sectors, prop_oneof![1..4u64, 1..40u64, 1..sectors / 3])
            .prop_map(move |(sector, count)| (sector, count.min(sectors - sector)))
    };
    let action = prop_oneof![
        6 => range().prop_map(|(sector, count)| Action::Write { sector, count }),
        1 => range().prop_map(|(sector, count)| Action::Zero { sector, count }),
        2 => range().prop_map(|(sector, count)| Action::Discard { sector, count }),
        2 => Just(Action::Flush),
    ];
    prop::collection::vec(action, 1..60)
}

/// A format under test.
pub(crate) struct Subject<'a> {
    /// A new image of `sectors`.
    pub image: Vec<u8>,
    pub sectors: u64,
    /// Opens an image, which must succeed whatever a crash left.
    pub open: &'a dyn Fn(CrashStore) -> Box<dyn Disk>,
    /// Looks through it.
    pub check: &'a dyn Fn(CrashStore) -> Findings,
    /// What every byte of the disk is at first.
    pub initial: u8,
}

/// What each sector may hold: every byte of a sector is the same in these tests.
struct Model {
    current: Vec<u8>,
    /// Also possible after a crash: the flushed value and all since.
    possible: Vec<Vec<u8>>,
    next: u8,
}

impl Model {
    fn new(sectors: u64, initial: u8) -> Model {
        let sectors = sectors as usize;
        Model { current: vec![initial; sectors], possible: vec![vec![initial]; sectors], next: 0 }
    }

    fn may_hold(&mut self, sector: u64, value: u8) {
        self.possible[sector as usize].push(value);
        self.current[sector as usize] = value;
    }

    fn flushed(&mut self) {
        for (possible, current) in self.possible.iter_mut().zip(&self.current) {
            *possible = vec![*current];
        }
    }

    /// Does one action on the disk, and expects it.
    fn act(&mut self, disk: &mut dyn Disk, action: &Action) -> Result<(), DiskError> {
        match *action {
            Action::Write { sector, count } => {
                self.next = self.next % 250 + 1;
                let value = self.next;
                let old: Vec<u8> = (sector..sector + count).map(|n| self.current[n as usize]).collect();
                (sector..sector + count).for_each(|n| self.may_hold(n, value));
                let bytes = vec![value; (count * SECTOR) as usize];
                let done = disk.write_at(sector * SECTOR, &bytes);
                if done.is_err() {
                    self.relearn(disk, sector, &old);
                }
                done
            }
            Action::Zero { sector, count } => {
                let old: Vec<u8> = (sector..sector + count).map(|n| self.current[n as usize]).collect();
                (sector..sector + count).for_each(|n| self.may_hold(n, 0));
                let done = disk.write_zeros(sector * SECTOR, count * SECTOR);
                if done.is_err() {
                    self.relearn(disk, sector, &old);
                }
                done
            }
            Action::Discard { sector, count } => {
                (sector..sector + count).for_each(|n| self.possible[n as usize].push(0));
                let old: Vec<u8> = (sector..sector + count).map(|n| self.current[n as usize]).collect();
                let done = disk.discard(sector * SECTOR, count * SECTOR);
                self.relearn(disk, sector, &old);
                done
            }
            Action::Flush => {
                disk.flush()?;
                self.flushed();
                Ok(())
            }
        }
    }

    /// After an action that may have done only a part: what is there, if that can be read, counts.
    fn relearn(&mut self, disk: &mut dyn Disk, from: u64, old: &[u8]) {
        for (n, old) in (from..).zip(old) {
            let mut bytes = [0; SECTOR as usize];
            if disk.read_at(n * SECTOR, &mut bytes).is_ok() {
                let is_expected = bytes[0] == *old || self.possible[n as usize].contains(&bytes[0]);
                assert!(is_expected && bytes.iter().all(|byte| *byte == bytes[0]), "sector {n}");
                self.current[n as usize] = bytes[0];
            }
        }
    }

    fn verify(&mut self, disk: &mut dyn Disk) {
        for n in 0..self.current.len() {
            let mut bytes = [0; SECTOR as usize];
            disk.read_at(n as u64 * SECTOR, &mut bytes).unwrap();
            let is_one = bytes.iter().all(|byte| *byte == bytes[0]);
            assert!(
                is_one && self.possible[n].contains(&bytes[0]),
                "sector {n} holds {:?}.., it may hold {:?}",
                &bytes[..4],
                self.possible[n]
            );
            self.current[n] = bytes[0];
        }
    }

    /// Without a crash there is no doubt.
    fn verify_exact(&mut self, disk: &mut dyn Disk) {
        self.possible = self.current.iter().map(|value| vec![*value]).collect();
        self.verify(disk);
    }
}

/// Power fails after some operations, in the middle of whatever there is; the survivor goes on.
pub(crate) fn survives_power_loss(subject: &Subject<'_>, actions: &[Action], fuses: &[u32], seed: u64) {
    let mut random = seed | 1;
    let mut keeps = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random & 0x100 != 0
    };
    let mut store = CrashStore::new(subject.image.clone());
    let mut model = Model::new(subject.sectors, subject.initial);
    for fuse in fuses {
        let mut disk = (subject.open)(store.clone());
        store.set_fuse(*fuse);
        for action in actions {
            if model.act(&mut *disk, action).is_err() {
                break;
            }
        }
        let survivor = store.crash(&mut keeps);
        drop(disk);
        let findings = (subject.check)(CrashStore::new(survivor.bytes()));
        assert!(findings.is_sound(), "after a crash: {findings:?}");
        store = survivor;
        let mut disk = (subject.open)(store.clone());
        model.verify(&mut *disk);
        disk.flush().unwrap();
        model.flushed();
    }
}

/// The host's disk has room for some bytes only; actions fail with [`DiskError::Full`], and the same actions
/// succeed when there is room. Nothing is lost in between, and nothing is left over in the end.
pub(crate) fn survives_a_full_disk(subject: &Subject<'_>, actions: &[Action], room_bytes: u64) {
    let store = CrashStore::new(subject.image.clone());
    let mut disk = (subject.open)(store.clone());
    let mut model = Model::new(subject.sectors, subject.initial);
    store.set_room(room_bytes);
    for action in actions {
        if let Err(error) = model.act(&mut *disk, action) {
            assert!(matches!(error, DiskError::Full(_)), "{error}");
            store.set_room(u64::MAX);
            model.act(&mut *disk, action).unwrap();
            store.set_room(room_bytes);
        }
    }
    model.verify_exact(&mut *disk);
    store.set_room(u64::MAX);
    disk.flush().unwrap();
    drop(disk);
    let findings = (subject.check)(CrashStore::new(store.bytes()));
    assert!(findings.is_sound(), "{findings:?}");
    model.verify_exact(&mut *(subject.open)(store));
}
