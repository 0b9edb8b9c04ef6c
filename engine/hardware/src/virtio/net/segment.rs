//! Checksums and segments that a driver leaves to its card, and what the card tells of frames it hands over. Virtio
//! 1.2 §5.1.6.2 and §5.1.6.4.

use std::collections::VecDeque;

use network::link::{ETHERNET_HEADER, STANDARD_FRAME, VLAN_TAG};

use super::{CHECKED, HEADER_BYTES};
use crate::net::checksum;

/// Header fields.
const NEEDS_CHECKSUM: u8 = 1;
const TCP_OVER_IPV4: u8 = 1;
const TCP_OVER_IPV6: u8 = 4;
/// Beside the type: the segments' ECN bits are used.
const ECN: u8 = 0x80;

/// Segments are at least so long, whatever a driver says.
const SMALLEST_SEGMENT: usize = 64;
/// FIN and PSH, which only the last segment has; CWR, which only the first has.
const LAST_ONLY_FLAGS: u8 = 0x09;
const FIRST_ONLY_FLAGS: u8 = 0x80;
const TCP: u8 = 6;
const TCP_CHECKSUM: usize = 16;

/// What a driver wants done with a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    needs_checksum: bool,
    kind: u8,
    segment_size: usize,
    checksum_start: usize,
    checksum_offset: usize,
}

impl Offload {
    /// Reads the header before a frame.
    pub fn parse(header: &[u8]) -> Offload {
        let word = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        Offload {
            needs_checksum: header[0] & NEEDS_CHECKSUM != 0,
            kind: header[1] & !ECN,
            segment_size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        }
    }
}

/// The frames that go to a cable which takes frames of at most `longest` bytes.
pub fn frames(mut frame: Vec<u8>, offload: &Offload, longest: usize) -> VecDeque<Vec<u8>> {
    let cut = matches!(offload.kind, TCP_OVER_IPV4 | TCP_OVER_IPV6) && frame.len() > longest;
    if cut && let Some(packet) = Packet::of(&frame) {
        return packet.segments(&frame, offload.segment_size.max(SMALLEST_SEGMENT));
    }
    if offload.needs_checksum {
        let (start, at) = (offload.checksum_start, offload.checksum_start + offload.checksum_offset);
        if let Some(covered) = frame.get(start..) {
            // The pseudo header's sum stands where the checksum goes, and counts.
            let sum = checksum::sum(covered);
            put_checksum(&mut frame, at, sum);
        }
    }
    VecDeque::from([frame])
}

/// What stands before a frame that is handed to the driver; the number of buffers is the caller's.
pub fn receive_header(frame: &[u8], checked: bool) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    if !checked {
        return header;
    }
    header[0] = CHECKED;
    if frame.len() > STANDARD_FRAME + VLAN_TAG
        && let Some(packet) = Packet::of(frame)
    {
        header[1] = if packet.is_ipv4 { TCP_OVER_IPV4 } else { TCP_OVER_IPV6 };
        header[2..4].copy_from_slice(&(packet.payload as u16).to_le_bytes());
        let size = STANDARD_FRAME - (packet.payload - packet.ip) - ETHERNET_HEADER;
        header[4..6].copy_from_slice(&(size as u16).to_le_bytes());
    }
    header
}

/// Where the headers of a TCP packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packet {
    is_ipv4: bool,
    ip: usize,
    tcp: usize,
    payload: usize,
}

impl Packet {
    /// Looks into an Ethernet frame; `None` if it is no whole TCP packet, or has IPv6 extension headers.
    fn of(frame: &[u8]) -> Option<Packet> {
        let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        let (ethertype, ip) = match word(12)? {
            0x8100 => (word(16)?, ETHERNET_HEADER + VLAN_TAG),
            other => (other, ETHERNET_HEADER),
        };
        let (is_ipv4, tcp, protocol) = match ethertype {
            0x0800 => (true, ip + usize::from(frame.get(ip)? & 0xF) * 4, *frame.get(ip + 9)?),
            0x86DD => (false, ip + 40, *frame.get(ip + 6)?),
            _ => return None,
        };
        let payload = tcp + usize::from(frame.get(tcp + 12)? >> 4) * 4;
        let whole = tcp >= ip + 20 && payload >= tcp + 20 && payload <= frame.len() && payload < 256;
        (protocol == TCP && whole).then_some(Packet { is_ipv4, ip, tcp, payload })
    }

    fn segments(&self, frame: &[u8], size: usize) -> VecDeque<Vec<u8>> {
        let (headers, payload) = frame.split_at(self.payload);
        let last = payload.len().div_ceil(size).saturating_sub(1);
        let segment = |(number, part): (usize, &[u8])| {
            let mut segment = [headers, part].concat();
            self.adjust(&mut segment, number, number * size, number == last);
            segment
        };
        payload.chunks(size).enumerate().map(segment).collect()
    }

    /// Makes copied headers those of one segment.
    fn adjust(&self, frame: &mut [u8], number: usize, before: usize, is_last: bool) {
        let Packet { is_ipv4, ip, tcp, .. } = *self;
        let length = frame.len() - ip;
        let addresses = if is_ipv4 {
            put(frame, ip + 2, length as u16);
            let identification = u16::from_be_bytes([frame[ip + 4], frame[ip + 5]]);
            put(frame, ip + 4, identification.wrapping_add(number as u16));
            put(frame, ip + 10, 0);
            let sum = checksum::sum(&frame[ip..tcp]);
            put_checksum(frame, ip + 10, sum);
            ip + 12..ip + 20
        } else {
            put(frame, ip + 4, (length - 40) as u16);
            ip + 8..ip + 40
        };
        let mut sequence = [0; 4];
        sequence.copy_from_slice(&frame[tcp + 4..tcp + 8]);
        let sequence = u32::from_be_bytes(sequence).wrapping_add(before as u32);
        frame[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
        frame[tcp + 13] &= if is_last { 0xFF } else { !LAST_ONLY_FLAGS };
        frame[tcp + 13] &= if number == 0 { 0xFF } else { !FIRST_ONLY_FLAGS };
        put(frame, tcp + TCP_CHECKSUM, 0);
        let pseudo = checksum::pseudo_header(&frame[addresses], TCP, frame.len() - tcp);
        let sum = pseudo + checksum::sum(&frame[tcp..]);
        put_checksum(frame, tcp + TCP_CHECKSUM, sum);
    }
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    if let Some(word) = frame.get_mut(at..at + 2) {
        word.copy_from_slice(&value.to_be_bytes());
    }
}

/// Ones' complement has two zeros, and for UDP plain zero means "no checksum" (RFC 768).
fn put_checksum(frame: &mut [u8], at: usize, sum: u64) {
    let sum = !checksum::fold(sum);
    put(frame, at, if sum == 0 { 0xFFFF } else { sum });
}
