//! Groups of system cases that KVM judges.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use cpu::soft::{CpuModel, SoftCpu};
use iced_x86::Mnemonic;

use cpu::{Pins, Registers, RunLimit, Segment, Stop};

use super::bus::Bus;
use super::host::signals;
use super::kvm::{End, Oracle};
use super::kvm_gaps::{Left, Reading, read};
use super::random::Random;
use super::report::{Group, Tally};
use super::system::{BYTES, CODE, Guest, Kind};
use super::system_code::{self, Topic};

/// Instructions a guest may take.
const LIMIT: u64 = 1000;

/// The stacks: what lies there below the last frame was pushed by deliveries that failed.
const STACKS: Range<usize> = 0x8000..0xC000;

/// Both processors.
pub struct SystemBench {
    oracle: Oracle,
    cpu: SoftCpu,
    bus: Bus,
}

/// What a group is about.
pub const GROUPS: [(&str, Topic); 4] = [
    ("kvm-segments", Topic::Segments),
    ("kvm-transfers", Topic::Transfers),
    ("kvm-interrupts", Topic::Interrupts),
    ("kvm-control", Topic::Control),
];

impl SystemBench {
    /// Opens KVM; `Err` says why that is not possible.
    pub fn new() -> Result<SystemBench, String> {
        let oracle = Oracle::new()?;
        let cpu = SoftCpu::new(CpuModel::Host, Arc::new(Pins::new()), 0);
        Ok(SystemBench { oracle, cpu, bus: Bus::new(BYTES / 4096) })
    }

    /// Runs one case.
    pub fn run(&mut self, topic: Topic, seed: u64, number: u64, verbose: bool, into: &mut Group) {
        signals::begin(number);
        let mut random = Random::of_case(seed, into.name, number);
        let kind = random.pick(&Kind::ALL);
        let cpl = match kind {
            Kind::Real => 0,
            Kind::Virtual8086 => 3,
            _ if topic == Topic::Control => 3 * u8::from(random.one_in(8)),
            _ => random.pick(&[0, 3]),
        };
        let mut guest = Guest::new(kind, cpl, &mut random);
        system_code::write(&mut guest, topic, &mut random);
        let theirs = self.oracle.run(&guest);
        let ours = self.software(&guest);
        if verbose {
            println!("{}\nkvm {theirs:x?}\nsoftware {ours:x?}", describe(&guest));
        }
        let ((end, theirs), Some((our_end, ours))) = (match theirs {
            Ok(theirs) => (theirs, ours),
            Err(reason) => return into.refuse(&reason),
        }) else {
            return into.refuse("the software CPU comes to no end");
        };
        let mut text = String::new();
        if end != our_end {
            let _ = writeln!(text, "  ends: kvm {end:?} software {our_end:?}");
        }
        let (theirs, ours) = (normalised(theirs, kind), normalised(ours, kind));
        compare(&mut text, &theirs, &ours);
        if (end, our_end) == (End::Shutdown, End::Shutdown) {
            text.clear(); // what is left of the state is undefined
        }
        let (a, b) = (self.oracle.memory(), self.bus.memory());
        let top = ours.general[4].wrapping_add(ours.segments[2].base) as usize;
        let in_frame = |at: usize| !STACKS.contains(&at) || (top..top + 64).contains(&at);
        let differs = (0..a.len()).step_by(8).filter(|&at| a[at..at + 8] != b[at..at + 8]);
        let first = differs.flat_map(|at| at..at + 8).find(|&at| a[at] != b[at] && in_frame(at));
        if end == End::Halted
            && let Some(at) = first
        {
            let (a, b) = (&a[at..(at + 16).min(BYTES)], &b[at..(at + 16).min(BYTES)]);
            let _ = writeln!(text, "  memory[{at:#x}]: kvm {a:02x?} software {b:02x?}");
        }
        let i = decoded(&guest);
        if text.is_empty() {
            let next = CODE + i.len() as u64;
            let ran = end == End::Halted
                && (ours.rip == next + 1 || i.mnemonic() == Mnemonic::Hlt && ours.rip == next);
            into.cover(kind.mode(), std::iter::once(i.code()), ran);
            return into.count(if end == End::Halted { Tally::Agreed } else { Tally::AgreedOnFault });
        }
        let theirs = Left { end, registers: &theirs, memory: self.oracle.memory() };
        let ours = Left { end: our_end, registers: &ours, memory: self.bus.memory() };
        let (kvm, software) = (theirs.ending(kind), ours.ending(kind));
        let way = format!("{}, kvm {kvm}, software {software}", about(&guest));
        match read(&guest, &i, theirs, ours) {
            Reading::Excused(reason) => into.excuse(reason, way),
            Reading::Refused(reason) => into.refuse(reason),
            Reading::Difference => into.differ(number, &way, &format!("{}{text}", describe(&guest))),
        }
    }

