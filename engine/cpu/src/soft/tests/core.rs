//! What a guest and its monitor see of the core: counting, stops, interrupts, traps, changed code.

use std::sync::Arc;

use iced_x86::code_asm::*;

use crate::pins::{Pins, Signal};
use crate::registers::{Registers, Segment};
use crate::soft::testing::TestBus;
use crate::soft::{CodeWatch, CpuModel, SoftCpu};
use crate::stop::{RunLimit, Stop};

const CODE: u64 = 0x8000;

fn assemble(
    bitness: u32,
    at: u64,
    build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(bitness).unwrap();
    build(&mut assembler).unwrap();
    assembler.assemble(at).unwrap()
}

/// A processor in flat 64-bit mode at `CODE`, memory identity-mapped, on a machine of 4 MiB.
fn long_machine() -> (SoftCpu, Arc<Pins>, TestBus) {
    let bus = TestBus::new(1024);
    let pins = Arc::new(Pins::new());
    let mut cpu = SoftCpu::new(CpuModel::X86_64V1, pins.clone(), 0);
    cpu.set_registers(&long_registers(&bus));
    (cpu, pins, bus)
}

fn long_registers(bus: &TestBus) -> Registers {
    bus.put64(0x1000, 0x2007);
    bus.put64(0x2000, 0x3007);
    bus.put64(0x3000, 0x4007);
    bus.put64(0x3008, 0x20_0087);
    for page in 0..512 {
        bus.put64(0x4000 + 8 * page, page << 12 | 7);
    }
    let flat = |attributes| Segment { selector: 8, base: 0, limit: u32::MAX, attributes, unusable: false };
    let mut registers = Registers::reset();
    registers.segments = [flat(0xC093); 6];
    registers.segments[1] = flat(0xA09B);
    (registers.cr0, registers.cr3, registers.cr4, registers.efer) = (0x8001_0011, 0x1000, 0x620, 0x500);
    registers.rip = CODE;
    registers.general = [0; 16];
    registers.general[4] = 0x7000;
    registers
}

/// A processor in real mode at 0:`CODE`, with a stack below it.
fn real_machine() -> (SoftCpu, Arc<Pins>, TestBus) {
    let bus = TestBus::new(512);
    let pins = Arc::new(Pins::new());
    let mut cpu = SoftCpu::new(CpuModel::X86_64V1, pins.clone(), 0);
    let mut registers = Registers::reset();
    registers.segments = [Segment::real(0); 6];
    registers.segments[1].attributes = 0x9B;
    registers.rip = CODE;
    registers.general[4] = 0x7000;
    cpu.set_registers(&registers);
    (cpu, pins, bus)
}

fn vector(bus: &TestBus, vector: u64, handler: u16) {
    bus.put32(vector * 4, u32::from(handler));
}

