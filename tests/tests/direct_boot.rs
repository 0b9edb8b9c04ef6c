//! Kernels started without firmware, of each kind, on every backend: they report what they are entered with.

use engine::profile::{Direct, Profile};
use machine_tests::{Guest, platforms};

const LOAD: u32 = 0x10_0000;

/// Sends EAX and the first byte at EBX to port 0xE9, lowest byte first, and ends the run with 0.
const REPORT: [u8; 33] = [
    0xBA, 0xE9, 0, 0, 0, // mov edx, 0xE9
    0xEE, 0xC1, 0xE8, 8, // out dx, al; shr eax, 8
    0xEE, 0xC1, 0xE8, 8, 0xEE, 0xC1, 0xE8, 8, 0xEE, // and again
    0x8B, 0x03, 0xEE, // mov eax, [ebx]; out dx, al
    0x30, 0xC0, 0xE6, 0xF4, // xor al, al; out 0xF4, al
    0xFA, 0xF4, 0xEB, 0xFC, 0x90, 0x90, 0x90, 0x90, // cli; hlt, for ever
];

fn dwords(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn multiboot_1() -> Vec<u8> {
    let (magic, flags) = (0x1BAD_B002_u32, 0x1_0000);
    let checksum = 0_u32.wrapping_sub(magic).wrapping_sub(flags);
    [dwords(&[magic, flags, checksum, LOAD, LOAD, 0, 0, LOAD + 32]), REPORT.to_vec()].concat()
}

fn multiboot_2() -> Vec<u8> {
    // Addresses, entry (padded), request for the memory map and the ACPI root (padded), end.
    let tags = [
        2,
        24,
        LOAD,
        LOAD,
        0,
        0, //
        3,
        12,
        LOAD + 16 + 24 + 16 + 16 + 8,
        0, //
        1,
        16,
        6,
        15, //
        0,
        8,
    ];
    let (magic, length) = (0xE852_50D6_u32, 16 + 4 * tags.len() as u32);
    let checksum = 0_u32.wrapping_sub(magic).wrapping_sub(length);
    [dwords(&[magic, 0, length, checksum]), dwords(&tags), REPORT.to_vec()].concat()
}

/// A 32-bit ELF program at `LOAD`; with a PVH note, it is one of those.
fn elf(is_pvh: bool) -> Vec<u8> {
    const HEADERS: u32 = 52 + 2 * 32;
    let note = dwords(&[4, 4, 18, u32::from_le_bytes(*b"Xen\0"), LOAD]);
    let (note_type, notes) = if is_pvh { (4, note.len() as u32) } else { (0, 0) };
    let code_at = HEADERS + note.len() as u32;
    let code_bytes = REPORT.len() as u32;
    let mut image = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    image.extend(dwords(&[0x0003_0002, 1, LOAD, 52, 0, 0, 0x0020_0034, 2, 0]));
    image.extend(dwords(&[1, code_at, LOAD, LOAD, code_bytes, code_bytes, 5, 1]));
    image.extend(dwords(&[note_type, HEADERS, 0, 0, notes, notes, 4, 4]));
    [image, note, REPORT.to_vec()].concat()
}

/// What the kernel reports, on every backend: EAX, and the first byte at EBX.
fn report(image: &[u8]) -> Vec<(u32, u8)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), image).unwrap();
    let start = |platform| {
        let mut profile = Profile::new("direct");
        profile.direct =
            Some(Direct::Kernel { image: file.path().to_owned(), initrd: None, append: "quiet".to_owned() });
        profile.debug_exit = true;
        let guest = Guest::start(profile, platform);
        guest.wait_pass(60);
        let bytes = guest.debug_console_bytes();
        let eax = bytes[..4].try_into().map(u32::from_le_bytes).expect("four bytes of EAX");
        (eax, bytes[4])
    };
    platforms().into_iter().map(start).collect()
}

#[test]
fn multiboot_1_kernels_are_entered_with_their_magic_and_information() {
    // Memory sizes, command line, memory map, loader's name.
    assert!(report(&multiboot_1()).iter().all(|entry| *entry == (0x2BAD_B002, 0x45)));
}

#[test]
fn multiboot_2_kernels_are_entered_with_their_magic_and_information() {
    for (eax, total_bytes) in report(&multiboot_2()) {
        assert_eq!(eax, 0x36D7_6289);
        assert_eq!(total_bytes % 8, 0, "the total size is a multiple of eight");
    }
}

#[test]
fn pvh_kernels_are_entered_with_their_start_information() {
    assert!(report(&elf(true)).iter().all(|(_, magic)| *magic == 0x78));
}

#[test]
fn elf_programs_are_entered_at_their_entry() {
    assert!(!report(&elf(false)).is_empty());
}
