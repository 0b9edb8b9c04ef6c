//! Drives, the network cable and what each device has done, as they are asked for from outside.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use engine::machine::LatenessSummary;
use engine::network::Capture;
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

/// Where what passes over the network cable is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaptureTo {
    /// Nowhere, from now on.
    Nowhere,
    /// This pcap file, in place of what is there.
    File(PathBuf),
}

impl FromStr for CaptureTo {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<CaptureTo, Self::Err> {
        Ok(if text == "off" { CaptureTo::Nowhere } else { CaptureTo::File(text.into()) })
    }
}

/// Puts a medium into a drive.
pub fn insert(session: &Session, drive: &str, file: &Path) -> Result<Answer, String> {
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
    session.line().ok_or("the machine has no network card, so there is no cable")?;
    session.set_cable(cable == Cable::On);
    Ok(Answer::done())
}

/// A capture file, which is turned over before it fills a disk.
pub fn capture_file(path: &Path) -> Result<Capture, String> {
    const LIMIT_BYTES: u64 = 256 << 20;
    Capture::create(path, LIMIT_BYTES).map_err(|error| format!("{}: {error}", path.display()))
}

/// Captures what passes over the network cable, or ends that.
pub fn capture(session: &Session, to: &CaptureTo) -> Result<Answer, String> {
    session.line().ok_or("the machine has no network card, so nothing passes")?;
    session.set_capture(match to {
        CaptureTo::Nowhere => None,
        CaptureTo::File(path) => Some(capture_file(path)?),
    });
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
    if let Some(network) = &stats.network {
        let line = &network.line;
        let _ = write!(
            text,
            "\nnetwork  {}, {}; {} frames out, {} in; latency {} ms, jitter {} ms, loss {} %",
            network.leads_to,
            if network.plugged { "plugged in" } else { "pulled out" },
            network.link.sent.frames,
            network.link.received.frames,
            f64::from(line.latency_us) / 1e3,
            f64::from(line.jitter_us) / 1e3,
            f64::from(line.lost_per_million) / 1e4,
        );
    }
    Answer::new(text, json!({ "devices": stats.work, "drives": stats.drives, "network": stats.network }))
}

#[cfg(test)]
mod tests {
    use engine::backend::Backend;
    use engine::profile::{Network, Profile};
    use engine::session::Outlets;

    use super::*;
    use crate::control::edit::set;

    fn session(network: Network) -> Session {
        let mut profile: Profile = boot::machine_for_builtin(engine::builtin::names()[0]);
        profile.backend = Backend::Soft;
        profile.network = network;
        Session::start(&profile, Outlets::default()).unwrap()
    }

    #[test]
    fn a_line_is_made_bad_and_good_again_while_the_machine_runs() {
        let session = session(Network::Switch("parts".to_owned()));
        let set = |changes: &[&str]| {
            set(&session, 0, &changes.iter().map(|change| (*change).to_owned()).collect::<Vec<_>>())
        };
        set(&["network-latency=30", "network-jitter=2.5", "network-loss=0.1"]).unwrap();
        set(&["network-jitter=0"]).unwrap();
        let line = session.line().unwrap();
        assert_eq!((line.latency_us, line.jitter_us, line.lost_per_million), (30_000, 0, 1_000));
        for wrong in ["network-latency=-1", "network-loss=101", "network-jitter=soon", "network-latency=nan"]
        {
            assert!(set(&["network-loss=5", wrong]).is_err(), "{wrong}");
        }
        assert_eq!(session.line(), Some(line));
        assert!(devices(&session).unwrap().text.contains("latency 30 ms, jitter 0 ms, loss 0.1 %"));
    }

    #[test]
    fn what_passes_is_captured_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = CaptureTo::File(folder.path().join("net.pcap"));
        let session = session(Network::Switch("parts".to_owned()));
        capture(&session, &file).unwrap();
        let CaptureTo::File(path) = &file else { unreachable!() };
        assert_eq!(std::fs::read(path).unwrap().len(), 24, "a head, and no frame yet");
        capture(&session, &"off".parse().unwrap()).unwrap();
        let nowhere = CaptureTo::File(folder.path().join("none/net.pcap"));
        assert!(capture(&session, &nowhere).unwrap_err().contains("net.pcap"));
    }

    #[test]
    fn without_a_card_there_is_no_cable() {
        let session = session(Network::None);
        assert!(cable(&session, Cable::Off).unwrap_err().contains("no network card"));
        assert!(capture(&session, &"x.pcap".parse().unwrap()).unwrap_err().contains("no network card"));
        let refused = set(&session, 0, &["network-loss=1".to_owned()]).unwrap_err();
        assert!(refused.contains("no network card"), "{refused}");
    }
}
