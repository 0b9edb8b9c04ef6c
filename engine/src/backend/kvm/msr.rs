//! Model-specific registers: their numbers, and the ones that are part of [`cpu::Registers`].
//! Source: Intel SDM 4.

use cpu::registers::Msrs;
use kvm_bindings::kvm_msr_entry;
use kvm_ioctls::VcpuFd;

use crate::backend::{VcpuError, VcpuErrorKind};

/// IA32_TIME_STAMP_COUNTER.
pub const TSC: u32 = 0x10;
/// IA32_APIC_BASE.
pub const APIC_BASE: u32 = 0x1B;
/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6E0;
/// The first and last register of an x2APIC.
pub const X2APIC: std::ops::RangeInclusive<u32> = 0x800..=0x8FF;

const MISC_ENABLE: u32 = 0x1A0;
const TSC_AUX: u32 = 0xC000_0103;

/// Each register of `msrs` with its number.
fn numbered(msrs: &mut Msrs) -> Vec<(u32, &mut u64)> {
    let mut all = vec![
        (0x174, &mut msrs.sysenter_cs),
        (0x175, &mut msrs.sysenter_esp),
        (0x176, &mut msrs.sysenter_eip),
        (0xC000_0081, &mut msrs.star),
        (0xC000_0082, &mut msrs.lstar),
        (0xC000_0083, &mut msrs.cstar),
        (0xC000_0084, &mut msrs.fmask),
        (0xC000_0102, &mut msrs.kernel_gs_base),
        (TSC_AUX, &mut msrs.tsc_aux),
        (0x277, &mut msrs.pat),
        (MISC_ENABLE, &mut msrs.misc_enable),
        (0x2FF, &mut msrs.mtrr_default),
    ];
    const FIXED: [u32; 11] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26A, 0x26B, 0x26C, 0x26D, 0x26E, 0x26F];
    all.extend(FIXED.into_iter().zip(&mut msrs.mtrr_fixed));
    all.extend((0x200..).zip(&mut msrs.mtrr_variable));
    all
}

/// Reads one register; `None` if the host has none of this number.
pub fn read(vcpu: &VcpuFd, index: u32) -> Option<u64> {
    let entry = kvm_msr_entry { index, ..Default::default() };
    let mut list = kvm_bindings::Msrs::from_entries(&[entry]).ok()?;
    (vcpu.get_msrs(&mut list).ok()? == 1).then(|| list.as_slice()[0].data)
}

/// Writes one register; says whether the host took it.
pub fn write(vcpu: &VcpuFd, index: u32, data: u64) -> bool {
    let entry = kvm_msr_entry { index, data, ..Default::default() };
    kvm_bindings::Msrs::from_entries(&[entry]).is_ok_and(|list| vcpu.set_msrs(&list).is_ok_and(|n| n == 1))
}

/// Reads all that [`Msrs`] holds but the time-stamp offset and the APIC base. What the host lacks stays.
pub fn read_all(vcpu: &VcpuFd, msrs: &mut Msrs) -> Result<(), VcpuError> {
    let mut rest = numbered(msrs);
    // KVM stops at the first register it does not have; the next round begins after it.
    while !rest.is_empty() {
        let entries: Vec<_> =
            rest.iter().map(|(index, _)| kvm_msr_entry { index: *index, ..Default::default() }).collect();
        let mut list = kvm_bindings::Msrs::from_entries(&entries).map_err(|_| too_many())?;
        let done = vcpu.get_msrs(&mut list).map_err(|error| {
            VcpuError::caused(VcpuErrorKind::Registers, "KVM does not give the MSRs", error)
        })?;
        for ((_, value), entry) in rest.iter_mut().zip(&list.as_slice()[..done]) {
            **value = entry.data;
        }
        rest.drain(..(done + 1).min(entries.len()));
    }
    Ok(())
}

/// Writes all that [`read_all`] reads.
pub fn write_all(vcpu: &VcpuFd, msrs: &Msrs) -> Result<(), VcpuError> {
    let mut msrs = *msrs;
    let mut rest: Vec<_> = numbered(&mut msrs)
        .into_iter()
        .map(|(index, value)| kvm_msr_entry { index, data: *value, ..Default::default() })
        .collect();
    while !rest.is_empty() {
        let list = kvm_bindings::Msrs::from_entries(&rest).map_err(|_| too_many())?;
        let done = vcpu.set_msrs(&list).map_err(|error| {
            VcpuError::caused(VcpuErrorKind::Registers, "KVM does not take the MSRs", error)
        })?;
        if let Some(refused) = rest.get(done) {
            accept_refusal(vcpu, refused)?;
        }
        rest.drain(..(done + 1).min(rest.len()));
    }
    Ok(())
}

/// A refused register is no loss if it already has the value, if it is zero and not there, or if its bits
/// only describe the processor.
fn accept_refusal(vcpu: &VcpuFd, refused: &kvm_msr_entry) -> Result<(), VcpuError> {
    let now = read(vcpu, refused.index);
    let harmless = now == Some(refused.data)
        || (now.is_none() && refused.data == 0)
        || matches!(refused.index, MISC_ENABLE | TSC_AUX);
    if harmless {
        return Ok(());
    }
    let text = format!("KVM refuses {:#x} for model-specific register {:#x}", refused.data, refused.index);
    Err(VcpuError::new(VcpuErrorKind::Registers, text))
}

fn too_many() -> VcpuError {
    VcpuError::new(VcpuErrorKind::Registers, "more MSRs than KVM takes at once")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_register_is_named_twice() {
        let mut msrs = Msrs::default();
        let mut numbers: Vec<u32> = numbered(&mut msrs).into_iter().map(|(index, _)| index).collect();
        assert_eq!(numbers.len(), 12 + 11 + 16);
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 39);
    }
}
