//! A switch between machines: learns who is where, sends frames there, and to all if it does not know.
//!
//! It has no thread: a frame is passed on by whoever sends it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cable::{Capacity, End, cable};
use crate::link::Link;
use crate::mac::Mac;

/// Cards remembered; what is sent to others goes to all.
pub const MAX_LEARNED: usize = 1024;
/// How long a silent card is remembered (IEEE 802.1D, table 7-5).
const MEMORY: Duration = Duration::from_secs(300);

/// A switch. Its ports go away with the ends that were plugged into them.
pub struct Switch {
    this: Weak<Switch>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ports: HashMap<u64, Arc<End>>,
    next_port: u64,
    learned: HashMap<Mac, (u64, Instant)>,
    frame: Vec<u8>,
}

impl Switch {
    /// A switch with nothing plugged in.
    pub fn new() -> Arc<Switch> {
        Arc::new_cyclic(|this| Switch { this: this.clone(), state: Mutex::default() })
    }

    /// Plugs a cable in; gives its other end. The switch lives as long as anything is plugged in.
    pub fn connect(&self) -> Arc<End> {
        let (near, far) = cable(Capacity::default());
        let switch = self.this.upgrade();
        let mut state = self.state.lock();
        let number = state.next_port;
        state.next_port += 1;
        state.ports.insert(number, near.clone());
        drop(state);
        near.set_waker(Arc::new(move || {
            if let Some(switch) = &switch {
                switch.serve(number);
            }
        }));
        far
    }

    /// How many are plugged in.
    pub fn ports(&self) -> usize {
        self.state.lock().ports.len()
    }

    /// Passes on all that waits at a port.
    fn serve(&self, number: u64) {
        let mut state = self.state.lock();
        let Some(port) = state.ports.get(&number).cloned() else { return };
        let mut frame = std::mem::take(&mut state.frame);
        while port.receive(&mut frame) {
            state.pass(number, &frame);
        }
        state.frame = frame;
        if port.is_abandoned() {
            state.ports.remove(&number);
            state.learned.retain(|_, (learned, _)| *learned != number);
        }
    }
}

impl State {
    fn pass(&mut self, from: u64, frame: &[u8]) {
        let (Some(source), Some(destination)) = (Mac::source(frame), Mac::destination(frame)) else { return };
        let now = Instant::now();
        self.learn(source, from, now);
        let known = self.learned.get(&destination);
        let known = known.filter(|(_, seen)| now.saturating_duration_since(*seen) < MEMORY);
        match known {
            Some((port, _)) if *port == from => {}
            Some((port, _)) => {
                if let Some(end) = self.ports.get(port) {
                    end.send(frame);
                }
            }
            None => self.ports.iter().filter(|(port, _)| **port != from).for_each(|(_, end)| end.send(frame)),
        }
    }

    fn learn(&mut self, source: Mac, port: u64, now: Instant) {
        if source.is_group() {
            return;
        }
        if self.learned.len() >= MAX_LEARNED && !self.learned.contains_key(&source) {
            self.learned.retain(|_, (_, seen)| now.saturating_duration_since(*seen) < MEMORY);
            if self.learned.len() >= MAX_LEARNED {
                return;
            }
        }
        self.learned.insert(source, (port, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(from: u8, to: Mac) -> Vec<u8> {
        let mut frame = vec![from; 60];
        frame[..6].copy_from_slice(&to.0);
        frame[6..12].copy_from_slice(&card(from).0);
        frame
    }

    fn card(n: u8) -> Mac {
        Mac([0x52, 0x56, 0, 0, 0, n])
    }

    fn came(end: &End) -> usize {
        let mut frame = Vec::new();
        std::iter::from_fn(|| end.receive(&mut frame).then_some(())).count()
    }

    #[test]
    fn it_learns_who_is_where() {
        let switch = Switch::new();
        let ends: Vec<_> = (0..3).map(|_| switch.connect()).collect();
        ends[0].send(&frame(0, card(1)));
        assert_eq!(ends.iter().map(|end| came(end)).collect::<Vec<_>>(), [0, 1, 1], "unknown: to all");
        ends[1].send(&frame(1, card(0)));
        assert_eq!(ends.iter().map(|end| came(end)).collect::<Vec<_>>(), [1, 0, 0]);
        ends[0].send(&frame(0, card(1)));
        assert_eq!(ends.iter().map(|end| came(end)).collect::<Vec<_>>(), [0, 1, 0]);
        ends[2].send(&frame(2, Mac::BROADCAST));
        assert_eq!(ends.iter().map(|end| came(end)).collect::<Vec<_>>(), [1, 1, 0]);
    }

    #[test]
    fn it_stays_bounded_and_forgets_who_left() {
        let switch = Switch::new();
        let (a, b) = (switch.connect(), switch.connect());
        for n in 0..5000_u32 {
            let mut bytes = frame(0, Mac::BROADCAST);
            bytes[8..12].copy_from_slice(&n.to_le_bytes());
            a.send(&bytes);
        }
        assert_eq!(switch.state.lock().learned.len(), MAX_LEARNED);
        assert!(b.counts().received.dropped > 4000, "a full queue drops, and counts");
        drop(a);
        assert_eq!((switch.ports(), switch.state.lock().learned.len()), (1, 0));
        let held = Arc::downgrade(&switch);
        drop((b, switch));
        assert!(held.upgrade().is_none(), "gone with the last port");
    }
}
