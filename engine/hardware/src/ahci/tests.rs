//! The controller as a driver sees it: a command list in memory, frames out and in.

use storage::MemoryDisk;

use super::*;
use crate::line::testing::Level;

const LIST: u64 = 0x1000;
const FRAMES: u64 = 0x2000;
const TABLE: u64 = 0x3000;
const BUFFER: u64 = 0x1_0000;

struct Rig {
    ahci: AhciController,
    memory: Arc<Memory>,
    level: Arc<Level>,
}

fn image() -> MemoryDisk {
    MemoryDisk::new((0..128u32 * 512).map(|n| (n / 512) as u8).collect()).unwrap()
}

fn rig() -> Rig {
    let memory = Memory::new(1 << 20, 0).unwrap();
    let level = Arc::<Level>::default();
    let mut ahci = AhciController::new(Line::new(level.clone(), 0), memory.clone());
    ahci.plug_disk(0, Box::new(image())).unwrap();
    ahci.plug_optical(1, Some(Box::new(image().read_only()))).unwrap();
    let mut rig = Rig { ahci, memory, level };
    for port in 0..2 {
        rig.set(port, 0x30, u32::MAX);
        rig.set(port, 0x00, LIST as u32);
        rig.set(port, 0x08, FRAMES as u32);
        rig.set(port, 0x14, 0xFDC0_00FF);
        rig.set(port, 0x18, 0x10);
        rig.set(port, 0x18, 0x11);
    }
    rig.write(4, 2);
    rig
}

impl Rig {
    fn read(&mut self, offset: u64) -> u32 {
        self.ahci.read(At::new(0, offset), Width::Dword) as u32
    }
    fn write(&mut self, offset: u64, value: u32) {
        self.ahci.write(At::new(0, offset), Width::Dword, value.into());
    }
    fn get(&mut self, port: u64, register: u64) -> u32 {
        self.read(0x100 + 0x80 * port + register)
    }
    fn set(&mut self, port: u64, register: u64, value: u32) {
        self.write(0x100 + 0x80 * port + register, value);
    }

    /// Builds slot `slot`: a command frame, perhaps a packet, and regions of memory.
    fn build(&mut self, slot: u64, frame: &[u8], packet: Option<&[u8]>, regions: &[(u64, u32)]) {
        let table = TABLE + 0x400 * slot;
        let flags = 5 | if packet.is_some() { 0x20 } else { 0 } | (regions.len() as u32) << 16;
        let header = [flags, 0, table as u32, 0].map(u32::to_le_bytes).concat();
        self.memory.dma_write(LIST + 32 * slot, &header);
        self.memory.dma_write(table, &[0; 0x80]);
        self.memory.dma_write(table, frame);
        self.memory.dma_write(table + 0x40, packet.unwrap_or(&[]));
        for (n, (address, length)) in (0u64..).zip(regions) {
            let entry = [*address as u32, 0, 0, length - 1].map(u32::to_le_bytes).concat();
            self.memory.dma_write(table + 0x80 + 16 * n, &entry);
        }
    }

