//! The two ports a guest under test talks through: QEMU's debug console 0x402, which SeaBIOS logs to, and
//! its debug-exit port 0xF4.
//!
//! QEMU docs: "isa-debugcon" (reads answer 0xE9, so that SeaBIOS knows it is there), "isa-debug-exit".

use std::collections::VecDeque;

use crate::access::{At, Width};
use crate::bus::{Bus, WindowSpec};
use crate::device::{Device, LoadError, Shared, shared};
use crate::requests::{Request, Requests};

/// The console's port.
pub const CONSOLE: u64 = 0x402;
/// The exit port.
pub const EXIT: u64 = 0xF4;
/// What a read of the console answers.
const PRESENT: u64 = 0xE9;
/// How much of the log is kept.
const LOG_BYTES: usize = 64 << 10;

mod window {
    pub const CONSOLE: u8 = 0;
}

/// Both ports. They keep no guest state; the log is the host's.
pub struct DebugPorts {
    log: VecDeque<u8>,
    requests: Requests,
}

impl DebugPorts {
    /// The ports, on `bus`; the exit port only if `exit` asks for it.
    pub fn install(bus: &Bus, requests: Requests, exit: bool) -> Shared<DebugPorts> {
        let device = shared(DebugPorts { log: VecDeque::new(), requests });
        bus.add(&device, window::CONSOLE, WindowSpec::ports(1), Some(CONSOLE));
        let spec = WindowSpec::ports(4).widths(Width::Byte, Width::Dword);
        bus.add(&device, 1, spec, exit.then_some(EXIT));
        device
    }

    /// The newest part of what was written to the console.
    pub fn log(&self) -> String {
        let (first, second) = self.log.as_slices();
        String::from_utf8_lossy(&[first, second].concat()).into_owned()
    }
}

impl Device for DebugPorts {
    fn name(&self) -> &str {
        "debug"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        if at.window == window::CONSOLE { PRESENT } else { width.ones() }
    }

    fn write(&mut self, at: At, _width: Width, value: u64) {
        if at.window == window::CONSOLE {
            if self.log.len() == LOG_BYTES {
                self.log.pop_front();
            }
            self.log.push_back(value as u8);
        } else if at.offset == 0 {
            self.requests.ask(Request::DebugExit(value as u8));
        }
    }

    fn reset(&mut self) {}

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn load(&mut self, _state: &[u8]) -> Result<(), LoadError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Space;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[test]
    fn the_console_logs_and_the_exit_port_asks() {
        let (bus, asked) = (Bus::new(), Arc::new(Mutex::new(Vec::new())));
        let heard = asked.clone();
        let device =
            DebugPorts::install(&bus, Requests::new(move |request| heard.lock().push(request)), true);
        assert_eq!(bus.read(Space::Port, CONSOLE, Width::Byte, 0), 0xE9);
        for byte in *b"SeaBIOS" {
            bus.write(Space::Port, CONSOLE, Width::Byte, byte.into(), 0);
        }
        bus.write(Space::Port, EXIT, Width::Dword, 0x10, 0);
        assert_eq!(
            (device.lock().log().as_str(), &asked.lock()[..]),
            ("SeaBIOS", &[Request::DebugExit(0x10)][..])
        );
    }

    #[test]
    fn the_log_keeps_the_newest() {
        let bus = Bus::new();
        let device = DebugPorts::install(&bus, Requests::unconnected(), false);
        for n in 0..=LOG_BYTES {
            bus.write(Space::Port, CONSOLE, Width::Byte, if n == 0 { b'x'.into() } else { b'y'.into() }, 0);
        }
        assert_eq!(device.lock().log().len(), LOG_BYTES);
        assert!(!device.lock().log().contains('x'));
    }

    #[test]
    fn contract() {
        crate::contract::check(|| DebugPorts { log: VecDeque::new(), requests: Requests::unconnected() });
    }
}
