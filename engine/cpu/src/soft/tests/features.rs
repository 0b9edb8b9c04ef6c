//! Each processor model raises #UD for exactly the instructions it lacks: every form iced can decode is run once
//! on every model, and asked of iced which CPUID features it came with.

use std::collections::BTreeMap;

use iced_x86::{
    CodeSize, CpuidFeature, Decoder, DecoderOptions, EncodingKind, Instruction, Mnemonic, OpKind,
};

use super::machine::{self, IDT};
use crate::registers::{Registers, segment};
use crate::soft::model::{CpuModel, Feature, Model};
use crate::soft::state::Cpu;
use crate::soft::testing::TestBus;
use crate::soft::walk::bits::*;

/// Where the instruction is.
const CODE: u64 = 0x500;
/// What all registers point to.
const DATA: u64 = 0xA000;
/// Handlers of the exceptions, 16 bytes apart.
const HANDLERS: u64 = 0x9000;

/// Samples of every code: its bytes, with memory and with register operands.
type Samples = BTreeMap<(String, bool), Vec<u8>>;

fn bodies() -> impl Iterator<Item = Vec<u8>> {
    let legacy = [None, Some(0x66), Some(0xF3), Some(0xF2), Some(0x67)].into_iter().flat_map(|prefix| {
        [None, Some(0x48)].into_iter().flat_map(move |rex: Option<u8>| {
            [&[][..], &[0x0F], &[0x0F, 0x38], &[0x0F, 0x3A]].into_iter().flat_map(move |map| {
                (0..=255u8).flat_map(move |opcode| {
                    (0..=255u8).filter(|modrm| modrm >> 6 == 3 || modrm & 0xC7 == 3).map(move |modrm| {
                        let prefixes = prefix.into_iter().chain(rex);
                        prefixes.chain(map.iter().copied()).chain([opcode, modrm]).collect()
                    })
                })
            })
        })
    });
    let vex = [0xC4, 0x8F].into_iter().flat_map(|lead| {
        let maps = if lead == 0xC4 { 1..=3u8 } else { 8..=10 };
        maps.flat_map(move |map| {
            (0..16u8).flat_map(move |variant| {
                (0..=255u8).flat_map(move |opcode| {
                    // registers that are all different, vector index registers, and no second source
                    [(0x53, 0), (0xD3, 0), (0x54, 0x0B), (0x53, 0x78), (0xD3, 0x78), (0xDB, 0x78)].map(
                        move |(modrm, vvvv): (u8, u8)| {
                            let inverted = if vvvv == 0x78 { 0x78 } else { 0x60 };
                            let third = variant & 7 | variant >> 3 << 7 | inverted;
                            let index = if vvvv == 0x0B { vec![0x2B] } else { vec![] };
                            [vec![lead, 0xE0 | map, third, opcode, modrm], index].concat()
                        },
                    )
                })
            })
        })
    });
    legacy.chain(vex)
}

fn samples(bitness: u32) -> Samples {
    let mut found = Samples::new();
    for mut bytes in bodies() {
        bytes.extend([0; 10]);
        let instruction = Decoder::new(bitness, &bytes, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            continue;
        }
        bytes.truncate(instruction.len());
        let memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
        found.entry((format!("{:?}", instruction.code()), memory)).or_insert(bytes);
    }
    found
}

