//! What is said at the end of a run, on the terminal and in the window: the crash, the last screen.

use std::fmt::Write;

use engine::inspect::{exception, summary};
use engine::session::Crash;

use crate::names;
use crate::register_rows::Group;
use crate::running::Running;

/// A crash, with all that is known about it.
pub fn crash(crash: &Crash) -> String {
    let mut text = format!("the guest crashed: triple fault on CPU {}\n", crash.cpu);
    let _ = writeln!(text, "{}", crash.diagnosis.sentence);
    for entry in crash.diagnosis.obstacles.iter().filter_map(|obstacle| obstacle.entry.as_ref()) {
        let _ = writeln!(text, "  {entry}");
    }
    let _ = writeln!(text, "faults, first to last:");
    if crash.faults.is_empty() {
        let _ = writeln!(text, "  the backend could not tell them");
    }
    for (index, fault) in crash.faults.iter().enumerate() {
        let _ = write!(text, "  {}. {}", index + 1, exception::name(fault.vector));
        if let Some(code) = fault.error_code {
            let _ = write!(text, ", error code {code:#x}");
        }
        if let Some(address) = fault.address {
            let _ = write!(text, ", address {address:#x}");
        }
        if let Some(registers) = &fault.registers {
            let _ = write!(text, ", at {:04x}:{:x}", registers.segments[1].selector, registers.rip);
        }
        text.push('\n');
    }
    let _ = writeln!(text, "registers:\n{}", registers(&crash.registers));
    let bytes: Vec<String> = crash.code.iter().map(|byte| format!("{byte:02x}")).collect();
    match bytes.is_empty() {
        true => text.push_str("bytes at RIP: the memory there cannot be read"),
        false => {
            let _ = write!(text, "bytes at RIP: {}\ninstruction:  {}", bytes.join(" "), crash.instruction);
        }
    }
    if !crash.accesses.is_empty() {
        let _ = write!(text, "\nlast device accesses, oldest first:");
    }
    for told in &crash.accesses {
        let _ = write!(text, "\n  {:<32} {}", told.access.instruction(), told.words);
    }
    text
}

/// What [`registers`] shows.
pub const SHOWN: [Group; 4] = [Group::General, Group::Segments, Group::Tables, Group::Control];

/// Registers as a table of fixed width.
pub fn registers(registers: &cpu::Registers) -> String {
    let mut text = String::new();
    for (row, values) in registers.general.chunks(4).enumerate() {
        let cells: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(column, value)| format!("{:>3} {value:016x}", names::GENERAL[row * 4 + column]))
            .collect();
        let _ = writeln!(text, "  {}", cells.join("  "));
    }
    let _ = writeln!(
        text,
        "  RIP {:016x}  RFLAGS {:08x} [{}]",
        registers.rip,
        registers.rflags,
        names::flags(registers.rflags).join(" ")
    );
    let system = [("LDT", &registers.ldtr), ("TR", &registers.tr)];
    for (name, segment) in names::SEGMENTS.iter().copied().zip(&registers.segments).chain(system) {
        let _ = writeln!(
            text,
            "  {name:>3} {:04x}  base {:016x}  limit {:08x}  {}",
            segment.selector,
            segment.base,
            segment.limit,
            summary::segment_rights(segment)
        );
    }
    for (name, table) in [("GDT", registers.gdtr), ("IDT", registers.idtr)] {
        let _ = writeln!(text, "  {name}       base {:016x}  limit {:04x}", table.base, table.limit);
    }
    let _ = write!(
        text,
        "  CR0 {:08x}  CR2 {:016x}  CR3 {:016x}  CR4 {:08x}  EFER {:08x}  XCR0 {:x}",
        registers.cr0, registers.cr2, registers.cr3, registers.cr4, registers.efer, registers.xcr0
    );
    text
}

/// The last screen as text, framed, or what can be said instead.
pub fn screen(machine: &dyn Running) -> String {
    match machine.screen_text() {
        Some(text) if text.trim().is_empty() => "the screen is a text screen and empty".to_owned(),
        Some(text) => {
            let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
            let used = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
            format!("the last screen:\n{}", lines[..used].join("\n"))
        }
        None => {
            let frame = machine.frame();
            match frame.width {
                0 => "the screen is dark".to_owned(),
                width => {
                    format!("the screen is in a graphics mode ({width} x {}): no text to show", frame.height)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::fake::Fake;

    #[test]
    fn a_crash_tells_faults_registers_bytes_and_instruction() {
        let text = crash(&Fake::crash());
        for part in ["triple fault on CPU 0", "#GP", "error code 0x10", "#DF", "RIP", "0f 0b", "ud2"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn the_last_screen_is_cut_behind_its_last_line() {
        let fake = Fake::new("x");
        fake.set_screen("one  \n\ntwo   \n   \n   ");
        assert_eq!(screen(&*fake), "the last screen:\none\n\ntwo");
    }
}
