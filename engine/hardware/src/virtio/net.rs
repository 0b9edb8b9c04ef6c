//! The network card. Virtio 1.2 §5.1.
//!
//! Queue 0 takes buffers for frames, queue 1 brings frames. Features: address, link status, mergeable receive buffers,
//! checksums and TCP segmentation in both directions. Left out: the control queue (the card takes every frame
//! the cable brings), more queue pairs, UDP fragmentation, hash reports.

mod segment;

use std::collections::VecDeque;
use std::sync::Arc;

use network::link::{ETHERNET_HEADER, LONGEST_FRAME, STANDARD_FRAME};
use network::{Link, Mac};

use super::chain::{Chain, Violation};
use super::function::{Identity, Io, Kind};
use crate::alarm::Alarm;
use crate::clock::Clock;
use segment::Offload;

/// Feature bits, §5.1.3.
mod feature {
    pub const CHECKSUM: u64 = 1 << 0;
    pub const GUEST_CHECKSUM: u64 = 1 << 1;
    pub const ADDRESS: u64 = 1 << 5;
    pub const GUEST_SEGMENTS_IPV4: u64 = 1 << 7;
    pub const GUEST_SEGMENTS_IPV6: u64 = 1 << 8;
    pub const SEGMENTS_IPV4: u64 = 1 << 11;
    pub const SEGMENTS_IPV6: u64 = 1 << 12;
    pub const MERGE: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
}

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const QUEUE_SIZE: u16 = 256;
/// Before each frame, §5.1.6.
pub(super) const HEADER_BYTES: usize = 12;
/// Where the header counts the buffers of a frame.
const BUFFER_COUNT: u32 = 10;
/// Its checksum is known to be right.
const CHECKED: u8 = 2;
/// Frames taken from the cable before the guest goes on; the rest follows at once.
const FRAMES_AT_ONCE: usize = 256;

/// The device.
pub struct Net {
    link: Arc<dyn Link>,
    mac: Mac,
    clock: Clock,
    alarm: Alarm,
    up: bool,
    /// The longest frame the cable was told that this end takes.
    accepts: usize,
    /// A frame that waits for buffers; empty if none does.
    incoming: Vec<u8>,
    /// Frames that wait for room on the cable: those of one packet.
    outgoing: VecDeque<Vec<u8>>,
}

impl Net {
    /// A card with the address `mac`, at the end of `link`. `alarm` must lead to the device's `advance`.
    pub fn new(mac: Mac, link: Arc<dyn Link>, clock: Clock, alarm: Alarm) -> Net {
        let (caller, time) = (alarm.clone(), clock.clone());
        // While guest time stands still nothing is due, so nothing is received.
        link.set_waker(Arc::new(move || caller.set(Some(time.now() + 1))));
        let (up, accepts) = (link.is_up(), STANDARD_FRAME);
        let (incoming, outgoing) = (Vec::new(), VecDeque::new());
        Net { link, mac, clock, alarm, up, accepts, incoming, outgoing }
    }

    fn again(&self) {
        self.alarm.set(Some(self.clock.now() + 1));
    }

    /// Frames from the cable go to the guest, as many as it has buffers for.
    fn receive(&mut self, io: &mut Io) -> Result<(), Violation> {
        let segments = io.has(feature::GUEST_SEGMENTS_IPV4) && io.has(feature::GUEST_SEGMENTS_IPV6);
        let accepts = if segments { LONGEST_FRAME } else { STANDARD_FRAME };
        if io.is_live() && std::mem::replace(&mut self.accepts, accepts) != accepts {
            self.link.accept_frames(accepts);
        }
        for _ in 0..FRAMES_AT_ONCE {
            if !io.is_live() || self.incoming.is_empty() && !self.link.receive(&mut self.incoming) {
                return Ok(());
            }
            let Some(buffers) = self.buffers(io)? else { return Ok(()) };
            if !buffers.is_empty() {
                self.hand_over(&buffers, io);
            }
            self.incoming.clear();
        }
        self.again();
        Ok(())
    }

