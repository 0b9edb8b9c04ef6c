//! The card on its bus: windows, base address registers, saved state.

use std::sync::Arc;

use display::{Picture, screen_text};

use crate::access::{At, Width};
use crate::bus::{Bus, Space};
use crate::clock::Clock;
use crate::device::{Device, Shared};
use crate::memory::{Mapping, Memory};
use crate::pci::Function;
use crate::vga::VgaCard;
use crate::vga::vbe::{enable, register};

const MIB: u64 = 1 << 20;
const FRAMEBUFFER: u64 = 0xE000_0000;
const REGISTERS: u64 = 0xF000_0000;

struct Board {
    bus: Arc<Bus>,
    memory: Arc<Memory>,
    clock: Clock,
    card: Shared<VgaCard>,
}

impl Board {
    fn new() -> Board {
        let (bus, clock) = (Bus::new(), Clock::manual());
        let memory = Memory::new(4 * MIB, VgaCard::MEMORY_BYTES).unwrap();
        let card = VgaCard::install(&bus, &memory, &clock);
        Board { bus, memory, clock, card }
    }

    fn out(&self, port: u64, width: Width, value: u64) {
        self.bus.write(Space::Port, port, width, value, 0);
    }

    fn input(&self, port: u64, width: Width) -> u64 {
        self.bus.read(Space::Port, port, width, 0)
    }

    fn place(&self) {
        let mut card = self.card.lock();
        card.config_write(0x10, Width::Dword, FRAMEBUFFER as u32);
        card.config_write(0x18, Width::Dword, REGISTERS as u32);
        card.config_write(0x04, Width::Word, 3);
    }

    fn vbe(&self, number: u16, value: u16) {
        self.out(0x1CE, Width::Word, number.into());
        self.out(0x1CF, Width::Word, value.into());
    }

    fn set_mode(&self, width: u16, height: u16, depth: u16) {
        // The attribute controller lets pixels through.
        self.input(0x3DA, Width::Byte);
        self.out(0x3C2, Width::Byte, 0x67);
        self.input(0x3DA, Width::Byte);
        self.out(0x3C0, Width::Byte, 0x20);
        self.vbe(register::ENABLE, 0);
        self.vbe(register::X_RESOLUTION, width);
        self.vbe(register::Y_RESOLUTION, height);
        self.vbe(register::DEPTH, depth);
        self.vbe(register::ENABLE, enable::ENABLED | enable::LINEAR);
    }

    /// Writes guest-physical memory as a CPU does: what the map backs, in the memfd; the rest on the bus.
    fn store(&self, address: u64, width: Width, value: u64) {
        match self.memory.page(address).write {
            Some(offset) => {
                let bytes = value.to_le_bytes();
                self.memory.write_at(offset + address % 4096, &bytes[..width.bytes() as usize]);
            }
            None => self.bus.write(Space::Memory, address, width, value, 0),
        }
    }
}

#[test]
fn text_goes_from_guest_memory_to_the_screen() {
    let board = Board::new();
    board.card.lock().set_text_mode();
    for (n, &character) in b"Vitrine".iter().enumerate() {
        board.store(0xB8000 + 2 * n as u64, Width::Word, 0x0700 | u64::from(character));
    }
    let picture = board.card.lock().scan();
    assert_eq!(screen_text(&picture).unwrap().trim_end(), "Vitrine");
    assert_eq!(board.bus.read(Space::Memory, 0xB8000, Width::Dword, 0), 0x0769_0756);
}

#[test]
fn an_idle_text_screen_is_touched_only_by_its_blinking() {
    let board = Board::new();
    board.card.lock().set_text_mode();
    let touched = || board.card.lock().touched();
    assert!(touched());
    assert!(!touched());
    board.store(0xB8000, Width::Byte, 0x41);
    assert!(touched());
    assert!(!touched());
    board.clock.step(150_000_000);
    assert!(touched(), "the cursor went out");
    assert!(!touched());
}

#[test]
fn a_guest_that_polls_for_retrace_sees_it_come_and_go() {
    let board = Board::new();
    board.card.lock().set_text_mode();
    let mut seen = Vec::new();
    for _ in 0..2000 {
        seen.push(board.input(0x3DA, Width::Byte));
        board.clock.step(10_000);
    }
    let starts = seen.windows(2).filter(|pair| pair[0] & 8 == 0 && pair[1] & 8 != 0).count();
    assert!((1..=2).contains(&starts), "70 Hz for 20 ms: {starts}");
    assert!(seen.iter().any(|status| status & 9 == 0), "a line being drawn");
    assert!(seen.iter().any(|status| status & 9 == 1), "beside the picture");
    assert!(seen.iter().all(|status| status & 9 != 8), "nothing is drawn in retrace");
}

