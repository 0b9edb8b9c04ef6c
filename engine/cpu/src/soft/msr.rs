//! RDMSR and WRMSR (Intel SDM 4, table 2-2). What a model does not have raises #GP, as does what nobody
//! here knows; registers of the local APIC are the bus's.

use iced_x86::{Instruction, Mnemonic};

use crate::registers::segment;
use crate::soft::fault::{ColdHandler, Fallible, Fault, Flow};
use crate::soft::model::Feature;
use crate::soft::paravirtual;
use crate::soft::segmentation::is_canonical;
use crate::soft::state::Cpu;

const GP: Fault = Fault::general_protection(0);

/// The cold handler of RDMSR and WRMSR.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    match instruction.mnemonic() {
        Mnemonic::Rdmsr => Some(rdmsr),
        Mnemonic::Wrmsr => Some(wrmsr),
        _ => None,
    }
}

mod index {
    pub const TSC: u32 = 0x10;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const APIC_BASE: u32 = 0x1B;
    pub const EBL_CR_POWERON: u32 = 0x2A;
    pub const TSC_ADJUST: u32 = 0x3B;
    pub const UPDATE_TRIGGER: u32 = 0x79;
    pub const UPDATE_SIGNATURE: u32 = 0x8B;
    pub const MTRR_CAP: u32 = 0xFE;
    pub const ARCH_CAPABILITIES: u32 = 0x10A;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17A;
    pub const MISC_ENABLE: u32 = 0x1A0;
    pub const DEBUG_CONTROL: u32 = 0x1D9;
    pub const PAT: u32 = 0x277;
    pub const MTRR_DEFAULT: u32 = 0x2FF;
    pub const TSC_DEADLINE: u32 = 0x6E0;
    pub const EFER: u32 = 0xC000_0080;
    pub const STAR: u32 = 0xC000_0081;
    pub const LSTAR: u32 = 0xC000_0082;
    pub const CSTAR: u32 = 0xC000_0083;
    pub const FMASK: u32 = 0xC000_0084;
    pub const FS_BASE: u32 = 0xC000_0100;
    pub const GS_BASE: u32 = 0xC000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xC000_0102;
    pub const TSC_AUX: u32 = 0xC000_0103;
}

/// Eight variable ranges, fixed ranges, write-combining.
const MTRR_CAPABILITIES: u64 = 0x508;
/// IA32_ARCH_CAPABILITIES: a CPU that checks before it reads has none of RDCL, L1TF, SSB, MDS, the page-size
/// machine check, TAA, SBDR, FBSDP, PSDP, GDS and RFDS; a system need not pay for guarding against them.
const ARCH_CAPABILITIES: u64 = 1 | 7 << 3 | 1 << 6 | 1 << 8 | 7 << 13 | 3 << 26;
/// IA32_MISC_ENABLE bits that can be written: fast strings, limit CPUID.
const MISC_ENABLE_WRITABLE: u64 = 1 | 1 << 22;
/// IA32_MISC_ENABLE: MONITOR and MWAIT are on. Here they always are where there are any.
const MISC_ENABLE_MONITOR: u64 = 1 << 18;

fn fixed_mtrr(number: u32) -> Option<usize> {
    match number {
        0x250 => Some(0),
        0x258 | 0x259 => Some((number - 0x257) as usize),
        0x268..=0x26F => Some((number - 0x265) as usize),
        _ => None,
    }
}

/// Uncacheable, write-combining, write-through, write-protected, write-back.
fn is_memory_type(value: u64) -> bool {
    matches!(value, 0 | 1 | 4 | 5 | 6)
}

fn bytes_all(value: u64, test: impl Fn(u64) -> bool) -> bool {
    value.to_le_bytes().into_iter().all(|byte| test(u64::from(byte)))
}

impl Cpu {
    /// EDX:EAX.
    pub fn edx_eax(&self) -> u64 {
        self.general[2] << 32 | self.general[0] & 0xFFFF_FFFF
    }

    /// Sets EDX:EAX, clearing the upper halves.
    pub fn set_edx_eax(&mut self, value: u64) {
        self.general[0] = value & 0xFFFF_FFFF;
        self.general[2] = value >> 32;
    }

    /// The guest's time-stamp counter.
    pub fn timestamp(&self) -> u64 {
        self.bus().timestamp().wrapping_add(self.msrs.tsc_offset)
    }

    /// Sets what is added to the bus's counter, and what depends on it.
    fn set_tsc_offset(&mut self, offset: u64) {
        let deadline = self.tsc_deadline();
        self.msrs.tsc_offset = offset;
        if let Some(deadline @ 1..) = deadline {
            self.set_tsc_deadline(deadline);
        }
        self.update_paravirtual_clock();
    }

