//! What a driver sees through the registers and rings, as Linux's uses them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use network::{Capacity, End, Link, Mac, cable};

use super::chip::{ctrl, rctl};
use super::*;
use crate::access::Width;
use crate::alarm::{Alarm, Alarms};
use crate::bus::{Bus, Space};
use crate::clock::Clock;
use crate::device::{Device, Shared, shared};
use crate::line::{Line, LineSink};
use crate::memory::Memory;
use crate::net::checksum;
use crate::pci::Function;

const OWN: Mac = Mac([0x52, 0x56, 0, 1, 2, 3]);
const OTHER: Mac = Mac([0x52, 0x56, 0, 9, 9, 9]);
const REGISTERS: u64 = 0xF000_0000;
const PORTS: u64 = 0xC000;
const RECEIVE_RING: u64 = 0x1000;
const TRANSMIT_RING: u64 = 0x2000;
const BUFFERS: u64 = 0x1_0000;
const DESCRIPTORS: u32 = 8;

#[derive(Default)]
struct Pin(AtomicBool);

impl LineSink for Pin {
    fn set(&self, _number: u32, level: bool) {
        self.0.store(level, Ordering::Relaxed);
    }
}

struct Guest {
    bus: Arc<Bus>,
    card: Shared<E1000>,
    memory: Arc<Memory>,
    clock: Clock,
    alarms: Arc<Alarms>,
    pin: Arc<Pin>,
    far: Arc<End>,
    sent: u32,
}

fn guest() -> Guest {
    let (near, far) = cable(Capacity { frames: 16, bytes: 1 << 20 });
    let (bus, pin, clock) = (Bus::new(), Arc::new(Pin::default()), Clock::manual());
    let memory = Memory::new(4 << 20, 0).unwrap();
    let alarms = Alarms::new(|| {});
    let line = Line::new(pin.clone(), 0);
    let card = E1000::new("e1000", OWN, near, memory.clone(), clock.clone(), alarms.alarm(), line);
    let card = shared(card);
    E1000::connect(&card, &bus);
    card.lock().config_write(0x10, Width::Dword, REGISTERS as u32);
    card.lock().config_write(0x18, Width::Dword, PORTS as u32);
    card.lock().config_write(0x04, Width::Word, 7);
    Guest { bus, card, memory, clock, alarms, pin, far, sent: 0 }
}

/// A descriptor of a data packet: address, length, command, options.
fn data(address: u64, length: usize, command: u8, options: u8) -> [u8; 16] {
    let mut descriptor = [0; 16];
    descriptor[..8].copy_from_slice(&address.to_le_bytes());
    descriptor[8..10].copy_from_slice(&(length as u16).to_le_bytes());
    (descriptor[10], descriptor[11], descriptor[13]) = (0x10, command | 0x20, options);
    descriptor
}

impl Guest {
    fn read(&self, register: u64) -> u32 {
        self.bus.read(Space::Memory, REGISTERS + register, Width::Dword, 0) as u32
    }

    fn write(&self, register: u64, value: u32) {
        self.bus.write(Space::Memory, REGISTERS + register, Width::Dword, value.into(), 0);
    }

    /// Time passes, and alarms go off.
    fn pass(&self, ns: u64) {
        self.clock.step(ns);
        for _ in self.alarms.take_due(self.clock.now()) {
            self.card.lock().advance();
        }
    }

    fn interrupts(&self) -> bool {
        self.pin.0.load(Ordering::Relaxed)
    }

    /// A receive ring whose buffers are all given but one.
    fn listen(&self, control: u32) {
        for n in 0..DESCRIPTORS {
            self.memory
                .dma_write(RECEIVE_RING + u64::from(n) * 16, &(BUFFERS + u64::from(n) * 2048).to_le_bytes());
        }
        self.write(register::RDBAL, RECEIVE_RING as u32);
        self.write(register::RDLEN, DESCRIPTORS * 16);
        self.write(register::RDT, DESCRIPTORS - 1);
        self.write(register::RCTL, rctl::ENABLE | rctl::BROADCAST | rctl::STRIP_CHECK_SEQUENCE | control);
    }

