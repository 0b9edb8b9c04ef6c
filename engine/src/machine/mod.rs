//! A machine: the hardware built from a profile, its vCPUs, its clock and its screen.

mod balloon;
mod bare;
mod board;
mod cabling;
mod checkpoint;
mod debugging;
mod drives;
mod edges;
mod figures;
mod guest_bus;
mod holding;
mod input;
mod media;
mod operator;
mod paravirtual;
mod past;
mod pci_setup;
mod platform;
mod port;
mod recent;
mod sata;
mod screen;
mod state;
mod tally;
mod timekeeper;
mod timeline;
mod timers;
mod turns;
mod virtual_cpu;
mod wires;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use cpu::{Pins, Registers};
use display::sound::Mixer;
use hardware::histogram::Histogram as Lateness;
use hardware::interrupts::fabric::Witness;
use hardware::{Alarms, Bus, Clock, Memory, Requests};
use parking_lot::Mutex;

use crate::boot::{BootError, Image};
use crate::debugger::Lookout;
use crate::firmware::{Firmware, FirmwareError};
use crate::inspect;
use crate::profile::{self, LostTicks, Profile};
use crate::resources::{Refusal, Resources, Seat};
use crate::scheduler::{Account, Allotment, Entity, Scheduler};
use crate::session::Outlets;
use crate::sound::{Output, Sound};
use crate::stats;
use crate::trace::Trace;
use board::{Board, Wiring};
use cabling::Network;
use drives::Drives;
use edges::Edges;
use guest_bus::Exits;
use media::Media;
use paravirtual::Paravirtual;
use platform::Platform;
use screen::Screen;
use timeline::Timeline;
use turns::Turns;
use wires::{CpuWires, Wires};

pub use balloon::BalloonHandle;
pub use bare::{Bare, SavedDevice};
pub use cabling::NetworkStats;
pub use checkpoint::{Checkpoint, Fingerprint};
pub use drives::Drive;
pub use edges::Edge;
pub use guest_bus::MachineBus;
pub use hardware::histogram::Summary as LatenessSummary;
pub use input::{Input, Stamped};
pub use media::{CDROM, FLOPPY, Fronts};
pub use past::Moment;
pub use port::{DriveWork, Medium, Port};
pub use recent::{Access, Told};
pub use state::{Bytes, MachineState};
pub use tally::DeviceWork;
pub use timeline::STEP_NS;
pub use timers::Timer;
pub use turns::{EPOCH, PULSE_NS, Pulse, TURN};
pub use virtual_cpu::{CpuCounts, Incident, VirtualCpu};
pub use wires::Wish;

/// Why a machine cannot be started. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The profile asks for something impossible.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Profile(Vec<profile::Problem>),
    /// Memory could not be had.
    #[error("the host gave no memory for the guest: {0}")]
    Memory(std::io::Error),
    /// No firmware.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// A program or kernel cannot be started.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A disk image cannot be opened.
    #[error("{0}")]
    Disk(String),
    /// The network cannot be had.
    #[error("{0}")]
    Network(String),
    /// The backend cannot be had.
    #[error("{0}")]
    Backend(String),
    /// The host's ledger cannot grant what the machine wants.
    #[error(transparent)]
    Resources(#[from] Refusal),
}

/// A built machine.
pub struct Machine {
    profile: Profile,
    platform: Platform,
    memory: Arc<Memory>,
    bus: Arc<Bus>,
    clock: Clock,
    /// Wall time at guest time 0, in nanoseconds since 1970.
    started_ns: Arc<AtomicU64>,
    board: Board,
    drives: Drives,
    network: Option<Network>,
    sound: Sound,
    image: Option<Image>,
    cpus: Arc<Vec<Arc<VirtualCpu>>>,
    entities: Arc<Vec<Arc<Entity>>>,
    /// How vCPUs take turns, in a deterministic machine.
    turns: Option<Arc<Turns>>,
    account: Arc<Account>,
    lateness: Arc<Vec<Lateness>>,
    edges: Arc<Edges>,
    trace: Arc<Trace>,
    screen: Arc<Screen>,
    exits: Arc<Exits>,
    lookout: Arc<Lookout>,
    /// What the guest sends goes nowhere: it has sent it before.
    quiet: Arc<AtomicBool>,
    wires: Arc<Wires>,
    waker: Option<Arc<dyn Fn() + Send + Sync>>,
    bell: Arc<timekeeper::Bell>,
    started: Instant,
    cpu_time_at_start: Duration,
    typist: Mutex<()>,
    /// Its place in the host's ledger, while it runs.
    seat: Mutex<Option<Seat>>,
    lost_ticks: Mutex<LostTicks>,
}

