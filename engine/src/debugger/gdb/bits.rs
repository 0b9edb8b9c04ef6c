//! Registers as gdb orders them, 64 and 32 bits wide. Source: gdb, features/i386/64bit-core.xml and 32bit-core.xml.

use cpu::Registers;
use cpu::registers::{Fpu, segment};
use gdbstub::arch::Arch;
use gdbstub_arch::x86::reg::{X86_64CoreRegs, X86CoreRegs, X86SegmentRegs, X87FpuInternalRegs};
use gdbstub_arch::x86::{X86_64_SSE, X86_SSE};

/// One of gdb's two views of the processor.
pub trait Bits: Arch<BreakpointKind = usize> + 'static {
    /// The state in gdb's order.
    fn show(registers: &Registers) -> Self::Registers;
    /// Puts what gdb may change into a state: general registers, instruction pointer, flags, XMM, MXCSR.
    fn take(shown: &Self::Registers, registers: &mut Registers);
    /// An address of gdb's.
    fn address(shown: Self::Usize) -> u64;
    /// An address for gdb.
    fn shown(address: u64) -> Self::Usize;
}

/// RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, then R8 to R15: their numbers in instruction encodings.
const ORDER: [usize; 16] = [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];

fn segments(registers: &Registers) -> X86SegmentRegs {
    let selector = |index: usize| u32::from(registers.segments[index].selector);
    X86SegmentRegs {
        cs: selector(segment::CS),
        ss: selector(segment::SS),
        ds: selector(segment::DS),
        es: selector(segment::ES),
        fs: selector(segment::FS),
        gs: selector(segment::GS),
    }
}

fn x87(fpu: &Fpu) -> X87FpuInternalRegs {
    // Two bits a register, by its physical number: 3 is empty, and what is in it gdb finds out itself.
    let tag = |number: u32| if fpu.tags >> number & 1 != 0 { 0 } else { 3 << (2 * number) };
    X87FpuInternalRegs {
        fctrl: fpu.control.into(),
        fstat: fpu.status.into(),
        ftag: (0..8).map(tag).sum(),
        fiseg: (fpu.instruction >> 32) as u32 & 0xFFFF,
        fioff: fpu.instruction as u32,
        foseg: (fpu.data >> 32) as u32 & 0xFFFF,
        fooff: fpu.data as u32,
        fop: fpu.opcode.into(),
    }
}

fn xmm(fpu: &Fpu, index: usize) -> u128 {
    u128::from(fpu.ymm[index][0]) | u128::from(fpu.ymm[index][1]) << 64
}

fn set_xmm(fpu: &mut Fpu, index: usize, value: u128) {
    fpu.ymm[index][0] = value as u64;
    fpu.ymm[index][1] = (value >> 64) as u64;
}

impl Bits for X86_64_SSE {
    fn show(registers: &Registers) -> X86_64CoreRegs {
        X86_64CoreRegs {
            regs: ORDER.map(|number| registers.general[number]),
            eflags: registers.rflags as u32,
            rip: registers.rip,
            segments: segments(registers),
            st: registers.fpu.stack,
            fpu: x87(&registers.fpu),
            xmm: std::array::from_fn(|index| xmm(&registers.fpu, index)),
            mxcsr: registers.fpu.mxcsr,
        }
    }

    fn take(shown: &X86_64CoreRegs, registers: &mut Registers) {
        for (number, value) in ORDER.into_iter().zip(shown.regs) {
            registers.general[number] = value;
        }
        registers.rip = shown.rip;
        registers.rflags = u64::from(shown.eflags) | 2;
        shown.xmm.iter().enumerate().for_each(|(index, value)| set_xmm(&mut registers.fpu, index, *value));
        registers.fpu.mxcsr = shown.mxcsr & 0xFFFF;
    }

    fn address(shown: u64) -> u64 {
        shown
    }

    fn shown(address: u64) -> u64 {
        address
    }
}

impl Bits for X86_SSE {
    fn show(registers: &Registers) -> X86CoreRegs {
        let general = |number: usize| registers.general[number] as u32;
        X86CoreRegs {
            eax: general(0),
            ecx: general(1),
            edx: general(2),
            ebx: general(3),
            esp: general(4),
            ebp: general(5),
            esi: general(6),
            edi: general(7),
            eip: registers.rip as u32,
            eflags: registers.rflags as u32,
            segments: segments(registers),
            st: registers.fpu.stack,
            fpu: x87(&registers.fpu),
            xmm: std::array::from_fn(|index| xmm(&registers.fpu, index)),
            mxcsr: registers.fpu.mxcsr,
        }
    }

    fn take(shown: &X86CoreRegs, registers: &mut Registers) {
        let X86CoreRegs { eax, ecx, edx, ebx, esp, ebp, esi, edi, .. } = *shown;
        for (number, value) in [eax, ecx, edx, ebx, esp, ebp, esi, edi].into_iter().enumerate() {
            registers.general[number] = value.into();
        }
        registers.rip = shown.eip.into();
        registers.rflags = u64::from(shown.eflags) | 2;
        shown.xmm.iter().enumerate().for_each(|(index, value)| set_xmm(&mut registers.fpu, index, *value));
        registers.fpu.mxcsr = shown.mxcsr & 0xFFFF;
    }

    fn address(shown: u32) -> u64 {
        shown.into()
    }

    fn shown(address: u64) -> u32 {
        address as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distinct() -> Registers {
        let mut registers = Registers::reset();
        for (number, value) in registers.general.iter_mut().enumerate() {
            *value = 0x1000 + number as u64;
        }
        registers.rip = 0x7C00;
        registers.fpu.ymm[3] = [1, 2, 3, 4];
        registers.fpu.tags = 0x81;
        registers
    }

    #[test]
    fn gdbs_order_is_not_the_encodings() {
        let shown = X86_64_SSE::show(&distinct());
        assert_eq!(shown.regs[..8], [0x1000, 0x1003, 0x1001, 0x1002, 0x1006, 0x1007, 0x1005, 0x1004]);
        assert_eq!((shown.segments.cs, shown.xmm[3], shown.fpu.ftag), (0xF000, 1 | 2 << 64, 0x3FFC));
        assert_eq!(X86_SSE::show(&distinct()).ebx, 0x1003);
    }

    #[test]
    fn what_is_shown_and_taken_back_changes_nothing() {
        let before = distinct();
        let mut after = before.clone();
        X86_64_SSE::take(&X86_64_SSE::show(&before), &mut after);
        assert_eq!(after, before);
        X86_SSE::take(&X86_SSE::show(&before), &mut after);
        assert_eq!(after, before);
    }
}
