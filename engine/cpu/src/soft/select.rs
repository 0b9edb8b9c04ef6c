//! From decoded instructions to ops: which handler, with which fields. What has no handler of its own
//! becomes a cold op; what nobody knows raises #UD.

use iced_x86::{EncodingKind, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::arithmetic::*;
use super::beyond::{self, is_beyond};
use super::blocks::Cold;
use super::fault::{ColdHandler, Fallible, Fault, Flow};
use super::liveness::flags_are_dead;
use super::model::{Feature, Features};
use super::op::{Base, Flat32, Full, Op, Reach, Run, ZERO};
use super::operand::{address_bytes, segment_index};
use super::state::{Cpu, mode};
use super::{branch, generic, integer, string, vector};

/// In [`Op::bytes`]: `extra` is a [`Cold`] (until the block is placed, its index).
pub const IS_COLD: u8 = 0xFF;

/// The ops of one block, while they are being made.
pub struct Draft {
    /// Ops and exits, in order.
    pub ops: Vec<Op>,
    /// What cold ops point to (through `extra`, by index, until the block is placed).
    pub colds: Vec<Cold>,
    mode: u32,
    features: Features,
    /// The last offset in the code segment.
    limit: u64,
}

macro_rules! sized {
    ($bytes:expr, $word:ident => $run:expr) => {
        match $bytes {
            1 => {
                type $word = u8;
                let run: Run = $run;
                run
            }
            2 => {
                type $word = u16;
                let run: Run = $run;
                run
            }
            4 => {
                type $word = u32;
                let run: Run = $run;
                run
            }
            _ => {
                type $word = u64;
                let run: Run = $run;
                run
            }
        }
    };
}

macro_rules! wide {
    ($bytes:expr, $word:ident => $run:expr) => {
        match $bytes {
            2 => {
                type $word = u16;
                let run: Run = $run;
                run
            }
            4 => {
                type $word = u32;
                let run: Run = $run;
                run
            }
            _ => {
                type $word = u64;
                let run: Run = $run;
                run
            }
        }
    };
}

macro_rules! formed {
    ($form:expr, $handler:path, [$($generic:ty),*], $general:expr) => {
        match $form {
            Reach::Base => { use $handler as handler; handler::<$($generic,)* Base> as Run }
            Reach::Full => { use $handler as handler; handler::<$($generic,)* Full> as Run }
            Reach::Flat32 => { use $handler as handler; handler::<$($generic,)* Flat32> as Run }
            Reach::General => $general as Run,
        }
    };
}

macro_rules! conditional {
    ($condition:expr, $c:ident => $run:expr) => {
        conditional!(@ $condition, $c, $run, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $condition:expr, $c:ident, $run:expr, $($value:literal)*) => {
        match $condition {
            $($value => { const $c: u8 = $value; let run: Run = $run; run })*
            _ => unreachable!("a condition has four bits"),
        }
    };
}

macro_rules! operation {
    ($mnemonic:expr, $o:ident, [$($name:ident $(| $alias:ident)?),*] => $run:expr) => {
        match $mnemonic {
            $(Mnemonic::$name $(| Mnemonic::$alias)? => { type $o = $name; Some({ let run: Run = $run; run }) })*
            _ => None,
        }
    };
}

/// Byte offset in [`Cpu`] of a general register (of no register: the zero).
pub fn place(register: Register) -> u8 {
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => (register.number() as u8 & 3) * 8 + 1,
        register if register.is_gpr() => register.full_register().number() as u8 * 8,
        _ => ZERO,
    }
}

fn is_gpr(instruction: &Instruction, operand: u32) -> bool {
    instruction.op_kind(operand) == OpKind::Register && instruction.op_register(operand).is_gpr()
}

/// Whether an operand is in memory.
pub fn is_memory(instruction: &Instruction, operand: u32) -> bool {
    instruction.op_kind(operand) == OpKind::Memory
}

/// Whether an operand is there, and an immediate.
pub fn is_immediate(instruction: &Instruction, operand: u32) -> bool {
    operand < instruction.op_count() && instruction.try_immediate(operand).is_ok()
}

fn bytes_of(instruction: &Instruction, operand: u32) -> usize {
    match instruction.op_kind(operand) {
        OpKind::Register => instruction.op_register(operand).size(),
        _ => instruction.memory_size().size(),
    }
}

fn condition(instruction: &Instruction) -> u8 {
    instruction.condition_code() as u8 - 1 // iced: None, o, no, b, …
}

/// The feature an integer instruction came with (TZCNT and LZCNT are BSF and BSR without it).
fn needed(instruction: &Instruction) -> Option<Feature> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        // Family 6 reserved these opcodes for hints, which are no operation where they are not known (Intel
        // SDM 2B, NOP); CMOV came with it.
        Nop if instruction.op_count() > 0 => Feature::Cmov,
        Prefetchnta | Prefetcht0 | Prefetcht1 | Prefetcht2 | Reservednop => Feature::Cmov,
        Cldemote | Endbr32 | Endbr64 | Rdsspd | Rdsspq => Feature::Cmov,
        Prefetch | Prefetchw | Prefetchwt1 => Feature::PrefetchW,
        Sfence => Feature::Sse,
        Lfence | Mfence => Feature::Sse2,
        Cmpxchg8b => Feature::Cx8,
        Cmpxchg16b => Feature::Cx16,
        Movbe => Feature::Movbe,
        Popcnt => Feature::Popcnt,
        Crc32 => Feature::Sse42,
        Adcx | Adox => Feature::Adx,
        Andn | Bextr | Blsi | Blsmsk | Blsr => Feature::Bmi1,
        Bzhi | Mulx | Pdep | Pext | Rorx | Sarx | Shlx | Shrx => Feature::Bmi2,
        Movnti => Feature::Sse2,
        mnemonic if generic::is_cmov(mnemonic) => Feature::Cmov,
        _ => return None,
    })
}

