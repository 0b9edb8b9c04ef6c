//! The CPUID leaves of one vCPU: what KVM supports, less what [`cpu::Registers`] cannot carry and what
//! nobody serves. Source: Intel SDM 2A, CPUID; AMD APM 3, appendix E.
//!
//! Left out on purpose: nested virtualization, performance counters, SGX, processor trace, and all
//! extended state beyond AVX (AVX-512, AMX, MPX, protection keys, shadow stacks).

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use cpu::CpuModel;
use cpu::soft::model::{Feature, Output};

use super::host::Features;
use crate::backend::{InterruptMode, VcpuError, VcpuErrorKind};

/// x87, SSE and AVX: the parts of XCR0 that saved state holds.
pub const XCR0: u64 = 0b111;

const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
const HTT: u32 = 1 << 28;

/// Vendor of the hypervisor leaf when the kernel's own paravirtual interface is hidden.
const SIGNATURE: &[u8; 12] = b"VitrineVMM\0\0";

/// The leaves of vCPU `index` out of `count`.
pub fn leaves(
    supported: &CpuId,
    features: &Features,
    mode: InterruptMode,
    model: CpuModel,
    index: usize,
    count: usize,
) -> Result<CpuId, VcpuError> {
    let mut entries: Vec<kvm_cpuid_entry2> = supported.as_slice().to_vec();
    entries.retain(|e| keep(e, mode));
    for entry in &mut entries {
        restrict(entry);
        place(entry, features, mode, index as u32, count as u32);
        cut_to(entry, model);
    }
    if mode == InterruptMode::Glass {
        let word = |at: usize| u32::from_le_bytes(SIGNATURE[at..at + 4].try_into().expect("four bytes"));
        entries.push(kvm_cpuid_entry2 {
            function: 0x4000_0000,
            eax: 0x4000_0000,
            ebx: word(0),
            ecx: word(4),
            edx: word(8),
            ..Default::default()
        });
    }
    entries.retain(|e| e.function != 0xB);
    entries.extend(topology(index as u32, count as u32));
    CpuId::from_entries(&entries)
        .map_err(|_| VcpuError::new(VcpuErrorKind::Create, "KVM offers more CPUID leaves than it takes back"))
}

fn keep(entry: &kvm_cpuid_entry2, mode: InterruptMode) -> bool {
    match entry.function {
        // Paravirtual clock and interrupts would go round the devices one wants to see.
        0x4000_0000..=0x4FFF_FFFF => mode != InterruptMode::Glass,
        // SGX, processor trace, tile information, newer topology and AVX10 leaves.
        0x12 | 0x14 | 0x1D | 0x1E | 0x1F | 0x24 => false,
        // Components of extended state beyond AVX; subleaf 1 describes XSAVEC and XSAVES.
        0xD => entry.index <= 2,
        // Nested virtualization and memory encryption.
        0x8000_000A | 0x8000_001F => false,
        _ => true,
    }
}

fn restrict(entry: &mut kvm_cpuid_entry2) {
    match (entry.function, entry.index) {
        // 0xB is the last leaf that is placed by us; D stays reachable for XSAVE.
        (0, _) => entry.eax = entry.eax.min(0x1C),
        // VMX, SMX; MONITOR is kept as KVM gives it. PDCM tells of performance counters.
        (1, _) => entry.ecx &= !(1 << 5 | 1 << 6 | 1 << 15),
        (7, 0) => {
            // SGX, MPX, processor trace, AVX-512 (F, DQ, IFMA, PF, ER, CD, BW, VL).
            entry.ebx &= !(1 << 2 | 1 << 14 | 1 << 25);
            entry.ebx &= !(1 << 16 | 1 << 17 | 1 << 21 | 0b111 << 26 | 1 << 30 | 1 << 31);
            // AVX-512 (VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ), PKU, shadow stacks, SGX, key locker, PKS.
            entry.ecx &= !(1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14);
            entry.ecx &= !(1 << 3 | 1 << 4 | 1 << 7 | 1 << 23 | 1 << 30 | 1 << 31);
            // AVX-512 (4VNNIW, 4FMAPS, VP2INTERSECT, FP16), user interrupts, branch tracking, AMX.
            entry.edx &= !(1 << 2 | 1 << 3 | 1 << 8 | 1 << 23 | 1 << 5 | 1 << 20);
            entry.edx &= !(1 << 22 | 1 << 24 | 1 << 25);
        }
        // AVX512-BF16, FRED, LKGS, AMX-FP16; AVX10, APX, AMX-COMPLEX.
        (7, 1) => {
            entry.eax &= !(1 << 5 | 1 << 17 | 1 << 18 | 1 << 21);
            entry.edx &= !(1 << 8 | 1 << 19 | 1 << 21);
        }
        (0xA, _) => *entry = kvm_cpuid_entry2 { function: 0xA, ..Default::default() },
        (0xD, 0) => {
            entry.eax &= XCR0 as u32;
            entry.edx = 0;
            // The area for all components offered: legacy region and header, and the high halves of YMM.
            entry.ecx = if entry.eax & 0b100 != 0 { 576 + 256 } else { 576 };
        }
        // Without XSAVES there is no IA32_XSS to keep.
        (0xD, 1) => {
            entry.eax &= !(1 << 3);
            entry.ecx = 0;
            entry.edx = 0;
        }
        // SVM.
        (0x8000_0001, _) => entry.ecx &= !(1 << 2),
        _ => {}
    }
}

