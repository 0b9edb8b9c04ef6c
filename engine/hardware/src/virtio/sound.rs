//! The sound device. Virtio 1.2 §5.14.
//!
//! Queue 0 takes control requests, queue 1 events (there are none), queue 2 brings samples, queue 3 takes buffers for
//! samples. Stream 0 is heard, stream 1 records silence; one jack and one channel map each. Samples are played at
//! guest time: a buffer is given back when its last sample has sounded, and is left in its queue until then, so that
//! nothing of it is in the device. Left out: jack remapping, controls, shared memory, messages polling.

mod request;
mod stream;

use display::sound::Source;
use serde::{Deserialize, Serialize};

use super::chain::{Chain, Violation};
use super::function::{Identity, Io, Kind};
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::sound::PERIOD_NS;
use stream::Stream;

const CONTROL: u16 = 0;
const EVENTS: u16 = 1;
const TRANSMIT: u16 = 2;
const RECEIVE: u16 = 3;
const QUEUE_SIZE: u16 = 64;

/// Status of a request or of a buffer, §5.14.6.
mod status {
    pub const OK: u32 = 0x8000;
    pub const BAD_MESSAGE: u32 = 0x8001;
    pub const NOT_SUPPORTED: u32 = 0x8002;
    pub const IO_ERROR: u32 = 0x8003;
}

/// Which way a stream goes, §5.14.6.6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Output,
    Input,
}

/// The streams by their number.
const DIRECTIONS: [Direction; 2] = [Direction::Output, Direction::Input];

/// The device.
pub struct Sound {
    streams: [Stream; 2],
    source: Source,
    clock: Clock,
    alarm: Alarm,
}

/// What is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    streams: [Stream; 2],
}

impl Sound {
    /// A device heard through `source`. `alarm` must lead to the device's `advance`.
    pub fn new(source: Source, clock: Clock, alarm: Alarm) -> Sound {
        Sound { streams: Default::default(), source, clock, alarm }
    }

    /// Answers everything in the control queue.
    fn control(&mut self, io: &mut Io) -> Result<(), Violation> {
        while let Some(chain) = io.take(CONTROL)? {
            let mut bytes = [0; request::LONGEST_BYTES];
            let length = chain.readable.read(io.memory, 0, &mut bytes);
            let answer = self.answer(&bytes[..length], io)?;
            let written = chain.writable.write(io.memory, 0, &answer);
            if written < 4 {
                return Err(Violation::Request("room for a status"));
            }
            io.give_back(CONTROL, chain.head, written as u32);
        }
        Ok(())
    }

    fn answer(&mut self, bytes: &[u8], io: &mut Io) -> Result<Vec<u8>, Violation> {
        let code = match request::information(bytes) {
            Some(answer) => return Ok(answer),
            None => request::word(bytes, 0),
        };
        let stream = request::word(bytes, 4).and_then(|n| usize::try_from(n).ok());
        let told = match (code, stream) {
            (Some(code), Some(n)) if n < self.streams.len() => match code {
                request::SET_PARAMETERS => self.streams[n].set_parameters(bytes),
                request::PREPARE => self.streams[n].prepare(),
                request::START => self.streams[n].start(self.clock.now()),
                request::STOP => self.streams[n].stop(),
                request::RELEASE => {
                    let told = self.streams[n].release();
                    if told == status::OK {
                        self.give_all_back(n, io)?;
                    }
                    told
                }
                _ => status::NOT_SUPPORTED,
            },
            (Some(_), _) => status::BAD_MESSAGE,
            (None, _) => return Err(Violation::Request("its header")),
        };
        Ok(told.to_le_bytes().to_vec())
    }

    /// A released stream has no buffers, §5.14.6.6.5.
    fn give_all_back(&mut self, n: usize, io: &mut Io) -> Result<(), Violation> {
        let queue = queue_of(DIRECTIONS[n]);
        while let Some(chain) = io.take(queue)? {
            let samples = chain.writable.length().saturating_sub(STATUS_BYTES);
            finish(&chain, samples, status::OK, io);
            io.give_back(queue, chain.head, STATUS_BYTES);
        }
        Ok(())
    }

    /// Plays and records what is due.
    fn run(&mut self, io: &mut Io) -> Result<(), Violation> {
        let now = self.clock.now();
        for (n, direction) in DIRECTIONS.into_iter().enumerate() {
            self.run_stream(n, direction, io)?;
            self.streams[n].skip_to(now);
        }
        let running = self.streams.iter().filter(|stream| stream.is_running());
        let next = running
            .map(|stream| stream.end_ns().map_or(now + PERIOD_NS, |end| end.clamp(now + 1, now + PERIOD_NS)));
        self.alarm.set(next.min().filter(|_| io.is_live()));
        Ok(())
    }