fn undefined(_: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    Err(Fault::invalid_opcode())
}

/// The handlers of an instruction that has none in the hot core: as an op, and what that calls.
fn cold_handlers(instruction: &Instruction) -> (Run, ColdHandler) {
    let known = matches!(instruction.encoding(), EncodingKind::Legacy | EncodingKind::VEX);
    if instruction.is_invalid() || !known {
        return (branch::cold, undefined);
    }
    let handler = beyond::handler(instruction)
        .or_else(|| string::handler(instruction))
        .or_else(|| generic::handler(instruction))
        .or_else(|| super::system_handler(instruction));
    match handler {
        Some(handler) => (branch::cold, handler),
        None if vector::has_stub(instruction) => (vector::first, vector::execute),
        None => (branch::cold, undefined),
    }
}

/// What fresh ops are made from.
const BLANK: Op = Op {
    run: branch::exit,
    imm: 0,
    disp: 0,
    rip: 0,
    a: ZERO,
    b: ZERO,
    base: ZERO,
    index: ZERO,
    memory: 0,
    length: 0,
    number: 0,
    bytes: 0,
    extra: std::ptr::null(),
};

fn set_memory(op: &mut Op, instruction: &Instruction) {
    let size = match address_bytes(instruction) {
        2 => 0,
        4 => 1,
        _ => 2,
    };
    let scale = instruction.memory_index_scale().trailing_zeros() as u8;
    op.memory = scale | (segment_index(instruction.memory_segment()) as u8) << 2 | size << 5;
    op.base = place(instruction.memory_base()); // RIP is no general register: iced has added it
    op.index = place(instruction.memory_index());
    op.disp = instruction.memory_displacement64();
}

/// Registers, immediate and memory operand in their usual places.
fn fill(op: &mut Op, instruction: &Instruction) {
    for operand in 0..instruction.op_count().min(3) {
        match instruction.op_kind(operand) {
            OpKind::Register => {
                let at = place(instruction.op_register(operand));
                if operand == 0 { op.a = at } else { op.b = at }
            }
            OpKind::Memory => set_memory(op, instruction),
            _ => {
                if let Ok(value) = instruction.try_immediate(operand) {
                    op.imm = value;
                }
            }
        }
    }
}

