//! Drivers of IDE, AHCI and floppy that are almost right: commands there are, with buffers in RAM, and errors in each.

use hardware::{Space, Width};

use super::guest::Guest;

/// Commands of disks and CD drives (ATA/ATAPI-6, table 10), those that move data more than once.
const ATA: [u64; 44] = [
    0x20, 0x24, 0x25, 0x25, 0x27, 0x29, 0x30, 0x34, 0x35, 0x35, 0x39, 0x3C, 0x40, 0x42, 0x70, 0x91, 0x95,
    0x98, 0xC4, 0xC5, 0xC6, 0xC8, 0xC8, 0xCA, 0xCA, 0xE0, 0xE1, 0xE5, 0xE7, 0xEA, 0xEC, 0xEF, 0xF8, 0x08,
    0x10, 0xA0, 0xA0, 0xA0, 0xA0, 0xA0, 0xA1, 0x60, 0x61, 0x2F,
];
/// Commands of CD drives (MMC-3).
const MMC: [u8; 26] = [
    0x00, 0x01, 0x03, 0x12, 0x15, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x28, 0x28, 0xA8, 0x2B, 0x42, 0x43, 0x46,
    0x4A, 0x4E, 0x51, 0x55, 0x5A, 0xB9, 0xBD, 0xBE, 0xBE,
];

impl Guest {
    fn packet(&mut self) -> [u8; 12] {
        let mut packet = [0; 12];
        packet[0] = self.random.of(&MMC);
        for byte in &mut packet[1..] {
            *byte = match self.random.below(4) {
                0 => self.random.next() as u8,
                1 => self.random.below(8) as u8,
                _ => 0,
            };
        }
        packet
    }

    /// Bytes of a buffer: mostly whole sectors.
    fn buffer_bytes(&mut self) -> u64 {
        let sectors = self.random.of(&[1, 1, 2, 4, 8, 64]);
        self.random.mostly(sectors * 512, 10)
    }

    /// One command to a drive on an IDE channel, by PIO or by DMA.
    pub fn drive_ide(&mut self) {
        let second = self.random.below(2);
        let (base, control) = [(0x1F0, 0x3F6), (0x170, 0x376)][second as usize];
        let master = 0xC000 + 8 * second;
        let (device, reset) = (self.random.below(2) << 4, self.random.one_in(12));
        if reset {
            self.out(control, 4);
            self.out(control, 0);
        }
        self.out(base + 6, 0xE0 | device);
        let command = self.random.of(&ATA);
        for register in 1..6 {
            for _ in 0..1 + u64::from(command & 4 != 0) {
                let value = if self.random.one_in(3) { self.random.value() } else { self.random.below(9) };
                self.out(base + register, value);
            }
        }
        let table = self.random.address() & !3;
        for entry in 0..4 {
            let (address, bytes) = (self.random.address(), self.buffer_bytes());
            let last = if self.random.one_in(3) || entry == 3 { 1 << 31 } else { 0 };
            let entry_bytes = (address & 0xFFFF_FFFE | (bytes & 0xFFFE | last) << 32).to_le_bytes();
            self.put(table + 8 * entry, &entry_bytes);
        }
        self.write(Space::Port, master + 4, Width::Dword, table);
        let command = self.random.mostly(command, 30);
        self.out(base + 7, command);
        if command == 0xA0 {
            let packet = self.packet();
            for pair in packet.chunks_exact(2) {
                self.write(Space::Port, base, Width::Word, u64::from(pair[0]) | u64::from(pair[1]) << 8);
            }
        }
        let direction = 8 * self.random.below(2);
        self.out(master, 1 | direction);
        let (words, is_read) = (self.random.of(&[0, 1, 20, 256, 300, 600]), self.random.one_in(2));
        for _ in 0..words {
            match is_read {
                true => drop(self.read(Space::Port, base, Width::Word)),
                false => self.write(Space::Port, base, Width::Word, 0x5AA5),
            }
        }
        let [status, mastered, _] =
            [base + 7, master + 2, base + 1].map(|port| self.read(Space::Port, port, Width::Byte));
        self.count("IDE commands done", u64::from(status & 0x89 == 0));
        self.count("IDE transfers by DMA", u64::from(mastered & 6 == 4));
        self.out(master, 0);
        self.out(master + 2, 6);
    }

