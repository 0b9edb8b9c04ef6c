//! The rest of the integer instructions, straight from the decoded form: multiplication and division, bits,
//! exchanges, locked operations, decimal adjustment, frames, port I/O, BMI.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::arithmetic::*;
use super::decimal;
use super::fault::{ColdHandler, Fallible, Fault, Flow};
use super::operand::{address_bytes, truncate};
use super::state::{Cpu, flag, mode};
use super::word::Word;
use crate::registers::segment;

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
        M::Bt | M::Bts | M::Btr | M::Btc => sized!(bytes, T => bit_test::<T>),
        M::Bsf | M::Bsr | M::Tzcnt | M::Lzcnt | M::Popcnt => sized!(bytes, T => count::<T>),
        M::Bswap => bswap,
        M::Movbe => movbe,
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
        | M::Shrx => sized!(bytes, T => bmi::<T>),
        M::Adcx | M::Adox => sized!(bytes, T => add_carry::<T>),
        M::Crc32 => crc32,
        M::Movnti => |cpu, i| {
            let bytes = width(i, 0);
            let value = cpu.operand(i, 1, bytes)?;
            cpu.set_operand(i, 0, bytes, value)?;
            Ok(Flow::Next)
        },
        M::Daa | M::Das | M::Aaa | M::Aas | M::Aam | M::Aad => decimal::adjust,
        M::Xlatb => xlat,
        M::Enter => enter,
        M::Leave => leave,
        M::Pusha | M::Pushad => pusha,
        M::Popa | M::Popad => popa,
        M::Bound => bound,
        M::Push if instruction.op0_kind() == OpKind::Memory => push_memory,
        M::Pop if instruction.op0_kind() == OpKind::Memory => pop_memory,
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
        M::Nop
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Prefetchnta
        | M::Prefetchw
        | M::Prefetch
        | M::Prefetchwt1
        | M::Reservednop
        | M::Lfence
        | M::Sfence => |_, _| Ok(Flow::Next),
        M::Mfence => |_, _| {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            Ok(Flow::Next)
        },
        M::Clflush | M::Clflushopt | M::Clwb | M::Cldemote => |cpu, i| {
            let (segment, offset) = cpu.effective_address(i);
            cpu.read::<u8>(segment, offset)?; // faults as a read would
            Ok(Flow::Next)
        },
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
fn width(instruction: &Instruction, operand: u32) -> usize {
    match instruction.op_kind(operand) {
        OpKind::Register => instruction.op_register(operand).size(),
        OpKind::Memory => instruction.memory_size().size(),
        _ => 8,
    }
}

fn holds(cpu: &Cpu, instruction: &Instruction) -> bool {
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

fn modify_memory<T: Word>(
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

fn bit_test<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let mnemonic = i.mnemonic();
    let index = cpu.operand(i, 1, T::BYTES as usize)?;
    let bit = index & (u64::from(T::BITS) - 1);
    let change = |old: T| match mnemonic {
        Mnemonic::Bts => T::of(old.wide() | 1 << bit),
        Mnemonic::Btr => T::of(old.wide() & !(1 << bit)),
        Mnemonic::Btc => T::of(old.wide() ^ 1 << bit),
        _ => old,
    };
    let old = if i.op0_kind() == OpKind::Register {
        let old = T::of(cpu.register(i.op0_register()));
        if mnemonic != Mnemonic::Bt {
            cpu.set_register(i.op0_register(), change(old).wide());
        }
        old
    } else {
        let (segment, mut offset) = cpu.effective_address(i);
        if i.op1_kind() == OpKind::Register {
            // a signed bit offset reaches beyond the operand
            let words = (T::of(index).signed() as i64) >> T::BITS.trailing_zeros();
            let moved = offset.wrapping_add((words as u64).wrapping_mul(T::BYTES));
            offset = truncate(moved, address_bytes(i));
        }
        if mnemonic == Mnemonic::Bt {
            cpu.read::<T>(segment, offset)?
        } else {
            modify_memory::<T>(cpu, i, segment, offset, |_, old| change(old))?
        }
    };
    cpu.set_carry(old.wide() >> bit & 1 != 0);
    Ok(Flow::Next)
}

fn count<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let value = cpu.operand(i, 1, T::BYTES as usize)?;
    let bits = u64::from(T::BITS);
    let leading = u64::from(value.leading_zeros()) - (64 - bits);
    let trailing = u64::from(value.trailing_zeros()).min(bits);
    let result = match i.mnemonic() {
        Mnemonic::Bsf | Mnemonic::Bsr => {
            // zero leaves the destination alone; Intel leaves CF, OF, SF, AF clear, and PF as of the source
            if value != 0 {
                let result = if i.mnemonic() == Mnemonic::Bsf { trailing } else { bits - 1 - leading };
                cpu.set_register(i.op0_register(), result);
            }
            cpu.set_logic(T::of(value));
            return Ok(Flow::Next);
        }
        Mnemonic::Tzcnt => trailing,
        Mnemonic::Lzcnt => leading,
        _ => u64::from(value.count_ones()),
    };
    let carry = i.mnemonic() != Mnemonic::Popcnt && value == 0;
    cpu.set_arithmetic(u64::from(result == 0) << 6 | u64::from(carry));
    cpu.set_register(i.op0_register(), result);
    Ok(Flow::Next)
}

