//! Two Intel 8237A DMA controllers in cascade, with the PC/AT's page registers.
//!
//! 8237A datasheet (231466); ports 00h–0Fh (channels 0 to 3, bytes), C0h–DFh (channels 4 to 7, words, at
//! even ports) and 81h–8Fh (pages; 80h belongs to the POST display). Channel 4 carries the first
//! controller and comes up so, unmasked, as a BIOS leaves it. A device moves data when it calls
//! [`IsaDma::transfer`]: single, demand and block mode differ in who waits for whom, and nobody waits.
//! Left out: memory-to-memory transfers, software requests that move data, priorities, compressed timing.

use serde::{Deserialize, Serialize};

use crate::access::{At, Width};
use crate::bus::{Bus, WindowSpec};
use crate::device::{Device, LoadError, Shared, decode, encode};
use crate::memory::Memory;

/// First ports of the windows: first controller, pages, second controller.
pub const PORTS: [u64; 3] = [0x00, 0x81, 0xC0];
const PAGES: usize = 15;
/// Which page register, counted from 81h, belongs to which channel. Channel 4's refreshes memory.
const PAGE_OF_CHANNEL: [usize; 8] = [0x6, 0x2, 0x0, 0x1, 0xE, 0xA, 0x8, 0x9];

/// Which way a device moves data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the device to memory: what the datasheet calls a write transfer.
    ToMemory,
    /// From memory to the device: a read transfer.
    FromMemory,
}

/// What a transfer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Bytes moved.
    pub bytes: usize,
    /// The channel reached its terminal count (TC), which the device is told.
    pub terminal_count: bool,
}

/// Command register: the controller is disabled.
const DISABLED: u8 = 0x04;

/// Mode register fields, 8237A figure 6.
mod mode {
    pub const TYPE: u8 = 0x0C;
    pub const VERIFY: u8 = 0x00;
    pub const WRITE: u8 = 0x04;
    pub const READ: u8 = 0x08;
    pub const AUTO_INITIALISE: u8 = 0x10;
    pub const DECREMENT: u8 = 0x20;
    pub const CASCADE: u8 = 0xC0;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Channel {
    base_address: u16,
    base_count: u16,
    address: u16,
    count: u16,
    mode: u8,
}

/// One 8237A.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Controller {
    channels: [Channel; 4],
    /// The next byte of an address or count is the high one.
    high_byte: bool,
    command: u8,
    masked: u8,
    requests: u8,
    terminal_counts: u8,
}

impl Controller {
    fn new() -> Controller {
        Controller {
            channels: Default::default(),
            high_byte: false,
            command: 0,
            masked: 0x0F,
            requests: 0,
            terminal_counts: 0,
        }
    }

    fn read(&mut self, register: u64) -> u8 {
        match register {
            0..=7 => {
                let channel = &self.channels[(register / 2) as usize];
                let value = if register.is_multiple_of(2) { channel.address } else { channel.count };
                value.to_le_bytes()[self.flip()]
            }
            8 => {
                let status = self.requests << 4 | self.terminal_counts;
                self.terminal_counts = 0;
                status
            }
            0xF => self.masked | 0xF0,
            _ => 0, // the temporary register: nothing moves from memory to memory
        }
    }

    fn write(&mut self, register: u64, value: u8) {
        let bit = 1 << (value & 3);
        let assign = |bits: u8| if value & 4 != 0 { bits | bit } else { bits & !bit };
        match register {
            0..=7 => self.write_channel(register, value),
            8 => self.command = value,
            9 => self.requests = assign(self.requests),
            0xA => self.masked = assign(self.masked),
            0xB => self.channels[usize::from(value & 3)].mode = value & !3,
            0xC => self.high_byte = false,
            0xD => {
                // Master clear: like a reset, but addresses, counts and modes stay.
                *self = Controller { channels: self.channels, ..Controller::new() };
            }
            0xE => self.masked = 0,
            0xF => self.masked = value & 0x0F,
            _ => {}
        }
    }

