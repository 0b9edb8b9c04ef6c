//! MONITOR and MWAIT (Intel SDM 2A, 2B; 3A, 9.10.4). The monitored line is watched as if it held code
//! (`code_watch.rs`): whoever stores to it tells, and wakes the processor, which costs nothing while it waits.
//! It may also wake for no reason, as it may on hardware: when anything of the page changes in a way that cannot be
//! told apart, when the state is looked at from outside and put back, or when the line is not in RAM.
//! Left out on purpose: hints and extensions (leaf 5 offers none).

use iced_x86::{Code, Instruction, Mnemonic, Register};

use crate::pins::Signal;
use crate::registers::segment;
use crate::soft::fault::{ColdHandler, Fallible, Fault, Flow};
use crate::soft::model::Feature;
use crate::soft::operand::truncate;
use crate::soft::state::Cpu;
use crate::soft::walk::Access;

/// Bytes of a line: a granule of the watch.
pub const LINE: u64 = 64;

/// The cold handler of MONITOR and MWAIT.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Monitor => monitor,
        Mnemonic::Mwait => mwait,
        _ => return None,
    })
}

fn check(cpu: &Cpu) -> Fallible<()> {
    cpu.require(Feature::Monitor)?;
    if cpu.cpl != 0 {
        return Err(Fault::invalid_opcode());
    }
    // Extensions, of which there are none.
    if cpu.general[1] as u32 != 0 { Err(Fault::general_protection(0)) } else { Ok(()) }
}

fn monitor(cpu: &mut Cpu, instruction: &Instruction) -> Fallible<Flow> {
    check(cpu)?;
    let bytes = match instruction.code() {
        Code::Monitorw => 2,
        Code::Monitord => 4,
        _ => 8,
    };
    let index = match instruction.segment_prefix() {
        Register::None => segment::DS,
        register => register.number(),
    };
    let offset = truncate(cpu.general[0], bytes);
    cpu.prepare_read(index, offset, 1)?;
    let linear = cpu.linear(index, offset, 1, false)?;
    let place = cpu.translate(linear, Access::Read, cpu.privilege())?;
    cpu.monitored = None;
    if !place.host.read.is_null() && cpu.watch.watch().can_watch(place.host.offset) {
        let line = (place.host.offset | place.physical & 0xFFF) & !(LINE - 1);
        cpu.monitored = Some(line);
        cpu.watch_line(line);
    }
    Ok(Flow::Next)
}

fn mwait(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    check(cpu)?;
    let Some(line) = cpu.monitored else { return Ok(Flow::Next) };
    cpu.watch.wait_for(Some(line));
    if cpu.pins.is_raised(Signal::CodeChanged) {
        // Something was told before anyone could know that it would wake us.
        cpu.stop_waiting();
        return Ok(Flow::Jumped);
    }
    cpu.waits_for_write = true;
    Ok(Flow::Halt)
}

impl Cpu {
    /// No store wakes this processor any more.
    pub(super) fn stop_waiting(&mut self) {
        self.watch.wait_for(None);
        self.waits_for_write = false;
        self.monitored = None;
    }

    /// Granules of a page that is watched were stored to.
    pub(super) fn line_written(&mut self, page: u64, granules: u64) {
        let Some(line) = self.monitored else { return };
        if line & !0xFFF == page && granules >> ((line & 0xFFF) / LINE) & 1 != 0 {
            self.line_lost();
        }
    }

    /// The monitored line was, or may have been, stored to.
    pub(super) fn line_lost(&mut self) {
        if self.waits_for_write {
            self.halted = false;
        }
        self.stop_waiting();
    }
}
