//! Running a stub the long way: checks, memory operand in, the host's CPU, memory operand out. `hot.rs` has the short
//! way, for memory operands with a host address.

use iced_x86::{Instruction, Mnemonic};

use super::code::{self, CodeMemory};
use super::form::{self, Class};
use super::thunk::{self, Form, Refused};
use crate::registers::segment;
use crate::soft::fault::{Fallible, Fault, Flow};
use crate::soft::model::Feature;
use crate::soft::state::{Cpu, flag, mode};

/// Exceptions that keep an x87 store from happening when they are not masked: invalid, denormal, overflow,
/// underflow (an inexact result is stored).
const PREVENTS_STORE: u16 = 0x1B;
const MXCSR: usize = 24;

/// Any instruction that has a stub.
pub fn execute(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let Some(form) = cpu.find_form(instruction)? else { return Ok(again(cpu, instruction)) };
    if cpu.mode & form.care != form.want {
        return Err(form.class.refusal(cpu.mode));
    }
    run(cpu, instruction, &form)
}

/// The instruction is to be executed once more.
fn again(cpu: &mut Cpu, instruction: &Instruction) -> Flow {
    cpu.rip = instruction.ip();
    Flow::Jumped
}

/// FWAIT: #NM by CR0.MP and CR0.TS, else whatever is pending.
pub fn wait(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    if cpu.cr0 & 0xA == 0xA {
        return Err(Fault::device_not_available());
    }
    if !cpu.model.offers(Feature::Fpu) || cpu.mode & mode::EMULATE_FPU != 0 {
        return Ok(Flow::Next);
    }
    let Some(form) = cpu.find_form(instruction)? else { return Ok(again(cpu, instruction)) };
    run(cpu, instruction, &form)
}

/// Runs a stub whose mode has been looked at.
pub(super) fn run(cpu: &mut Cpu, instruction: &Instruction, form: &Form) -> Fallible<Flow> {
    if form.x87 && !cpu.vector.live {
        cpu.load_x87();
    }
    let mut place = (0, 0);
    if form.bytes != 0 {
        place = cpu.effective_address(instruction);
        if let Err(fault) = take_operand(cpu, place, form) {
            return operand_fault(cpu, instruction, form, fault);
        }
    }
    if form.flags_in {
        cpu.vector.frame.flags = cpu.flags() & flag::ARITHMETIC | 2;
    }
    let bounce = cpu.vector.frame.bounce.as_mut_ptr();
    // SAFETY: the buffer is larger than any operand.
    let answer = unsafe { form.call(cpu, bounce) };
    if answer != code::DONE {
        return refused(cpu, answer, instruction);
    }
    if form.flags_out {
        let flags = cpu.vector.frame.flags;
        cpu.set_arithmetic(flags);
    }
    if form.pointers {
        let ip = cpu.rip.wrapping_sub(instruction.len() as u64);
        cpu.note_x87(ip, form.opcode, (form.bytes != 0).then_some(place));
    }
    if form.writes && !(form.x87_store && cpu.x87_exceptions() & PREVENTS_STORE != 0) {
        cpu.drain_bounce(place.0, place.1, form.bytes)?;
    }
    Ok(Flow::Next)
}

/// The memory operand into the bounce buffer, and its place known to be writable where that comes first.
#[inline]
fn take_operand(cpu: &mut Cpu, place: (usize, u64), form: &Form) -> Fallible<()> {
    if form.misaligned != 0 {
        cpu.check_alignment(place.0, place.1, u64::from(form.misaligned))?;
    }
    if form.reads {
        cpu.fill_bounce(place.0, place.1, form.bytes)?;
    }
    if form.writes && form.prepares {
        cpu.prepare_write(place.0, place.1, u64::from(form.bytes))?;
        if form.bytes == 10 {
            cpu.check_user_alignment(place.0, place.1, 8)?;
        }
    }
    Ok(())
}

/// A pending unmasked x87 exception comes before whatever is wrong with the operand (as on the silicon).
#[cold]
fn operand_fault(cpu: &mut Cpu, instruction: &Instruction, form: &Form, fault: Fault) -> Fallible<Flow> {
    use Mnemonic::{Cvtpi2pd, Cvtpi2ps, Fnstcw, Fnstsw};
    let waits = form.x87 && !matches!(instruction.mnemonic(), Fnstcw | Fnstsw | Cvtpi2pd | Cvtpi2ps);
    let words = cpu.fpu_area().bytes;
    if waits && words[2] & !words[0] & 0x3F != 0 { cpu.x87_error(instruction) } else { Err(fault) }
}

/// The host raised an exception in a stub.
#[cold]
pub(super) fn refused(cpu: &mut Cpu, answer: u32, instruction: &Instruction) -> Fallible<Flow> {
    match answer {
        code::X87 => return cpu.x87_error(instruction),
        code::SIMD => {}
        _ => return Err(Fault::invalid_opcode()),
    }
    let mxcsr = cpu.vector.frame.fault_mxcsr;
    cpu.fpu.bytes[MXCSR..MXCSR + 4].copy_from_slice(&mxcsr.to_le_bytes());
    let reported = cpu.cr4 & 1 << 10 != 0; // CR4.OSXMMEXCPT
    Err(if reported { Fault::simd() } else { Fault::invalid_opcode() })
}

