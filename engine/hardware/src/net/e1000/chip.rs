//! The registers (SDM §13).

use network::Mac;
use serde::{Deserialize, Serialize};

use super::eeprom::Eeprom;
use super::filter::Filter;
use super::phy::Phy;
use super::statistics::Statistics;
use super::transmit::Transmitter;
use super::{DESCRIPTOR_BYTES, cause, register};
use crate::clock::Nanoseconds;

/// Device control, SDM §13.4.1.
pub mod ctrl {
    pub const FULL_DUPLEX: u32 = 1 << 0;
    pub const AUTO_SPEED: u32 = 1 << 5;
    pub const SPEED_1000: u32 = 2 << 8;
    pub const RESET: u32 = 1 << 26;
    /// VLAN tags are taken out of, and put into, frames.
    pub const VLAN_MODE: u32 = 1 << 30;
    pub const PHY_RESET: u32 = 1 << 31;
}

/// Device status, SDM §13.4.2.
mod status {
    pub const FULL_DUPLEX: u32 = 1 << 0;
    pub const LINK_UP: u32 = 1 << 1;
    pub const SPEED_1000: u32 = 2 << 6;
    pub const DETECTED_1000: u32 = 2 << 8;
}

/// Receive control, SDM §13.4.22.
pub mod rctl {
    pub const ENABLE: u32 = 1 << 1;
    pub const PROMISCUOUS: u32 = 1 << 3;
    pub const ALL_GROUPS: u32 = 1 << 4;
    pub const LONG_PACKETS: u32 = 1 << 5;
    pub const THRESHOLD_SHIFT: u32 = 8;
    pub const GROUP_OFFSET_SHIFT: u32 = 12;
    pub const BROADCAST: u32 = 1 << 15;
    pub const BUFFER_SHIFT: u32 = 16;
    pub const VLAN_FILTER: u32 = 1 << 18;
    pub const BUFFER_EXTENSION: u32 = 1 << 25;
    pub const STRIP_CHECK_SEQUENCE: u32 = 1 << 26;
}

/// Transmit control, SDM §13.4.33.
pub mod tctl {
    pub const ENABLE: u32 = 1 << 1;
}

/// One descriptor ring in guest memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    pub base: u64,
    pub length: u32,
    pub head: u32,
    pub tail: u32,
}

impl Ring {
    /// Descriptors it holds.
    pub fn count(&self) -> u32 {
        self.length / DESCRIPTOR_BYTES
    }

    /// Descriptors the guest has given and the card has not used.
    pub fn available(&self) -> u32 {
        let count = self.count();
        if self.head >= count || self.tail >= count {
            return 0; // what a guest writes there means nothing
        }
        (self.tail + count - self.head) % count
    }

    /// Address of the descriptor `ahead` of the head.
    pub fn address(&self, ahead: u32) -> u64 {
        let index = (self.head + ahead) % self.count().max(1);
        self.base.wrapping_add(u64::from(index * DESCRIPTOR_BYTES))
    }

    /// The next `used` descriptors are used.
    pub fn advance(&mut self, used: u32) {
        self.head = (self.head + used) % self.count().max(1);
    }

    fn read(&self, offset: u64) -> u32 {
        match offset {
            0x00 => self.base as u32,
            0x04 => (self.base >> 32) as u32,
            0x08 => self.length,
            0x10 => self.head,
            _ => self.tail,
        }
    }

    fn write(&mut self, offset: u64, value: u32) {
        match offset {
            0x00 => self.base = self.base & !0xFFFF_FFFF | u64::from(value & !0xF),
            0x04 => self.base = self.base & 0xFFFF_FFFF | u64::from(value) << 32,
            0x08 => self.length = value & 0xF_FF80,
            0x10 => self.head = value & 0xFFFF,
            _ => self.tail = value & 0xFFFF,
        }
    }
}

/// Registers that only keep what is written: settings without effect here, or read elsewhere by name.
const KEPT: [u64; 21] = [
    register::FCAL,
    register::FCAH,
    register::FCT,
    register::VET,
    register::CTRL_EXT,
    register::FCTTV,
    register::TXCW,
    register::TIPG,
    register::AIT,
    register::LEDCTL,
    register::PBA,
    register::FCRTL,
    register::FCRTH,
    register::RXDCTL,
    register::TXDMAC,
    register::TXDCTL,
    register::TSPMT,
    register::WUC,
    register::WUFC,
    register::MANC,
    register::IPAV,
];
/// Timers whose wait is left out; they keep 16 bits.
const DELAYS: [u64; 4] = [register::RDTR, register::RADV, register::TIDV, register::TADV];

