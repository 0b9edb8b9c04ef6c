//! A line that is slow, far away or bad: latency, jitter, loss and bandwidth, changed while in use.
//!
//! What is lost and how much each frame is late is drawn from a generator with a seed, so that the same
//! frames meet the same fate. Frames keep their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use crate::link::{Counts, Link, Waker};

/// What a line is like, in both directions. By default it is perfect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conditions {
    /// How late each frame is.
    pub latency_us: u32,
    /// How much later it may be, evenly drawn.
    pub jitter_us: u32,
    /// How many of a million frames are lost.
    pub lost_per_million: u32,
    /// How many bits pass in a second; 0 means as many as come.
    pub bits_per_second: u64,
}

/// Frames and bytes on their way in each direction, at most.
const MOST_FRAMES: usize = 1024;
const MOST_BYTES: usize = 4 << 20;

/// The way out, from the card, and the way in.
const OUT: usize = 0;
const IN: usize = 1;

/// A link with conditions.
pub struct Shaper {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Arc<dyn Link>,
    state: Mutex<State>,
    /// The thread has something to do.
    bell: Condvar,
    waker: Mutex<Option<Waker>>,
}

struct State {
    conditions: Conditions,
    ways: [Way; 2],
    /// The thread runs: since the line was first anything but perfect.
    threaded: bool,
    rung: bool,
    closed: bool,
}

struct Way {
    queue: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When the line has put the last frame on its way.
    free_at: Option<Instant>,
    random: u64,
    lost: u64,
    refused: bool,
}

impl Conditions {
    /// Whether frames pass untouched.
    pub fn is_perfect(&self) -> bool {
        *self == Conditions::default()
    }
}

impl Way {
    fn new(seed: u64) -> Way {
        Way {
            queue: VecDeque::new(),
            bytes: 0,
            free_at: None,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            lost: 0,
            refused: false,
        }
    }

    /// xorshift64*, by Vigna: below `end`.
    fn draw(&mut self, end: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % end.max(1)
    }

    fn has_room(&self) -> bool {
        self.queue.len() < MOST_FRAMES && self.bytes < MOST_BYTES
    }

    fn push(&mut self, frame: &[u8], conditions: &Conditions, now: Instant) {
        let fate = self.draw(1_000_000);
        let late = self.draw(u64::from(conditions.jitter_us) + 1);
        let begins = self.free_at.map_or(now, |free| free.max(now));
        let bits = frame.len() as u64 * 8;
        let ns = bits.saturating_mul(1_000_000_000).checked_div(conditions.bits_per_second).unwrap_or(0);
        let sent = begins + Duration::from_nanos(ns);
        self.free_at = Some(sent);
        if fate < u64::from(conditions.lost_per_million) {
            self.lost += 1;
            return;
        }
        let due = sent + Duration::from_micros(u64::from(conditions.latency_us) + late);
        let due = self.queue.back().map_or(due, |(before, _)| due.max(*before));
        self.bytes += frame.len();
        self.queue.push_back((due, frame.to_vec()));
    }

    fn due(&self) -> Option<Instant> {
        self.queue.front().map(|(due, _)| *due)
    }

    fn pop(&mut self) {
        if let Some((_, frame)) = self.queue.pop_front() {
            self.bytes -= frame.len();
        }
    }
}

impl State {
    /// Whether frames of this way pass by the queue.
    fn is_open(&self, way: usize) -> bool {
        self.conditions.is_perfect() && self.ways[way].queue.is_empty()
    }
}

impl Shaper {
    /// A link like `inner`, perfect until it is told otherwise.
    pub fn new(inner: Arc<dyn Link>, seed: u64) -> Shaper {
        let shared = Arc::new(Shared {
            inner: inner.clone(),
            state: Mutex::new(State {
                conditions: Conditions::default(),
                ways: [Way::new(seed), Way::new(!seed)],
                threaded: false,
                rung: false,
                closed: false,
            }),
            bell: Condvar::new(),
            waker: Mutex::default(),
        });
        let listener = Arc::downgrade(&shared);
        inner.set_waker(Arc::new(move || {
            if let Some(shared) = listener.upgrade() {
                shared.woken();
            }
        }));
        Shaper { shared }
    }