    /// Base and current registers are written together.
    fn write_channel(&mut self, register: u64, value: u8) {
        let byte = self.flip();
        let channel = &mut self.channels[(register / 2) as usize];
        let (base, current) = match register % 2 {
            0 => (&mut channel.base_address, &mut channel.address),
            _ => (&mut channel.base_count, &mut channel.count),
        };
        let mut bytes = base.to_le_bytes();
        bytes[byte] = value;
        *base = u16::from_le_bytes(bytes);
        *current = *base;
    }

    /// The byte that is meant now; the next is the other.
    fn flip(&mut self) -> usize {
        self.high_byte = !self.high_byte;
        usize::from(!self.high_byte)
    }

    fn is_ready(&self, n: usize) -> bool {
        self.command & DISABLED == 0 && self.masked >> n & 1 == 0
    }

    /// `elements` bytes or words were moved on channel `n`; whether that was the last.
    fn advance(&mut self, n: usize, elements: u16) -> bool {
        let channel = &mut self.channels[n];
        let terminal_count = elements > channel.count;
        channel.count = channel.count.wrapping_sub(elements);
        channel.address = match channel.mode & mode::DECREMENT {
            0 => channel.address.wrapping_add(elements),
            _ => channel.address.wrapping_sub(elements),
        };
        if terminal_count {
            self.terminal_counts |= 1 << n;
            self.requests &= !(1 << n);
            if channel.mode & mode::AUTO_INITIALISE != 0 {
                channel.address = channel.base_address;
                channel.count = channel.base_count;
            } else {
                self.masked |= 1 << n;
            }
        }
        terminal_count
    }
}

/// Both controllers' state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Chip {
    controllers: [Controller; 2],
    pages: [u8; PAGES],
}

impl Chip {
    fn new() -> Chip {
        let mut chip = Chip { controllers: [Controller::new(), Controller::new()], pages: [0; PAGES] };
        chip.controllers[1].channels[0].mode = mode::CASCADE;
        chip.controllers[1].masked = 0x0E;
        chip
    }
}

/// The DMA controllers of the ISA bus.
pub struct IsaDma {
    chip: Chip,
}

impl Default for IsaDma {
    fn default() -> IsaDma {
        IsaDma::new()
    }
}

impl IsaDma {
    /// Both controllers after power-on.
    pub fn new() -> IsaDma {
        IsaDma { chip: Chip::new() }
    }

    /// Puts their ports on the bus.
    pub fn connect(dma: &Shared<IsaDma>, bus: &Bus) {
        let lengths = [16, PAGES as u64, 32];
        for (window, (base, length)) in (0u8..).zip(PORTS.into_iter().zip(lengths)) {
            bus.add(dma, window, WindowSpec::ports(length), Some(base));
        }
    }

