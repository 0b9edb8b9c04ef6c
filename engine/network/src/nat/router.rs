//! The NAT's thread: waits for the guest's frames, the host's sockets and timers, and serves them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr,
    IpAddress, IpProtocol, Ipv4Packet, UdpPacket,
};

use super::dhcp::{CLIENT_PORT, Leases, SERVER_PORT};
use super::dns::{self, Query};
use super::echo::{EchoEnds, EchoTable};
use super::forward::{Listening, Socket};
use super::fragments::Fragments;
use super::policy::{Destination, Policy};
use super::poller::{Poller, Ready, Token};
use super::resolvers::Resolvers;
use super::tcp::{Arrived, Outcome, TcpTable};
use super::udp::{News, UdpTable};
use super::wire::{Complaint, Ends, NAT_MAC, Wire};
use super::{NatCounts, Order, Shared};
use crate::mac::Mac;

/// Frames taken before sockets have their turn.
const FRAMES_AT_ONCE: usize = 256;
/// Connections accepted on one forward before the others have their turn.
const ACCEPTS_AT_ONCE: usize = 64;

/// What the tables work with.
pub struct Surroundings<'a> {
    /// To the guests.
    pub wire: &'a mut Wire,
    /// For the host's sockets.
    pub poller: &'a Poller,
    /// The time.
    pub now: Instant,
}

/// Everything the thread holds.
pub struct Router {
    shared: Arc<Shared>,
    poller: Poller,
    wire: Wire,
    policy: Policy,
    leases: Leases,
    resolvers: Resolvers,
    tcp: TcpTable,
    udp: UdpTable,
    echo: EchoTable,
    fragments: Fragments,
    forwards: HashMap<u64, Listening>,
    /// Forwards that may have more connections waiting.
    again: Vec<u64>,
    now: Instant,
    news: Vec<News>,
    counts: NatCounts,
}

/// The IPv4 addresses of a guest's packet, from and to.
type Route = (Ipv4Addr, Ipv4Addr);

impl Router {
    pub fn new(
        shared: Arc<Shared>,
        poller: Poller,
        wire: Wire,
        policy: Policy,
        leases: Leases,
        resolvers: Resolvers,
    ) -> Router {
        let now = Instant::now();
        Router {
            shared,
            poller,
            wire,
            policy,
            leases,
            resolvers,
            tcp: TcpTable::new(now),
            udp: UdpTable::new(),
            echo: EchoTable::default(),
            fragments: Fragments::default(),
            forwards: HashMap::new(),
            again: Vec::new(),
            now,
            news: Vec::new(),
            counts: NatCounts::default(),
        }
    }

    /// Serves until it is told to stop.
    pub fn run(mut self) {
        let (mut ready, mut frame) = (Vec::new(), Vec::new());
        loop {
            let busy =
                self.tcp.has_work() || self.udp.has_work() || self.wire.has_frame() || !self.again.is_empty();
            let deadlines = [self.tcp.deadline(), self.udp.deadline(), self.echo.deadline()];
            let next = deadlines.into_iter().flatten().min();
            let now = Instant::now();
            let wait = if busy { Some(now) } else { next };
            self.poller.wait(wait.map(|at| at.saturating_duration_since(now)), &mut ready);
            if self.shared.stop.load(Ordering::Acquire) {
                return;
            }
            self.now = Instant::now();
            self.take_orders();
            ready.iter().for_each(|ready| self.ready(ready));
            for number in std::mem::take(&mut self.again) {
                self.forward_ready(number);
            }
            for _ in 0..FRAMES_AT_ONCE {
                if !self.wire.receive(&mut frame) {
                    break;
                }
                self.frame(&frame);
            }
            self.work();
            self.counts.tcp_connections = self.tcp.len();
            self.counts.tcp_opened = self.tcp.opened;
            self.counts.tcp_failed = self.tcp.failed;
            self.counts.udp_flows = self.udp.len();
            *self.shared.counts.lock() = self.counts;
        }
    }

    fn take_orders(&mut self) {
        for order in self.shared.orders.lock().drain(..) {
            match order {
                Order::Forward(number, listening) => {
                    let token = Token::Forward(number);
                    let added = match &listening.socket {
                        Socket::Tcp(listener) => self.poller.add(listener, token),
                        Socket::Udp(socket) => self.poller.add(socket, token),
                    };
                    // The kernel has no room for one more: then it is as if nobody connected.
                    if added.is_ok() {
                        self.forwards.insert(number, listening);
                    }
                }
                Order::Unforward(number) => drop(self.forwards.remove(&number)),
            }
        }
    }

    fn ready(&mut self, ready: &Ready) {
        let around = &mut Surroundings { wire: &mut self.wire, poller: &self.poller, now: self.now };
        match ready.token {
            Token::Bell => self.tcp.unblock(),
            Token::Tcp(number) => {
                if let Some(ends) = self.tcp.ready(number, ready.readable, ready.writable, around) {
                    self.unreachable(Icmpv4DstUnreachable::HostUnreachable, &ends, IpProtocol::Tcp);
                }
            }
            Token::Udp(number) => self.udp.ready(number, around, &mut self.news),
            Token::Echo(number) => self.echo.ready(number, around),
            Token::Forward(number) => self.forward_ready(number),
            Token::Tap => {}
        }
    }