impl Cpu {
    /// #UD or #NM, whichever the class has now.
    pub(super) fn check_class(&self, class: Class) -> Fallible<()> {
        if self.mode & class.care() == class.want() { Ok(()) } else { Err(class.refusal(self.mode)) }
    }

    /// #GP unless a linear address is a multiple of `mask` + 1.
    pub(super) fn check_alignment(&self, segment: usize, offset: u64, mask: u64) -> Fallible<()> {
        if self.linear_of(segment, offset) & mask != 0 {
            return Err(Fault::general_protection(0));
        }
        Ok(())
    }

    /// #AC unless a linear address is a multiple of `bytes`, where user code asks for it (SDM 3A, table 6-7).
    pub(super) fn check_user_alignment(&self, segment: usize, offset: u64, bytes: u64) -> Fallible<()> {
        if self.checks_alignment() && self.linear_of(segment, offset) & (bytes - 1) != 0 {
            return Err(Fault::alignment_check());
        }
        Ok(())
    }

    fn linear_of(&self, segment: usize, offset: u64) -> u64 {
        let in_long_data = self.mode & mode::LONG != 0 && segment < segment::FS;
        let base = if in_long_data { 0 } else { self.segments[segment].base };
        offset.wrapping_add(base)
    }

    /// Reads the memory operand into the bounce buffer.
    #[inline]
    fn fill_bounce(&mut self, segment: usize, offset: u64, bytes: u8) -> Fallible<()> {
        macro_rules! fill {
            ($word:ty) => {{
                let value = self.read::<$word>(segment, offset)?;
                self.vector.frame.bounce[..size_of::<$word>()].copy_from_slice(&value.to_le_bytes());
            }};
        }
        match bytes {
            1 => fill!(u8),
            2 => fill!(u16),
            4 => fill!(u32),
            8 => fill!(u64),
            16 => fill!(u128),
            32 => {
                let value = self.read::<[u64; 4]>(segment, offset)?;
                for (n, word) in value.into_iter().enumerate() {
                    self.vector.frame.bounce[8 * n..8 * n + 8].copy_from_slice(&word.to_le_bytes());
                }
            }
            _ => {
                let mut buffer = [0; 64];
                self.read_block(segment, offset, &mut buffer[..bytes as usize])?;
                if bytes == 10 {
                    self.check_user_alignment(segment, offset, 8)?;
                }
                self.vector.frame.bounce = buffer;
            }
        }
        Ok(())
    }

    /// Writes the memory operand from the bounce buffer.
    #[inline]
    fn drain_bounce(&mut self, segment: usize, offset: u64, bytes: u8) -> Fallible<()> {
        macro_rules! drain {
            ($word:ty) => {{
                let bytes = &self.vector.frame.bounce[..size_of::<$word>()];
                let value = <$word>::from_le_bytes(bytes.try_into().expect("as many as asked for"));
                self.write::<$word>(segment, offset, value)
            }};
        }
        match bytes {
            1 => drain!(u8),
            2 => drain!(u16),
            4 => drain!(u32),
            8 => drain!(u64),
            16 => drain!(u128),
            32 => {
                let bounce = &self.vector.frame.bounce;
                let word =
                    |n: usize| u64::from_le_bytes(bounce[8 * n..8 * n + 8].try_into().expect("eight bytes"));
                let value = [word(0), word(1), word(2), word(3)];
                self.write::<[u64; 4]>(segment, offset, value)
            }
            _ => {
                let buffer = self.vector.frame.bounce;
                self.write_block(segment, offset, &buffer[..bytes as usize])
            }
        }
    }

    /// Bytes of one access to a block: where alignment is checked, the block's is its owner's to check.
    fn block_step(&self) -> usize {
        if self.checks_alignment() { 1 } else { 8 }
    }

    /// Reads a run of bytes (at most 4096), all checked before the first is read.
    pub(super) fn read_block(&mut self, segment: usize, offset: u64, bytes: &mut [u8]) -> Fallible<()> {
        self.prepare_read(segment, offset, bytes.len() as u64)?;
        let step = self.block_step();
        let mut at = 0;
        while at < bytes.len() {
            let here = offset.wrapping_add(at as u64);
            if step == 8 && bytes.len() - at >= 8 {
                bytes[at..at + 8].copy_from_slice(&self.read::<u64>(segment, here)?.to_le_bytes());
                at += 8;
            } else if step == 8 && bytes.len() - at >= 2 {
                bytes[at..at + 2].copy_from_slice(&self.read::<u16>(segment, here)?.to_le_bytes());
                at += 2;
            } else {
                bytes[at] = self.read::<u8>(segment, here)?;
                at += 1;
            }
        }
        Ok(())
    }

