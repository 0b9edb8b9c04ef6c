//! The floppy controller. Source: Intel 82077AA datasheet, §2.1 and table 5-1.

use super::{Access, bits, named};

const COMMANDS: [(u64, &str); 12] = [
    (0x03, "SPECIFY"),
    (0x04, "SENSE DRIVE STATUS"),
    (0x05, "WRITE DATA"),
    (0x06, "READ DATA"),
    (0x07, "RECALIBRATE"),
    (0x08, "SENSE INTERRUPT"),
    (0x0A, "READ ID"),
    (0x0D, "FORMAT TRACK"),
    (0x0E, "DUMPREG"),
    (0x0F, "SEEK"),
    (0x10, "VERSION"),
    (0x13, "CONFIGURE"),
];

pub(super) fn say(access: &Access<'_>) -> Option<String> {
    let value = access.value & 0xFF;
    let words = match (access.address & 7, access.write) {
        (2, _) => {
            let names = [
                (0x04, "out of reset"),
                (0x08, "DMA and IRQ on"),
                (0x10, "motor 0 on"),
                (0x20, "motor 1 on"),
            ];
            access.means(
                "digital output",
                format_args!("drive {}, {}", value & 3, bits(value, &names, "in reset")),
            )
        }
        (4, false) => {
            let names =
                [(0x80, "ready for a byte"), (0x40, "has a byte"), (0x20, "without DMA"), (0x10, "busy")];
            format!("status 0x{value:02x}, {}", bits(value, &names, "not ready"))
        }
        (4, true) | (7, true) => access
            .means("data rate", ["500 kbit/s", "300 kbit/s", "250 kbit/s", "1 Mbit/s"][(value & 3) as usize]),
        (5, true) => match named(value & 0x1F, &COMMANDS) {
            Some(name) => format!("byte 0x{value:02x}, {name} if it begins a command"),
            None => format!("byte 0x{value:02x}"),
        },
        (5, false) => format!("result 0x{value:02x}"),
        (7, false) => {
            access.means("digital input", if value & 0x80 != 0 { "disk changed" } else { "same disk" })
        }
        (register, _) => access.moves(format_args!("register {register}")),
    };
    Some(format!("82077: {words}"))
}
