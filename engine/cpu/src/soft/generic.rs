//! The rest of the integer instructions, straight from the decoded form: who executes what, and of it
//! multiplication and division, exchanges, locked operations, port I/O.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::arithmetic::*;
use super::bits;
use super::decimal;
use super::fault::{ColdHandler, Fallible, Fault, Flow};
use super::frames;
use super::operand::truncate;
use super::state::{Cpu, flag};
use super::word::Word;
use crate::CALL_PORT;

macro_rules! sized {
    ($bytes:expr, $word:ident => $handler:expr) => {
        match $bytes {
            1 => {
                type $word = u8;
                let handler: ColdHandler = $handler;
                handler
            }
            2 => {
                type $word = u16;
                let handler: ColdHandler = $handler;
                handler
            }
            4 => {
                type $word = u32;
                let handler: ColdHandler = $handler;
                handler
            }
            _ => {
                type $word = u64;
                let handler: ColdHandler = $handler;
                handler
            }
        }
    };
}

/// Who executes an instruction of this file; `None` if it is not one.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    use Mnemonic as M;
    if (0..instruction.op_count())
        .any(|n| instruction.op_kind(n) == OpKind::Register && !instruction.op_register(n).is_gpr())
    {
        return None;
    }
    let bytes = if instruction.op_count() == 0 { 8 } else { width(instruction, 0) };
    Some(match instruction.mnemonic() {
        M::Add => sized!(bytes, T => alu::<T, Add>),
        M::Or => sized!(bytes, T => alu::<T, Or>),
        M::Adc => sized!(bytes, T => alu::<T, Adc>),
        M::Sbb => sized!(bytes, T => alu::<T, Sbb>),
        M::And => sized!(bytes, T => alu::<T, And>),
        M::Sub => sized!(bytes, T => alu::<T, Sub>),
        M::Xor => sized!(bytes, T => alu::<T, Xor>),
        M::Cmp => sized!(bytes, T => alu::<T, Cmp>),
        M::Test => sized!(bytes, T => alu::<T, Test>),
        M::Inc => sized!(bytes, T => alu::<T, Inc>),
        M::Dec => sized!(bytes, T => alu::<T, Dec>),
        M::Neg => sized!(bytes, T => alu::<T, Neg>),
        M::Not => sized!(bytes, T => alu::<T, Not>),
        M::Shl | M::Sal => sized!(bytes, T => alu::<T, Shl>),
        M::Shr => sized!(bytes, T => alu::<T, Shr>),
        M::Sar => sized!(bytes, T => alu::<T, Sar>),
        M::Rol => sized!(bytes, T => alu::<T, Rol>),
        M::Ror => sized!(bytes, T => alu::<T, Ror>),
        M::Rcl => sized!(bytes, T => alu::<T, Rcl>),
        M::Rcr => sized!(bytes, T => alu::<T, Rcr>),
        M::Shld => sized!(bytes, T => shift_double::<T, true>),
        M::Shrd => sized!(bytes, T => shift_double::<T, false>),
        M::Mul => sized!(bytes, T => mul::<T>),
        M::Imul if instruction.op_count() == 1 => sized!(bytes, T => imul::<T>),
        M::Imul => sized!(bytes, T => imul_rmi::<T>),
        M::Div => sized!(bytes, T => div::<T>),
        M::Idiv => sized!(bytes, T => idiv::<T>),
        M::Xchg => sized!(bytes, T => xchg::<T>),
        M::Xadd => sized!(bytes, T => xadd::<T>),
        M::Cmpxchg => sized!(bytes, T => cmpxchg::<T>),
        M::Cmpxchg8b => cmpxchg8b,
        M::Cmpxchg16b => cmpxchg16b,
        M::Bt | M::Bts | M::Btr | M::Btc => sized!(bytes, T => bits::bit_test::<T>),
        M::Bsf | M::Bsr | M::Tzcnt | M::Lzcnt | M::Popcnt => sized!(bytes, T => bits::count::<T>),
        M::Bswap => bits::bswap,
        M::Movbe => bits::movbe,
        M::Andn
        | M::Bextr
        | M::Blsi
        | M::Blsmsk
        | M::Blsr
        | M::Bzhi
        | M::Mulx
        | M::Pdep
        | M::Pext
        | M::Rorx
        | M::Sarx
        | M::Shlx
        | M::Shrx => sized!(bytes, T => bits::bmi::<T>),
        M::Adcx | M::Adox => sized!(bytes, T => bits::add_carry::<T>),
        M::Crc32 => bits::crc32,
        M::Movnti => |cpu, i| {
            let bytes = width(i, 0);
            let value = cpu.operand(i, 1, bytes)?;
            cpu.set_operand(i, 0, bytes, value)?;
            Ok(Flow::Next)
        },
        M::Daa | M::Das | M::Aaa | M::Aas | M::Aam | M::Aad => decimal::adjust,
        M::Xlatb => xlat,
        M::Enter => frames::enter,
        M::Leave => frames::leave,
        M::Pusha | M::Pushad => frames::pusha,
        M::Popa | M::Popad => frames::popa,
        M::Bound => frames::bound,
        M::Push if instruction.op0_kind() == OpKind::Memory => frames::push_memory,
        M::Pop if instruction.op0_kind() == OpKind::Memory => frames::pop_memory,
        M::Lahf => |cpu, _| {
            let low = cpu.flags() as u8;
            cpu.set_register(Register::AH, u64::from(low));
            Ok(Flow::Next)
        },
        M::Sahf => |cpu, _| {
            let high = cpu.register(Register::AH);
            let overflow = u64::from(cpu.overflow()) << 11;
            cpu.set_arithmetic(high & 0xD5 | overflow);
            Ok(Flow::Next)
        },
        M::Salc => |cpu, _| {
            let value = if cpu.carry() { 0xFF } else { 0 };
            cpu.set_register(Register::AL, value);
            Ok(Flow::Next)
        },
        M::Clc => |cpu, _| {
            cpu.set_carry(false);
            Ok(Flow::Next)
        },
        M::Stc => |cpu, _| {
            cpu.set_carry(true);
            Ok(Flow::Next)
        },
        M::Cmc => |cpu, _| {
            let carry = cpu.carry();
            cpu.set_carry(!carry);
            Ok(Flow::Next)
        },
        M::Cld => |cpu, _| {
            cpu.system_flags &= !flag::DF;
            Ok(Flow::Next)
        },
        M::Std => |cpu, _| {
            cpu.system_flags |= flag::DF;
            Ok(Flow::Next)
        },
        M::In => port_in,
        M::Out => port_out,
        M::Nop if instruction.op_count() == 0 => |_, _| Ok(Flow::Next),
        mnemonic if is_set(mnemonic) => |cpu, i| {
            let value = u64::from(holds(cpu, i));
            cpu.set_operand(i, 0, 1, value)?;
            Ok(Flow::Next)
        },
        mnemonic if is_cmov(mnemonic) => |cpu, i| {
            let bytes = width(i, 0);
            let from = cpu.operand(i, 1, bytes)?; // read, and faults, even if not moved
            let value = if holds(cpu, i) { from } else { cpu.operand(i, 0, bytes)? };
            cpu.set_operand(i, 0, bytes, value)?;
            Ok(Flow::Next)
        },
        _ => return None,
    })
}

