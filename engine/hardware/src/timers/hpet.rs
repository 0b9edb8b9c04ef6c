//! High precision event timer: a 64-bit counter of 100 MHz, with three comparators that interrupt.
//!
//! Memory: 1 KiB at 0xFED00000, accesses of 32 and 64 bits. Lines: each comparator drives one of the I/O APIC's inputs
//! 20 to 23, as the guest chooses; comparators that chose the same are ORed. With the legacy replacement route,
//! comparator 0 has the 8254's place (IRQ 0, I/O APIC input 2) and comparator 1 the RTC's (IRQ 8), and those two are
//! cut off. Where the host's kernel has the 8254, which cannot be cut off, there is no such route (LEG_RT_CAP is 0).
//! Every comparator can be periodic. Its edge is a pulse that lasts until the next, or until the guest switches it off;
//! matches that passed while the machine was late, or nearer than 20 microseconds, are merged and counted.
//! Left out on purpose: FSB (message) delivery (Tn_FSB_INT_DEL_CAP is 0, its registers read as 0).
//! Source: IA-PC HPET Specification 1.0a, §2.3.

use serde::{Deserialize, Serialize};

use super::changeover::Changeover;
use super::comparator::Comparator;
use super::lost_ticks::{LostTicks, TickCounts, Ticks};
use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::{Bus, Space, WindowSpec};
use crate::clock::{Clock, Nanoseconds, ticks_at, time_of_tick};
use crate::device::{Device, LoadError, Shared, decode, encode, shared};
use crate::layout::address;
use crate::line::Line;

/// The main counter's frequency.
pub const HZ: u64 = 100_000_000;
/// The I/O APIC's inputs that comparators can drive.
pub const INPUTS: [u32; 4] = [20, 21, 22, 23];
/// Comparators.
pub const TIMERS: usize = 3;
/// Length of the registers, in bytes (§2.3.1).
pub const REGISTERS_BYTES: u64 = 0x400;
/// The machine is woken no more often than this; the ACPI table names it as the shortest period.
pub const SHORTEST_WAKE_TICKS: u16 = 2_000;

const FEMTOSECONDS: u64 = 1_000_000_000_000_000;
const TICK_NS: u64 = 1_000_000_000 / HZ;

/// Registers, as §2.3.1 numbers them, in steps of 8.
mod register {
    pub const CAPABILITIES: u64 = 0x000;
    pub const CONFIGURATION: u64 = 0x010;
    pub const STATUS: u64 = 0x020;
    pub const COUNTER: u64 = 0x0F0;
    pub const FIRST_TIMER: u64 = 0x100;
    /// Of the timer's 32: its configuration, and its comparator.
    pub const TIMER_CONFIGURATION: u64 = 0x00;
    pub const TIMER_COMPARATOR: u64 = 0x08;
}

/// General configuration: the counter counts, and interrupts are allowed.
const ENABLE: u64 = 1 << 0;
/// General configuration: the legacy replacement route.
const LEGACY: u64 = 1 << 1;

/// The low half of the capabilities (§2.3.4), which is also the event timer block's id in the ACPI table: revision 1,
/// the last timer's number, a counter of 64 bits, legacy replacement, Intel.
pub const fn block_id(legacy: bool) -> u32 {
    1 | (TIMERS as u32 - 1) << 8 | 1 << 13 | (legacy as u32) << 15 | 0x8086 << 16
}

/// Where a comparator's output leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// In the 8254's (0) or the RTC's (1) place.
    Legacy(usize),
    /// The `n`th of the inputs that can be chosen.
    Routed(usize),
}

/// The chip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chip {
    /// General configuration.
    config: u64,
    /// Whether it can have the places of the 8254 and the RTC.
    can_replace: bool,
    /// The main counter at `tick`.
    counter: u64,
    /// The tick of guest time up to which it has counted.
    tick: u64,
    timers: [Comparator; TIMERS],
}

impl Chip {
    fn new(can_replace: bool) -> Chip {
        Chip { config: 0, can_replace, counter: 0, tick: 0, timers: Default::default() }
    }

    /// Whether the counter counts and interrupts are allowed.
    pub fn is_enabled(&self) -> bool {
        self.config & ENABLE != 0
    }

    /// Whether its first two comparators have the places of the 8254 and the RTC.
    pub fn is_legacy(&self) -> bool {
        self.config & LEGACY != 0
    }

