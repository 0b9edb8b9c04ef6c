//! Drivers of network and sound cards, of virtio devices and of fw_cfg that are almost right.

use hardware::{Space, Width};

use super::guest::Guest;

impl Guest {
    /// Rings for the E1000: descriptors of all kinds.
    pub fn drive_e1000(&mut self) {
        let Some((space, base)) = self.window("e1000", 0) else { return };
        let (send, receive) = (self.random.address() & !0xF, self.random.address() & !0xF);
        for n in 0..32 {
            let address = self.random.address();
            self.put(receive + 16 * n, &address.to_le_bytes());
            let bytes = self.random.of(&[60, 64, 1514, 4096, 9000, 0xFFFF]);
            let kind = self.random.of(&[0, 0, 0, 1 << 29, 1 << 29 | 1 << 20, 1 << 29 | 1 << 20]);
            let command = self.random.below(256) << 24 | self.random.of(&[0, 1 << 24, 9 << 24]);
            let options = if self.random.one_in(2) { self.random.next() << 32 } else { 3 << 40 };
            let first = self.context_or(address, kind);
            self.put(send + 16 * n, &first.to_le_bytes());
            let second = self.random.mostly(bytes | kind | command | options, 20);
            self.put(send + 16 * n + 8, &second.to_le_bytes());
        }
        let length = self.random.mostly(512, 20);
        let tail = self.random.mostly(20, 20);
        let control = self.random.mostly(0x0400_801E, 5);
        for (register, value) in [
            (0x3800, send),
            (0x3804, send >> 32),
            (0x3808, length),
            (0x3810, 0),
            (0x2800, receive),
            (0x2804, receive >> 32),
            (0x2808, length),
            (0x2810, 0),
            (0x00D0, u64::MAX),
            (0x0100, control),
            (0x0400, 0x10FA),
            (0x2818, tail),
            (0x3818, tail),
        ] {
            self.write(space, base + register, Width::Dword, value);
        }
        let frames = self.bare.exchange_frames(&[0xFF; 200]);
        self.count("frames sent", frames as u64);
        self.let_time_pass();
        self.read(space, base + 0xC0, Width::Dword);
        let taken = self.read(space, base + 0x2810, Width::Dword);
        self.count("frames received", u64::from(taken != 0));
        let (eeprom, phy) = (self.random.below(0x100) << 8 | 1, self.random.below(32) << 16);
        self.write(space, base + 0x14, Width::Dword, eeprom);
        let direction = self.random.of(&[1 << 26, 2 << 26]);
        self.write(space, base + 0x20, Width::Dword, direction | phy | 1 << 21);
    }

    /// A context's offsets where a buffer's address would stand, in context descriptors.
    fn context_or(&mut self, address: u64, kind: u64) -> u64 {
        if kind == 1 << 29 && self.random.one_in(2) {
            return self.random.mostly(0x0000_3222_0021_180E, 4);
        }
        address
    }

    /// The NE2000: its ring set up, frames sent from it and taken out of it.
    pub fn drive_ne2000(&mut self) {
        let card = self.window("ne2000", 0).or_else(|| self.window("rtl8029", 0));
        let Some((_, base)) = card else { return };
        let stop = self.random.mostly(0x80, 12);
        let settings = [
            (0x00, 0x21),
            (0x0E, 0x49),
            (0x0D, 0x00),
            (0x0C, 0x1C),
            (0x01, 0x46),
            (0x03, 0x46),
            (0x02, stop),
        ];
        for (register, value) in settings.into_iter().chain([(0x0F, 0x3F), (0x07, 0xFF)]) {
            let value = self.random.mostly(value, 40);
            self.out(base + register, value);
        }
        self.out(base, 0x62); // page 1
        let current = self.random.mostly(0x47, 10);
        self.out(base + 7, current);
        let command = self.random.mostly(0x22, 20);
        self.out(base, command);
        let bytes = self.random.of(&[60, 64, 1514, 0]);
        let length = self.random.mostly(bytes, 10);
        self.move_by_ne2000(base, 0x4000, length, 0x12);
        for (register, value) in [(4, 0x40), (5, length & 0xFF), (6, length >> 8), (0, 0x26)] {
            self.out(base + register, value);
        }
        let frames = self.bare.exchange_frames(&[0xFF; 200]);
        self.count("frames sent", frames as u64);
        self.let_time_pass();
        let reasons = self.read(Space::Port, base + 7, Width::Byte);
        self.count("NE2000 frames", reasons & 1);
        let page = self.random.mostly(0x47, 5);
        let count = self.random.mostly(204, 8);
        self.move_by_ne2000(base, page << 8, count, 0x0A);
        let boundary = self.random.mostly(0x47, 5);
        self.out(base + 3, boundary);
        self.out(base + 7, 0xFF);
    }