    /// The device on `channel` (0 to 3, 5 to 7) moves as much of `buffer` as the channel is programmed
    /// for. Nothing moves while the channel is masked or programmed for the other direction; a channel
    /// programmed to verify counts and leaves memory as it is. Word channels move whole words.
    pub fn transfer(
        &mut self,
        channel: usize,
        memory: &Memory,
        direction: Direction,
        buffer: &mut [u8],
    ) -> Moved {
        const NOTHING: Moved = Moved { bytes: 0, terminal_count: false };
        let (controller, n) = (channel / 4, channel % 4);
        let cascade = &self.chip.controllers[1];
        if channel >= 8
            || channel == 4
            || !self.chip.controllers[controller].is_ready(n)
            || controller == 0 && !(cascade.is_ready(0) && cascade.channels[0].mode & 0xC0 == mode::CASCADE)
        {
            return NOTHING;
        }
        let state = self.chip.controllers[controller].channels[n];
        let moves = match (state.mode & mode::TYPE, direction) {
            _ if state.mode & 0xC0 == mode::CASCADE => return NOTHING,
            (mode::VERIFY, _) => false,
            (mode::WRITE, Direction::ToMemory) | (mode::READ, Direction::FromMemory) => true,
            _ => return NOTHING,
        };
        let size = controller + 1;
        // Up to the terminal count, where every device stops.
        let elements = (buffer.len() / size).min(usize::from(state.count) + 1);
        let page = u64::from(self.chip.pages[PAGE_OF_CHANNEL[channel]]);
        if moves {
            let run = Run { state, page, size };
            match direction {
                Direction::ToMemory => run.pieces(elements).for_each(|(at, bytes)| {
                    memory.dma_write(at, &buffer[bytes]);
                }),
                Direction::FromMemory => run.pieces(elements).for_each(|(at, bytes)| {
                    memory.dma_read(at, &mut buffer[bytes]);
                }),
            }
        }
        // 65536 elements are told as 65535 and one more, so that the count keeps 16 bits.
        let controller = &mut self.chip.controllers[controller];
        let first = elements.min(0xFFFF) as u16;
        let mut terminal_count = elements > 0 && controller.advance(n, first);
        if elements > 0xFFFF {
            terminal_count = controller.advance(n, 1);
        }
        Moved { bytes: elements * size, terminal_count }
    }
}

/// Where the elements of one transfer lie.
struct Run {
    state: Channel,
    page: u64,
    /// Bytes per element.
    size: usize,
}

impl Run {
    /// Contiguous pieces: memory address, and which bytes of the buffer. Addresses wrap inside the page;
    /// downwards each element is a piece of its own.
    fn pieces(&self, elements: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> + '_ {
        let down = self.state.mode & mode::DECREMENT != 0;
        let mut done = 0;
        std::iter::from_fn(move || {
            let left = elements - done;
            if left == 0 {
                return None;
            }
            let address = match down {
                false => self.state.address.wrapping_add(done as u16),
                true => self.state.address.wrapping_sub(done as u16),
            };
            let now = if down { 1 } else { left.min(0x1_0000 - usize::from(address)) };
            let bytes = done * self.size..(done + now) * self.size;
            done += now;
            Some((self.physical(address), bytes))
        })
    }

    /// A word channel's address counts words, and its page counts pairs of 64 KiB.
    fn physical(&self, address: u16) -> u64 {
        match self.size {
            1 => self.page << 16 | u64::from(address),
            _ => (self.page & 0xFE) << 16 | u64::from(address) << 1,
        }
    }
}

impl Device for IsaDma {
    fn name(&self) -> &str {
        "8237"
    }

    fn read(&mut self, at: At, _width: Width) -> u64 {
        let value = match (at.window, at.offset) {
            (0, register @ 0..16) => self.chip.controllers[0].read(register),
            (1, page) => usize::try_from(page).ok().and_then(|n| self.chip.pages.get(n)).map_or(0xFF, |p| *p),
            (2, port @ 0..32) if port % 2 == 0 => self.chip.controllers[1].read(port / 2),
            _ => 0xFF,
        };
        value.into()
    }

