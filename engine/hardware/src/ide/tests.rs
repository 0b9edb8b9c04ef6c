//! What a guest sees through the ports: as a BIOS and a driver use them.

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use storage::MemoryDisk;

use super::*;
use crate::bus::Space;
use crate::device::shared;
use crate::line::LineSink;

const SECTORS: usize = 4096;
const DATA: u64 = 0x1F0;
const STATUS: u64 = 0x1F7;
const BUS_MASTER: u64 = 0xC000;
const CD: u64 = 0x170;

/// The levels of IRQ 14 and 15, and how often each rose.
#[derive(Default)]
struct Pins {
    level: [AtomicU32; 2],
    rises: [AtomicU32; 2],
}

impl LineSink for Pins {
    fn set(&self, number: u32, level: bool) {
        let before = self.level[number as usize].swap(level.into(), Ordering::Relaxed);
        if level && before == 0 {
            self.rises[number as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A disk that fails at one sector.
struct Damaged(MemoryDisk, u64);

impl Disk for Damaged {
    fn length_bytes(&self) -> u64 {
        self.0.length_bytes()
    }
    fn is_read_only(&self) -> bool {
        false
    }
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        if (offset..offset + buffer.len() as u64).contains(&(self.1 * 512)) {
            return Err(DiskError::Host(std::io::ErrorKind::Other.into()));
        }
        self.0.read_at(offset, buffer)
    }
    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        Err(DiskError::Host(std::io::ErrorKind::StorageFull.into()))
    }
    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

struct Guest {
    bus: Arc<Bus>,
    ide: Shared<IdeController>,
    memory: Arc<Memory>,
    pins: Arc<Pins>,
}

fn sector(n: usize) -> [u8; 512] {
    let mut bytes = [n as u8; 512];
    bytes[..4].copy_from_slice(&(n as u32).to_le_bytes());
    bytes
}

fn disk() -> MemoryDisk {
    MemoryDisk::new((0..SECTORS).flat_map(sector).collect()).unwrap()
}

fn disc(first: u8) -> Box<MemoryDisk> {
    let bytes = (0..200 * 2048).map(|n| first.wrapping_add((n / 2048) as u8)).collect();
    Box::new(MemoryDisk::new(bytes).unwrap().read_only())
}

fn guest_with(master: Box<dyn Disk>) -> Guest {
    let (bus, pins) = (Bus::new(), Arc::new(Pins::default()));
    let memory = Memory::new(4 << 20, 0).unwrap();
    let line = |n| Line::new(pins.clone(), n);
    let mut ide = IdeController::new([line(0), line(1)], memory.clone());
    ide.attach_disk(Position::PrimaryMaster, master);
    ide.attach_optical(Position::SecondaryMaster, Some(disc(0)));
    let ide = shared(ide);
    IdeController::connect(&ide, &bus);
    ide.lock().config_write(0x20, Width::Dword, BUS_MASTER as u32);
    ide.lock().config_write(0x04, Width::Word, 5);
    Guest { bus, ide, memory, pins }
}

fn guest() -> Guest {
    guest_with(Box::new(disk()))
}

impl Guest {
    fn inb(&self, port: u64) -> u8 {
        self.bus.read(Space::Port, port, Width::Byte, 0) as u8
    }
    fn outb(&self, port: u64, value: u8) {
        self.bus.write(Space::Port, port, Width::Byte, value.into(), 0);
    }
    fn outl(&self, port: u64, value: u32) {
        self.bus.write(Space::Port, port, Width::Dword, value.into(), 0);
    }
    /// `rep insw`.
    fn insw(&self, port: u64, bytes: usize) -> Vec<u8> {
        let word = |_| (self.bus.read(Space::Port, port, Width::Word, 0) as u16).to_le_bytes();
        (0..bytes.div_ceil(2)).flat_map(word).collect()
    }
    /// `rep outsd`.
    fn outsd(&self, port: u64, bytes: &[u8]) {
        for four in bytes.chunks(4) {
            self.outl(port, u32::from_le_bytes(four.try_into().unwrap()));
        }
    }
    fn rises(&self, n: usize) -> u32 {
        self.pins.rises[n].load(Ordering::Relaxed)
    }
    fn interrupt(&self, n: usize) -> bool {
        self.pins.level[n].load(Ordering::Relaxed) != 0
    }
    /// Registers for a 28-bit LBA command on the master, then the command.
    fn command(&self, code: u8, lba: u32, count: u8) {
        self.outb(0x1F6, 0xE0 | (lba >> 24) as u8);
        self.outb(0x1F2, count);
        for n in 0..3 {
            self.outb(0x1F3 + n, (lba >> (8 * n)) as u8);
        }
        self.outb(STATUS, code);
    }
    /// A packet to the CD drive; gives the status after it was taken.
    fn packet(&self, packet: &[u8], dma: bool) -> u8 {
        self.outb(CD + 6, 0xA0);
        self.outb(CD + 1, dma.into());
        self.outb(CD + 4, 0x00);
        self.outb(CD + 5, 0x08); // blocks of 2048 bytes
        self.outb(CD + 7, 0xA0);
        assert_eq!((self.inb(CD + 7), self.inb(CD + 2)), (0x58, 1), "it asks for the packet");
        let mut twelve = packet.to_vec();
        twelve.resize(12, 0);
        for word in twelve.chunks(2) {
            self.bus.write(Space::Port, CD, Width::Word, u16::from_le_bytes([word[0], word[1]]).into(), 0);
        }
        self.inb(CD + 7)
    }
    /// A packet whose reply is read by PIO, block by block.
    fn packet_in(&self, packet: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut status = self.packet(packet, false);
        while status & 0x08 != 0 {
            assert_eq!(self.inb(CD + 2), 2, "data to the guest");
            let count = u16::from_le_bytes([self.inb(CD + 4), self.inb(CD + 5)]);
            let read = self.insw(CD, count.into());
            bytes.extend_from_slice(&read[..count.into()]);
            assert!(self.interrupt(1));
            status = self.inb(CD + 7);
        }
        assert_eq!((status, self.inb(CD + 2)), (0x50, 3), "{packet:x?} ends well");
        bytes
    }
    /// Sense key, code and qualifier.
    fn sense(&self) -> [u8; 3] {
        let bytes = self.packet_in(&[0x03, 0, 0, 0, 18]);
        [bytes[2], bytes[12], bytes[13]]
    }
    /// A descriptor table at 1000h.
    fn table(&self, regions: &[(u32, u16)]) {
        for (n, (address, bytes)) in regions.iter().enumerate() {
            let end = if n + 1 == regions.len() { 0x8000 } else { 0u16 };
            let entry = [address.to_le_bytes(), (u32::from(end) << 16 | u32::from(*bytes)).to_le_bytes()];
            self.memory.dma_write(0x1000 + 8 * n as u64, &entry.concat());
        }
        self.outl(BUS_MASTER + 4, 0x1000);
        self.outl(BUS_MASTER + 12, 0x1000);
    }
    fn memory(&self, at: u64, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        self.memory.dma_read(at, &mut read);
        read
    }
}

fn word(bytes: &[u8], n: usize) -> u16 {
    u16::from_le_bytes([bytes[2 * n], bytes[2 * n + 1]])
}

#[test]
fn identify_tells_the_disk() {
    let guest = guest();
    guest.command(0xEC, 0, 0);
    assert!(guest.interrupt(0));
    assert_eq!(guest.inb(STATUS), 0x58);
    assert!(!guest.interrupt(0), "reading status acknowledges");
    let data = guest.insw(DATA, 512);
    assert_eq!(guest.inb(STATUS), 0x50);
    assert_eq!(guest.rises(0), 1, "no interrupt after the data");
    assert_eq!((word(&data, 1), word(&data, 3), word(&data, 6)), (4, 16, 63));
    assert_eq!((word(&data, 60), word(&data, 100)), (SECTORS as u16, SECTORS as u16));
    assert_eq!(&data[54..64], b"iVrtni eah", "the model's bytes are swapped in words");
    assert_eq!(data.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
}

#[test]
fn a_read_interrupts_once_per_sector() {
    let guest = guest();
    guest.command(0x20, 300, 3);
    for n in 300..303 {
        assert!(guest.interrupt(0));
        assert_eq!(guest.inb(STATUS), 0x58);
        assert_eq!(guest.insw(DATA, 512), sector(n));
    }
    assert_eq!(guest.inb(0x3F6), 0x50);
    assert_eq!(guest.rises(0), 3);
    assert_eq!([guest.inb(0x1F2), guest.inb(0x1F3), guest.inb(0x1F4)], [0, 46, 1], "the last sector: 302");
}

#[test]
fn a_write_interrupts_after_each_sector_and_reaches_the_disk() {
    let guest = guest();
    guest.command(0x30, 10, 2);
    assert_eq!(guest.inb(STATUS), 0x58);
    assert_eq!(guest.rises(0), 0, "the first block is asked for without an interrupt");
    guest.outsd(DATA, &[0xAA; 512]);
    assert!(guest.interrupt(0));
    assert_eq!(guest.inb(STATUS), 0x58);
    guest.outsd(DATA, &[0xBB; 512]);
    assert_eq!(guest.rises(0), 2);
    assert_eq!(guest.inb(STATUS), 0x50);
    guest.command(0x20, 10, 2);
    assert_eq!(guest.insw(DATA, 1024), [[0xAA; 512], [0xBB; 512]].concat());
    let count = guest.ide.lock().counts()[0];
    assert_eq!(
        count,
        (Position::PrimaryMaster, DriveCount { commands: 2, bytes_read: 1024, bytes_written: 1024 })
    );
}

#[test]
fn multiple_moves_blocks_and_a_short_last_one() {
    let guest = guest();
    guest.command(0xC4, 0, 1);
    assert_eq!((guest.inb(STATUS), guest.inb(0x1F1)), (0x51, 0x04), "not set yet");
    guest.command(0xC6, 0, 4);
    assert_eq!(guest.inb(STATUS), 0x50);
    let before = guest.rises(0);
    guest.command(0xC4, 8, 6);
    let mut data = Vec::new();
    for sectors in [4, 2] {
        assert_eq!(guest.inb(STATUS), 0x58);
        data.extend(guest.insw(DATA, sectors * 512));
    }
    assert_eq!(guest.rises(0) - before, 2);
    assert_eq!(data, (8..14).flat_map(sector).collect::<Vec<_>>());
    guest.command(0xC6, 0, 3);
    assert_eq!(guest.inb(STATUS), 0x51, "not a power of two");
}

#[test]
fn chs_follows_the_translation() {
    let guest = guest();
    guest.outb(0x1F6, 0xA0 | 3);
    guest.outb(0x1F2, 32);
    guest.outb(STATUS, 0x91); // 4 heads, 32 sectors
    assert_eq!(guest.inb(STATUS), 0x50);
    for (port, value) in [(0x1F2, 1), (0x1F3, 5), (0x1F4, 7), (0x1F5, 0), (0x1F6, 0xA2), (STATUS, 0x20)] {
        guest.outb(port, value);
    }
    assert_eq!(guest.insw(DATA, 512), sector((7 * 4 + 2) * 32 + 4));
    assert_eq!([guest.inb(0x1F3), guest.inb(0x1F4), guest.inb(0x1F6)], [5, 7, 0xA2]);
    guest.outb(0x1F2, 1);
    guest.outb(0x1F3, 0);
    guest.outb(STATUS, 0x20);
    assert_eq!((guest.inb(STATUS), guest.inb(0x1F1)), (0x51, 0x10), "sectors count from 1");
}

#[test]
fn forty_eight_bit_registers_are_two_deep() {
    let guest = guest();
    for (port, value) in [(0x1F2, 0), (0x1F3, 0x55), (0x1F2, 1), (0x1F3, 0x66)] {
        guest.outb(port, value);
    }
    guest.outb(0x3F6, 0x80);
    assert_eq!((guest.inb(0x1F2), guest.inb(0x1F3)), (0, 0x55));
    guest.outb(0x1F3, 0);
    assert_eq!(guest.inb(0x1F3), 0, "a write ends the view");
    guest.outb(0x1F6, 0xE0);
    for (port, value) in [(0x1F2, 0), (0x1F3, 0), (0x1F4, 0), (0x1F5, 0)] {
        guest.outb(port, value);
    }
    for (port, value) in [(0x1F2, 1), (0x1F3, 0xFF), (0x1F4, 0x0F), (0x1F5, 0)] {
        guest.outb(port, value);
    }
    guest.outb(STATUS, 0x24);
    assert_eq!(guest.insw(DATA, 512), sector(4095));
    guest.outb(STATUS, 0x27); // READ NATIVE MAX ADDRESS EXT
    assert_eq!((guest.inb(0x1F3), guest.inb(0x1F4)), (0xFF, 0x0F));
}

#[test]
fn errors_reach_the_guest() {
    let guest = guest_with(Box::new(Damaged(disk(), 21)));
    let end = |guest: &Guest| (guest.inb(STATUS), guest.inb(0x1F1));
    guest.command(0x20, SECTORS as u32 - 1, 2);
    assert_eq!(end(&guest), (0x51, 0x10), "past the end");
    guest.command(0x20, 20, 2);
    guest.insw(DATA, 512);
    assert!(guest.interrupt(0));
    assert_eq!(end(&guest), (0x51, 0x40), "uncorrectable");
    assert_eq!(guest.inb(0x1F3), 21);
    guest.command(0x30, 0, 1);
    guest.outsd(DATA, &[0; 512]);
    assert_eq!(end(&guest), (0x71, 0x04), "the host could not write");
    guest.command(0x40, 16, 16);
    assert_eq!(end(&guest), (0x51, 0x40), "verify looks too");
    for unknown in [0x00, 0xA0, 0xA1, 0xB0, 0xFF] {
        guest.command(unknown, 0, 0);
        assert_eq!(end(&guest), (0x51, 0x04), "{unknown:x}");
    }
}

#[test]
fn a_read_only_disk_aborts_writes() {
    let guest = guest_with(Box::new(disk().read_only()));
    for code in [0x30, 0x34, 0xCA, 0x35] {
        guest.command(code, 0, 1);
        assert_eq!((guest.inb(STATUS), guest.inb(0x1F1)), (0x51, 0x04));
    }
}

#[test]
fn a_software_reset_shows_signatures() {
    let guest = guest();
    guest.command(0xEF, 0, 0);
    guest.outb(0x3F6, 0x04);
    assert_eq!((guest.inb(0x3F6), guest.interrupt(0)), (0x80, false));
    guest.outb(0x3F6, 0x00);
    let registers = |base: u64| (1..=6).map(|n| guest.inb(base + n)).collect::<Vec<_>>();
    assert_eq!(registers(0x1F0), [1, 1, 1, 0, 0, 0xA0]);
    assert_eq!(guest.inb(STATUS), 0x50);
    guest.outb(0x376, 0x04);
    guest.outb(0x376, 0x00);
    assert_eq!(registers(CD), [1, 1, 1, 0x14, 0xEB, 0xA0]);
    assert_eq!(guest.inb(CD + 7), 0);
}

#[test]
fn a_drive_that_is_not_there_keeps_nothing_and_is_never_busy() {
    let guest = guest();
    guest.outb(0x1F6, 0xB0);
    guest.outb(0x1F2, 0x55);
    guest.outb(0x1F3, 0xAA);
    assert_eq!((guest.inb(0x1F2), guest.inb(0x1F3), guest.inb(STATUS)), (0, 0, 0));
    guest.outb(STATUS, 0xEC);
    assert_eq!((guest.inb(0x3F6), guest.interrupt(0)), (0, false));
    guest.outb(0x1F6, 0xA0);
    assert_eq!((guest.inb(0x1F2), guest.inb(0x1F3)), (0x55, 0xAA), "writes reach both drives");
}

#[test]
fn interrupts_can_be_held_off() {
    let guest = guest();
    guest.outb(0x3F6, 0x02);
    guest.command(0xEC, 0, 0);
    assert_eq!((guest.inb(0x3F6), guest.rises(0)), (0x58, 0));
    guest.outb(0x3F6, 0x00);
    assert!(guest.interrupt(0), "it was pending");
}

#[test]
fn power_and_feature_commands_end_well() {
    let guest = guest();
    for code in [0x10, 0x40, 0x70, 0xE0, 0xE1, 0xE2, 0xE3, 0xE6, 0xE7, 0xEA, 0x94, 0x99] {
        guest.command(code, 1, 1);
        assert_eq!(guest.inb(STATUS), 0x50, "{code:x}");
    }
    guest.command(0xE5, 0, 0);
    assert_eq!(guest.inb(0x1F2), 0x00, "standby");
    guest.command(0x20, 0, 1);
    guest.insw(DATA, 512);
    guest.command(0xE5, 0, 0);
    assert_eq!(guest.inb(0x1F2), 0xFF, "active");
    guest.outb(0x1F1, 0x03);
    guest.command(0xEF, 0, 0x42);
    assert_eq!(guest.inb(STATUS), 0x50);
    guest.command(0xEC, 0, 0);
    assert_eq!(word(&guest.insw(DATA, 512), 88), 0x043F);
    guest.command(0xF8, 0, 0);
    assert_eq!((guest.inb(0x1F3), guest.inb(0x1F4)), (0xFF, 0x0F));
}

#[test]
fn dma_reads_into_scattered_memory() {
    let guest = guest();
    guest.table(&[(0x1_0000, 256), (0x2_0000, 768)]);
    guest.outb(BUS_MASTER, 0x08);
    guest.command(0xC8, 100, 2);
    assert!(!guest.interrupt(0));
    guest.outb(BUS_MASTER, 0x09);
    assert!(guest.interrupt(0));
    assert_eq!(guest.inb(BUS_MASTER + 2) & 7, 4, "interrupt, and the table at its end");
    assert_eq!(guest.inb(STATUS), 0x50);
    let data = [guest.memory(0x1_0000, 256), guest.memory(0x2_0000, 768)].concat();
    assert_eq!(data, [sector(100), sector(101)].concat());
    guest.outb(BUS_MASTER, 0);
    guest.outb(BUS_MASTER + 2, 4);
    assert_eq!(guest.inb(BUS_MASTER + 2), 0);
}

#[test]
fn dma_writes_from_memory_and_starts_with_either() {
    let guest = guest();
    guest.memory.dma_write(0x3_0000, &[0xC3; 0x1_0000]);
    guest.table(&[(0x3_0000, 0)]); // 0 is 64 KiB
    guest.outb(BUS_MASTER, 0x01);
    assert_eq!(guest.inb(BUS_MASTER + 2), 1, "active, nothing to move yet");
    guest.command(0xCA, 1000, 128);
    assert_eq!((guest.inb(STATUS), guest.inb(BUS_MASTER + 2)), (0x50, 4));
    guest.command(0x20, 1127, 1);
    assert_eq!(guest.insw(DATA, 512), [0xC3; 512]);
}

#[test]
fn a_table_that_does_not_fit_the_command_is_told() {
    let guest = guest();
    guest.table(&[(0x1_0000, 4096)]);
    guest.command(0xC8, 0, 1);
    guest.outb(BUS_MASTER, 0x09);
    assert_eq!(guest.inb(BUS_MASTER + 2) & 7, 5, "larger: still active, with the interrupt");
    guest.outb(BUS_MASTER, 0);
    guest.outb(BUS_MASTER + 2, 4);
    guest.inb(STATUS);
    guest.table(&[(0x1_0000, 512)]);
    guest.command(0xC8, 0, 2);
    guest.outb(BUS_MASTER, 0x09);
    assert_eq!((guest.inb(BUS_MASTER + 2) & 7, guest.interrupt(0)), (0, false), "smaller: the drive waits");
}

#[test]
fn dma_waits_for_the_bus_master_enable_bit() {
    let guest = guest();
    guest.ide.lock().config_write(0x04, Width::Word, 1);
    guest.table(&[(0x1_0000, 512)]);
    guest.command(0xC8, 7, 1);
    guest.outb(BUS_MASTER, 0x09);
    assert!(!guest.interrupt(0));
    guest.ide.lock().config_write(0x04, Width::Word, 5);
    assert!(guest.interrupt(0));
    assert_eq!(guest.memory(0x1_0000, 512), sector(7));
}

#[test]
fn the_function_is_a_piix3() {
    let guest = guest();
    let mut ide = guest.ide.lock();
    assert_eq!(ide.config_read(0, Width::Dword), 0x7010_8086);
    assert_eq!(ide.config_read(8, Width::Dword), 0x0101_8000);
    assert_eq!(ide.config_read(0x40, Width::Dword), 0x8000_8000);
    assert_eq!(ide.config_read(0x20, Width::Dword), 0xC001);
    drop(ide);
    guest.ide.lock().reset();
    assert_eq!(guest.inb(BUS_MASTER), 0xFF, "the window is gone");
}

#[test]
fn a_packet_device_identifies_itself() {
    let guest = guest();
    guest.outb(CD + 6, 0xA0);
    guest.outb(CD + 7, 0xEC);
    assert_eq!((guest.inb(CD + 7), guest.inb(CD + 1)), (0x51, 4));
    assert_eq!((guest.inb(CD + 4), guest.inb(CD + 5)), (0x14, 0xEB));
    guest.outb(CD + 7, 0xA1);
    let data = guest.insw(CD, 512);
    assert_eq!((word(&data, 0), guest.inb(CD + 7)), (0x85C0, 0x50));
}

#[test]
fn a_cd_is_read_block_by_block() {
    let guest = guest();
    guest.packet_in(&[0x00]); // TEST UNIT READY
    assert_eq!(guest.packet_in(&[0x25]), [0, 0, 0, 199, 0, 0, 8, 0]);
    let before = guest.rises(1);
    let data = guest.packet_in(&[0x28, 0, 0, 0, 0, 16, 0, 0, 2]);
    assert_eq!(guest.rises(1) - before, 3, "two blocks and the end");
    assert_eq!(data, [[16; 2048], [17; 2048]].concat());
    assert_eq!(guest.packet_in(&[0xA8, 0, 0, 0, 0, 199, 0, 0, 0, 1]), [199; 2048]);
    assert_eq!(guest.packet_in(&[0xBE, 0, 0, 0, 0, 5, 0, 0, 1, 0x10]), [5; 2048]);
    let raw = guest.packet_in(&[0xBE, 0, 0, 0, 0, 5, 0, 0, 2, 0xF8]);
    assert_eq!(raw.len(), 2 * 2352);
    assert_eq!((&raw[12..17], &raw[2352 + 12..2352 + 17]), (&[0, 2, 5, 1, 5][..], &[0, 2, 6, 1, 6][..]));
    assert_eq!(guest.packet_in(&[0x28, 0, 0, 0, 0, 0, 0, 0, 0]), [], "no blocks are no error");
}

#[test]
fn a_cd_is_read_by_dma() {
    let guest = guest();
    guest.table(&[(0x1_0000, 4096)]);
    assert_eq!(guest.packet(&[0x28, 0, 0, 0, 0, 30, 0, 0, 2], true), 0x58);
    guest.outb(BUS_MASTER + 8, 0x09);
    assert!(guest.interrupt(1));
    assert_eq!((guest.inb(BUS_MASTER + 10) & 7, guest.inb(CD + 7), guest.inb(CD + 2)), (4, 0x50, 3));
    assert_eq!(guest.memory(0x1_0000, 4096), [[30; 2048], [31; 2048]].concat());
}

#[test]
fn the_table_of_contents_in_its_three_formats() {
    let guest = guest();
    let toc = guest.packet_in(&[0x43, 0, 0, 0, 0, 0, 0, 0, 100]);
    assert_eq!(toc, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xAA, 0, 0, 0, 0, 200]);
    let msf = guest.packet_in(&[0x43, 2, 0, 0, 0, 0, 0xAA, 0, 100]);
    assert_eq!(msf[4..], [0, 0x14, 0xAA, 0, 0, 0, 4, 50]);
    let sessions = guest.packet_in(&[0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0x40]);
    assert_eq!(sessions, [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
    let full = guest.packet_in(&[0x43, 2, 2, 0, 0, 0, 0, 1, 0]);
    assert_eq!((full.len(), full[2 * 11 + 4 + 3]), (4 + 4 * 11, 0xA2));
    assert_eq!(guest.packet_in(&[0x43, 0, 0, 0, 0, 0, 0, 0, 4]).len(), 4, "as much as there is room for");
}

#[test]
fn inquiry_pages_and_status_commands_answer() {
    let guest = guest();
    let inquiry = guest.packet_in(&[0x12, 0, 0, 0, 36]);
    assert_eq!((inquiry[0], inquiry[1], &inquiry[8..15]), (5, 0x80, &b"VITRINE"[..]));
    assert_eq!(inquiry.len(), 36);
    assert_eq!(guest.packet_in(&[0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 200]).len(), 8 + 20);
    assert_eq!(guest.packet_in(&[0x1A, 0, 0x01, 0, 200])[4..6], [1, 6]);
    assert_eq!(guest.packet_in(&[0x46, 0, 0, 0, 0, 0, 0, 1, 0])[6..8], [0, 8], "a CD-ROM is in");
    assert_eq!(guest.packet_in(&[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8]), [0, 6, 4, 0x10, 0, 2, 0, 0]);
    assert_eq!(guest.packet_in(&[0x51, 0, 0, 0, 0, 0, 0, 0, 34])[2], 0x0E);
    assert_eq!(guest.packet_in(&[0x42, 0, 0x40, 1, 0, 0, 0, 0, 16]).len(), 16);
    assert_eq!(guest.packet_in(&[0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 8]).len(), 8);
    guest.packet_in(&[0x2B, 0, 0, 0, 0, 10]);
}

#[test]
fn a_bad_packet_is_told_by_sense_once() {
    let guest = guest();
    assert_eq!(guest.packet(&[0xFF], false), 0x51);
    assert_eq!((guest.inb(CD + 1), guest.inb(CD + 2)), (0x54, 3));
    assert_eq!(guest.sense(), [5, 0x20, 0]);
    assert_eq!(guest.sense(), [0, 0, 0]);
    assert_eq!(guest.packet(&[0x28, 0, 0, 0, 0, 199, 0, 0, 2], false), 0x51);
    assert_eq!(guest.sense(), [5, 0x21, 0]);
}

#[test]
fn mode_select_takes_its_parameters() {
    let guest = guest();
    assert_eq!(guest.packet(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, 16], false), 0x58);
    assert_eq!((guest.inb(CD + 2), guest.inb(CD + 4)), (0, 16));
    guest.outsd(CD, &[0; 16]);
    assert_eq!((guest.inb(CD + 7), guest.inb(CD + 2)), (0x50, 3));
}

#[test]
fn a_disc_is_changed_under_the_guest() {
    let guest = guest();
    let old = guest.ide.lock().eject(Position::SecondaryMaster).unwrap();
    assert_eq!(old.unwrap().length_bytes(), 200 * 2048);
    assert_eq!(guest.packet(&[0x00], false), 0x51);
    assert_eq!(guest.sense(), [2, 0x3A, 2]);
    assert_eq!(guest.packet_in(&[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8])[4..6], [3, 1], "removal, tray open");
    guest.ide.lock().insert(Position::SecondaryMaster, disc(100)).unwrap();
    assert_eq!(guest.packet(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1], false), 0x51);
    assert_eq!(guest.sense(), [6, 0x28, 0]);
    assert_eq!(guest.packet_in(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1]), [100; 2048]);
    assert_eq!(guest.packet_in(&[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8])[4..6], [2, 2], "new media");
    let error = guest.ide.lock().insert(Position::PrimaryMaster, disc(0)).err().unwrap();
    assert_eq!(error, MediaError::NoOpticalDrive(Position::PrimaryMaster));
}

#[test]
fn the_guest_locks_opens_and_closes_the_tray() {
    let guest = guest();
    guest.packet_in(&[0x1E, 0, 0, 0, 1]);
    assert!(guest.ide.lock().is_locked(Position::SecondaryMaster));
    assert_eq!(guest.packet(&[0x1B, 0, 0, 0, 2], false), 0x51);
    assert_eq!(guest.sense(), [5, 0x53, 2]);
    guest.packet_in(&[0x1E, 0, 0, 0, 0]);
    guest.packet_in(&[0x1B, 0, 0, 0, 2]);
    assert!(guest.ide.lock().is_open(Position::SecondaryMaster));
    assert_eq!(guest.packet(&[0x25], false), 0x51);
    assert_eq!(guest.sense(), [2, 0x3A, 2]);
    guest.packet_in(&[0x1B, 0, 0, 0, 3]);
    assert_eq!(guest.packet(&[0x00], false), 0x51, "the medium may have changed");
    guest.packet_in(&[0x00]);
}

#[test]
fn a_transfer_under_way_survives_saving() {
    let first = guest();
    first.command(0x20, 50, 2);
    first.insw(DATA, 100);
    let saved = first.ide.lock().save();
    let second = guest();
    second.ide.lock().load(&saved).unwrap();
    assert!(second.interrupt(0));
    assert_eq!(second.insw(DATA, 412), sector(50)[100..]);
    assert_eq!(second.insw(DATA, 512), sector(51));
    let other = guest_with(Box::new(MemoryDisk::new(vec![0; 512]).unwrap()));
    assert!(other.ide.lock().load(&saved).is_err(), "another disk");
}

fn small() -> IdeController {
    let memory = Memory::new(1 << 20, 0).unwrap();
    let mut ide = IdeController::new([Line::unconnected(), Line::unconnected()], memory);
    let disk = |sectors: usize| Box::new(MemoryDisk::new(vec![7; sectors * 512]).unwrap());
    ide.attach_disk(Position::PrimaryMaster, disk(64));
    ide.attach_optical(Position::PrimarySlave, Some(disc(0)));
    ide.attach_optical(Position::SecondaryMaster, None);
    ide.config_write(0x04, Width::Word, 5);
    ide
}

#[test]
fn it_keeps_the_contract() {
    crate::contract::check(|| {
        let mut ide = small();
        ide.reset();
        ide
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Registers written at random, with commands that are likely to start something.
    #[test]
    fn no_sequence_of_accesses_makes_it_panic(
        accesses in prop::collection::vec((0u8..5, 0u64..16, any::<u32>(), 0u8..3, any::<bool>()), 1..400),
    ) {
        let mut ide = small();
        for (window, offset, value, width, write) in accesses {
            let width = [Width::Byte, Width::Word, Width::Dword][usize::from(width)];
            if write {
                ide.write(At::new(window, offset), width, u64::from(value) & width.ones());
            } else {
                ide.read(At::new(window, offset), width);
            }
        }
        let saved = ide.save();
        prop_assert!(small().load(&saved).is_ok());
    }

    /// Any packet, with its data moved to the end.
    #[test]
    fn no_packet_makes_it_panic(packet in prop::array::uniform12(any::<u8>()), limit in any::<u16>()) {
        let guest = guest();
        let [low, high] = limit.to_le_bytes();
        for (register, value) in [(6, 0xA0), (1, 0), (4, low), (5, high), (7, 0xA0)] {
            guest.outb(CD + register, value);
        }
        guest.outsd(CD, &packet);
        for _ in 0..300 {
            guest.insw(CD, 2048);
            guest.outsd(CD, &[0; 64]);
        }
        prop_assert!(guest.inb(CD + 7) & 0x80 == 0);
    }
}
