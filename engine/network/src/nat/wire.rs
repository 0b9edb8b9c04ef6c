//! Everything the NAT sends to guests passes here: IPv4 packets into frames, to whom they belong.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv4TimeExceeded, IpAddress, IpProtocol, Ipv4Packet,
    Ipv4Repr, UdpPacket,
};

use super::policy::Subnet;
use crate::link::{ETHERNET_HEADER, Link, STANDARD_FRAME};
use crate::mac::Mac;

/// The NAT's own Ethernet address, for both of its IP addresses.
pub const NAT_MAC: Mac = Mac([0x52, 0x56, 0x00, 0x00, 0x02, 0x02]);

/// Bytes of an IPv4 header without options: the only kind that is sent.
pub const IP_HEADER: usize = 20;
/// Bytes of a UDP header.
pub const UDP_HEADER: usize = 8;
/// Longest IPv4 payload that fits a standard frame, and a multiple of 8, as fragments must be.
const FRAGMENT: usize = (STANDARD_FRAME - ETHERNET_HEADER - IP_HEADER) / 8 * 8;
/// Hosts remembered.
const MAX_NEIGHBORS: usize = 256;
const HOP_LIMIT: u8 = 64;

/// Why a packet goes nowhere.
#[derive(Clone, Copy, Debug)]
pub enum Complaint {
    /// Its destination cannot be had.
    Unreachable(Icmpv4DstUnreachable),
    /// It has passed too many routers.
    TimeExceeded,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on the link.
    Yes,
    /// The link has no room; the waker will tell.
    Full,
    /// Nobody has said who has that address; it was asked for.
    Unknown,
}

/// Both ends of a connection or flow, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The guest's address and port.
    pub guest: (Ipv4Addr, u16),
    /// The other's.
    pub peer: (Ipv4Addr, u16),
}

impl Ends {
    /// The ends of what came from `peer` to a port forward: a peer on the host itself looks like the gateway.
    pub fn forwarded(guest: (Ipv4Addr, u16), peer: SocketAddr, gateway: Ipv4Addr) -> Ends {
        let address = match peer {
            SocketAddr::V4(peer) if !peer.ip().is_loopback() => *peer.ip(),
            _ => gateway,
        };
        Ends { guest, peer: (address, peer.port()) }
    }
}

/// The NAT's side of the link.
pub struct Wire {
    link: Arc<dyn Link>,
    subnet: Subnet,
    neighbors: HashMap<Ipv4Addr, Mac>,
    frame: Vec<u8>,
    identification: u16,
}

impl Wire {
    /// A wire on `link`.
    pub fn new(link: Arc<dyn Link>, subnet: Subnet) -> Wire {
        Wire { link, subnet, neighbors: HashMap::new(), frame: Vec::new(), identification: 0 }
    }

    /// Takes the next frame from the link.
    pub fn receive(&self, frame: &mut Vec<u8>) -> bool {
        self.link.receive(frame)
    }

    /// Whether a frame waits.
    pub fn has_frame(&self) -> bool {
        self.link.has_frame()
    }

    /// Longest TCP payload of one frame to a guest whose own limit is `limit`: more than one segment's
    /// worth only if the card cuts it itself.
    pub fn segment(&self, limit: usize) -> usize {
        let room = self.link.longest_frame() - ETHERNET_HEADER - IP_HEADER - 20;
        if room > limit { room / limit * limit } else { room }
    }

    /// Remembers who has an address; says whether that is news. When there are too many, those of a
    /// network's worth are forgotten and learned anew.
    pub fn learn(&mut self, address: Ipv4Addr, mac: Mac) -> bool {
        if mac.is_group() || !self.subnet.is_guest(address) {
            return false;
        }
        if self.neighbors.len() >= MAX_NEIGHBORS && !self.neighbors.contains_key(&address) {
            self.neighbors.clear();
        }
        self.neighbors.insert(address, mac) != Some(mac)
    }

