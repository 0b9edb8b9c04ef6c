//! What the monitor is told: accesses to watched memory, deliveries, mode changes; and that guests see nothing of it.

use super::machine::{self, CODE_0, IDT};
use crate::notice::{DataWatch, Interest, Mode, ModeKind, Notice, Source, Vectors};
use crate::soft::state::Cpu;
use crate::soft::testing::{self, TestBus};
use crate::stop::Stop;

const CODE: u64 = 0x500;
const WATCHED: u64 = 0xA010;

fn run(cpu: &mut Cpu, bus: &TestBus) -> Stop {
    cpu.with_bus(bus, |cpu| cpu.execute(u64::MAX))
}

fn watching(code: &[u8], watch: DataWatch) -> (Box<Cpu>, TestBus) {
    let (mut cpu, bus) = machine::protected();
    bus.put(CODE, code);
    cpu.rip = CODE;
    cpu.general[7] = WATCHED; // EDI
    cpu.general[6] = 0xB000; // ESI
    cpu.set_interest(&Interest { data: vec![watch], ..Interest::default() });
    (cpu, bus)
}

fn bytes(from: u64, to: u64, physical: bool, reads: bool, writes: bool) -> DataWatch {
    DataWatch { range: from..=to, physical, reads, writes }
}

fn access(stop: Stop) -> (u64, u64, Option<bool>) {
    let Stop::Noticed(notices) = stop else { panic!("{stop:?}") };
    let [Notice::Access { watch: 0, linear, bytes, write }] = notices[..] else { panic!("{notices:?}") };
    (linear, bytes, write)
}

#[test]
fn a_store_is_told_once_it_is_made_and_only_if_it_touches_the_range() {
    // mov [edi-4], eax; mov [edi], eax; mov ebx, [edi]; hlt
    let code = [0x89, 0x47, 0xFC, 0x89, 0x07, 0x8B, 0x1F, 0xF4];
    for physical in [false, true] {
        let (mut cpu, bus) = watching(&code, bytes(WATCHED + 3, WATCHED + 3, physical, false, true));
        cpu.general[0] = 0x1234_5678;
        assert_eq!(access(run(&mut cpu, &bus)), (WATCHED, 4, Some(true)));
        assert_eq!((cpu.rip, bus.get32(WATCHED)), (CODE + 5, 0x1234_5678));
        assert_eq!(run(&mut cpu, &bus), Stop::Halted, "reads are not asked for");
    }
}

#[test]
fn reads_pushes_and_string_instructions_are_told() {
    let read = bytes(WATCHED, WATCHED + 3, false, true, false);
    let (mut cpu, bus) = watching(&[0x8B, 0x1F, 0xF4], read.clone()); // mov ebx, [edi]
    assert_eq!(access(run(&mut cpu, &bus)), (WATCHED, 4, Some(false)));
    let write = bytes(WATCHED, WATCHED + 3, false, false, true);
    let (mut cpu, bus) = watching(&[0x50, 0xF4], write.clone()); // push eax
    cpu.general[4] = WATCHED + 4;
    assert_eq!(access(run(&mut cpu, &bus)), (WATCHED, 4, Some(true)));
    let (mut cpu, bus) = watching(&[0xF3, 0xA4, 0xF4], write); // rep movsb
    (cpu.general[1], cpu.general[7]) = (100, WATCHED - 10);
    assert_eq!(access(run(&mut cpu, &bus)), (WATCHED, 1, Some(true)));
    let left = cpu.general[1];
    assert!(left > 80, "stopped at an element: {left} left");
}

#[test]
fn deliveries_are_told_at_the_handler_with_where_they_came_from() {
    let (mut cpu, bus) = machine::protected();
    bus.put(CODE, &[0x90, 0xCD, 0x41, 0x0F, 0x0B]); // nop; int 0x41; ud2
    bus.put(0x600, &[0xCF]); // iret
    bus.put64(IDT + 8 * 0x41, machine::gate(CODE_0, 0x600, 0x8E, 0));
    bus.put64(IDT + 8 * 6, machine::gate(CODE_0, 0x680, 0x8E, 0));
    cpu.rip = CODE;
    let mut interest = Interest::default();
    interest.exceptions.add(6);
    interest.interrupts = Vectors::ALL;
    cpu.set_interest(&interest);
    let told = |stop: Stop| match stop {
        Stop::Noticed(notices) => notices,
        stop => panic!("{stop:?}"),
    };
    let delivery =
        |vector, source, from| Notice::Delivery { vector, error_code: None, address: None, source, from };
    assert_eq!(told(run(&mut cpu, &bus)), [delivery(0x41, Source::Instruction, CODE + 3)]);
    assert_eq!(cpu.rip, 0x600);
    assert_eq!(told(run(&mut cpu, &bus)), [delivery(6, Source::Exception, CODE + 3)]);
    assert_eq!(cpu.rip, 0x680);
}

#[test]
fn a_mode_change_is_told_after_the_instruction() {
    let (mut cpu, bus) = testing::machine(64);
    bus.put(CODE, &[0x0F, 0x01, 0xE0, 0x0C, 1, 0x0F, 0x01, 0xF0, 0xF4]); // smsw ax; or al, 1; lmsw ax; hlt
    cpu.rip = CODE;
    cpu.set_interest(&Interest { modes: true, ..Interest::default() });
    let Stop::Noticed(notices) = run(&mut cpu, &bus) else { panic!() };
    let mode = |kind| Mode { kind, paging: false };
    let [Notice::Mode { before, after }] = notices[..] else { panic!("{notices:?}") };
    assert_eq!((before, after), (mode(ModeKind::Real), mode(ModeKind::Protected)));
    assert_eq!(cpu.rip, CODE + 8);
    assert_eq!(run(&mut cpu, &bus), Stop::Halted);
}

#[test]
fn a_breakpoint_is_met_wherever_a_run_begins_and_passed_once() {
    let (mut cpu, bus) = testing::machine(64);
    bus.put(CODE, &[0x40, 0x40, 0xEB, 0xFC]); // again: inc ax; inc ax; jmp again
    cpu.rip = CODE;
    cpu.blocks.breakpoints = vec![CODE + 1];
    cpu.breakpoints_changed();
    assert_eq!(cpu.with_bus(&bus, |cpu| cpu.execute(1)), Stop::Step);
    assert_eq!(
        run(&mut cpu, &bus),
        Stop::Breakpoint(CODE + 1),
        "a run that ended here by chance told nothing"
    );
    assert_eq!(run(&mut cpu, &bus), Stop::Breakpoint(CODE + 1));
    assert_eq!(cpu.general[0] & 0xFFFF, 3);
}