    /// IA32_TSC_DEADLINE, which the local APIC keeps in units of the bus's counter.
    fn tsc_deadline(&self) -> Option<u64> {
        let raw = self.bus().read_apic_msr(index::TSC_DEADLINE)?;
        Some(if raw == 0 { 0 } else { raw.wrapping_add(self.msrs.tsc_offset) })
    }

    /// Writes it; `false` is #GP.
    fn set_tsc_deadline(&mut self, deadline: u64) -> bool {
        let now = self.bus().timestamp();
        let left = deadline.saturating_sub(now.wrapping_add(self.msrs.tsc_offset));
        // One that has passed is due at once: 1 is as early as can be, and not "disarmed".
        let raw = match deadline {
            0 => 0,
            _ if left == 0 => 1,
            _ => now.saturating_add(left),
        };
        self.bus().write_apic_msr(index::TSC_DEADLINE, raw)
    }

    /// Features an MSR belongs to; `true` if it always exists.
    fn has_msr(&self, number: u32) -> bool {
        use Feature::*;
        let feature = match number {
            index::TSC => Tsc,
            index::TSC_ADJUST => TscAdjust,
            index::ARCH_CAPABILITIES => ArchCapabilities,
            index::APIC_BASE | 0x800..=0x8FF => Apic,
            index::TSC_DEADLINE => TscDeadline,
            index::MTRR_CAP | index::MTRR_DEFAULT | 0x200..=0x20F | 0x250..=0x26F => Mtrr,
            index::SYSENTER_CS..=index::SYSENTER_EIP => Sep,
            index::MCG_CAP | index::MCG_STATUS => Mca,
            index::PAT => Pat,
            index::STAR | index::LSTAR | index::CSTAR | index::FMASK => Syscall,
            index::FS_BASE | index::GS_BASE | index::KERNEL_GS_BASE => LongMode,
            index::TSC_AUX => Rdtscp,
            paravirtual::OLD_WALL_CLOCK..=paravirtual::OLD_SYSTEM_TIME
            | paravirtual::WALL_CLOCK..=paravirtual::SYSTEM_TIME => Hypervisor,
            index::EFER => return self.model.offers(Nx) || self.model.offers(LongMode),
            _ => return true,
        };
        self.model.offers(feature)
    }

    /// RDMSR; `None` is #GP.
    pub fn read_msr(&mut self, number: u32) -> Option<u64> {
        if !self.has_msr(number) {
            return None;
        }
        let msrs = &self.msrs;
        Some(match number {
            index::TSC => self.timestamp(),
            // Both start from zero and a write to either moves both alike.
            index::TSC_ADJUST => msrs.tsc_offset,
            index::ARCH_CAPABILITIES => ARCH_CAPABILITIES,
            index::PLATFORM_ID | index::EBL_CR_POWERON | index::UPDATE_SIGNATURE => 0,
            index::TSC_DEADLINE => return self.tsc_deadline(),
            index::APIC_BASE | 0x800..=0x8FF => return self.bus().read_apic_msr(number),
            paravirtual::OLD_WALL_CLOCK | paravirtual::WALL_CLOCK => msrs.kvm_wall_clock,
            paravirtual::OLD_SYSTEM_TIME | paravirtual::SYSTEM_TIME => msrs.kvm_system_time,
            index::MTRR_CAP => MTRR_CAPABILITIES,
            index::SYSENTER_CS => msrs.sysenter_cs,
            index::SYSENTER_ESP => msrs.sysenter_esp,
            index::SYSENTER_EIP => msrs.sysenter_eip,
            index::MCG_CAP | index::MCG_STATUS | index::DEBUG_CONTROL => 0,
            index::MISC_ENABLE if self.model.offers(Feature::Monitor) => {
                msrs.misc_enable | MISC_ENABLE_MONITOR
            }
            index::MISC_ENABLE => msrs.misc_enable,
            index::PAT => msrs.pat,
            index::MTRR_DEFAULT => msrs.mtrr_default,
            0x200..=0x20F => msrs.mtrr_variable[(number - 0x200) as usize],
            index::EFER => self.efer,
            index::STAR => msrs.star,
            index::LSTAR => msrs.lstar,
            index::CSTAR => msrs.cstar,
            index::FMASK => msrs.fmask,
            index::FS_BASE => self.segments[segment::FS].base,
            index::GS_BASE => self.segments[segment::GS].base,
            index::KERNEL_GS_BASE => msrs.kernel_gs_base,
            index::TSC_AUX => msrs.tsc_aux,
            _ => msrs.mtrr_fixed[fixed_mtrr(number)?],
        })
    }

