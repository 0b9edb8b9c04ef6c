//! The guest's half against scripted segments.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// What it sent, without the buffers it points into.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sent {
    sequence: u32,
    ack: Option<u32>,
    window: u16,
    flags: (bool, bool, bool),
    data: Vec<u8>,
}

struct Wire {
    half: GuestHalf,
    now: Instant,
    taken: Vec<u8>,
    /// Bytes the host takes of each delivery.
    appetite: usize,
}

const FIRST: u32 = u32::MAX - 10; // everything goes around the circle
const GUEST: u32 = 7000;
const SEGMENT: u16 = 100;

impl Wire {
    fn new(half: GuestHalf) -> Wire {
        Wire { half, now: Instant::now(), taken: Vec::new(), appetite: usize::MAX }
    }

    /// A connection of the guest, accepted and open.
    fn open() -> Wire {
        let syn = Segment {
            sequence: Sequence(GUEST),
            window: 1000,
            syn: true,
            segment_size: Some(SEGMENT),
            ..Segment::default()
        };
        let mut wire = Wire::new(GuestHalf::from_syn(&syn, Sequence(FIRST)));
        assert_eq!(wire.send(), [], "nothing before the host has answered");
        wire.half.accept();
        let answer = wire.send();
        assert_eq!((answer[0].flags, answer[0].ack), ((true, false, false), Some(GUEST + 1)));
        wire.take(1, 1, b"");
        assert!(wire.half.is_open());
        wire
    }

    fn send(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        let limit = self.half.segment_size();
        assert!(self.half.send(limit, self.now, &mut |reply| {
            sent.push(Sent {
                sequence: reply.sequence.0.wrapping_sub(FIRST),
                ack: reply.ack.map(|ack| ack.0),
                window: reply.window,
                flags: (reply.syn, reply.fin, reply.rst),
                data: [reply.data.0, reply.data.1].concat(),
            });
            true
        }));
        sent
    }

    /// A segment `sequence` bytes after the guest's SYN, acknowledging `ack` bytes after ours.
    fn put(&mut self, sequence: u32, ack: u32, data: &[u8], change: impl FnOnce(&mut Segment)) -> Verdict {
        let mut segment = Segment {
            sequence: Sequence(GUEST + sequence),
            ack: Some(Sequence(FIRST.wrapping_add(ack))),
            window: 1000,
            data,
            ..Segment::default()
        };
        change(&mut segment);
        let (taken, appetite) = (&mut self.taken, self.appetite);
        self.half.take(&segment, self.now, &mut |data| {
            let count = data.len().min(appetite);
            taken.extend_from_slice(&data[..count]);
            count
        })
    }

    fn segment(&mut self, sequence: u32, ack: u32, change: impl FnOnce(&mut Segment)) -> Verdict {
        self.put(sequence, ack, b"", change)
    }

    fn take(&mut self, sequence: u32, ack: u32, data: &[u8]) -> Verdict {
        self.put(sequence, ack, data, |_| {})
    }
}

#[test]
fn data_flow_within_the_guests_window() {
    let mut wire = Wire::open();
    wire.half.push(&[5; 1250]);
    let sent = wire.send();
    assert_eq!(sent.iter().map(|sent| sent.data.len()).sum::<usize>(), 1000, "its window");
    assert_eq!(sent.iter().map(|sent| sent.sequence).collect::<Vec<_>>()[..2], [1, 101]);
    assert_eq!(wire.send(), []);
    wire.take(1, 501, b"");
    assert_eq!(wire.send().len(), 3, "the rest fits now");
    wire.half.close();
    wire.take(1, 1251, b"");
    let fin = wire.send();
    assert_eq!((fin[0].flags.1, fin[0].sequence), (true, 1251));
    wire.segment(1, 1252, |segment| segment.fin = true);
    assert!(wire.half.is_over());
    assert_eq!(wire.send()[0].ack, Some(GUEST + 2));
}

#[test]
fn a_lost_segment_is_sent_again_by_timer_and_by_duplicates() {
    let mut wire = Wire::open();
    wire.half.push(&[5; 500]);
    wire.send();
    for _ in 0..3 {
        wire.take(1, 101, b"");
    }
    let again = wire.send();
    assert_eq!(again, [], "the first acknowledgement is no duplicate");
    wire.take(1, 101, b"");
    let again = wire.send();
    assert_eq!((again.len(), again[0].sequence, again[0].data.len()), (1, 101, 100));
    wire.take(1, 301, b"");
    assert_eq!(wire.send()[0].sequence, 301, "the next hole shows at once");
    wire.now += Duration::from_secs(2);
    assert!(wire.half.deadline().is_some_and(|deadline| deadline <= wire.now) && wire.half.expire());
    let again = wire.send();
    assert_eq!(again.iter().map(|sent| sent.sequence).collect::<Vec<_>>(), [301], "slowly at first");
    wire.take(1, 401, b"");
    assert_eq!(wire.send()[0].sequence, 401);
}

