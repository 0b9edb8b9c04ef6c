use std::sync::Arc;

use network::{Capacity, End, Link, Mac, cable};

use super::{Ne2000, Rtl8029};
use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::{Bus, Space};
use crate::clock::Clock;
use crate::device::{Device, shared};
use crate::line::Line;
use crate::line::testing::Level;
use crate::pci::Function;

const OWN: Mac = Mac([0x52, 0x56, 0, 1, 2, 3]);

struct Guest {
    card: Ne2000,
    far: Arc<End>,
    level: Arc<Level>,
}

impl Guest {
    /// A card as a driver sets it up: transmit buffer at page 0x40, ring from 0x46 to 0x80.
    fn start() -> Guest {
        let (near, far) = cable(Capacity { frames: 4, bytes: 1 << 16 });
        let level = Arc::<Level>::default();
        let line = Line::new(level.clone(), 0);
        let card = Ne2000::new(OWN, near, Clock::manual(), Alarm::unconnected(), line);
        let mut guest = Guest { card, far, level };
        guest.read(0x1F);
        for (register, value) in [
            (0x0, 0x21),
            (0xE, 0x49),
            (0xA, 0),
            (0xB, 0),
            (0xC, 0x04),
            (0xD, 0),
            (0x4, 0x40),
            (0x1, 0x46),
            (0x3, 0x46),
            (0x2, 0x80),
            (0x7, 0x7F),
            (0xF, 0x3F),
            (0x0, 0x61),
        ] {
            guest.write(register, value);
        }
        OWN.0.into_iter().zip(1..).for_each(|(byte, register)| guest.write(register, byte));
        guest.write(0x7, 0x47);
        guest.write(0x0, 0x22);
        guest
    }

    fn read(&mut self, port: u64) -> u8 {
        self.card.read(At::new(0, port), Width::Byte) as u8
    }

    fn write(&mut self, port: u64, value: u8) {
        self.card.write(At::new(0, port), Width::Byte, value.into());
    }

    /// Remote DMA of `count` bytes at `address`.
    fn remote(&mut self, address: u16, count: u16, command: u8) {
        let [[a, b], [c, d]] = [address, count].map(u16::to_le_bytes);
        for (register, value) in [(0x8, a), (0x9, b), (0xA, c), (0xB, d), (0x0, command)] {
            self.write(register, value);
        }
    }

    fn read_memory(&mut self, address: u16, count: u16) -> Vec<u8> {
        self.remote(address, count, 0x0A);
        let mut bytes = Vec::new();
        for _ in 0..count / 2 {
            bytes.extend((self.card.read(At::new(0, 0x10), Width::Word) as u16).to_le_bytes());
        }
        bytes
    }

    fn send(&mut self, frame: &[u8]) {
        self.remote(0x4000, frame.len() as u16, 0x12);
        for pair in frame.chunks(2) {
            let word = u16::from_le_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
            self.card.write(At::new(0, 0x10), Width::Word, word.into());
        }
        let [low, high] = (frame.len() as u16).to_le_bytes();
        [(0x4, 0x40), (0x5, low), (0x6, high), (0x0, 0x26)].into_iter().for_each(|(r, v)| self.write(r, v));
    }
}

fn frame(to: [u8; 6], length: usize) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    frame.extend((14..length).map(|n| n as u8));
    frame
}

#[test]
fn its_address_is_in_the_rom_twice() {
    let mut guest = Guest::start();
    let rom = guest.read_memory(0, 32);
    let address: Vec<u8> = rom.chunks(2).take(6).map(|pair| pair[0]).collect();
    assert_eq!((address.as_slice(), &rom[28..]), (&OWN.0[..], &[0x57; 4][..]));
    assert_eq!(guest.read(0x7) & 0x40, 0x40, "remote DMA is done");
    assert_eq!((guest.read(0xA), guest.read(0xB)), (0x50, 0x43), "it tells that it is an RTL8029");
}

#[test]
fn a_frame_goes_out_and_the_driver_is_told() {
    let mut guest = Guest::start();
    guest.write(0x7, 0x7F);
    let sent = frame([1; 6], 100);
    guest.send(&sent);
    let mut received = Vec::new();
    assert!(guest.far.receive(&mut received));
    assert_eq!(received, sent);
    assert_eq!((guest.read(0x7) & 2, guest.read(0x4), guest.read(0x0) & 4), (2, 1, 0));
    assert!(guest.level.get());
    guest.write(0x7, 2);
    guest.write(0x7, 0x40);
    assert!(!guest.level.get());
}