    /// WRMSR.
    pub fn write_msr(&mut self, number: u32, value: u64) -> Fallible<()> {
        let canonical = || if is_canonical(value) { Ok(value) } else { Err(GP) };
        let check = |ok: bool| if ok { Ok(value) } else { Err(GP) };
        if !self.has_msr(number) {
            return Err(GP);
        }
        match number {
            index::TSC => {
                let now = self.bus().timestamp();
                self.set_tsc_offset(value.wrapping_sub(now));
            }
            index::TSC_ADJUST => self.set_tsc_offset(value),
            paravirtual::OLD_WALL_CLOCK | paravirtual::WALL_CLOCK => self.set_paravirtual_wall_clock(value),
            paravirtual::OLD_SYSTEM_TIME | paravirtual::SYSTEM_TIME => self.set_paravirtual_clock(value),
            index::TSC_DEADLINE => {
                check(self.set_tsc_deadline(value))?;
                self.leave_block = true;
            }
            index::ARCH_CAPABILITIES => return Err(GP),
            index::APIC_BASE | 0x800..=0x8FF => {
                if !self.bus().write_apic_msr(number, value) {
                    return Err(GP);
                }
                if number == index::APIC_BASE {
                    self.msrs.apic_base = value;
                    self.flush_translations(true); // the register page may have moved
                }
                self.leave_block = true;
            }
            // No microcode is loaded, none is there.
            index::UPDATE_TRIGGER | index::UPDATE_SIGNATURE | index::EBL_CR_POWERON => {}
            index::SYSENTER_CS => self.msrs.sysenter_cs = value & 0xFFFF_FFFF,
            index::SYSENTER_ESP => self.msrs.sysenter_esp = canonical()?,
            index::SYSENTER_EIP => self.msrs.sysenter_eip = canonical()?,
            index::MCG_STATUS | index::DEBUG_CONTROL => {
                check(value == 0)?;
            }
            index::MISC_ENABLE => {
                let kept = self.msrs.misc_enable & !MISC_ENABLE_WRITABLE;
                self.msrs.misc_enable = kept | value & MISC_ENABLE_WRITABLE;
            }
            index::PAT => {
                self.msrs.pat = check(bytes_all(value, |byte| is_memory_type(byte) || byte == 7))?;
            }
            index::MTRR_DEFAULT => {
                self.msrs.mtrr_default = check(value & !0xCFF == 0 && is_memory_type(value & 0xFF))?;
            }
            0x200..=0x20F => {
                let is_base = number & 1 == 0;
                let reserved = if is_base { 0xF00 } else { 0x7FF };
                let above = !0 << self.model.physical_bits();
                let type_ok = !is_base || is_memory_type(value & 0xFF);
                let ok = value & (reserved | above) == 0 && type_ok;
                self.msrs.mtrr_variable[(number - 0x200) as usize] = check(ok)?;
            }
            index::EFER => self.load_efer(value)?,
            index::STAR => self.msrs.star = value,
            index::LSTAR => self.msrs.lstar = canonical()?,
            index::CSTAR => self.msrs.cstar = canonical()?,
            index::FMASK => self.msrs.fmask = check(value >> 32 == 0)?,
            index::FS_BASE => self.segments[segment::FS].base = canonical()?,
            index::GS_BASE => self.segments[segment::GS].base = canonical()?,
            index::KERNEL_GS_BASE => self.msrs.kernel_gs_base = canonical()?,
            index::TSC_AUX => self.msrs.tsc_aux = check(value >> 32 == 0)?,
            _ => {
                let at = fixed_mtrr(number).ok_or(GP)?;
                self.msrs.mtrr_fixed[at] = check(bytes_all(value, is_memory_type))?;
            }
        }
        Ok(())
    }
}

fn rdmsr(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    if !cpu.model.offers(Feature::Msr) {
        return Err(Fault::invalid_opcode());
    }
    cpu.require_ring_0()?;
    cpu.count_exactly()?;
    let value = cpu.read_msr(cpu.general[1] as u32).ok_or(GP)?;
    cpu.set_edx_eax(value);
    Ok(Flow::Next)
}

fn wrmsr(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    if !cpu.model.offers(Feature::Msr) {
        return Err(Fault::invalid_opcode());
    }
    cpu.require_ring_0()?;
    cpu.count_exactly()?;
    cpu.write_msr(cpu.general[1] as u32, cpu.edx_eax())?;
    Ok(Flow::Jumped)
}
