//! The 88E1011 PHY behind MDIC: gigabit, full duplex, as soon as the cable is plugged in.
//!
//! IEEE 802.3 §22.2.4 (registers 0 to 15), SDM §13.4.5 (MDIC) and §8 (registers 16 to 31).

use serde::{Deserialize, Serialize};

/// MDIC bits.
mod mdic {
    pub const DATA: u32 = 0xFFFF;
    pub const REGISTER_SHIFT: u32 = 16;
    pub const PHY_SHIFT: u32 = 21;
    pub const OPERATION_SHIFT: u32 = 26;
    pub const READY: u32 = 1 << 28;
    pub const INTERRUPT: u32 = 1 << 29;
    pub const ERROR: u32 = 1 << 30;
    pub const WRITE: u32 = 1;
    pub const READ: u32 = 2;
}

/// The only PHY on the management bus.
const ADDRESS: u32 = 1;

const CONTROL: usize = 0;
const STATUS: usize = 1;
const PARTNER: usize = 5;
const GIGABIT_STATUS: usize = 10;
const SPECIFIC_STATUS: usize = 17;
const RESET: u16 = 1 << 15;
const RESTART_NEGOTIATION: u16 = 1 << 9;
const STATUS_LINK: u16 = 1 << 2;
const STATUS_NEGOTIATED: u16 = 1 << 5;

/// Its registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phy {
    registers: [u16; 32],
    mdic: u32,
    link: bool,
    /// The status register's link bit stays low until it is read.
    link_was_down: bool,
}

fn power_on() -> [u16; 32] {
    let mut registers = [0; 32];
    registers[CONTROL] = 0x1140; // negotiation on, full duplex, 1000 Mbit/s
    registers[STATUS] = 0x7949; // 10 and 100 Mbit/s, extended status, can negotiate
    (registers[2], registers[3]) = (0x0141, 0x0C20); // Marvell, 88E1011
    registers[4] = 0x0DE1; // offered: 10 and 100, both duplexes, pause
    registers[9] = 0x0E00; // offered: 1000, both duplexes
    registers[15] = 0x3000; // 1000BASE-T
    registers[16] = 0x0360;
    registers[20] = 0x0D60;
    registers
}

impl Phy {
    /// A PHY whose cable is plugged in or not.
    pub fn new(link: bool) -> Phy {
        Phy { registers: power_on(), mdic: mdic::READY, link, link_was_down: !link }
    }

    /// Whether the link is there.
    pub fn has_link(&self) -> bool {
        self.link
    }

    /// The cable is plugged in or out; says whether that is news.
    pub fn set_link(&mut self, link: bool) -> bool {
        self.link_was_down |= !link;
        std::mem::replace(&mut self.link, link) != link
    }

    /// Registers to their defaults, as its reset pin does.
    pub fn reset(&mut self) {
        *self = Phy::new(self.link);
    }

    /// A guest reads MDIC.
    pub fn mdic(&self) -> u32 {
        self.mdic
    }

    /// A guest writes MDIC; says whether an interrupt was asked for.
    pub fn set_mdic(&mut self, value: u32) -> bool {
        let register = (value >> mdic::REGISTER_SHIFT & 0x1F) as usize;
        let mut result = value & !(mdic::READY | mdic::ERROR) | mdic::READY;
        match (value >> mdic::PHY_SHIFT & 0x1F, value >> mdic::OPERATION_SHIFT & 3) {
            (ADDRESS, mdic::READ) => result = result & !mdic::DATA | u32::from(self.read(register)),
            (ADDRESS, mdic::WRITE) => self.write(register, value as u16),
            _ => result |= mdic::ERROR,
        }
        self.mdic = result;
        value & mdic::INTERRUPT != 0
    }

    fn read(&mut self, register: usize) -> u16 {
        let link = self.link;
        match register {
            STATUS => {
                let seen = link && !std::mem::replace(&mut self.link_was_down, !link);
                let negotiated = if link { STATUS_NEGOTIATED } else { 0 };
                self.registers[STATUS] | negotiated | if seen { STATUS_LINK } else { 0 }
            }
            PARTNER if link => 0xCDE1,
            GIGABIT_STATUS if link => 0x3C00, // both receivers good, the partner offers 1000
            SPECIFIC_STATUS if link => 0xAC08, // 1000 Mbit/s, full duplex, resolved, link
            _ => self.registers[register],
        }
    }

    fn write(&mut self, register: usize, value: u16) {
        match register {
            CONTROL if value & RESET != 0 => self.registers = power_on(),
            CONTROL => self.registers[CONTROL] = value & !RESTART_NEGOTIATION,
            STATUS..=3 | PARTNER..=8 | GIGABIT_STATUS..=15 | SPECIFIC_STATUS => {}
            _ => self.registers[register] = value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(phy: &mut Phy, register: u32) -> u32 {
        phy.set_mdic(2 << 26 | ADDRESS << 21 | register << 16);
        assert_eq!(phy.mdic() & (mdic::READY | mdic::ERROR), mdic::READY);
        phy.mdic() & mdic::DATA
    }

    #[test]
    fn it_says_who_it_is_and_that_the_link_is_there() {
        let mut phy = Phy::new(true);
        assert_eq!((read(&mut phy, 2), read(&mut phy, 3)), (0x0141, 0x0C20));
        assert_eq!(read(&mut phy, 1) & 0x24, 0x24);
        assert_eq!(read(&mut phy, 17) >> 14, 2, "1000 Mbit/s");
    }

    #[test]
    fn a_lost_link_shows_until_it_is_read() {
        let mut phy = Phy::new(true);
        assert!(phy.set_link(false) && phy.set_link(true) && !phy.set_link(true));
        assert_eq!(read(&mut phy, 1) & 4, 0);
        assert_eq!(read(&mut phy, 1) & 4, 4);
        phy.set_link(false);
        assert_eq!((read(&mut phy, 1) & 0x24, read(&mut phy, 5)), (0, 0));
    }

    #[test]
    fn another_address_is_an_error_and_reset_restores() {
        let mut phy = Phy::new(true);
        phy.set_mdic(2 << 26 | 2 << 21);
        assert_ne!(phy.mdic() & mdic::ERROR, 0);
        phy.set_mdic(1 << 26 | ADDRESS << 21 | 4 << 16 | 0x0123);
        assert_eq!(read(&mut phy, 4), 0x0123);
        phy.set_mdic(1 << 26 | ADDRESS << 21 | 0x8000);
        assert_eq!((read(&mut phy, 4), read(&mut phy, 0)), (0x0DE1, 0x1140));
    }
}