#[test]
fn the_framebuffer_is_memory_where_its_base_register_says() {
    let board = Board::new();
    let hole = (board.memory.page(0xA_0000), board.memory.page(0xB_F000));
    assert_eq!((hole.0.read, hole.1.write), (None, None));
    assert_eq!(board.memory.page(FRAMEBUFFER).write, None);
    board.place();
    let mapped = board.memory.map().iter().any(|m| {
        let Mapping { start, end, .. } = *m;
        (start, end) == (FRAMEBUFFER, FRAMEBUFFER + 16 * MIB) && m.read == m.write && m.read.is_some()
    });
    assert!(mapped, "{:x?}", board.memory.map());
    board.card.lock().config_write(0x04, Width::Word, 0);
    assert_eq!(board.memory.page(FRAMEBUFFER).write, None);
}

#[test]
fn pixels_written_to_the_framebuffer_show() {
    let board = Board::new();
    board.place();
    board.set_mode(1920, 1200, 32);
    board.store(FRAMEBUFFER, Width::Dword, 0xFF12_3456);
    board.store(FRAMEBUFFER + 4 * (1920 * 1199 + 1919), Width::Dword, 0xABCDEF);
    let mut card = board.card.lock();
    let Picture::Pixels(pixels) = card.scan() else { panic!("a graphics mode") };
    assert_eq!((pixels.width, pixels.height, pixels.repeat_lines, pixels.repeat_columns), (1920, 1200, 1, 1));
    assert_eq!(
        (pixels.colours[0], pixels.colours[1], *pixels.colours.last().unwrap()),
        (0x12_3456, 0, 0xAB_CDEF)
    );
    assert!(card.touched() && card.touched(), "writes to it are not seen");
}

#[test]
fn banks_at_a0000_are_the_framebuffer_in_pieces() {
    let board = Board::new();
    board.place();
    board.set_mode(800, 600, 16);
    board.vbe(register::BANK, 3);
    board.store(0xA_1234, Width::Qword, 0x1122_3344_5566_7788);
    let page = board.memory.page(FRAMEBUFFER + 0x3_1000).read.unwrap();
    let mut bytes = [0; 8];
    board.memory.read_at(page + 0x234, &mut bytes);
    assert_eq!(u64::from_le_bytes(bytes), 0x1122_3344_5566_7788);
    assert_eq!(board.bus.read(Space::Memory, 0xA_1234, Width::Qword, 0), 0x1122_3344_5566_7788);
    assert_eq!(board.bus.read(Space::Memory, 0xB_8000, Width::Word, 0), 0xFFFF, "only one window");
}

#[test]
fn enabling_clears_unless_told_otherwise() {
    let board = Board::new();
    board.place();
    board.set_mode(640, 480, 32);
    let first = || board.bus.read(Space::Memory, 0xA_0000, Width::Dword, 0);
    board.store(0xA_0000, Width::Dword, 0x55AA_1234);
    board.vbe(register::ENABLE, 0);
    board.vbe(register::ENABLE, enable::ENABLED | enable::KEEP_MEMORY);
    assert_eq!(first(), 0x55AA_1234);
    board.vbe(register::ENABLE, 0);
    board.vbe(register::ENABLE, enable::ENABLED);
    assert_eq!(first(), 0);
}

#[test]
fn register_memory_is_another_way_to_the_registers() {
    let board = Board::new();
    board.place();
    let (read, write) = (
        |offset, width| board.bus.read(Space::Memory, REGISTERS + offset, width, 0),
        |offset, width, value| board.bus.write(Space::Memory, REGISTERS + offset, width, value, 0),
    );
    assert_eq!(read(0x500, Width::Word), 0xB0C5);
    assert_eq!(read(0x514, Width::Word), 256, "16 MiB in units of 64 KiB");
    write(0x502, Width::Word, 1024);
    assert_eq!((read(0x502, Width::Word), read(0x503, Width::Byte)), (1024, 4));
    // One word to the index and data registers of the graphics controller, 0x3CE and 0x3CF.
    write(0x40E, Width::Word, 0xA508);
    board.out(0x3CE, Width::Byte, 8);
    assert_eq!(board.input(0x3CF, Width::Byte), 0xA5);
    assert_eq!(read(0x000, Width::Dword), 0xFFFF_FFFF, "no EDID");
}

