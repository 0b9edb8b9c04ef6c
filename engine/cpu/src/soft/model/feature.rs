//! CPUID feature bits: where each lies, which are implemented, and which need the host's own.

/// A feature CPUID can offer.
#[allow(missing_docs)] // the names are the manual's
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Feature {
    Fpu,
    Vme,
    De,
    Pse,
    Tsc,
    Msr,
    Pae,
    Mce,
    Cx8,
    Apic,
    Sep,
    Mtrr,
    Pge,
    Mca,
    Cmov,
    Pat,
    Pse36,
    Clflush,
    Mmx,
    Fxsr,
    Sse,
    Sse2,
    Sse3,
    Pclmul,
    Monitor,
    Ssse3,
    Fma,
    Cx16,
    Pcid,
    Sse41,
    Sse42,
    X2apic,
    Movbe,
    Popcnt,
    TscDeadline,
    Aes,
    Xsave,
    Avx,
    F16c,
    Rdrand,
    Hypervisor,
    FsGsBase,
    Bmi1,
    Avx2,
    Smep,
    Bmi2,
    Erms,
    Invpcid,
    Rdseed,
    Adx,
    Smap,
    ClflushOpt,
    Sha,
    Umip,
    Rdpid,
    Fsrm,
    LahfLong,
    Lzcnt,
    PrefetchW,
    Syscall,
    Nx,
    GigabytePages,
    Rdtscp,
    LongMode,
    InvariantTsc,
    Arat,
    Xsaveopt,
    Xsavec,
    TscAdjust,
    ArchCapabilities,
}

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u128);

/// A CPUID output register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// EAX.
    Eax = 0,
    /// EBX.
    Ebx = 1,
    /// ECX.
    Ecx = 2,
    /// EDX.
    Edx = 3,
}

/// Sub-leaf 1 of leaf 0xD, in the leaf column of [`PLACES`].
pub const XSAVE_EXTENSIONS: u32 = 0xD | 1 << 16;

/// Where a feature's bit lies: leaf (sub-leaf 0, or from bit 16), register, bit. Intel SDM 2A, CPUID.
const PLACES: &[(Feature, u32, Output, u8)] = {
    use Feature::*;
    use Output::*;
    &[
        (Fpu, 1, Edx, 0),
        (Vme, 1, Edx, 1),
        (De, 1, Edx, 2),
        (Pse, 1, Edx, 3),
        (Tsc, 1, Edx, 4),
        (Msr, 1, Edx, 5),
        (Pae, 1, Edx, 6),
        (Mce, 1, Edx, 7),
        (Cx8, 1, Edx, 8),
        (Apic, 1, Edx, 9),
        (Sep, 1, Edx, 11),
        (Mtrr, 1, Edx, 12),
        (Pge, 1, Edx, 13),
        (Mca, 1, Edx, 14),
        (Cmov, 1, Edx, 15),
        (Pat, 1, Edx, 16),
        (Pse36, 1, Edx, 17),
        (Clflush, 1, Edx, 19),
        (Mmx, 1, Edx, 23),
        (Fxsr, 1, Edx, 24),
        (Sse, 1, Edx, 25),
        (Sse2, 1, Edx, 26),
        (Sse3, 1, Ecx, 0),
        (Pclmul, 1, Ecx, 1),
        (Monitor, 1, Ecx, 3),
        (Ssse3, 1, Ecx, 9),
        (Fma, 1, Ecx, 12),
        (Cx16, 1, Ecx, 13),
        (Pcid, 1, Ecx, 17),
        (Sse41, 1, Ecx, 19),
        (Sse42, 1, Ecx, 20),
        (X2apic, 1, Ecx, 21),
        (Movbe, 1, Ecx, 22),
        (Popcnt, 1, Ecx, 23),
        (TscDeadline, 1, Ecx, 24),
        (Aes, 1, Ecx, 25),
        (Xsave, 1, Ecx, 26),
        (Avx, 1, Ecx, 28),
        (F16c, 1, Ecx, 29),
        (Rdrand, 1, Ecx, 30),
        (Hypervisor, 1, Ecx, 31),
        (Arat, 6, Eax, 2),
        (FsGsBase, 7, Ebx, 0),
        (TscAdjust, 7, Ebx, 1),
        (Bmi1, 7, Ebx, 3),
        (Avx2, 7, Ebx, 5),
        (Smep, 7, Ebx, 7),
        (Bmi2, 7, Ebx, 8),
        (Erms, 7, Ebx, 9),
        (Invpcid, 7, Ebx, 10),
        (Rdseed, 7, Ebx, 18),
        (Adx, 7, Ebx, 19),
        (Smap, 7, Ebx, 20),
        (ClflushOpt, 7, Ebx, 23),
        (Sha, 7, Ebx, 29),
        (Umip, 7, Ecx, 2),
        (Rdpid, 7, Ecx, 22),
        (Fsrm, 7, Edx, 4),
        (ArchCapabilities, 7, Edx, 29),
        (Xsaveopt, XSAVE_EXTENSIONS, Eax, 0),
        (Xsavec, XSAVE_EXTENSIONS, Eax, 1),
        (LahfLong, 0x8000_0001, Ecx, 0),
        (Lzcnt, 0x8000_0001, Ecx, 5),
        (PrefetchW, 0x8000_0001, Ecx, 8),
        (Syscall, 0x8000_0001, Edx, 11),
        (Nx, 0x8000_0001, Edx, 20),
        (GigabytePages, 0x8000_0001, Edx, 26),
        (Rdtscp, 0x8000_0001, Edx, 27),
        (LongMode, 0x8000_0001, Edx, 29),
        (InvariantTsc, 0x8000_0007, Edx, 8),
    ]
};

