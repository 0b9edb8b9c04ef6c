//! What a guest sees of the board's PCI functions: ids, classes, pins, and empty slots.

use crate::access::Width;
use crate::alarm::Alarm;
use crate::bus::{Bus, Space};
use crate::chipset::i440fx::I440Fx;
use crate::chipset::piix3::{self, PciInterrupts, Piix3};
use crate::chipset::power::PowerManagement;
use crate::clock::Clock;
use crate::device::shared;
use crate::layout::pci as slot;
use crate::line::Line;
use crate::memory::Memory;
use crate::pci::{Root, root};
use crate::requests::Requests;

/// One line per function: slot, ids, class and revision, header type, pin.
fn guest_visible(bus: &Bus) -> String {
    let read = |device: u32, function: u32, offset: u32| {
        let address = 0x8000_0000 | device << 11 | function << 8 | offset;
        bus.write(Space::Port, 0xCF8, Width::Dword, address.into(), 0);
        bus.read(Space::Port, 0xCFC, Width::Dword, 0) as u32
    };
    let mut text = String::new();
    for (device, function) in (0..32).flat_map(|device| (0..8).map(move |function| (device, function))) {
        let id = read(device, function, 0);
        if id == u32::MAX {
            continue;
        }
        let (class, header, pin) = (
            read(device, function, 8),
            read(device, function, 0xC) >> 16 & 0xFF,
            read(device, function, 0x3C),
        );
        text += &format!(
            "{device:02}.{function} {:04x}:{:04x} class {:06x} rev {:02x} header {header:02x} pin {}\n",
            id & 0xFFFF,
            id >> 16,
            class >> 8,
            class & 0xFF,
            pin >> 8 & 0xFF
        );
    }
    text
}

#[test]
fn golden_of_the_chipset() {
    let (bus, memory) = (Bus::new(), Memory::new(4 << 20, 0).unwrap());
    let root = shared(Root::new());
    bus.add(&root, 0, root::WINDOW, Some(root::CONFIG_ADDRESS));
    let interrupts = PciInterrupts::new((0..16).map(|_| Line::unconnected()).collect());
    let isa = shared(Piix3::new(interrupts.clone(), Requests::unconnected()));
    bus.add(&isa, 0, piix3::WINDOW, Some(piix3::RESET_CONTROL));
    let power = PowerManagement::install(
        &bus,
        Clock::manual(),
        Alarm::unconnected(),
        interrupts.sci_line(),
        Requests::unconnected(),
    );
    {
        let mut root = root.lock();
        root.attach(slot::HOST_BRIDGE, shared(I440Fx::new(&memory, None)));
        root.attach(slot::ISA_BRIDGE, isa);
        root.attach(slot::POWER_MANAGEMENT, power);
    }
    assert_eq!(
        guest_visible(&bus),
        "00.0 8086:1237 class 060000 rev 02 header 00 pin 0\n\
         01.0 8086:7000 class 060100 rev 00 header 80 pin 0\n\
         01.3 8086:7113 class 068000 rev 03 header 00 pin 1\n"
    );
    // The reset control port lies inside the mechanism's window and takes only its own byte.
    bus.write(Space::Port, 0xCF8, Width::Dword, 0x8000_0800, 0);
    assert_eq!(bus.read(Space::Port, 0xCF9, Width::Byte, 0), 0);
    assert_eq!(bus.read(Space::Port, 0xCF8, Width::Dword, 0), 0x8000_0800);
    assert_eq!(bus.read(Space::Port, 0xCFE, Width::Word, 0), 0x7000);
}
