//! What a guest sees through the ports: as a BIOS and a driver use them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use proptest::prelude::*;
use storage::MemoryDisk;

use super::*;
use crate::bus::Space;
use crate::device::shared;
use crate::line::LineSink;

const BUFFER: u64 = 0x2_0000;

#[derive(Default)]
struct Pin {
    level: AtomicBool,
    rises: AtomicU32,
}

impl LineSink for Pin {
    fn set(&self, _number: u32, level: bool) {
        if level && !self.level.swap(level, Ordering::Relaxed) {
            self.rises.fetch_add(1, Ordering::Relaxed);
        }
        self.level.store(level, Ordering::Relaxed);
    }
}

struct Guest {
    bus: Arc<Bus>,
    floppy: Shared<FloppyController>,
    memory: Arc<Memory>,
    pin: Arc<Pin>,
}

fn sector(n: usize) -> [u8; 512] {
    let mut bytes = [n as u8; 512];
    bytes[..4].copy_from_slice(&(n as u32).to_le_bytes());
    bytes
}

fn image(bytes: usize) -> MemoryDisk {
    MemoryDisk::new((0..bytes / 512).flat_map(sector).collect()).unwrap()
}

/// A controller with two drives, out of reset, the first with this disk, seen to and at track 0.
fn guest_with(disk: MemoryDisk) -> Guest {
    let (bus, pin) = (Bus::new(), Arc::new(Pin::default()));
    let memory = Memory::new(1 << 20, 0).unwrap();
    let dma = shared(IsaDma::new());
    IsaDma::connect(&dma, &bus);
    let line = Line::new(pin.clone(), 6);
    let floppy = shared(FloppyController::new(2, line, dma, memory.clone()));
    floppy.lock().insert(0, Box::new(disk)).unwrap();
    FloppyController::connect(&floppy, &bus);
    let guest = Guest { bus, floppy, memory, pin };
    guest.outb(0x3F2, 0x1C);
    for _ in 0..4 {
        guest.sense_interrupt();
    }
    guest.outb(0x3F7, 0);
    guest.send(&[0x03, 0xDF, 0x02]); // SPECIFY, with DMA
    guest
}

fn guest() -> Guest {
    guest_with(image(1_474_560))
}

impl Guest {
    fn inb(&self, port: u64) -> u8 {
        self.bus.read(Space::Port, port, Width::Byte, 0) as u8
    }
    fn outb(&self, port: u64, value: u8) {
        self.bus.write(Space::Port, port, Width::Byte, value.into(), 0);
    }
    fn send(&self, command: &[u8]) {
        for byte in command {
            assert_eq!(self.inb(0x3F4) & 0xC0, 0x80, "it takes the byte");
            self.outb(0x3F5, *byte);
        }
    }
    fn result(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.inb(0x3F4) & 0xF0 == 0xD0 {
            bytes.push(self.inb(0x3F5));
        }
        assert_eq!(self.inb(0x3F4) & 0xD0, 0x80, "it takes commands again");
        bytes
    }
    fn command(&self, command: &[u8]) -> Vec<u8> {
        self.send(command);
        self.result()
    }
    fn sense_interrupt(&self) -> Vec<u8> {
        self.command(&[0x08])
    }
    fn rises(&self) -> u32 {
        self.pin.rises.load(Ordering::Relaxed)
    }
    fn interrupt(&self) -> bool {
        self.pin.level.load(Ordering::Relaxed)
    }
    /// DMA channel 2, for `bytes` at the buffer.
    fn dma(&self, mode: u8, bytes: usize) {
        let count = (bytes - 1) as u16;
        self.outb(0x0A, 6);
        self.outb(0x0C, 0);
        for (port, value) in [(0x04, BUFFER as u16), (0x05, count)] {
            value.to_le_bytes().into_iter().for_each(|byte| self.outb(port, byte));
        }
        self.outb(0x0B, mode);
        self.outb(0x81, (BUFFER >> 16) as u8);
        self.outb(0x0A, 2);
    }
    fn buffer(&self, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        self.memory.dma_read(BUFFER, &mut read);
        read
    }
    fn seek(&self, select: u8, cylinder: u8) {
        self.send(&[0x0F, select, cylinder]);
        assert!(self.interrupt());
        assert_eq!(self.sense_interrupt(), [0x20 | select, cylinder]);
    }
}

