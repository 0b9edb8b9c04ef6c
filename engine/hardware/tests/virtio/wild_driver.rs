//! A driver that writes almost right and quite wrong things into rings and registers of a virtio device.
//!
//! Nothing may panic, a saved state must come back, stay small, and no chain is given back twice.

use std::sync::Arc;

use hardware::input::Key;
use hardware::virtio::{Balloon, Block, Console, Entropy, Gpu, Input, Kind, Net, VirtioPci};
use hardware::{Alarm, At, Clock, Device, Jobs, Line, Memory, Messages, Width};

const RAM_BYTES: u64 = 1 << 20;
/// A saved device of these kinds is never longer than this.
const STATE_MAX_BYTES: usize = 256 << 10;

/// What came of a storm.
#[derive(Debug, Default)]
pub struct Report {
    /// Notifications sent.
    pub notifications: u64,
    /// Chains the device gave back.
    pub given_back: u64,
    /// Times the device said that it needs a reset.
    pub failures: u64,
}

impl std::ops::Add for Report {
    type Output = Report;
    fn add(self, other: Report) -> Report {
        Report {
            notifications: self.notifications + other.notifications,
            given_back: self.given_back + other.given_back,
            failures: self.failures + other.failures,
        }
    }
}

/// A kind of device, and a storm over it that is the same each time for one seed.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// One storm.
    pub storm: fn(u64) -> Report,
}

/// All kinds.
pub const DEVICES: &[Target] = &[
    Target {
        name: "entropy",
        storm: |seed| storm(seed, || Entropy::new(Box::new(|bytes| bytes.fill(7))), |_| {}),
    },
    Target { name: "block", storm: |seed| storm(seed, block, |_| {}) },
    Target {
        name: "console",
        storm: |seed| {
            storm(
                seed,
                || Console::new(Box::new(|_| {})),
                |device| {
                    device.with(|console, io| console.send(b"input", io));
                },
            )
        },
    },
    Target {
        name: "balloon",
        storm: |seed| {
            storm(seed, Balloon::new, |device| {
                device.with(|balloon, io| {
                    balloon.set_target_bytes(balloon.target_bytes() ^ 0x1000, io);
                    Ok(balloon.ask_statistics(io))
                });
            })
        },
    },
    Target {
        name: "net",
        storm: |seed| {
            let (near, far) = network::cable(network::Capacity::default());
            let far: Arc<dyn network::Link> = far;
            let net = move || {
                Net::new(network::Mac::for_name("wild"), near.clone(), Clock::manual(), Alarm::unconnected())
            };
            storm(seed, net, |device| {
                far.send(&[5; 3000]);
                far.receive(&mut Vec::new());
                device.advance();
            })
        },
    },
    Target {
        name: "gpu",
        storm: |seed| {
            storm(
                seed,
                || Gpu::new(64 << 10),
                |device| {
                    device.with(|gpu, io| {
                        gpu.resize(800, 600 + gpu.scan().map_or(0, |_| 1), io);
                        Ok(())
                    });
                },
            )
        },
    },
    Target {
        name: "keyboard",
        storm: |seed| {
            storm(seed, Input::keyboard, |device| {
                device.with(|keyboard, io| keyboard.key(Key::A, true, io));
            })
        },
    },
    Target {
        name: "tablet",
        storm: |seed| {
            storm(seed, Input::tablet, |device| {
                device.with(|tablet, io| tablet.point(1, 2, 3, 4, io));
            })
        },
    },
];

fn block() -> Block {
    let disk = storage::MemoryDisk::new(vec![0; 64 << 10]).expect("small enough");
    Block::new(Box::new(disk), "wild", 2, Jobs::at_once())
}

/// xorshift64*, by Vigna.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

struct Ring {
    descriptors: u64,
    available: u64,
    used: u64,
    size: u16,
    offered: u16,
}

struct Wild<K: Kind> {
    device: VirtioPci<K>,
    memory: Arc<Memory>,
    random: Random,
    rings: Vec<Ring>,
    report: Report,
}

fn storm<K: Kind>(seed: u64, make: impl Fn() -> K, poke: impl Fn(&mut VirtioPci<K>)) -> Report {
    let memory = Memory::new(RAM_BYTES, 0).expect("a small memory");
    let device =
        || VirtioPci::new("wild", make(), memory.clone(), Line::unconnected(), Messages::unconnected());
    let random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let report = Report::default();
    let mut wild = Wild { device: device(), memory: memory.clone(), random, rings: Vec::new(), report };
    for _ in 0..20 {
        wild.negotiate();
        for _ in 0..40 {
            wild.write_chains();
            wild.notify();
            if wild.random.one_in(4) {
                poke(&mut wild.device);
            }
            if wild.random.one_in(8) {
                wild.touch_anything();
            }
        }
        wild.take_stock();
        let state = wild.device.save();
        assert!(state.len() < STATE_MAX_BYTES, "a state of {} bytes", state.len());
        let mut other = device();
        other.load(&state).expect("a device loads what another saved");
        assert!(other.save() == state, "a loaded device differs");
        wild.device.write(At::new(0, 20), Width::Byte, 0);
    }
    wild.report
}

impl<K: Kind> Wild<K> {
    fn write(&mut self, offset: u64, width: Width, value: u64) {
        self.device.write(At::new(0, offset), width, value);
    }

