//! What a guest and the machine see of the interrupt fabric.

use super::*;
use crate::alarm::Alarms;
use crate::contract;
use crate::device::Device;
use crate::timers::TickCounts;

/// What the wires to the processors carried.
#[derive(Clone, Debug, PartialEq)]
enum Wire {
    Interrupt(usize, bool),
    Nmi(usize),
    Init(usize),
    Startup(usize, u8),
    Deliver(Message),
    Routes(usize),
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Wire>>>);

impl Log {
    fn push(&self, wire: Wire) {
        self.0.lock().push(wire);
    }
    fn take(&self) -> Vec<Wire> {
        std::mem::take(&mut self.0.lock())
    }
}

impl CpuLines for Log {
    fn interrupt(&self, cpu: usize, level: bool) {
        self.push(Wire::Interrupt(cpu, level));
    }
    fn nmi(&self, cpu: usize) {
        self.push(Wire::Nmi(cpu));
    }
    fn init(&self, cpu: usize) {
        self.push(Wire::Init(cpu));
    }
    fn startup(&self, cpu: usize, vector: u8) {
        self.push(Wire::Startup(cpu, vector));
    }
}

impl MessageSink for Log {
    fn deliver(&self, message: Message) {
        self.push(Wire::Deliver(message));
    }
    fn routes_changed(&self, routes: &[Option<Message>; INPUTS]) {
        self.push(Wire::Routes(routes.iter().flatten().count()));
    }
}

struct Board {
    fabric: Arc<Fabric>,
    bus: Arc<Bus>,
    log: Log,
    clock: Clock,
    alarms: Arc<Alarms>,
}

impl Board {
    fn new(cpus: usize) -> Board {
        let (log, clock, alarms) = (Log::default(), Clock::manual(), Alarms::new(|| {}));
        let fabric = Fabric::new(cpus, clock.clone(), alarms.alarm(), 1_000_000_000, Box::new(log.clone()));
        let bus = Bus::new();
        install(&fabric, &bus);
        Board { fabric, bus, log, clock, alarms }
    }

    fn out(&self, port: u64, value: u64) {
        self.bus.write(Space::Port, port, Width::Byte, value, 0);
    }

    fn apic_write(&self, cpu: usize, offset: u64, value: u64) {
        self.bus.write(Space::Memory, 0xFEE0_0000 + offset, Width::Dword, value, cpu);
    }

    fn apic_read(&self, cpu: usize, offset: u64) -> u64 {
        self.bus.read(Space::Memory, 0xFEE0_0000 + offset, Width::Dword, cpu)
    }

    fn ioapic_write(&self, register: u64, value: u64) {
        self.bus.write(Space::Memory, 0xFEC0_0000, Width::Dword, register, 0);
        self.bus.write(Space::Memory, 0xFEC0_0010, Width::Dword, value, 0);
    }

    fn ioapic_read(&self, register: u64) -> u64 {
        self.bus.write(Space::Memory, 0xFEC0_0000, Width::Dword, register, 0);
        self.bus.read(Space::Memory, 0xFEC0_0010, Width::Dword, 0)
    }

    /// As every PC firmware does: vectors 0x08 and 0x70, nothing masked.
    fn program_pics(&self) {
        for (port, value) in [
            (0x20, 0x11),
            (0xA0, 0x11),
            (0x21, 0x08),
            (0xA1, 0x70),
            (0x21, 0x04),
            (0xA1, 0x02),
            (0x21, 0x01),
            (0xA1, 0x01),
            (0x21, 0x00),
            (0xA1, 0x00),
        ] {
            self.out(port, value);
        }
    }

    fn enable_apics(&self) {
        for cpu in 0..self.fabric.state().lapics.len() {
            self.apic_write(cpu, 0xF0, 0x1FF);
        }
    }

    /// The clock thread's part: what is due at the new time is advanced.
    fn pass(&self, ns: u64) {
        self.clock.step(ns);
        for _ in self.alarms.take_due(self.clock.now()) {
            self.fabric.advance();
        }
    }
}

