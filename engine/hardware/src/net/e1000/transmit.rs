//! From the guest's memory to the link: descriptors, checksums, segmentation (SDM §3.3 to §3.5).

use network::Link;
use serde::{Deserialize, Serialize};

use super::chip::{Chip, ctrl, tctl};
use super::{SHORTEST_FRAME, VLAN_TAG, cause, register};
use crate::memory::Memory;
use crate::net::checksum;

/// A descriptor's command byte, SDM tables 3-9, 3-14 and 3-16.
mod command {
    pub const END_OF_PACKET: u8 = 1 << 0;
    /// Legacy descriptors: insert a checksum. Data descriptors: cut into segments.
    pub const CHECKSUM_OR_SEGMENT: u8 = 1 << 2;
    pub const REPORT_STATUS: u8 = 1 << 3;
    pub const EXTENDED: u8 = 1 << 5;
    pub const VLAN: u8 = 1 << 6;
    /// Context descriptors: the packet is TCP, and IPv4.
    pub const TCP: u8 = 1 << 0;
    pub const IPV4: u8 = 1 << 1;
    /// Context descriptors: for segmentation.
    pub const SEGMENTATION: u8 = 1 << 2;
}

/// Packet options of a data descriptor.
mod option {
    pub const IP_CHECKSUM: u8 = 1 << 0;
    pub const TRANSPORT_CHECKSUM: u8 = 1 << 1;
}

const DONE: u8 = 1 << 0;
/// Descriptors taken before the guest goes on; the rest follows at once.
const DESCRIPTORS_AT_ONCE: usize = 256;
/// Segments are at least so long, whatever a context says; drivers ask for more.
const SMALLEST_SEGMENT: usize = 64;
/// A packet to be cut is no longer (SDM §3.5.2); another one no longer than the FIFO.
const LONGEST_PACKET: usize = 256 << 10;
/// FIN and PSH, which only the last segment has; CWR, which only the first has.
const LAST_ONLY_FLAGS: u8 = 0x09;
const FIRST_ONLY_FLAGS: u8 = 0x80;

/// Where a packet's headers and checksums are: a context descriptor (SDM §3.3.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Context {
    ip_start: u8,
    ip_checksum: u8,
    ip_end: u16,
    transport_start: u8,
    transport_checksum: u8,
    transport_end: u16,
    is_tcp: bool,
    is_ipv4: bool,
    header_length: u8,
    segment_size: u16,
}

/// What is to be done with the packet that is being gathered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Plan {
    segment: bool,
    ip_checksum: bool,
    transport_checksum: bool,
    vlan: Option<u16>,
}

/// The transmitter's state between descriptors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transmitter {
    /// For packets that are not cut, and for those that are.
    contexts: [Context; 2],
    plan: Plan,
    packet: Vec<u8>,
    /// It is longer than any packet may be, and will not be sent.
    too_long: bool,
    /// A complete packet that waits for room on the link, and how much of its payload has been sent.
    waiting: Option<(Plan, Vec<u8>)>,
    sent: usize,
}

impl Context {
    fn parse(descriptor: &[u8; 16]) -> Context {
        let word = |at: usize| u16::from_le_bytes([descriptor[at], descriptor[at + 1]]);
        Context {
            ip_start: descriptor[0],
            ip_checksum: descriptor[1],
            ip_end: word(2),
            transport_start: descriptor[4],
            transport_checksum: descriptor[5],
            transport_end: word(6),
            is_tcp: descriptor[11] & command::TCP != 0,
            is_ipv4: descriptor[11] & command::IPV4 != 0,
            header_length: descriptor[13],
            segment_size: word(14),
        }
    }
}

impl Transmitter {
    /// Whether a saved state has the right shape.
    pub fn is_valid(&self) -> bool {
        let waiting = self.waiting.as_ref().map_or(0, |(_, packet)| packet.len());
        self.packet.len() <= LONGEST_PACKET && waiting <= LONGEST_PACKET && self.sent <= waiting
    }

    fn gather(&mut self, from: u64, length: usize, memory: &Memory) {
        let before = self.packet.len();
        self.too_long |= before + length > LONGEST_PACKET;
        if !self.too_long {
            self.packet.resize(before + length, 0);
            memory.dma_read(from, &mut self.packet[before..]);
        }
    }
}

