//! The interrupt fabric: 8259A pair, I/O APIC and local APICs under one lock, because they interact.
//!
//! Wiring, as on a PC: ISA IRQ 0 to 15 drive the 8259A pair and the I/O APIC input of the same number,
//! but for IRQ 0, which is input 2; lines 16 to 23 drive the I/O APIC only. The pair's output is LINT0 of
//! every local APIC, and input 0 of the I/O APIC (only for virtual wire mode, ExtINT).
//! Every change ends in `settle`, which sends what is to be sent and derives the INTR lines.
//!
//! Two shapes: whole ([`Fabric::new`]), and split ([`Fabric::split`]), where the local APICs live in the
//! host's kernel and messages go out over a [`MessageSink`].

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::counts::InterruptCounts;
use super::ioapic::{INPUTS, IoApic};
use super::lapic::{Effect, Lapic, Lvt, Shorthand};
use super::lapic_timer::Timer;
use super::lapic_view::LapicView;
use super::message::{DeliveryMode, Message};
use super::pic::Pair;
use super::ports::Ports;
use crate::alarm::Alarm;
use crate::bus::{Bus, WindowSpec};
use crate::clock::{Clock, Nanoseconds};
use crate::device::{LoadError, Shared, decode, encode, shared};
use crate::layout::address;
use crate::line::{LineSink, MessagePort};
use crate::timers::{LostTicks, Ticks};
use crate::{Space, Width};

/// The wires to the processors. Called with the fabric's lock held: must not call back, nor wait for
/// anyone who might. A level is told only when it changes.
pub trait CpuLines: Send + Sync {
    /// INTR of `cpu` now has `level`.
    fn interrupt(&self, cpu: usize, level: bool);
    /// An NMI for `cpu`.
    fn nmi(&self, cpu: usize);
    /// INIT for `cpu`: reset it; it waits for a startup unless it is the bootstrap processor.
    fn init(&self, cpu: usize);
    /// Startup of `cpu` at physical address `vector` << 12.
    fn startup(&self, cpu: usize, vector: u8);
}

/// Where messages go when the local APICs are not ours. The same rules as for [`CpuLines`].
pub trait MessageSink: Send + Sync {
    /// Deliver this interrupt.
    fn deliver(&self, message: Message);
    /// The I/O APIC was programmed: what each input sends from now on; `None` if masked. A kernel needs
    /// it to know for which vectors an end of interrupt must be told to us.
    fn routes_changed(&self, routes: &[Option<Message>; INPUTS]);
}

/// The interrupt controllers of one machine.
pub struct Fabric {
    inner: Mutex<Inner>,
    clock: Clock,
    alarm: Alarm,
    tsc_hz: u64,
    lines: Box<dyn CpuLines>,
    messages: Option<Box<dyn MessageSink>>,
    witness: ArcSwapOption<Witness>,
}

/// Something the controllers did, as the trace sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A line rose.
    Raised {
        /// ISA IRQ or I/O APIC input.
        line: u8,
    },
    /// The I/O APIC sent a message for a line.
    Delivered {
        /// The input.
        line: u8,
        /// The vector it sends.
        vector: u8,
    },
    /// A local APIC's timer expired.
    Timer {
        /// Whose.
        cpu: u8,
        /// Expirations merged into this one.
        merged: u32,
    },
}

/// Hears of what the controllers do, with their lock held.
pub type Witness = Box<dyn Fn(Happening) + Send + Sync>;

/// What is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The 8259A pair.
    pub pic: Pair,
    /// The I/O APIC.
    pub ioapic: IoApic,
    /// One per processor; none in split mode.
    pub lapics: Vec<Lapic>,
    /// Levels on the lines now, one bit each.
    lines: u32,
    /// Who got the last lowest-priority interrupt: equals take turns.
    last_chosen: usize,
    /// The pair's output when last looked at: LINT0 sees its edges.
    pic_output: bool,
}

impl State {
    fn new(cpus: usize) -> State {
        let lapic = |cpu| Lapic::new(cpu as u32, cpu == 0);
        State {
            pic: Pair::default(),
            ioapic: IoApic::default(),
            lapics: (0..cpus).map(lapic).collect(),
            lines: 0,
            last_chosen: 0,
            pic_output: false,
        }
    }

    fn next_deadline(&self) -> Option<Nanoseconds> {
        self.lapics.iter().filter_map(Lapic::deadline).min()
    }
}

