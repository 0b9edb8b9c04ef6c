//! Arbitrary bytes as code, in each mode, with arbitrary registers, descriptor tables and page tables: never a
//! panic, never past the slice, never a byte that is not the guest's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cpu::registers::segment;
use cpu::soft::{CpuModel, SoftCpu};
use cpu::{Pins, RunLimit, Signal};

use super::bus::Bus;
use super::host::signals;
use super::random::Random;
use super::report::{Group, Tally};
use super::system::{BYTES, CODE, Guest, Kind};

/// Instructions a run may take.
const SLICE: u64 = 500;
/// By how much a run may overshoot: the last block.
const OVERRUN: u64 = 64;
/// A page that can only be read, and must not change.
const ROM: u64 = 0x3_0000;
/// Accesses to devices after which the processor is called back: a repetition counts when it is complete, and may
/// have billions.
const KICK: u64 = 20_000;
/// Accesses it may still make then: a burst of port I/O.
const BURST: u64 = 1100;

/// What each group runs in.
pub const GROUPS: [(&str, Kind); 6] = [
    ("fuzz-real", Kind::Real),
    ("fuzz-protected16", Kind::Protected16),
    ("fuzz-protected32", Kind::Protected32),
    ("fuzz-virtual8086", Kind::Virtual8086),
    ("fuzz-compatibility", Kind::Compatibility),
    ("fuzz-long", Kind::Long),
];

/// The software CPU, one model after the other.
pub struct Fuzzer {
    cpu: SoftCpu,
    bus: Bus,
    pins: Arc<Pins>,
}

impl Fuzzer {
    /// With guard pages round the guest's memory.
    pub fn new() -> Fuzzer {
        let mut bus = Bus::new(BYTES / 4096);
        bus.rom = ROM..ROM + 4096;
        let pins = Arc::new(Pins::new());
        bus.patience = Some((KICK, pins.clone()));
        Fuzzer { cpu: SoftCpu::new(CpuModel::Host, pins.clone(), 0), bus, pins }
    }

    /// Runs one case.
    pub fn run(&mut self, kind: Kind, seed: u64, number: u64, verbose: bool, into: &mut Group) {
        signals::begin(number);
        let mut random = Random::of_case(seed, into.name, number);
        let guest = guest(kind, &mut random);
        if verbose {
            println!("{:x?}\n{:02x?}", guest.registers, &guest.memory[CODE as usize..CODE as usize + 256]);
        }
        if random.one_in(64) {
            let model = random.pick(&CpuModel::ALL);
            self.cpu = SoftCpu::new(model, self.pins.clone(), 0);
        }
        self.bus.memory().copy_from_slice(&guest.memory);
        self.bus.touched.set(0);
        self.pins.take(Signal::Kick);
        let before = self.cpu.instructions();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            self.cpu.set_registers(&guest.registers);
            self.cpu.run(&self.bus, RunLimit { instructions: SLICE })
        }));
        let executed = self.cpu.instructions() - before;
        let rom = ROM as usize..ROM as usize + 4096;
        let wrong = match outcome {
            Err(_) => Some("panicked".to_owned()),
            Ok(_) if executed > SLICE + OVERRUN => Some(format!("ran {executed} instructions of {SLICE}")),
            Ok(_) if self.bus.touched.get() > KICK + BURST => {
                Some(format!("made {} accesses to devices", self.bus.touched.get()))
            }
            Ok(_) if self.bus.memory()[rom.clone()] != guest.memory[rom] => Some("wrote to ROM".into()),
            Ok(_) => None,
        };
        match wrong {
            None => into.count(Tally::Agreed),
            Some(what) => {
                self.cpu = SoftCpu::new(CpuModel::Host, self.pins.clone(), 0);
                into.differ(number, "fuzz", &what);
            }
        }
    }
}