impl Chip {
    /// Sends what the guest has given, as far as the link takes it; says whether more could be sent now.
    pub fn transmit(&mut self, link: &dyn Link, memory: &Memory) -> bool {
        for _ in 0..DESCRIPTORS_AT_ONCE {
            if !self.send_waiting(link) {
                return false; // the link's waker tells when to go on
            }
            if self.tctl & tctl::ENABLE == 0 || self.transmit_ring.available() == 0 {
                return false;
            }
            let address = self.transmit_ring.address(0);
            let mut descriptor = [0; 16];
            memory.dma_read(address, &mut descriptor);
            self.take_descriptor(&descriptor, memory);
            self.transmit_ring.advance(1);
            if descriptor[11] & command::REPORT_STATUS != 0 {
                memory.dma_write(address + 12, &[descriptor[12] | DONE]);
                self.raise(cause::TXDW);
            }
            if self.transmit_ring.available() == 0 {
                self.raise(cause::TXQE);
            }
        }
        self.send_waiting(link) && self.transmit_ring.available() > 0
    }

    fn take_descriptor(&mut self, descriptor: &[u8; 16], memory: &Memory) {
        let commands = descriptor[11];
        let buffer = u64::from_le_bytes(*descriptor.first_chunk().expect("eight of sixteen bytes"));
        let special = u16::from_le_bytes([descriptor[14], descriptor[15]]);
        let first = self.transmitter.packet.is_empty();
        let is = |bit: u8| commands & bit != 0;
        if !is(command::EXTENDED) {
            let length = u16::from_le_bytes([descriptor[8], descriptor[9]]);
            self.transmitter.gather(buffer, length.into(), memory);
            if is(command::CHECKSUM_OR_SEGMENT) && is(command::END_OF_PACKET) {
                let (start, at) = (descriptor[13], descriptor[10]);
                insert_checksum(&mut self.transmitter.packet, start.into(), 0, at.into());
            }
            if first {
                self.transmitter.plan = Plan::default();
            }
        } else if descriptor[10] >> 4 == 0 {
            let context = usize::from(is(command::SEGMENTATION));
            self.transmitter.contexts[context] = Context::parse(descriptor);
            return;
        } else {
            let length = u32::from_le_bytes([descriptor[8], descriptor[9], descriptor[10] & 0xF, 0]);
            if first {
                self.transmitter.plan = Plan {
                    segment: is(command::CHECKSUM_OR_SEGMENT),
                    ip_checksum: descriptor[13] & option::IP_CHECKSUM != 0,
                    transport_checksum: descriptor[13] & option::TRANSPORT_CHECKSUM != 0,
                    vlan: None,
                };
            }
            self.transmitter.gather(buffer, length as usize, memory);
        }
        if is(command::END_OF_PACKET) {
            let tagged = is(command::VLAN) && self.ctrl & ctrl::VLAN_MODE != 0;
            self.end_packet(tagged.then_some(special));
        }
    }

    fn end_packet(&mut self, vlan: Option<u16>) {
        let transmitter = &mut self.transmitter;
        let packet = std::mem::take(&mut transmitter.packet);
        let too_long = std::mem::take(&mut transmitter.too_long);
        if packet.len() < 14 || too_long {
            return;
        }
        transmitter.waiting = Some((Plan { vlan, ..transmitter.plan }, packet));
        transmitter.sent = 0;
    }

    /// Sends the packet that waits, whole or in segments; false if the link has no room for all of it.
    fn send_waiting(&mut self, link: &dyn Link) -> bool {
        let Some((plan, packet)) = self.transmitter.waiting.take() else { return true };
        let context = self.transmitter.contexts[usize::from(plan.segment)];
        let header = if plan.segment { usize::from(context.header_length).min(packet.len()) } else { 0 };
        let payload = packet.len() - header;
        let longest = link.longest_frame() - if plan.vlan.is_some() { VLAN_TAG } else { 0 };
        let whole = !plan.segment || packet.len() <= longest && context.is_tcp && context.is_ipv4;
        let size = if whole { payload } else { context.segment_size.into() }.max(SMALLEST_SEGMENT);
        loop {
            let start = self.transmitter.sent;
            let end = (start + size).min(payload);
            let mut frame = Vec::with_capacity(SHORTEST_FRAME.max(header + end - start) + VLAN_TAG);
            frame.extend_from_slice(&packet[..header]);
            frame.extend_from_slice(&packet[header + start..header + end]);
            if plan.segment {
                let position = Position { number: start / size, start, is_last: end == payload };
                make_segment(&mut frame, &context, &position);
            }
            finish(&mut frame, &context, &plan);
            if let Some(tag) = plan.vlan {
                let ethertype = self.kept(register::VET) as u16;
                let bytes = ethertype.to_be_bytes().into_iter().chain(tag.to_be_bytes());
                frame.splice(12..12, bytes);
            }
            if frame.len() < SHORTEST_FRAME {
                frame.resize(SHORTEST_FRAME, 0);
            }
            if !link.offer(&frame) {
                self.transmitter.waiting = Some((plan, packet));
                return false;
            }
            self.statistics.sent(&frame);
            self.transmitter.sent = end;
            if end == payload {
                if plan.segment {
                    self.statistics.segmented();
                }
                self.transmitter.sent = 0;
                return true;
            }
        }
    }
}

