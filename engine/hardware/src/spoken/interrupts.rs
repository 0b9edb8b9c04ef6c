//! 8259A pair, its edge/level registers, I/O APIC and local APIC. Sources: Intel 8259A datasheet, figures 7 and 8;
//! 82093AA datasheet, §3; Intel SDM 3A, table 12-1.

use super::{Access, named};
use crate::interrupts::ports::Ports;

pub(super) fn say(access: &Access<'_>, context: u32) -> Option<String> {
    match access.window {
        Ports::MASTER => Some(format!("8259 master: {}", pic(access, 0))),
        Ports::SLAVE => Some(format!("8259 slave: {}", pic(access, 8))),
        Ports::ELCR => {
            let first = 8 * access.offset;
            Some(format!(
                "8259: {}",
                access.means("ELCR", lines(access.byte(), first, "level, the others edge"))
            ))
        }
        Ports::IOAPIC => Some(format!("I/O APIC: {}", ioapic(access, context))),
        Ports::LOCAL_APIC => Some(format!("local APIC: {}", lapic(access))),
        _ => None,
    }
}

fn lines(mask: u8, first: u64, what: &str) -> String {
    let set: Vec<String> = (0..8).filter(|n| mask >> n & 1 != 0).map(|n| (first + n).to_string()).collect();
    if set.is_empty() { format!("no line {what}") } else { format!("IRQ {} {what}", set.join(" ")) }
}

fn pic(access: &Access<'_>, first: u64) -> String {
    let value = access.byte();
    match (access.offset & 1, access.write) {
        (0, false) => access.moves("IRR or ISR"),
        (1, false) => format!("mask, {}", lines(value, first, "masked")),
        // An 8259A takes ICW2 to ICW4 at the mask's port; they are told by what came before.
        (1, true) => format!("mask 0x{value:02x}, {}", lines(value, first, "masked")),
        _ if value & 0x10 != 0 => {
            let single = if value & 2 != 0 { "alone" } else { "cascaded" };
            let level = if value & 8 != 0 { "level" } else { "edge" };
            format!(
                "ICW1, initialise: {single}, {level}{}",
                if value & 1 != 0 { ", ICW4 follows" } else { "" }
            )
        }
        _ if value & 8 != 0 => match value & 0x67 {
            0x02 => "OCW3, read IRR next".to_owned(),
            0x03 => "OCW3, read ISR next".to_owned(),
            0x60..=0x67 => "OCW3, special mask mode on".to_owned(),
            0x40..=0x47 => "OCW3, special mask mode off".to_owned(),
            _ if value & 4 != 0 => "OCW3, poll".to_owned(),
            _ => format!("OCW3 0x{value:02x}"),
        },
        _ => {
            let line = first + u64::from(value & 7);
            match value >> 5 {
                1 => "end of interrupt".to_owned(),
                3 => format!("end of interrupt of IRQ {line}"),
                5 => "end of interrupt, rotate priorities".to_owned(),
                7 => format!("end of interrupt of IRQ {line}, rotate to it"),
                6 => format!("IRQ {line} has the lowest priority"),
                4 => "rotate at each automatic end of interrupt".to_owned(),
                _ => "no rotation".to_owned(),
            }
        }
    }
}

fn ioapic(access: &Access<'_>, context: u32) -> String {
    match access.offset {
        0x00 => access.moves("index"),
        0x10 => match context {
            0 => access.moves("ID"),
            1 => access.moves("version"),
            2 => access.moves("arbitration ID"),
            0x10..=0x3F => redirection(access, context - 0x10),
            _ => access.moves("data"),
        },
        _ => access.moves(format_args!("register {:#x}", access.offset)),
    }
}

fn redirection(access: &Access<'_>, index: u32) -> String {
    let input = index / 2;
    if index % 2 == 1 {
        return format!("input {input} goes to APIC {}", access.value >> 24 & 0xFF);
    }
    let (value, vector) = (access.value, access.value & 0xFF);
    let masked = if value >> 16 & 1 != 0 { "masked" } else { "open" };
    let trigger = if value >> 15 & 1 != 0 { "level" } else { "edge" };
    format!("input {input}: vector 0x{vector:02x}, {}, {trigger}, {masked}", delivery(value))
}

fn delivery(value: u64) -> &'static str {
    ["fixed", "lowest priority", "SMI", "reserved", "NMI", "INIT", "STARTUP", "ExtINT"]
        [(value >> 8 & 7) as usize]
}

const LAPIC: [(u64, &str); 22] = [
    (0x020, "ID"),
    (0x030, "version"),
    (0x080, "task priority"),
    (0x090, "arbitration priority"),
    (0x0A0, "processor priority"),
    (0x0C0, "remote read"),
    (0x0D0, "logical destination"),
    (0x0E0, "destination format"),
    (0x0F0, "spurious vector"),
    (0x280, "error status"),
    (0x2F0, "LVT CMCI"),
    (0x310, "command, destination"),
    (0x320, "LVT timer"),
    (0x330, "LVT thermal"),
    (0x340, "LVT performance"),
    (0x350, "LVT LINT0"),
    (0x360, "LVT LINT1"),
    (0x370, "LVT error"),
    (0x380, "timer initial count"),
    (0x390, "timer current count"),
    (0x3E0, "timer divide"),
    (0x3F0, "self IPI"),
];

fn lapic(access: &Access<'_>) -> String {
    let register = access.offset & !0xF;
    match (register, access.write) {
        (0x0B0, true) => "end of interrupt".to_owned(),
        (0x300, true) => {
            let to = ["to the destination", "to itself", "to all", "to all others"]
                [(access.value >> 18 & 3) as usize];
            format!("command: send {} 0x{:02x} {to}", delivery(access.value), access.value & 0xFF)
        }
        (0x300, false) => access.moves("command"),
        (0x0F0, _) => {
            let on = if access.value >> 8 & 1 != 0 { "APIC on" } else { "APIC off" };
            access.means("spurious vector", on)
        }
        (0x320, _) => {
            let mode =
                ["one-shot", "periodic", "TSC deadline", "reserved"][(access.value >> 17 & 3) as usize];
            let masked = if access.value >> 16 & 1 != 0 { ", masked" } else { "" };
            format!("LVT timer: vector 0x{:02x}, {mode}{masked}", access.value & 0xFF)
        }
        (0x380, true) => format!("timer starts from {}", access.value),
        (0x390, false) => format!("timer stands at {}", access.value),
        (0x100..=0x17F, _) => access.moves(format_args!("in service, {}", first_vector(register, 0x100))),
        (0x180..=0x1FF, _) => access.moves(format_args!("trigger mode, {}", first_vector(register, 0x180))),
        (0x200..=0x27F, _) => access.moves(format_args!("requested, {}", first_vector(register, 0x200))),
        _ => match named(register, &LAPIC) {
            Some(name) => access.moves(name),
            None => access.moves(format_args!("register {register:#x}")),
        },
    }
}

fn first_vector(register: u64, base: u64) -> String {
    let first = (register - base) / 0x10 * 32;
    format!("vectors {first} to {}", first + 31)
}