    fn write(&mut self, at: At, _width: Width, value: u64) {
        let value = value as u8;
        match (at.window, at.offset) {
            (0, register @ 0..16) => self.chip.controllers[0].write(register, value),
            (1, page) => {
                if let Some(page) = usize::try_from(page).ok().and_then(|n| self.chip.pages.get_mut(n)) {
                    *page = value;
                }
            }
            (2, port @ 0..32) if port % 2 == 0 => self.chip.controllers[1].write(port / 2, value),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.chip = Chip::new();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        self.chip = decode(self.name(), state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Space;
    use crate::device::shared;

    fn board() -> (std::sync::Arc<Bus>, Shared<IsaDma>, std::sync::Arc<Memory>) {
        let (bus, dma) = (Bus::new(), shared(IsaDma::new()));
        IsaDma::connect(&dma, &bus);
        (bus, dma, Memory::new(4 << 20, 0).unwrap())
    }

    fn outb(bus: &Bus, port: u64, value: u8) {
        bus.write(Space::Port, port, Width::Byte, value.into(), 0);
    }

    fn inb(bus: &Bus, port: u64) -> u8 {
        bus.read(Space::Port, port, Width::Byte, 0) as u8
    }

    /// Programs channel 2 as a BIOS does for a floppy.
    fn program(bus: &Bus, mode: u8, page: u8, address: u16, count: u16) {
        outb(bus, 0x0A, 6);
        outb(bus, 0x0C, 0);
        for (port, value) in [(0x04, address), (0x05, count)] {
            value.to_le_bytes().into_iter().for_each(|byte| outb(bus, port, byte));
        }
        outb(bus, 0x0B, mode);
        outb(bus, 0x81, page);
        outb(bus, 0x0A, 2);
    }

    fn memory(memory: &Memory, at: u64, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        memory.dma_read(at, &mut read);
        read
    }

    #[test]
    fn a_device_writes_memory_up_to_the_terminal_count() {
        let (bus, dma, ram) = board();
        program(&bus, 0x46, 0x12, 0x3400, 511);
        let first = dma.lock().transfer(2, &ram, Direction::ToMemory, &mut [0xA5; 300]);
        assert_eq!(first, Moved { bytes: 300, terminal_count: false });
        let second = dma.lock().transfer(2, &ram, Direction::ToMemory, &mut [0x5A; 300]);
        assert_eq!(second, Moved { bytes: 212, terminal_count: true });
        assert_eq!(memory(&ram, 0x12_3400 + 299, 2), [0xA5, 0x5A]);
        assert_eq!(memory(&ram, 0x12_3400 + 511, 2), [0x5A, 0]);
        assert_eq!((inb(&bus, 0x08), inb(&bus, 0x08)), (0x04, 0), "TC of channel 2, told once");
        assert_eq!([inb(&bus, 0x05), inb(&bus, 0x05)], [0xFF, 0xFF], "the count has gone below zero");
        assert_eq!([inb(&bus, 0x04), inb(&bus, 0x04)], [0x00, 0x36]);
        let third = dma.lock().transfer(2, &ram, Direction::ToMemory, &mut [0; 1]);
        assert_eq!(third.bytes, 0, "the terminal count masks the channel");
    }

    #[test]
    fn a_device_reads_memory_and_the_direction_must_fit() {
        let (bus, dma, ram) = board();
        ram.dma_write(0x5000, b"floppy");
        program(&bus, 0x4A, 0, 0x5000, 5);
        let mut bytes = [0; 6];
        assert_eq!(dma.lock().transfer(2, &ram, Direction::ToMemory, &mut bytes).bytes, 0);
        assert!(dma.lock().transfer(2, &ram, Direction::FromMemory, &mut bytes).terminal_count);
        assert_eq!(&bytes, b"floppy");
    }

    #[test]
    fn auto_initialise_starts_again_from_the_base() {
        let (bus, dma, ram) = board();
        program(&bus, 0x56, 0, 0x6000, 3);
        for value in [1, 2] {
            let moved = dma.lock().transfer(2, &ram, Direction::ToMemory, &mut [value; 10]);
            assert_eq!(moved, Moved { bytes: 4, terminal_count: true });
        }
        assert_eq!(memory(&ram, 0x6000, 5), [2, 2, 2, 2, 0]);
        assert_eq!([inb(&bus, 0x04), inb(&bus, 0x04)], [0x00, 0x60]);
    }

    #[test]
    fn addresses_wrap_inside_the_page_and_run_down_when_told() {
        let (bus, dma, ram) = board();
        program(&bus, 0x46, 1, 0xFFFE, 3);
        dma.lock().transfer(2, &ram, Direction::ToMemory, &mut [1, 2, 3, 4]);
        assert_eq!((memory(&ram, 0x1_FFFE, 3), memory(&ram, 0x1_0000, 2)), (vec![1, 2, 0], vec![3, 4]));
        program(&bus, 0x66, 2, 0x0001, 2);
        dma.lock().transfer(2, &ram, Direction::ToMemory, &mut [7, 8, 9]);
        assert_eq!((memory(&ram, 0x2_0000, 2), memory(&ram, 0x2_FFFF, 1)), (vec![8, 7], vec![9]));
    }

    #[test]
    fn a_whole_page_moves_in_one_transfer() {
        let (bus, dma, ram) = board();
        program(&bus, 0x46, 3, 0, 0xFFFF);
        let moved = dma.lock().transfer(2, &ram, Direction::ToMemory, &mut vec![0xEE; 0x1_0001]);
        assert_eq!(moved, Moved { bytes: 0x1_0000, terminal_count: true });
        assert_eq!(memory(&ram, 0x3_FFFF, 2), [0xEE, 0]);
        assert_eq!([inb(&bus, 0x05), inb(&bus, 0x05)], [0xFF, 0xFF]);
    }

    #[test]
    fn word_channels_count_words() {
        let (bus, dma, ram) = board();
        outb(&bus, 0xD8, 0); // flip-flop
        for (port, value) in [(0xC4, 0x8000u16), (0xC6, 1)] {
            value.to_le_bytes().into_iter().for_each(|byte| outb(&bus, port, byte));
        }
        outb(&bus, 0xD6, 0x45);
        outb(&bus, 0x8B, 0x05);
        outb(&bus, 0xD4, 1);
        let moved = dma.lock().transfer(5, &ram, Direction::ToMemory, &mut [1, 2, 3, 4, 5, 6]);
        assert_eq!(moved, Moved { bytes: 4, terminal_count: true });
        assert_eq!(memory(&ram, 0x5_0000, 5), [1, 2, 3, 4, 0]);
        assert_eq!(inb(&bus, 0xD0), 0x02);
    }

    #[test]
    fn masks_cascade_and_the_disable_bit_hold_the_channel_off() {
        let (bus, dma, ram) = board();
        let bytes = |dma: &Shared<IsaDma>| dma.lock().transfer(2, &ram, Direction::ToMemory, &mut [1]).bytes;
        program(&bus, 0x46, 0, 0x100, 100);
        outb(&bus, 0x0F, 0x0F);
        assert_eq!(bytes(&dma), 0);
        outb(&bus, 0x0E, 0);
        assert_eq!(bytes(&dma), 1);
        outb(&bus, 0x08, 4);
        assert_eq!(bytes(&dma), 0);
        outb(&bus, 0x08, 0);
        outb(&bus, 0xDA, 0); // master clear of the second controller masks channel 4
        assert_eq!(bytes(&dma), 0);
        outb(&bus, 0xD4, 0);
        assert_eq!(bytes(&dma), 1);
    }

    #[test]
    fn verify_counts_and_leaves_memory_alone() {
        let (bus, dma, ram) = board();
        program(&bus, 0x42, 0, 0x7000, 3);
        let moved = dma.lock().transfer(2, &ram, Direction::ToMemory, &mut [9; 8]);
        assert_eq!(moved, Moved { bytes: 4, terminal_count: true });
        assert_eq!(memory(&ram, 0x7000, 4), [0; 4]);
    }

    #[test]
    fn the_post_port_is_not_claimed() {
        let (bus, _dma, _ram) = board();
        outb(&bus, 0x80, 0x55);
        assert_eq!((inb(&bus, 0x80), bus.unclaimed()), (0xFF, (1, 1)));
        outb(&bus, 0x8F, 0x12);
        assert_eq!(inb(&bus, 0x8F), 0x12);
    }

    #[test]
    fn it_keeps_the_contract() {
        crate::contract::check(IsaDma::new);
    }
}
