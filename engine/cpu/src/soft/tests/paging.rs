//! The page walk against a second, plain reading of the manual, over random tables.

use crate::bus::GuestBus;
use crate::soft::fault::Fault;
use crate::soft::testing::{TestBus, machine};
use crate::soft::walk::bits::*;
use crate::soft::walk::{Access, BusMemory, Paging, Privilege, Translation};

/// A small generator (Knuth's MMIX constants): tests must not depend on the day.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 20 ^ self.0 << 30
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

const PAGES: u64 = 64;

/// What one level said.
struct Level {
    entry_at: u64,
    entry: u64,
}

/// Follows SDM 3A figures 5-2 to 5-11 one after the other, with no sharing between modes.
fn reference(bus: &TestBus, p: &Paging, linear: u64) -> Result<(u64, Vec<Level>), (bool, bool)> {
    let bit = |value: u64, n: u32| value >> n & 1 == 1;
    let max = u32::from(p.physical_bits);
    let nxe = p.efer & EFER_NXE != 0;
    let mut levels = Vec::new();
    let wide_reserved = |entry: u64, legacy: bool| {
        (max..52).any(|n| bit(entry, n))
            || legacy && (52..63).any(|n| bit(entry, n))
            || !nxe && bit(entry, 63)
    };
    let get = |levels: &mut Vec<Level>, at: u64, wide: bool| {
        let entry = if wide { bus.get64(at) } else { u64::from(bus.get32(at)) };
        levels.push(Level { entry_at: at, entry });
        entry
    };
    if p.cr4 & CR4_PAE == 0 {
        let pde = get(&mut levels, (p.cr3 & 0xFFFF_F000) + (linear >> 22 & 0x3FF) * 4, false);
        if !bit(pde, 0) {
            return Err((false, false));
        }
        if bit(pde, 7) && p.cr4 & CR4_PSE != 0 {
            // M = min(MAXPHYADDR, 40): address bits M-1..32 are PDE bits M-20..13; the rest to 21 is reserved.
            let m = max.min(40);
            if (m - 19..=21).any(|n| bit(pde, n)) {
                return Err((true, true));
            }
            let high = pde >> 13 & ((1 << (m - 32)) - 1);
            return Ok((high << 32 | pde & 0xFFC0_0000 | linear & 0x3F_FFFF, levels));
        }
        let pte = get(&mut levels, (pde & 0xFFFF_F000) + (linear >> 12 & 0x3FF) * 4, false);
        if !bit(pte, 0) {
            return Err((false, false));
        }
        return Ok((pte & 0xFFFF_F000 | linear & 0xFFF, levels));
    }
    let long = p.efer & EFER_LMA != 0;
    let address = |entry: u64| entry & 0x000F_FFFF_FFFF_F000;
    let directory = if long {
        let pml4e = get(&mut levels, address(p.cr3) + (linear >> 39 & 0x1FF) * 8, true);
        if !bit(pml4e, 0) {
            return Err((false, false));
        }
        if bit(pml4e, 7) || wide_reserved(pml4e, false) {
            return Err((true, true));
        }
        let pdpte = get(&mut levels, address(pml4e) + (linear >> 30 & 0x1FF) * 8, true);
        if !bit(pdpte, 0) {
            return Err((false, false));
        }
        if wide_reserved(pdpte, false) {
            return Err((true, true));
        }
        if bit(pdpte, 7) {
            if !p.gigabyte_pages || (13..30).any(|n| bit(pdpte, n)) {
                return Err((true, true));
            }
            return Ok((address(pdpte) & !0x3FFF_FFFF | linear & 0x3FFF_FFFF, levels));
        }
        address(pdpte)
    } else {
        let pdpte = p.pdptes[(linear >> 30 & 3) as usize];
        if !bit(pdpte, 0) {
            return Err((false, false));
        }
        address(pdpte)
    };
    let pde = get(&mut levels, directory + (linear >> 21 & 0x1FF) * 8, true);
    if !bit(pde, 0) {
        return Err((false, false));
    }
    if wide_reserved(pde, !long) {
        return Err((true, true));
    }
    if bit(pde, 7) {
        if (13..21).any(|n| bit(pde, n)) {
            return Err((true, true));
        }
        return Ok((address(pde) & !0x1F_FFFF | linear & 0x1F_FFFF, levels));
    }
    let pte = get(&mut levels, address(pde) + (linear >> 12 & 0x1FF) * 8, true);
    if !bit(pte, 0) {
        return Err((false, false));
    }
    if wide_reserved(pte, !long) {
        return Err((true, true));
    }
    Ok((address(pte) | linear & 0xFFF, levels))
}

