//! A machine that is debugged: its conditions, and where its vCPUs are to go. Everything only while held.

use super::Machine;
use crate::debugger::{Condition, ExitKind, Goal, InterruptSource, Lookout, StopCondition};

impl Machine {
    /// What it is to stop at.
    pub fn lookout(&self) -> &Lookout {
        &self.lookout
    }

    /// Replaces its conditions: all of them, or none.
    pub fn set_conditions(&self, conditions: Vec<StopCondition>) -> Result<(), String> {
        let before = self.lookout.list();
        self.lookout.set_list(conditions);
        self.look_out().inspect_err(|_| {
            self.lookout.set_list(before);
            // What was in force can be again.
            let _ = self.look_out();
        })
    }

    /// Has all vCPUs look for what the lookout wants.
    pub fn look_out(&self) -> Result<(), String> {
        let watch = self.lookout.cpu_watch();
        self.cpus.iter().try_for_each(|cpu| cpu.set_watch(watch.clone()).map_err(|error| error.to_string()))
    }

    /// Why this machine cannot stop at a condition.
    pub fn refusal(&self, condition: &Condition) -> Option<String> {
        let is_soft = self.platform.is_soft();
        match condition {
            Condition::Interrupt { source, .. } if !is_soft && self.platform.has_kernel_apics() => {
                let hardware = *source != InterruptSource::Instruction;
                hardware.then(|| {
                    "the interrupt controllers are the host kernel's: run with --interrupts glass, or the Soft \
                     backend"
                        .to_owned()
                })
            }
            Condition::Exit { exit: ExitKind::Interrupt | ExitKind::Halt }
                if self.platform.has_kernel_apics() =>
            {
                Some(
                    "interrupts and HLT stay inside the host's kernel: run with --interrupts glass"
                        .to_owned(),
                )
            }
            Condition::Physical { start, bytes, .. } if !is_soft => {
                let last = start.saturating_add(bytes - 1);
                let is_memory = self.memory.map().iter().any(|m| m.start <= last && *start < m.end);
                is_memory.then(|| {
                    "KVM can watch devices' memory by physical address, and RAM by linear address only; the Soft \
                     backend can do both"
                        .to_owned()
                })
            }
            Condition::Timer { name } => {
                let names: Vec<String> =
                    self.board.tick_counter()().into_iter().map(|(name, _)| name).collect();
                let is_known = names.iter().any(|known| known.eq_ignore_ascii_case(name));
                (!is_known).then(|| {
                    format!("no timer that ticks is called '{name}'; there is: {}", names.join(", "))
                })
            }
            _ => None,
        }
    }

    /// From its next release on, `cpu` follows `goal`; the others stand meanwhile, if they are to.
    pub fn begin(&self, cpu: usize, goal: Goal, others_stand: bool) -> Result<(), String> {
        let Some(chosen) = self.cpus.get(cpu) else {
            return Err(format!("there is no CPU {cpu}; the machine has {}", self.cpus.len()));
        };
        chosen.begin(goal).map_err(|error| error.to_string())?;
        // In a deterministic machine the order of turns is part of the run.
        let stand = others_stand && self.turns.is_none();
        for (index, other) in self.cpus.iter().enumerate() {
            other.debug().stand(stand && index != cpu);
        }
        Ok(())
    }

    /// All vCPUs go their own way again.
    pub fn abandon_goals(&self) -> Result<(), String> {
        for cpu in self.cpus.iter() {
            cpu.debug().stand(false);
            cpu.abandon_goal().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// What vCPUs stand at has been seen: they go on past it.
    pub fn pass_breakpoints(&self) {
        self.cpus.iter().for_each(|cpu| cpu.pass_breakpoint());
    }
}