struct Inner {
    state: State,
    /// INTR of each processor as last told.
    told: Vec<bool>,
    deadline: Option<Nanoseconds>,
    counts: InterruptCounts,
    /// Per processor: the ticks of its local APIC's timer, and when one that is owed is tried next.
    ticks: Vec<(Ticks, Option<Nanoseconds>)>,
}

impl Fabric {
    /// The whole fabric for `cpus` processors, whose APIC ids are 0, 1, 2 ... `tsc_hz` is the frequency of
    /// the time-stamp counter, which counts from guest time 0. `alarm` must lead to [`Fabric::advance`].
    pub fn new(
        cpus: usize,
        clock: Clock,
        alarm: Alarm,
        tsc_hz: u64,
        lines: Box<dyn CpuLines>,
    ) -> Arc<Fabric> {
        assert!((1..=255).contains(&cpus) && tsc_hz > 0, "one to 255 processors, with a running counter");
        Fabric::build(cpus, clock, alarm, tsc_hz, lines, None)
    }

    /// The fabric without local APICs: I/O APIC and MSI messages go to `messages`, and the 8259A pair's
    /// output drives INTR of processor 0.
    pub fn split(messages: Box<dyn MessageSink>, lines: Box<dyn CpuLines>) -> Arc<Fabric> {
        Fabric::build(0, Clock::manual(), Alarm::unconnected(), 1, lines, Some(messages))
    }

    fn build(
        cpus: usize,
        clock: Clock,
        alarm: Alarm,
        tsc_hz: u64,
        lines: Box<dyn CpuLines>,
        messages: Option<Box<dyn MessageSink>>,
    ) -> Arc<Fabric> {
        let inner = Inner {
            state: State::new(cpus),
            told: vec![false; cpus.max(1)],
            deadline: None,
            counts: InterruptCounts::new(cpus),
            ticks: vec![Default::default(); cpus],
        };
        let witness = ArcSwapOption::empty();
        Arc::new(Fabric { inner: Mutex::new(inner), clock, alarm, tsc_hz, lines, messages, witness })
    }

    /// Calls `witness` for everything the controllers do from now on; `None` ends that. It must not call back.
    pub fn watch(&self, witness: Option<Witness>) {
        self.witness.store(witness.map(Arc::new));
    }

    fn tell(&self, happening: Happening) {
        if let Some(witness) = &*self.witness.load() {
            witness(happening);
        }
    }

    /// Whether the local APICs are elsewhere.
    pub fn is_split(&self) -> bool {
        self.messages.is_some()
    }

    /// A copy of all registers, for the inspector.
    pub fn state(&self) -> State {
        self.inner.lock().state.clone()
    }

    /// The local APIC of a processor as it is now; none in split mode.
    pub fn lapic(&self, cpu: usize) -> Option<LapicView> {
        let now = self.clock.now();
        self.inner.lock().state.lapics.get(cpu).map(|lapic| lapic.view(now))
    }

    /// The counters.
    pub fn counts(&self) -> InterruptCounts {
        self.inner.lock().counts.clone()
    }

    /// What becomes of ticks of local APIC timers that come too late.
    pub fn set_lost_ticks(&self, policy: LostTicks) {
        let mut inner = self.inner.lock();
        inner.ticks.iter_mut().for_each(|(ticks, _)| ticks.set_policy(policy));
        self.settle(&mut inner);
    }

    /// Back to power-on. Input lines count as low until they are driven again.
    pub fn reset(&self) {
        let mut inner = self.inner.lock();
        inner.state = State::new(inner.state.lapics.len());
        inner.forgive_ticks();
        self.settle(&mut inner);
        self.tell_routes(&inner);
    }

    /// INIT of one local APIC, when the processor is reset by other means than an APIC command.
    pub fn init(&self, cpu: usize) {
        let mut inner = self.inner.lock();
        if let Some(lapic) = inner.state.lapics.get_mut(cpu) {
            lapic.init();
        }
        self.settle(&mut inner);
    }

    /// The alarm fired.
    pub fn advance(&self) {
        let mut inner = self.inner.lock();
        let now = self.clock.now();
        for cpu in 0..inner.state.lapics.len() {
            self.run_timer(&mut inner, cpu, now);
        }
        // An alarm that fires is unset: ask anew even if the deadline is the same.
        inner.deadline = None;
        self.settle(&mut inner);
    }

