//! The two 8237A DMA controllers and the page registers. Source: Intel 8237A datasheet, figure 6 and table "Software commands".

use super::Access;

const PAGES: [(u64, u8); 7] = [(0x87, 0), (0x83, 1), (0x81, 2), (0x82, 3), (0x8B, 5), (0x89, 6), (0x8A, 7)];

pub(super) fn say(access: &Access<'_>) -> Option<String> {
    let words = match access.address {
        0x00..=0x0F => register(access, access.address, 0),
        0xC0..=0xDF => register(access, (access.address - 0xC0) / 2, 4),
        port => match PAGES.iter().find(|(page, _)| *page == port) {
            Some((_, channel)) => access.moves(format_args!("channel {channel}, page")),
            None => access.moves(format_args!("page register {port:#x}")),
        },
    };
    Some(format!("8237: {words}"))
}

fn register(access: &Access<'_>, register: u64, first: u8) -> String {
    let value = access.byte();
    let channel = first + (value & 3);
    match (register, access.write) {
        (0..=7, _) => {
            let what = if register.is_multiple_of(2) { "address" } else { "count" };
            access.moves(format_args!("channel {}, {what}", u64::from(first) + register / 2))
        }
        (8, false) => access.moves("status"),
        (8, true) => access.means("command", if value & 4 != 0 { "controller off" } else { "controller on" }),
        (9, true) => format!("channel {channel}, request {}", if value & 4 != 0 { "set" } else { "cleared" }),
        (0xA, true) => format!("channel {channel} {}", if value & 4 != 0 { "masked" } else { "open" }),
        (0xB, true) => {
            let direction = ["verify", "to memory", "from memory", "illegal"][usize::from(value >> 2 & 3)];
            let mode = ["demand", "single", "block", "cascade"][usize::from(value >> 6)];
            let again = if value & 0x10 != 0 { ", auto-initialise" } else { "" };
            format!("channel {channel}, {mode}, {direction}{again}")
        }
        (0xC, true) => "byte pointer to the low byte".to_owned(),
        (0xD, true) => "master clear".to_owned(),
        (0xE, true) => "all channels open".to_owned(),
        (0xF, _) => access.moves("masks"),
        _ => access.moves(format_args!("register {register:#x}")),
    }
}
