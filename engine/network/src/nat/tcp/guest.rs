//! The guest's half of a TCP connection: what a server's TCP would be to it (RFC 9293).
//!
//! Pure: segments and time in, segments out. The line to the guest refuses when it is full instead of
//! dropping, so there is no congestion window until a retransmission timer says that segments are lost.
//! Left out: selective acknowledgements, timestamps, urgent data (delivered in line).

use std::collections::VecDeque;
use std::time::Instant;

use super::reassembly::Reassembly;
use super::retransmit::RetransmitTimer;
use super::sequence::Sequence;

/// Bytes from the host that wait for the guest's acknowledgement, at most.
pub const SEND_BUFFER: usize = 256 << 10;
/// Bytes from the guest that wait for the host, at most: the window that is offered.
pub const RECEIVE_BUFFER: usize = 256 << 10;
/// How far our window is shifted when the guest knows scaling (RFC 7323 §2).
const WINDOW_SHIFT: u8 = 3;
/// Segment size of who names none (RFC 9293 §3.7.1), and the smallest one taken seriously.
const DEFAULT_SEGMENT: usize = 536;
const SMALLEST_SEGMENT: usize = 64;
/// Acknowledgements owed at once, at most: more say nothing new.
const MOST_ACKS: u32 = 16;
/// Payload of a standard frame.
pub const OUR_SEGMENT: u16 = 1460;

/// A segment from the guest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment<'a> {
    /// Sequence number.
    pub sequence: Sequence,
    /// Acknowledgement number, if its flag is set.
    pub ack: Option<Sequence>,
    /// Window, as it stands in the header.
    pub window: u16,
    /// SYN.
    pub syn: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
    /// Option: maximum segment size.
    pub segment_size: Option<u16>,
    /// Option: window scale.
    pub window_scale: Option<u8>,
    /// Data.
    pub data: &'a [u8],
}

/// A segment for the guest. Its data are two parts, as they lie in the buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reply<'a> {
    /// Sequence number.
    pub sequence: Sequence,
    /// Acknowledgement number.
    pub ack: Option<Sequence>,
    /// Window, as it stands in the header.
    pub window: u16,
    /// SYN, with its options: segment size, and this window scale if any.
    pub syn: bool,
    /// Option: window scale.
    pub window_scale: Option<u8>,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
    /// Data.
    pub data: (&'a [u8], &'a [u8]),
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The guest's SYN waits for the host's answer.
    Waiting,
    /// SYN and ACK were sent, or are to be.
    SynReceived,
    /// Our SYN was sent, or is to be.
    SynSent,
    /// Data flow, until both sides have finished.
    Open,
}

/// What a segment means to the connection as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Goes,
    /// The guest reset it.
    Reset,
    /// What came belongs to no connection we know: to be answered with RST, this sequence number.
    Stranger(Sequence),
}

/// The guest's half.
#[derive(Debug)]
pub struct GuestHalf {
    phase: Phase,
    // Towards the guest.
    first: Sequence,
    /// Oldest unacknowledged, next to send, and the furthest ever sent.
    unacked: Sequence,
    next: Sequence,
    furthest: Sequence,
    /// From `unacked` on, SYN and FIN not included.
    outgoing: VecDeque<u8>,
    window: usize,
    guest_shift: u8,
    segment_size: usize,
    /// The host will send no more.
    closing: bool,
    syn_acked: bool,
    fin_acked: bool,
    timer: RetransmitTimer,
    /// Bytes that may be under way; without bound until something was lost.
    congestion: usize,
    duplicates: u32,
    /// While the guest's acknowledgements are before this, each shows the next hole.
    recover: Option<Sequence>,
    repeat_first: bool,
    probe: bool,
    // From the guest.
    expected: Sequence,
    incoming: VecDeque<u8>,
    reassembly: Reassembly,
    finished: bool,
    our_shift: u8,
    /// Right edge of the window the guest was told of.
    edge: Sequence,
    acks_due: u32,
}