    /// Buffers for the frame that came in: none yet, or an empty list if it fits into none.
    fn buffers(&mut self, io: &mut Io) -> Result<Option<Vec<Chain>>, Violation> {
        let needed = HEADER_BYTES + self.incoming.len();
        let (mut buffers, mut room) = (Vec::new(), 0);
        while room < needed {
            let Some(chain) = io.take(RECEIVE)? else {
                io.put_back(RECEIVE, buffers.len() as u16);
                let hopeless = buffers.len() == usize::from(QUEUE_SIZE);
                return Ok(hopeless.then(Vec::new));
            };
            if (chain.writable.length() as usize) < HEADER_BYTES {
                return Err(Violation::Request("room for a header"));
            }
            room += chain.writable.length() as usize;
            buffers.push(chain);
            if room < needed && !io.has(feature::MERGE) {
                io.put_back(RECEIVE, 1);
                return Ok(Some(Vec::new()));
            }
        }
        Ok(Some(buffers))
    }

    fn hand_over(&mut self, buffers: &[Chain], io: &mut Io) {
        let mut bytes = segment::receive_header(&self.incoming, io.has(feature::GUEST_CHECKSUM)).to_vec();
        bytes[BUFFER_COUNT as usize..].copy_from_slice(&(buffers.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&self.incoming);
        let mut done = 0;
        for chain in buffers {
            let written = chain.writable.write(io.memory, 0, &bytes[done..]);
            io.give_back(RECEIVE, chain.head, written as u32);
            done += written;
        }
    }

    /// Frames of the guest go to the cable, as many as it takes.
    fn transmit(&mut self, io: &mut Io) -> Result<(), Violation> {
        loop {
            while let Some(frame) = self.outgoing.front() {
                if !self.link.offer(frame) {
                    return Ok(()); // the waker tells when to go on
                }
                self.outgoing.pop_front();
            }
            let Some(chain) = io.take(TRANSMIT)? else { return Ok(()) };
            let length = chain.readable.length() as usize;
            if !(HEADER_BYTES..=HEADER_BYTES + LONGEST_FRAME).contains(&length) {
                return Err(Violation::Request("a frame of a possible length"));
            }
            let mut bytes = vec![0; length];
            chain.readable.read(io.memory, 0, &mut bytes);
            io.give_back(TRANSMIT, chain.head, 0);
            let frame = bytes.split_off(HEADER_BYTES);
            if frame.len() >= ETHERNET_HEADER {
                let offload = Offload::parse(&bytes);
                self.outgoing = segment::frames(frame, &offload, self.link.longest_frame());
            }
        }
    }

    fn look_at_cable(&mut self, io: &mut Io) {
        let up = self.link.is_up();
        if std::mem::replace(&mut self.up, up) != up && io.has(feature::STATUS) {
            io.config_changed();
        }
    }
}

impl Kind for Net {
    const IDENTITY: Identity = Identity { number: 1, class_code: 0x02_0000 };
    type State = ();

    fn features(&self) -> u64 {
        use feature::*;
        let sent = CHECKSUM | SEGMENTS_IPV4 | SEGMENTS_IPV6;
        let received = GUEST_CHECKSUM | GUEST_SEGMENTS_IPV4 | GUEST_SEGMENTS_IPV6 | MERGE;
        ADDRESS | STATUS | sent | received
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2]
    }

    /// Address, and whether the cable is plugged in: §5.1.4.
    fn config(&self) -> Vec<u8> {
        let mut config = self.mac.0.to_vec();
        config.extend([u8::from(self.up), 0]);
        config
    }

    fn notified(&mut self, queue: u16, io: &mut Io) -> Result<(), Violation> {
        if queue == RECEIVE { self.receive(io) } else { self.transmit(io) }
    }

    fn advance(&mut self, io: &mut Io) -> Result<(), Violation> {
        self.look_at_cable(io);
        self.transmit(io)?;
        self.receive(io)
    }

    /// What was on its way is lost, as on any cable.
    fn reset(&mut self) {
        self.up = self.link.is_up();
        self.incoming.clear();
        self.outgoing.clear();
        if std::mem::replace(&mut self.accepts, STANDARD_FRAME) != STANDARD_FRAME {
            self.link.accept_frames(STANDARD_FRAME);
        }
    }

    fn state(&self) {}

    fn set_state(&mut self, (): ()) -> Result<(), &'static str> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "net/tests.rs"]
mod tests;
