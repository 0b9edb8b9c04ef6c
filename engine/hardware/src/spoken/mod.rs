//! Accesses as sentences: what a guest says to a chip, and what the chip answers, in the words of its datasheet.
//!
//! Many chips have an index register that says what the next access means. [`Context`] follows those; each access
//! then has a number, its context, with which [`speak`] needs nothing else: any line of a long trace can be put into
//! words alone, in any order.

mod buses;
mod clocks;
mod context;
mod dma;
mod floppy;
mod hpet;
mod ide;
mod interrupts;
mod keyboard;
mod network;
mod ports;
mod serial;
mod sound;
mod timer;
mod vga;
mod virtio;

#[cfg(test)]
mod tests;

use crate::access::Width;
use crate::bus::Space;

pub use context::Context;

/// One access, and whose window it fell into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access<'a> {
    /// The device's name on the bus; empty: nobody answered.
    pub device: &'a str,
    /// Which of the device's windows.
    pub window: u8,
    /// Offset in that window, in bytes.
    pub offset: u64,
    /// Port or memory.
    pub space: Space,
    /// The address the guest used.
    pub address: u64,
    /// Width of the access.
    pub width: Width,
    /// What was read or written.
    pub value: u64,
    /// Whether the guest wrote.
    pub write: bool,
}

impl Access<'_> {
    /// `out 0x43, 0x34`, `in 0x60 = 0x1c`, `write 0xfee000b0, 0x00000000`.
    pub fn instruction(&self) -> String {
        let (address, value, digits) = (self.address, self.value, 2 * self.width.bytes() as usize);
        match (self.space, self.write) {
            (Space::Port, true) => format!("out {address:#x}, 0x{value:0digits$x}"),
            (Space::Port, false) => format!("in {address:#x} = 0x{value:0digits$x}"),
            (Space::Memory, true) => format!("write {address:#x}, 0x{value:0digits$x}"),
            (Space::Memory, false) => format!("read {address:#x} = 0x{value:0digits$x}"),
        }
    }

    fn byte(&self) -> u8 {
        self.value as u8
    }

    /// `name = 0x12` for a read, `name := 0x12` for a write.
    fn moves(&self, name: impl std::fmt::Display) -> String {
        let (value, digits) = (self.value, 2 * self.width.bytes() as usize);
        let sign = if self.write { ":=" } else { "=" };
        format!("{name} {sign} 0x{value:0digits$x}")
    }

    /// The same with the meaning of the value in words.
    fn means(&self, name: impl std::fmt::Display, meaning: impl std::fmt::Display) -> String {
        format!("{}: {meaning}", self.moves(name))
    }
}

/// The access in words: the chip's name, a colon, what it means. `context` is what [`Context::follow`] gave for it.
pub fn speak(access: &Access<'_>, context: u32) -> String {
    let said = match access.device {
        "8254" => timer::say(access, context),
        "interrupts" => interrupts::say(access, context),
        "mc146818" => clocks::say(access, context),
        "hpet" => hpet::say(access),
        "8042" => keyboard::say(access, context),
        "8237" => dma::say(access),
        "com1" | "com2" => serial::say(access, context),
        "vga" => vga::say(access, context),
        "ide" => ide::say(access),
        "ahci" => ide::say_ahci(access),
        "floppy" => floppy::say(access),
        "pci" => buses::say(access, context),
        "fw_cfg" => buses::say_fw_cfg(access, context),
        "piix4-pm" => clocks::say_power(access),
        "e1000" => network::say(access, context),
        "" => return format!("nobody: {}", access.instruction()),
        name if name.starts_with("virtio") => virtio::say(access).map(|words| format!("{name}: {words}")),
        name if sound::knows(name) => sound::say(access, context),
        _ => ports::say(access),
    };
    said.unwrap_or_else(|| format!("{}: {}", access.device, access.moves(place(access))))
}

/// Where an access falls, when nothing better is known.
fn place(access: &Access<'_>) -> String {
    match access.space {
        Space::Port => format!("port {:#x}", access.address),
        Space::Memory => format!("register {:#x}", access.offset),
    }
}

/// The names of the set bits, or what none of them means.
fn bits(value: u64, names: &[(u64, &str)], none: &str) -> String {
    let set: Vec<&str> = names.iter().filter(|(mask, _)| value & mask != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { none.to_owned() } else { set.join(", ") }
}

/// The name that stands for a number in a sorted or unsorted table.
fn named<'a>(number: u64, names: &[(u64, &'a str)]) -> Option<&'a str> {
    names.iter().find(|(value, _)| *value == number).map(|(_, name)| *name)
}
