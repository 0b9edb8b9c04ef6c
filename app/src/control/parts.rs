//! Drives, the network cable and what each device has done, as they are asked for from outside.

use std::fmt::Write;

use clap::ValueEnum;
use engine::machine::LatenessSummary;
use engine::session::Session;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Answer;
use crate::boot;

/// Whether a cable is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cable {
    /// Plugged in.
    On,
    /// Pulled out.
    Off,
}

impl Cable {
    /// As it is written.
    pub fn word(self) -> &'static str {
        if self == Cable::On { "on" } else { "off" }
    }
}

/// Puts a medium into a drive.
pub fn insert(session: &Session, drive: &str, file: &std::path::Path) -> Result<Answer, String> {
    session.insert(drive, &boot::absolute(file)).map_err(|error| error.to_string())?;
    Ok(Answer::done())
}

/// Takes the medium out of a drive.
pub fn eject(session: &Session, drive: &str) -> Result<Answer, String> {
    session.eject(drive).map_err(|error| error.to_string())?;
    Ok(Answer::done())
}

/// The drives whose media can be changed.
pub fn drives(session: &Session) -> Result<Answer, String> {
    let drives = session.drives();
    let line = |drive: &engine::machine::Drive| {
        let medium = drive.medium.as_ref().map_or("empty".to_owned(), |path| path.display().to_string());
        format!("{:<8} {medium}", drive.name)
    };
    Answer::new(drives.iter().map(line).collect::<Vec<_>>().join("\n"), &drives)
}

/// Plugs the network cable in or out.
pub fn cable(session: &Session, cable: Cable) -> Result<Answer, String> {
    if session.stats().network.is_none() {
        return Err("the machine has no network card, so there is no cable".to_owned());
    }
    session.set_cable(cable == Cable::On);
    Ok(Answer::done())
}

/// What each device has done, and how long it took.
pub fn devices(session: &Session) -> Result<Answer, String> {
    let stats = session.stats();
    let us = |summary: &LatenessSummary| match summary.count {
        0 => "-".to_owned(),
        _ => format!("{:.1} / {:.1}", summary.p50_ns as f64 / 1e3, summary.p99_ns as f64 / 1e3),
    };
    let mut text = format!(
        "{:<16} {:>12} {:>12} {:>14} {:>12} {:>22}\n",
        "device", "reads", "writes", "bytes", "interrupts", "access us: p50 / p99"
    );
    for device in &stats.work {
        let _ = writeln!(
            text,
            "{:<16} {:>12} {:>12} {:>14} {:>12} {:>22}",
            device.device,
            device.reads,
            device.writes,
            device.bytes,
            device.interrupts,
            us(&device.access)
        );
    }
    let _ = writeln!(
        text,
        "\n{:<8} {:>14} {:>14} {:>8} {:>8} {:>8}  us p50 / p99: read, write, flush",
        "drive", "bytes read", "bytes written", "reads", "writes", "flushes"
    );
    for drive in &stats.drives {
        let _ = writeln!(
            text,
            "{:<8} {:>14} {:>14} {:>8} {:>8} {:>8}  {}, {}, {}",
            drive.drive,
            drive.bytes_read,
            drive.bytes_written,
            drive.reads.count,
            drive.writes.count,
            drive.flushes.count,
            us(&drive.reads),
            us(&drive.writes),
            us(&drive.flushes)
        );
    }
    Answer::new(text, json!({ "devices": stats.work, "drives": stats.drives, "network": stats.network }))
}
