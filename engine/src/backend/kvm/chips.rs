//! State of the chips the kernel keeps: 8259A pair, I/O APIC and 8254 (`kernel`), local APICs (`kernel` and
//! `split`). Saved as the kernel's own structures, byte by byte, behind a word that tells what they are.

use kvm_bindings::*;
use kvm_ioctls::VmFd;

use crate::backend::{VcpuError, VcpuErrorKind};

const CHIPS: &[u8; 8] = b"kvmchip1";
const LAPIC: &[u8; 8] = b"kvmapic1";
/// The kernel's three interrupt chips, by KVM_IRQCHIP_*.
const IRQCHIPS: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];
const IRQCHIP_BYTES: usize = 512;

/// The kernel's interrupt controllers and timer.
pub struct Chips {
    irqchips: Vec<kvm_irqchip>,
    pit: kvm_pit_state2,
}

fn failed(error: kvm_ioctls::Error) -> VcpuError {
    let context = "KVM does not give or take the state of its interrupt controllers";
    VcpuError::caused(VcpuErrorKind::Registers, context, error)
}

impl Chips {
    /// Asks the kernel.
    pub fn read(fd: &VmFd) -> Result<Chips, VcpuError> {
        let mut irqchips = Vec::with_capacity(IRQCHIPS.len());
        for chip_id in IRQCHIPS {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            fd.get_irqchip(&mut chip).map_err(failed)?;
            irqchips.push(chip);
        }
        Ok(Chips { irqchips, pit: fd.get_pit2().map_err(failed)? })
    }

    /// Tells the kernel of the interrupt controllers.
    pub fn write_controllers(&self, fd: &VmFd) -> Result<(), VcpuError> {
        self.irqchips.iter().try_for_each(|chip| fd.set_irqchip(chip).map_err(failed))
    }

    /// Tells the kernel of the timer, which runs from now on.
    pub fn write_timer(&self, fd: &VmFd) -> Result<(), VcpuError> {
        fd.set_pit2(&self.pit).map_err(failed)
    }

    /// The timer.
    pub fn timer(&self) -> &kvm_pit_state2 {
        &self.pit
    }

    /// With `timer` in place of its own, if there is one.
    pub fn with_timer(self, timer: Option<kvm_pit_state2>) -> Chips {
        Chips { pit: timer.unwrap_or(self.pit), ..self }
    }

    /// The saved form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = CHIPS.to_vec();
        for chip in &self.irqchips {
            // SAFETY: `dummy` is plain bytes and as long as the union.
            bytes.extend(unsafe { chip.chip.dummy }.map(|byte| byte as u8));
        }
        for channel in &self.pit.channels {
            bytes.extend(channel.count.to_le_bytes());
            bytes.extend(channel.latched_count.to_le_bytes());
            bytes.extend([channel.count_latched, channel.status_latched, channel.status]);
            bytes.extend([channel.read_state, channel.write_state, channel.write_latch]);
            bytes.extend([channel.rw_mode, channel.mode, channel.bcd, channel.gate]);
            bytes.extend(channel.count_load_time.to_le_bytes());
        }
        bytes.extend(self.pit.flags.to_le_bytes());
        bytes
    }

    /// From the saved form; `None` if it is not one.
    pub fn decode(bytes: &[u8]) -> Option<Chips> {
        let mut rest = bytes.strip_prefix(CHIPS)?;
        let mut irqchips = Vec::with_capacity(IRQCHIPS.len());
        for chip_id in IRQCHIPS {
            let dummy = take::<IRQCHIP_BYTES>(&mut rest)?.map(|byte| byte as std::ffi::c_char);
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            chip.chip.dummy = dummy;
            irqchips.push(chip);
        }
        let mut pit = kvm_pit_state2::default();
        for channel in &mut pit.channels {
            channel.count = u32::from_le_bytes(take(&mut rest)?);
            channel.latched_count = u16::from_le_bytes(take(&mut rest)?);
            [channel.count_latched, channel.status_latched, channel.status] = take(&mut rest)?;
            [channel.read_state, channel.write_state, channel.write_latch] = take(&mut rest)?;
            [channel.rw_mode, channel.mode, channel.bcd, channel.gate] = take(&mut rest)?;
            channel.count_load_time = i64::from_le_bytes(take(&mut rest)?);
        }
        pit.flags = u32::from_le_bytes(take(&mut rest)?);
        rest.is_empty().then_some(Chips { irqchips, pit })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

/// The saved form of one CPU's local APIC and run state.
pub fn encode_lapic(run_state: u32, lapic: &kvm_lapic_state) -> Vec<u8> {
    let mut bytes = LAPIC.to_vec();
    bytes.extend(run_state.to_le_bytes());
    bytes.extend(lapic.regs.iter().map(|byte| *byte as u8));
    bytes
}

/// One CPU's run state and local APIC; `None` if the bytes are not what [`encode_lapic`] gives.
pub fn decode_lapic(bytes: &[u8]) -> Option<(u32, kvm_lapic_state)> {
    let mut rest = bytes.strip_prefix(LAPIC)?;
    let run_state = u32::from_le_bytes(take(&mut rest)?);
    let regs = take::<1024>(&mut rest)?.map(|byte| byte as std::ffi::c_char);
    rest.is_empty().then_some((run_state, kvm_lapic_state { regs }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_saved_state_is_refused() {
        assert!(Chips::decode(b"").is_none());
        assert!(Chips::decode(&[CHIPS.as_slice(), &[0; 100]].concat()).is_none());
        assert!(decode_lapic(b"kvmapic1 short").is_none());
        let lapic = kvm_lapic_state { regs: std::array::from_fn(|i| i as u8 as std::ffi::c_char) };
        let (run_state, back) = decode_lapic(&encode_lapic(3, &lapic)).unwrap();
        assert_eq!((run_state, back.regs), (3, lapic.regs));
    }
}
