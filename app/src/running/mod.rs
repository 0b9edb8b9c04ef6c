//! What the command line and the pages need of a machine that runs. One trait, so that both can be
//! tested with a machine that is only pretended.

#[cfg(test)]
pub mod fake;
pub mod launch;

use std::sync::Arc;
use std::time::Duration;

use cpu::Registers;
use display::Frame;
use engine::inspect::PhysicalMemory;
use engine::machine::{Edge, Told};
use engine::profile::{LostTicks, Profile};
use engine::resources::{MachineId, Throttles};
use engine::scheduler::Allotment;
use engine::session::{Ending, Event, Outlets, RunState, Session};
use engine::sound::SoundStatus;
use engine::stats::Stats;
use engine::trace::Trace;
use hardware::input::Key;

use launch::Beginning;

/// A machine that runs, or has run.
pub trait Running: Send + Sync {
    /// The profile it was started from.
    fn profile(&self) -> &Profile;
    /// Which backend runs it, and why.
    fn backend_note(&self) -> String;
    /// What it is doing.
    fn state(&self) -> RunState;
    /// Waits until it has ended, at most `timeout`.
    fn wait(&self, timeout: Duration) -> Option<Ending>;
    /// What happened since the last call.
    fn events(&self) -> Vec<Event>;
    /// Stops its time.
    fn pause(&self);
    /// Lets its time go on.
    fn resume(&self);
    /// The reset button.
    fn reset(&self);
    /// Pulls the plug.
    fn power_off(&self);
    /// The power button.
    fn press_power_button(&self);
    /// Presses or releases a key.
    fn key(&self, key: Key, pressed: bool);
    /// Types on a US keyboard.
    fn type_text(&self, text: &str);
    /// Moves the mouse; `buttons`: bit 0 left, 1 right, 2 middle.
    fn mouse(&self, dx: i32, dy: i32, wheel: i32, buttons: u8);
    /// Whether the guest hears of its monitor's size.
    fn takes_size(&self) -> bool;
    /// Gives the guest's monitor another size, in pixels.
    fn resize_screen(&self, width: u32, height: u32);
    /// Whether the guest listens to a pointer with absolute coordinates.
    fn takes_pointer(&self) -> bool;
    /// The pointer is at (x, y) of the guest's screen, each 0 to 0x7FFF; wheel and buttons as with the mouse.
    fn pointer(&self, x: u16, y: u16, wheel: i32, buttons: u8);
    /// Sends bytes to the first serial port.
    fn send_serial(&self, bytes: &[u8]);
    /// The newest frame.
    fn frame(&self) -> Arc<Frame>;
    /// The screen as text, in text modes.
    fn screen_text(&self) -> Option<String>;
    /// Number of vCPUs.
    fn cpus(&self) -> usize;
    /// The latest sample of a vCPU's registers.
    fn registers(&self, cpu: usize) -> Option<Arc<Registers>>;
    /// Guest memory, to look at.
    fn memory(&self) -> &dyn PhysicalMemory;
    /// Replaces the registers of a vCPU of a paused machine.
    fn set_registers(&self, cpu: usize, registers: Registers) -> Result<(), String>;
    /// Writes guest-physical memory of a paused machine.
    fn write_memory(&self, address: u64, bytes: Vec<u8>) -> Result<(), String>;
    /// Its part of the host's processors.
    fn allotment(&self) -> Allotment;
    /// Changes its part of the host's processors, at once.
    fn allot(&self, allotment: Allotment) -> Result<(), String>;
    /// Its number in the host's ledger, while it runs.
    fn id(&self) -> Option<MachineId>;
    /// What it may take of disks and network at most.
    fn throttles(&self) -> Throttles;
    /// Changes that, at once.
    fn throttle(&self, throttles: Throttles) -> Result<(), String>;
    /// What becomes of timer ticks that could not be told one by one.
    fn lost_ticks(&self) -> LostTicks;
    /// Changes that, at once.
    fn set_lost_ticks(&self, policy: LostTicks) -> Result<(), String>;
    /// Guest seconds per host second.
    fn time_rate(&self) -> f64;
    /// Makes guest time run slower or faster.
    fn set_time_rate(&self, rate: f64) -> Result<(), String>;
    /// What it does at its edges, once that is on.
    fn trace(&self) -> Arc<Trace>;
    /// The last device accesses of a vCPU, oldest first.
    fn recent_accesses(&self, cpu: usize) -> Vec<Told>;
    /// The latest timer edges from number `from` on, and the number to ask from next.
    fn edges_since(&self, from: u64) -> (Vec<Edge>, u64);
    /// How late each device with an alarm was called: (largest lateness in nanoseconds, deadlines) of each bucket.
    fn lateness_histograms(&self) -> Vec<(String, Vec<(u64, u64)>)>;
    /// What its vCPUs are to the scheduler's log of slices.
    fn entity_ids(&self) -> Vec<u64>;
    /// Switches the trace on or off.
    fn set_trace(&self, on: bool);
    /// Whether it can be heard, and how loud it is.
    fn sound(&self) -> SoundStatus;
    /// Sets the volume, 0 to 1, of a source, or of the whole machine; says whether there is such a source.
    fn set_volume(&self, source: Option<&str>, volume: f32) -> bool;
    /// Mutes or unmutes a source, or the whole machine; says whether there is such a source.
    fn set_muted(&self, source: Option<&str>, muted: bool) -> bool;
    /// Counters and times so far.
    fn stats(&self) -> Stats;
    /// The engine's session, for what only a real machine has: debugging, saved states, drives, cables. A pretended one
    /// has none.
    fn session(&self) -> Option<&Session> {
        None
    }
}

