//! Breakpoints and stepping: hardware breakpoints, so no byte of the guest changes, and the guest's own
//! debug registers stay its own.
//!
//! While a step is made no interrupt is delivered through the stepping flag: the processor would push that
//! flag with the guest's RFLAGS. An interrupt that is due is delivered by itself, to a breakpoint on its
//! handler, which is then the whole step.

use cpu::registers::{Registers, segment};
use cpu::{GuestBus, Interest};
use kvm_bindings::*;
use kvm_ioctls::VcpuFd;

use super::exit;
use crate::backend::{VcpuError, VcpuErrorKind};

/// A processor has this many breakpoints.
pub const BREAKPOINTS: usize = 4;

/// What KVM watches for on our behalf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing.
    Off,
    /// The end of one instruction.
    Step,
    /// Execution at these linear addresses, and accesses to these data.
    Addresses(Vec<u64>, Vec<DataSlot>),
}

/// Data that one debug register watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSlot {
    /// Its place in [`Interest::data`].
    pub watch: usize,
    /// Linear address, aligned to the length.
    pub address: u64,
    /// 1, 2, 4 or 8.
    pub bytes: u64,
    /// Reads too.
    pub reads: bool,
}

/// The debug registers for what is to be noticed, or why there are none.
pub fn data_slots(interest: &Interest) -> Result<Vec<DataSlot>, String> {
    let inside = |what: &str| {
        Err(format!(
            "{what} happen inside the host's processor, which tells KVM alone; the Soft backend sees them"
        ))
    };
    if !interest.exceptions.is_empty() {
        return inside("exceptions");
    }
    if !interest.interrupts.is_empty() {
        return inside("software interrupts");
    }
    if interest.modes {
        return inside("mode changes");
    }
    let mut slots = Vec::new();
    for (watch, data) in interest.data.iter().enumerate() {
        if !data.writes {
            return Err(
                "the host's processor cannot tell reads alone: watch for any access, or use the Soft \
                        backend"
                    .to_owned(),
            );
        }
        let (mut address, last) = (*data.range.start(), *data.range.end());
        loop {
            let left = (last - address).saturating_add(1);
            let aligned = if address == 0 { 8 } else { 1 << address.trailing_zeros().min(3) };
            let bytes = aligned.min(1 << left.min(8).ilog2());
            slots.push(DataSlot { watch, address, bytes, reads: data.reads });
            if left == bytes || slots.len() > BREAKPOINTS {
                break;
            }
            address += bytes;
        }
    }
    Ok(slots)
}

/// The debugging state of one vCPU.
pub struct Debugging {
    available: bool,
    block_interrupts: bool,
    set: Watch,
    /// Breakpoints the monitor asked for.
    pub breakpoints: Vec<u64>,
    /// Data it asked for.
    pub data: Vec<DataSlot>,
    /// The address the last run stopped at for the monitor: the next run passes it.
    pub stopped_at: Option<u64>,
}

impl Debugging {
    /// Nothing watched. `flags` are the KVM_GUESTDBG_* flags the host has.
    pub fn new(available: bool, flags: u32) -> Debugging {
        Debugging {
            available,
            block_interrupts: flags & KVM_GUESTDBG_BLOCKIRQ != 0,
            set: Watch::Off,
            breakpoints: Vec::new(),
            data: Vec::new(),
            stopped_at: None,
        }
    }

    /// Whether KVM comes back after one instruction.
    pub fn is_stepping(&self) -> bool {
        self.set == Watch::Step
    }

    /// The watched data that a stop was for, by DR6 or, on hosts that do not tell there, because it was for no
    /// instruction.
    pub fn data_met(&self, address: u64, dr6: u64) -> Option<DataSlot> {
        let Watch::Addresses(code, data) = &self.set else { return None };
        let told = data.iter().enumerate().find(|(index, _)| dr6 >> (code.len() + index) & 1 != 0);
        match told {
            Some((_, slot)) => Some(*slot),
            None if code.contains(&address) => None,
            None => data.first().copied(),
        }
    }

    /// Makes KVM watch for `wanted`.
    pub fn watch(&mut self, vcpu: &VcpuFd, wanted: Watch) -> Result<(), VcpuError> {
        if self.set == wanted {
            return Ok(());
        }
        if !self.available {
            let text = "this host's KVM has no guest debugging; the Soft backend has";
            return Err(VcpuError::new(VcpuErrorKind::Unsupported, text));
        }
        let debug = request(&wanted, self.block_interrupts);
        vcpu.set_guest_debug(&debug).map_err(|error| {
            VcpuError::caused(VcpuErrorKind::Debug, "KVM does not set breakpoints or stepping", error)
        })?;
        self.set = wanted;
        Ok(())
    }
}