impl Machine {
    /// Builds the machine of `profile`; it stands still until it is powered on and released.
    pub fn build(profile: &Profile, mut outlets: Outlets) -> Result<Arc<Machine>, StartError> {
        let problems = profile.problems();
        if !problems.is_empty() {
            return Err(StartError::Profile(problems));
        }
        let profile = &profile.as_built();
        let seat = Resources::global().seat(profile)?;
        let cpu_time_at_start = stats::process_cpu_time();
        let quiet = Arc::new(AtomicBool::new(false));
        for outlet in [&mut outlets.serial, &mut outlets.console, &mut outlets.debug_console] {
            *outlet = past::once(outlet.take(), &quiet);
        }
        let memory = Memory::new(profile.memory.bytes(), board::EXTRA_BYTES).map_err(StartError::Memory)?;
        let firmware = find_firmware(profile)?;
        let wires = Arc::new(Wires::default());
        let stopper = wires.clone();
        let tell: port::Tell = Arc::new(move || stopper.wish(Wish::DiskFull));
        let mut media = Media::open(profile, &outlets.fronts, &tell)?;
        let ports = std::mem::take(&mut media.ports);
        let image = direct_image(profile, &memory, &media)?;
        let platform = Platform::new(profile, &memory).map_err(StartError::Backend)?;
        let network = Network::build(profile, outlets.capture.take())?;

        let bell = Arc::new(timekeeper::Bell::default());
        let (ringer, asker, cutter) = (bell.clone(), wires.clone(), wires.clone());
        let clock = if profile.deterministic.is_some() { Clock::manual() } else { Clock::host() };
        let timeline =
            profile.deterministic.map(|numbers| Arc::new(Timeline::new(clock.clone(), numbers.seed)));
        let wiring = Wiring {
            memory: memory.clone(),
            bus: Bus::new(),
            clock,
            started: profile
                .deterministic
                .map_or_else(board::host_time, |numbers| Duration::from_secs(numbers.start_seconds)),
            requests: Requests::new(move |request| asker.wish(Wish::Device(request))),
            alarms: Alarms::new(move || match &*cutter.turns.load() {
                Some(turns) => turns.cut(),
                None => ringer.ring(),
            }),
            link: network.as_ref().map(Network::link),
            mixer: Mixer::new(outlets.sound.take().unwrap_or_else(Output::none)),
        };
        let sound = Sound::new(wiring.mixer.clone(), wiring.clock.clone());
        let count = profile.cpus as usize;
        let mut board = Board::assemble(profile, &wiring, firmware.as_ref(), media, &mut outlets, |alarm| {
            platform.controllers(count, &wiring.clock, alarm, Box::new(CpuWires(wires.clone())))
        })?;
        let Wiring { bus, clock, started, alarms, .. } = wiring;
        let started_ns = Arc::new(AtomicU64::new(started.as_nanos() as u64));
        let (cd, floppy) = (board.removable.0.take(), board.removable.1.clone());
        let drives = Drives::new(cd, floppy, profile.snapshot, ports, board.disk_throttle.clone(), tell);

        let names = board.timed.iter().map(|device| device.lock().name().to_owned()).collect();
        let trace = Trace::new(clock.clone(), &bus.counts(), names);
        let exits = Exits::new();
        let lookout = Arc::new(Lookout::default());
        let mut cpus = Vec::with_capacity(count);
        for index in 0..count {
            let pins = Arc::new(Pins::new());
            let sleeper = wires.clone();
            pins.on_wake(move || sleeper.wake(index));
            let vcpu = platform.vcpu(index, count, pins.clone()).map_err(StartError::Backend)?;
            let fabric = board.fabric().cloned();
            let guest_bus = MachineBus::new(
                memory.clone(),
                bus.clone(),
                clock.clone(),
                started_ns.clone(),
                fabric,
                index,
                exits.clone(),
            )
            .counted_by(timeline.clone())
            .traced_by(&trace)
            .watched_by(lookout.clone());
            let reporter = wires.clone();
            let report = move |incident| reporter.wish(Wish::Cpu(incident));
            let in_kernel = platform.has_kernel_apics();
            let lookout = lookout.clone();
            cpus.push(Arc::new(VirtualCpu::new(index, vcpu, guest_bus, pins, in_kernel, lookout, report)));
        }
        let cpus = Arc::new(cpus);
        let stopper = wires.clone();
        let kickers = cpus.iter().map(|cpu| cpu.kicker().clone()).collect();
        let tell = move || stopper.wish(Wish::Stopped);
        lookout.attach(kickers, !platform.is_soft(), board.tick_counter(), tell);
        let lateness: Arc<Vec<Lateness>> =
            Arc::new(board.timed.iter().map(|_| Lateness::default()).collect());
        let edges: Arc<Edges> = Arc::default();
        let listeners = timekeeper::Listeners {
            lateness: lateness.clone(),
            edges: edges.clone(),
            trace: trace.clone(),
            lookout: lookout.clone(),
        };
        let turns = timeline.map(|timeline| {
            let arriver = wires.clone();
            Arc::new(Turns::new(turns::Parts {
                cpus: cpus.clone(),
                timed: board.timed.clone(),
                alarms: alarms.clone(),
                timeline,
                sockets: board.sockets(),
                planned: std::mem::take(&mut outlets.planned),
                pulse: outlets.pulse.take(),
                arrived: Box::new(move || arriver.wish(Wish::Arrived)),
                listeners: listeners.clone(),
            }))
        });
        let account = Arc::new(Account::new(profile.processor));
        let entities: Vec<_> = match &turns {
            Some(turns) => vec![Entity::new(turns.clone(), &account)],
            None => cpus.iter().map(|cpu| Entity::new(cpu.clone(), &account)).collect(),
        };
        if platform.has_kernel_apics() {
            entities.iter().for_each(|entity| Scheduler::global().add_lane(entity));
        }
        let entities = Arc::new(entities);
        wires.cpus.store(Some(cpus.clone()));
        wires.entities.store(Some(entities.clone()));
        wires.turns.store(turns.clone());
        if turns.is_none() {
            let devices = Arc::downgrade(&board.timed);
            timekeeper::start(clock.clone(), alarms, bell.clone(), devices, listeners);
        }
        let screen = Screen::start(board.video.clone(), board.paravirtual.gpu.clone(), outlets.waker.clone());
        let machine = Arc::new(Machine {
            profile: profile.clone(),
            platform,
            memory,
            bus,
            clock,
            started_ns,
            board,
            drives,
            network,
            sound,
            image,
            cpus,
            entities,
            turns,
            account,
            lateness,
            edges,
            trace,
            screen,
            exits,
            lookout,
            quiet,
            wires,
            waker: outlets.waker,
            bell,
            started: Instant::now(),
            cpu_time_at_start,
            typist: Mutex::new(()),
            seat: Mutex::new(None),
            lost_ticks: Mutex::new(profile.lost_ticks),
        });
        machine.set_lost_ticks(profile.lost_ticks);
        machine.take_seat(seat);
        Ok(machine)
    }

