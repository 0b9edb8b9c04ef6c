//! VGA registers and the Bochs display interface. Sources: IBM VGA/XGA technical reference, §2; Bochs VBE extensions,
//! `vbe_display_api.txt`.

use super::context::UNKNOWN;
use super::{Access, named};
use crate::bus::Space;

const CRTC: [(u64, &str); 25] = [
    (0x00, "horizontal total"),
    (0x01, "horizontal display end"),
    (0x02, "horizontal blanking start"),
    (0x03, "horizontal blanking end"),
    (0x04, "horizontal retrace start"),
    (0x05, "horizontal retrace end"),
    (0x06, "vertical total"),
    (0x07, "overflow"),
    (0x08, "preset row scan"),
    (0x09, "character height"),
    (0x0A, "cursor start"),
    (0x0B, "cursor end"),
    (0x0C, "start address, high"),
    (0x0D, "start address, low"),
    (0x0E, "cursor place, high"),
    (0x0F, "cursor place, low"),
    (0x10, "vertical retrace start"),
    (0x11, "vertical retrace end"),
    (0x12, "vertical display end"),
    (0x13, "offset"),
    (0x14, "underline"),
    (0x15, "vertical blanking start"),
    (0x16, "vertical blanking end"),
    (0x17, "mode control"),
    (0x18, "line compare"),
];
const SEQUENCER: [(u64, &str); 5] =
    [(0, "reset"), (1, "clocking mode"), (2, "map mask"), (3, "character map"), (4, "memory mode")];
const GRAPHICS: [(u64, &str); 9] = [
    (0, "set/reset"),
    (1, "enable set/reset"),
    (2, "colour compare"),
    (3, "rotate"),
    (4, "read map"),
    (5, "mode"),
    (6, "miscellaneous"),
    (7, "colour don't care"),
    (8, "bit mask"),
];
const VBE: [(u64, &str); 11] = [
    (0x0, "identification"),
    (0x1, "width"),
    (0x2, "height"),
    (0x3, "bits per pixel"),
    (0x4, "enable"),
    (0x5, "bank"),
    (0x6, "virtual width"),
    (0x7, "virtual height"),
    (0x8, "horizontal offset"),
    (0x9, "vertical offset"),
    (0xA, "video memory, 64 KiB"),
];

pub(super) fn say(access: &Access<'_>, context: u32) -> Option<String> {
    if access.space == Space::Memory {
        let words = match access.address {
            0xA_0000..=0xB_FFFF => access.moves(format_args!("memory {:#x}", access.address)),
            _ => access.moves(format_args!("register {:#x}", access.offset)),
        };
        return Some(format!("VGA: {words}"));
    }
    let index = u64::from(context);
    let words = match (access.address, access.write) {
        (0x3C0 | 0x3C1, _) => attribute(access, context),
        (0x3C2, true) => access.moves("miscellaneous output"),
        (0x3C2, false) => access.moves("input status 0"),
        (0x3C4, _) => choose(access, "sequencer", &SEQUENCER, context),
        (0x3C5, _) => register(access, "sequencer", &SEQUENCER, index),
        (0x3C6, _) => access.moves("palette mask"),
        (0x3C7, _) => access.moves("palette, read from"),
        (0x3C8, _) => access.moves("palette, write from"),
        (0x3C9, _) => access.moves("palette, colour part"),
        (0x3CC, _) => access.moves("miscellaneous output"),
        (0x3CE, _) => choose(access, "graphics", &GRAPHICS, context),
        (0x3CF, _) => register(access, "graphics", &GRAPHICS, index),
        (0x3B4 | 0x3D4, _) => choose(access, "CRTC", &CRTC, context),
        (0x3B5 | 0x3D5, _) => register(access, "CRTC", &CRTC, index),
        (0x3BA | 0x3DA, true) => access.moves("feature control"),
        (0x3BA | 0x3DA, false) => {
            let retrace = match access.value & 9 {
                0 => "drawing",
                1 => "between lines",
                _ => "vertical retrace",
            };
            access.means("input status 1", retrace)
        }
        (0x1CE, _) => choose(access, "VBE", &VBE, context),
        (0x1CF | 0x1D0, _) => register(access, "VBE", &VBE, index),
        _ => access.moves(format_args!("port {:#x}", access.address)),
    };
    Some(format!("VGA: {words}"))
}

fn choose(access: &Access<'_>, group: &str, names: &[(u64, &str)], index: u32) -> String {
    let name = named(u64::from(index), names).map_or_else(|| format!("register {index:#x}"), str::to_owned);
    // A word writes the index and its data together; the display interface's index is a word itself.
    if access.write && access.width.bytes() == 2 && group != "VBE" {
        return format!("{group} {name} := 0x{:02x}", access.value >> 8);
    }
    format!("choose {group} {name}")
}

fn register(access: &Access<'_>, group: &str, names: &[(u64, &str)], index: u64) -> String {
    match named(index, names) {
        Some(name) => access.moves(format_args!("{group} {name}")),
        None if index == u64::from(UNKNOWN) => access.moves(format_args!("{group} data")),
        None => access.moves(format_args!("{group} register {index:#x}")),
    }
}

fn attribute(access: &Access<'_>, context: u32) -> String {
    let (index, is_data) = (context & 0xFF, context >> 8 & 1 != 0);
    let name = match index {
        0x00..=0x0F => format!("palette {index}"),
        0x10 => "mode".to_owned(),
        0x11 => "border colour".to_owned(),
        0x12 => "planes shown".to_owned(),
        0x13 => "horizontal panning".to_owned(),
        0x14 => "colour select".to_owned(),
        _ => "data".to_owned(),
    };
    match is_data {
        true => access.moves(format_args!("attribute {name}")),
        false => {
            format!("choose attribute {name}, screen {}", if access.value & 0x20 != 0 { "on" } else { "off" })
        }
    }
}
