//! String instructions with all their prefixes. Runs within a page go in bulk; registers are exact at every
//! fault and interruption, and a repetition that is interrupted starts again at its own instruction.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::arithmetic::{Alu, Cmp};
use super::fault::{ColdHandler, Fallible, Flow};
use super::operand::segment_index;
use super::state::{Cpu, flag};
use super::word::Word;
use crate::registers::segment;

const RCX: usize = 1;
const RSI: usize = 6;
const RDI: usize = 7;

/// Elements between looks at the pins where one element is one port access.
const PORT_BURST: u64 = 1024;

/// Who executes a string instruction.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    use Mnemonic::*;
    if !instruction.is_string_instruction() {
        return None;
    }
    Some(match instruction.mnemonic() {
        Movsb => copy::<u8>,
        Movsw => copy::<u16>,
        Movsd => copy::<u32>,
        Movsq => copy::<u64>,
        Stosb => fill::<u8>,
        Stosw => fill::<u16>,
        Stosd => fill::<u32>,
        Stosq => fill::<u64>,
        Lodsb => load::<u8>,
        Lodsw => load::<u16>,
        Lodsd => load::<u32>,
        Lodsq => load::<u64>,
        Scasb => scan::<u8>,
        Scasw => scan::<u16>,
        Scasd => scan::<u32>,
        Scasq => scan::<u64>,
        Cmpsb => compare::<u8>,
        Cmpsw => compare::<u16>,
        Cmpsd => compare::<u32>,
        Cmpsq => compare::<u64>,
        Insb => input::<u8>,
        Insw => input::<u16>,
        Insd => input::<u32>,
        Outsb => output::<u8>,
        Outsw => output::<u16>,
        Outsd => output::<u32>,
        _ => return None,
    })
}

/// What the prefixes say.
struct Shape {
    /// Address size as a mask.
    mask: u64,
    /// Segment of the source.
    source: usize,
    /// Added to an index per element.
    step: u64,
    backwards: bool,
    repeated: bool,
    /// ZF that ends a repeated comparison.
    until: bool,
}

impl Shape {
    fn new<T: Word>(cpu: &Cpu, instruction: &Instruction) -> Shape {
        let kinds = [instruction.op0_kind(), instruction.op1_kind()];
        let mask = if kinds.iter().any(|kind| matches!(kind, OpKind::MemorySegSI | OpKind::MemoryESDI)) {
            0xFFFF
        } else if kinds.iter().any(|kind| matches!(kind, OpKind::MemorySegESI | OpKind::MemoryESEDI)) {
            0xFFFF_FFFF
        } else {
            u64::MAX
        };
        let backwards = cpu.system_flags & flag::DF != 0;
        Shape {
            mask,
            source: segment_index(instruction.memory_segment()),
            step: if backwards { T::BYTES.wrapping_neg() } else { T::BYTES },
            backwards,
            repeated: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
            until: instruction.has_repne_prefix(),
        }
    }

    fn count(&self, cpu: &Cpu) -> u64 {
        if self.repeated { cpu.general[RCX] & self.mask } else { 1 }
    }

    fn at(&self, cpu: &Cpu, register: usize) -> u64 {
        cpu.general[register] & self.mask
    }

    fn set(&self, cpu: &mut Cpu, register: usize, value: u64) {
        let old = cpu.general[register];
        cpu.general[register] = match self.mask {
            0xFFFF => old & !0xFFFF | value & 0xFFFF,
            mask => value & mask,
        };
    }

    fn advance(&self, cpu: &mut Cpu, register: usize, elements: u64) {
        let value = cpu.general[register].wrapping_add(self.step.wrapping_mul(elements));
        self.set(cpu, register, value);
    }

    fn counted(&self, cpu: &mut Cpu, elements: u64) {
        if self.repeated {
            let value = cpu.general[RCX].wrapping_sub(elements);
            self.set(cpu, RCX, value);
        }
    }

    /// Elements from `offset` up that stay in the page of `linear` and below the end of the address size.
    fn run<T: Word>(&self, offset: u64, linear: u64, count: u64) -> u64 {
        if self.backwards {
            return 0;
        }
        let in_page = (0x1000 - (linear & 0xFFF)) / T::BYTES;
        let to_end = (self.mask - offset) / T::BYTES; // one less than fit, at worst
        count.min(in_page).min(to_end)
    }
}