#[test]
fn a_guest_goes_from_real_mode_to_long_mode_and_takes_an_interrupt_there() {
    let (mut cpu, _, bus) = real_machine();
    let descriptors = [0u64, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x00AF_9B00_0000_FFFF];
    for (index, descriptor) in descriptors.into_iter().enumerate() {
        bus.put64(0x600 + 8 * index as u64, descriptor);
    }
    bus.put(0x500, &[0x1F, 0, 0, 6, 0, 0]); // GDTR
    bus.put(0x510, &[0xFF, 0xF, 0, 0x50, 0, 0, 0, 0, 0, 0]); // IDTR: 0x5000
    let handler = 0xB000u64;
    bus.put64(0x5000 + 0x40 * 16, handler & 0xFFFF | 0x18 << 16 | 0x8E00 << 32);
    let mut real = assemble(16, CODE, |a| {
        a.cli()?;
        a.lgdt(ptr(0x500))?;
        a.mov(eax, cr0)?;
        a.or(eax, 1)?;
        a.mov(cr0, eax)
    });
    real.extend([0x66, 0xEA, 0, 0x90, 0, 0, 8, 0]); // JMP 8:9000
    bus.put(CODE, &real);
    let mut protected = assemble(32, 0x9000, |a| {
        a.mov(ax, 0x10)?;
        a.mov(ds, eax)?;
        a.mov(es, eax)?;
        a.mov(ss, eax)?;
        a.mov(esp, 0x7000)?;
        a.mov(edi, 0x1000)?;
        a.xor(eax, eax)?;
        a.mov(ecx, 3072)?;
        a.cld()?;
        a.rep().stosd()?;
        a.mov(dword_ptr(0x1000), 0x2003)?;
        a.mov(dword_ptr(0x2000), 0x3003)?;
        a.mov(dword_ptr(0x3000), 0x83)?;
        a.mov(eax, cr4)?;
        a.or(eax, 0x20)?;
        a.mov(cr4, eax)?;
        a.mov(eax, 0x1000)?;
        a.mov(cr3, eax)?;
        a.mov(ecx, 0xC000_0080u32)?;
        a.rdmsr()?;
        a.or(eax, 0x100)?;
        a.wrmsr()?;
        a.mov(eax, cr0)?;
        a.or(eax, 0x8000_0000u32)?;
        a.mov(cr0, eax)
    });
    protected.extend([0xEA, 0, 0xA0, 0, 0, 0x18, 0]); // JMP 18:A000
    bus.put(0x9000, &protected);
    let long = assemble(64, 0xA000, |a| {
        a.lidt(ptr(0x510))?;
        a.mov(rbx, 0x1122_3344_5566_7788u64)?;
        a.mov(qword_ptr(0x6000), rbx)?;
        a.int(0x40)?;
        a.add(qword_ptr(0x6000), 1)?;
        a.hlt()
    });
    bus.put(0xA000, &long);
    let on_interrupt = assemble(64, handler, |a| {
        a.mov(rax, qword_ptr(rsp))?;
        a.mov(qword_ptr(0x6008), rax)?;
        a.iretq()
    });
    bus.put(handler, &on_interrupt);
    assert_eq!(cpu.run(&bus, RunLimit { instructions: 10_000 }), Stop::Halted);
    assert_eq!(bus.get64(0x6000), 0x1122_3344_5566_7789);
    let after_int = bus.get64(0x6008);
    assert!((0xA000..0xA000 + long.len() as u64).contains(&after_int));
    assert!(cpu.registers().halted);
    assert_eq!(cpu.registers().rip, 0xA000 + long.len() as u64);
}

#[test]
fn handlers_need_no_stack() {
    let (mut cpu, _, bus) = long_machine();
    let code = assemble(64, CODE, |a| {
        let (mut top, mut near) = (a.create_label(), a.create_label());
        a.mov(ecx, 10_000_000)?;
        a.set_label(&mut top)?;
        a.add(rax, qword_ptr(0x6000))?;
        a.mov(dword_ptr(0x6008), eax)?;
        a.paddq(xmm0, xmmword_ptr(0x6010))?;
        a.movaps(xmmword_ptr(0x6020), xmm0)?;
        a.push(rcx)?;
        a.call(near)?;
        a.pop(rdx)?;
        a.dec(ecx)?;
        a.jnz(top)?;
        a.hlt()?;
        a.set_label(&mut near)?;
        a.imul_3(ebx, ecx, 3)?;
        a.shl(ebx, cl)?;
        a.ret()
    });
    bus.put(CODE, &code);
    struct Carried<T>(T);
    // SAFETY: the bus is used by the other thread alone while it runs.
    unsafe impl<T> Send for Carried<T> {}
    let mut carried = Carried((&mut cpu, &bus));
    let stop = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        let run = move || {
            let all = &mut carried;
            all.0.0.run(all.0.1, RunLimit::NONE)
        };
        thread.spawn_scoped(scope, run).unwrap().join().unwrap()
    });
    assert_eq!(stop, Stop::Halted);
    assert_eq!(cpu.instructions(), 120_000_002);
}

#[test]
fn limits_are_exact_and_stepping_gives_the_same() {
    let code = assemble(64, CODE, |a| {
        let mut top = a.create_label();
        a.mov(ecx, 1000)?;
        a.set_label(&mut top)?;
        a.add(rax, rcx)?;
        a.xor(rdx, rax)?;
        a.mov(dword_ptr(0x6000), edx)?;
        a.add(ebx, dword_ptr(0x6000))?;
        a.cmp(ebx, 77)?;
        a.jb(top)?;
        a.dec(ecx)?;
        a.jnz(top)?;
        a.hlt()
    });
    let (mut stepped, _, bus_stepped) = long_machine();
    bus_stepped.put(CODE, &code);
    for limit in 1..150u64 {
        let (mut cpu, _, bus) = long_machine();
        bus.put(CODE, &code);
        let stop = cpu.run(&bus, RunLimit { instructions: limit });
        assert_eq!(stop, if limit == 1 { Stop::Step } else { Stop::Limit });
        assert_eq!(cpu.instructions(), limit);
        assert_eq!(stepped.run(&bus_stepped, RunLimit::STEP), Stop::Step);
        assert_eq!(cpu.registers(), stepped.registers(), "after {limit}");
    }
}

