//! The high precision event timer. Source: IA-PC HPET Specification 1.0a, §2.3.

use super::{Access, bits};
use crate::access::Width;

const CONFIGURATION: [(u64, &str); 2] = [(1, "counts"), (2, "in the places of the 8254 and the RTC")];
const STATUS: [(u64, &str); 3] = [(1, "timer 0"), (2, "timer 1"), (4, "timer 2")];
const TIMER: [(u64, &str); 6] = [
    (1 << 2, "interrupts"),
    (1 << 1, "level"),
    (1 << 3, "periodic"),
    (1 << 6, "value to be set"),
    (1 << 8, "32 bits"),
    (1 << 14, "by message"),
];

pub(super) fn say(access: &Access<'_>) -> Option<String> {
    let (register, is_high) = (access.offset & !7, access.offset & 4 != 0);
    let half = match access.width {
        Width::Qword => "",
        _ if is_high => ", high half",
        _ => ", low half",
    };
    let named = |name: &str| access.moves(format_args!("{name}{half}"));
    let told = |name: String, names: &[(u64, &str)], none: &str| {
        let name = format!("{name}{half}");
        if is_high { access.moves(name) } else { access.means(name, bits(access.value, names, none)) }
    };
    let words = match register {
        0x000 => named("capabilities"),
        0x010 => told("configuration".to_owned(), &CONFIGURATION, "halted"),
        0x020 => told("interrupt status".to_owned(), &STATUS, "none"),
        0x0F0 => named("main counter"),
        0x100..0x160 => {
            let timer = (register - 0x100) / 0x20;
            match register & 0x1F {
                0x00 => told(format!("timer {timer}, configuration"), &TIMER, "off"),
                0x08 => named(&format!("timer {timer}, comparator")),
                _ => named(&format!("timer {timer}, message route")),
            }
        }
        _ => return None,
    };
    Some(format!("HPET: {words}"))
}
