//! The console device: one port, a second serial line without a serial port's costs. Virtio 1.2 §5.3.
//!
//! Queue 0 takes empty buffers for input, queue 1 brings output. Features: size. Left out: more ports
//! (MULTIPORT) and the emergency write.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::chain::Violation;
use super::function::{Identity, Io, Kind};

/// Columns and rows are valid, §5.3.3.
const SIZE: u64 = 1 << 0;
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Input that waits for the guest.
const INPUT_MAX_BYTES: usize = 1 << 16;
/// Output is passed on in pieces of this length.
const PIECE_BYTES: usize = 1 << 12;

/// Where output goes.
pub type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// What is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    input: Vec<u8>,
    columns: u16,
    rows: u16,
}

/// The device.
pub struct Console {
    sink: Sink,
    input: VecDeque<u8>,
    columns: u16,
    rows: u16,
}

impl Console {
    /// A console of 80x25 characters whose output goes to `sink`.
    pub fn new(sink: Sink) -> Console {
        Console { sink, input: VecDeque::new(), columns: 80, rows: 25 }
    }

    /// Sends bytes to the guest; gives how many there was room for.
    pub fn send(&mut self, bytes: &[u8], io: &mut Io) -> Result<usize, Violation> {
        let taken = bytes.len().min(INPUT_MAX_BYTES - self.input.len());
        self.input.extend(&bytes[..taken]);
        self.deliver(io)?;
        Ok(taken)
    }

    /// The window around it has another size, in characters.
    pub fn resize(&mut self, columns: u16, rows: u16, io: &mut Io) {
        (self.columns, self.rows) = (columns, rows);
        if io.has(SIZE) {
            io.config_changed();
        }
    }

    fn deliver(&mut self, io: &mut Io) -> Result<(), Violation> {
        while !self.input.is_empty() {
            let Some(chain) = io.take(RECEIVE)? else { return Ok(()) };
            let room = chain.writable.length() as usize;
            if room == 0 {
                return Err(Violation::Request("a buffer for input"));
            }
            let bytes: Vec<u8> = self.input.drain(..room.min(self.input.len())).collect();
            chain.writable.write(io.memory, 0, &bytes);
            io.give_back(RECEIVE, chain.head, bytes.len() as u32);
        }
        Ok(())
    }

    fn transmit(&mut self, io: &mut Io) -> Result<(), Violation> {
        let mut piece = [0; PIECE_BYTES];
        while let Some(chain) = io.take(TRANSMIT)? {
            let mut offset = 0;
            loop {
                let length = chain.readable.read(io.memory, offset, &mut piece);
                if length == 0 {
                    break;
                }
                (self.sink)(&piece[..length]);
                offset += length as u32;
            }
            io.give_back(TRANSMIT, chain.head, 0);
        }
        Ok(())
    }
}

impl Kind for Console {
    const IDENTITY: Identity = Identity { number: 3, class_code: 0x07_8000 };
    type State = State;

    fn features(&self) -> u64 {
        SIZE
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![64, 64]
    }

    /// Columns, rows, number of ports, emergency write: §5.3.4.
    fn config(&self) -> Vec<u8> {
        let [c0, c1] = self.columns.to_le_bytes();
        let [r0, r1] = self.rows.to_le_bytes();
        vec![c0, c1, r0, r1, 1, 0, 0, 0, 0, 0, 0, 0]
    }

    fn notified(&mut self, queue: u16, io: &mut Io) -> Result<(), Violation> {
        if queue == RECEIVE { self.deliver(io) } else { self.transmit(io) }
    }

    fn reset(&mut self) {
        self.input.clear();
    }

    fn state(&self) -> State {
        State { input: self.input.iter().copied().collect(), columns: self.columns, rows: self.rows }
    }

    fn set_state(&mut self, state: State) -> Result<(), &'static str> {
        if state.input.len() > INPUT_MAX_BYTES {
            return Err("more input waits than there is room for");
        }
        self.input = state.input.into();
        (self.columns, self.rows) = (state.columns, state.rows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::super::testing::Rig;
    use super::*;
    use crate::line::{Line, Messages};
    use crate::memory::Memory;
    use crate::virtio::VirtioPci;

    fn console() -> (Console, Arc<Mutex<Vec<u8>>>) {
        let output = Arc::new(Mutex::new(Vec::new()));
        let sink = output.clone();
        (Console::new(Box::new(move |bytes| sink.lock().extend_from_slice(bytes))), output)
    }

    #[test]
    fn output_arrives_whole_and_in_order() {
        let (console, output) = console();
        let mut rig = Rig::start(console, 0);
        let long = vec![b'-'; 5000];
        rig.submit(1, &[b"hello ", b"world"], &[]);
        let head = rig.submit(1, &[&long], &[]);
        assert_eq!(rig.queues[1].used().last(), Some(&(head, 0)));
        assert_eq!(*output.lock(), [&b"hello world"[..], &long].concat());
    }

    #[test]
    fn input_waits_for_buffers_and_has_a_bound() {
        let mut rig = Rig::start(console().0, 0);
        let taken = rig.device.with(|console, io| console.send(b"abcdef", io));
        assert_eq!(taken, Some(6));
        let first = rig.submit(0, &[], &[4]);
        let second = rig.submit(0, &[], &[4]);
        assert_eq!(rig.queues[0].used(), [(first, 4), (second, 2)]);
        assert_eq!(rig.queues[0].written(second)[..2], *b"ef");
        assert_eq!(rig.vectors(), [1, 1]);
        let flood = vec![0; 1 << 17];
        assert_eq!(rig.device.with(|console, io| console.send(&flood, io)), Some(1 << 16));
        assert_eq!(rig.device.with(|console, io| console.send(&flood, io)), Some(0));
    }

    #[test]
    fn a_resize_is_told() {
        let mut rig = Rig::start(console().0, 0);
        let generation = rig.read(21, crate::Width::Byte);
        rig.device.with(|console, io| {
            console.resize(132, 50, io);
            Ok(())
        });
        assert_eq!(rig.config::<4>(0), [132, 0, 50, 0]);
        assert_eq!(rig.vectors(), [0]);
        assert_ne!(rig.read(21, crate::Width::Byte), generation);
    }

    #[test]
    fn contract() {
        crate::contract::check(|| {
            let memory = Memory::new(1 << 20, 0).unwrap();
            VirtioPci::new("console", console().0, memory, Line::unconnected(), Messages::unconnected())
        });
    }
}
