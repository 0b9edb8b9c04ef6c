//! A machine that is only pretended: tests set what it shows and read what was done to it.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cpu::{FaultRecord, Registers};
use display::Frame;
use display::sound::{Mixer, Output, SoundStatus};
use engine::inspect::PhysicalMemory;
use engine::inspect::diagnosis::Diagnosis;
use engine::machine::{Edge, Told};
use engine::profile::{LostTicks, Profile};
use engine::resources::{BalloonReading, Holder, MachineId, Reading, Resources, Seat, Throttles};
use engine::scheduler::Allotment;
use engine::session::{Crash, EditError, Ending, Event, RunState};
use engine::stats::Stats;
use engine::trace::Trace;
use hardware::bus::WindowCount;
use hardware::input::Key;
use hardware::{Clock, Space};

use super::Running;

/// Something that was done to a [`Fake`].
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// [`Running::pause`].
    Pause,
    /// [`Running::resume`].
    Resume,
    /// [`Running::reset`].
    Reset,
    /// [`Running::power_off`].
    PowerOff,
    /// [`Running::press_power_button`].
    PowerButton,
    /// [`Running::key`].
    Key(Key, bool),
    /// [`Running::type_text`].
    Type(String),
    /// [`Running::mouse`].
    Mouse(i32, i32, i32, u8),
    /// [`Running::resize_screen`].
    Resize(u32, u32),
    /// [`Running::pointer`].
    Pointer(u16, u16, i32, u8),
    /// [`Running::send_serial`].
    Serial(Vec<u8>),
}

fn window(device: &str) -> WindowCount {
    WindowCount {
        device: device.to_owned(),
        number: 0,
        space: Space::Port,
        base: None,
        length: 8,
        reads: 0,
        writes: 0,
        read_ns: 0,
        write_ns: 0,
    }
}

/// The pretended machine.
pub struct Fake {
    profile: Profile,
    trace: Arc<Trace>,
    mixer: Arc<Mixer>,
    seat: OnceLock<Seat>,
    inner: Mutex<Inner>,
}

struct Inner {
    state: RunState,
    deeds: Vec<Deed>,
    screen: Option<String>,
    frame: Arc<Frame>,
    registers: Arc<Registers>,
    memory: Vec<u8>,
    allotment: Allotment,
    stats: Stats,
    edges: Vec<Edge>,
    time_rate: f64,
    throttles: Throttles,
    lost_ticks: LostTicks,
    balloon_bytes: u64,
    takes_pointer: bool,
    takes_size: bool,
}

impl Inner {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        let at = address as usize;
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Fake {
    /// A machine that runs and shows nothing yet.
    pub fn new(name: &str) -> Arc<Fake> {
        let inner = Inner {
            state: RunState::Running,
            deeds: Vec::new(),
            screen: None,
            frame: Arc::default(),
            registers: Arc::new(Registers::reset()),
            memory: vec![0; 1 << 16],
            allotment: Allotment::default(),
            stats: Stats::default(),
            edges: Vec::new(),
            time_rate: 1.0,
            throttles: Throttles::default(),
            lost_ticks: LostTicks::default(),
            balloon_bytes: 0,
            takes_pointer: false,
            takes_size: false,
        };
        let trace = Trace::new(Clock::manual(), &[window("8254"), window("com1")], Vec::new());
        let mixer = Mixer::new(Output::none());
        mixer.source("speaker");
        let seat = OnceLock::new();
        Arc::new(Fake { profile: Profile::new(name), trace, mixer, seat, inner: Mutex::new(inner) })
    }

    /// Takes a seat in the host's ledger; its guest gives and takes memory at once.
    pub fn sit(self: &Arc<Fake>) {
        let seat =
            Resources::global().seat(&self.profile).expect("the host has room for a pretended machine");
        let holder = Arc::downgrade(self);
        seat.sit(holder);
        assert!(self.seat.set(seat).is_ok(), "it sits once");
    }

    /// What its balloon holds, in bytes.
    pub fn balloon_bytes(&self) -> u64 {
        self.with(|inner| inner.balloon_bytes)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap())
    }

    /// Sets the text screen.
    pub fn set_screen(&self, text: &str) {
        self.with(|inner| inner.screen = Some(text.to_owned()));
    }

    /// The guest listens to the pointer, or no more.
    pub fn set_takes_pointer(&self, takes: bool) {
        self.with(|inner| inner.takes_pointer = takes);
    }

    /// The guest drives a GPU, or no more.
    pub fn set_takes_size(&self, takes: bool) {
        self.with(|inner| inner.takes_size = takes);
    }

