//! Each kind of file, made small, and told apart.

use super::*;
use crate::raw::RawDisk;

fn identify_bytes(bytes: &[u8]) -> Result<Kind, IdentifyError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thing.bin");
    std::fs::write(&path, bytes).unwrap();
    identify(&path)
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

fn boot_sector(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    put(&mut bytes, 0, &[0xEB, 0xFE]);
    put(&mut bytes, 510, &[0x55, 0xAA]);
    bytes
}

fn iso(blocks: u32, boot_record: bool) -> Vec<u8> {
    let mut bytes = vec![0; 40 * 2048];
    put(&mut bytes, 0x8000, b"\x01CD001\x01");
    put(&mut bytes, 0x8000 + 80, &blocks.to_le_bytes());
    put(&mut bytes, 0x8000 + 128, &2048u16.to_le_bytes());
    put(
        &mut bytes,
        0x8800,
        if boot_record { b"\0CD001\x01EL TORITO SPECIFICATION" } else { b"\x02CD001\x01" },
    );
    put(&mut bytes, 0x9000, b"\xFFCD001\x01");
    bytes
}

#[test]
fn cds_and_whether_they_boot() {
    assert_eq!(identify_bytes(&iso(40, true)).unwrap(), Kind::Iso { bootable: true });
    assert_eq!(identify_bytes(&iso(40, false)).unwrap(), Kind::Iso { bootable: false });
}

#[test]
fn a_cd_whose_download_stopped_is_refused() {
    let error = identify_bytes(&iso(100_000, true)).unwrap_err();
    assert!(matches!(
        error,
        IdentifyError::Truncated { expected_bytes: 204_800_000, length_bytes: 81_920, .. }
    ));
    assert!(error.to_string().contains("get it again"));
}

#[test]
fn a_boot_sector_may_be_longer_than_a_sector_and_have_any_length() {
    for length in [512, 513, 1024, 20_000] {
        assert_eq!(identify_bytes(&boot_sector(length)).unwrap(), Kind::BootSector, "{length}");
    }
    assert_eq!(identify_bytes(&vec![0x90; 512]).unwrap(), Kind::Flat);
    assert_eq!(identify_bytes(&[0xF4]).unwrap(), Kind::Flat);
}

#[test]
fn a_floppy_is_told_by_its_length() {
    let kind = identify_bytes(&boot_sector(1_474_560)).unwrap();
    assert_eq!(kind, Kind::Floppy { geometry: FloppyGeometry::HD_1440K });
    assert!(
        matches!(identify_bytes(&vec![0; 368_640]).unwrap(), Kind::Floppy { geometry } if geometry.heads == 2)
    );
}

#[test]
fn disks_by_their_partition_tables() {
    let mut mbr = boot_sector(1 << 20);
    put(&mut mbr, 446, &[0x80, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 0xFF, 7, 0, 0]);
    assert_eq!(identify_bytes(&mbr).unwrap(), Kind::DiskImage { table: PartitionTable::Mbr });
    put(&mut mbr, 512, b"EFI PART");
    assert_eq!(identify_bytes(&mbr).unwrap(), Kind::DiskImage { table: PartitionTable::Gpt });
    let bare = boot_sector(4 << 20);
    assert_eq!(identify_bytes(&bare).unwrap(), Kind::DiskImage { table: PartitionTable::None });
}

#[test]
fn code_where_the_partitions_would_be_makes_a_boot_sector() {
    let mut code = boot_sector(8192);
    code[440..510].fill(0xB8);
    assert_eq!(identify_bytes(&code).unwrap(), Kind::BootSector);
}

#[test]
fn a_linux_kernel_and_a_cut_one() {
    let mut kernel = boot_sector(64 << 10);
    kernel[0x1F1] = 3;
    put(&mut kernel, 0x1F4, &((60u32 << 10) / 16).to_le_bytes());
    put(&mut kernel, 0x202, b"HdrS");
    assert_eq!(identify_bytes(&kernel).unwrap(), Kind::LinuxKernel);
    assert!(matches!(identify_bytes(&kernel[..40_000]), Err(IdentifyError::Truncated { .. })));
}

fn elf(class: u8) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    put(&mut bytes, 0, b"\x7FELF");
    bytes[4] = class;
    bytes
}