    /// Writes a run of bytes (at most 4096), all checked before the first is written.
    pub(super) fn write_block(&mut self, segment: usize, offset: u64, bytes: &[u8]) -> Fallible<()> {
        self.prepare_block(segment, offset, bytes.len() as u64)?;
        if self.block_step() == 1 {
            for (at, byte) in bytes.iter().enumerate() {
                self.write::<u8>(segment, offset.wrapping_add(at as u64), *byte)?;
            }
            return Ok(());
        }
        let mut chunks = bytes.chunks_exact(8);
        let mut here = offset;
        for chunk in &mut chunks {
            let value = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            self.write::<u64>(segment, here, value)?;
            here = here.wrapping_add(8);
        }
        let mut pairs = chunks.remainder().chunks_exact(2);
        for pair in &mut pairs {
            self.write::<u16>(segment, here, u16::from_le_bytes([pair[0], pair[1]]))?;
            here = here.wrapping_add(2);
        }
        if let [last] = pairs.remainder() {
            self.write::<u8>(segment, here, *last)?;
        }
        Ok(())
    }

    /// The form of an instruction, made now if need be; #UD if the model has no such instruction; `None` if all
    /// forms, and the blocks that know them, must be dropped first.
    #[cold]
    pub(super) fn find_form(&mut self, instruction: &Instruction) -> Fallible<Option<Form>> {
        if self.vector.forms.is_empty() {
            self.vector.features = self.model.features();
        }
        if self.vector.features != self.model.features() {
            return Ok(self.forms_are_stale());
        }
        // the fields equality does not look at (length, address) stay as they are: unused by forms
        let key = thunk::at_bounce(instruction);
        match self.vector.forms.get(&key) {
            Some(form) => Ok(Some(*form)),
            None => self.make_form(instruction, key),
        }
    }

    fn forms_are_stale(&mut self) -> Option<Form> {
        self.vector.stale = true;
        self.blocks.flush_requested = true;
        self.leave_block = true;
        None
    }

    fn make_form(&mut self, instruction: &Instruction, key: Instruction) -> Fallible<Option<Form>> {
        let offered = |f: &_| form::feature(*f).is_some_and(|feature| self.model.offers(feature));
        let is_wait = instruction.mnemonic() == Mnemonic::Wait;
        if !is_wait && !instruction.cpuid_features().iter().all(offered) {
            return Err(Fault::invalid_opcode());
        }
        let vector = &mut self.vector;
        let memory = vector.memory.get_or_insert_with(CodeMemory::new);
        let memory = memory.as_mut().ok_or(Fault::invalid_opcode())?;
        let mut form = match thunk::compile(memory, instruction) {
            Ok(form) => form,
            Err(Refused::Full) => return Ok(self.forms_are_stale()),
            Err(Refused::Unsuitable) => return Err(Fault::invalid_opcode()),
        };
        if is_wait {
            (form.care, form.want, form.pointers) = (0, 0, false);
        }
        vector.forms.insert(key, form);
        Ok(Some(form))
    }

    /// What FNSTENV will tell about this instruction.
    #[inline(always)]
    pub(super) fn note_x87(&mut self, ip: u64, opcode: u16, data: Option<(usize, u64)>) {
        let mask = if self.mode & mode::LONG != 0 { u64::MAX } else { 0xFFFF_FFFF };
        let ip = ip & mask;
        let area = &mut self.fpu.bytes;
        area[6..8].copy_from_slice(&opcode.to_le_bytes());
        area[8..16].copy_from_slice(&ip.to_le_bytes());
        self.vector.selectors[0] = self.segments[segment::CS].selector;
        if let Some((segment, offset)) = data {
            area[16..24].copy_from_slice(&offset.to_le_bytes());
            self.vector.selectors[1] = self.segments[segment].selector;
        }
    }
}

impl super::Vector {
    /// Forms and stubs go, if they must. Only while no block is left that knows them.
    pub(in crate::soft) fn drop_stale_forms(&mut self) {
        if std::mem::take(&mut self.stale) {
            self.forms.clear();
            if let Some(Some(memory)) = &mut self.memory {
                memory.clear();
            }
        }
    }
}

impl Form {
    /// Runs the stub; the answer is one of `code::{DONE, X87, SIMD, UNDEFINED}`.
    ///
    /// # Safety
    /// The form has not been dropped; `memory` is valid for the accesses of its memory operand.
    #[inline(always)]
    pub(super) unsafe fn call(&self, cpu: &mut Cpu, memory: *mut u8) -> u32 {
        let area = cpu.fpu.bytes.as_mut_ptr();
        // SAFETY: the stub was made by `thunk::compile`, and forms go before their code. It reaches the operand, the
        // CPU's general registers and frame, and the XSAVE area, all of full size, and restores MXCSR. x87 state
        // is the guest's while `live`.
        unsafe { (self.stub)(memory, cpu, area) }
    }
}