    /// The main counter at `now`.
    pub fn counter(&self, now: Nanoseconds) -> u64 {
        let passed = if self.is_enabled() { ticks_at(now, HZ).saturating_sub(self.tick) } else { 0 };
        self.counter.wrapping_add(passed)
    }

    /// Comparator `index`, 0 to 2, for the inspector.
    pub fn timer(&self, index: usize) -> Option<&Comparator> {
        self.timers.get(index)
    }

    fn output_of(&self, index: usize) -> Option<Output> {
        if self.is_legacy() && index < 2 {
            return Some(Output::Legacy(index));
        }
        let route = self.timers[index].route()?;
        INPUTS.iter().position(|input| *input == route).map(Output::Routed)
    }

    /// Whether matches of comparator `index` interrupt.
    pub fn interrupts(&self, index: usize) -> bool {
        let timer = self.timers.get(index);
        self.is_enabled() && timer.is_some_and(Comparator::is_enabled) && self.output_of(index).is_some()
    }

    /// The level of comparator `index`'s output.
    fn output(&self, index: usize) -> bool {
        self.is_enabled() && self.timers[index].output()
    }

    /// Lets time pass up to `now`.
    pub fn advance(&mut self, now: Nanoseconds) {
        let tick = ticks_at(now, HZ);
        if tick < self.tick {
            return;
        }
        self.counter = self.counter(now);
        self.tick = tick;
        if self.is_enabled() {
            let interrupts: [bool; TIMERS] = std::array::from_fn(|index| self.interrupts(index));
            for (timer, interrupts) in self.timers.iter_mut().zip(interrupts) {
                timer.advance(self.counter, interrupts);
            }
        }
    }

    /// When comparator `index` next interrupts; `None` while the guest has not cleared its status bit.
    pub fn next_match(&self, index: usize) -> Option<Nanoseconds> {
        let timer = self.timers.get(index).filter(|timer| self.interrupts(index) && !timer.status())?;
        let ticks = u64::try_from(timer.ahead()).ok()?;
        Some(time_of_tick(self.tick.checked_add(ticks)?, HZ))
    }

    /// The same, but not sooner than the shortest wake.
    fn next_wake(&self, index: usize) -> Option<Nanoseconds> {
        let shortest = time_of_tick(self.tick.saturating_add(SHORTEST_WAKE_TICKS.into()), HZ);
        let at = self.next_match(index)?;
        Some(if self.timers[index].is_periodic() { at.max(shortest) } else { at })
    }

    fn status(&self) -> u64 {
        (0..TIMERS).filter(|index| self.timers[*index].status()).fold(0, |status, index| status | 1 << index)
    }

    /// The register at `offset`, a multiple of 8.
    fn read(&self, offset: u64, now: Nanoseconds) -> u64 {
        match offset {
            register::CAPABILITIES => u64::from(block_id(self.can_replace)) | (FEMTOSECONDS / HZ) << 32,
            register::CONFIGURATION => self.config,
            register::STATUS => self.status(),
            register::COUNTER => self.counter(now),
            _ => match timer_at(offset) {
                Some((index, register::TIMER_CONFIGURATION)) => self.timers[index].read_config(),
                Some((index, register::TIMER_COMPARATOR)) => self.timers[index].value(),
                _ => 0,
            },
        }
    }

    /// Writes `lanes` of the register at `offset`, a multiple of 8. The chip was brought to the present before.
    fn write(&mut self, offset: u64, value: u64, lanes: u64) {
        match offset {
            register::CONFIGURATION => self.configure(value, lanes),
            register::STATUS => {
                let cleared = value & lanes;
                let timers = self.timers.iter_mut().enumerate();
                timers.filter(|(n, _)| cleared >> n & 1 != 0).for_each(|(_, timer)| timer.clear_status());
            }
            register::COUNTER => {
                self.counter = self.counter & !lanes | value & lanes;
                self.timers.iter_mut().for_each(|timer| timer.recount(self.counter));
            }
            _ => match timer_at(offset) {
                Some((index, register::TIMER_CONFIGURATION)) => self.timers[index].write_config(value, lanes),
                Some((index, register::TIMER_COMPARATOR)) => {
                    self.timers[index].write_value(value, lanes, self.counter);
                }
                _ => {}
            },
        }
    }

    /// Bits of the general configuration that can be set.
    fn writable(&self) -> u64 {
        if self.can_replace { ENABLE | LEGACY } else { ENABLE }
    }

