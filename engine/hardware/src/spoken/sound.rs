//! The Sound Blaster 16's ports and the OPL3's. Source: Creative Sound Blaster Series Hardware Programming Guide,
//! chapters 1, 2 and 4.

use super::{Access, named};

const COMMANDS: [(u64, &str); 16] = [
    (0x10, "one sample, direct"),
    (0x14, "8-bit output by DMA"),
    (0x1C, "8-bit output by DMA, again and again"),
    (0x40, "time constant"),
    (0x41, "output rate"),
    (0x42, "input rate"),
    (0x48, "block size"),
    (0xB6, "16-bit output by DMA"),
    (0xC6, "8-bit output by DMA, SB16"),
    (0xD0, "hold 8-bit DMA"),
    (0xD1, "loudspeaker on"),
    (0xD3, "loudspeaker off"),
    (0xD4, "go on with 8-bit DMA"),
    (0xD5, "hold 16-bit DMA"),
    (0xE1, "version"),
    (0xF2, "raise the interrupt"),
];

/// Whether a device of this name is such a card.
pub(super) fn knows(name: &str) -> bool {
    matches!(name, "sb16" | "opl3")
}

pub(super) fn say(access: &Access<'_>, context: u32) -> Option<String> {
    let value = access.value & 0xFF;
    let words = match (access.address & 0xF, access.write) {
        (0x4, true) if access.device == "sb16" => format!("choose mixer register {context:#x}"),
        (0x5, _) if access.device == "sb16" => access.moves(format_args!("mixer register {context:#x}")),
        (0x6, true) => access.means("reset", if value & 1 != 0 { "hold" } else { "let go" }),
        (0xA, false) => access.moves("DSP data"),
        (0xC, true) => match named(value, &COMMANDS) {
            Some(name) => format!("DSP byte 0x{value:02x}, {name} if it begins a command"),
            None => format!("DSP byte 0x{value:02x}"),
        },
        (0xC, false) => access.means("DSP write status", if value & 0x80 != 0 { "busy" } else { "ready" }),
        (0xE, false) => {
            access.means("DSP read status", if value & 0x80 != 0 { "data waits" } else { "empty" })
        }
        _ => access.moves(format_args!("port {:#x}", access.address)),
    };
    Some(format!("{}: {words}", if access.device == "opl3" { "OPL3" } else { "SB16" }))
}