#[test]
fn both_data_ports_of_the_display_interface_work() {
    let board = Board::new();
    board.out(0x1CE, Width::Word, 0);
    assert_eq!(board.input(0x1CE, Width::Word), 0);
    assert_eq!((board.input(0x1CF, Width::Word), board.input(0x1D0, Width::Word)), (0xB0C5, 0xB0C5));
    board.out(0x1CE, Width::Word, register::X_RESOLUTION.into());
    board.out(0x1D0, Width::Word, 1280);
    assert_eq!(board.input(0x1CF, Width::Word), 1280);
}

#[test]
fn a_saved_card_comes_back_with_its_picture() {
    let board = Board::new();
    board.place();
    board.set_mode(1024, 768, 24);
    for n in 0..1000 {
        board.store(FRAMEBUFFER + 2357 * n, Width::Byte, n);
    }
    let saved = board.card.lock().save();
    assert!(saved.len() < 5 << 20, "{} bytes", saved.len());
    let picture = board.card.lock().scan();
    let other = Board::new();
    other.place();
    other.store(FRAMEBUFFER + 12 * MIB, Width::Dword, 0xDEAD);
    other.card.lock().load(&saved).unwrap();
    assert_eq!(other.card.lock().scan(), picture);
    assert_eq!(other.card.lock().save(), saved);
    assert!(other.memory.page(FRAMEBUFFER).read.is_some(), "windows are placed as saved");
    other.card.lock().reset();
    assert_eq!(other.card.lock().save(), Board::new().card.lock().save(), "reset is power-on");
}

#[test]
fn a_state_that_does_not_fit_changes_nothing() {
    let board = Board::new();
    board.card.lock().set_text_mode();
    let saved = board.card.lock().save();
    for broken in [&saved[..saved.len() / 2], &[], b"\x81\xa4chip\xc0"] {
        assert!(board.card.lock().load(broken).is_err());
    }
    assert_eq!(board.card.lock().save(), saved);
}

#[test]
fn any_access_anywhere_is_survived() {
    let board = Board::new();
    board.place();
    let mut seed = 0x0123_4567_89AB_CDEFu64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let lengths = [0xC, 0x20, 2, 2, 2, 0x2_0000, 0x1000u64];
    for round in 0..100_000u32 {
        let window = (random() % 7) as u8;
        let width = [Width::Byte, Width::Word, Width::Dword, Width::Qword][(random() % 4) as usize];
        let at = At::new(window, random() % lengths[usize::from(window)]);
        let value = random() & width.ones();
        let mut card = board.card.lock();
        if random() % 3 == 0 {
            card.read(at, width);
        } else {
            card.write(at, width, if random() % 2 == 0 { value & 0x1F } else { value });
        }
        if round % 512 == 0 {
            card.scan();
            board.clock.step(random() % 100_000_000);
        }
    }
}

#[test]
fn wide_writes_to_mode_13h_are_the_same_as_bytes() {
    let (wide, narrow) = (Board::new(), Board::new());
    for board in [&wide, &narrow] {
        board.out(0x3C2, Width::Byte, 0x63);
        for (port, value) in
            [(0x3C4, 0x0F02), (0x3C4, 0x0E04), (0x3CE, 0x4005), (0x3CE, 0x0506), (0x3CE, 0xFF08)]
        {
            board.out(port, Width::Word, value);
        }
    }
    for (n, width) in [Width::Qword, Width::Dword, Width::Word, Width::Byte].into_iter().enumerate() {
        for step in 0..700 {
            let (address, value) =
                (0xA_0000 + 97 * step, (n as u64 + 7 * step).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            wide.store(address, width, value);
            for byte in 0..width.bytes() {
                narrow.store(address + byte, Width::Byte, value >> (8 * byte) & 0xFF);
            }
        }
    }
    assert!(wide.card.lock().chip().writes_chained());
    assert!(wide.card.lock().chip().planes == narrow.card.lock().chip().planes);
}

#[test]
fn the_card_keeps_the_contract() {
    crate::contract::check(|| {
        let memory = Memory::new(MIB, VgaCard::MEMORY_BYTES).unwrap();
        VgaCard::new(&memory, &Clock::manual())
    });
}