    /// Offers a packet of `length` payload bytes, which `fill` writes, in one frame.
    pub fn packet(
        &mut self,
        (from, to): (Ipv4Addr, Ipv4Addr),
        protocol: IpProtocol,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Sent {
        let Some(mac) = self.neighbors.get(&to).copied() else {
            self.ask_for(to);
            return Sent::Unknown;
        };
        self.start(mac, length);
        self.identification = self.identification.wrapping_add(1);
        let mut packet = Ipv4Packet::new_unchecked(&mut self.frame[ETHERNET_HEADER..]);
        emit_header(&mut packet, (from, to), protocol, length, self.identification);
        packet.set_dont_frag(true);
        packet.fill_checksum();
        fill(packet.payload_mut());
        if self.link.offer(&self.frame) { Sent::Yes } else { Sent::Full }
    }

    /// Sends a datagram, or drops it when the link is full; in fragments if it is longer than a frame (RFC 791 §3.2).
    pub fn datagram(&mut self, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8]) -> Sent {
        let Some(mac) = self.neighbors.get(&to.0).copied() else {
            self.ask_for(to.0);
            return Sent::Unknown;
        };
        self.datagram_to(mac, from, to, data)
    }

    /// Sends a datagram to a card that may not know its address yet.
    pub fn datagram_to(&mut self, mac: Mac, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8]) -> Sent {
        let length = UDP_HEADER + data.len();
        let Ok(length_word) = u16::try_from(length) else { return Sent::Yes };
        let mut payload = vec![0; length];
        let mut udp = UdpPacket::new_unchecked(&mut payload[..]);
        udp.set_src_port(from.1);
        udp.set_dst_port(to.1);
        udp.set_len(length_word);
        udp.payload_mut().copy_from_slice(data);
        udp.fill_checksum(&IpAddress::Ipv4(from.0), &IpAddress::Ipv4(to.0));
        self.fragments(mac, (from.0, to.0), IpProtocol::Udp, &payload)
    }

    /// Sends an IPv4 payload to someone known, in as many fragments as it takes.
    fn payload(&mut self, ends: (Ipv4Addr, Ipv4Addr), protocol: IpProtocol, payload: &[u8]) -> Sent {
        let Some(mac) = self.neighbors.get(&ends.1).copied() else {
            self.ask_for(ends.1);
            return Sent::Unknown;
        };
        self.fragments(mac, ends, protocol, payload)
    }

    /// Tells the sender of `packet` why it goes nowhere. Not for packets to groups (RFC 1122 §3.2.2).
    pub fn complain(
        &mut self,
        complaint: Complaint,
        ends: (Ipv4Addr, Ipv4Addr),
        protocol: IpProtocol,
        start: &[u8],
    ) {
        let (from, to) = ends;
        if to.is_broadcast() || to.is_multicast() || to == self.subnet.broadcast() {
            return;
        }
        let data = &start[..start.len().min(8)];
        let header = Ipv4Repr {
            src_addr: from,
            dst_addr: to,
            next_header: protocol,
            payload_len: data.len(),
            hop_limit: HOP_LIMIT,
        };
        let message = match complaint {
            Complaint::Unreachable(reason) => Icmpv4Repr::DstUnreachable { reason, header, data },
            Complaint::TimeExceeded => {
                Icmpv4Repr::TimeExceeded { reason: Icmpv4TimeExceeded::TtlExpired, header, data }
            }
        };
        self.icmp((self.subnet.gateway(), from), &message);
    }

    /// Sends an ICMP message.
    pub fn icmp(&mut self, ends: (Ipv4Addr, Ipv4Addr), message: &Icmpv4Repr) -> Sent {
        let mut payload = vec![0; message.buffer_len()];
        message.emit(&mut Icmpv4Packet::new_unchecked(&mut payload[..]), &ChecksumCapabilities::default());
        self.payload(ends, IpProtocol::Icmp, &payload)
    }

    fn fragments(
        &mut self,
        mac: Mac,
        ends: (Ipv4Addr, Ipv4Addr),
        protocol: IpProtocol,
        payload: &[u8],
    ) -> Sent {
        self.identification = self.identification.wrapping_add(1);
        for (number, part) in payload.chunks(FRAGMENT).enumerate() {
            let offset = number * FRAGMENT;
            self.start(mac, part.len());
            let mut packet = Ipv4Packet::new_unchecked(&mut self.frame[ETHERNET_HEADER..]);
            emit_header(&mut packet, ends, protocol, part.len(), self.identification);
            packet.set_frag_offset(offset as u16);
            packet.set_more_frags(offset + part.len() < payload.len());
            packet.fill_checksum();
            packet.payload_mut().copy_from_slice(part);
            self.link.send(&self.frame);
        }
        Sent::Yes
    }

    /// Lays out a frame to `mac` with room for an IPv4 payload of `length` bytes.
    fn start(&mut self, mac: Mac, length: usize) {
        self.frame.clear();
        self.frame.resize(ETHERNET_HEADER + IP_HEADER + length, 0);
        let header = EthernetRepr {
            src_addr: EthernetAddress(NAT_MAC.0),
            dst_addr: EthernetAddress(mac.0),
            ethertype: EthernetProtocol::Ipv4,
        };
        header.emit(&mut EthernetFrame::new_unchecked(&mut self.frame[..]));
    }

    /// Asks who has `address`.
    fn ask_for(&mut self, address: Ipv4Addr) {
        if self.subnet.is_guest(address) {
            self.arp(ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Request,
                source_hardware_addr: EthernetAddress(NAT_MAC.0),
                source_protocol_addr: self.subnet.gateway(),
                target_hardware_addr: EthernetAddress([0; 6]),
                target_protocol_addr: address,
            });
        }
    }

    /// Serves an ARP packet: learns who sent it, answers for the NAT's own addresses (RFC 826). Gives the
    /// address if it was not known before.
    pub fn serve_arp(&mut self, payload: &[u8]) -> Option<Ipv4Addr> {
        let packet = ArpPacket::new_checked(payload).ok()?;
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        }) = ArpRepr::parse(&packet)
        else {
            return None;
        };
        let news = self.learn(source_protocol_addr, Mac(source_hardware_addr.0));
        if operation == ArpOperation::Request && self.subnet.is_own(target_protocol_addr) {
            self.arp(ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: EthernetAddress(NAT_MAC.0),
                source_protocol_addr: target_protocol_addr,
                target_hardware_addr: source_hardware_addr,
                target_protocol_addr: source_protocol_addr,
            });
        }
        news.then_some(source_protocol_addr)
    }

    fn arp(&mut self, arp: ArpRepr) {
        let ArpRepr::EthernetIpv4 { operation, target_hardware_addr, .. } = arp else { return };
        let to = if operation == ArpOperation::Request {
            EthernetAddress::BROADCAST
        } else {
            target_hardware_addr
        };
        self.frame.clear();
        self.frame.resize(ETHERNET_HEADER + arp.buffer_len(), 0);
        let header = EthernetRepr {
            src_addr: EthernetAddress(NAT_MAC.0),
            dst_addr: to,
            ethertype: EthernetProtocol::Arp,
        };
        let mut frame = EthernetFrame::new_unchecked(&mut self.frame[..]);
        header.emit(&mut frame);
        arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        self.link.send(&self.frame);
    }
}

fn emit_header(
    packet: &mut Ipv4Packet<&mut [u8]>,
    (from, to): (Ipv4Addr, Ipv4Addr),
    protocol: IpProtocol,
    length: usize,
    identification: u16,
) {
    packet.set_version(4);
    packet.set_header_len(IP_HEADER as u8);
    packet.set_total_len((IP_HEADER + length) as u16);
    packet.set_ident(identification);
    packet.clear_flags();
    packet.set_hop_limit(HOP_LIMIT);
    packet.set_next_header(protocol);
    packet.set_src_addr(from);
    packet.set_dst_addr(to);
}

/// Checksums are made and checked by us, where they are, not by smoltcp's representations.
pub fn no_checksums() -> ChecksumCapabilities {
    ChecksumCapabilities::ignored()
}
