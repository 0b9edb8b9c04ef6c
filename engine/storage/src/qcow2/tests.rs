//! The format as a guest sees it, and after crashes. Against `qemu-img`: `tests/qemu.rs`.

use proptest::prelude::*;

use super::create::{Layout, create};
use super::*;
use crate::check::Findings;
use crate::crash_tests::{Action, Subject, actions, survives_a_full_disk, survives_power_loss};
use crate::memory::MemoryDisk;
use crate::store::crash::CrashStore;

const SECTORS: u64 = 512;

fn image(length_bytes: u64, cluster_bits: u32, has_backing: bool) -> Vec<u8> {
    let store = CrashStore::new(Vec::new());
    let backing = has_backing.then(|| ("base.img".to_owned(), "raw"));
    create(&mut store.clone(), &Layout { length_bytes, cluster_bits, backing }).unwrap();
    store.bytes()
}

fn open(store: CrashStore) -> Qcow2 {
    let header = Header::read(&store).unwrap();
    let backing = header.backing_name.is_some().then(|| {
        let bytes = vec![0xBB; (SECTORS * 512) as usize];
        Box::new(MemoryDisk::new(bytes).unwrap().read_only()) as Box<dyn Disk>
    });
    Qcow2::open(Box::new(store), header, backing, true).unwrap()
}

fn check(store: CrashStore) -> Findings {
    open(store).check(&mut |_, _| true).unwrap()
}