#[test]
fn a_fault_within_a_block_leaves_everything_before_it_done_and_nothing_after() {
    let (mut cpu, _, bus) = real_machine();
    vector(&bus, 0, 0x9000);
    let code = assemble(16, CODE, |a| {
        a.mov(ax, 7)?;
        a.mov(bl, 0)?;
        a.inc(cx)?;
        a.div(bl)?;
        a.inc(cx)?;
        a.hlt()
    });
    bus.put(CODE, &code);
    bus.put(0x9000, &[0xF4]);
    let before = cpu.registers().general[1];
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(cpu.registers().general[1], before + 1);
    let pushed = bus.get16(u64::from(cpu.registers().general[4] as u16));
    assert_eq!(u64::from(pushed), CODE + 3 + 2 + 1);
    assert_eq!(cpu.instructions(), 4); // three and HLT
}

#[test]
fn code_may_overwrite_what_it_is_about_to_run() {
    let (mut cpu, _, bus) = long_machine();
    let code = assemble(64, CODE, |a| {
        let mut ahead = a.create_label();
        a.mov(byte_ptr(CODE + 9), 5)?; // the immediate of the next instruction
        a.set_label(&mut ahead)?;
        a.mov(al, 1)?;
        a.hlt()
    });
    assert_eq!(code.len(), 8 + 2 + 1);
    bus.put(CODE, &code);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(cpu.registers().general[0], 5);
}

#[test]
fn a_patched_loop_runs_its_patch_every_time() {
    let (mut cpu, _, bus) = long_machine();
    let code = assemble(64, CODE, |a| {
        let (mut top, mut patched) = (a.create_label(), a.create_label());
        a.mov(ecx, 3000)?;
        a.lea(rdi, ptr(patched))?;
        a.set_label(&mut top)?;
        a.mov(dword_ptr(rdi + 1), ecx)?;
        a.jmp(patched)?;
        a.db(&[0x90; 100])?;
        a.set_label(&mut patched)?;
        a.mov(eax, 0)?;
        a.add(rdx, rax)?;
        a.dec(ecx)?;
        a.jnz(top)?;
        a.hlt()
    });
    bus.put(CODE, &code);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(cpu.registers().general[2], 3000 * 3001 / 2);
}

#[test]
fn other_processors_and_devices_are_seen_changing_code() {
    let bus = TestBus::new(1024);
    let watch = CodeWatch::new();
    let mut cpus: Vec<SoftCpu> =
        (0..2).map(|id| SoftCpu::sharing(CpuModel::X86_64V1, Arc::new(Pins::new()), id, 2, &watch)).collect();
    let function = 0x9000u64;
    bus.put(
        function,
        &assemble(64, function, |a| {
            a.mov(eax, 1)?;
            a.hlt()
        }),
    );
    // the writer gets a direct write entry for the page before there is code in it
    let writer = assemble(64, CODE, |a| {
        a.mov(byte_ptr(0x9800), 1)?;
        a.hlt()?;
        a.mov(byte_ptr(function + 1), 2)?;
        a.hlt()
    });
    bus.put(CODE, &writer);
    let mut registers = long_registers(&bus);
    cpus[0].set_registers(&registers);
    registers.rip = function;
    cpus[1].set_registers(&registers);
    assert_eq!(cpus[0].run(&bus, RunLimit::NONE), Stop::Halted);
    let call = |cpu: &mut SoftCpu| {
        let mut registers = cpu.registers();
        (registers.rip, registers.halted) = (function, false);
        // not through `set_registers`, which forgets all code
        cpu.cpu.rip = function;
        cpu.cpu.halted = false;
        assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
        cpu.registers().general[0]
    };
    assert_eq!(call(&mut cpus[1]), 1);
    cpus[0].cpu.halted = false;
    assert_eq!(cpus[0].run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(call(&mut cpus[1]), 2);
    bus.put(function + 1, &[3]);
    watch.wrote(function..function + 2);
    assert_eq!(call(&mut cpus[1]), 3);
}

#[test]
fn breakpoints_stop_before_the_instruction_and_are_passed_by_the_next_run() {
    let (mut cpu, _, bus) = long_machine();
    let code = assemble(64, CODE, |a| {
        let mut top = a.create_label();
        a.mov(ecx, 3)?; // 5 bytes
        a.set_label(&mut top)?;
        a.inc(eax)?; // 2
        a.inc(edx)?; // the breakpoint, at +7
        a.dec(ecx)?;
        a.jnz(top)?;
        a.hlt()
    });
    bus.put(CODE, &code);
    cpu.set_breakpoints(&[CODE + 7]);
    for round in 1..=3 {
        assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Breakpoint(CODE + 7));
        let registers = cpu.registers();
        assert_eq!((registers.general[0], registers.general[2]), (round, round - 1));
    }
    cpu.set_breakpoints(&[]);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(cpu.registers().general[2], 3);
}

