//! 82093AA I/O APIC: 24 inputs, each with a redirection entry that turns it into a message.
//!
//! Memory: a 4 KiB window (0xFEC00000 on our board), registers at 0x00 (select), 0x10 (data) and, as in
//! version 0x20, 0x40 (EOI). Lines: inputs 0 to 23. Output: messages, taken with [`IoApic::next_message`].
//! The wires carry "asserted", not a voltage: the polarity bit is kept and has no effect. An edge on a
//! masked input is lost, as the datasheet says. Delivery is immediate, so delivery status reads 0.
//! Left out on purpose: the serial APIC bus (arbitration id is only a copy of the id).
//! Sources: Intel 82093AA datasheet (290566-001); ICH9 datasheet, section 13.5, for the EOI register.

use serde::{Deserialize, Serialize};

use super::message::{DeliveryMode, Message};

/// Number of inputs.
pub const INPUTS: usize = 24;
/// Version 0x20, highest entry 23.
const VERSION: u32 = ((INPUTS as u32 - 1) << 16) | 0x20;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
const LOGICAL: u64 = 1 << 11;
/// Destination, mask, trigger, polarity, destination mode, delivery mode, vector.
const WRITABLE: u64 = 0xFF00_0000_0001_AFFF;

/// The chip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IoApic {
    id: u32,
    select: u32,
    redirection: [u64; INPUTS],
    /// Levels on the inputs now.
    lines: u32,
    /// Requests not yet sent: edges that came while unmasked.
    edges: u32,
}

impl Default for IoApic {
    fn default() -> IoApic {
        IoApic { id: 0, select: 0, redirection: [MASKED; INPUTS], lines: 0, edges: 0 }
    }
}

impl IoApic {
    /// Drives `input`.
    pub fn set_line(&mut self, input: usize, level: bool) {
        let Some(&entry) = self.redirection.get(input) else { return };
        let bit = 1 << input;
        if !level {
            self.lines &= !bit;
            return;
        }
        let rising = self.lines & bit == 0;
        self.lines |= bit;
        if rising && entry & MASKED == 0 && !is_level(entry) {
            self.edges |= bit;
        }
    }

    /// The redirection entry of `input`, for the inspector.
    pub fn entry(&self, input: usize) -> Option<u64> {
        self.redirection.get(input).copied()
    }

    /// Levels on the inputs, one bit each.
    pub fn lines(&self) -> u32 {
        self.lines
    }

    /// The message `input` would send now; `None` if masked or of a reserved mode.
    pub fn route(&self, input: usize) -> Option<Message> {
        let entry = *self.redirection.get(input)?;
        if entry & MASKED != 0 {
            return None;
        }
        Some(Message {
            destination: (entry >> 56) as u32,
            logical: entry & LOGICAL != 0,
            mode: DeliveryMode::from_bits((entry >> 8) as u32)?,
            vector: entry as u8,
            level: is_level(entry),
        })
    }

    /// Whether this chip passes the 8259A pair's output on to some local APIC (virtual wire mode).
    pub fn external_interrupt(&self) -> Option<Message> {
        self.route(0).filter(|message| message.mode == DeliveryMode::ExternalInterrupt)
    }

    /// Takes the next message to be sent, with its input. `None` when all is sent.
    pub fn next_message(&mut self) -> Option<(usize, Message)> {
        let ready = self.edges | self.lines;
        if ready == 0 {
            return None;
        }
        for input in (0..INPUTS).filter(|input| ready & 1 << input != 0) {
            let Some(message) = self.route(input) else { continue };
            let entry = &mut self.redirection[input];
            if message.level {
                if self.lines & 1 << input != 0 && *entry & REMOTE_IRR == 0 {
                    *entry |= REMOTE_IRR;
                    return Some((input, message));
                }
            } else if self.edges & 1 << input != 0 {
                self.edges &= !(1 << input);
                return Some((input, message));
            }
        }
        None
    }

