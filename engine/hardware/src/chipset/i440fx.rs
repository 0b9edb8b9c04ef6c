//! Intel 440FX host bridge (82441FX PMC), PCI 8086:1237: shadow RAM.
//!
//! 82441FX datasheet (290549), §3.2: PAM registers 0x59 to 0x5F choose, for each piece of 0xC0000 to
//! 0xFFFFF, whether reads and writes go to RAM or to the ROM behind the bridge; SMRAM register 0x72
//! can open the RAM beneath the video window. They shape one memory layer. Left out: DRAM timing and
//! row registers, error reporting, and SMM itself (there is no SMI; the register keeps its lock).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::{At, Width};
use crate::chipset::rom::SystemRom;
use crate::device::{Device, LoadError, decode, encode};
use crate::layout::address;
use crate::memory::{Layer, Mapping, Memory};
use crate::pci::{ConfigSpace, Function};

const PAM0: u8 = 0x59;
const SMRAM: u8 = 0x72;
/// SMRAM: the RAM beneath the video window is open to everyone.
const SMRAM_OPEN: u8 = 1 << 6;
/// SMRAM: closed to data accesses.
const SMRAM_CLOSED: u8 = 1 << 5;
/// SMRAM: this register can no longer be changed, and is not open.
const SMRAM_LOCKED: u8 = 1 << 4;
/// SMRAM: the space exists.
const SMRAM_ENABLED: u8 = 1 << 3;
/// SMRAM after reset: base segment 0xA0000, read-only.
const SMRAM_RESET: u8 = 0x02;

/// Attribute bits of one PAM nibble, 82441FX table 3.
mod attribute {
    pub const READ_RAM: u8 = 1 << 0;
    pub const WRITE_RAM: u8 = 1 << 1;
}

/// The registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chip {
    /// PCI configuration space; the PAM and SMRAM registers lie in it.
    pub config: ConfigSpace,
}

impl Chip {
    fn new() -> Chip {
        // The subsystem ids are what SeaBIOS recognises the machine by.
        let mut config = ConfigSpace::new(0x8086, 0x1237, 0x06_0000, 0x02).subsystem(0x1AF4, 0x1100);
        config.set_word(0x04, 0x0006);
        config.set_read_only(0x04, 2);
        config.set_writable(0x04, 0x0140);
        config.set_word(0x06, 0x0280);
        config.set_writable(0x50, 0x00FF_FFFF); // PMC configuration, DRAM control
        config.set_writable(0x58, 0x3333_3000);
        config.set_writable(0x5C, 0x3333_3333);
        config.set_writable(0x70, u32::from(SMRAM_OPEN | SMRAM_CLOSED | SMRAM_LOCKED | SMRAM_ENABLED) << 16);
        config.set_byte(SMRAM, SMRAM_RESET);
        Chip { config }
    }

    fn write(&mut self, offset: u8, width: Width, value: u32) {
        let before = self.config.byte(SMRAM);
        self.config.write(offset, width, value);
        let after = self.config.byte(SMRAM);
        let settled = match before & SMRAM_LOCKED != 0 {
            // 82441FX §3.2.19: locked, only D_CLS still changes.
            true => before & !SMRAM_CLOSED | after & SMRAM_CLOSED,
            false if after & SMRAM_LOCKED != 0 => after & !SMRAM_OPEN,
            false => after,
        };
        self.config.set_byte(SMRAM, settled);
    }

    /// The pieces of 0xC0000 to 0xFFFFF: start, end and attribute nibble, 82441FX table 4.
    pub fn segments(&self) -> [(u64, u64, u8); 13] {
        let mut segments = [(address::BIOS, address::MEGABYTE, self.config.byte(PAM0) >> 4); 13];
        for (n, segment) in segments[1..].iter_mut().enumerate() {
            let start = address::EXPANSION_ROMS + 0x4000 * n as u64;
            let register = self.config.byte(PAM0 + 1 + n as u8 / 2);
            *segment = (start, start + 0x4000, register >> (4 * (n % 2)) & 0xF);
        }
        segments
    }

    /// Whether the RAM beneath the video window is open.
    pub fn video_window_is_ram(&self) -> bool {
        let smram = self.config.byte(SMRAM);
        smram & (SMRAM_OPEN | SMRAM_ENABLED | SMRAM_CLOSED) == SMRAM_OPEN | SMRAM_ENABLED
    }
}

/// The bridge on the board.
pub struct I440Fx {
    chip: Chip,
    rom: Option<SystemRom>,
    layer: Layer,
    ram_end: u64,
}

impl I440Fx {
    /// The bridge, with `rom` behind it. Its memory layer lies over those made before.
    pub fn new(memory: &Arc<Memory>, rom: Option<SystemRom>) -> I440Fx {
        let bridge =
            I440Fx { chip: Chip::new(), rom, layer: memory.layer(), ram_end: memory.low_ram_bytes() };
        bridge.settle();
        bridge
    }

    /// The registers, for the inspector.
    pub fn chip(&self) -> &Chip {
        &self.chip
    }

