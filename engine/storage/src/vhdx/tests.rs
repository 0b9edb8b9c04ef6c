//! An image made by hand, with and without work left in its log. Against `qemu-img`: `tests/qemu.rs`.

use proptest::prelude::*;

use super::crc32c::crc32c;
use super::*;
use crate::fields::{put_be32, put_le16, put_le32, put_le64};
use crate::store::crash::CrashStore;

const MIB: usize = 1 << 20;
const LOG: usize = MIB;
const LOG_BYTES: usize = 64 << 10;
const METADATA: usize = MIB + (256 << 10);
const BAT: usize = 2 * MIB;

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

fn guid(text: &str) -> [u8; 16] {
    let hex: Vec<u8> = text
        .replace('-', "")
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map(|n| hex[n])
}

fn seal(bytes: &mut [u8], at: usize, length: usize) {
    let sum = crc32c(&bytes[at..at + length], 4);
    put_le32(bytes, at + 4, sum);
}

/// A disk of 3 MiB in blocks of 1 MiB; only the second is there, full of 0x22.
fn image(log_id: [u8; 16]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * MIB];
    put(&mut bytes, 0, b"vhdxfile");
    for (at, sequence) in [(64 << 10, 1), (128 << 10, 2)] {
        put(&mut bytes, at, b"head");
        put_le64(&mut bytes, at + 8, sequence);
        put(&mut bytes, at + 48, &log_id);
        put_le16(&mut bytes, at + 66, 1);
        put_le32(&mut bytes, at + 68, LOG_BYTES as u32);
        put_le64(&mut bytes, at + 72, LOG as u64);
        seal(&mut bytes, at, 4096);
    }
    let regions = 192 << 10;
    put(&mut bytes, regions, b"regi");
    put_le32(&mut bytes, regions + 8, 2);
    let region =
        [("2DC27766-F623-4200-9D64-115E9BFD4A08", BAT), ("8B7CA206-4790-4B9A-B8FE-575F050F886E", METADATA)];
    for (n, (name, place)) in region.into_iter().enumerate() {
        let at = regions + 16 + n * 32;
        put(&mut bytes, at, &guid(name));
        put_le64(&mut bytes, at + 16, place as u64);
        put_le32(&mut bytes, at + 24, 64 << 10);
    }
    seal(&mut bytes, regions, 64 << 10);
    put(&mut bytes, METADATA, b"metadata");
    put_le16(&mut bytes, METADATA + 10, 3);
    let item = [
        ("CAA16737-FA36-4D43-B3B6-33F0AA44E76B", MIB as u64),
        ("2FA54224-CD1B-4876-B211-5DBED83BF4B8", 3 * MIB as u64),
        ("8141BF1D-A96F-4709-BA47-F233A8FAAB5F", 512),
    ];
    for (n, (name, value)) in item.into_iter().enumerate() {
        let (at, place) = (METADATA + 32 + n * 32, (64 << 10) + n * 8);
        put(&mut bytes, at, &guid(name));
        put_le32(&mut bytes, at + 16, place as u32);
        put_le64(&mut bytes, METADATA + place, value);
    }
    put_le64(&mut bytes, BAT + 8, (3 * MIB as u64) | PRESENT);
    bytes[3 * MIB..].fill(0x22);
    bytes
}

/// An entry that writes one sector of the file and clears a range.
fn log_entry(sequence: u64, tail: usize, id: [u8; 16], to: u64, sector: &[u8], zeros: (u64, u64)) -> Vec<u8> {
    let mut entry = vec![0; 8192];
    put(&mut entry, 0, b"loge");
    put_le32(&mut entry, 8, 8192);
    put_le32(&mut entry, 12, tail as u32);
    put_le64(&mut entry, 16, sequence);
    put_le32(&mut entry, 24, 2);
    put(&mut entry, 32, &id);
    put_le64(&mut entry, 56, 4 * MIB as u64);
    put(&mut entry, 64, b"desc");
    put(&mut entry, 68, &sector[4092..]);
    put(&mut entry, 72, &sector[..8]);
    put_le64(&mut entry, 80, to);
    put_le64(&mut entry, 88, sequence);
    put(&mut entry, 96, b"zero");
    put_le64(&mut entry, 104, zeros.1);
    put_le64(&mut entry, 112, zeros.0);
    put_le64(&mut entry, 120, sequence);
    put(&mut entry, 4096, b"data");
    put(&mut entry, 4104, &sector[8..4092]);
    seal(&mut entry, 0, 8192);
    entry
}

fn open(bytes: Vec<u8>) -> Result<Vhdx, OpenError> {
    Vhdx::open(Box::new(CrashStore::new(bytes)))
}

fn byte(disk: &mut Vhdx, offset: usize) -> u8 {
    let mut byte = [0xFF];
    disk.read_at(offset as u64, &mut byte).unwrap();
    byte[0]
}

#[test]
fn blocks_are_found() {
    let mut disk = open(image([0; 16])).unwrap();
    assert_eq!(disk.length_bytes(), 3 * MIB as u64);
    let at = [0, MIB - 1, MIB, 2 * MIB - 1, 2 * MIB];
    assert_eq!(at.map(|at| byte(&mut disk, at)), [0, 0, 0x22, 0x22, 0]);
}

