//! FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC, XRSTOR, LDMXCSR, STMXCSR. Intel SDM 1, 10.5 and chapter 13. The
//! XSAVE area of the CPU has the standard layout, so most is copying. XSAVEOPT keeps no record of the last
//! XRSTOR: it leaves out what is in its initial state and writes the rest.

use iced_x86::{Instruction, Mnemonic};

use super::environment::with_summary;
use super::form::Class;
use crate::soft::fault::{Fallible, Fault, Flow};
use crate::soft::model::Feature;
use crate::soft::state::{Cpu, mode};

const GP: Fault = Fault::general_protection(0);
const NM: Fault = Fault::device_not_available();
const UD: Fault = Fault::invalid_opcode();

const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;
const COMPACTED: u64 = 1 << 63;
const MXCSR: usize = 24;
const MXCSR_MASK: u32 = 0xFFFF;
/// Bytes of the legacy region in use.
const LEGACY: usize = 416;
const HEADER: u64 = 512;
/// Offset of the upper YMM halves, in both layouts (there is nothing between).
const UPPER: usize = 576;

fn is_wide(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        instruction.mnemonic(),
        M::Fxsave64 | M::Fxrstor64 | M::Xsave64 | M::Xsaveopt64 | M::Xsavec64 | M::Xrstor64
    )
}

