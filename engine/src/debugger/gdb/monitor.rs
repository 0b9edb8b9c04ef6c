//! `monitor`: what gdb has no word for.

use gdbstub::outputln;
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd};

use super::bits::Bits;
use super::target::Peer;
use crate::debugger::words;
use crate::inspect::summary;

const HELP: &str = "monitor status             what the machine is doing, and why it stopped
monitor registers          what the registers mean, of each CPU
monitor timers             the guest's timers
monitor stop CONDITION     stop at something else than code and data
monitor stops              every condition of the machine, gdb's too
monitor remove N           remove a condition
conditions: ";

impl<A: Bits> MonitorCmd for Peer<A> {
    fn handle_monitor_cmd(&mut self, command: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), String> {
        let text = String::from_utf8_lossy(command);
        let words: Vec<&str> = text.split_whitespace().collect();
        match self.answer(&words) {
            Ok(answer) | Err(answer) => answer.lines().for_each(|line| outputln!(out, "{}", line)),
        }
        Ok(())
    }
}

impl<A: Bits> Peer<A> {
    fn answer(&self, words: &[&str]) -> Result<String, String> {
        let session = &self.session;
        match words {
            ["status"] => {
                let why =
                    session.last_stop().map_or(String::new(), |stopped| format!("\n{}", stopped.in_words()));
                let steps = session.steps().map_or(String::new(), |steps| format!(", {steps} steps"));
                let seconds = session.stats().guest_seconds;
                Ok(format!(
                    "{:?}, guest time {seconds:.6} s{steps}\n{}{why}",
                    session.state(),
                    session.backend_note()
                ))
            }
            ["registers"] => {
                let of = |cpu| Some(format!("CPU {cpu}: {}", summary::sentence(&*session.registers(cpu)?)));
                Ok((0..session.cpus()).filter_map(of).collect::<Vec<_>>().join("\n"))
            }
            ["timers"] => {
                let timers = session.stats().timers.guest;
                let line = |timer: &crate::machine::Timer| {
                    format!("{:<18} {:<24} {} ticks", timer.name, timer.mode, timer.raised)
                };
                Ok(timers.iter().map(line).collect::<Vec<_>>().join("\n"))
            }
            ["stops"] => {
                let all = session.conditions();
                let line = |set: &crate::debugger::StopCondition| {
                    format!("{:>3}  {}  {} hits", set.id, set.condition, set.hits)
                };
                Ok(all.iter().map(line).collect::<Vec<_>>().join("\n"))
            }
            ["stop", condition @ ..] => {
                let symbols = session.symbols();
                let condition = words::condition(condition, &|place| symbols.address_of(place))?;
                let id = session.add_condition(condition, 0).map_err(|error| error.to_string())?;
                Ok(format!("condition {id}"))
            }
            ["remove", id] => {
                let id = id.parse().map_err(|_| format!("'{id}' is no number of a condition"))?;
                session.remove_condition(Some(id)).map_err(|error| error.to_string())?;
                Ok(format!("condition {id} is gone"))
            }
            _ => Ok(format!("{HELP}{}", words::FORMS)),
        }
    }
}
