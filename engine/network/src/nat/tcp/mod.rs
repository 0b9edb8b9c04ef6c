//! TCP: each connection of a guest is two, one that we hold with the guest and one of the host's.

mod guest;
mod host;
mod reassembly;
mod retransmit;
mod sequence;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use smoltcp::wire::{IpAddress, IpProtocol, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::poller::Token;
use super::router::Surroundings;
use super::wire::{Ends, Sent, Wire, no_checksums};
use guest::{GuestHalf, OUR_SEGMENT, Reply, Segment, Verdict};
use host::HostHalf;
use sequence::Sequence;

/// Connections at once; when there are more, the one that was idle longest is reset.
pub const MAX_CONNECTIONS: usize = 1024;
/// How long the ends of a finished connection are remembered, so that a lost last acknowledgement is
/// repeated. Shorter than RFC 9293's 2 MSL: nothing wanders on a virtual wire.
const TIME_WAIT: Duration = Duration::from_secs(2);
/// Idle connections are kept so long (RFC 5382, REQ-5) if they are open, and so long if they are not.
const IDLE_OPEN: Duration = Duration::from_secs(2 * 3600 + 4 * 60);
const IDLE_OTHERWISE: Duration = Duration::from_secs(4 * 60);
/// Bytes taken from one socket before the others have their turn.
const TURN: usize = 128 << 10;

struct Connection {
    ends: Ends,
    guest: GuestHalf,
    /// None once it is over and only remembered.
    host: Option<HostHalf>,
    last_used: Instant,
    /// When it is forgotten.
    forget_at: Option<Instant>,
    /// It stands in the list of those with something to do.
    queued: bool,
    /// It stands in the list of those that wait for the link.
    blocked: bool,
}

/// What became of a SYN's destination.
pub enum Outcome {
    /// The host could not even start: tell the guest that the destination cannot be reached.
    Unreachable,
    /// Nothing to tell.
    Done,
}

/// All connections of one NAT.
pub struct TcpTable {
    connections: HashMap<u64, Connection>,
    numbers: HashMap<Ends, u64>,
    next_number: u64,
    /// Connections with something to do, in turn.
    ready: VecDeque<u64>,
    /// Connections that wait for room on the link.
    blocked: VecDeque<u64>,
    timers: BTreeSet<(Instant, u64)>,
    scheduled: HashMap<u64, Instant>,
    scratch: Vec<u8>,
    secret: RandomState,
    started: Instant,
    /// Connections opened so far, and refused or reset for want of room.
    pub opened: u64,
    /// Connections that could not be had.
    pub failed: u64,
}

/// A segment as it came, with its ends.
pub struct Arrived<'a> {
    /// Whose.
    pub ends: Ends,
    segment: Segment<'a>,
}

impl<'a> Arrived<'a> {
    /// Parses a TCP segment; `None` if it is damaged.
    pub fn parse(guest: Ipv4Addr, peer: Ipv4Addr, payload: &'a [u8]) -> Option<Arrived<'a>> {
        let packet = TcpPacket::new_checked(payload).ok()?;
        let (from, to) = (IpAddress::Ipv4(guest), IpAddress::Ipv4(peer));
        if !packet.verify_checksum(&from, &to) {
            return None;
        }
        let parsed = TcpRepr::parse(&packet, &from, &to, &no_checksums()).ok()?;
        let segment = Segment {
            sequence: Sequence(parsed.seq_number.0 as u32),
            ack: parsed.ack_number.map(|number| Sequence(number.0 as u32)),
            window: parsed.window_len,
            syn: parsed.control == TcpControl::Syn,
            fin: parsed.control == TcpControl::Fin,
            rst: parsed.control == TcpControl::Rst,
            segment_size: parsed.max_seg_size,
            window_scale: parsed.window_scale,
            data: parsed.payload,
        };
        let ends = Ends { guest: (guest, parsed.src_port), peer: (peer, parsed.dst_port) };
        Some(Arrived { ends, segment })
    }

    /// Whether it wants to begin a connection.
    pub fn is_first(&self) -> bool {
        self.segment.syn && self.segment.ack.is_none()
    }
}

impl TcpTable {
    /// No connections.
    pub fn new(now: Instant) -> TcpTable {
        TcpTable {
            connections: HashMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            ready: VecDeque::new(),
            blocked: VecDeque::new(),
            timers: BTreeSet::new(),
            scheduled: HashMap::new(),
            scratch: vec![0; 64 << 10],
            secret: RandomState::new(),
            started: now,
            opened: 0,
            failed: 0,
        }
    }