    /// Goes through the buffers of a stream up to what is due now.
    fn run_stream(&mut self, n: usize, direction: Direction, io: &mut Io) -> Result<(), Violation> {
        let (now, queue) = (self.clock.now(), queue_of(direction));
        let stream = &mut self.streams[n];
        while let Some(chain) = io.take(queue)? {
            let length = samples_of(&chain, direction)?;
            if request_stream(&chain, io) != Some(n as u32) || !stream.takes_buffers() {
                finish(&chain, chain.writable.length() - STATUS_BYTES, status::IO_ERROR, io);
                io.give_back(queue, chain.head, STATUS_BYTES);
                continue;
            }
            let bytes = stream.due_bytes(now).min(u64::from(length.saturating_sub(stream.offset()))) as u32;
            if bytes > 0 {
                let begin = stream.next_ns();
                match direction {
                    Direction::Output => {
                        let mut samples = vec![0; bytes as usize];
                        chain.readable.read(io.memory, HEADER_BYTES + stream.offset(), &mut samples);
                        self.source.play(begin, stream.rate_hz(), &stream.decode(&samples));
                    }
                    Direction::Input => {
                        chain.writable.write(io.memory, stream.offset(), &stream.silence(bytes as usize));
                    }
                }
                stream.move_on(bytes);
            }
            if stream.offset() + stream.sample_bytes() <= length {
                stream.set_left(length - stream.offset());
                io.put_back(queue, 1);
                break;
            }
            let answered = chain.writable.length() - STATUS_BYTES;
            stream.end_buffer();
            finish(&chain, answered, status::OK, io);
            io.give_back(
                queue,
                chain.head,
                if direction == Direction::Input { chain.writable.length() } else { STATUS_BYTES },
            );
        }
        Ok(())
    }
}

/// Before the samples: the stream's number, §5.14.6.8.
const HEADER_BYTES: u32 = 4;
/// Behind them: status and latency.
const STATUS_BYTES: u32 = 8;

fn queue_of(direction: Direction) -> u16 {
    match direction {
        Direction::Output => TRANSMIT,
        Direction::Input => RECEIVE,
    }
}

/// How many bytes of samples a buffer has, or has room for.
fn samples_of(chain: &Chain, direction: Direction) -> Result<u32, Violation> {
    if chain.readable.length() < HEADER_BYTES || chain.writable.length() < STATUS_BYTES {
        return Err(Violation::Request("the stream's number, or room for a status"));
    }
    Ok(match direction {
        Direction::Output => chain.readable.length() - HEADER_BYTES,
        Direction::Input => chain.writable.length() - STATUS_BYTES,
    })
}

fn request_stream(chain: &Chain, io: &Io) -> Option<u32> {
    chain.readable.read_array(io.memory).map(u32::from_le_bytes)
}

/// Writes status and latency (nothing waits inside the device) behind `samples` bytes.
fn finish(chain: &Chain, samples: u32, status: u32, io: &Io) {
    let mut bytes = [0; STATUS_BYTES as usize];
    bytes[..4].copy_from_slice(&status.to_le_bytes());
    chain.writable.write(io.memory, samples, &bytes);
}

impl Kind for Sound {
    const IDENTITY: Identity = Identity { number: 25, class_code: 0x04_0100 };
    type State = State;

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 4]
    }

    /// Numbers of jacks, streams and channel maps, §5.14.4.
    fn config(&self) -> Vec<u8> {
        [request::JACKS, DIRECTIONS.len() as u32, request::CHANNEL_MAPS].map(u32::to_le_bytes).concat()
    }

    fn notified(&mut self, queue: u16, io: &mut Io) -> Result<(), Violation> {
        match queue {
            EVENTS => Ok(()),
            CONTROL => {
                // What is due belongs to the state before the request.
                self.run(io)?;
                self.control(io)?;
                self.run(io)
            }
            _ => self.run(io),
        }
    }

    fn advance(&mut self, io: &mut Io) -> Result<(), Violation> {
        self.run(io)
    }

    fn reset(&mut self) {
        self.streams = Default::default();
        self.alarm.set(None);
    }

    fn state(&self) -> State {
        State { streams: self.streams.clone() }
    }

    fn set_state(&mut self, state: State) -> Result<(), &'static str> {
        if !state.streams.iter().all(Stream::is_valid) {
            return Err("a stream is in a state that cannot be");
        }
        self.streams = state.streams;
        let running = self.streams.iter().any(Stream::is_running);
        self.alarm.set(running.then(|| self.clock.now() + 1));
        Ok(())
    }
}

#[cfg(test)]
#[path = "sound/tests.rs"]
mod tests;