#[test]
fn a_reset_interrupts_once_and_tells_four_drives() {
    let guest = guest();
    let before = guest.rises();
    guest.outb(0x3F2, 0x00);
    assert_eq!(guest.inb(0x3F4), 0, "held in reset");
    guest.outb(0x3F2, 0x0C);
    assert!(guest.interrupt());
    for n in 0..4 {
        assert_eq!(guest.sense_interrupt(), [0xC0 | n, 0]);
        assert!(!guest.interrupt());
    }
    assert_eq!(guest.rises() - before, 1);
    assert_eq!(guest.sense_interrupt(), [0x80], "nothing more to tell");
    guest.outb(0x3F4, 0x80);
    assert_eq!(guest.sense_interrupt(), [0xC0, 0], "the data rate register resets too");
}

#[test]
fn identity_and_configuration() {
    let guest = guest();
    assert_eq!(guest.command(&[0x10]), [0x90]);
    assert_eq!(guest.command(&[0x18]), [0x80], "no part id on an 82077AA");
    assert_eq!(guest.command(&[0x94]), [0x10]);
    guest.send(&[0x13, 0, 0x57, 9]);
    guest.send(&[0x12, 0x84]);
    let dump = guest.command(&[0x0E]);
    assert_eq!(dump, [0, 0, 0, 0, 0xDF, 0x02, 0, 0x84, 0x57, 9]);
    guest.outb(0x3F2, 0x18);
    guest.outb(0x3F2, 0x1C);
    assert_eq!(guest.sense_interrupt(), [0x80], "locked: polling stays off");
    assert_eq!(guest.command(&[0x14]), [0x00]);
    guest.outb(0x3F2, 0x18);
    guest.outb(0x3F2, 0x1C);
    assert_eq!(guest.sense_interrupt(), [0xC0, 0]);
    assert_eq!(guest.command(&[0x0E])[8..], [0x20, 0]);
}

#[test]
fn seeks_move_the_head_and_tell() {
    let guest = guest();
    guest.send(&[0x0F, 0x00, 40]);
    assert_eq!(guest.inb(0x3F4), 0x81, "drive 0 seeks until its interrupt is seen to");
    assert_eq!(guest.sense_interrupt(), [0x20, 40]);
    assert_eq!(guest.inb(0x3F4), 0x80);
    assert_eq!(guest.command(&[0x04, 0]), [0x28]);
    guest.send(&[0x07, 0]);
    assert_eq!(guest.sense_interrupt(), [0x20, 0]);
    assert_eq!(guest.command(&[0x04, 0]), [0x38], "track 0");
    guest.send(&[0x07, 2]);
    assert_eq!(guest.sense_interrupt(), [0x72, 0], "no such drive: track 0 was not found");
    guest.send(&[0xCF, 0, 5]);
    guest.send(&[0x0F, 1, 7]);
    assert_eq!(guest.sense_interrupt(), [0x20, 5]);
    assert!(guest.interrupt(), "drive 1 has something to tell as well");
    assert_eq!(guest.sense_interrupt(), [0x21, 7]);
    assert!(!guest.interrupt());
}

#[test]
fn a_read_by_dma_ends_at_the_terminal_count() {
    let guest = guest();
    guest.dma(0x46, 3 * 512);
    let before = guest.rises();
    guest.send(&[0xE6, 0x00, 0, 0, 17, 2, 18, 0x1B, 0xFF]);
    assert_eq!((guest.rises() - before, guest.interrupt()), (1, true));
    assert_eq!(guest.inb(0x3F5), 0x04, "normal end, on side 1");
    assert!(!guest.interrupt(), "the first result byte acknowledges");
    assert_eq!(guest.result(), [0, 0, 0, 1, 2, 2]);
    assert_eq!(guest.buffer(3 * 512), [sector(16), sector(17), sector(18)].concat(), "over to side 1");
    assert_eq!(guest.inb(0x08) & 4, 4);
}

