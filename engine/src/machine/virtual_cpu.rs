//! One vCPU of a machine: its backend, its startup state, and what the scheduler runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use cpu::{Pins, Registers, RunLimit, Segment, Signal, Stop, registers::segment};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::guest_bus::MachineBus;
use crate::backend::kvm::statistics::Statistics;
use crate::backend::{Kicker, Vcpu, VcpuError};
use crate::debugger::{CpuDebug, CpuWatch, Goal, Lookout};
use crate::scheduler::{Next, Run};
use crate::trace::{SliceEnding, What};

/// How often a vCPU that goes on running leaves a sample of its registers. One that parks leaves none, unless somebody
/// has just found it running: whoever wants to know reads it himself.
const SAMPLE_EVERY: Duration = Duration::from_millis(33);
/// How long a reader waits for a vCPU that runs and has left no sample lately: its slices are shorter.
const SAMPLE_PATIENCE: Duration = Duration::from_millis(25);

/// Something a vCPU met that concerns the whole machine.
#[derive(Debug)]
pub enum Incident {
    /// Triple fault.
    Shutdown {
        /// Which vCPU.
        cpu: usize,
        /// The faults on the way.
        faults: Vec<cpu::FaultRecord>,
    },
    /// The backend could not go on.
    Failed {
        /// Which vCPU.
        cpu: usize,
        /// Why.
        reason: String,
    },
}

type Report = Box<dyn Fn(Incident) + Send + Sync>;

/// A vCPU as the machine holds it.
pub struct VirtualCpu {
    index: usize,
    backend: Mutex<Box<dyn Vcpu>>,
    bus: MachineBus,
    pins: Arc<Pins>,
    kicker: Kicker,
    startup: Mutex<Startup>,
    /// INIT and STARTUP are the host kernel's business.
    startup_in_kernel: bool,
    sample: ArcSwapOption<Registers>,
    sampled: Mutex<Option<Instant>>,
    /// A reader found it running: more will come.
    missed: AtomicBool,
    report: Report,
    counts: Counts,
    statistics: Option<Statistics>,
    debug: CpuDebug,
}

/// Why slices ended, and how long the vCPU ran.
#[derive(Default)]
struct Counts {
    halts: AtomicU64,
    kicks: AtomicU64,
    sampling_ns: AtomicU64,
}

/// The counters of one vCPU.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CpuCounts {
    /// HLT without anything pending.
    pub halts: u64,
    /// Times the monitor took control back.
    pub kicks: u64,
    /// Instructions executed, where the backend counts them.
    pub instructions: Option<u64>,
    /// Host time that samples of its registers took, in seconds.
    pub sampling_seconds: f64,
}

/// A vCPU that is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuState {
    /// Its registers.
    pub registers: Registers,
    startup: Startup,
    nmi: bool,
}

/// The multiprocessor startup state machine. Source: Intel SDM 3A, 10.4 (MP initialization).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Startup {
    waiting: bool,
    init: bool,
    vector: Option<u8>,
}

impl VirtualCpu {
    /// vCPU `index`; all but the first wait for a STARTUP interrupt.
    pub fn new(
        index: usize,
        backend: Box<dyn Vcpu>,
        bus: MachineBus,
        pins: Arc<Pins>,
        startup_in_kernel: bool,
        lookout: Arc<Lookout>,
        report: impl Fn(Incident) + Send + Sync + 'static,
    ) -> VirtualCpu {
        VirtualCpu {
            index,
            kicker: backend.kicker(),
            statistics: backend.statistics(),
            backend: Mutex::new(backend),
            bus,
            pins,
            startup: Mutex::new(Startup { waiting: index > 0 && !startup_in_kernel, ..Startup::default() }),
            startup_in_kernel,
            sample: ArcSwapOption::empty(),
            sampled: Mutex::new(None),
            missed: AtomicBool::new(false),
            report: Box::new(report),
            counts: Counts::default(),
            debug: CpuDebug::new(index, lookout),
        }
    }

    /// Its debugging side.
    pub fn debug(&self) -> &CpuDebug {
        &self.debug
    }

    /// Has it look for this. Only while held.
    pub fn set_watch(&self, watch: CpuWatch) -> Result<(), VcpuError> {
        self.debug.set_watch(&mut **self.backend.lock(), watch)
    }

    /// From its next run on it follows `goal`. Only while held.
    pub fn begin(&self, goal: Goal) -> Result<(), VcpuError> {
        self.debug.begin(&mut **self.backend.lock(), goal)
    }

    /// Follows no goal any more. Only while held.
    pub fn abandon_goal(&self) -> Result<(), VcpuError> {
        self.debug.abandon(&mut **self.backend.lock())
    }