fn swapped(value: u64, bytes: usize) -> u64 {
    value.swap_bytes() >> (64 - 8 * bytes)
}

fn bswap(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let register = i.op0_register();
    let value = match register.size() {
        2 => 0, // undefined; what processors do
        bytes => swapped(cpu.register(register), bytes),
    };
    cpu.set_register(register, value);
    Ok(Flow::Next)
}

fn movbe(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = width(i, 0);
    let value = swapped(cpu.operand(i, 1, bytes)?, bytes);
    cpu.set_operand(i, 0, bytes, value)?;
    Ok(Flow::Next)
}

fn deposit(value: u64, mut mask: u64) -> u64 {
    let (mut result, mut bit) = (0, 0);
    while mask != 0 {
        if value >> bit & 1 != 0 {
            result |= mask & mask.wrapping_neg();
        }
        mask &= mask - 1;
        bit += 1;
    }
    result
}

fn extract(value: u64, mut mask: u64) -> u64 {
    let (mut result, mut bit) = (0, 0);
    while mask != 0 {
        if value & mask & mask.wrapping_neg() != 0 {
            result |= 1 << bit;
        }
        mask &= mask - 1;
        bit += 1;
    }
    result
}

fn bmi<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    use Mnemonic as M;
    if cpu.mode & (mode::REAL | mode::VIRTUAL_8086) != 0 {
        return Err(Fault::invalid_opcode()); // VEX
    }
    let bytes = T::BYTES as usize;
    let bits = u64::from(T::BITS);
    let second = cpu.operand(i, 1, bytes)?;
    let third = if i.op_count() > 2 { cpu.operand(i, 2, bytes)? } else { 0 };
    let turn = third & (bits - 1);
    let result = match i.mnemonic() {
        M::Andn => {
            let result = T::of(!second & third);
            cpu.set_logic(result);
            result
        }
        M::Bextr => {
            let (start, length) = (third & 0xFF, third >> 8 & 0xFF);
            let shifted = second.checked_shr(start as u32).unwrap_or(0);
            let result = T::of(if length >= 64 { shifted } else { shifted & ((1 << length) - 1) });
            cpu.set_arithmetic(u64::from(result.wide() == 0) << 6);
            result
        }
        M::Blsi | M::Blsmsk | M::Blsr => {
            let (result, carry) = match i.mnemonic() {
                M::Blsi => (second & second.wrapping_neg(), second != 0),
                M::Blsmsk => (second ^ second.wrapping_sub(1), second == 0),
                _ => (second & second.wrapping_sub(1), second == 0),
            };
            cpu.set_logic(T::of(result));
            cpu.set_carry(carry);
            if carry {
                cpu.carries = 3 << 62; // CF without OF
            }
            T::of(result)
        }
        M::Bzhi => {
            let index = third & 0xFF;
            let result = T::of(if index >= bits { second } else { second & ((1 << index) - 1) });
            cpu.set_logic(result);
            if index >= bits {
                cpu.carries = 3 << 62;
            }
            result
        }
        M::Mulx => {
            let product = u128::from(T::of(cpu.general[2]).wide()) * u128::from(third);
            cpu.set_register(i.op1_register(), T::of(product as u64).wide());
            T::of((product >> bits) as u64)
        }
        M::Pdep => T::of(deposit(second, third)),
        M::Pext => T::of(extract(second, third)),
        M::Rorx => T::of(second >> turn | second.checked_shl((bits - turn) as u32).unwrap_or(0)),
        M::Sarx => T::of((T::of(second).signed() as i64 >> turn) as u64),
        M::Shlx => T::of(second << turn),
        _ => T::of(second >> turn),
    };
    cpu.set_register(i.op0_register(), result.wide());
    Ok(Flow::Next)
}

fn add_carry<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = T::BYTES as usize;
    let (a, b) = (cpu.operand(i, 0, bytes)?, cpu.operand(i, 1, bytes)?);
    let with_carry = i.mnemonic() == Mnemonic::Adcx;
    let carry = if with_carry { cpu.carry() } else { cpu.overflow() };
    let sum = u128::from(a) + u128::from(b) + u128::from(carry);
    cpu.set_register(i.op0_register(), T::of(sum as u64).wide());
    let out = u64::from(sum >> T::BITS != 0);
    let bit = if with_carry { flag::CF } else { flag::OF };
    let others = cpu.flags() & !bit;
    cpu.set_arithmetic(others | (out * bit));
    Ok(Flow::Next)
}

fn crc32(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = width(i, 1);
    let data = cpu.operand(i, 1, bytes)?;
    let mut crc = cpu.register(i.op0_register().full_register32()) as u32;
    for byte in &data.to_le_bytes()[..bytes] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { 0x82F6_3B78 } else { 0 }; // Castagnoli, reflected
        }
    }
    cpu.set_register(i.op0_register(), u64::from(crc));
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

