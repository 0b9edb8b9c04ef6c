//! Fast system calls and segment bases: SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, RDFSBASE and relatives
//! (Intel SDM 2B; SDM 3A, section 5.8.7). As on Intel processors, SYSCALL exists in 64-bit mode only.

use iced_x86::{Code, Instruction, Mnemonic};

use crate::registers::segment;
use crate::soft::control::flat_segment;
use crate::soft::fault::{ColdHandler, Fallible, Fault, Flow};
use crate::soft::model::Feature;
use crate::soft::segmentation::is_canonical;
use crate::soft::state::{Cpu, flag};
use crate::soft::walk::bits;

const GP: Fault = Fault::general_protection(0);
const UD: Fault = Fault::invalid_opcode();

const CODE_64: u16 = 0xA09B;
const CODE_32: u16 = 0xC09B;
const DATA: u16 = 0xC093;
const DPL_3: u16 = 0x60;

/// The cold handler of a fast system call or segment base instruction.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Syscall => syscall,
        Mnemonic::Sysret | Mnemonic::Sysretq => sysret,
        Mnemonic::Sysenter => sysenter,
        Mnemonic::Sysexit | Mnemonic::Sysexitq => sysexit,
        Mnemonic::Swapgs => swapgs,
        Mnemonic::Rdfsbase => read_base::<{ segment::FS }>,
        Mnemonic::Rdgsbase => read_base::<{ segment::GS }>,
        Mnemonic::Wrfsbase => write_base::<{ segment::FS }>,
        Mnemonic::Wrgsbase => write_base::<{ segment::GS }>,
        _ => return None,
    })
}

impl Cpu {
    /// Enters privilege `dpl` (0 or 3) with flat segments: `code` 64-bit or not.
    fn load_flat(&mut self, cs: u16, ss: u16, long: bool, dpl: u16) {
        let rights = if dpl == 3 { DPL_3 } else { 0 };
        let code = flat_segment(cs, if long { CODE_64 } else { CODE_32 } | rights);
        self.set_code_and_stack(code, flat_segment(ss, DATA | rights));
    }
}

fn syscall(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    if cpu.efer & bits::EFER_SCE == 0 || !cpu.is_64_bit() {
        return Err(UD);
    }
    let old = cpu.flags() & !flag::RF;
    cpu.general[1] = cpu.rip;
    cpu.general[11] = old;
    cpu.rip = cpu.msrs.lstar;
    let selector = (cpu.msrs.star >> 32) as u16 & !3;
    cpu.set_flags(old & !cpu.msrs.fmask | 2);
    cpu.load_flat(selector, selector.wrapping_add(8), true, 0);
    Ok(Flow::Jumped)
}

fn sysret(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    if cpu.efer & bits::EFER_SCE == 0 || !cpu.is_64_bit() {
        return Err(UD);
    }
    cpu.require_ring_0()?;
    let long = instruction.code() == Code::Sysretq;
    let rip = if long { cpu.general[1] } else { cpu.general[1] & 0xFFFF_FFFF };
    if !is_canonical(rip) {
        return Err(GP);
    }
    let base = (cpu.msrs.star >> 48) as u16;
    let code = if long { base.wrapping_add(16) } else { base };
    cpu.rip = rip;
    cpu.set_flags(cpu.general[11] & 0x3C_7FD7 | 2);
    cpu.load_flat(code | 3, base.wrapping_add(8) | 3, long, 3);
    if cpu.system_flags & flag::TF != 0 {
        cpu.single_step_trap(); // at once: as if SYSCALL had just been completed
    }
    Ok(Flow::Jumped)
}

fn sysenter(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    if !cpu.model.offers(Feature::Sep) {
        return Err(UD);
    }
    let selector = cpu.msrs.sysenter_cs as u16 & !3;
    if !cpu.is_protected_or_v8086() || selector == 0 {
        return Err(GP);
    }
    let long = cpu.is_long_mode();
    let kept = cpu.flags() & !(flag::VM | flag::IF | flag::RF);
    cpu.load_flags(kept);
    let mask = if long { u64::MAX } else { 0xFFFF_FFFF };
    cpu.rip = cpu.msrs.sysenter_eip & mask;
    cpu.general[4] = cpu.msrs.sysenter_esp & mask;
    cpu.load_flat(selector, selector.wrapping_add(8), long, 0);
    Ok(Flow::Jumped)
}

fn sysexit(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    if !cpu.model.offers(Feature::Sep) {
        return Err(UD);
    }
    let selector = cpu.msrs.sysenter_cs as u16 & !3;
    if !cpu.is_protected() || cpu.cpl != 0 || selector == 0 {
        return Err(GP);
    }
    let long = instruction.code() == Code::Sysexitq;
    let (rip, rsp) = (cpu.general[2], cpu.general[1]);
    if long && !(is_canonical(rip) && is_canonical(rsp)) {
        return Err(GP);
    }
    let mask = if long { u64::MAX } else { 0xFFFF_FFFF };
    cpu.rip = rip & mask;
    cpu.general[4] = rsp & mask;
    let code = selector.wrapping_add(if long { 32 } else { 16 });
    cpu.load_flat(code | 3, code.wrapping_add(8) | 3, long, 3);
    Ok(Flow::Jumped)
}

fn swapgs(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    if !cpu.is_64_bit() {
        return Err(UD);
    }
    cpu.require_ring_0()?;
    std::mem::swap(&mut cpu.segments[segment::GS].base, &mut cpu.msrs.kernel_gs_base);
    Ok(Flow::Next)
}

fn check_base_access(cpu: &Cpu) -> Fallible<()> {
    if cpu.is_64_bit() && cpu.cr4 & bits::CR4_FSGSBASE != 0 { Ok(()) } else { Err(UD) }
}

fn read_base<const INDEX: usize>(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    check_base_access(cpu)?;
    let base = cpu.segments[INDEX].base;
    cpu.set_register(instruction.op0_register(), base);
    Ok(Flow::Next)
}

fn write_base<const INDEX: usize>(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    check_base_access(cpu)?;
    let base = cpu.register(instruction.op0_register());
    if !is_canonical(base) {
        return Err(GP);
    }
    cpu.segments[INDEX].base = base;
    Ok(Flow::Next)
}