    /// The interrupt acknowledge cycle of `cpu`: the vector to deliver, or `None` if the request went
    /// away meanwhile. Local APIC first, then the 8259A pair.
    pub fn acknowledge(&self, cpu: usize) -> Option<u8> {
        let mut inner = self.inner.lock();
        let vector = inner.acknowledge(cpu)?;
        inner.counts.acknowledged[usize::from(vector)] += 1;
        self.settle(&mut inner);
        Some(vector)
    }

    /// A pulse on the NMI line: LINT1 of every local APIC; processor 0 itself in split mode.
    pub fn pulse_nmi(&self) {
        let mut inner = self.inner.lock();
        if self.is_split() {
            self.lines.nmi(0);
        }
        for (cpu, lapic) in inner.state.lapics.iter_mut().enumerate() {
            // With its APIC off a processor's LINT1 pin is NMI; only the bootstrap processor's is connected then.
            if lapic.pin_rises(Lvt::Lint1) && (lapic.is_enabled() || cpu == 0) {
                self.lines.nmi(cpu);
            }
        }
        self.settle(&mut inner);
    }

    /// Reads MSR 0x1B, 0x6E0 or 0x800 to 0x8FF of `cpu`; `None` raises #GP. The TSC deadline is in units
    /// of the time-stamp counter before the processor's own offset: the caller subtracts that.
    pub fn read_apic_msr(&self, cpu: usize, index: u32) -> Option<u64> {
        let mut inner = self.inner.lock();
        let now = self.clock.now();
        self.run_timer(&mut inner, cpu, now);
        let value = inner.state.lapics.get(cpu)?.read_msr(index, now);
        self.settle(&mut inner);
        value
    }

    /// Writes such a register; `false` raises #GP.
    pub fn write_apic_msr(&self, cpu: usize, index: u32, value: u64) -> bool {
        let mut inner = self.inner.lock();
        let now = self.clock.now();
        self.run_timer(&mut inner, cpu, now);
        let Some(lapic) = inner.state.lapics.get_mut(cpu) else { return false };
        let before = lapic.timer().clone();
        let Some(effect) = lapic.write_msr(index, value, now, self.tsc_hz) else { return false };
        inner.programmed(cpu, &before);
        self.run_timer(&mut inner, cpu, now); // a deadline that has passed is due at once
        self.carry_out(&mut inner, cpu, effect);
        true
    }

    /// CR8 of `cpu`.
    pub fn task_priority(&self, cpu: usize) -> u8 {
        self.inner.lock().state.lapics.get(cpu).map_or(0, Lapic::task_priority)
    }

    /// Writes CR8 of `cpu`.
    pub fn set_task_priority(&self, cpu: usize, priority: u8) {
        let mut inner = self.inner.lock();
        if let Some(lapic) = inner.state.lapics.get_mut(cpu) {
            lapic.set_task_priority(priority & 0xF);
        }
        self.settle(&mut inner);
    }

    /// A device writes `data` to `address` (MSI). Says whether that is an interrupt message.
    pub fn message(&self, address: u64, data: u32) -> bool {
        let Some(message) = Message::from_msi(address, data) else { return false };
        let mut inner = self.inner.lock();
        inner.counts.messages += 1;
        self.deliver(&mut inner, message);
        self.settle(&mut inner);
        true
    }

    /// The host's kernel says that a processor ended level-triggered `vector` (split mode).
    pub fn end_of_interrupt(&self, vector: u8) {
        let mut inner = self.inner.lock();
        inner.state.ioapic.end_of_interrupt(vector);
        self.settle(&mut inner);
    }

    /// What each I/O APIC input sends now; `None` if masked.
    pub fn routes(&self) -> [Option<Message>; INPUTS] {
        let inner = self.inner.lock();
        std::array::from_fn(|input| inner.state.ioapic.route(input))
    }

    /// All registers, for a saved machine.
    pub fn save(&self) -> Vec<u8> {
        encode(&self.inner.lock().state)
    }

    /// Takes over saved registers. The machine must have as many processors as the saved one.
    pub fn load(&self, bytes: &[u8]) -> Result<(), LoadError> {
        let state: State = decode("interrupts", bytes)?;
        let mut inner = self.inner.lock();
        let (own, saved) = (inner.state.lapics.len(), state.lapics.len());
        let ids_fit = state.lapics.iter().enumerate().all(|(cpu, lapic)| lapic.id() == cpu as u32);
        let refuse = |reason: String| Err(LoadError { device: "interrupts".into(), reason });
        if own != saved {
            return refuse(format!("it has {saved} local APICs, the machine {own}"));
        }
        if !ids_fit || !state.pic.is_valid() {
            return refuse("a register holds a value the chip cannot hold".into());
        }
        inner.state = state;
        inner.forgive_ticks();
        self.settle(&mut inner);
        self.tell_routes(&inner);
        Ok(())
    }

