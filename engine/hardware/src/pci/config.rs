//! Configuration space of one PCI function: type 0 header, base address registers, capabilities.
//!
//! PCI Local Bus Specification 2.2, chapter 6. A register bit is read-only, writable, or cleared by
//! writing one. Left out: type 1 headers (there is one bus), the expansion ROM register (ROM images
//! reach the firmware through `fw_cfg`), VPD and built-in self test.

use serde::{Deserialize, Serialize};

use crate::access::Width;

/// Offsets of the header's registers, PCI 2.2 figure 6-1.
pub mod register {
    /// Command.
    pub const COMMAND: u8 = 0x04;
    /// Status.
    pub const STATUS: u8 = 0x06;
    /// First base address register.
    pub const BAR0: u8 = 0x10;
    /// Pointer to the first capability.
    pub const CAPABILITIES: u8 = 0x34;
    /// Interrupt line: scratch for firmware and system.
    pub const INTERRUPT_LINE: u8 = 0x3C;
    /// Interrupt pin: 0 none, 1 INTA to 4 INTD.
    pub const INTERRUPT_PIN: u8 = 0x3D;
}

/// Command register bits, PCI 2.2 table 6-1.
pub mod command {
    /// Responds to port accesses.
    pub const IO: u16 = 1 << 0;
    /// Responds to memory accesses.
    pub const MEMORY: u16 = 1 << 1;
    /// May start transfers.
    pub const BUS_MASTER: u16 = 1 << 2;
    /// Its interrupt pin is held off (PCI 2.3).
    pub const INTERRUPT_DISABLE: u16 = 1 << 10;
    /// What a guest can change: the above, parity error response and SERR# enable.
    pub(super) const WRITABLE: u16 = 0x0547;
}

const SIZE: usize = 256;
/// Status bits cleared by writing one, PCI 2.2 table 6-2.
const STATUS_CLEARED: u16 = 0xF900;
const STATUS_CAPABILITIES: u8 = 1 << 4;

/// What one base address register decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Bar {
    Io {
        size: u32,
    },
    Memory {
        size: u32,
    },
    /// The low half; the high half is the next register.
    Memory64 {
        size: u64,
    },
}

/// The 256 bytes a function shows, and what a guest may change in them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct ConfigSpace {
    bytes: Box<[u8; SIZE]>,
    writable: Box<[u8; SIZE]>,
    cleared: Box<[u8; SIZE]>,
    bars: [Option<Bar>; 6],
    next_capability: u8,
}

/// As saved: plain vectors, whose lengths are checked on the way back.
#[derive(Clone, Serialize, Deserialize)]
struct Saved {
    bytes: Vec<u8>,
    writable: Vec<u8>,
    cleared: Vec<u8>,
    bars: [Option<Bar>; 6],
    next_capability: u8,
}

impl From<ConfigSpace> for Saved {
    fn from(config: ConfigSpace) -> Saved {
        Saved {
            bytes: config.bytes.to_vec(),
            writable: config.writable.to_vec(),
            cleared: config.cleared.to_vec(),
            bars: config.bars,
            next_capability: config.next_capability,
        }
    }
}

impl TryFrom<Saved> for ConfigSpace {
    type Error = &'static str;

    fn try_from(saved: Saved) -> Result<ConfigSpace, Self::Error> {
        let array = |bytes: Vec<u8>| -> Result<Box<[u8; SIZE]>, Self::Error> {
            bytes.into_boxed_slice().try_into().map_err(|_| "configuration space is 256 bytes long")
        };
        let good_size = |bar: &Bar| match *bar {
            Bar::Io { size } => size.is_power_of_two() && (4..=0x1_0000).contains(&size),
            Bar::Memory { size } => size.is_power_of_two() && size >= 16,
            Bar::Memory64 { size } => size.is_power_of_two() && size >= 16,
        };
        if !saved.bars.iter().flatten().all(good_size) || matches!(saved.bars[5], Some(Bar::Memory64 { .. }))
        {
            return Err("a base address register has an impossible size");
        }
        Ok(ConfigSpace {
            bytes: array(saved.bytes)?,
            writable: array(saved.writable)?,
            cleared: array(saved.cleared)?,
            bars: saved.bars,
            next_capability: saved.next_capability,
        })
    }
}

