//! Breakpoints and stepping: hardware breakpoints, so no byte of the guest changes, and the guest's own
//! debug registers stay its own.
//!
//! While a step is made no interrupt is delivered through the stepping flag: the processor would push that
//! flag with the guest's RFLAGS. An interrupt that is due is delivered by itself, to a breakpoint on its
//! handler, which is then the whole step.

use cpu::GuestBus;
use cpu::registers::{Registers, segment};
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
    /// Execution at these linear addresses.
    Addresses(Vec<u64>),
}

/// The debugging state of one vCPU.
pub struct Debugging {
    available: bool,
    block_interrupts: bool,
    set: Watch,
    /// Breakpoints the monitor asked for.
    pub breakpoints: Vec<u64>,
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
            stopped_at: None,
        }
    }

    /// Whether KVM comes back after one instruction.
    pub fn is_stepping(&self) -> bool {
        self.set == Watch::Step
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
        Watch::Addresses(addresses) => {
            debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
            debug.arch.debugreg[7] = 0x400; // bit 10 is always set
            for (index, address) in addresses.iter().take(BREAKPOINTS).enumerate() {
                debug.arch.debugreg[index] = *address;
                // Global enable; type 0 and length 0 are execution (SDM 3B §18.2.4).
                debug.arch.debugreg[7] |= 0b10 << (2 * index);
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
        let debug = request(&Watch::Addresses(vec![0x7C00, 0x1_0000]), true);
        assert_eq!(debug.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
        assert_eq!(debug.arch.debugreg, [0x7C00, 0x1_0000, 0, 0, 0, 0, 0, 0x40A]);
    }

    #[test]
    fn stepping_holds_interrupts_off_where_the_host_can() {
        let step = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
        assert_eq!(request(&Watch::Step, false).control, step);
        assert_eq!(request(&Watch::Step, true).control, step | KVM_GUESTDBG_BLOCKIRQ);
        assert_eq!(request(&Watch::Off, true).control, 0);
    }
}
