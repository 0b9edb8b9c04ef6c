//! What guests see of vector and x87 instructions besides results (`tests/differential` compares those with the host):
//! #UD, #NM, #GP, #MF, #XM, what is written and what is not, pointers, modes, arbitrary bytes.

use iced_x86::{Decoder, DecoderOptions, Instruction};
use proptest::prelude::*;

use crate::Registers;
use crate::registers::{Segment, segment};
use crate::soft::fault::{Fallible, Fault, Flow};
use crate::soft::model::{CpuModel, Model};
use crate::soft::state::Cpu;
use crate::soft::testing::{TestBus, machine};

const BITS_64: u32 = 64;
const UD: Result<Flow, Fault> = Err(Fault::invalid_opcode());
const NM: Result<Flow, Fault> = Err(Fault::device_not_available());
const GP: Result<Flow, Fault> = Err(Fault::general_protection(0));
const MF: Result<Flow, Fault> = Err(Fault::floating_point());
const XM: Result<Flow, Fault> = Err(Fault::simd());
const NEXT: Fallible<Flow> = Ok(Flow::Next);

/// Everything switched on, in 16-bit real, 32-bit protected or 64-bit mode; RBX and RDI point to 0x4000.
fn processor(bits: u32, model: CpuModel) -> (Box<Cpu>, TestBus) {
    let (mut cpu, bus) = machine(16);
    cpu.model = Model::new(model, 0, 1, 1_000_000_000);
    let mut registers = Registers::reset();
    let flat = Segment { selector: 0x10, base: 0, limit: u32::MAX, attributes: 0xC093, unusable: false };
    if bits != 16 {
        registers.segments = [flat; 6];
        let code = if bits == 64 { 0xA09B } else { 0xC09B };
        registers.segments[segment::CS] = Segment { selector: 8, attributes: code, ..flat };
        registers.cr0 = 0x31;
    } else {
        registers.segments[segment::CS] = Segment { attributes: 0x9B, ..Segment::real(0x100) };
        registers.cr0 = 0x20;
    }
    registers.cr4 = 1 << 9 | 1 << 10 | 1 << 18;
    registers.efer = if bits == 64 { 1 << 10 } else { 0 };
    registers.xcr0 = 7;
    registers.general[3] = 0x4000;
    registers.general[7] = 0x4000;
    cpu.set_registers(&registers);
    (cpu, bus)
}

fn decode(bits: u32, code: &[u8]) -> Instruction {
    let instruction = Decoder::with_ip(bits, code, 0x1000, DecoderOptions::NONE).decode();
    assert!(!instruction.is_invalid(), "{code:02x?}");
    instruction
}

/// Executes instructions until one does not simply go on; stale forms are dropped, as the dispatcher does.
fn run(cpu: &mut Cpu, bus: &TestBus, bits: u32, code: &[&[u8]]) -> Fallible<Flow> {
    match run_once(cpu, bus, bits, code) {
        Ok(Flow::Jumped) if cpu.tidy_blocks() => run_once(cpu, bus, bits, code),
        result => result,
    }
}

fn run_once(cpu: &mut Cpu, bus: &TestBus, bits: u32, code: &[&[u8]]) -> Fallible<Flow> {
    cpu.with_bus(bus, |cpu| {
        for bytes in code {
            let instruction = decode(bits, bytes);
            cpu.rip = instruction.next_ip();
            let handler = super::handler(&instruction).expect("a vector instruction");
            match handler(cpu, &instruction) {
                Ok(Flow::Next) => {}
                other => return other,
            }
        }
        NEXT
    })
}

const FLD1: &[u8] = &[0xD9, 0xE8];
const FLDZ: &[u8] = &[0xD9, 0xEE];
const FADD: &[u8] = &[0xD8, 0xC0];
const PADDB_MM: &[u8] = &[0x0F, 0xFC, 0xC1];
const MULPS: &[u8] = &[0x0F, 0x59, 0xC1];
const MULPD: &[u8] = &[0x66, 0x0F, 0x59, 0xC1];
const VADDPS: &[u8] = &[0xC5, 0xF0, 0x58, 0xC2];
const VPADDD_YMM: &[u8] = &[0xC5, 0xF5, 0xFE, 0xC2];
const FWAIT: &[u8] = &[0x9B];