    pub(super) fn pic_read(&self, chip: u8, port: u8) -> u8 {
        let mut inner = self.inner.lock();
        let value = inner.state.pic.read(chip, port);
        self.settle(&mut inner);
        value
    }

    pub(super) fn pic_write(&self, chip: u8, port: u8, value: u8) {
        let mut inner = self.inner.lock();
        inner.state.pic.write(chip, port, value);
        self.settle(&mut inner);
    }

    pub(super) fn elcr_read(&self, chip: u8) -> u8 {
        self.inner.lock().state.pic.elcr(chip)
    }

    pub(super) fn elcr_write(&self, chip: u8, value: u8) {
        let mut inner = self.inner.lock();
        inner.state.pic.set_elcr(chip, value);
        self.settle(&mut inner);
    }

    pub(super) fn ioapic_read(&self, offset: u64) -> u32 {
        self.inner.lock().state.ioapic.read(offset)
    }

    pub(super) fn ioapic_write(&self, offset: u64, value: u32) {
        let mut inner = self.inner.lock();
        let changed = inner.state.ioapic.write(offset, value);
        if changed {
            // Before anything is sent by the new route: its listener must know the vector's trigger.
            self.tell_routes(&inner);
        }
        self.settle(&mut inner);
    }

    pub(super) fn lapic_read(&self, cpu: usize, offset: u64) -> u32 {
        let mut inner = self.inner.lock();
        let now = self.clock.now();
        self.run_timer(&mut inner, cpu, now);
        let Some(lapic) = inner.state.lapics.get_mut(cpu) else { return u32::MAX };
        let value = lapic.read(offset, now);
        self.settle(&mut inner);
        value
    }

    pub(super) fn lapic_write(&self, cpu: usize, offset: u64, value: u32) {
        let mut inner = self.inner.lock();
        let now = self.clock.now();
        self.run_timer(&mut inner, cpu, now);
        let Some(lapic) = inner.state.lapics.get_mut(cpu) else { return };
        let before = lapic.timer().clone();
        let effect = lapic.write(offset, value, now);
        inner.programmed(cpu, &before);
        self.carry_out(&mut inner, cpu, effect);
    }

    fn carry_out(&self, inner: &mut Inner, cpu: usize, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::EndOfInterrupt(vector) => inner.state.ioapic.end_of_interrupt(vector),
            Effect::Send(to, message) => {
                inner.counts.interprocessor += 1;
                match to {
                    Shorthand::None => self.deliver(inner, message),
                    Shorthand::Oneself => self.hand_over(inner, cpu, message),
                    Shorthand::All | Shorthand::Others => {
                        for other in 0..inner.state.lapics.len() {
                            if to == Shorthand::All || other != cpu {
                                self.hand_over(inner, other, message);
                            }
                        }
                    }
                }
            }
        }
        self.settle(inner);
    }

    fn deliver(&self, inner: &mut Inner, message: Message) {
        if let Some(sink) = &self.messages {
            return sink.deliver(message);
        }
        let addressed = |lapic: &Lapic| lapic.is_addressed(message.destination, message.logical);
        if message.mode == DeliveryMode::LowestPriority {
            if let Some(cpu) = inner.lowest_priority(addressed) {
                self.hand_over(inner, cpu, message);
            }
            return;
        }
        for cpu in 0..inner.state.lapics.len() {
            if addressed(&inner.state.lapics[cpu]) {
                self.hand_over(inner, cpu, message);
            }
        }
    }

    fn hand_over(&self, inner: &mut Inner, cpu: usize, message: Message) {
        let Some(lapic) = inner.state.lapics.get_mut(cpu) else { return };
        match message.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => lapic.accept(message.vector, message.level),
            _ if !lapic.is_enabled() => {}
            DeliveryMode::Nmi => self.lines.nmi(cpu),
            DeliveryMode::Init => {
                lapic.init();
                self.lines.init(cpu);
            }
            DeliveryMode::Startup => self.lines.startup(cpu, message.vector),
            // No system management mode; ExtINT is looked up in `Inner::wants_interrupt`.
            DeliveryMode::Smi | DeliveryMode::ExternalInterrupt => {}
        }
    }

    /// Sends what the I/O APIC has to send, and derives LINT0, INTR and the alarm. The only place.
    fn settle(&self, inner: &mut Inner) {
        let output = inner.state.pic.output();
        if output != inner.state.pic_output {
            inner.state.pic_output = output;
            if output {
                for (cpu, lapic) in inner.state.lapics.iter_mut().enumerate() {
                    if lapic.is_enabled() && lapic.pin_rises(Lvt::Lint0) {
                        self.lines.nmi(cpu);
                    }
                }
            }
        }
        while let Some((input, message)) = inner.state.ioapic.next_message() {
            inner.counts.delivered[input] += 1;
            self.tell(Happening::Delivered { line: input as u8, vector: message.vector });
            self.deliver(inner, message);
        }
        for cpu in 0..inner.told.len() {
            let level = inner.wants_interrupt(cpu);
            if inner.told[cpu] != level {
                inner.told[cpu] = level;
                self.lines.interrupt(cpu, level);
            }
        }
        let deadline = inner.next_deadline();
        if inner.deadline != deadline {
            inner.deadline = deadline;
            self.alarm.set(deadline);
        }
    }

    fn run_timer(&self, inner: &mut Inner, cpu: usize, now: Nanoseconds) {
        if let Some(merged) = inner.run_timer(cpu, now).checked_sub(1) {
            self.tell(Happening::Timer { cpu: cpu as u8, merged: merged as u32 });
        }
    }

    fn tell_routes(&self, inner: &MutexGuard<'_, Inner>) {
        if let Some(sink) = &self.messages {
            sink.routes_changed(&std::array::from_fn(|input| inner.state.ioapic.route(input)));
        }
    }
}

