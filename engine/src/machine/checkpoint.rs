//! The whole state of a deterministic machine at one step: taken, put back, and summed up for comparison.

use std::hash::{DefaultHasher, Hash, Hasher};

use hardware::Contents;

use super::Machine;
use super::turns::Position;
use super::virtual_cpu::CpuState;

/// A state to go back to. Taken at a multiple of [`super::EPOCH`] steps, the run that goes on from it is the one it
/// was taken from, whatever the guest does; at another step, provided the guest flushes the translations it changes.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    position: Position,
    cpus: Vec<CpuState>,
    devices: Vec<(String, Vec<u8>)>,
    memory: Contents,
}

/// Sums over the state of a machine, part by part: equal for equal states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Steps since power-on.
    pub steps: u64,
    /// Guest time in nanoseconds.
    pub now_ns: u64,
    /// Registers and startup state of each vCPU.
    pub cpus: Vec<u64>,
    /// State of each device, by name.
    pub devices: Vec<(String, u64)>,
    /// All memory.
    pub memory: u64,
}

impl Checkpoint {
    /// The step it was taken at.
    pub fn steps(&self) -> u64 {
        self.position.steps
    }

    /// Bytes of memory it keeps.
    pub fn memory_bytes(&self) -> usize {
        self.memory.bytes()
    }
}

impl Machine {
    /// The state here. Only while held.
    pub fn checkpoint(&self) -> Result<Checkpoint, String> {
        let turns = self.turns.as_ref().ok_or("only deterministic machines have checkpoints")?;
        self.check_disks()?;
        turns.forget_translations();
        let cpus = self.cpus.iter().map(|cpu| cpu.state().map_err(|error| error.to_string()));
        Ok(Checkpoint {
            position: turns.position(),
            cpus: cpus.collect::<Result<_, _>>()?,
            devices: self.board.save(),
            memory: self.memory.contents(),
        })
    }

    /// Becomes that state. Only while held.
    pub fn restore(&self, checkpoint: &Checkpoint) -> Result<(), String> {
        let turns = self.turns.as_ref().ok_or("only deterministic machines have checkpoints")?;
        self.check_disks()?;
        if checkpoint.cpus.len() != self.cpus.len() {
            return Err("the checkpoint is of a machine with another number of processors".to_owned());
        }
        turns.set_position(checkpoint.position.clone()); // devices look at the time as they load
        self.memory.set_contents(&checkpoint.memory).map_err(|error| format!("guest memory: {error}"))?;
        let devices = checkpoint.devices.iter().map(|(_, state)| state.as_slice());
        self.board.load(devices).map_err(|error| error.to_string())?;
        for (cpu, state) in self.cpus.iter().zip(&checkpoint.cpus) {
            cpu.set_state(state).map_err(|error| error.to_string())?;
        }
        self.lookout.forget_ticks();
        Ok(())
    }

    /// Sums of the state here. Only while held.
    pub fn fingerprint(&self) -> Result<Fingerprint, String> {
        let turns = self.turns.as_ref().ok_or("only deterministic machines have fingerprints")?;
        let position = turns.position();
        let state = |cpu: &std::sync::Arc<super::VirtualCpu>| {
            let state = cpu.state().map_err(|error| error.to_string())?;
            Ok(sum(&format!("{state:?}")))
        };
        Ok(Fingerprint {
            steps: position.steps,
            now_ns: position.now(),
            cpus: self.cpus.iter().map(state).collect::<Result<_, String>>()?,
            devices: self.board.save().into_iter().map(|(name, state)| (name, sum(&state))).collect(),
            memory: self.memory.contents_sum(),
        })
    }

    /// What guests write to disks is not part of a checkpoint yet.
    fn check_disks(&self) -> Result<(), String> {
        match self.profile.disks.is_empty() && self.profile.floppy.is_none() {
            true => Ok(()),
            false => {
                Err("a checkpoint does not hold what is written to disks; take the disks out".to_owned())
            }
        }
    }
}

/// The same in every process: the hasher's keys are fixed.
fn sum(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