    /// Sets the picture: all pixels of one colour.
    pub fn set_frame(&self, width: u32, height: u32, colour: u32) {
        self.with(|inner| {
            let serial = inner.frame.serial + 1;
            let pixels = vec![colour; (width * height) as usize];
            inner.frame = Arc::new(Frame { width, height, pixels, serial });
        });
    }

    /// Changes registers.
    pub fn set_registers(&self, change: impl FnOnce(&mut Registers)) {
        self.with(|inner| change(Arc::make_mut(&mut inner.registers)));
    }

    /// Sets the counters.
    pub fn set_stats(&self, stats: Stats) {
        self.with(|inner| inner.stats = stats);
    }

    /// Adds timer edges.
    pub fn add_edges(&self, edges: &[Edge]) {
        self.with(|inner| inner.edges.extend_from_slice(edges));
    }

    /// Sets bytes of memory.
    pub fn set_memory(&self, address: u64, bytes: &[u8]) {
        self.with(|inner| inner.put(address, bytes));
    }

    fn when_paused(&self, change: impl FnOnce(&mut Inner)) -> Result<(), String> {
        match self.state() {
            RunState::Paused => {
                self.with(change);
                Ok(())
            }
            RunState::Running | RunState::Ended(_) => Err(EditError::NotPaused.to_string()),
        }
    }

    /// Sets the state.
    pub fn set_state(&self, state: RunState) {
        self.with(|inner| inner.state = state);
    }

    /// All that was done so far.
    pub fn deeds(&self) -> Vec<Deed> {
        self.with(|inner| inner.deeds.clone())
    }

    fn did(&self, deed: Deed) {
        self.with(|inner| inner.deeds.push(deed));
    }

    /// A crash to show.
    pub fn crash() -> Crash {
        let mut registers = Registers::reset();
        registers.rip = 0x1_2345;
        let fault = |vector, error_code| FaultRecord {
            vector,
            error_code,
            address: None,
            registers: Some(Box::new(registers.clone())),
        };
        Crash {
            cpu: 0,
            faults: vec![fault(13, Some(0x10)), fault(8, Some(0))],
            registers: registers.clone(),
            code: vec![0x0F, 0x0B],
            instruction: "ud2".to_owned(),
            diagnosis: Diagnosis {
                sentence: "ud2 cannot be used. It had no handler: there is no IDT.".to_owned(),
                ..Diagnosis::default()
            },
            accesses: Vec::new(),
        }
    }
}

