//! Saving a machine.
//!
//! Memory is copied while the machine runs; then it stands still while what has changed meanwhile is caught up with, its
//! registers and devices are read, and its disks are turned over to new overlays. It goes on, and what was taken is
//! compressed and written beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use hardware::Contents;
use serde::{Deserialize, Serialize};
use storage::Disk;

use super::error::SnapshotError;
use super::file::{Writer, tag};
use super::head::{DriveRecord, Head, MediumKind};
use super::layers::Layers;
use super::pages;
use super::states::{States, Which};
use crate::machine::{Bytes, Machine, MachineState, Medium, Port};
use crate::session::{After, RunState, Session};

/// Most bytes of changes to throw-away disks that a state holds.
const CHANGES_MAX_BYTES: u64 = 1 << 30;
/// A section holds at most this much of a medium.
const CHANGES_PART_BYTES: usize = 16 << 20;

/// What came of saving.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// How long the guest stood still.
    pub pause: Duration,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Bytes of memory in it, before they were compressed.
    pub memory_bytes: u64,
    /// Pages that changed while memory was copied.
    pub pages_caught_up: usize,
}

/// Changes to a medium: which drive, and bytes at places.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Changes {
    /// The drive.
    pub drive: String,
    /// Where on the disk, and what is there.
    pub runs: Vec<(u64, Bytes)>,
}

/// A machine's whole state in memory.
struct Captured {
    contents: Contents,
    state: MachineState,
    drives: Vec<DriveRecord>,
    changes: Vec<Changes>,
    pages_caught_up: usize,
}

/// A disk's file is left as it is, and the machine goes on in this overlay.
struct TurnOver {
    port: Arc<Port>,
    overlay: PathBuf,
}

/// Saves a machine that runs or is paused as snapshot `name` of `states`; it goes on.
pub fn take(session: &Session, states: &States, name: &str) -> Result<Taken, SnapshotError> {
    let path = states.path(Which::Snapshot(name))?;
    check_can_be_saved(session)?;
    let _guard = states.lock()?;
    if path.exists() {
        return Err(SnapshotError::Exists { name: name.to_owned() });
    }
    let machine = session.machine();
    let layers = Layers::read(states.folder())?;
    let turns = turn_overs(machine, &layers)?;
    let mut after = layers.clone();
    for turn in &turns {
        after = after.with_front(turn.port.named(), turn.port.name(), &turn.overlay);
    }
    let contents = machine.shared_memory().contents();
    let has_turns = !turns.is_empty();
    let (before, turned) = (layers.clone(), after.clone());
    let act = move |machine: &Machine| {
        let captured: Captured = capture(machine, contents)?;
        if has_turns {
            turn(&turns, &before, &turned)?;
        }
        Ok::<Captured, SnapshotError>(captured)
    };
    let (captured, pause) = session.while_still(act, |_| After::GoOn).map_err(SnapshotError::refused)?;
    let mut captured = captured.inspect_err(|_| states.sweep(&layers))?;
    if has_turns {
        after.note_behind()?;
        after.write()?;
    }
    captured.drives.iter_mut().try_for_each(DriveRecord::note_files)?;
    let head = head(machine, name, &captured);
    let bytes = write(&path, &head, &captured)?;
    states.sweep(&after);
    Ok(Taken {
        pause,
        bytes,
        memory_bytes: captured.contents.bytes() as u64,
        pages_caught_up: captured.pages_caught_up,
    })
}