#[test]
fn a_read_without_enough_terminal_count_runs_past_the_cylinder() {
    let guest = guest();
    guest.seek(0, 2);
    guest.dma(0x46, 0x1_0000);
    let result = guest.command(&[0x46, 0x00, 2, 0, 17, 2, 18, 0x1B, 0xFF]);
    assert_eq!(result, [0x40, 0x80, 0, 3, 0, 1, 2]);
    assert_eq!(guest.buffer(1024), [sector(72 + 16), sector(72 + 17)].concat());
}

#[test]
fn a_write_by_dma_reaches_the_disk() {
    let guest = guest();
    guest.seek(4, 79);
    guest.memory.dma_write(BUFFER, &[0xC3; 700]);
    guest.dma(0x4A, 700);
    assert_eq!(guest.command(&[0xC5, 0x04, 79, 1, 10, 2, 18, 0x1B, 0xFF]), [0x04, 0, 0, 79, 1, 12, 2]);
    let mut disk = guest.floppy.lock().eject(0).unwrap();
    let mut bytes = [0; 1024];
    disk.read_at((79 * 36 + 18 + 9) * 512, &mut bytes).unwrap();
    assert_eq!(bytes[..700], [0xC3; 700]);
    assert_eq!(bytes[700..], [0; 324], "the rest of the sector is written as zeros");
    assert_eq!(guest.floppy.lock().states()[0].count.bytes_written, 1024);
}

#[test]
fn a_masked_channel_is_an_overrun() {
    let guest = guest();
    guest.outb(0x0A, 6);
    assert_eq!(guest.command(&[0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF])[..3], [0x40, 0x10, 0]);
}

#[test]
fn sectors_that_are_not_there_are_told_apart() {
    let guest = guest();
    let read = |guest: &Guest, c: u8, h: u8, r: u8, n: u8| {
        guest.dma(0x46, 512);
        guest.command(&[0x46, h << 2, c, h, r, n, 18, 0x1B, 0xFF])[..3].to_vec()
    };
    assert_eq!(read(&guest, 0, 0, 19, 2), [0x40, 0x04, 0], "no sector 19");
    assert_eq!(read(&guest, 0, 0, 0, 2), [0x40, 0x04, 0], "sectors count from 1");
    assert_eq!(read(&guest, 0, 0, 1, 3), [0x40, 0x04, 0], "not of this size");
    assert_eq!(read(&guest, 1, 1, 1, 2), [0x44, 0x04, 0x10], "the head is on another cylinder");
    assert_eq!(read(&guest, 0xFF, 0, 1, 2), [0x40, 0x04, 0x02]);
    guest.outb(0x3F7, 2);
    assert_eq!(read(&guest, 0, 0, 1, 2), [0x40, 0x01, 0], "no mark is found at the wrong data rate");
    guest.outb(0x3F7, 0);
    assert_eq!(guest.command(&[0x06, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF])[1], 0x01, "nor in FM");
    assert_eq!(guest.command(&[0x46, 1, 0, 0, 1, 2, 18, 0x1B, 0xFF])[..3], [0x41, 0x01, 0], "no disk");
}

#[test]
fn an_implied_seek_goes_to_the_cylinder() {
    let guest = guest();
    guest.send(&[0x13, 0, 0x67, 0]);
    guest.dma(0x46, 512);
    assert_eq!(guest.command(&[0x46, 0, 9, 0, 1, 2, 18, 0x1B, 0xFF])[..3], [0, 0, 0]);
    assert_eq!(guest.buffer(512), sector(9 * 36));
    assert_eq!(guest.command(&[0x0E])[0], 9);
}

#[test]
fn ids_pass_under_the_head_in_turn() {
    let guest = guest();
    guest.seek(4, 3);
    let ids: Vec<_> = (0..19).map(|_| guest.command(&[0x4A, 4])).collect();
    assert_eq!(ids[0], [4, 0, 0, 3, 1, 1, 2]);
    assert_eq!((ids[17][5], ids[18][5]), (18, 1));
}