    /// Connections there are.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether these ends have a connection that `arrived` belongs to. One that is over makes room for a
    /// new one.
    pub fn knows(&mut self, arrived: &Arrived) -> bool {
        let Some(&number) = self.numbers.get(&arrived.ends) else { return false };
        if self.connections[&number].guest.is_succeeded_by(&arrived.segment) {
            self.remove(number);
            return false;
        }
        true
    }

    /// Begins a connection of a guest to `address`, which the guest knows by `arrived`'s ends.
    pub fn open(&mut self, arrived: &Arrived, address: SocketAddr, around: &mut Surroundings) -> Outcome {
        let first = self.first_sequence(&arrived.ends, around.now);
        let host = match HostHalf::connect(address) {
            Ok(host) => host,
            Err(error) => return self.failure(arrived, &error, around),
        };
        let guest = GuestHalf::from_syn(&arrived.segment, first);
        self.add(arrived.ends, guest, host, around);
        Outcome::Done
    }

    /// Begins a connection to a guest, for one that came to a port forward.
    pub fn forward(&mut self, ends: Ends, stream: TcpStream, around: &mut Surroundings) {
        let first = self.first_sequence(&ends, around.now);
        match HostHalf::accepted(stream) {
            Ok(host) if !self.numbers.contains_key(&ends) => {
                self.add(ends, GuestHalf::connect(first), host, around);
            }
            _ => self.failed += 1,
        }
    }

    fn add(&mut self, ends: Ends, guest: GuestHalf, host: HostHalf, around: &mut Surroundings) {
        if self.connections.len() >= MAX_CONNECTIONS {
            self.make_room(around);
        }
        let number = self.next_number;
        self.next_number += 1;
        if around.poller.add(host.socket(), Token::Tcp(number)).is_err() {
            self.failed += 1;
            return;
        }
        self.opened += 1;
        let (last_used, host) = (around.now, Some(host));
        let (queued, blocked, forget_at) = (false, false, None);
        let connection = Connection { ends, guest, host, last_used, forget_at, queued, blocked };
        self.connections.insert(number, connection);
        self.numbers.insert(ends, number);
        self.queue(number);
    }

    fn make_room(&mut self, around: &mut Surroundings) {
        let idle = self.connections.iter().min_by_key(|(_, connection)| connection.last_used);
        if let Some(number) = idle.map(|(number, _)| *number) {
            self.abort(number, around);
        }
    }

    /// RFC 6528: unguessable, and later connections between the same ends come later.
    fn first_sequence(&self, ends: &Ends, now: Instant) -> Sequence {
        let ticks = now.saturating_duration_since(self.started).as_micros() / 4;
        Sequence((self.secret.hash_one(ends) as u32).wrapping_add(ticks as u32))
    }

    fn failure(&mut self, arrived: &Arrived, error: &io::Error, around: &mut Surroundings) -> Outcome {
        self.failed += 1;
        match error.kind() {
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Outcome::Unreachable,
            _ => {
                self.refuse(arrived, around);
                Outcome::Done
            }
        }
    }

    /// Answers a segment that belongs to no connection (RFC 9293 §3.10.7.1).
    pub fn refuse(&mut self, arrived: &Arrived, around: &mut Surroundings) {
        let segment = &arrived.segment;
        if segment.rst {
            return;
        }
        let reply = match segment.ack {
            Some(ack) => Reply { sequence: ack, rst: true, ..Reply::default() },
            None => {
                let length = segment.data.len() + usize::from(segment.syn) + usize::from(segment.fin);
                Reply { ack: Some(segment.sequence + length), rst: true, ..Reply::default() }
            }
        };
        emit(around.wire, arrived.ends, &reply);
    }