#[test]
fn a_cut_file_does_not_read_as_zeros() {
    let mut bytes = image([0; 16]);
    bytes.truncate(4 * MIB - 1);
    let mut disk = open(bytes).unwrap();
    assert!(matches!(disk.read_at(MIB as u64, &mut [0]), Err(DiskError::Damaged { .. })));
    let findings = disk.check(&mut |_, _| true).unwrap();
    assert!(findings.damaged == 1 && findings.damage[0].contains("block 1"), "{findings:?}");
}

#[test]
fn a_check_tells_what_is_wrong_with_the_table() {
    let check = |entries: &[(usize, u64)]| {
        let mut bytes = image([0; 16]);
        entries.iter().for_each(|(block, entry)| put_le64(&mut bytes, BAT + block * 8, *entry));
        open(bytes).unwrap().check(&mut |_, _| true).unwrap()
    };
    let sound = check(&[]);
    assert!(sound.is_sound());
    assert_eq!(sound.used_bytes, MIB as u64);
    for (entry, reason) in [
        ((3 * MIB as u64) | PRESENT, "over one another"),
        ((4 * MIB as u64) | PRESENT, "block 2 does not lie in the file"),
        (PRESENT, "block 2 does not lie in the file"),
        (OFFSET | PRESENT, "block 2 does not lie in the file"),
        ((3 * MIB as u64) | PARTLY_PRESENT, "needs a parent"),
    ] {
        let findings = check(&[(2, entry)]);
        assert!(findings.damaged == 1 && findings.damage[0].contains(reason), "{findings:?}");
    }
    assert!(open(image([0; 16])).unwrap().check(&mut |_, _| false).unwrap().is_cancelled);
}

#[test]
fn the_log_is_replayed_in_memory_even_around_its_end() {
    let id = [9; 16];
    let mut bytes = image(id);
    // The first entry names the third block, which lies where the second does; it stands at the log's end and
    // the next goes around.
    let mut table = vec![0; 4096];
    put_le64(&mut table, 8, (3 * MIB as u64) | PRESENT);
    put_le64(&mut table, 16, (3 * MIB as u64) | PRESENT);
    let tail = LOG_BYTES - 4096;
    let first = log_entry(7, tail, id, BAT as u64, &table, (3 * MIB as u64, 4096));
    put(&mut bytes, LOG + tail, &first[..4096]);
    put(&mut bytes, LOG, &first[4096..]);
    let data: Vec<u8> = (0..4096).map(|n| (n % 251) as u8).collect();
    let second = log_entry(8, tail, id, 3 * MIB as u64 + 8192, &data, (3 * MIB as u64 + 4096, 8));
    put(&mut bytes, LOG + 4096, &second);
    // A newer entry whose end was not written does not count.
    let third = log_entry(9, tail, id, 3 * MIB as u64, &[0x77; 4096], (0, 0));
    put(&mut bytes, LOG + 12288, &third[..8000]);
    let before = bytes.clone();
    let store = CrashStore::new(bytes);
    let mut disk = Vhdx::open(Box::new(store.clone())).unwrap();
    assert!(disk.header().was_open);
    assert_eq!((byte(&mut disk, 2 * MIB), byte(&mut disk, 2 * MIB + 8192 + 250)), (0, 250));
    assert_eq!((byte(&mut disk, MIB + 4095), byte(&mut disk, MIB + 4096 + 8)), (0, 0x22));
    let mut sector = vec![0; 4096];
    disk.read_at(MIB as u64 + 8192, &mut sector).unwrap();
    assert!(sector == data, "the sector's ends come from the descriptor");
    assert!(store.bytes() == before, "the file is left alone");
}

#[test]
fn a_log_that_is_not_whole_is_damage() {
    assert!(matches!(open(image([9; 16])), Err(OpenError::Damaged { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_header_makes_it_panic(
        place in 0usize..5, numbers in prop::collection::vec((0usize..0x60, any::<u32>()), 0..6),
        has_log: bool, seals: bool,
    ) {
        let id = if has_log { [9; 16] } else { [0; 16] };
        let mut bytes = image(id);
        let entry = log_entry(7, 0, id, BAT as u64, &[0x11; 4096], (0, 8));
        put(&mut bytes, LOG, &entry);
        let at = [128 << 10, 192 << 10, METADATA, BAT, LOG][place];
        numbers.iter().for_each(|(n, value)| put_be32(&mut bytes, at + n * 4, *value));
        if seals {
            seal(&mut bytes, 128 << 10, 4096);
            seal(&mut bytes, 192 << 10, 64 << 10);
            seal(&mut bytes, LOG, 8192);
        }
        if let Ok(mut disk) = open(bytes) {
            let mut buffer = [0; 512];
            for at in [0, MIB as u64, disk.length_bytes().saturating_sub(512)] {
                let _ = disk.read_at(at, &mut buffer);
            }
            let _ = disk.check(&mut |_, _| true);
        }
    }
}