#[test]
fn a_track_is_formatted_by_dma() {
    let guest = guest();
    guest.seek(0, 1);
    let ids: Vec<u8> = (1..=18).rev().flat_map(|r| [1, 0, r, 2]).collect();
    guest.memory.dma_write(BUFFER, &ids);
    guest.dma(0x4A, ids.len());
    assert_eq!(guest.command(&[0x4D, 0, 2, 18, 0x54, 0xF6])[..3], [0, 0, 0]);
    guest.dma(0x46, 18 * 512);
    assert_eq!(guest.command(&[0x46, 0, 1, 0, 1, 2, 18, 0x1B, 0xFF])[..3], [0, 0, 0]);
    assert_eq!(guest.buffer(18 * 512), [0xF6; 18 * 512]);
    guest.memory.dma_write(BUFFER, &[1, 0, 19, 2]);
    guest.dma(0x4A, 4);
    assert_eq!(guest.command(&[0x4D, 0, 2, 1, 0x54, 0xF6])[..2], [0x40, 0x04], "there is no room for it");
}

#[test]
fn a_protected_disk_refuses_writes() {
    let guest = guest_with(image(1_474_560).read_only());
    assert_eq!(guest.command(&[0x04, 0]), [0x78]);
    guest.dma(0x4A, 512);
    assert_eq!(guest.command(&[0x45, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF])[..2], [0x40, 0x02]);
    assert_eq!(guest.command(&[0x4D, 0, 2, 18, 0x54, 0xF6])[..2], [0x40, 0x02]);
}

#[test]
fn bytes_move_through_the_fifo_without_dma() {
    let guest = guest();
    guest.send(&[0x03, 0xDF, 0x03]);
    guest.send(&[0x46, 0, 0, 0, 17, 2, 18, 0x1B, 0xFF]);
    let mut bytes = Vec::new();
    let before = guest.rises();
    while guest.inb(0x3F4) == 0xF0 {
        assert!(guest.interrupt());
        bytes.push(guest.inb(0x3F5));
    }
    assert_eq!(bytes, [sector(16), sector(17)].concat());
    assert_eq!(guest.rises() - before, 1024, "one for each next byte, and one for the result");
    assert_eq!(guest.result()[..3], [0x40, 0x80, 0], "nobody gave a terminal count");

    guest.send(&[0x45, 0, 0, 0, 18, 2, 18, 0x1B, 0xFF]);
    for n in 0..512u32 {
        assert_eq!(guest.inb(0x3F4), 0xB0);
        guest.outb(0x3F5, n as u8);
    }
    assert_eq!(guest.result()[..3], [0x40, 0x80, 0]);
    guest.send(&[0x03, 0xDF, 0x02]);
    guest.dma(0x46, 512);
    guest.command(&[0x46, 0, 0, 0, 18, 2, 18, 0x1B, 0xFF]);
    assert_eq!(guest.buffer(512), (0..512).map(|n| n as u8).collect::<Vec<_>>());
}

#[test]
fn with_the_fifo_on_there_is_one_interrupt_per_sector() {
    let guest = guest();
    guest.send(&[0x03, 0xDF, 0x03]);
    guest.send(&[0x13, 0, 0x0F, 0]);
    let before = guest.rises();
    guest.send(&[0x46, 0, 0, 0, 16, 2, 18, 0x1B, 0xFF]);
    (0..3 * 512).for_each(|_| _ = guest.inb(0x3F5));
    assert_eq!(guest.rises() - before, 4, "three sectors and the result");
    guest.result();
}

#[test]
fn verify_and_read_track() {
    let guest = guest();
    assert_eq!(guest.command(&[0x56, 0x80, 0, 0, 3, 2, 18, 0x1B, 4]), [0, 0, 0, 0, 0, 7, 2]);
    assert_eq!(guest.command(&[0x56, 0, 0, 0, 3, 2, 19, 0x1B, 0xFF])[..2], [0x40, 0x04]);
    guest.dma(0x46, 4 * 512);
    assert_eq!(guest.command(&[0x42, 0, 0, 0, 9, 2, 18, 0x1B, 0xFF])[..3], [0, 0, 0]);
    assert_eq!(guest.buffer(2048), (0..4).flat_map(sector).collect::<Vec<_>>(), "from the first sector");
}