#[test]
fn a_full_cable_holds_the_frame_until_it_takes_it() {
    let mut guest = Guest::start();
    for _ in 0..4 {
        guest.send(&frame([1; 6], 60));
    }
    guest.write(0x7, 0x7F);
    guest.send(&frame([1; 6], 61));
    assert_eq!((guest.read(0x0) & 4, guest.read(0x7) & 2), (4, 0), "it is still being sent");
    let mut received = Vec::new();
    assert!(guest.far.receive(&mut received));
    guest.card.advance();
    assert_eq!((guest.read(0x0) & 4, guest.read(0x7) & 2), (0, 2));
}

#[test]
fn frames_come_into_the_ring_with_their_header_and_wait_when_it_is_full() {
    let mut guest = Guest::start();
    assert!(guest.far.offer(&frame(OWN.0, 300)));
    assert!(guest.far.offer(&frame([0xFF; 6], 60)));
    assert!(guest.far.offer(&frame([2; 6], 60)), "for another");
    guest.card.advance();
    assert_eq!(guest.read(0x7) & 1, 1);
    assert_eq!(guest.read_memory(0x4700, 4), [0x01, 0x49, 0x30, 0x01], "two pages, 304 bytes");
    assert_eq!(guest.read_memory(0x4704, 300), frame(OWN.0, 300));
    assert_eq!(guest.read_memory(0x4900, 4), [0x21, 0x4A, 64, 0], "to all");
    // Without its boundary moved the ring fills: 57 pages, seven a long frame.
    let mut offered = 0;
    for _ in 0..40 {
        if !guest.far.offer(&frame(OWN.0, 1_514)) {
            break;
        }
        offered += 1;
        guest.card.advance();
    }
    assert!(offered < 40, "then the cable is full");
    assert_eq!(guest.read(0x7) & 0x10, 0, "the frames wait, the ring is not overrun");
    guest.write(0x0, 0x62);
    let current = guest.read(0x7);
    guest.write(0x0, 0x22);
    guest.write(0x3, current - 1);
    guest.card.advance();
    assert!(guest.far.offer(&frame(OWN.0, 60)), "room again, and the frames that waited came in");
}

#[test]
fn a_frame_that_came_before_the_acknowledgement_is_told_again() {
    let mut guest = Guest::start();
    assert!(guest.far.offer(&frame(OWN.0, 60)));
    guest.card.advance();
    guest.write(0x7, 0x01);
    assert_eq!((guest.read(0x7) & 1, guest.level.get()), (1, true), "it is in the ring, unread");
    guest.write(0x3, 0x47);
    guest.write(0x7, 0x01);
    assert_eq!((guest.read(0x7) & 1, guest.level.get()), (0, false));
}

#[test]
fn frames_run_round_the_end_of_the_ring() {
    let mut guest = Guest::start();
    for n in 0..60_u8 {
        let sent = frame(OWN.0, 700 + usize::from(n));
        assert!(guest.far.offer(&sent));
        guest.card.advance();
        guest.write(0x0, 0x62);
        let next = guest.read(0x7);
        guest.write(0x0, 0x22);
        let boundary = guest.read(0x3);
        let page = if boundary + 1 == 0x80 { 0x46 } else { boundary + 1 };
        let header = guest.read_memory(u16::from(page) << 8, 4);
        assert_eq!(
            (header[1], usize::from(u16::from_le_bytes([header[2], header[3]]))),
            (next, sent.len() + 4)
        );
        let length = (sent.len() as u16).next_multiple_of(2);
        let read = guest.read_memory((u16::from(page) << 8) + 4, length);
        assert_eq!(read[..sent.len()], sent, "frame {n} at page {page:#x}");
        guest.write(0x3, if next == 0x46 { 0x7F } else { next - 1 });
    }
}

#[test]
fn many_are_told_by_the_filter() {
    let mut guest = Guest::start();
    let group = [0x01, 0x00, 0x5E, 0x00, 0x00, 0x01];
    guest.write(0xC, 0x0C);
    guest.far.offer(&frame(group, 60));
    guest.card.advance();
    assert_eq!(guest.read(0x7) & 1, 0, "not in the filter");
    guest.write(0x0, 0x62);
    (0x8..=0xF).for_each(|register| guest.write(register, 0xFF));
    guest.write(0x0, 0x22);
    guest.far.offer(&frame(group, 60));
    guest.card.advance();
    assert_eq!(guest.read(0x7) & 1, 1);
}

#[test]
fn a_read_of_a_byte_moves_a_word_on_where_words_are_moved() {
    let mut guest = Guest::start();
    guest.remote(0, 32, 0x0A);
    let each: Vec<u8> = (0..6).map(|_| guest.read(0x10)).collect();
    assert_eq!(each, OWN.0);
    guest.write(0xE, 0x48);
    guest.remote(0, 32, 0x0A);
    assert_eq!([guest.read(0x10), guest.read(0x10), guest.read(0x10)], [OWN.0[0], OWN.0[0], OWN.0[1]]);
}

