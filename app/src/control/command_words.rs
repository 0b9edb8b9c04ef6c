//! Of a command: how it is written, whether it only asks, and whether it may wait.

use super::command::{Command, Switch, TraceAct};
use super::debug::{BreakAction, SymbolsAction};

impl Command {
    /// Whether it only asks: then it can be asked again and again.
    pub fn is_question(&self) -> bool {
        match self {
            Command::List
            | Command::Status
            | Command::Memory { .. }
            | Command::Find { .. }
            | Command::Disassemble { .. }
            | Command::Stack { .. }
            | Command::Translate { .. }
            | Command::Table { .. }
            | Command::Exits
            | Command::Timers
            | Command::Drives
            | Command::Devices
            | Command::Screen
            | Command::Moves
            | Command::Ledger => true,
            Command::Registers { keep, .. } => keep.is_none(),
            Command::Sound { volume, mute, .. } => volume.is_none() && mute.is_none(),
            Command::Policy { what } => *what == Switch::Status,
            Command::Trace { act } => matches!(act, TraceAct::Status | TraceAct::Tail { .. }),
            Command::Break { action } => matches!(action, BreakAction::List),
            _ => false,
        }
    }

    /// Whether it may wait for a machine, or a file: nothing for the thread of a window.
    pub fn may_wait(&self) -> bool {
        matches!(
            self,
            Command::Break { .. }
                | Command::Step(_)
                | Command::Continue { .. }
                | Command::Until { .. }
                | Command::History { .. }
                | Command::Symbols { .. }
                | Command::Insert { .. }
                | Command::Eject { .. }
        )
    }

    /// As it is written behind `vitrine ctl NAME`; `None` for what the window never asks for.
    pub fn words(&self) -> Option<String> {
        let cpu = |cpu: &usize| if *cpu == 0 { String::new() } else { format!(" --cpu {cpu}") };
        Some(match self {
            Command::Set { changes, cpu: of } => format!("set {}{}", changes.join(" "), cpu(of)),
            Command::Snapshot { what } => format!("snapshot {}", what.words()),
            Command::Suspend => "suspend".to_owned(),
            Command::Insert { drive, file } => format!("insert {drive} '{}'", file.display()),
            Command::Eject { drive } => format!("eject {drive}"),
            Command::Sound { volume, mute, source } => {
                let volume = volume.map(|percent| format!(" --volume {percent}")).unwrap_or_default();
                let mute =
                    mute.map(|on| format!(" --mute {}", if on { "on" } else { "off" })).unwrap_or_default();
                let source = source.as_ref().map(|name| format!(" --source {name}")).unwrap_or_default();
                format!("sound{volume}{mute}{source}")
            }
            Command::Cable { state } => format!("cable {}", state.word()),
            Command::Write { address, bytes, linear } => {
                let linear = match linear {
                    None => String::new(),
                    Some(0) => " --linear".to_owned(),
                    Some(of) => format!(" --linear {of}"),
                };
                format!("write {address:#x} '{bytes}'{linear}")
            }
            Command::Break { action } => format!("break {}", action.words()?),
            Command::Step(arguments) => format!("step{}", arguments.words()),
            Command::Continue { back: true, .. } => "continue --back".to_owned(),
            Command::Until { place, cpu: of, .. } => format!("until {place}{}", cpu(of)),
            Command::History { on, .. } => format!("history {}", if *on { "on" } else { "off" }),
            Command::Symbols { action: SymbolsAction::Load { path } } => {
                format!("symbols load '{}'", path.display())
            }
            Command::Symbols { action: SymbolsAction::Clear } => "symbols clear".to_owned(),
            _ => return None,
        })
    }
}
