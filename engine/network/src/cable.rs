//! A cable with two ends and a bounded queue in each direction.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::link::{Counts, ETHERNET_HEADER, Flow, LONGEST_FRAME, Link, STANDARD_FRAME, VLAN_TAG, Waker};

/// Room of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Most frames.
    pub frames: usize,
    /// Most bytes, but one frame always fits.
    pub bytes: usize,
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity { frames: 256, bytes: 1 << 20 }
    }
}

/// Buffers kept for reuse in each direction.
const SPARE_BUFFERS: usize = 64;

/// A new cable, plugged in; its two ends are alike.
pub fn cable(capacity: Capacity) -> (Arc<End>, Arc<End>) {
    let cable = Arc::new(Cable {
        ways: [Mutex::new(Way::new(capacity)), Mutex::new(Way::new(capacity))],
        wakers: Default::default(),
        longest: [AtomicUsize::new(STANDARD_FRAME), AtomicUsize::new(STANDARD_FRAME)],
        up: AtomicBool::new(true),
        abandoned: AtomicBool::new(false),
    });
    (Arc::new(End { cable: cable.clone(), side: 0 }), Arc::new(End { cable, side: 1 }))
}

/// One end of a cable.
pub struct End {
    cable: Arc<Cable>,
    side: usize,
}

struct Cable {
    /// The queue from side 0 to side 1, and the one back.
    ways: [Mutex<Way>; 2],
    wakers: [Mutex<Option<Waker>>; 2],
    /// The longest frame each side takes.
    longest: [AtomicUsize; 2],
    up: AtomicBool,
    /// One side's end is gone for good.
    abandoned: AtomicBool,
}

/// One direction.
struct Way {
    capacity: Capacity,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    /// An offer was refused; the sender waits for room.
    refused: bool,
    spare: Vec<Vec<u8>>,
    flow: Flow,
}

/// What became of a frame that was handed over.
enum Taken {
    /// It is in the queue, which was empty before.
    First,
    /// It is in the queue, or lost.
    More,
    /// There is no room.
    Refused,
}

impl Way {
    fn new(capacity: Capacity) -> Way {
        Way {
            capacity,
            queue: VecDeque::new(),
            queued_bytes: 0,
            refused: false,
            spare: Vec::new(),
            flow: Flow::default(),
        }
    }

    fn push(&mut self, frame: &[u8]) -> Taken {
        let first = self.queue.is_empty();
        let full =
            self.queue.len() >= self.capacity.frames || self.queued_bytes + frame.len() > self.capacity.bytes;
        if full && !first {
            return Taken::Refused;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(frame);
        self.queued_bytes += frame.len();
        self.queue.push_back(buffer);
        self.flow.frames += 1;
        self.flow.bytes += frame.len() as u64;
        if first { Taken::First } else { Taken::More }
    }

    fn pop(&mut self, frame: &mut Vec<u8>) -> bool {
        let Some(next) = self.queue.pop_front() else { return false };
        self.queued_bytes -= next.len();
        let old = std::mem::replace(frame, next);
        if self.spare.len() < SPARE_BUFFERS && old.capacity() > 0 {
            self.spare.push(old);
        }
        true
    }

    /// Whether a sender that waits should be told of room: not for each frame, but at half.
    fn has_room_again(&mut self) -> bool {
        let room =
            self.queue.len() <= self.capacity.frames / 2 && self.queued_bytes <= self.capacity.bytes / 2;
        room && std::mem::take(&mut self.refused)
    }

    /// Loses everything on its way.
    fn cut(&mut self) {
        self.flow.dropped += self.queue.len() as u64;
        self.queue.clear();
        self.queued_bytes = 0;
        self.refused = false;
    }
}

impl Cable {
    fn wake(&self, side: usize) {
        let waker = self.wakers[side].lock().clone();
        if let Some(waker) = waker {
            waker();
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.cable.abandoned.store(true, Ordering::Relaxed);
        // What this end wanted to be told is of no interest any more, and may hold others.
        self.cable.wakers[self.side].lock().take();
        self.set_up(false);
        self.cable.wake(self.far());
    }
}

impl End {
    /// Whether the far end is gone for good.
    pub fn is_abandoned(&self) -> bool {
        self.cable.abandoned.load(Ordering::Relaxed)
    }

    fn far(&self) -> usize {
        1 - self.side
    }

    fn outgoing(&self) -> &Mutex<Way> {
        &self.cable.ways[self.side]
    }

    fn incoming(&self) -> &Mutex<Way> {
        &self.cable.ways[self.far()]
    }

    fn push(&self, frame: &[u8], when_refused: impl FnOnce(&mut Way)) -> Taken {
        let fits = (ETHERNET_HEADER..=self.longest_frame() + VLAN_TAG).contains(&frame.len());
        let mut way = self.outgoing().lock();
        if !fits || !self.is_up() {
            way.flow.dropped += 1;
            return Taken::More;
        }
        let taken = way.push(frame);
        match taken {
            Taken::First => {
                drop(way);
                self.cable.wake(self.far());
            }
            Taken::More => {}
            Taken::Refused => when_refused(&mut way),
        }
        taken
    }
}

impl Link for End {
    fn offer(&self, frame: &[u8]) -> bool {
        let taken = self.push(frame, |way| way.refused = true);
        !matches!(taken, Taken::Refused)
    }

