//! A page walk, step by step: from a linear address to a guest-physical one and on to the host's, with every
//! permission bit on the way. Source: Intel SDM 3A, chapter 5 (paging).

use cpu::Registers;
use serde::Serialize;

use super::{PhysicalMemory, read_value};

const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
const FRAME: u64 = 0x000F_FFFF_FFFF_F000;

/// Bits of a paging-structure entry.
mod entry {
    pub const PRESENT: u64 = 1;
    pub const WRITABLE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const LARGE: u64 = 1 << 7;
    pub const GLOBAL: u64 = 1 << 8;
    pub const NO_EXECUTE: u64 = 1 << 63;
}

/// One paging-structure entry on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Which structure it is in: PML4, PDPT, page directory, page table.
    pub table: &'static str,
    /// Guest-physical address of the entry.
    pub address: u64,
    /// The entry.
    pub value: u64,
    /// Its flags in letters: P W U A D PS G NX, a dash where clear.
    pub flags: String,
}

/// Where a walk ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// At a page.
    Mapped {
        /// Guest-physical address.
        physical: u64,
        /// Size of the page in bytes; 0 without paging.
        page_bytes: u64,
        /// Every entry on the way allows writes.
        writable: bool,
        /// Every entry on the way allows user code.
        user: bool,
        /// No entry on the way forbids execution.
        executable: bool,
        /// It outlives a load of CR3 (where CR4.PGE is set).
        global: bool,
        /// Host-virtual address; `None`: a device answers there, or nothing.
        host: Option<u64>,
    },
    /// The last entry is not present.
    NotPresent,
    /// The next table is at an address with no memory.
    NoMemory,
    /// Bits 63 to 47 are not all equal.
    NotCanonical,
}

/// A walk for one linear address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// What was asked.
    pub linear: u64,
    /// The entries on the way, from the root.
    pub steps: Vec<Step>,
    /// Where it ended.
    pub outcome: Outcome,
}

impl Walk {
    /// The guest-physical address, if one is mapped.
    pub fn physical(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Mapped { physical, .. } => Some(physical),
            Outcome::NotPresent | Outcome::NoMemory | Outcome::NotCanonical => None,
        }
    }

    /// The outcome in words.
    pub fn in_words(&self) -> String {
        match &self.outcome {
            Outcome::NotPresent => match self.steps.last() {
                Some(step) => format!("not mapped: the {} entry is not present", step.table),
                None => "not mapped".to_owned(),
            },
            Outcome::NoMemory => "not mapped: the next table lies where no memory is".to_owned(),
            Outcome::NotCanonical => "not canonical: bits 63 to 47 must be equal".to_owned(),
            Outcome::Mapped { physical, page_bytes, writable, user, executable, global, host } => {
                let page = match page_bytes {
                    0 => "no paging".to_owned(),
                    bytes if *bytes >= 1 << 30 => format!("{} GiB page", bytes >> 30),
                    bytes if *bytes >= 1 << 20 => format!("{} MiB page", bytes >> 20),
                    bytes => format!("{} KiB page", bytes >> 10),
                };
                let rights = format!(
                    "{}, {}, {}{}",
                    if *user { "user" } else { "supervisor only" },
                    if *writable { "writable" } else { "read-only" },
                    if *executable { "executable" } else { "no execution" },
                    if *global { ", global" } else { "" }
                );
                let host = match host {
                    Some(host) => format!("host {host:#x}"),
                    None => "no memory: a device, or nothing".to_owned(),
                };
                format!("physical {physical:#x}, {page}, {rights}; {host}")
            }
        }
    }
}

/// The shape of the guest's paging structures.
struct Shape {
    /// Names of the tables, lowest first.
    tables: &'static [&'static str],
    index_bits: u32,
    entry_bytes: usize,
    root: u64,
    /// Highest level, counted from 0 at the page table, whose entries may map a large page.
    largest: usize,
}

const TABLES: [&str; 4] = ["page table", "page directory", "PDPT", "PML4"];

