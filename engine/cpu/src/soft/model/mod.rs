//! The processor models the software CPU can be, and their CPUID leaves (Intel SDM 2A, CPUID).
//!
//! A model says what it would like to offer; what is offered is cut down to what is implemented (see
//! [`feature`]). Left out on purpose: performance counters, virtual-8086 extensions, processor serial number.

pub mod feature;

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::soft::mwait::LINE;
use crate::soft::paravirtual;
pub use feature::{Feature, Features, Output};

/// A processor model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuModel {
    /// An 80486 with CPUID.
    #[serde(rename = "486")]
    I486,
    /// A Pentium III.
    #[serde(rename = "pentium3")]
    Pentium3,
    /// The x86-64 baseline.
    #[serde(rename = "x86-64-v1")]
    X86_64V1,
    /// x86-64 with SSE4.2, POPCNT and CMPXCHG16B.
    #[serde(rename = "x86-64-v2")]
    X86_64V2,
    /// x86-64 with AVX2, BMI, FMA and MOVBE.
    #[serde(rename = "x86-64-v3")]
    #[default]
    X86_64V3,
    /// Whatever of the host's features can be offered.
    #[serde(rename = "host")]
    Host,
}

impl CpuModel {
    /// Every model, oldest first.
    pub const ALL: [CpuModel; 6] = [
        CpuModel::I486,
        CpuModel::Pentium3,
        CpuModel::X86_64V1,
        CpuModel::X86_64V2,
        CpuModel::X86_64V3,
        CpuModel::Host,
    ];

    /// The name profiles use.
    pub const fn name(self) -> &'static str {
        match self {
            CpuModel::I486 => "486",
            CpuModel::Pentium3 => "pentium3",
            CpuModel::X86_64V1 => "x86-64-v1",
            CpuModel::X86_64V2 => "x86-64-v2",
            CpuModel::X86_64V3 => "x86-64-v3",
            CpuModel::Host => "host",
        }
    }

    /// What the model would offer if everything were implemented.
    pub fn wish(self) -> Features {
        use Feature::*;
        let i486 = Features::of(&[Fpu]);
        let pentium3 = i486.union(Features::of(&[
            De, Pse, Tsc, Msr, Pae, Mce, Cx8, Apic, Sep, Mtrr, Pge, Mca, Cmov, Pat, Pse36, Mmx, Fxsr, Sse,
        ]));
        let v1 = pentium3.union(Features::of(&[
            Clflush,
            Sse2,
            Syscall,
            Nx,
            LongMode,
            Rdtscp,
            GigabytePages,
            X2apic,
            Hypervisor,
            InvariantTsc,
            TscAdjust,
            ArchCapabilities,
            Arat,
            Monitor,
            TscDeadline,
            Pcid,
            Invpcid,
            FsGsBase,
            Smep,
            Smap,
            Umip,
            Rdpid,
            ClflushOpt,
            PrefetchW,
            Erms,
            Fsrm,
            LahfLong,
        ]));
        let v2 = v1.union(Features::of(&[Sse3, Ssse3, Sse41, Sse42, Cx16, Popcnt]));
        let v3 = v2.union(Features::of(&[
            Fma, Movbe, Xsave, Avx, F16c, Bmi1, Avx2, Bmi2, Lzcnt, Rdrand, Rdseed, Aes, Pclmul, Adx, Sha,
            Xsaveopt, Xsavec,
        ]));
        match self {
            CpuModel::I486 => i486,
            CpuModel::Pentium3 => pentium3,
            CpuModel::X86_64V1 => v1,
            CpuModel::X86_64V2 => v2,
            CpuModel::X86_64V3 | CpuModel::Host => v3,
        }
    }

    /// What the model offers: wished for, implemented, and (for what the host executes) in the host.
    pub fn features(self) -> Features {
        let through_host = Features::of(feature::THROUGH_HOST).intersection(host_features());
        self.wish().intersection(Features::of(feature::IMPLEMENTED).union(through_host))
    }

    const fn is_64_bit(self) -> bool {
        !matches!(self, CpuModel::I486 | CpuModel::Pentium3)
    }
}

