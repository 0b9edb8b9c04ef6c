//! The page walk: linear to guest-physical, for every paging mode (Intel SDM 3A, chapter 5).
//!
//! Modes: none, 32-bit (with PSE and PSE-36), PAE, 4-level. Accessed and dirty bits are set by host
//! compare-exchange once the walk has succeeded as a whole; a walk that loses the race starts again.
//! Left out on purpose: 5-level paging, protection keys, shadow stacks.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::bus::{GuestBus, HostPage};

/// CR0 and CR4 bits the walk looks at, and the other control-register bits the system half uses.
pub mod bits {
    /// CR0.PE.
    pub const CR0_PE: u64 = 1;
    /// CR0.MP.
    pub const CR0_MP: u64 = 1 << 1;
    /// CR0.EM.
    pub const CR0_EM: u64 = 1 << 2;
    /// CR0.TS.
    pub const CR0_TS: u64 = 1 << 3;
    /// CR0.ET.
    pub const CR0_ET: u64 = 1 << 4;
    /// CR0.NE.
    pub const CR0_NE: u64 = 1 << 5;
    /// CR0.WP.
    pub const CR0_WP: u64 = 1 << 16;
    /// CR0.AM.
    pub const CR0_AM: u64 = 1 << 18;
    /// CR0.NW.
    pub const CR0_NW: u64 = 1 << 29;
    /// CR0.CD.
    pub const CR0_CD: u64 = 1 << 30;
    /// CR0.PG.
    pub const CR0_PG: u64 = 1 << 31;
    /// CR4.VME.
    pub const CR4_VME: u64 = 1;
    /// CR4.PVI.
    pub const CR4_PVI: u64 = 1 << 1;
    /// CR4.TSD.
    pub const CR4_TSD: u64 = 1 << 2;
    /// CR4.DE.
    pub const CR4_DE: u64 = 1 << 3;
    /// CR4.PSE.
    pub const CR4_PSE: u64 = 1 << 4;
    /// CR4.PAE.
    pub const CR4_PAE: u64 = 1 << 5;
    /// CR4.MCE.
    pub const CR4_MCE: u64 = 1 << 6;
    /// CR4.PGE.
    pub const CR4_PGE: u64 = 1 << 7;
    /// CR4.PCE.
    pub const CR4_PCE: u64 = 1 << 8;
    /// CR4.OSFXSR.
    pub const CR4_OSFXSR: u64 = 1 << 9;
    /// CR4.OSXMMEXCPT.
    pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
    /// CR4.UMIP.
    pub const CR4_UMIP: u64 = 1 << 11;
    /// CR4.FSGSBASE.
    pub const CR4_FSGSBASE: u64 = 1 << 16;
    /// CR4.PCIDE.
    pub const CR4_PCIDE: u64 = 1 << 17;
    /// CR4.OSXSAVE.
    pub const CR4_OSXSAVE: u64 = 1 << 18;
    /// CR4.SMEP.
    pub const CR4_SMEP: u64 = 1 << 20;
    /// CR4.SMAP.
    pub const CR4_SMAP: u64 = 1 << 21;
    /// EFER.SCE.
    pub const EFER_SCE: u64 = 1;
    /// EFER.LME.
    pub const EFER_LME: u64 = 1 << 8;
    /// EFER.LMA.
    pub const EFER_LMA: u64 = 1 << 10;
    /// EFER.NXE.
    pub const EFER_NXE: u64 = 1 << 11;
}

/// Page-fault error code bits.
pub mod error {
    /// The page was present.
    pub const PRESENT: u32 = 1;
    /// The access was a write.
    pub const WRITE: u32 = 1 << 1;
    /// The access came from privilege level 3.
    pub const USER: u32 = 1 << 2;
    /// A reserved bit was set in an entry.
    pub const RESERVED: u32 = 1 << 3;
    /// The access was an instruction fetch.
    pub const FETCH: u32 = 1 << 4;
}