#[test]
fn the_disk_change_line_falls_with_a_step() {
    let guest = guest();
    assert_eq!(guest.inb(0x3F7), 0x80, "since power-on");
    guest.seek(0, 1);
    assert_eq!(guest.inb(0x3F7), 0);
    guest.floppy.lock().eject(0).unwrap();
    guest.seek(0, 2);
    assert_eq!(guest.inb(0x3F7), 0x80, "there is no disk to step over");
    guest.floppy.lock().insert(0, Box::new(image(737_280))).unwrap();
    assert_eq!((guest.inb(0x3F7), guest.floppy.lock().cmos_type(0)), (0x80, 3));
    guest.seek(0, 1);
    assert_eq!(guest.inb(0x3F7), 0);
    guest.outb(0x3F2, 0x1D);
    assert_eq!(guest.inb(0x3F7), 0x80, "drive 1 is empty");
}

#[test]
fn every_format_is_read_at_its_rate() {
    for format in storage::floppy::FLOPPY_FORMATS {
        let guest = guest_with(image(format.length_bytes() as usize));
        guest
            .outb(0x3F7, [(500, 0), (250, 2), (1000, 3)].iter().find(|r| r.0 == format.rate_kbps).unwrap().1);
        let (c, h, r) = (format.cylinders - 1, format.heads - 1, format.sectors);
        guest.seek(h << 2, c);
        guest.dma(0x46, 512);
        assert_eq!(guest.command(&[0x46, h << 2, c, h, r, 2, r, 0x1B, 0xFF])[..3], [h << 2, 0, 0]);
        assert_eq!(guest.buffer(512), sector(format.length_bytes() as usize / 512 - 1), "{}", format.name);
    }
}

#[test]
fn what_is_no_floppy_is_refused() {
    let guest = guest();
    let mut floppy = guest.floppy.lock();
    let odd = floppy.insert(0, Box::new(image(4096))).err().unwrap();
    assert!(odd.to_string().contains("4096 bytes"), "{odd}");
    assert!(matches!(floppy.insert(2, Box::new(image(737_280))), Err(InsertError::NoDrive { .. })));
    assert_eq!((floppy.cmos_type(0), floppy.cmos_type(1), floppy.cmos_type(2)), (4, 4, 0));
}

fn small() -> FloppyController {
    let memory = Memory::new(1 << 20, 0).unwrap();
    let mut floppy = FloppyController::new(1, Line::unconnected(), shared(IsaDma::new()), memory);
    floppy.insert(0, Box::new(image(163_840))).unwrap();
    floppy
}

#[test]
fn it_keeps_the_contract() {
    crate::contract::check(small);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The FIFO is fed with likely and unlikely bytes, in both modes.
    #[test]
    fn no_sequence_of_accesses_makes_it_panic(
        accesses in prop::collection::vec((0u64..8, prop_oneof![any::<u8>(), 0u8..0x20, 0x40u8..0x50], any::<bool>()), 1..600),
        no_dma in any::<bool>(),
    ) {
        let mut floppy = small();
        floppy.write(At::new(0, 2), Width::Byte, 0x1C);
        for byte in [0x03, 0xDF, no_dma.into()] {
            floppy.write(At::new(0, 5), Width::Byte, byte);
        }
        for (register, value, write) in accesses {
            // Most go to the FIFO; the output register stays as it is.
            let register = if matches!(register, 2 | 6) { 5 } else { register };
            let at = if register == 7 { At::new(1, 0) } else { At::new(0, register) };
            if write {
                floppy.write(at, Width::Byte, value.into());
            } else {
                floppy.read(at, Width::Byte);
            }
        }
        let saved = floppy.save();
        prop_assert!(small().load(&saved).is_ok());
    }
}
