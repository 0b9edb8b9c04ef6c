//! The root of PCI bus 0: configuration mechanism 1.
//!
//! PCI 2.2 §3.2.2.3.2. Ports 0xCF8 (CONFIG_ADDRESS, dword accesses only) and 0xCFC to 0xCFF
//! (CONFIG_DATA, any width). There is one bus; functions that are not there read as ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access::{At, Width};
use crate::bus::WindowSpec;
use crate::device::{Device, LoadError, Shared, decode, encode};

/// First port of the mechanism.
pub const CONFIG_ADDRESS: u64 = 0xCF8;
/// The window of both registers. The PIIX3's reset control port 0xCF9 lies over it: byte accesses
/// there go to the PIIX3, the dword at 0xCF8 comes here.
pub const WINDOW: WindowSpec = WindowSpec::ports(8).widths(Width::Byte, Width::Dword);

/// A function on the bus, as the root sees it. `width` is a byte, word or dword inside one dword.
pub trait Function: Device {
    /// Reads configuration space.
    fn config_read(&mut self, offset: u8, width: Width) -> u32;

    /// Writes configuration space; moves windows that the write moved.
    fn config_write(&mut self, offset: u8, width: Width, value: u32);
}

/// Accesses to one function's configuration space since power-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConfigCount {
    /// Guest reads.
    pub reads: u64,
    /// Guest writes.
    pub writes: u64,
}

struct Slot {
    function: Shared<dyn Function>,
    count: ConfigCount,
}

/// The chip's register: CONFIG_ADDRESS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Chip {
    address: u32,
}

/// The root bridge's configuration mechanism, and everything attached to bus 0.
#[derive(Default)]
pub struct Root {
    chip: Chip,
    functions: BTreeMap<(u8, u8), Slot>,
    absent: ConfigCount,
}

impl Root {
    /// A bus with nothing on it.
    pub fn new() -> Root {
        Root::default()
    }

    /// Puts `function` at `slot` = (device 0 to 31, function 0 to 7).
    pub fn attach(&mut self, slot: (u8, u8), function: Shared<dyn Function>) {
        assert!(slot.0 < 32 && slot.1 < 8, "bus 0 has devices 0 to 31 with functions 0 to 7");
        let before = self.functions.insert(slot, Slot { function, count: ConfigCount::default() });
        assert!(before.is_none(), "one function per slot");
    }

    /// The occupied slots, in order, with their counters.
    pub fn counts(&self) -> Vec<((u8, u8), ConfigCount)> {
        self.functions.iter().map(|(slot, held)| (*slot, held.count)).collect()
    }

    /// Accesses to functions that are not there.
    pub fn absent(&self) -> ConfigCount {
        self.absent
    }

    /// The 256 bytes a guest would read from the function at `slot`, for the inspector; counts nothing.
    pub fn dump(&self, slot: (u8, u8)) -> Option<Vec<u8>> {
        let mut function = self.functions.get(&slot)?.function.lock();
        let dwords = (0..64u8).flat_map(|n| function.config_read(4 * n, Width::Dword).to_le_bytes());
        Some(dwords.collect())
    }

    /// The function that CONFIG_ADDRESS selects, and the offset of the selected dword. `None` for the
    /// offset while the enable bit is off.
    fn selected(&mut self) -> (Option<u8>, Option<&mut Slot>) {
        let address = self.chip.address;
        if address >> 31 == 0 {
            return (None, None);
        }
        let slot = ((address >> 11 & 0x1F) as u8, (address >> 8 & 7) as u8);
        let bus = address >> 16 & 0xFF;
        (Some(address as u8 & 0xFC), self.functions.get_mut(&slot).filter(|_| bus == 0))
    }
}

impl Device for Root {
    fn name(&self) -> &str {
        "pci"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        match (at.offset, width) {
            (0, Width::Dword) => self.chip.address.into(),
            (0..4, _) => width.ones(),
            _ => match self.selected() {
                (Some(offset), Some(slot)) => {
                    slot.count.reads += 1;
                    let offset = offset | at.offset as u8 & 3;
                    slot.function.lock().config_read(offset, width).into()
                }
                (Some(_), None) => {
                    self.absent.reads += 1;
                    width.ones()
                }
                _ => width.ones(),
            },
        }
    }

    fn write(&mut self, at: At, width: Width, value: u64) {
        match (at.offset, width) {
            (0, Width::Dword) => self.chip.address = value as u32 & 0x80FF_FFFC,
            (0..4, _) => {}
            _ => match self.selected() {
                (Some(offset), Some(slot)) => {
                    slot.count.writes += 1;
                    let offset = offset | at.offset as u8 & 3;
                    slot.function.lock().config_write(offset, width, value as u32);
                }
                (Some(_), None) => self.absent.writes += 1,
                _ => {}
            },
        }
    }