fn shape(registers: &Registers) -> Shape {
    let wide = registers.cr4 & CR4_PAE != 0;
    match (registers.efer & EFER_LMA != 0, wide) {
        (true, _) => {
            Shape { tables: &TABLES, index_bits: 9, entry_bytes: 8, root: registers.cr3 & FRAME, largest: 2 }
        }
        (false, true) => Shape {
            tables: &TABLES[..3],
            index_bits: 9,
            entry_bytes: 8,
            root: registers.cr3 & 0xFFFF_FFE0,
            largest: 1,
        },
        (false, false) => Shape {
            tables: &TABLES[..2],
            index_bits: 10,
            entry_bytes: 4,
            root: registers.cr3 & 0xFFFF_F000,
            largest: usize::from(registers.cr4 & CR4_PSE != 0),
        },
    }
}

/// Walks the guest's own page tables for one linear address. Nothing is changed: accessed and dirty bits stay.
pub fn walk(registers: &Registers, memory: &dyn PhysicalMemory, linear: u64) -> Walk {
    if registers.cr0 & CR0_PG == 0 {
        let physical = linear & 0xFFFF_FFFF;
        let host = memory.host_address(physical);
        let all = true;
        let outcome = Outcome::Mapped {
            physical,
            page_bytes: 0,
            writable: all,
            user: all,
            executable: all,
            global: false,
            host,
        };
        return Walk { linear, steps: Vec::new(), outcome };
    }
    let long = registers.efer & EFER_LMA != 0;
    if long && (linear as i64) << 16 >> 16 != linear as i64 {
        return Walk { linear, steps: Vec::new(), outcome: Outcome::NotCanonical };
    }
    let shape = shape(registers);
    let mut steps = Vec::with_capacity(shape.tables.len());
    let outcome =
        descend(registers, memory, &shape, if long { linear } else { linear & 0xFFFF_FFFF }, &mut steps);
    Walk { linear, steps, outcome }
}

fn descend(
    registers: &Registers,
    memory: &dyn PhysicalMemory,
    shape: &Shape,
    linear: u64,
    steps: &mut Vec<Step>,
) -> Outcome {
    let has_no_execute = registers.efer & EFER_NXE != 0 && shape.entry_bytes == 8;
    let (mut table, mut all, mut any) = (shape.root, u64::MAX, 0);
    for (level, name) in shape.tables.iter().enumerate().rev() {
        let shift = 12 + shape.index_bits * level as u32;
        let index = linear >> shift & ((1 << shape.index_bits) - 1);
        let address = table + index * shape.entry_bytes as u64;
        let Some(value) = read_value(memory, address, shape.entry_bytes) else { return Outcome::NoMemory };
        steps.push(Step { table: name, address, value, flags: flags(value, shape.entry_bytes == 8) });
        if value & entry::PRESENT == 0 {
            return Outcome::NotPresent;
        }
        // The four PDPT entries of PAE paging have no rights of their own.
        let has_rights = !(level == 2 && shape.tables.len() == 3);
        if has_rights {
            all &= value;
            any |= value;
        }
        if level == 0 || value & entry::LARGE != 0 && level <= shape.largest {
            let page_bytes = 1u64 << shift;
            let frame = match shape.entry_bytes {
                // A 4 MiB page's address goes on in bits 20 to 13 (PSE-36).
                4 if level == 1 => value & 0xFFC0_0000 | (value >> 13 & 0xFF) << 32,
                _ => value & FRAME & !(page_bytes - 1),
            };
            let physical = frame | linear & (page_bytes - 1);
            return Outcome::Mapped {
                physical,
                page_bytes,
                writable: all & entry::WRITABLE != 0,
                user: all & entry::USER != 0,
                executable: !(has_no_execute && any & entry::NO_EXECUTE != 0),
                global: value & entry::GLOBAL != 0,
                host: memory.host_address(physical),
            };
        }
        table = value & FRAME;
    }
    unreachable!("level 0 always ends the walk")
}

