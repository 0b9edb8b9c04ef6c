//! The DP8390 with the card's memory and address ROM. Register names are the datasheet's, section 10.

use network::{Link, Mac};
use serde::{Deserialize, Serialize};

use crate::device::LoadError;

/// The card's memory: 16 KiB from 0x4000 on, and the address ROM at 0.
const MEMORY_START: usize = 0x4000;
const MEMORY_BYTES: usize = 0x4000;
const ROM_BYTES: usize = 32;
const PAGE_BYTES: usize = 256;
/// Before each received frame: status, next page, length.
const HEADER_BYTES: usize = 4;
/// The shortest frame, without its check sequence; shorter ones are padded.
const SHORTEST_FRAME: usize = 60;
/// The longest, likewise, with a VLAN's tag.
const LONGEST_FRAME: usize = 1518;
/// Free room in the ring before a frame is let in: the page that `current` must not reach is a whole one.
const ROOM_BYTES: usize = LONGEST_FRAME + HEADER_BYTES + PAGE_BYTES;
/// Frames taken before the guest has a look.
const FRAMES_AT_ONCE: usize = 64;

/// Command register.
mod command {
    pub const STOP: u8 = 1 << 0;
    pub const TRANSMIT: u8 = 1 << 2;
    pub const REMOTE_READ: u8 = 1 << 3;
    pub const REMOTE_WRITE: u8 = 2 << 3;
    pub const SEND_PACKET: u8 = 3 << 3;
    pub const REMOTE: u8 = 7 << 3;
    /// Remote DMA stands still.
    pub const NO_REMOTE: u8 = 4 << 3;
}

/// Interrupt status and mask.
mod interrupt {
    pub const RECEIVED: u8 = 1 << 0;
    pub const TRANSMITTED: u8 = 1 << 1;
    pub const TRANSMIT_ERROR: u8 = 1 << 3;
    pub const REMOTE_DONE: u8 = 1 << 6;
    pub const RESET: u8 = 1 << 7;
}

/// Receive configuration.
mod receive {
    pub const BROADCAST: u8 = 1 << 2;
    pub const MULTICAST: u8 = 1 << 3;
    pub const PROMISCUOUS: u8 = 1 << 4;
    pub const MONITOR: u8 = 1 << 5;
}

/// Transmit status.
mod transmit {
    pub const SENT: u8 = 1 << 0;
    pub const ABORTED: u8 = 1 << 3;
}

/// Data configuration: words by remote DMA.
const WORDS: u8 = 1 << 0;
/// Transmit configuration: loopback modes.
const LOOPBACK: u8 = 3 << 1;

/// The chip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chip {
    mac: Mac,
    command: u8,
    page_start: u8,
    page_stop: u8,
    boundary: u8,
    current: u8,
    transmit_page: u8,
    transmit_count: u16,
    transmit_status: u8,
    interrupts: u8,
    mask: u8,
    remote_address: u16,
    remote_count: u16,
    receive_status: u8,
    receive_configuration: u8,
    transmit_configuration: u8,
    data_configuration: u8,
    address: [u8; 6],
    multicast: [u8; 8],
    memory: Vec<u8>,
}

impl Chip {
    /// A chip after power-on, with the address `mac` in its ROM.
    pub fn new(mac: Mac) -> Chip {
        Chip {
            mac,
            command: command::STOP | command::NO_REMOTE,
            page_start: 0,
            page_stop: 0,
            boundary: 0,
            current: 0,
            transmit_page: 0,
            transmit_count: 0,
            transmit_status: 0,
            interrupts: interrupt::RESET,
            mask: 0,
            remote_address: 0,
            remote_count: 0,
            receive_status: 0,
            receive_configuration: 0,
            transmit_configuration: 0,
            data_configuration: 0,
            address: [0; 6],
            multicast: [0; 8],
            memory: vec![0; MEMORY_BYTES],
        }
    }

    /// The address in the ROM.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// What the reset port does: the chip stops, memory and addresses stay.
    pub fn reset(&mut self) {
        self.command = command::STOP | command::NO_REMOTE;
        self.interrupts = interrupt::RESET;
        self.mask = 0;
    }

