//! What has to be known about a vector or x87 instruction besides its stub: which class of checks it belongs
//! to, which feature it needs, how large and how aligned its memory operand is.

use iced_x86::{CpuidFeature, EncodingKind, Instruction, Mnemonic, OpKind, Register};

use crate::soft::fault::Fault;
use crate::soft::model::Feature;
use crate::soft::state::mode;

/// The rules for #UD and #NM. Intel SDM 3A, tables 2-1 to 2-3 and 14-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// x87 arithmetic and control.
    X87,
    /// MMX registers.
    Mmx,
    /// XMM registers, legacy encoding.
    Sse,
    /// VEX encoding.
    Avx,
    /// VEX encoding, general registers only.
    VexGeneral,
    /// General registers, legacy encoding (CRC32, MOVNTI).
    General,
}

impl Class {
    /// Mode bits to look at.
    pub const fn care(self) -> u32 {
        match self {
            Class::X87 | Class::Mmx => mode::EMULATE_FPU | mode::TASK_SWITCHED,
            Class::Sse => mode::SSE | mode::TASK_SWITCHED,
            Class::Avx => mode::AVX | mode::TASK_SWITCHED,
            Class::VexGeneral => mode::REAL | mode::VIRTUAL_8086,
            Class::General => 0,
        }
    }

    /// What they must be.
    pub const fn want(self) -> u32 {
        match self {
            Class::Sse => mode::SSE,
            Class::Avx => mode::AVX,
            _ => 0,
        }
    }

    /// The fault if they are not.
    pub const fn refusal(self, now: u32) -> Fault {
        let undefined = match self {
            Class::X87 => false,
            Class::Mmx => now & mode::EMULATE_FPU != 0,
            Class::Sse => now & mode::SSE == 0,
            Class::Avx => now & mode::AVX == 0,
            Class::VexGeneral | Class::General => true,
        };
        if undefined { Fault::invalid_opcode() } else { Fault::device_not_available() }
    }

    /// The class of an instruction.
    pub fn of(instruction: &Instruction) -> Class {
        use Mnemonic as M;
        let features = instruction.cpuid_features();
        if features.iter().any(|&f| is_x87(f)) || instruction.mnemonic() == M::Wait {
            return Class::X87;
        }
        if instruction.encoding() == EncodingKind::VEX {
            let general = |f: &CpuidFeature| matches!(f, CpuidFeature::BMI1 | CpuidFeature::BMI2);
            return if features.iter().all(general) { Class::VexGeneral } else { Class::Avx };
        }
        let uses_mm = (0..instruction.op_count())
            .any(|n| instruction.op_kind(n) == OpKind::Register && instruction.op_register(n).is_mm());
        match instruction.mnemonic() {
            M::Movnti | M::Crc32 | M::Lzcnt | M::Tzcnt | M::Adcx | M::Adox => Class::General,
            M::Cvtpi2ps | M::Cvtpi2pd | M::Cvtps2pi | M::Cvtpd2pi | M::Cvttps2pi | M::Cvttpd2pi => Class::Sse,
            M::Movq2dq | M::Movdq2q => Class::Sse,
            M::Emms => Class::Mmx,
            _ if uses_mm => Class::Mmx,
            _ => Class::Sse,
        }
    }
}

fn is_x87(feature: CpuidFeature) -> bool {
    matches!(feature, CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387)
}

/// The model feature behind one of iced's; `None` if it is not known here, and so never offered.
pub fn feature(feature: CpuidFeature) -> Option<Feature> {
    use CpuidFeature as C;
    Some(match feature {
        C::FPU | C::FPU287 | C::FPU387 => Feature::Fpu,
        C::CMOV => Feature::Cmov,
        C::MMX => Feature::Mmx,
        C::FXSR => Feature::Fxsr,
        C::SSE => Feature::Sse,
        C::SSE2 => Feature::Sse2,
        C::SSE3 => Feature::Sse3,
        C::SSSE3 => Feature::Ssse3,
        C::SSE4_1 => Feature::Sse41,
        C::SSE4_2 => Feature::Sse42,
        C::PCLMULQDQ => Feature::Pclmul,
        C::AES => Feature::Aes,
        C::SHA => Feature::Sha,
        C::XSAVE => Feature::Xsave,
        C::AVX => Feature::Avx,
        C::AVX2 => Feature::Avx2,
        C::FMA => Feature::Fma,
        C::F16C => Feature::F16c,
        C::BMI1 => Feature::Bmi1,
        C::BMI2 => Feature::Bmi2,
        C::ADX => Feature::Adx,
        C::LZCNT => Feature::Lzcnt,
        _ => return None,
    })
}

