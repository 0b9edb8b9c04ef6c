//! What the differential tests found: each was done otherwise than by the silicon once.

use super::machine::*;
use crate::registers::segment;
use crate::soft::model::{CpuModel, Feature, Model};
use crate::soft::state::{Cpu, flag};
use crate::soft::testing::TestBus;
use crate::soft::walk::bits::*;
use crate::stop::Stop;

/// Where the code is.
const CODE: u64 = 0x500;
/// Memory for operands.
const DATA: u64 = 0x6000;

/// 64-bit user code with everything switched on and no IDT.
fn user() -> (Box<Cpu>, TestBus) {
    let (mut cpu, bus) = long();
    cpu.model = Model::new(CpuModel::Host, 0, 1, 1_000_000_000);
    cpu.cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT;
    cpu.cr0 |= CR0_NE;
    cpu.idtr.limit = 0;
    enter_long_ring(&mut cpu, 3);
    cpu.update_mode();
    (cpu, bus)
}

/// Runs code that ends with HLT, which user code may not execute: the vector and the offset of its fault.
fn run(cpu: &mut Cpu, bus: &TestBus, code: &[u8]) -> (u8, u64) {
    bus.put(CODE, code);
    bus.put(CODE + code.len() as u64, &[0xF4]);
    cpu.rip = CODE;
    cpu.breakpoints_changed(); // nothing decoded before is good any more
    match cpu.with_bus(bus, |cpu| cpu.execute(100)) {
        Stop::Shutdown(records) => (records[0].vector, cpu.rip - CODE),
        other => panic!("user code without an IDT ends with {other:?}"),
    }
}

#[test]
fn x87_control_instructions_see_the_registers_of_those_before_them() {
    let (mut cpu, bus) = user();
    bus.put(DATA, &[0x7F, 0x0C]);
    cpu.general[3] = DATA;
    // FLD1; FLDCW [RBX]; FNSTCW [RBX+2]; FNINIT
    let code = [0xD9, 0xE8, 0xD9, 0x2B, 0xD9, 0x7B, 0x02, 0xDB, 0xE3];
    assert_eq!(run(&mut cpu, &bus, &code), (13, 9));
    assert_eq!(bus.get16(DATA + 2), 0xC7F);
    let fpu = cpu.registers().fpu;
    assert_eq!((fpu.control, fpu.status, fpu.tags), (0x37F, 0, 0));
    assert_eq!(fpu.stack[7][9], 0x3F, "FNINIT leaves the 1.0 in its register, now ST7");
}

#[test]
fn a_pending_x87_exception_comes_before_the_operands_fault() {
    let (mut cpu, bus) = user();
    // FLDZ; FLD1; FDIV ST,ST1 with nothing masked; FADD DWORD [RBX] at an address that is not there
    bus.put(DATA, &[0x40, 0x03]);
    cpu.general[3] = DATA;
    let code = [0xD9, 0xEE, 0xD9, 0x2B, 0xD9, 0xE8, 0xD8, 0xF1, 0xD8, 0x83, 0, 0, 0x40, 0];
    assert_eq!(run(&mut cpu, &bus, &code), (16, 8));
}

#[test]
fn an_mmx_store_that_faults_leaves_the_x87_stack_alone() {
    let (mut cpu, bus) = user();
    cpu.general[3] = 0x40_0000;
    // FLDZ (TOP becomes 7); MOVQ [RBX], MM0
    assert_eq!(run(&mut cpu, &bus, &[0xD9, 0xEE, 0x0F, 0x7F, 0x03]), (14, 2));
    assert_eq!(cpu.registers().fpu.status >> 11 & 7, 7);
}

#[test]
fn a_misaligned_x87_store_is_refused_before_anything_is_computed() {
    let (mut cpu, bus) = user();
    cpu.cr0 |= CR0_AM;
    cpu.system_flags |= flag::AC;
    cpu.update_mode();
    cpu.general[3] = DATA + 1;
    // FLDPI; FST QWORD [RBX], which would be inexact
    assert_eq!(run(&mut cpu, &bus, &[0xD9, 0xEB, 0xDD, 0x13]), (17, 2));
    assert_eq!(cpu.registers().fpu.status & 0x3F, 0);
}