    fn is_stopped(&self) -> bool {
        self.command & command::STOP != 0
    }

    /// Reads register `number` of the page that the command register shows.
    pub fn read(&self, number: u8) -> u8 {
        let page = self.command >> 6;
        match (page, number) {
            (_, 0) => self.command,
            (0, 0x1 | 0x2) => 0,
            (0, 0x3) => self.boundary,
            (0, 0x4) => self.transmit_status,
            (0, 0x7) => self.interrupts,
            (0, 0x8) => self.remote_address as u8,
            (0, 0x9) => (self.remote_address >> 8) as u8,
            // RTL8029AS: "PC".
            (0, 0xA) => 0x50,
            (0, 0xB) => 0x43,
            (0, 0xC) => self.receive_status,
            (1, 0x1..=0x6) => self.address[usize::from(number - 1)],
            (1, 0x7) => self.current,
            (1, 0x8..=0xF) => self.multicast[usize::from(number - 8)],
            (2, 0x1) => self.page_start,
            (2, 0x2) => self.page_stop,
            (2, 0x4) => self.transmit_page,
            (2, 0xC) => self.receive_configuration | 0xC0,
            (2, 0xD) => self.transmit_configuration | 0xE0,
            (2, 0xE) => self.data_configuration | 0x80,
            (2, 0xF) => self.mask | 0x80,
            _ => 0,
        }
    }

    /// Writes register `number`.
    pub fn write(&mut self, number: u8, value: u8) {
        let page = self.command >> 6;
        match (page, number) {
            (_, 0) => self.write_command(value),
            (0, 0x1) => self.page_start = value,
            (0, 0x2) => self.page_stop = value,
            (0, 0x3) => self.boundary = value,
            (0, 0x4) => self.transmit_page = value,
            (0, 0x5) => set_low(&mut self.transmit_count, value),
            (0, 0x6) => set_high(&mut self.transmit_count, value),
            (0, 0x7) => self.acknowledge(value),
            (0, 0x8) => set_low(&mut self.remote_address, value),
            (0, 0x9) => set_high(&mut self.remote_address, value),
            (0, 0xA) => set_low(&mut self.remote_count, value),
            (0, 0xB) => set_high(&mut self.remote_count, value),
            (0, 0xC) => self.receive_configuration = value & 0x3F,
            (0, 0xD) => self.transmit_configuration = value & 0x1F,
            (0, 0xE) => self.data_configuration = value & 0x7F,
            (0, 0xF) => self.mask = value & 0x7F,
            (1, 0x1..=0x6) => self.address[usize::from(number - 1)] = value,
            (1, 0x7) => self.current = value,
            (1, 0x8..=0xF) => self.multicast[usize::from(number - 8)] = value,
            _ => {}
        }
    }

    /// The reset bit shows whether it stands still; it cannot be cleared. Drivers acknowledge what they have received after
    /// they looked for the last time: a frame that came in between is told again, or nobody would look at it before the next.
    fn acknowledge(&mut self, value: u8) {
        self.interrupts &= !(value & !interrupt::RESET);
        let after = if self.boundary.wrapping_add(1) == self.page_stop {
            self.page_start
        } else {
            self.boundary.wrapping_add(1)
        };
        if !self.is_stopped() && self.current != self.boundary && self.current != after {
            self.interrupts |= interrupt::RECEIVED;
        }
    }

    fn write_command(&mut self, value: u8) {
        // The transmit bit stays until the frame has gone.
        self.command = value | self.command & command::TRANSMIT;
        if value & command::STOP != 0 {
            self.command &= !command::TRANSMIT;
            self.interrupts |= interrupt::RESET;
            return;
        }
        self.interrupts &= !interrupt::RESET;
        match value & command::REMOTE {
            command::REMOTE_READ | command::REMOTE_WRITE if self.remote_count == 0 => {
                self.interrupts |= interrupt::REMOTE_DONE;
            }
            command::SEND_PACKET => {
                // The frame at the boundary, by remote DMA, its length from its header.
                self.remote_address = u16::from(self.boundary) << 8;
                let header = usize::from(self.remote_address);
                self.remote_count = u16::from_le_bytes([self.byte(header + 2), self.byte(header + 3)]);
            }
            _ => {}
        }
    }

