//! A guest without a processor: it reads and writes ports, device memory and RAM, and keeps what it did last.

use std::collections::{BTreeMap, VecDeque};

use engine::Key;
use engine::machine::Bare;
use hardware::bus::WindowCount;
use hardware::{Space, Width};

use super::random::{RAM_BYTES, Random};

/// Accesses kept, to tell of when something goes wrong.
const KEPT: usize = 80;
/// Longer than any frame on a link.
const LONG_FRAME: u64 = 66_000;
const WIDTHS: [Width; 4] = [Width::Byte, Width::Word, Width::Dword, Width::Qword];

/// The guest, and the board it has to itself.
pub struct Guest {
    pub bare: Bare,
    pub random: Random,
    /// Accesses made so far.
    pub accesses: u64,
    /// What devices did, by what it was.
    pub done: BTreeMap<&'static str, u64>,
    kept: VecDeque<String>,
}

/// A panic tells what led to it.
impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the guest did last:");
            self.kept.iter().for_each(|what| eprintln!("  {what}"));
        }
    }
}

impl Guest {
    pub fn new(bare: Bare, random: Random) -> Guest {
        Guest { bare, random, accesses: 0, done: BTreeMap::new(), kept: VecDeque::with_capacity(KEPT) }
    }

    /// Notes what is done now.
    pub fn note(&mut self, what: String) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(what);
    }

    /// Counts what a device did.
    pub fn count(&mut self, what: &'static str, times: u64) {
        *self.done.entry(what).or_default() += times;
    }

    fn cpu(&mut self) -> usize {
        self.random.below(self.bare.cpus() as u64) as usize
    }

    pub fn read(&mut self, space: Space, address: u64, width: Width) -> u64 {
        self.accesses += 1;
        let cpu = self.cpu();
        self.note(format!("{space:?} {address:#x} {width:?} read by {cpu}"));
        self.bare.bus().read(space, address, width, cpu)
    }

    pub fn write(&mut self, space: Space, address: u64, width: Width, value: u64) {
        self.accesses += 1;
        let (cpu, value) = (self.cpu(), value & width.ones());
        self.note(format!("{space:?} {address:#x} {width:?} := {value:#x} by {cpu}"));
        self.bare.bus().write(space, address, width, value, cpu);
    }

    /// Writes a byte to a port.
    pub fn out(&mut self, port: u64, value: u64) {
        self.write(Space::Port, port, Width::Byte, value);
    }

    /// Puts bytes into RAM.
    pub fn put(&mut self, address: u64, bytes: &[u8]) {
        self.bare.memory().dma_write(address, bytes);
    }

    /// The windows of the device of this name that are on the bus now, by number.
    pub fn window(&self, device: &str, number: u8) -> Option<(Space, u64)> {
        let counts = self.bare.bus().counts();
        let found = counts.iter().find(|window| window.device == device && window.number == number)?;
        Some((found.space, found.base?))
    }

    /// Fills RAM with words that may be lengths, flags and addresses.
    pub fn fill_ram(&mut self) {
        let mut words = Vec::with_capacity(RAM_BYTES as usize);
        while (words.len() as u64) < RAM_BYTES {
            let word = if self.random.one_in(3) { self.random.address() } else { self.random.value() };
            match self.random.one_in(2) {
                true => words.extend(word.to_le_bytes()),
                false => words.extend((word as u32).to_le_bytes()),
            }
        }
        words.truncate(RAM_BYTES as usize);
        self.put(0, &words);
    }

    /// Some accesses to one window of one device.
    pub fn poke_about(&mut self) {
        let windows: Vec<WindowCount> =
            self.bare.bus().counts().into_iter().filter(|window| window.base.is_some()).collect();
        let window = &windows[self.random.below(windows.len() as u64) as usize];
        let base = window.base.unwrap_or_default();
        // Most accesses hit the first registers, or some near each other.
        let reach = self.random.of(&[4, 16, 0x100, 0x1000, u64::MAX]).min(window.length);
        let near = if self.random.one_in(3) { self.random.below(window.length - reach + 1) } else { 0 };
        let aligned = !self.random.one_in(4);
        for _ in 0..self.random.below(60) {
            let width = self.random.of(&WIDTHS);
            let mut offset = near + self.random.below(reach);
            if aligned {
                offset &= !(width.bytes() - 1);
            }
            match self.random.below(3) {
                0 => drop(self.read(window.space, base + offset, width)),
                _ => {
                    let value = self.random.value();
                    self.write(window.space, base + offset, width, value);
                }
            }
        }
    }

    /// Writes an index register and reads or writes what it selects, as many old chips want it.
    pub fn poke_by_index(&mut self) {
        const PAIRS: [(u64, u64); 14] = [
            (0x70, 0x71),
            (0x3C4, 0x3C5),
            (0x3CE, 0x3CF),
            (0x3D4, 0x3D5),
            (0x3C0, 0x3C0),
            (0x3C8, 0x3C9),
            (0x1CE, 0x1CF),
            (0x224, 0x225),
            (0x388, 0x389),
            (0x38A, 0x38B),
            (0x510, 0x511),
            (0x43, 0x40),
            (0x64, 0x60),
            (0xB2, 0xB3),
        ];
        let (index, data) = self.random.of(&PAIRS);
        let width = if index == 0x1CE { Width::Word } else { Width::Byte };
        for _ in 0..1 + self.random.below(20) {
            let (register, value) = (self.random.below(64), self.random.value());
            self.write(Space::Port, index, width, register);
            match self.random.below(3) {
                0 => drop(self.read(Space::Port, data, width)),
                _ => self.write(Space::Port, data, width, value),
            }
        }
    }

    /// Reads and writes the configuration of PCI functions.
    pub fn poke_configuration(&mut self) {
        for _ in 0..1 + self.random.below(20) {
            let (device, function) = (self.random.below(20), if self.random.one_in(4) { 1 } else { 0 });
            let register = if self.random.one_in(3) { self.random.below(256) } else { self.random.below(64) };
            let selected = 1 << 31 | device << 11 | function << 8 | register & !3;
            self.write(Space::Port, 0xCF8, Width::Dword, selected);
            let width = self.random.of(&WIDTHS[..3]);
            let (data, value) = (0xCFC + (register & 3), self.random.value());
            match self.random.below(3) {
                0 => self.write(Space::Port, data, width, value),
                _ => drop(self.read(Space::Port, data, width)),
            }
        }
    }

    /// Guest time passes: from a nanosecond to a second, and seldom more.
    pub fn let_time_pass(&mut self) {
        let most = if self.random.one_in(100) { 31 } else { 34 };
        let ns = 1 + (self.random.next() >> (most + self.random.below(30)));
        self.note(format!("{ns} ns pass"));
        self.bare.pass(ns);
    }

    /// Processors take interrupts, and sometimes say that they are done.
    pub fn take_interrupts(&mut self) {
        for cpu in 0..self.bare.cpus() {
            let vector = self.bare.acknowledge(cpu);
            self.count("interrupts", vector.is_some().into());
            if vector.is_some() && self.random.one_in(2) {
                self.out(0x20, 0x20);
                self.out(0xA0, 0x20);
                self.write(Space::Memory, 0xFEE0_00B0, Width::Dword, 0);
            }
        }
    }

    /// Something comes from outside.
    pub fn hear_from_outside(&mut self) {
        let what = self.random.below(7);
        self.note(format!("from outside, {what}"));
        let number = self.random.next();
        match what {
            0 => {
                let key = self.random.of(Key::ALL);
                self.bare.key(key, number & 1 != 0);
            }
            1 => self.bare.mouse(
                number as i8 as i32,
                (number >> 8) as i32,
                (number >> 40) as i8 as i32,
                number as u8,
            ),
            2 => self.bare.speak(&number.to_le_bytes()[..1 + (number % 8) as usize]),
            3 => self.bare.ask_balloon(number % (2 * RAM_BYTES)),
            4 => drop(self.bare.draw()),
            5 => self.bare.change_media(number & 1 != 0),
            _ => {
                let longest = if self.random.one_in(20) { LONG_FRAME } else { 1600 };
                let length = 14 + self.random.below(longest) as usize;
                let mut frame = vec![number as u8; length];
                frame[..12].fill(if number & 1 == 0 { 0xFF } else { number as u8 });
                let frames = self.bare.exchange_frames(&frame);
                self.count("frames sent", frames as u64);
            }
        }
    }
}