enum Expected {
    Always,
    With(&'static [Feature]),
    Never,
}

/// What one of iced's features asks of the model.
fn asked(feature: CpuidFeature) -> Expected {
    use CpuidFeature as C;
    use Expected::{Always, Never, With};
    macro_rules! with {
        ($feature:ident) => {
            With(&[Feature::$feature])
        };
    }
    match feature {
        C::INTEL8086 | C::INTEL186 | C::INTEL286 | C::INTEL386 | C::INTEL486 | C::CPUID | C::PAUSE => Always,
        C::FPU | C::FPU287 | C::FPU387 => with!(Fpu),
        C::X64 => with!(LongMode),
        C::TSC => with!(Tsc),
        C::MSR => with!(Msr),
        C::CX8 => with!(Cx8),
        C::SEP => with!(Sep),
        C::CMOV => with!(Cmov),
        C::CLFSH => with!(Clflush),
        C::MMX => with!(Mmx),
        C::FXSR => with!(Fxsr),
        C::SSE => with!(Sse),
        C::SSE2 => with!(Sse2),
        C::SSE3 => with!(Sse3),
        C::SSSE3 => with!(Ssse3),
        C::SSE4_1 => with!(Sse41),
        C::SSE4_2 => with!(Sse42),
        C::PCLMULQDQ => with!(Pclmul),
        C::AES => with!(Aes),
        C::SHA => with!(Sha),
        C::MONITOR => with!(Monitor),
        C::CMPXCHG16B => with!(Cx16),
        C::MOVBE => with!(Movbe),
        C::POPCNT => with!(Popcnt),
        C::XSAVE => with!(Xsave),
        C::XSAVEOPT => with!(Xsaveopt),
        C::XSAVEC => with!(Xsavec),
        C::AVX => with!(Avx),
        C::AVX2 => with!(Avx2),
        C::FMA => with!(Fma),
        C::F16C => with!(F16c),
        C::RDRAND => with!(Rdrand),
        C::RDSEED => with!(Rdseed),
        C::FSGSBASE => with!(FsGsBase),
        C::BMI1 => with!(Bmi1),
        C::BMI2 => with!(Bmi2),
        C::ADX => with!(Adx),
        C::INVPCID => with!(Invpcid),
        C::SMAP => with!(Smap),
        C::CLFLUSHOPT => with!(ClflushOpt),
        C::RDPID => with!(Rdpid),
        C::RDTSCP => with!(Rdtscp),
        C::LZCNT => with!(Lzcnt),
        C::SYSCALL => with!(Syscall),
        // The hypercalls of a paravirtual guest; nested virtualization there is none.
        C::VMX | C::SVM => with!(Hypervisor),
        _ => Never,
    }
}

/// The same of an instruction, with what its features do not tell.
fn is_offered(instruction: &Instruction, model: &Model) -> bool {
    let family_6 = model.kind() != CpuModel::I486;
    match instruction.mnemonic() {
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => return false,
        // No system management mode.
        Mnemonic::Rsm => return false,
        // BSR and BSF to those who do not know the prefix.
        Mnemonic::Lzcnt | Mnemonic::Tzcnt => return true,
        // Hints in what family 6 reserved for them: no operation where they are not known.
        Mnemonic::Nop if instruction.op_count() > 0 => return family_6,
        Mnemonic::Reservednop | Mnemonic::Endbr32 | Mnemonic::Endbr64 | Mnemonic::Cldemote => {
            return family_6;
        }
        Mnemonic::Rdsspd | Mnemonic::Rdsspq => return family_6,
        Mnemonic::Prefetchnta | Mnemonic::Prefetcht0 | Mnemonic::Prefetcht1 | Mnemonic::Prefetcht2 => {
            return family_6;
        }
        Mnemonic::Prefetch | Mnemonic::Prefetchw | Mnemonic::Prefetchwt1 => {
            return model.offers(Feature::PrefetchW);
        }
        // An Intel processor has them in 64-bit mode only.
        Mnemonic::Syscall | Mnemonic::Sysret | Mnemonic::Sysretq
            if instruction.code_size() != CodeSize::Code64 =>
        {
            return false;
        }
        // WBINVD to those who do not know the prefix.
        Mnemonic::Wbnoinvd => return true,
        Mnemonic::Rdpmc => return family_6,
        Mnemonic::Vmcall | Mnemonic::Vmmcall => return model.offers(Feature::Hypervisor),
        _ if matches!(instruction.encoding(), EncodingKind::EVEX | EncodingKind::XOP) => return false,
        _ => {}
    }
    let features = instruction.cpuid_features();
    let nested = features.iter().any(|f| matches!(f, CpuidFeature::VMX | CpuidFeature::SVM));
    !nested
        && features.iter().all(|&feature| match asked(feature) {
            Expected::Always => true,
            Expected::With(all) => all.iter().all(|&feature| model.offers(feature)),
            Expected::Never => false,
        })
}

fn ready(long: bool, kind: CpuModel) -> (Box<Cpu>, TestBus, Registers) {
    let (mut cpu, bus) = if long { machine::long() } else { machine::protected() };
    cpu.model = Model::new(kind, 0, 1, 1_000_000_000);
    let code = if long { machine::LONG_0 } else { machine::CODE_0 };
    for vector in 0..32u64 {
        let gate = machine::gate(code, (HANDLERS + 16 * vector) as u32, 0x8E, 0);
        bus.put64(IDT + vector * if long { 16 } else { 8 }, gate);
    }
    cpu.cr4 |= cpu.cr4_mask() & (CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE);
    cpu.cr0 |= CR0_NE;
    cpu.xcr0 = cpu.model.xcr0_mask();
    cpu.general = [DATA; 16];
    cpu.general[4] = 0x7000;
    cpu.rip = CODE;
    cpu.update_mode();
    assert_eq!(cpu.segments[segment::CS].selector, code);
    let registers = cpu.registers();
    (cpu, bus, registers)
}

fn check(long: bool, kind: CpuModel, samples: &Samples, wrong: &mut Vec<String>) {
    let (mut cpu, bus, start) = ready(long, kind);
    for bytes in samples.values() {
        let instruction =
            Decoder::with_ip(if long { 64 } else { 32 }, bytes, CODE, DecoderOptions::NONE).decode();
        bus.put(CODE, bytes);
        cpu.set_registers(&start);
        cpu.with_bus(&bus, |cpu| cpu.execute(1));
        let undefined = cpu.rip == HANDLERS + 16 * 6;
        if undefined == is_offered(&instruction, &cpu.model) {
            let what = if undefined { "raises #UD" } else { "raises no #UD" };
            wrong.push(format!(
                "{kind}, {} bits: {instruction} ({:?}, {bytes:02X?}) {what}",
                if long { 64 } else { 32 },
                instruction.code()
            ));
        }
    }
}

#[test]
fn each_model_raises_ud_for_exactly_what_it_lacks() {
    let mut wrong = Vec::new();
    let (narrow, wide) = (samples(32), samples(64));
    assert!(narrow.len() > 2000 && wide.len() > 2000, "{} {}", narrow.len(), wide.len());
    for kind in CpuModel::ALL {
        check(false, kind, &narrow, &mut wrong);
        if Model::new(kind, 0, 1, 1).offers(Feature::LongMode) {
            check(true, kind, &wide, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
