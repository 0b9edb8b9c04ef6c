//! Instructions on bits: tests, counts, byte order, BMI1 and BMI2, ADX, CRC32.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::fault::{Fallible, Fault, Flow};
use super::generic::{modify_memory, width};
use super::model::Feature;
use super::operand::{address_bytes, truncate};
use super::state::{Cpu, flag, mode};
use super::word::Word;

/// BT, BTS, BTR, BTC.
pub fn bit_test<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
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

/// BSF, BSR, TZCNT, LZCNT, POPCNT.
pub fn count<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let value = cpu.operand(i, 1, T::BYTES as usize)?;
    let bits = u64::from(T::BITS);
    let leading = u64::from(value.leading_zeros()) - (64 - bits);
    let trailing = u64::from(value.trailing_zeros()).min(bits);
    // processors without TZCNT and LZCNT ignore the prefix
    let mnemonic = match i.mnemonic() {
        Mnemonic::Tzcnt if !cpu.model.offers(Feature::Bmi1) => Mnemonic::Bsf,
        Mnemonic::Lzcnt if !cpu.model.offers(Feature::Lzcnt) => Mnemonic::Bsr,
        mnemonic => mnemonic,
    };
    let result = match mnemonic {
        Mnemonic::Bsf | Mnemonic::Bsr => {
            // zero leaves the destination alone; Intel leaves CF, OF, SF, AF clear, and PF as of the source
            if value != 0 {
                let result = if mnemonic == Mnemonic::Bsf { trailing } else { bits - 1 - leading };
                cpu.set_register(i.op0_register(), result);
            }
            cpu.set_logic(T::of(value));
            return Ok(Flow::Next);
        }
        Mnemonic::Tzcnt => trailing,
        Mnemonic::Lzcnt => leading,
        _ => u64::from(value.count_ones()),
    };
    let carry = mnemonic != Mnemonic::Popcnt && value == 0;
    cpu.set_arithmetic(u64::from(result == 0) << 6 | u64::from(carry));
    cpu.set_register(i.op0_register(), result);
    Ok(Flow::Next)
}

fn swapped(value: u64, bytes: usize) -> u64 {
    value.swap_bytes() >> (64 - 8 * bytes)
}

/// BSWAP.
pub fn bswap(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let register = i.op0_register();
    let value = match register.size() {
        2 => 0, // undefined; what processors do
        bytes => swapped(cpu.register(register), bytes),
    };
    cpu.set_register(register, value);
    Ok(Flow::Next)
}

/// MOVBE.
pub fn movbe(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
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

/// BMI1 and BMI2.
pub fn bmi<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
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

/// ADCX, ADOX.
pub fn add_carry<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
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

/// CRC32.
pub fn crc32(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
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
