//! Registers of a virtio device on PCI. Source: virtio 1.2, §4.1.4.3 (common configuration), §4.1.4.4 (notification),
//! §2.1 (device status).

use super::{Access, bits, named};

const COMMON: [(u64, &str); 18] = [
    (0x00, "device features, choose"),
    (0x04, "device features"),
    (0x08, "driver features, choose"),
    (0x0C, "driver features"),
    (0x10, "MSI-X vector of configuration"),
    (0x12, "number of queues"),
    (0x14, "status"),
    (0x15, "configuration generation"),
    (0x16, "choose queue"),
    (0x18, "queue size"),
    (0x1A, "queue's MSI-X vector"),
    (0x1C, "queue on"),
    (0x1E, "queue's notification place"),
    (0x20, "descriptors"),
    (0x28, "available ring"),
    (0x30, "used ring"),
    (0x38, "notification data"),
    (0x3A, "queue reset"),
];

/// Where the parts of the window lie: one page each, in the order of our capabilities.
const PAGE: u64 = 0x1000;
/// Bytes from one queue's notification register to the next.
const NOTIFY_STRIDE: u64 = 4;

pub(super) fn say(access: &Access<'_>) -> Option<String> {
    let offset = access.offset % PAGE;
    Some(match access.offset / PAGE {
        0 => common(access, offset),
        1 => {
            let names = [(1, "a queue was used"), (2, "configuration changed")];
            format!("interrupt cause 0x{:02x}, {}", access.value, bits(access.value, &names, "none"))
        }
        2 => access.moves(format_args!("configuration, byte {offset}")),
        3 if access.write => format!("notify queue {}", offset / NOTIFY_STRIDE),
        4 => access.moves(format_args!("MSI-X vector {}, word {}", offset / 16, offset % 16 / 4)),
        5 => access.moves("MSI-X pending"),
        _ => return None,
    })
}

fn common(access: &Access<'_>, offset: u64) -> String {
    if offset == 0x14 {
        let names = [
            (0x01, "acknowledge"),
            (0x02, "driver"),
            (0x04, "driver OK"),
            (0x08, "features OK"),
            (0x40, "needs reset"),
            (0x80, "failed"),
        ];
        return access.means("status", bits(access.value & 0xFF, &names, "reset"));
    }
    let high = offset >= 0x20 && offset % 8 == 4;
    match named(if high { offset - 4 } else { offset }, &COMMON) {
        Some(name) => access.moves(format_args!("{name}{}", if high { ", high" } else { "" })),
        None => access.moves(format_args!("register {offset:#x}")),
    }
}
