//! One bus master: a list of buffers in memory, walked at the converter's pace. 82801AA datasheet §13.2.

use serde::{Deserialize, Serialize};

use crate::clock::Nanoseconds;
use crate::memory::Memory;
use crate::sound::Pace;

/// Status bits, §13.2.3.
mod status {
    pub const HALTED: u8 = 1 << 0;
    pub const AT_LAST: u8 = 1 << 1;
    pub const LAST_DONE: u8 = 1 << 2;
    pub const BUFFER_DONE: u8 = 1 << 3;
    pub const FIFO_ERROR: u8 = 1 << 4;
}

/// Control bits, §13.2.7.
mod control {
    pub const RUN: u8 = 1 << 0;
    pub const RESET: u8 = 1 << 1;
    pub const LAST_INTERRUPT: u8 = 1 << 2;
    pub const BUFFER_INTERRUPT: u8 = 1 << 4;
    pub const KEPT: u8 = 0x1D;
}

/// Descriptor flag: an interrupt at its end.
const INTERRUPT_ON_COMPLETION: u32 = 1 << 31;
const ENTRIES: u8 = 32;
/// Bytes of a stereo sample; lengths count channels' samples, two of them.
const SAMPLE_BYTES: usize = 4;

/// The registers and where the walk is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    list: u32,
    current: u8,
    last: u8,
    status: u8,
    /// Channels' samples left in the current buffer (PICB).
    left: u16,
    prefetched: u8,
    control: u8,
    /// The address of the next sample, and whether the buffer's end is told.
    address: u32,
    tells_end: bool,
    /// A buffer was begun and not ended.
    loaded: bool,
    pace: Option<Pace>,
}

impl Default for Channel {
    fn default() -> Channel {
        Channel {
            list: 0,
            current: 0,
            last: 0,
            status: status::HALTED,
            left: 0,
            prefetched: 0,
            control: 0,
            address: 0,
            tells_end: false,
            loaded: false,
            pace: None,
        }
    }
}

/// Which way samples go.
pub enum Converter<'a> {
    /// From memory, into this.
    Out(&'a mut Vec<u8>),
    /// Silence, into memory.
    In,
}

impl Channel {
    /// A byte of the registers, at 0 to 0xB.
    pub fn read(&self, offset: u8) -> u8 {
        match offset {
            0..=3 => self.list.to_le_bytes()[usize::from(offset)],
            4 => self.current,
            5 => self.last,
            6 => self.status,
            8 | 9 => self.left.to_le_bytes()[usize::from(offset - 8)],
            0xA => self.prefetched,
            0xB => self.control,
            _ => 0,
        }
    }

    /// A guest's write of a byte; time has been brought to `now` before.
    pub fn write(&mut self, offset: u8, value: u8, memory: &Memory, now: Nanoseconds, rate_hz: u32) {
        match offset {
            0..=3 => {
                let mut bytes = self.list.to_le_bytes();
                bytes[usize::from(offset)] = value;
                self.list = u32::from_le_bytes(bytes) & !7;
            }
            5 => {
                self.last = value % ENTRIES;
                if self.is_running() && self.status & status::HALTED != 0 {
                    self.go_on(memory, now, rate_hz);
                }
            }
            6 => self.status &= !(value & (status::LAST_DONE | status::BUFFER_DONE | status::FIFO_ERROR)),
            0xB => self.set_control(value, memory, now, rate_hz),
            _ => {}
        }
    }

    fn set_control(&mut self, value: u8, memory: &Memory, now: Nanoseconds, rate_hz: u32) {
        let ran = self.is_running();
        if value & control::RESET != 0 && value & control::RUN == 0 {
            // Interrupt enables stay, §13.2.7.
            let enables = self.control & control::KEPT & !control::RUN;
            *self = Channel { control: enables, ..Channel::default() };
            return;
        }
        self.control = value & control::KEPT;
        match (ran, self.is_running()) {
            (false, true) => self.go_on(memory, now, rate_hz),
            (true, false) => {
                self.status |= status::HALTED;
                self.pace = None;
            }
            _ => {}
        }
    }

