//! The real-time clock with its CMOS memory, and ACPI power management. Sources: MC146818A datasheet, figures 10 to 14;
//! IBM PC AT reference (CMOS map); Intel 82371AB (PIIX4) datasheet, §7.1 to §7.3.

use super::context::UNKNOWN;
use super::{Access, bits, named};

const CMOS: [(u64, &str); 28] = [
    (0x00, "seconds"),
    (0x01, "alarm seconds"),
    (0x02, "minutes"),
    (0x03, "alarm minutes"),
    (0x04, "hours"),
    (0x05, "alarm hours"),
    (0x06, "day of week"),
    (0x07, "day of month"),
    (0x08, "month"),
    (0x09, "year"),
    (0x0A, "register A"),
    (0x0B, "register B"),
    (0x0C, "register C"),
    (0x0D, "register D"),
    (0x0E, "diagnosis"),
    (0x0F, "shutdown code"),
    (0x10, "floppy types"),
    (0x12, "disk types"),
    (0x14, "equipment"),
    (0x15, "base memory, low"),
    (0x16, "base memory, high"),
    (0x17, "extended memory, low"),
    (0x18, "extended memory, high"),
    (0x30, "memory over 1 MiB, low"),
    (0x31, "memory over 1 MiB, high"),
    (0x32, "century"),
    (0x34, "memory over 16 MiB, low"),
    (0x35, "memory over 16 MiB, high"),
];

pub(super) fn say(access: &Access<'_>, context: u32) -> Option<String> {
    let register = match named(u64::from(context), &CMOS) {
        _ if context == UNKNOWN => "a register chosen before the trace began".to_owned(),
        Some(name) => name.to_owned(),
        None => format!("CMOS byte {context:#x}"),
    };
    if access.address & 1 == 0 {
        let nmi = if access.value & 0x80 != 0 { ", NMI off" } else { "" };
        return Some(format!("RTC: choose {register}{nmi}"));
    }
    let value = access.value;
    let words = match context {
        0x0A => access.means(
            register,
            format_args!(
                "{}periodic rate {}",
                if value & 0x80 != 0 { "update in progress, " } else { "" },
                match value & 0xF {
                    0 => "off".to_owned(),
                    rate @ 1..=2 => format!("{} Hz", 256 >> (rate - 1)),
                    rate => format!("{} Hz", 32_768 >> (rate - 1)),
                }
            ),
        ),
        0x0B => {
            let names = [
                (0x80, "time is being set"),
                (0x40, "periodic interrupt"),
                (0x20, "alarm interrupt"),
                (0x10, "update interrupt"),
                (0x04, "binary"),
                (0x02, "24 hours"),
                (0x01, "daylight saving"),
            ];
            access.means(register, bits(value, &names, "no interrupts, BCD, 12 hours"))
        }
        0x0C => {
            let names = [(0x80, "IRQ"), (0x40, "periodic"), (0x20, "alarm"), (0x10, "update")];
            access.means(register, bits(value, &names, "no interrupt"))
        }
        _ => access.moves(register),
    };
    Some(format!("RTC: {words}"))
}

/// The windows of the power management function.
const PM: u8 = 0;
const SMBUS: u8 = 1;
const APM: u8 = 2;
const GPE: u8 = 3;

pub(super) fn say_power(access: &Access<'_>) -> Option<String> {
    let value = access.value;
    let events = [
        (1, "timer"),
        (1 << 5, "global lock"),
        (1 << 8, "power button"),
        (1 << 10, "RTC"),
        (1 << 15, "wake"),
    ];
    let words = match (access.window, access.offset) {
        (PM, 0x00) if access.write => access.means("PM1 status, clear", bits(value, &events, "nothing")),
        (PM, 0x00) => access.means("PM1 status", bits(value, &events, "nothing happened")),
        (PM, 0x02) => access.means("PM1 enable", bits(value, &events, "nothing")),
        (PM, 0x04) if access.write && value & 1 << 13 != 0 => {
            format!("PM1 control: sleep, type {}", value >> 10 & 7)
        }
        (PM, 0x04) => access
            .means("PM1 control", if value & 1 != 0 { "ACPI, events raise SCI" } else { "legacy, no SCI" }),
        (PM, 0x08) => format!("timer stands at {value}"),
        (PM, 0x0C) => access.moves("general-purpose status"),
        (PM, 0x0E) => access.moves("general-purpose enable"),
        (SMBUS, offset) => access.moves(format_args!("SMBus register {offset:#x}")),
        (APM, 0) if access.write && value == 0xF1 => "SMI command 0xf1: ACPI on".to_owned(),
        (APM, 0) if access.write && value == 0xF0 => "SMI command 0xf0: ACPI off".to_owned(),
        (APM, 0) => access.moves("SMI command"),
        (APM, 1) => access.moves("SMI status"),
        (GPE, offset) => access.moves(format_args!("general-purpose events, byte {offset}")),
        (_, offset) => access.moves(format_args!("PM register {offset:#x}")),
    };
    Some(format!("ACPI PM: {words}"))
}