    /// What the line is like now.
    pub fn conditions(&self) -> Conditions {
        self.shared.state.lock().conditions
    }

    /// Changes what the line is like. What is on its way stays so.
    pub fn set_conditions(&self, conditions: Conditions) {
        let mut state = self.shared.state.lock();
        state.conditions = conditions;
        if !state.threaded && !conditions.is_perfect() {
            state.threaded = true;
            let shared = self.shared.clone();
            let body = move || shared.carry();
            thread::Builder::new().name("line".into()).spawn(body).expect("the host has room for a thread");
        }
        drop(state);
        self.shared.ring();
        self.shared.wake();
    }
}

impl Drop for Shaper {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.ring();
    }
}

impl Shared {
    fn wake(&self) {
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker();
        }
    }

    fn ring(&self) {
        self.state.lock().rung = true;
        self.bell.notify_one();
    }

    /// The inner link has something to say.
    fn woken(&self) {
        if self.state.lock().threaded {
            self.ring();
        }
        self.wake();
    }

    /// The thread: moves frames when they are due.
    fn carry(&self) {
        let mut frame = Vec::new();
        loop {
            let now = Instant::now();
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            state.rung = false;
            if !state.is_open(IN) {
                let conditions = state.conditions;
                while state.ways[IN].has_room() && self.inner.receive(&mut frame) {
                    state.ways[IN].push(&frame, &conditions, now);
                }
            }
            let mut blocked = false;
            while !blocked && state.ways[OUT].due().is_some_and(|due| due <= now) {
                blocked = !self.inner.offer(&state.ways[OUT].queue[0].1);
                if !blocked {
                    state.ways[OUT].pop();
                }
            }
            let room = state.ways[OUT].refused && state.ways[OUT].queue.len() < MOST_FRAMES / 2;
            state.ways[OUT].refused &= !room;
            let came = state.ways[IN].due().is_some_and(|due| due <= now);
            let waits = [state.ways[OUT].due().filter(|_| !blocked), state.ways[IN].due().filter(|_| !came)];
            let next = waits.into_iter().flatten().min();
            if room || came {
                drop(state);
                self.wake();
                state = self.state.lock();
            }
            if state.rung || state.closed {
                continue;
            }
            match next {
                Some(due) => drop(self.bell.wait_until(&mut state, due)),
                None => self.bell.wait(&mut state),
            }
        }
    }
}

impl Link for Shaper {
    fn offer(&self, frame: &[u8]) -> bool {
        let mut state = self.shared.state.lock();
        if state.is_open(OUT) {
            drop(state);
            return self.shared.inner.offer(frame);
        }
        let conditions = state.conditions;
        let way = &mut state.ways[OUT];
        if !way.has_room() {
            way.refused = true;
            return false;
        }
        way.push(frame, &conditions, Instant::now());
        drop(state);
        self.shared.ring();
        true
    }

    fn send(&self, frame: &[u8]) {
        if self.shared.state.lock().is_open(OUT) {
            self.shared.inner.send(frame);
        } else if !self.offer(frame) {
            self.shared.state.lock().ways[OUT].lost += 1;
        }
    }

    fn receive(&self, frame: &mut Vec<u8>) -> bool {
        let mut state = self.shared.state.lock();
        if state.is_open(IN) {
            drop(state);
            return self.shared.inner.receive(frame);
        }
        let now = Instant::now();
        let received = state.ways[IN].due().is_some_and(|due| due <= now);
        if received {
            frame.clone_from(&state.ways[IN].queue[0].1);
            state.ways[IN].pop();
        }
        drop(state);
        // There is room for another one, and the thread tells when the next is due.
        self.shared.ring();
        received
    }