/// A machine in this mode, then disturbed.
fn guest(kind: Kind, random: &mut Random) -> Guest {
    let cpl = random.pick(&[0, 0, 3]);
    let mut guest = Guest::new(kind, cpl, random);
    // code: noise, or noise between which short common opcodes keep it going
    for at in (CODE as usize..CODE as usize + 0x1000).step_by(8) {
        let bytes = random.next().to_le_bytes();
        guest.memory[at..at + 8].copy_from_slice(&bytes);
    }
    for _ in 0..random.below(64) {
        let at = CODE + random.below(0x200);
        let prefix = random.pick(&[0x0Fu8, 0x66, 0x67, 0xF3, 0xF2, 0x48, 0xC4, 0xC5, 0x90, 0x8B, 0x89, 0xEB]);
        guest.put(at, &[prefix]);
    }
    for _ in 0..random.below(16) {
        // anything anywhere: descriptor tables, page tables, stacks
        let at = random.below(BYTES as u64 - 8);
        let value = random.value();
        let at = if random.one_in(2) { 0x1000 + at % 0xE000 } else { at };
        guest.put(at, &value.to_le_bytes());
    }
    for entry in 0..512u64 {
        if random.one_in(8) {
            // page-table entries: plausible, or not
            let table = random.pick(&[0x1000u64, 0x2000, 0x3000, 0x4000]);
            let frame = random.below(BYTES as u64 >> 12) << 12;
            let value =
                if random.one_in(16) { random.next() } else { frame | random.next() & 0x8000_0000_0000_01FF };
            let place = if random.one_in(3) { entry } else { random.below(4) };
            guest.put(table + 8 * place, &value.to_le_bytes());
        }
    }
    disturb(&mut guest, random);
    guest
}

fn disturb(guest: &mut Guest, random: &mut Random) {
    let keep_long = guest.kind.is_long();
    let r = &mut guest.registers;
    for _ in 0..random.below(4) {
        let index = random.below(16) as usize;
        r.general[index] =
            random.pick(&[0xC000u64, 0x5000, 0x2_FFFE, 0x3_0000, 0x4_0000, 0xFEE0_0000, u64::MAX]);
    }
    if random.one_in(3) {
        r.rflags ^= 1 << random.pick(&[8u64, 9, 10, 14, 16, 18, 19, 20, 21]);
    }
    if random.one_in(3) {
        r.cr0 ^= 1 << random.pick(&[1u64, 2, 3, 5, 16, 18]);
    }
    if random.one_in(2) {
        r.cr4 ^= 1 << random.pick(&[0u64, 1, 2, 3, 4, 7, 9, 10, 11, 16, 18, 20, 21]);
    }
    if !keep_long && r.cr0 & 1 != 0 && random.one_in(2) {
        r.cr0 |= 1 << 31;
        r.cr3 = random.pick(&[0x1000u64, 0x2000, 0x1020]);
        r.cr4 ^= (random.below(2) << 5) | (random.below(2) << 4);
    }
    if random.one_in(4) {
        let which = random.pick(&[segment::DS, segment::ES, segment::SS, segment::FS, segment::GS]);
        let s = &mut r.segments[which];
        s.limit = random.value() as u32;
        s.base = if keep_long { 0 } else { random.value() & 0xFFFF_FFFF };
        s.attributes ^= random.pick(&[0x4000u16, 4, 2, 8]);
        s.unusable = random.one_in(8) && which != segment::SS;
    }
    if random.one_in(4) {
        r.debug = [
            CODE + random.below(64),
            0xD000,
            0x8800,
            random.value(),
            0xFFFF_0FF0,
            random.next() & 0xFFFF_07FF,
        ];
    }
    if random.one_in(8) {
        let table = if random.one_in(2) { &mut r.gdtr } else { &mut r.idtr };
        table.base = random.value() & 0xFFFF_FFFF;
        table.limit = random.next() as u16;
    }
    r.xcr0 = random.pick(&[1, 3, 7]);
}