    /// Its next run passes a breakpoint where it stands. Only while held.
    pub fn pass_breakpoint(&self) {
        self.backend.lock().pass_breakpoint();
    }

    /// Takes control back from it.
    pub fn kicker(&self) -> &Kicker {
        &self.kicker
    }

    /// State of power-on, or `registers` if the machine starts without firmware. Only while held.
    pub fn reset(&self, registers: &Registers) -> Result<(), VcpuError> {
        let waiting = self.index > 0 && !self.startup_in_kernel;
        *self.startup.lock() = Startup { waiting, ..Startup::default() };
        // INTR is its controller's level, and stays.
        self.pins.lower(Signal::Nmi);
        self.pins.lower(Signal::Kick);
        self.backend.lock().reset(registers)?;
        self.sample.store(Some(Arc::new(registers.clone())));
        Ok(())
    }

    /// Its registers: now, if it does not run; else those of the latest sample, which is not much older than
    /// [`SAMPLE_EVERY`]. Costs the guest nothing.
    pub fn sample(&self) -> Option<Arc<Registers>> {
        let is_recent = || self.sampled.lock().is_some_and(|at| at.elapsed() < 2 * SAMPLE_EVERY);
        let mut backend = self.backend.try_lock();
        self.missed.store(backend.is_none(), Ordering::Relaxed);
        if backend.is_none() && !is_recent() {
            backend = self.backend.try_lock_for(SAMPLE_PATIENCE);
        }
        if let Some(registers) = backend.and_then(|mut backend| backend.registers().ok()) {
            self.sample.store(Some(Arc::new(registers)));
        }
        self.sample.load_full()
    }

    /// The registers now. Only while held: it waits for the end of the slice otherwise.
    pub fn registers(&self) -> Result<Registers, VcpuError> {
        let registers = self.backend.lock().registers()?;
        self.sample.store(Some(Arc::new(registers.clone())));
        Ok(registers)
    }

    /// Replaces the registers. Only while held.
    pub fn set_registers(&self, registers: &Registers) -> Result<(), VcpuError> {
        self.backend.lock().set_registers(registers)?;
        self.sample.store(Some(Arc::new(registers.clone())));
        Ok(())
    }

    /// Its time stands still from here on. Only while held.
    pub fn freeze(&self) -> Result<(), VcpuError> {
        self.backend.lock().freeze()
    }

    /// Its time goes on.
    pub fn thaw(&self) -> Result<(), VcpuError> {
        self.backend.lock().thaw()
    }

    /// The bus this vCPU sees.
    pub fn bus(&self) -> &MachineBus {
        &self.bus
    }

    /// INTR changed. Returns whether the vCPU should be woken.
    pub fn interrupt(&self, level: bool) -> bool {
        if level {
            self.pins.raise(Signal::Interrupt);
            self.kicker.nudge();
        } else {
            self.pins.lower(Signal::Interrupt);
        }
        level
    }

    /// Raises another signal and makes a running vCPU look at it.
    pub fn signal(&self, signal: Signal) {
        self.pins.raise(signal);
        self.kicker.nudge();
    }

    /// An INIT interrupt arrived.
    pub fn init(&self) {
        self.startup.lock().init = true;
        self.kicker.kick();
    }

    /// A STARTUP interrupt arrived.
    pub fn start(&self, vector: u8) {
        let mut startup = self.startup.lock();
        // Ignored unless the processor waits for it, as the manual says.
        if startup.waiting || startup.init {
            startup.vector = Some(vector);
        }
        drop(startup);
        self.kicker.kick();
    }

