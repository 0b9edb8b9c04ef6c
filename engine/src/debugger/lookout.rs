//! What one machine is to stop at, and whether it has met it. vCPUs, buses and timers ask here; where nothing of
//! their kind is set, they ask one bit.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cpu::{DataWatch, Interest, Notice, Source, Vectors};
use hardware::{Space, Width};
use parking_lot::Mutex;

use super::condition::{Condition, ExitKind, MOST_CONDITIONS, StopCondition};
use super::stopped::{Met, Stopped};
use crate::backend::Kicker;

/// Kinds of places that look out.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Place {
    Port = 1 << 0,
    DeviceMemory = 1 << 1,
    /// The acknowledge cycle, for processors that cannot tell of deliveries.
    Acknowledge = 1 << 2,
    Timer = 1 << 3,
    Halt = 1 << 4,
}

type Tell = Box<dyn Fn() + Send + Sync>;
/// How often each timer has ticked so far, by its name.
type CountTicks = Box<dyn Fn() -> Vec<(String, u64)> + Send + Sync>;

/// The lookout of one machine.
#[derive(Default)]
pub struct Lookout {
    places: AtomicU32,
    /// Nothing may run on: something was met.
    stopping: AtomicBool,
    told: AtomicBool,
    state: Mutex<State>,
    kickers: OnceLock<Vec<Kicker>>,
    tell: OnceLock<Tell>,
    count_ticks: OnceLock<CountTicks>,
}

#[derive(Default)]
struct State {
    conditions: Vec<StopCondition>,
    last_id: u32,
    /// Interrupts are told by the bus.
    tells_at_bus: bool,
    watching: Watching,
    stopped: Option<Stopped>,
    /// Ticks of each timer when it was last looked at.
    ticks: Vec<(String, u64)>,
    /// While searching: met since the last stamp, and the last one that was stamped.
    met: Option<Stopped>,
    found: Option<Stopped>,
}

/// What becomes of what is met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watching {
    /// It is counted, and stops the machine.
    #[default]
    Stop,
    /// Nothing: a stretch is run again that was run before.
    Off,
    /// The last one before so many steps of the machine is remembered, and the machine goes on.
    Search {
        /// Steps.
        before: u64,
    },
}

/// What vCPUs have to look for themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuWatch {
    /// Linear addresses of instructions.
    pub breakpoints: Vec<u64>,
    /// Everything else.
    pub interest: Interest,
    /// The conditions behind the interest's watches, by id.
    pub watches: Vec<u32>,
}

impl Lookout {
    /// Says whom a stop ends, and who is told of it. `tells_at_bus`: the processors cannot tell of deliveries.
    pub fn attach(
        &self,
        kickers: Vec<Kicker>,
        tells_at_bus: bool,
        count_ticks: impl Fn() -> Vec<(String, u64)> + Send + Sync + 'static,
        tell: impl Fn() + Send + Sync + 'static,
    ) {
        self.state.lock().tells_at_bus = tells_at_bus;
        // Once, when the machine is built.
        let _ = self.kickers.set(kickers);
        let _ = self.count_ticks.set(Box::new(count_ticks));
        let _ = self.tell.set(Box::new(tell));
    }

    /// Something was met, and nothing may run on.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Tells the supervisor, once for each stop.
    pub fn tell(&self) {
        if self.is_stopping()
            && !self.told.swap(true, Ordering::AcqRel)
            && let Some(tell) = self.tell.get()
        {
            tell();
        }
    }

    /// Takes why it stopped; the machine may go on.
    pub fn take_stop(&self) -> Option<Stopped> {
        let stopped = self.state.lock().stopped.take();
        self.told.store(false, Ordering::Release);
        self.stopping.store(false, Ordering::Release);
        stopped
    }

    /// What becomes of what is met from now on.
    pub fn watching(&self, watching: Watching) {
        let mut state = self.state.lock();
        state.watching = watching;
        (state.met, state.found) = (None, None);
    }

    /// What was met last while searching.
    pub fn found(&self) -> Option<Stopped> {
        self.state.lock().found.take()
    }

    /// While searching: a vCPU came back after `steps` of the machine.
    pub fn stamp(&self, steps: u64) {
        let mut state = self.state.lock();
        let Watching::Search { before } = state.watching else { return };
        if let Some(met) = state.met.take().filter(|_| steps < before) {
            state.found = Some(Stopped { steps: Some(steps), ..met });
        }
    }

    /// All conditions.
    pub fn list(&self) -> Vec<StopCondition> {
        self.state.lock().conditions.clone()
    }

