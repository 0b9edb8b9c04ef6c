//! x87, MMX, SSE, AVX, AVX2, FMA, F16C, AES, SHA, PCLMULQDQ, and what BMI, ADX and LZCNT the integer core leaves:
//! executed by the host's own CPU through generated stubs (`thunk.rs`), so that results, flags and exceptions
//! are the silicon's. State instructions, masked moves and gathers, which touch memory piecewise, are written out.
//!
//! Left out on purpose: AVX-512, 3DNow!, XOP, XSAVES; #MF is looked for after the memory operand was read, not
//! before; IGNNE#.

mod code;
mod environment;
mod execute;
mod form;
mod frame;
mod hot;
mod masked;
mod save;
mod signal;
mod thunk;
mod x87;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use iced_x86::{Code, CpuidFeature, EncodingKind, Instruction, Mnemonic};

use crate::soft::fault::ColdHandler;
use crate::soft::model::Features;

use code::CodeMemory;
use frame::Frame;

pub use execute::execute;
pub use hot::first;
pub use thunk::Form;

/// One vCPU's stubs, and what belongs to vector state beside the XSAVE area.
pub struct Vector {
    frame: Frame,
    forms: HashMap<Instruction, Form>,
    /// Made on first use; `Some(None)` if the host gives none.
    memory: Option<Option<CodeMemory>>,
    /// What the forms were checked against.
    features: Features,
    /// Forms and stubs are to be dropped with the blocks.
    stale: bool,
    /// The guest's x87 state is in the host's x87 registers, of this thread.
    live: bool,
    /// Selectors of the last x87 instruction and its data.
    selectors: [u16; 2],
}

impl Vector {
    /// No stubs yet.
    pub fn new() -> Vector {
        Vector {
            frame: Frame::new(),
            forms: HashMap::new(),
            memory: None,
            features: Features::default(),
            stale: false,
            live: false,
            selectors: [0; 2],
        }
    }
}

impl Default for Vector {
    fn default() -> Vector {
        Vector::new()
    }
}

/// The cold handler of a vector, MMX or x87 instruction; `None` for what is nobody's here.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    written_out(instruction).or_else(|| has_stub(instruction).then_some(execute as ColdHandler))
}

/// Whether a stub executes the instruction, so that [`first`] can; nobody else claims it.
pub fn has_stub(instruction: &Instruction) -> bool {
    !instruction.is_vsib() && is_ours(instruction)
}

/// The cold handler of an instruction that no stub executes.
pub fn written_out(instruction: &Instruction) -> Option<ColdHandler> {
    use Mnemonic as M;
    if !matches!(instruction.encoding(), EncodingKind::Legacy | EncodingKind::VEX) {
        return None;
    }
    Some(match instruction.mnemonic() {
        M::Fninit => x87::fninit,
        M::Fnstenv => environment::fnstenv,
        M::Fnsave => environment::fnsave,
        M::Fldenv => environment::fldenv,
        M::Frstor => environment::frstor,
        M::Fxsave | M::Fxsave64 => save::fxsave,
        M::Fxrstor | M::Fxrstor64 => save::fxrstor,
        M::Xsave | M::Xsave64 => save::xsave,
        M::Xsaveopt | M::Xsaveopt64 => save::xsaveopt,
        M::Xsavec | M::Xsavec64 => save::xsavec,
        M::Xrstor | M::Xrstor64 => save::xrstor,
        M::Ldmxcsr | M::Vldmxcsr => save::ldmxcsr,
        M::Stmxcsr | M::Vstmxcsr => save::stmxcsr,
        M::Vzeroupper => masked::vzeroupper,
        M::Vzeroall => masked::vzeroall,
        M::Maskmovdqu | M::Vmaskmovdqu => masked::maskmovdqu,
        M::Maskmovq => masked::maskmovq,
        M::Vmaskmovps | M::Vmaskmovpd | M::Vpmaskmovd | M::Vpmaskmovq => masked::vmaskmov,
        M::Vgatherdps | M::Vgatherdpd | M::Vgatherqps | M::Vgatherqpd => masked::gather,
        M::Vpgatherdd | M::Vpgatherdq | M::Vpgatherqd | M::Vpgatherqq => masked::gather,
        M::Wait => execute::wait,
        _ => return None,
    })
}

/// Whether all features the instruction belongs to are known here.
fn is_ours(instruction: &Instruction) -> bool {
    let features = instruction.cpuid_features();
    let system = |f: &CpuidFeature| matches!(f, CpuidFeature::XSAVE | CpuidFeature::FXSR);
    instruction.code() != Code::INVALID
        && matches!(instruction.encoding(), EncodingKind::Legacy | EncodingKind::VEX)
        && !features.is_empty()
        && features != [CpuidFeature::CMOV]
        && features.iter().all(|f| form::feature(*f).is_some() && !system(f))
}
