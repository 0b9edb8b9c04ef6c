//! The 8254 interval timer and port 0x61. Sources: Intel 8254 datasheet, tables 1 to 4; IBM PC AT reference (port 61h).

use super::{Access, bits};

const MODES: [&str; 8] = [
    "mode 0 (interrupt on terminal count)",
    "mode 1 (one-shot)",
    "mode 2",
    "mode 3 (square wave)",
    "mode 4 (strobe)",
    "mode 5 (hardware strobe)",
    "mode 2",
    "mode 3 (square wave)",
];

const ACCESSES: [&str; 4] = ["latch the count", "low byte only", "high byte only", "low then high byte"];

pub(super) fn say(access: &Access<'_>, context: u32) -> Option<String> {
    if access.address == 0x61 {
        return Some(format!("port 61: {}", control_b(access)));
    }
    let channel = access.address.checked_sub(0x40)?;
    let words = match (channel, access.write) {
        (0..=2, _) => {
            let part = match (context & 3, context & 4 != 0) {
                (0, _) => "count",
                (1 | 3, false) => "low byte",
                _ => "high byte",
            };
            let verb = if access.write { "count, " } else { "counts, " };
            let part = if context & 3 == 0 { part.to_owned() } else { format!("{verb}{part}") };
            format!("channel {channel}, {part} 0x{:02x}", access.byte())
        }
        (3, true) => control(access.byte()),
        _ => "the control word cannot be read".to_owned(),
    };
    Some(format!("8254: {words}"))
}

fn control(word: u8) -> String {
    let channel = word >> 6;
    if channel == 3 {
        let channels: Vec<String> =
            (0..3).filter(|n| word >> (n + 1) & 1 != 0).map(|n| n.to_string()).collect();
        let what = match (word >> 5 & 1, word >> 4 & 1) {
            (0, 0) => "count and status",
            (0, 1) => "count",
            (1, 0) => "status",
            _ => "nothing",
        };
        return format!("read back {what} of channel {}", channels.join(" and "));
    }
    let access = word >> 4 & 3;
    if access == 0 {
        return format!("channel {channel}, {}", ACCESSES[0]);
    }
    let bcd = if word & 1 != 0 { ", BCD" } else { "" };
    format!(
        "channel {channel}, {}, {}{bcd}",
        MODES[usize::from(word >> 1 & 7)],
        ACCESSES[usize::from(access)]
    )
}

fn control_b(access: &Access<'_>) -> String {
    let names: &[(u64, &str)] = if access.write {
        &[(1, "channel 2 gate on"), (2, "speaker on"), (4, "RAM parity off"), (8, "I/O check off")]
    } else {
        &[
            (1, "channel 2 gate on"),
            (2, "speaker on"),
            (0x10, "refresh toggle"),
            (0x20, "channel 2 output high"),
        ]
    };
    bits(access.value, names, "channel 2 gate off, speaker off")
}
