//! The forms of one mode, sorted by what cases want of them.

use std::collections::BTreeSet;

use iced_x86::{Code, CpuidFeature, FlowControl, Instruction, Mnemonic};

use super::case::Mode;
use super::forms::{Forms, Template};
use super::masks::read_by;
use super::random::Random;

/// What a case wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every form alike.
    Any,
    /// All that is not x87, MMX, SSE or AVX.
    Integer,
    /// x87, MMX, SSE, AVX.
    Vector,
    /// What code consists of.
    Hot,
    /// What looks at flags.
    Reader,
    /// String instructions.
    String,
    /// Control transfers, segment loads, the stack.
    Transfer,
}

/// Forms by [`Kind`].
pub struct Catalogue {
    /// The mode.
    pub mode: Mode,
    any: Vec<Entry>,
    integer: Vec<usize>,
    vector: Vec<usize>,
    hot: Vec<usize>,
    reader: Vec<usize>,
    string: Vec<usize>,
    transfer: Vec<usize>,
    /// Forms that the `host` model does not offer.
    pub absent: Vec<Entry>,
}

/// One form.
pub struct Entry {
    /// iced's name of it.
    pub code: Code,
    /// Ways to encode it.
    pub templates: Vec<Template>,
}

/// x87, MMX, SSE or AVX: needs their state loaded and compared.
pub fn is_vector(code: Code) -> bool {
    use CpuidFeature::*;
    code == Code::Wait
        || code.cpuid_features().iter().any(|feature| {
            matches!(
                feature,
                FPU | FPU287
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
                    | PCLMULQDQ
                    | SHA
                    | FXSR
            )
        })
}

fn is_hot(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(
        mnemonic,
        Add | Or
            | Adc
            | Sbb
            | And
            | Sub
            | Xor
            | Cmp
            | Test
            | Inc
            | Dec
            | Neg
            | Not
            | Shl
            | Shr
            | Sar
            | Rol
            | Ror
            | Mov
            | Movzx
            | Movsx
            | Movsxd
            | Lea
            | Push
            | Pop
            | Imul
            | Xchg
    )
}

fn is_transfer(code: Code) -> bool {
    use Mnemonic::*;
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    let name = format!("{code:?}");
    instruction.flow_control() != FlowControl::Next
        || name.contains("Sreg")
        || matches!(
            code.mnemonic(),
            Push | Pop
                | Pusha
                | Pushad
                | Popa
                | Popad
                | Pushf
                | Pushfd
                | Pushfq
                | Popf
                | Popfd
                | Popfq
                | Enter
                | Leave
                | Lds
                | Les
                | Lfs
                | Lgs
                | Lss
                | Lar
                | Lsl
                | Verr
                | Verw
                | Arpl
                | Bound
        )
}

fn entries(map: std::collections::BTreeMap<u16, Vec<Template>>) -> Vec<Entry> {
    let all = Code::values().collect::<Vec<_>>();
    map.into_iter().map(|(code, templates)| Entry { code: all[usize::from(code)], templates }).collect()
}

impl Catalogue {
    /// Of a mode.
    pub fn new(mode: Mode) -> Catalogue {
        let forms = Forms::of(mode);
        let any = entries(forms.offered);
        let choose = |wanted: &dyn Fn(Code) -> bool| -> Vec<usize> {
            (0..any.len()).filter(|&n| wanted(any[n].code)).collect()
        };
        let reads = |code| {
            let mut instruction = Instruction::default();
            instruction.set_code(code);
            read_by(&instruction) != 0
        };
        let strings = |code| {
            let mut instruction = Instruction::default();
            instruction.set_code(code);
            instruction.is_string_instruction()
        };
        Catalogue {
            mode,
            integer: choose(&|code| !is_vector(code)),
            vector: choose(&is_vector),
            hot: choose(&|code| is_hot(code.mnemonic())),
            reader: choose(&|code| reads(code) && !is_vector(code)),
            string: choose(&strings),
            transfer: choose(&is_transfer),
            absent: entries(forms.absent),
            any,
        }
    }

    /// One form of a kind, and one way to encode it.
    pub fn choose(&self, kind: Kind, random: &mut Random) -> (Code, Template) {
        let list = match kind {
            Kind::Any => return self.any[random.below(self.any.len() as u64) as usize].choose(random),
            Kind::Integer => &self.integer,
            Kind::Vector => &self.vector,
            Kind::Hot => &self.hot,
            Kind::Reader => &self.reader,
            Kind::String => &self.string,
            Kind::Transfer => &self.transfer,
        };
        self.any[random.pick(list)].choose(random)
    }

    /// Every form offered.
    pub fn codes(&self) -> BTreeSet<u16> {
        self.any.iter().map(|entry| entry.code as u16).collect()
    }
}

impl Entry {
    /// One way to encode it.
    pub fn choose(&self, random: &mut Random) -> (Code, Template) {
        (self.code, random.pick(&self.templates))
    }
}