    /// Replaces all conditions.
    pub fn set_list(&self, conditions: Vec<StopCondition>) {
        let mut state = self.state.lock();
        state.conditions = conditions;
        let at_bus = state.tells_at_bus;
        let enabled = state.conditions.iter().filter(|set| set.enabled);
        let places = enabled.fold(0, |places, set| places | places_of(&set.condition, at_bus));
        self.places.store(places, Ordering::Release);
        drop(state);
        self.forget_ticks();
    }

    /// Ticks so far do not count.
    pub fn forget_ticks(&self) {
        if self.looks_at_timers() {
            let ticks = self.ticks();
            self.state.lock().ticks = ticks;
        }
    }

    fn ticks(&self) -> Vec<(String, u64)> {
        self.count_ticks.get().map_or_else(Vec::new, |count| count())
    }

    /// A number for a new condition; `None` when there are as many as there may be.
    pub fn new_id(&self) -> Option<u32> {
        let mut state = self.state.lock();
        (state.conditions.len() < MOST_CONDITIONS).then(|| {
            state.last_id += 1;
            state.last_id
        })
    }

    /// What vCPUs look for themselves.
    pub fn cpu_watch(&self) -> CpuWatch {
        let state = self.state.lock();
        let mut watch = CpuWatch::default();
        let is_set = |set: &&StopCondition| set.enabled && state.watching != Watching::Off;
        for set in state.conditions.iter().filter(is_set) {
            watch.add(set.id, &set.condition, state.tells_at_bus);
        }
        watch.breakpoints.sort_unstable();
        watch.breakpoints.dedup();
        watch
    }

    fn looks(&self, place: Place) -> bool {
        self.places.load(Ordering::Relaxed) & place as u32 != 0
    }

    /// A vCPU has accessed a device.
    #[inline]
    pub fn accessed(&self, cpu: usize, space: Space, address: u64, width: Width, value: u64, write: bool) {
        let place = if space == Space::Port { Place::Port } else { Place::DeviceMemory };
        if self.looks(place) {
            let bytes = width.bytes() as u8;
            self.met(Some(cpu), Met::Device { space, address, bytes, value, write }, None);
        }
    }

    /// A vCPU has taken an interrupt from the controllers.
    #[inline]
    pub fn acknowledged(&self, cpu: usize, vector: u8) {
        if self.looks(Place::Acknowledge) {
            let source = Source::Controller;
            let met = Met::Delivered { vector, error_code: None, address: None, source, from: None };
            self.met(Some(cpu), met, None);
        }
    }

    /// A vCPU has halted with nothing to do.
    pub fn halted(&self, cpu: usize) {
        if self.looks(Place::Halt) {
            self.met(Some(cpu), Met::Halted, None);
        }
    }

    /// Whether anybody wants to know of ticks.
    #[inline]
    pub fn looks_at_timers(&self) -> bool {
        self.looks(Place::Timer)
    }

    /// Timers may have ticked: by an access of a vCPU, or by themselves.
    #[cold]
    pub fn look_at_timers(&self, cpu: Option<usize>) {
        let ticks = self.ticks();
        let before = std::mem::replace(&mut self.state.lock().ticks, ticks.clone());
        for (timer, count) in ticks {
            if before.iter().any(|(name, earlier)| *name == timer && *earlier < count) {
                self.met(cpu, Met::Ticked { timer }, None);
            }
        }
    }

    /// A vCPU is about to execute `address`; whether that stops it.
    pub fn executing(&self, cpu: usize, address: u64) -> bool {
        self.met(Some(cpu), Met::Executing { address }, None)
    }

    /// A vCPU has something to tell; `watches` are those of the [`CpuWatch`] it looks for.
    pub fn noticed(&self, cpu: usize, notice: &Notice, watches: &[u32]) {
        let (met, watch) = match *notice {
            Notice::Access { watch, linear, bytes, write } => {
                (Met::Accessed { address: linear, bytes, write }, watches.get(watch).copied())
            }
            Notice::Delivery { vector, error_code, address, source, from } => {
                (Met::Delivered { vector, error_code, address, source, from: Some(from) }, None)
            }
            Notice::Mode { before, after } => (Met::ModeChanged { before, after }, None),
        };
        self.met(Some(cpu), met, watch);
    }

    /// A vCPU has made the steps it was to make, or is where it was to go.
    pub fn finished(&self, cpu: usize, met: Met) {
        let mut state = self.state.lock();
        state.stop(Stopped { cpu: Some(cpu), conditions: Vec::new(), met, steps: None });
        self.stopping.store(true, Ordering::Release);
    }