    fn has_frame(&self) -> bool {
        let state = self.shared.state.lock();
        match state.ways[IN].due() {
            Some(due) => due <= Instant::now(),
            None => state.conditions.is_perfect() && self.shared.inner.has_frame(),
        }
    }

    fn longest_frame(&self) -> usize {
        self.shared.inner.longest_frame()
    }

    fn accept_frames(&self, longest: usize) {
        self.shared.inner.accept_frames(longest);
    }

    fn is_up(&self) -> bool {
        self.shared.inner.is_up()
    }

    fn set_up(&self, up: bool) {
        self.shared.inner.set_up(up);
    }

    fn set_waker(&self, waker: Waker) {
        *self.shared.waker.lock() = Some(waker);
    }

    fn counts(&self) -> Counts {
        let mut counts = self.shared.inner.counts();
        let state = self.shared.state.lock();
        counts.sent.dropped += state.ways[OUT].lost;
        counts.received.dropped += state.ways[IN].lost;
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cable::{Capacity, End, cable};

    fn line(seed: u64, conditions: Conditions) -> (Shaper, Arc<End>) {
        let (near, far) = cable(Capacity { frames: 4096, bytes: 8 << 20 });
        let shaper = Shaper::new(near, seed);
        shaper.set_conditions(conditions);
        (shaper, far)
    }

    fn numbered(n: u16) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[..2].copy_from_slice(&n.to_le_bytes());
        frame
    }

    /// What comes of `count` frames, until nothing has come for a while.
    fn arrivals(link: &dyn Link, count: usize) -> Vec<u16> {
        let (mut numbers, mut frame) = (Vec::new(), Vec::new());
        let mut last = Instant::now();
        while numbers.len() < count && last.elapsed() < Duration::from_secs(1) {
            if link.receive(&mut frame) {
                numbers.push(u16::from_le_bytes([frame[0], frame[1]]));
                last = Instant::now();
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
        numbers
    }

    #[test]
    fn the_same_seed_loses_the_same_frames() {
        let lossy = Conditions { lost_per_million: 300_000, ..Conditions::default() };
        let run = |seed| {
            let (line, far) = line(seed, lossy);
            (0..400).for_each(|n| assert!(line.offer(&numbered(n))));
            (arrivals(&*far, 400), line.counts().sent.dropped)
        };
        let (first, lost) = run(7);
        assert!((60..180).contains(&lost), "{lost} of 400");
        assert_eq!(first.len() as u64 + lost, 400);
        assert_eq!(run(7), (first.clone(), lost));
        assert_ne!(run(8).0, first);
    }

    #[test]
    fn frames_are_late_and_in_order() {
        let far_away = Conditions { latency_us: 30_000, jitter_us: 20_000, ..Conditions::default() };
        let (line, far) = line(1, far_away);
        let begun = Instant::now();
        (0..20).for_each(|n| far.send(&numbered(n)));
        assert_eq!(arrivals(&line, 20), (0..20).collect::<Vec<_>>());
        assert!(begun.elapsed() >= Duration::from_millis(30), "never early");
        // What waits is not lost when the line becomes perfect.
        line.offer(&numbered(1));
        line.set_conditions(Conditions::default());
        line.offer(&numbered(2));
        assert_eq!(arrivals(&*far, 2), [1, 2]);
    }

    #[test]
    fn a_narrow_line_takes_its_time_and_holds_the_sender_back() {
        let narrow = Conditions { bits_per_second: 4_800_000, ..Conditions::default() };
        let (line, far) = line(1, narrow);
        let begun = Instant::now();
        let taken = (0..3000).take_while(|n| line.offer(&numbered(*n))).count();
        assert!(taken < 3000, "its queue is bounded");
        // 60 bytes take 100 µs each.
        assert_eq!(arrivals(&*far, 500).len(), 500);
        assert!(begun.elapsed() >= Duration::from_millis(49));
    }
}
