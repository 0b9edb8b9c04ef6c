//! QEMU's firmware configuration interface, which SeaBIOS and option ROMs read the machine's make-up from.
//!
//! QEMU docs/specs/fw_cfg. Ports: 0x510 (selector, 16-bit writes), 0x511 (data, bytes), 0x514 to 0x51B
//! (address of a DMA request, big-endian; writing the low half starts it). No lines. Reads past an
//! item's end give zeros. Left out: writes through the data port (QEMU dropped them too) and
//! callbacks when an item is selected.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::{At, Width};
use crate::bus::{Bus, WindowSpec};
use crate::device::{Device, LoadError, Shared, decode, encode, shared};
use crate::memory::Memory;

/// Numbers of the items that have no name.
pub mod key {
    /// "QEMU".
    pub const SIGNATURE: u16 = 0x00;
    /// Feature bits.
    pub const ID: u16 = 0x01;
    /// 16 bytes of machine id.
    pub const UUID: u16 = 0x02;
    /// RAM in bytes, 64 bits.
    pub const RAM_SIZE: u16 = 0x03;
    /// 1 when there is no screen: SeaBIOS then talks to the first serial port.
    pub const NOGRAPHIC: u16 = 0x04;
    /// CPUs present, 16 bits.
    pub const CPUS: u16 = 0x05;
    /// Linux: where the kernel goes.
    pub const KERNEL_ADDRESS: u16 = 0x07;
    /// Linux: the kernel's size.
    pub const KERNEL_SIZE: u16 = 0x08;
    /// Linux: where the initial RAM disk goes.
    pub const INITRD_ADDRESS: u16 = 0x0A;
    /// Linux: the initial RAM disk's size.
    pub const INITRD_SIZE: u16 = 0x0B;
    /// NUMA nodes: a count and what belongs to each.
    pub const NUMA: u16 = 0x0D;
    /// Whether SeaBIOS offers its boot menu, 16 bits.
    pub const BOOT_MENU: u16 = 0x0E;
    /// CPUs at most, 16 bits.
    pub const MAX_CPUS: u16 = 0x0F;
    /// Linux: the kernel.
    pub const KERNEL_DATA: u16 = 0x11;
    /// Linux: the initial RAM disk.
    pub const INITRD_DATA: u16 = 0x12;
    /// Linux: where the command line goes.
    pub const COMMAND_LINE_ADDRESS: u16 = 0x13;
    /// Linux: the command line's size with its zero.
    pub const COMMAND_LINE_SIZE: u16 = 0x14;
    /// Linux: the command line with its zero.
    pub const COMMAND_LINE_DATA: u16 = 0x15;
    /// Linux: where the real-mode part goes.
    pub const SETUP_ADDRESS: u16 = 0x16;
    /// Linux: the real-mode part's size.
    pub const SETUP_SIZE: u16 = 0x17;
    /// Linux: the real-mode part.
    pub const SETUP_DATA: u16 = 0x18;
    /// The list of named items.
    pub const FILE_DIRECTORY: u16 = 0x19;
    /// The first named item.
    pub const FIRST_FILE: u16 = 0x20;
    /// Whether ISA IRQ 0 is I/O APIC input 2, 8 bits.
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
}

const SELECTOR: u64 = 0x510;
const DMA: u64 = 0x514;
/// What a read of the DMA register says: "QEMU CFG", big-endian.
const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";
/// Item [`key::ID`]: the traditional interface and the DMA one.
const FEATURES: u32 = 0b11;

mod window {
    pub const PORTS: u8 = 0;
}

/// Bits of a DMA request's control word.
mod control {
    pub const ERROR: u32 = 1 << 0;
    pub const READ: u32 = 1 << 1;
    pub const SKIP: u32 = 1 << 2;
    pub const SELECT: u32 = 1 << 3;
    pub const WRITE: u32 = 1 << 4;
}

/// How many zeros one DMA read past an item's end may ask for.
const ZEROS_LIMIT: u32 = 1 << 20;
const FILES_AT_MOST: usize = 0x1000;
const NAME_BYTES: usize = 56;

struct Item {
    bytes: Vec<u8>,
    writable: bool,
}

/// What the guest changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Chip {
    selected: u16,
    offset: u32,
    /// The DMA register's high half.
    dma_high: u32,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    chip: Chip,
    /// The writable items' bytes.
    written: BTreeMap<u16, Vec<u8>>,
}

