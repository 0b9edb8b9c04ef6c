//! Debug ports: ways for firmware and test guests to talk to whoever watches.
//!
//! Ports: 0x402 and 0xE9 (each byte written goes to the console; both read 0xE9, by which a guest finds them),
//! 0x80 (POST code: the last byte written is kept and reads back), 0xED (the delay port of some kernels: does
//! nothing), 0xF4 (debug exit: 1, 2 or 4 bytes; the low byte is the value). Lines: none.
//! Sources: Bochs "port E9 hack"; QEMU `isa-debugcon` and `isa-debug-exit`; SeaBIOS `CONFIG_DEBUG_IO`.

use serde::{Deserialize, Serialize};

use crate::access::{At, Width};
use crate::bus::{Bus, WindowSpec};
use crate::device::{Device, LoadError, Shared, decode, encode, shared};
use crate::requests::{Request, Requests};

/// What a guest that probes a console port reads.
const PRESENT: u64 = 0xE9;

/// Where the console's bytes go.
pub type ByteSink = Box<dyn FnMut(u8) + Send>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    post_code: u8,
}

/// The ports.
pub struct Debug {
    state: State,
    console: ByteSink,
    requests: Requests,
}

impl Debug {
    /// Window of a console port.
    pub const CONSOLE: u8 = 0;
    /// Window of the POST port.
    pub const POST: u8 = 1;
    /// Window of the debug-exit port.
    pub const EXIT: u8 = 2;
    /// Window of the delay port.
    pub const DELAY: u8 = 3;

    /// Ports whose console bytes go to `console` and whose exit goes to `requests`.
    pub fn new(console: ByteSink, requests: Requests) -> Debug {
        Debug { state: State::default(), console, requests }
    }

    /// Puts them on the bus.
    pub fn install(self, bus: &Bus) -> Shared<Debug> {
        let device = shared(self);
        bus.add(&device, Debug::CONSOLE, WindowSpec::ports(1), Some(0x402));
        bus.add(&device, Debug::CONSOLE, WindowSpec::ports(1), Some(0xE9));
        bus.add(&device, Debug::POST, WindowSpec::ports(1), Some(0x80));
        bus.add(&device, Debug::DELAY, WindowSpec::ports(1), Some(0xED));
        device
    }

    /// Puts the debug-exit port on the bus as well, for machines that are asked to have it.
    pub fn add_exit(debug: &Shared<Debug>, bus: &Bus) {
        let window = WindowSpec::ports(4).widths(Width::Byte, Width::Dword);
        bus.add(debug, Debug::EXIT, window, Some(0xF4));
    }

    /// The last POST code written.
    pub fn post_code(&self) -> u8 {
        self.state.post_code
    }
}

impl Device for Debug {
    fn name(&self) -> &str {
        "debug"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        match at.window {
            Debug::CONSOLE => PRESENT,
            Debug::POST => self.state.post_code.into(),
            Debug::EXIT => 0,
            _ => width.ones(),
        }
    }

    fn write(&mut self, at: At, _width: Width, value: u64) {
        match at.window {
            Debug::CONSOLE => (self.console)(value as u8),
            Debug::POST => self.state.post_code = value as u8,
            Debug::EXIT if at.offset == 0 => self.requests.ask(Request::DebugExit(value as u8)),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.state = State::default();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.state)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        self.state = decode(self.name(), state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::bus::Space;
    use crate::contract;

    #[test]
    fn keeps_the_contract() {
        contract::check(|| Debug::new(Box::new(|_| {}), Requests::unconnected()));
    }

    #[test]
    fn consoles_post_and_exit() {
        let (text, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (sink, log) = (text.clone(), asked.clone());
        let requests = Requests::new(move |request| log.lock().push(request));
        let bus = Bus::new();
        let debug = Debug::new(Box::new(move |byte| sink.lock().push(byte)), requests).install(&bus);
        assert_eq!(bus.read(Space::Port, 0x402, Width::Byte, 0), 0xE9);
        bus.write(Space::Port, 0x402, Width::Byte, b'h'.into(), 0);
        bus.write(Space::Port, 0xE9, Width::Byte, b'i'.into(), 0);
        bus.write(Space::Port, 0xED, Width::Byte, 0, 0);
        assert_eq!(*text.lock(), b"hi");
        bus.write(Space::Port, 0x80, Width::Byte, 0x55, 0);
        assert_eq!(debug.lock().post_code(), 0x55);
        assert_eq!(bus.read(Space::Port, 0x80, Width::Byte, 0), 0x55);
        Debug::add_exit(&debug, &bus);
        for (width, value) in [(Width::Byte, 0x21), (Width::Word, 0x22), (Width::Dword, 0x23)] {
            bus.write(Space::Port, 0xF4, width, value, 0);
        }
        assert_eq!(*asked.lock(), [0x21, 0x22, 0x23].map(Request::DebugExit), "one request per write");
    }
}