    fn read(&mut self, offset: u64, width: Width) -> u64 {
        self.device.read(At::new(0, offset), width)
    }

    /// Mostly as it should be.
    fn negotiate(&mut self) {
        self.write(20, Width::Byte, 3);
        for half in 0..2 {
            self.write(0, Width::Dword, half);
            let offered = self.read(4, Width::Dword);
            let chosen = if self.random.one_in(2) { offered } else { offered & self.random.next() };
            let chosen = if self.random.one_in(20) { self.random.next() & 0xFFFF_FFFF } else { chosen };
            self.write(8, Width::Dword, half);
            self.write(12, Width::Dword, chosen | half); // version 1
        }
        self.write(20, Width::Byte, 0xB);
        self.rings.clear();
        for number in 0..self.read(18, Width::Word) {
            self.write(22, Width::Word, number);
            let size = (self.read(24, Width::Word) >> self.random.below(5)).max(1);
            let base = 0x4_0000 + 0x8000 * number;
            let wrong = if self.random.one_in(60) { self.random.next() >> self.random.below(60) } else { 0 };
            let ring = Ring {
                descriptors: base ^ wrong,
                available: base + 0x2000,
                used: base + 0x4000,
                size: size as u16,
                offered: 0,
            };
            self.memory.dma_write(base, &[0; 0x8000]);
            self.write(24, Width::Word, size);
            for (field, at) in [(32, ring.descriptors), (40, ring.available), (48, ring.used)] {
                self.write(field, Width::Qword, at);
            }
            self.write(28, Width::Word, 1);
            self.rings.push(ring);
        }
        self.write(20, Width::Byte, 0xF);
    }

    /// A buffer: mostly RAM, sometimes with a header that a block device knows, sometimes nowhere.
    fn buffer(&mut self) -> (u64, u32) {
        let address = self.random.below(RAM_BYTES / 2 / 512) * 512 + RAM_BYTES / 2;
        let length = match self.random.below(40) {
            0 => [1, 8][self.random.below(2) as usize],
            _ => [16, 20, 512, 4096, 0x3000][self.random.below(5) as usize],
        };
        if self.random.one_in(2) {
            let mut header = [0; 16];
            header[0] = [0, 1, 4, 8, 11, 13, 99][self.random.below(7) as usize];
            header[8] = self.random.below(140) as u8;
            self.memory.dma_write(address, &header);
        }
        match self.random.below(400) {
            0 => (self.random.next() >> self.random.below(64), length),
            1 => (address, (self.random.next() >> self.random.below(32)) as u32),
            2 => (RAM_BYTES - 8, length),
            _ => (address, length),
        }
    }

    /// Fills descriptors and offers some of them.
    fn write_chains(&mut self) {
        for n in 0..self.rings.len() {
            let (table, available, size) =
                (self.rings[n].descriptors, self.rings[n].available, self.rings[n].size);
            // Mostly one buffer to read and some to write, as most devices like it.
            let (length, writes_from) = match self.random.below(40) {
                0 => (3, self.random.below(4)),
                1 => (1, self.random.below(2)),
                _ => (2 + self.random.below(3), 1),
            };
            let head = self.random.below(size.into()) as u16;
            for k in 0..length {
                let (address, bytes) = self.buffer();
                let more = u16::from(k + 1 < length);
                let mut flags = more | if k >= writes_from { 2 } else { 0 };
                let mut next = (head.wrapping_add(k as u16 + 1)) % size;
                if self.random.one_in(100) {
                    (flags, next) = (self.random.next() as u16 & 7, self.random.next() as u16);
                }
                let mut descriptor = address.to_le_bytes().to_vec();
                descriptor.extend(bytes.to_le_bytes());
                descriptor.extend(flags.to_le_bytes());
                descriptor.extend(next.to_le_bytes());
                let place = u64::from(head.wrapping_add(k as u16) % size);
                self.memory.dma_write(table.wrapping_add(16 * place), &descriptor);
            }
            let ring = &mut self.rings[n];
            let place = u64::from(ring.offered % size);
            self.memory.store_u16(available + 4 + 2 * place, head);
            ring.offered = ring.offered.wrapping_add(1);
            let wrong = if self.random.one_in(200) { self.random.next() as u16 } else { 0 };
            self.memory.store_u16(available + 2, ring.offered ^ wrong);
        }
    }

    fn notify(&mut self) {
        let queue = self.random.below(self.rings.len() as u64 + 1);
        self.report.notifications += 1;
        self.write(0x3000 + 4 * queue, Width::Word, queue);
    }

    /// Any register, any width, any value, but for the status: that would end the fun.
    fn touch_anything(&mut self) {
        let offset = self.random.below(0x6000);
        let width = [Width::Byte, Width::Word, Width::Dword, Width::Qword][self.random.below(4) as usize];
        self.read(offset, width);
        let value = self.random.next() & width.ones();
        if !(16..24).contains(&offset) {
            self.write(offset, width, value);
        }
    }

    fn take_stock(&mut self) {
        for ring in &self.rings {
            let used = self.memory.load_u16(ring.used + 2);
            self.report.given_back += u64::from(used);
        }
        self.report.failures += u64::from(self.read(20, Width::Byte) & 0x40 != 0);
    }
}