#[test]
fn a_packet_is_fetched_by_its_own_length_and_the_boundary_follows() {
    let mut guest = Guest::start();
    assert!(guest.far.offer(&frame(OWN.0, 300)));
    guest.card.advance();
    guest.write(0x3, 0x47);
    guest.write(0x0, 0x1A);
    let words = (0..152).map(|_| guest.card.read(At::new(0, 0x10), Width::Word) as u16);
    let bytes: Vec<u8> = words.flat_map(u16::to_le_bytes).collect();
    assert_eq!(bytes[4..], frame(OWN.0, 300));
    assert_eq!((guest.read(0x7) & 0x40, guest.read(0x3)), (0x40, 0x49));
}

#[test]
fn a_frame_that_is_too_long_is_an_error_and_one_looped_back_stays() {
    let mut guest = Guest::start();
    guest.write(0x7, 0x7F);
    [(0x4, 0x40), (0x5, 0xFF), (0x6, 0xFF), (0x0, 0x26)].into_iter().for_each(|(r, v)| guest.write(r, v));
    assert_eq!((guest.read(0x7), guest.read(0x4)), (0x08, 0x08));
    guest.write(0x7, 0x7F);
    guest.write(0xD, 0x02);
    guest.send(&frame([1; 6], 60));
    assert_eq!((guest.read(0x7) & 2, guest.far.has_frame()), (2, false));
}

#[test]
fn contract() {
    crate::contract::check(|| {
        let (near, _far) = cable(Capacity::default());
        Ne2000::new(OWN, near, Clock::manual(), Alarm::unconnected(), Line::unconnected())
    });
    crate::contract::check(|| {
        let (near, _far) = cable(Capacity::default());
        Rtl8029::new(OWN, near, Clock::manual(), Alarm::unconnected(), Line::unconnected())
    });
}

#[test]
fn the_pci_card_has_the_same_ports_where_its_register_says() {
    let (near, far) = cable(Capacity::default());
    let (bus, level) = (Bus::new(), Arc::<Level>::default());
    let line = Line::new(level.clone(), 0);
    let card = shared(Rtl8029::new(OWN, near, Clock::manual(), Alarm::unconnected(), line));
    Rtl8029::connect(&card, &bus);
    card.lock().config_write(0x10, Width::Dword, 0xC100);
    card.lock().config_write(0x04, Width::Word, 1);
    let port = |port: u64, width| bus.read(Space::Port, 0xC100 + port, width, 0);
    assert_eq!(card.lock().config_read(0, Width::Dword), 0x8029_10EC);
    assert_eq!(port(0xA, Width::Word), 0x4350);
    let write = |register: u64, value| bus.write(Space::Port, 0xC100 + register, Width::Byte, value, 0);
    for (register, value) in
        [(0xE, 0x49), (0x1, 0x46), (0x2, 0x80), (0x3, 0x46), (0xF, 1), (0x0, 0x61), (0x7, 0x47)]
    {
        write(register, value);
    }
    for (register, value) in [(0x0, 0x22), (0xC, 0x04)] {
        write(register, value);
    }
    assert!(far.offer(&frame([0xFF; 6], 60)));
    card.lock().advance();
    assert!(level.get());
    card.lock().config_write(0x04, Width::Word, 0x0401);
    assert!(!level.get(), "INTA is disabled");
    for (register, value) in [(0x8, 0), (0x9, 0x47), (0xA, 4), (0xB, 0), (0x0, 0x0A)] {
        write(register, value);
    }
    assert_eq!(port(0x10, Width::Dword), 0x0040_4821, "the header in one access");
}

/// Linux's driver writes the page before the next one to be read, also where the next one is the ring's first.
#[test]
fn the_ring_goes_round_when_its_boundary_is_the_page_before_its_start() {
    let mut guest = Guest::start();
    let mut next = 0x47;
    for n in 0..200_u8 {
        let mut sent = frame([0xFF; 6], 300);
        sent[20] = n;
        assert!(guest.far.offer(&sent));
        guest.card.advance();
        let received = guest.read_memory(u16::from(next) << 8, 4);
        assert_eq!(received[0] & 1, 1, "frame {n}");
        let data = guest.read_memory((u16::from(next) << 8) + 4, 300);
        assert_eq!(data[20], n);
        next = received[1];
        guest.write(0x3, next - 1);
        guest.write(0x7, 0x41);
    }
}