fn subject(cluster_bits: u32, has_backing: bool, test: impl FnOnce(&Subject<'_>)) {
    test(&Subject {
        image: image(SECTORS * 512, cluster_bits, has_backing),
        sectors: SECTORS,
        open: &|store| Box::new(open(store)),
        check: &check,
        initial: if has_backing { 0xBB } else { 0 },
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_flushed_survives_power_loss(
        actions in actions(SECTORS),
        fuses in prop::collection::vec(0u32..200, 1..4),
        seed: u64,
        bits in prop::sample::select(vec![9u32, 10, 12]),
        has_backing: bool,
    ) {
        subject(bits, has_backing, |subject| survives_power_loss(subject, &actions, &fuses, seed));
    }

    #[test]
    fn a_full_host_disk_loses_nothing(
        actions in actions(SECTORS),
        room in 0u64..400_000,
        bits in prop::sample::select(vec![9u32, 12]),
        has_backing: bool,
    ) {
        subject(bits, has_backing, |subject| survives_a_full_disk(subject, &actions, room));
    }

    #[test]
    fn it_behaves_as_a_plain_array(
        writes in prop::collection::vec((0u64..250_000, 1usize..20_000, any::<u8>()), 1..20),
        bits in 9u32..17,
    ) {
        let length = SECTORS as usize * 512;
        let mut plain = vec![0xBB; length];
        let store = CrashStore::new(image(length as u64, bits, true));
        let mut disk = open(store.clone());
        for (offset, count, value) in writes {
            let count = count.min(length - offset as usize);
            plain[offset as usize..][..count].fill(value);
            disk.write_at(offset, &vec![value; count]).unwrap();
        }
        drop(disk);
        let mut all = vec![0; length];
        open(store).read_at(0, &mut all).unwrap();
        prop_assert!(all == plain);
    }

    #[test]
    fn no_header_makes_it_panic(
        changes in prop::collection::vec((0usize..0x3000, any::<u8>()), 1..12),
        numbers in prop::collection::vec((0usize..0x600, any::<u64>()), 0..4),
    ) {
        let mut bytes = image(SECTORS * 512, 12, false);
        for (at, value) in changes {
            if at < bytes.len() { bytes[at] = value; }
        }
        for (at, value) in numbers {
            if at * 8 + 8 <= bytes.len() { bytes[at * 8..][..8].copy_from_slice(&value.to_be_bytes()); }
        }
        let store = CrashStore::new(bytes);
        if let Ok(header) = Header::read(&store)
            && let Ok(mut disk) = Qcow2::open(Box::new(store), header, None, true)
        {
            let mut buffer = [0; 1024];
            for at in [0, 4096, SECTORS * 512 - 1024] {
                let _ = disk.read_at(at, &mut buffer);
                let _ = disk.write_at(at, &buffer);
            }
            let _ = disk.check(&mut |_, _| true);
        }
    }
}

#[test]
fn discarded_clusters_are_used_again() {
    let store = CrashStore::new(image(4 << 20, 12, false));
    let mut disk = open(store.clone());
    for round in 1..=20 {
        disk.write_at(0, &vec![round; 1 << 20]).unwrap();
        disk.flush().unwrap();
        disk.discard(0, 1 << 20).unwrap();
        disk.flush().unwrap();
    }
    let mut bytes = [1; 16];
    disk.read_at(4096, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 16]);
    drop(disk);
    assert!(store.bytes().len() < 3 << 20, "{} bytes after 20 MiB came and went", store.bytes().len());
    assert_eq!(check(store).leaked_bytes, 0);
}

#[test]
fn a_refcount_table_grows_as_needed() {
    // Clusters of 512 bytes: the first table counts as much as is asked for, so the disk is grown.
    let store = CrashStore::new(image(64 << 10, 9, false));
    let mut disk = open(store.clone());
    disk.resize(24 << 20).unwrap();
    for at in (0..24u64 << 20).step_by(1 << 16) {
        disk.write_at(at, &[7; 1 << 16]).unwrap();
    }
    drop(disk);
    let findings = check(store.clone());
    assert_eq!((findings.damage, findings.leaked_bytes), (vec![], 0));
    let mut last = [0; 512];
    open(store).read_at((24 << 20) - 512, &mut last).unwrap();
    assert_eq!(last, [7; 512]);
}

#[test]
fn what_is_cut_off_does_not_come_back() {
    let store = CrashStore::new(image(SECTORS * 512, 12, true));
    let mut disk = open(store.clone());
    disk.write_at(0, &vec![1; SECTORS as usize * 512]).unwrap();
    disk.resize(10_000).unwrap();
    assert_eq!(disk.length_bytes(), 10_240);
    disk.resize(SECTORS * 512).unwrap();
    let mut bytes = [9; 1024];
    disk.read_at(10_240 - 512, &mut bytes).unwrap();
    assert_eq!((bytes[511], bytes[512]), (1, 0));
    disk.read_at(SECTORS * 512 - 1024, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 1024], "neither what was written nor the backing file");
    drop(disk);
    assert!(check(store).is_sound());
}

#[test]
fn what_another_program_left_dirty_is_mended() {
    let store = CrashStore::new(image(1 << 20, 12, false));
    let mut disk = open(store.clone());
    disk.write_at(0, &[5; 40_000]).unwrap();
    drop(disk);
    // As with lazy refcounts: the bit is set, and all counts beyond the first clusters are lost.
    let mut bytes = store.bytes();
    bytes[79] |= 1;
    let block = Header::read(&store).unwrap().refcount_table_offset as usize + 4096;
    bytes[block + 8..block + 64].fill(0);
    let store = CrashStore::new(bytes);
    let mut disk = open(store.clone());
    let mut first = [0; 4];
    disk.read_at(39_996, &mut first).unwrap();
    assert_eq!(first, [5; 4]);
    drop(disk);
    assert!(!Header::read(&store).unwrap().is_dirty);
    assert_eq!(check(store), Findings { used_bytes: 10 * 4096, ..Findings::default() });
}

#[test]
fn a_crash_in_every_operation_of_one_flush() {
    let write = |sector| Action::Write { sector, count: 9 };
    let actions = [write(0), Action::Flush, write(4), write(100), Action::Flush, write(8)];
    for fuse in 0..40 {
        for seed in 0..8 {
            subject(10, true, |subject| survives_power_loss(subject, &actions, &[fuse], seed * 7919 + 1));
        }
    }
}

#[test]
fn refcounts_that_lie_nowhere_are_told_and_never_written() {
    let sound = image(2 << 20, 16, false);
    let table = Header::read(&CrashStore::new(sound.clone())).unwrap().refcount_table_offset as usize;
    let first = be64_table(&sound[table..table + 8])[0];
    // The last entry of the table counts clusters far beyond the file: nobody may go and look at each.
    for (entry, offset) in [(1, first), (8191, 0x7B << 48), (8191, 1 << 31), (8191, first + 512)] {
        let mut bytes = sound.clone();
        bytes[table + entry * 8..][..8].copy_from_slice(&u64::to_be_bytes(offset));
        let store = CrashStore::new(bytes.clone());
        let header = Header::read(&store).unwrap();
        let mut disk = Qcow2::open(Box::new(store.clone()), header.clone(), None, false).unwrap();
        let findings = disk.check(&mut |_, _| true).unwrap();
        assert_eq!(findings.damage, [format!("refcounts are said to lie at byte {offset}")]);
        let refused = Qcow2::open(Box::new(store.clone()), header, None, true).err().unwrap().to_string();
        assert!(refused.contains("refcounts") && refused.contains("qemu-img check"), "{refused}");
        assert_eq!(store.bytes(), bytes);
    }
}