    fn reset(&mut self) {
        self.chip = Chip::default();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        self.chip = decode(self.name(), state)?;
        self.chip.address &= 0x80FF_FFFC;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{Bus, Space};
    use crate::device::shared;
    use crate::pci::{BarWindows, ConfigSpace};
    use std::sync::Arc;

    /// A card with one port window that reads as 0x5A.
    struct Card {
        config: ConfigSpace,
        windows: BarWindows,
    }

    impl Device for Card {
        fn name(&self) -> &str {
            "card"
        }
        fn read(&mut self, _at: At, _width: Width) -> u64 {
            0x5A
        }
        fn write(&mut self, _at: At, _width: Width, _value: u64) {}
        fn reset(&mut self) {}
        fn save(&self) -> Vec<u8> {
            Vec::new()
        }
        fn load(&mut self, _state: &[u8]) -> Result<(), LoadError> {
            Ok(())
        }
    }

    impl Function for Card {
        fn config_read(&mut self, offset: u8, width: Width) -> u32 {
            self.config.read(offset, width)
        }
        fn config_write(&mut self, offset: u8, width: Width, value: u32) {
            self.config.write(offset, width, value);
            self.windows.follow(&self.config);
        }
    }

    fn board() -> (Arc<Bus>, Shared<Root>) {
        let (bus, root) = (Bus::new(), shared(Root::new()));
        bus.add(&root, 0, WINDOW, Some(CONFIG_ADDRESS));
        let card = shared(Card {
            config: ConfigSpace::new(0x1234, 0x5678, 0xFF_0000, 1).bar_io(0, 16),
            windows: BarWindows::new(bus.clone()),
        });
        let window = bus.add(&card, 0, WindowSpec::ports(16), None);
        card.lock().windows.add(0, 0, window);
        root.lock().attach((3, 0), card);
        (bus, root)
    }

    fn select(bus: &Bus, device: u64, offset: u64) {
        bus.write(Space::Port, 0xCF8, Width::Dword, 0x8000_0000 | device << 11 | offset, 0);
    }

    #[test]
    fn a_function_is_found_and_an_absent_one_reads_ones() {
        let (bus, root) = board();
        select(&bus, 3, 0);
        assert_eq!(bus.read(Space::Port, 0xCFC, Width::Dword, 0), 0x5678_1234);
        assert_eq!(bus.read(Space::Port, 0xCFE, Width::Word, 0), 0x5678);
        assert_eq!(bus.read(Space::Port, 0xCFD, Width::Byte, 0), 0x12);
        select(&bus, 4, 0);
        assert_eq!(bus.read(Space::Port, 0xCFC, Width::Dword, 0), 0xFFFF_FFFF);
        bus.write(Space::Port, 0xCF8, Width::Dword, 0x8001_1800, 0);
        assert_eq!(bus.read(Space::Port, 0xCFC, Width::Dword, 0), 0xFFFF_FFFF, "bus 1");
        bus.write(Space::Port, 0xCF8, Width::Dword, 0x0000_1800, 0);
        assert_eq!(bus.read(Space::Port, 0xCFC, Width::Dword, 0), 0xFFFF_FFFF, "not enabled");
        let root = root.lock();
        assert_eq!(root.counts(), [((3, 0), ConfigCount { reads: 3, writes: 0 })]);
        assert_eq!(root.absent().reads, 2);
    }

    #[test]
    fn the_address_register_takes_dwords_only() {
        let (bus, _root) = board();
        select(&bus, 3, 0x10);
        bus.write(Space::Port, 0xCF8, Width::Byte, 0, 0);
        bus.write(Space::Port, 0xCFA, Width::Word, 0, 0);
        assert_eq!(bus.read(Space::Port, 0xCF8, Width::Dword, 0), 0x8000_1810);
        assert_eq!(bus.read(Space::Port, 0xCF8, Width::Word, 0), 0xFFFF);
    }

    #[test]
    fn a_configuration_write_moves_the_window_from_within_the_access() {
        let (bus, _root) = board();
        select(&bus, 3, 0x10);
        bus.write(Space::Port, 0xCFC, Width::Dword, 0xC100, 0);
        assert_eq!(bus.read(Space::Port, 0xC100, Width::Byte, 0), 0xFF, "not decoding yet");
        select(&bus, 3, 0x04);
        bus.write(Space::Port, 0xCFC, Width::Byte, 1, 0);
        assert_eq!(bus.read(Space::Port, 0xC100, Width::Byte, 0), 0x5A);
        select(&bus, 3, 0x10);
        bus.write(Space::Port, 0xCFC, Width::Dword, 0xC200, 0);
        assert_eq!(bus.read(Space::Port, 0xC10F, Width::Byte, 0), 0xFF);
        assert_eq!(bus.read(Space::Port, 0xC20F, Width::Byte, 0), 0x5A);
    }

    #[test]
    fn state_is_kept() {
        let (bus, root) = board();
        select(&bus, 3, 0x40);
        let saved = root.lock().save();
        root.lock().reset();
        assert_eq!(bus.read(Space::Port, 0xCF8, Width::Dword, 0), 0);
        root.lock().load(&saved).unwrap();
        assert_eq!(bus.read(Space::Port, 0xCF8, Width::Dword, 0), 0x8000_1840);
        assert!(root.lock().load(b"?").is_err());
    }

    #[test]
    fn contract() {
        crate::contract::check(|| {
            let mut root = Root::new();
            let config = ConfigSpace::new(0x1234, 0x5678, 0xFF_0000, 1).bar_io(0, 16);
            root.attach((0, 0), shared(Card { config, windows: BarWindows::unconnected() }));
            root
        });
    }
}