/// Runs `action`; RSP is as before if it faults.
fn with_stack(cpu: &mut Cpu, action: impl FnOnce(&mut Cpu) -> Fallible<()>) -> Fallible<Flow> {
    let stack = cpu.general[4];
    action(cpu).inspect_err(|_| cpu.general[4] = stack)?;
    Ok(Flow::Next)
}

fn stack_bytes(cpu: &Cpu) -> usize {
    match cpu.mode & (mode::LONG | mode::STACK_32) {
        0 => 2,
        mode::STACK_32 => 4,
        _ => 8,
    }
}

fn set_stack(cpu: &mut Cpu, value: u64) {
    cpu.general[4] = match stack_bytes(cpu) {
        2 => cpu.general[4] & !0xFFFF | value & 0xFFFF,
        bytes => truncate(value, bytes),
    };
}

fn push_memory(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = i.memory_size().size();
    let value = cpu.operand(i, 0, bytes)?; // the address with RSP as it was
    with_stack(cpu, |cpu| cpu.push(value, bytes))
}

fn pop_memory(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = i.memory_size().size();
    with_stack(cpu, |cpu| {
        let value = cpu.pop(bytes)?;
        cpu.set_operand(i, 0, bytes, value) // the address with RSP after the pop
    })
}

fn enter(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let (room, level) = (i.immediate(0) & 0xFFFF, i.immediate(1) & 31);
    let bytes = match i.code() {
        Code::Enterw_imm16_imm8 => 2,
        Code::Enterd_imm16_imm8 => 4,
        _ => 8,
    };
    with_stack(cpu, |cpu| {
        let base = cpu.general[5];
        cpu.push(truncate(base, bytes), bytes)?;
        let frame = cpu.general[4];
        if level > 0 {
            for above in 1..level {
                let at = truncate(base.wrapping_sub(above * bytes as u64), stack_bytes(cpu));
                let value = cpu.read_bytes(segment::SS, at, bytes)?;
                cpu.push(value, bytes)?;
            }
            cpu.push(truncate(frame, bytes), bytes)?;
        }
        let top = cpu.general[4].wrapping_sub(room);
        set_stack(cpu, top);
        // the new top must be writable
        let top = truncate(cpu.general[4], stack_bytes(cpu));
        cpu.prepare_write(segment::SS, top, bytes as u64)?;
        cpu.general[5] = match bytes {
            2 => base & !0xFFFF | frame & 0xFFFF,
            _ => truncate(frame, stack_bytes(cpu).max(bytes)),
        };
        Ok(())
    })
}

/// LEAVE in any mode.
pub fn leave(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = match i.code() {
        Code::Leavew => 2,
        Code::Leaved => 4,
        _ => 8,
    };
    with_stack(cpu, |cpu| {
        let base = cpu.general[5];
        set_stack(cpu, base);
        let value = cpu.pop(bytes)?;
        cpu.general[5] = if bytes == 2 { base & !0xFFFF | value } else { value };
        Ok(())
    })
}

fn pusha(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = if i.mnemonic() == Mnemonic::Pusha { 2 } else { 4 };
    let saved = cpu.general;
    with_stack(cpu, |cpu| saved[..8].iter().try_for_each(|&value| cpu.push(truncate(value, bytes), bytes)))
}

fn popa(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = if i.mnemonic() == Mnemonic::Popa { 2 } else { 4 };
    let mut values = [0; 8];
    with_stack(cpu, |cpu| {
        for value in values.iter_mut().rev() {
            *value = cpu.pop(bytes)?;
        }
        for (number, &value) in values.iter().enumerate().filter(|&(number, _)| number != 4) {
            let old = cpu.general[number];
            cpu.general[number] = if bytes == 2 { old & !0xFFFF | value } else { value };
        }
        Ok(())
    })
}

fn bound(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let bytes = i.op0_register().size();
    let (segment, offset) = cpu.effective_address(i);
    let signed = |value: u64| if bytes == 2 { value as i16 as i64 } else { value as i32 as i64 };
    let index = signed(cpu.register(i.op0_register()));
    let low = signed(cpu.read_bytes(segment, offset, bytes)?);
    let second = truncate(offset.wrapping_add(bytes as u64), address_bytes(i));
    let high = signed(cpu.read_bytes(segment, second, bytes)?);
    if index < low || index > high { Err(Fault::bound_range()) } else { Ok(Flow::Next) }
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
    let value = cpu.bus().port_in(port, bytes);
    cpu.set_register(register, u64::from(value));
    Ok(Flow::Jumped)
}

fn port_out(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let register = i.op1_register();
    let (port, bytes) = (port(cpu, i, 0), register.size());
    cpu.check_io(port, bytes)?;
    cpu.bus().port_out(port, bytes, cpu.register(register) as u32);
    Ok(Flow::Jumped)
}