impl GuestHalf {
    /// The guest's SYN came; nothing is answered before [`GuestHalf::accept`].
    pub fn from_syn(syn: &Segment, first: Sequence) -> GuestHalf {
        let mut half = GuestHalf::new(Phase::Waiting, first);
        half.take_options(syn);
        half
    }

    /// A connection to the guest: a SYN is to be sent.
    pub fn connect(first: Sequence) -> GuestHalf {
        GuestHalf { our_shift: WINDOW_SHIFT, ..GuestHalf::new(Phase::SynSent, first) }
    }

    fn new(phase: Phase, first: Sequence) -> GuestHalf {
        GuestHalf {
            phase,
            first,
            unacked: first,
            next: first,
            furthest: first,
            outgoing: VecDeque::new(),
            window: 0,
            guest_shift: 0,
            segment_size: DEFAULT_SEGMENT,
            closing: false,
            syn_acked: false,
            fin_acked: false,
            timer: RetransmitTimer::default(),
            congestion: usize::MAX,
            duplicates: 0,
            recover: None,
            repeat_first: false,
            probe: false,
            expected: Sequence::default(),
            incoming: VecDeque::new(),
            reassembly: Reassembly::default(),
            finished: false,
            our_shift: 0,
            edge: Sequence::default(),
            acks_due: 0,
        }
    }

    fn take_options(&mut self, syn: &Segment) {
        self.expected = syn.sequence + 1;
        self.edge = self.expected;
        self.window = syn.window.into();
        let size = syn.segment_size.map_or(DEFAULT_SEGMENT, usize::from);
        self.segment_size = size.max(SMALLEST_SEGMENT);
        // Both or neither (RFC 7323 §2.2).
        self.guest_shift = syn.window_scale.unwrap_or(0).min(14);
        self.our_shift = if syn.window_scale.is_some() { WINDOW_SHIFT } else { 0 };
    }

    /// The host answered the guest's SYN: so will we.
    pub fn accept(&mut self) {
        if self.phase == Phase::Waiting {
            self.phase = Phase::SynReceived;
        }
    }