impl ConfigSpace {
    /// A function with no base address register, pin or capability. `class_code` is 24 bits: base
    /// class, sub-class, programming interface.
    pub fn new(vendor: u16, device: u16, class_code: u32, revision: u8) -> ConfigSpace {
        let mut config = ConfigSpace {
            bytes: Box::new([0; SIZE]),
            writable: Box::new([0; SIZE]),
            cleared: Box::new([0; SIZE]),
            bars: [None; 6],
            next_capability: 0x40,
        };
        config.set_word(0x00, vendor);
        config.set_word(0x02, device);
        config.bytes[0x08] = revision;
        config.bytes[0x09..0x0C].copy_from_slice(&class_code.to_le_bytes()[..3]);
        config.writable[0x04..0x06].copy_from_slice(&command::WRITABLE.to_le_bytes());
        config.cleared[0x06..0x08].copy_from_slice(&STATUS_CLEARED.to_le_bytes());
        config.writable[0x0C] = 0xFF; // cache line size
        config.writable[0x0D] = 0xFF; // latency timer
        config.writable[register::INTERRUPT_LINE as usize] = 0xFF;
        config
    }

    /// Sets the subsystem's ids.
    pub fn subsystem(mut self, vendor: u16, device: u16) -> ConfigSpace {
        self.set_word(0x2C, vendor);
        self.set_word(0x2E, device);
        self
    }

    /// Says that the device has more functions than this one (header type bit 7).
    pub fn multifunction(mut self) -> ConfigSpace {
        self.bytes[0x0E] |= 0x80;
        self
    }

    /// Uses interrupt pin `pin`: 1 is INTA, 4 is INTD.
    pub fn interrupt_pin(mut self, pin: u8) -> ConfigSpace {
        assert!((1..=4).contains(&pin), "PCI has pins INTA to INTD");
        self.bytes[register::INTERRUPT_PIN as usize] = pin;
        self
    }

    /// Base address register `index` decodes `size` ports (a power of two).
    pub fn bar_io(mut self, index: usize, size: u32) -> ConfigSpace {
        assert!(size.is_power_of_two() && (4..=0x1_0000).contains(&size));
        self.define(index, Bar::Io { size }, !(size - 1), 1);
        self
    }

    /// Base address register `index` decodes `size` bytes of memory (a power of two).
    pub fn bar_memory(mut self, index: usize, size: u32, prefetchable: bool) -> ConfigSpace {
        assert!(size.is_power_of_two() && size >= 16);
        self.define(index, Bar::Memory { size }, !(size - 1), u8::from(prefetchable) << 3);
        self
    }

    /// Base address registers `index` and `index + 1` decode `size` bytes anywhere in 64-bit memory.
    pub fn bar_memory64(mut self, index: usize, size: u64, prefetchable: bool) -> ConfigSpace {
        assert!(size.is_power_of_two() && size >= 16 && index < 5);
        let mask = !(size - 1);
        self.define(index, Bar::Memory64 { size }, mask as u32, 4 | u8::from(prefetchable) << 3);
        self.set_writable(bar_offset(index + 1), (mask >> 32) as u32);
        self
    }

    fn define(&mut self, index: usize, bar: Bar, mask: u32, kind: u8) {
        assert!(index < 6 && self.bars[index].is_none());
        self.bars[index] = Some(bar);
        self.set_writable(bar_offset(index), mask);
        self.bytes[bar_offset(index) as usize] = kind;
    }

    /// Adds a capability `id` whose bytes after the two-byte header are `body`; gives its offset.
    /// The guest can write none of it until [`ConfigSpace::set_writable`] says so.
    pub fn add_capability(&mut self, id: u8, body: &[u8]) -> u8 {
        let offset = self.next_capability;
        let start = usize::from(offset);
        assert!(start + 2 + body.len() <= SIZE, "capabilities fit into configuration space");
        self.bytes[start] = id;
        self.bytes[start + 1] = self.bytes[register::CAPABILITIES as usize];
        self.bytes[start + 2..start + 2 + body.len()].copy_from_slice(body);
        self.bytes[register::CAPABILITIES as usize] = offset;
        self.bytes[register::STATUS as usize] |= STATUS_CAPABILITIES;
        self.next_capability = (start + 2 + body.len()).next_multiple_of(4).min(0xFC) as u8;
        offset
    }

    /// Lets a guest write the ones of `mask` in the dword at `offset`.
    pub fn set_writable(&mut self, offset: u8, mask: u32) {
        self.put(|config| &mut config.writable, offset, &mask.to_le_bytes());
    }

    /// Lets a guest write the ones of `mask` in the byte at `offset`.
    pub fn set_byte_writable(&mut self, offset: u8, mask: u8) {
        self.writable[usize::from(offset)] = mask;
    }

