//! Where the guest's x87 and MMX state is. From its first x87 or MMX instruction on, until the vCPU is left or
//! its state is asked for, it is in the host's x87 registers: Rust code uses none of them. Instruction and data
//! pointers are always in the XSAVE area: the host's would be a stub's.

use iced_x86::Instruction;

use super::code::{CodeMemory, LOAD_X87, PEEK_WORDS, PEEK_X87, TAKE_X87};
use super::form::Class;
use crate::soft::fault::{Fallible, Fault, Flow};
use crate::soft::state::Cpu;

type Routine = unsafe extern "sysv64" fn(*mut u8);

/// Control word, status word, abridged tags.
const WORDS: std::ops::Range<usize> = 0..5;
/// ST0 to ST7.
const STACK: std::ops::Range<usize> = 32..160;

/// Runs one of the slot's fixed routines on an FXSAVE image.
fn call(memory: &CodeMemory, routine: usize, image: &mut super::frame::Image) {
    // SAFETY: the routines were written when the slot was made, for this signature; the image is 512 bytes,
    // aligned, and when loaded holds a valid MXCSR (Rust's own). Vector registers are the caller's to save.
    unsafe {
        let routine = std::mem::transmute::<*const u8, Routine>(memory.at(routine));
        routine(image.0.as_mut_ptr());
    }
}

impl Cpu {
    /// Puts the guest's x87 state into the host's registers.
    #[cold]
    pub(super) fn load_x87(&mut self) {
        let vector = &mut self.vector;
        let Some(Some(memory)) = &vector.memory else { return };
        let image = &mut vector.frame.image;
        image.0[..32].fill(0);
        image.0[WORDS].copy_from_slice(&self.fpu.bytes[WORDS]);
        image.0[24..28].copy_from_slice(&0x1F80u32.to_le_bytes());
        image.0[STACK].copy_from_slice(&self.fpu.bytes[STACK]);
        call(memory, LOAD_X87, image);
        vector.live = true;
    }

    /// Brings the guest's x87 state back into the XSAVE area, and leaves the host's registers clean.
    pub(crate) fn take_x87(&mut self) {
        let vector = &mut self.vector;
        let (true, Some(Some(memory))) = (vector.live, &vector.memory) else { return };
        vector.live = false;
        call(memory, TAKE_X87, &mut vector.frame.image);
        let image = &vector.frame.image.0;
        self.fpu.bytes[WORDS].copy_from_slice(&image[WORDS]);
        self.fpu.bytes[STACK].copy_from_slice(&image[STACK]);
    }

    /// Exceptions flagged and not masked in the live state.
    pub(super) fn x87_exceptions(&self) -> u16 {
        let Some(Some(memory)) = &self.vector.memory else { return 0 };
        let mut words = [0u16; 2];
        // SAFETY: the routine was written when the slot was made, for this signature, and stores two words.
        unsafe {
            let routine = std::mem::transmute::<*const u8, Routine>(memory.at(PEEK_WORDS));
            routine(words.as_mut_ptr().cast());
        }
        words[0] & !words[1] & 0x3F
    }

    /// The XSAVE area as it would be after [`Self::take_x87`].
    pub(crate) fn fpu_area(&self) -> crate::soft::state::FpuArea {
        let mut area = (*self.fpu).clone();
        if let (true, Some(Some(memory))) = (self.vector.live, &self.vector.memory) {
            let mut image = super::frame::Image([0; 512]);
            call(memory, PEEK_X87, &mut image);
            area.bytes[WORDS].copy_from_slice(&image.0[WORDS]);
            area.bytes[STACK].copy_from_slice(&image.0[STACK]);
        }
        area
    }

    /// A pending unmasked x87 exception at a waiting instruction: #MF, or FERR# (IRQ 13) if CR0.NE is clear; the
    /// processor then waits at this instruction for the interrupt.
    pub(super) fn x87_error(&mut self, instruction: &Instruction) -> Fallible<Flow> {
        if self.cr0 & 1 << 5 == 0 {
            self.count_exactly()?;
        }
        if self.cr0 & 1 << 5 == 0 && self.bus().floating_point_error() {
            self.rip = self.rip.wrapping_sub(instruction.len() as u64);
            return Ok(Flow::Jumped);
        }
        Err(Fault::floating_point())
    }

    /// #MF (or FERR#) if an unmasked x87 exception is pending; `None` goes on. For instructions without a stub;
    /// state must have been taken.
    pub(super) fn x87_pending(&mut self, instruction: &Instruction) -> Option<Fallible<Flow>> {
        debug_assert!(!self.vector.live);
        let pending = self.fpu.bytes[2] & !self.fpu.bytes[0] & 0x3F != 0;
        pending.then(|| self.x87_error(instruction))
    }

    /// Changes TOP. Registers keep their places in the file, so the area, which is in stack order, turns.
    pub(super) fn set_x87_top(&mut self, top: u8) {
        debug_assert!(!self.vector.live);
        let area = &mut self.fpu.bytes;
        let by = top.wrapping_sub(area[3] >> 3) & 7;
        area[STACK].rotate_left(16 * usize::from(by));
        area[3] = area[3] & !0x38 | (top & 7) << 3;
    }

    /// Control, status and tag words, opcode and pointers as after FNINIT; the registers keep their bits.
    pub(super) fn reset_x87(&mut self) {
        self.take_x87();
        self.set_x87_top(0);
        self.fpu.bytes[..24].fill(0);
        self.fpu.bytes[..2].copy_from_slice(&0x37Fu16.to_le_bytes());
        self.vector.selectors = [0; 2];
    }
}

/// FNINIT.
pub fn fninit(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    cpu.check_class(Class::X87)?;
    cpu.reset_x87();
    Ok(Flow::Next)
}
