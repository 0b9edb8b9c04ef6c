//! The complete register state of one vCPU: one value for both backends, saved, shown, edited, compared.

use serde::{Deserialize, Serialize};

/// Everything that is architectural in one vCPU. Sources: Intel SDM volumes 1 and 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15: the order of instruction encodings.
    pub general: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags; bit 1 is always set.
    pub rflags: u64,
    /// ES, CS, SS, DS, FS, GS: the order of instruction encodings.
    pub segments: [Segment; 6],
    /// Local descriptor table.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
    /// Global descriptor table.
    pub gdtr: Table,
    /// Interrupt descriptor table.
    pub idtr: Table,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// CR8 (task priority).
    pub cr8: u64,
    /// DR0 to DR3, DR6, DR7.
    pub debug: [u64; 6],
    /// EFER.
    pub efer: u64,
    /// XCR0.
    pub xcr0: u64,
    /// Other model-specific registers, named after the manual.
    pub msrs: Msrs,
    /// x87, MMX, SSE and AVX state.
    pub fpu: Box<Fpu>,
    /// Interrupts are held off for one instruction (after STI, MOV SS, POP SS).
    pub interrupt_shadow: bool,
    /// NMIs are held off until IRET.
    pub nmi_blocked: bool,
    /// HLT was executed, and nothing has woken the vCPU yet.
    pub halted: bool,
    /// An exception or interrupt that is to be delivered before the next instruction.
    pub pending: Option<Event>,
}

/// Indices into [`Registers::general`].
pub mod general {
    /// RAX.
    pub const RAX: usize = 0;
    /// RCX.
    pub const RCX: usize = 1;
    /// RDX.
    pub const RDX: usize = 2;
    /// RBX.
    pub const RBX: usize = 3;
    /// RSP.
    pub const RSP: usize = 4;
    /// RBP.
    pub const RBP: usize = 5;
    /// RSI.
    pub const RSI: usize = 6;
    /// RDI.
    pub const RDI: usize = 7;
}

/// Indices into [`Registers::segments`].
pub mod segment {
    /// ES.
    pub const ES: usize = 0;
    /// CS.
    pub const CS: usize = 1;
    /// SS.
    pub const SS: usize = 2;
    /// DS.
    pub const DS: usize = 3;
    /// FS.
    pub const FS: usize = 4;
    /// GS.
    pub const GS: usize = 5;
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Visible selector.
    pub selector: u16,
    /// Base address.
    pub base: u64,
    /// Last valid offset in bytes, granularity applied.
    pub limit: u32,
    /// Access rights as in a descriptor's high dword, bits 8 to 23 moved to 0 to 15: type (0 to 3),
    /// S (4), DPL (5 to 6), P (7), AVL (12), L (13), D/B (14), G (15). Bits 8 to 11 are zero.
    pub attributes: u16,
    /// The segment cannot be used (null selector loaded in protected mode).
    pub unusable: bool,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Linear address.
    pub base: u64,
    /// Last valid offset in bytes.
    pub limit: u16,
}

/// Model-specific registers that are part of a vCPU's own state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Msrs {
    /// IA32_APIC_BASE (0x1B).
    pub apic_base: u64,
    /// IA32_SYSENTER_CS (0x174).
    pub sysenter_cs: u64,
    /// IA32_SYSENTER_ESP (0x175).
    pub sysenter_esp: u64,
    /// IA32_SYSENTER_EIP (0x176).
    pub sysenter_eip: u64,
    /// IA32_STAR (0xC000_0081).
    pub star: u64,
    /// IA32_LSTAR (0xC000_0082).
    pub lstar: u64,
    /// IA32_CSTAR (0xC000_0083).
    pub cstar: u64,
    /// IA32_FMASK (0xC000_0084).
    pub fmask: u64,
    /// IA32_KERNEL_GS_BASE (0xC000_0102).
    pub kernel_gs_base: u64,
    /// IA32_TSC_AUX (0xC000_0103).
    pub tsc_aux: u64,
    /// Added to the host's or the clock's time-stamp to give the guest's.
    pub tsc_offset: u64,
    /// IA32_PAT (0x277).
    pub pat: u64,
    /// IA32_MISC_ENABLE (0x1A0).
    pub misc_enable: u64,
    /// IA32_MTRR_DEF_TYPE (0x2FF).
    pub mtrr_default: u64,
    /// The eleven fixed-range MTRRs (0x250, 0x258, 0x259, 0x268 to 0x26F).
    pub mtrr_fixed: [u64; 11],
    /// Eight pairs of IA32_MTRR_PHYSBASE and PHYSMASK (0x200 to 0x20F).
    pub mtrr_variable: [u64; 16],
    /// MSR_KVM_WALL_CLOCK_NEW (0x4B56_4D00), of the paravirtual clock.
    #[serde(default)]
    pub kvm_wall_clock: u64,
    /// MSR_KVM_SYSTEM_TIME_NEW (0x4B56_4D01).
    #[serde(default)]
    pub kvm_system_time: u64,
}

