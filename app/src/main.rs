//! Vitrine: the window and the command line.

mod audio;
mod boot;
mod cli;
mod control;
mod interrupt;
mod names;
mod outputs;
mod register_rows;
mod report;
mod running;
mod search;
mod window;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