/// SDM 3A, section 5.6.1, sentence by sentence.
fn permitted(p: &Paging, levels: &[Level], access: Access, privilege: Privilege) -> bool {
    let user_page = levels.iter().all(|level| level.entry & 4 != 0);
    let writable = levels.iter().all(|level| level.entry & 2 != 0);
    let nx =
        p.cr4 & CR4_PAE != 0 && p.efer & EFER_NXE != 0 && levels.iter().any(|level| level.entry >> 63 != 0);
    let smap_stops = p.cr4 & CR4_SMAP != 0 && privilege == Privilege::Supervisor;
    if privilege == Privilege::User {
        return user_page
            && match access {
                Access::Read => true,
                Access::Write => writable,
                Access::Execute => !nx,
            };
    }
    match access {
        Access::Read => !user_page || !smap_stops,
        Access::Write => {
            let wp_ok = writable || p.cr0 & CR0_WP == 0;
            wp_ok && (!user_page || !smap_stops)
        }
        Access::Execute => !(nx || user_page && p.cr4 & CR4_SMEP != 0),
    }
}

fn random_entry(random: &mut Random, wide: bool, leaf: bool) -> u64 {
    let mut entry = random.below(PAGES) << 12 | random.below(0x1000);
    entry |= if random.one_in(8) { 0 } else { 1 };
    entry |= if random.one_in(4) { 0 } else { 6 };
    if !leaf && !random.one_in(6) {
        entry &= !0x80;
    }
    if random.one_in(6) {
        entry &= !0x3F_E000; // large frames have these clear
    }
    if wide && random.one_in(10) {
        entry |= 1 << (40 + random.below(24));
    }
    if wide && random.one_in(5) {
        entry |= 1 << 63;
    }
    if wide { entry } else { entry & 0xFFFF_FFFF }
}