/// Guest-physical memory as a walk reaches it.
pub trait Physical {
    /// As [`GuestBus::page`].
    fn page(&self, address: u64) -> HostPage;
    /// As [`GuestBus::read`].
    fn read(&self, address: u64, bytes: usize) -> u64;
    /// As [`GuestBus::write`].
    fn write(&self, address: u64, bytes: usize, value: u64);
}

/// The bus itself.
pub struct BusMemory<'a>(pub &'a dyn GuestBus);

impl Physical for BusMemory<'_> {
    fn page(&self, address: u64) -> HostPage {
        self.0.page(address)
    }
    fn read(&self, address: u64, bytes: usize) -> u64 {
        self.0.read(address, bytes)
    }
    fn write(&self, address: u64, bytes: usize, value: u64) {
        self.0.write(address, bytes, value);
    }
}

/// What an access wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A data read.
    Read,
    /// A data write.
    Write,
    /// An instruction fetch.
    Execute,
}

/// With whose rights an access is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// CPL 3.
    User,
    /// CPL 0 to 2, or an implicit access (descriptor tables, TSS); SMAP applies.
    Supervisor,
    /// CPL 0 to 2 with EFLAGS.AC set: SMAP does not apply.
    SupervisorAc,
}

/// The registers a walk depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// The four PAE page-directory-pointer registers, loaded with CR3.
    pub pdptes: [u64; 4],
    /// Width of physical addresses (CPUID 8000_0008).
    pub physical_bits: u8,
    /// 1 GiB pages are offered.
    pub gigabyte_pages: bool,
}

/// Where a linear address leads, and what else the same entry permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest-physical address of the linear address asked for.
    pub physical: u64,
    /// log2 of the page's size.
    pub page_shift: u8,
    /// R/W in every entry.
    pub writable: bool,
    /// U/S in every entry.
    pub user: bool,
    /// No XD in any entry.
    pub executable: bool,
    /// G in the last entry, with CR4.PGE.
    pub global: bool,
    /// D in the last entry.
    pub dirty: bool,
}

const P: u64 = 1;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const XD: u64 = 1 << 63;
/// Bits 51 to 12.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

impl Paging {
    fn is_long(&self) -> bool {
        self.efer & bits::EFER_LMA != 0
    }

    fn is_pae(&self) -> bool {
        self.cr4 & bits::CR4_PAE != 0
    }

    /// Address bits no physical address may have, within a 64-bit entry.
    fn reserved(&self) -> u64 {
        let above = ADDRESS & !(((1u64 << self.physical_bits) - 1) & ADDRESS);
        let legacy = if self.is_long() { 0 } else { 0x7FF0_0000_0000_0000 };
        let xd = if self.efer & bits::EFER_NXE == 0 { XD } else { 0 };
        above | legacy | xd
    }

    /// Reserved bits of a PAE page-directory-pointer entry (SDM 3A, table 5-8).
    pub fn pdpte_reserved(&self) -> u64 {
        let above = ADDRESS & !(((1u64 << self.physical_bits) - 1) & ADDRESS);
        above | 0xFFF0_0000_0000_01E6
    }

    /// What the entry permits, checked against the access: `Ok` or the error code.
    pub fn check(&self, page: &Translation, access: Access, privilege: Privilege) -> Result<(), u32> {
        let allowed = match (privilege, access) {
            (Privilege::User, Access::Read) => page.user,
            (Privilege::User, Access::Write) => page.user && page.writable,
            (Privilege::User, Access::Execute) => page.user && page.executable,
            (_, Access::Execute) => page.executable && !(page.user && self.cr4 & bits::CR4_SMEP != 0),
            (_, Access::Write) => {
                (page.writable || self.cr0 & bits::CR0_WP == 0) && self.smap_allows(page, privilege)
            }
            (_, Access::Read) => self.smap_allows(page, privilege),
        };
        if allowed { Ok(()) } else { Err(self.error_code(access, privilege, error::PRESENT)) }
    }

