//! Every instruction form there is in a mode: the whole opcode space decoded once, templates kept by iced's code.

use std::collections::BTreeMap;

use cpu::soft::model::{CpuModel, Feature};
use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions, Instruction};

use super::case::Mode;

/// How an instruction is encoded, but for the parts that are free.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// 66, F2, F3, or 0 for none.
    pub prefix: u8,
    /// REX.W or VEX.W.
    pub wide: bool,
    /// 0: one byte; 1: 0F; 2: 0F 38; 3: 0F 3A.
    pub map: u8,
    /// Opcode byte.
    pub opcode: u8,
    /// With a VEX prefix, and VEX.L.
    pub vex: Option<bool>,
    /// The ModRM byte, whose reg field (and for registers rm field) the form may depend on.
    pub modrm: Option<u8>,
}

/// Forms of one mode.
pub struct Forms {
    /// The mode.
    pub mode: Mode,
    /// Templates by code: those the software CPU's `host` model offers.
    pub offered: BTreeMap<u16, Vec<Template>>,
    /// The others.
    pub absent: BTreeMap<u16, Vec<Template>>,
}

const PREFIXES: [u8; 4] = [0, 0x66, 0xF3, 0xF2];

/// Whether a ModRM byte follows the opcode (SDM 2D, opcode maps).
fn has_modrm(map: u8, opcode: u8) -> bool {
    match (map, opcode) {
        (0, 0x00..=0x3F) => opcode & 7 < 4,
        (0, _) => matches!(
            opcode,
            0x62 | 0x63 | 0x69 | 0x6B | 0x80..=0x8F | 0xC0 | 0xC1 | 0xC4..=0xC7 | 0xD0..=0xD3 | 0xD8..=0xDF
                | 0xF6 | 0xF7 | 0xFE | 0xFF
        ),
        (1, _) => !matches!(
            opcode,
            0x04..=0x0B | 0x0E | 0x30..=0x37 | 0x77 | 0x80..=0x8F | 0xA0..=0xA2 | 0xA8..=0xAA | 0xC8..=0xCF
        ),
        _ => true,
    }
}

impl Template {
    /// The bytes up to and with the ModRM byte; `rex` (R, X, B) and `vvvv` where there is room for them.
    pub fn head(&self, mode: Mode, rex: u8, vvvv: u8, modrm: u8) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        if let Some(long) = self.vex {
            let pp = [0, 0x66, 0xF3, 0xF2].iter().position(|&prefix| prefix == self.prefix).unwrap_or(0);
            let inverted = if mode == Mode::Bits64 { !rex << 5 & 0xE0 } else { 0xE0 };
            let vvvv = if mode == Mode::Bits64 { vvvv } else { vvvv & 7 };
            bytes.extend([0xC4, inverted | self.map]);
            bytes.push(u8::from(self.wide) << 7 | (!vvvv & 15) << 3 | u8::from(long) << 2 | pp as u8);
        } else {
            if self.prefix != 0 {
                bytes.push(self.prefix);
            }
            if mode == Mode::Bits64 && (self.wide || rex != 0) {
                bytes.push(0x40 | u8::from(self.wide) << 3 | rex & 7);
            }
            bytes.extend_from_slice(match self.map {
                0 => &[],
                1 => &[0x0F],
                2 => &[0x0F, 0x38],
                _ => &[0x0F, 0x3A],
            });
        }
        bytes.push(self.opcode);
        if self.modrm.is_some() {
            bytes.push(modrm);
        }
        bytes
    }

    /// Whether the operand in rm is memory.
    pub fn is_memory(&self) -> bool {
        self.modrm.is_some_and(|modrm| modrm < 0xC0)
    }
}

/// Decodes the first instruction.
pub fn decode(mode: Mode, bytes: &[u8], ip: u64) -> Instruction {
    Decoder::with_ip(mode.bits(), bytes, ip, DecoderOptions::NONE).decode()
}