#[test]
fn every_walk_agrees_with_the_plain_reading() {
    let mut random = Random(2024);
    let (mut successes, mut faults, mut reserved_faults) = (0, 0, 0);
    for round in 0..6000 {
        let bus = TestBus::new(PAGES as usize);
        let mode = round % 3; // 32-bit, PAE, 4-level
        let wide = mode != 0;
        let mut p = Paging {
            cr0: CR0_PE | CR0_PG | if random.one_in(2) { CR0_WP } else { 0 },
            cr3: random.below(PAGES) << 12,
            cr4: if wide { CR4_PAE } else { 0 },
            efer: if mode == 2 { EFER_LME | EFER_LMA } else { 0 },
            pdptes: [0; 4],
            physical_bits: [32, 36, 40][random.below(3) as usize].max(if wide { 36 } else { 32 }),
            gigabyte_pages: random.one_in(2),
        };
        for flag in [CR4_PSE, CR4_PGE, CR4_SMEP, CR4_SMAP] {
            p.cr4 |= if random.one_in(2) { flag } else { 0 };
        }
        p.efer |= if random.one_in(2) { EFER_NXE } else { 0 };
        p.pdptes = std::array::from_fn(|_| random.below(PAGES) << 12 | u64::from(!random.one_in(8)));
        // Few distinct table slots, so that walks get deep: fill the slots this address uses everywhere.
        let linear = match mode {
            2 => (random.next() << 16) as i64 as u64 >> 16 & 0x7FFF_FFFF_FFFF,
            _ => random.next() & 0xFFFF_FFFF,
        };
        let shifts: &[u32] = if wide { &[39, 30, 21, 12] } else { &[22, 12] };
        for page in 0..PAGES {
            for &shift in shifts {
                let (index, bytes) =
                    if wide { (linear >> shift & 0x1FF, 8) } else { (linear >> shift & 0x3FF, 4) };
                let at = page * 4096 + index * bytes;
                let entry = random_entry(&mut random, wide, shift == 12);
                if wide { bus.put64(at, entry) } else { bus.put32(at, entry as u32) }
            }
        }
        let access = [Access::Read, Access::Write, Access::Execute][random.below(3) as usize];
        let privilege =
            [Privilege::User, Privilege::Supervisor, Privilege::SupervisorAc][random.below(3) as usize];
        let before = bus.get(0, (PAGES * 4096) as usize);
        let expected = reference(&bus, &p, linear);
        let result = p.walk(&BusMemory(&bus), linear, access, privilege);
        let after = bus.get(0, (PAGES * 4096) as usize);
        let mut code = u32::from(access == Access::Write) << 1 | u32::from(privilege == Privilege::User) << 2;
        let tells_fetch = p.cr4 & CR4_SMEP != 0 || wide && p.efer & EFER_NXE != 0;
        code |= u32::from(access == Access::Execute && tells_fetch) << 4;
        match expected {
            Err((present, reserved)) => {
                code |= u32::from(present) | u32::from(reserved) << 3;
                assert_eq!(result, Err(code), "round {round}");
                assert_eq!(before, after, "round {round}: a failed walk marks nothing");
                faults += 1;
                reserved_faults += u32::from(reserved);
            }
            Ok((_, levels)) if !permitted(&p, &levels, access, privilege) => {
                assert_eq!(result, Err(code | 1), "round {round}");
                assert_eq!(before, after, "round {round}");
                faults += 1;
            }
            Ok((physical, levels)) => {
                let translation = result.unwrap_or_else(|code| panic!("round {round}: #PF({code:#x})"));
                assert_eq!(translation.physical, physical, "round {round}");
                let permits = p.permits(&translation);
                for other in [Access::Read, Access::Write, Access::Execute] {
                    for who in [Privilege::User, Privilege::Supervisor, Privilege::SupervisorAc] {
                        let allowed = permitted(&p, &levels, other, who)
                            && (other != Access::Write || translation.dirty);
                        let bit = permits >> (3 * who as u16 + other as u16) & 1;
                        assert_eq!(bit != 0, allowed, "round {round}: {other:?} by {who:?}");
                    }
                }
                let mut marked = before;
                for (n, level) in levels.iter().enumerate() {
                    let leaf_write = n + 1 == levels.len() && access == Access::Write;
                    marked[level.entry_at as usize] |= 0x20 | if leaf_write { 0x40 } else { 0 };
                }
                assert!(marked == after, "round {round}: accessed and dirty bits");
                successes += 1;
            }
        }
    }
    assert!(
        successes > 500 && faults > 500 && reserved_faults > 100,
        "{successes} {faults} {reserved_faults}"
    );
}

/// 4-level tables that map the first 2 MiB page by page: PML4 at 0x1000, PTs at 0x4000.
fn identity(bus: &TestBus) {
    bus.put64(0x1000, 0x2007);
    bus.put64(0x2000, 0x3007);
    bus.put64(0x3000, 0x4007);
    for page in 0..512 {
        bus.put64(0x4000 + page * 8, page << 12 | 7);
    }
}

fn long_mode(cpu: &mut crate::soft::state::Cpu) {
    cpu.cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET;
    cpu.cr3 = 0x1000;
    cpu.cr4 = CR4_PAE | CR4_PGE;
    cpu.efer = EFER_LME | EFER_LMA | EFER_NXE;
    let code = crate::soft::control::flat_segment(8, 0xA09B);
    cpu.set_segment(crate::registers::segment::CS, code);
    cpu.flush_translations(true);
}

#[test]
fn a_write_marks_the_page_dirty_even_after_a_read_filled_the_tlb() {
    let (mut cpu, bus) = machine(64);
    identity(&bus);
    long_mode(&mut cpu);
    cpu.with_bus(&bus, |cpu| {
        cpu.read::<u8>(3, 0x8000).unwrap();
        assert_eq!(bus.get64(0x4000 + 8 * 8) & 0x60, 0x20);
        cpu.write::<u8>(3, 0x8000, 1).unwrap();
        assert_eq!(bus.get64(0x4000 + 8 * 8) & 0x60, 0x60);
    });
}

#[test]
fn a_crossing_write_whose_second_page_faults_writes_nothing() {
    let (mut cpu, bus) = machine(64);
    identity(&bus);
    bus.put64(0x4000 + 9 * 8, 0);
    long_mode(&mut cpu);
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.write::<u64>(3, 0x8FFC, u64::MAX), Err(Fault::page_fault(2)));
        assert_eq!(cpu.cr2, 0x9000, "the page that faults, not the access");
        assert_eq!(bus.get32(0x8FFC), 0);
    });
}