#[test]
fn keeps_the_contract() {
    let make = |cpus| {
        move || {
            let lines = Box::new(Log::default());
            Ports::new(Fabric::new(cpus, Clock::manual(), Alarm::unconnected(), 1_000_000_000, lines))
        }
    };
    contract::check(make(1));
    contract::check(make(3));
    contract::check(|| Ports::new(Fabric::split(Box::new(Log::default()), Box::new(Log::default()))));
}

#[test]
fn a_timer_tick_reaches_the_processor_through_the_pics() {
    let board = Board::new(1);
    board.program_pics();
    board.fabric.set(0, true);
    board.fabric.set(0, true);
    assert_eq!(board.log.take(), [Wire::Interrupt(0, true)], "a level is told once");
    assert_eq!(board.fabric.acknowledge(0), Some(0x08));
    assert_eq!(board.log.take(), [Wire::Interrupt(0, false)]);
    assert_eq!(board.fabric.acknowledge(0), None);
    board.out(0x20, 0x20);
    board.fabric.set(0, false);
    board.fabric.set(8, true);
    assert_eq!(board.fabric.acknowledge(0), Some(0x70));
    let counts = board.fabric.counts();
    assert_eq!((counts.raised[0], counts.delivered[0], counts.delivered[8]), (1, 1, 1));
    assert_eq!((counts.acknowledged[0x08], counts.acknowledged[0x70]), (1, 1));
}

#[test]
fn a_request_that_goes_away_lowers_the_line() {
    let board = Board::new(1);
    board.program_pics();
    board.fabric.set(5, true);
    board.fabric.set(5, false);
    assert_eq!(board.log.take(), [Wire::Interrupt(0, true), Wire::Interrupt(0, false)]);
    assert_eq!(board.fabric.acknowledge(0), None);
}

#[test]
fn with_lint0_masked_the_pics_are_not_heard() {
    let board = Board::new(2);
    board.program_pics();
    board.apic_write(0, 0xF0, 0x1FF);
    board.apic_write(0, 0x350, 0x1_0700);
    board.fabric.set(1, true);
    assert_eq!(board.log.take(), []);
    board.apic_write(0, 0x350, 0x700);
    assert_eq!(board.log.take(), [Wire::Interrupt(0, true)]);
    // Turned off by MSR 0x1B the APIC is out of the way.
    board.apic_write(0, 0x350, 0x1_0700);
    board.log.take();
    assert!(board.fabric.write_apic_msr(0, 0x1B, 0xFEE0_0100));
    assert_eq!(board.log.take(), [Wire::Interrupt(0, true)]);
    assert_eq!(board.fabric.acknowledge(0), Some(0x09));
}

#[test]
fn the_timer_irq_is_input_two_of_the_ioapic() {
    let board = Board::new(2);
    board.enable_apics();
    board.ioapic_write(0x15, 1 << 24);
    board.ioapic_write(0x14, 0x30);
    board.fabric.set(0, true);
    assert_eq!(board.log.take(), [Wire::Interrupt(1, true)]);
    assert_eq!(board.fabric.acknowledge(1), Some(0x30));
    assert_eq!(board.apic_read(1, 0x110), 1 << 16, "ISR");
    board.apic_write(1, 0xB0, 0);
    assert_eq!(board.apic_read(1, 0x110), 0);
}

#[test]
fn a_level_interrupt_comes_again_after_eoi_until_its_line_falls() {
    let board = Board::new(1);
    board.enable_apics();
    board.ioapic_write(0x10 + 2 * 16, 0x8041);
    board.fabric.set(16, true);
    assert_eq!(board.fabric.acknowledge(0), Some(0x41));
    assert_eq!(board.ioapic_read(0x10 + 2 * 16) & 0x4000, 0x4000, "remote IRR");
    board.apic_write(0, 0xB0, 0);
    assert_eq!(board.fabric.acknowledge(0), Some(0x41));
    board.fabric.set(16, false);
    board.apic_write(0, 0xB0, 0);
    assert_eq!(board.fabric.acknowledge(0), None);
    assert_eq!(board.ioapic_read(0x10 + 2 * 16) & 0x4000, 0);
}