    /// A segment of a known connection came.
    pub fn take(&mut self, arrived: &Arrived, around: &mut Surroundings) {
        let Some(&number) = self.numbers.get(&arrived.ends) else { return };
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.last_used = around.now;
        let mut failed = false;
        let Connection { guest, host, .. } = connection;
        let verdict = guest.take(&arrived.segment, around.now, &mut |data| match host {
            Some(host) => host.write(data).unwrap_or_else(|_| {
                failed = true;
                0
            }),
            None => data.len(),
        });
        match verdict {
            Verdict::Goes if failed => self.abort(number, around),
            Verdict::Goes => self.queue(number),
            Verdict::Reset => self.remove(number),
            Verdict::Stranger(sequence) => {
                emit(around.wire, arrived.ends, &Reply { sequence, rst: true, ..Reply::default() });
            }
        }
    }

    /// A host's socket is ready. Gives the ends of a connection whose destination cannot be reached.
    pub fn ready(
        &mut self,
        number: u64,
        readable: bool,
        writable: bool,
        around: &mut Surroundings,
    ) -> Option<Ends> {
        let connection = self.connections.get_mut(&number)?;
        let ends = connection.ends;
        let host = connection.host.as_mut()?;
        if let Err(error) = host.ready(readable, writable) {
            let waited = connection.guest.is_waiting();
            self.failed += 1;
            let unreachable =
                matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable);
            if waited && unreachable {
                self.remove(number);
                return Some(ends);
            }
            self.abort(number, around);
            return None;
        }
        self.queue(number);
        None
    }

    /// A guest's card is known only now.
    pub fn found(&mut self, guest: Ipv4Addr) {
        let theirs = self.connections.iter_mut().filter(|(_, connection)| connection.ends.guest.0 == guest);
        let numbers: Vec<u64> = theirs
            .map(|(number, connection)| {
                connection.guest.hurry();
                *number
            })
            .collect();
        numbers.into_iter().for_each(|number| self.queue(number));
    }

    /// The link has room again.
    pub fn unblock(&mut self) {
        while let Some(number) = self.blocked.pop_front() {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.blocked = false;
            }
            self.queue(number);
        }
    }

    fn queue(&mut self, number: u64) {
        if let Some(connection) = self.connections.get_mut(&number)
            && !std::mem::replace(&mut connection.queued, true)
        {
            self.ready.push_back(number);
        }
    }

    /// Whether connections have something to do.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Gives each connection that has something to do one turn.
    pub fn work(&mut self, around: &mut Surroundings) {
        for _ in 0..self.ready.len() {
            let Some(number) = self.ready.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            connection.queued = false;
            match connection.turn(&mut self.scratch, around) {
                Ok(Turn::Idle) => {}
                Ok(Turn::More) => self.queue(number),
                Ok(Turn::Blocked) => {
                    if !std::mem::replace(&mut connection.blocked, true) {
                        self.blocked.push_back(number);
                    }
                }
                Err(_) => {
                    self.abort(number, around);
                    continue;
                }
            }
            self.schedule(number, around.now);
        }
    }

    fn schedule(&mut self, number: u64, now: Instant) {
        let Some(connection) = self.connections.get(&number) else { return };
        let idle = if connection.guest.is_open() { IDLE_OPEN } else { IDLE_OTHERWISE };
        let expiry = connection.forget_at.unwrap_or(connection.last_used.max(now) + idle);
        let deadline = connection.guest.deadline().map_or(expiry, |deadline| deadline.min(expiry));
        // A timer that goes off too early finds nothing to do and is set anew.
        match self.scheduled.get(&number) {
            Some(before) if *before <= deadline => return,
            Some(before) => self.timers.remove(&(*before, number)),
            None => false,
        };
        self.scheduled.insert(number, deadline);
        self.timers.insert((deadline, number));
    }

    /// When the next timer goes off.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(deadline, _)| *deadline)
    }

    /// Serves the timers that went off.
    pub fn expire(&mut self, around: &mut Surroundings) {
        while let Some(&(deadline, number)) = self.timers.first() {
            if deadline > around.now {
                return;
            }
            self.timers.pop_first();
            self.scheduled.remove(&number);
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            if connection.forget_at.is_some_and(|at| at <= around.now) {
                self.remove(number);
                continue;
            }
            let goes_on = match connection.guest.deadline() {
                Some(deadline) if deadline <= around.now && connection.blocked => {
                    // Not the guest is silent, but we.
                    connection.guest.postpone(around.now);
                    true
                }
                Some(deadline) if deadline <= around.now => connection.guest.expire(),
                _ => {
                    let idle = if connection.guest.is_open() { IDLE_OPEN } else { IDLE_OTHERWISE };
                    around.now.saturating_duration_since(connection.last_used) < idle
                }
            };
            if goes_on {
                self.queue(number);
                self.schedule(number, around.now);
            } else {
                self.abort(number, around);
            }
        }
    }

    /// Resets both halves.
    fn abort(&mut self, number: u64, around: &mut Surroundings) {
        if let Some(connection) = self.connections.get(&number) {
            emit(around.wire, connection.ends, &connection.guest.reset());
        }
        self.remove(number);
    }

    /// Forgets a connection; the host's half, if it is not over, is reset.
    fn remove(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            self.numbers.remove(&connection.ends);
            if connection.blocked {
                self.blocked.retain(|blocked| *blocked != number);
            }
            if let Some(host) = connection.host {
                host.reset();
            }
        }
        if let Some(deadline) = self.scheduled.remove(&number) {
            self.timers.remove(&(deadline, number));
        }
    }
}

