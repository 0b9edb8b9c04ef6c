//! The VGA as a PCI card, 1234:1111: ports, the window at 0xA0000, the linear framebuffer, register memory.
//!
//! BAR 0: 16 MiB linear framebuffer, mapped as memory so that guests write it without exits. BAR 2: 4 KiB of
//! registers (Bochs "stdvga" layout): 0x400 VGA ports from 0x3C0, 0x500 display interface registers. Left out: EDID
//! at 0x000, the endianness register at 0x604, the expansion ROM (firmware gets its video BIOS otherwise).

use std::os::fd::AsFd;
use std::sync::Arc;

use display::Picture;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use serde::{Deserialize, Serialize};

use crate::access::{At, Width};
use crate::bus::{Bus, WindowSpec};
use crate::clock::Clock;
use crate::device::{Device, LoadError, Shared, decode, encode, shared};
use crate::layout::address::{EXPANSION_ROMS, VGA_WINDOW};
use crate::memory::{Layer, Mapping, Memory, PAGE};
use crate::pci::{BarWindows, ConfigSpace, Function};
use crate::vga::blob::Blob;
use crate::vga::scan::{Linear, scan};
use crate::vga::timing::Timing;
use crate::vga::vbe::MEMORY_BYTES;
use crate::vga::{Vga, WindowTarget};

/// Numbers of the card's windows, and the ports they start at.
mod window {
    pub const MONOCHROME: u8 = 0;
    pub const COLOUR: u8 = 1;
    pub const VBE_INDEX: u8 = 2;
    pub const VBE_DATA: u8 = 3;
    /// Bochs on other processors, where a word at an odd port cannot be reached.
    pub const VBE_DATA_EVEN: u8 = 4;
    pub const MEMORY: u8 = 5;
    pub const REGISTERS: u8 = 6;
}

const FRAMEBUFFER_BAR: usize = 0;
const REGISTERS_BAR: usize = 2;
const REGISTER_BYTES: u32 = 4096;

/// The card.
pub struct VgaCard {
    chip: Vga,
    config: ConfigSpace,
    windows: BarWindows,
    linear: LinearMemory,
    layer: Layer,
    framebuffer: Option<u64>,
    clock: Clock,
    touched: bool,
    /// Cursor and character blink phases when the picture was last asked for.
    phases: (bool, bool),
}

/// Linear video memory in the machine's memfd.
struct LinearMemory {
    memory: Arc<Memory>,
    base: u64,
}

impl Linear for LinearMemory {
    fn read(&self, address: u64, bytes: &mut [u8]) {
        self.memory.read_at(self.base + address, bytes);
    }
}

impl LinearMemory {
    fn clear(&self, end: u64) {
        let zeros = vec![0; 0x1_0000];
        let mut at = 0;
        while at < end.min(MEMORY_BYTES) {
            let length = (end.min(MEMORY_BYTES) - at).min(zeros.len() as u64);
            self.memory.write_at(self.base + at, &zeros[..length as usize]);
            at += length;
        }
    }

    /// Gives all of it back to the host; it reads as zeros again.
    fn discard(&self) {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if fallocate(self.memory.file(), hole, self.base, MEMORY_BYTES).is_err() {
            self.clear(MEMORY_BYTES);
        }
        self.memory.wrote(self.base..self.base + MEMORY_BYTES);
    }

    /// The pages that hold anything, as runs. What was never touched is not looked at.
    fn runs(&self) -> Vec<Run> {
        let file = self.memory.file().as_fd();
        let end = self.base + MEMORY_BYTES;
        let mut runs: Vec<Run> = Vec::new();
        let mut at = self.base;
        while let Some(start) = seek(file, SeekFrom::Data(at)).ok().filter(|&start| start < end) {
            let stop = seek(file, SeekFrom::Hole(start)).unwrap_or(end).min(end);
            let start = start.max(at);
            for page in (start..stop).step_by(PAGE as usize) {
                self.add_page(page - self.base, &mut runs);
            }
            at = stop.max(start + PAGE);
            if at >= end {
                break;
            }
        }
        runs
    }

    fn add_page(&self, address: u64, runs: &mut Vec<Run>) {
        let mut page = [0; PAGE as usize];
        self.read(address, &mut page);
        if page.iter().all(|&byte| byte == 0) {
            return;
        }
        match runs.last_mut() {
            Some(run) if run.address + run.bytes.0.len() as u64 == address => run.bytes.0.extend(page),
            _ => runs.push(Run { address, bytes: Blob(page.to_vec()) }),
        }
    }
}

/// Bytes of linear video memory from `address` on.
#[derive(Serialize, Deserialize)]
struct Run {
    address: u64,
    bytes: Blob,
}

/// What is saved.
#[derive(Serialize, Deserialize)]
struct Saved {
    chip: Vga,
    config: ConfigSpace,
    linear: Vec<Run>,
}