#[test]
fn a_switched_task_gets_device_not_available() {
    for code in [FLD1, PADDB_MM, MULPS, VADDPS, &[0x0F, 0xAE, 0x03], &[0xDB, 0xE3]] {
        let (mut cpu, bus) = processor(64, CpuModel::Host);
        cpu.cr0 |= 8;
        cpu.update_mode();
        assert_eq!(run(&mut cpu, &bus, BITS_64, &[code]), NM, "{code:02x?}");
    }
    let (mut cpu, bus) = processor(64, CpuModel::Host);
    cpu.cr0 |= 8;
    cpu.update_mode();
    assert_eq!(run(&mut cpu, &bus, BITS_64, &[FWAIT]), NEXT, "FWAIT asks for MP too");
    cpu.cr0 |= 2;
    assert_eq!(run(&mut cpu, &bus, BITS_64, &[FWAIT]), NM);
}

#[test]
fn control_bits_switch_groups_off() {
    let outcome = |change: fn(&mut Cpu), code: &[u8]| {
        let (mut cpu, bus) = processor(64, CpuModel::Host);
        change(&mut cpu);
        cpu.update_mode();
        run(&mut cpu, &bus, BITS_64, &[code])
    };
    let emulate = |cpu: &mut Cpu| cpu.cr0 |= 4;
    assert_eq!(outcome(emulate, FLD1), NM);
    assert_eq!(outcome(emulate, PADDB_MM), UD);
    assert_eq!(outcome(emulate, MULPS), UD);
    let no_fxsr = |cpu: &mut Cpu| cpu.cr4 &= !(1 << 9);
    assert_eq!(outcome(no_fxsr, MULPS), UD);
    assert_eq!(outcome(no_fxsr, PADDB_MM), NEXT);
    if std::arch::is_x86_feature_detected!("avx2") {
        assert_eq!(outcome(no_fxsr, VADDPS), NEXT);
        assert_eq!(outcome(|cpu| cpu.cr4 &= !(1 << 18), VADDPS), UD);
        assert_eq!(outcome(|cpu| cpu.xcr0 = 3, VPADDD_YMM), UD);
    }
}

#[test]
fn a_model_has_no_later_instructions() {
    for (model, code, expected) in [
        (CpuModel::I486, FLD1, NEXT),
        (CpuModel::I486, PADDB_MM, UD),
        (CpuModel::Pentium3, PADDB_MM, NEXT),
        (CpuModel::Pentium3, MULPS, NEXT),
        (CpuModel::Pentium3, MULPD, UD),
        (CpuModel::X86_64V1, MULPD, NEXT),
        (CpuModel::X86_64V1, VADDPS, UD),
        (CpuModel::X86_64V1, &[0x66, 0x0F, 0x38, 0x00, 0xC1], UD), // PSHUFB
        (CpuModel::X86_64V2, &[0x66, 0x0F, 0x38, 0x00, 0xC1], NEXT),
    ] {
        let (mut cpu, bus) = processor(64, model);
        assert_eq!(run(&mut cpu, &bus, BITS_64, &[code]), expected, "{model} {code:02x?}");
        // the same instruction again after the model changed: forms are not kept across models
        cpu.model = Model::new(CpuModel::X86_64V2, 0, 1, 1_000_000_000);
        let now = run(&mut cpu, &bus, BITS_64, &[code]);
        assert_eq!(now, if code == VADDPS { UD } else { NEXT });
    }
}