/// Unit of the interrupt throttle, SDM §13.4.18.
const THROTTLE_UNIT_NS: u64 = 256;

/// The chip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chip {
    pub ctrl: u32,
    pub rctl: u32,
    pub tctl: u32,
    pub rxcsum: u32,
    pub eeprom: Eeprom,
    pub phy: Phy,
    pub filter: Filter,
    pub statistics: Statistics,
    pub receive_ring: Ring,
    pub transmit_ring: Ring,
    pub transmitter: Transmitter,
    causes: u32,
    mask: u32,
    throttle: u32,
    /// The throttle lets no interrupt through before.
    quiet_until: Nanoseconds,
    interrupting: bool,
    kept: [u32; KEPT.len()],
    delays: [u16; DELAYS.len()],
    io_address: u32,
}

impl Chip {
    /// The chip at power-on, with a cable plugged in or not.
    pub fn new(mac: Mac, link: bool) -> Chip {
        let mut kept = [0; KEPT.len()];
        for (value, offset) in kept.iter_mut().zip(KEPT) {
            *value = match offset {
                register::VET => 0x8100,
                register::PBA => 0x0010_0030, // KiB of the FIFO: 16 for transmission, 48 for reception
                register::LEDCTL => 0x0706_8302,
                _ => 0,
            };
        }
        Chip {
            ctrl: ctrl::FULL_DUPLEX | ctrl::AUTO_SPEED | ctrl::SPEED_1000,
            rctl: 0,
            tctl: 0,
            rxcsum: 0,
            eeprom: Eeprom::new(mac),
            phy: Phy::new(link),
            filter: Filter::new(mac),
            statistics: Statistics::default(),
            receive_ring: Ring::default(),
            transmit_ring: Ring::default(),
            transmitter: Transmitter::default(),
            causes: 0,
            mask: 0,
            throttle: 0,
            quiet_until: 0,
            interrupting: false,
            kept,
            delays: [0; DELAYS.len()],
            io_address: 0,
        }
    }

    /// Whether a saved state has the right shape.
    pub fn is_valid(&self) -> bool {
        self.filter.is_valid() && self.statistics.is_valid() && self.transmitter.is_valid()
    }

    /// A register that only keeps what is written.
    pub fn kept(&self, offset: u64) -> u32 {
        KEPT.iter().position(|known| *known == offset).map_or(0, |index| self.kept[index])
    }

    /// The address in its EEPROM.
    pub fn mac(&self) -> Mac {
        self.eeprom.mac()
    }

    /// Something happened that may interrupt.
    pub fn raise(&mut self, causes: u32) {
        self.causes |= causes;
    }

    /// The guest has cleared or masked causes: what comes next is another interrupt.
    fn quieten(&mut self) {
        self.interrupting &= self.causes & self.mask != 0;
    }

    /// Whether the interrupt pin is driven at `now`, and when to look again if the throttle holds it back.
    pub fn interrupt(&mut self, now: Nanoseconds) -> (bool, Option<Nanoseconds>) {
        let wanted = self.causes & self.mask != 0;
        if !wanted {
            self.interrupting = false;
        } else if !self.interrupting {
            let held = self.throttle != 0 && now < self.quiet_until;
            // A clock that was set back (a restored state) must not hold it for ever.
            let longest = u64::from(self.throttle) * THROTTLE_UNIT_NS;
            if held && self.quiet_until - now <= longest {
                return (false, Some(self.quiet_until));
            }
            self.interrupting = true;
            self.quiet_until = now + longest;
        }
        (self.interrupting, None)
    }

