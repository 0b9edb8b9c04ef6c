//! Interrupt messages: what I/O APIC, MSI and interprocessor commands put on the bus to local APICs.
//!
//! Sources: Intel SDM volume 3, 11.11 "Message signalled interrupts" and 11.6.1 "ICR"; 82093AA datasheet.

use serde::{Deserialize, Serialize};

/// What a local APIC shall do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum DeliveryMode {
    /// Deliver the vector to all processors addressed.
    Fixed = 0,
    /// Deliver the vector to one of the processors addressed.
    LowestPriority = 1,
    /// System management interrupt.
    Smi = 2,
    /// Non-maskable interrupt.
    Nmi = 4,
    /// Reset the processor.
    Init = 5,
    /// Start the processor at page `vector`.
    Startup = 6,
    /// Deliver the vector the 8259A pair gives.
    ExternalInterrupt = 7,
}

impl DeliveryMode {
    /// The mode of a three-bit field; 3 is reserved.
    pub const fn from_bits(bits: u32) -> Option<DeliveryMode> {
        Some(match bits & 7 {
            0 => DeliveryMode::Fixed,
            1 => DeliveryMode::LowestPriority,
            2 => DeliveryMode::Smi,
            4 => DeliveryMode::Nmi,
            5 => DeliveryMode::Init,
            6 => DeliveryMode::Startup,
            7 => DeliveryMode::ExternalInterrupt,
            _ => return None,
        })
    }
}

/// One interrupt message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// APIC id, or set of logical ids.
    pub destination: u32,
    /// Whether the destination is logical.
    pub logical: bool,
    /// What to do.
    pub mode: DeliveryMode,
    /// Which vector.
    pub vector: u8,
    /// Level-triggered: its end of interrupt goes back to the I/O APIC.
    pub level: bool,
}

/// Messages are writes to this megabyte.
const MSI_BASE: u64 = 0xFEE0_0000;

impl Message {
    /// The message a write of `data` to `address` makes, if it is one.
    pub fn from_msi(address: u64, data: u32) -> Option<Message> {
        if address & !0xF_FFFF != MSI_BASE {
            return None;
        }
        let mode = DeliveryMode::from_bits(data >> 8)?;
        let hinted = address & 8 != 0 && mode == DeliveryMode::Fixed;
        Some(Message {
            destination: (address >> 12) as u32 & 0xFF,
            logical: address & 4 != 0,
            mode: if hinted { DeliveryMode::LowestPriority } else { mode },
            vector: data as u8,
            level: data & 0x8000 != 0,
        })
    }

    /// The address and data of the write that makes this message. A destination above 255 has no such
    /// form; its low eight bits are used.
    pub fn to_msi(self) -> (u64, u32) {
        let address = MSI_BASE | u64::from(self.destination & 0xFF) << 12 | u64::from(self.logical) << 2;
        // Bit 14 is "assert".
        let data = u32::from(self.vector)
            | (self.mode as u32) << 8
            | u32::from(self.level) << 14
            | u32::from(self.level) << 15;
        (address, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_its_msi_form() {
        for mode in [DeliveryMode::Fixed, DeliveryMode::LowestPriority, DeliveryMode::Nmi] {
            for (logical, level) in [(false, false), (true, false), (false, true), (true, true)] {
                let message = Message { destination: 0xA5, logical, mode, vector: 0x42, level };
                let (address, data) = message.to_msi();
                assert_eq!(Message::from_msi(address, data), Some(message));
            }
        }
        assert_eq!(Message::from_msi(0xFEC0_0000, 0x42), None);
        assert_eq!(Message::from_msi(0xFEE0_0000, 0x342), None, "mode 3 is reserved");
    }

    #[test]
    fn the_redirection_hint_asks_for_one_of_many() {
        // SDM 3, 11.11.1: RH = 1 directs the message to the processor of lowest priority.
        let message = Message::from_msi(0xFEEF_F00C, 0x0031).unwrap();
        assert_eq!(
            (message.mode, message.logical, message.destination),
            (DeliveryMode::LowestPriority, true, 0xFF)
        );
    }
}