#[test]
fn aligned_operands_must_be() {
    for (code, expected) in [
        (&[0x0F, 0x28, 0x43, 0x08][..], GP),     // MOVAPS xmm0, [rbx+8]
        (&[0x0F, 0x58, 0x43, 0x08], GP),         // ADDPS xmm0, [rbx+8]
        (&[0x0F, 0x10, 0x43, 0x08], NEXT),       // MOVUPS
        (&[0xF3, 0x0F, 0x58, 0x43, 0x01], NEXT), // ADDSS xmm0, [rbx+1]
        (&[0x0F, 0xAE, 0x43, 0x08], GP),         // FXSAVE [rbx+8]
        (&[0x0F, 0xAE, 0x63, 0x20], GP),         // XSAVE [rbx+0x20]
        (&[0x66, 0x0F, 0xE7, 0x43, 0x04], GP),   // MOVNTDQ
        (&[0xC5, 0xF8, 0x58, 0x43, 0x04], NEXT), // VADDPS
        (&[0xC5, 0xFC, 0x28, 0x43, 0x10], GP),   // VMOVAPS ymm0, [rbx+16]
    ] {
        if code[0] == 0xC5 && !std::arch::is_x86_feature_detected!("avx") {
            continue;
        }
        let (mut cpu, bus) = processor(64, CpuModel::Host);
        assert_eq!(run(&mut cpu, &bus, BITS_64, &[code]), expected, "{code:02x?}");
    }
}

#[test]
fn an_unmasked_simd_exception_writes_nothing_but_its_flag() {
    let (mut cpu, bus) = processor(64, CpuModel::Host);
    cpu.fpu.bytes[24..28].copy_from_slice(&0x1D80u32.to_le_bytes()); // ZM clear
    cpu.fpu.bytes[160..164].copy_from_slice(&1f32.to_le_bytes());
    cpu.fpu.bytes[176..192].fill(0);
    let divss: &[u8] = &[0xF3, 0x0F, 0x5E, 0xC1];
    assert_eq!(run(&mut cpu, &bus, BITS_64, &[divss]), XM);
    assert_eq!(cpu.fpu.bytes[160..164], 1f32.to_le_bytes());
    assert_eq!(cpu.fpu.bytes[24..28], 0x1D84u32.to_le_bytes());
    cpu.cr4 &= !(1 << 10);
    assert_eq!(run(&mut cpu, &bus, BITS_64, &[divss]), UD, "CR4.OSXMMEXCPT clear");
    // flags of one instruction are not mistaken for the next one's
    cpu.fpu.bytes[24..28].copy_from_slice(&0x1F80u32.to_le_bytes());
    assert_eq!(run(&mut cpu, &bus, BITS_64, &[MULPS]), NEXT);
    assert_eq!(cpu.fpu.bytes[24..28], 0x1F80u32.to_le_bytes());
}

#[test]
fn an_x87_exception_waits_for_the_next_waiting_instruction() {
    let (mut cpu, bus) = processor(64, CpuModel::Host);
    bus.put(0x4000, &0x37Bu16.to_le_bytes()); // ZM clear
    bus.put(0x4010, &[0x55; 8]);
    let fldcw: &[u8] = &[0xD9, 0x2B];
    let fdivp: &[u8] = &[0xDE, 0xF9];
    let fnstsw: &[u8] = &[0xDF, 0xE0];
    assert_eq!(run(&mut cpu, &bus, BITS_64, &[fldcw, FLD1, FLDZ, fdivp, fnstsw]), NEXT);
    assert_eq!(cpu.general[0] & 0x8084, 0x8084);
    assert_eq!(run(&mut cpu, &bus, BITS_64, &[FWAIT]), MF);
    assert_eq!(run(&mut cpu, &bus, BITS_64, &[PADDB_MM]), MF);
    assert_eq!(run(&mut cpu, &bus, BITS_64, &[&[0xDB, 0xE2], FLD1]), NEXT, "FNCLEX");
}

#[test]
fn a_prevented_x87_store_leaves_memory_and_stack() {
    let (mut cpu, bus) = processor(64, CpuModel::Host);
    bus.put(0x4000, &0x37Eu16.to_le_bytes()); // IM clear
    bus.put(0x4008, &1e300f64.to_le_bytes());
    bus.put(0x4010, &[0x55; 8]);
    let code: [&[u8]; 3] = [&[0xD9, 0x2B], &[0xDD, 0x43, 0x08], &[0xDB, 0x5B, 0x10]]; // FLDCW, FLD, FISTP m32
    assert_eq!(run(&mut cpu, &bus, BITS_64, &code), NEXT);
    assert_eq!(bus.get(0x4010, 8), [0x55; 8]);
    assert_eq!(cpu.registers().fpu.status >> 11 & 7, 7, "not popped");
    // masked, the integer indefinite is stored
    let code: [&[u8]; 3] = [&[0xDB, 0xE3], &[0xDD, 0x43, 0x08], &[0xDB, 0x5B, 0x10]];
    assert_eq!(run(&mut cpu, &bus, BITS_64, &code), NEXT);
    assert_eq!(bus.get32(0x4010), 0x8000_0000);
    assert_eq!(cpu.registers().fpu.status >> 11 & 7, 0);
}

