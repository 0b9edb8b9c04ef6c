//! IDE channels, their bus master, and AHCI. Sources: ATA/ATAPI-6, clauses 7 and 8; Programming Interface for Bus Master
//! IDE Controller 1.0; AHCI 1.3.1, §3.

use super::{Access, bits, named};

const COMMANDS: [(u64, &str); 24] = [
    (0x00, "NOP"),
    (0x08, "DEVICE RESET"),
    (0x10, "RECALIBRATE"),
    (0x20, "READ SECTORS"),
    (0x24, "READ SECTORS EXT"),
    (0x25, "READ DMA EXT"),
    (0x30, "WRITE SECTORS"),
    (0x34, "WRITE SECTORS EXT"),
    (0x35, "WRITE DMA EXT"),
    (0x40, "READ VERIFY"),
    (0x90, "EXECUTE DEVICE DIAGNOSTIC"),
    (0x91, "INITIALIZE DEVICE PARAMETERS"),
    (0xA0, "PACKET"),
    (0xA1, "IDENTIFY PACKET DEVICE"),
    (0xC4, "READ MULTIPLE"),
    (0xC5, "WRITE MULTIPLE"),
    (0xC6, "SET MULTIPLE MODE"),
    (0xC8, "READ DMA"),
    (0xCA, "WRITE DMA"),
    (0xE0, "STANDBY IMMEDIATE"),
    (0xE7, "FLUSH CACHE"),
    (0xEA, "FLUSH CACHE EXT"),
    (0xEC, "IDENTIFY DEVICE"),
    (0xEF, "SET FEATURES"),
];

const BUS_MASTER: u8 = 4;

pub(super) fn say(access: &Access<'_>) -> Option<String> {
    let value = access.value;
    let (channel, words) = match access.window {
        BUS_MASTER => {
            let words = match access.offset & 7 {
                0 => {
                    let run = if value & 1 != 0 { "start" } else { "stop" };
                    let way = if value & 8 != 0 { "to memory" } else { "from memory" };
                    access.means("DMA command", format_args!("{run}, {way}"))
                }
                2 => {
                    let names = [(1, "active"), (2, "error"), (4, "interrupt")];
                    access.means("DMA status", bits(value, &names, "idle"))
                }
                4 => access.moves("DMA table"),
                offset => access.moves(format_args!("DMA register {offset:#x}")),
            };
            (access.offset / 8, words)
        }
        window => (u64::from(window / 2), if window % 2 == 1 { control(access) } else { command(access) }),
    };
    Some(format!("IDE {channel}: {words}"))
}

fn command(access: &Access<'_>) -> String {
    let value = access.value & 0xFF;
    match (access.offset, access.write) {
        (0, _) => access.moves("data"),
        (1, true) => access.moves("features"),
        (1, false) => {
            let names = [(0x04, "aborted"), (0x10, "no such sector"), (0x40, "uncorrectable")];
            access.means("error", bits(value, &names, "none"))
        }
        (2, _) => access.moves("sector count"),
        (3, _) => access.moves("LBA 7:0"),
        (4, _) => access.moves("LBA 15:8"),
        (5, _) => access.moves("LBA 23:16"),
        (6, _) => {
            let addressing = if value & 0x40 != 0 { "LBA" } else { "CHS" };
            access.means("device", format_args!("drive {}, {addressing}", value >> 4 & 1))
        }
        (_, true) => match named(value, &COMMANDS) {
            Some(name) => format!("command 0x{value:02x}, {name}"),
            None => format!("command 0x{value:02x}"),
        },
        (_, false) => status(value),
    }
}

fn control(access: &Access<'_>) -> String {
    let value = access.value & 0xFF;
    if access.write {
        let names = [(4, "reset"), (2, "interrupts off")];
        return access.means("control", bits(value, &names, "interrupts on"));
    }
    format!("alternate {}", status(value))
}

fn status(value: u64) -> String {
    let names = [(0x80, "busy"), (0x40, "ready"), (0x20, "fault"), (0x08, "data wait"), (0x01, "error")];
    format!("status 0x{value:02x}, {}", bits(value, &names, "nothing there"))
}

const GLOBAL: [(u64, &str); 7] = [
    (0x00, "capabilities"),
    (0x04, "global control"),
    (0x08, "interrupt status"),
    (0x0C, "ports implemented"),
    (0x10, "version"),
    (0x24, "capabilities, more"),
    (0x28, "BIOS hand-off"),
];
const PORT: [(u64, &str); 16] = [
    (0x00, "command list"),
    (0x04, "command list, high"),
    (0x08, "received FIS"),
    (0x0C, "received FIS, high"),
    (0x10, "interrupt status"),
    (0x14, "interrupts on"),
    (0x18, "command and status"),
    (0x20, "task file"),
    (0x24, "signature"),
    (0x28, "SATA status"),
    (0x2C, "SATA control"),
    (0x30, "SATA error"),
    (0x34, "SATA active"),
    (0x38, "commands issued"),
    (0x3C, "notification"),
    (0x40, "FIS switching"),
];

pub(super) fn say_ahci(access: &Access<'_>) -> Option<String> {
    let words = match access.offset.checked_sub(0x100) {
        None => access.moves(named(access.offset & !3, &GLOBAL).unwrap_or("reserved register")),
        Some(offset) => {
            let name = named(offset & 0x7C, &PORT).unwrap_or("reserved register");
            access.moves(format_args!("port {}, {name}", offset / 0x80))
        }
    };
    Some(format!("AHCI: {words}"))
}