    /// The profile it was built from.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Which backend runs it, and why.
    pub fn backend_note(&self) -> &str {
        &self.platform.note
    }

    /// Number of vCPUs.
    pub fn cpus(&self) -> usize {
        self.cpus.len()
    }

    /// The guest's monitor.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// The latest sample of a vCPU's registers.
    pub fn registers(&self, cpu: usize) -> Option<Arc<Registers>> {
        self.cpus.get(cpu)?.sample()
    }

    /// Tells `listener` what devices and vCPUs wish for.
    pub fn listen(&self, listener: impl Fn(Wish) + Send + Sync + 'static) {
        self.wires.listener.store(Some(Arc::new(Box::new(listener))));
    }

    /// Has the owner look at the session.
    pub fn wake_owner(&self) {
        if let Some(waker) = &self.waker {
            waker();
        }
    }

    /// Stops all vCPUs and guest time; returns when they stand still.
    pub fn hold(&self) {
        for entity in self.entities.iter() {
            Scheduler::global().hold(entity);
        }
        self.board.paravirtual.drain();
        self.clock.stop();
        self.sound.rest();
        if let Err(reason) = self.freeze() {
            self.fail(reason);
        }
        for cpu in self.cpus.iter() {
            // The samples of a machine that stands still are exact. A vCPU that cannot be read has
            // reported that already.
            let _ = cpu.registers();
        }
    }

