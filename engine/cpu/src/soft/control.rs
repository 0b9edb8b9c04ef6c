//! Control and debug registers: MOV CR, MOV DR, LMSW, SMSW, CLTS, XGETBV, XSETBV, and the mode switches they
//! make (Intel SDM 3A, sections 2.5, 2.6, 5.1.2, 11.8.5; chapter 19).

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use crate::registers::{Segment, segment};
use crate::soft::descriptor::kind;
use crate::soft::fault::{ColdHandler, Fallible, Fault, Flow};
use crate::soft::model::Feature;
use crate::soft::operand::truncate;
use crate::soft::state::{Cpu, flag};
use crate::soft::tlb::TlbSet;
use crate::soft::walk::BusMemory;
use crate::soft::walk::bits::*;

/// The cold handler of a control register instruction.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    let is = |number: u32, test: fn(Register) -> bool| {
        instruction.op_count() > number
            && instruction.op_kind(number) == OpKind::Register
            && test(instruction.op_register(number))
    };
    Some(match instruction.mnemonic() {
        Mnemonic::Mov if is(0, Register::is_cr) => mov_to_control,
        Mnemonic::Mov if is(1, Register::is_cr) => mov_from_control,
        Mnemonic::Mov if is(0, Register::is_dr) => mov_to_debug,
        Mnemonic::Mov if is(1, Register::is_dr) => mov_from_debug,
        Mnemonic::Lmsw => lmsw,
        Mnemonic::Smsw => smsw,
        Mnemonic::Clts => clts,
        Mnemonic::Xgetbv => xgetbv,
        Mnemonic::Xsetbv => xsetbv,
        _ => return None,
    })
}

const GP: Fault = Fault::general_protection(0);

/// CR0 bits that exist.
const CR0_BITS: u64 =
    CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;

/// In a value for CR3 with PCIDs: the new space's translations are kept.
const CR3_KEEPS: u64 = 1 << 63;

impl Cpu {
    /// #GP unless CPL is 0 (real mode is).
    pub fn require_ring_0(&self) -> Fallible<()> {
        if self.cpl == 0 { Ok(()) } else { Err(GP) }
    }

    /// CR4 bits the model has.
    pub fn cr4_mask(&self) -> u64 {
        let table = [
            (Feature::Vme, CR4_VME | CR4_PVI),
            (Feature::Tsc, CR4_TSD),
            (Feature::De, CR4_DE),
            (Feature::Pse, CR4_PSE),
            (Feature::Pae, CR4_PAE),
            (Feature::Mce, CR4_MCE),
            (Feature::Pge, CR4_PGE),
            (Feature::Fxsr, CR4_OSFXSR),
            (Feature::Sse, CR4_OSXMMEXCPT),
            (Feature::Umip, CR4_UMIP),
            (Feature::FsGsBase, CR4_FSGSBASE),
            (Feature::Pcid, CR4_PCIDE),
            (Feature::Xsave, CR4_OSXSAVE),
            (Feature::Smep, CR4_SMEP),
            (Feature::Smap, CR4_SMAP),
        ];
        let offered = table.iter().filter(|entry| self.model.offers(entry.0)).fold(0, |mask, e| mask | e.1);
        offered | if self.model.offers(Feature::Mmx) { CR4_PCE } else { 0 }
    }

    /// MOV to CR0, with every check and the mode switch it makes.
    pub fn load_cr0(&mut self, value: u64) -> Fallible<()> {
        if value >> 32 != 0 {
            return Err(GP);
        }
        let new = value & CR0_BITS | CR0_ET;
        let old = self.cr0;
        let enables_paging = new & !old & CR0_PG != 0;
        let disables_paging = old & !new & CR0_PG != 0;
        if new & CR0_PG != 0 && new & CR0_PE == 0 || new & CR0_NW != 0 && new & CR0_CD == 0 {
            return Err(GP);
        }
        if enables_paging && self.efer & EFER_LME != 0 {
            // IA-32e mode needs PAE, a 32-bit TSS, and a CS that is not yet 64-bit.
            let tss_is_16 = matches!(self.tr.attributes as u8 & 15, kind::TSS16 | kind::TSS16_BUSY);
            if self.cr4 & CR4_PAE == 0
                || self.segments[segment::CS].is_long()
                || tss_is_16 && !self.tr.unusable
            {
                return Err(GP);
            }
        }
        if disables_paging && (self.is_64_bit() || self.cr4 & CR4_PCIDE != 0) {
            return Err(GP);
        }
        let changes_translation = (new ^ old) & (CR0_PG | CR0_PE | CR0_WP) != 0;
        if enables_paging && self.cr4 & CR4_PAE != 0 && self.efer & EFER_LME == 0 {
            self.pdptes = self.paging().load_pdptes(&BusMemory(self.bus()), self.cr3).ok_or(GP)?;
        }
        self.cr0 = new;
        if enables_paging && self.efer & EFER_LME != 0 {
            self.efer |= EFER_LMA;
        } else if disables_paging {
            self.efer &= !EFER_LMA;
        }
        if new & !old & CR0_PE != 0 {
            self.cpl = 0;
        } else if old & !new & CR0_PE != 0 {
            self.cpl = 0;
            self.system_flags &= !flag::VM;
        }
        if changes_translation {
            self.flush_translations(true);
        }
        self.update_mode();
        self.leave_block = true;
        Ok(())
    }