impl FromStr for CpuModel {
    type Err = UnknownModel;

    fn from_str(name: &str) -> Result<CpuModel, UnknownModel> {
        let known = CpuModel::ALL.into_iter().find(|model| model.name() == name);
        known.ok_or_else(|| UnknownModel(name.to_owned()))
    }
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A processor model nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no processor model \"{0}\"; choose 486, pentium3, x86-64-v1, x86-64-v2, x86-64-v3 or host")]
pub struct UnknownModel(pub String);

/// The host's features, asked for once (CPUID traps when the host itself is virtual).
fn host_features() -> Features {
    static HOST: OnceLock<Features> = OnceLock::new();
    *HOST.get_or_init(|| {
        let max = |start| std::arch::x86_64::__cpuid(start).eax;
        let (basic, extended) = (max(0), max(0x8000_0000));
        Features::from_leaves(|leaf| {
            if leaf > if leaf >= 0x8000_0000 { extended } else { basic } {
                return [0; 4];
            }
            let result = std::arch::x86_64::__cpuid_count(leaf, 0);
            [result.eax, result.ebx, result.ecx, result.edx]
        })
    })
}

/// The registers CPUID's answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// IA32_APIC_BASE.EN.
    pub apic_enabled: bool,
    /// CR4.OSXSAVE.
    pub os_xsave: bool,
    /// XCR0.
    pub xcr0: u64,
    /// IA32_MISC_ENABLE bit 22: answer no leaf above 3.
    pub limit_leaves: bool,
}

/// One vCPU's model: what it offers, and its cached CPUID leaves.
#[derive(Clone, Debug)]
pub struct Model {
    model: CpuModel,
    features: Features,
    id: u32,
    count: u32,
    /// (leaf, sub-leaf, EAX to EDX), sorted.
    leaves: Vec<(u32, u32, [u32; 4])>,
    highest_basic: u32,
    highest_extended: u32,
}

const VENDOR: &[u8; 12] = b"GenuineIntel";
/// KVM's interface stands where every guest looks first, our own name where the next one would
/// (Linux, Documentation/virt/kvm/x86/cpuid.rst).
const KVM: &[u8; 12] = b"KVMKVMKVM\0\0\0";
const KVM_LEAF: u32 = 0x4000_0000;
const KVM_TIMING_LEAF: u32 = 0x4000_0010;
const HYPERVISOR: &[u8; 12] = b"VitrineVMM\0\0";
const HYPERVISOR_LEAF: u32 = 0x4000_0100;