#[test]
fn a_misaligned_store_of_80_bits_leaves_the_x87_stack_alone() {
    let (mut cpu, bus) = user();
    cpu.cr0 |= CR0_AM;
    cpu.system_flags |= flag::AC;
    cpu.update_mode();
    cpu.general[3] = DATA + 4;
    // FLD1; FSTP TBYTE [RBX], whose alignment is that of a qword
    assert_eq!(run(&mut cpu, &bus, &[0xD9, 0xE8, 0xDB, 0x3B]), (17, 2));
    let fpu = cpu.registers().fpu;
    assert_eq!((fpu.status >> 11 & 7, fpu.tags), (7, 0x80));
}

#[test]
fn a_saved_x87_state_is_aligned_as_its_operand_size() {
    let (mut cpu, bus) = user();
    cpu.cr0 |= CR0_AM;
    cpu.system_flags |= flag::AC;
    cpu.update_mode();
    cpu.general[3] = DATA + 2;
    // FLD1; FNSAVE [RBX] and FRSTOR [RBX] with 16-bit layout; FNSAVE [RBX] with 32-bit layout
    let code = [0xD9, 0xE8, 0x66, 0xDD, 0x33, 0x66, 0xDD, 0x23, 0xDD, 0x33];
    assert_eq!(run(&mut cpu, &bus, &code), (17, 8));
    let fpu = cpu.registers().fpu;
    assert_eq!((fpu.status >> 11 & 7, fpu.tags), (7, 0x80));
}

#[test]
fn masked_moves_are_never_misaligned() {
    let (mut cpu, bus) = user();
    if !cpu.model.offers(Feature::Avx) {
        println!("skipped: the host has no AVX");
        return;
    }
    cpu.cr4 |= CR4_OSXSAVE;
    cpu.xcr0 = 7;
    cpu.cr0 |= CR0_AM;
    cpu.system_flags |= flag::AC;
    cpu.update_mode();
    cpu.general[3] = DATA + 1;
    // VPCMPEQD XMM1,XMM1,XMM1; VMASKMOVPS XMM0,XMM1,[RBX]; VMASKMOVPS [RBX+32],XMM1,XMM0
    bus.put64(DATA + 1, 0x0123_4567_89AB_CDEF);
    let code = [0xC5, 0xF1, 0x76, 0xC9, 0xC4, 0xE2, 0x71, 0x2C, 0x03, 0xC4, 0xE2, 0x71, 0x2E, 0x43, 0x20];
    assert_eq!(run(&mut cpu, &bus, &code), (13, 15));
    assert_eq!(bus.get64(DATA + 33), 0x0123_4567_89AB_CDEF);
}

#[test]
fn overrides_with_es_cs_ss_and_ds_do_nothing_in_64_bit_code() {
    let (mut cpu, bus) = user();
    cpu.general[3] = 1 << 60;
    cpu.general[5] = 1 << 60;
    assert_eq!(run(&mut cpu, &bus, &[0x36, 0x8B, 0x03]), (13, 0), "MOV EAX, SS:[RBX] is no stack reference");
    assert_eq!(run(&mut cpu, &bus, &[0x3E, 0x8B, 0x45, 0x00]), (12, 0), "MOV EAX, DS:[RBP] is one");
}

#[test]
fn pause_with_rex_b_exchanges() {
    let (mut cpu, bus) = user();
    (cpu.general[0], cpu.general[8]) = (1, 2);
    assert_eq!(run(&mut cpu, &bus, &[0xF3, 0x49, 0x90]), (13, 3));
    assert_eq!((cpu.general[0], cpu.general[8]), (2, 1));
    assert_eq!(run(&mut cpu, &bus, &[0xF3, 0x41, 0x90]), (13, 3));
    assert_eq!((cpu.general[0], cpu.general[8]), (1, 2));
    (cpu.general[0], cpu.general[8]) = (0x10003, 0x20004);
    assert_eq!(run(&mut cpu, &bus, &[0x66, 0xF3, 0x41, 0x90]), (13, 4));
    assert_eq!((cpu.general[0], cpu.general[8]), (0x10004, 0x20003));
}