#[test]
fn with_eoi_broadcast_suppressed_the_eoi_register_ends_a_level() {
    let board = Board::new(1);
    board.apic_write(0, 0xF0, 0x11FF);
    board.ioapic_write(0x10 + 2 * 16, 0x8041);
    board.fabric.set(16, true);
    assert_eq!(board.fabric.acknowledge(0), Some(0x41));
    board.apic_write(0, 0xB0, 0);
    assert_eq!(board.fabric.acknowledge(0), None);
    board.bus.write(Space::Memory, 0xFEC0_0040, Width::Dword, 0x41, 0);
    assert_eq!(board.fabric.acknowledge(0), Some(0x41));
}

#[test]
fn a_processor_is_started_with_init_and_startup() {
    let board = Board::new(3);
    board.apic_write(0, 0xF0, 0x1FF);
    board.log.take();
    board.apic_write(0, 0x310, 2 << 24);
    board.apic_write(0, 0x300, 0xC500);
    board.apic_write(0, 0x300, 0x8500);
    board.apic_write(0, 0x300, 0x0608);
    assert_eq!(board.log.take(), [Wire::Init(2), Wire::Startup(2, 8)], "the de-assert does nothing");
    board.apic_write(0, 0x300, 0xC_4500);
    assert_eq!(board.log.take(), [Wire::Init(1), Wire::Init(2)]);
    board.apic_write(0, 0x300, 0x8_0400);
    assert_eq!(board.log.take(), [Wire::Nmi(0), Wire::Nmi(1), Wire::Nmi(2)]);
    assert_eq!(board.fabric.counts().interprocessor, 4);
}

#[test]
fn shorthands_and_logical_destinations() {
    let board = Board::new(3);
    board.enable_apics();
    for cpu in 0..3 {
        board.apic_write(cpu, 0xD0, 1 << (24 + cpu));
    }
    board.log.take();
    board.apic_write(1, 0x300, 0x4_0050);
    assert_eq!(board.log.take(), [Wire::Interrupt(1, true)], "self");
    board.apic_write(1, 0x300, 0xC_0051);
    assert_eq!(board.log.take(), [Wire::Interrupt(0, true), Wire::Interrupt(2, true)]);
    for cpu in 0..3 {
        board.fabric.acknowledge(cpu);
        board.apic_write(cpu, 0xB0, 0);
    }
    board.log.take();
    board.apic_write(0, 0x310, 0b110 << 24);
    board.apic_write(0, 0x300, 0x0852);
    assert_eq!(board.log.take(), [Wire::Interrupt(1, true), Wire::Interrupt(2, true)]);
}

#[test]
fn lowest_priority_takes_turns_among_equals_and_spares_the_busy() {
    let board = Board::new(3);
    board.enable_apics();
    for cpu in 0..3 {
        board.apic_write(cpu, 0xD0, 1 << (24 + cpu));
    }
    board.apic_write(1, 0x80, 0x20);
    board.log.take();
    let mut takers = Vec::new();
    for _ in 0..4 {
        // MSI to logical 7, lowest priority, vector 0x61.
        assert!(board.fabric.message(0xFEE0_7004, 0x0161));
        let cpu = (0..3).find(|&cpu| board.fabric.acknowledge(cpu) == Some(0x61)).unwrap();
        board.apic_write(cpu, 0xB0, 0);
        takers.push(cpu);
    }
    assert_eq!(takers, [2, 0, 2, 0]);
    assert_eq!(board.fabric.counts().messages, 4);
}