    /// Descriptor `n` of the receive ring: length, status, errors, special.
    fn received(&self, n: u64) -> (usize, u8, u8, u16) {
        let mut descriptor = [0; 16];
        self.memory.dma_read(RECEIVE_RING + n * 16, &mut descriptor);
        let word = |at: usize| u16::from_le_bytes([descriptor[at], descriptor[at + 1]]);
        (word(8).into(), descriptor[12], descriptor[13], word(14))
    }

    fn buffer(&self, n: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.dma_read(BUFFERS + n * 2048, &mut bytes);
        bytes
    }

    fn prepare_to_send(&self) {
        self.write(register::TDBAL, TRANSMIT_RING as u32);
        self.write(register::TDLEN, DESCRIPTORS * 16);
        self.write(register::TCTL, 2);
    }

    /// Puts descriptors into the transmit ring.
    fn send(&mut self, descriptors: &[[u8; 16]]) {
        for descriptor in descriptors {
            let at = TRANSMIT_RING + u64::from(self.sent % DESCRIPTORS) * 16;
            self.memory.dma_write(at, descriptor);
            self.sent += 1;
        }
        self.write(register::TDT, self.sent % DESCRIPTORS);
    }

    fn arrived(&self) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        self.far.receive(&mut frame).then_some(frame)
    }
}

fn frame(to: Mac, length: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..length).map(|n| n as u8).collect();
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&OTHER.0);
    frame[12..14].copy_from_slice(&[0x88, 0xB5]);
    frame
}

/// A TCP segment in IPv4 with right checksums.
fn tcp(payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(OWN, 54 + payload.len());
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14..34].copy_from_slice(&[0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 2, 10, 0, 2, 15]);
    bytes[34..54].copy_from_slice(&[0, 80, 4, 0, 0, 0, 1, 0, 0, 0, 0, 5, 0x50, 0x19, 32, 0, 0, 0, 0, 0]);
    bytes[54..].copy_from_slice(payload);
    let total = (bytes.len() - 14) as u16;
    bytes[16..18].copy_from_slice(&total.to_be_bytes());
    let sum = !checksum::fold(checksum::sum(&bytes[14..34]));
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    let length = bytes.len() - 34;
    let sum = checksum::pseudo_header(&bytes[26..34], 6, length) + checksum::sum(&bytes[34..]);
    bytes[50..52].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    bytes
}

fn is_right(frame: &[u8]) -> bool {
    let length = frame.len() - 34;
    let sum = checksum::pseudo_header(&frame[26..34], 6, length) + checksum::sum(&frame[34..]);
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    checksum::fold(checksum::sum(&frame[14..34])) == 0xFFFF
        && checksum::fold(sum) == 0xFFFF
        && total == frame.len() - 14
}

#[test]
fn it_is_an_82540em_with_its_address_in_the_eeprom() {
    let guest = guest();
    assert_eq!(guest.card.lock().config_read(0, Width::Dword), 0x100E_8086);
    assert_eq!(guest.card.lock().config_read(0x3D, Width::Byte), 1);
    assert_eq!(guest.read(register::RAL0), 0x0100_5652);
    assert_eq!(guest.read(register::RAL0 + 4), 0x8000_0302);
    assert_eq!(guest.read(register::STATUS) & 3, 3, "link, full duplex");
    guest.write(register::EERD, 1);
    assert_eq!(guest.read(register::EERD), 0x5652_0010);
}

#[test]
fn the_ports_reach_the_registers() {
    let guest = guest();
    guest.bus.write(Space::Port, PORTS, Width::Dword, register::FCT, 0);
    guest.bus.write(Space::Port, PORTS + 4, Width::Dword, 0x8808, 0);
    assert_eq!(guest.read(register::FCT), 0x8808);
    guest.write(register::CTRL, ctrl::RESET);
    assert_eq!(guest.read(register::FCT), 0);
    assert_eq!(guest.read(register::CTRL) & ctrl::RESET, 0, "it is done at once");
}

