//! From the link into the guest's memory (SDM §3.2).

use network::{Link, Mac};

use super::chip::{Chip, ctrl, rctl};
use super::{SHORTEST_FRAME, VLAN_TAG, cause, register};
use crate::memory::Memory;
use crate::net::checksum;

/// Descriptor status and errors, SDM §3.2.3.
mod status {
    pub const DONE: u8 = 1 << 0;
    pub const END_OF_PACKET: u8 = 1 << 1;
    pub const CHECKSUMS_IGNORED: u8 = 1 << 2;
    pub const VLAN: u8 = 1 << 3;
    pub const TCP_CHECKED: u8 = 1 << 5;
    pub const IP_CHECKED: u8 = 1 << 6;
    pub const TCP_ERROR: u8 = 1 << 5;
    pub const IP_ERROR: u8 = 1 << 6;
}

/// Receive checksum control, SDM §13.4.28.
mod rxcsum {
    pub const START: u32 = 0xFF;
    pub const IP: u32 = 1 << 8;
    pub const TCP: u32 = 1 << 9;
}

/// Longest frame without [`rctl::LONG_PACKETS`], its tag included and its check sequence not.
const LONGEST_FRAME: usize = 1518;
/// Longest frame with it.
const LONGEST_LONG_FRAME: usize = 16_380;
const CHECK_SEQUENCE: usize = 4;
/// Frames taken before the guest has a look.
const FRAMES_AT_ONCE: usize = 256;

/// What a descriptor says about its packet.
#[derive(Default)]
struct Verdict {
    checksum: u16,
    status: u8,
    errors: u8,
    special: u16,
}

impl Chip {
    /// Bytes of each receive buffer.
    fn buffer_bytes(&self) -> usize {
        let extension = self.rctl & rctl::BUFFER_EXTENSION != 0;
        let plain = 2048 >> (self.rctl >> rctl::BUFFER_SHIFT & 3);
        if extension && plain < 2048 { plain * 16 } else { plain }
    }

    /// Frames longer than this do not come.
    pub fn longest_frame(&self) -> usize {
        if self.rctl & rctl::LONG_PACKETS != 0 { LONGEST_LONG_FRAME } else { LONGEST_FRAME }
    }

    /// Takes frames from the link as long as there are descriptors; says whether more wait that have room.
    pub fn receive(&mut self, link: &dyn Link, memory: &Memory, frame: &mut Vec<u8>) -> bool {
        if self.rctl & rctl::ENABLE == 0 {
            // A card that does not listen hears nothing.
            while link.receive(frame) {}
            return false;
        }
        let most = self.longest_frame() + SHORTEST_FRAME;
        let needed = most.div_ceil(self.buffer_bytes()) as u32;
        let mut came = 0;
        let mut had_room = true;
        for _ in 0..FRAMES_AT_ONCE {
            had_room = self.receive_ring.available()
                >= needed.min(self.receive_ring.count().saturating_sub(1)).max(1);
            if !had_room || !link.receive(frame) {
                break;
            }
            came += u32::from(self.take(frame, memory));
        }
        if came > 0 {
            self.raise(cause::RXT0);
            let threshold = self.receive_ring.count() >> (1 + (self.rctl >> rctl::THRESHOLD_SHIFT & 3));
            if self.receive_ring.available() <= threshold {
                self.raise(cause::RXDMT0);
            }
        }
        if !had_room && link.has_frame() {
            self.statistics.no_buffer();
            self.raise(cause::RXO);
        }
        had_room && link.has_frame()
    }

    /// Puts one frame into descriptors, if the filters let it pass.
    fn take(&mut self, frame: &mut Vec<u8>, memory: &Memory) -> bool {
        if Mac::destination(frame).is_none_or(|to| !self.filter.takes(to, self.rctl)) {
            return false;
        }
        if frame.len() > self.longest_frame() {
            self.statistics.oversize();
            return false;
        }
        if frame.len() < SHORTEST_FRAME {
            frame.resize(SHORTEST_FRAME, 0);
        }
        let mut verdict = Verdict::default();
        if let Some(tag) = vlan_tag(frame, self.kept(register::VET) as u16) {
            if self.rctl & rctl::VLAN_FILTER != 0 && !self.filter.takes_vlan(tag) {
                return false;
            }
            if self.ctrl & ctrl::VLAN_MODE != 0 {
                frame.drain(12..12 + VLAN_TAG);
                (verdict.status, verdict.special) = (status::VLAN, tag);
            }
        }
        self.statistics.received(frame);
        self.check(frame, &mut verdict);
        if self.rctl & rctl::STRIP_CHECK_SEQUENCE == 0 {
            frame.resize(frame.len() + CHECK_SEQUENCE, 0);
        }
        self.store(frame, &verdict, memory);
        true
    }