/// SETcc.
pub fn is_set(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(
        mnemonic,
        Seto | Setno
            | Setb
            | Setae
            | Sete
            | Setne
            | Setbe
            | Seta
            | Sets
            | Setns
            | Setp
            | Setnp
            | Setl
            | Setge
            | Setle
            | Setg
    )
}

/// CMOVcc.
pub fn is_cmov(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(
        mnemonic,
        Cmovo
            | Cmovno
            | Cmovb
            | Cmovae
            | Cmove
            | Cmovne
            | Cmovbe
            | Cmova
            | Cmovs
            | Cmovns
            | Cmovp
            | Cmovnp
            | Cmovl
            | Cmovge
            | Cmovle
            | Cmovg
    )
}

/// Bytes of an operand.
pub fn width(instruction: &Instruction, operand: u32) -> usize {
    match instruction.op_kind(operand) {
        OpKind::Register => instruction.op_register(operand).size(),
        OpKind::Memory => instruction.memory_size().size(),
        _ => 8,
    }
}

/// Whether the condition of a Jcc, SETcc or CMOVcc holds.
pub fn holds(cpu: &Cpu, instruction: &Instruction) -> bool {
    let condition = instruction.condition_code() as u8 - 1;
    let positive = match condition >> 1 {
        0 => cpu.condition::<0>(),
        1 => cpu.condition::<2>(),
        2 => cpu.condition::<4>(),
        3 => cpu.condition::<6>(),
        4 => cpu.condition::<8>(),
        5 => cpu.condition::<10>(),
        6 => cpu.condition::<12>(),
        _ => cpu.condition::<14>(),
    };
    positive != (condition & 1 != 0)
}