    /// Everything the entry permits without another walk: one bit for each (privilege, access), bit
    /// 3 * privilege + access. Writes need D to be set already.
    pub fn permits(&self, page: &Translation) -> u16 {
        let smap = page.user && self.cr4 & bits::CR4_SMAP != 0;
        let smep = page.user && self.cr4 & bits::CR4_SMEP != 0;
        let write = page.dirty && (page.writable || self.cr0 & bits::CR0_WP == 0);
        let execute = page.executable && !smep;
        let user = page.user;
        [
            user,
            user && page.writable && page.dirty,
            user && page.executable,
            !smap,
            !smap && write,
            execute,
            true,
            write,
            execute,
        ]
        .into_iter()
        .enumerate()
        .fold(0, |bits, (n, allowed)| bits | u16::from(allowed) << n)
    }

    fn smap_allows(&self, page: &Translation, privilege: Privilege) -> bool {
        !page.user || self.cr4 & bits::CR4_SMAP == 0 || privilege == Privilege::SupervisorAc
    }

    /// The page-fault error code of an access that failed for `cause`.
    pub fn error_code(&self, access: Access, privilege: Privilege, cause: u32) -> u32 {
        let mut code = cause;
        if access == Access::Write {
            code |= error::WRITE;
        }
        if privilege == Privilege::User {
            code |= error::USER;
        }
        let nx = self.is_pae() && self.efer & bits::EFER_NXE != 0;
        if access == Access::Execute && (nx || self.cr4 & bits::CR4_SMEP != 0) {
            code |= error::FETCH;
        }
        code
    }

    /// Translates `linear`, setting accessed and dirty bits; `Err` is the page-fault error code.
    pub fn walk(
        &self,
        bus: &impl Physical,
        linear: u64,
        access: Access,
        privilege: Privilege,
    ) -> Result<Translation, u32> {
        if self.cr0 & bits::CR0_PG == 0 {
            return Ok(Translation {
                physical: linear & 0xFFFF_FFFF,
                page_shift: 12,
                writable: true,
                user: true,
                executable: true,
                global: false,
                dirty: true,
            });
        }
        // Each retry means another CPU changed an entry under us; the last try leaves A and D alone
        // rather than spin forever against a guest that does nothing else.
        for attempt in 0..64 {
            if let Some(result) = self.walk_once(bus, linear, access, privilege, attempt == 63) {
                return result;
            }
        }
        Err(self.error_code(access, privilege, 0))
    }

    fn walk_once(
        &self,
        bus: &impl Physical,
        linear: u64,
        access: Access,
        privilege: Privilege,
        last_try: bool,
    ) -> Option<Result<Translation, u32>> {
        let wide = self.is_pae() || self.is_long();
        let entry_bytes = if wide { 8 } else { 4 };
        let index_bits = if wide { 9 } else { 10 };
        let fault = |cause| Some(Err(self.error_code(access, privilege, cause)));
        let mut path = [(0u64, 0u64); 4];
        let mut depth = 0;
        let mut rights = RW | US;
        let mut no_execute = false;

        let (mut table, mut shift) = if self.is_long() {
            (self.cr3 & ADDRESS, 39)
        } else if wide {
            let pdpte = self.pdptes[(linear >> 30 & 3) as usize];
            if pdpte & P == 0 {
                return fault(0);
            }
            (pdpte & ADDRESS, 21)
        } else {
            (self.cr3 & 0xFFFF_F000, 22)
        };
        loop {
            let index = linear >> shift & ((1 << index_bits) - 1);
            let address = table + index * entry_bytes;
            let entry = load(bus, address, wide);
            if entry & P == 0 {
                return fault(0);
            }
            let large = shift > 12 && entry & PS != 0 && (wide || self.cr4 & bits::CR4_PSE != 0);
            if self.has_reserved(entry, shift, large, wide) {
                return fault(error::PRESENT | error::RESERVED);
            }
            path[depth] = (address, entry);
            depth += 1;
            rights &= entry;
            no_execute |= wide && entry & XD != 0;
            if large || shift == 12 {
                let offset_mask = (1u64 << shift) - 1;
                let frame = if !wide && large {
                    entry & 0xFFC0_0000 | (entry >> 13 & 0xFF) << 32 // PSE-36
                } else {
                    entry & if wide { ADDRESS } else { 0xFFFF_F000 } & !offset_mask
                };
                let mut page = Translation {
                    physical: frame | linear & offset_mask,
                    page_shift: shift as u8,
                    writable: rights & RW != 0,
                    user: rights & US != 0,
                    executable: !no_execute,
                    global: entry & G != 0 && self.cr4 & bits::CR4_PGE != 0,
                    dirty: entry & D != 0 || access == Access::Write,
                };
                if let Err(code) = self.check(&page, access, privilege) {
                    return Some(Err(code));
                }
                for (n, &(address, entry)) in path[..depth].iter().enumerate() {
                    let leaf_write = n + 1 == depth && access == Access::Write;
                    let marked = entry | A | if leaf_write { D } else { 0 };
                    if marked != entry && !exchange(bus, address, wide, entry, marked) && !last_try {
                        return None;
                    }
                }
                page.dirty &= !last_try || entry & D != 0;
                return Some(Ok(page));
            }
            table = entry & if wide { ADDRESS } else { 0xFFFF_F000 };
            shift -= index_bits;
        }
    }

