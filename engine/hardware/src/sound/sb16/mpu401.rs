//! The MPU-401's UART mode: enough for programs to find it. What is sent is lost. HPG, chapter 5.

use serde::{Deserialize, Serialize};

const RESET: u8 = 0xFF;
const UART: u8 = 0x3F;
const ACKNOWLEDGE: u8 = 0xFE;
/// Status: nothing to read; the other bit, not ready, is never set.
const NOTHING: u8 = 0x80;

/// The interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mpu401 {
    uart: bool,
    acknowledges: bool,
}

impl Mpu401 {
    /// Reads data (0) or status (1).
    pub fn read(&mut self, port: u64) -> u8 {
        match port {
            0 if std::mem::take(&mut self.acknowledges) => ACKNOWLEDGE,
            0 => 0xFF,
            _ if self.acknowledges => 0x3F,
            _ => NOTHING | 0x3F,
        }
    }

    /// Writes data (0) or a command (1).
    pub fn write(&mut self, port: u64, value: u8) {
        if port == 0 {
            return;
        }
        // In UART mode a reset is not acknowledged, and no other command is known.
        self.acknowledges = !self.uart;
        match value {
            RESET => self.uart = false,
            UART => self.uart = true,
            _ => {}
        }
    }

    /// Whether it asks for an interrupt: there is something to read.
    pub fn interrupts(&self) -> bool {
        self.acknowledges
    }
}
