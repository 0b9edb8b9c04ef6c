//! A machine read by a person: what register bits mean, descriptor tables, page walks, memory and code.
//! Everything here only looks, and only at memory: a look never touches a device.

pub mod bits;
pub mod code;
pub mod compare;
pub mod delivery;
pub mod descriptor;
pub mod diagnosis;
pub mod exception;
pub mod stack;
pub mod summary;
pub mod symbols;
pub mod task;
pub mod walk;

use hardware::Memory;
use hardware::memory::PAGE;

pub use walk::{Outcome, Step, Walk, walk};

/// Guest-physical memory as an inspector reads it.
pub trait PhysicalMemory {
    /// Fills `bytes` from guest-physical `address` on; how many bytes there were before the first that is
    /// not memory.
    fn read(&self, address: u64, bytes: &mut [u8]) -> usize;

    /// Host address of the byte that a read of `address` comes from, if that is memory.
    fn host_address(&self, address: u64) -> Option<u64>;
}

impl PhysicalMemory for Memory {
    fn read(&self, address: u64, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let Some(at) = address.checked_add(done as u64) else { break };
            let Some(page) = self.page(at).read else { break };
            let in_page = at % PAGE;
            let count = (bytes.len() - done).min((PAGE - in_page) as usize);
            self.read_at(page + in_page, &mut bytes[done..done + count]);
            done += count;
        }
        done
    }

    fn host_address(&self, address: u64) -> Option<u64> {
        let page = self.page(address).read?;
        Some(self.host_base() as u64 + page + address % PAGE)
    }
}

/// A little-endian value of up to 8 bytes at a guest-physical address.
fn read_value(memory: &dyn PhysicalMemory, address: u64, bytes: usize) -> Option<u64> {
    let mut value = [0; 8];
    (memory.read(address, &mut value[..bytes]) == bytes).then(|| u64::from_le_bytes(value))
}

/// Fills `bytes` from linear `address` on, through the guest's own page tables whatever their permissions;
/// how many bytes there were before the first that is not mapped to memory.
pub fn read_linear(
    registers: &cpu::Registers,
    memory: &dyn PhysicalMemory,
    address: u64,
    bytes: &mut [u8],
) -> usize {
    let mut done = 0;
    while done < bytes.len() {
        let at = address.wrapping_add(done as u64);
        let Some(physical) = walk(registers, memory, at).physical() else { break };
        let count = (bytes.len() - done).min((PAGE - at % PAGE) as usize);
        let read = memory.read(physical, &mut bytes[done..done + count]);
        done += read;
        if read < count {
            break;
        }
    }
    done
}

#[cfg(test)]
pub(crate) mod testing {
    use super::PhysicalMemory;

    /// Plain memory from address 0 on.
    pub struct Flat(pub Vec<u8>);

    impl Flat {
        pub fn new(bytes: usize) -> Flat {
            Flat(vec![0; bytes])
        }

        pub fn put(&mut self, at: usize, value: u64, bytes: usize) {
            self.0[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
    }

    impl PhysicalMemory for Flat {
        fn read(&self, address: u64, bytes: &mut [u8]) -> usize {
            let Some(there) = usize::try_from(address).ok().and_then(|at| self.0.get(at..)) else { return 0 };
            let count = there.len().min(bytes.len());
            bytes[..count].copy_from_slice(&there[..count]);
            count
        }

        fn host_address(&self, address: u64) -> Option<u64> {
            (address < self.0.len() as u64).then_some(0x7000_0000_0000 + address)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Flat;
    use super::*;

    #[test]
    fn memory_ends_where_it_ends() {
        let memory = Memory::new(1 << 20, 0).unwrap();
        memory.dma_write(0xF_FFFC, &[1, 2, 3, 4]);
        let mut bytes = [0; 8];
        assert_eq!(PhysicalMemory::read(&*memory, 0xF_FFFC, &mut bytes), 4);
        assert_eq!(bytes[..4], [1, 2, 3, 4]);
        assert_eq!(PhysicalMemory::read(&*memory, u64::MAX, &mut bytes), 0);
        assert!(memory.host_address(0xF_FFFF).is_some() && memory.host_address(1 << 20).is_none());
    }

    #[test]
    fn linear_memory_is_read_page_by_page() {
        let mut memory = Flat::new(0x8000);
        let mut registers = cpu::Registers::reset();
        registers.cr0 |= 0x8000_0001;
        registers.cr3 = 0x1000;
        memory.put(0x1000, 0x2001, 4); // directory entry 0
        memory.put(0x2000, 0x5001, 4); // page 0
        memory.put(0x2004, 0x3001, 4); // page 1
        memory.put(0x5FFE, 0xBBAA, 2);
        memory.put(0x3000, 0xDDCC, 2);
        let mut bytes = [0; 4];
        assert_eq!(read_linear(&registers, &memory, 0xFFE, &mut bytes), 4);
        assert_eq!(bytes, [0xAA, 0xBB, 0xCC, 0xDD]);
        assert_eq!(read_linear(&registers, &memory, 0x1FFE, &mut bytes), 2, "page 2 is not mapped");
    }
}
