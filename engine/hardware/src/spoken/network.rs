//! The E1000's registers by name. Source: Intel PCI/PCI-X Family of Gigabit Ethernet Controllers, Software Developer's
//! Manual, table 13-2.

use super::context::UNKNOWN;
use super::{Access, named};
use crate::bus::Space;

const REGISTERS: [(u64, &str); 43] = [
    (0x0000, "CTRL, device control"),
    (0x0008, "STATUS, device status"),
    (0x0010, "EECD, EEPROM control"),
    (0x0014, "EERD, EEPROM read"),
    (0x0018, "CTRL_EXT, extended control"),
    (0x0020, "MDIC, PHY access"),
    (0x0028, "FCAL, flow control address"),
    (0x002C, "FCAH, flow control address"),
    (0x0030, "FCT, flow control type"),
    (0x0038, "VET, VLAN type"),
    (0x00C0, "ICR, interrupt causes"),
    (0x00C4, "ITR, interrupt throttle"),
    (0x00C8, "ICS, set causes"),
    (0x00D0, "IMS, mask set"),
    (0x00D8, "IMC, mask clear"),
    (0x0100, "RCTL, receive control"),
    (0x0170, "FCTTV, pause time"),
    (0x0178, "TXCW, transmit configuration"),
    (0x0180, "RXCW, receive configuration"),
    (0x0400, "TCTL, transmit control"),
    (0x0410, "TIPG, gap between packets"),
    (0x0458, "AIFS, adaptive spacing"),
    (0x0E00, "LEDCTL, lamps"),
    (0x1000, "PBA, buffer allocation"),
    (0x2160, "FCRTL, pause threshold"),
    (0x2168, "FCRTH, pause threshold"),
    (0x2800, "RDBAL, receive ring base"),
    (0x2804, "RDBAH, receive ring base, high"),
    (0x2808, "RDLEN, receive ring length"),
    (0x2810, "RDH, receive head"),
    (0x2818, "RDT, receive tail"),
    (0x2820, "RDTR, receive delay"),
    (0x282C, "RADV, receive delay, absolute"),
    (0x3800, "TDBAL, transmit ring base"),
    (0x3804, "TDBAH, transmit ring base, high"),
    (0x3808, "TDLEN, transmit ring length"),
    (0x3810, "TDH, transmit head"),
    (0x3818, "TDT, transmit tail"),
    (0x3820, "TIDV, transmit delay"),
    (0x3828, "TXDCTL, transmit descriptors"),
    (0x382C, "TADV, transmit delay, absolute"),
    (0x5000, "RXCSUM, receive checksums"),
    (0x5800, "WUC, wake-up"),
];

pub(super) fn say(access: &Access<'_>, context: u32) -> Option<String> {
    let register = match (access.space, access.offset) {
        (Space::Port, 0) => return Some(format!("E1000: choose {}", name(u64::from(context)))),
        (Space::Port, _) if context == UNKNOWN => return Some(format!("E1000: {}", access.moves("data"))),
        (Space::Port, _) => u64::from(context),
        (Space::Memory, offset) => offset,
    };
    Some(format!("E1000: {}", access.moves(name(register))))
}

fn name(register: u64) -> String {
    match named(register & !3, &REGISTERS) {
        Some(name) => name.to_owned(),
        None => match register {
            0x4000..=0x40FF => format!("statistics {register:#x}"),
            0x5200..=0x53FF => format!("multicast filter {}", (register - 0x5200) / 4),
            0x5400..=0x547F => format!("address filter {}", (register - 0x5400) / 8),
            0x5600..=0x57FF => format!("VLAN filter {}", (register - 0x5600) / 4),
            _ => format!("register {register:#x}"),
        },
    }
}