#[test]
fn a_frame_comes_in_and_interrupts() {
    let guest = guest();
    guest.listen(0);
    guest.write(register::IMS, cause::RXT0);
    guest.far.send(&frame(OWN, 100));
    guest.far.send(&frame(OTHER, 100));
    guest.far.send(&frame(Mac::BROADCAST, 20));
    assert!(!guest.interrupts());
    guest.pass(1);
    assert!(guest.interrupts());
    assert_eq!(guest.received(0), (100, 0x07, 0, 0), "done, whole, no checksums");
    assert_eq!(guest.buffer(0, 100), frame(OWN, 100));
    assert_eq!(guest.received(1).0, 60, "a short one is padded; one for others is not there");
    assert_eq!(guest.read(register::RDH), 2);
    assert_eq!(guest.read(register::ICR) & cause::RXT0, cause::RXT0);
    assert!(!guest.interrupts());
    assert_eq!(guest.read(0x4074), 2, "good packets received");
}

#[test]
fn frames_wait_for_descriptors() {
    let guest = guest();
    guest.listen(0);
    (0..10).for_each(|_| guest.far.send(&frame(OWN, 200)));
    guest.pass(1);
    assert_eq!(guest.read(register::RDH), 7);
    assert_ne!(guest.read(register::ICR) & (cause::RXO | cause::RXDMT0), 0);
    guest.write(register::RDT, 6);
    assert_eq!(guest.read(register::RDH), 2, "the ring went around");
    assert_eq!(guest.received(7).1 & 1, 1);
}

#[test]
fn a_long_frame_takes_several_buffers() {
    let guest = guest();
    guest.far.accept_frames(1);
    guest.listen(2 << rctl::BUFFER_SHIFT); // 512 bytes
    guest.far.send(&frame(OWN, 1200));
    guest.pass(1);
    let lengths: Vec<_> = (0..3).map(|n| (guest.received(n).0, guest.received(n).1 & 3)).collect();
    assert_eq!(lengths, [(512, 1), (512, 1), (176, 3)]);
}

#[test]
fn received_checksums_are_checked() {
    let guest = guest();
    guest.write(register::RXCSUM, 0x300);
    guest.listen(0);
    let good = tcp(b"some payload of odd length.");
    let (mut bad_tcp, mut bad_ip) = (good.clone(), good.clone());
    bad_tcp[60] ^= 1;
    bad_ip[22] ^= 1;
    for bytes in [&good, &bad_tcp, &bad_ip] {
        guest.far.send(bytes);
    }
    guest.pass(1);
    assert_eq!((guest.received(0).1, guest.received(0).2), (0x63, 0));
    assert_eq!((guest.received(1).1, guest.received(1).2), (0x63, 0x20));
    assert_eq!(guest.received(2).2 & 0x40, 0x40);
}

#[test]
fn vlan_tags_are_taken_out_and_put_in() {
    let mut guest = guest();
    guest.write(register::CTRL, ctrl::VLAN_MODE);
    guest.listen(rctl::VLAN_FILTER);
    guest.write(register::VFTA + 4 * 3, 1 << 4); // VLAN 100
    for tag in [100_u16, 101] {
        let mut tagged = frame(OWN, 1514);
        tagged.splice(12..12, [0x81, 0, 0, tag as u8]);
        guest.far.send(&tagged);
    }
    guest.pass(1);
    assert_eq!(guest.received(0), (1514, 0x0F, 0, 100));
    assert_eq!((guest.buffer(0, 1514), guest.read(register::RDH)), (frame(OWN, 1514), 1));

    guest.prepare_to_send();
    guest.memory.dma_write(BUFFERS, &frame(OTHER, 100));
    let mut descriptor = data(BUFFERS, 100, 0x49, 0);
    descriptor[14] = 100;
    guest.send(&[descriptor]);
    let sent = guest.arrived().unwrap();
    assert_eq!((sent.len(), &sent[12..18]), (104, &[0x81, 0, 0, 100, 0x88, 0xB5][..]));
}

#[test]
fn a_frame_goes_out_of_two_buffers_and_is_reported() {
    let mut guest = guest();
    guest.prepare_to_send();
    guest.write(register::IMS, cause::TXDW);
    guest.memory.dma_write(BUFFERS, &frame(OTHER, 100));
    let mut legacy = [[0; 16]; 2];
    for (n, (descriptor, (length, command))) in legacy.iter_mut().zip([(40_u8, 0_u8), (60, 0x09)]).enumerate()
    {
        descriptor[..8].copy_from_slice(&(BUFFERS + 40 * n as u64).to_le_bytes());
        (descriptor[8], descriptor[11]) = (length, command);
    }
    guest.send(&legacy);
    assert_eq!(guest.arrived(), Some(frame(OTHER, 100)));
    let mut status = [0; 2];
    guest.memory.dma_read(TRANSMIT_RING + 12, &mut status[..1]);
    guest.memory.dma_read(TRANSMIT_RING + 28, &mut status[1..]);
    assert_eq!(status, [0, 1], "reported where asked");
    assert!(guest.interrupts());
    assert_eq!((guest.read(register::TDH), guest.read(0x4080)), (2, 1));
}