#[test]
fn a_closed_window_is_asked_again() {
    let mut wire = Wire::open();
    wire.segment(1, 1, |segment| segment.window = 0);
    wire.half.push(&[1, 2, 3]);
    assert_eq!(wire.send(), []);
    let deadline = wire.half.deadline().expect("a probe is due some time");
    for _ in 0..40 {
        wire.now = wire.half.deadline().expect("again and again").max(deadline);
        assert!(wire.half.expire(), "as long as the guest answers");
        let probe = wire.send();
        assert_eq!((probe.len(), &probe[0].data[..]), (1, &[1][..]));
        wire.segment(1, 1, |segment| segment.window = 0);
    }
    wire.take(1, 2, b"");
    assert_eq!(wire.send()[0].data, [2, 3]);
}

#[test]
fn what_the_host_does_not_take_closes_the_window() {
    let mut wire = Wire::open();
    wire.appetite = 0;
    while wire.half.receive_room() > 0 {
        let length = wire.half.receive_room().min(50_000);
        let at = wire.half.incoming().len() as u32 + 1;
        wire.take(at, 1, &vec![7; length]);
    }
    assert_eq!(wire.half.incoming().len(), RECEIVE_BUFFER);
    assert_eq!(wire.send().last().map(|sent| sent.window), Some(0));
    wire.half.incoming().clear();
    wire.half.update_window();
    assert_eq!(wire.send().last().map(|sent| sent.window), Some(u16::MAX));
}

#[test]
fn resets_count_only_where_they_belong() {
    let mut wire = Wire::open();
    assert_eq!(wire.segment(500, 1, |segment| segment.rst = true), Verdict::Goes, "in the window");
    assert_eq!(wire.send().len(), 1, "challenged");
    assert_eq!(wire.segment(90_000, 1, |segment| segment.rst = true), Verdict::Goes);
    assert_eq!(wire.send(), []);
    wire.segment(1, 1, |segment| segment.syn = true);
    assert_eq!(wire.send().len(), 1, "a SYN is challenged too");
    assert_eq!(wire.segment(1, 1, |segment| segment.rst = true), Verdict::Reset);
}

#[test]
fn a_connection_to_the_guest() {
    let mut wire = Wire::new(GuestHalf::connect(Sequence(FIRST)));
    let syn = wire.send();
    assert_eq!((syn[0].flags, syn[0].ack), ((true, false, false), None));
    let wrong = wire.segment(0, 9, |segment| segment.syn = true);
    assert_eq!(wrong, Verdict::Stranger(Sequence(FIRST.wrapping_add(9))));
    wire.segment(0, 1, |segment| segment.syn = true);
    assert!(wire.half.is_open());
    assert_eq!(wire.send()[0].ack, Some(GUEST + 1));
    let mut refused = Wire::new(GuestHalf::connect(Sequence(FIRST)));
    refused.send();
    assert_eq!(refused.segment(0, 1, |segment| segment.rst = true), Verdict::Reset);
}

proptest! {
    /// Segments of a stream in any order, any number of times, give the stream.
    #[test]
    fn any_order_of_segments_gives_the_stream(order in prop::collection::vec(0u32..20, 0..200)) {
        let mut wire = Wire::open();
        let stream: Vec<u8> = (0..200).collect();
        for part in order.into_iter().chain(0..20) {
            let at = part as usize * 10;
            wire.take(1 + part * 10, 1, &stream[at..at + 10]);
            wire.send();
        }
        prop_assert_eq!(wire.taken, stream);
    }

    /// Nothing a guest sends breaks it.
    #[test]
    fn any_segments_do_no_harm(
        segments in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u16>(), 0u8..8, 0usize..300, 0u8..4), 0..200),
    ) {
        let mut wire = Wire::open();
        for (sequence, ack, window, flags, length, near) in segments {
            wire.half.push(&[0; 50][..wire.half.room().min(50)]);
            let sequence = if near & 1 == 0 { sequence } else { 1 + sequence % 2000 };
            let ack = if near & 2 == 0 { ack } else { ack % 2000 };
            let data = vec![0; length];
            let (mut taken, now) = (0, wire.now);
            let segment = Segment {
                sequence: Sequence(GUEST.wrapping_add(sequence)),
                ack: (flags != 7).then_some(Sequence(FIRST.wrapping_add(ack))),
                window,
                syn: flags & 1 != 0,
                fin: flags & 2 != 0,
                rst: flags & 4 != 0,
                data: &data,
                ..Segment::default()
            };
            wire.half.take(&segment, now, &mut |data| { taken += data.len(); data.len() / 2 });
            wire.send();
            if wire.half.deadline().is_some() && flags == 0 {
                wire.half.expire();
            }
            prop_assert!(wire.half.incoming().len() <= RECEIVE_BUFFER);
            prop_assert!(wire.half.outgoing.len() <= SEND_BUFFER);
        }
    }
}
