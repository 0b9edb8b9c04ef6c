//! Debugging by a session: conditions to stop at, steps, and why the machine stands still.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cpu::Registers;

use super::past::Way;
use super::supervisor::{After, Command, Travel};
use super::{EditError, Session, WeakSession};
use crate::debugger::gdb::{Description, GdbServer};
use crate::debugger::{Condition, Goal, HistoryLimits, MOST_CONDITIONS, StopCondition, Stopped};
use crate::inspect::symbols::Symbols;
use crate::machine::Machine;

/// Moments kept by name.
const MOST_KEPT: usize = 64;

/// What the other vCPUs do while one makes steps. In a deterministic machine they always take their turns: their
/// order is part of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// They stand still.
    #[default]
    Stand,
    /// They go on.
    GoOn,
}

impl Session {
    /// Adds something to stop at, once it was met `ignore` times; gives its id. The machine may run.
    pub fn add_condition(&self, condition: Condition, ignore: u64) -> Result<u32, EditError> {
        self.arrange(move |machine| {
            if let Some(reason) = machine.refusal(&condition) {
                return Err(reason);
            }
            let id = machine.lookout().new_id();
            let id = id.ok_or_else(|| format!("a machine has at most {MOST_CONDITIONS} conditions"))?;
            let mut all = machine.lookout().list();
            all.push(StopCondition { id, condition, enabled: true, hits: 0, ignore });
            machine.set_conditions(all).map(|()| id)
        })
    }

    /// Removes a condition; `None`: all of them.
    pub fn remove_condition(&self, id: Option<u32>) -> Result<(), EditError> {
        self.change_conditions(id, |all, id| all.retain(|set| id.is_some_and(|id| set.id != id)))
    }

    /// Turns a condition on or off; `None`: all of them.
    pub fn enable_condition(&self, id: Option<u32>, enabled: bool) -> Result<(), EditError> {
        self.change_conditions(id, move |all, id| {
            let chosen = all.iter_mut().filter(|set| id.is_none_or(|id| set.id == id));
            chosen.for_each(|set| set.enabled = enabled);
        })
    }

    /// A condition is to be met so many times more before the machine stops.
    pub fn ignore_condition(&self, id: u32, ignore: u64) -> Result<(), EditError> {
        self.change_conditions(Some(id), move |all, id| {
            all.iter_mut().filter(|set| Some(set.id) == id).for_each(|set| set.ignore = ignore);
        })
    }

    fn change_conditions(
        &self,
        id: Option<u32>,
        change: impl FnOnce(&mut Vec<StopCondition>, Option<u32>) + Send + 'static,
    ) -> Result<(), EditError> {
        self.arrange(move |machine| {
            let mut all = machine.lookout().list();
            if let Some(id) = id.filter(|id| all.iter().all(|set| set.id != *id)) {
                return Err(format!("there is no condition {id}"));
            }
            change(&mut all, id);
            machine.set_conditions(all)
        })
    }

    /// All conditions, with how often each was met.
    pub fn conditions(&self) -> Vec<StopCondition> {
        self.0.machine.lookout().list()
    }

    /// Lets a vCPU of a paused machine go as far as `goal` says; the machine pauses there. Returns at once:
    /// [`Session::wait_stop`] tells when it is there, unless something else stops it on the way.
    pub fn go(&self, cpu: usize, goal: Goal, others: Others) -> Result<(), EditError> {
        self.travel(Travel::Forward { cpu, goal, others_stand: others == Others::Stand })
    }

    /// Takes a paused machine back, and returns when it is there: it stands as it stood then, to the last register.
    /// Going on from there comes to the same present again, unless something else comes in from outside.
    pub fn go_back(&self, way: Way) -> Result<(), EditError> {
        self.travel(Travel::Back(way))
    }

    /// Keeps the past of a deterministic machine from here on, or does not.
    pub fn keep_history(&self, limits: Option<HistoryLimits>) -> Result<(), EditError> {
        let (tell, told) = std::sync::mpsc::channel();
        self.0.supervisor.send(Command::KeepPast(limits, tell));
        told.recv().unwrap_or_else(|_| Err(EditError::Refused("the machine is off".to_owned())))
    }

    /// Whether the past is kept, so that one can go back.
    pub fn keeps_history(&self) -> bool {
        self.0.supervisor.keeps_past()
    }

    /// Serves gdb at `address` (port 0: any that is free), in place of a server there was; where it listens.
    pub fn start_gdb(&self, address: SocketAddr, description: Description) -> std::io::Result<SocketAddr> {
        let mut slot = self.0.gdb.lock();
        *slot = None;
        let server = GdbServer::start(self, address, description)?;
        let address = server.address();
        *slot = Some(server);
        Ok(address)
    }

    /// Serves gdb no more; whether it was served.
    pub fn stop_gdb(&self) -> bool {
        self.0.gdb.lock().take().is_some()
    }

    /// A handle that does not keep the machine running.
    pub fn downgrade(&self) -> WeakSession {
        WeakSession(Arc::downgrade(&self.0))
    }

    /// Names of addresses.
    pub fn symbols(&self) -> Arc<Symbols> {
        self.0.symbols.lock().clone()
    }

    /// From now on addresses have these names.
    pub fn set_symbols(&self, symbols: Symbols) {
        *self.0.symbols.lock() = Arc::new(symbols);
    }

    /// Keeps the latest registers of all vCPUs under a name, in place of those kept under it before.
    pub fn keep_registers(&self, name: &str) -> Result<(), String> {
        let mut kept = self.0.kept.lock();
        if kept.len() >= MOST_KEPT && !kept.contains_key(name) {
            return Err(format!("{MOST_KEPT} moments are kept already"));
        }
        let of_cpu = |cpu| self.registers(cpu).map(|registers| (*registers).clone());
        let all: Option<Vec<Registers>> = (0..self.cpus()).map(of_cpu).collect();
        kept.insert(name.to_owned(), all.ok_or("not all CPUs have run yet")?);
        Ok(())
    }

    /// Registers of all vCPUs that were kept under a name.
    pub fn kept_registers(&self, name: &str) -> Option<Vec<Registers>> {
        self.0.kept.lock().get(name).cloned()
    }

    fn travel(&self, travel: Travel) -> Result<(), EditError> {
        let (tell, told) = std::sync::mpsc::channel();
        self.0.supervisor.send(Command::Travel(travel, tell));
        told.recv().unwrap_or(Err(EditError::NotPaused))
    }

    /// Why the machine stands still; nothing if it was paused by hand, or runs.
    pub fn last_stop(&self) -> Option<Stopped> {
        self.0.supervisor.last_stop()
    }

    /// Waits until the machine stands still, at most `timeout`; then why, as [`Session::last_stop`] does.
    pub fn wait_stop(&self, timeout: Duration) -> Option<Stopped> {
        self.0.supervisor.wait_stop(timeout)
    }

    /// Has the supervisor change a machine in its turn, held for the moment if it runs; returns when that is done.
    fn arrange<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Machine) -> Result<T, String> + Send + 'static,
    ) -> Result<T, EditError> {
        let (done, _) = self.while_still(change, |_| After::GoOn)?;
        done.map_err(EditError::Refused)
    }
}