/// A context for a TCP segment in IPv4.
fn context(command: u8, segment_size: u16) -> [u8; 16] {
    let mut descriptor = [14, 24, 33, 0, 34, 50, 0, 0, 0, 0, 0, 0x20 | 3 | command, 0, 54, 0, 0];
    descriptor[14..].copy_from_slice(&segment_size.to_le_bytes());
    descriptor
}

#[test]
fn checksums_are_put_in() {
    let mut guest = guest();
    guest.prepare_to_send();
    let whole = tcp(b"to be summed");
    let mut bytes = whole.clone();
    bytes[24..26].fill(0);
    let pseudo = checksum::fold(checksum::pseudo_header(&bytes[26..34], 6, bytes.len() - 34));
    bytes[50..52].copy_from_slice(&pseudo.to_be_bytes());
    guest.memory.dma_write(BUFFERS, &bytes);
    guest.send(&[context(0, 0), data(BUFFERS, bytes.len(), 0x09, 3)]);
    assert_eq!(guest.arrived(), Some(whole));
}

/// Sends 4000 bytes of TCP to be cut into segments of 1460.
fn send_large(guest: &mut Guest) -> Vec<u8> {
    let payload: Vec<u8> = (0..4000).map(|n| (n / 7) as u8).collect();
    let mut bytes = tcp(&payload);
    bytes[16..18].fill(0);
    bytes[24..26].fill(0);
    let pseudo = checksum::fold(checksum::pseudo_header(&bytes[26..34], 6, 0));
    bytes[50..52].copy_from_slice(&pseudo.to_be_bytes());
    guest.memory.dma_write(BUFFERS, &bytes);
    let first = data(BUFFERS, 1000, 0x04, 3);
    let second = data(BUFFERS + 1000, bytes.len() - 1000, 0x0D, 3);
    guest.send(&[context(4, 1460), first, second]);
    payload
}

#[test]
fn a_large_segment_is_cut() {
    let mut guest = guest();
    guest.prepare_to_send();
    let payload = send_large(&mut guest);
    let frames: Vec<_> = std::iter::from_fn(|| guest.arrived()).collect();
    let lengths: Vec<_> = frames.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1514, 1514, 1134]);
    assert!(frames.iter().all(|frame| is_right(frame)));
    assert_eq!(frames.iter().flat_map(|frame| frame[54..].to_vec()).collect::<Vec<_>>(), payload);
    let field = |frame: &Vec<u8>, at: usize| u32::from_be_bytes(*frame[at..].first_chunk().unwrap());
    assert_eq!(frames.iter().map(|frame| field(frame, 38) - 0x100).collect::<Vec<_>>(), [0, 1460, 2920]);
    assert_eq!(frames.iter().map(|frame| frame[19]).collect::<Vec<_>>(), [7, 8, 9], "identification");
    assert_eq!(frames.iter().map(|frame| frame[47]).collect::<Vec<_>>(), [0x10, 0x10, 0x19], "flags");
}

#[test]
fn a_large_segment_goes_whole_to_who_takes_it() {
    let mut guest = guest();
    guest.far.accept_frames(65_549);
    guest.prepare_to_send();
    let payload = send_large(&mut guest);
    let frame = guest.arrived().unwrap();
    assert!(is_right(&frame) && guest.arrived().is_none());
    assert_eq!((&frame[54..], frame[47]), (&payload[..], 0x19));
}