    /// Lets time and vCPUs go on.
    pub fn release(&self) {
        if let Err(reason) = self.thaw() {
            return self.fail(reason);
        }
        match &self.turns {
            Some(turns) => turns.go_on(),
            None => self.clock.start(),
        }
        self.bell.ring();
        for entity in self.entities.iter() {
            Scheduler::global().release(entity);
        }
    }

    /// Stops what the host's kernel counts for the guest; our clock stands still already.
    fn freeze(&self) -> Result<(), String> {
        self.platform.freeze()?;
        self.cpus.iter().try_for_each(|cpu| cpu.freeze().map_err(|error| error.to_string()))
    }

    fn thaw(&self) -> Result<(), String> {
        self.platform.thaw()?;
        self.cpus.iter().try_for_each(|cpu| cpu.thaw().map_err(|error| error.to_string()))
    }

    fn fail(&self, reason: String) {
        self.wires.wish(Wish::Cpu(Incident::Failed { cpu: 0, reason }));
    }

    /// Ends all threads of the machine; its last frame stays. Only while held, for good.
    pub fn retire(&self) {
        self.screen.update();
        self.screen.close();
        self.bell.close();
        self.sound.close();
        if let Some(network) = &self.network {
            network.close();
        }
        for entity in self.entities.iter() {
            Scheduler::global().retire(entity);
        }
        self.leave_seat();
    }

    /// Brings devices and vCPUs to the state of power-on. Only while held.
    pub fn power_on(&self) -> Result<(), String> {
        self.platform.reset()?;
        self.board.reset();
        self.reset_registers()
    }

    /// Resets the vCPUs alone, as the keyboard controller and port 0x92 do.
    pub fn reset_cpus(&self) -> Result<(), String> {
        self.hold();
        if let Some(fabric) = self.board.fabric() {
            (0..self.cpus.len()).for_each(|cpu| fabric.init(cpu));
        }
        let result = self.reset_registers();
        if result.is_ok() {
            self.release();
        }
        result
    }