    /// Why slices ended.
    pub fn counts(&self) -> CpuCounts {
        CpuCounts {
            halts: self.counts.halts.load(Ordering::Relaxed),
            kicks: self.counts.kicks.load(Ordering::Relaxed),
            instructions: self.backend.try_lock().and_then(|backend| backend.instructions()),
            sampling_seconds: self.counts.sampling_ns.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }

    /// What the host's kernel counts for it by itself; empty where it does not.
    pub fn kernel_counts(&self) -> Vec<(String, u64)> {
        self.statistics.as_ref().map(Statistics::read).unwrap_or_default()
    }

    /// Steps it has made, where the backend counts exactly.
    pub fn steps(&self) -> u64 {
        self.backend.lock().steps()
    }

    /// Makes at most `steps` steps; how many, and whether it could go on.
    pub fn run_within(&self, steps: u64) -> (u64, Next) {
        let before = self.steps();
        let next = self.run_caught(RunLimit { instructions: steps });
        (self.steps() - before, next)
    }

    /// Forgets cached translations. Only between two runs.
    pub fn forget_translations(&self) {
        self.backend.lock().forget_translations();
    }

    /// All there is of it.
    pub fn state(&self) -> Result<CpuState, VcpuError> {
        let registers = self.registers()?;
        Ok(CpuState { registers, startup: *self.startup.lock(), nmi: self.pins.is_raised(Signal::Nmi) })
    }

    /// Becomes this. Only while held.
    pub fn set_state(&self, state: &CpuState) -> Result<(), VcpuError> {
        self.reset(&state.registers)?;
        *self.startup.lock() = state.startup;
        if state.nmi {
            self.pins.raise(Signal::Nmi);
        }
        Ok(())
    }

    /// All there is of it, and what its backend keeps beside. Only while held.
    pub fn save(&self) -> Result<(CpuState, Vec<u8>), VcpuError> {
        let state = self.state()?;
        Ok((state, self.backend.lock().save_beside()?))
    }

    /// Becomes what [`VirtualCpu::save`] gave, on any backend. Only while held.
    pub fn load(&self, state: &CpuState, beside: &[u8]) -> Result<(), VcpuError> {
        self.set_state(state)?;
        self.backend.lock().load_beside(beside)
    }

    fn slice(&self, limit: RunLimit) -> Result<Next, VcpuError> {
        if self.debug.must_stand() {
            return Ok(Next::Park);
        }
        let mut backend = self.backend.lock();
        if !self.ready_to_run(&mut **backend)? {
            return Ok(Next::Park);
        }
        let traced = self.bus.trace().is_on().then(Instant::now);
        let stop = self.debug.run(&mut **backend, &self.bus, limit)?;
        if let Some(begun) = traced {
            self.trace_slice(begun, &stop);
        }
        let next = match stop {
            Stop::Halted => {
                self.counts.halts.fetch_add(1, Ordering::Relaxed);
                self.halted(&mut **backend)?
            }
            Stop::Yielded => Next::Yield,
            Stop::Kicked | Stop::Limit | Stop::Step | Stop::Breakpoint(_) | Stop::Noticed(_) => {
                self.counts.kicks.fetch_add(1, Ordering::Relaxed);
                Next::Ready
            }
            Stop::Shutdown(faults) => {
                (self.report)(Incident::Shutdown { cpu: self.index, faults });
                Next::Park
            }
        };
        if next != Next::Park || self.missed.swap(false, Ordering::Relaxed) {
            self.leave_sample(&mut **backend)?;
        }
        Ok(next)
    }

    fn trace_slice(&self, begun: Instant, stop: &Stop) {
        let end = match stop {
            Stop::Halted => SliceEnding::Halted,
            Stop::Yielded => SliceEnding::GaveWay,
            Stop::Kicked | Stop::Limit => SliceEnding::Taken,
            Stop::Step | Stop::Breakpoint(_) | Stop::Noticed(_) => SliceEnding::Debugged,
            Stop::Shutdown(_) => SliceEnding::Shutdown,
        };
        let ran_ns = begun.elapsed().as_nanos() as u64;
        self.bus.trace().note(Some(self.index), What::Slice { ran_ns, end });
    }

    fn run_caught(&self, limit: RunLimit) -> Next {
        // A bug in one machine's device must stop that machine and no other.
        let slice = std::panic::AssertUnwindSafe(|| self.slice(limit));
        let reason = match std::panic::catch_unwind(slice) {
            Ok(Ok(next)) => return next,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("a defect in Vitrine: {}", panic_message(&*panic)),
        };
        (self.report)(Incident::Failed { cpu: self.index, reason });
        Next::Park
    }

    /// Takes INIT and STARTUP; says whether there is anything to run.
    fn ready_to_run(&self, backend: &mut dyn Vcpu) -> Result<bool, VcpuError> {
        let mut startup = self.startup.lock();
        if startup.init {
            startup.init = false;
            startup.waiting = self.index > 0;
            let before = backend.registers()?;
            backend.set_registers(&after_init(&before))?;
        }
        if startup.waiting {
            let Some(vector) = startup.vector.take() else { return Ok(false) };
            startup.waiting = false;
            let mut registers = backend.registers()?;
            let code = Segment::real(u16::from(vector) << 8);
            registers.segments[segment::CS] = Segment { attributes: 0x9B, ..code };
            registers.rip = 0;
            registers.halted = false;
            backend.set_registers(&registers)?;
        }
        startup.vector = None;
        Ok(true)
    }

    /// After HLT or MWAIT: park, unless something that can wake the vCPU is there already.
    fn halted(&self, backend: &mut dyn Vcpu) -> Result<Next, VcpuError> {
        let awake = self.pins.is_raised(Signal::Nmi)
            || self.pins.is_raised(Signal::Kick)
            || self.pins.is_raised(Signal::CodeChanged)
            || self.pins.is_raised(Signal::Interrupt) && backend.registers()?.rflags & 1 << 9 != 0;
        Ok(if awake { Next::Ready } else { Next::Park })
    }

    fn leave_sample(&self, backend: &mut dyn Vcpu) -> Result<(), VcpuError> {
        let mut sampled = self.sampled.lock();
        if sampled.is_none_or(|at| at.elapsed() >= SAMPLE_EVERY) {
            let begun = Instant::now();
            self.sample.store(Some(Arc::new(backend.registers()?)));
            let took = begun.elapsed();
            self.counts.sampling_ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
            *sampled = Some(begun + took);
        }
        Ok(())
    }
}

impl Run for VirtualCpu {
    fn run_slice(&self) -> Next {
        let next = self.run_caught(RunLimit::NONE);
        self.debug.lookout().tell();
        next
    }