/// Saves a machine and switches it off: [`super::start`] continues it. When it cannot be saved, it goes on.
pub fn suspend(session: &Session, states: &States) -> Result<Taken, SnapshotError> {
    let path = states.path(Which::Suspended)?;
    check_can_be_saved(session)?;
    let _guard = states.lock()?;
    let contents = session.machine().shared_memory().contents();
    let act = move |machine: &Machine| {
        let mut captured = capture(machine, contents)?;
        let ports = machine.drives().ports();
        // Closed, files are as they will be found.
        let written: Vec<_> = ports.iter().filter(|port| port.format().is_some()).collect();
        written.iter().for_each(|port| drop(port.close()));
        let saved = captured.drives.iter_mut().try_for_each(DriveRecord::note_files).and_then(|()| {
            let head = head(machine, "", &captured);
            write(&path, &head, &captured)
        });
        match saved {
            Ok(bytes) => Ok((captured.contents.bytes() as u64, captured.pages_caught_up, bytes)),
            Err(error) => {
                written
                    .iter()
                    .try_for_each(|port| port.reopen(&port.front()))
                    .map_err(SnapshotError::Refused)?;
                Err(error)
            }
        }
    };
    let then = |saved: &Result<_, SnapshotError>| if saved.is_ok() { After::SwitchOff } else { After::GoOn };
    let (saved, pause) = session.while_still(act, then).map_err(SnapshotError::refused)?;
    let (memory_bytes, pages_caught_up, bytes) = saved?;
    Ok(Taken { pause, bytes, memory_bytes, pages_caught_up })
}

fn check_can_be_saved(session: &Session) -> Result<(), SnapshotError> {
    if let Some(reason) = session.hindrance() {
        return Err(SnapshotError::Refused(format!("{reason}: make room there first")));
    }
    match session.state() {
        RunState::Running | RunState::Paused => Ok(()),
        RunState::Ended(_) => {
            Err(SnapshotError::Refused("the machine is off: there is nothing to save".into()))
        }
    }
}

/// A new overlay for each disk that is written.
fn turn_overs(machine: &Machine, layers: &Layers) -> Result<Vec<TurnOver>, SnapshotError> {
    let ports = machine.drives().ports();
    let written = ports.into_iter().filter_map(|port| Some((port.format()?, port)));
    let grow = |(format, port): (storage::Format, Arc<Port>)| {
        let overlay = layers.grow(&port.front(), format, port.length_bytes())?;
        Ok(TurnOver { port, overlay })
    };
    written.map(grow).collect()
}

/// Takes everything but what is in files. Only while the machine stands still.
fn capture(machine: &Machine, contents: Contents) -> Result<Captured, SnapshotError> {
    if let Some(reason) = machine.drives().hindrance() {
        return Err(SnapshotError::Refused(reason));
    }
    let (contents, pages_caught_up) = contents.caught_up(machine.shared_memory());
    let state = machine.save_state().map_err(SnapshotError::Refused)?;
    let (drives, changes) = media(machine)?;
    Ok(Captured { contents, state, drives, changes, pages_caught_up })
}

/// What is in the drives, and what no file holds of that. Only while the machine stands still.
pub(super) fn media(machine: &Machine) -> Result<(Vec<DriveRecord>, Vec<Changes>), SnapshotError> {
    let (mut drives, mut all) = (Vec::new(), Vec::new());
    for port in machine.drives().ports() {
        port.flush().map_err(SnapshotError::Refused)?;
        let mut changes = Changes { drive: port.name().to_owned(), runs: Vec::new() };
        let kind = port.with_medium(|medium| kind_and_changes(medium, &mut changes));
        let kind = kind.unwrap_or(Ok(MediumKind::ReadOnly))?;
        if !changes.runs.is_empty() {
            all.push(changes);
        }
        drives.push(DriveRecord {
            drive: port.name().to_owned(),
            named: port.named().to_owned(),
            front: port.front(),
            kind,
            files: Vec::new(),
        });
    }
    Ok((drives, all))
}