/// Elements that go in bulk as fast as a plain instruction.
const BULK: u64 = 16;
/// Work of one go of a repetition, besides its elements.
const GO: u64 = 2;
/// Work of an access to a device.
const ACCESS: u64 = 16;

/// Repeats `body`, which does up to so many elements and says how many it did and whether that is the end.
fn repeat(
    cpu: &mut Cpu,
    instruction: &Instruction,
    shape: &Shape,
    mut body: impl FnMut(&mut Cpu, u64) -> Fallible<(u64, bool)>,
) -> Fallible<Flow> {
    // no element, no access
    let mut count = shape.count(cpu);
    if shape.repeated && shape.mask == 0xFFFF_FFFF && count == 0 {
        return Ok(Flow::Next);
    }
    let stepping = cpu.system_flags & flag::TF != 0;
    while count != 0 {
        let (done, ended) = body(cpu, if stepping { 1 } else { count })?;
        shape.counted(cpu, done);
        if !shape.repeated {
            break;
        }
        let left = shape.count(cpu);
        cpu.worked(GO + (count - left) / BULK);
        if ended {
            break;
        }
        count = left;
        if count != 0 && (stepping || cpu.leave_block || cpu.has_worked_enough() || cpu.pins.word() != 0) {
            cpu.rip = instruction.ip();
            return Ok(Flow::Again);
        }
    }
    // Many short ones in a row are as long as one.
    cpu.leave_block |= cpu.has_worked_enough();
    Ok(Flow::Next)
}

fn copy<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let shape = Shape::new::<T>(cpu, i);
    repeat(cpu, i, &shape, |cpu, count| {
        let done = match copy_run::<T>(cpu, &shape, count)? {
            0 => {
                let value = cpu.read::<T>(shape.source, shape.at(cpu, RSI))?;
                cpu.write::<T>(segment::ES, shape.at(cpu, RDI), value)?;
                1
            }
            done => done,
        };
        shape.advance(cpu, RSI, done);
        shape.advance(cpu, RDI, done);
        Ok((done, false))
    })
}

/// Copies what lies within one page on both sides; 0 if that takes the slow way.
fn copy_run<T: Word>(cpu: &mut Cpu, shape: &Shape, count: u64) -> Fallible<u64> {
    if count < 2 || shape.backwards {
        return Ok(0);
    }
    let (from, to) = (shape.at(cpu, RSI), shape.at(cpu, RDI));
    let (Ok(source), Ok(target)) =
        (cpu.linear(shape.source, from, T::BYTES, false), cpu.linear(segment::ES, to, T::BYTES, true))
    else {
        return Ok(0);
    };
    let count = shape.run::<T>(from, source, shape.run::<T>(to, target, count));
    let bytes = count * T::BYTES;
    if count < 2
        || cpu.linear(shape.source, from, bytes, false).is_err()
        || cpu.linear(segment::ES, to, bytes, true).is_err()
    {
        return Ok(0);
    }
    let Some((source, _)) = cpu.host_read_run(source, bytes)? else { return Ok(0) };
    let Some((target, _)) = cpu.host_write_run(target, bytes)? else { return Ok(0) };
    let distance = (target as usize).wrapping_sub(source as usize);
    // SAFETY: both runs are host memory of the guest, and `bytes` stays within their pages.
    unsafe {
        if distance != 0 && distance < bytes as usize {
            // what was written is read again: element by element
            for element in 0..count as usize {
                let value = source.cast::<T>().add(element).read_unaligned();
                target.cast::<T>().add(element).write_unaligned(value);
            }
        } else {
            source.copy_to(target, bytes as usize);
        }
    }
    Ok(count)
}

fn fill<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let shape = Shape::new::<T>(cpu, i);
    repeat(cpu, i, &shape, |cpu, count| {
        let value = T::of(cpu.general[0]);
        let (to, mut done) = (shape.at(cpu, RDI), 0);
        if count > 1
            && let Ok(linear) = cpu.linear(segment::ES, to, T::BYTES, true)
        {
            let run = shape.run::<T>(to, linear, count);
            if run > 1
                && cpu.linear(segment::ES, to, run * T::BYTES, true).is_ok()
                && let Some((host, _)) = cpu.host_write_run(linear, run * T::BYTES)?
            {
                for element in 0..run as usize {
                    // SAFETY: the run is writable guest memory.
                    unsafe { host.cast::<T>().add(element).write_unaligned(value) };
                }
                done = run;
            }
        }
        if done == 0 {
            cpu.write::<T>(segment::ES, to, value)?;
            done = 1;
        }
        shape.advance(cpu, RDI, done);
        Ok((done, false))
    })
}