impl Draft {
    /// Nothing yet, for this mode, on a processor that offers these features, in a code segment that ends with
    /// `limit`; the vectors are to be used again.
    pub fn new(mode: u32, features: Features, limit: u64, mut ops: Vec<Op>, mut colds: Vec<Cold>) -> Draft {
        ops.clear();
        colds.clear();
        Draft { ops, colds, mode, features, limit }
    }

    /// Whether the processor has it.
    fn offers(&self, instruction: &Instruction) -> bool {
        needed(instruction).is_none_or(|feature| self.features.has(feature))
    }

    fn form(&self, instruction: &Instruction) -> Reach {
        let segment = instruction.memory_segment();
        let long = self.mode & mode::LONG != 0;
        let flat = self.mode & mode::FLAT != 0
            && !matches!(segment, Register::FS | Register::GS)
            && (long || segment != Register::CS);
        match (flat, address_bytes(instruction)) {
            (true, 8) if instruction.memory_index() == Register::None => Reach::Base,
            (true, 8) => Reach::Full,
            (true, 4) => Reach::Flat32,
            _ => Reach::General,
        }
    }

    /// A new op at the end, to be filled in place: fresh ops are slow to copy.
    fn push(&mut self, run: Run, number: usize) -> &mut Op {
        self.ops.push(BLANK);
        let op = self.ops.last_mut().expect("just pushed");
        op.run = run;
        op.number = number as u8;
        op
    }

    /// The op of an instruction, without its operands.
    fn blank(&mut self, instruction: &Instruction, number: usize, run: Run) -> &mut Op {
        let op = self.push(run, number);
        op.rip = instruction.ip();
        op.length = instruction.len() as u8;
        op
    }

    /// Adds the instructions of a block, and its exits.
    pub fn add(&mut self, block: &[Instruction], single: bool) {
        let mut at = 0;
        let mut ended = false;
        while at < block.len() {
            let instruction = &block[at];
            if let Some(next) = block.get(at + 1)
                && !is_beyond(next, self.limit)
                && let Some(run) = fused(instruction, next)
            {
                fill(self.blank(instruction, at, run), instruction);
                self.two_exits(next, at + 2);
                return;
            }
            ended = !is_beyond(instruction, self.limit) && self.branch(instruction, at);
            if !ended {
                let dead = !single && flags_are_dead(block, at);
                if !self.plain(instruction, at, dead) {
                    self.cold(instruction, at);
                }
            }
            at += 1;
        }
        if !ended {
            let next = block.last().map_or(0, |last| last.next_ip());
            let next = if self.mode & mode::LONG != 0 { next } else { next & 0xFFFF_FFFF };
            self.exit(next, block.len(), if single { branch::stop } else { branch::exit });
        }
    }

    fn exit(&mut self, target: u64, instructions: usize, run: Run) {
        self.push(run, instructions).imm = target;
    }

    fn two_exits(&mut self, jump: &Instruction, instructions: usize) {
        let next = if self.mode & mode::LONG != 0 { jump.next_ip() } else { jump.next_ip() & 0xFFFF_FFFF };
        self.exit(next, instructions, branch::exit);
        self.exit(jump.near_branch_target(), instructions, branch::exit);
    }

    fn cold(&mut self, instruction: &Instruction, number: usize) {
        let (mut run, handler) = match self.offers(instruction) {
            true => cold_handlers(instruction),
            false => (branch::cold as Run, undefined as ColdHandler),
        };
        if instruction.code() == iced_x86::Code::Leaveq && self.flat_stack() == 8 {
            run = branch::leave_flat::<u64>;
        }
        if instruction.code() == iced_x86::Code::Leaved && self.flat_stack() == 4 {
            run = branch::leave_flat::<u32>;
        }
        let reach = self.form(instruction);
        let index = self.colds.len();
        self.colds.push(Cold { instruction: *instruction, handler, form: None });
        let op = self.blank(instruction, number, run);
        if (0..instruction.op_count()).any(|n| is_memory(instruction, n)) {
            op.a = reach as u8;
            set_memory(op, instruction);
        }
        op.bytes = IS_COLD;
        op.extra = index as *const ();
    }