fn kind_and_changes(medium: &mut Medium, changes: &mut Changes) -> Result<MediumKind, SnapshotError> {
    match medium {
        Medium::File(_) => Ok(MediumKind::Written),
        Medium::ReadOnly(_) => Ok(MediumKind::ReadOnly),
        Medium::ThrowAway(overlay) => {
            if overlay.changed_bytes() > CHANGES_MAX_BYTES {
                return Err(SnapshotError::Refused(format!(
                    "the guest has written {} MiB to a disk whose changes are thrown away; at most {} MiB can be \
                     saved. Run it without --snapshot",
                    overlay.changed_bytes() >> 20,
                    CHANGES_MAX_BYTES >> 20
                )));
            }
            let keep = |offset, bytes: &[u8]| changes.runs.push((offset, Bytes(bytes.to_vec())));
            overlay.each_change(keep).map_err(SnapshotError::refused)?;
            Ok(MediumKind::ThrowAway)
        }
        Medium::Memory(disk) => {
            changes.runs.push((0, Bytes(disk.bytes().to_vec())));
            debug_assert_eq!(disk.bytes().len() as u64, disk.length_bytes());
            Ok(MediumKind::Memory)
        }
    }
}

/// Has the machine go on in new overlays. They are written down first: whatever happens then, what the guest flushes is
/// found. Only while it stands still.
fn turn(turns: &[TurnOver], before: &Layers, after: &Layers) -> Result<(), SnapshotError> {
    let fronts: Vec<PathBuf> = turns.iter().map(|turn| turn.port.front()).collect();
    after.write()?;
    let turned = turns.iter().try_for_each(|turn| turn.port.reopen(&turn.overlay));
    if let Err(reason) = turned {
        for (turn, front) in turns.iter().zip(&fronts) {
            turn.port.reopen(front).map_err(SnapshotError::Refused)?;
        }
        before.write()?;
        return Err(SnapshotError::Refused(reason));
    }
    Ok(())
}

fn head(machine: &Machine, name: &str, captured: &Captured) -> Head {
    let (backend, interrupts) = machine.platform().kind();
    Head {
        name: name.to_owned(),
        profile: machine.profile().clone(),
        taken_seconds: UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs()),
        guest_ns: captured.state.now_ns,
        vitrine: env!("CARGO_PKG_VERSION").to_owned(),
        backend,
        interrupts,
        offer: machine.platform().offer(),
        cable: machine.network().map(|network| network.is_plugged()),
        drives: captured.drives.clone(),
        memory_bytes: machine.shared_memory().host_bytes(),
    }
}

fn write(path: &Path, head: &Head, captured: &Captured) -> Result<u64, SnapshotError> {
    let mut writer = Writer::new(path)?;
    writer.section(tag::HEAD, &serde_json::to_vec(head).map_err(SnapshotError::refused)?)?;
    writer.section(tag::MACHINE, &pack(&captured.state)?)?;
    for changes in &captured.changes {
        for part in parts(changes) {
            writer.section(tag::MEDIUM, &pack(&part)?)?;
        }
    }
    pages::pack(captured.contents.pages(), |section| writer.section(tag::PAGES, section))?;
    writer.finish()
}

/// MessagePack, compressed.
fn pack(value: &impl Serialize) -> Result<Vec<u8>, SnapshotError> {
    let packed = rmp_serde::to_vec_named(value).map_err(SnapshotError::refused)?;
    Ok(lz4_flex::block::compress_prepend_size(&packed))
}

/// Changes in parts that fit a section.
fn parts(changes: &Changes) -> Vec<Changes> {
    let mut parts: Vec<(usize, Changes)> = Vec::new();
    for (offset, bytes) in &changes.runs {
        for (n, piece) in bytes.0.chunks(CHANGES_PART_BYTES).enumerate() {
            let run = (offset + (n * CHANGES_PART_BYTES) as u64, Bytes(piece.to_vec()));
            match parts.last_mut() {
                Some((size, part)) if *size + piece.len() <= CHANGES_PART_BYTES => {
                    *size += piece.len();
                    part.runs.push(run);
                }
                _ => parts.push((piece.len(), Changes { drive: changes.drive.clone(), runs: vec![run] })),
            }
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}