    fn has_reserved(&self, entry: u64, shift: u32, large: bool, wide: bool) -> bool {
        if !wide {
            // SDM 3A, table 5-4: bits 20 to M-19 and bit 21, with PSE-36 for M up to 40.
            let extra = u32::from(self.physical_bits.clamp(32, 40)) - 32;
            return large && entry & (0x3F_E000 & !(((1u64 << extra) - 1) << 13)) != 0;
        }
        let mut reserved = self.reserved();
        match shift {
            39 => reserved |= PS,
            30 if large && !self.gigabyte_pages => reserved |= PS,
            30 if large => reserved |= 0x3FFF_E000,
            21 if large => reserved |= 0x1F_E000,
            _ => {}
        }
        entry & reserved != 0
    }

    /// Reads the four PDPTEs a legacy-PAE CR3 points to; `None` if one is present with reserved bits.
    pub fn load_pdptes(&self, bus: &impl Physical, cr3: u64) -> Option<[u64; 4]> {
        let mut pdptes = [0; 4];
        for (n, pdpte) in pdptes.iter_mut().enumerate() {
            *pdpte = load(bus, (cr3 & 0xFFFF_FFE0) + 8 * n as u64, true);
            if *pdpte & P != 0 && *pdpte & self.pdpte_reserved() != 0 {
                return None;
            }
        }
        Some(pdptes)
    }
}

/// Reads a paging-structure entry (aligned by construction) in one host access.
fn load(bus: &impl Physical, address: u64, wide: bool) -> u64 {
    let page = bus.page(address);
    let bytes = if wide { 8 } else { 4 };
    if page.read.is_null() || page.read as usize & 7 != 0 {
        return bus.read(address, bytes);
    }
    // SAFETY: `read` is valid for the 4 KiB page, the entry is aligned to its size and so within the
    // page, and the page base is aligned to 8 (checked above).
    unsafe {
        let entry = page.read.add((address & 0xFFF) as usize);
        if wide {
            (*entry.cast::<AtomicU64>()).load(Ordering::Acquire)
        } else {
            u64::from((*entry.cast::<AtomicU32>()).load(Ordering::Acquire))
        }
    }
}

/// Replaces an entry if it still is `old`. Entries in ROM or devices are told to the bus.
fn exchange(bus: &impl Physical, address: u64, wide: bool, old: u64, new: u64) -> bool {
    let page = bus.page(address);
    if page.write.is_null() || page.write as usize & 7 != 0 {
        bus.write(address, if wide { 8 } else { 4 }, new);
        return true;
    }
    // SAFETY: as in `load`, with the writable page.
    unsafe {
        let entry = page.write.add((address & 0xFFF) as usize);
        if wide {
            let entry = &*entry.cast::<AtomicU64>();
            entry.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        } else {
            let entry = &*entry.cast::<AtomicU32>();
            entry.compare_exchange(old as u32, new as u32, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        }
    }
}