impl Inner {
    fn forgive_ticks(&mut self) {
        for ((ticks, replay_ns), counts) in self.ticks.iter_mut().zip(&mut self.counts.timers) {
            ticks.forgive();
            *replay_ns = None;
            *counts = ticks.counts();
        }
    }

    /// How often the timer expired since it was looked at.
    fn run_timer(&mut self, cpu: usize, now: Nanoseconds) -> u64 {
        let Some(lapic) = self.state.lapics.get_mut(cpu) else { return 0 };
        let (times, vector) = (lapic.advance(now), lapic.timer_vector());
        let (ticks, replay_ns) = &mut self.ticks[cpu];
        let again = replay_ns.is_some_and(|at| at <= now);
        match vector {
            Some(vector) if times > 0 || again => {
                let period_ns = lapic.timer().period_ns();
                if ticks.settle(times, lapic.irr().contains(vector), period_ns) {
                    lapic.accept(vector, false);
                }
                *replay_ns = ticks.next_replay(now, period_ns);
            }
            Some(_) => {}
            None => {
                // Nobody is told of a masked timer, then or later.
                ticks.forgive();
                *replay_ns = None;
            }
        }
        self.count_ticks(cpu);
        times
    }

    /// The guest has written to a local APIC. If that programmed its timer anew, what was owed is not replayed.
    fn programmed(&mut self, cpu: usize, before: &Timer) {
        if self.state.lapics.get(cpu).is_some_and(|lapic| lapic.timer() != before) {
            let (ticks, replay_ns) = &mut self.ticks[cpu];
            ticks.forgive();
            *replay_ns = None;
            self.count_ticks(cpu);
        }
    }

    fn count_ticks(&mut self, cpu: usize) {
        if let Some(counts) = self.counts.timers.get_mut(cpu) {
            *counts = self.ticks[cpu].0.counts();
        }
    }

    fn next_deadline(&self) -> Option<Nanoseconds> {
        let replays = self.ticks.iter().filter_map(|(_, replay_ns)| *replay_ns);
        self.state.next_deadline().into_iter().chain(replays).min()
    }

    /// Whether a request of line `number` waits: in the local APIC it is routed to, or else in the 8259A pair.
    fn is_pending(&self, number: u32) -> bool {
        let input = if number == 0 { 2 } else { number as usize };
        match self.state.ioapic.route(input) {
            Some(message) if matches!(message.mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority) => {
                let waits = |lapic: &Lapic| {
                    lapic.is_addressed(message.destination, message.logical)
                        && lapic.irr().contains(message.vector)
                };
                self.state.lapics.iter().any(waits)
            }
            Some(_) => false,
            None => number < 16 && self.state.pic.is_requested(number as u8),
        }
    }

