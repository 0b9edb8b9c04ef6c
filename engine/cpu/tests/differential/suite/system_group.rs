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
use super::random::Random;
use super::report::{Group, Tally};
use super::system::{BYTES, CODE, Guest, HANDLERS, Kind};
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
        if text.is_empty() {
            return into.count(if end == End::Halted { Tally::Agreed } else { Tally::AgreedOnFault });
        }
        let way = format!(
            "{}, kvm {}, software {}",
            about(&guest),
            outcome(&theirs, self.oracle.memory()),
            outcome(&ours, self.bus.memory())
        );
        if std::env::var("NOEXCUSE").is_err() && let Some(reason) = kvm_is_wrong(&guest, &theirs, &ours) {
            return into.excuse(reason, way);
        }
        into.differ(number, &way, &format!("{}{text}", describe(&guest)));
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

/// Where KVM's emulator is known not to do what the manual says.
fn kvm_is_wrong(guest: &Guest, theirs: &Registers, ours: &Registers) -> Option<&'static str> {
    use Mnemonic::*;
    let mnemonic = decoded(guest).mnemonic();
    let undefined = HANDLERS + 16 * 6 + 1;
    match mnemonic {
        _ if theirs.rip == undefined && ours.rip != undefined => {
            Some("KVM's emulator does not know it and raises #UD (not judged)")
        }
        Int1 => {
            Some("SDM 3A 6.3.1: INT1 is a trap; KVM's emulator treats it as a fault or as no instruction")
        }
        Int3 | Into | Int if ours.rip != theirs.rip => {
            Some("SDM 3A 6.12.1.2: a gate's DPL below CPL raises #GP; KVM's emulator does not look")
        }
        Xgetbv | Xsetbv => {
            Some("SDM 2D, XGETBV: #UD unless CR4.OSXSAVE is set; KVM's emulator does not look")
        }
        INVALID => {
            Some("SDM 2B, MOV CR: #UD for registers that are not there; KVM's emulator raises #GP first")
        }
        Mov | Wrmsr if theirs.rip == CODE + decoded(guest).len() as u64 + 1 => {
            Some("SDM 2B, MOV CR; SDM 4 2: reserved bits raise #GP; KVM's emulator lets them through")
        }
        Mov | Push if ours.rip == HANDLERS + 16 * 13 + 1 => {
            Some("SDM 2B, MOV: descriptors are checked for type and DPL; KVM's emulator lets some through")
        }
        Ltr if theirs.rip == ours.rip => {
            Some("SDM 2A, LTR: #GP(selector) for what is no available TSS; KVM's emulator pushes 0")
        }
        Lar | Lsl | Verr | Verw => {
            Some("SDM 2A, LAR: conforming code is accessible at any CPL; KVM's emulator looks at its DPL")
        }
        _ if guest.kind == Kind::Virtual8086 => {
            Some("SDM 3B 21.2: KVM's emulator takes virtual-8086 code for ring 0 or real mode")
        }
        _ => None,
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

/// Where a guest ended: in the handler of an exception, with its error code if it has one, or elsewhere.
fn outcome(registers: &Registers, memory: &[u8]) -> String {
    let Some(vector) = vector(registers) else { return format!("at {:#x}", registers.rip) };
    let top = registers.general[4].wrapping_add(registers.segments[2].base) as usize;
    match (vector, memory.get(top..top + 4)) {
        (8 | 10..=14 | 17, Some(code)) => format!("#{vector}({:02x}{:02x})", code[1], code[0]),
        _ => format!("#{vector}"),
    }
}

/// The exception whose handler a guest ended in.
fn vector(registers: &Registers) -> Option<u64> {
    let at = registers.rip.wrapping_sub(HANDLERS + 1);
    (at < 64 * 16 && at % 16 == 0).then_some(at / 16)
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