/// Features that only make a guest safer: they stay, whichever 64-bit model it asked for (IBRS, STIBP, SSBD and what
/// tells of them in leaf 7, SDM 2A). No 32-bit model ever had them.
const MITIGATIONS: u32 = 1 << 10 | 0b111 << 26 | 1 << 29 | 1 << 31;

/// What AMD repeats of leaf 1 EDX in 0x80000001 EDX.
const REPEATED: u32 = 0x0183_F3FF;

/// Takes away what `model` would not have. What the host lacks is not there in the first place.
fn cut_to(entry: &mut kvm_cpuid_entry2, model: CpuModel) {
    if model == CpuModel::Host {
        return;
    }
    let wish = |output| model.wish().word(entry.function, output);
    match (entry.function, entry.index) {
        (1, _) => {
            entry.ecx &= wish(Output::Ecx);
            entry.edx &= wish(Output::Edx) | HTT; // the machine's, not the model's
        }
        (6, _) => entry.eax &= wish(Output::Eax),
        (7, 0) => {
            (entry.ebx, entry.ecx) = (entry.ebx & wish(Output::Ebx), entry.ecx & wish(Output::Ecx));
            let is_64_bit = model.wish().has(Feature::LongMode);
            entry.edx &= wish(Output::Edx) | if is_64_bit { MITIGATIONS } else { 0 };
        }
        (7, _) => {
            *entry =
                kvm_cpuid_entry2 { function: 7, index: entry.index, flags: entry.flags, ..Default::default() }
        }
        (0x8000_0001, _) => {
            entry.ecx &= wish(Output::Ecx);
            entry.edx &= wish(Output::Edx) | model.wish().word(1, Output::Edx) & REPEATED;
        }
        (0x8000_0007, _) => entry.edx &= wish(Output::Edx),
        _ => {}
    }
}

/// What depends on the vCPU and on who serves the local APIC.
fn place(entry: &mut kvm_cpuid_entry2, features: &Features, mode: InterruptMode, index: u32, count: u32) {
    match entry.function {
        1 => {
            let (x2apic, deadline) = match mode {
                InterruptMode::Glass => (features.msr_exits, features.msr_exits),
                InterruptMode::Split | InterruptMode::Kernel => (true, features.tsc_deadline),
            };
            let offer = |ecx: u32, bit: u32, yes: bool| if yes { ecx | bit } else { ecx & !bit };
            entry.ecx = offer(entry.ecx, X2APIC, x2apic);
            entry.ecx = offer(entry.ecx, TSC_DEADLINE, deadline);
            entry.ecx |= HYPERVISOR;
            entry.edx = offer(entry.edx, HTT, count > 1);
            entry.ebx = entry.ebx & 0x0000_FFFF | index << 24 | count.min(255) << 16;
        }
        // Cores in the package, none of them sharing a cache.
        4 if entry.eax & 0x1F != 0 => {
            entry.eax = entry.eax & 0x3FFF | (count.min(64) - 1) << 26;
        }
        // AMD: cores minus one, and how many bits of the APIC id they take.
        0x8000_0008 => entry.ecx = entry.ecx & !0xF0FF | core_bits(count) << 12 | (count - 1).min(255),
        0x8000_001E => {
            entry.eax = index;
            entry.ebx = index;
            entry.ecx = 0;
        }
        _ => {}
    }
}

/// Leaf 0xB: one thread a core, all cores in one package.
fn topology(index: u32, count: u32) -> [kvm_cpuid_entry2; 3] {
    let level = |number: u32, shift: u32, processors: u32, kind: u32| kvm_cpuid_entry2 {
        function: 0xB,
        index: number,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: processors,
        ecx: kind << 8 | number,
        edx: index,
        ..Default::default()
    };
    [level(0, 0, 1, 1), level(1, core_bits(count), count, 2), level(2, 0, 0, 0)]
}

