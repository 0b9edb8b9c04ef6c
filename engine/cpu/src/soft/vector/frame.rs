//! What stubs and Rust hand each other: the bounce buffer of memory operands that have no host address, and a few
//! words.

use std::mem::offset_of;

use crate::soft::state::Cpu;

/// The frame of one vCPU. Stubs find it in the CPU.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Frame {
    /// The memory operand.
    pub bounce: [u8; 64],
    /// Arithmetic flags, in and out.
    pub flags: u64,
    /// MXCSR that Rust code runs with.
    pub host_mxcsr: u32,
    /// MXCSR at a fault.
    pub fault_mxcsr: u32,
    /// MXCSR as a stub found it.
    pub now_mxcsr: u32,
    /// An FXSAVE image, for x87 state on its way.
    pub image: Image,
}

/// An FXSAVE image.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Image(pub [u8; 512]);

/// Offset of the frame in the CPU.
const FRAME: usize = offset_of!(Cpu, vector.frame);
/// Offset of [`Frame::flags`] in the CPU.
pub const FLAGS: usize = FRAME + offset_of!(Frame, flags);
/// Offset of [`Frame::host_mxcsr`] in the CPU.
pub const HOST_MXCSR: usize = FRAME + offset_of!(Frame, host_mxcsr);
/// Offset of [`Frame::fault_mxcsr`] in the CPU.
pub const FAULT_MXCSR: usize = FRAME + offset_of!(Frame, fault_mxcsr);
/// Offset of [`Frame::now_mxcsr`] in the CPU.
pub const NOW_MXCSR: usize = FRAME + offset_of!(Frame, now_mxcsr);

impl Frame {
    /// An empty frame.
    pub fn new() -> Frame {
        Frame {
            bounce: [0; 64],
            flags: 0,
            host_mxcsr: 0x1F80,
            fault_mxcsr: 0,
            now_mxcsr: 0,
            image: Image([0; 512]),
        }
    }
}
