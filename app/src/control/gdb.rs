//! `gdb start` and `gdb stop`.

use std::net::SocketAddr;

use clap::Subcommand;
use engine::debugger::gdb::Description;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Answer, debug};
use crate::cli::arguments::listen;
use crate::running::Running;

/// What to do.
#[derive(Clone, Debug, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GdbAction {
    /// Listen for a gdb, in place of where the machine listened before.
    Start {
        /// Where; only this host reaches it, unless another address is named. Port 0: any that is free.
        #[arg(value_name = "[ADDRESS:]PORT", value_parser = listen, default_value = "0")]
        address: SocketAddr,
        /// Tell gdb that the target is an i386.
        #[arg(long)]
        #[serde(default)]
        i386: bool,
    },
    /// Listen no more; a gdb that is there is sent away.
    Stop,
}

/// Does it.
pub fn serve(machine: &dyn Running, action: &GdbAction) -> Result<Answer, String> {
    match action {
        GdbAction::Start { address, i386 } => {
            let at = start(machine, *address, *i386)?;
            Answer::new(told(at), json!({ "address": at }))
        }
        GdbAction::Stop => match debug::session(machine)?.stop_gdb() {
            true => Ok(Answer::done()),
            false => Err("no gdb is served".to_owned()),
        },
    }
}

/// Starts a server.
pub fn start(machine: &dyn Running, address: SocketAddr, i386: bool) -> Result<SocketAddr, String> {
    let description = if i386 { Description::I386 } else { Description::X86_64 };
    let session = debug::session(machine)?;
    session
        .start_gdb(address, description)
        .map_err(|error| format!("gdb cannot be served at {address}: {error}"))
}

/// Where the server is, for a person.
pub fn told(address: SocketAddr) -> String {
    format!("gdb is served: target remote {address}")
}
