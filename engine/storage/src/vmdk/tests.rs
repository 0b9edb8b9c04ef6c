//! Hostile headers. Real images, made by `qemu-img`: `tests/qemu.rs`.

use proptest::prelude::*;

use super::*;
use crate::fields::{put_le32, put_le64};
use crate::store::crash::CrashStore;

/// A sparse extent of 64 grains of 4 KiB, in one table; the second grain is full of 0x44.
fn image() -> Vec<u8> {
    let mut bytes = vec![0; 32 << 10];
    bytes[..4].copy_from_slice(b"KDMV");
    put_le32(&mut bytes, 4, 1);
    put_le32(&mut bytes, 8, 3);
    put_le64(&mut bytes, 12, 512);
    put_le64(&mut bytes, 20, 8);
    put_le32(&mut bytes, 44, 512);
    put_le64(&mut bytes, 56, 1);
    put_le32(&mut bytes, 512, 2);
    put_le32(&mut bytes, 1024 + 4, 16);
    bytes[8192..12288].fill(0x44);
    bytes
}

fn open(bytes: Vec<u8>) -> Result<Vmdk, OpenError> {
    Vmdk::open(Box::new(CrashStore::new(bytes)), |_, _| panic!("it has no parent"))
}

#[test]
fn grains_are_found() {
    let mut disk = open(image()).unwrap();
    let mut bytes = [9; 8192];
    disk.read_at(2048, &mut bytes).unwrap();
    assert_eq!((bytes[0], bytes[2048], bytes[6143], bytes[6144]), (0, 0x44, 0x44, 0));
    assert_eq!(disk.extent(0).unwrap(), Extent { length_bytes: 4096, is_zero: true });
    assert!(!disk.extent(5000).unwrap().is_zero);
}

#[test]
fn an_extent_that_is_not_beside_its_description_is_refused() {
    for name in ["/etc/passwd", "../x", "a/b", "", ".."] {
        let text = format!("# Disk DescriptorFile\nRW 1 FLAT \"{name}\" 0\n");
        assert!(matches!(open(text.into_bytes()), Err(OpenError::Unsupported { .. })), "{name}");
    }
}

#[test]
fn a_cut_file_does_not_read_as_zeros() {
    let mut bytes = image();
    bytes.truncate(12_287);
    let mut disk = open(bytes).unwrap();
    assert!(matches!(disk.read_at(4096, &mut [0; 512]), Err(DiskError::Damaged { .. })));
    assert!(disk.read_at(0, &mut [0; 4096]).is_ok());
    let findings = disk.check(&mut |_, _| true).unwrap();
    assert!(findings.damaged == 1 && findings.damage[0].contains("grain 1"), "{findings:?}");
}

#[test]
fn a_check_tells_what_is_wrong_with_tables_and_grains() {
    // Two tables, the first with one grain.
    let check = |numbers: &[(usize, u32)]| {
        let mut bytes = image();
        put_le64(&mut bytes, 12, 2 * 512 * 8);
        numbers.iter().for_each(|(at, value)| put_le32(&mut bytes, *at, *value));
        open(bytes).unwrap().check(&mut |_, _| true).unwrap()
    };
    let sound = check(&[]);
    assert!(sound.is_sound());
    assert_eq!(sound.used_bytes, 4096);
    for (at, value, reason) in [
        (516, 2, "table 1 lies over another"),
        (516, 5, "table 1 lies over another"),
        (516, 61, "table 1 does not lie in the file"),
        (516, u32::MAX, "table 1 does not lie in the file"),
        (1028 + 4, 16, "over one another"),
        (1028 + 4, 23, "over one another"),
        (1028 + 4, 57, "grain 2 does not lie in the file"),
    ] {
        let findings = check(&[(at, value)]);
        assert!(findings.damaged == 1 && findings.damage[0].contains(reason), "{at} {value}: {findings:?}");
    }
    assert!(check(&[(516, 6)]).is_sound(), "another table behind the first");
    assert!(open(image()).unwrap().check(&mut |_, _| false).unwrap().is_cancelled);
}

#[test]
fn a_directory_that_names_one_table_over_and_over_is_looked_through_at_once() {
    // 2²¹ tables of 2¹⁶ grains: all in one place, or all absent.
    for entry in [0u32, 3] {
        let mut bytes = image();
        put_le64(&mut bytes, 12, 8 << (16 + 21));
        put_le32(&mut bytes, 44, 1 << 16);
        put_le64(&mut bytes, 56, 1024);
        bytes.truncate(512);
        bytes.resize(1024 * 512, 0);
        bytes.extend(entry.to_le_bytes().repeat(1 << 21));
        let mut disk = open(bytes).unwrap();
        let findings = disk.check(&mut |_, _| true).unwrap();
        assert_eq!(findings.damaged, if entry == 0 { 0 } else { (1 << 21) - 1 });
    }
}

proptest! {
    #[test]
    fn no_header_makes_it_panic(
        numbers in prop::collection::vec((0usize..0x200, any::<u32>()), 0..6),
        small in prop::collection::vec((0usize..0x200, 0u32..70), 0..6),
        text in "[A-Z ]{0,6}(RW|CID=|parentCID=|RDONLY) ?[0-9]{0,20} ?(FLAT|ZERO|SPARSE)? ?\"?[a-z./]{0,4}\"? ?[0-9]{0,20}",
        is_text: bool,
    ) {
        let mut bytes = image();
        numbers.into_iter().chain(small).for_each(|(at, value)| put_le32(&mut bytes, at * 4, value));
        if is_text {
            bytes = format!("# Disk DescriptorFile\n{text}\n").into_bytes();
        } else {
            bytes[..4].copy_from_slice(b"KDMV");
        }
        let parent = |_: &str, _: u32| -> Result<Box<dyn Disk>, OpenError> {
            Ok(Box::new(crate::MemoryDisk::new(vec![1; 5000]).unwrap()))
        };
        if let Ok(mut disk) = Vmdk::open(Box::new(CrashStore::new(bytes)), parent) {
            let mut buffer = [0; 512];
            for at in [0, 4096, disk.length_bytes().saturating_sub(512)] {
                let _ = disk.read_at(at, &mut buffer);
            }
            let _ = disk.check(&mut |_, _| true);
        }
    }
}