/// x87, MMX, SSE and AVX state, laid out field by field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fpu {
    /// x87 control word.
    pub control: u16,
    /// x87 status word.
    pub status: u16,
    /// x87 tag word in the abridged form of FXSAVE (one bit a register, set when in use).
    pub tags: u8,
    /// Last x87 opcode.
    pub opcode: u16,
    /// Last x87 instruction pointer.
    pub instruction: u64,
    /// Last x87 data pointer.
    pub data: u64,
    /// ST0 to ST7 as 80-bit values (bytes 0 to 9), in stack order.
    pub stack: [[u8; 10]; 8],
    /// MXCSR.
    pub mxcsr: u32,
    /// YMM0 to YMM15; the low halves are XMM.
    pub ymm: [[u64; 4]; 16],
}

/// An exception or interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Vector.
    pub vector: u8,
    /// Error code, if it has one.
    pub error_code: Option<u32>,
    /// Who raised it.
    pub kind: EventKind,
}

/// Who raised an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// An interrupt controller.
    Interrupt,
    /// The NMI pin.
    Nmi,
    /// The processor.
    Exception,
    /// INT n, INT3, INTO, INT1.
    Software,
}

impl Default for Fpu {
    /// After FNINIT, with MXCSR at its reset value.
    fn default() -> Fpu {
        Fpu {
            control: 0x37F,
            status: 0,
            tags: 0,
            opcode: 0,
            instruction: 0,
            data: 0,
            stack: [[0; 10]; 8],
            mxcsr: 0x1F80,
            ymm: [[0; 4]; 16],
        }
    }
}

impl Segment {
    /// A real-mode data segment.
    pub const fn real(selector: u16) -> Segment {
        Segment { selector, base: (selector as u64) << 4, limit: 0xFFFF, attributes: 0x93, unusable: false }
    }

    /// Descriptor privilege level.
    pub const fn dpl(self) -> u8 {
        (self.attributes >> 5 & 3) as u8
    }

    /// 32-bit default size (code) or stack pointer (stack).
    pub const fn is_big(self) -> bool {
        self.attributes & 1 << 14 != 0
    }

    /// 64-bit code.
    pub const fn is_long(self) -> bool {
        self.attributes & 1 << 13 != 0
    }
}

impl Registers {
    /// State after RESET. Source: Intel SDM 3A, table 11-1 (processor state following power-up).
    pub fn reset() -> Registers {
        let mut segments = [Segment::real(0); 6];
        segments[segment::CS] = Segment { base: 0xFFFF_0000, attributes: 0x9B, ..Segment::real(0xF000) };
        let mut general = [0; 16];
        general[general::RDX] = 0x663; // family 6: the model's own signature is in CPUID
        let system = |attributes| Segment { attributes, ..Segment::real(0) };
        Registers {
            general,
            rip: 0xFFF0,
            rflags: 2,
            segments,
            ldtr: system(0x82),
            tr: system(0x8B),
            gdtr: Table { base: 0, limit: 0xFFFF },
            idtr: Table { base: 0, limit: 0xFFFF },
            cr0: 0x6000_0010,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            debug: [0, 0, 0, 0, 0xFFFF_0FF0, 0x400],
            efer: 0,
            xcr0: 1,
            msrs: Msrs {
                apic_base: 0xFEE0_0800,
                pat: 0x0007_0406_0007_0406,
                misc_enable: 1,
                ..Msrs::default()
            },
            fpu: Box::default(),
            interrupt_shadow: false,
            nmi_blocked: false,
            halted: false,
            pending: None,
        }
    }

    /// Linear address of the next instruction.
    pub fn linear_rip(&self) -> u64 {
        self.segments[segment::CS].base.wrapping_add(self.rip)
    }
}