/// The feature whose bit lies there, if it is a known one.
pub fn at(leaf: u32, output: Output, bit: u8) -> Option<Feature> {
    PLACES.iter().find(|place| (place.1, place.2, place.3) == (leaf, output, bit)).map(|place| place.0)
}

/// What the software CPU does by itself.
pub const IMPLEMENTED: &[Feature] = {
    use Feature::*;
    &[
        De,
        Pse,
        Tsc,
        Msr,
        Pae,
        Mce,
        Cx8,
        Apic,
        Sep,
        Mtrr,
        Pge,
        Mca,
        Cmov,
        Pat,
        Pse36,
        Clflush,
        Cx16,
        X2apic,
        Hypervisor,
        Monitor,
        TscDeadline,
        Pcid,
        FsGsBase,
        Smep,
        Invpcid,
        Smap,
        ClflushOpt,
        Umip,
        Rdpid,
        LahfLong,
        PrefetchW,
        Syscall,
        Nx,
        GigabytePages,
        Rdtscp,
        LongMode,
        InvariantTsc,
        Arat,
        Erms,
        Fsrm,
        Rdrand,
        Rdseed,
        Popcnt,
        Movbe,
        Lzcnt,
        Bmi1,
        Bmi2,
        Adx,
        Xsaveopt,
        Xsavec,
        TscAdjust,
        ArchCapabilities,
    ]
};

/// What is executed by the host CPU through thunks: offered where the host has it too.
/// The one switch for them: an instruction group goes in here on the day its thunks work.
pub const THROUGH_HOST: &[Feature] = VECTOR;

/// All of [`THROUGH_HOST`] that can ever be there, for [`super::CpuModel`] masks and tests.
pub const VECTOR: &[Feature] = {
    use Feature::*;
    &[Fpu, Mmx, Fxsr, Sse, Sse2, Sse3, Pclmul, Ssse3, Fma, Sse41, Sse42, Aes, Xsave, Avx, F16c, Avx2, Sha]
};

impl Features {
    /// The features of a list.
    pub const fn of(list: &[Feature]) -> Features {
        let mut set = 0;
        let mut n = 0;
        while n < list.len() {
            set |= 1 << list[n] as u8;
            n += 1;
        }
        Features(set)
    }

    /// Whether a feature is in the set.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 >> feature as u8 & 1 != 0
    }

    /// Features in either.
    pub const fn union(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    /// Features in both.
    pub const fn intersection(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }

    /// The set without one feature.
    pub const fn without(self, feature: Feature) -> Features {
        Features(self.0 & !(1 << feature as u8))
    }

    /// The bits of one CPUID output register.
    pub fn word(self, leaf: u32, output: Output) -> u32 {
        PLACES
            .iter()
            .filter(|place| place.1 == leaf && place.2 == output && self.has(place.0))
            .fold(0, |word, place| word | 1 << place.3)
    }

    /// Reads a set back from CPUID leaves.
    pub fn from_leaves(mut leaf: impl FnMut(u32) -> [u32; 4]) -> Features {
        let mut set = 0;
        let mut last = (u32::MAX, [0; 4]);
        for &(feature, number, output, bit) in PLACES {
            if last.0 != number {
                last = (number, leaf(number));
            }
            if last.1[output as usize] >> bit & 1 != 0 {
                set |= 1 << feature as u8;
            }
        }
        Features(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_one_place_and_every_place_one_feature() {
        for (n, a) in PLACES.iter().enumerate() {
            for b in &PLACES[n + 1..] {
                assert!(a.0 != b.0 && (a.1, a.2 as u8, a.3) != (b.1, b.2 as u8, b.3), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_set_survives_its_leaves() {
        let set = Features::of(IMPLEMENTED).union(Features::of(VECTOR));
        let back = Features::from_leaves(|leaf| {
            [Output::Eax, Output::Ebx, Output::Ecx, Output::Edx].map(|output| set.word(leaf, output))
        });
        assert_eq!(back, set);
    }
}
