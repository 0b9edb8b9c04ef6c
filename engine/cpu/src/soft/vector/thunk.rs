//! Stubs: the guest's own instruction, with only the registers it uses loaded before and stored after.
//!
//! A stub is called with the host address of its memory operand in RDI, the CPU in RSI and the XSAVE area in RDX.
//! The memory operand is replaced by [RDI]; explicit general registers by R8 to R10;
//! implicit ones can be RAX, RCX and RDX only, and are themselves. Vector registers keep their numbers. x87 and
//! MMX registers are not touched: while the guest's x87 state is live it is the host's (`x87.rs`). An instruction
//! that uses anything else gets no stub.

use iced_x86::{
    Code, EncodingKind, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register, RflagsBits,
};

use super::code::{Assembler, CPU, CodeMemory};
use super::form::{self, Class};
use super::frame::{FLAGS, HOST_MXCSR, NOW_MXCSR};
use crate::soft::state::Cpu;

/// A stub: memory operand, CPU, XSAVE area; the answer is one of `code::{DONE, X87, SIMD, UNDEFINED}`.
pub type Stub = unsafe extern "sysv64" fn(*mut u8, *mut Cpu, *mut u8) -> u32;

/// A stub and how to call it.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The stub.
    pub stub: Stub,
    /// Mode bits to look at before.
    pub care: u32,
    /// What they must be.
    pub want: u32,
    /// Which rules it follows.
    pub class: Class,
    /// Size of the memory operand; 0 if there is none.
    pub bytes: u8,
    /// Alignment of the memory operand, less one.
    pub misaligned: u8,
    /// The memory operand is read.
    pub reads: bool,
    /// The memory operand is written.
    pub writes: bool,
    /// The store must be known to succeed before the instruction runs.
    pub prepares: bool,
    /// The flags go in.
    pub flags_in: bool,
    /// The flags come out.
    pub flags_out: bool,
    /// x87 or MMX registers must be live.
    pub x87: bool,
    /// x87 instruction and data pointers are recorded.
    pub pointers: bool,
    /// An x87 store, which an unmasked exception prevents.
    pub x87_store: bool,
    /// x87 opcode.
    pub opcode: u16,
}

/// The memory operand.
const MEMORY: Register = Register::RDI;
/// The CPU begins with the general registers.
const GENERAL: Register = CPU;
const AREA: Register = Register::R11;
/// Offset of MXCSR in the XSAVE area.
const MXCSR: i64 = 24;

fn low_half(number: usize) -> i64 {
    160 + 16 * number as i64
}

fn high_half(number: usize) -> i64 {
    576 + 16 * number as i64
}

fn xmm(number: usize) -> Register {
    Register::XMM0 + number as u32
}

fn ymm(number: usize) -> Register {
    Register::YMM0 + number as u32
}

/// R8 to R10 in the size of the register they stand for.
fn stand_in(index: usize, bytes: usize) -> Register {
    let first = match bytes {
        1 => Register::R8L,
        2 => Register::R8W,
        4 => Register::R8D,
        _ => Register::R8,
    };
    first + index as u32
}

/// The instruction with its memory operand at [RDI].
pub fn at_bounce(instruction: &Instruction) -> Instruction {
    let mut result = *instruction;
    if (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory) {
        result.set_memory_base(MEMORY);
        result.set_memory_index(Register::None);
        result.set_memory_index_scale(1);
        result.set_memory_displacement64(0);
        result.set_memory_displ_size(0);
        result.set_segment_prefix(Register::None);
    }
    result
}

/// A general register a stub loads, and whether it stores it.
#[derive(Clone, Copy)]
struct General {
    guest: Register,
    host: Register,
    written: bool,
}