    fn is_running(&self) -> bool {
        self.control & control::RUN != 0
    }

    /// Starts, or goes on where it was paused or ran out of buffers.
    fn go_on(&mut self, memory: &Memory, now: Nanoseconds, rate_hz: u32) {
        self.status &= !(status::HALTED | status::AT_LAST);
        if !self.loaded {
            self.fetch(memory);
        }
        self.pace = Some(Pace::start(now, rate_hz));
    }

    /// Takes the next descriptor.
    fn fetch(&mut self, memory: &Memory) {
        self.current = self.prefetched;
        self.prefetched = (self.prefetched + 1) % ENTRIES;
        let mut bytes = [0; 8];
        memory.dma_read(u64::from(self.list) + 8 * u64::from(self.current), &mut bytes);
        let [address, length] =
            [0, 4].map(|at| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default()));
        self.address = address & !1;
        self.left = length as u16;
        self.tells_end = length & INTERRUPT_ON_COMPLETION != 0;
        self.loaded = true;
    }

    /// The current buffer is done; says whether another follows.
    fn end_buffer(&mut self, memory: &Memory) -> bool {
        self.loaded = false;
        if self.tells_end {
            self.status |= status::BUFFER_DONE;
        }
        if self.current == self.last {
            self.status |= status::LAST_DONE | status::AT_LAST | status::HALTED;
            self.pace = None;
            return false;
        }
        self.fetch(memory);
        true
    }

    /// Plays or records what is due at `now`. Gives when its first sample sounded, if there is any.
    pub fn advance(
        &mut self,
        now: Nanoseconds,
        memory: &Memory,
        mut converter: Converter,
    ) -> Option<Nanoseconds> {
        let begin = self.pace?.next_ns();
        let mut due = self.pace?.due(now) as usize;
        // A list of empty buffers is walked round once.
        let mut empty = 0;
        while empty < ENTRIES {
            let samples = due.min(usize::from(self.left / 2));
            self.transfer(samples, memory, &mut converter);
            due -= samples;
            if self.left > 1 {
                break;
            }
            empty = if samples == 0 { empty + 1 } else { 0 };
            if !self.end_buffer(memory) {
                break;
            }
        }
        Some(begin)
    }

    fn transfer(&mut self, samples: usize, memory: &Memory, converter: &mut Converter) {
        let length = samples * SAMPLE_BYTES;
        match converter {
            Converter::Out(bytes) => {
                let start = bytes.len();
                bytes.resize(start + length, 0);
                memory.dma_read(self.address.into(), &mut bytes[start..]);
            }
            Converter::In => memory.dma_write(self.address.into(), &vec![0; length]),
        }
        self.address = self.address.wrapping_add(length as u32);
        self.left -= 2 * samples as u16;
        if let Some(pace) = &mut self.pace {
            pace.play(samples as u64);
        }
    }

    /// When the current buffer ends, if it is being played.
    pub fn end_ns(&self) -> Option<Nanoseconds> {
        self.pace.map(|pace| pace.time_of(u64::from(self.left / 2)))
    }

    /// The converter's rate changed; what was due at the old one has been played.
    pub fn set_rate(&mut self, now: Nanoseconds, rate_hz: u32) {
        if let Some(pace) = &mut self.pace {
            pace.set_rate(now, rate_hz);
        }
    }

    /// Whether it asks for an interrupt.
    pub fn interrupts(&self) -> bool {
        self.status & status::LAST_DONE != 0 && self.control & control::LAST_INTERRUPT != 0
            || self.status & status::BUFFER_DONE != 0 && self.control & control::BUFFER_INTERRUPT != 0
    }

    /// Whether a saved channel can be used.
    pub fn is_valid(&self) -> bool {
        let running = self.pace.is_none_or(|pace| pace.is_valid());
        running && self.current < ENTRIES && self.last < ENTRIES && self.prefetched < ENTRIES
    }
}