fn load<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let shape = Shape::new::<T>(cpu, i);
    repeat(cpu, i, &shape, |cpu, _| {
        let value = cpu.read::<T>(shape.source, shape.at(cpu, RSI))?;
        // SAFETY: RAX is the first register.
        unsafe { super::op::put::<T>(cpu, 0, value) };
        shape.advance(cpu, RSI, 1);
        Ok((1, false))
    })
}

fn scan<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let shape = Shape::new::<T>(cpu, i);
    repeat(cpu, i, &shape, |cpu, count| {
        let wanted = T::of(cpu.general[0]);
        let at = shape.at(cpu, RDI);
        let mut skipped = 0;
        // all but the last element of a run that go on the search
        if count > 2
            && let Ok(linear) = cpu.linear(segment::ES, at, T::BYTES, false)
        {
            let run = shape.run::<T>(at, linear, count);
            if run > 1
                && cpu.linear(segment::ES, at, run * T::BYTES, false).is_ok()
                && let Some((host, _)) = cpu.host_read_run(linear, run * T::BYTES)?
            {
                while skipped < run - 1 {
                    // SAFETY: the run is readable guest memory.
                    let value = unsafe { host.cast::<T>().add(skipped as usize).read_unaligned() };
                    if (value == wanted) == shape.until {
                        break;
                    }
                    skipped += 1;
                }
                shape.advance(cpu, RDI, skipped);
                shape.counted(cpu, skipped);
            }
        }
        let value = cpu.read::<T>(segment::ES, shape.at(cpu, RDI))?;
        Cmp::run::<T, true>(cpu, wanted, value);
        shape.advance(cpu, RDI, 1);
        Ok((1, cpu.zero_flag() == shape.until))
    })
}

fn compare<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let shape = Shape::new::<T>(cpu, i);
    repeat(cpu, i, &shape, |cpu, _| {
        let a = cpu.read::<T>(shape.source, shape.at(cpu, RSI))?;
        let b = cpu.read::<T>(segment::ES, shape.at(cpu, RDI))?;
        Cmp::run::<T, true>(cpu, a, b);
        shape.advance(cpu, RSI, 1);
        shape.advance(cpu, RDI, 1);
        Ok((1, cpu.zero_flag() == shape.until))
    })
}

fn input<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let shape = Shape::new::<T>(cpu, i);
    let (port, bytes) = (cpu.general[2] as u16, T::BYTES as usize);
    cpu.check_io(port, bytes)?;
    cpu.count_exactly()?;
    let mut left = PORT_BURST;
    let flow = repeat(cpu, i, &shape, |cpu, _| {
        let to = shape.at(cpu, RDI);
        cpu.prepare_write(segment::ES, to, T::BYTES)?; // before the device gives the value away
        let value = cpu.bus().port_in(port, bytes);
        cpu.write::<T>(segment::ES, to, T::of(u64::from(value)))?;
        shape.advance(cpu, RDI, 1);
        cpu.watch_port(port, bytes);
        cpu.worked(ACCESS);
        left -= 1;
        cpu.leave_block |= left == 0;
        Ok((1, false))
    })?;
    cpu.leave_block = true;
    Ok(flow)
}

fn output<T: Word>(cpu: &mut Cpu, i: &Instruction) -> Fallible<Flow> {
    let shape = Shape::new::<T>(cpu, i);
    let (port, bytes) = (cpu.general[2] as u16, T::BYTES as usize);
    cpu.check_io(port, bytes)?;
    cpu.count_exactly()?;
    let mut left = PORT_BURST;
    let flow = repeat(cpu, i, &shape, |cpu, _| {
        let value = cpu.read::<T>(shape.source, shape.at(cpu, RSI))?;
        cpu.bus().port_out(port, bytes, value.wide() as u32);
        shape.advance(cpu, RSI, 1);
        cpu.watch_port(port, bytes);
        cpu.worked(ACCESS);
        left -= 1;
        cpu.leave_block |= left == 0;
        Ok((1, false))
    })?;
    cpu.leave_block = true;
    Ok(flow)
}