    /// The width of a flat stack, 0 if it is not flat.
    fn flat_stack(&self) -> usize {
        match self.mode & (mode::LONG | mode::FLAT | mode::STACK_32) {
            bits if bits & mode::LONG != 0 => 8,
            bits if bits == mode::FLAT | mode::STACK_32 => 4,
            _ => 0,
        }
    }

    /// Near branches with their exits; true if it was one.
    fn branch(&mut self, instruction: &Instruction, number: usize) -> bool {
        use Mnemonic::*;
        let near = matches!(
            instruction.op0_kind(),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
        );
        let near_bytes = match instruction.op0_kind() {
            OpKind::NearBranch16 => 2,
            OpKind::NearBranch32 => 4,
            _ => 8,
        };
        let stack = self.flat_stack();
        match instruction.mnemonic() {
            _ if instruction.has_lock_prefix() => false,
            Jmp if near => {
                self.exit(instruction.near_branch_target(), number + 1, branch::exit);
                true
            }
            Call if near => {
                let run = match (stack, near_bytes) {
                    (8, 8) => branch::call_flat::<u64>,
                    (4, 4) => branch::call_flat::<u32>,
                    _ => branch::call_general,
                };
                self.blank(instruction, number, run).bytes = near_bytes;
                self.exit(instruction.near_branch_target(), number + 1, branch::exit);
                true
            }
            Loop | Loope | Loopne | Jcxz | Jecxz | Jrcxz => {
                let op = self.blank(instruction, number, branch::loop_jump);
                op.a = match instruction.mnemonic() {
                    Loopne => 0,
                    Loope => 1,
                    Loop => 2,
                    _ => 3,
                };
                op.memory = counter_size(instruction) << 5;
                self.two_exits(instruction, number + 1);
                true
            }
            _ if near && instruction.flow_control() == FlowControl::ConditionalBranch => {
                let run = conditional!(condition(instruction), C => branch::jump_if::<C>);
                self.blank(instruction, number, run);
                self.two_exits(instruction, number + 1);
                true
            }
            Ret => {
                let bytes = instruction.stack_pointer_increment_of_return();
                let run = match (stack, bytes) {
                    (8, 8) => branch::ret_flat::<u64>,
                    (4, 4) => branch::ret_flat::<u32>,
                    _ => branch::ret_general,
                };
                let op = self.blank(instruction, number, run);
                op.bytes = bytes;
                op.imm = if is_immediate(instruction, 0) { instruction.immediate(0) } else { 0 };
                true
            }
            Jmp | Call if is_gpr(instruction, 0) => {
                let run = if instruction.mnemonic() == Jmp { branch::jump_r } else { branch::call_r };
                let op = self.blank(instruction, number, run);
                op.bytes = instruction.op0_register().size() as u8;
                op.a = place(instruction.op0_register().full_register());
                true
            }
            Jmp | Call
                if matches!(
                    instruction.flow_control(),
                    FlowControl::IndirectBranch | FlowControl::IndirectCall
                ) && !is_far(instruction) =>
            {
                let bytes = instruction.memory_size().size() as u8;
                let run = match (bytes, self.form(instruction), instruction.mnemonic() == Call) {
                    (8, Reach::Base, false) => branch::jump_m64::<Base, false>,
                    (8, Reach::Full, false) => branch::jump_m64::<Full, false>,
                    (8, Reach::Base, true) => branch::jump_m64::<Base, true>,
                    (8, Reach::Full, true) => branch::jump_m64::<Full, true>,
                    (_, _, false) => branch::jump_m::<false>,
                    (_, _, true) => branch::jump_m::<true>,
                };
                let op = self.blank(instruction, number, run);
                set_memory(op, instruction);
                op.bytes = bytes;
                true
            }
            _ => false,
        }
    }

