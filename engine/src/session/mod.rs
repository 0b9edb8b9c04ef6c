//! A session: the handle by which the app holds a machine that runs.

mod debugging;
mod past;
mod room;
mod state;
mod supervisor;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cpu::Registers;
use display::Frame;
use hardware::input::Key;
use hardware::interrupts::LapicView;
use network::{Capture, Conditions};
use parking_lot::Mutex;

use crate::debugger::HistoryLimits;
use crate::debugger::gdb::GdbServer;
use crate::inspect::PhysicalMemory;
use crate::inspect::symbols::Symbols;
use crate::machine::{
    BalloonHandle, Checkpoint, Drive, Edge, Fingerprint, Fronts, Machine, Pulse, Stamped, StartError, Told,
};
use crate::profile::{LostTicks, Profile};
use crate::resources::{GrantError, MachineId, Resources, Throttles};
use crate::scheduler::Allotment;
use crate::sound::{Output, Sound};
use crate::stats::Stats;
use crate::trace::Trace;
use supervisor::{Command, Supervisor};

pub use debugging::Others;
pub use past::Way;
pub use state::{Crash, Ending, Event, RunState};
pub(crate) use supervisor::After;

/// How much slower or faster than the host's guest time may run.
pub const TIME_RATES: std::ops::RangeInclusive<f64> = 0.01..=10.0;

/// Why a change was not made. The machine is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It runs, or is over.
    #[error("the machine does not stand still: pause it first")]
    NotPaused,
    /// What was asked for cannot be.
    #[error("{0}")]
    Refused(String),
}

/// Takes bytes the guest sends out.
pub type ByteOutlet = Box<dyn FnMut(&[u8]) + Send>;

/// Where things go that a run sends out; all optional.
#[derive(Default)]
pub struct Outlets {
    /// Bytes the guest sends on its first serial port.
    pub serial: Option<ByteOutlet>,
    /// Bytes the guest sends on its virtio console; without this they go where the serial port's go.
    pub console: Option<ByteOutlet>,
    /// Bytes the guest writes to the debug console (ports 0x402 and 0xE9).
    pub debug_console: Option<ByteOutlet>,
    /// Where what passes over the network card's cable is written.
    pub capture: Option<Capture>,
    /// Where its sound goes; without this, nowhere.
    pub sound: Option<Output>,
    /// Called, from any thread and often, when there is a new frame, sample or event.
    pub waker: Option<Arc<dyn Fn() + Send + Sync>>,
    /// The machine stands still after power-on, until [`Session::resume`].
    pub paused: bool,
    /// In a deterministic machine: called again and again ([`crate::machine::PULSE_NS`]) with the guest time in
    /// nanoseconds, on the machine's own thread. What it sends to the session arrives at that very time. It must
    /// not wait for the machine.
    pub pulse: Option<Pulse>,
    /// In a deterministic machine: the past is kept within these limits from power-on, so that one can go back.
    pub history: Option<HistoryLimits>,
    /// Images that stand in the place of those the profile names: overlays, since the machine was saved.
    pub fronts: Fronts,
    /// In a deterministic machine: what is to come, and at which guest time, in order.
    pub planned: Vec<Stamped>,
}

/// A running machine. Dropping the last handle switches it off.
#[derive(Clone)]
pub struct Session(Arc<Handle>);

/// A handle that does not keep the machine running.
#[derive(Clone)]
pub struct WeakSession(Weak<Handle>);

impl WeakSession {
    /// The session, if somebody still holds it.
    pub fn upgrade(&self) -> Option<Session> {
        self.0.upgrade().map(Session)
    }
}

struct Handle {
    machine: Arc<Machine>,
    supervisor: Supervisor,
    symbols: Mutex<Arc<Symbols>>,
    /// Registers of all vCPUs, by the name they were kept under.
    kept: Mutex<BTreeMap<String, Vec<Registers>>>,
    gdb: Mutex<Option<GdbServer>>,
}

impl Session {
    /// Builds the machine and starts it. On an error nothing is left running.
    pub fn start(profile: &Profile, outlets: Outlets) -> Result<Session, StartError> {
        let (paused, history) = (outlets.paused, outlets.history);
        let machine = Machine::build(profile, outlets)?;
        let supervisor = Supervisor::start(machine.clone(), paused, history);
        if paused {
            supervisor.wait_paused();
        }
        Ok(Session(Arc::new(Handle {
            machine,
            supervisor,
            symbols: Mutex::default(),
            kept: Mutex::default(),
            gdb: Mutex::default(),
        })))
    }

    /// The profile it was started from.
    pub fn profile(&self) -> &Profile {
        self.0.machine.profile()
    }