    /// Makes `length` bytes from `offset` read-only.
    pub fn set_read_only(&mut self, offset: u8, length: u8) {
        for n in 0..length {
            self.put(|config| &mut config.writable, offset.wrapping_add(n), &[0]);
            self.put(|config| &mut config.cleared, offset.wrapping_add(n), &[0]);
        }
    }

    fn put(&mut self, field: impl Fn(&mut ConfigSpace) -> &mut [u8; SIZE], offset: u8, bytes: &[u8]) {
        let field = field(self);
        for (n, byte) in (0u8..).zip(bytes) {
            field[usize::from(offset.wrapping_add(n))] = *byte;
        }
    }

    /// A guest's read. One that runs over the end wraps.
    pub fn read(&self, offset: u8, width: Width) -> u32 {
        (0..width.bytes().min(4) as u8)
            .fold(0, |value, n| value | u32::from(self.byte(offset.wrapping_add(n))) << (8 * n))
    }

    /// A guest's write: read-only bits stay, ones clear the bits that ones clear.
    pub fn write(&mut self, offset: u8, width: Width, value: u32) {
        for n in 0..width.bytes().min(4) as u8 {
            let at = usize::from(offset.wrapping_add(n));
            let (new, old) = ((value >> (8 * n)) as u8, self.bytes[at]);
            let writable = self.writable[at];
            self.bytes[at] = (old & !writable | new & writable) & !(new & self.cleared[at]);
        }
    }

    /// One byte as the guest reads it.
    pub fn byte(&self, offset: u8) -> u8 {
        self.bytes[usize::from(offset)]
    }

    /// A word as the guest reads it.
    pub fn word(&self, offset: u8) -> u16 {
        self.read(offset, Width::Word) as u16
    }

    /// A dword as the guest reads it.
    pub fn dword(&self, offset: u8) -> u32 {
        self.read(offset, Width::Dword)
    }

    /// The device itself sets a byte, writable or not.
    pub fn set_byte(&mut self, offset: u8, value: u8) {
        self.bytes[usize::from(offset)] = value;
    }

    /// The device itself sets a word, writable or not.
    pub fn set_word(&mut self, offset: u8, value: u16) {
        self.put(|config| &mut config.bytes, offset, &value.to_le_bytes());
    }

    /// The device itself sets a dword, writable or not.
    pub fn set_dword(&mut self, offset: u8, value: u32) {
        self.put(|config| &mut config.bytes, offset, &value.to_le_bytes());
    }

    /// The command register.
    pub fn command(&self) -> u16 {
        self.word(register::COMMAND)
    }

    /// Where base address register `index` places its window; `None` while the command register
    /// turns decoding off, and for the addresses that mean "not placed": 0 and the last.
    pub fn bar(&self, index: usize) -> Option<u64> {
        let decodes = |bit| self.command() & bit != 0;
        let low = u64::from(self.dword(bar_offset(index)));
        match (*self.bars.get(index)?)? {
            Bar::Io { size } => {
                let base = low & !u64::from(size - 1);
                (decodes(command::IO) && base != 0 && base + u64::from(size) <= 0x1_0000).then_some(base)
            }
            Bar::Memory { size } => {
                let base = low & !u64::from(size - 1);
                let last = base + u64::from(size - 1);
                (decodes(command::MEMORY) && base != 0 && last < u64::from(u32::MAX)).then_some(base)
            }
            Bar::Memory64 { size } => {
                let high = u64::from(self.dword(bar_offset(index + 1)));
                let base = (high << 32 | low) & !(size - 1);
                let placed = base != 0 && base | (size - 1) != u64::MAX && base >> 52 == 0;
                // A half-sized register (low half all ones, high half zero) is not a place either.
                let sizing = high == 0 && base | (size - 1) & 0xFFFF_FFFF == 0xFFFF_FFFF;
                (decodes(command::MEMORY) && placed && !sizing).then_some(base)
            }
        }
    }

    /// Whether the device may start transfers.
    pub fn bus_master(&self) -> bool {
        self.command() & command::BUS_MASTER != 0
    }

    /// Whether the guest holds the interrupt pin off.
    pub fn interrupts_disabled(&self) -> bool {
        self.command() & command::INTERRUPT_DISABLE != 0
    }

    /// Whether `other` is the same function in another state: a saved state must have this shape.
    pub fn same_shape(&self, other: &ConfigSpace) -> bool {
        self.writable == other.writable
            && self.cleared == other.cleared
            && self.bars == other.bars
            && self.bytes[..4] == other.bytes[..4]
            && self.bytes[0x08..0x0C] == other.bytes[0x08..0x0C]
    }
}