#[test]
fn a_call_to_nowhere_pushes_nothing() {
    let (mut cpu, bus) = user();
    cpu.general[3] = 1 << 60;
    bus.put64(0x6FF8, 0x1234);
    assert_eq!(run(&mut cpu, &bus, &[0xFF, 0xD3]), (13, 0));
    assert_eq!((bus.get64(0x6FF8), cpu.general[4]), (0x1234, 0x7000));
}

/// 32-bit user code in a segment of 4 KiB.
fn small_segment() -> (Box<Cpu>, TestBus) {
    let (mut cpu, bus) = protected();
    cpu.idtr.limit = 0;
    enter_ring(&mut cpu, 3);
    cpu.segments[segment::CS].limit = 0xFFF;
    cpu.update_mode();
    (cpu, bus)
}

#[test]
fn a_direct_branch_out_of_its_segment_faults_before_it_does_anything() {
    let far = 0x2000u32.to_le_bytes();
    let long = |opcode: &[u8]| [opcode, &far].concat();
    for code in [long(&[0xE9]), long(&[0xE8]), long(&[0x0F, 0x84])] {
        let (mut cpu, bus) = small_segment();
        cpu.set_arithmetic(flag::ZF);
        bus.put32(0x6FFC, 0x1234);
        assert_eq!(run(&mut cpu, &bus, &code), (13, 0), "{code:02x?}");
        assert_eq!((cpu.general[4], bus.get32(0x6FFC)), (0x7000, 0x1234));
    }
    let (mut cpu, bus) = small_segment();
    assert_eq!(run(&mut cpu, &bus, &long(&[0x0F, 0x84])), (13, 6), "JE that is not taken");
    // CMP and a Jcc that would be one operation; LOOP at the end of the segment
    let (mut cpu, bus) = small_segment();
    assert_eq!(run(&mut cpu, &bus, &[&[0x39, 0xC0][..], &long(&[0x0F, 0x84])].concat()), (13, 2));
    let (mut cpu, bus) = small_segment();
    cpu.segments[segment::CS].limit = 0x540;
    cpu.general[1] = 2;
    assert_eq!(run(&mut cpu, &bus, &[0xE2, 0x70]), (13, 0));
    assert_eq!(cpu.general[1], 2);
}

#[test]
fn xbegin_is_no_branch_and_clwb_is_not_offered() {
    let (mut cpu, bus) = small_segment();
    assert_eq!(run(&mut cpu, &bus, &[0xC7, 0xF8, 0, 0, 0, 0]), (6, 0));
    assert_eq!(run(&mut cpu, &bus, &[0x66, 0x0F, 0xAE, 0x33]), (6, 0));
}

#[test]
fn a_far_return_releases_parameters_by_the_stack_width_of_the_new_code() {
    let (mut cpu, bus) = user();
    // 16-bit code on a 16-bit stack returns to 64-bit code
    cpu.segments[segment::CS].attributes = 0x00FB;
    cpu.segments[segment::SS].attributes = 0x00F3;
    cpu.update_mode();
    cpu.general[4] = 0x6000;
    bus.put(0x6000, &[0x00, 0x04, LONG_3 as u8, 0x00]);
    bus.put(0x400, &[0xF4]);
    bus.put(CODE, &[0xCA, 0x00, 0xF0]);
    cpu.rip = CODE;
    cpu.with_bus(&bus, |cpu| cpu.execute(100));
    assert_eq!((cpu.rip, cpu.general[4]), (0x400, 0x6000 + 4 + 0xF000));
}

#[test]
fn far_transfers_of_user_code_check_the_alignment_of_their_stack() {
    let (mut cpu, bus) = user();
    cpu.cr0 |= CR0_AM;
    cpu.system_flags |= flag::AC;
    cpu.update_mode();
    cpu.general[4] = 0x6FF1;
    assert_eq!(run(&mut cpu, &bus, &[0xCB]), (17, 0));
    // MOV [RSP-8], AL fills the TLB; CALL RCX pushes there
    cpu.general[1] = 0x400;
    assert_eq!(run(&mut cpu, &bus, &[0x88, 0x44, 0x24, 0xF8, 0xFF, 0xD1]), (17, 4));
}
