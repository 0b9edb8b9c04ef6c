//! Faults an instruction can end with, and what a cold instruction tells the core afterwards.

use iced_x86::Instruction;

use super::state::Cpu;

/// An exception raised by the instruction that is being executed. For page faults CR2 is already set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Vector.
    pub vector: u8,
    /// Error code, if it has one.
    pub error_code: Option<u32>,
}

/// The result of anything that may fault.
pub type Fallible<T> = Result<T, Fault>;

impl Fault {
    const fn plain(vector: u8) -> Fault {
        Fault { vector, error_code: None }
    }

    const fn coded(vector: u8, error_code: u32) -> Fault {
        Fault { vector, error_code: Some(error_code) }
    }

    /// #DE.
    pub const fn divide_error() -> Fault {
        Fault::plain(0)
    }

    /// #DB; DR6 is already set.
    pub const fn debug() -> Fault {
        Fault::plain(1)
    }

    /// #BR.
    pub const fn bound_range() -> Fault {
        Fault::plain(5)
    }

    /// #UD.
    pub const fn invalid_opcode() -> Fault {
        Fault::plain(6)
    }

    /// #NM.
    pub const fn device_not_available() -> Fault {
        Fault::plain(7)
    }

    /// #TS.
    pub const fn invalid_tss(error_code: u32) -> Fault {
        Fault::coded(10, error_code)
    }

    /// #NP.
    pub const fn segment_not_present(error_code: u32) -> Fault {
        Fault::coded(11, error_code)
    }

    /// #SS.
    pub const fn stack(error_code: u32) -> Fault {
        Fault::coded(12, error_code)
    }

    /// #GP.
    pub const fn general_protection(error_code: u32) -> Fault {
        Fault::coded(13, error_code)
    }

    /// #PF; CR2 is already set.
    pub const fn page_fault(error_code: u32) -> Fault {
        Fault::coded(14, error_code)
    }

    /// #MF.
    pub const fn floating_point() -> Fault {
        Fault::plain(16)
    }

    /// #AC.
    pub const fn alignment_check() -> Fault {
        Fault::coded(17, 0)
    }

    /// #XM.
    pub const fn simd() -> Fault {
        Fault::plain(19)
    }

    /// No exception, and never delivered: the dispatcher is to run this instruction alone, where the number of
    /// steps before it is known (see [`Cpu::count_exactly`]). Nothing raises interrupt vectors as faults.
    pub const fn uncounted() -> Fault {
        Fault::plain(0xFF)
    }
}

/// How the core goes on after a cold instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With the next instruction; nothing a decoded block depends on has changed.
    Next,
    /// From `rip`, by way of the dispatcher: rip, the mode, a translation, IF, TF, the interrupt shadow or
    /// breakpoints may have changed, or a device was touched.
    Jumped,
    /// From `rip`, which is the instruction's own: a repetition that is not over yet. It counts when it is.
    Again,
    /// From `rip` when something wakes the vCPU (HLT, MWAIT).
    Halt,
}

/// An instruction outside the hot core. On entry `rip` is the next instruction's offset; on `Err` the core
/// sets it back to the instruction's own and delivers the fault. RSP is restored by the handler itself if
/// it had changed it.
pub type ColdHandler = fn(&mut Cpu, &Instruction) -> Fallible<Flow>;
