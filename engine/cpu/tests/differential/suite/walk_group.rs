//! Page walks of the software CPU against the reference walker: one access through random tables, in 4-level, PAE
//! and 32-bit paging, with every protection switched at random. Translation, error code, and the accessed and dirty
//! flags are compared.

use cpu::soft::walk::{self, BusMemory, Paging, Privilege};

use super::bus::Bus;
use super::host::signals;
use super::random::Random;
use super::report::{Group, Tally};
use super::walker::{self, Access, Mode};

/// The name of the group.
pub const NAME: &str = "walk";

const PAGES: usize = 32;
/// Tables of random entries, two of each level, from here.
const TABLES: u64 = 0x1000;
const TABLE_COUNT: u64 = 8;

/// The software CPU and its memory.
pub struct Walks {
    bus: Bus,
    reference: Vec<u8>,
}

/// An entry: plausible, with rights at random, now and then with bits that must not be set.
fn entry(random: &mut Random, wide: bool) -> u64 {
    let frame = match random.below(8) {
        0 => random.below(PAGES as u64) << 12,
        1 => 0x20_0000 * random.below(2),
        _ => TABLES + (random.below(TABLE_COUNT) << 12),
    };
    let mut value = frame | random.next() & 0xF7 | if random.one_in(16) { 0 } else { 7 };
    if random.one_in(2) {
        value &= !0x80;
    }
    if !random.one_in(6) {
        value |= 7;
    }
    if wide && random.one_in(10) {
        value |= 1 << 63;
    }
    if random.one_in(24) {
        value ^= 1 << random.below(if wide { 63 } else { 32 });
    }
    value
}

impl Walks {
    /// A machine of its own.
    pub fn new() -> Walks {
        Walks { bus: Bus::new(PAGES), reference: vec![0; PAGES * 4096] }
    }

    /// Runs one case.
    pub fn run(&mut self, seed: u64, number: u64, verbose: bool, into: &mut Group) {
        signals::begin(number);
        let mut random = Random::of_case(seed, NAME, number);
        let random = &mut random;
        let long = random.one_in(2);
        let pae = long || random.one_in(2);
        let user = random.one_in(2);
        let mode = Mode {
            write_protect: random.one_in(2),
            pse: random.one_in(2),
            pae,
            smep: random.one_in(2),
            smap: random.one_in(2),
            long,
            nxe: pae && !random.one_in(3),
            ac: random.one_in(2),
            cr3: TABLES + (random.below(TABLE_COUNT) << 12),
            physical_bits: 40,
        };
        let access = random.pick(&[Access::Read, Access::Write, Access::Fetch]);
        let memory = self.bus.memory();
        memory.fill(0);
        for at in (TABLES..TABLES + 4096 * TABLE_COUNT).step_by(512) {
            // a few entries of each table; addresses below use these indices alone
            for index in 0..2 {
                let value = entry(random, pae);
                let bytes = if pae { 8 } else { 4 };
                let at = (at + index * bytes) as usize;
                memory[at..at + bytes as usize].copy_from_slice(&value.to_le_bytes()[..bytes as usize]);
            }
        }
        if pae && !long {
            // page-directory pointers with reserved bits would not load
            let at = mode.cr3 as usize;
            for n in 0..4 {
                let table = (TABLES + (random.below(TABLE_COUNT) << 12)) | u64::from(!random.one_in(8));
                memory[at + 8 * n..at + 8 * n + 8].copy_from_slice(&table.to_le_bytes());
            }
        }
        let linear = linear(random, long, pae);
        self.reference.copy_from_slice(self.bus.memory());
        let expected = walker::walk(&mode, &mut self.reference, linear, access, user);
        let actual = self.software(&mode, linear, access, user);
        if verbose {
            println!("{mode:x?} {access:?} user {user} linear {linear:#x}\n{expected:x?}\n{actual:x?}");
        }
        let flags = self.first_difference();
        if actual == expected && flags.is_none() {
            return into.count(if expected.is_ok() { Tally::Agreed } else { Tally::AgreedOnFault });
        }
        let text = format!(
            "{mode:x?}\n  {access:?} user {user} linear {linear:#x}: manual {expected:x?} software {actual:x?}, entry {flags:x?}\n"
        );
        into.differ(number, "walk", &text);
    }

    /// The first table entry that differs.
    fn first_difference(&mut self) -> Option<(usize, u8, u8)> {
        let end = (TABLES + 4096 * TABLE_COUNT) as usize;
        let (ours, theirs) = (self.bus.memory(), &self.reference);
        (TABLES as usize..end).find(|&at| ours[at] != theirs[at]).map(|at| (at, theirs[at], ours[at]))
    }

    /// The software CPU's walk.
    fn software(&mut self, mode: &Mode, linear: u64, access: Access, user: bool) -> Result<u64, u64> {
        let privilege = match (user, mode.ac) {
            (true, _) => Privilege::User,
            (false, true) => Privilege::SupervisorAc,
            (false, false) => Privilege::Supervisor,
        };
        let mut paging = Paging {
            cr0: 0x8000_0031 | u64::from(mode.write_protect) << 16,
            cr3: mode.cr3,
            cr4: u64::from(mode.pse) << 4
                | u64::from(mode.pae) << 5
                | u64::from(mode.smep) << 20
                | u64::from(mode.smap) << 21,
            efer: (u64::from(mode.long) * 0x500) | u64::from(mode.nxe) << 11,
            pdptes: [0; 4],
            physical_bits: mode.physical_bits as u8,
            gigabyte_pages: true,
        };
        let bus = BusMemory(&self.bus);
        if mode.pae && !mode.long {
            paging.pdptes = paging.load_pdptes(&bus, mode.cr3).unwrap_or_default();
        }
        let access = match access {
            Access::Read => walk::Access::Read,
            Access::Write => walk::Access::Write,
            Access::Fetch => walk::Access::Execute,
        };
        paging.walk(&bus, linear, access, privilege).map(|page| page.physical).map_err(u64::from)
    }
}

/// An address whose indices hit the entries that were filled in.
fn linear(random: &mut Random, long: bool, pae: bool) -> u64 {
    let stride = if pae { 64 } else { 128 };
    let index = |random: &mut Random, groups: u64| random.below(groups) * stride + random.below(2);
    match (long, pae) {
        (true, _) => {
            let address = (0..4).fold(0, |all, _| all << 9 | index(random, 8)) << 12 | random.below(4096);
            ((address << 16) as i64 >> 16) as u64
        }
        (_, true) => {
            random.below(4) << 30 | (index(random, 8) << 9 | index(random, 8)) << 12 | random.below(4096)
        }
        _ => (index(random, 8) << 10 | index(random, 8)) << 12 | random.below(4096),
    }
}