    /// Whether the guest's SYN still waits for the host.
    pub fn is_waiting(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// The guest can be reached only now: a SYN that got lost is sent at once.
    pub fn hurry(&mut self) {
        if self.phase == Phase::SynSent {
            self.next = self.first;
        }
    }

    /// Whether both have said SYN.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether `syn` begins another connection between the same ends.
    pub fn is_succeeded_by(&self, syn: &Segment) -> bool {
        let began = Sequence(self.expected.0.wrapping_sub(1));
        syn.syn
            && syn.ack.is_none()
            && match self.phase {
                Phase::Waiting | Phase::SynReceived => syn.sequence != began,
                Phase::SynSent => false,
                Phase::Open => self.is_over(),
            }
    }

    /// Whether both have finished and know it of each other.
    pub fn is_over(&self) -> bool {
        self.finished && self.fin_acked
    }

    /// Whether the guest has finished and all it sent was taken: the host is to be told.
    pub fn has_finished(&self) -> bool {
        self.finished && self.incoming.is_empty()
    }

    /// What the guest sent and the host has not taken yet.
    pub fn incoming(&mut self) -> &mut VecDeque<u8> {
        &mut self.incoming
    }

    /// Payload of one segment, as the guest or a standard frame limits it.
    pub fn segment_size(&self) -> usize {
        self.segment_size.min(OUR_SEGMENT.into())
    }

    /// Room for bytes from the host.
    pub fn room(&self) -> usize {
        SEND_BUFFER.saturating_sub(self.outgoing.len())
    }

    /// Bytes from the host; no more than [`GuestHalf::room`].
    pub fn push(&mut self, data: &[u8]) {
        self.outgoing.extend(data);
    }

    /// The host will send no more.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// When the timer goes off.
    pub fn deadline(&self) -> Option<Instant> {
        self.timer.deadline()
    }

    /// The timer went off: says whether to go on.
    pub fn expire(&mut self) -> bool {
        if self.next != self.unacked {
            self.congestion = self.segment_size;
        }
        self.next = self.unacked;
        self.recover = None;
        self.duplicates = 0;
        self.repeat_first = false;
        self.probe = true;
        self.timer.expired()
    }

    /// The timer went off while the line was full: the guest had nothing to answer.
    pub fn postpone(&mut self, now: Instant) {
        self.timer.postpone(now);
    }

    /// A segment came. `sink` takes data that continue the stream and says how many it took.
    pub fn take(&mut self, segment: &Segment, now: Instant, sink: &mut dyn FnMut(&[u8]) -> usize) -> Verdict {
        match self.phase {
            Phase::Waiting => {
                if segment.rst && segment.sequence == self.expected {
                    Verdict::Reset
                } else {
                    Verdict::Goes
                }
            }
            Phase::SynSent => self.take_answer(segment, now),
            Phase::SynReceived | Phase::Open => self.take_in_order(segment, now, sink),
        }
    }

    /// RFC 9293 §3.10.7.3.
    fn take_answer(&mut self, segment: &Segment, now: Instant) -> Verdict {
        match segment.ack {
            Some(ack) if ack != self.first + 1 || self.furthest == self.first => {
                if segment.rst {
                    Verdict::Goes
                } else {
                    Verdict::Stranger(ack)
                }
            }
            Some(_) if segment.rst => Verdict::Reset,
            Some(ack) if segment.syn => {
                self.take_options(segment);
                self.advance(ack, now);
                self.window = segment.window.into();
                self.phase = Phase::Open;
                self.acks_due = 1;
                Verdict::Goes
            }
            _ => Verdict::Goes,
        }
    }

    /// RFC 9293 §3.10.7.4, with RFC 5961's care about RST and SYN.
    fn take_in_order(
        &mut self,
        segment: &Segment,
        now: Instant,
        sink: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Verdict {
        let window_end = self.expected + self.receive_room();
        let in_window = !self.expected.is_after(segment.sequence)
            && (window_end.is_after(segment.sequence) || segment.sequence == self.expected);
        if segment.rst {
            if segment.sequence == self.expected {
                return Verdict::Reset;
            }
            if in_window {
                self.owe_ack();
            }
            return Verdict::Goes;
        }
        if segment.syn {
            if self.phase == Phase::SynReceived && segment.sequence + 1 == self.expected {
                self.next = self.first;
            } else {
                self.acks_due = 1;
            }
            return Verdict::Goes;
        }
        let Some(ack) = segment.ack else { return Verdict::Goes };
        if self.phase == Phase::SynReceived {
            if ack != self.first + 1 || self.next == self.first {
                return Verdict::Stranger(ack);
            }
            self.phase = Phase::Open;
        }
        if ack.is_after(self.furthest) {
            self.acks_due = 1;
            return Verdict::Goes;
        }
        self.take_ack(ack, segment, now);
        let end = segment.sequence + segment.data.len() + usize::from(segment.fin);
        if end == segment.sequence {
            // A bare acknowledgement outside the window asks whether we are still there.
            if !in_window {
                self.owe_ack();
            }
        } else if !end.is_after(self.expected) || !in_window && segment.sequence.is_after(self.expected) {
            self.owe_ack();
        } else {
            self.take_data(segment, window_end, sink);
        }
        Verdict::Goes
    }

    fn take_ack(&mut self, ack: Sequence, segment: &Segment, now: Instant) {
        let window = usize::from(segment.window) << self.guest_shift;
        if ack.is_after(self.unacked) {
            self.advance(ack, now);
        } else if ack == self.unacked {
            self.timer.heard();
            let waits = self.next.is_after(self.unacked);
            let repeats = waits && segment.data.is_empty() && !segment.fin && window == self.window;
            self.duplicates = if repeats { self.duplicates.saturating_add(1) } else { 0 };
            if self.duplicates == 3 && self.recover.is_none() {
                self.recover = Some(self.furthest);
                self.repeat_first = true;
                self.timer.repeated();
            }
        } else {
            return; // Old: its window is old too.
        }
        self.window = window;
    }

    fn advance(&mut self, ack: Sequence, now: Instant) {
        let mut bytes = ack - self.unacked;
        bytes -= usize::from(!std::mem::replace(&mut self.syn_acked, true));
        if bytes > self.outgoing.len() {
            bytes = self.outgoing.len();
            self.fin_acked = true;
        }
        self.outgoing.drain(..bytes);
        self.unacked = ack;
        self.next = self.next.latest(ack);
        self.duplicates = 0;
        self.congestion = self.congestion.saturating_add(bytes);
        self.probe = false;
        if self.recover.is_some_and(|recover| recover.is_after(ack)) {
            self.repeat_first = true;
        } else {
            self.recover = None;
        }
        self.timer.answered(ack, self.next.is_after(ack), now);
    }

    fn take_data(&mut self, segment: &Segment, window_end: Sequence, sink: &mut dyn FnMut(&[u8]) -> usize) {
        let old = (self.expected - segment.sequence).min(segment.data.len());
        let start = segment.sequence + old;
        let data = &segment.data[old..];
        let fits = (window_end - start).min(data.len());
        let (data, whole) = (&data[..fits], fits == data.len());
        if self.finished {
            return self.owe_ack();
        }
        if start.is_after(self.expected) {
            // A gap: keep it, and let this acknowledgement show the gap. A FIN beyond it comes again.
            self.reassembly.keep(start, data);
            return self.owe_ack();
        }
        // One acknowledgement for whatever came in order.
        self.acks_due = 1;
        self.deliver(data, sink);
        if segment.fin && whole {
            self.expected = self.expected + 1;
            self.finished = true;
            return;
        }
        while let Some(piece) = self.reassembly.take(self.expected) {
            self.deliver(&piece, sink);
        }
    }

    fn owe_ack(&mut self) {
        self.acks_due = (self.acks_due + 1).min(MOST_ACKS);
    }

    fn deliver(&mut self, data: &[u8], sink: &mut dyn FnMut(&[u8]) -> usize) {
        let taken = if self.incoming.is_empty() { sink(data).min(data.len()) } else { 0 };
        self.incoming.extend(&data[taken..]);
        self.expected = self.expected + data.len();
    }

    fn receive_room(&self) -> usize {
        RECEIVE_BUFFER.saturating_sub(self.incoming.len()).min(usize::from(u16::MAX) << self.our_shift)
    }

    /// The guest's window moved far enough to be told (RFC 9293 §3.8.6.2.2), as the host took data.
    pub fn update_window(&mut self) {
        let edge = self.expected + self.receive_room();
        let grown = edge - self.edge;
        let widest = RECEIVE_BUFFER.min(usize::from(u16::MAX) << self.our_shift);
        if self.phase == Phase::Open && !self.finished && grown >= widest / 4 {
            self.acks_due = self.acks_due.max(1);
        }
    }

    /// Sends all that is due. `limit` is the most payload one frame may carry; `send` says whether the line
    /// took it. False if the line is full.
    pub fn send(&mut self, limit: usize, now: Instant, send: &mut dyn FnMut(&Reply) -> bool) -> bool {
        match self.phase {
            Phase::Waiting => true,
            Phase::SynSent | Phase::SynReceived => self.send_syn(now, send),
            Phase::Open => self.send_stream(limit, now, send) && self.send_acks(send),
        }
    }

    fn send_syn(&mut self, now: Instant, send: &mut dyn FnMut(&Reply) -> bool) -> bool {
        if self.next != self.first {
            return true;
        }
        let answers = self.phase == Phase::SynReceived;
        let reply = Reply {
            sequence: self.first,
            ack: answers.then_some(self.expected),
            // Never scaled in a SYN.
            window: self.receive_room().min(usize::from(u16::MAX)) as u16,
            syn: true,
            window_scale: (self.our_shift > 0).then_some(self.our_shift),
            ..Reply::default()
        };
        if !send(&reply) {
            return false;
        }
        self.next = self.first + 1;
        self.furthest = self.furthest.latest(self.next);
        self.timer.sent(self.next, now);
        true
    }

    fn send_stream(&mut self, limit: usize, now: Instant, send: &mut dyn FnMut(&Reply) -> bool) -> bool {
        if self.repeat_first {
            let bytes = self.outgoing.len().min(self.segment_size()).min(limit);
            if !self.send_data(self.unacked, 0, bytes, send) {
                return false;
            }
            self.repeat_first = false;
        }
        loop {
            let flying = self.next - self.unacked;
            let unsent = self.outgoing.len().saturating_sub(flying);
            let open = self.window.min(self.congestion).saturating_sub(flying);
            let mut bytes = unsent.min(open).min(limit);
            if bytes == 0 && unsent > 0 && flying == 0 && self.probe {
                bytes = 1; // the window is closed: ask (RFC 9293 §3.8.6.1)
            }
            let fin = self.closing && bytes == unsent && !self.fin_acked && flying <= self.outgoing.len();
            // Not a sliver while more is on its way (RFC 9293 §3.8.6.2.1).
            let sliver = bytes < unsent && bytes < self.segment_size && flying > 0;
            if (bytes == 0 || sliver) && !fin {
                if unsent > 0 && flying == 0 && self.timer.deadline().is_none() {
                    self.timer.sent(self.next, now); // a probe, later
                    self.timer.repeated();
                }
                return true;
            }
            if !self.send_data(self.next, flying, bytes, send) {
                return false;
            }
            self.probe = false;
            self.next = self.next + bytes + usize::from(fin);
            self.timer.sent(self.next, now);
        }
    }

    /// Sends `bytes` bytes from `skip` bytes into the buffer; with FIN if they are the last.
    fn send_data(
        &mut self,
        sequence: Sequence,
        skip: usize,
        bytes: usize,
        send: &mut dyn FnMut(&Reply) -> bool,
    ) -> bool {
        let (front, back) = self.outgoing.as_slices();
        let data = if skip < front.len() {
            let first = bytes.min(front.len() - skip);
            (&front[skip..skip + first], &back[..bytes - first])
        } else {
            let skip = skip - front.len();
            (&back[skip..skip + bytes], &[][..])
        };
        let fin = self.closing && skip + bytes == self.outgoing.len();
        let window = self.window_field();
        let reply = Reply { sequence, ack: Some(self.expected), window, fin, data, ..Reply::default() };
        if !send(&reply) {
            return false;
        }
        self.furthest = self.furthest.latest(sequence + bytes + usize::from(fin));
        self.told();
        true
    }

    fn send_acks(&mut self, send: &mut dyn FnMut(&Reply) -> bool) -> bool {
        while self.acks_due > 0 {
            let sequence = self.furthest;
            let window = self.window_field();
            let reply = Reply { sequence, ack: Some(self.expected), window, ..Reply::default() };
            if !send(&reply) {
                return false;
            }
            let left = self.acks_due - 1;
            self.told();
            self.acks_due = left;
        }
        true
    }

    /// The guest was told what is expected and how much room there is.
    fn told(&mut self) {
        self.edge = self.expected + self.receive_room();
        self.acks_due = 0;
    }

    fn window_field(&self) -> u16 {
        (self.receive_room() >> self.our_shift).min(usize::from(u16::MAX)) as u16
    }

    /// The RST that ends the connection.
    pub fn reset(&self) -> Reply<'static> {
        let answers = self.phase != Phase::SynSent;
        Reply { sequence: self.next, ack: answers.then_some(self.expected), rst: true, ..Reply::default() }
    }
}

#[cfg(test)]
#[path = "guest_tests.rs"]
mod tests;
