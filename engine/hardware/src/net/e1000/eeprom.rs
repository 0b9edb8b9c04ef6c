//! The 93C46 EEPROM: 64 words, read bit by bit over Microwire or whole words through EERD.
//!
//! SDM §5.3 to §5.6 and §13.4.3 (EECD, EERD); Microchip 93C46 datasheet.

use network::Mac;
use serde::{Deserialize, Serialize};

/// EECD bits.
mod eecd {
    /// Clock.
    pub const SK: u32 = 1 << 0;
    /// Chip select.
    pub const CS: u32 = 1 << 1;
    /// Data into the EEPROM.
    pub const DI: u32 = 1 << 2;
    /// Data out of it.
    pub const DO: u32 = 1 << 3;
    /// Flash writes are disabled.
    pub const FLASH_DISABLED: u32 = 1 << 4;
    /// Software wants the pins, and has them.
    pub const REQUEST: u32 = 1 << 6;
    pub const GRANT: u32 = 1 << 7;
    /// There is an EEPROM.
    pub const PRESENT: u32 = 1 << 8;
}

/// EERD bits.
mod eerd {
    pub const START: u32 = 1 << 0;
    pub const DONE: u32 = 1 << 4;
    pub const ADDRESS_SHIFT: u32 = 8;
    pub const DATA_SHIFT: u32 = 16;
}

const WORDS: usize = 64;
/// All words add up to this, SDM §5.6.35.
const SUM: u16 = 0xBABA;
/// Start bit and opcode of a read, before a six-bit address.
const READ: u16 = 0b110;
const COMMAND_BITS: u8 = 9;

/// Its words, and how far the conversation over its pins is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eeprom {
    mac: Mac,
    pins: u32,
    command: u16,
    bits_in: u8,
    /// Bits put out since the command, from word `command & 63` on.
    bits_out: u16,
    output: bool,
    register: u32,
}

impl Eeprom {
    /// An EEPROM that names `mac`.
    pub fn new(mac: Mac) -> Eeprom {
        Eeprom { mac, pins: 0, command: 0, bits_in: 0, bits_out: 0, output: true, register: 0 }
    }

    /// The address it names.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// One word, SDM table 5-2.
    fn word(&self, address: u16) -> u16 {
        let address = usize::from(address) % WORDS;
        if address < WORDS - 1 {
            return self.content(address);
        }
        (0..WORDS - 1).fold(SUM, |rest, address| rest.wrapping_sub(self.content(address)))
    }

    fn content(&self, address: usize) -> u16 {
        let mac = self.mac.0;
        match address {
            0..=2 => u16::from_le_bytes([mac[2 * address], mac[2 * address + 1]]),
            0x03 => 0x0000,        // software compatibility: copper, a client card
            0x08 | 0x09 => 0xFFFF, // no printed board assembly number
            0x0A => 0x4408,        // initialization control 1: load the ids below
            0x0B => 0x001E,        // subsystem
            0x0C | 0x0E => 0x8086,
            0x0D => 0x100E,
            0x0F => 0x3040, // initialization control 2
            0x21 => 0x7863, // LED and power defaults
            _ => 0,
        }
    }

    /// A guest reads EECD.
    pub fn pins(&self) -> u32 {
        let granted = if self.pins & eecd::REQUEST != 0 { eecd::GRANT } else { 0 };
        let output = if self.output { eecd::DO } else { 0 };
        self.pins | granted | output | eecd::PRESENT | eecd::FLASH_DISABLED
    }

    /// A guest writes EECD.
    pub fn set_pins(&mut self, value: u32) {
        let rising = value & !self.pins & eecd::SK != 0;
        self.pins = value & (eecd::SK | eecd::CS | eecd::DI | eecd::REQUEST);
        if value & eecd::CS == 0 {
            (self.command, self.bits_in, self.bits_out, self.output) = (0, 0, 0, true);
        } else if rising {
            self.clock(value & eecd::DI != 0);
        }
    }

    fn clock(&mut self, input: bool) {
        if self.bits_in < COMMAND_BITS {
            // Zeros before the start bit say nothing.
            if self.bits_in > 0 || input {
                self.command = self.command << 1 | u16::from(input);
                self.bits_in += 1;
            }
            // A zero bit stands before the data.
            self.output = self.bits_in < COMMAND_BITS;
            return;
        }
        if self.command >> 6 == READ {
            let address = (self.command & 0x3F).wrapping_add(self.bits_out / 16);
            self.output = self.word(address) >> (15 - self.bits_out % 16) & 1 != 0;
            self.bits_out = (self.bits_out + 1) % (16 * WORDS as u16);
        } else {
            self.output = true; // writes and erasures are ready at once, and change nothing
        }
    }

    /// A guest reads EERD.
    pub fn register(&self) -> u32 {
        self.register
    }

    /// A guest writes EERD: a word is read at once.
    pub fn set_register(&mut self, value: u32) {
        let address = value >> eerd::ADDRESS_SHIFT & 0xFF;
        self.register = address << eerd::ADDRESS_SHIFT;
        if value & eerd::START != 0 {
            let word = u32::from(self.word(address as u16));
            self.register |= word << eerd::DATA_SHIFT | eerd::DONE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eeprom() -> Eeprom {
        Eeprom::new(Mac([0x52, 0x56, 0x12, 0x34, 0x56, 0x78]))
    }

    /// As a driver reads words over the pins, SDM §5.4.
    fn read(eeprom: &mut Eeprom, address: u16, count: usize) -> Vec<u16> {
        let clock = |eeprom: &mut Eeprom, input: bool| {
            let pins = eecd::CS | if input { eecd::DI } else { 0 };
            eeprom.set_pins(pins);
            eeprom.set_pins(pins | eecd::SK);
            let output = eeprom.pins() & eecd::DO != 0;
            eeprom.set_pins(pins);
            output
        };
        eeprom.set_pins(eecd::CS);
        let command = READ << 6 | address;
        for bit in (0..9).rev() {
            clock(eeprom, command >> bit & 1 != 0);
        }
        let word = |_| (0..16).fold(0, |word, _| word << 1 | u16::from(clock(eeprom, false)));
        let words = (0..count).map(word).collect();
        eeprom.set_pins(0);
        words
    }

    #[test]
    fn both_ways_read_the_same_words() {
        let mut eeprom = eeprom();
        assert_eq!(read(&mut eeprom, 0, 3), [0x5652, 0x3412, 0x7856]);
        for address in 0..64 {
            let over_pins = read(&mut eeprom, address, 1)[0];
            eeprom.set_register(u32::from(address) << 8 | eerd::START);
            assert_eq!(eeprom.register() >> 16, u32::from(over_pins));
            assert_ne!(eeprom.register() & eerd::DONE, 0);
        }
    }

    #[test]
    fn the_words_add_up() {
        let words = read(&mut eeprom(), 0, 64);
        assert_eq!(words.iter().fold(0_u16, |sum, word| sum.wrapping_add(*word)), SUM);
    }

    #[test]
    fn the_pins_are_granted_on_request() {
        let mut eeprom = eeprom();
        assert_eq!(eeprom.pins() & eecd::GRANT, 0);
        eeprom.set_pins(eecd::REQUEST);
        assert_ne!(eeprom.pins() & eecd::GRANT, 0);
    }
}
