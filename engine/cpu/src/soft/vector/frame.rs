//! What stubs and Rust hand each other: the bounce buffer every memory operand is pointed at, and a few words.

/// The frame of one vCPU. Stubs know it by RDI.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Frame {
    /// The memory operand, at the frame's start.
    pub bounce: [u8; 64],
    /// Arithmetic flags, in and out.
    pub flags: u64,
    /// MXCSR that Rust code runs with.
    pub host_mxcsr: u32,
    /// MXCSR at a fault.
    pub fault_mxcsr: u32,
    /// MXCSR as a stub found it.
    pub now_mxcsr: u32,
    /// x87 status word after a store.
    pub status: u16,
    /// x87 control word after a store.
    pub control: u16,
    /// An FXSAVE image, for x87 state on its way.
    pub image: Image,
}

/// An FXSAVE image.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Image(pub [u8; 512]);

/// Offset of [`Frame::flags`].
pub const FLAGS: usize = std::mem::offset_of!(Frame, flags);
/// Offset of [`Frame::host_mxcsr`].
pub const HOST_MXCSR: usize = std::mem::offset_of!(Frame, host_mxcsr);
/// Offset of [`Frame::fault_mxcsr`].
pub const FAULT_MXCSR: usize = std::mem::offset_of!(Frame, fault_mxcsr);
/// Offset of [`Frame::now_mxcsr`].
pub const NOW_MXCSR: usize = std::mem::offset_of!(Frame, now_mxcsr);
/// Offset of [`Frame::status`].
pub const STATUS: usize = std::mem::offset_of!(Frame, status);
/// Offset of [`Frame::control`].
pub const CONTROL: usize = std::mem::offset_of!(Frame, control);

impl Frame {
    /// An empty frame.
    pub fn new() -> Box<Frame> {
        Box::new(Frame {
            bounce: [0; 64],
            flags: 0,
            host_mxcsr: 0x1F80,
            fault_mxcsr: 0,
            now_mxcsr: 0,
            status: 0,
            control: 0,
            image: Image([0; 512]),
        })
    }
}
