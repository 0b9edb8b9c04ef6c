//! The test device the kvm-unit-tests expect: ways for a test guest to raise interrupts, and memory and a port that
//! are a device's and yet keep what is written.
//!
//! Ports: 0xE0-0xE3 (keep what is written), 0xE4-0xE7 (asks QEMU to forget a page: nothing to do here), 0x2000-0x2017
//! (a byte per interrupt line: its level). Memory: 64 KiB at 0xFF000000 that read back what is written.
//! Lines: IRQ 0 to 15, and I/O APIC inputs 16 to 23.
//! Source: QEMU, hw/misc/pc-testdev.c.

use serde::{Deserialize, Serialize};

use crate::access::{At, Width};
use crate::bus::{Bus, Space, WindowSpec};
use crate::device::{Device, LoadError, Shared, decode, encode, shared};
use crate::line::Line;
use crate::vga::blob::Blob;

const LINES: usize = 24;
const MEMORY_BYTES: usize = 0x1_0000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    port: [u8; 4],
    /// Levels, one bit each.
    levels: u32,
    memory: Blob,
}

/// The device.
pub struct TestDevice {
    state: State,
    lines: [Line; LINES],
}

impl State {
    fn new() -> State {
        State { port: [0; 4], levels: 0, memory: Blob(vec![0; MEMORY_BYTES]) }
    }
}

impl TestDevice {
    /// Window of the port that keeps its value.
    pub const PORT: u8 = 0;
    /// Window of the port that has a page forgotten.
    pub const FORGET: u8 = 1;
    /// Window of the interrupt lines.
    pub const LINES: u8 = 2;
    /// Window of the memory.
    pub const MEMORY: u8 = 3;

    /// A device with these interrupt lines.
    pub fn new(lines: [Line; LINES]) -> TestDevice {
        TestDevice { state: State::new(), lines }
    }

    /// Puts it on the bus.
    pub fn install(self, bus: &Bus) -> Shared<TestDevice> {
        let device = shared(self);
        let wide = |bytes| WindowSpec::ports(bytes).widths(Width::Byte, Width::Dword);
        bus.add(&device, TestDevice::PORT, wide(4), Some(0xE0));
        bus.add(&device, TestDevice::FORGET, wide(4), Some(0xE4));
        bus.add(&device, TestDevice::LINES, WindowSpec::ports(LINES as u64), Some(0x2000));
        let (narrowest, widest) = (Width::Byte, Width::Qword);
        let length = MEMORY_BYTES as u64;
        let memory = WindowSpec { space: Space::Memory, length, narrowest, widest };
        bus.add(&device, TestDevice::MEMORY, memory, Some(0xFF00_0000));
        device
    }

    /// The bytes an access falls on that are there.
    fn bytes(&mut self, at: At, width: Width) -> &mut [u8] {
        let bytes: &mut [u8] = match at.window {
            TestDevice::PORT => &mut self.state.port,
            TestDevice::MEMORY => &mut self.state.memory.0,
            _ => &mut [],
        };
        let start = usize::try_from(at.offset).map_or(bytes.len(), |start| start.min(bytes.len()));
        let end = (start + width.bytes() as usize).min(bytes.len());
        &mut bytes[start..end]
    }

    fn settle(&self) {
        for (number, line) in self.lines.iter().enumerate() {
            line.set(self.state.levels >> number & 1 != 0);
        }
    }
}

impl Device for TestDevice {
    fn name(&self) -> &str {
        "test"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        match at.window {
            TestDevice::LINES => u64::from(self.state.levels.checked_shr(at.offset as u32).unwrap_or(0) & 1),
            _ => self.bytes(at, width).iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)),
        }
    }

    fn write(&mut self, at: At, width: Width, value: u64) {
        if at.window == TestDevice::LINES {
            if let Some(bit) = 1_u32.checked_shl(at.offset as u32) {
                self.state.levels = self.state.levels & !bit | if value & 0xFF != 0 { bit } else { 0 };
                // Only the line written: the others are their devices' too.
                if let Some(line) = self.lines.get(at.offset as usize) {
                    line.set(value & 0xFF != 0);
                }
            }
            return;
        }
        for (byte, new) in self.bytes(at, width).iter_mut().zip(value.to_le_bytes()) {
            *byte = new;
        }
    }

    fn reset(&mut self) {
        self.state = State::new();
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.state)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let loaded: State = decode(self.name(), state)?;
        if loaded.memory.0.len() != MEMORY_BYTES {
            return Err(LoadError {
                device: self.name().to_owned(),
                reason: "its memory has another size".into(),
            });
        }
        self.state = loaded;
        self.settle();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::contract;
    use crate::line::LineSink;

    #[test]
    fn keeps_the_contract() {
        contract::check(|| TestDevice::new(std::array::from_fn(|_| Line::unconnected())));
    }

    #[derive(Default)]
    struct Log(Mutex<Vec<(u32, bool)>>);

    impl LineSink for Log {
        fn set(&self, number: u32, level: bool) {
            self.0.lock().push((number, level));
        }
    }

    #[test]
    fn memory_and_port_keep_and_lines_are_driven_one_by_one() {
        let log = Arc::new(Log::default());
        let bus = Bus::new();
        TestDevice::new(std::array::from_fn(|n| Line::new(log.clone(), n as u32))).install(&bus);
        bus.write(Space::Memory, 0xFF00_FFFC, Width::Dword, 0x1234_5678, 0);
        assert_eq!(bus.read(Space::Memory, 0xFF00_FFFE, Width::Word, 0), 0x1234);
        bus.write(Space::Port, 0xE0, Width::Dword, 0xAABB_CCDD, 0);
        assert_eq!(bus.read(Space::Port, 0xE1, Width::Word, 0), 0xBBCC);
        for level in [1, 0] {
            bus.write(Space::Port, 0x200E, Width::Byte, level, 0);
            assert_eq!(bus.read(Space::Port, 0x200E, Width::Byte, 0), level);
        }
        assert_eq!(*log.0.lock(), [(14, true), (14, false)]);
    }
}
