//! The format as a guest sees it, and after crashes. Against `qemu-img`: `tests/qemu.rs`.

use proptest::prelude::*;

use super::*;
use crate::crash_tests::{Subject, actions, survives_a_full_disk, survives_power_loss};
use crate::fields::put_be32;
use crate::store::crash::CrashStore;

const SECTORS: u64 = 512;

/// Small blocks, so that a small disk has many.
fn image() -> Vec<u8> {
    let store = CrashStore::new(Vec::new());
    let footer =
        Footer { kind: Kind::Dynamic, length_bytes: SECTORS * 512, header_offset: FOOTER, id: [3; 16] };
    let header = Header {
        table_offset: FOOTER + HEADER,
        blocks: (SECTORS / 8) as u32,
        block_bytes: 4096,
        parent_id: [0; 16],
        parent_names: Vec::new(),
    };
    let mut file = store.clone();
    file.write_at(0, &footer.encode()).unwrap();
    file.write_at(FOOTER, &header.encode()).unwrap();
    file.write_at(header.table_offset, &[0xFF; 512]).unwrap();
    file.write_at(header.table_offset + 512, &footer.encode()).unwrap();
    store.bytes()
}

fn no_parent(_: &Header) -> Result<Box<dyn Disk>, OpenError> {
    panic!("there is no parent")
}

fn open(store: CrashStore) -> Vhd {
    Vhd::open(Box::new(store), true, no_parent).unwrap()
}

fn test(test: impl FnOnce(&Subject<'_>)) {
    test(&Subject {
        image: image(),
        sectors: SECTORS,
        open: &|store| Box::new(open(store)),
        check: &|store| {
            Vhd::open(Box::new(store), false, no_parent).unwrap().check(&mut |_, _| true).unwrap()
        },
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
        numbers in prop::collection::vec((0usize..0x180, any::<u32>()), 0..6),
        small in prop::collection::vec((0usize..0x200, 0u32..70), 0..6),
        fixes_sums: bool,
    ) {
        let mut bytes = image();
        numbers.into_iter().chain(small).for_each(|(at, value)| put_be32(&mut bytes, at * 4, value));
        if fixes_sums {
            bytes[..8].copy_from_slice(b"conectix");
            bytes[512..520].copy_from_slice(b"cxsparse");
            for (from, length, field) in [(0, 512, 64), (512, 1024, 36)] {
                put_be32(&mut bytes[from..], field, 0);
                let sum = !bytes[from..from + length].iter().map(|byte| u32::from(*byte)).sum::<u32>();
                put_be32(&mut bytes[from..], field, sum);
            }
            let at = bytes.len() - 512;
            bytes[at..].fill(0);
        }
        let parent = |_: &Header| -> Result<Box<dyn Disk>, OpenError> {
            Ok(Box::new(crate::MemoryDisk::new(vec![1; 5000]).unwrap()))
        };
        if let Ok(mut disk) = Vhd::open(Box::new(CrashStore::new(bytes)), true, parent) {
            let mut buffer = [0; 1024];
            for at in [0, 4000, disk.length_bytes().saturating_sub(1024)] {
                let _ = disk.read_at(at, &mut buffer);
            }
            let _ = disk.check(&mut |_, _| true);
        }
    }
}

#[test]
fn sectors_that_a_block_does_not_have_are_the_parents() {
    let store = CrashStore::new(image());
    let mut disk = open(store.clone());
    disk.write_at(4096, &[1; 4096]).unwrap();
    drop(disk);
    let mut bytes = store.bytes();
    // The block's bitmap: only its second and third sectors.
    bytes[2048] = 0b0110_0000;
    let mut footer = Footer::read(&CrashStore::new(bytes.clone())).unwrap();
    footer.kind = Kind::Differencing;
    let at = bytes.len() - 512;
    bytes[..512].copy_from_slice(&footer.encode());
    bytes[at..].copy_from_slice(&footer.encode());
    let parent = |_: &Header| -> Result<Box<dyn Disk>, OpenError> {
        Ok(Box::new(crate::MemoryDisk::new(vec![0xEE; 6144]).unwrap()))
    };
    let mut disk = Vhd::open(Box::new(CrashStore::new(bytes)), false, parent).unwrap();
    let mut all = [9; 8192];
    disk.read_at(0, &mut all).unwrap();
    let expected = [(0..4608, 0xEE), (4608..5632, 1), (5632..6144, 0xEE), (6144..8192, 0)];
    for (range, value) in expected {
        assert!(all[range.clone()].iter().all(|byte| *byte == value), "{range:?}");
    }
}

#[test]
fn a_cut_file_does_not_read_as_zeros() {
    let store = CrashStore::new(image());
    let mut disk = open(store.clone());
    disk.write_at(4096, &[1; 8192]).unwrap();
    drop(disk);
    let mut bytes = store.bytes();
    // The footer, and the end of the last block.
    bytes.truncate(bytes.len() - 512 - 1);
    let store = CrashStore::new(bytes);
    let mut disk = Vhd::open(Box::new(store.clone()), false, no_parent).unwrap();
    let mut sector = [0; 512];
    disk.read_at(4096, &mut sector).unwrap();
    assert_eq!(sector, [1; 512]);
    assert!(matches!(disk.read_at(8192, &mut sector), Err(DiskError::Damaged { .. })));
    assert_eq!(disk.check(&mut |_, _| true).unwrap().damaged, 1);
    assert!(matches!(Vhd::open(Box::new(store), true, no_parent), Err(OpenError::Damaged { .. })));
}