/// Which part of a packet a segment is.
struct Position {
    number: usize,
    /// Bytes of payload before it.
    start: usize,
    is_last: bool,
}

/// Adds `value` to the big-endian word at `at`.
fn add_word(frame: &mut [u8], at: usize, value: usize) {
    if let Some(word) = frame.get_mut(at..at + 2) {
        let sum = u16::from_be_bytes([word[0], word[1]]).wrapping_add(value as u16);
        word.copy_from_slice(&sum.to_be_bytes());
    }
}

fn set_word(frame: &mut [u8], at: usize, value: usize) {
    if let Some(word) = frame.get_mut(at..at + 2) {
        word.copy_from_slice(&(value as u16).to_be_bytes());
    }
}

/// Makes the copied headers those of this segment, SDM §3.5.5 to §3.5.7.
fn make_segment(frame: &mut [u8], context: &Context, position: &Position) {
    let (ip, transport) = (usize::from(context.ip_start), usize::from(context.transport_start));
    let after = |start: usize| frame.len().saturating_sub(start);
    let (ip_length, transport_length) = (after(ip), after(transport));
    if context.is_ipv4 {
        set_word(frame, ip + 2, ip_length);
        add_word(frame, ip + 4, position.number);
    } else {
        set_word(frame, ip + 4, ip_length.saturating_sub(40));
    }
    if context.is_tcp {
        if let Some(sequence) = frame.get_mut(transport + 4..transport + 8) {
            let number = u32::from_be_bytes([sequence[0], sequence[1], sequence[2], sequence[3]]);
            sequence.copy_from_slice(&number.wrapping_add(position.start as u32).to_be_bytes());
        }
        if let Some(flags) = frame.get_mut(transport + 13) {
            *flags &= if position.is_last { 0xFF } else { !LAST_ONLY_FLAGS };
            *flags &= if position.number == 0 { 0xFF } else { !FIRST_ONLY_FLAGS };
        }
    } else {
        set_word(frame, transport + 4, transport_length);
    }
    // The driver left the pseudo header's sum there, without the length.
    let at = usize::from(context.transport_checksum);
    if let Some(word) = frame.get_mut(at..at + 2) {
        let sum = u64::from(u16::from_be_bytes([word[0], word[1]])) + transport_length as u64;
        word.copy_from_slice(&checksum::fold(sum).to_be_bytes());
    }
}

fn finish(frame: &mut [u8], context: &Context, plan: &Plan) {
    if plan.transport_checksum {
        let (start, end) = (context.transport_start, context.transport_end);
        insert_checksum(frame, start.into(), end.into(), context.transport_checksum.into());
    }
    if plan.ip_checksum {
        let (start, end) = (context.ip_start, context.ip_end);
        insert_checksum(frame, start.into(), end.into(), context.ip_checksum.into());
    }
}

/// Puts the checksum of `start` to `end` (its last byte; 0: to the end of the packet) at `at`. The sum that
/// stands there counts.
fn insert_checksum(frame: &mut [u8], start: usize, end: usize, at: usize) {
    let end = if end == 0 { frame.len() } else { (end + 1).min(frame.len()) };
    let Some(range) = frame.get(start..end) else { return };
    let sum = !checksum::fold(checksum::sum(range));
    // Ones' complement has two zeros, and for UDP plain zero means "no checksum" (RFC 768).
    set_word(frame, at, if sum == 0 { 0xFFFF } else { sum }.into());
}