    fn kick(&self) {
        self.kicker.kick();
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// What INIT leaves of a state. Source: Intel SDM 3A, table 11-1, column INIT.
fn after_init(before: &Registers) -> Registers {
    const NOT_WRITE_THROUGH_AND_CACHE_DISABLE: u64 = 0x6000_0000;
    let mut after = Registers::reset();
    after.msrs = before.msrs;
    after.fpu = before.fpu.clone();
    after.xcr0 = before.xcr0;
    let kept = before.cr0 & NOT_WRITE_THROUGH_AND_CACHE_DISABLE;
    after.cr0 = after.cr0 & !NOT_WRITE_THROUGH_AND_CACHE_DISABLE | kept;
    after
}

#[cfg(test)]
mod tests {
    use cpu::{GuestBus, Interest};
    use hardware::{Bus, Clock, Memory};

    use super::*;
    use crate::machine::guest_bus::Exits;

    /// Stops at once, always for the same reason, and counts how often its registers are asked for.
    struct Still {
        stop: Stop,
        asked: Arc<AtomicU64>,
    }

    impl Vcpu for Still {
        fn run(&mut self, _bus: &dyn GuestBus, _limit: RunLimit) -> Result<Stop, VcpuError> {
            Ok(self.stop.clone())
        }

        fn registers(&mut self) -> Result<Registers, VcpuError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Ok(Registers::reset())
        }

        fn set_registers(&mut self, _registers: &Registers) -> Result<(), VcpuError> {
            Ok(())
        }

        fn kicker(&self) -> Kicker {
            Kicker::polled(Arc::new(Pins::new()))
        }

        fn instructions(&self) -> Option<u64> {
            None
        }

        fn set_watch(&mut self, _breakpoints: &[u64], _interest: &Interest) -> Result<(), VcpuError> {
            Ok(())
        }

        fn pass_breakpoint(&mut self) {}
    }

    #[test]
    fn one_that_parks_leaves_no_samples_and_is_read_all_the_same() {
        for stop in [Stop::Halted, Stop::Kicked] {
            let memory = Memory::new(1 << 20, 0).unwrap();
            let (bus, clock, exits) = (Bus::new(), Clock::manual(), Exits::new());
            let bus = MachineBus::new(memory, bus, clock, Arc::default(), None, 0, exits);
            let asked = Arc::new(AtomicU64::new(0));
            let still = Still { stop: stop.clone(), asked: asked.clone() };
            let pins = Arc::new(Pins::new());
            let cpu = VirtualCpu::new(0, Box::new(still), bus, pins, false, Arc::default(), |_| {});
            let times = || asked.load(Ordering::Relaxed);
            for _ in 0..3 {
                cpu.run_slice();
            }
            assert_eq!(times() > 0, stop == Stop::Kicked, "{stop:?}");
            let before = times();
            assert!(cpu.sample().is_some());
            assert_eq!(times(), before + 1, "nobody runs it: it is read now");
            let running = cpu.backend.lock();
            assert!(cpu.sample().is_some(), "the latest, while it runs");
            drop(running);
            let before = times();
            cpu.run_slice();
            assert!(times() > before || stop == Stop::Kicked, "whoever found it running has one soon");
        }
    }

    #[test]
    fn init_keeps_msrs_fpu_and_cache_bits_only() {
        let mut before = Registers::reset();
        before.general[3] = 7;
        before.msrs.pat = 9;
        before.fpu.mxcsr = 1;
        before.cr0 = 0x8000_0011;
        before.efer = 0x500;
        let after = after_init(&before);
        assert_eq!((after.general[3], after.msrs.pat, after.fpu.mxcsr), (0, 9, 1));
        assert_eq!((after.cr0, after.efer, after.rip), (0x10, 0, 0xFFF0));
    }
}