    fn settle(&self) {
        let mut mappings = Vec::with_capacity(14);
        if !self.chip.video_window_is_ram() {
            mappings.push(Mapping::hole(address::VGA_WINDOW, address::EXPANSION_ROMS));
        }
        for (start, end, nibble) in self.chip.segments() {
            let rom = self.rom.as_ref().and_then(|rom| rom.below_megabyte(start));
            let ram = |bit| (nibble & bit != 0 && end <= self.ram_end).then_some(start);
            mappings.push(Mapping {
                start,
                end,
                read: ram(attribute::READ_RAM).or(rom),
                write: ram(attribute::WRITE_RAM),
            });
        }
        self.layer.set(mappings);
    }
}

impl Function for I440Fx {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.chip.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        self.chip.write(offset, width, value);
        self.settle();
    }
}

impl Device for I440Fx {
    fn name(&self) -> &str {
        "i440fx"
    }

    fn read(&mut self, _at: At, width: Width) -> u64 {
        width.ones()
    }

    fn write(&mut self, _at: At, _width: Width, _value: u64) {}

    fn reset(&mut self) {
        self.chip = Chip::new();
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let chip: Chip = decode(self.name(), state)?;
        if !chip.config.same_shape(&self.chip.config) {
            return Err(LoadError { device: self.name().to_owned(), reason: "another bridge".to_owned() });
        }
        self.chip = chip;
        self.settle();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Page;

    fn bridge() -> (Arc<Memory>, I440Fx) {
        let memory = Memory::new(4 << 20, 1 << 20).unwrap();
        let rom = SystemRom::new(&memory, &vec![0x5A; 128 << 10]).unwrap();
        let bridge = I440Fx::new(&memory, Some(rom));
        (memory, bridge)
    }

    #[test]
    fn after_reset_the_rom_is_seen_and_the_expansion_area_is_empty() {
        let (memory, _bridge) = bridge();
        let rom = 4 << 20;
        assert_eq!(memory.page(0xF_0000), Page { read: Some(rom + 0x1_0000), write: None });
        assert_eq!(memory.page(0xE_0000), Page { read: Some(rom), write: None });
        for empty in [0xA_0000, 0xB_8000, 0xC_0000, 0xD_C000] {
            assert_eq!(memory.page(empty), Page { read: None, write: None });
        }
        assert_eq!(memory.page(0x9_F000), Page { read: Some(0x9_F000), write: Some(0x9_F000) });
    }

    #[test]
    fn shadow_ram_is_filled_from_rom_then_locked() {
        // The sequence every BIOS runs: write-through, copy, read-only.
        let (memory, mut bridge) = bridge();
        let rom = (4 << 20) + 0x1_0000;
        bridge.config_write(0x59, Width::Byte, 0x20);
        assert_eq!(memory.page(0xF_0000), Page { read: Some(rom), write: Some(0xF_0000) });
        bridge.config_write(0x59, Width::Byte, 0x30);
        assert_eq!(memory.page(0xF_0000), Page { read: Some(0xF_0000), write: Some(0xF_0000) });
        bridge.config_write(0x59, Width::Byte, 0x10);
        assert_eq!(memory.page(0xF_0000), Page { read: Some(0xF_0000), write: None });
        bridge.reset();
        assert_eq!(memory.page(0xF_0000), Page { read: Some(rom), write: None });
    }

    #[test]
    fn each_nibble_governs_16_kib() {
        let (memory, mut bridge) = bridge();
        bridge.config_write(0x5A, Width::Byte, 0x30);
        assert_eq!(memory.page(0xC_0000).read, None);
        assert_eq!(memory.page(0xC_4000).write, Some(0xC_4000));
        bridge.config_write(0x5F, Width::Byte, 0xFF);
        assert_eq!(bridge.config_read(0x5F, Width::Byte), 0x33, "reserved bits stay zero");
        assert_eq!(memory.page(0xE_8000).write, Some(0xE_8000));
        assert_eq!(memory.page(0xE_F000).write, Some(0xE_F000));
        assert_eq!(memory.page(0xE_7000).write, None);
    }

    #[test]
    fn smram_opens_and_locks() {
        let (memory, mut bridge) = bridge();
        bridge.config_write(SMRAM, Width::Byte, 0x4A);
        assert_eq!(memory.page(0xA_0000).write, Some(0xA_0000));
        bridge.config_write(SMRAM, Width::Byte, 0x1A);
        assert_eq!(memory.page(0xA_0000).write, None);
        bridge.config_write(SMRAM, Width::Byte, 0x4A);
        assert_eq!(bridge.config_read(SMRAM, Width::Byte), 0x1A, "locked until reset");
    }

    #[test]
    fn state_is_kept_and_shapes_memory_again() {
        let (memory, mut bridge) = bridge();
        let fresh = bridge.save();
        bridge.config_write(0x58, Width::Dword, 0x3333_3000);
        let (saved, map) = (bridge.save(), memory.map());
        bridge.reset();
        assert_eq!(bridge.save(), fresh);
        bridge.load(&saved).unwrap();
        assert_eq!(memory.map(), map);
        assert!(bridge.load(b"junk").is_err());
    }

    #[test]
    fn contract() {
        crate::contract::check(|| bridge().1);
    }
}
