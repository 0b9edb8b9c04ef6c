//! PCI configuration space and fw_cfg. Sources: PCI Local Bus 3.0, §3.2.2.3.2 and §6.1; QEMU `docs/specs/fw_cfg`.

use super::context::UNKNOWN;
use super::{Access, named};
use crate::layout::pci;

const REGISTERS: [(u64, &str); 16] = [
    (0x00, "vendor and device"),
    (0x04, "command and status"),
    (0x08, "class and revision"),
    (0x0C, "cache line, latency, header"),
    (0x10, "BAR 0"),
    (0x14, "BAR 1"),
    (0x18, "BAR 2"),
    (0x1C, "BAR 3"),
    (0x20, "BAR 4"),
    (0x24, "BAR 5"),
    (0x28, "CardBus CIS"),
    (0x2C, "subsystem"),
    (0x30, "expansion ROM"),
    (0x34, "capabilities"),
    (0x38, "reserved"),
    (0x3C, "interrupt line and pin"),
];

const FUNCTIONS: [((u8, u8), &str); 12] = [
    (pci::HOST_BRIDGE, "host bridge"),
    (pci::ISA_BRIDGE, "ISA bridge"),
    (pci::IDE, "IDE"),
    (pci::POWER_MANAGEMENT, "power management"),
    (pci::VGA, "VGA"),
    (pci::NETWORK, "network card"),
    (pci::AHCI, "AHCI"),
    (pci::ENTROPY, "virtio entropy"),
    (pci::BALLOON, "virtio balloon"),
    (pci::CONSOLE, "virtio console"),
    (pci::KEYBOARD, "virtio keyboard"),
    (pci::TABLET, "virtio tablet"),
];

pub(super) fn say(access: &Access<'_>, context: u32) -> Option<String> {
    if access.address < 0xCFC {
        return Some(match access.width.bytes() {
            4 => format!("PCI: choose {}", function(context, u64::from(context & 0xFC))),
            _ => format!("PCI: {}", access.moves(format_args!("port {:#x}", access.address))),
        });
    }
    if context == UNKNOWN {
        return Some(format!("PCI: {}", access.moves("a register chosen before the trace began")));
    }
    let register = u64::from(context & 0xFC) + (access.address - 0xCFC);
    Some(format!("PCI: {}", access.moves(function(context, register))))
}

fn function(address: u32, register: u64) -> String {
    let (bus, slot, function) = (address >> 16 & 0xFF, (address >> 11 & 31) as u8, (address >> 8 & 7) as u8);
    let known = FUNCTIONS.iter().find(|(place, _)| *place == (slot, function) && bus == 0);
    let name = known.map_or(String::new(), |(_, name)| format!(" ({name})"));
    let part = named(register & !3, &REGISTERS).map_or_else(
        || format!("register {register:#x}"),
        |name| if register.is_multiple_of(4) { name.to_owned() } else { format!("{name} +{}", register % 4) },
    );
    format!("{bus:02x}:{slot:02x}.{function}{name} {part}")
}

const KEYS: [(u64, &str); 10] = [
    (0x00, "signature"),
    (0x01, "features"),
    (0x02, "UUID"),
    (0x03, "RAM size"),
    (0x05, "number of CPUs"),
    (0x0D, "NUMA"),
    (0x0E, "boot menu"),
    (0x0F, "most CPUs"),
    (0x19, "file directory"),
    (0x8002, "IRQ 0 override"),
];

pub(super) fn say_fw_cfg(access: &Access<'_>, context: u32) -> Option<String> {
    let item = match named(u64::from(context), &KEYS) {
        _ if context == UNKNOWN => "an item chosen before the trace began".to_owned(),
        Some(name) => name.to_owned(),
        None => format!("item {context:#x}"),
    };
    let words = match (access.address, access.write) {
        (0x510, true) => format!("choose {item}"),
        (0x511, false) => access.moves(format_args!("byte of {item}")),
        (0x514..=0x51B, true) => access.moves("DMA request"),
        _ => access.moves(format_args!("port {:#x}", access.address)),
    };
    Some(format!("fw_cfg: {words}"))
}
