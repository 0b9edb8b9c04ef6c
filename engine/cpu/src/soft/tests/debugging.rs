//! Debug traps that meet: a step and a breakpoint, a stack segment's shadow and a breakpoint, ports.

use super::machine::{self, CODE_0, DATA_0, IDT};
use crate::soft::model::{CpuModel, Model};
use crate::soft::state::{Cpu, flag};
use crate::soft::testing::TestBus;
use crate::soft::walk::bits::CR4_DE;

const CODE: u64 = 0x500;
/// Ends with HLT.
const DEBUG_HANDLER: u64 = 0x600;
/// Goes on with NOPs.
const SOFTWARE_HANDLER: u64 = 0x700;
/// What EDI points to; DR0 watches it.
const WATCHED: u64 = 0xA000;
const B0: u64 = 1;
const BS: u64 = 1 << 14;
const MOV_SS: [u8; 2] = [0x8E, 0x17]; // mov ss, [edi]
const STORE: [u8; 2] = [0x89, 0x07]; // mov [edi], eax

/// DR7: DR0 on, four bytes, of a kind.
fn control(kind: u64) -> u64 {
    0x400 | 1 | kind << 16 | 3 << 18
}

/// Runs `code` until the handler of #DB halts; gives its return address, DR6 without the fixed bits, and how many
/// bytes are on the stack.
fn run(code: &[&[u8]], prepare: impl FnOnce(&mut Cpu)) -> (u64, u64, u64) {
    let (mut cpu, bus) = machine::protected();
    cpu.model = Model::new(CpuModel::X86_64V1, 0, 1, 1_000_000_000);
    bus.put(CODE, &[0x90; 64]);
    bus.put(CODE, &code.concat());
    bus.put(CODE + 64, &[0x0F, 0x0B]); // whoever gets here ends in another handler
    bus.put(DEBUG_HANDLER, &[0xF4]);
    bus.put(SOFTWARE_HANDLER, &[0x90; 16]);
    bus.put64(IDT + 8, machine::gate(CODE_0, DEBUG_HANDLER as u32, 0x8E, 0));
    bus.put64(IDT + 8 * 0x41, machine::gate(CODE_0, SOFTWARE_HANDLER as u32, 0x8E, 0));
    bus.put64(IDT + 8 * 6, machine::gate(CODE_0, DEBUG_HANDLER as u32 + 8, 0x8E, 0));
    bus.put(DEBUG_HANDLER + 8, &[0xF4]);
    bus.put32(WATCHED, u32::from(DATA_0));
    cpu.general[0] = DATA_0.into();
    cpu.general[7] = WATCHED;
    cpu.rip = CODE;
    cpu.debug[0] = WATCHED;
    cpu.debug[4] = 0xFFFF_0FF0;
    prepare(&mut cpu);
    cpu.breakpoints_changed();
    cpu.with_bus(&bus, |cpu| cpu.execute(u64::MAX));
    assert_eq!(cpu.rip, DEBUG_HANDLER + 1, "no #DB came: {:x?}", frame(&cpu, &bus));
    (frame(&cpu, &bus), cpu.debug[4] & !0xFFFF_0FF0, 0x7000 - cpu.general[4])
}

fn frame(cpu: &Cpu, bus: &TestBus) -> u64 {
    bus.get32(cpu.general[4]).into()
}

#[test]
fn a_step_and_a_data_breakpoint_are_one_trap() {
    let stepping = |cpu: &mut Cpu| {
        cpu.debug[5] = control(1);
        cpu.system_flags |= flag::TF;
    };
    assert_eq!(run(&[&STORE], stepping), (CODE + 2, BS | B0, 12));
    assert_eq!(run(&[&STORE], |cpu| cpu.debug[5] = control(1)), (CODE + 2, B0, 12));
}

#[test]
fn a_breakpoint_met_by_mov_ss_waits_for_the_next_instruction() {
    let watching = |cpu: &mut Cpu| cpu.debug[5] = control(3);
    assert_eq!(run(&[&MOV_SS, &[0x90]], watching), (CODE + 3, B0, 12));
    assert_eq!(run(&[&MOV_SS, &[0xF1]], watching), (CODE + 3, B0, 12), "INT1 is the same trap");
    assert_eq!(run(&[&MOV_SS, &[0xCD, 0x41]], watching), (SOFTWARE_HANDLER, B0, 24), "INT n is not");
}

#[test]
fn an_instruction_after_mov_ss_has_no_breakpoint_and_one_after_sti_has() {
    let breaking_at = |offset: u64| {
        move |cpu: &mut Cpu| {
            cpu.debug[0] = CODE + offset;
            cpu.debug[5] = 0x401;
        }
    };
    let (nop, int1): (&[u8], &[u8]) = (&[0x90], &[0xF1]);
    assert_eq!(run(&[&MOV_SS, nop, int1], breaking_at(2)), (CODE + 4, 0, 12));
    assert_eq!(run(&[&MOV_SS, nop, int1], breaking_at(3)), (CODE + 3, B0, 12));
    assert_eq!(run(&[&[0xFB], nop, int1], breaking_at(1)), (CODE + 1, B0, 12));
}

#[test]
fn ports_have_breakpoints_where_debugging_extensions_are_on() {
    let port = |extensions: bool, number: u64| {
        move |cpu: &mut Cpu| {
            cpu.debug[0] = number;
            cpu.debug[5] = control(2);
            cpu.cr4 = if extensions { CR4_DE } else { 0 };
            cpu.general[2] = 0x82;
            cpu.general[1] = 3;
        }
    };
    let out: &[u8] = &[0xE6, 0x82]; // out 0x82, al
    let step: &[u8] = &[0xF1];
    assert_eq!(run(&[out], port(true, 0x80)), (CODE + 2, B0, 12));
    assert_eq!(run(&[&[0xEC]], port(true, 0x80)), (CODE + 1, B0, 12)); // in al, dx
    assert_eq!(run(&[&[0xF3, 0x6E]], port(true, 0x80)), (CODE, B0, 12), "after each element of REP OUTSB");
    assert_eq!(run(&[out, step], port(true, 0x84)), (CODE + 3, 0, 12), "another port");
    assert_eq!(run(&[out, step], port(false, 0x80)), (CODE + 3, 0, 12), "not without CR4.DE");
}