#[test]
fn the_task_priority_holds_interrupts_back() {
    let board = Board::new(1);
    board.enable_apics();
    board.fabric.set_task_priority(0, 5);
    assert_eq!(board.apic_read(0, 0x80), 0x50);
    board.fabric.message(0xFEE0_0000, 0x5F);
    assert_eq!((board.log.take(), board.fabric.acknowledge(0)), (vec![], None));
    board.fabric.message(0xFEE0_0000, 0x60);
    assert_eq!(board.log.take(), [Wire::Interrupt(0, true)]);
    board.fabric.set_task_priority(0, 4);
    assert_eq!(board.fabric.acknowledge(0), Some(0x60));
    board.apic_write(0, 0xB0, 0);
    assert_eq!(board.fabric.acknowledge(0), Some(0x5F));
    assert_eq!(board.fabric.task_priority(0), 4);
}

#[test]
fn the_apic_timer_asks_for_its_deadline_and_merges_what_it_missed() {
    let board = Board::new(1);
    board.enable_apics();
    board.apic_write(0, 0x3E0, 0xB);
    board.apic_write(0, 0x320, 0x2_0040);
    board.apic_write(0, 0x380, 1_000_000);
    assert_eq!(board.alarms.next(), Some(1_000_000));
    board.pass(999_999);
    assert_eq!((board.apic_read(0, 0x390), board.fabric.acknowledge(0)), (1, None));
    board.pass(1);
    assert_eq!(board.fabric.acknowledge(0), Some(0x40));
    board.apic_write(0, 0xB0, 0);
    board.pass(3_500_000);
    assert_eq!(board.fabric.acknowledge(0), Some(0x40));
    board.apic_write(0, 0xB0, 0);
    assert_eq!(board.fabric.acknowledge(0), None, "three periods, one interrupt");
    assert_eq!(board.alarms.next(), Some(5_000_000), "the phase is kept");
    let counts = board.fabric.counts();
    let expected = TickCounts { raised: 4, delivered: 2, merged: 2, ..TickCounts::default() };
    assert_eq!(counts.timers[0], expected);
    board.apic_write(0, 0x320, 0x3_0040);
    assert_eq!(board.alarms.next(), None, "nobody waits for a masked timer");
}

#[test]
fn a_stopped_apic_timer_owes_nothing() {
    let board = Board::new(1);
    board.enable_apics();
    board.fabric.set_lost_ticks(LostTicks::Replay);
    board.apic_write(0, 0x3E0, 0xB);
    board.apic_write(0, 0x320, 0x2_0040);
    board.apic_write(0, 0x380, 1_000_000);
    board.pass(4_500_000);
    assert_eq!(board.fabric.counts().timers[0].owed, 3);
    board.apic_write(0, 0xB0, 0); // anything else leaves the timer alone
    assert_eq!(board.fabric.counts().timers[0].owed, 3);
    board.apic_write(0, 0x380, 0);
    let expected = TickCounts { raised: 4, delivered: 1, merged: 3, ..TickCounts::default() };
    assert_eq!(board.fabric.counts().timers[0], expected);
    assert_eq!(board.alarms.next(), None);
    board.pass(10_000_000);
    assert_eq!((board.fabric.acknowledge(0), board.fabric.acknowledge(0)), (Some(0x40), None));
    assert_eq!(board.fabric.counts().timers[0], expected);
}

#[test]
fn a_tsc_deadline_that_has_passed_is_due_at_once() {
    let board = Board::new(1);
    board.enable_apics();
    board.pass(1_000);
    board.apic_write(0, 0x320, 0x4_0046);
    board.log.take();
    assert!(board.fabric.write_apic_msr(0, 0x6E0, 1_000));
    assert_eq!(board.log.take(), [Wire::Interrupt(0, true)]);
    assert_eq!(board.fabric.read_apic_msr(0, 0x6E0), Some(0));
    assert_eq!(board.fabric.acknowledge(0), Some(0x46));
}