fn core_bits(count: u32) -> u32 {
    count.max(1).next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEATURES: Features = Features {
        irqchip: true,
        split_irqchip: true,
        msr_exits: true,
        guest_debug: true,
        debug_flags: 0,
        tsc_offset: true,
        tsc_deadline: true,
        xcrs: true,
        max_vcpus: 8,
        memory_slots: 32,
    };

    fn ones(function: u32, index: u32) -> kvm_cpuid_entry2 {
        let eax = if function == 0 { 0x20 } else { u32::MAX };
        kvm_cpuid_entry2 { function, index, eax, ebx: !0, ecx: !0, edx: !0, ..Default::default() }
    }

    fn made(features: Features, mode: InterruptMode, index: usize, count: usize) -> Vec<kvm_cpuid_entry2> {
        let leaves_of =
            [(0, 0), (1, 0), (7, 0), (0xB, 0), (0xD, 0), (0xD, 9), (0x4000_0000, 0), (0x4000_0001, 0)];
        let all: Vec<_> = leaves_of.into_iter().map(|(f, i)| ones(f, i)).collect();
        let supported = CpuId::from_entries(&all).unwrap();
        leaves(&supported, &features, mode, CpuModel::Host, index, count).unwrap().as_slice().to_vec()
    }

    fn leaf(all: &[kvm_cpuid_entry2], function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
        all.iter().find(|e| e.function == function && e.index == index).copied()
    }

    #[test]
    fn glass_offers_apic_msrs_only_when_they_are_served_and_no_paravirtual_clock() {
        let all = made(FEATURES, InterruptMode::Glass, 0, 1);
        assert_eq!(leaf(&all, 1, 0).unwrap().ecx & (X2APIC | TSC_DEADLINE), X2APIC | TSC_DEADLINE);
        assert_eq!(leaf(&all, 0x4000_0000, 0).unwrap().ebx.to_le_bytes(), *b"Vitr");
        assert_eq!(leaf(&all, 0x4000_0001, 0), None);
        let blind = made(Features { msr_exits: false, ..FEATURES }, InterruptMode::Glass, 0, 1);
        assert_eq!(leaf(&blind, 1, 0).unwrap().ecx & (X2APIC | TSC_DEADLINE), 0);
        assert_eq!(leaf(&blind, 1, 0).unwrap().ecx & HYPERVISOR, HYPERVISOR);
        assert!(leaf(&made(FEATURES, InterruptMode::Kernel, 0, 1), 0x4000_0001, 0).is_some());
    }

    #[test]
    fn state_that_cannot_be_saved_is_not_offered() {
        let all = made(FEATURES, InterruptMode::Split, 0, 1);
        let seven = leaf(&all, 7, 0).unwrap();
        assert_eq!(seven.ebx >> 16 & 1, 0, "AVX-512");
        assert_eq!(seven.ebx >> 5 & 1, 1, "AVX2 stays");
        assert_eq!(seven.ecx >> 3 & 1, 0, "protection keys");
        let area = leaf(&all, 0xD, 0).unwrap();
        assert_eq!((area.eax, area.ecx), (7, 832));
        assert_eq!(leaf(&all, 0xD, 9), None);
        assert_eq!(leaf(&all, 1, 0).unwrap().ecx >> 5 & 1, 0, "VMX");
    }

    #[test]
    fn a_model_has_no_more_than_it_would_on_the_software_cpu() {
        let all: Vec<_> = [(1, 0), (7, 0), (0x8000_0001, 0)].into_iter().map(|(f, i)| ones(f, i)).collect();
        let supported = CpuId::from_entries(&all).unwrap();
        let of = |model| {
            let all = leaves(&supported, &FEATURES, InterruptMode::Glass, model, 0, 1).unwrap();
            all.as_slice().to_vec()
        };
        let all = of(CpuModel::Pentium3);
        let (one, ext) = (leaf(&all, 1, 0).unwrap(), leaf(&all, 0x8000_0001, 0).unwrap());
        assert_eq!(
            (one.edx >> 25 & 0b11, ext.edx >> 29 & 1),
            (0b01, 0),
            "SSE, but neither SSE2 nor long mode"
        );
        let seven = leaf(&of(CpuModel::X86_64V3), 7, 0).unwrap();
        assert_eq!(
            (seven.ebx >> 5 & 1, seven.ecx >> 8 & 1, seven.edx >> 26 & 1),
            (1, 0, 1),
            "AVX2, not GFNI"
        );
    }

    #[test]
    fn each_cpu_has_its_own_apic_id_in_one_package() {
        let all = made(FEATURES, InterruptMode::Glass, 2, 3);
        let one = leaf(&all, 1, 0).unwrap();
        assert_eq!((one.ebx >> 24, one.ebx >> 16 & 0xFF, one.edx & HTT), (2, 3, HTT));
        let cores = leaf(&all, 0xB, 1).unwrap();
        assert_eq!((cores.eax, cores.ebx, cores.edx), (2, 3, 2));
        assert_eq!(leaf(&all, 0xB, 0).unwrap().eax, 0);
    }
}