fn request(wanted: &Watch, block_interrupts: bool) -> kvm_guest_debug {
    let mut debug = kvm_guest_debug::default();
    match wanted {
        Watch::Off => {}
        Watch::Step => {
            debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
            if block_interrupts {
                debug.control |= KVM_GUESTDBG_BLOCKIRQ;
            }
        }
        Watch::Addresses(addresses, data) => {
            debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
            debug.arch.debugreg[7] = 0x400; // bit 10 is always set
            for (index, address) in addresses.iter().take(BREAKPOINTS).enumerate() {
                debug.arch.debugreg[index] = *address;
                // Global enable; type 0 and length 0 are execution (SDM 3B §18.2.4).
                debug.arch.debugreg[7] |= 0b10 << (2 * index);
            }
            for (index, slot) in (addresses.len()..BREAKPOINTS).zip(data) {
                debug.arch.debugreg[index] = slot.address;
                let length = match slot.bytes {
                    1 => 0b00,
                    2 => 0b01,
                    4 => 0b11,
                    _ => 0b10,
                };
                let kind = if slot.reads { 0b11 } else { 0b01 };
                debug.arch.debugreg[7] |= 0b10 << (2 * index) | (length << 2 | kind) << (16 + 4 * index);
            }
        }
    }
    debug
}

/// The linear address at which the handler of `vector` begins, if its gate can be read.
pub fn handler_address(vcpu: &VcpuFd, bus: &dyn GuestBus, registers: &Registers, vector: u8) -> Option<u64> {
    const PROTECTED: u64 = 1;
    const LONG: u64 = 1 << 10;
    let vector = u64::from(vector);
    let idt = registers.idtr.base;
    if registers.cr0 & PROTECTED == 0 {
        let entry = read_linear(vcpu, bus, idt + 4 * vector, 4);
        return entry.map(|e| ((e >> 16 & 0xFFFF) << 4) + (e & 0xFFFF));
    }
    let long = registers.efer & LONG != 0;
    let gate_at = idt.wrapping_add(if long { 16 } else { 8 } * vector);
    let gate = read_linear(vcpu, bus, gate_at, 8)?;
    let low = gate & 0xFFFF | gate >> 32 & 0xFFFF_0000;
    if long {
        let high = read_linear(vcpu, bus, gate_at.wrapping_add(8), 4);
        return high.map(|high| low | high << 32);
    }
    let offset = if gate >> 43 & 1 == 0 { low & 0xFFFF } else { low }; // 286 gates have 16 bits
    let selector = gate >> 16 & 0xFFFC;
    let table = if gate >> 18 & 1 == 0 { registers.gdtr.base } else { registers.ldtr.base };
    let descriptor = read_linear(vcpu, bus, table.wrapping_add(selector & 0xFFF8), 8);
    descriptor.map(|d| {
        let base = d >> 16 & 0xFF_FFFF | d >> 32 & 0xFF00_0000;
        base.wrapping_add(offset) & 0xFFFF_FFFF
    })
}

/// Reads up to eight bytes of guest memory at a linear address.
pub fn read_linear(vcpu: &VcpuFd, bus: &dyn GuestBus, linear: u64, bytes: usize) -> Option<u64> {
    let mut data = [0; 8];
    for (at, byte) in data.iter_mut().enumerate().take(bytes) {
        let page = vcpu.translate_gva(linear.wrapping_add(at as u64)).ok()?;
        if page.valid == 0 {
            return None;
        }
        exit::read_memory(bus, page.physical_address, std::slice::from_mut(byte));
    }
    Some(u64::from_le_bytes(data))
}

/// The bytes at the next instruction, for messages.
pub fn instruction_bytes(vcpu: &VcpuFd, bus: &dyn GuestBus, registers: &Registers) -> Vec<u8> {
    let at = registers.segments[segment::CS].base.wrapping_add(registers.rip);
    (0..15).map_while(|n| read_linear(vcpu, bus, at.wrapping_add(n), 1).map(|byte| byte as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breakpoints_are_enabled_one_by_one() {
        let debug = request(&Watch::Addresses(vec![0x7C00, 0x1_0000], Vec::new()), true);
        assert_eq!(debug.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
        assert_eq!(debug.arch.debugreg, [0x7C00, 0x1_0000, 0, 0, 0, 0, 0, 0x40A]);
    }

    #[test]
    fn watched_data_takes_as_many_registers_as_it_must() {
        let watch = |range, reads, writes| cpu::DataWatch { range, physical: false, reads, writes };
        let interest = Interest { data: vec![watch(0x1001..=0x1006, false, true)], ..Interest::default() };
        let slots = data_slots(&interest).unwrap();
        let shapes: Vec<_> = slots.iter().map(|slot| (slot.address, slot.bytes)).collect();
        assert_eq!(shapes, [(0x1001, 1), (0x1002, 2), (0x1004, 2), (0x1006, 1)]);
        let debug = request(&Watch::Addresses(vec![5], vec![slots[1]]), true);
        assert_eq!(debug.arch.debugreg[..2], [5, 0x1002]);
        assert_eq!(debug.arch.debugreg[7], 0x400 | 0b1010 | 0b0101 << 20);
        let reads = Interest { data: vec![watch(0..=7, true, false)], ..Interest::default() };
        assert!(data_slots(&reads).unwrap_err().contains("reads alone"));
    }

    #[test]
    fn stepping_holds_interrupts_off_where_the_host_can() {
        let step = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
        assert_eq!(request(&Watch::Step, false).control, step);
        assert_eq!(request(&Watch::Step, true).control, step | KVM_GUESTDBG_BLOCKIRQ);
        assert_eq!(request(&Watch::Off, true).control, 0);
    }
}
