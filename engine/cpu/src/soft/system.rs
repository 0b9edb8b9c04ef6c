//! The cold handlers of the system half, and the instructions that belong to no other file: CPUID, time
//! stamps, random numbers, HLT, fences and hints.

use std::sync::atomic::{Ordering, fence};

use iced_x86::{Instruction, Mnemonic, OpKind};

use crate::soft::fault::{ColdHandler, Fallible, Fault, Flow};
use crate::soft::model::{CpuModel, Feature, Live};
use crate::soft::state::{Cpu, flag};
use crate::soft::walk::bits;
use crate::soft::{
    control, flag_control, interrupt, msr, mwait, paravirtual, segmentation, syscall, tables, transfer,
};

const GP: Fault = Fault::general_protection(0);
const UD: Fault = Fault::invalid_opcode();

/// The cold handler of a system instruction; `None` for what belongs to the integer or vector halves.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    own(instruction)
        .or_else(|| segmentation::handler(instruction))
        .or_else(|| transfer::handler(instruction))
        .or_else(|| control::handler(instruction))
        .or_else(|| tables::handler(instruction))
        .or_else(|| flag_control::handler(instruction))
        .or_else(|| msr::handler(instruction))
        .or_else(|| mwait::handler(instruction))
        .or_else(|| paravirtual::handler(instruction))
        .or_else(|| syscall::handler(instruction))
}

fn own(instruction: &Instruction) -> Option<ColdHandler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Int | Mnemonic::Int3 | Mnemonic::Into | Mnemonic::Int1 => interrupt::int,
        Mnemonic::Hlt => hlt,
        Mnemonic::Cpuid => cpuid,
        Mnemonic::Rdtsc => rdtsc,
        Mnemonic::Rdtscp => rdtscp,
        Mnemonic::Rdpid => rdpid,
        Mnemonic::Rdpmc => rdpmc,
        Mnemonic::Rdrand => random::<{ Feature::Rdrand as u8 }>,
        Mnemonic::Rdseed => random::<{ Feature::Rdseed as u8 }>,
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 | Mnemonic::Rsm => undefined,
        Mnemonic::Clflush | Mnemonic::Clflushopt => flush_line,
        Mnemonic::Mfence | Mnemonic::Lfence | Mnemonic::Sfence => fence_memory,
        Mnemonic::Pause => pause,
        // Which of these a model has is looked up in `select.rs`.
        Mnemonic::Nop
        | Mnemonic::Reservednop
        | Mnemonic::Prefetchnta
        | Mnemonic::Prefetcht0
        | Mnemonic::Prefetcht1
        | Mnemonic::Prefetcht2
        | Mnemonic::Prefetch
        | Mnemonic::Prefetchw
        | Mnemonic::Prefetchwt1
        | Mnemonic::Cldemote
        | Mnemonic::Endbr32
        | Mnemonic::Endbr64
        | Mnemonic::Rdsspd
        | Mnemonic::Rdsspq => hint,
        _ => return None,
    })
}

impl Cpu {
    /// #UD unless the model has a feature.
    pub fn require(&self, feature: Feature) -> Fallible<()> {
        if self.model.offers(feature) { Ok(()) } else { Err(UD) }
    }
}

fn undefined(_: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    Err(UD)
}

fn hint(_: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    Ok(Flow::Next)
}

/// PAUSEs between two offers to let others run: about 0.1 ms of spinning, a locked section's length.
const PAUSES: u32 = 4096;

fn pause(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    std::hint::spin_loop();
    cpu.pauses += 1;
    if cpu.pauses < PAUSES {
        return Ok(Flow::Next);
    }
    cpu.pauses = 0;
    cpu.yields = true;
    Ok(Flow::Jumped)
}

fn fence_memory(_: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    fence(Ordering::SeqCst);
    Ok(Flow::Next)
}

fn flush_line(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let optimised = instruction.mnemonic() == Mnemonic::Clflushopt;
    cpu.require(if optimised { Feature::ClflushOpt } else { Feature::Clflush })?;
    debug_assert_eq!(instruction.op0_kind(), OpKind::Memory);
    let (segment, offset) = cpu.effective_address(instruction);
    // Checked like a load of one byte; there is no cache to flush.
    cpu.prepare_read(segment, offset, 1)?;
    Ok(Flow::Next)
}

fn hlt(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    cpu.require_ring_0()?;
    cpu.waits_for_write = false;
    Ok(Flow::Halt)
}

fn cpuid(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    let live = Live {
        apic_enabled: cpu.bus().read_apic_msr(0x1B).unwrap_or(cpu.msrs.apic_base) & 1 << 11 != 0,
        os_xsave: cpu.cr4 & bits::CR4_OSXSAVE != 0,
        xcr0: cpu.xcr0,
        limit_leaves: cpu.msrs.misc_enable & 1 << 22 != 0,
    };
    let [eax, ebx, ecx, edx] = cpu.model.cpuid(cpu.general[0] as u32, cpu.general[1] as u32, live);
    for (number, value) in [(0, eax), (3, ebx), (1, ecx), (2, edx)] {
        cpu.general[number] = u64::from(value);
    }
    Ok(Flow::Next)
}

fn check_timestamp(cpu: &Cpu) -> Fallible<()> {
    if cpu.cr4 & bits::CR4_TSD != 0 && cpu.cpl != 0 { Err(GP) } else { Ok(()) }
}

fn rdtsc(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    cpu.require(Feature::Tsc)?;
    check_timestamp(cpu)?;
    cpu.count_exactly()?;
    cpu.set_edx_eax(cpu.timestamp());
    Ok(Flow::Next)
}

fn rdtscp(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    cpu.require(Feature::Rdtscp)?;
    check_timestamp(cpu)?;
    cpu.count_exactly()?;
    cpu.set_edx_eax(cpu.timestamp());
    cpu.general[1] = cpu.msrs.tsc_aux & 0xFFFF_FFFF;
    Ok(Flow::Next)
}

fn rdpid(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require(Feature::Rdpid)?;
    let value = cpu.msrs.tsc_aux;
    cpu.set_register(instruction.op0_register(), value);
    Ok(Flow::Next)
}

/// There are no counters: every index is invalid.
fn rdpmc(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    Err(if cpu.model.kind() == CpuModel::I486 { UD } else { GP })
}

fn random<const FEATURE: u8>(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require(if FEATURE == Feature::Rdseed as u8 { Feature::Rdseed } else { Feature::Rdrand })?;
    cpu.count_exactly()?;
    let (value, success) = match cpu.bus().random() {
        Some(value) => (value, true),
        None => host_random().map_or((0, false), |value| (value, true)),
    };
    cpu.set_register(instruction.op0_register(), value);
    let rest = cpu.flags() & !flag::ARITHMETIC;
    cpu.set_flags(rest | if success { flag::CF } else { 0 });
    Ok(Flow::Next)
}

fn host_random() -> Option<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is eight bytes long.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    (filled == bytes.len() as isize).then(|| u64::from_le_bytes(bytes))
}