    /// MOV to CR3.
    pub fn load_cr3(&mut self, value: u64) -> Fallible<()> {
        let legacy_pae = self.cr4 & CR4_PAE != 0 && !self.is_long_mode();
        if legacy_pae && self.cr0 & CR0_PG != 0 {
            self.pdptes = self.paging().load_pdptes(&BusMemory(self.bus()), value).ok_or(GP)?;
        }
        let mut value = value;
        let mut keeps = false;
        if self.is_long_mode() {
            if self.cr4 & CR4_PCIDE != 0 {
                keeps = value & CR3_KEEPS != 0;
                value &= !CR3_KEEPS;
            }
            if value >> self.model.physical_bits() != 0 {
                return Err(GP);
            }
        }
        self.pdptes_stale = false;
        self.switch_space(value, keeps);
        Ok(())
    }

    /// MOV to CR4.
    pub fn load_cr4(&mut self, value: u64) -> Fallible<()> {
        let old = self.cr4;
        if value & !self.cr4_mask() != 0 {
            return Err(GP);
        }
        if self.is_long_mode() && value & CR4_PAE == 0 {
            return Err(GP);
        }
        if value & !old & CR4_PCIDE != 0 && (!self.is_long_mode() || self.cr3 & 0xFFF != 0) {
            return Err(GP);
        }
        let paging_bits = CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PCIDE;
        let changed = (value ^ old) & paging_bits;
        if changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP) != 0
            && value & CR4_PAE != 0
            && self.cr0 & CR0_PG != 0
            && !self.is_long_mode()
        {
            self.pdptes = self.paging().load_pdptes(&BusMemory(self.bus()), self.cr3).ok_or(GP)?;
        }
        self.cr4 = value;
        if changed != 0 {
            self.flush_translations(true);
        }
        self.update_mode();
        self.leave_block = true;
        Ok(())
    }

    /// Writes EFER.
    pub fn load_efer(&mut self, value: u64) -> Fallible<()> {
        let mut mask = 0;
        for (feature, bits) in
            [(Feature::Syscall, EFER_SCE), (Feature::LongMode, EFER_LME), (Feature::Nx, EFER_NXE)]
        {
            mask |= if self.model.offers(feature) { bits } else { 0 };
        }
        if mask == 0 || value & !(mask | EFER_LMA) != 0 {
            return Err(GP);
        }
        let new = value & mask | self.efer & EFER_LMA;
        if (new ^ self.efer) & EFER_LME != 0 && self.cr0 & CR0_PG != 0 {
            return Err(GP);
        }
        if (new ^ self.efer) & EFER_NXE != 0 {
            self.flush_translations(true);
        }
        self.efer = new;
        self.update_mode();
        Ok(())
    }
}

fn register_bytes(cpu: &Cpu) -> usize {
    if cpu.is_64_bit() { 8 } else { 4 }
}

fn mov_to_control(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let register = instruction.op0_register();
    let value = truncate(cpu.register(instruction.op1_register().full_register()), register_bytes(cpu));
    let is_known = matches!(register, Register::CR0 | Register::CR2 | Register::CR3)
        || register == Register::CR4 && cpu.cr4_mask() != 0
        || register == Register::CR8 && cpu.is_64_bit();
    if !is_known {
        return Err(Fault::invalid_opcode());
    }
    cpu.require_ring_0()?;
    match register {
        Register::CR0 => cpu.load_cr0(value)?,
        Register::CR2 => cpu.cr2 = value,
        Register::CR3 => cpu.load_cr3(value)?,
        Register::CR4 => cpu.load_cr4(value)?,
        _ => {
            if value & !15 != 0 {
                return Err(GP);
            }
            cpu.count_exactly()?;
            cpu.cr8 = value;
            cpu.bus().set_task_priority(value as u8);
        }
    }
    Ok(Flow::Jumped)
}