/// Whether the `host` model offers all an instruction needs, given a host that has it.
pub fn is_offered(code: Code) -> bool {
    use CpuidFeature::*;
    let model = CpuModel::Host.features();
    code.cpuid_features().iter().all(|feature| match feature {
        INVPCID => model.has(Feature::Invpcid),
        MONITOR => model.has(Feature::Monitor),
        _ => matches!(
            feature,
            INTEL8086
                | INTEL8086_ONLY
                | INTEL186
                | INTEL286
                | INTEL386
                | INTEL486
                | X64
                | CPUID
                | CX8
                | CMOV
                | CMPXCHG16B
                | FPU
                | FPU287
                | FPU387
                | MMX
                | SSE
                | SSE2
                | SSE3
                | SSSE3
                | SSE4_1
                | SSE4_2
                | AES
                | AVX
                | AVX2
                | F16C
                | FMA
                | BMI1
                | BMI2
                | ADX
                | MOVBE
                | POPCNT
                | LZCNT
                | PCLMULQDQ
                | SHA
                | FXSR
                | XSAVE
                | XSAVEOPT
                | XSAVEC
                | FSGSBASE
                | MULTIBYTENOP
                | CLFSH
                | CLFLUSHOPT
                | PREFETCHW
                | PAUSE
                | SYSCALL
                | SEP
                | MSR
                | TSC
                | RDTSCP
                | RDPID
                | RDRAND
                | RDSEED
                | SMAP
                | INTEL286_ONLY
                | RDPMC
                | WBNOINVD
        ),
    }) && !is_other_makers(code)
}

/// Forms only some makers' processors have, or that mean something else on others (SDM 2, APM 3): not offered
/// one way or the other, and not compared. Nor are hypercalls, which the host's own hypervisor would take.
fn is_other_makers(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        Lfs_r64_m1664
            | Lgs_r64_m1664
            | Lss_r64_m1664
            | Call_m1664
            | Jmp_m1664
            | Retfq
            | Retfq_imm16
            | Reservednop_rm16_r16_0F0D
            | Reservednop_rm32_r32_0F0D
            | Reservednop_rm64_r64_0F0D
            | Vmcall
            | Vmmcall
            | Ud0
            | Ud0_r16_rm16
            | Ud0_r32_rm32
            | Ud0_r64_rm64
    )
}

/// Hints in the reserved-NOP space do nothing on a processor without them (SDM 2B, NOP).
fn is_hint(template: &Template) -> bool {
    template.map == 1 && template.vex.is_none() && matches!(template.opcode, 0x0D | 0x18..=0x1F)
}

impl Forms {
    /// Walks through the opcode space.
    pub fn of(mode: Mode) -> Forms {
        let mut forms = Forms { mode, offered: BTreeMap::new(), absent: BTreeMap::new() };
        let legacy = (0..4u8).flat_map(|map| (0..=255u8).map(move |opcode| (map, opcode, None)));
        let vex = (1..4u8).flat_map(|map| {
            (0..=255u8).flat_map(move |opcode| [false, true].map(|long| (map, opcode, Some(long))))
        });
        for (map, opcode, vex) in legacy.chain(vex) {
            for prefix in PREFIXES {
                for wide in [false, true] {
                    if wide && vex.is_none() && mode != Mode::Bits64 {
                        continue;
                    }
                    forms.add(Template { prefix, wide, map, opcode, vex, modrm: None });
                }
            }
        }
        forms
    }

    fn add(&mut self, template: Template) {
        let has_modrm = match template.vex {
            Some(_) => !(template.map == 1 && template.opcode == 0x77),
            None => has_modrm(template.map, template.opcode),
        };
        if !has_modrm {
            return self.add_one(template);
        }
        for reg in 0..8u8 {
            self.add_one(Template { modrm: Some(reg << 3), ..template });
            for rm in 0..8u8 {
                self.add_one(Template { modrm: Some(0xC0 | reg << 3 | rm), ..template });
            }
        }
    }

    fn add_one(&mut self, template: Template) {
        for vvvv in [0, 1] {
            let mut bytes = template.head(self.mode, 0, vvvv, template.modrm.unwrap_or(0));
            let opcode_at = bytes.len() - 1 - usize::from(template.modrm.is_some());
            bytes.extend([0; 10]);
            let instruction = decode(self.mode, &bytes, 0);
            let is_prefix = instruction.len() <= opcode_at;
            if instruction.is_invalid() || is_prefix || is_other_makers(instruction.code()) {
                continue;
            }
            let code = instruction.code();
            let list = match (is_offered(code), is_hint(&template)) {
                (true, _) => &mut self.offered,
                (false, true) => continue,
                (false, false) => &mut self.absent,
            };
            list.entry(code as u16).or_default().push(template);
            return;
        }
    }
}
