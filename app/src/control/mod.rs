//! One way in for people and programs: each running Vitrine listens on a socket of its user's, and
//! `vitrine ctl` speaks to it. What the window can do to a machine, a [`Request`] can.

mod answer;
pub mod client;
mod command;
mod command_words;
pub mod debug;
mod edit;
mod execute;
pub mod gdb;
pub mod parts;
mod registry;
mod resources;
pub mod saved;
mod server;
mod socket;
pub mod sound;
mod trace;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::running::Running;

pub use answer::Answer;
pub use command::{Command, ControlArguments, number};
pub use debug::{BreakAction, StepArguments, SymbolsAction};
pub use registry::Registry;
pub use resources::words as goods_words;

/// One request, a line of JSON on the socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The machine it is for; `None`: the only one.
    pub machine: Option<String>,
    /// What is wanted.
    pub command: Command,
}

/// What comes back, a line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done.
    Done(Answer),
    /// It was not, and why.
    Refused(String),
}

/// A name as a shell takes it for one word.
pub fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "._-/:".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', r"'\''"))
}

/// Lets `machine` be controlled from outside for as long as it lives. The socket is opened with the first;
/// without one, machines still run, and why is given back.
pub fn offer(machine: &Arc<dyn Running>) -> Result<(), String> {
    let registry = Registry::global();
    registry.add(machine);
    server::start_once(registry)
}

/// Does what `vitrine ctl` would do with `machine`, and does not wait for where it will stop: the window's way.
pub fn perform(name: &str, machine: &dyn Running, command: &Command) -> Result<Answer, String> {
    execute::begin(name, machine, command)
}

/// Takes the socket away, at the end of the process.
pub fn withdraw() {
    socket::remove_own();
}