/// The interface on the board, and all items.
pub struct FwCfg {
    chip: Chip,
    items: BTreeMap<u16, Item>,
    /// Names, in order from [`key::FIRST_FILE`].
    names: Vec<String>,
    /// Writable items as first given: what a reset gives back.
    originals: BTreeMap<u16, Vec<u8>>,
    memory: Arc<Memory>,
}

impl FwCfg {
    /// The interface with only its signature and features.
    pub fn new(memory: Arc<Memory>) -> FwCfg {
        let mut device = FwCfg {
            chip: Chip::default(),
            items: BTreeMap::new(),
            names: Vec::new(),
            originals: BTreeMap::new(),
            memory,
        };
        device.add_bytes(key::SIGNATURE, b"QEMU".to_vec());
        device.add_bytes(key::ID, FEATURES.to_le_bytes().to_vec());
        device.list_files();
        device
    }

    /// Puts `device` on `bus`.
    pub fn install(self, bus: &Bus) -> Shared<FwCfg> {
        let device = shared(self);
        let ports = WindowSpec::ports(2).widths(Width::Byte, Width::Word);
        bus.add(&device, window::PORTS, ports, Some(SELECTOR));
        bus.add(&device, 1, WindowSpec::ports(8).widths(Width::Byte, Width::Dword), Some(DMA));
        device
    }

    /// Sets the item numbered `key`.
    pub fn add_bytes(&mut self, key: u16, bytes: impl Into<Vec<u8>>) {
        self.items.insert(key, Item { bytes: bytes.into(), writable: false });
    }

    /// Sets the named item `name` (up to 55 bytes); gives its number. One of that name is replaced.
    pub fn add_file(&mut self, name: &str, bytes: impl Into<Vec<u8>>) -> u16 {
        self.add(name, bytes.into(), false)
    }

    /// As [`FwCfg::add_file`], and the guest may write it by DMA.
    pub fn add_writable_file(&mut self, name: &str, bytes: impl Into<Vec<u8>>) -> u16 {
        let bytes = bytes.into();
        let key = self.add(name, bytes.clone(), true);
        self.originals.insert(key, bytes);
        key
    }

    fn add(&mut self, name: &str, bytes: Vec<u8>, writable: bool) -> u16 {
        assert!(!name.is_empty() && name.len() < NAME_BYTES, "a file name has 1 to 55 bytes: {name}");
        let index = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        assert!(index < FILES_AT_MOST, "too many files");
        let key = key::FIRST_FILE + index as u16;
        self.items.insert(key, Item { bytes, writable });
        self.list_files();
        key
    }

    /// The bytes of the named item, as the guest may have written them.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        let index = self.names.iter().position(|known| known == name)?;
        Some(&self.items.get(&(key::FIRST_FILE + index as u16))?.bytes)
    }

    /// The bytes of the item numbered `key`.
    pub fn item(&self, key: u16) -> Option<&[u8]> {
        self.items.get(&key).map(|item| &item.bytes[..])
    }

    /// The names of all files with their sizes, for the inspector.
    pub fn files(&self) -> Vec<(String, usize)> {
        self.names.iter().map(|name| (name.clone(), self.file(name).map_or(0, <[u8]>::len))).collect()
    }

    fn list_files(&mut self) {
        let mut directory = (self.names.len() as u32).to_be_bytes().to_vec();
        for (key, name) in (key::FIRST_FILE..).zip(&self.names) {
            let size = self.items.get(&key).map_or(0, |item| item.bytes.len());
            directory.extend_from_slice(&(size as u32).to_be_bytes());
            directory.extend_from_slice(&key.to_be_bytes());
            directory.extend_from_slice(&[0; 2]);
            let mut field = [0; NAME_BYTES];
            field[..name.len()].copy_from_slice(name.as_bytes());
            directory.extend_from_slice(&field);
        }
        self.add_bytes(key::FILE_DIRECTORY, directory);
    }

    fn select(&mut self, key: u16) {
        self.chip.selected = key;
        self.chip.offset = 0;
    }

    /// What is left of the selected item.
    fn rest(&self) -> &[u8] {
        let item = self.items.get(&self.chip.selected);
        item.and_then(|item| item.bytes.get(self.chip.offset as usize..)).unwrap_or(&[])
    }

    fn skip(&mut self, bytes: u32) {
        self.chip.offset = self.chip.offset.saturating_add(bytes);
    }

    fn read_byte(&mut self) -> u8 {
        let byte = self.rest().first().copied().unwrap_or(0);
        self.skip(1);
        byte
    }

    /// Carries out the request at guest-physical `at`: control, length, address, all big-endian.
    fn transfer(&mut self, at: u64) {
        let mut request = [0; 16];
        self.memory.dma_read(at, &mut request);
        let word =
            |n: usize| u32::from_be_bytes([request[n], request[n + 1], request[n + 2], request[n + 3]]);
        let (control, length) = (word(0), word(4));
        let address = u64::from(word(8)) << 32 | u64::from(word(12));
        if control & control::SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        let good = if control & control::READ != 0 {
            self.dma_read(address, length)
        } else if control & control::WRITE != 0 {
            self.dma_write(address, length)
        } else {
            if control & control::SKIP != 0 {
                self.skip(length);
            }
            true
        };
        let result = if good { 0 } else { control::ERROR };
        self.memory.dma_write(at, &result.to_be_bytes());
    }

    fn dma_read(&mut self, to: u64, length: u32) -> bool {
        let rest = self.rest();
        let there = rest.len().min(length as usize);
        self.memory.dma_write(to, &rest[..there]);
        let zeros = length - there as u32;
        self.skip(length);
        if zeros > ZEROS_LIMIT {
            return false;
        }
        self.memory.dma_write(to.wrapping_add(there as u64), &vec![0; zeros as usize]);
        true
    }

    fn dma_write(&mut self, from: u64, length: u32) -> bool {
        let (start, length) = (self.chip.offset as usize, length as usize);
        let Some(item) = self.items.get_mut(&self.chip.selected).filter(|item| item.writable) else {
            return false;
        };
        let Some(target) = start.checked_add(length).and_then(|end| item.bytes.get_mut(start..end)) else {
            return false;
        };
        self.memory.dma_read(from, target);
        self.skip(length as u32);
        true
    }
}