    fn software(&mut self, guest: &Guest) -> Option<(End, Registers)> {
        self.bus.memory().copy_from_slice(&guest.memory);
        self.cpu.set_registers(&guest.registers);
        match self.cpu.run(&self.bus, RunLimit { instructions: LIMIT }) {
            Stop::Halted => Some((End::Halted, self.cpu.registers())),
            Stop::Shutdown(_) => Some((End::Shutdown, self.cpu.registers())),
            _ => None,
        }
    }
}

/// Takes out what the two keep differently.
fn normalised(mut r: Registers, kind: Kind) -> Registers {
    if r.cr0 & 1 == 0 {
        r.segments.iter_mut().for_each(|s| s.attributes |= 8); // code or data: not visible in real mode
    }
    let protected = r.cr0 & 1 != 0 && r.rflags & 1 << 17 == 0;
    for s in r.segments.iter_mut().chain([&mut r.ldtr]) {
        if protected && (s.unusable || s.selector < 4) {
            *s = Segment { selector: s.selector, unusable: true, ..Segment::default() };
        }
    }
    if !kind.is_long() {
        r.general[8..].fill(0);
    }
    r.halted = false;
    r.interrupt_shadow = false;
    r.cr8 = 0;
    r.msrs.sysenter_cs &= 0xFFFF_FFFF; // SDM 4: the others are not used
    r
}

fn compare(text: &mut String, theirs: &Registers, ours: &Registers) {
    macro_rules! field {
        ($($name:ident).+) => {
            if theirs.$($name).+ != ours.$($name).+ {
                let (a, b) = (&theirs.$($name).+, &ours.$($name).+);
                let _ = writeln!(text, "  {}: kvm {a:x?}\n     software {b:x?}", stringify!($($name).+));
            }
        };
    }
    field!(general);
    field!(rip);
    field!(rflags);
    field!(segments);
    field!(ldtr);
    field!(tr);
    field!(gdtr);
    field!(idtr);
    field!(cr0);
    field!(cr2);
    field!(cr3);
    field!(cr4);
    field!(efer);
    field!(debug);
    field!(msrs);
}

fn decoded(guest: &Guest) -> iced_x86::Instruction {
    let code = &guest.memory[CODE as usize..CODE as usize + 16];
    let bits = guest.kind.bits();
    iced_x86::Decoder::with_ip(bits, code, CODE, iced_x86::DecoderOptions::NONE).decode()
}

fn about(guest: &Guest) -> String {
    format!("{:?} {:?}", guest.kind, decoded(guest).code())
}

fn describe(guest: &Guest) -> String {
    let code = &guest.memory[CODE as usize..CODE as usize + 16];
    let r = &guest.registers;
    let mut text = format!("{:?} {} {code:02x?}\n", guest.kind, decoded(guest));
    let _ = writeln!(text, "  general {:x?} flags {:x} cs {:x}", r.general, r.rflags, r.segments[1].selector);
    for (name, at, count) in [("gdt", 0x5000usize, 32usize), ("ldt", 0x5200, 16)] {
        let _ = write!(text, "  {name}");
        for entry in 0..count {
            let bytes = &guest.memory[at + 8 * entry..at + 8 * entry + 8];
            let value = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            let _ = write!(text, " {:x}:{value:x}", 8 * entry);
        }
        text.push('\n');
    }
    let stack = r.general[4] as usize;
    let _ = writeln!(text, "  stack {:02x?}", &guest.memory[stack..stack + 48]);
    text
}
