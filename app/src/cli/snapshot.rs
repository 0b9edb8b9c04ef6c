//! `vitrine snapshot`: through the machine that runs, or on what is saved of one that does not.

use std::ffi::OsString;

use clap::{Parser, Subcommand};
use engine::library::Library;
use engine::snapshot::States;

use super::arguments::Arguments;
use super::{console, run, status};
use crate::control::saved::{self, SnapshotRequest};
use crate::control::{Answer, Command, client};

/// `vitrine snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Save a machine that runs; it goes on.
    Take {
        /// The machine.
        machine: String,
        /// The snapshot's name.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// List what is saved of a machine.
    List {
        /// The machine.
        machine: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say what a snapshot is of.
    Info {
        /// The machine.
        machine: String,
        /// The snapshot, or `suspended`.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put a machine that runs back into a snapshot, or start it from there. What its disks held since is given up.
    Restore {
        /// The machine.
        machine: String,
        /// The snapshot.
        name: String,
        /// Options of `vitrine run`, for a machine that does not run.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Delete a snapshot. With the last one, disks are put together again.
    Delete {
        /// The machine.
        machine: String,
        /// The snapshot, or `suspended`.
        name: String,
    },
}

/// Does what is asked.
pub fn snapshot(command: SnapshotCommand) -> Result<u8, String> {
    let states = |machine: &str| States::of(&Library::of_user(), machine).map_err(saved::told);
    match command {
        SnapshotCommand::Take { machine, name, json } => {
            let request = Command::Snapshot { what: SnapshotRequest::Take { name } };
            match client::request(&machine, request) {
                Some(answer) => say(&answer?, json),
                None => return Err(format!("{machine} does not run: there is nothing to save")),
            }
        }
        SnapshotCommand::List { machine, json } => say(&saved::list(&states(&machine)?)?, json),
        SnapshotCommand::Info { machine, name, json } => say(&saved::info(&states(&machine)?, &name)?, json),
        SnapshotCommand::Restore { machine, name, options } => {
            let request = Command::Snapshot { what: SnapshotRequest::Restore { name: name.clone() } };
            return match client::request(&machine, request) {
                Some(answer) => answer.map(|_| status::SUCCESS),
                None => start(&machine, &name, options),
            };
        }
        SnapshotCommand::Delete { machine, name } => {
            states(&machine)?.delete(saved::which(&name)).map_err(saved::told)?;
        }
    }
    Ok(status::SUCCESS)
}

/// As `vitrine run MACHINE --resume NAME OPTIONS` does.
fn start(machine: &str, name: &str, options: Vec<OsString>) -> Result<u8, String> {
    let head = ["vitrine", "run", machine, "--resume", name].map(OsString::from);
    let arguments =
        Arguments::try_parse_from(head.into_iter().chain(options)).unwrap_or_else(|error| error.exit());
    match arguments.command {
        Some(super::arguments::Command::Run(arguments)) => run::run(&arguments),
        _ => Err("only options of `vitrine run` may follow the snapshot's name".to_owned()),
    }
}

fn say(answer: &Answer, json: bool) {
    let text = if json { answer.json.to_string() } else { answer.text.clone() };
    if !text.is_empty() {
        console::say(&text);
    }
}