fn flags(value: u64, wide: bool) -> String {
    let bits =
        [(0, "P"), (1, "W"), (2, "U"), (3, "PWT"), (4, "PCD"), (5, "A"), (6, "D"), (7, "PS"), (8, "G")];
    let mut names: Vec<&str> =
        bits.iter().map(|(bit, name)| if value >> bit & 1 != 0 { *name } else { "-" }).collect();
    if wide {
        names.push(if value & entry::NO_EXECUTE != 0 { "NX" } else { "-" });
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::testing::Flat;

    fn long_mode() -> Registers {
        let mut registers = Registers::reset();
        registers.cr0 |= CR0_PG | 1;
        registers.cr4 |= CR4_PAE;
        registers.efer |= EFER_LMA | EFER_NXE | 1 << 8;
        registers.cr3 = 0x1000;
        registers
    }

    #[test]
    fn four_levels_gather_rights_from_every_entry() {
        let mut memory = Flat::new(0x10000);
        memory.put(0x1000 + 8 * 511, 0x2007, 8);
        memory.put(0x2000, 0x3007, 8);
        memory.put(0x3000, 0x4005, 8); // not writable here
        memory.put(0x4008, 0x8000_0000_0000_9107, 8);
        let walk = walk(&long_mode(), &memory, 0xFFFF_FF80_0000_1234);
        let Outcome::Mapped { physical, page_bytes, writable, user, executable, global, host } = walk.outcome
        else {
            panic!("{walk:?}")
        };
        assert_eq!((physical, page_bytes, host), (0x9234, 4096, Some(0x7000_0000_9234)));
        assert_eq!((writable, user, executable, global), (false, true, false, true));
        let tables: Vec<_> = walk.steps.iter().map(|step| step.table).collect();
        assert_eq!(tables, ["PML4", "PDPT", "page directory", "page table"]);
        assert_eq!(walk.steps[2].flags, "P - U - - - - - - -");
    }

    #[test]
    fn large_pages_end_the_walk_early() {
        let mut memory = Flat::new(0x10000);
        memory.put(0x1000, 0x2003, 8);
        memory.put(0x2000, 0x3003, 8);
        memory.put(0x2008, 0x4000_0083, 8); // 1 GiB
        memory.put(0x3008, 0x60_0083, 8); // 2 MiB
        let registers = long_mode();
        let ends = |linear| match walk(&registers, &memory, linear).outcome {
            Outcome::Mapped { physical, page_bytes, .. } => (physical, page_bytes),
            other => panic!("{other:?}"),
        };
        assert_eq!(ends(0x20_1234), (0x60_1234, 2 << 20));
        assert_eq!(ends(0x4123_4567), (0x4123_4567, 1 << 30));
    }

    #[test]
    fn what_is_not_mapped_says_where_it_ended() {
        let mut memory = Flat::new(0x10000);
        memory.put(0x1000, 0x2003, 8);
        memory.put(0x1008, 0xDEAD_0000_0003, 8);
        let registers = long_mode();
        let absent = walk(&registers, &memory, 0x1000);
        assert_eq!(absent.outcome, Outcome::NotPresent);
        assert_eq!(absent.in_words(), "not mapped: the PDPT entry is not present");
        assert_eq!(walk(&registers, &memory, 1 << 39).outcome, Outcome::NoMemory);
        assert_eq!(walk(&registers, &memory, 1 << 47).outcome, Outcome::NotCanonical);
    }

    #[test]
    fn thirty_two_bit_paging_knows_4_mib_pages_only_with_pse() {
        let mut memory = Flat::new(0x10000);
        memory.put(0x1004, 0x0080_0083, 4);
        memory.put(0x1008, 0x3003, 4);
        memory.put(0x3000, 0x7001, 4);
        let mut registers = Registers::reset();
        registers.cr0 |= CR0_PG | 1;
        registers.cr3 = 0x1000;
        assert_eq!(walk(&registers, &memory, 0x80_0010).physical(), Some(0x7010));
        registers.cr4 |= CR4_PSE;
        assert_eq!(walk(&registers, &memory, 0x41_2345).physical(), Some(0x81_2345));
    }

    #[test]
    fn pae_has_three_levels_and_rights_only_in_two() {
        let mut memory = Flat::new(0x10000);
        memory.put(0x1020, 0x2001, 8); // PDPT entry: no W, no U
        memory.put(0x2000, 0x3007, 8);
        memory.put(0x3000, 0x6007, 8);
        let mut registers = Registers::reset();
        registers.cr0 |= CR0_PG | 1;
        registers.cr4 |= CR4_PAE;
        registers.cr3 = 0x1020;
        let walk = walk(&registers, &memory, 0x10);
        assert!(matches!(walk.outcome, Outcome::Mapped { physical: 0x6010, writable: true, user: true, .. }));
    }
}