fn writes(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

fn reads(access: OpAccess) -> bool {
    matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

/// Everything a stub loads and stores.
struct Plan {
    /// The instruction as it runs.
    instruction: Instruction,
    general: Vec<General>,
    /// Vector registers used, by number.
    vectors: [bool; 16],
    /// Those written.
    stored: [bool; 16],
    /// Memory operand: read, written.
    memory: (bool, bool),
}

impl Plan {
    fn new(original: &Instruction) -> Option<Plan> {
        let mut instruction = at_bounce(original);
        let mut general: Vec<General> = Vec::new();
        if instruction.code() != Code::Fnstsw_AX {
            for n in 0..instruction.op_count() {
                let register = original.op_register(n);
                if instruction.op_kind(n) != OpKind::Register || !register.is_gpr() {
                    continue;
                }
                let high = form::is_high_byte(register);
                let guest = if high { register } else { register.full_register() };
                let known = general.iter().position(|entry| entry.guest == guest);
                let index = known.unwrap_or(general.len());
                if index > 2 {
                    return None;
                }
                if known.is_none() {
                    general.push(General { guest, host: stand_in(index, 8), written: false });
                }
                instruction.set_op_register(n, stand_in(index, register.size()));
            }
        }
        let mut plan =
            Plan { instruction, general, vectors: [false; 16], stored: [false; 16], memory: (false, false) };
        plan.look_up().then_some(plan)
    }

    fn look_up(&mut self) -> bool {
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(&self.instruction);
        for used in info.used_registers() {
            let register = used.register();
            if register.is_vector_register() {
                let number = register.number();
                if number > 15 {
                    return false;
                }
                self.vectors[number] = true;
                self.stored[number] |= writes(used.access());
            } else if register.is_gpr() {
                let full = register.full_register();
                if full == MEMORY {
                    if writes(used.access()) {
                        return false;
                    }
                } else if let Some(entry) = self.general.iter_mut().find(|entry| entry.host == full) {
                    entry.written |= writes(used.access());
                } else if matches!(full, Register::RAX | Register::RCX | Register::RDX) {
                    let written = writes(used.access());
                    self.general.push(General { guest: full, host: full, written });
                } else {
                    return false;
                }
            } else if !(register.is_mm() || register.is_st() || register.is_segment_register()) {
                return false;
            }
        }
        // two stand-ins of one register (AL and AH) could overwrite each other
        let clash = |entry: &General| entry.written && form::is_high_byte(entry.guest);
        if self.general.iter().any(clash) || info.used_memory().len() > 1 {
            return false;
        }
        for used in info.used_memory() {
            self.memory.0 |= reads(used.access());
            self.memory.1 |= writes(used.access());
            if used.base() != MEMORY || used.index() != Register::None || used.displacement() != 0 {
                return false; // not the bounce buffer
            }
        }
        true
    }

    fn load(&self, code: &mut Assembler, vex: bool, wide: bool) {
        code.emit(Instruction::with2(Code::Mov_r64_rm64, AREA, Register::RDX));
        for entry in &self.general {
            if form::is_high_byte(entry.guest) {
                let number = entry.guest.number() as i64 - 4;
                let host = stand_in((entry.host as u32 - Register::R8 as u32) as usize, 4);
                code.load(Code::Movzx_r32_rm8, host, GENERAL, 8 * number + 1);
            } else {
                code.load(Code::Mov_r64_rm64, entry.host, GENERAL, 8 * entry.guest.number() as i64);
            }
        }
        for number in (0..16).filter(|&number| self.vectors[number]) {
            if !vex {
                code.load(Code::Movups_xmm_xmmm128, xmm(number), AREA, low_half(number));
                continue;
            }
            code.load(Code::VEX_Vmovups_xmm_xmmm128, xmm(number), AREA, low_half(number));
            if wide {
                code.emit(Instruction::with4(
                    Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8,
                    ymm(number),
                    ymm(number),
                    iced_x86::MemoryOperand::with_base_displ(AREA, high_half(number)),
                    1,
                ));
            }
        }
    }

    fn store(&self, code: &mut Assembler, vex: bool) {
        for number in (0..16).filter(|&number| self.stored[number]) {
            if !vex {
                code.store(Code::Movups_xmmm128_xmm, AREA, low_half(number), xmm(number));
                continue;
            }
            code.store(Code::VEX_Vmovups_xmmm128_xmm, AREA, low_half(number), xmm(number));
            code.emit(Instruction::with3(
                Code::VEX_Vextractf128_xmmm128_ymm_imm8,
                iced_x86::MemoryOperand::with_base_displ(AREA, high_half(number)),
                ymm(number),
                1,
            ));
        }
        for entry in self.general.iter().filter(|entry| entry.written) {
            code.store(Code::Mov_rm64_r64, GENERAL, 8 * entry.guest.number() as i64, entry.host);
        }
    }
}

/// The six arithmetic flags, in iced's bits.
const ARITHMETIC: u32 =
    RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

/// Why there is no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nothing that stubs can do.
    Unsuitable,
    /// No code memory left.
    Full,
}

/// Loads the guest's MXCSR unless the host has that value already: between stubs the host's control bits are
/// Rust's, but exception flags, which Rust does not look at, stay as the last stub left them.
fn enter_mxcsr(code: &mut Assembler) {
    code.memory(Code::Stmxcsr_m32, CPU, NOW_MXCSR as i64);
    code.load(Code::Mov_r32_rm32, Register::EAX, CPU, NOW_MXCSR as i64);
    code.load(Code::Cmp_r32_rm32, Register::EAX, AREA, MXCSR);
    code.raw(&[0x74, 5]); // JE over the next one
    code.memory(Code::Ldmxcsr_m32, AREA, MXCSR); // five bytes
}

/// Stores the guest's MXCSR, and puts Rust's back if control bits differ.
fn leave_mxcsr(code: &mut Assembler) {
    code.memory(Code::Stmxcsr_m32, AREA, MXCSR);
    code.load(Code::Mov_r32_rm32, Register::EAX, AREA, MXCSR);
    code.emit(Instruction::with2(Code::And_EAX_imm32, Register::EAX, 0xFFC0));
    code.emit(Instruction::with2(Code::Cmp_EAX_imm32, Register::EAX, 0x1F80));
    code.raw(&[0x74, 7]); // JE over the next one
    code.memory(Code::Ldmxcsr_m32, CPU, HOST_MXCSR as i64); // seven bytes
}

/// Makes the stub of an instruction.
pub fn compile(memory: &mut CodeMemory, instruction: &Instruction) -> Result<Form, Refused> {
    let encoding = instruction.encoding();
    if !matches!(encoding, EncodingKind::Legacy | EncodingKind::VEX) || instruction.is_vsib() {
        return Err(Refused::Unsuitable);
    }
    let class = Class::of(instruction);
    let plan = Plan::new(instruction).ok_or(Refused::Unsuitable)?;
    let has_memory = plan.memory.0 || plan.memory.1;
    let bytes = if has_memory { instruction.memory_size().size() } else { 0 };
    if bytes > 32 || has_memory && bytes == 0 {
        return Err(Refused::Unsuitable);
    }
    let vex = class == Class::Avx;
    let operand_is_wide =
        |n| instruction.op_kind(n) == OpKind::Register && instruction.op_register(n).is_ymm() || bytes == 32;
    let wide = vex && (0..instruction.op_count()).any(operand_is_wide);
    let numeric = form::is_numeric(instruction, class);
    if numeric && plan.general.iter().any(|entry| entry.host == Register::RAX) {
        return Err(Refused::Unsuitable); // scratch around MXCSR; no numeric instruction has it implicitly
    }
    let modified = plan.instruction.rflags_modified() & ARITHMETIC;
    let flags_out = modified != 0;
    let flags_in = plan.instruction.rflags_read() & ARITHMETIC != 0 || flags_out && modified != ARITHMETIC;
    let control = form::is_x87_control(instruction);
    let x87_store = class == Class::X87 && plan.memory.1 && !control;

    let mut code = Assembler::new();
    plan.load(&mut code, vex, wide);
    if numeric {
        enter_mxcsr(&mut code);
    }
    if flags_in {
        code.memory(Code::Push_rm64, CPU, FLAGS as i64);
        code.plain(Code::Popfq);
    }
    code.emit(Ok(plan.instruction));
    if flags_out {
        code.plain(Code::Pushfq);
        code.memory(Code::Pop_rm64, CPU, FLAGS as i64);
    }
    if numeric {
        leave_mxcsr(&mut code);
    }
    plan.store(&mut code, vex);
    if vex {
        code.plain(Code::VEX_Vzeroupper);
    }
    code.emit(Instruction::with2(Code::Xor_r32_rm32, Register::EAX, Register::EAX));
    code.plain(Code::Retnq);
    let code = code.finish().map_err(|_| Refused::Unsuitable)?;
    let stub = memory.add(&code).ok_or(Refused::Full)?;
    Ok(Form {
        // SAFETY: the code was made for this signature, and outlives the form: forms are dropped when the
        // memory is cleared.
        stub: unsafe { std::mem::transmute::<*const u8, Stub>(stub) },
        care: class.care(),
        want: class.want(),
        class,
        bytes: bytes as u8,
        misaligned: (form::alignment(instruction, class, bytes) - 1) as u8,
        reads: plan.memory.0,
        writes: plan.memory.1,
        prepares: matches!(class, Class::X87 | Class::Mmx) || numeric || flags_out,
        flags_in,
        flags_out,
        x87: form::needs_x87(instruction, class),
        pointers: class == Class::X87 && !control,
        x87_store,
        opcode: if class == Class::X87 { form::x87_opcode(instruction) } else { 0 },
    })
}