    fn reset_registers(&self) -> Result<(), String> {
        let first = match &self.image {
            Some(image) => {
                self.board.show_text_mode();
                if matches!(self.profile.direct, Some(profile::Direct::Kernel { .. })) {
                    pci_setup::as_firmware_leaves_it(&self.bus);
                }
                image.place(&self.memory)
            }
            None => Registers::reset(),
        };
        for (index, cpu) in self.cpus.iter().enumerate() {
            // Firmware gives all processors the same memory types.
            let registers = match index {
                0 => first.clone(),
                _ => board::secondary(Registers { msrs: first.msrs, ..Registers::reset() }),
            };
            cpu.reset(&registers).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Guest memory, to look at.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Replaces the registers of a vCPU. Only while held.
    pub fn set_registers(&self, cpu: usize, registers: &Registers) -> Result<(), String> {
        self.cpus[cpu].set_registers(registers).map_err(|error| error.to_string())
    }

    /// Guest seconds per host second.
    pub fn time_rate(&self) -> f64 {
        self.clock.rate()
    }

    /// Makes guest time run slower or faster than the host's; `rate` must be positive.
    pub fn set_time_rate(&self, rate: f64) {
        self.clock.set_rate(rate);
        self.sound.set_time_rate(rate);
        self.bell.ring();
    }

    /// What it does at its edges, once [`Machine::set_trace`] is on.
    pub fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }

    /// Switches the trace on or off; off by default.
    pub fn set_trace(&self, on: bool) {
        if let Some(fabric) = self.board.fabric() {
            let trace = self.trace.clone();
            fabric.watch(on.then(|| -> Witness { Box::new(move |happening| trace.happening(happening)) }));
        }
        self.trace.switch(on);
    }

    /// What becomes of timer ticks that come too late.
    pub fn lost_ticks(&self) -> LostTicks {
        *self.lost_ticks.lock()
    }

    /// Changes that, at once.
    pub fn set_lost_ticks(&self, policy: LostTicks) {
        let mut now = self.lost_ticks.lock();
        *now = policy;
        self.board.set_lost_ticks(policy);
    }

    /// Its part of the host's processors.
    pub fn allotment(&self) -> Allotment {
        self.account.allotment()
    }

    /// Registers, code bytes and instruction of a vCPU that stands still.
    pub fn examine(&self, cpu: usize) -> Result<(Registers, Vec<u8>, String), String> {
        let cpu = &self.cpus[cpu];
        let registers = cpu.registers().map_err(|error| error.to_string())?;
        let (code, instruction) = inspect::code::at_instruction_pointer(&registers, &*self.memory);
        Ok((registers, code, instruction))
    }

    /// Steps a deterministic machine has made. Waits for the end of the slice.
    pub fn steps(&self) -> Option<u64> {
        self.turns.as_ref().map(|turns| turns.position().steps)
    }

    /// From its next release on, a deterministic machine stops at this step, and says so by [`Wish::Arrived`].
    pub fn stop_at(&self, steps: Option<u64>) {
        if let Some(turns) = &self.turns {
            turns.stop_at(steps);
        }
    }

    /// All that came into a deterministic machine from outside. Waits for the end of the slice.
    pub fn journal(&self) -> Vec<Stamped> {
        self.turns.as_ref().map_or_else(Vec::new, |turns| turns.position().inbox.journal().to_vec())
    }

    /// The virtio devices.
    pub fn paravirtual(&self) -> &Paravirtual {
        &self.board.paravirtual
    }

    /// The memory balloon, if there is one.
    pub fn balloon(&self) -> Option<BalloonHandle> {
        let device = self.board.paravirtual.balloon.clone()?;
        Some(BalloonHandle::new(device, self.memory.clone()))
    }

    /// The drives.
    pub fn drives(&self) -> &Drives {
        &self.drives
    }

    /// Which backend runs it, and where the interrupt controllers are.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// All guest memory.
    pub fn shared_memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// The network card's cable, if there is one.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Its sound.
    pub fn sound(&self) -> &Sound {
        &self.sound
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.screen.close();
        self.bell.close();
        self.leave_seat();
        self.bus.clear();
        // The wires hold the vCPUs, whose reports hold the wires.
        self.wires.cpus.store(None);
        self.wires.entities.store(None);
        self.wires.turns.store(None);
        self.wires.listener.store(None);
    }
}

/// What `profile` puts straight into memory. A kernel gets the tables firmware would have left it.
fn direct_image(profile: &Profile, memory: &Memory, media: &Media) -> Result<Option<Image>, StartError> {
    let Some(direct) = &profile.direct else { return Ok(None) };
    let mut image = Image::read(direct, memory)?;
    if matches!(direct, profile::Direct::Kernel { .. }) {
        let acpi = board::acpi_tables(profile, memory, media.floppy.is_some());
        image.add_tables(&acpi, &board::smbios_tables(profile, memory));
    }
    Ok(Some(image))
}

/// The firmware `profile` wants, if any.
fn find_firmware(profile: &Profile) -> Result<Option<Firmware>, StartError> {
    Ok(match (&profile.firmware, &profile.direct) {
        (profile::Firmware::None, _) | (profile::Firmware::Auto, Some(_)) => None,
        (profile::Firmware::Auto, None) => Some(Firmware::installed()?),
        (profile::Firmware::Image(path), _) => Some(Firmware::with_bios(path)?),
    })
}

#[cfg(test)]
mod tests;