    fn moved(&self, slot: u64) -> u32 {
        let mut bytes = [0; 4];
        self.memory.dma_read(LIST + 32 * slot + 4, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn memory<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.dma_read(at, &mut bytes);
        bytes
    }
}

/// A command frame: code, sector, count, features.
fn frame(code: u8, sector: u32, count: u16, features: u16) -> [u8; 20] {
    let ([l0, l1, l2, l3], [c0, c1], [f0, f1]) =
        (sector.to_le_bytes(), count.to_le_bytes(), features.to_le_bytes());
    [0x27, 0x80, code, f0, l0, l1, l2, 0x40, l3, 0, 0, f1, c0, c1, 0, 0, 0, 0, 0, 0]
}

#[test]
fn drives_show_what_they_are() {
    let mut rig = rig();
    assert_eq!(rig.read(0x0C), 0x3F);
    assert_eq!(rig.read(0) & 0x1F, 5);
    assert_eq!((rig.get(0, 0x24), rig.get(1, 0x24)), (0x0000_0101, 0xEB14_0101));
    assert_eq!((rig.get(0, 0x28), rig.get(2, 0x28)), (0x113, 0));
    assert_eq!((rig.get(0, 0x20) & 0xFF, rig.get(2, 0x20)), (0x50, 0x7F));
}

#[test]
fn identify_comes_by_pio_and_tells_of_queueing() {
    let mut rig = rig();
    rig.build(0, &frame(0xEC, 0, 0, 0), None, &[(BUFFER, 512)]);
    rig.set(0, 0x38, 1);
    assert_eq!(rig.get(0, 0x38), 0);
    assert_eq!(rig.get(0, 0x10), 3, "PIO setup and register frames");
    assert!(rig.level.get());
    rig.set(0, 0x10, u32::MAX);
    rig.write(8, 1);
    assert!(!rig.level.get());
    let words = rig.memory::<512>(BUFFER);
    let word = |n: usize| u16::from_le_bytes([words[2 * n], words[2 * n + 1]]);
    assert_eq!((word(60), word(75), word(93)), (128, 31, 0));
    assert_eq!(word(76) & 0x100, 0x100);
    assert_eq!(rig.moved(0), 512);
    assert_eq!(rig.memory::<2>(FRAMES + 0x20), [0x5F, 0x60]);
    assert_eq!(rig.memory::<3>(FRAMES + 0x40), [0x34, 0x40, 0x50]);
}

#[test]
fn data_is_scattered_and_gathered() {
    let mut rig = rig();
    rig.build(
        3,
        &frame(0x25, 5, 3, 0),
        None,
        &[(BUFFER, 512), (BUFFER + 0x2000, 100), (BUFFER + 0x4000, 4096)],
    );
    rig.set(0, 0x38, 1 << 3);
    assert_eq!((rig.get(0, 0x38), rig.moved(3)), (0, 1536));
    assert_eq!(
        (rig.memory(BUFFER), rig.memory(BUFFER + 0x2000), rig.memory(BUFFER + 0x4000)),
        ([5], [6], [6])
    );
    assert_eq!(rig.memory(BUFFER + 0x4000 + 412), [7]);
    rig.memory.dma_write(BUFFER, &[0xEE; 512]);
    rig.build(0, &frame(0x35, 127, 1, 0), None, &[(BUFFER, 256), (BUFFER + 256, 256)]);
    rig.build(1, &frame(0x25, 127, 1, 0), None, &[(BUFFER + 0x8000, 512)]);
    rig.set(0, 0x38, 3);
    assert_eq!(rig.memory::<512>(BUFFER + 0x8000), [0xEE; 512], "in the order of the slots");
    let count = rig.ahci.counts()[0].1;
    assert_eq!((count.bytes_read, count.bytes_written), (2048, 512));
}

#[test]
fn queued_commands_end_by_device_bits() {
    let mut rig = rig();
    rig.memory.dma_write(BUFFER, &[0x77; 1024]);
    rig.build(2, &frame(0x61, 10, 2 << 3, 2), None, &[(BUFFER, 1024)]);
    rig.build(7, &frame(0x60, 11, 7 << 3, 1), None, &[(BUFFER + 0x1000, 512)]);
    rig.set(0, 0x34, 1 << 2 | 1 << 7);
    rig.set(0, 0x38, 1 << 2 | 1 << 7);
    assert_eq!((rig.get(0, 0x34), rig.get(0, 0x38)), (0, 0));
    assert_eq!(rig.get(0, 0x10), 8);
    assert_eq!(rig.memory::<512>(BUFFER + 0x1000), [0x77; 512]);
    assert_eq!(rig.memory::<8>(FRAMES + 0x58), [0xA1, 0x40, 0x50, 0, 1 << 7, 0, 0, 0]);
}

#[test]
fn a_queued_error_names_its_command() {
    let mut rig = rig();
    rig.build(4, &frame(0x60, 127, 4 << 3, 2), None, &[(BUFFER, 1024)]);
    rig.set(0, 0x34, 1 << 4);
    rig.set(0, 0x38, 1 << 4);
    assert_eq!(rig.get(0, 0x34), 1 << 4, "it is not over");
    assert_ne!(rig.get(0, 0x10) & 1 << 30, 0);
    assert_eq!(rig.get(0, 0x20), 0x1051, "no such sector");
    rig.set(0, 0x18, 0x10);
    rig.set(0, 0x10, u32::MAX);
    rig.set(0, 0x18, 0x11);
    rig.build(0, &frame(0x2F, 0x10, 1, 0), None, &[(BUFFER, 512)]);
    rig.set(0, 0x38, 1);
    let log = rig.memory::<512>(BUFFER);
    assert_eq!((log[0], log[2], log[3]), (4, 0x51, 0x10));
    assert_eq!(log.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
}

#[test]
fn the_logs_there_are_can_be_read_and_others_not() {
    let mut rig = rig();
    rig.build(0, &frame(0x2F, 0, 1, 0), None, &[(BUFFER, 512)]);
    rig.set(0, 0x38, 1);
    let directory = rig.memory::<512>(BUFFER);
    assert_eq!((directory[0], directory[0x20], rig.get(0, 0x20)), (1, 1, 0x50));
    assert_eq!(directory.iter().map(|byte| u32::from(*byte)).sum::<u32>(), 2, "no other log");
    rig.build(0, &frame(0x2F, 0x30, 1, 0), None, &[(BUFFER, 512)]);
    rig.set(0, 0x38, 1);
    assert_eq!(rig.get(0, 0x20) & 0xFF, 0x51);
}

#[test]
fn an_error_stops_the_port_until_the_guest_restarts_it() {
    let mut rig = rig();
    rig.build(0, &frame(0x25, 128, 1, 0), None, &[(BUFFER, 512)]);
    rig.build(1, &frame(0x25, 0, 1, 0), None, &[(BUFFER, 512)]);
    rig.set(0, 0x38, 3);
    assert_eq!((rig.get(0, 0x38), rig.get(0, 0x18) >> 8 & 0x1F), (3, 0), "slot 0 failed, 1 waits");
    rig.set(0, 0x10, u32::MAX);
    rig.write(8, 1);
    assert!(!rig.level.get(), "drivers clear the interrupt first; the command must not run, and fail, again");
    assert_eq!((rig.get(0, 0x38), rig.get(0, 0x10), rig.moved(1)), (3, 0, 0));
    rig.set(0, 0x18, 0x10);
    assert_eq!(rig.get(0, 0x38), 0);
    rig.set(0, 0x10, u32::MAX);
    rig.set(0, 0x18, 0x11);
    rig.set(0, 0x38, 2);
    assert_eq!((rig.get(0, 0x38), rig.moved(1)), (0, 512));
}

#[test]
fn too_little_memory_is_an_overflow() {
    let mut rig = rig();
    rig.build(0, &frame(0x25, 0, 2, 0), None, &[(BUFFER, 512)]);
    rig.set(0, 0x38, 1);
    assert_ne!(rig.get(0, 0x10) & 1 << 24, 0);
    assert_ne!(rig.get(0, 0x20) & 1, 0, "the command was given up");
}

#[test]
fn packets_are_read_by_dma_and_by_pio() {
    for dma in [0, 1] {
        let mut rig = rig();
        rig.build(
            0,
            &[0x27, 0x80, 0xA0, dma, 0, 0, 8, 0],
            Some(&[0x28, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0, 0]),
            &[(BUFFER, 4096)],
        );
        rig.set(1, 0x38, 1);
        assert_eq!(rig.get(1, 0x38), 0, "status {:#x}", rig.get(1, 0x20));
        assert_eq!(rig.moved(0), 4096);
        assert_eq!((rig.memory(BUFFER), rig.memory(BUFFER + 4095)), ([8], [15]), "blocks of 2048 bytes");
    }
}

#[test]
fn a_software_reset_and_a_link_reset_show_the_signature_again() {
    let mut rig = rig();
    rig.build(0, &[0x27, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4], None, &[]);
    rig.build(1, &[0x27, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], None, &[]);
    rig.set(1, 0x38, 1);
    rig.set(1, 0x38, 2);
    assert_eq!((rig.get(1, 0x38), rig.get(1, 0x24)), (0, 0xEB14_0101));
    rig.set(0, 0x2C, 0x301);
    assert_eq!(rig.get(0, 0x28), 0);
    rig.set(0, 0x2C, 0x300);
    assert_eq!((rig.get(0, 0x28), rig.get(0, 0x24)), (0x113, 0x101));
    rig.write(4, 1 | 2);
    assert_eq!((rig.read(4), rig.get(0, 0x18) & 0x11), (1 << 31, 0));
}

#[test]
fn a_drive_comes_and_goes_while_the_machine_runs() {
    let mut rig = rig();
    assert!(!rig.level.get());
    assert!(rig.ahci.unplug(0).unwrap().is_some());
    assert_eq!((rig.get(0, 0x28), rig.get(0, 0x20)), (0, 0x7F));
    assert_eq!(rig.get(0, 0x10), 1 << 6 | 1 << 22);
    assert!(rig.level.get());
    rig.set(0, 0x30, u32::MAX);
    rig.set(0, 0x38, 1);
    assert_eq!(rig.get(0, 0x38), 1, "nobody is there to do it");
    rig.ahci.plug_disk(0, Box::new(image())).unwrap();
    assert_eq!((rig.get(0, 0x28), rig.get(0, 0x24)), (0x113, 0x101));
    assert!(rig.ahci.plug_optical(6, None).is_err() && rig.ahci.eject(0).is_err());
    assert!(rig.ahci.eject(1).unwrap().is_some());
}

#[test]
fn contract() {
    crate::contract::check(|| rig_at_power_on().ahci);
}

fn rig_at_power_on() -> Rig {
    let Rig { mut ahci, memory, level } = rig();
    ahci.reset();
    Rig { ahci, memory, level }
}

/// Commands at random: random frames, headers and regions, as a guest that wishes ill would make them.
#[test]
fn no_command_list_breaks_the_controller() {
    for seed in 1..=40u64 {
        let mut rig = rig();
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut random = move |end: u64| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % end
        };
        for _ in 0..200 {
            let slot = random(32);
            let codes =
                [0xEC, 0xA1, 0x25, 0x35, 0x60, 0x61, 0xA0, 0xC8, 0xCA, 0x20, 0x30, 0x2F, random(256) as u8];
            let code = codes[random(13) as usize];
            let mut bytes = frame(code, random(140) as u32, random(260) as u16, random(40) as u16);
            if random(10) == 0 {
                bytes[random(20) as usize] = random(256) as u8;
            }
            let packet: Vec<u8> =
                (0..12).map(|n| if n == 0 { random(256) as u8 } else { random(4) as u8 }).collect();
            let regions: Vec<(u64, u32)> =
                (0..random(5)).map(|_| (random(1 << 21) * 2, 1 + random(0x8000) as u32)).collect();
            rig.build(slot, &bytes, (random(3) == 0).then_some(&packet[..]), &regions);
            let port = random(3);
            rig.set(port, 0x34, 1 << random(32));
            rig.set(port, 0x38, 1 << slot);
            if rig.get(port, 0x10) & 1 << 30 != 0 {
                rig.set(port, 0x18, 0x10);
                rig.set(port, 0x10, u32::MAX);
                rig.set(port, 0x18, 0x11);
            }
            if random(8) == 0 {
                let at = random(0x400) & !3;
                rig.read(at);
                rig.write(at, random(1 << 32) as u32);
                rig.set(port, 0x00, LIST as u32);
                rig.set(port, 0x04, 0);
                rig.set(port, 0x18, 0x11);
            }
        }
        let saved = rig.ahci.save();
        assert!(saved.len() < 1 << 20);
        rig.ahci.load(&saved).unwrap();
        assert!(rig.ahci.save() == saved);
    }
}
