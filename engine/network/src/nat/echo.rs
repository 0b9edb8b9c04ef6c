//! ICMP echo (ping): the NAT's own addresses answer; the world is asked by the host's ping sockets, where
//! the host allows them (sysctl net.ipv4.ping_group_range).

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr};

use super::poller::Token;
use super::router::Surroundings;

/// Flows at once; when there are more, the one that was idle longest is forgotten.
const MAX_FLOWS: usize = 64;
const IDLE: Duration = Duration::from_secs(60);
const SWEEP: Duration = Duration::from_secs(5);

/// One guest's echo requests with one identifier to one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EchoEnds {
    /// Who asks.
    pub guest: Ipv4Addr,
    /// Whom.
    pub peer: Ipv4Addr,
    /// The guest's identifier; the host's socket has one of its own.
    pub identifier: u16,
}

struct Flow {
    ends: EchoEnds,
    /// A ping socket; the standard library's datagram socket fits it.
    socket: UdpSocket,
    last_used: Instant,
}

/// All echo flows of one NAT.
#[derive(Default)]
pub struct EchoTable {
    flows: HashMap<u64, Flow>,
    numbers: HashMap<EchoEnds, u64>,
    next_number: u64,
    next_sweep: Option<Instant>,
}

impl EchoTable {
    /// Sends a guest's request on to `address`.
    pub fn ask(
        &mut self,
        ends: EchoEnds,
        sequence: u16,
        data: &[u8],
        address: SocketAddr,
        around: &Surroundings,
    ) -> io::Result<()> {
        if !self.numbers.contains_key(&ends) {
            self.open(ends, address, around)?;
        }
        let flow = self.numbers.get(&ends).and_then(|number| self.flows.get_mut(number));
        let Some(flow) = flow else { return Ok(()) };
        flow.last_used = around.now;
        let request = Icmpv4Repr::EchoRequest { ident: ends.identifier, seq_no: sequence, data };
        let mut bytes = vec![0; request.buffer_len()];
        request.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
        flow.socket.send(&bytes).map(drop)
    }

    fn open(&mut self, ends: EchoEnds, address: SocketAddr, around: &Surroundings) -> io::Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::ICMP))?;
        rustix::net::connect(&socket, &address)?;
        let number = self.next_number;
        around.poller.add(&socket, Token::Echo(number))?;
        if self.flows.len() >= MAX_FLOWS
            && let Some(oldest) =
                self.flows.iter().min_by_key(|(_, flow)| flow.last_used).map(|(number, _)| *number)
        {
            self.remove(oldest);
        }
        self.next_number += 1;
        self.flows.insert(number, Flow { ends, socket: socket.into(), last_used: around.now });
        self.numbers.insert(ends, number);
        self.next_sweep.get_or_insert(around.now + SWEEP);
        Ok(())
    }

    fn remove(&mut self, number: u64) {
        if let Some(flow) = self.flows.remove(&number) {
            self.numbers.remove(&flow.ends);
        }
    }

    /// A flow's socket is ready: its replies go to the guest.
    pub fn ready(&mut self, number: u64, around: &mut Surroundings) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = match flow.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => continue, // an ICMP error: the guest's request stays unanswered
            };
            let Ok(packet) = Icmpv4Packet::new_checked(&buffer[..length]) else { continue };
            let reply = Icmpv4Repr::parse(&packet, &ChecksumCapabilities::ignored());
            if let Ok(Icmpv4Repr::EchoReply { seq_no, data, .. }) = reply {
                flow.last_used = around.now;
                let reply = Icmpv4Repr::EchoReply { ident: flow.ends.identifier, seq_no, data };
                around.wire.icmp((flow.ends.peer, flow.ends.guest), &reply);
            }
        }
    }

    /// When to look for idle flows.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// Forgets what is idle.
    pub fn expire(&mut self, now: Instant) {
        if self.next_sweep.is_none_or(|at| at > now) {
            return;
        }
        self.flows.retain(|_, flow| now.saturating_duration_since(flow.last_used) < IDLE);
        self.numbers.retain(|_, number| self.flows.contains_key(number));
        self.next_sweep = (!self.flows.is_empty()).then(|| now + SWEEP);
    }
}