    /// Counts what was met; whether the machine stops. `watch`: only this condition can be meant.
    fn met(&self, cpu: Option<usize>, met: Met, watch: Option<u32>) -> bool {
        let mut state = self.state.lock();
        let watching = state.watching;
        if watching == Watching::Off {
            return false;
        }
        let mut stops = Vec::new();
        for set in state.conditions.iter_mut().filter(|set| set.enabled) {
            let is_meant = match watch {
                Some(id) => set.id == id,
                None => matches(&set.condition, &met),
            };
            if !is_meant {
                continue;
            }
            if matches!(watching, Watching::Search { .. }) {
                stops.push(set.id);
                continue;
            }
            set.hits += 1;
            match set.ignore.checked_sub(1) {
                Some(left) => set.ignore = left,
                None => stops.push(set.id),
            }
        }
        if stops.is_empty() {
            return false;
        }
        let stopped = Stopped { cpu, conditions: stops, met, steps: None };
        match watching {
            Watching::Search { .. } => state.met = Some(stopped),
            _ => {
                state.stop(stopped);
                self.stopping.store(true, Ordering::Release);
            }
        }
        drop(state);
        let kickers = self.kickers.get().map_or(&[][..], Vec::as_slice);
        let met_by = kickers.iter().enumerate().filter(|(index, _)| cpu.is_none_or(|cpu| cpu == *index));
        met_by.for_each(|(_, kicker)| kicker.kick());
        true
    }
}

impl State {
    /// The first reason counts; conditions met in the same instruction join it.
    fn stop(&mut self, stopped: Stopped) {
        match &mut self.stopped {
            Some(first) => {
                let new = stopped.conditions.into_iter().filter(|id| !first.conditions.contains(id));
                let new: Vec<u32> = new.collect();
                first.conditions.extend(new);
            }
            none => *none = Some(stopped),
        }
    }
}

fn places_of(condition: &Condition, at_bus: bool) -> u32 {
    match condition {
        Condition::Port { .. } | Condition::Exit { exit: ExitKind::Port } => Place::Port as u32,
        Condition::Physical { .. } | Condition::Exit { exit: ExitKind::DeviceMemory } => {
            Place::DeviceMemory as u32
        }
        Condition::Interrupt { .. } | Condition::Exit { exit: ExitKind::Interrupt } if at_bus => {
            Place::Acknowledge as u32
        }
        Condition::Timer { .. } => Place::Timer as u32,
        Condition::Exit { exit: ExitKind::Halt } => Place::Halt as u32,
        _ => 0,
    }
}

fn overlaps(start: u64, bytes: u64, address: u64, width: u64) -> bool {
    address.saturating_add(width - 1) >= start && address <= start.saturating_add(bytes - 1)
}

/// Whether a condition is met. Of data, the vCPU knows which it was.
fn matches(condition: &Condition, met: &Met) -> bool {
    match (condition, met) {
        (Condition::Execute { address }, Met::Executing { address: at }) => address == at,
        (
            Condition::Port { first, last, access },
            Met::Device { space: Space::Port, address, bytes, write, .. },
        ) => {
            let ports = u64::from(last - first) + 1;
            access.includes(*write) && overlaps(u64::from(*first), ports, *address, u64::from(*bytes))
        }
        (
            Condition::Physical { start, bytes, access },
            Met::Device { space: Space::Memory, address, bytes: width, write, .. },
        ) => access.includes(*write) && overlaps(*start, *bytes, *address, u64::from(*width)),
        (Condition::Interrupt { vector, source }, Met::Delivered { vector: delivered, source: from, .. }) => {
            let is_meant = match from {
                Source::Exception => false,
                Source::Instruction => source.has_instructions(),
                Source::Controller | Source::Nmi => source.has_hardware(),
            };
            is_meant && vector.is_none_or(|vector| vector == *delivered)
        }
        (
            Condition::Exception { vector, error_code },
            Met::Delivered { vector: delivered, error_code: code, source: Source::Exception, .. },
        ) => {
            vector.is_none_or(|vector| vector == *delivered)
                && error_code.is_none_or(|wanted| *code == Some(wanted))
        }
        (Condition::Mode { to }, Met::ModeChanged { before, after }) => match to {
            None => true,
            Some(to) => after.kind == *to && before.kind != *to,
        },
        (Condition::Timer { name }, Met::Ticked { timer }) => timer.eq_ignore_ascii_case(name),
        (Condition::Exit { exit: ExitKind::Port }, Met::Device { space: Space::Port, .. })
        | (Condition::Exit { exit: ExitKind::DeviceMemory }, Met::Device { space: Space::Memory, .. })
        | (Condition::Exit { exit: ExitKind::Halt }, Met::Halted) => true,
        (Condition::Exit { exit: ExitKind::Interrupt }, Met::Delivered { source, .. }) => {
            *source == Source::Controller
        }
        _ => false,
    }
}