fn dword(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn qword(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl Cpu {
    /// Bytes of XMM (or upper YMM) registers the mode has.
    fn vector_bytes(&self) -> usize {
        if self.mode & mode::LONG != 0 { 256 } else { 128 }
    }

    /// The first 32 bytes of an image: words, pointers, MXCSR. State must have been taken.
    fn legacy_head(&self, wide: bool) -> [u8; 32] {
        let mut head = [0; 32];
        head.copy_from_slice(&self.fpu.bytes[..32]);
        head[5] = 0;
        if !wide {
            for (n, at) in [12, 20].into_iter().enumerate() {
                head[at..at + 2].copy_from_slice(&self.vector.selectors[n].to_le_bytes());
                head[at + 2..at + 4].fill(0);
            }
        }
        head[28..].copy_from_slice(&MXCSR_MASK.to_le_bytes());
        head
    }

    fn put_legacy_x87(&mut self, image: &[u8], wide: bool) {
        let control = u16::from_le_bytes([image[0], image[1]]) & 0x1F7F | 0x40;
        let status = with_summary(u16::from_le_bytes([image[2], image[3]]), control);
        let area = &mut self.fpu.bytes;
        area[..2].copy_from_slice(&control.to_le_bytes());
        area[2..4].copy_from_slice(&status.to_le_bytes());
        area[4] = image[4];
        area[6..8].copy_from_slice(&[image[6], image[7] & 7]);
        if wide {
            area[8..24].copy_from_slice(&image[8..24]);
        } else {
            for (n, at) in [8, 16].into_iter().enumerate() {
                area[at..at + 8].copy_from_slice(&u64::from(dword(image, at)).to_le_bytes());
                self.vector.selectors[n] = u16::from_le_bytes([image[at + 4], image[at + 5]]);
            }
        }
        for register in 0..8 {
            let at = 32 + 16 * register;
            area[at..at + 10].copy_from_slice(&image[at..at + 10]);
        }
    }

    fn check_fxsr(&self) -> Fallible<()> {
        if !self.model.offers(Feature::Fxsr) {
            return Err(UD);
        }
        if self.mode & (mode::EMULATE_FPU | mode::TASK_SWITCHED) != 0 { Err(NM) } else { Ok(()) }
    }

    fn check_xsave(&self, feature: Feature) -> Fallible<()> {
        if !self.model.offers(feature) || self.cr4 & 1 << 18 == 0 {
            return Err(UD);
        }
        if self.mode & mode::TASK_SWITCHED != 0 { Err(NM) } else { Ok(()) }
    }

    fn has_sse(&self) -> bool {
        self.cr4 & 1 << 9 != 0 // CR4.OSFXSR
    }

    /// XINUSE: the components that are not in their initial state.
    fn in_use(&self) -> u64 {
        let bytes = &self.fpu.bytes;
        let x87_initial = bytes[..2] == [0x7F, 3]
            && bytes[2..5] == [0; 3]
            && bytes[6..24].iter().all(|&byte| byte == 0)
            && bytes[32..160].iter().all(|&byte| byte == 0);
        let mut used = if x87_initial { 0 } else { X87 };
        if bytes[160..LEGACY].iter().any(|&byte| byte != 0) {
            used |= SSE;
        }
        if bytes[UPPER..832].iter().any(|&byte| byte != 0) {
            used |= AVX;
        }
        used
    }

    fn requested(&self) -> u64 {
        self.xcr0 & (self.general[0] & 0xFFFF_FFFF | self.general[2] << 32)
    }
}

/// FXSAVE.
pub fn fxsave(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_fxsr()?;
    let (segment, offset) = cpu.effective_address(instruction);
    cpu.check_alignment(segment, offset, 15)?;
    cpu.take_x87();
    let bytes = if cpu.has_sse() { 160 + cpu.vector_bytes() } else { 160 };
    let mut image = [0; LEGACY];
    image.copy_from_slice(&cpu.fpu.bytes[..LEGACY]);
    image[..32].copy_from_slice(&cpu.legacy_head(is_wide(instruction)));
    cpu.prepare_write(segment, offset, 512)?;
    cpu.write_block(segment, offset, &image[..bytes])?;
    Ok(Flow::Next)
}

/// FXRSTOR.
pub fn fxrstor(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_fxsr()?;
    let (segment, offset) = cpu.effective_address(instruction);
    cpu.check_alignment(segment, offset, 15)?;
    let mut image = [0; LEGACY];
    cpu.prepare_read(segment, offset, 512)?;
    cpu.read_block(segment, offset, &mut image)?;
    if dword(&image, MXCSR) & !MXCSR_MASK != 0 {
        return Err(GP);
    }
    cpu.take_x87();
    cpu.put_legacy_x87(&image, is_wide(instruction));
    if cpu.has_sse() {
        let end = 160 + cpu.vector_bytes();
        cpu.fpu.bytes[MXCSR..MXCSR + 4].copy_from_slice(&image[MXCSR..MXCSR + 4]);
        cpu.fpu.bytes[160..end].copy_from_slice(&image[160..end]);
    }
    Ok(Flow::Next)
}

/// How the three saving instructions differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Saving {
    Everything,
    InUse,
    Compacted,
}

fn save(cpu: &mut Cpu, instruction: &Instruction, how: Saving) -> Fallible<Flow> {
    let (segment, offset) = cpu.effective_address(instruction);
    cpu.check_alignment(segment, offset, 63)?;
    cpu.take_x87();
    let (mask, in_use) = (cpu.requested(), cpu.in_use());
    // MXCSR belongs to no component: XSAVEC counts SSE as in use unless it has its initial value too
    let mxcsr_initial = dword(&cpu.fpu.bytes, MXCSR) == 0x1F80;
    let in_use = if how == Saving::Compacted && !mxcsr_initial { in_use | SSE } else { in_use };
    let written = if how == Saving::Everything { mask } else { mask & in_use };
    let vectors = cpu.vector_bytes();
    let end = if mask & AVX != 0 { UPPER + vectors } else { 576 };
    cpu.prepare_write(segment, offset, end as u64)?;
    let at = |from: usize| offset.wrapping_add(from as u64);
    let head = cpu.legacy_head(is_wide(instruction));
    let area = cpu.fpu.bytes;
    if written & X87 != 0 {
        cpu.write_block(segment, offset, &head[..24])?;
        cpu.write_block(segment, at(32), &area[32..160])?;
    }
    let stores_mxcsr = match how {
        Saving::Compacted => written & SSE != 0,
        _ => mask & (SSE | AVX) != 0,
    };
    if stores_mxcsr {
        cpu.write_block(segment, at(MXCSR), &head[MXCSR..32])?;
    }
    if written & SSE != 0 {
        cpu.write_block(segment, at(160), &area[160..160 + vectors])?;
    }
    if written & AVX != 0 {
        cpu.write_block(segment, at(UPPER), &area[UPPER..UPPER + vectors])?;
    }
    if how == Saving::Compacted {
        let mut header = [0; 16];
        header[..8].copy_from_slice(&(mask & in_use).to_le_bytes());
        header[8..].copy_from_slice(&(mask | COMPACTED).to_le_bytes());
        cpu.write_block(segment, offset.wrapping_add(HEADER), &header)?;
    } else {
        let old = cpu.read::<u64>(segment, offset.wrapping_add(HEADER))?;
        cpu.write::<u64>(segment, offset.wrapping_add(HEADER), old & !mask | mask & in_use)?;
    }
    Ok(Flow::Next)
}

/// XSAVE.
pub fn xsave(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_xsave(Feature::Xsave)?;
    save(cpu, instruction, Saving::Everything)
}

/// XSAVEOPT.
pub fn xsaveopt(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_xsave(Feature::Xsaveopt)?;
    save(cpu, instruction, Saving::InUse)
}

/// XSAVEC.
pub fn xsavec(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_xsave(Feature::Xsavec)?;
    save(cpu, instruction, Saving::Compacted)
}

/// XRSTOR.
pub fn xrstor(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    cpu.check_xsave(Feature::Xsave)?;
    let (segment, offset) = cpu.effective_address(instruction);
    cpu.check_alignment(segment, offset, 63)?;
    let mask = cpu.requested();
    let vectors = cpu.vector_bytes();
    let mut image = [0; 832];
    cpu.read_block(segment, offset, &mut image[..576])?;
    let (stored, layout) = (qword(&image, 512), qword(&image, 520));
    let compacted = layout & COMPACTED != 0;
    let reserved = &image[if compacted { 528 } else { 520 }..if compacted { 576 } else { 536 }];
    let bad = reserved.iter().any(|&byte| byte != 0)
        || if compacted {
            let components = layout & !COMPACTED;
            !cpu.model.offers(Feature::Xsavec) || components & !cpu.xcr0 != 0 || stored & !components != 0
        } else {
            stored & !cpu.xcr0 != 0
        };
    if bad {
        return Err(GP);
    }
    if mask & stored & AVX != 0 {
        let upper = offset.wrapping_add(UPPER as u64);
        cpu.read_block(segment, upper, &mut image[UPPER..UPPER + vectors])?;
    }
    let loads_mxcsr = if compacted { mask & stored & SSE != 0 } else { mask & (SSE | AVX) != 0 };
    if loads_mxcsr && dword(&image, MXCSR) & !MXCSR_MASK != 0 {
        return Err(GP);
    }
    cpu.take_x87();
    if mask & X87 != 0 {
        if stored & X87 != 0 {
            cpu.put_legacy_x87(&image, is_wide(instruction));
        } else {
            cpu.reset_x87();
            cpu.fpu.bytes[32..160].fill(0);
        }
    }
    if loads_mxcsr {
        cpu.fpu.bytes[MXCSR..MXCSR + 4].copy_from_slice(&image[MXCSR..MXCSR + 4]);
    } else if compacted && mask & SSE != 0 {
        cpu.fpu.bytes[MXCSR..MXCSR + 4].copy_from_slice(&0x1F80u32.to_le_bytes());
    }
    for (component, start) in [(SSE, 160), (AVX, UPPER)] {
        if mask & component != 0 {
            let range = start..start + vectors;
            if stored & component != 0 {
                cpu.fpu.bytes[range.clone()].copy_from_slice(&image[range]);
            } else {
                cpu.fpu.bytes[range].fill(0);
            }
        }
    }
    Ok(Flow::Next)
}

fn check_mxcsr(cpu: &Cpu, instruction: &Instruction) -> Fallible<()> {
    let vex = matches!(instruction.mnemonic(), Mnemonic::Vldmxcsr | Mnemonic::Vstmxcsr);
    cpu.require(if vex { Feature::Avx } else { Feature::Sse })?;
    cpu.check_class(if vex { Class::Avx } else { Class::Sse })
}

/// LDMXCSR.
pub fn ldmxcsr(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    check_mxcsr(cpu, instruction)?;
    let (segment, offset) = cpu.effective_address(instruction);
    let value = cpu.read::<u32>(segment, offset)?;
    if value & !MXCSR_MASK != 0 {
        return Err(GP);
    }
    cpu.fpu.bytes[MXCSR..MXCSR + 4].copy_from_slice(&value.to_le_bytes());
    Ok(Flow::Next)
}

/// STMXCSR.
pub fn stmxcsr(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    check_mxcsr(cpu, instruction)?;
    let (segment, offset) = cpu.effective_address(instruction);
    let value = dword(&cpu.fpu.bytes, MXCSR);
    cpu.write::<u32>(segment, offset, value)?;
    Ok(Flow::Next)
}