/// Whether x87 or MMX registers must be in the host's for the instruction.
pub fn needs_x87(instruction: &Instruction, class: Class) -> bool {
    use Mnemonic as M;
    matches!(class, Class::X87 | Class::Mmx)
        || matches!(
            instruction.mnemonic(),
            M::Cvtpi2ps
                | M::Cvtpi2pd
                | M::Cvtps2pi
                | M::Cvtpd2pi
                | M::Cvttps2pi
                | M::Cvttpd2pi
                | M::Movq2dq
                | M::Movdq2q
        )
}

/// x87 instructions that leave the last instruction's pointers and opcode alone.
pub fn is_x87_control(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        instruction.mnemonic(),
        M::Fninit | M::Fnclex | M::Fldcw | M::Fnstcw | M::Fnstsw | M::Fneni | M::Fndisi | M::Fnsetpm
    )
}

/// Whether MXCSR is read or written: everything on XMM registers but moves, logic and integers.
pub fn is_numeric(instruction: &Instruction, class: Class) -> bool {
    if !matches!(class, Class::Sse | Class::Avx) {
        return false;
    }
    let name = format!("{:?}", instruction.mnemonic());
    let name = match name.strip_prefix('V') {
        Some(rest) if class == Class::Avx => rest.to_ascii_lowercase(),
        _ => name.to_ascii_lowercase(),
    };
    const PLAIN: &[&str] = &[
        "p",
        "mov",
        "and",
        "or",
        "xor",
        "unpck",
        "shuf",
        "blend",
        "insert",
        "extract",
        "aes",
        "sha",
        "broadcast",
        "lddqu",
        "mpsadbw",
        "test",
        "zero",
    ];
    !PLAIN.iter().any(|plain| name.starts_with(plain))
}

/// Required alignment of the memory operand in bytes; 1 if there is none. Intel SDM 2A, 2.4: legacy 16-byte
/// operands but for the unaligned moves and string compares, VEX only for the aligned moves.
pub fn alignment(instruction: &Instruction, class: Class, bytes: usize) -> usize {
    use Mnemonic as M;
    let aligned = match class {
        Class::Sse => {
            bytes == 16
                && !matches!(
                    instruction.mnemonic(),
                    M::Movups
                        | M::Movupd
                        | M::Movdqu
                        | M::Lddqu
                        | M::Pcmpestri
                        | M::Pcmpestrm
                        | M::Pcmpistri
                        | M::Pcmpistrm
                        | M::Pcmpestri64
                        | M::Pcmpestrm64
                )
        }
        Class::Avx => matches!(
            instruction.mnemonic(),
            M::Vmovaps | M::Vmovapd | M::Vmovdqa | M::Vmovntps | M::Vmovntpd | M::Vmovntdq | M::Vmovntdqa
        ),
        _ => false,
    };
    if aligned && bytes != 0 { bytes } else { 1 }
}

/// The last eleven bits of an x87 opcode, as FNSTENV shows them.
pub fn x87_opcode(instruction: &Instruction) -> u16 {
    let bitness = match instruction.code_size() {
        iced_x86::CodeSize::Code16 => 16,
        iced_x86::CodeSize::Code32 => 32,
        _ => 64,
    };
    let mut encoder = iced_x86::Encoder::new(bitness);
    if encoder.encode(instruction, instruction.ip()).is_err() {
        return 0;
    }
    let code = encoder.take_buffer();
    let escape = code.iter().position(|byte| byte & 0xF8 == 0xD8);
    match escape.map(|at| (code[at], code.get(at + 1))) {
        Some((escape, Some(&second))) => u16::from(escape & 7) << 8 | u16::from(second),
        _ => 0,
    }
}

/// Whether a register is one of AH, CH, DH, BH.
pub fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}