    /// Moves bytes between the card's memory and its data port.
    fn move_by_ne2000(&mut self, base: u64, address: u64, bytes: u64, command: u64) {
        for (register, value) in
            [(0xA, bytes & 0xFF), (0xB, bytes >> 8), (8, address & 0xFF), (9, address >> 8), (0, command)]
        {
            self.out(base + register, value);
        }
        for _ in 0..bytes.min(1600) / 2 {
            match command {
                0x12 => self.write(Space::Port, base + 0x10, Width::Word, 0xFFFF),
                _ => drop(self.read(Space::Port, base + 0x10, Width::Word)),
            }
        }
    }

    /// Buffers for AC'97's three bus masters.
    pub fn drive_ac97(&mut self) {
        let (Some((space, mixer)), Some((_, masters))) = (self.window("ac97", 0), self.window("ac97", 1))
        else {
            return;
        };
        let master = masters + 0x10 * self.random.below(3);
        let list = self.random.address() & !7;
        for n in 0..32 {
            let (address, samples) = (self.random.address(), self.random.of(&[0, 1, 2, 64, 2000, 0xFFFE]));
            let flags = self.random.below(4) << 30;
            self.put(list + 8 * n, &(address & 0xFFFF_FFFE | (samples | flags) << 32).to_le_bytes());
        }
        let (rate, last) = (self.random.mostly(44_100, 4), self.random.below(32));
        self.write(space, mixer + 0x2A, Width::Word, 1);
        self.write(space, mixer + 0x2C, Width::Word, rate);
        self.write(space, master, Width::Dword, list);
        self.write(space, master + 5, Width::Byte, last);
        let control = self.random.mostly(0x1D, 5);
        self.write(space, master + 0xB, Width::Byte, control);
        for _ in 0..4 {
            self.let_time_pass();
            let status = self.read(space, master + 6, Width::Word);
            self.count("AC'97 buffers ended", status >> 3 & 1);
        }
    }

    /// Commands for the Sound Blaster's DSP, with a DMA channel to feed it, and notes for its OPL3.
    pub fn drive_sb16(&mut self) {
        const COMMANDS: [(u64, usize); 28] = [
            (0x10, 1),
            (0x14, 2),
            (0x1C, 0),
            (0x20, 0),
            (0x24, 2),
            (0x2C, 0),
            (0x40, 1),
            (0x41, 2),
            (0x42, 2),
            (0x48, 2),
            (0x74, 2),
            (0x75, 2),
            (0x7D, 0),
            (0x80, 2),
            (0x90, 0),
            (0xB6, 3),
            (0xC6, 3),
            (0xB0, 3),
            (0xCE, 3),
            (0xD0, 0),
            (0xD1, 0),
            (0xD4, 0),
            (0xD5, 0),
            (0xDA, 0),
            (0xE0, 1),
            (0xE1, 0),
            (0xE2, 1),
            (0xF2, 0),
        ];
        if self.random.one_in(5) {
            self.out(0x226, 1);
            self.out(0x226, 0);
        }
        let channel = self.random.of(&[1, 5]);
        self.program_dma(channel);
        for _ in 0..6 {
            let (command, parameters) = self.random.of(&COMMANDS);
            self.out(0x22C, command);
            for _ in 0..parameters {
                let value = self.random.value();
                self.out(0x22C, value);
            }
            let (register, value) = (self.random.below(0x100), self.random.value());
            let bank = 2 * self.random.below(2);
            self.out(0x388 + bank, register);
            self.out(0x389 + bank, value);
            self.let_time_pass();
            let port = self.random.of(&[0x22A, 0x22C, 0x22E, 0x22F, 0x225]);
            self.read(Space::Port, port, Width::Byte);
        }
    }

    /// Blocks that fw_cfg is to move by DMA.
    pub fn drive_fw_cfg(&mut self) {
        let (block, selector) = (self.random.address(), self.random.of(&[0, 1, 0x19, 0x20, 0x22, 0x8000]));
        let operation = self.random.mostly(operation(selector), 6) as u32;
        let (length, address) = (self.random.value() as u32 & 0xF_FFFF, self.random.address());
        self.put(block, &operation.to_be_bytes());
        self.put(block + 4, &length.to_be_bytes());
        self.put(block + 8, &address.to_be_bytes());
        self.write(Space::Port, 0x514, Width::Dword, u64::from(((block >> 32) as u32).swap_bytes()));
        self.write(Space::Port, 0x518, Width::Dword, u64::from((block as u32).swap_bytes()));
    }