#[test]
fn a_store_that_faults_changes_nothing() {
    let (mut cpu, bus) = processor(32, CpuModel::Host);
    cpu.segments[segment::DS].limit = 0x4003;
    cpu.update_mode();
    let code: [&[u8]; 2] = [FLD1, &[0xDD, 0x1B]]; // FSTP m64 at the limit
    assert_eq!(run(&mut cpu, &bus, 32, &code), GP);
    assert_eq!(cpu.registers().fpu.status >> 11 & 7, 7, "not popped");
    assert_eq!(bus.get(0x4000, 8), [0; 8]);
}

#[test]
fn the_x87_state_is_the_guests_between_runs_and_on_another_thread() {
    let (mut cpu, bus) = processor(64, CpuModel::Host);
    assert_eq!(run(&mut cpu, &bus, BITS_64, &[FLD1]), NEXT);
    let saved = cpu.registers();
    assert_eq!(saved.fpu.stack[0], [0, 0, 0, 0, 0, 0, 0, 0x80, 0xFF, 0x3F]);
    let mut cpu = std::thread::spawn(move || {
        let (_, bus) = machine(16);
        assert_eq!(run(&mut cpu, &bus, BITS_64, &[FADD]), NEXT);
        cpu
    })
    .join()
    .unwrap();
    assert_eq!(cpu.registers().fpu.stack[0], [0, 0, 0, 0, 0, 0, 0, 0x80, 0x00, 0x40], "1 + 1");
    cpu.with_bus(&bus, |cpu| {
        let fadd = decode(64, FADD);
        assert_eq!(super::handler(&fadd).unwrap()(cpu, &fadd), NEXT);
        assert_eq!(cpu.registers().fpu.stack[0][8..], [0x01, 0x40], "seen while it runs");
        cpu.set_registers(&saved);
        assert_eq!(super::handler(&fadd).unwrap()(cpu, &fadd), NEXT);
    });
    assert_eq!(cpu.registers().fpu.stack[0][8..], [0x00, 0x40], "a restored state is used");
}

#[test]
fn environments_have_their_four_layouts() {
    // FADD qword [rbx], then FNSTENV [rbx+0x40]
    let (mut cpu, bus) = processor(32, CpuModel::Host);
    let code: [&[u8]; 3] = [FLD1, &[0xDC, 0x03], &[0xD9, 0x73, 0x40]];
    assert_eq!(run(&mut cpu, &bus, 32, &code), NEXT);
    let field = |n: u64| bus.get32(0x4040 + 4 * n);
    assert_eq!([field(0), field(1), field(2)], [0xFFFF_037F, 0xFFFF_3800, 0xFFFF_3FFF]);
    assert_eq!(field(3), 0x1000);
    assert_eq!(field(4), 0x0403 << 16 | 8, "opcode DC 03 and CS");
    assert_eq!([field(5), field(6)], [0x4000, 0xFFFF_0010]);
    let code: [&[u8]; 1] = [&[0x66, 0xD9, 0x73, 0x40]];
    assert_eq!(run(&mut cpu, &bus, 32, &code), NEXT);
    let words: Vec<u16> = (0..7).map(|n| bus.get16(0x4040 + 2 * n)).collect();
    assert_eq!(words, [0x37F, 0x3800, 0x3FFF, 0x1000, 8, 0x4000, 0x10]);
    // real mode: FADD qword [bx], FNSTENV [bx+0x40], with CS 0x100
    let (mut cpu, bus) = processor(16, CpuModel::Host);
    let code: [&[u8]; 3] = [FLD1, &[0xDC, 0x07], &[0xD9, 0x77, 0x40]];
    assert_eq!(run(&mut cpu, &bus, 16, &code), NEXT);
    let words: Vec<u16> = (0..7).map(|n| bus.get16(0x4040 + 2 * n)).collect();
    assert_eq!(words, [0x37F, 0x3800, 0x3FFF, 0x2000, 0x0407, 0x4000, 0]);
    let code: [&[u8]; 1] = [&[0x66, 0xD9, 0x77, 0x40]];
    assert_eq!(run(&mut cpu, &bus, 16, &code), NEXT);
    let fields: Vec<u32> = (3..7).map(|n| bus.get32(0x4040 + 4 * n)).collect();
    assert_eq!(fields, [0xFFFF_2000, 0x0407, 0xFFFF_4000, 0]);
}