    fn configure(&mut self, value: u64, lanes: u64) {
        let old = self.config;
        self.config = (old & !lanes | value & lanes) & self.writable();
        if old != self.config {
            self.timers.iter_mut().for_each(Comparator::lower);
        }
    }

    fn is_valid(&self) -> bool {
        self.config & !self.writable() == 0 && self.timers.iter().all(Comparator::is_valid)
    }
}

/// The timer whose register this is, and which of its registers.
fn timer_at(offset: u64) -> Option<(usize, u64)> {
    let timers = offset.checked_sub(register::FIRST_TIMER)?;
    let index = (timers / 0x20) as usize;
    (index < TIMERS).then_some((index, timers % 0x20))
}

/// What an HPET's outputs lead to.
pub struct Outputs {
    /// Those to [`INPUTS`].
    pub routed: [Line; INPUTS.len()],
    /// The places of the 8254 and of the RTC, where it can have them.
    pub legacy: Option<[Changeover; 2]>,
}

impl Outputs {
    /// Outputs that lead nowhere, for chip tests.
    pub fn unconnected() -> Outputs {
        let legacy = Some([Changeover::unconnected(), Changeover::unconnected()]);
        Outputs { routed: std::array::from_fn(|_| Line::unconnected()), legacy }
    }

    fn line(&self, output: Output) -> Option<&Line> {
        match output {
            Output::Legacy(index) => Some(self.legacy.as_ref()?[index].replacement()),
            Output::Routed(index) => Some(&self.routed[index]),
        }
    }
}

/// What is saved: the chip, and what the timers drive that it has replaced.
#[derive(Serialize, Deserialize)]
struct State {
    chip: Chip,
    replaced: [bool; 2],
}

/// The HPET in its window.
pub struct Hpet {
    chip: Chip,
    clock: Clock,
    outputs: Outputs,
    alarm: Alarm,
    ticks: [Ticks; TIMERS],
}

impl Hpet {
    /// An HPET that drives `outputs`. `alarm` must lead to its [`Device::advance`].
    pub fn new(clock: Clock, outputs: Outputs, alarm: Alarm) -> Hpet {
        let mut chip = Chip::new(outputs.legacy.is_some());
        chip.advance(clock.now());
        Hpet { chip, clock, outputs, alarm, ticks: Default::default() }
    }

    /// Puts it on the bus.
    pub fn install(self, bus: &Bus) -> Shared<Hpet> {
        let device = shared(self);
        let window = WindowSpec {
            space: Space::Memory,
            length: REGISTERS_BYTES,
            narrowest: Width::Dword,
            widest: Width::Qword,
        };
        bus.add(&device, 0, window, Some(address::HPET));
        device
    }

    /// The chip, for the inspector.
    pub fn chip(&self) -> &Chip {
        &self.chip
    }

    /// What became of the matches of comparator `index` since the machine was built, while they interrupted.
    pub fn counts(&self, index: usize) -> TickCounts {
        self.ticks.get(index).map(Ticks::counts).unwrap_or_default()
    }

    /// The period of comparator `index` in guest nanoseconds, if it is periodic.
    pub fn period_ns(&self, index: usize) -> Option<u64> {
        self.chip.timer(index)?.period().map(|ticks| ticks.saturating_mul(TICK_NS))
    }

    /// What becomes of ticks that come too late.
    pub fn set_lost_ticks(&mut self, policy: LostTicks) {
        self.ticks.iter_mut().for_each(|ticks| ticks.set_policy(policy));
        self.settle();
    }

    fn line_of(&self, index: usize) -> Option<&Line> {
        self.outputs.line(self.chip.output_of(index)?)
    }

    /// Derives the lines and the alarm from the chip.
    fn settle(&mut self) {
        let now = self.clock.now();
        self.chip.advance(now);
        for place in self.outputs.legacy.iter().flatten() {
            place.replace(self.chip.is_legacy());
        }
        for index in 0..TIMERS {
            self.tick(index);
        }
        self.drive();
        let wake = (0..TIMERS).filter_map(|index| self.chip.next_wake(index));
        let replay = (0..TIMERS).filter_map(|index| self.next_replay(index, now));
        self.alarm.set(wake.chain(replay).min());
    }