    /// Which backend runs it, and why, in one sentence.
    pub fn backend_note(&self) -> &str {
        self.0.machine.backend_note()
    }

    /// What it is doing.
    pub fn state(&self) -> RunState {
        self.0.supervisor.state()
    }

    /// Waits until it has ended, at most `timeout`.
    pub fn wait(&self, timeout: Duration) -> Option<Ending> {
        self.0.supervisor.wait(timeout)
    }

    /// Takes what happened since the last call, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.0.supervisor.take_events()
    }

    /// Stops vCPUs and guest time.
    pub fn pause(&self) {
        self.0.supervisor.send(Command::Pause);
    }

    /// Lets them go on.
    pub fn resume(&self) {
        self.0.supervisor.send(Command::Resume);
    }

    /// Lets a paused deterministic machine go on until it has made exactly `steps` steps since power-on, and waits
    /// for that, at most `timeout`; says whether it has paused there.
    pub fn run_to(&self, steps: u64, timeout: Duration) -> bool {
        self.0.supervisor.run_to(steps, timeout)
    }

    /// Steps a deterministic machine has made since power-on. Waits for the end of the slice.
    pub fn steps(&self) -> Option<u64> {
        self.0.machine.steps()
    }

    /// Everything that has come into a deterministic machine from outside, with the guest times at which it did:
    /// [`Outlets::planned`] for the same run again.
    pub fn journal(&self) -> Vec<Stamped> {
        self.0.machine.journal()
    }

    /// The whole state of a paused deterministic machine.
    pub fn checkpoint(&self) -> Result<Checkpoint, String> {
        self.while_paused(Machine::checkpoint)
    }

    /// Puts a paused deterministic machine into a state that a machine of the same profile was in.
    pub fn restore(&self, checkpoint: &Checkpoint) -> Result<(), String> {
        self.while_paused(|machine| machine.restore(checkpoint))?;
        self.forget_past();
        Ok(())
    }

    /// The machine was put into another state: its past does not lead here.
    pub(crate) fn forget_past(&self) {
        self.0.supervisor.send(Command::ForgetPast);
    }

    /// Sums of the state of a paused deterministic machine, to compare it with another.
    pub fn fingerprint(&self) -> Result<Fingerprint, String> {
        self.while_paused(Machine::fingerprint)
    }

    fn while_paused<T>(&self, act: impl FnOnce(&Machine) -> Result<T, String>) -> Result<T, String> {
        match self.state() {
            RunState::Paused => act(&self.0.machine),
            _ => Err("the machine must be paused for this".to_owned()),
        }
    }

    /// The reset button.
    pub fn reset(&self) {
        self.0.supervisor.send(Command::Reset);
    }

    /// Pulls the plug.
    pub fn power_off(&self) {
        self.0.supervisor.send(Command::PowerOff);
    }

    /// Presses the power button; a guest with ACPI then shuts down by itself.
    pub fn press_power_button(&self) {
        self.0.machine.press_power_button();
    }

    /// Presses or releases a key.
    pub fn key(&self, key: Key, pressed: bool) {
        self.0.machine.key(key, pressed);
    }

    /// Types text as a person with a US keyboard would; characters it lacks are left out.
    pub fn type_text(&self, text: &str) {
        self.0.machine.type_text(text);
    }

    /// Moves the mouse by (dx right, dy down), turns its wheel (down is positive); `buttons` are the
    /// ones held now: bit 0 left, 1 right, 2 middle.
    pub fn mouse(&self, dx: i32, dy: i32, wheel: i32, buttons: u8) {
        self.0.machine.mouse(dx, dy, wheel, buttons);
    }

    /// Sends bytes to the guest's first serial port.
    pub fn send_serial(&self, bytes: &[u8]) {
        self.0.machine.send_serial(bytes);
    }

    /// Sends bytes to the guest's virtio console; gives how many there was room for. 0 without a console.
    pub fn send_console(&self, bytes: &[u8]) -> usize {
        self.0.machine.paravirtual().send_console(bytes)
    }

    /// Tells the guest how large the window around its virtio console is, in characters.
    pub fn resize_console(&self, columns: u16, rows: u16) {
        self.0.machine.paravirtual().resize_console(columns, rows);
    }

    /// Whether the guest hears of its monitor's size: it drives a GPU.
    pub fn takes_size(&self) -> bool {
        self.0.machine.takes_size()
    }

    /// Gives the guest's monitor another size, in pixels.
    pub fn resize_screen(&self, width: u32, height: u32) {
        self.0.machine.resize_screen(width, height);
    }

    /// Whether the guest listens to a pointer with absolute coordinates; without one, [`Session::mouse`].
    pub fn takes_pointer(&self) -> bool {
        self.0.machine.takes_pointer()
    }

    /// The pointer is at (x, y) of the guest's screen, each 0 to 0x7FFF; wheel and buttons as with the mouse.
    pub fn pointer(&self, x: u16, y: u16, wheel: i32, buttons: u8) {
        self.0.machine.point(x, y, wheel, buttons);
    }

    /// Volume, mute, and what the sound lamp shows.
    pub fn sound(&self) -> &Sound {
        self.0.machine.sound()
    }

    /// The guest's memory balloon, if the machine has one.
    pub fn balloon(&self) -> Option<BalloonHandle> {
        self.0.machine.balloon()
    }

    /// The newest frame of the guest's screen.
    pub fn frame(&self) -> Arc<Frame> {
        self.0.machine.screen().frame()
    }

    /// The screen as text, in text modes.
    pub fn screen_text(&self) -> Option<String> {
        self.0.machine.screen().text()
    }

    /// Number of vCPUs.
    pub fn cpus(&self) -> usize {
        self.0.machine.cpus()
    }

    /// The latest sample of a vCPU's registers; a running vCPU leaves one about 30 times a second.
    pub fn registers(&self, cpu: usize) -> Option<Arc<Registers>> {
        self.0.machine.registers(cpu)
    }

    /// The local APIC of a vCPU as it is now; `None` where the host's kernel keeps it.
    pub fn local_apic(&self, cpu: usize) -> Option<LapicView> {
        self.0.machine.local_apic(cpu)
    }

    /// Guest memory, to look at while it runs or stands still.
    pub fn memory(&self) -> &dyn PhysicalMemory {
        self.0.machine.memory()
    }

    /// Replaces the registers of a vCPU of a paused machine. What no processor can hold is refused.
    pub fn set_registers(&self, cpu: usize, registers: Registers) -> Result<(), EditError> {
        registers.check_possible().map_err(EditError::Refused)?;
        self.edit(move |machine| machine.set_registers(cpu, &registers))
    }

    /// Writes guest-physical memory of a paused machine.
    pub fn write_memory(&self, address: u64, bytes: Vec<u8>) -> Result<(), EditError> {
        self.edit(move |machine| {
            // All of it or nothing.
            let mut before = vec![0; bytes.len()];
            if machine.memory().read(address, &mut before) < bytes.len() {
                return Err(format!("{address:#x}: not all of the {} bytes there are memory", bytes.len()));
            }
            machine.memory().dma_write(address, &bytes);
            Ok(())
        })
    }

    /// Has the supervisor act on the machine while it stands still: one that runs is held as long as that lasts, which
    /// is told. `then` says what becomes of it.
    pub(crate) fn while_still<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Machine) -> T + Send + 'static,
        then: impl FnOnce(&T) -> After + Send + 'static,
    ) -> Result<(T, Duration), EditError> {
        let ended = || EditError::Refused("the machine is off".to_owned());
        let (tell, told) = std::sync::mpsc::channel();
        let (tell_pause, pause) = std::sync::mpsc::channel();
        let act = move |machine: &Machine| {
            let done = act(machine);
            let after = then(&done);
            // Nobody waits for the answer of a session that is gone.
            let _ = tell.send(done);
            after
        };
        self.0.supervisor.send(Command::Still(Box::new(act), tell_pause));
        let done = told.recv().map_err(|_| ended())?;
        Ok((done, pause.recv().map_err(|_| ended())?))
    }

    /// The machine behind the session.
    pub(crate) fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// Why a paused machine cannot go on: a full disk of the host. It goes on by itself when there is room.
    pub fn hindrance(&self) -> Option<String> {
        self.0.supervisor.hindrance()
    }

    /// The drives whose media can be changed, with what is in them.
    pub fn drives(&self) -> Vec<Drive> {
        self.0.machine.drives().removable()
    }

    /// Puts an image (or for the CD drive a folder) into `drive`, in place of what was there, while the machine runs
    /// or stands still. The guest sees what a hand at the drive does. On an error nothing has changed.
    pub fn insert(&self, drive: &str, path: &std::path::Path) -> Result<(), EditError> {
        self.0.machine.drives().insert(drive, path).map_err(EditError::Refused)
    }

    /// Takes the medium out of `drive`, also one that the guest has locked.
    pub fn eject(&self, drive: &str) -> Result<(), EditError> {
        self.0.machine.drives().eject(drive).map_err(EditError::Refused)
    }

    /// Has the supervisor change a machine that stands still, in its turn; returns when that is done.
    fn edit(
        &self,
        change: impl FnOnce(&Machine) -> Result<(), String> + Send + 'static,
    ) -> Result<(), EditError> {
        let (tell, told) = std::sync::mpsc::channel();
        let edit = move |machine: &Machine| {
            // Nobody waits for the answer of a session that is gone.
            let _ = tell.send(change(machine));
        };
        self.0.supervisor.send(Command::Edit(Box::new(edit)));
        match told.recv() {
            Ok(done) => done.map_err(EditError::Refused),
            Err(_) => Err(EditError::NotPaused),
        }
    }

    /// Its part of the host's processors.
    pub fn allotment(&self) -> Allotment {
        self.0.machine.allotment()
    }

    /// Changes its part of the host's processors, at once.
    pub fn allot(&self, allotment: Allotment) -> Result<(), GrantError> {
        Resources::global().set_allotment(self.seated()?, allotment)
    }

    /// Its number in the host's ledger ([`Resources`]), while it runs.
    pub fn id(&self) -> Option<MachineId> {
        self.0.machine.id()
    }

    fn seated(&self) -> Result<MachineId, GrantError> {
        self.id().ok_or(GrantError::Unknown)
    }

    /// What it may take of the host's disks and network at most.
    pub fn throttles(&self) -> Throttles {
        let grant = self.id().and_then(|id| Resources::global().grant(id));
        grant.map_or(self.profile().throttles, |grant| grant.throttles)
    }

    /// Changes that, at once.
    pub fn throttle(&self, throttles: Throttles) -> Result<(), GrantError> {
        Resources::global().set_throttles(self.seated()?, throttles)
    }

    /// What becomes of timer ticks that could not be told one by one.
    pub fn lost_ticks(&self) -> LostTicks {
        self.0.machine.lost_ticks()
    }

    /// Changes that, at once. A deterministic machine merges.
    pub fn set_lost_ticks(&self, policy: LostTicks) -> Result<(), EditError> {
        if policy == LostTicks::Replay && self.profile().deterministic.is_some() {
            return Err(EditError::Refused("a deterministic machine merges lost ticks".to_owned()));
        }
        self.0.machine.set_lost_ticks(policy);
        Ok(())
    }

    /// Guest seconds per host second.
    pub fn time_rate(&self) -> f64 {
        self.0.machine.time_rate()
    }

    /// Makes guest time run slower or faster, within [`TIME_RATES`].
    pub fn set_time_rate(&self, rate: f64) -> Result<(), EditError> {
        if !TIME_RATES.contains(&rate) {
            let (least, most) = (TIME_RATES.start(), TIME_RATES.end());
            return Err(EditError::Refused(format!("time runs at {least} to {most} times, not {rate}")));
        }
        self.0.machine.set_time_rate(rate);
        Ok(())
    }

    /// Plugs the network cable in or out; without a card nothing happens.
    pub fn set_cable(&self, plugged: bool) {
        if let Some(network) = self.0.machine.network() {
            network.set_plugged(plugged);
        }
    }

    /// What the network's line is like; `None` without a card.
    pub fn line(&self) -> Option<Conditions> {
        self.0.machine.network().map(|network| network.conditions())
    }

    /// Makes the network's line slow, bad, or perfect; without a card nothing happens.
    pub fn set_line(&self, conditions: Conditions) {
        if let Some(network) = self.0.machine.network() {
            network.set_conditions(conditions);
        }
    }

    /// Captures what passes over the network's cable, or ends that.
    pub fn set_capture(&self, capture: Option<Capture>) {
        if let Some(network) = self.0.machine.network() {
            network.set_capture(capture);
        }
    }

    /// What it does at its edges, once [`Session::set_trace`] is on.
    pub fn trace(&self) -> Arc<Trace> {
        self.0.machine.trace().clone()
    }

    /// The latest timer edges from number `from` on, and the number to ask from next.
    pub fn edges_since(&self, from: u64) -> (Vec<Edge>, u64) {
        self.0.machine.edges_since(from)
    }

    /// How late each device with an alarm was called: its name, and a histogram of (largest lateness in guest
    /// nanoseconds, deadlines).
    pub fn lateness_histograms(&self) -> Vec<(String, Vec<(u64, u64)>)> {
        self.0.machine.lateness_histograms()
    }

    /// What its vCPUs are to the scheduler's log of slices.
    pub fn entity_ids(&self) -> Vec<u64> {
        self.0.machine.entity_ids()
    }

    /// The last device accesses of a vCPU, oldest first: as an instruction, and in words.
    pub fn recent_accesses(&self, cpu: usize) -> Vec<Told> {
        self.0.machine.recent_accesses(cpu)
    }

    /// Switches the trace on or off; it is off at first.
    pub fn set_trace(&self, on: bool) {
        self.0.machine.set_trace(on);
    }

    /// Counters and times so far.
    pub fn stats(&self) -> Stats {
        self.0.machine.stats()
    }
}
