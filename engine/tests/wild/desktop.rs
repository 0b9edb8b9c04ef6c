//! Drivers of virtio's GPU and of VMware's pointer that are almost right.

use hardware::{Space, Width};

use super::cards::ring;
use super::guest::Guest;

/// Pictures the guest knows.
const PICTURES: u64 = 4;

impl Guest {
    /// Pictures made, backed, shown, filled and taken away again.
    pub fn drive_gpu(&mut self) {
        let counts = self.bare.bus().counts();
        let is_gpu = |device: &str| device == "virtio-gpu";
        let Some(base) = counts
            .iter()
            .find(|window| is_gpu(&window.device) && window.base.is_some())
            .and_then(|window| window.base)
        else {
            return;
        };
        // Other devices have used the same rings meanwhile.
        if !self.random.one_in(8) {
            self.negotiate(base);
        }
        for _ in 0..1 + self.random.below(8) {
            let picture = 1 + self.random.below(PICTURES);
            let (width, height) = (self.size(), self.size());
            let part = [self.random.mostly(0, 4), self.random.mostly(0, 4), width, height];
            let [x, y, w, h] = part;
            match self.random.below(9) {
                0 => self.gpu_command(base, 0, 0x100, &[]),
                1 => self.gpu_command(base, 0, 0x10A, &[0, 0]),
                2 => {
                    let known = self.random.of(&[1, 2, 67, 68, 121, 134]);
                    let format = self.random.mostly(known, 8);
                    self.gpu_command(base, 0, 0x101, &[picture, format, width, height]);
                    self.back(base, picture, width.wrapping_mul(height).wrapping_mul(4) & 0xFFF_FFFF);
                }
                3 => self.gpu_command(base, 0, 0x102, &[picture, 0]),
                4 => {
                    let monitor = self.random.mostly(0, 8);
                    self.gpu_command(base, 0, 0x103, &[x, y, w, h, monitor, picture]);
                }
                5 => {
                    let offset = self.random.mostly(0, 3);
                    self.gpu_command(base, 0, 0x105, &[x, y, w, h, offset, offset >> 32, picture, 0]);
                    self.gpu_command(base, 0, 0x104, &[x, y, w, h, picture, 0]);
                }
                6 => self.gpu_command(base, 0, 0x107, &[picture, 0]),
                7 => self.back(base, picture, width.wrapping_mul(height).wrapping_mul(4) & 0xFFF_FFFF),
                _ => {
                    let kind = 0x300 + self.random.below(2);
                    let (hot_x, hot_y) = (self.random.value(), self.random.value());
                    self.gpu_command(base, 1, kind, &[0, x, y, 0, picture, hot_x, hot_y, 0]);
                }
            }
        }
        drop(self.bare.draw());
    }

    fn size(&mut self) -> u64 {
        let size = self.random.of(&[1, 16, 64, 64, 640, 1024]);
        self.random.mostly(size, 12)
    }

    /// Puts memory behind a picture, in a few pieces.
    fn back(&mut self, base: u64, picture: u64, bytes: u64) {
        let pieces = 1 + self.random.below(4);
        let mut words = vec![picture, self.random.mostly(pieces, 20)];
        for _ in 0..pieces {
            let (address, length) = (self.random.address(), self.random.mostly(bytes / pieces + 4, 10));
            words.extend([address, address >> 32, length, 0]);
        }
        self.gpu_command(base, 0, 0x106, &words);
    }

    /// A command in the next places of a queue: a request, and room for the answer.
    fn gpu_command(&mut self, base: u64, queue: u64, kind: u64, words: &[u64]) {
        let (ring, request, answer) = (ring(queue), self.random.address(), self.random.address());
        let mut bytes = (kind as u32).to_le_bytes().to_vec();
        bytes.extend([0; 20]);
        bytes[4] = self.random.below(2) as u8; // with a fence
        bytes.extend(words.iter().flat_map(|word| (*word as u32).to_le_bytes()));
        self.put(request, &bytes);
        let mut index = [0; 2];
        self.bare.memory().dma_read(ring + 0x1002, &mut index);
        let index = u64::from(u16::from_le_bytes(index));
        let places: u64 = if queue == 0 { 64 } else { 16 };
        let head = 2 * index % places;
        for (n, (address, length, flags)) in
            [(request, bytes.len() as u64, 1), (answer, 0x500, 2)].into_iter().enumerate()
        {
            let length = self.random.mostly(length, 40) as u32;
            let mut descriptor = address.to_le_bytes().to_vec();
            descriptor.extend(length.to_le_bytes());
            descriptor.extend((flags as u16).to_le_bytes());
            descriptor.extend((head as u16 + 1).to_le_bytes());
            self.put(ring + 16 * (head + n as u64), &descriptor);
        }
        self.put(ring + 0x1004 + 2 * (index % places), &(head as u16).to_le_bytes());
        self.put(ring + 0x1002, &(index as u16).wrapping_add(1).to_le_bytes());
        self.write(Space::Memory, base + 0x3000 + 4 * queue, Width::Word, queue);
        self.bare.settle();
        let mut told = [0; 4];
        self.bare.memory().dma_read(answer, &mut told);
        self.count("GPU commands done", u64::from(u32::from_le_bytes(told) >> 8 == 0x11));
    }

    /// Calls of VMware's pointer.
    pub fn call_vmware(&mut self) {
        for _ in 0..1 + self.random.below(12) {
            let magic = self.random.mostly(0x564D_5868, 10) as u32;
            let call = self.random.of(&[10, 39, 40, 41, 41, 41]);
            let argument = self.random.of(&[0x4541_4552, 0x4C45_5252, 0x5342_4152, 0xF5, 0, 4, 21]);
            let (call, argument) =
                (self.random.mostly(call, 10) as u32, self.random.mostly(argument, 10) as u32);
            let mut registers = [magic, argument, call, 0x5658];
            self.accesses += 1;
            self.note(format!("call {registers:x?}"));
            let is_answered = self.bare.bus().call(0x5658, &mut registers).is_some();
            self.count("calls answered", u64::from(is_answered && registers[0] != u32::MAX));
            if self.random.one_in(3) {
                self.hear_from_outside();
            }
        }
    }
}