    fn wants_interrupt(&self, cpu: usize) -> bool {
        self.state.lapics.get(cpu).is_some_and(|lapic| lapic.pending().is_some()) || self.external(cpu)
    }

    /// Whether the 8259A pair interrupts `cpu`: by LINT0, or by the I/O APIC in virtual wire mode.
    fn external(&self, cpu: usize) -> bool {
        if !self.state.pic_output {
            return false;
        }
        let Some(lapic) = self.state.lapics.get(cpu) else { return cpu == 0 };
        // With its APIC off, a processor's LINT0 pin is INTR: only the bootstrap processor's is connected.
        let by_pin = lapic.passes_external() && (lapic.is_enabled() || cpu == 0);
        let by_message = |message: Message| lapic.is_addressed(message.destination, message.logical);
        by_pin || self.state.ioapic.external_interrupt().is_some_and(by_message)
    }

    fn acknowledge(&mut self, cpu: usize) -> Option<u8> {
        if let Some(lapic) = self.state.lapics.get_mut(cpu)
            && lapic.pending().is_some()
        {
            return Some(lapic.acknowledge());
        }
        if !self.external(cpu) {
            return None;
        }
        let answer = self.state.pic.acknowledge();
        match answer.irq {
            Some(irq) => self.counts.delivered[usize::from(irq)] += 1,
            None => self.counts.spurious += 1,
        }
        Some(answer.vector)
    }

    /// Who takes a lowest-priority interrupt: the least busy, equals in turn after the last one chosen.
    fn lowest_priority(&mut self, addressed: impl Fn(&Lapic) -> bool) -> Option<usize> {
        let count = self.state.lapics.len();
        let turn = |cpu: usize| (cpu + count - 1 - self.state.last_chosen % count) % count;
        let takes = |cpu: &usize| {
            let lapic = &self.state.lapics[*cpu];
            addressed(lapic) && lapic.is_software_enabled()
        };
        let busy = |cpu: usize| self.state.lapics[cpu].processor_priority() >> 4;
        let chosen = (0..count).filter(takes).min_by_key(|&cpu| (busy(cpu), turn(cpu)))?;
        self.state.last_chosen = chosen;
        Some(chosen)
    }
}

impl MessagePort for Fabric {
    fn send(&self, address: u64, data: u32) {
        // What is no interrupt message is nobody's.
        let _is_message = self.message(address, data);
    }
}

impl LineSink for Fabric {
    /// Drives ISA IRQ or I/O APIC input `number`; numbers above 23 go nowhere.
    fn set(&self, number: u32, level: bool) {
        if number as usize >= INPUTS {
            return;
        }
        let mut inner = self.inner.lock();
        let bit = 1 << number;
        if (inner.state.lines & bit != 0) == level {
            return;
        }
        inner.state.lines ^= bit;
        if level {
            inner.counts.raised[number as usize] += 1;
            self.tell(Happening::Raised { line: number as u8 });
        }
        if number < 16 {
            inner.state.pic.set_line(number as u8, level);
        }
        match number {
            0 => inner.state.ioapic.set_line(2, level),
            // The cascade.
            2 => {}
            _ => inner.state.ioapic.set_line(number as usize, level),
        }
        self.settle(&mut inner);
    }

    fn is_pending(&self, number: u32) -> bool {
        self.inner.lock().is_pending(number)
    }
}

/// Puts the fabric's ports and windows on the bus. The device returned saves, loads and resets the whole
/// fabric; its [`crate::Device::advance`] is for the fabric's alarm.
pub fn install(fabric: &Arc<Fabric>, bus: &Bus) -> Shared<Ports> {
    let device = shared(Ports::new(fabric.clone()));
    let window =
        WindowSpec { space: Space::Memory, length: 0x1000, narrowest: Width::Dword, widest: Width::Dword };
    bus.add(&device, Ports::MASTER, WindowSpec::ports(2), Some(0x20));
    bus.add(&device, Ports::SLAVE, WindowSpec::ports(2), Some(0xA0));
    bus.add(&device, Ports::ELCR, WindowSpec::ports(2), Some(0x4D0));
    bus.add(&device, Ports::IOAPIC, window, Some(address::IOAPIC));
    if !fabric.is_split() {
        bus.add(&device, Ports::LOCAL_APIC, window, Some(address::LOCAL_APIC));
    }
    device
}

#[cfg(test)]
#[path = "fabric_tests.rs"]
mod tests;