#[test]
fn saving_restores_in_every_format() {
    for (save, restore) in [
        (&[0xDD, 0x33][..], &[0xDD, 0x23][..]),     // FNSAVE, FRSTOR
        (&[0x66, 0xDD, 0x33], &[0x66, 0xDD, 0x23]), // 16-bit
        (&[0x0F, 0xAE, 0x03], &[0x0F, 0xAE, 0x0B]), // FXSAVE, FXRSTOR
        (&[0x48, 0x0F, 0xAE, 0x03], &[0x48, 0x0F, 0xAE, 0x0B]),
        (&[0x0F, 0xAE, 0x23], &[0x0F, 0xAE, 0x2B]), // XSAVE, XRSTOR
        (&[0x0F, 0xC7, 0x23], &[0x0F, 0xAE, 0x2B]), // XSAVEC
        (&[0x0F, 0xAE, 0x33], &[0x0F, 0xAE, 0x2B]), // XSAVEOPT
    ] {
        if !std::arch::is_x86_feature_detected!("avx") && save[..2] != [0x0F, 0xAE] {
            continue;
        }
        let (mut cpu, bus) = processor(64, CpuModel::Host);
        cpu.general[0] = 7;
        for n in 0..256 {
            cpu.fpu.bytes[160 + n] = n as u8;
            cpu.fpu.bytes[576 + n] = !n as u8;
        }
        assert_eq!(run(&mut cpu, &bus, BITS_64, &[FLDZ, FLD1, &[0xDD, 0xD9], save]), NEXT); // FSTP st1
        let vectors = cpu.registers().fpu.ymm;
        let is_x87_only = save.contains(&0xDD);
        assert_eq!(run(&mut cpu, &bus, BITS_64, &[&[0xDB, 0xE3]]), NEXT);
        if !is_x87_only {
            cpu.fpu.bytes[160..416].fill(0);
            if !save.starts_with(&[0x0F, 0xAE, 0x03]) && !save.starts_with(&[0x48]) {
                cpu.fpu.bytes[576..].fill(0);
            }
        }
        assert_eq!(run(&mut cpu, &bus, BITS_64, &[restore]), NEXT, "{restore:02x?}");
        let fpu = cpu.registers().fpu;
        assert_eq!((fpu.status >> 11 & 7, fpu.tags), (7, 0x80), "{save:02x?}");
        assert_eq!(fpu.stack[0], [0, 0, 0, 0, 0, 0, 0, 0x80, 0xFF, 0x3F], "{save:02x?}");
        assert_eq!(fpu.ymm, vectors, "{save:02x?}");
    }
}

#[test]
fn unselected_elements_touch_no_memory() {
    if !std::arch::is_x86_feature_detected!("avx2") {
        return;
    }
    let (mut cpu, bus) = processor(32, CpuModel::Host);
    cpu.segments[segment::DS].limit = 0x4007;
    cpu.update_mode();
    bus.put64(0x4000, 0x2222_2222_1111_1111);
    cpu.fpu.bytes[176..192].fill(0); // XMM1: elements 0 and 1
    cpu.fpu.bytes[179] = 0x80;
    cpu.fpu.bytes[183] = 0x80;
    let load: &[u8] = &[0xC4, 0xE2, 0x71, 0x2C, 0x03]; // VMASKMOVPS xmm0, xmm1, [ebx]
    assert_eq!(run(&mut cpu, &bus, 32, &[load]), NEXT);
    assert_eq!(cpu.registers().fpu.ymm[0], [0x2222_2222_1111_1111, 0, 0, 0]);
    cpu.fpu.bytes[187] = 0x80;
    assert_eq!(run(&mut cpu, &bus, 32, &[load]), GP);
    // VPGATHERDD xmm0, [ebx+xmm2*4], xmm1: elements 0 and 1 arrive, 2 faults
    for n in 0..4u8 {
        cpu.fpu.bytes[192 + 4 * n as usize..196 + 4 * n as usize].copy_from_slice(&[n, 0, 0, 0]);
    }
    cpu.fpu.bytes[160..176].fill(0xEE);
    let gather: &[u8] = &[0xC4, 0xE2, 0x71, 0x90, 0x04, 0x93];
    assert_eq!(run(&mut cpu, &bus, 32, &[gather]), GP);
    let fpu = cpu.registers().fpu;
    assert_eq!(fpu.ymm[0][..2], [0x2222_2222_1111_1111, 0xEEEE_EEEE_EEEE_EEEE]);
    assert_eq!(fpu.ymm[1][..2], [0, 0x8000_0000], "done elements are taken out of the mask");
}

