//! UDP: each pair of ends is a flow with a connected socket of the host's (address- and port-dependent
//! mapping, RFC 4787 §4), forgotten when it is idle.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::poller::Token;
use super::router::Surroundings;
use super::wire::Ends;

/// Flows at once; when there are more, the one that was idle longest is forgotten.
pub const MAX_FLOWS: usize = 512;
/// RFC 4787, REQ-5.
const IDLE: Duration = Duration::from_secs(120);
/// A resolver answers sooner, or not at all.
const IDLE_DNS: Duration = Duration::from_secs(5);
/// How often idle flows are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// Datagrams taken from one socket before the others have their turn.
const TURN: usize = 64;

enum Host {
    /// A socket of its own.
    Own(UdpSocket),
    /// The socket of a port forward, and who is at the other end.
    Forward(Arc<UdpSocket>, SocketAddr),
}

struct Flow {
    ends: Ends,
    host: Host,
    last_used: Instant,
    idle: Duration,
    /// A question to a resolver that has not been answered.
    question: Option<Vec<u8>>,
}

/// What a flow's socket had to say.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// The destination answers that nobody listens there.
    Refused(Ends),
    /// A resolver does not answer; this was the question.
    NoResolver(Ends, Vec<u8>),
}

/// All flows of one NAT.
pub struct UdpTable {
    flows: HashMap<u64, Flow>,
    numbers: HashMap<Ends, u64>,
    next_number: u64,
    /// Flows whose sockets may have more.
    again: Vec<u64>,
    next_sweep: Option<Instant>,
    scratch: Vec<u8>,
}

impl UdpTable {
    /// No flows.
    pub fn new() -> UdpTable {
        UdpTable {
            flows: HashMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            again: Vec::new(),
            next_sweep: None,
            scratch: vec![0; 64 << 10],
        }
    }

    /// Flows there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether these ends have a flow.
    pub fn knows(&self, ends: &Ends) -> bool {
        self.numbers.contains_key(ends)
    }

    /// Begins a flow of a guest to `address`; `dns` if that is a resolver.
    pub fn open(
        &mut self,
        ends: Ends,
        address: SocketAddr,
        dns: bool,
        around: &Surroundings,
    ) -> io::Result<()> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        around.poller.add(&socket, Token::Udp(self.next_number))?;
        self.add(ends, Host::Own(socket), if dns { IDLE_DNS } else { IDLE }, around.now);
        Ok(())
    }

    fn add(&mut self, ends: Ends, host: Host, idle: Duration, now: Instant) {
        if self.flows.len() >= MAX_FLOWS
            && let Some(oldest) =
                self.flows.iter().min_by_key(|(_, flow)| flow.last_used).map(|(number, _)| *number)
        {
            self.remove(oldest);
        }
        if let Some(before) = self.numbers.get(&ends) {
            self.remove(*before);
        }
        self.flows.insert(self.next_number, Flow { ends, host, last_used: now, idle, question: None });
        self.numbers.insert(ends, self.next_number);
        self.next_number += 1;
        self.next_sweep.get_or_insert(now + SWEEP);
    }

    fn remove(&mut self, number: u64) {
        if let Some(flow) = self.flows.remove(&number) {
            self.numbers.remove(&flow.ends);
        }
    }

    /// Sends a guest's datagram over the flow of `ends`. What the host cannot take now is lost.
    pub fn send(&mut self, ends: &Ends, data: &[u8], now: Instant) -> Option<News> {
        let flow = self.flows.get_mut(self.numbers.get(ends)?)?;
        flow.last_used = now;
        if flow.idle == IDLE_DNS {
            flow.question = Some(data.to_vec());
        }
        let sent = match &flow.host {
            Host::Own(socket) => socket.send(data),
            Host::Forward(socket, peer) => socket.send_to(data, peer),
        };
        sent.err().and_then(|error| flow.failure(&error))
    }

    /// Passes on what came to a port forward.
    pub fn take_forwarded(
        &mut self,
        socket: &Arc<UdpSocket>,
        guest: (Ipv4Addr, u16),
        gateway: Ipv4Addr,
        around: &mut Surroundings,
    ) {
        let mut scratch = std::mem::take(&mut self.scratch);
        // A socket that never runs dry has its next turn with its next datagram.
        while let Ok((length, peer)) = socket.recv_from(&mut scratch) {
            let ends = Ends::forwarded(guest, peer, gateway);
            let known = self.numbers.get(&ends).and_then(|number| self.flows.get_mut(number));
            match known {
                Some(flow) if matches!(&flow.host, Host::Forward(_, known) if *known == peer) => {
                    flow.last_used = around.now;
                }
                _ => self.add(ends, Host::Forward(socket.clone(), peer), IDLE, around.now),
            }
            around.wire.datagram(ends.peer, ends.guest, &scratch[..length]);
        }
        self.scratch = scratch;
    }

    /// A flow's socket is ready.
    pub fn ready(&mut self, number: u64, around: &mut Surroundings, news: &mut Vec<News>) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        for _ in 0..TURN {
            let Host::Own(socket) = &flow.host else { return };
            match socket.recv(&mut self.scratch) {
                Ok(length) => {
                    flow.last_used = around.now;
                    flow.question = None;
                    around.wire.datagram(flow.ends.peer, flow.ends.guest, &self.scratch[..length]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => news.extend(flow.failure(&error)),
            }
        }
        self.again.push(number);
    }

    /// Whether sockets may have more.
    pub fn has_work(&self) -> bool {
        !self.again.is_empty()
    }

    /// Gives the sockets that may have more another turn.
    pub fn work(&mut self, around: &mut Surroundings, news: &mut Vec<News>) {
        for number in std::mem::take(&mut self.again) {
            self.ready(number, around, news);
        }
    }

    /// When to look for idle flows.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// Forgets what is idle.
    pub fn expire(&mut self, now: Instant, news: &mut Vec<News>) {
        if self.next_sweep.is_none_or(|at| at > now) {
            return;
        }
        let is_idle = |flow: &Flow| now.saturating_duration_since(flow.last_used) >= flow.idle;
        let idle: Vec<u64> =
            self.flows.iter().filter(|(_, flow)| is_idle(flow)).map(|(number, _)| *number).collect();
        for number in idle {
            if let Some(flow) = self.flows.get_mut(&number)
                && let Some(question) = flow.question.take()
            {
                news.push(News::NoResolver(flow.ends, question));
            }
            self.remove(number);
        }
        self.next_sweep = (!self.flows.is_empty()).then(|| now + SWEEP);
    }
}

impl Flow {
    /// What an error of the socket means to the guest.
    fn failure(&mut self, error: &io::Error) -> Option<News> {
        if error.kind() != ErrorKind::ConnectionRefused {
            return None; // lost, as datagrams may be
        }
        match self.question.take() {
            Some(question) => Some(News::NoResolver(self.ends, question)),
            None if self.idle == IDLE_DNS => None,
            None => Some(News::Refused(self.ends)),
        }
    }
}