#[test]
fn elf_files_of_both_classes() {
    assert_eq!(identify_bytes(&elf(1)).unwrap(), Kind::Elf32);
    assert_eq!(identify_bytes(&elf(2)).unwrap(), Kind::Elf64);
    let mut cut = elf(2);
    put(&mut cut, 32, &(1u64 << 20).to_le_bytes());
    assert!(matches!(identify_bytes(&cut), Err(IdentifyError::Truncated { expected_bytes: 0x10_0000, .. })));
}

#[test]
fn multiboot_headers_need_their_checksum() {
    let mut one = elf(1);
    put(&mut one, 64, &0x1BAD_B002u32.to_le_bytes());
    put(&mut one, 68, &3u32.to_le_bytes());
    assert_eq!(identify_bytes(&one).unwrap(), Kind::Elf32);
    put(&mut one, 72, &0u32.wrapping_sub(0x1BAD_B002 + 3).to_le_bytes());
    assert_eq!(identify_bytes(&one).unwrap(), Kind::Multiboot1);

    let mut two = elf(2);
    let header = [0xE852_50D6, 0, 24, 0u32.wrapping_sub(0xE852_50D6 + 24)];
    for (n, word) in header.iter().enumerate() {
        put(&mut two, 1024 + 4 * n, &word.to_le_bytes());
    }
    assert_eq!(identify_bytes(&two).unwrap(), Kind::Multiboot2);
}

#[test]
fn what_must_be_unpacked_says_how() {
    let mut bytes = vec![0; 4000];
    put(&mut bytes, 0, b"\x1F\x8B\x08\0");
    let error = identify_bytes(&bytes).unwrap_err();
    assert!(
        matches!(error, IdentifyError::Open(OpenError::Foreign { .. }))
            && error.to_string().contains("gunzip -k")
    );
}

#[test]
fn what_lies_in_an_image_of_another_format_is_told() {
    use crate::job::{self, NewDisk};
    let folder = tempfile::tempdir().unwrap();
    let mut mbr = boot_sector(8 << 20);
    put(&mut mbr, 446, &[0x80, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 0xFF, 7, 0, 0]);
    let floppy = Kind::Floppy { geometry: FloppyGeometry::HD_1440K };
    for (n, (bytes, expected)) in [
        (iso(40, true), Kind::Iso { bootable: true }),
        (mbr, Kind::DiskImage { table: PartitionTable::Mbr }),
        (boot_sector(1_474_560), floppy),
        (elf(1), Kind::DiskImage { table: PartitionTable::None }),
    ]
    .into_iter()
    .enumerate()
    {
        let raw = folder.path().join(format!("{n}.img"));
        std::fs::write(&raw, bytes).unwrap();
        for format in [Format::Qcow2, Format::Vdi, Format::Vhd] {
            let path = folder.path().join(format!("{n}.{format}"));
            let new = NewDisk { length_bytes: None, ..NewDisk::new(format, 0) };
            job::convert(&raw, &path, &new, &mut |_, _| true).unwrap();
            assert_eq!(identify(&path).unwrap(), expected, "{format}");
            let _writer = image::Image::open(&path, Access::ReadWrite).unwrap();
            assert_eq!(identify(&path).unwrap(), expected, "in use");
        }
    }
}

#[test]
fn what_cannot_be_opened_is_said_so() {
    assert!(matches!(identify_bytes(&[]), Err(IdentifyError::Open(OpenError::Empty { .. }))));
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(identify(folder.path()), Err(IdentifyError::Open(OpenError::Directory { .. }))));
    let missing = identify(&folder.path().join("none")).unwrap_err().to_string();
    assert!(missing.contains("none") && missing.contains("does not exist"), "{missing}");
}

#[test]
fn a_disk_in_use_is_told_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    std::fs::write(&path, boot_sector(4 << 20)).unwrap();
    let _writer = RawDisk::open(&path, Access::ReadWrite).unwrap();
    assert_eq!(identify(&path).unwrap(), Kind::DiskImage { table: PartitionTable::None });
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        magic in 0usize..6,
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..40_000),
    ) {
        let mut bytes = bytes;
        let marks: [(usize, &[u8]); 6] =
            [(0, b""), (0, b"\x7FELF"), (0x8001, b"CD001"), (0x202, b"HdrS"), (510, &[0x55, 0xAA]), (512, b"EFI PART")];
        let (at, mark) = marks[magic];
        if bytes.len() >= at + mark.len() {
            put(&mut bytes, at, mark);
        }
        let _ = identify_bytes(&bytes);
    }
}