#[test]
fn stale_translations_live_until_they_are_flushed_and_no_longer() {
    let (mut cpu, bus) = machine(64);
    identity(&bus);
    long_mode(&mut cpu);
    cpu.with_bus(&bus, |cpu| {
        bus.put32(0x8000, 0x88);
        bus.put32(0x9000, 0x99);
        assert_eq!(cpu.read::<u32>(3, 0x8000), Ok(0x88));
        bus.put64(0x4000 + 8 * 8, 0x9007);
        cpu.flush_page(0x8123);
        assert_eq!(cpu.read::<u32>(3, 0x8000), Ok(0x99));
        bus.put64(0x4000 + 8 * 8, 0x8007);
        cpu.load_cr3(0x1000).unwrap();
        assert_eq!(cpu.read::<u32>(3, 0x8000), Ok(0x88));
        // A global page outlives CR3, not CR4.PGE.
        bus.put64(0x4000 + 8 * 8, 0x8107);
        cpu.flush_page(0x8000);
        cpu.read::<u32>(3, 0x8000).unwrap();
        bus.put64(0x4000 + 8 * 8, 0x9107);
        cpu.load_cr3(0x1000).unwrap();
        assert_eq!(cpu.read::<u32>(3, 0x8000), Ok(0x88));
        cpu.load_cr4(cpu.cr4 & !CR4_PGE).unwrap();
        assert_eq!(cpu.read::<u32>(3, 0x8000), Ok(0x99));
    });
}

#[test]
fn the_tlb_keeps_user_and_supervisor_apart() {
    let (mut cpu, bus) = machine(64);
    identity(&bus);
    bus.put64(0x4000 + 8 * 8, 0x8003);
    long_mode(&mut cpu);
    cpu.with_bus(&bus, |cpu| {
        assert!(cpu.read::<u32>(3, 0x8000).is_ok());
        let user = crate::soft::control::flat_segment(0x1B, 0xA0FB);
        cpu.set_segment(crate::registers::segment::CS, user);
        assert_eq!(cpu.read::<u32>(3, 0x8000), Err(Fault::page_fault(5)));
        assert_eq!(cpu.write::<u32>(3, 0x8000, 0), Err(Fault::page_fault(7)));
        assert_eq!(cpu.read_system::<u32>(0x8000), Ok(0), "implicit accesses are the supervisor's");
    });
}

#[test]
fn addresses_that_are_not_canonical_fault_by_segment() {
    let (mut cpu, bus) = machine(64);
    identity(&bus);
    long_mode(&mut cpu);
    cpu.with_bus(&bus, |cpu| {
        let hole = 0x8000_0000_0000;
        assert_eq!(cpu.read::<u8>(3, hole), Err(Fault::general_protection(0)));
        assert_eq!(cpu.read::<u8>(2, hole), Err(Fault::stack(0)));
        assert_eq!(cpu.read::<u64>(3, hole - 4), Err(Fault::general_protection(0)));
        assert_eq!(cpu.translate_code(hole).err(), Some(Fault::general_protection(0)));
    });
}

#[test]
fn memory_behind_the_end_of_ram_is_the_bus() {
    let (mut cpu, bus) = machine(64);
    identity(&bus);
    bus.put64(0x4000 + 8 * 8, 0xFEC0_0007);
    long_mode(&mut cpu);
    bus.answer.set(0x1234_5678);
    cpu.with_bus(&bus, |cpu| assert_eq!(cpu.read::<u32>(3, 0x8010), Ok(0x1234_5678)));
    let touched = bus.touched.borrow();
    assert_eq!(*touched, [crate::soft::testing::Touch::Read(0xFEC0_0010, 4)]);
    assert!(bus.page(0xFEC0_0000).read.is_null());
}

#[test]
fn a_translation_says_what_else_the_entry_allows() {
    let bus = TestBus::new(64);
    identity(&bus);
    let (mut cpu, _) = machine(1);
    long_mode(&mut cpu);
    let found = cpu.paging().walk(&BusMemory(&bus), 0x8010, Access::Read, Privilege::User);
    let expected = Translation {
        physical: 0x8010,
        page_shift: 12,
        writable: true,
        user: true,
        executable: true,
        global: false,
        dirty: false,
    };
    assert_eq!(found, Ok(expected));
}
