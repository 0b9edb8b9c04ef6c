//! Tests of multiboot 2: what a header may ask for, and what the kernel is told.

use hardware::Memory;
use hardware::firmware::{acpi, smbios};

use super::*;

const MIB: u64 = 1 << 20;

fn room() -> Room {
    Room { low: 8 * MIB, high: 0 }
}

fn tag(kind: u16, optional: bool, words: &[u32]) -> Vec<u8> {
    let mut tag = [kind.to_le_bytes(), u16::from(optional).to_le_bytes()].concat();
    tag.extend((8 + 4 * words.len() as u32).to_le_bytes());
    tag.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    tag.resize(tag.len().next_multiple_of(8), 0);
    tag
}

/// A header with these tags, linked at 1 MiB, and two bytes of code behind it.
fn image_of(architecture: u32, tags: &[Vec<u8>]) -> Vec<u8> {
    let tags = [tags.concat(), tag(asks::END, false, &[])].concat();
    let length = 16 + tags.len() as u32;
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(architecture).wrapping_sub(length);
    let mut image = vec![0; 8];
    image.extend([MAGIC, architecture, length, checksum].iter().flat_map(|word| word.to_le_bytes()));
    image.extend(tags);
    image.extend([0xEB, 0xFE]);
    image
}

const ADDRESSES: [u32; 4] = [0x10_0008, 0x10_0000, 0, 0x10_2000];

fn image(tags: &[Vec<u8>]) -> Vec<u8> {
    let own = [tag(asks::ADDRESSES, false, &ADDRESSES), tag(asks::ENTRY, false, &[0x10_0040])];
    image_of(I386, &[&own[..], tags].concat())
}

fn start(image: Vec<u8>, initrd: Option<Vec<u8>>) -> Result<Image, String> {
    let header = find_header(&image).expect("the header is found");
    load(Kernel { image, initrd, append: "one two".to_owned() }, header, room())
}

fn refusal(image: Vec<u8>) -> String {
    start(image, None).expect_err("it is refused")
}

/// The tags of the information, in order.
fn told(image: &Image) -> Vec<(u32, Vec<u8>)> {
    let memory = Memory::new(8 * MIB, 0).unwrap();
    let registers = image.place(&memory);
    assert_eq!(registers.general[general::RAX], LOADER_MAGIC);
    let mut all = vec![0; 4096];
    memory.dma_read(registers.general[general::RBX], &mut all);
    let [total] = words(&all, 0).unwrap();
    let (mut tags, mut at) = (Vec::new(), 8);
    while at < total as usize {
        let [kind, size] = words(&all, at).unwrap();
        tags.push((kind, all[at + 8..at + size as usize].to_vec()));
        at += (size as usize).next_multiple_of(8);
    }
    assert_eq!(at, total as usize);
    tags
}

fn body(tags: &[(u32, Vec<u8>)], kind: u32) -> &[u8] {
    &tags.iter().find(|(other, _)| *other == kind).expect("the tag is there").1
}

#[test]
fn the_kernel_is_told_what_there_is() {
    let mut image = start(image(&[]), Some(b"module".to_vec())).unwrap();
    assert_eq!(image.registers.rip, 0x10_0040);
    let acpi = acpi::Tables::new(&acpi::Board {
        cpus: 1,
        low_ram_bytes: 8 * MIB,
        serial_ports: 1,
        floppy: false,
        suspend: false,
        hpet: false,
    });
    let identity = smbios::Identity { name: "m".into(), uuid: [0; 16], cpus: 1, ram_bytes: 8 * MIB };
    image.add_tables(&acpi, &smbios::Tables::new(&identity));
    let tags = told(&image);
    assert_eq!(body(&tags, tells::COMMAND_LINE), b"one two\0");
    assert_eq!(body(&tags, tells::LOADER_NAME), b"Vitrine\0");
    let [start, end] = words(body(&tags, tells::MODULE), 0).unwrap();
    assert_eq!((start, end), (0x10_2000, 0x10_2006), "on the page behind the kernel and its zeros");
    assert_eq!(words(body(&tags, tells::BASIC_MEMORY), 0), Some([639, 7 * 1024]));
    let map = body(&tags, tells::MEMORY_MAP);
    assert_eq!(words(map, 0), Some([24, 0]));
    assert_eq!(words(map, 8 + 24), Some([0x10_0000, 0, 7 << 20, 0, 1, 0]));
    assert_eq!(words(body(&tags, tells::FRAMEBUFFER), 0), Some([0xB_8000, 0, 160, 80, 25]));
    for (kind, length) in [(tells::ACPI_OLD, 20), (tells::ACPI_NEW, 36)] {
        let root = body(&tags, kind);
        assert_eq!((&root[..8], root.len()), (&b"RSD PTR "[..], length));
        assert_eq!(root.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0, "its checksum");
    }
    assert_eq!(words(body(&tags, tells::LOAD_BASE), 0), Some([0x10_0000]));
    assert_eq!(tags.last(), Some(&(tells::END, vec![])));
}