#[test]
fn a_full_code_memory_starts_over() {
    let (mut cpu, bus) = processor(64, CpuModel::Host);
    let mut times = 0;
    for round in 0..40 {
        for immediate in 0..=255u8 {
            for registers in 0..8u8 {
                let modrm = 0xC0 | registers << 3 | round & 7;
                let rex = 0x40 | (round & 8) >> 1 | round >> 4 & 1;
                let pshufd = [0x66, rex, 0x0F, 0x70, modrm, immediate];
                let mut flow = run_once(&mut cpu, &bus, BITS_64, &[&pshufd]);
                if flow == Ok(Flow::Jumped) {
                    assert_eq!(cpu.rip, 0x1000, "it is to be executed once more");
                    assert!(cpu.tidy_blocks(), "before that, nothing is left that knows a stub");
                    flow = run_once(&mut cpu, &bus, BITS_64, &[&pshufd]);
                    times += 1;
                }
                assert_eq!(flow, NEXT);
            }
        }
    }
    assert!(times > 0);
    assert_eq!(run(&mut cpu, &bus, BITS_64, &[FLD1, FADD]), NEXT);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes in any mode with any state: a result or a fault, and nothing outside the guest is touched (a wild
    /// store would hit the bytes around the bounce buffer first).
    #[test]
    fn arbitrary_bytes_are_harmless(
        lead in 0usize..10, tail in any::<[u8; 12]>(), bits in prop::sample::select(vec![16u32, 32, 64]),
        general in any::<[u64; 16]>(), low in any::<bool>(), area in any::<[u64; 32]>(), words in any::<[u8; 6]>()
    ) {
        let leads: [&[u8]; 10] = [
            &[0x0F], &[0x66, 0x0F], &[0xF3, 0x0F], &[0xF2, 0x0F], &[0x0F, 0x38], &[0x66, 0x0F, 0x38], &[0x66, 0x0F, 0x3A],
            &[0xC5], &[0xC4], &[],
        ];
        let mut code = leads[lead].to_vec();
        code.extend(tail);
        if lead == 9 {
            code[0] = 0xD8 | code[0] & 7;
        }
        let instruction = Decoder::with_ip(bits, &code, 0x1000, DecoderOptions::NONE).decode();
        let Some(handler) = super::handler(&instruction) else { return Ok(()) };
        let (mut cpu, bus) = processor(bits, CpuModel::Host);
        cpu.general = if low { general.map(|value| value & 0xFFFF) } else { general };
        for (n, word) in area.into_iter().enumerate() {
            cpu.fpu.bytes[160 + 8 * n..168 + 8 * n].copy_from_slice(&word.to_le_bytes());
            bus.put64(0x4000 + 8 * n as u64, word);
        }
        cpu.fpu.bytes[..2].copy_from_slice(&[words[0] & 0x7F | 0x40, words[1] & 0x1F]);
        cpu.fpu.bytes[2..5].copy_from_slice(&words[2..5]);
        let _ = cpu.with_bus(&bus, |cpu| handler(cpu, &instruction));
        prop_assert_eq!(cpu.vector.frame.host_mxcsr, 0x1F80);
        prop_assert_eq!(cpu.vector.frame.bounce[32..].iter().copied().max(), Some(0));
    }
}