/// What a connection needs after its turn.
enum Turn {
    /// An event.
    Idle,
    /// Another turn.
    More,
    /// Room on the link.
    Blocked,
}

impl Connection {
    /// Moves what can be moved, both ways.
    fn turn(&mut self, scratch: &mut [u8], around: &mut Surroundings) -> io::Result<Turn> {
        let mut moved = 0;
        if let Some(host) = &mut self.host {
            if host.is_connected() {
                self.guest.accept();
            }
            host.write_from(self.guest.incoming())?;
            self.guest.update_window();
            if self.guest.has_finished() {
                host.finish();
            }
            while moved < TURN && host.is_readable() && self.guest.room() > 0 {
                let room = self.guest.room().min(scratch.len());
                let count = host.read(&mut scratch[..room])?;
                self.guest.push(&scratch[..count]);
                moved += count;
            }
            if host.has_ended() {
                self.guest.close();
            }
        }
        let limit = around.wire.segment(self.guest.segment_size());
        let (wire, ends) = (&mut *around.wire, self.ends);
        // An unknown guest was asked for; the timer tries again.
        let mut send = |reply: &Reply| emit(wire, ends, reply) != Sent::Full;
        if !self.guest.send(limit, around.now, &mut send) {
            return Ok(Turn::Blocked);
        }
        if self.guest.is_over() && self.guest.has_finished() && self.forget_at.is_none() {
            // The host's half ends in order: all was sent.
            self.host = None;
            self.forget_at = Some(around.now + TIME_WAIT);
        }
        Ok(if moved >= TURN { Turn::More } else { Turn::Idle })
    }
}

/// Puts a segment on the wire.
fn emit(wire: &mut Wire, ends: Ends, reply: &Reply) -> Sent {
    let control = match (reply.syn, reply.fin, reply.rst) {
        (true, _, _) => TcpControl::Syn,
        (_, true, _) => TcpControl::Fin,
        (_, _, true) => TcpControl::Rst,
        _ if !reply.data.0.is_empty() => TcpControl::Psh,
        _ => TcpControl::None,
    };
    let header = TcpRepr {
        src_port: ends.peer.1,
        dst_port: ends.guest.1,
        control,
        seq_number: TcpSeqNumber(reply.sequence.0 as i32),
        ack_number: reply.ack.map(|ack| TcpSeqNumber(ack.0 as i32)),
        window_len: reply.window,
        window_scale: reply.window_scale,
        max_seg_size: reply.syn.then_some(OUR_SEGMENT),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (front, back) = reply.data;
    let length = header.header_len() + front.len() + back.len();
    let (from, to) = (IpAddress::Ipv4(ends.peer.0), IpAddress::Ipv4(ends.guest.0));
    wire.packet((ends.peer.0, ends.guest.0), IpProtocol::Tcp, length, |payload| {
        let mut packet = TcpPacket::new_unchecked(payload);
        header.emit(&mut packet, &from, &to, &no_checksums());
        let data = packet.payload_mut();
        data[..front.len()].copy_from_slice(front);
        data[front.len()..].copy_from_slice(back);
        packet.fill_checksum(&from, &to);
    })
}