    /// A list of commands for an AHCI port.
    pub fn drive_ahci(&mut self) {
        let Some((space, base)) = self.window("ahci", 0) else { return };
        let port = base + 0x100 + 0x80 * self.random.of(&[0, 0, 1, 1, 2, 5]);
        let list = self.random.address() & !0x3FF;
        let frames = self.random.address() & !0xFF;
        let slots = self.random.of(&[1, 1, 3, 0x8000_0001, 0xF]);
        for slot in (0..32).filter(|slot| slots >> slot & 1 != 0) {
            let table = self.random.address() & !0x7F;
            let entries = self.random.of(&[0, 1, 2, 4, 4, 9]);
            let flags = self.random.mostly(5, 10) & 0x1F | self.random.below(8) << 5 & 0x60;
            let entries_told = self.random.mostly(entries, 30) & 0xFFFF;
            self.put(list + 32 * slot, &(flags | entries_told << 16).to_le_bytes());
            self.put(list + 32 * slot + 8, &table.to_le_bytes());
            let command = self.random.of(&ATA) as u8;
            let count = if self.random.one_in(10) { self.random.value() } else { self.random.below(20) };
            let far = if self.random.one_in(10) { self.random.value() as u8 } else { 0 };
            let near = self.random.next() as u8 & 0x3F;
            let control = if self.random.one_in(30) { self.random.value() as u8 & 7 } else { 0 };
            let kind = self.random.mostly(0x27, 40) as u8;
            let frame = [
                kind,
                0x80,
                command,
                count as u8,
                near,
                near,
                far,
                0xC0 & near << 2 | 0x40,
                far,
                0,
                far,
                0,
                count as u8,
                (count >> 8) as u8,
                0,
                control,
            ];
            self.put(table, &frame);
            let packet = self.packet();
            self.put(table + 0x40, &packet);
            for entry in 0..entries {
                let (address, bytes) = (self.random.address(), self.buffer_bytes());
                self.put(table + 0x80 + 16 * entry, &address.to_le_bytes());
                let last = self.random.below(2) << 31;
                let length = bytes.wrapping_sub(1) & 0x3F_FFFF | last;
                self.put(table + 0x8C + 16 * entry, &(length as u32).to_le_bytes());
            }
        }
        let mut set = |register: u64, value: u64| self.write(space, register, Width::Dword, value);
        set(base + 4, 0x8000_0002);
        for (register, value) in [
            (0x18, 0),
            (0x00, list),
            (0x04, list >> 32),
            (0x08, frames),
            (0x0C, frames >> 32),
            (0x30, u64::MAX),
            (0x10, u64::MAX),
            (0x14, u64::MAX),
            (0x18, 0x11),
        ] {
            set(port + register, value);
        }
        if self.random.one_in(3) {
            self.write(space, port + 0x34, Width::Dword, slots);
        }
        self.write(space, port + 0x38, Width::Dword, slots);
        let [_, task, _, issued] =
            [0x10, 0x20, 0x34, 0x38].map(|register| self.read(space, port + register, Width::Dword));
        self.count("AHCI lists done", u64::from(task & 0x89 == 0 && issued == 0));
        if self.random.one_in(10) {
            let value = self.random.value();
            self.write(space, port + 0x2C, Width::Dword, value);
        }
        if self.random.one_in(40) {
            self.write(space, base + 4, Width::Dword, 1);
        }
    }

    /// Sets a channel of the 8237s going.
    pub fn program_dma(&mut self, channel: u64) {
        let (base, page) =
            (self.random.address() & 0xFF_FFFF, [0x87, 0x83, 0x81, 0x82, 0x8F, 0x8B, 0x89, 0x8A]);
        let count = self.random.of(&[0, 1, 511, 1023, 4095, 65535]);
        let mode = 0x40 | self.random.of(&[4, 8, 0, 0x14, 0x18, 0x28]) | channel & 3;
        let wide = channel >= 4;
        let registers = if wide { 0xC0 + 4 * (channel & 3) } else { 2 * (channel & 3) };
        let step = 1 + u64::from(wide);
        let (mask, mode_port, flip_flop) = if wide { (0xD4, 0xD6, 0xD8) } else { (0x0A, 0x0B, 0x0C) };
        self.out(mask, 4 | channel & 3);
        self.out(flip_flop, 0);
        self.out(mode_port, mode);
        for value in [base, base >> 8] {
            self.out(registers, value >> u64::from(wide));
        }
        for value in [count, count >> 8] {
            self.out(registers + step, value);
        }
        self.out(page[channel as usize & 7], base >> 16);
        self.out(mask, channel & 3);
        if wide {
            self.out(0xD6, 0xC0);
            self.out(0xD4, 0);
        }
    }

    /// A command to the floppy controller (82077AA, table 5-1).
    pub fn drive_floppy(&mut self) {
        const COMMANDS: [(u64, u64); 21] = [
            (0x03, 2),
            (0x04, 1),
            (0x06, 8),
            (0x46, 8),
            (0xE6, 8),
            (0xC5, 8),
            (0x45, 8),
            (0x07, 1),
            (0x08, 0),
            (0x4A, 1),
            (0x4D, 5),
            (0x0F, 2),
            (0x0E, 0),
            (0x10, 0),
            (0x12, 1),
            (0x13, 3),
            (0x14, 0),
            (0x16, 8),
            (0x42, 8),
            (0x94, 0),
            (0x51, 8),
        ];
        if self.random.one_in(10) {
            self.out(0x3F2, 0);
        }
        let motors = self.random.mostly(0x1C, 8);
        self.out(0x3F2, motors);
        self.program_dma(2);
        let (command, parameters) = self.random.of(&COMMANDS);
        self.out(0x3F5, command);
        let right: [u64; 8] =
            [0, self.random.below(80), self.random.below(2), 1 + self.random.below(18), 2, 18, 0x1B, 0xFF];
        for parameter in &right[..parameters as usize] {
            let value = self.random.mostly(*parameter, 12);
            self.out(0x3F5, value);
        }
        self.let_time_pass();
        for _ in 0..self.random.of(&[0, 2, 7, 12, 600]) {
            match self.random.one_in(8) {
                true => self.out(0x3F5, 0),
                false => drop(self.read(Space::Port, 0x3F5, Width::Byte)),
            }
        }
        let status = self.read(Space::Port, 0x3F4, Width::Byte);
        self.count("floppy commands done", u64::from(status & 0xD0 == 0x80));
    }
}
