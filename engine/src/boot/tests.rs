//! Tests of direct boot: what lies in memory, and what is refused.

use hardware::Memory;

use super::*;

const MIB: u64 = 1 << 20;

fn room() -> Room {
    Room { low: 4 * MIB, high: 0 }
}

fn kernel(image: Vec<u8>) -> Kernel {
    Kernel { image, initrd: None, append: "quiet".to_owned() }
}

#[test]
fn flat_code_lies_where_the_first_instruction_is_fetched() {
    let memory = Memory::new(MIB, 0).unwrap();
    let image = flat::load(vec![0xEB, 0xFE], Room { low: MIB, high: 0 }).unwrap();
    let registers = image.place(&memory);
    let mut bytes = [0; 2];
    memory.dma_read(registers.linear_rip(), &mut bytes);
    assert_eq!(bytes, [0xEB, 0xFE]);
}

#[test]
fn flat_code_that_would_reach_video_memory_is_refused() {
    assert!(flat::load(vec![0; 0x9_8400], room()).is_ok());
    assert!(flat::load(vec![0; 0x9_8401], room()).is_err());
    assert!(flat::load(vec![], room()).is_err());
}

/// A multiboot kernel whose header holds its addresses: two bytes of code at 1 MiB.
fn multiboot_image() -> Vec<u8> {
    let flags = 0x1_0000_u32;
    let words = [
        0x1BAD_B002,
        flags,
        0_u32.wrapping_sub(0x1BAD_B002).wrapping_sub(flags),
        0x10_0000, // header
        0x10_0000, // load
        0x10_0022, // load end
        0x10_1000, // bss end
        0x10_0020, // entry
    ];
    let mut image: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    image.extend([0xEB, 0xFE]);
    image
}

#[test]
fn a_multiboot_kernel_in_low_memory_is_not_written_over() {
    let mut image = multiboot_image();
    for (at, word) in [(12, 0x8000_u32), (16, 0x8000), (20, 0xB800), (24, 0xD000), (28, 0x8020)] {
        image[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    image.resize(0x3800, 0xCC);
    let memory = Memory::new(4 * MIB, 0).unwrap();
    let registers = load_kernel(kernel(image.clone()), room()).unwrap().place(&memory);
    let mut loaded = vec![0; image.len()];
    memory.dma_read(0x8000, &mut loaded);
    assert!(loaded == image);
    assert_eq!(registers.general[3], 0xD000, "behind its zeros");
    assert_eq!(registers.rip, 0x8020);
}

#[test]
fn a_multiboot_kernel_finds_its_information() {
    let memory = Memory::new(4 * MIB, 0).unwrap();
    memory.dma_write(0x10_0100, &[0xFF]);
    let registers = load_kernel(kernel(multiboot_image()), room()).unwrap().place(&memory);
    assert_eq!((registers.rip, registers.general[0]), (0x10_0020, 0x2BAD_B002));
    let word = |at: u64| {
        let mut bytes = [0; 4];
        memory.dma_read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    let information = registers.general[3];
    assert_eq!(word(information + 8), 3 * 1024, "KiB above the first megabyte");
    let mut line = [0; 6];
    memory.dma_read(u64::from(word(information + 16)), &mut line);
    assert_eq!(&line, b"quiet\0");
    assert_eq!(word(0x10_0100), 0, "memory after the code is cleared");
}

#[test]
fn damaged_kernels_are_refused_and_never_panic() {
    let image = multiboot_image();
    for length in 0..image.len() {
        assert!(load_kernel(kernel(image[..length].to_vec()), room()).is_err(), "{length} bytes");
    }
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0xFF);
    assert!(load_kernel(kernel(elf), room()).is_err());
}

#[test]
fn a_kernel_that_does_not_fit_says_so() {
    let small = Room { low: MIB, high: 0 };
    let error = load_kernel(kernel(multiboot_image()), small).unwrap_err();
    assert!(error.contains("more memory"), "{error}");
}
