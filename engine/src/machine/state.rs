//! The whole state of a machine that stands still, but for its memory and its disks: taken, and put back into a
//! machine of the same profile, on the same backend or the other.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::Machine;
use super::turns::Position;
use super::virtual_cpu::CpuState;

/// Everything but memory and disks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineState {
    /// Guest time in nanoseconds.
    pub now_ns: u64,
    /// The host's wall time at guest time 0, in nanoseconds since 1970.
    started_ns: u64,
    cpus: Vec<SavedCpu>,
    devices: Vec<(String, Bytes)>,
    /// Of the chips that the host's kernel has.
    chips: Bytes,
    /// Where a deterministic machine is.
    position: Option<Position>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedCpu {
    state: CpuState,
    /// What its backend keeps beside the registers.
    beside: Bytes,
    /// What its time-stamp counter says.
    timestamp: u64,
}

/// Bytes, saved as such.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_owned()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

impl Machine {
    /// The state here. Only while held.
    pub fn save_state(&self) -> Result<MachineState, String> {
        if let Some(turns) = &self.turns {
            turns.forget_translations();
        }
        let base = self.platform.timestamp(&self.clock);
        let save = |cpu: &std::sync::Arc<super::VirtualCpu>| {
            let (state, beside) = cpu.save().map_err(|error| error.to_string())?;
            let timestamp = base.wrapping_add(state.registers.msrs.tsc_offset);
            Ok(SavedCpu { state, beside: Bytes(beside), timestamp })
        };
        Ok(MachineState {
            now_ns: self.clock.now(),
            started_ns: self.started_ns.load(Ordering::Relaxed),
            cpus: self.cpus.iter().map(save).collect::<Result<_, String>>()?,
            devices: self.board.save().into_iter().map(|(name, state)| (name, Bytes(state))).collect(),
            chips: Bytes(self.platform.save_chips()?),
            position: self.turns.as_ref().map(|turns| turns.position()),
        })
    }

    /// Why that state cannot be this machine's, as far as it can be told beforehand.
    pub fn check_state(&self, state: &MachineState) -> Result<(), String> {
        if state.cpus.len() != self.cpus.len() {
            return Err(format!(
                "it is of a machine with {} processors; this one has {}",
                state.cpus.len(),
                self.cpus.len()
            ));
        }
        if state.position.is_some() != self.turns.is_some() {
            return Err("one machine counts its time in instructions, and the other does not".to_owned());
        }
        let (theirs, ours): (Vec<&str>, Vec<String>) =
            (state.devices.iter().map(|(name, _)| name.as_str()).collect(), self.board.names());
        if theirs != ours {
            let only = |these: &[&str], those: &[&str]| -> Vec<String> {
                these.iter().filter(|name| !those.contains(name)).map(|name| (*name).to_owned()).collect()
            };
            let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
            let (lacks, has) = (only(&theirs, &ours), only(&ours, &theirs));
            return Err(format!(
                "it is of a machine with other devices (only there: {}; only here: {})",
                lacks.join(", "),
                has.join(", ")
            ));
        }
        Ok(())
    }

    /// Becomes that state; memory is put back before. Only while held. After an error the machine is in no state
    /// to go on.
    pub fn load_state(&self, state: &MachineState) -> Result<(), String> {
        self.check_state(state)?;
        match (&self.turns, &state.position) {
            (Some(turns), Some(position)) => turns.set_position(position.clone()),
            _ => self.clock.set(state.now_ns), // devices look at the time as they load
        }
        self.started_ns.store(state.started_ns, Ordering::Relaxed);
        self.platform.load_chips(&state.chips.0)?;
        let devices = state.devices.iter().map(|(_, bytes)| bytes.0.as_slice());
        self.board.load(devices).map_err(|error| error.to_string())?;
        let base = self.platform.timestamp(&self.clock);
        for (cpu, saved) in self.cpus.iter().zip(&state.cpus) {
            let mut state = saved.state.clone();
            state.registers.msrs.tsc_offset = saved.timestamp.wrapping_sub(base);
            cpu.load(&state, &saved.beside.0).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