#[test]
fn interrupts_wait_for_the_instruction_after_sti_and_wake_from_hlt() {
    let (mut cpu, pins, bus) = real_machine();
    vector(&bus, 0x20, 0x9000);
    bus.put(
        0x9000,
        &assemble(16, 0x9000, |a| {
            a.pop(bx)?; // the return address
            a.push(bx)?;
            a.iret()
        }),
    );
    // NOP, STI, NOP, NOP, HLT, HLT
    bus.put(CODE, &[0x90, 0xFB, 0x90, 0x90, 0xF4, 0xF4]);
    bus.vector.set(Some(0x20));
    pins.raise(Signal::Interrupt);
    assert_eq!(cpu.run(&bus, RunLimit { instructions: 3 }), Stop::Limit);
    assert_eq!(cpu.registers().rip, CODE + 3);
    assert_eq!(cpu.run(&bus, RunLimit::STEP), Stop::Step); // the delivery
    assert_eq!(cpu.registers().rip, 0x9000);
    pins.lower(Signal::Interrupt); // the controller does, when it was acknowledged
    assert_eq!(cpu.run(&bus, RunLimit { instructions: 3 }), Stop::Limit);
    let registers = cpu.registers();
    assert_eq!((registers.general[3] & 0xFFFF, registers.rip), (CODE + 3, CODE + 3));
    assert_eq!(cpu.run(&bus, RunLimit { instructions: 3 }), Stop::Halted);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    bus.vector.set(Some(0x20));
    pins.raise(Signal::Interrupt);
    assert_eq!(cpu.run(&bus, RunLimit { instructions: 5 }), Stop::Halted); // the delivery counts too
    assert_eq!(cpu.registers().general[3] & 0xFFFF, CODE + 5);
    pins.raise(Signal::Kick);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Kicked);
    assert!(!pins.is_raised(Signal::Kick));
}

#[test]
fn the_trap_flag_traps_after_every_instruction() {
    let (mut cpu, _, bus) = real_machine();
    vector(&bus, 1, 0x9000);
    bus.put(
        0x9000,
        &assemble(16, 0x9000, |a| {
            a.inc(di)?;
            a.iret()
        }),
    );
    bus.put(
        CODE,
        &assemble(16, CODE, |a| {
            a.xor(di, di)?;
            a.pushf()?;
            a.pop(ax)?;
            a.or(ax, 0x100)?;
            a.push(ax)?;
            a.popf()?; // no trap yet
            a.inc(cx)?; // 1
            a.mov(bx, 0x6000)?; // 2
            a.and(ax, 0xFEFF)?; // 3
            a.push(ax)?; // 4
            a.popf()?; // 5: TF was set when it began
            a.hlt()
        }),
    );
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    let registers = cpu.registers();
    assert_eq!(registers.general[7] & 0xFFFF, 5);
    assert_ne!(registers.debug[4] & 1 << 14, 0);
}

#[test]
fn debug_registers_break_before_the_instruction_once() {
    let (mut cpu, _, bus) = real_machine();
    vector(&bus, 1, 0x9000);
    bus.put(
        0x9000,
        &assemble(16, 0x9000, |a| {
            a.inc(di)?;
            a.mov(bp, sp)?;
            a.or(dword_ptr(bp + 2), 0)?; // leave the frame as it is
            a.iret()
        }),
    );
    bus.put(CODE, &[0x31, 0xFF, 0x90, 0x41, 0x90, 0xF4]); // XOR DI, DI; NOP; INC CX; NOP; HLT
    let mut registers = cpu.registers();
    registers.debug[0] = CODE + 3;
    registers.debug[5] = 0x402; // G0, execution
    cpu.set_registers(&registers);
    // real-mode IRET restores 16 bits of flags: RF is lost, so the handler would come back for ever
    assert_eq!(cpu.run(&bus, RunLimit { instructions: 3 }), Stop::Limit);
    assert_eq!(cpu.registers().rip, 0x9000);
    assert_eq!(cpu.registers().debug[4] & 0xF, 1);
    let mut registers = cpu.registers();
    registers.rip = CODE + 3;
    registers.rflags |= 1 << 16;
    cpu.set_registers(&registers);
    assert_eq!(cpu.run(&bus, RunLimit { instructions: 10 }), Stop::Halted);
}