    /// A guest reads the register at `offset`.
    pub fn read(&mut self, offset: u64) -> u32 {
        match offset {
            register::CTRL | register::CTRL_ALIAS => self.ctrl,
            register::STATUS => self.status(),
            register::EECD => self.eeprom.pins(),
            register::EERD => self.eeprom.register(),
            register::MDIC => self.phy.mdic(),
            register::ICR => {
                let causes = std::mem::take(&mut self.causes);
                self.quieten();
                causes
            }
            register::ITR => self.throttle,
            register::ICS => self.causes,
            register::IMS => self.mask,
            register::RCTL => self.rctl,
            register::TCTL => self.tctl,
            register::RXCSUM => self.rxcsum,
            register::RDBAL | register::RDBAH | register::RDLEN | register::RDH | register::RDT => {
                self.receive_ring.read(offset - register::RDBAL)
            }
            register::TDBAL | register::TDBAH | register::TDLEN | register::TDH | register::TDT => {
                self.transmit_ring.read(offset - register::TDBAL)
            }
            register::STATISTICS..=register::STATISTICS_LAST => {
                self.statistics.read(offset - register::STATISTICS)
            }
            _ => match (self.table(offset), DELAYS.iter().position(|known| *known == offset)) {
                (Some(entry), _) => *entry,
                (None, Some(index)) => self.delays[index].into(),
                (None, None) => self.kept(offset),
            },
        }
    }

    fn status(&self) -> u32 {
        let link = if self.phy.has_link() { status::LINK_UP } else { 0 };
        link | status::FULL_DUPLEX | status::SPEED_1000 | status::DETECTED_1000
    }

    fn table(&mut self, offset: u64) -> Option<&mut u32> {
        let (table, first) = match offset {
            register::MTA..=register::MTA_LAST => (&mut self.filter.groups, register::MTA),
            register::RAL0..=register::RA_LAST => (&mut self.filter.addresses, register::RAL0),
            register::VFTA..=register::VFTA_LAST => (&mut self.filter.vlans, register::VFTA),
            _ => return None,
        };
        table.get_mut(((offset - first) / 4) as usize)
    }

    /// A guest writes the register at `offset`.
    pub fn write(&mut self, offset: u64, value: u32) {
        match offset {
            register::CTRL | register::CTRL_ALIAS => self.write_control(value),
            register::EECD => self.eeprom.set_pins(value),
            register::EERD => self.eeprom.set_register(value),
            register::MDIC => {
                if self.phy.set_mdic(value) {
                    self.raise(cause::MDAC);
                }
            }
            register::ICR => {
                self.causes &= !value;
                self.quieten();
            }
            register::ITR => self.throttle = value & 0xFFFF,
            register::ICS => self.raise(value & cause::ALL),
            register::IMS => self.mask |= value & cause::ALL,
            register::IMC => {
                self.mask &= !value;
                self.quieten();
            }
            register::RCTL => self.rctl = value,
            register::TCTL => self.tctl = value,
            register::RXCSUM => self.rxcsum = value & 0x7FF,
            register::RDBAL | register::RDBAH | register::RDLEN | register::RDH | register::RDT => {
                self.receive_ring.write(offset - register::RDBAL, value);
            }
            register::TDBAL | register::TDBAH | register::TDLEN | register::TDH | register::TDT => {
                self.transmit_ring.write(offset - register::TDBAL, value);
            }
            register::WUS | register::STATUS | register::STATISTICS..=register::STATISTICS_LAST => {}
            _ => {
                if let Some(entry) = self.table(offset) {
                    *entry = value;
                } else if let Some(index) = DELAYS.iter().position(|known| *known == offset) {
                    self.delays[index] = value as u16;
                } else if let Some(index) = KEPT.iter().position(|known| *known == offset) {
                    self.kept[index] = value;
                }
            }
        }
    }

    fn write_control(&mut self, value: u32) {
        if value & ctrl::RESET != 0 {
            let (mac, link) = (self.mac(), self.phy.has_link());
            *self = Chip { phy: self.phy.clone(), io_address: self.io_address, ..Chip::new(mac, link) };
            return;
        }
        if value & ctrl::PHY_RESET != 0 {
            self.phy.reset();
        }
        self.ctrl = value & !ctrl::PHY_RESET;
    }

    /// The cable is plugged in or out.
    pub fn set_link(&mut self, link: bool) {
        if self.phy.set_link(link) {
            self.raise(cause::LSC);
        }
    }

    /// A guest reads the I/O window: the register's address, or the register (SDM §13.3).
    pub fn read_io(&mut self, offset: u64) -> u32 {
        match offset {
            0 => self.io_address,
            4 => self.read(u64::from(self.io_address)),
            _ => u32::MAX,
        }
    }

    /// A guest writes the I/O window.
    pub fn write_io(&mut self, offset: u64, value: u32) {
        match offset {
            0 => self.io_address = value & 0x1_FFFC,
            4 => self.write(u64::from(self.io_address), value),
            _ => {}
        }
    }
}