/// Changes operand 0, in one locked access where the instruction says so. Flags that `change` sets are undone
/// when the write faults.
fn modify<T: Word>(
    cpu: &mut Cpu,
    instruction: &Instruction,
    mut change: impl FnMut(&mut Cpu, T) -> T,
) -> Fallible<T> {
    if instruction.op0_kind() == OpKind::Register {
        let register = instruction.op0_register();
        let old = T::of(cpu.register(register));
        let new = change(cpu, old);
        cpu.set_register(register, new.wide());
        return Ok(old);
    }
    let (segment, offset) = cpu.effective_address(instruction);
    modify_memory(cpu, instruction, segment, offset, change)
}

/// The same of memory at this place.
pub fn modify_memory<T: Word>(
    cpu: &mut Cpu,
    instruction: &Instruction,
    segment: usize,
    offset: u64,
    mut change: impl FnMut(&mut Cpu, T) -> T,
) -> Fallible<T> {
    cpu.prepare_write(segment, offset, T::BYTES)?;
    let locked = instruction.has_lock_prefix() || instruction.mnemonic() == Mnemonic::Xchg;
    loop {
        let flags = (cpu.result, cpu.carries);
        let old = cpu.read::<T>(segment, offset)?;
        let new = change(cpu, old);
        if !locked {
            cpu.write::<T>(segment, offset, new)?;
            return Ok(old);
        }
        if cpu.atomic::<T>(segment, offset, |now| if now == old { new } else { now })? == old {
            return Ok(old);
        }
        (cpu.result, cpu.carries) = flags;
    }
}

fn alu<T: Word, O: Alu>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let b = match i.op_count() {
        1 => T::of(0),
        _ if i.op1_kind() == OpKind::Register && i.op1_register() == Register::CL => {
            T::of(cpu.register(Register::CL))
        }
        _ => T::of(cpu.operand(i, 1, T::BYTES as usize)?),
    };
    if O::WRITES {
        modify::<T>(cpu, i, |cpu, a| O::run::<T, true>(cpu, a, b))?;
    } else {
        let a = T::of(cpu.operand(i, 0, T::BYTES as usize)?);
        O::run::<T, true>(cpu, a, b);
    }
    Ok(Flow::Next)
}

fn shift_double<T: Word, const LEFT: bool>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let b = T::of(cpu.operand(i, 1, T::BYTES as usize)?);
    let by = cpu.operand(i, 2, 1)?;
    modify::<T>(cpu, i, |cpu, a| {
        if LEFT { double_shift_left(cpu, a, b, by) } else { double_shift_right(cpu, a, b, by) }.unwrap_or(a)
    })?;
    Ok(Flow::Next)
}

/// The two registers of a double-width value: AX for bytes, else DX:AX and wider.
fn set_pair<T: Word>(cpu: &mut Cpu, low: T, high: T) {
    if T::BITS == 8 {
        cpu.set_register(Register::AX, low.wide() | high.wide() << 8);
        return;
    }
    let (a, d) = match T::BITS {
        16 => (Register::AX, Register::DX),
        32 => (Register::EAX, Register::EDX),
        _ => (Register::RAX, Register::RDX),
    };
    cpu.set_register(a, low.wide());
    cpu.set_register(d, high.wide());
}

fn pair<T: Word>(cpu: &Cpu) -> u128 {
    let (a, d) = (cpu.general[0], cpu.general[2]);
    match T::BITS {
        8 => u128::from(a as u16),
        bits => u128::from(T::of(d).wide()) << bits | u128::from(T::of(a).wide()),
    }
}

fn mul<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let b = cpu.operand(i, 0, T::BYTES as usize)?;
    let product = u128::from(T::of(cpu.general[0]).wide()) * u128::from(b);
    let (low, high) = (T::of(product as u64), T::of((product >> T::BITS) as u64));
    set_pair(cpu, low, high);
    cpu.set_product(low, high.wide() != 0);
    Ok(Flow::Next)
}

fn imul<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let b = T::of(cpu.operand(i, 0, T::BYTES as usize)?);
    let a = T::of(cpu.general[0]);
    let product = i128::from(a.signed() as i64) * i128::from(b.signed() as i64);
    let (low, high) = (T::of(product as u64), T::of((product >> T::BITS) as u64));
    set_pair(cpu, low, high);
    cpu.set_product(low, i128::from(low.signed() as i64) != product);
    Ok(Flow::Next)
}