#[test]
fn relocatable_kernels_go_where_they_ask_to() {
    let at = |limits: [u32; 4]| start(image(&[tag(asks::RELOCATABLE, false, &limits)]), None);
    let place = |limits| {
        let image = at(limits).unwrap();
        (image.registers.rip, body(&told(&image), tells::LOAD_BASE).to_vec())
    };
    let placed = |base: u32| (u64::from(base) + 0x40, base.to_le_bytes().to_vec());
    assert_eq!(
        place([0x10_0000, 0x80_0000, 0x1000, 0]),
        placed(0x10_0000),
        "no preference: where it is linked"
    );
    assert_eq!(place([0x23_4567, 0x80_0000, 0x10_0000, 1]), placed(0x30_0000), "lowest");
    assert_eq!(place([0x10_0000, 0xFFFF_FFFF, 0x10_0000, 2]), placed(0x70_0000), "highest");
    assert!(at([0x10_0000, 0x10_1000, 0x1000, 0]).unwrap_err().contains("no room"));
}

#[test]
fn what_cannot_be_given_is_refused_unless_it_is_optional() {
    assert!(refusal(image_of(4, &[])).contains("architecture 4"));
    assert!(refusal(image(&[tag(7, false, &[])])).contains("tag 7"));
    assert!(start(image(&[tag(7, true, &[])]), None).is_ok());
    assert!(refusal(image(&[tag(asks::INFORMATION, false, &[1, 12])])).contains("tag 12"));
    assert!(start(image(&[tag(asks::INFORMATION, true, &[1, 12])]), None).is_ok());
    assert!(start(image(&[tag(asks::INFORMATION, false, &[1, 4, 6, 8, 14, 15])]), None).is_ok());
    assert!(refusal(image(&[tag(asks::CONSOLE, false, &[1])])).contains("graphical"));
    assert!(start(image(&[tag(asks::CONSOLE, false, &[3])]), None).is_ok());
    let no_entry = image_of(I386, &[tag(asks::ADDRESSES, false, &ADDRESSES)]);
    assert!(refusal(no_entry).contains("no entry"));
    let low = [tag(asks::ADDRESSES, false, &[0x9008, 0x9000, 0, 0]), tag(asks::ENTRY, false, &[0x9040])];
    assert!(refusal(image_of(I386, &low)).contains("0x9000"));
}

#[test]
fn damaged_headers_are_refused_and_never_panic() {
    let whole = image(&[tag(asks::RELOCATABLE, false, &[0, 0, 0, 0]), tag(asks::INFORMATION, false, &[9])]);
    for length in 0..whole.len() - 2 {
        let image = whole[..length].to_vec();
        if let Some(header) = find_header(&image) {
            assert!(load(Kernel { image, initrd: None, append: String::new() }, header, room()).is_err());
        }
    }
    for at in 24..whole.len() {
        for value in [0, 1, 0x7F, 0xFF] {
            let mut image = whole.clone();
            image[at] = value;
            let header = find_header(&image).expect("the first words are whole");
            let _ = load(Kernel { image, initrd: None, append: String::new() }, header, room());
        }
    }
}

#[test]
fn sections_that_are_not_loaded_are_and_their_headers_say_where() {
    // An ELF32 file with one loaded section and one of names.
    let mut elf = vec![0; 0x34];
    elf[..6].copy_from_slice(b"\x7fELF\x01\x01");
    elf[0x20..0x24].copy_from_slice(&0x40_u32.to_le_bytes());
    elf[0x2E..0x34].copy_from_slice(&[40, 0, 3, 0, 2, 0]);
    elf.resize(0x40, 0);
    let header = |kind: u32, flags: u32, address: u32, offset: u32, size: u32| {
        [0, kind, flags, address, offset, size, 0, 0, 0, 0]
            .iter()
            .flat_map(|word: &u32| word.to_le_bytes())
            .collect()
    };
    let headers: [Vec<u8>; 3] =
        [header(0, 0, 0, 0, 0), header(1, 2, 0x10_0000, 0, 16), header(3, 0, 0, 0x40 + 120, 6)];
    elf.extend(headers.concat());
    elf.extend(b"names\0");
    let place = |bytes: Vec<u8>| Piece::new(0x20_0000, bytes);
    let sections = sections::read(&elf, place).unwrap().unwrap();
    assert_eq!((sections.count, sections.entry_bytes, sections.names), (3, 40, 2));
    assert_eq!(words(&sections.headers, 40 + 12), Some([0x10_0000]), "where the program has it");
    assert_eq!(words(&sections.headers, 80 + 12), Some([0x20_0000]));
    assert_eq!(sections.loaded[0].bytes, b"names\0");
    for length in 0..elf.len() {
        let _ = sections::read(&elf[..length], place);
    }
    assert!(sections::read(&elf[..elf.len() - 1], place).is_err());
    assert!(sections::read(b"no ELF at all", place).unwrap().is_none());
}
