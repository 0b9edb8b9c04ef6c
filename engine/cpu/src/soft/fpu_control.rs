//! The x87 instructions that touch only control and status words: FNINIT, FNCLEX, FLDCW, FNSTCW, FNSTSW,
//! WAIT (Intel SDM 2A). With them a BIOS finds its coprocessor; arithmetic runs in host thunks.

use iced_x86::{Instruction, Mnemonic};

use crate::soft::fault::{ColdHandler, Fallible, Fault, Flow};
use crate::soft::state::{Cpu, FpuArea};
use crate::soft::walk::bits;

/// The cold handler of an x87 control instruction.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Fninit => fninit,
        Mnemonic::Fnclex => fnclex,
        Mnemonic::Fldcw => fldcw,
        Mnemonic::Fnstcw => fnstcw,
        Mnemonic::Fnstsw => fnstsw,
        Mnemonic::Wait => wait,
        _ => return None,
    })
}

/// Exception flags of the status word.
const EXCEPTIONS: u16 = 0x3F;
/// Status word: exception summary and busy.
const SUMMARY: u16 = 0x8080;

impl FpuArea {
    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn set_word(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// Whether an exception flag is set that the control word does not mask.
    fn has_unmasked_exception(&self) -> bool {
        self.word(2) & !self.word(0) & EXCEPTIONS != 0
    }

    /// Summary and busy follow from the flags and masks.
    fn settle(&mut self) {
        let summary = if self.has_unmasked_exception() { SUMMARY } else { 0 };
        self.set_word(2, self.word(2) & !SUMMARY | summary);
    }
}

fn require_x87(cpu: &Cpu) -> Fallible<()> {
    if cpu.cr0 & (bits::CR0_EM | bits::CR0_TS) != 0 { Err(Fault::device_not_available()) } else { Ok(()) }
}

fn fninit(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    require_x87(cpu)?;
    cpu.fpu.bytes[..24].fill(0); // status, tags (all empty), opcode, pointers
    cpu.fpu.set_word(0, 0x37F);
    Ok(Flow::Next)
}

fn fnclex(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    require_x87(cpu)?;
    let kept = cpu.fpu.word(2) & 0x7F00;
    cpu.fpu.set_word(2, kept);
    Ok(Flow::Next)
}

fn fldcw(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    require_x87(cpu)?;
    if cpu.fpu.has_unmasked_exception() {
        return Err(Fault::floating_point());
    }
    let control = cpu.operand(instruction, 0, 2)? as u16;
    cpu.fpu.set_word(0, control & 0x1F7F | 0x40);
    cpu.fpu.settle();
    Ok(Flow::Next)
}

fn fnstcw(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    require_x87(cpu)?;
    let control = cpu.fpu.word(0);
    cpu.set_operand(instruction, 0, 2, u64::from(control))?;
    Ok(Flow::Next)
}

fn fnstsw(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    require_x87(cpu)?;
    let status = cpu.fpu.word(2);
    cpu.set_operand(instruction, 0, 2, u64::from(status))?;
    Ok(Flow::Next)
}

fn wait(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    let monitored = bits::CR0_MP | bits::CR0_TS;
    if cpu.cr0 & monitored == monitored {
        return Err(Fault::device_not_available());
    }
    if cpu.fpu.has_unmasked_exception() {
        return Err(Fault::floating_point());
    }
    Ok(Flow::Next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soft::testing::machine;
    use iced_x86::Decoder;

    fn run(cpu: &mut Cpu, bytes: &[u8]) -> Fallible<Flow> {
        let instruction = Decoder::new(16, bytes, 0).decode();
        handler(&instruction).expect("an x87 control instruction")(cpu, &instruction)
    }

    #[test]
    fn a_bios_finds_the_coprocessor() {
        let (mut cpu, bus) = machine(4);
        cpu.cr0 &= !(bits::CR0_EM | bits::CR0_TS);
        bus.put(0x100, &[0xFF; 4]);
        cpu.with_bus(&bus, |cpu| {
            run(cpu, &[0xDB, 0xE3]).unwrap(); // fninit
            run(cpu, &[0xDD, 0x3E, 0x00, 0x01]).unwrap(); // fnstsw [0x100]
            run(cpu, &[0xD9, 0x3E, 0x02, 0x01]).unwrap(); // fnstcw [0x102]
        });
        assert_eq!((bus.get16(0x100), bus.get16(0x102)), (0, 0x37F));
    }

    #[test]
    fn task_switched_and_emulation_raise_nm() {
        let (mut cpu, bus) = machine(4);
        cpu.with_bus(&bus, |cpu| {
            for flag in [bits::CR0_TS, bits::CR0_EM] {
                cpu.cr0 = cpu.cr0 & !(bits::CR0_TS | bits::CR0_EM) | flag;
                assert_eq!(run(cpu, &[0xDF, 0xE0]), Err(Fault::device_not_available()));
            }
            assert_eq!(run(cpu, &[0x9B]), Ok(Flow::Next), "MP is clear");
            cpu.cr0 |= bits::CR0_MP | bits::CR0_TS;
            assert_eq!(run(cpu, &[0x9B]), Err(Fault::device_not_available()));
        });
    }

    #[test]
    fn unmasking_a_pending_exception_shows_in_the_status() {
        let (mut cpu, bus) = machine(4);
        bus.put(0x100, &0x33Fu16.to_le_bytes());
        cpu.with_bus(&bus, |cpu| {
            cpu.fpu.set_word(0, 0x37F);
            cpu.fpu.set_word(2, 4); // zero divide, masked
            run(cpu, &[0x9B]).unwrap();
            bus.put(0x100, &0x37Bu16.to_le_bytes());
            run(cpu, &[0xD9, 0x2E, 0x00, 0x01]).unwrap(); // fldcw [0x100]
            assert_eq!(cpu.fpu.word(2), 0x8084);
            assert_eq!(run(cpu, &[0x9B]), Err(Fault::floating_point()));
            run(cpu, &[0xDB, 0xE2]).unwrap(); // fnclex
            assert_eq!(run(cpu, &[0x9B]), Ok(Flow::Next));
        });
    }
}