    /// Asks for an interrupt for what comparator `index` has matched. A level's request is its status bit, and the guest
    /// takes it by clearing that.
    fn tick(&mut self, index: usize) {
        let came = self.chip.timers[index].take_matches();
        let is_level = self.chip.timers[index].is_level();
        let pending = match is_level {
            true => self.chip.timers[index].status(),
            false => self.line_of(index).is_some_and(Line::is_pending),
        };
        let period_ns = self.replay_period_ns(index);
        if !self.ticks[index].settle(came, pending, period_ns) {
            return;
        }
        self.chip.timers[index].raise();
        if !is_level && let Some(line) = self.line_of(index) {
            // A pulse, so that an edge is seen even if the line was still high from the last.
            line.set(false);
        }
    }

    /// One that does not repeat owes one tick at most.
    fn replay_period_ns(&self, index: usize) -> u64 {
        self.period_ns(index).unwrap_or(1_000_000_000)
    }

    fn next_replay(&self, index: usize, now: Nanoseconds) -> Option<Nanoseconds> {
        let waits_for_guest = self.chip.timers[index].status();
        let at = self.ticks[index].next_replay(now, self.replay_period_ns(index));
        at.filter(|_| !waits_for_guest)
    }

    /// Every line has the level of those that drive it.
    fn drive(&self) {
        let levels: [(Option<Output>, bool); TIMERS] =
            std::array::from_fn(|index| (self.chip.output_of(index), self.chip.output(index)));
        let level = |wanted: Output| levels.contains(&(Some(wanted), true));
        for (index, line) in self.outputs.routed.iter().enumerate() {
            line.set(level(Output::Routed(index)));
        }
        if let Some(places) = self.outputs.legacy.as_ref().filter(|_| self.chip.is_legacy()) {
            for (index, place) in places.iter().enumerate() {
                place.replacement().set(level(Output::Legacy(index)));
            }
        }
    }

    /// The requests of comparators that wait on the lines they drive; none of those that an access to `offset` takes.
    fn waiting(&self, offset: u64) -> [Option<Line>; TIMERS] {
        std::array::from_fn(|index| {
            let line =
                self.line_of(index).filter(|_| self.chip.output(index) && offset != register::STATUS)?;
            line.is_pending().then(|| line.clone())
        })
    }

    /// A write to `offset` programs comparators anew: what they owed is not replayed.
    fn forgive(&mut self, offset: u64) {
        match (offset, timer_at(offset)) {
            (register::CONFIGURATION | register::COUNTER, _) => {
                self.ticks.iter_mut().for_each(Ticks::forgive)
            }
            (_, Some((index, _))) => self.ticks[index].forgive(),
            _ => {}
        }
    }
}

impl Device for Hpet {
    fn name(&self) -> &str {
        "hpet"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        let offset = at.offset & !7;
        // To look at the counter changes nothing, and is what guests do all the time.
        if offset != register::COUNTER {
            self.settle();
        }
        self.chip.read(offset, self.clock.now()) >> (8 * (at.offset & 7)) & width.ones()
    }

    fn write(&mut self, at: At, width: Width, value: u64) {
        // What has matched until now has done so before the guest changes anything.
        self.settle();
        let (offset, shift) = (at.offset & !7, 8 * (at.offset & 7));
        let waiting = self.waiting(offset);
        self.forgive(offset);
        self.chip.write(offset, value << shift, width.ones() << shift);
        self.settle();
        for (index, line) in waiting.into_iter().enumerate() {
            if line.is_some_and(|line| !self.chip.output(index) && !line.is_pending()) {
                self.ticks[index].withdraw();
            }
        }
    }

    fn reset(&mut self) {
        self.chip = Chip::new(self.outputs.legacy.is_some());
        self.ticks.iter_mut().for_each(Ticks::forgive);
        self.settle();
    }

    fn advance(&mut self) {
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        let replaced = match &self.outputs.legacy {
            Some(places) => places.each_ref().map(Changeover::level),
            None => [false; 2],
        };
        encode(&State { chip: self.chip.clone(), replaced })
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let State { chip, replaced } = decode(self.name(), state)?;
        let refuse = |reason: &str| LoadError { device: "hpet".to_owned(), reason: reason.to_owned() };
        if chip.can_replace != self.chip.can_replace {
            return Err(refuse("only one of the two machines lets it replace the 8254"));
        }
        if !chip.is_valid() {
            return Err(refuse("a register holds a value the chip cannot hold"));
        }
        self.chip = chip;
        self.ticks.iter_mut().for_each(Ticks::forgive);
        for (place, level) in self.outputs.legacy.iter().flatten().zip(replaced) {
            place.set_level(level);
        }
        self.settle();
        Ok(())
    }
}

#[cfg(test)]
#[path = "hpet_tests.rs"]
mod tests;