impl Device for FwCfg {
    fn name(&self) -> &str {
        "fw_cfg"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        if at.window == window::PORTS {
            return (0..width.bytes()).fold(0, |value, n| value | u64::from(self.read_byte()) << (8 * n));
        }
        (0..width.bytes()).fold(0, |value, n| {
            let byte = DMA_SIGNATURE.get((at.offset + n) as usize).copied().unwrap_or(0);
            value | u64::from(byte) << (8 * n)
        })
    }

    fn write(&mut self, at: At, width: Width, value: u64) {
        match (at.window, at.offset, width) {
            (window::PORTS, 0, Width::Word) => self.select(value as u16),
            (window::PORTS, ..) => {}
            (_, 0, Width::Dword) => self.chip.dma_high = (value as u32).swap_bytes(),
            (_, 4, Width::Dword) => {
                let high = std::mem::take(&mut self.chip.dma_high);
                self.transfer(u64::from(high) << 32 | u64::from((value as u32).swap_bytes()));
            }
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.chip = Chip::default();
        for (key, bytes) in &self.originals {
            if let Some(item) = self.items.get_mut(key) {
                item.bytes.clone_from(bytes);
            }
        }
    }

    fn save(&self) -> Vec<u8> {
        let writable = self.items.iter().filter(|(_, item)| item.writable);
        let written = writable.map(|(key, item)| (*key, item.bytes.clone())).collect();
        encode(&Saved { chip: self.chip.clone(), written })
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let saved: Saved = decode(self.name(), state)?;
        let fits = |(key, bytes): (&u16, &Vec<u8>)| {
            self.items.get(key).is_some_and(|item| item.writable && item.bytes.len() == bytes.len())
        };
        let writable = self.items.values().filter(|item| item.writable).count();
        if saved.written.len() != writable || !saved.written.iter().all(fits) {
            let reason = "its files are not this machine's".to_owned();
            return Err(LoadError { device: self.name().to_owned(), reason });
        }
        self.chip = saved.chip;
        for (key, bytes) in saved.written {
            self.items.insert(key, Item { bytes, writable: true });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Space;

    fn board() -> (Arc<Memory>, Arc<Bus>, Shared<FwCfg>) {
        let memory = Memory::new(4 << 20, 0).unwrap();
        let mut device = FwCfg::new(memory.clone());
        device.add_bytes(key::CPUS, 2u16.to_le_bytes());
        device.add_file("etc/first", *b"hello");
        device.add_writable_file("etc/second", [0; 4]);
        let bus = Bus::new();
        let device = device.install(&bus);
        (memory, bus, device)
    }

    fn select_and_read(bus: &Bus, key: u16, bytes: usize) -> Vec<u8> {
        bus.write(Space::Port, 0x510, Width::Word, key.into(), 0);
        (0..bytes).map(|_| bus.read(Space::Port, 0x511, Width::Byte, 0) as u8).collect()
    }

    /// Runs the request as SeaBIOS does; gives the control word afterwards.
    fn dma(memory: &Memory, bus: &Bus, control: u32, length: u32, address: u64) -> u32 {
        let request = [&control.to_be_bytes()[..], &length.to_be_bytes(), &address.to_be_bytes()].concat();
        memory.dma_write(0x7000, &request);
        bus.write(Space::Port, 0x518, Width::Dword, 0x7000u32.swap_bytes().into(), 0);
        let mut control = [0; 4];
        memory.dma_read(0x7000, &mut control);
        u32::from_be_bytes(control)
    }

    #[test]
    fn seabios_recognises_the_interface() {
        let (_memory, bus, _device) = board();
        assert_eq!(select_and_read(&bus, key::SIGNATURE, 5), b"QEMU\0");
        assert_eq!(select_and_read(&bus, key::ID, 4), [3, 0, 0, 0]);
        let high = bus.read(Space::Port, 0x514, Width::Dword, 0) as u32;
        assert_eq!(high.to_le_bytes(), *b"QEMU");
        assert_eq!(select_and_read(&bus, 0x7777, 2), [0, 0], "no such item");
    }

    #[test]
    fn the_directory_names_each_file() {
        let (_memory, bus, _device) = board();
        let directory = select_and_read(&bus, key::FILE_DIRECTORY, 4 + 2 * 64);
        assert_eq!(directory[..4], [0, 0, 0, 2]);
        assert_eq!(directory[4..12], [0, 0, 0, 5, 0, 0x20, 0, 0]);
        assert_eq!(&directory[12..22], b"etc/first\0");
        assert_eq!(directory[72..74], [0, 0x21]);
        assert_eq!(select_and_read(&bus, 0x20, 6), b"hello\0");
    }

    #[test]
    fn dma_selects_skips_and_reads() {
        let (memory, bus, _device) = board();
        memory.dma_write(0x8000, &[0xFF; 8]);
        assert_eq!(dma(&memory, &bus, 0x20 << 16 | control::SELECT | control::READ, 2, 0x8000), 0);
        assert_eq!(dma(&memory, &bus, control::SKIP, 1, 0), 0);
        assert_eq!(dma(&memory, &bus, control::READ, 4, 0x8002), 0);
        let mut read = [0; 8];
        memory.dma_read(0x8000, &mut read);
        assert_eq!(read, *b"helo\0\0\xFF\xFF");
    }

    #[test]
    fn dma_writes_only_writable_files_and_inside_them() {
        let (memory, bus, device) = board();
        memory.dma_write(0x8000, &[1, 2, 3, 4, 5]);
        let write = |key: u32, length| {
            dma(&memory, &bus, key << 16 | control::SELECT | control::WRITE, length, 0x8000)
        };
        assert_eq!(write(0x20, 1), control::ERROR);
        assert_eq!(write(0x21, 5), control::ERROR);
        assert_eq!(write(0x21, 3), 0);
        assert_eq!(device.lock().file("etc/second"), Some(&[1, 2, 3, 0][..]));
        let saved = device.lock().save();
        device.lock().reset();
        assert_eq!(device.lock().file("etc/second"), Some(&[0; 4][..]));
        device.lock().load(&saved).unwrap();
        assert_eq!(device.lock().file("etc/second"), Some(&[1, 2, 3, 0][..]));
    }

    #[test]
    fn a_read_of_gigabytes_of_zeros_is_refused() {
        let (memory, bus, _device) = board();
        assert_eq!(
            dma(&memory, &bus, 0x20 << 16 | control::SELECT | control::READ, u32::MAX, 0),
            control::ERROR
        );
    }

    #[test]
    fn a_file_of_the_same_name_is_replaced() {
        let (_memory, bus, device) = board();
        assert_eq!(device.lock().add_file("etc/first", *b"bye"), 0x20);
        assert_eq!(select_and_read(&bus, 0x20, 4), b"bye\0");
        assert_eq!(device.lock().files().len(), 2);
    }

    #[test]
    fn contract() {
        let memory = Memory::new(4 << 20, 0).unwrap();
        crate::contract::check(|| {
            let mut device = FwCfg::new(memory.clone());
            device.add_writable_file("etc/note", [7; 32]);
            device
        });
    }
}
