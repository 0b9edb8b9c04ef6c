//! Single ports: diagnostics, A20, reset, debug console. Sources: IBM PS/2 hardware interface reference (port 92h);
//! Intel 82371SB (PIIX3) datasheet, §2.5.4.1 (port CF9h).

use super::{Access, bits};

pub(super) fn say(access: &Access<'_>) -> Option<String> {
    let value = access.value;
    Some(match access.address {
        0x80 => format!("POST: code 0x{:02x}", access.byte()),
        0xED => "POST: delay port".to_owned(),
        0x92 => {
            let names = [(1, "reset now"), (2, "A20 open")];
            format!("port 92: {}", access.means("system control", bits(value, &names, "A20 closed")))
        }
        0xCF9 => {
            let reset = match value & 6 {
                6 => "hard reset",
                4 => "soft reset",
                _ => "no reset yet",
            };
            format!("PIIX3: {}", access.means("reset control", reset))
        }
        0x402 | 0xE9 if access.write => match access.byte() {
            byte @ 0x20..=0x7E => format!("debug console: '{}'", char::from(byte)),
            byte => format!("debug console: 0x{byte:02x}"),
        },
        0x402 | 0xE9 => "debug console: is anyone there?".to_owned(),
        0xF4 => format!("debug exit: {value}"),
        _ => return None,
    })
}
