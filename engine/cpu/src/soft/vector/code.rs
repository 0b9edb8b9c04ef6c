//! Memory for generated code: one slot of a reserved address range per vCPU, a memfd mapped twice (written
//! through one view, run through the other, never both at once). Each slot begins with a few fixed routines:
//! where a stub goes on when the host CPU raises an exception in it, and the ones that move x87 state.

use std::ptr::{null_mut, slice_from_raw_parts_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use iced_x86::{Code, Encoder, IcedError, Instruction, MemoryOperand, Register};

use super::frame::{FAULT_MXCSR, HOST_MXCSR};
use super::signal;

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 1 << 20;
const SLOTS: usize = 256;

/// Where a stub goes on after #MF in it, from the slot's start.
pub const EXIT_X87: usize = 0;
/// After #XM.
pub const EXIT_SIMD: usize = 32;
/// After #UD.
pub const EXIT_UNDEFINED: usize = 64;
/// Loads the x87 state (and, to no purpose, the rest) from an FXSAVE image.
pub const LOAD_X87: usize = 128;
/// Saves it, and leaves the host's x87 as after FNINIT.
pub const TAKE_X87: usize = 144;
/// Saves it, and leaves it where it is.
pub const PEEK_X87: usize = 160;
/// Stores the status word, and after it the control word.
pub const PEEK_WORDS: usize = 176;
const STUBS: usize = 256;

/// What a stub answers: it ran.
pub const DONE: u32 = 0;
/// The host raised #MF.
pub const X87: u32 = 1;
/// The host raised #XM; MXCSR is in the frame.
pub const SIMD: u32 = 2;
/// The host raised #UD.
pub const UNDEFINED: u32 = 3;

/// Start of the reserved range; 0 until there is one.
static RANGE: AtomicUsize = AtomicUsize::new(0);
static TAKEN: Mutex<[bool; SLOTS]> = Mutex::new([false; SLOTS]);

/// Start of the slot that holds a host instruction address.
pub fn slot_of(address: usize) -> Option<usize> {
    let range = RANGE.load(Ordering::Acquire);
    let inside = range != 0 && (range..range + SLOTS * SLOT_BYTES).contains(&address);
    inside.then_some(address & !(SLOT_BYTES - 1))
}

/// One vCPU's code memory.
#[derive(Debug)]
pub struct CodeMemory {
    slot: usize,
    written: *mut u8,
    run: *mut u8,
    used: usize,
}

/// Stubs as a list of instructions, encoded one after the other.
pub struct Assembler {
    encoder: Encoder,
    result: Result<(), IcedError>,
}

impl Assembler {
    /// No code yet.
    pub fn new() -> Assembler {
        Assembler { encoder: Encoder::new(64), result: Ok(()) }
    }

    /// Appends one instruction; the first error is kept.
    pub fn emit(&mut self, instruction: Result<Instruction, IcedError>) {
        if self.result.is_ok() {
            self.result = instruction.and_then(|i| self.encoder.encode(&i, 0)).map(|_| ());
        }
    }

    /// Appends bytes.
    pub fn raw(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.encoder.write_u8(byte));
    }

    /// Appends an instruction without operands.
    pub fn plain(&mut self, code: Code) {
        self.emit(Ok(Instruction::with(code)));
    }

    /// Appends an instruction whose only operand is memory.
    pub fn memory(&mut self, code: Code, base: Register, at: i64) {
        self.emit(Instruction::with1(code, MemoryOperand::with_base_displ(base, at)));
    }

    /// Appends `register <- memory`.
    pub fn load(&mut self, code: Code, register: Register, base: Register, at: i64) {
        self.emit(Instruction::with2(code, register, MemoryOperand::with_base_displ(base, at)));
    }

    /// Appends `memory <- register`.
    pub fn store(&mut self, code: Code, base: Register, at: i64, register: Register) {
        self.emit(Instruction::with2(code, MemoryOperand::with_base_displ(base, at), register));
    }

    /// The code.
    pub fn finish(mut self) -> Result<Vec<u8>, IcedError> {
        self.result.map(|()| self.encoder.take_buffer())
    }
}

/// Where a stub has the CPU.
pub const CPU: Register = Register::RSI;

fn exit(answer: u32, avx: bool) -> Result<Vec<u8>, IcedError> {
    let mut code = Assembler::new();
    code.memory(Code::Stmxcsr_m32, CPU, FAULT_MXCSR as i64);
    code.memory(Code::Ldmxcsr_m32, CPU, HOST_MXCSR as i64);
    if avx {
        code.plain(Code::VEX_Vzeroupper);
    }
    code.emit(Instruction::with2(Code::Mov_r32_imm32, Register::EAX, answer));
    code.plain(Code::Retnq);
    code.finish()
}

