//! The 16550A UART. Source: National Semiconductor PC16550D datasheet, tables II and III.

use super::{Access, bits};

/// Clock of the baud generator over 16, in Hz.
const BAUD_BASE: u64 = 115_200;

pub(super) fn say(access: &Access<'_>, latch: u32) -> Option<String> {
    let value = access.value & 0xFF;
    let words = match (access.offset, access.write) {
        (0, _) if latch == 1 => match value {
            0 => access.moves("divisor, low"),
            _ => {
                access.means("divisor, low", format_args!("{} baud if the high byte is 0", BAUD_BASE / value))
            }
        },
        (1, _) if latch == 1 => access.moves("divisor, high"),
        (0, true) => format!("sends {}", character(value)),
        (0, false) => format!("received {}", character(value)),
        (1, _) => {
            let names =
                [(1, "received data"), (2, "transmitter empty"), (4, "line status"), (8, "modem status")];
            access.means("interrupts on", bits(value, &names, "none"))
        }
        (2, true) => access.means("FIFO control", if value & 1 != 0 { "FIFOs on" } else { "FIFOs off" }),
        (2, false) => {
            let reason = match value & 0xF {
                0x0 => "modem status",
                0x2 => "transmitter empty",
                0x4 => "received data",
                0x6 => "line status",
                0xC => "data waits in the FIFO",
                _ => "none pending",
            };
            access.means("interrupt identification", reason)
        }
        (3, _) => {
            let parity = match value >> 3 & 7 {
                1 => "odd",
                3 => "even",
                5 => "mark",
                7 => "space",
                _ => "no",
            };
            let latch = if value & 0x80 != 0 { ", divisor latch open" } else { "" };
            let stop = if value & 4 != 0 { 2 } else { 1 };
            access.means(
                "line control",
                format_args!("{} data, {parity} parity, {stop} stop{latch}", 5 + (value & 3)),
            )
        }
        (4, _) => {
            let names = [
                (1, "DTR"),
                (2, "RTS"),
                (4, "OUT1"),
                (8, "OUT2, interrupts reach the bus"),
                (0x10, "loop back"),
            ];
            access.means("modem control", bits(value, &names, "all off"))
        }
        (5, _) => {
            let names = [
                (1, "data ready"),
                (2, "overrun"),
                (4, "parity error"),
                (8, "framing error"),
                (0x10, "break"),
                (0x20, "can take a byte"),
                (0x40, "idle"),
            ];
            format!("status 0x{value:02x}, {}", bits(value, &names, "busy"))
        }
        (6, _) => {
            let names = [(0x10, "CTS"), (0x20, "DSR"), (0x40, "RI"), (0x80, "DCD")];
            access.means("modem status", bits(value, &names, "nothing connected"))
        }
        _ => access.moves("scratch"),
    };
    Some(format!("16550: {words}"))
}

fn character(value: u64) -> String {
    match value as u8 {
        b'\n' => "line feed".to_owned(),
        b'\r' => "carriage return".to_owned(),
        byte @ 0x20..=0x7E => format!("'{}'", char::from(byte)),
        byte => format!("0x{byte:02x}"),
    }
}