impl Running for Fake {
    fn profile(&self) -> &Profile {
        &self.profile
    }
    fn backend_note(&self) -> String {
        "soft: a pretended machine".to_owned()
    }
    fn state(&self) -> RunState {
        self.with(|inner| inner.state.clone())
    }
    fn wait(&self, _timeout: Duration) -> Option<Ending> {
        match self.state() {
            RunState::Ended(ending) => Some(ending),
            RunState::Running | RunState::Paused => None,
        }
    }
    fn events(&self) -> Vec<Event> {
        Vec::new()
    }
    fn pause(&self) {
        self.did(Deed::Pause);
        self.set_state(RunState::Paused);
    }
    fn resume(&self) {
        self.did(Deed::Resume);
        self.set_state(RunState::Running);
    }
    fn reset(&self) {
        self.did(Deed::Reset);
    }
    fn power_off(&self) {
        self.did(Deed::PowerOff);
        self.set_state(RunState::Ended(Ending::PoweredOff));
    }
    fn press_power_button(&self) {
        self.did(Deed::PowerButton);
    }
    fn key(&self, key: Key, pressed: bool) {
        self.did(Deed::Key(key, pressed));
    }
    fn type_text(&self, text: &str) {
        self.did(Deed::Type(text.to_owned()));
    }
    fn mouse(&self, dx: i32, dy: i32, wheel: i32, buttons: u8) {
        self.did(Deed::Mouse(dx, dy, wheel, buttons));
    }
    fn takes_size(&self) -> bool {
        self.with(|inner| inner.takes_size)
    }
    fn resize_screen(&self, width: u32, height: u32) {
        self.did(Deed::Resize(width, height));
    }
    fn takes_pointer(&self) -> bool {
        self.with(|inner| inner.takes_pointer)
    }
    fn pointer(&self, x: u16, y: u16, wheel: i32, buttons: u8) {
        self.did(Deed::Pointer(x, y, wheel, buttons));
    }
    fn send_serial(&self, bytes: &[u8]) {
        self.did(Deed::Serial(bytes.to_vec()));
    }
    fn frame(&self) -> Arc<Frame> {
        self.with(|inner| inner.frame.clone())
    }
    fn screen_text(&self) -> Option<String> {
        self.with(|inner| inner.screen.clone())
    }
    fn cpus(&self) -> usize {
        self.profile.cpus as usize
    }
    fn registers(&self, _cpu: usize) -> Option<Arc<Registers>> {
        Some(self.with(|inner| inner.registers.clone()))
    }
    fn memory(&self) -> &dyn PhysicalMemory {
        self
    }
    fn set_registers(&self, _cpu: usize, registers: Registers) -> Result<(), String> {
        self.when_paused(|inner| inner.registers = Arc::new(registers))
    }
    fn write_memory(&self, address: u64, bytes: Vec<u8>) -> Result<(), String> {
        self.when_paused(|inner| inner.put(address, &bytes))
    }
    fn allotment(&self) -> Allotment {
        self.with(|inner| inner.allotment)
    }
    fn allot(&self, allotment: Allotment) -> Result<(), String> {
        match self.id() {
            Some(id) => Resources::global().set_allotment(id, allotment).map_err(|error| error.to_string()),
            None => {
                self.set_allotment(allotment);
                Ok(())
            }
        }
    }
    fn id(&self) -> Option<MachineId> {
        self.seat.get().map(Seat::id)
    }
    fn throttles(&self) -> Throttles {
        self.with(|inner| inner.throttles)
    }
    fn throttle(&self, throttles: Throttles) -> Result<(), String> {
        match self.id() {
            Some(id) => Resources::global().set_throttles(id, throttles).map_err(|error| error.to_string()),
            None => {
                self.set_throttles(throttles);
                Ok(())
            }
        }
    }
    fn lost_ticks(&self) -> LostTicks {
        self.with(|inner| inner.lost_ticks)
    }
    fn set_lost_ticks(&self, policy: LostTicks) -> Result<(), String> {
        self.with(|inner| inner.lost_ticks = policy);
        Ok(())
    }
    fn time_rate(&self) -> f64 {
        self.with(|inner| inner.time_rate)
    }
    fn set_time_rate(&self, rate: f64) -> Result<(), String> {
        self.with(|inner| inner.time_rate = rate);
        Ok(())
    }
    fn trace(&self) -> Arc<Trace> {
        self.trace.clone()
    }
    fn recent_accesses(&self, _cpu: usize) -> Vec<Told> {
        Vec::new()
    }
    fn edges_since(&self, from: u64) -> (Vec<Edge>, u64) {
        let edges = self.with(|inner| inner.edges.clone());
        (edges.iter().skip(from as usize).copied().collect(), edges.len() as u64)
    }
    fn lateness_histograms(&self) -> Vec<(String, Vec<(u64, u64)>)> {
        vec![("8254".to_owned(), vec![(20_000, 900), (50_000, 95), (2_000_000, 5)])]
    }
    fn entity_ids(&self) -> Vec<u64> {
        Vec::new()
    }
    fn set_trace(&self, on: bool) {
        self.trace.switch(on);
    }
    fn sound(&self) -> SoundStatus {
        self.mixer.status()
    }
    fn set_volume(&self, source: Option<&str>, volume: f32) -> bool {
        self.mixer.set_volume(source, volume)
    }
    fn set_muted(&self, source: Option<&str>, muted: bool) -> bool {
        self.mixer.set_muted(source, muted)
    }
    fn stats(&self) -> Stats {
        self.with(|inner| inner.stats.clone())
    }
}

impl Holder for Fake {
    fn reading(&self) -> Reading {
        let bytes = self.balloon_bytes();
        let balloon = BalloonReading {
            is_driven: true,
            target_bytes: bytes,
            actual_bytes: bytes,
            ..BalloonReading::default()
        };
        Reading { is_running: true, balloon: Some(balloon), spent_bytes: 96 << 20, ..Reading::default() }
    }
    fn ask_statistics(&self) {}
    fn set_balloon_target(&self, bytes: u64) {
        self.with(|inner| inner.balloon_bytes = bytes);
    }
    fn set_allotment(&self, allotment: Allotment) {
        self.with(|inner| inner.allotment = allotment);
    }
    fn set_throttles(&self, throttles: Throttles) {
        self.with(|inner| inner.throttles = throttles);
    }
}

impl PhysicalMemory for Fake {
    fn read(&self, address: u64, bytes: &mut [u8]) -> usize {
        self.with(|inner| {
            let there = inner.memory.get(address as usize..).unwrap_or_default();
            let count = there.len().min(bytes.len());
            bytes[..count].copy_from_slice(&there[..count]);
            count
        })
    }
    fn host_address(&self, _address: u64) -> Option<u64> {
        None
    }
}
