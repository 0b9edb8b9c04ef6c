//! Guest memory by linear address, for gdb: through the page tables of the vCPU that is looked at.

use cpu::Registers;

use crate::inspect::{read_linear, walk};
use crate::session::Session;

const PAGE: u64 = 4096;

/// Reads what there is; how many bytes.
pub fn read(session: &Session, registers: &Registers, address: u64, bytes: &mut [u8]) -> usize {
    read_linear(registers, session.memory(), address, bytes)
}

/// Writes, page by page; `None` where something is not mapped to memory.
pub fn write(session: &Session, registers: &Registers, address: u64, bytes: &[u8]) -> Option<()> {
    let mut done = 0;
    while done < bytes.len() {
        let at = address.wrapping_add(done as u64);
        let count = (bytes.len() - done).min((PAGE - at % PAGE) as usize);
        let physical = walk(registers, session.memory(), at).physical()?;
        session.write_memory(physical, bytes[done..done + count].to_vec()).ok()?;
        done += count;
    }
    Some(())
}