    /// A local APIC ended `vector`, or the guest wrote it to the EOI register.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for entry in self.redirection.iter_mut().filter(|entry| **entry as u8 == vector && is_level(**entry))
        {
            *entry &= !REMOTE_IRR;
        }
    }

    /// Reads the dword at `offset` of the window.
    pub fn read(&self, offset: u64) -> u32 {
        match offset & 0xFF {
            0x00 => self.select,
            0x10 => self.read_register(),
            _ => 0,
        }
    }

    fn read_register(&self) -> u32 {
        match self.select {
            0 | 2 => self.id,
            1 => VERSION,
            select => match self.selected(select) {
                Some((input, shift)) => (self.redirection[input] >> shift) as u32,
                None => 0,
            },
        }
    }

    fn selected(&self, select: u32) -> Option<(usize, u32)> {
        let entry = select.checked_sub(0x10)? as usize / 2;
        (entry < INPUTS).then_some((entry, 32 * (select & 1)))
    }

    /// Writes the dword at `offset` of the window. Says whether a redirection entry changed.
    pub fn write(&mut self, offset: u64, value: u32) -> bool {
        match offset & 0xFF {
            0x00 => self.select = value & 0xFF,
            0x10 => return self.write_register(value),
            0x40 => self.end_of_interrupt(value as u8),
            _ => {}
        }
        false
    }

    fn write_register(&mut self, value: u32) -> bool {
        if self.select == 0 {
            self.id = value & 0x0F00_0000;
        }
        let Some((input, shift)) = self.selected(self.select) else { return false };
        let old = self.redirection[input];
        let kept = old & !(0xFFFF_FFFF << shift);
        let mut entry = (kept | u64::from(value) << shift) & WRITABLE | old & REMOTE_IRR;
        if !is_level(entry) {
            // Guests without an EOI register clear remote IRR by way of edge mode.
            entry &= !REMOTE_IRR;
        }
        if entry & MASKED != 0 || is_level(entry) {
            self.edges &= !(1 << input);
        }
        self.redirection[input] = entry;
        entry != old
    }
}

/// SMI, NMI, INIT and ExtINT are always edges, whatever bit 15 says (82093AA, 3.2.4).
fn is_level(entry: u64) -> bool {
    entry & LEVEL != 0 && (entry >> 8) & 7 < 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(chip: &mut IoApic, input: u32, low: u32, high: u32) {
        for (register, value) in [(0x11 + 2 * input, high), (0x10 + 2 * input, low)] {
            chip.write(0, register);
            chip.write(0x10, value);
        }
    }

    fn low(chip: &mut IoApic, input: u32) -> u32 {
        chip.write(0, 0x10 + 2 * input);
        chip.read(0x10)
    }

    #[test]
    fn identity_and_version() {
        let mut chip = IoApic::default();
        chip.write(0, 1);
        assert_eq!(chip.read(0x10), 0x0017_0020);
        chip.write(0, 0);
        chip.write(0x10, 0xFFFF_FFFF);
        assert_eq!(chip.read(0x10), 0x0F00_0000);
        assert_eq!(low(&mut chip, 23), 0x1_0000, "masked at reset");
    }

    #[test]
    fn an_edge_is_sent_once_and_lost_while_masked() {
        let mut chip = IoApic::default();
        chip.set_line(4, true);
        program(&mut chip, 4, 0x0831, 0x0300_0000);
        assert_eq!(chip.next_message(), None, "the edge came while masked");
        chip.set_line(4, false);
        chip.set_line(4, true);
        chip.set_line(4, true);
        let sent =
            Message { destination: 3, logical: true, mode: DeliveryMode::Fixed, vector: 0x31, level: false };
        assert_eq!(chip.next_message(), Some((4, sent)));
        assert_eq!(chip.next_message(), None);
    }

    #[test]
    fn a_level_is_sent_again_after_its_end_while_it_lasts() {
        let mut chip = IoApic::default();
        program(&mut chip, 10, 0xA050, 0);
        chip.set_line(10, true);
        assert_eq!(chip.next_message().map(|(_, m)| (m.vector, m.level)), Some((0x50, true)));
        assert_eq!(low(&mut chip, 10), 0xE050, "remote IRR");
        assert_eq!(chip.next_message(), None);
        chip.end_of_interrupt(0x51);
        assert_eq!(chip.next_message(), None, "another vector");
        chip.end_of_interrupt(0x50);
        assert!(chip.next_message().is_some(), "still asserted");
        chip.set_line(10, false);
        chip.write(0x40, 0x50);
        assert_eq!(chip.next_message(), None);
        assert_eq!(low(&mut chip, 10), 0xA050);
    }

    #[test]
    fn a_masked_level_waits_for_its_unmasking() {
        let mut chip = IoApic::default();
        program(&mut chip, 10, 0x1_8050, 0);
        chip.set_line(10, true);
        assert_eq!(chip.next_message(), None);
        program(&mut chip, 10, 0x8050, 0);
        assert!(chip.next_message().is_some());
    }

    #[test]
    fn switching_to_edge_clears_remote_irr() {
        let mut chip = IoApic::default();
        program(&mut chip, 10, 0x8050, 0);
        chip.set_line(10, true);
        chip.next_message();
        program(&mut chip, 10, 0x1_0050, 0);
        program(&mut chip, 10, 0x1_8050, 0);
        assert_eq!(low(&mut chip, 10), 0x1_8050);
    }

    #[test]
    fn nmi_is_an_edge_whatever_the_trigger_bit_says() {
        let mut chip = IoApic::default();
        program(&mut chip, 7, 0x8400, 0);
        chip.set_line(7, false);
        chip.set_line(7, true);
        // The trigger bit reads back, and the entry takes edges.
        assert_eq!(low(&mut chip, 7), 0x8400);
        assert_eq!(chip.next_message().map(|(_, m)| (m.mode, m.level)), Some((DeliveryMode::Nmi, false)));
    }
}