    /// A hot instruction that is no branch; false, and nothing added, if it is not.
    fn plain(&mut self, instruction: &Instruction, number: usize, dead: bool) -> bool {
        if instruction.is_invalid() || instruction.has_lock_prefix() || !self.offers(instruction) {
            return false;
        }
        let Some(run) = self.plain_handler(instruction, dead) else { return false };
        let op = self.blank(instruction, number, run);
        fill(op, instruction);
        match instruction.mnemonic() {
            Mnemonic::Push => {
                op.bytes = instruction.stack_pointer_increment().unsigned_abs() as u8;
                (op.a, op.b) = (ZERO, op.a);
            }
            Mnemonic::Pop => op.bytes = bytes_of(instruction, 0) as u8,
            _ => {}
        }
        true
    }

    fn plain_handler(&self, instruction: &Instruction, dead: bool) -> Option<Run> {
        use Mnemonic as M;
        let mnemonic = instruction.mnemonic();
        let operands = instruction.op_count();
        let form = if (0..operands).any(|n| is_memory(instruction, n)) {
            self.form(instruction)
        } else {
            Reach::General
        };
        // a register other than a general one: somebody else's
        if (0..operands).any(|n| instruction.op_kind(n) == OpKind::Register && !is_gpr(instruction, n)) {
            return None;
        }
        let gpr = |n: u32| n < operands && is_gpr(instruction, n);
        let memory = |n: u32| n < operands && is_memory(instruction, n);
        let immediate = |n: u32| is_immediate(instruction, n);
        let bytes = if operands == 0 { 0 } else { bytes_of(instruction, 0) };
        let run = match mnemonic {
            M::Nop | M::Endbr64 | M::Endbr32 => integer::nop as Run,
            M::Mov if gpr(0) && gpr(1) => sized!(bytes, T => integer::mov_rr::<T>),
            M::Mov if gpr(0) && memory(1) => {
                sized!(bytes, T => formed!(form, integer::load, [T], integer::load_general::<T>))
            }
            M::Mov if memory(0) && gpr(1) => {
                sized!(bytes, T => formed!(form, integer::store, [T], integer::store_general::<T>))
            }
            M::Mov if gpr(0) && immediate(1) => sized!(bytes, T => integer::mov_ri::<T>),
            M::Mov if memory(0) && immediate(1) => {
                sized!(bytes, T => formed!(form, integer::store_imm, [T], integer::store_imm_general::<T>))
            }
            M::Lea => {
                wide!(bytes, T => formed!(form_of_lea(instruction), integer::lea, [T], integer::lea_general::<T>))
            }
            M::Movzx if gpr(1) => {
                if bytes_of(instruction, 1) == 1 {
                    wide!(bytes, T => integer::movzx_rr::<T, u8>)
                } else {
                    wide!(bytes, T => integer::movzx_rr::<T, u16>)
                }
            }
            M::Movzx => {
                if instruction.memory_size().size() == 1 {
                    wide!(bytes, T => formed!(form, integer::movzx_rm, [T, u8], integer::movzx_general::<T, u8>))
                } else {
                    wide!(bytes, T => formed!(form, integer::movzx_rm, [T, u16], integer::movzx_general::<T, u16>))
                }
            }
            M::Movsx | M::Movsxd if gpr(1) => match bytes_of(instruction, 1) {
                1 => wide!(bytes, T => integer::movsx_rr::<T, u8>),
                2 => wide!(bytes, T => integer::movsx_rr::<T, u16>),
                _ => wide!(bytes, T => integer::movsx_rr::<T, u32>),
            },
            M::Movsx | M::Movsxd => match instruction.memory_size().size() {
                1 => {
                    wide!(bytes, T => formed!(form, integer::movsx_rm, [T, u8], integer::movsx_general::<T, u8>))
                }
                2 => {
                    wide!(bytes, T => formed!(form, integer::movsx_rm, [T, u16], integer::movsx_general::<T, u16>))
                }
                _ => {
                    wide!(bytes, T => formed!(form, integer::movsx_rm, [T, u32], integer::movsx_general::<T, u32>))
                }
            },
            M::Xchg if gpr(0) && gpr(1) => sized!(bytes, T => integer::xchg_rr::<T>),
            M::Cbw => integer::widen::<u16, u8>,
            M::Cwde => integer::widen::<u32, u16>,
            M::Cdqe => integer::widen::<u64, u32>,
            M::Cwd => integer::spread::<u16>,
            M::Cdq => integer::spread::<u32>,
            M::Cqo => integer::spread::<u64>,
            M::Imul if operands == 2 && gpr(1) => wide!(bytes, T => integer::imul_rr::<T>),
            M::Imul if operands == 2 => {
                wide!(bytes, T => formed!(form, integer::imul_rm, [T], integer::imul_rm_general::<T>))
            }
            M::Imul if operands == 3 && gpr(1) => wide!(bytes, T => integer::imul_rri::<T>),
            M::Push if gpr(0) => match (self.flat_stack(), bytes) {
                (8, 8) => branch::push_flat::<u64>,
                (4, 4) => branch::push_flat::<u32>,
                _ => branch::push_general,
            },
            M::Push if immediate(0) => match (self.flat_stack(), instruction.stack_pointer_increment()) {
                (8, -8) => branch::push_imm_flat::<u64>,
                (4, -4) => branch::push_imm_flat::<u32>,
                _ => branch::push_general,
            },
            M::Pop if gpr(0) => match (self.flat_stack(), bytes) {
                (8, 8) => branch::pop_flat::<u64>,
                (4, 4) => branch::pop_flat::<u32>,
                _ => branch::pop_general,
            },
            _ if gpr(0) && operands == 1 && generic::is_set(mnemonic) => {
                conditional!(condition(instruction), C => integer::set_r::<C>)
            }
            _ if gpr(0) && gpr(1) && generic::is_cmov(mnemonic) => {
                conditional!(condition(instruction), C => wide!(bytes, T => integer::cmov_rr::<T, C>))
            }
            _ => return alu(instruction, mnemonic, form, bytes, dead),
        };
        Some(run)
    }
}

