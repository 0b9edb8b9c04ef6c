//! Saved states, as they are asked for from outside: of the machine that runs here.

use clap::Subcommand;
use engine::library::Library;
use engine::session::Session;
use engine::snapshot::{self, Entry, Head, SnapshotError, States, Taken, Which};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, quoted};

/// What is wanted with a machine's snapshots.
#[derive(Clone, Debug, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotRequest {
    /// Save the machine, which goes on.
    Take {
        /// The snapshot's name.
        name: String,
    },
    /// Put the machine back; what its disks held since is given up.
    Restore {
        /// The snapshot's name.
        name: String,
    },
    /// List what is saved of it.
    List,
    /// Say what a snapshot is of.
    Info {
        /// The snapshot's name.
        name: String,
    },
    /// Delete a snapshot.
    Delete {
        /// The snapshot's name.
        name: String,
    },
}

impl SnapshotRequest {
    /// As it is written behind `snapshot`.
    pub fn words(&self) -> String {
        match self {
            SnapshotRequest::Take { name } => format!("take {}", quoted(name)),
            SnapshotRequest::Restore { name } => format!("restore {}", quoted(name)),
            SnapshotRequest::List => "list".to_owned(),
            SnapshotRequest::Info { name } => format!("info {}", quoted(name)),
            SnapshotRequest::Delete { name } => format!("delete {}", quoted(name)),
        }
    }
}

/// Where the states of a machine that runs lie.
pub fn states_of(session: &Session) -> Result<States, String> {
    States::of(&Library::of_user(), &session.profile().name).map_err(told)
}

/// Does it with a machine that runs, whose states lie in `states`.
pub fn execute(states: &States, session: &Session, request: &SnapshotRequest) -> Result<Answer, String> {
    match request {
        SnapshotRequest::Take { name } => {
            let taken = snapshot::take(session, states, name).map_err(told)?;
            answer_taken(&format!("saved as {name}"), &taken)
        }
        SnapshotRequest::Restore { name } => {
            snapshot::restore(session, states, name).map_err(told)?;
            Ok(Answer::done())
        }
        SnapshotRequest::List => list(states),
        SnapshotRequest::Info { name } => info(states, name),
        SnapshotRequest::Delete { name } => {
            states.delete(which(name)).map_err(told)?;
            Ok(Answer::done())
        }
    }
}

/// Saves a machine and switches it off.
pub fn suspend(states: &States, session: &Session) -> Result<Answer, String> {
    let taken = snapshot::suspend(session, states).map_err(told)?;
    answer_taken(&format!("{} is suspended; `vitrine run` continues it", states.machine()), &taken)
}

fn answer_taken(what: &str, taken: &Taken) -> Result<Answer, String> {
    let text = format!(
        "{what}: {:.1} MiB for {:.1} MiB of memory, paused for {:.1} ms (pages changed meanwhile: {})",
        taken.bytes as f64 / f64::from(1 << 20),
        taken.memory_bytes as f64 / f64::from(1 << 20),
        taken.pause.as_secs_f64() * 1e3,
        taken.pages_caught_up,
    );
    let json = json!({
        "bytes": taken.bytes,
        "memory_bytes": taken.memory_bytes,
        "pause_ms": taken.pause.as_secs_f64() * 1e3,
        "pages_caught_up": taken.pages_caught_up,
    });
    Answer::new(text, json)
}

/// The state a person means: `suspended` is the one the machine was suspended in.
pub fn which(name: &str) -> Which<'_> {
    if name == SUSPENDED { Which::Suspended } else { Which::Snapshot(name) }
}

/// What a suspended machine's state is called.
pub const SUSPENDED: &str = "suspended";

/// Everything saved of a machine, a line each.
pub fn list(states: &States) -> Result<Answer, String> {
    let entries = states.list();
    let text: Vec<String> =
        entries.iter().map(|entry| format!("{}\t{}", states.machine(), line(entry))).collect();
    let json: Vec<Value> = entries.iter().map(|entry| entry_json(states, entry)).collect();
    Answer::new(text.join("\n"), json)
}

fn line(entry: &Entry) -> String {
    let name = entry.name.as_deref().unwrap_or(SUSPENDED);
    match &entry.head {
        Ok(head) => format!(
            "{name}\t{}\t{:.1} MiB\tguest time {:.1} s\t{} {}",
            when(head.taken_seconds),
            entry.bytes as f64 / f64::from(1 << 20),
            head.guest_ns as f64 / 1e9,
            head.profile.memory,
            head.backend,
        ),
        Err(error) => format!("{name}\tunusable: {error}"),
    }
}

fn entry_json(states: &States, entry: &Entry) -> Value {
    let name = entry.name.as_deref().unwrap_or(SUSPENDED);
    let mut json = match &entry.head {
        Ok(head) => head_json(head),
        Err(error) => json!({ "error": error.to_string() }),
    };
    json["machine"] = json!(states.machine());
    json["name"] = json!(name);
    json["bytes"] = json!(entry.bytes);
    json
}

fn head_json(head: &Head) -> Value {
    json!({
        "taken_seconds": head.taken_seconds,
        "guest_seconds": head.guest_ns as f64 / 1e9,
        "vitrine": head.vitrine,
        "backend": head.backend,
        "interrupts": head.interrupts,
        "model": head.profile.model.name(),
        "cpus": head.profile.cpus,
        "memory_bytes": head.profile.memory.bytes(),
        "cable": head.cable,
        "drives": head.drives,
    })
}

/// What a snapshot is of.
pub fn info(states: &States, name: &str) -> Result<Answer, String> {
    let head = states.head(which(name)).map_err(told)?;
    let mut text = format!(
        "{} of {}, taken {}, at guest time {:.3} s\n  {} CPU ({}), {}, saved on {} with {} interrupts by Vitrine {}\n",
        name,
        head.profile.name,
        when(head.taken_seconds),
        head.guest_ns as f64 / 1e9,
        head.profile.cpus,
        head.profile.model,
        head.profile.memory,
        head.backend,
        head.interrupts,
        head.vitrine,
    );
    for drive in &head.drives {
        let state = match drive.check_files() {
            Ok(()) => "as it was".to_owned(),
            Err(SnapshotError::Disk { how, .. }) => how,
            Err(error) => error.to_string(),
        };
        text += &format!("  {}: {} ({state})\n", drive.drive, drive.named.display());
    }
    Answer::new(text.trim_end(), head_json(&head))
}

/// A time as people read it (UTC).
pub fn when(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day, `days` after 1970-01-01: years are counted from March, so that the leap day is the last
/// (Richards, "Mapping Time", chapter 25).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

pub fn told(error: SnapshotError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_read_them() {
        assert_eq!(when(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(when(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(when(1_767_225_599), "2025-12-31 23:59:59 UTC");
    }

    #[test]
    fn nothing_saved_is_an_empty_list_and_names_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let states = States::of(&Library::at(folder.path()), "one").unwrap();
        assert_eq!(list(&states).unwrap().json, json!([]));
        assert!(info(&states, "none").unwrap_err().contains("none"));
        assert!(info(&states, "../up").unwrap_err().contains("snapshot"));
        assert!(info(&states, SUSPENDED).unwrap_err().contains("not suspended"));
    }
}