    /// A byte of the card's memory or ROM.
    fn byte(&self, address: usize) -> u8 {
        match address {
            // Each byte twice, as words show it; 0x57 twice at the end says that words may be used.
            ..ROM_BYTES => match address / 2 {
                n @ 0..6 => self.mac.0[n],
                14 | 15 => 0x57,
                _ => 0,
            },
            _ => {
                address.checked_sub(MEMORY_START).and_then(|at| self.memory.get(at)).copied().unwrap_or(0xFF)
            }
        }
    }

    fn set_byte(&mut self, address: usize, value: u8) {
        if let Some(byte) = address.checked_sub(MEMORY_START).and_then(|at| self.memory.get_mut(at)) {
            *byte = value;
        }
    }

    /// Reads the data port, `bytes` (1, 2 or 4) wide.
    pub fn read_data(&mut self, bytes: u64) -> u64 {
        let reads = matches!(self.command & command::REMOTE, command::REMOTE_READ | command::SEND_PACKET);
        if !reads || self.remote_count == 0 {
            return u64::MAX;
        }
        (0..self.moved_by(bytes)).fold(0, |value, n| {
            let byte = self.byte(self.remote_address.into());
            self.move_on();
            value | u64::from(byte) << (8 * n)
        })
    }

    /// Writes it.
    pub fn write_data(&mut self, bytes: u64, value: u64) {
        if self.command & command::REMOTE != command::REMOTE_WRITE || self.remote_count == 0 {
            return;
        }
        for n in 0..self.moved_by(bytes) {
            self.set_byte(self.remote_address.into(), (value >> (8 * n)) as u8);
            self.move_on();
        }
    }

    /// Bytes that an access moves: a card told to move words never moves one alone, one told to move bytes only that.
    fn moved_by(&self, bytes: u64) -> u64 {
        if self.data_configuration & WORDS != 0 { bytes.max(2) } else { 1 }
    }

    fn move_on(&mut self) {
        self.remote_address = self.remote_address.wrapping_add(1);
        // The ring is followed round its end.
        if self.remote_address == u16::from(self.page_stop) << 8 {
            self.remote_address = u16::from(self.page_start) << 8;
        }
        self.remote_count = self.remote_count.saturating_sub(1);
        if self.remote_count == 0 {
            self.interrupts |= interrupt::REMOTE_DONE;
            if self.command & command::REMOTE == command::SEND_PACKET {
                self.boundary = self.byte(usize::from(self.boundary) * PAGE_BYTES + 1);
            }
        }
    }

    /// Sends the frame that is to be sent, if the link takes it.
    pub fn transmit(&mut self, link: &dyn Link) {
        if self.command & command::TRANSMIT == 0 {
            return;
        }
        let (start, count) = (usize::from(self.transmit_page) * PAGE_BYTES, usize::from(self.transmit_count));
        let mut frame: Vec<u8> = (start..start + count.min(LONGEST_FRAME)).map(|at| self.byte(at)).collect();
        frame.resize(frame.len().max(SHORTEST_FRAME), 0);
        let too_long = count > LONGEST_FRAME;
        let loops_back = self.transmit_configuration & LOOPBACK != 0;
        if !too_long && !loops_back && !link.offer(&frame) {
            return;
        }
        self.command &= !command::TRANSMIT;
        self.transmit_status = if too_long { transmit::ABORTED } else { transmit::SENT };
        self.interrupts |= if too_long { interrupt::TRANSMIT_ERROR } else { interrupt::TRANSMITTED };
    }

    /// Takes frames while the ring has room, but not without end.
    pub fn receive(&mut self, link: &dyn Link, frame: &mut Vec<u8>) {
        for _ in 0..FRAMES_AT_ONCE {
            if !self.has_room() || !link.receive(frame) {
                return;
            }
            if frame.len() <= LONGEST_FRAME && self.wants(frame) {
                self.store(frame);
            }
        }
    }