impl VgaCard {
    /// Bytes of [`Memory::allot`] room the card takes.
    pub const MEMORY_BYTES: u64 = MEMORY_BYTES;

    /// A card on no bus, with its video memory in `memory`: for tests. Use [`VgaCard::install`].
    pub fn new(memory: &Arc<Memory>, clock: &Clock) -> VgaCard {
        let layer = memory.layer();
        layer.set(vec![legacy_hole()]);
        VgaCard {
            chip: Vga::new(),
            config: config_space(),
            windows: BarWindows::unconnected(),
            linear: LinearMemory { memory: memory.clone(), base: memory.allot(MEMORY_BYTES) },
            layer,
            framebuffer: None,
            clock: clock.clone(),
            touched: true,
            phases: (false, false),
        }
    }

    /// Puts a card on `bus`, with its video memory in `memory`. Attach it to the PCI root at
    /// [`crate::layout::pci::VGA`].
    pub fn install(bus: &Arc<Bus>, memory: &Arc<Memory>, clock: &Clock) -> Shared<VgaCard> {
        let card = shared(VgaCard::new(memory, clock));
        let vbe_data = WindowSpec::ports(2).widths(Width::Word, Width::Word);
        let placed = [
            (window::MONOCHROME, WindowSpec::ports(0xC), 0x3B0),
            (window::COLOUR, WindowSpec::ports(0x20), 0x3C0),
            (window::VBE_INDEX, vbe_data, 0x1CE),
            (window::VBE_DATA, vbe_data, 0x1CF),
            (window::VBE_DATA_EVEN, vbe_data, 0x1D0),
            (window::MEMORY, WindowSpec::memory(EXPANSION_ROMS - VGA_WINDOW, Width::Qword), VGA_WINDOW),
        ];
        for (number, spec, base) in placed {
            bus.add(&card, number, spec, Some(base));
        }
        let registers = WindowSpec::memory(REGISTER_BYTES.into(), Width::Word);
        let registers = bus.add(&card, window::REGISTERS, registers, None);
        let mut windows = BarWindows::new(bus.clone());
        windows.add(REGISTERS_BAR, 0, registers);
        card.lock().windows = windows;
        card
    }

    /// The chip's registers and planes, for the inspector.
    pub fn chip(&self) -> &Vga {
        &self.chip
    }

    /// Puts the card into 80x25 colour text, as a BIOS would: for machines without firmware.
    pub fn set_text_mode(&mut self) {
        self.chip.set_text_mode();
        self.touched = true;
    }

    /// What is on the screen now.
    pub fn scan(&self) -> Picture {
        scan(&self.chip, &self.linear, self.clock.now())
    }

    /// Whether the picture may have changed since this was last asked. Guests write the linear framebuffer
    /// unseen, so modes that use it always may have.
    pub fn touched(&mut self) -> bool {
        let beam = Timing::of(&self.chip).beam(self.clock.now());
        let phases = (beam.cursor_lit(), beam.characters_lit());
        let blinked = !self.chip.graphics.graphics_mode() && phases != self.phases;
        self.phases = phases;
        std::mem::take(&mut self.touched) || blinked || self.chip.vbe.packed()
    }

    /// Puts the windows where the base address registers say.
    fn settle(&mut self) {
        self.windows.follow(&self.config);
        let base = self.config.bar(FRAMEBUFFER_BAR);
        if base == self.framebuffer {
            return;
        }
        self.framebuffer = base;
        let framebuffer = base.map(|base| Mapping::ram(base, base + MEMORY_BYTES, self.linear.base));
        self.layer.set([legacy_hole()].into_iter().chain(framebuffer).collect());
    }

    fn set_vbe_register(&mut self, number: u16, value: u16) {
        if let Some(end) = self.chip.set_vbe_register(number, value) {
            self.linear.clear(end);
        }
    }

    fn memory_read(&mut self, offset: u64, width: Width) -> u64 {
        let mut bytes = [0xFF; 8];
        let length = width.bytes() as usize;
        match self.chip.window_target(offset) {
            WindowTarget::Linear(address) if address + width.bytes() <= MEMORY_BYTES => {
                self.linear.read(address, &mut bytes[..length]);
            }
            _ => {
                for (offset, byte) in (offset..).zip(&mut bytes[..length]) {
                    if let WindowTarget::Planes(offset) = self.chip.window_target(offset) {
                        *byte = self.chip.planes_read(offset);
                    }
                }
            }
        }
        u64::from_le_bytes(bytes)
    }

