//! What the way into a case and back reads and writes: a page at a fixed address, since no register is free.

/// Address of the control page, below 2 GiB so that an absolute address reaches it.
pub const ADDRESS: usize = 0x6660_0000;

/// Bytes of it.
pub const BYTES: usize = 8192;

/// The page.
#[repr(C, align(64))]
pub struct Control {
    /// The host's stack while the case runs.
    pub host_stack: u64,
    /// The host's FS and GS bases.
    pub host_bases: [u64; 2],
    /// Offset of the first instruction in the high half, where with the selector it is a far pointer.
    pub entry: u64,
    /// Selector of the code.
    pub entry_selector: u16,
    /// Whether to load x87, SSE and AVX state.
    pub has_fpu: u8,
    /// Whether the code is not 64-bit.
    pub is_compatible: u8,
    /// Whether the processor is inside a case.
    pub running: u8,
    /// Where Linux looks whether system calls are blocked (PR_SET_SYSCALL_USER_DISPATCH).
    pub blocked: u8,
    /// Unused.
    pub reserved: u16,
    /// EFLAGS.
    pub flags: u64,
    /// FS and GS bases.
    pub bases: [u64; 2],
    /// RAX to R15.
    pub general: [u64; 16],
    /// ES, CS, SS, DS, FS, GS.
    pub selectors: [u16; 6],
    /// Unused.
    pub padding: u32,
    /// Registers after the case, in the order of `mcontext_t`.
    pub after: [i64; 23],
    /// ES, DS, FS, GS after the case.
    pub selectors_after: [u16; 4],
    /// FS and GS bases after the case.
    pub bases_after: [u64; 2],
    /// The signal that ended it.
    pub signal: i32,
    /// Unused.
    pub more_padding: [u32; 5],
    /// XSAVE image to load.
    pub fpu: Image,
    /// XSAVE image after the case.
    pub fpu_after: Image,
}

/// An XSAVE image.
#[repr(C, align(64))]
pub struct Image(pub [u8; 832]);

/// The signal handler's and the caller's way to it.
pub fn control() -> *mut Control {
    ADDRESS as *mut Control
}
