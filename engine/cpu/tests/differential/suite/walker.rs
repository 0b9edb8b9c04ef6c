//! Page walks written straight from the manual (Intel SDM 3A, chapter 4), slow and plain: what the software CPU's
//! walks are judged by. No TLB, no retries, no sharing of code or constants with it.

/// The registers that matter.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// CR0.WP.
    pub write_protect: bool,
    /// CR4.PSE, PAE, PGE ignored, SMEP, SMAP.
    pub pse: bool,
    /// CR4.PAE.
    pub pae: bool,
    /// CR4.SMEP.
    pub smep: bool,
    /// CR4.SMAP.
    pub smap: bool,
    /// EFER.LMA.
    pub long: bool,
    /// EFER.NXE.
    pub nxe: bool,
    /// RFLAGS.AC.
    pub ac: bool,
    /// CR3.
    pub cr3: u64,
    /// MAXPHYADDR.
    pub physical_bits: u32,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Fetch.
    Fetch,
}

/// Bits from `low` to `high`.
fn bits(high: u32, low: u32) -> u64 {
    if low > high { 0 } else { (u64::MAX >> (63 - high)) & (u64::MAX << low) }
}

fn read(memory: &[u8], at: u64, bytes: usize) -> u64 {
    let at = at as usize;
    let Some(slice) = memory.get(at..at + bytes) else { return u64::MAX >> (64 - 8 * bytes) };
    let mut value = [0; 8];
    value[..bytes].copy_from_slice(slice);
    u64::from_le_bytes(value)
}

/// One level: shift of the index, and the entry read there.
struct Step {
    at: u64,
    entry: u64,
}

/// Translates; `Err` is the error code (SDM 3A 4.7). Sets accessed and dirty flags (4.8) in memory on success.
pub fn walk(mode: &Mode, memory: &mut [u8], linear: u64, access: Access, user: bool) -> Result<u64, u64> {
    let code = |present: bool, reserved: bool| {
        let fetch = access == Access::Fetch && (mode.smep || mode.pae && mode.nxe);
        u64::from(present)
            | u64::from(access == Access::Write) << 1
            | u64::from(user) << 2
            | u64::from(reserved) << 3
            | u64::from(fetch) << 4
    };
    let bytes = if mode.pae { 8 } else { 4 };
    let mut steps: Vec<Step> = Vec::new();
    let (mut table, levels): (u64, &[u32]) = match (mode.long, mode.pae) {
        (true, _) => (mode.cr3 & bits(51, 12), &[39, 30, 21, 12]), // table 4-12
        (_, true) => {
            // table 4-7; the four entries are registers, loaded with CR3
            let entry = read(memory, (mode.cr3 & bits(31, 5)) + 8 * (linear >> 30 & 3), 8);
            if entry & 1 == 0 {
                return Err(code(false, false));
            }
            (entry & bits(51, 12), &[21, 12])
        }
        _ => (mode.cr3 & bits(31, 12), &[22, 12]), // table 4-3
    };
    for &shift in levels {
        let width = if mode.pae { 9 } else { 10 };
        let at = table + (linear >> shift & bits(width - 1, 0)) * bytes as u64;
        let entry = read(memory, at, bytes);
        if entry & 1 == 0 {
            return Err(code(false, false));
        }
        let has_page_size = shift == 30 || shift == 21 || shift == 22 && mode.pse;
        let is_page = shift == 12 || has_page_size && entry >> 7 & 1 != 0;
        let reserved = match (mode.pae, shift, is_page) {
            (false, 22, true) => bits(21, 13 + mode.physical_bits.min(40) - 32), // table 4-4
            (false, ..) => 0,
            (true, _, _) => {
                let mut reserved = bits(51, mode.physical_bits); // tables 4-9 to 4-11, 4-15 to 4-20
                if !mode.long {
                    reserved |= bits(62, 52);
                }
                if !mode.nxe {
                    reserved |= 1 << 63;
                }
                match (shift, is_page) {
                    (39, _) => reserved |= 1 << 7,
                    (30, true) => reserved |= bits(29, 13),
                    (21, true) => reserved |= bits(20, 13),
                    _ => {}
                }
                reserved
            }
        };
        if entry & reserved != 0 {
            return Err(code(true, true));
        }
        steps.push(Step { at, entry });
        if is_page {
            return finish(mode, memory, &steps, linear, shift, access, user).ok_or(code(true, false));
        }
        table = entry & if mode.pae { bits(51, 12) } else { bits(31, 12) };
    }
    unreachable!("the last level maps a page")
}

/// Rights (4.6) and accessed and dirty flags (4.8).
fn finish(
    mode: &Mode,
    memory: &mut [u8],
    steps: &[Step],
    linear: u64,
    shift: u32,
    access: Access,
    user: bool,
) -> Option<u64> {
    let all = |bit: u32| steps.iter().all(|step| step.entry >> bit & 1 != 0);
    let (writable, user_page) = (all(1), all(2));
    let no_execute = mode.pae && mode.nxe && steps.iter().any(|step| step.entry >> 63 != 0);
    let allowed = match (user, access) {
        (true, Access::Read) => user_page,
        (true, Access::Write) => user_page && writable,
        (true, Access::Fetch) => user_page && !no_execute,
        (false, Access::Read) => !(user_page && mode.smap && !mode.ac),
        (false, Access::Write) => !(user_page && mode.smap && !mode.ac) && (writable || !mode.write_protect),
        (false, Access::Fetch) => !(no_execute || user_page && mode.smep),
    };
    if !allowed {
        return None;
    }
    for (level, step) in steps.iter().enumerate() {
        let dirty = u8::from(access == Access::Write && level + 1 == steps.len()) << 6;
        if let Some(byte) = memory.get_mut(step.at as usize) {
            *byte |= 1 << 5 | dirty;
        }
    }
    let entry = steps.last()?.entry;
    let frame = match (mode.pae, shift) {
        (false, 22) => entry & bits(31, 22) | (entry >> 13 & bits(7, 0)) << 32, // PSE-36
        (false, _) => entry & bits(31, 12),
        _ => entry & bits(51, shift),
    };
    Some(frame | linear & bits(shift - 1, 0))
}