    /// Writes the frame and its descriptors. There are enough of them.
    fn store(&mut self, frame: &[u8], verdict: &Verdict, memory: &Memory) {
        let size = self.buffer_bytes();
        let parts = frame.len().div_ceil(size);
        for (number, part) in frame.chunks(size).enumerate() {
            if self.receive_ring.available() == 0 {
                return; // a ring shorter than a frame: the rest is lost
            }
            let address = self.receive_ring.address(0);
            let mut descriptor = [0; 16];
            memory.dma_read(address, &mut descriptor);
            let buffer = u64::from_le_bytes(*descriptor.first_chunk().expect("eight of sixteen bytes"));
            memory.dma_write(buffer, part);
            let last = if number + 1 == parts { status::END_OF_PACKET } else { 0 };
            descriptor[8..10].copy_from_slice(&(part.len() as u16).to_le_bytes());
            descriptor[10..12].copy_from_slice(&verdict.checksum.to_le_bytes());
            descriptor[12] = verdict.status | status::DONE | last;
            descriptor[13] = verdict.errors;
            descriptor[14..16].copy_from_slice(&verdict.special.to_le_bytes());
            memory.dma_write(address + 8, &descriptor[8..]);
            self.receive_ring.advance(1);
        }
    }

    /// The packet's checksums, as far as the guest asks (SDM §3.2.9).
    fn check(&self, frame: &[u8], verdict: &mut Verdict) {
        let start = (self.rxcsum & rxcsum::START) as usize;
        verdict.checksum = checksum::fold(checksum::sum(frame.get(start..).unwrap_or_default()));
        let Some((header, payload)) = ipv4(frame).filter(|_| self.rxcsum & (rxcsum::IP | rxcsum::TCP) != 0)
        else {
            verdict.status |= status::CHECKSUMS_IGNORED;
            return;
        };
        if self.rxcsum & rxcsum::IP != 0 {
            verdict.status |= status::IP_CHECKED;
            if checksum::fold(checksum::sum(header)) != 0xFFFF {
                verdict.errors |= status::IP_ERROR;
            }
        }
        if self.rxcsum & rxcsum::TCP != 0
            && let Some(good) = transport_is_good(header, payload)
        {
            verdict.status |= status::TCP_CHECKED;
            if !good {
                verdict.errors |= status::TCP_ERROR;
            }
        }
    }
}

fn vlan_tag(frame: &[u8], ethertype: u16) -> Option<u16> {
    let word = |at: usize| frame.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    (word(12)? == ethertype).then(|| word(14)).flatten()
}

/// Header and payload of an IPv4 packet that is no fragment.
fn ipv4(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    const ETHERNET: usize = 14;
    if frame.get(12..14)? != [0x08, 0x00] {
        return None;
    }
    let packet = &frame[ETHERNET..];
    let header = usize::from(packet.first()? & 0xF) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3FFF;
    let sane = packet[0] >> 4 == 4 && header >= 20 && total >= header && fragment == 0;
    sane.then_some(())?;
    Some((packet.get(..header)?, packet.get(header..total)?))
}

/// Whether the checksum of TCP or UDP is right; `None` if there is none.
fn transport_is_good(header: &[u8], payload: &[u8]) -> Option<bool> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let protocol = header[9];
    match protocol {
        TCP => {}
        UDP if payload.get(6..8)? != [0, 0] => {}
        _ => return None,
    }
    let total = checksum::pseudo_header(&header[12..20], protocol, payload.len()) + checksum::sum(payload);
    Some(checksum::fold(total) == 0xFFFF)
}