#[test]
fn a_repeated_copy_stops_exactly_at_the_page_that_is_not_there() {
    let (mut cpu, _, bus) = long_machine();
    bus.put64(0x4000 + 8 * 0x21, 0); // page 0x21000 is not present
    let handler = 0xB000u64;
    bus.put64(0x5000 + 14 * 16, handler & 0xFFFF | 8 << 16 | 0x8E00 << 32);
    bus.put64(0x608, 0x00AF_9B00_0000_FFFF);
    bus.put(handler, &[0xF4]);
    bus.put(CODE, &[0xF3, 0x48, 0xA5, 0xF4]); // REP MOVSQ; HLT
    for at in 0..0x400u64 {
        bus.put64(0x10000 + 8 * at, at);
    }
    let mut registers = cpu.registers();
    (registers.idtr.base, registers.idtr.limit) = (0x5000, 0xFFF);
    (registers.gdtr.base, registers.gdtr.limit) = (0x600, 0x1F);
    registers.general[1] = 0x300;
    registers.general[6] = 0x10000;
    registers.general[7] = 0x20804; // 0x7FC bytes below the hole: the last quadword crosses into it
    cpu.set_registers(&registers);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    let registers = cpu.registers();
    let done = 0x7FC / 8;
    assert_eq!(registers.rip, handler + 1);
    assert_eq!(registers.general[1], 0x300 - done);
    assert_eq!(registers.general[6], 0x10000 + 8 * done);
    assert_eq!(registers.general[7], 0x20804 + 8 * done);
    assert_eq!(registers.cr2, 0x21000);
    assert_eq!(bus.get64(0x20804 + 8 * (done - 1)), done - 1);
    assert_eq!(bus.get32(0x20804 + 8 * done), 0, "nothing of the crossing one");
    // the page comes, the handler returns
    bus.put64(0x4000 + 8 * 0x21, 0x21007);
    bus.put64(0x4000 + 8 * 0x22, 0x22007);
    let mut registers = registers;
    (registers.rip, registers.halted) = (CODE, false);
    cpu.set_registers(&registers);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(cpu.registers().general[1], 0);
    assert_eq!(bus.get64(0x20804 + 8 * 0x2FF), 0x2FF);
}

#[test]
fn sixteen_bit_addresses_and_stacks_wrap() {
    let (mut cpu, _, bus) = real_machine();
    bus.put(0x10, &[0x34, 0x12]);
    let code = assemble(16, CODE, |a| {
        a.mov(bx, 0xFFFE)?;
        a.mov(si, 0x12)?;
        a.mov(ax, word_ptr(bx + si))?; // 0xFFFE + 0x12 wraps to 0x10
        a.mov(sp, 0)?;
        a.push(ax)?; // at 0xFFFE
        a.pop(dx)?;
        a.hlt()
    });
    bus.put(CODE, &code);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    let registers = cpu.registers();
    assert_eq!(registers.general[0] as u16, 0x1234);
    assert_eq!(registers.general[2] as u16, 0x1234);
    assert_eq!(registers.general[4] as u16, 0);
    assert_eq!(bus.get16(0xFFFE), 0x1234);
}

#[test]
fn lock_is_illegal_where_it_means_nothing() {
    for code in [&[0xF0u8, 0x89, 0x07][..], &[0xF0, 0x01, 0xC0], &[0xF0, 0x90], &[0x0F, 0x0B]] {
        let (mut cpu, _, bus) = real_machine();
        vector(&bus, 6, 0x9000);
        bus.put(0x9000, &[0xF4]);
        bus.put(CODE, code);
        assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
        assert_eq!(cpu.registers().rip, 0x9001, "{code:x?}");
        assert_eq!(u64::from(bus.get16(0x7000 - 6)), CODE);
    }
}

