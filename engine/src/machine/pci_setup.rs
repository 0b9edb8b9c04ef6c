//! What firmware does to the chipset before it starts a system, for kernels that start without firmware:
//! addresses for what has none, interrupt routes, and RAM where ROM shadows lie.
//!
//! The values are those SeaBIOS chooses (src/fw/pciinit.c), which the ACPI tables describe.

use hardware::chipset::piix3::pirq_of;
use hardware::layout::{PM_BASE, irq, pci};
use hardware::{Bus, Space, Width};

const CONFIG_ADDRESS: u64 = 0xCF8;
const CONFIG_DATA: u64 = 0xCFC;
/// Edge or level of interrupt lines 8 to 15.
const ELCR2: u64 = 0x4D1;
/// The 8042's ports, its command to write the mode, and the mode: scan codes translated, interrupts for the
/// keyboard, the mouse off, self-test passed.
const KEYBOARD_DATA: u64 = 0x60;
const KEYBOARD_COMMAND: u64 = 0x64;
const WRITE_MODE: u64 = 0x60;
const KEYBOARD_MODE: u64 = 0x65;

/// Command register: ports, memory, bus master.
const PORTS: u64 = 1;
const MEMORY: u64 = 2;
const MASTER: u64 = 4;

/// (function, register, width, value)
const CONFIGURATION: &[((u8, u8), u8, Width, u64)] = &[
    // All of 0xC0000 to 0xFFFFF reads and writes RAM (82441FX, table 3).
    (pci::HOST_BRIDGE, 0x59, Width::Byte, 0x30),
    (pci::HOST_BRIDGE, 0x5A, Width::Byte, 0x33),
    (pci::HOST_BRIDGE, 0x5B, Width::Byte, 0x33),
    (pci::HOST_BRIDGE, 0x5C, Width::Byte, 0x33),
    (pci::HOST_BRIDGE, 0x5D, Width::Byte, 0x33),
    (pci::HOST_BRIDGE, 0x5E, Width::Byte, 0x33),
    (pci::HOST_BRIDGE, 0x5F, Width::Byte, 0x33),
    // PIRQA and PIRQB to line 10, PIRQC and PIRQD to line 11 (82371SB, §2.2.9).
    (pci::ISA_BRIDGE, 0x60, Width::Dword, 0x0B0B_0A0A),
    (pci::IDE, 0x20, Width::Dword, 0xC001),
    (pci::IDE, 0x04, Width::Word, PORTS | MASTER),
    // Power management and SMBus ports (82371AB, §7.1).
    (pci::POWER_MANAGEMENT, 0x3C, Width::Byte, irq::SCI as u64),
    (pci::POWER_MANAGEMENT, 0x40, Width::Dword, PM_BASE as u64 | 1),
    (pci::POWER_MANAGEMENT, 0x80, Width::Byte, 1),
    (pci::POWER_MANAGEMENT, 0x90, Width::Dword, 0x0701),
    (pci::POWER_MANAGEMENT, 0xD2, Width::Byte, 9),
    (pci::POWER_MANAGEMENT, 0x04, Width::Word, PORTS),
    (pci::VGA, 0x10, Width::Dword, 0xFD00_0000),
    (pci::VGA, 0x18, Width::Dword, 0xFEBF_F000),
    (pci::VGA, 0x04, Width::Word, PORTS | MEMORY),
];

/// Writes the chipset's registers through the ports a CPU would use.
pub fn as_firmware_leaves_it(bus: &Bus) {
    for ((device, function), register, width, value) in CONFIGURATION {
        let register = u64::from(*register);
        let selected = 1 << 31 | u64::from(*device) << 11 | u64::from(*function) << 8 | register & !3;
        bus.write(Space::Port, CONFIG_ADDRESS, Width::Dword, selected, 0);
        bus.write(Space::Port, CONFIG_DATA + (register & 3), *width, *value, 0);
    }
    bus.write(Space::Port, ELCR2, Width::Byte, 0x0C, 0);
    bus.write(Space::Port, KEYBOARD_COMMAND, Width::Byte, WRITE_MODE, 0);
    bus.write(Space::Port, KEYBOARD_DATA, Width::Byte, KEYBOARD_MODE, 0);
    place_the_others(bus);
}

/// Slots from here on hold what profiles put there.
const FIRST_FREE_SLOT: u8 = 3;
/// Addresses for their windows: between where RAM ends and the display adapter.
const FREE_MEMORY: u64 = 0xF000_0000;
const FREE_PORTS: u64 = 0xC100;
/// Interrupt lines of PIRQA to PIRQD, as routed above.
const LINES: [u64; 4] = [10, 10, 11, 11];

/// Gives every other function addresses and its interrupt line, and lets it decode.
fn place_the_others(bus: &Bus) {
    let (mut memory, mut ports) = (FREE_MEMORY, FREE_PORTS);
    for device in FIRST_FREE_SLOT..32 {
        let function = Configuration { bus, device };
        if function.read(0x00) & 0xFFFF == 0xFFFF {
            continue;
        }
        let mut register = 0x10;
        while register < 0x28 {
            register += function.place(register, &mut memory, &mut ports);
        }
        let pin = function.read(0x3C) >> 8 & 0xFF;
        if (1..=4).contains(&pin) {
            function.write(0x3C, Width::Byte, LINES[pirq_of(device, pin as u8)]);
        }
        function.write(0x04, Width::Word, PORTS | MEMORY | MASTER);
    }
}

/// Configuration space of function 0 of a device.
struct Configuration<'a> {
    bus: &'a Bus,
    device: u8,
}

impl Configuration<'_> {
    fn select(&self, register: u64) {
        let selected = 1 << 31 | u64::from(self.device) << 11 | register & !3;
        self.bus.write(Space::Port, CONFIG_ADDRESS, Width::Dword, selected, 0);
    }

    fn read(&self, register: u64) -> u64 {
        self.select(register);
        self.bus.read(Space::Port, CONFIG_DATA, Width::Dword, 0)
    }

    fn write(&self, register: u64, width: Width, value: u64) {
        self.select(register);
        self.bus.write(Space::Port, CONFIG_DATA + (register & 3), width, value, 0);
    }

    /// Sizes a base address register and places its window (PCI 2.2, §6.2.5.1); gives the length of the
    /// register.
    fn place(&self, register: u64, memory: &mut u64, ports: &mut u64) -> u64 {
        self.write(register, Width::Dword, 0xFFFF_FFFF);
        let told = self.read(register);
        let is_ports = told & 1 != 0;
        let size = (!(told & if is_ports { !3 } else { !0xF }) & 0xFFFF_FFFF) + 1;
        let wide = !is_ports && told & 6 == 4;
        let next = if is_ports { ports } else { memory };
        if told & !0xF != 0 || is_ports {
            *next = next.next_multiple_of(size);
            self.write(register, Width::Dword, *next);
            *next += size;
        } else {
            self.write(register, Width::Dword, 0);
        }
        if wide {
            self.write(register + 4, Width::Dword, 0);
        }
        if wide { 8 } else { 4 }
    }
}