    fn memory_write(&mut self, offset: u64, width: Width, value: u64) {
        let bytes = &value.to_le_bytes()[..width.bytes() as usize];
        match self.chip.window_target(offset) {
            WindowTarget::Linear(address) if address + width.bytes() <= MEMORY_BYTES => {
                self.linear.memory.write_at(self.linear.base + address, bytes);
            }
            WindowTarget::Planes(offset) if offset % 4 == 0 && self.chip.writes_chained() => {
                let (whole, rest) = bytes.as_chunks();
                for (at, &word) in (offset..).step_by(4).zip(whole) {
                    self.chip.planes.write_chained(at, u32::from_le_bytes(word));
                }
                for (at, &byte) in (offset + 4 * whole.len() as u32..).zip(rest) {
                    self.chip.planes_write(at, byte);
                }
            }
            _ => {
                for (offset, &byte) in (offset..).zip(bytes) {
                    if let WindowTarget::Planes(offset) = self.chip.window_target(offset) {
                        self.chip.planes_write(offset, byte);
                    }
                }
            }
        }
    }

    fn registers_read(&mut self, offset: u64, width: Width) -> u64 {
        match offset {
            0x400..0x420 => (0..width.bytes()).fold(0, |value, n| {
                let port = 0x3C0 + (offset - 0x400 + n) as u16;
                value | u64::from(self.chip.port_read(port, self.clock.now())) << (8 * n)
            }),
            0x500..0x516 => {
                let value = self.chip.vbe.register(((offset - 0x500) / 2) as u16);
                (u64::from(value) >> (8 * (offset & 1))) & width.ones()
            }
            _ => width.ones(),
        }
    }

    fn registers_write(&mut self, offset: u64, width: Width, value: u64) {
        match offset {
            0x400..0x420 => {
                for n in 0..width.bytes() {
                    self.chip.port_write(0x3C0 + (offset - 0x400 + n) as u16, (value >> (8 * n)) as u8);
                }
            }
            // A register is a word; half of one cannot be written.
            0x500..0x516 if width != Width::Byte => {
                self.set_vbe_register(((offset - 0x500) / 2) as u16, value as u16);
            }
            _ => {}
        }
    }

    fn error(&self, reason: &str) -> LoadError {
        LoadError { device: self.name().to_owned(), reason: reason.to_owned() }
    }
}

fn config_space() -> ConfigSpace {
    ConfigSpace::new(0x1234, 0x1111, 0x03_0000, 2)
        .subsystem(0x1AF4, 0x1100)
        .bar_memory(FRAMEBUFFER_BAR, MEMORY_BYTES as u32, true)
        .bar_memory(REGISTERS_BAR, REGISTER_BYTES, false)
}

/// The port that an access to a window from port `first` on means.
fn port(first: u16, at: At) -> u16 {
    first.wrapping_add(at.offset as u16)
}

/// The legacy window is the card's, not RAM.
fn legacy_hole() -> Mapping {
    Mapping::hole(VGA_WINDOW, EXPANSION_ROMS)
}

impl Device for VgaCard {
    fn name(&self) -> &str {
        "vga"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        match at.window {
            window::MONOCHROME => self.chip.port_read(port(0x3B0, at), self.clock.now()).into(),
            window::COLOUR => self.chip.port_read(port(0x3C0, at), self.clock.now()).into(),
            window::VBE_INDEX => self.chip.vbe.index.into(),
            window::VBE_DATA | window::VBE_DATA_EVEN => self.chip.vbe.read().into(),
            window::MEMORY => self.memory_read(at.offset, width),
            window::REGISTERS => self.registers_read(at.offset, width),
            _ => width.ones(),
        }
    }

    fn write(&mut self, at: At, width: Width, value: u64) {
        self.touched = true;
        match at.window {
            window::MONOCHROME => self.chip.port_write(port(0x3B0, at), value as u8),
            window::COLOUR => self.chip.port_write(port(0x3C0, at), value as u8),
            window::VBE_INDEX => self.chip.vbe.index = value as u16,
            window::VBE_DATA | window::VBE_DATA_EVEN => {
                self.set_vbe_register(self.chip.vbe.index, value as u16)
            }
            window::MEMORY => self.memory_write(at.offset, width, value),
            window::REGISTERS => self.registers_write(at.offset, width, value),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.chip = Vga::new();
        self.config = config_space();
        self.linear.discard();
        self.touched = true;
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&Saved { chip: self.chip.clone(), config: self.config.clone(), linear: self.linear.runs() })
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let saved: Saved = decode(self.name(), state)?;
        if !saved.chip.is_valid() {
            return Err(self.error("the chip's state is out of range"));
        }
        if !saved.config.same_shape(&self.config) {
            return Err(self.error("the configuration space is another card's"));
        }
        let fits = |run: &Run| {
            let end = run.address.checked_add(run.bytes.0.len() as u64);
            end.is_some_and(|end| end <= MEMORY_BYTES)
        };
        if !saved.linear.iter().all(fits) {
            return Err(self.error("video memory is larger than the card's"));
        }
        self.linear.discard();
        for run in &saved.linear {
            self.linear.memory.write_at(self.linear.base + run.address, &run.bytes.0);
        }
        (self.chip, self.config, self.touched) = (saved.chip, saved.config, true);
        self.settle();
        Ok(())
    }
}

impl Function for VgaCard {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        self.config.write(offset, width, value);
        self.settle();
    }
}