fn routine(first: Code, then: Option<Code>) -> Result<Vec<u8>, IcedError> {
    let mut code = Assembler::new();
    code.memory(first, Register::RDI, 0);
    if let Some(then) = then {
        code.plain(then);
    }
    code.plain(Code::Retnq);
    code.finish()
}

fn words() -> Result<Vec<u8>, IcedError> {
    let mut code = Assembler::new();
    code.memory(Code::Fnstsw_m2byte, Register::RDI, 0);
    code.memory(Code::Fnstcw_m2byte, Register::RDI, 2);
    code.plain(Code::Retnq);
    code.finish()
}

/// Reserves the range on first use. Called with `TAKEN` locked.
fn range() -> Option<usize> {
    let range = RANGE.load(Ordering::Acquire);
    if range != 0 {
        return Some(range);
    }
    let bytes = (SLOTS + 1) * SLOT_BYTES;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping where the kernel likes it, without access.
    let address = unsafe { libc::mmap(null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    if address == libc::MAP_FAILED || !signal::install() {
        return None;
    }
    let start = (address as usize).next_multiple_of(SLOT_BYTES);
    RANGE.store(start, Ordering::Release);
    Some(start)
}

impl CodeMemory {
    /// A slot of its own; `None` if the host gives no executable memory, or all slots are taken.
    pub fn new() -> Option<CodeMemory> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let start = range()?;
        let slot = taken.iter().position(|taken| !taken)?;
        let (written, run) = map_twice((start + slot * SLOT_BYTES) as *mut u8)?;
        taken[slot] = true;
        drop(taken);
        let mut memory = CodeMemory { slot, written, run, used: STUBS };
        memory.write_routines().ok()?;
        Some(memory)
    }

    fn write_routines(&mut self) -> Result<(), IcedError> {
        let avx = std::arch::is_x86_feature_detected!("avx");
        for (at, code) in [
            (EXIT_X87, exit(X87, avx)?),
            (EXIT_SIMD, exit(SIMD, avx)?),
            (EXIT_UNDEFINED, exit(UNDEFINED, avx)?),
            (LOAD_X87, routine(Code::Fxrstor64_m512byte, None)?),
            (TAKE_X87, routine(Code::Fxsave64_m512byte, Some(Code::Fninit))?),
            (PEEK_X87, routine(Code::Fxsave64_m512byte, None)?),
            (PEEK_WORDS, words()?),
        ] {
            self.put(at, &code);
        }
        Ok(())
    }

    fn put(&mut self, at: usize, code: &[u8]) {
        // SAFETY: the writable view is valid for the whole slot, and nothing else refers to it.
        let view = unsafe { &mut *slice_from_raw_parts_mut(self.written, SLOT_BYTES) };
        view[at..at + code.len()].copy_from_slice(code);
    }

    /// Adds code; `None` when the slot is full.
    pub fn add(&mut self, code: &[u8]) -> Option<*const u8> {
        let at = self.used.next_multiple_of(16);
        if at + code.len() > SLOT_BYTES {
            return None;
        }
        self.put(at, code);
        self.used = at + code.len();
        Some(self.at(at))
    }

    /// Forgets all stubs.
    pub fn clear(&mut self) {
        self.used = STUBS;
    }

    /// Address of a place in the slot, to run.
    pub fn at(&self, offset: usize) -> *const u8 {
        debug_assert!(offset < SLOT_BYTES);
        self.run.wrapping_add(offset)
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: both mappings are this slot's own, and its stubs are gone with their vCPU; the slot's
        // addresses stay reserved.
        unsafe {
            libc::munmap(self.written.cast(), SLOT_BYTES);
            libc::mmap(self.run.cast(), SLOT_BYTES, libc::PROT_NONE, flags, -1, 0);
        }
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner)[self.slot] = false;
    }
}

/// Maps new memory writable anywhere, and executable at `run`.
fn map_twice(run: *mut u8) -> Option<(*mut u8, *mut u8)> {
    // SAFETY: a constant name.
    let file = unsafe { libc::memfd_create(c"vitrine-thunks".as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return None;
    }
    let (write, execute) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC);
    // SAFETY: the first mapping is new; the second replaces a slot of the reserved range that is not in use;
    // the file is closed once, by us.
    unsafe {
        let sized = libc::ftruncate(file, SLOT_BYTES as libc::off_t) == 0;
        let written = if sized {
            libc::mmap(null_mut(), SLOT_BYTES, write, libc::MAP_SHARED, file, 0)
        } else {
            libc::MAP_FAILED
        };
        let mut result = None;
        if written != libc::MAP_FAILED {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            if libc::mmap(run.cast(), SLOT_BYTES, execute, flags, file, 0) != libc::MAP_FAILED {
                result = Some((written.cast(), run));
            } else {
                libc::munmap(written, SLOT_BYTES);
            }
        }
        libc::close(file);
        result
    }
}
