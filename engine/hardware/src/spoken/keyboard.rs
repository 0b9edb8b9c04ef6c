//! The 8042 keyboard controller. Source: IBM PS/2 hardware interface reference, keyboard and auxiliary device controller.

use super::{Access, bits, named};

const COMMANDS: [(u64, &str); 17] = [
    (0x20, "read the configuration byte"),
    (0x60, "write the configuration byte"),
    (0xA7, "mouse off"),
    (0xA8, "mouse on"),
    (0xA9, "test the mouse port"),
    (0xAA, "self-test"),
    (0xAB, "test the keyboard port"),
    (0xAD, "keyboard off"),
    (0xAE, "keyboard on"),
    (0xC0, "read the input port"),
    (0xD0, "read the output port"),
    (0xD1, "write the output port"),
    (0xD2, "pretend a keyboard byte"),
    (0xD3, "pretend a mouse byte"),
    (0xD4, "the next byte is for the mouse"),
    (0xFE, "pulse reset"),
    (0xFF, "pulse nothing"),
];

const KEYBOARD: [(u64, &str); 9] = [
    (0xED, "set the lamps"),
    (0xEE, "echo"),
    (0xF0, "choose the scan code set"),
    (0xF2, "identify"),
    (0xF3, "set the repeat rate"),
    (0xF4, "start scanning"),
    (0xF5, "stop scanning"),
    (0xF6, "defaults"),
    (0xFF, "reset"),
];

const MOUSE: [(u64, &str); 9] = [
    (0xE6, "scaling 1:1"),
    (0xE8, "resolution"),
    (0xE9, "status"),
    (0xF2, "identify"),
    (0xF3, "sample rate"),
    (0xF4, "start reporting"),
    (0xF5, "stop reporting"),
    (0xF6, "defaults"),
    (0xFF, "reset"),
];

const ANSWERS: [(u64, &str); 4] =
    [(0xFA, "acknowledge"), (0xFE, "resend"), (0xAA, "test passed"), (0xEE, "echo")];

pub(super) fn say(access: &Access<'_>, context: u32) -> Option<String> {
    let value = access.value & 0xFF;
    let words = match (access.address, access.write) {
        (0x64, true) => match named(value, &COMMANDS) {
            Some(command) => format!("command 0x{value:02x}, {command}"),
            None => format!("command 0x{value:02x}"),
        },
        (0x64, false) => {
            let names = [
                (0x01, "output full"),
                (0x02, "input full"),
                (0x20, "from the mouse"),
                (0x40, "time-out"),
                (0x80, "parity error"),
            ];
            format!("status 0x{value:02x}, {}", bits(value, &names, "empty"))
        }
        (_, true) => match context {
            0x60 => {
                let names = [
                    (1, "IRQ 1 on"),
                    (2, "IRQ 12 on"),
                    (0x10, "keyboard off"),
                    (0x20, "mouse off"),
                    (0x40, "translate"),
                ];
                format!("configuration 0x{value:02x}, {}", bits(value, &names, "no interrupts"))
            }
            0xD1 => {
                format!("output port 0x{value:02x}, A20 {}", if value & 2 != 0 { "open" } else { "closed" })
            }
            0xD4 => told("mouse", value, &MOUSE),
            0xD2 | 0xD3 => format!("pretended byte 0x{value:02x}"),
            _ => told("keyboard", value, &KEYBOARD),
        },
        (_, false) => match named(value, &ANSWERS) {
            Some(answer) => format!("data 0x{value:02x}, {answer} or scan code"),
            None if value & 0x80 != 0 => format!("data 0x{value:02x}, scan code, key released"),
            None => format!("data 0x{value:02x}, scan code, key pressed"),
        },
    };
    Some(format!("8042: {words}"))
}

fn told(who: &str, value: u64, commands: &[(u64, &str)]) -> String {
    match named(value, commands) {
        Some(command) => format!("to the {who} 0x{value:02x}, {command}"),
        None => format!("to the {who} 0x{value:02x}"),
    }
}