fn bar_offset(index: usize) -> u8 {
    register::BAR0 + 4 * (index.min(5) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network_card() -> ConfigSpace {
        ConfigSpace::new(0x10EC, 0x8029, 0x02_0000, 0)
            .subsystem(0x1AF4, 0x1100)
            .interrupt_pin(1)
            .bar_io(0, 32)
            .bar_memory(1, 0x1000, true)
            .bar_memory64(2, 0x4000, false)
    }

    #[test]
    fn the_header_shows_the_ids() {
        let config = network_card();
        assert_eq!(config.dword(0x00), 0x8029_10EC);
        assert_eq!(config.dword(0x08), 0x0200_0000);
        assert_eq!(config.dword(0x2C), 0x1100_1AF4);
        assert_eq!(config.read(0x3D, Width::Byte), 1);
    }

    #[test]
    fn sizing_a_bar_gives_its_mask_and_type_bits() {
        // PCI 2.2 §6.2.5.1: write all ones, read back.
        let mut config = network_card();
        for offset in [0x10, 0x14, 0x18, 0x1C, 0x20] {
            config.write(offset, Width::Dword, u32::MAX);
        }
        assert_eq!(config.dword(0x10), 0xFFFF_FFE1);
        assert_eq!(config.dword(0x14), 0xFFFF_F008);
        assert_eq!((config.dword(0x18), config.dword(0x1C)), (0xFFFF_C004, 0xFFFF_FFFF));
        assert_eq!(config.dword(0x20), 0, "not implemented");
        config.write(0x04, Width::Word, 7);
        assert_eq!((config.bar(0), config.bar(1), config.bar(2)), (None, None, None), "while being sized");
    }

    #[test]
    fn a_bar_is_placed_only_while_its_space_is_decoded() {
        let mut config = network_card();
        config.write(0x10, Width::Dword, 0xC001);
        config.write(0x14, Width::Dword, 0xFEBF_0000);
        config.write(0x1C, Width::Dword, 0x1);
        assert_eq!(config.bar(0), None);
        config.write(0x04, Width::Word, command::IO.into());
        assert_eq!((config.bar(0), config.bar(1)), (Some(0xC000), None));
        config.write(0x04, Width::Word, command::MEMORY.into());
        assert_eq!((config.bar(0), config.bar(1), config.bar(2)), (None, Some(0xFEBF_0000), Some(1 << 32)));
        config.write(0x10, Width::Dword, 0x1_0001);
        config.write(0x04, Width::Word, 7);
        assert_eq!(config.bar(0), None, "there are 64 Ki ports");
        assert_eq!(config.bar(6), None);
    }

    #[test]
    fn ids_stay_and_status_bits_are_cleared_by_ones() {
        let mut config = network_card();
        config.write(0x00, Width::Dword, 0);
        assert_eq!(config.dword(0x00), 0x8029_10EC);
        config.set_word(register::STATUS, 0x2280);
        config.write(0x06, Width::Word, 0x2000);
        assert_eq!(config.word(register::STATUS), 0x0280);
        config.write(0x3C, Width::Byte, 11);
        assert_eq!(config.word(0x3C), 0x010B);
    }

    #[test]
    fn capabilities_are_chained() {
        let mut config = network_card();
        let first = config.add_capability(0x09, &[0x10, 1, 2, 3, 4]);
        let second = config.add_capability(0x11, &[0, 0]);
        assert_eq!((first, second), (0x40, 0x48));
        assert_eq!(config.byte(0x34), second);
        assert_eq!(config.word(second), u16::from(first) << 8 | 0x11);
        assert_eq!(config.word(first), 0x0009);
        assert_eq!(config.word(register::STATUS) & 0x10, 0x10);
    }

    #[test]
    fn a_saved_space_of_the_wrong_size_is_refused() {
        let config = network_card();
        let bytes = crate::device::encode(&config);
        assert_eq!(crate::device::decode::<ConfigSpace>("card", &bytes).unwrap(), config);
        let mut saved = Saved::from(config);
        saved.bytes.pop();
        assert!(ConfigSpace::try_from(saved).is_err());
    }

    proptest! {
        #[test]
        fn no_access_panics(accesses: Vec<(u8, u8, u32)>) {
            let mut config = network_card();
            for (offset, width, value) in accesses {
                let width = [Width::Byte, Width::Word, Width::Dword, Width::Qword][usize::from(width & 3)];
                config.write(offset, width, value);
                config.read(offset, width);
                for index in 0..8 {
                    config.bar(index);
                }
            }
            prop_assert_eq!(config.dword(0), 0x8029_10EC);
        }
    }
}