/// IMUL r, m, imm.
fn imul_rmi<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = T::BYTES as usize;
    let (a, b) = match i.op_count() {
        2 => (cpu.operand(i, 0, bytes)?, cpu.operand(i, 1, bytes)?),
        _ => (cpu.operand(i, 1, bytes)?, cpu.operand(i, 2, bytes)?),
    };
    let result = super::integer::multiply(cpu, T::of(a), T::of(b));
    cpu.set_register(i.op0_register(), result.wide());
    Ok(Flow::Next)
}

fn div<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let divisor = u128::from(cpu.operand(i, 0, T::BYTES as usize)?);
    let dividend = pair::<T>(cpu);
    if divisor == 0 || dividend >> T::BITS >= divisor {
        return Err(Fault::divide_error());
    }
    let (quotient, remainder) = match u64::try_from(dividend) {
        Ok(dividend) => (dividend / divisor as u64, dividend % divisor as u64),
        Err(_) => ((dividend / divisor) as u64, (dividend % divisor) as u64),
    };
    set_pair(cpu, T::of(quotient), T::of(remainder));
    Ok(Flow::Next)
}

fn idiv<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let divisor = i128::from(T::of(cpu.operand(i, 0, T::BYTES as usize)?).signed() as i64);
    let unused = 128 - 2 * T::BITS;
    let dividend = (pair::<T>(cpu) << unused) as i128 >> unused;
    if divisor == 0 {
        return Err(Fault::divide_error());
    }
    let (quotient, overflow) = dividend.overflowing_div(divisor);
    let fits = i128::from(T::of(quotient as u64).signed() as i64) == quotient;
    if overflow || !fits {
        return Err(Fault::divide_error());
    }
    set_pair(cpu, T::of(quotient as u64), T::of((dividend % divisor) as u64));
    Ok(Flow::Next)
}

fn xchg<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    // the memory operand may be either one
    let (memory, register) = if i.op0_kind() == OpKind::Memory { (0, 1) } else { (1, 0) };
    let register = i.op_register(register);
    let new = T::of(cpu.register(register));
    let old = if i.op_kind(memory) == OpKind::Memory {
        let (segment, offset) = cpu.effective_address(i);
        cpu.atomic::<T>(segment, offset, |_| new)?
    } else {
        let other = i.op_register(memory);
        let old = T::of(cpu.register(other));
        cpu.set_register(other, new.wide());
        old
    };
    cpu.set_register(register, old.wide());
    Ok(Flow::Next)
}

fn xadd<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let b = T::of(cpu.register(i.op1_register()));
    if i.op0_kind() == OpKind::Register {
        let a = T::of(cpu.register(i.op0_register()));
        let sum = Add::run::<T, true>(cpu, a, b);
        cpu.set_register(i.op1_register(), a.wide());
        cpu.set_register(i.op0_register(), sum.wide()); // last: XADD of a register with itself doubles it
        return Ok(Flow::Next);
    }
    let old = modify::<T>(cpu, i, |cpu, a| Add::run::<T, true>(cpu, a, b))?;
    cpu.set_register(i.op1_register(), old.wide());
    Ok(Flow::Next)
}

fn cmpxchg<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let accumulator = T::of(cpu.general[0]);
    let new = T::of(cpu.register(i.op1_register()));
    let old = if i.op0_kind() == OpKind::Register {
        let old = T::of(cpu.register(i.op0_register()));
        if old == accumulator {
            cpu.set_register(i.op0_register(), new.wide());
        }
        old
    } else {
        modify::<T>(cpu, i, |_, old| if old == accumulator { new } else { old })?
    };
    Cmp::run::<T, true>(cpu, accumulator, old);
    if old != accumulator {
        let register = match T::BITS {
            8 => Register::AL,
            16 => Register::AX,
            32 => Register::EAX,
            _ => Register::RAX,
        };
        cpu.set_register(register, old.wide());
    }
    Ok(Flow::Next)
}

fn cmpxchg8b(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let low = |cpu: &Cpu, n: usize| cpu.general[n] & 0xFFFF_FFFF;
    let expected = low(cpu, 2) << 32 | low(cpu, 0);
    let new = low(cpu, 1) << 32 | low(cpu, 3);
    let old = modify::<u64>(cpu, i, |_, old| if old == expected { new } else { old })?;
    if old != expected {
        cpu.general[0] = old & 0xFFFF_FFFF;
        cpu.general[2] = old >> 32;
    }
    cpu.set_zero(old == expected);
    Ok(Flow::Next)
}