fn mov_from_control(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let register = instruction.op1_register();
    let value = match register {
        Register::CR0 => cpu.cr0,
        Register::CR2 => cpu.cr2,
        Register::CR3 => cpu.cr3,
        Register::CR4 if cpu.cr4_mask() != 0 => cpu.cr4,
        Register::CR8 if cpu.is_64_bit() => {
            cpu.require_ring_0()?;
            cpu.count_exactly()?;
            u64::from(cpu.bus().task_priority())
        }
        _ => return Err(Fault::invalid_opcode()),
    };
    cpu.require_ring_0()?;
    let value = truncate(value, register_bytes(cpu));
    cpu.set_register(instruction.op0_register(), value);
    Ok(Flow::Next)
}

/// DR6 bits that are always set, and DR7's.
const DR6_ONES: u64 = 0xFFFF_0FF0;
const DR7_ONES: u64 = 0x400;
const DR7_GD: u64 = 1 << 13;
const DR6_BD: u64 = 1 << 13;

/// DR4 and DR5 are DR6 and DR7 unless CR4.DE says otherwise; then index into [`Cpu::debug`].
fn debug_index(cpu: &mut Cpu, register: Register) -> Fallible<usize> {
    let number = register.number();
    if number > 7 || matches!(number, 4 | 5) && cpu.cr4 & CR4_DE != 0 {
        return Err(Fault::invalid_opcode());
    }
    cpu.require_ring_0()?;
    if cpu.debug[5] & DR7_GD != 0 {
        cpu.debug[4] |= DR6_BD;
        cpu.debug[5] &= !DR7_GD;
        return Err(Fault::debug());
    }
    Ok(match number {
        0..=3 => number,
        4 | 6 => 4,
        _ => 5,
    })
}

fn mov_to_debug(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let value = truncate(cpu.register(instruction.op1_register().full_register()), register_bytes(cpu));
    let index = debug_index(cpu, instruction.op0_register())?;
    cpu.debug[index] = match index {
        4 | 5 if value >> 32 != 0 => return Err(GP),
        4 => value & 0xE00F | DR6_ONES,
        5 => value & 0xFFFF_2BFF | DR7_ONES,
        _ => value,
    };
    cpu.all_tlb_sets().for_each(TlbSet::clear); // pages with data breakpoints must not be there
    cpu.breakpoints_changed();
    Ok(Flow::Jumped)
}

fn mov_from_debug(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let index = debug_index(cpu, instruction.op1_register())?;
    let value = truncate(cpu.debug[index], register_bytes(cpu));
    cpu.set_register(instruction.op0_register(), value);
    Ok(Flow::Next)
}

fn lmsw(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.require_ring_0()?;
    let value = cpu.operand(instruction, 0, 2)?;
    // PE can be set, not cleared.
    let kept = cpu.cr0 & !(CR0_MP | CR0_EM | CR0_TS);
    cpu.load_cr0(kept | value & (CR0_PE | CR0_MP | CR0_EM | CR0_TS))?;
    Ok(Flow::Jumped)
}

fn smsw(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_umip()?;
    let value = cpu.cr0;
    cpu.set_operand(instruction, 0, 2, value)?;
    Ok(Flow::Next)
}

fn clts(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    cpu.require_ring_0()?;
    cpu.cr0 &= !CR0_TS;
    cpu.update_mode();
    Ok(Flow::Jumped)
}

fn xgetbv(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    if cpu.cr4 & CR4_OSXSAVE == 0 {
        return Err(Fault::invalid_opcode());
    }
    if cpu.general[1] as u32 != 0 {
        return Err(GP);
    }
    cpu.set_edx_eax(cpu.xcr0);
    Ok(Flow::Next)
}

fn xsetbv(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    if cpu.cr4 & CR4_OSXSAVE == 0 {
        return Err(Fault::invalid_opcode());
    }
    cpu.require_ring_0()?;
    let value = cpu.edx_eax();
    let invalid = value & 1 == 0 || value & 6 == 4 || value & !cpu.model.xcr0_mask() != 0;
    if cpu.general[1] as u32 != 0 || invalid {
        return Err(GP);
    }
    cpu.xcr0 = value;
    cpu.update_mode();
    Ok(Flow::Jumped)
}

/// The data segment real mode starts with, as SYSCALL and its relatives load flat ones.
pub const fn flat_segment(selector: u16, attributes: u16) -> Segment {
    Segment { selector, base: 0, limit: u32::MAX, attributes, unusable: false }
}
