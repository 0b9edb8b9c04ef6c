//! A moment of a deterministic machine to run again from, many of which share what did not change; and what going
//! back needs besides.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hardware::pages::Pages;

use super::Machine;
use super::turns::Position;
use super::virtual_cpu::CpuState;
use crate::session::ByteOutlet;

/// The state at one step.
#[derive(Clone, Debug)]
pub struct Moment {
    position: Position,
    cpus: Vec<CpuState>,
    devices: Vec<(String, Vec<u8>)>,
    memory: Pages,
}

impl Moment {
    /// The step.
    pub fn steps(&self) -> u64 {
        self.position.steps
    }

    /// Memory it takes besides pages that were seen already, in bytes.
    pub fn unseen_bytes(&self, seen: &mut HashSet<usize>) -> u64 {
        let devices: usize = self.devices.iter().map(|(_, state)| state.len()).sum();
        devices as u64 + self.memory.unseen_bytes(seen)
    }
}

impl Machine {
    /// Whether it can go back, or why not.
    pub fn can_go_back(&self) -> Result<(), String> {
        let turns = self
            .turns
            .as_ref()
            .ok_or("only a deterministic machine can go back: run with --deterministic")?;
        if turns.has_pulse() {
            return Err("a machine that plays a script cannot go back: the script would not".to_owned());
        }
        if !self.profile.disks.is_empty() || self.profile.floppy.is_some() {
            return Err("what is written to disks cannot be taken back; take the disks out".to_owned());
        }
        Ok(())
    }

    /// Translations are forgotten every so many steps (`None`: as in every deterministic machine).
    pub fn set_epoch(&self, steps: Option<u64>) {
        if let Some(turns) = &self.turns {
            turns.set_epoch(steps);
        }
    }

    /// The state here, sharing pages with an earlier one. Only while held.
    pub fn moment(&self, earlier: Option<&Moment>) -> Result<Moment, String> {
        let turns = self.turns.as_ref().ok_or("only a deterministic machine has a past")?;
        turns.forget_translations();
        let cpus = self.cpus.iter().map(|cpu| cpu.state().map_err(|error| error.to_string()));
        let none = Pages::default();
        Ok(Moment {
            position: turns.position(),
            cpus: cpus.collect::<Result<_, _>>()?,
            devices: self.board.save(),
            memory: self.memory.pages_since(earlier.map_or(&none, |earlier| &earlier.memory)),
        })
    }

    /// Becomes an earlier state; all that came from outside since then is to come again. Only while held.
    pub fn go_back_to(&self, moment: &Moment) -> Result<(), String> {
        let turns = self.turns.as_ref().ok_or("only a deterministic machine has a past")?;
        let mut position = moment.position.clone();
        position.inbox.expect(&turns.position().inbox);
        turns.set_position(position); // devices look at the time as they load
        self.memory.set_pages(&moment.memory);
        let devices = moment.devices.iter().map(|(_, state)| state.as_slice());
        self.board.load(devices).map_err(|error| error.to_string())?;
        for (cpu, state) in self.cpus.iter().zip(&moment.cpus) {
            cpu.set_state(state).map_err(|error| error.to_string())?;
        }
        self.lookout.forget_ticks();
        Ok(())
    }

    /// The vCPU whose turn it is, in a deterministic machine.
    pub fn turn(&self) -> Option<usize> {
        self.turns.as_ref().map(|turns| turns.position().cpu())
    }

    /// What the guest sends out was sent before, and is not sent again.
    pub fn be_quiet(&self, quiet: bool) {
        self.quiet.store(quiet, Ordering::Relaxed);
    }
}

/// An outlet that is closed while the past is run again.
pub fn once(outlet: Option<ByteOutlet>, quiet: &Arc<AtomicBool>) -> Option<ByteOutlet> {
    let (mut outlet, quiet) = (outlet?, quiet.clone());
    Some(Box::new(move |bytes| {
        if !quiet.load(Ordering::Relaxed) {
            outlet(bytes);
        }
    }))
}