    /// Whether it receives, and the ring has room for any frame.
    pub fn has_room(&self) -> bool {
        !self.is_stopped() && self.free_bytes() >= ROOM_BYTES
    }

    /// Bytes free in the ring.
    fn free_bytes(&self) -> usize {
        let (start, stop) = (usize::from(self.page_start), usize::from(self.page_stop));
        let inside = |page: u8| (start..stop).contains(&usize::from(page));
        if start >= stop || !inside(self.current) {
            return 0;
        }
        // Drivers write the page before the one to be read next, even where that lies before the ring's start.
        let boundary = if inside(self.boundary) { usize::from(self.boundary) } else { stop - 1 };
        let current = usize::from(self.current);
        let pages = if current < boundary { boundary - current } else { stop - start - (current - boundary) };
        pages * PAGE_BYTES
    }

    fn wants(&self, frame: &[u8]) -> bool {
        let configuration = self.receive_configuration;
        let Some(to) = frame.first_chunk::<6>() else { return false };
        if configuration & receive::MONITOR != 0 {
            return false;
        }
        if configuration & receive::PROMISCUOUS != 0 {
            return true;
        }
        match (to, to[0] & 1) {
            ([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], _) => configuration & receive::BROADCAST != 0,
            (_, 1) => {
                let hash = hash(to);
                configuration & receive::MULTICAST != 0 && self.multicast[hash / 8] >> (hash % 8) & 1 != 0
            }
            _ => *to == self.address,
        }
    }

    fn store(&mut self, frame: &[u8]) {
        let length = frame.len().max(SHORTEST_FRAME);
        let total = length + HEADER_BYTES;
        // The caller saw to it that the ring is one and has room: each of these fits into a byte.
        let (start, stop) = (usize::from(self.page_start), usize::from(self.page_stop));
        let mut next = usize::from(self.current) + total.div_ceil(PAGE_BYTES);
        if next >= stop {
            next -= stop - start;
        }
        let next = next as u8;
        const INTACT: u8 = 1;
        const TO_MANY: u8 = 1 << 5;
        self.receive_status = INTACT | if frame[0] & 1 != 0 { TO_MANY } else { 0 };
        let [low, high] = (total as u16).to_le_bytes();
        let header = [self.receive_status, next, low, high];
        let padding = std::iter::repeat_n(&0, length - frame.len());
        let mut at = usize::from(self.current) * PAGE_BYTES;
        for byte in header.iter().chain(frame).chain(padding) {
            self.set_byte(at, *byte);
            at += 1;
            if at == stop * PAGE_BYTES {
                at = start * PAGE_BYTES;
            }
        }
        self.current = next;
        self.interrupts |= interrupt::RECEIVED;
    }

    /// Whether it asks for an interrupt.
    pub fn interrupts(&self) -> bool {
        self.interrupts & self.mask != 0
    }

    /// Whether a saved chip can be used in `device`.
    pub fn check(&self, device: &str) -> Result<(), LoadError> {
        match self.memory.len() {
            MEMORY_BYTES => Ok(()),
            bytes => {
                let reason = format!("the card's memory has {bytes} bytes");
                Err(LoadError { device: device.to_owned(), reason })
            }
        }
    }
}

fn set_low(register: &mut u16, value: u8) {
    *register = *register & 0xFF00 | u16::from(value);
}

fn set_high(register: &mut u16, value: u8) {
    *register = *register & 0x00FF | u16::from(value) << 8;
}

/// The bit of the multicast filter: the top six of the address's CRC-32, datasheet section 7.
fn hash(address: &[u8; 6]) -> usize {
    let mut crc = u32::MAX;
    for byte in address {
        for bit in 0..8 {
            let carry = crc >> 31 ^ u32::from(byte >> bit & 1);
            crc = crc << 1 ^ if carry != 0 { 0x04C1_1DB7 } else { 0 };
        }
    }
    (crc >> 26) as usize
}