impl CpuWatch {
    fn add(&mut self, id: u32, condition: &Condition, at_bus: bool) {
        let add_to = |set: &mut Vectors, vector: Option<u8>| match vector {
            Some(vector) => set.add(vector),
            None => *set = Vectors::ALL,
        };
        let interest = &mut self.interest;
        match condition {
            Condition::Execute { address } => self.breakpoints.push(*address),
            // Of memory by its physical address, processors that the host runs see nothing; the bus sees devices'.
            Condition::Physical { .. } if at_bus => {}
            Condition::Data { start, bytes, access } | Condition::Physical { start, bytes, access } => {
                interest.data.push(DataWatch {
                    range: *start..=start.saturating_add(bytes - 1),
                    physical: matches!(condition, Condition::Physical { .. }),
                    reads: access.includes(false),
                    writes: access.includes(true),
                });
                self.watches.push(id);
            }
            Condition::Interrupt { vector, source } if !at_bus || !source.has_hardware() => {
                add_to(&mut interest.interrupts, *vector);
            }
            Condition::Exit { exit: ExitKind::Interrupt } if !at_bus => {
                add_to(&mut interest.interrupts, None);
            }
            Condition::Exception { vector, .. } => add_to(&mut interest.exceptions, *vector),
            Condition::Mode { .. } => interest.modes = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::debugger::words;

    fn lookout(conditions: &[&str], ignore: u64) -> Lookout {
        let lookout = Lookout::default();
        let set = |text: &&str| StopCondition {
            id: lookout.new_id().unwrap(),
            condition: words::condition(&text.split_whitespace().collect::<Vec<_>>(), &words::number)
                .unwrap(),
            enabled: true,
            hits: 0,
            ignore,
        };
        let all = conditions.iter().map(set).collect();
        lookout.set_list(all);
        lookout
    }

    fn byte(lookout: &Lookout, space: Space, address: u64, write: bool) -> Option<Vec<u32>> {
        lookout.accessed(0, space, address, Width::Byte, 7, write);
        lookout.take_stop().map(|stopped| stopped.conditions)
    }

    #[test]
    fn every_condition_that_is_met_is_named_and_others_cost_nothing() {
        let lookout = lookout(&["port 0x60-0x64 read", "exit port", "physical 0xb8000 2 write"], 0);
        assert_eq!(byte(&lookout, Space::Port, 0x64, false), Some(vec![1, 2]));
        assert_eq!(byte(&lookout, Space::Port, 0x65, false), Some(vec![2]));
        assert_eq!(byte(&lookout, Space::Memory, 0xB8001, true), Some(vec![3]));
        assert_eq!(byte(&lookout, Space::Memory, 0xB8002, true), None);
        assert_eq!(byte(&lookout, Space::Memory, 0xB8001, false), None);
        lookout.set_list(Vec::new());
        assert_eq!(lookout.places.load(Ordering::Relaxed), 0);
        assert_eq!(byte(&lookout, Space::Port, 0x64, false), None);
    }

    #[test]
    fn what_is_ignored_is_counted_and_told_once() {
        let lookout = lookout(&["exit halt"], 2);
        let told = Arc::new(AtomicU32::new(0));
        let count = told.clone();
        lookout.attach(Vec::new(), false, Vec::new, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        for _ in 0..3 {
            lookout.halted(0);
            lookout.tell();
        }
        lookout.tell();
        assert_eq!((lookout.list()[0].hits, told.load(Ordering::Relaxed)), (3, 1));
        assert!(lookout.is_stopping() && lookout.take_stop().is_some() && !lookout.is_stopping());
    }

    #[test]
    fn a_search_stops_nothing_and_remembers_the_last_before_its_end() {
        let lookout = lookout(&["exit halt"], 0);
        lookout.watching(Watching::Search { before: 30 });
        for steps in [10, 20, 30] {
            lookout.halted(0);
            lookout.stamp(steps);
        }
        assert!(!lookout.is_stopping());
        assert_eq!(lookout.found().and_then(|found| found.steps), Some(20));
        assert_eq!(lookout.list()[0].hits, 0);
        lookout.watching(Watching::Off);
        lookout.halted(0);
        assert!(!lookout.is_stopping());
    }

    #[test]
    fn processors_are_asked_for_what_only_they_see() {
        let lookout = lookout(
            &["execute 5", "execute 5", "data 0x10 4 access", "interrupt 8", "exception #PF", "port 1"],
            0,
        );
        let watch = lookout.cpu_watch();
        assert_eq!((watch.breakpoints, watch.watches), (vec![5], vec![3]));
        assert!(watch.interest.interrupts.has(8) && !watch.interest.interrupts.has(9));
        assert!(watch.interest.exceptions.has(14) && !watch.interest.modes);
        lookout.attach(Vec::new(), true, Vec::new, || {});
        assert!(lookout.cpu_watch().interest.interrupts.is_empty(), "there the bus tells");
    }
}
