//! One instruction on the host's own CPU with all of its state loaded before and stored after: the oracle.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use iced_x86::{Code, Encoder, Instruction, MemoryOperand, Register};

/// Everything an instruction can see and change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// General registers; RSP takes no part.
    pub general: [u64; 16],
    /// The six arithmetic flags.
    pub flags: u64,
    /// XSAVE area, standard layout.
    pub area: [u8; 832],
    /// What the memory operand's base points to.
    pub memory: [u8; MEMORY],
}

/// Bytes of [`State::memory`].
pub const MEMORY: usize = 1024;
/// The six arithmetic flags.
pub const ARITHMETIC: u64 = 0x8D5;

/// Offsets in the data page.
const SAVED_STACK: usize = 0;
const FLAGS_IN: usize = 8;
const FLAGS_OUT: usize = 16;
const HOST_MXCSR: usize = 24;
const FAULT: usize = 32;
const GENERAL_IN: usize = 128;
const GENERAL_OUT: usize = 256;
const AREA_IN: usize = 1024;
const AREA_OUT: usize = 3072;
const OPERAND: usize = 8192;
const CODE: usize = 16384;
const BYTES: usize = 20480;

/// One page of code and some of data.
pub struct Native {
    base: *mut u8,
}

static CODE_START: AtomicUsize = AtomicUsize::new(0);
static RESUME: AtomicUsize = AtomicUsize::new(0);

extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid context.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let trap = registers[libc::REG_TRAPNO as usize] as u64;
    let rip = &mut registers[libc::REG_RIP as usize];
    let start = CODE_START.load(Ordering::SeqCst);
    if (start..start + 4096).contains(&(*rip as usize)) {
        // SAFETY: the data page precedes the code page.
        unsafe { ((start - CODE + FAULT) as *mut u64).write(1 << 8 | trap) };
        *rip = RESUME.load(Ordering::SeqCst) as i64;
    } else {
        // SAFETY: a foreign exception ends the test.
        unsafe { libc::abort() }
    }
}

