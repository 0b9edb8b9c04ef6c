//! The format as a guest sees it, and after crashes. Against `qemu-img`: `tests/qemu.rs`.

use proptest::prelude::*;

use super::*;
use crate::crash_tests::{Subject, actions, survives_a_full_disk, survives_power_loss};
use crate::fields::put_le32;
use crate::store::crash::CrashStore;

const SECTORS: u64 = 512;

/// Small blocks, so that a small disk has many.
fn image() -> Vec<u8> {
    let header = Header {
        is_fixed: false,
        map_offset: 512,
        data_offset: 4096,
        length_bytes: SECTORS * 512,
        block_bytes: 4096,
        blocks: (SECTORS / 8) as u32,
        allocated: 0,
    };
    let mut bytes = header.encode([7; 16]);
    bytes.resize(4096, 0xFF);
    bytes
}

fn open(store: CrashStore) -> Vdi {
    Vdi::open(Box::new(store), true).unwrap()
}

fn test(test: impl FnOnce(&Subject<'_>)) {
    test(&Subject {
        image: image(),
        sectors: SECTORS,
        open: &|store| Box::new(open(store)),
        check: &|store| Vdi::open(Box::new(store), false).unwrap().check(&mut |_, _| true).unwrap(),
        initial: 0,
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_flushed_survives_power_loss(
        actions in actions(SECTORS), fuses in prop::collection::vec(0u32..200, 1..4), seed: u64,
    ) {
        test(|subject| survives_power_loss(subject, &actions, &fuses, seed));
    }

    #[test]
    fn a_full_host_disk_loses_nothing(actions in actions(SECTORS), room in 0u64..300_000) {
        test(|subject| survives_a_full_disk(subject, &actions, room));
    }

    #[test]
    fn no_header_makes_it_panic(
        numbers in prop::collection::vec((0x10usize..0x200, any::<u32>()), 0..6),
        small in prop::collection::vec((0x10usize..0x200, 0u32..70), 0..6),
    ) {
        let mut bytes = image();
        numbers.into_iter().chain(small).for_each(|(at, value)| put_le32(&mut bytes, at * 4, value));
        if let Ok(mut disk) = Vdi::open(Box::new(CrashStore::new(bytes)), true) {
            let mut buffer = [0; 1024];
            for at in [0, 4000, disk.length_bytes().saturating_sub(1024)] {
                let _ = disk.read_at(at, &mut buffer);
            }
            let _ = disk.check(&mut |_, _| true);
        }
    }
}

#[test]
fn it_grows_in_place_while_its_map_has_room() {
    let store = CrashStore::new(Vec::new());
    create(&mut store.clone(), 3 << 20, Kind::Dynamic, [1; 16]).unwrap();
    let mut disk = open(store.clone());
    disk.write_at(3 << 19, &[1; 512]).unwrap();
    disk.resize(9 << 20).unwrap();
    disk.write_at((9 << 20) - 512, &[2; 512]).unwrap();
    // There is no room in the map, and no giving back of blocks.
    for (length_bytes, option) in [(600 << 30, "--size"), (1 << 20, "--shrink"), (u64::MAX, "that long")] {
        let error = disk.resize(length_bytes).unwrap_err();
        assert!(matches!(error, DiskError::Unsupported(_)) && error.to_string().contains(option), "{error}");
    }
    drop(disk);
    let mut disk = open(store);
    let mut bytes = [0; 512];
    disk.read_at((9 << 20) - 512, &mut bytes).unwrap();
    assert_eq!((disk.length_bytes(), bytes[0]), (9 << 20, 2));
    assert!(disk.check(&mut |_, _| true).unwrap().is_sound());
}

/// A disk of two and a half blocks of 4 KiB in `file_bytes` of its file; all of it is 1.
fn cut(file_bytes: usize) -> CrashStore {
    let mut bytes = image();
    put_le32(&mut bytes, 0x170, 10_240);
    let store = CrashStore::new(bytes);
    let mut disk = open(store.clone());
    disk.write_at(0, &[1; 10_240]).unwrap();
    drop(disk);
    let mut bytes = store.bytes();
    assert_eq!(bytes.len(), 4096 * 4);
    bytes.truncate(file_bytes);
    CrashStore::new(bytes)
}

#[test]
fn a_cut_file_does_not_read_as_zeros() {
    let store = cut(4096 * 3 + 2047);
    let mut disk = Vdi::open(Box::new(store.clone()), false).unwrap();
    let mut bytes = [0; 512];
    disk.read_at(4096, &mut bytes).unwrap();
    assert_eq!(bytes, [1; 512]);
    assert!(matches!(disk.read_at(8192, &mut bytes), Err(DiskError::Damaged { .. })));
    assert!(matches!(disk.extent(8192), Err(DiskError::Damaged { .. })));
    let findings = disk.check(&mut |_, _| true).unwrap();
    assert_eq!((findings.damaged, findings.leaked_bytes), (1, 0), "{findings:?}");
    assert!(findings.damage[0].contains("block 2"), "{findings:?}");
    // A new block would lie behind what is missing.
    assert!(matches!(Vdi::open(Box::new(store), true), Err(OpenError::Damaged { .. })));
}

#[test]
fn a_file_may_end_where_its_disk_does() {
    let store = cut(4096 * 3 + 2048);
    let mut disk = open(store.clone());
    let mut bytes = [0; 2048];
    disk.read_at(8192, &mut bytes).unwrap();
    assert_eq!(bytes, [1; 2048]);
    assert!(disk.check(&mut |_, _| true).unwrap().is_sound());
    disk.resize(64 << 10).unwrap();
    disk.write_at(60 << 10, &[2; 4096]).unwrap();
    drop(disk);
    let mut disk = open(store);
    let mut all = vec![9; 64 << 10];
    disk.read_at(0, &mut all).unwrap();
    assert!(
        all[..10_240].iter().all(|byte| *byte == 1) && all[10_240..60 << 10].iter().all(|byte| *byte == 0)
    );
    assert!(all[60 << 10..].iter().all(|byte| *byte == 2));
    assert!(disk.check(&mut |_, _| true).unwrap().is_sound());
}