    fn send(&self, frame: &[u8]) {
        self.push(frame, |way| way.flow.dropped += 1);
    }

    fn receive(&self, frame: &mut Vec<u8>) -> bool {
        let mut way = self.incoming().lock();
        let received = way.pop(frame);
        let room = received && way.has_room_again();
        drop(way);
        if room {
            self.cable.wake(self.far());
        }
        received
    }

    fn has_frame(&self) -> bool {
        !self.incoming().lock().queue.is_empty()
    }

    fn longest_frame(&self) -> usize {
        self.cable.longest[self.far()].load(Ordering::Relaxed)
    }

    fn accept_frames(&self, longest: usize) {
        let longest = longest.clamp(STANDARD_FRAME, LONGEST_FRAME);
        if self.cable.longest[self.side].swap(longest, Ordering::Relaxed) != longest {
            self.cable.wake(self.far());
        }
    }

    fn is_up(&self) -> bool {
        self.cable.up.load(Ordering::Relaxed)
    }

    fn set_up(&self, up: bool) {
        if self.cable.up.swap(up, Ordering::Relaxed) == up {
            return;
        }
        if !up {
            self.cable.ways.iter().for_each(|way| way.lock().cut());
        }
        self.cable.wake(0);
        self.cable.wake(1);
    }

    fn set_waker(&self, waker: Waker) {
        *self.cable.wakers[self.side].lock() = Some(waker);
    }

    fn counts(&self) -> Counts {
        Counts { sent: self.outgoing().lock().flow, received: self.incoming().lock().flow }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Capacity = Capacity { frames: 4, bytes: 10_000 };

    fn frame(number: u8) -> Vec<u8> {
        vec![number; 60 + usize::from(number)]
    }

    fn listen(end: &End) -> Arc<AtomicUsize> {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        end.set_waker(Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        calls
    }

    fn take(end: &End) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        end.receive(&mut frame).then_some(frame)
    }

    #[test]
    fn frames_come_in_order_and_the_first_one_wakes() {
        let (a, b) = cable(SMALL);
        let calls = listen(&b);
        assert!(a.offer(&frame(1)) && a.offer(&frame(2)));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!((take(&b), take(&b), take(&b)), (Some(frame(1)), Some(frame(2)), None));
        a.send(&frame(3));
        assert_eq!(calls.load(Ordering::Relaxed), 2, "the queue had run empty");
        assert_eq!(a.counts().sent, Flow { frames: 3, bytes: 186, dropped: 0 });
        assert_eq!(b.counts().received, a.counts().sent);
    }

    #[test]
    fn a_full_queue_refuses_and_tells_when_there_is_room() {
        let (a, b) = cable(SMALL);
        let calls = listen(&a);
        assert!((0..4).all(|n| a.offer(&frame(n))));
        assert!(!a.offer(&frame(4)));
        a.send(&frame(5));
        assert_eq!(a.counts().sent.dropped, 1, "sent, not offered");
        take(&b);
        assert_eq!(calls.load(Ordering::Relaxed), 0, "not before half is free");
        take(&b);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        take(&b);
        assert_eq!(calls.load(Ordering::Relaxed), 1, "told once");
    }

    #[test]
    fn a_pulled_cable_loses_frames_and_tells_both() {
        let (a, b) = cable(SMALL);
        let (to_a, to_b) = (listen(&a), listen(&b));
        a.send(&frame(1));
        b.set_up(false);
        assert_eq!((to_a.load(Ordering::Relaxed), to_b.load(Ordering::Relaxed)), (1, 2));
        assert!(a.offer(&frame(2)), "taken, and lost");
        assert!(!a.is_up() && take(&b).is_none());
        assert_eq!(a.counts().sent.dropped, 2);
        a.set_up(true);
        a.send(&frame(3));
        assert_eq!(take(&b), Some(frame(3)));
    }

    #[test]
    fn only_lengths_the_far_end_takes_arrive() {
        let (a, b) = cable(Capacity::default());
        for length in [0, 13, STANDARD_FRAME + VLAN_TAG + 1] {
            a.send(&vec![0; length]);
        }
        assert_eq!(a.counts().sent, Flow { frames: 0, bytes: 0, dropped: 3 });
        b.accept_frames(usize::MAX);
        assert_eq!((a.longest_frame(), b.longest_frame()), (LONGEST_FRAME, STANDARD_FRAME));
        a.send(&vec![7; LONGEST_FRAME]);
        assert_eq!(take(&b).map(|frame| frame.len()), Some(LONGEST_FRAME));
    }

    proptest! {
        #[test]
        fn queues_stay_bounded_and_nothing_is_lost_uncounted(
            steps in prop::collection::vec((any::<bool>(), 0usize..3000), 1..300),
        ) {
            let (a, b) = cable(SMALL);
            let (mut handed, mut refused, mut taken) = (0, 0, 0);
            for (sends, length) in steps {
                if sends {
                    handed += 1;
                    refused += u64::from(!a.offer(&vec![0; length]));
                } else {
                    taken += u64::from(take(&b).is_some());
                }
                let way = a.outgoing().lock();
                prop_assert!(way.queue.len() <= SMALL.frames);
                prop_assert!(way.queue.len() == 1 || way.queued_bytes <= SMALL.bytes);
                let queued = way.queue.len() as u64;
                prop_assert_eq!(handed, refused + way.flow.dropped + taken + queued);
            }
        }
    }
}