    fn forward_ready(&mut self, number: u64) {
        let Some(forward) = self.forwards.get(&number) else { return };
        let around = &mut Surroundings { wire: &mut self.wire, poller: &self.poller, now: self.now };
        let guest = (self.leases.latest(), forward.guest_port);
        let gateway = self.policy.subnet.gateway();
        match &forward.socket {
            Socket::Udp(socket) => self.udp.take_forwarded(socket, guest, gateway, around),
            Socket::Tcp(listener) => {
                for _ in 0..ACCEPTS_AT_ONCE {
                    // Nothing waits, or it went away again, or the host has no descriptor left.
                    let Ok((stream, peer)) = listener.accept() else { return };
                    self.tcp.forward(Ends::forwarded(guest, peer, gateway), stream, around);
                }
                self.again.push(number);
            }
        }
    }

    fn work(&mut self) {
        let around = &mut Surroundings { wire: &mut self.wire, poller: &self.poller, now: self.now };
        self.tcp.work(around);
        self.tcp.expire(around);
        self.udp.work(around, &mut self.news);
        self.udp.expire(self.now, &mut self.news);
        self.echo.expire(self.now);
        for news in std::mem::take(&mut self.news) {
            match news {
                News::Refused(ends) => {
                    self.unreachable(Icmpv4DstUnreachable::PortUnreachable, &ends, IpProtocol::Udp);
                }
                News::NoResolver(ends, question) => {
                    self.resolvers.turn_away();
                    if let Some(reply) = dns::failure(&question) {
                        self.wire.datagram(ends.peer, ends.guest, &reply);
                    }
                }
            }
        }
    }

    /// Says that `ends.peer` cannot be had; the start of the guest's packet is made up from its ends.
    fn unreachable(&mut self, reason: Icmpv4DstUnreachable, ends: &Ends, protocol: IpProtocol) {
        let mut start = [0; 8];
        start[..2].copy_from_slice(&ends.guest.1.to_be_bytes());
        start[2..4].copy_from_slice(&ends.peer.1.to_be_bytes());
        self.wire.complain(Complaint::Unreachable(reason), (ends.guest.0, ends.peer.0), protocol, &start);
    }

    /// A frame of the guest.
    fn frame(&mut self, frame: &[u8]) {
        let Ok(frame) = EthernetFrame::new_checked(frame) else { return };
        let to = frame.dst_addr();
        if to != EthernetAddress(NAT_MAC.0) && !to.is_broadcast() {
            return;
        }
        let from = Mac(frame.src_addr().0);
        match frame.ethertype() {
            EthernetProtocol::Arp => {
                if let Some(guest) = self.wire.serve_arp(frame.payload()) {
                    self.tcp.found(guest);
                }
            }
            EthernetProtocol::Ipv4 => self.ipv4(from, frame.payload()),
            _ => {}
        }
    }

    fn ipv4(&mut self, mac: Mac, packet: &[u8]) {
        let Ok(packet) = Ipv4Packet::new_checked(packet) else { return };
        if packet.version() != 4 || packet.header_len() < 20 || !packet.verify_checksum() {
            return;
        }
        let route = (packet.src_addr(), packet.dst_addr());
        let protocol = packet.next_header();
        let is_fragment = packet.more_frags() || packet.frag_offset() != 0;
        if !self.policy.subnet.is_guest(route.0) {
            // Who has no address yet may only ask for one.
            if protocol == IpProtocol::Udp && !is_fragment {
                self.dhcp(packet.payload());
            }
            return;
        }
        if self.wire.learn(route.0, mac) {
            self.tcp.found(route.0);
        }
        if packet.hop_limit() <= 1 && !self.policy.subnet.is_own(route.1) {
            return self.wire.complain(Complaint::TimeExceeded, route, protocol, packet.payload());
        }
        if is_fragment {
            if let Some(whole) = self.fragments.take(&packet, self.now) {
                self.payload(route, protocol, &whole);
            }
        } else {
            self.payload(route, protocol, packet.payload());
        }
    }

    fn payload(&mut self, route: Route, protocol: IpProtocol, payload: &[u8]) {
        match protocol {
            IpProtocol::Tcp => self.tcp(route, payload),
            IpProtocol::Udp => self.udp(route, payload),
            IpProtocol::Icmp => self.icmp(route, payload),
            _ => self.refuse(route, protocol, payload),
        }
    }

    fn refuse(&mut self, route: Route, protocol: IpProtocol, payload: &[u8]) {
        self.counts.refused += 1;
        let reason = Icmpv4DstUnreachable::CommProhibited;
        self.wire.complain(Complaint::Unreachable(reason), route, protocol, payload);
    }