fn alu(instruction: &Instruction, mnemonic: Mnemonic, form: Reach, bytes: usize, dead: bool) -> Option<Run> {
    use Mnemonic as M;
    let operands = instruction.op_count();
    let gpr = |n: u32| n < operands && is_gpr(instruction, n);
    let memory = |n: u32| n < operands && is_memory(instruction, n);
    let two =
        matches!(mnemonic, M::Add | M::Or | M::Adc | M::Sbb | M::And | M::Sub | M::Xor | M::Cmp | M::Test);
    let shift = matches!(mnemonic, M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror);
    let one = matches!(mnemonic, M::Inc | M::Dec | M::Neg | M::Not);
    if two && operands == 2 && gpr(0) && gpr(1) || shift && gpr(0) && gpr(1) {
        return operation!(mnemonic, O, [Add, Or, Adc, Sbb, And, Sub, Xor, Cmp, Test, Shl | Sal, Shr, Sar, Rol, Ror] =>
        if dead {
            sized!(bytes, T => integer::alu_rr::<T, O, false>)
        } else {
            sized!(bytes, T => integer::alu_rr::<T, O, true>)
        });
    }
    if two && gpr(0) && memory(1) {
        return operation!(mnemonic, O, [Add, Or, Adc, Sbb, And, Sub, Xor, Cmp] =>
            sized!(bytes, T => formed!(form, integer::alu_rm, [T, O], integer::alu_rm_general::<T, O>)));
    }
    if two && memory(0) && gpr(1) {
        return operation!(mnemonic, O, [Add, Or, Adc, Sbb, And, Sub, Xor, Cmp, Test] =>
            sized!(bytes, T => formed!(form, integer::alu_mr, [T, O], integer::alu_mr_general::<T, O>)));
    }
    let simple = (two || shift) && is_immediate(instruction, 1) || one;
    if simple && gpr(0) {
        return operation!(mnemonic, O,
        [Add, Or, Adc, Sbb, And, Sub, Xor, Cmp, Test, Inc, Dec, Neg, Not, Shl | Sal, Shr, Sar, Rol, Ror] =>
        if dead {
            sized!(bytes, T => integer::alu_ri::<T, O, false>)
        } else {
            sized!(bytes, T => integer::alu_ri::<T, O, true>)
        });
    }
    if simple && memory(0) {
        return operation!(mnemonic, O,
            [Add, Or, Adc, Sbb, And, Sub, Xor, Cmp, Test, Inc, Dec, Neg, Not, Shl | Sal, Shr, Sar] =>
            sized!(bytes, T => formed!(form, integer::alu_mi, [T, O], integer::alu_mi_general::<T, O>)));
    }
    None
}