#[test]
fn what_the_link_refuses_goes_when_there_is_room() {
    let mut guest = guest();
    guest.prepare_to_send();
    guest.memory.dma_write(BUFFERS, &frame(OTHER, 300));
    (0..3).for_each(|_| guest.send(&[data(BUFFERS, 300, 0x09, 0); 7]));
    assert_ne!(guest.read(register::TDH), guest.read(register::TDT), "16 fit");
    let mut count = 0;
    for _ in 0..3 {
        count += std::iter::from_fn(|| guest.arrived()).count();
        guest.pass(1);
    }
    assert_eq!((count, guest.far.counts().received.dropped), (21, 0));
    assert_eq!(guest.read(register::TDH), guest.read(register::TDT));
}

#[test]
fn the_throttle_holds_interrupts_back() {
    let guest = guest();
    guest.listen(0);
    guest.write(register::ITR, 1000); // 256 µs
    guest.write(register::IMS, cause::RXT0);
    guest.far.send(&frame(OWN, 100));
    guest.pass(1);
    assert!(guest.interrupts());
    guest.read(register::ICR);
    guest.far.send(&frame(OWN, 100));
    guest.pass(1);
    assert!(!guest.interrupts(), "too soon after the first");
    guest.pass(256_000);
    assert!(guest.interrupts());
}

#[test]
fn a_pulled_cable_is_told() {
    let guest = guest();
    guest.write(register::IMS, cause::LSC);
    guest.far.set_up(false);
    guest.pass(1);
    assert!(guest.interrupts());
    assert_eq!(guest.read(register::STATUS) & 2, 0);
    guest.read(register::ICR);
    guest.far.set_up(true);
    guest.pass(1);
    assert!(guest.interrupts());
    assert_eq!(guest.read(register::STATUS) & 2, 2);
}

#[test]
fn a_stopped_machine_receives_nothing() {
    let guest = guest();
    guest.listen(0);
    guest.far.send(&frame(OWN, 100));
    assert!(guest.alarms.take_due(guest.clock.now()).is_empty(), "its time stands still");
    guest.pass(1);
    assert_eq!(guest.read(register::RDH), 1);
}

#[test]
fn state_is_kept_in_the_middle_of_a_packet() {
    let mut guest = guest();
    guest.prepare_to_send();
    guest.memory.dma_write(BUFFERS, &frame(OTHER, 100));
    guest.send(&[data(BUFFERS, 40, 0, 0)]);
    let saved = guest.card.lock().save();
    guest.card.lock().reset();
    guest.card.lock().load(&saved).unwrap();
    guest.send(&[data(BUFFERS + 40, 60, 0x09, 0)]);
    assert_eq!(guest.arrived(), Some(frame(OTHER, 100)));
}

#[test]
fn rings_that_cannot_be_are_left_alone() {
    let guest = guest();
    guest.listen(0);
    guest.prepare_to_send();
    for (head, tail, length) in [(0xFFFF, 3, 128), (3, 0xFFFF, 128), (1, 2, 0)] {
        for ring in [register::RDBAL, register::TDBAL] {
            guest.write(ring + 8, length);
            guest.write(ring + 0x10, head);
            guest.write(ring + 0x18, tail);
        }
        guest.far.send(&frame(OWN, 100));
        guest.pass(1);
        assert_eq!(guest.read(register::RDH), head);
    }
    assert!(guest.arrived().is_none());
}

#[test]
fn a_frame_that_waits_while_a_state_is_loaded_is_received_afterwards() {
    let guest = guest();
    guest.listen(0);
    let saved = guest.card.lock().save();
    guest.card.lock().config_write(0x04, Width::Word, 3); // no bus master: the frame waits
    guest.far.send(&[0xFF; 64]);
    guest.card.lock().load(&saved).unwrap();
    assert!(guest.card.lock().save() == saved, "nothing moves while other devices are being loaded");
    guest.pass(1);
    assert_eq!(guest.received(0).1 & 1, 1, "descriptor done");
}

#[test]
fn contract() {
    let make = || {
        let (near, _) = cable(Capacity { frames: 4, bytes: 10_000 });
        let memory = Memory::new(1 << 20, 0).unwrap();
        let (clock, alarm) = (Clock::manual(), Alarm::unconnected());
        E1000::new("e1000", OWN, near, memory, clock, alarm, Line::unconnected())
    };
    crate::contract::check(make);
    // The same with its rings let loose on memory.
    let make = || {
        let mut card = make();
        card.config_write(0x04, Width::Word, 4);
        card
    };
    crate::contract::saves(make);
    crate::contract::survives(make);
}