#[test]
fn x2apic_sends_to_a_32_bit_destination() {
    let board = Board::new(2);
    for cpu in 0..2 {
        assert!(board.fabric.write_apic_msr(cpu, 0x1B, 0xFEE0_0C00 | if cpu == 0 { 0x100 } else { 0 }));
        assert!(board.fabric.write_apic_msr(cpu, 0x80F, 0x1FF));
        assert_eq!(board.apic_read(cpu, 0x20), 0xFFFF_FFFF, "the window is closed");
    }
    assert_eq!(board.fabric.read_apic_msr(1, 0x80D), Some(2), "logical id: cluster 0, bit 1");
    board.log.take();
    assert!(board.fabric.write_apic_msr(0, 0x830, 1 << 32 | 0x55));
    assert!(board.fabric.write_apic_msr(0, 0x830, 3 << 32 | 0x856));
    assert_eq!(board.log.take(), [Wire::Interrupt(1, true), Wire::Interrupt(0, true)]);
    assert_eq!(board.fabric.acknowledge(1), Some(0x56));
    assert!(!board.fabric.write_apic_msr(0, 0x831, 0), "there is no second half");
    assert!(!board.fabric.write_apic_msr(5, 0x80F, 0), "there is no sixth processor");
}

#[test]
fn virtual_wire_through_the_ioapic() {
    let board = Board::new(1);
    board.program_pics();
    board.enable_apics();
    board.apic_write(0, 0x350, 0x1_0700);
    board.ioapic_write(0x10, 0x700);
    board.fabric.set(1, true);
    assert_eq!(board.fabric.acknowledge(0), Some(0x09));
}

#[test]
fn nmi_goes_where_lint1_says() {
    let board = Board::new(2);
    board.fabric.pulse_nmi();
    assert_eq!(board.log.take(), [], "LINT1 is masked after reset");
    board.enable_apics();
    board.apic_write(0, 0x360, 0x400);
    board.fabric.pulse_nmi();
    assert_eq!(board.log.take(), [Wire::Nmi(0)]);
}

#[test]
fn split_sends_messages_out_and_hears_of_their_end() {
    let log = Log::default();
    let fabric = Fabric::split(Box::new(log.clone()), Box::new(log.clone()));
    let bus = Bus::new();
    install(&fabric, &bus);
    let board = Board { fabric, bus, log: log.clone(), clock: Clock::manual(), alarms: Alarms::new(|| {}) };
    board.program_pics();
    board.ioapic_write(0x10 + 2 * 17, 0x8042);
    assert_eq!(log.take(), [Wire::Routes(1)]);
    board.fabric.set(17, true);
    let message =
        Message { destination: 0, logical: false, mode: DeliveryMode::Fixed, vector: 0x42, level: true };
    assert_eq!(log.take(), [Wire::Deliver(message)]);
    board.fabric.end_of_interrupt(0x42);
    assert_eq!(log.take(), [Wire::Deliver(message)], "still asserted");
    board.fabric.set(17, false);
    board.fabric.end_of_interrupt(0x42);
    board.fabric.set(4, true);
    assert_eq!(log.take(), [Wire::Interrupt(0, true)], "the 8259A pair");
    assert_eq!(board.fabric.acknowledge(0), Some(0x0C));
    assert_eq!(board.fabric.read_apic_msr(0, 0x1B), None);
}

#[test]
fn a_saved_fabric_goes_on_with_its_lines() {
    let board = Board::new(1);
    board.program_pics();
    board.fabric.set(3, true);
    let saved = board.fabric.save();
    let other = Board::new(1);
    Ports::new(other.fabric.clone()).load(&saved).unwrap();
    assert_eq!(other.log.take(), [Wire::Interrupt(0, true)]);
    other.fabric.set(3, false);
    assert_eq!(other.log.take(), [Wire::Interrupt(0, false)]);
    assert!(Board::new(2).fabric.load(&saved).is_err(), "another number of processors");
}