#[test]
fn an_instruction_over_a_page_end_follows_both_pages() {
    let (mut cpu, _, bus) = long_machine();
    // MOV EAX, imm32 with two bytes in page 0x20 and three in 0x21, then HLT
    bus.put(0x20FFE, &[0xB8, 0x11, 0x22, 0x33, 0x44, 0xF4]);
    bus.put(0x31000, &[0x55, 0x66, 0x77, 0xF4]);
    let mut registers = cpu.registers();
    registers.rip = 0x20FFE;
    cpu.set_registers(&registers);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(cpu.registers().general[0], 0x4433_2211);
    // the second page elsewhere, as after a task switch
    bus.put64(0x4000 + 8 * 0x21, 0x31007);
    cpu.cpu.flush_translations(true);
    (cpu.cpu.rip, cpu.cpu.halted) = (0x20FFE, false);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(cpu.registers().general[0], 0x7766_5511);
    // and its bytes overwritten
    bus.put(0x31000, &[0x99]);
    cpu.code_watch().wrote(0x31000..0x31001);
    (cpu.cpu.rip, cpu.cpu.halted) = (0x20FFE, false);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(cpu.registers().general[0], 0x7766_9911);
}

#[test]
fn links_between_pages_follow_the_page_tables() {
    let (mut cpu, _, bus) = long_machine();
    bus.put(
        CODE,
        &assemble(64, CODE, |a| {
            let mut top = a.create_label();
            a.mov(ecx, 5)?;
            a.set_label(&mut top)?;
            a.call(0x20000)?;
            a.dec(ecx)?;
            a.jnz(top)?;
            a.hlt()
        }),
    );
    bus.put(0x20000, &[0x83, 0xC0, 1, 0xC3]); // ADD EAX, 1; RET
    bus.put(0x30000, &[0x83, 0xC0, 100, 0xC3]);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(cpu.registers().general[0], 5);
    bus.put64(0x4000 + 8 * 0x20, 0x30007);
    cpu.cpu.flush_page(0x20000);
    (cpu.cpu.rip, cpu.cpu.halted) = (CODE, false);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    assert_eq!(cpu.registers().general[0], 505);
}

#[test]
fn decimal_adjustments_are_as_the_manual_has_them() {
    // (code, AX and flags before; AX and CF, AF after)
    let cases: [(&[u8], u16, u64, u16, u64); 10] = [
        (&[0x27], 0x00AE, 0, 0x0014, 0x11),
        (&[0x27], 0x0035, 0, 0x0035, 0),
        (&[0x27], 0x0012, 1, 0x0072, 1),
        (&[0x2F], 0x0047 - 0x19, 0x10, 0x0028, 0x10),
        (&[0x2F], 0x0003, 0x10, 0x00FD, 0x11),
        (&[0x37], 0x000F, 0, 0x0105, 0x11),
        (&[0x37], 0x0039, 0, 0x0009, 0),
        (&[0x3F], 0x020D, 0, 0x0107, 0x11),
        (&[0xD4, 10], 0x004F, 0, 0x0709, 0),
        (&[0xD5, 10], 0x0709, 0, 0x004F, 0),
    ];
    for (code, before, flags, after, flags_after) in cases {
        let (mut cpu, _, bus) = real_machine();
        bus.put(CODE, code);
        bus.put(CODE + code.len() as u64, &[0xF4]);
        let mut registers = cpu.registers();
        registers.general[0] = u64::from(before);
        registers.rflags = 2 | flags;
        cpu.set_registers(&registers);
        assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
        let registers = cpu.registers();
        assert_eq!(registers.general[0] as u16, after, "{code:x?} of {before:x}");
        if code.len() == 1 {
            assert_eq!(registers.rflags & 0x11, flags_after, "{code:x?} of {before:x}");
        }
    }
}

#[test]
fn a_processor_that_spins_offers_to_let_others_run() {
    let (mut cpu, _, bus) = long_machine();
    let code = assemble(64, CODE, |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.pause()?;
        a.inc(rcx)?;
        a.cmp(dword_ptr(0x6000), 0)?;
        a.je(again)?;
        a.hlt()
    });
    bus.put(CODE, &code);
    for offers in 1..4 {
        assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Yielded);
        assert_eq!(cpu.registers().general[1], 4096 * offers - 1);
    }
    bus.put32(0x6000, 1);
    assert_eq!(cpu.run(&bus, RunLimit::NONE), Stop::Halted);
    bus.put32(0x6000, 0);
    let mut registers = cpu.registers();
    (registers.rip, registers.halted) = (CODE, false);
    cpu.set_registers(&registers);
    assert_eq!(cpu.run(&bus, RunLimit { instructions: 100_000 }), Stop::Limit, "limits are the owner's");
}