fn words(text: &[u8]) -> Vec<u32> {
    text.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

impl Model {
    /// Processor `id` of `count`, with a time-stamp counter of `tsc_hz`.
    pub fn new(model: CpuModel, id: u32, count: u32, tsc_hz: u64) -> Model {
        let features = model.features();
        let (highest_basic, highest_extended) = match model {
            CpuModel::I486 => (1, 0),
            CpuModel::Pentium3 => (2, 0x8000_0004),
            _ => (0x16, 0x8000_0008),
        };
        let mut result = Model {
            model,
            features,
            id,
            count: count.max(1),
            leaves: Vec::new(),
            highest_basic,
            highest_extended,
        };
        result.build(tsc_hz);
        result.leaves.sort_by_key(|leaf| (leaf.0, leaf.1));
        result
    }

    /// Whether a feature is offered: instructions and control bits that are not raise #UD or #GP.
    #[inline]
    pub fn offers(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }

    /// Which model this is.
    pub fn kind(&self) -> CpuModel {
        self.model
    }

    /// Everything offered.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Width of physical addresses.
    pub fn physical_bits(&self) -> u8 {
        match self.model {
            CpuModel::I486 => 32,
            CpuModel::Pentium3 => 36,
            _ => 40,
        }
    }

    /// Family, model and stepping: CPUID 1 EAX, and EDX at reset.
    pub fn signature(&self) -> u32 {
        match self.model {
            CpuModel::I486 => 0x483,
            CpuModel::Pentium3 => 0x683,
            _ => 0x306C3, // family 6, model 0x3C: what the v3 level began with
        }
    }

    /// XCR0 bits that may be set.
    pub fn xcr0_mask(&self) -> u64 {
        1 | if self.offers(Feature::Avx) {
            6
        } else if self.offers(Feature::Sse) {
            2
        } else {
            0
        }
    }

    fn put(&mut self, leaf: u32, subleaf: u32, values: [u32; 4]) {
        self.leaves.push((leaf, subleaf, values));
    }

    fn build(&mut self, tsc_hz: u64) {
        let features = self.features;
        let word = |leaf, output| features.word(leaf, output);
        let (id, count) = (self.id, self.count);
        let vendor = words(VENDOR);
        self.put(0, 0, [self.highest_basic, vendor[0], vendor[2], vendor[1]]);
        let clflush = if features.has(Feature::Clflush) { 8 << 8 } else { 0 };
        let logical = count.next_power_of_two().min(255);
        let mut edx = word(1, Output::Edx);
        if count > 1 && features.has(Feature::Apic) {
            edx |= 1 << 28; // HTT: EBX[23:16] is valid
        }
        let ebx = if features.has(Feature::Apic) { id << 24 | logical << 16 } else { 0 };
        self.put(1, 0, [self.signature(), ebx | clflush, word(1, Output::Ecx), edx]);
        if self.model == CpuModel::Pentium3 {
            self.put(2, 0, [0x0302_0101, 0, 0, 0x0C04_0843]);
        }
        if self.model.is_64_bit() {
            self.put(2, 0, [0x00FF_FF01, 0, 0, 0]);
            let cores = (logical - 1) << 26;
            self.put(4, 0, [0x121 | cores, 0x01C0_003F, 63, 0]); // 32 KiB, 8 ways, data
            self.put(4, 1, [0x122 | cores, 0x01C0_003F, 63, 0]); // 32 KiB, 8 ways, code
            self.put(4, 2, [0x143 | cores, 0x01C0_003F, 511, 0]); // 256 KiB, 8 ways, unified
            if features.has(Feature::Monitor) {
                self.put(5, 0, [LINE as u32, LINE as u32, 0, 0]); // neither hints nor extensions
            }
            self.put(6, 0, [word(6, Output::Eax), 0, 0, 0]);
            self.put(7, 0, [0, word(7, Output::Ebx), word(7, Output::Ecx), word(7, Output::Edx)]);
            self.put(0xB, 0, [0, 1, 0x100, id]);
            self.put(0xB, 1, [logical.trailing_zeros(), count, 0x201, id]);
            self.put(0xB, 2, [0, 0, 2, id]);
            if features.has(Feature::Xsave) {
                let avx = features.has(Feature::Avx);
                self.put(0xD, 0, [self.xcr0_mask() as u32, 0, if avx { 0x340 } else { 0x240 }, 0]);
                self.put(0xD, 1, [word(feature::XSAVE_EXTENSIONS, Output::Eax), 0, 0, 0]);
                if avx {
                    self.put(0xD, 2, [0x100, 0x240, 0, 0]);
                }
            }
        }
        if self.model.is_64_bit() {
            // The crystal is the time-stamp counter's and the local APIC timer's clock, so that a system
            // need not measure them, which a busy host would disturb.
            self.put(0x15, 0, [1, 1, tsc_hz as u32, 0]);
            let mhz = (tsc_hz / 1_000_000) as u32;
            self.put(0x16, 0, [mhz, mhz, 100, 0]);
        }
        if self.highest_extended != 0 {
            self.put(0x8000_0000, 0, [self.highest_extended, 0, 0, 0]);
            let ext = [0, 0, word(0x8000_0001, Output::Ecx), word(0x8000_0001, Output::Edx)];
            self.put(0x8000_0001, 0, ext);
            let mut brand = format!("Vitrine software CPU, {}", self.model).into_bytes();
            brand.resize(48, 0);
            for (n, part) in words(&brand).chunks_exact(4).enumerate() {
                self.put(0x8000_0002 + n as u32, 0, [part[0], part[1], part[2], part[3]]);
            }
        }
        if self.model.is_64_bit() {
            self.put(0x8000_0006, 0, [0, 0, 0x0100_6040, 0]);
            self.put(0x8000_0007, 0, [0, 0, 0, word(0x8000_0007, Output::Edx)]);
            self.put(0x8000_0008, 0, [48 << 8 | u32::from(self.physical_bits()), 0, 0, 0]);
        }
        if features.has(Feature::Hypervisor) {
            for (leaf, highest, name) in
                [(KVM_LEAF, KVM_TIMING_LEAF, KVM), (HYPERVISOR_LEAF, HYPERVISOR_LEAF, HYPERVISOR)]
            {
                let name = words(name);
                self.put(leaf, 0, [highest, name[0], name[1], name[2]]);
            }
            self.put(KVM_LEAF + 1, 0, [paravirtual::FEATURES, 0, 0, 0]);
            self.put(KVM_TIMING_LEAF, 0, [(tsc_hz / 1000) as u32, 0, 0, 0]);
        }
    }

    fn stored(&self, leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
        let found = self.leaves.binary_search_by_key(&(leaf, subleaf), |entry| (entry.0, entry.1));
        found.ok().map(|index| self.leaves[index].2)
    }

    /// CPUID: EAX, EBX, ECX, EDX.
    pub fn cpuid(&self, leaf: u32, subleaf: u32, live: Live) -> [u32; 4] {
        let highest_basic = if live.limit_leaves { self.highest_basic.min(3) } else { self.highest_basic };
        let is_hypervisor = self.offers(Feature::Hypervisor) && (KVM_LEAF..=HYPERVISOR_LEAF).contains(&leaf);
        let is_known =
            leaf <= highest_basic || is_hypervisor || (leaf >= 0x8000_0000 && leaf <= self.highest_extended);
        // "If a value entered for CPUID.EAX is higher than the maximum input value [..], the data for the
        // highest basic information leaf is returned."
        let leaf = if is_known { leaf } else { highest_basic };
        let has_subleaves = matches!(leaf, 4 | 7 | 0xB | 0xD);
        let mut result = match self.stored(leaf, if has_subleaves { subleaf } else { 0 }) {
            Some(values) => values,
            None if leaf == 0xB => [0, 0, subleaf & 0xFF, self.id],
            None => [0; 4],
        };
        match leaf {
            0 => result[0] = highest_basic,
            1 => {
                if !live.apic_enabled {
                    result[3] &= !(1 << 9);
                }
                if live.os_xsave {
                    result[2] |= 1 << 27;
                }
            }
            0xD if subleaf < 2 && self.offers(Feature::Xsave) => {
                result[1] = if live.xcr0 & 4 != 0 { 0x340 } else { 0x240 };
            }
            _ => {}
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: Live = Live { apic_enabled: true, os_xsave: false, xcr0: 1, limit_leaves: false };

    fn model(kind: CpuModel) -> Model {
        Model::new(kind, 1, 2, 1_000_000_000)
    }

    #[test]
    fn names_are_parsed_back() {
        for kind in CpuModel::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("z80".parse::<CpuModel>().is_err());
    }

    #[test]
    fn nothing_unimplemented_is_offered() {
        let can = Features::of(feature::IMPLEMENTED).union(Features::of(feature::THROUGH_HOST));
        for kind in CpuModel::ALL {
            assert_eq!(kind.features().intersection(can), kind.features());
            assert!(!kind.features().has(Feature::Vme), "VME is not written");
        }
    }

    #[test]
    fn leaf_1_tells_topology_and_follows_the_registers() {
        let v1 = model(CpuModel::X86_64V1);
        let [_, ebx, ecx, edx] = v1.cpuid(1, 0, LIVE);
        assert_eq!((ebx >> 24, ebx >> 16 & 0xFF), (1, 2));
        assert_ne!(edx & 1 << 9, 0);
        assert_ne!(ecx & 1 << 31, 0);
        assert_eq!(v1.cpuid(1, 0, Live { apic_enabled: false, ..LIVE })[3] & 1 << 9, 0);
        assert_eq!(v1.cpuid(0xB, 1, LIVE), [1, 2, 0x201, 1]);
    }

    #[test]
    fn the_brand_names_vitrine_and_leaves_end_where_they_say() {
        let v2 = model(CpuModel::X86_64V2);
        let mut brand = Vec::new();
        for leaf in 0x8000_0002..=0x8000_0004 {
            brand.extend(v2.cpuid(leaf, 0, LIVE).into_iter().flat_map(u32::to_le_bytes));
        }
        assert!(String::from_utf8(brand).unwrap().starts_with("Vitrine software CPU, x86-64-v2\0"));
        assert_eq!(v2.cpuid(0x8000_0000, 0, LIVE)[0], 0x8000_0008);
        assert_eq!(v2.cpuid(0x1234, 0, LIVE), v2.cpuid(0x16, 0, LIVE), "beyond the end: the last leaf");
        let i486 = model(CpuModel::I486);
        assert_eq!(i486.cpuid(0, 0, LIVE)[0], 1);
        assert_eq!(i486.cpuid(0x8000_0000, 0, LIVE), i486.cpuid(1, 0, LIVE));
    }

    #[test]
    fn kvm_s_interface_comes_first_and_our_name_second() {
        let v1 = model(CpuModel::X86_64V1);
        let name =
            |leaf| v1.cpuid(leaf, 0, LIVE)[1..].iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(name(0x4000_0000), b"KVMKVMKVM\0\0\0");
        assert_eq!(name(0x4000_0100), b"VitrineVMM\0\0");
        let features = v1.cpuid(0x4000_0001, 0, LIVE)[0];
        assert_eq!(features & (1 << 3 | 1 << 6 | 1 << 24), 1 << 3 | 1 << 24, "a stable clock, no EOI");
        assert_eq!(v1.cpuid(0x4000_0010, 0, LIVE)[0], 1_000_000);
        let pentium3 = model(CpuModel::Pentium3);
        assert_eq!(pentium3.cpuid(0x4000_0000, 0, LIVE), pentium3.cpuid(2, 0, LIVE));
    }

    #[test]
    fn clocks_are_told_and_need_no_watching() {
        let v1 = model(CpuModel::X86_64V1);
        assert_eq!(v1.cpuid(0x15, 0, LIVE), [1, 1, 1_000_000_000, 0]);
        assert_eq!(v1.cpuid(0x16, 0, LIVE), [1000, 1000, 100, 0]);
        // Linux watches a time-stamp counter against lost timer ticks unless it is constant, never
        // stops and has the adjustment register.
        for feature in [Feature::InvariantTsc, Feature::TscAdjust] {
            assert!(v1.offers(feature));
        }
    }

    #[test]
    fn the_levels_grow() {
        let mut before = Features::default();
        for kind in CpuModel::ALL {
            let now = kind.features();
            assert_eq!(now.intersection(before), before, "{kind}");
            before = now;
        }
        assert!(CpuModel::X86_64V1.features().has(Feature::LongMode));
        assert!(!CpuModel::Pentium3.features().has(Feature::LongMode));
    }
}