/// LEA needs no segment.
fn form_of_lea(instruction: &Instruction) -> Reach {
    match address_bytes(instruction) {
        8 if instruction.memory_index() == Register::None => Reach::Base,
        8 => Reach::Full,
        4 => Reach::Flat32,
        _ => Reach::General,
    }
}

fn is_far(instruction: &Instruction) -> bool {
    use iced_x86::Code::*;
    matches!(instruction.code(), Jmp_m1616 | Jmp_m1632 | Jmp_m1664 | Call_m1616 | Call_m1632 | Call_m1664)
}

/// The counter of LOOP and JCXZ: 0 for CX, 1 for ECX, 2 for RCX.
pub fn counter_size(instruction: &Instruction) -> u8 {
    use iced_x86::Code::*;
    match instruction.code() {
        Loopne_rel8_16_CX | Loopne_rel8_32_CX | Loope_rel8_16_CX | Loope_rel8_32_CX | Loop_rel8_16_CX
        | Loop_rel8_32_CX | Jcxz_rel8_16 | Jcxz_rel8_32 => 0,
        Loopne_rel8_16_ECX | Loopne_rel8_32_ECX | Loopne_rel8_64_ECX | Loope_rel8_16_ECX
        | Loope_rel8_32_ECX | Loope_rel8_64_ECX | Loop_rel8_16_ECX | Loop_rel8_32_ECX | Loop_rel8_64_ECX
        | Jecxz_rel8_16 | Jecxz_rel8_32 | Jecxz_rel8_64 => 1,
        _ => 2,
    }
}

/// The handler of an operation on registers and the Jcc that follows it.
fn fused(instruction: &Instruction, jump: &Instruction) -> Option<Run> {
    use Mnemonic as M;
    let near = matches!(jump.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
    let is_jcc = near && jump.flow_control() == FlowControl::ConditionalBranch && jump.is_jcc_short_or_near();
    if !is_jcc || instruction.is_invalid() || instruction.has_lock_prefix() || instruction.op_count() == 0 {
        return None;
    }
    if !is_gpr(instruction, 0) {
        return None;
    }
    let (mnemonic, bytes) = (instruction.mnemonic(), bytes_of(instruction, 0));
    let condition = condition(jump);
    if instruction.op_count() == 2 && is_gpr(instruction, 1) && bytes != 2 {
        return operation!(mnemonic, O, [Cmp, Test] => conditional!(condition, C => match bytes {
            1 => branch::alu_rr_jump::<u8, O, C>,
            4 => branch::alu_rr_jump::<u32, O, C>,
            _ => branch::alu_rr_jump::<u64, O, C>,
        }));
    }
    let one = instruction.op_count() == 1 && matches!(mnemonic, M::Inc | M::Dec);
    if !one && !is_immediate(instruction, 1) {
        return None;
    }
    match bytes {
        1 => {
            operation!(mnemonic, O, [Cmp, Test] => conditional!(condition, C => branch::alu_ri_jump::<u8, O, C>))
        }
        4 => operation!(mnemonic, O, [Cmp, Test, Add, Sub, And, Inc, Dec] =>
            conditional!(condition, C => branch::alu_ri_jump::<u32, O, C>)),
        8 => operation!(mnemonic, O, [Cmp, Test, Add, Sub, And, Inc, Dec] =>
            conditional!(condition, C => branch::alu_ri_jump::<u64, O, C>)),
        _ => None,
    }
}

/// What a near return pops, not counting its immediate.
trait ReturnBytes {
    fn stack_pointer_increment_of_return(&self) -> u8;
}

impl ReturnBytes for Instruction {
    fn stack_pointer_increment_of_return(&self) -> u8 {
        use iced_x86::Code::*;
        match self.code() {
            Retnw | Retnw_imm16 => 2,
            Retnd | Retnd_imm16 => 4,
            _ => 8,
        }
    }
}
