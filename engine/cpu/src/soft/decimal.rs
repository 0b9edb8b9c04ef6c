//! Decimal adjustment: DAA, DAS, AAA, AAS, AAM, AAD (Intel SDM 2A, the operations as given there).

use iced_x86::{Instruction, Mnemonic, Register};

use super::fault::{Fallible, Fault, Flow};
use super::state::{Cpu, flag};

/// Any of them.
pub fn adjust(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    let (al, ah) = (cpu.general[0] as u8, (cpu.general[0] >> 8) as u8);
    match instruction.mnemonic() {
        Mnemonic::Daa => packed(cpu, al, false),
        Mnemonic::Das => packed(cpu, al, true),
        Mnemonic::Aaa => unpacked(cpu, al, |ax| ax.wrapping_add(0x106)),
        Mnemonic::Aas => unpacked(cpu, al, |ax| ax.wrapping_sub(0x106)),
        Mnemonic::Aam => {
            let base = instruction.immediate(0) as u8;
            if base == 0 {
                return Err(Fault::divide_error());
            }
            cpu.set_register(Register::AX, u64::from(al / base) << 8 | u64::from(al % base));
            cpu.set_logic(al % base);
        }
        _ => {
            let base = instruction.immediate(0) as u8;
            let value = al.wrapping_add(ah.wrapping_mul(base));
            cpu.set_register(Register::AX, u64::from(value));
            cpu.set_logic(value);
        }
    }
    Ok(Flow::Next)
}

fn packed(cpu: &mut Cpu, al: u8, subtract: bool) {
    let carry = cpu.carry();
    let low = al & 0xF > 9 || cpu.auxiliary();
    let high = al > 0x99 || carry;
    let by = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    let value = if subtract { al.wrapping_sub(by) } else { al.wrapping_add(by) };
    // the low digit's own borrow counts for DAS
    let carry = high || (low && subtract && al < 6);
    cpu.set_register(Register::AL, u64::from(value));
    cpu.set_logic(value);
    cpu.set_carry(carry);
    cpu.set_auxiliary(low);
    if carry {
        let others = cpu.flags() & !flag::OF;
        cpu.set_arithmetic(others);
    }
}

fn unpacked(cpu: &mut Cpu, al: u8, change: fn(u16) -> u16) {
    let adjusted = al & 0xF > 9 || cpu.auxiliary();
    let ax = cpu.general[0] as u16;
    let ax = if adjusted { change(ax) } else { ax } & 0xFF0F;
    cpu.set_register(Register::AX, u64::from(ax));
    cpu.set_logic(ax as u8);
    cpu.set_carry(adjusted);
    cpu.set_auxiliary(adjusted);
    let others = cpu.flags() & !flag::OF;
    cpu.set_arithmetic(others);
}