/// # Safety
/// `at` is writable, aligned to 16 bytes, and the host has CMPXCHG16B.
unsafe fn exchange_16(at: *mut u128, old: u128, new: u128) -> u128 {
    let (mut low, mut high) = (old as u64, (old >> 64) as u64);
    // SAFETY: the caller's; RBX, which the compiler keeps for itself, is put back.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {new_low}",
            "lock cmpxchg16b [{at}]",
            "mov rbx, {new_low}",
            new_low = inout(reg) new as u64 => _,
            at = in(reg) at,
            in("rcx") (new >> 64) as u64,
            inout("rax") low,
            inout("rdx") high,
            options(nostack)
        );
    }
    u128::from(high) << 64 | u128::from(low)
}

fn cmpxchg16b(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let join = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
    let expected = join(cpu.general[2], cpu.general[0]);
    let new = join(cpu.general[1], cpu.general[3]);
    let (segment, offset) = cpu.effective_address(i);
    let linear = cpu.linear(segment, offset, 16, true)?;
    if linear & 15 != 0 {
        return Err(Fault::general_protection(0));
    }
    cpu.prepare_write(segment, offset, 16)?;
    // SAFETY: `tlb` points into `tlbs`.
    let hit = unsafe { (*cpu.tlb).write_hit::<u128>(linear) };
    let old = match hit {
        // SAFETY: the hit is aligned writable memory.
        Some(host) if std::is_x86_feature_detected!("cmpxchg16b") => unsafe {
            exchange_16(host, expected, new)
        },
        _ => {
            let old = join(cpu.read::<u64>(segment, offset + 8)?, cpu.read::<u64>(segment, offset)?);
            let value = if old == expected { new } else { old };
            cpu.write::<u64>(segment, offset, value as u64)?;
            cpu.write::<u64>(segment, offset + 8, (value >> 64) as u64)?;
            old
        }
    };
    if old != expected {
        cpu.general[0] = old as u64;
        cpu.general[2] = (old >> 64) as u64;
    }
    cpu.set_zero(old == expected);
    Ok(Flow::Next)
}

fn xlat(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = match i.memory_base() {
        Register::BX => 2,
        Register::EBX => 4,
        _ => 8,
    };
    let offset = truncate(cpu.general[3].wrapping_add(cpu.general[0] & 0xFF), bytes);
    let segment = super::operand::segment_index(i.memory_segment());
    let value = cpu.read::<u8>(segment, offset)?;
    cpu.set_register(Register::AL, u64::from(value));
    Ok(Flow::Next)
}

fn port(cpu: &Cpu, i: &Instruction, operand: u32) -> u16 {
    if i.op_kind(operand) == OpKind::Register {
        cpu.general[2] as u16
    } else {
        i.immediate(operand) as u16 & 0xFF
    }
}

fn port_in(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let register = i.op0_register();
    let (port, bytes) = (port(cpu, i, 1), register.size());
    cpu.check_io(port, bytes)?;
    cpu.count_exactly()?;
    if !(port == CALL_PORT && bytes == 4 && call(cpu)) {
        let value = cpu.bus().port_in(port, bytes);
        cpu.set_register(register, u64::from(value));
    }
    cpu.watch_port(port, bytes);
    Ok(Flow::Jumped)
}

/// An IN that sees EAX, EBX, ECX and EDX, if there is somebody who looks at them.
fn call(cpu: &mut Cpu) -> bool {
    const NUMBERS: [usize; 4] = [0, 3, 1, 2];
    let mut registers = NUMBERS.map(|number| cpu.general[number] as u32);
    let is_taken = cpu.bus().call(&mut registers);
    if is_taken {
        NUMBERS.into_iter().zip(registers).for_each(|(number, value)| cpu.general[number] = value.into());
    }
    is_taken
}

fn port_out(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let register = i.op1_register();
    let (port, bytes) = (port(cpu, i, 0), register.size());
    cpu.check_io(port, bytes)?;
    cpu.count_exactly()?;
    cpu.bus().port_out(port, bytes, cpu.register(register) as u32);
    cpu.watch_port(port, bytes);
    Ok(Flow::Jumped)
}