    /// Rings of a virtio device: negotiated, filled and offered, with errors in each.
    pub fn drive_virtio(&mut self) {
        let counts = self.bare.bus().counts();
        let bases: Vec<u64> = counts
            .iter()
            .filter(|window| window.device.starts_with("virtio"))
            .filter_map(|window| window.base)
            .collect();
        if bases.is_empty() {
            return;
        }
        let base = self.random.of(&bases);
        if !self.random.one_in(4) {
            self.negotiate(base);
        }
        for _ in 0..1 + self.random.below(6) {
            let queue = self.random.below(4);
            let ring = ring(queue);
            let heads = 1 + self.random.below(6);
            for n in 0..heads {
                let (length, writes_from) = match self.random.below(20) {
                    0 => (1, 0),
                    1 => (4, self.random.below(5)),
                    _ => (2 + self.random.below(3), 1),
                };
                let head = self.random.below(32);
                for k in 0..length {
                    self.put_descriptor(
                        ring + 16 * ((head + k) % 64),
                        head + k + 1,
                        k + 1 < length,
                        k >= writes_from,
                    );
                }
                self.put(ring + 0x1004 + 2 * n, &(head as u16).to_le_bytes());
            }
            let index = self.random.mostly(heads, 30) as u16;
            self.put(ring + 0x1002, &index.to_le_bytes());
            self.write(Space::Memory, base + 0x3000 + 4 * queue, Width::Word, queue);
            self.bare.settle();
            let mut used = [0; 2];
            self.bare.memory().dma_read(ring + 0x1802, &mut used);
            self.count("virtio rings used", u64::from(used != [0; 2]));
            if self.random.one_in(2) {
                self.let_time_pass();
            }
        }
    }

    pub fn negotiate(&mut self, base: u64) {
        for status in [0, 3] {
            self.write(Space::Memory, base + 20, Width::Byte, status);
        }
        for half in 0..2 {
            self.write(Space::Memory, base, Width::Dword, half);
            let offered = self.read(Space::Memory, base + 4, Width::Dword);
            let subset = offered & (self.random.next() | self.random.next());
            let chosen = self.random.mostly(subset, 30) | half;
            self.write(Space::Memory, base + 8, Width::Dword, half);
            self.write(Space::Memory, base + 12, Width::Dword, chosen);
        }
        self.write(Space::Memory, base + 20, Width::Byte, 0xB);
        for queue in 0..self.read(Space::Memory, base + 18, Width::Word).min(8) {
            self.write(Space::Memory, base + 22, Width::Word, queue);
            let most = self.read(Space::Memory, base + 24, Width::Word).min(64);
            let size = self.random.mostly(most, 30);
            self.put(ring(queue) + 0x1000, &[0; 0x1000]);
            let ring = self.random.mostly(ring(queue), 60);
            for (offset, width, value) in [
                (22, Width::Word, queue),
                (24, Width::Word, size),
                (26, Width::Word, queue),
                (32, Width::Qword, ring),
                (40, Width::Qword, ring.wrapping_add(0x1000)),
                (48, Width::Qword, ring.wrapping_add(0x1800)),
                (28, Width::Word, 1),
            ] {
                self.write(Space::Memory, base + offset, width, value);
            }
        }
        self.write(Space::Memory, base + 20, Width::Byte, 0xF);
    }

    /// A descriptor, its buffer often with a header that some kind of device knows.
    fn put_descriptor(&mut self, at: u64, next: u64, more: bool, writes: bool) {
        let (address, bytes) =
            (self.random.address(), self.random.of(&[1, 4, 8, 12, 16, 20, 24, 40, 512, 4096, 0x3000]));
        let mut header = [0; 24];
        let words = [0, 1, 4, 8, 11, 13, 0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x200, 0x201, 0x300, 99];
        for word in header.chunks_exact_mut(4) {
            let value =
                if self.random.one_in(2) { self.random.of(&words) } else { self.random.below(70) as u32 };
            word.copy_from_slice(&value.to_le_bytes());
        }
        if self.random.one_in(2) {
            self.put(address, &header);
        }
        let length = self.random.mostly(bytes, 60) as u32;
        let flags = self.random.mostly(u64::from(more) | u64::from(writes) << 1, 100) as u16;
        let next = self.random.mostly(next % 64, 100) as u16;
        let mut descriptor = address.to_le_bytes().to_vec();
        descriptor.extend(length.to_le_bytes());
        descriptor.extend(flags.to_le_bytes());
        descriptor.extend(next.to_le_bytes());
        self.put(at, &descriptor);
    }
}

/// Where the ring of a queue lies: descriptors, then what is offered, then what is used.
pub fn ring(queue: u64) -> u64 {
    0x4_0000 + 0x2000 * queue
}

/// Select an item and read, skip or write it.
fn operation(selector: u64) -> u64 {
    selector << 16 | 8 | [2, 4, 0x10][(selector % 3) as usize]
}