    fn resolver(&mut self) -> Option<SocketAddr> {
        self.resolvers.current(self.now)
    }

    fn tcp(&mut self, route: Route, payload: &[u8]) {
        let Some(arrived) = Arrived::parse(route.0, route.1, payload) else { return };
        let known = self.tcp.knows(&arrived);
        let destination = self.policy.destination(route.1, arrived.ends.peer.1);
        let address = match destination {
            Destination::Host(address) => Some(address),
            Destination::Dns => self.resolver(),
            Destination::Refused => None,
        };
        let around = &mut Surroundings { wire: &mut self.wire, poller: &self.poller, now: self.now };
        match address {
            _ if known => self.tcp.take(&arrived, around),
            Some(address) if arrived.is_first() => {
                if let Outcome::Unreachable = self.tcp.open(&arrived, address, around) {
                    self.unreachable(Icmpv4DstUnreachable::NetUnreachable, &arrived.ends, IpProtocol::Tcp);
                }
            }
            _ => {
                self.counts.refused += u64::from(arrived.is_first());
                self.tcp.refuse(&arrived, around);
            }
        }
    }

    fn udp(&mut self, route: Route, payload: &[u8]) {
        let Ok(packet) = UdpPacket::new_checked(payload) else { return };
        if !packet.verify_checksum(&IpAddress::Ipv4(route.0), &IpAddress::Ipv4(route.1)) {
            return;
        }
        let ends = Ends { guest: (route.0, packet.src_port()), peer: (route.1, packet.dst_port()) };
        if ends.peer.1 == SERVER_PORT && (self.policy.subnet.is_own(route.1) || route.1.is_broadcast()) {
            return self.dhcp(payload);
        }
        if ends.guest.1 == 0 || ends.peer.1 == 0 {
            return;
        }
        if !self.udp.knows(&ends) && !self.open_udp(&ends, packet.payload()) {
            return self.refuse(route, IpProtocol::Udp, payload);
        }
        if ends.peer == (self.policy.subnet.dns(), 53) {
            return self.dns(&ends, packet.payload());
        }
        self.news.extend(self.udp.send(&ends, packet.payload(), self.now));
    }

    /// Begins a flow; false if there is no way there.
    fn open_udp(&mut self, ends: &Ends, message: &[u8]) -> bool {
        let (address, dns) = match self.policy.destination(ends.peer.0, ends.peer.1) {
            Destination::Host(address) => (address, false),
            Destination::Refused => return false,
            // What we answer ourselves needs no flow, and no resolver.
            Destination::Dns if dns::consider(message, self.policy.subnet.gateway()) != Query::Passed => {
                return true;
            }
            Destination::Dns => match self.resolver() {
                Some(address) => (address, true),
                None => return true,
            },
        };
        let around = &Surroundings { wire: &mut self.wire, poller: &self.poller, now: self.now };
        self.udp.open(*ends, address, dns, around).is_ok()
    }

    fn dns(&mut self, ends: &Ends, message: &[u8]) {
        let answer = match dns::consider(message, self.policy.subnet.gateway()) {
            Query::Answered(answer) => Some(answer),
            Query::Refused => None,
            Query::Passed if self.udp.knows(ends) => {
                self.news.extend(self.udp.send(ends, message, self.now));
                None
            }
            Query::Passed => dns::failure(message),
        };
        if let Some(answer) = answer {
            self.wire.datagram(ends.peer, ends.guest, &answer);
        }
    }

    fn dhcp(&mut self, payload: &[u8]) {
        let Ok(packet) = UdpPacket::new_checked(payload) else { return };
        if packet.dst_port() != SERVER_PORT {
            return;
        }
        let Some(answer) = self.leases.answer(packet.payload()) else { return };
        if let Some(address) = answer.lease {
            self.wire.learn(address, answer.mac);
        }
        let from = (self.policy.subnet.gateway(), SERVER_PORT);
        self.wire.datagram_to(answer.mac, from, (answer.address, CLIENT_PORT), &answer.message);
    }

    fn icmp(&mut self, route: Route, payload: &[u8]) {
        let Ok(packet) = Icmpv4Packet::new_checked(payload) else { return };
        let message = Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default());
        let Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) = message else { return };
        if self.policy.subnet.is_own(route.1) {
            let reply = Icmpv4Repr::EchoReply { ident, seq_no, data };
            self.wire.icmp((route.1, route.0), &reply);
            return;
        }
        let asked = match self.policy.destination(route.1, 0) {
            Destination::Host(address) => {
                let ends = EchoEnds { guest: route.0, peer: route.1, identifier: ident };
                let around = &Surroundings { wire: &mut self.wire, poller: &self.poller, now: self.now };
                self.echo.ask(ends, seq_no, data, address, around).is_ok()
            }
            Destination::Dns | Destination::Refused => false,
        };
        if !asked {
            self.refuse(route, IpProtocol::Icmp, payload);
        }
    }
}
