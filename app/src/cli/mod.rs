//! The command line: from arguments to an exit status.

pub mod arguments;
pub mod console;
mod disk;
mod doctor;
mod player;
mod run;
mod saved;
pub mod script;
mod serial;
mod several;
mod snapshot;
mod target;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

/// Exit statuses that scripts depend on.
pub mod status {
    /// The guest powered off, or the awaited text came.
    pub const SUCCESS: u8 = 0;
    /// Something is wrong, and was told.
    pub const ERROR: u8 = 1;
    /// Time over.
    pub const TIME_OVER: u8 = 3;
    /// The guest crashed.
    pub const CRASHED: u8 = 4;
    /// Interrupted from the keyboard, as shells count it.
    pub const INTERRUPTED: u8 = 130;
}

/// Reads the command line (a usage error ends here with status 2) and does what it says.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        None => crate::window::open(None),
        Some(Command::Run(arguments)) => run::run(&arguments),
        Some(Command::List) => saved::list(),
        Some(Command::Show { name }) => saved::show(&name),
        Some(Command::Create { name, file, new_disk, machine }) => {
            saved::create(&name, file.as_deref(), new_disk, &machine)
        }
        Some(Command::Delete { name }) => saved::delete(&name),
        Some(Command::Doctor) => doctor::doctor(),
        Some(Command::Ctl(arguments)) => crate::control::client::control(&arguments),
        Some(Command::Snapshot { command }) => snapshot::snapshot(command),
        Some(Command::Disk { command }) => disk::disk(&command),
    };
    crate::control::withdraw();
    match done {
        Ok(status) => ExitCode::from(status),
        Err(message) => {
            console::tell(&message);
            ExitCode::from(status::ERROR)
        }
    }
}