/// Starts machines: the engine, or a test's pretence.
pub type Starter =
    Arc<dyn Fn(&Profile, &Beginning, Outlets) -> Result<Arc<dyn Running>, String> + Send + Sync>;

/// The starter that starts real machines.
pub fn engine_starter() -> Starter {
    Arc::new(launch::launch)
}

impl Running for Session {
    fn profile(&self) -> &Profile {
        Session::profile(self)
    }
    fn backend_note(&self) -> String {
        Session::backend_note(self).to_owned()
    }
    fn state(&self) -> RunState {
        Session::state(self)
    }
    fn wait(&self, timeout: Duration) -> Option<Ending> {
        Session::wait(self, timeout)
    }
    fn events(&self) -> Vec<Event> {
        Session::events(self)
    }
    fn pause(&self) {
        Session::pause(self);
    }
    fn resume(&self) {
        Session::resume(self);
    }
    fn reset(&self) {
        Session::reset(self);
    }
    fn power_off(&self) {
        Session::power_off(self);
    }
    fn press_power_button(&self) {
        Session::press_power_button(self);
    }
    fn key(&self, key: Key, pressed: bool) {
        Session::key(self, key, pressed);
    }
    fn type_text(&self, text: &str) {
        Session::type_text(self, text);
    }
    fn mouse(&self, dx: i32, dy: i32, wheel: i32, buttons: u8) {
        Session::mouse(self, dx, dy, wheel, buttons);
    }
    fn takes_size(&self) -> bool {
        Session::takes_size(self)
    }
    fn resize_screen(&self, width: u32, height: u32) {
        Session::resize_screen(self, width, height);
    }
    fn takes_pointer(&self) -> bool {
        Session::takes_pointer(self)
    }
    fn pointer(&self, x: u16, y: u16, wheel: i32, buttons: u8) {
        Session::pointer(self, x, y, wheel, buttons);
    }
    fn send_serial(&self, bytes: &[u8]) {
        Session::send_serial(self, bytes);
    }
    fn frame(&self) -> Arc<Frame> {
        Session::frame(self)
    }
    fn screen_text(&self) -> Option<String> {
        Session::screen_text(self)
    }
    fn cpus(&self) -> usize {
        Session::cpus(self)
    }
    fn registers(&self, cpu: usize) -> Option<Arc<Registers>> {
        Session::registers(self, cpu)
    }
    fn memory(&self) -> &dyn PhysicalMemory {
        Session::memory(self)
    }
    fn set_registers(&self, cpu: usize, registers: Registers) -> Result<(), String> {
        Session::set_registers(self, cpu, registers).map_err(|error| error.to_string())
    }
    fn write_memory(&self, address: u64, bytes: Vec<u8>) -> Result<(), String> {
        Session::write_memory(self, address, bytes).map_err(|error| error.to_string())
    }
    fn allotment(&self) -> Allotment {
        Session::allotment(self)
    }
    fn allot(&self, allotment: Allotment) -> Result<(), String> {
        Session::allot(self, allotment).map_err(|error| error.to_string())
    }
    fn id(&self) -> Option<MachineId> {
        Session::id(self)
    }
    fn throttles(&self) -> Throttles {
        Session::throttles(self)
    }
    fn throttle(&self, throttles: Throttles) -> Result<(), String> {
        Session::throttle(self, throttles).map_err(|error| error.to_string())
    }
    fn lost_ticks(&self) -> LostTicks {
        Session::lost_ticks(self)
    }
    fn set_lost_ticks(&self, policy: LostTicks) -> Result<(), String> {
        Session::set_lost_ticks(self, policy).map_err(|error| error.to_string())
    }
    fn time_rate(&self) -> f64 {
        Session::time_rate(self)
    }
    fn set_time_rate(&self, rate: f64) -> Result<(), String> {
        Session::set_time_rate(self, rate).map_err(|error| error.to_string())
    }
    fn trace(&self) -> Arc<Trace> {
        Session::trace(self)
    }
    fn recent_accesses(&self, cpu: usize) -> Vec<Told> {
        Session::recent_accesses(self, cpu)
    }
    fn edges_since(&self, from: u64) -> (Vec<Edge>, u64) {
        Session::edges_since(self, from)
    }
    fn lateness_histograms(&self) -> Vec<(String, Vec<(u64, u64)>)> {
        Session::lateness_histograms(self)
    }
    fn entity_ids(&self) -> Vec<u64> {
        Session::entity_ids(self)
    }
    fn set_trace(&self, on: bool) {
        Session::set_trace(self, on);
    }
    fn sound(&self) -> SoundStatus {
        Session::sound(self).status()
    }
    fn set_volume(&self, source: Option<&str>, volume: f32) -> bool {
        Session::sound(self).set_volume(source, volume)
    }
    fn set_muted(&self, source: Option<&str>, muted: bool) -> bool {
        Session::sound(self).set_muted(source, muted)
    }
    fn stats(&self) -> Stats {
        Session::stats(self)
    }
    fn session(&self) -> Option<&Session> {
        Some(self)
    }
}