impl Native {
    /// Installs signal handlers: before the software CPU runs, which then passes on what is not its own. One at a
    /// time in a process.
    pub fn new() -> Native {
        static ONCE: OnceLock<()> = OnceLock::new();
        ONCE.get_or_init(|| {
            for signal in [libc::SIGFPE, libc::SIGILL] {
                // SAFETY: a zeroed sigaction with a handler and flags.
                unsafe {
                    let mut action: libc::sigaction = std::mem::zeroed();
                    action.sa_sigaction = handle as *const () as usize;
                    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                    assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
                }
            }
        });
        let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), BYTES, rights, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        Native { base: base.cast() }
    }

    fn at(&self, offset: usize) -> *mut u8 {
        self.base.wrapping_add(offset)
    }

    /// Address of the memory operand.
    pub fn operand(&self) -> u64 {
        self.at(OPERAND) as u64
    }

    /// Writes the code that runs `bytes` with everything loaded.
    pub fn prepare(&mut self, bytes: &[u8]) {
        let start = self.at(CODE) as u64;
        let mut code: Vec<u8> = Vec::new();
        let data = |offset: usize| MemoryOperand::with_base_displ(Register::RIP, self.at(offset) as i64);
        let emit = |code: &mut Vec<u8>, instruction: Instruction| {
            let mut encoder = Encoder::new(64);
            encoder.encode(&instruction, start + code.len() as u64).expect("a valid instruction");
            code.extend(encoder.take_buffer());
        };
        let saved =
            [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];
        for register in saved {
            emit(&mut code, Instruction::with1(Code::Push_r64, register).unwrap());
        }
        let store = |at, register| Instruction::with2(Code::Mov_rm64_r64, data(at), register).unwrap();
        let load = |register, at| Instruction::with2(Code::Mov_r64_rm64, register, data(at)).unwrap();
        let components = |code: &mut Vec<u8>| {
            emit(code, Instruction::with2(Code::Mov_r32_imm32, Register::EAX, 7).unwrap());
            emit(code, Instruction::with2(Code::Xor_r32_rm32, Register::EDX, Register::EDX).unwrap());
        };
        emit(&mut code, store(SAVED_STACK, Register::RSP));
        components(&mut code);
        emit(&mut code, Instruction::with1(Code::Xrstor64_mem, data(AREA_IN)).unwrap());
        emit(&mut code, Instruction::with1(Code::Push_rm64, data(FLAGS_IN)).unwrap());
        emit(&mut code, Instruction::with(Code::Popfq));
        let registers = || (0..16).filter(|&n| n != 4).map(|n| (n, Register::RAX + n as u32));
        for (n, register) in registers() {
            emit(&mut code, load(register, GENERAL_IN + 8 * n));
        }
        code.extend(bytes);
        let resume = start + code.len() as u64;
        for (n, register) in registers() {
            emit(&mut code, store(GENERAL_OUT + 8 * n, register));
        }
        emit(&mut code, load(Register::RSP, SAVED_STACK));
        emit(&mut code, Instruction::with(Code::Pushfq));
        emit(&mut code, Instruction::with1(Code::Pop_rm64, data(FLAGS_OUT)).unwrap());
        components(&mut code);
        emit(&mut code, Instruction::with1(Code::Xsave64_mem, data(AREA_OUT)).unwrap());
        emit(&mut code, Instruction::with1(Code::Ldmxcsr_m32, data(HOST_MXCSR)).unwrap());
        emit(&mut code, Instruction::with(Code::Fninit));
        emit(&mut code, Instruction::with(Code::VEX_Vzeroupper));
        for register in saved.into_iter().rev() {
            emit(&mut code, Instruction::with1(Code::Pop_r64, register).unwrap());
        }
        emit(&mut code, Instruction::with(Code::Retnq));
        assert!(code.len() < 4096);
        // SAFETY: the code page is ours and long enough.
        unsafe { code.as_ptr().copy_to(self.at(CODE), code.len()) };
        CODE_START.store(start as usize, Ordering::SeqCst);
        RESUME.store(resume as usize, Ordering::SeqCst);
    }

    /// Runs it; `Err` is the exception's vector.
    pub fn run(&mut self, state: &mut State) -> Result<(), u8> {
        let word = |offset: usize| self.at(offset).cast::<u64>();
        // SAFETY: all places lie within the mapping; the code saves what the ABI wants saved, and the only things
        // it does not restore are the vector registers, which are the caller's.
        unsafe {
            state.general.as_ptr().copy_to(word(GENERAL_IN), 16);
            word(FLAGS_IN).write(state.flags & ARITHMETIC | 2);
            word(FAULT).write(0);
            self.at(HOST_MXCSR).cast::<u32>().write(0x1F80);
            state.area.as_ptr().copy_to(self.at(AREA_IN), 832);
            self.at(AREA_IN + 512).write_bytes(0, 64);
            word(AREA_IN + 512).write(7);
            self.at(AREA_OUT).write_bytes(0, 832);
            state.memory.as_ptr().copy_to(self.at(OPERAND), MEMORY);
            let run: unsafe extern "C" fn() = std::mem::transmute(self.at(CODE));
            run();
            let stack = state.general[4];
            word(GENERAL_OUT).copy_to(state.general.as_mut_ptr(), 16);
            state.general[4] = stack;
            state.flags = word(FLAGS_OUT).read() & ARITHMETIC;
            self.at(AREA_OUT).copy_to(state.area.as_mut_ptr(), 832);
            self.at(OPERAND).copy_to(state.memory.as_mut_ptr(), MEMORY);
            match word(FAULT).read() {
                0 => Ok(()),
                fault => Err(fault as u8),
            }
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.base.cast(), BYTES) };
    }
}
