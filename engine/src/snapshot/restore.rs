//! Continuing a saved machine: in one that runs, or as a new one.
//!
//! A file is read to its end and checked before anything is touched. Its disks, the processor and the devices are
//! compared next; a machine that runs is then held, and if it cannot become the saved one after all, it goes on as it
//! was.

use std::path::{Path, PathBuf};

use hardware::Memory;
use serde::de::DeserializeOwned;
use storage::{Disk, Format};

use super::error::SnapshotError;
use super::file::{Reader, tag};
use super::head::{DriveRecord, Head, MediumKind};
use super::layers::Layers;
use super::pages;
use super::states::{States, Which, read_head};
use super::take::{Changes, media};
use crate::backend::{Backend, InterruptMode};
use crate::machine::{Bytes, CDROM, FLOPPY, Fronts, Machine, MachineState, Medium};
use crate::profile::Profile;
use crate::session::{After, Outlets, RunState, Session};

/// Longest packed value.
const PACKED_MAX_BYTES: u32 = 256 << 20;

/// A saved state that was read and is whole.
struct Saved {
    head: Head,
    state: MachineState,
    changes: Vec<Changes>,
    /// Where it lies, to read memory from.
    path: PathBuf,
}

/// Starts a machine from a saved state. `change` may give it another backend or interrupt mode. Of a machine that was
/// suspended the state is used up; a snapshot stays, and what the machine's disks held since is given up.
pub fn start(
    states: &States,
    which: Which,
    change: impl FnOnce(&mut Profile),
    mut outlets: Outlets,
) -> Result<Session, SnapshotError> {
    let mut saved = read(states, which)?;
    let _guard = states.lock()?;
    saved.head.drives.iter().try_for_each(DriveRecord::check_files)?;
    let mut profile = saved.head.profile.clone();
    change(&mut profile);
    if profile.backend == Backend::Auto {
        // A state continues where it was saved, unless something else is asked for.
        profile.backend = saved.head.backend;
    }
    seat(&mut profile, &saved.head.drives);
    let layers = Layers::read(states.folder())?;
    let keeps_files = which == Which::Suspended;
    let (fronts, after) = fronts(&saved.head.drives, &layers, keeps_files)?;
    let paused = std::mem::replace(&mut outlets.paused, true);
    outlets.fronts = fronts;
    let session = Session::start(&profile, outlets).inspect_err(|_| states.sweep(&layers))?;
    let fits = check_processor(session.machine(), &saved.head)
        .and_then(|()| check_machine(session.machine(), &saved));
    let loaded = fits.and_then(|()| {
        let load = move |machine: &Machine| load(machine, &mut saved).map(|()| saved.head.cable);
        let (loaded, _) = session.while_still(load, |_| After::GoOn).map_err(SnapshotError::refused)?;
        if loaded? == Some(false) {
            session.set_cable(false);
        }
        Ok(())
    });
    let written = loaded.and_then(|()| if keeps_files { Ok(()) } else { after.write() });
    if let Err(error) = written {
        session.power_off();
        session.wait(std::time::Duration::from_secs(5));
        states.sweep(&layers);
        return Err(error);
    }
    if keeps_files {
        // From here on its disks are others than the state's.
        let path = states.path(which)?;
        std::fs::remove_file(&path).map_err(super::error::host(&path))?;
    }
    states.sweep(&after);
    if !paused {
        session.resume();
    }
    Ok(session)
}

/// Puts a machine that runs, or is paused, back into snapshot `name`. What its disks held since is given up. On an error
/// it goes on as it was.
pub fn restore(session: &Session, states: &States, name: &str) -> Result<(), SnapshotError> {
    let mut saved = read(states, Which::Snapshot(name))?;
    if let RunState::Ended(_) = session.state() {
        return Err(SnapshotError::Refused("the machine is off: start it from the snapshot".to_owned()));
    }
    let _guard = states.lock()?;
    saved.head.drives.iter().try_for_each(DriveRecord::check_files)?;
    check_processor(session.machine(), &saved.head)?;
    check_machine(session.machine(), &saved)?;
    let before = Layers::read(states.folder())?;
    let (fronts, after) = fronts(&saved.head.drives, &before, false)?;
    let commit = after.clone();
    let act = move |machine: &Machine| {
        let state = machine.save_state().map_err(SnapshotError::Refused)?;
        let contents = machine.shared_memory().contents();
        let (drives, changes) = media(machine)?;
        let cable = saved.head.cable;
        let done = change_disks(machine, &fronts, |machine| {
            load(machine, &mut saved)?;
            commit.write()
        });
        if done.is_err() {
            let undone = machine.shared_memory().set_contents(&contents).map_err(|error| error.to_string());
            change_media(machine, &drives)?;
            put_back(machine, changes)?;
            undone.and_then(|()| machine.load_state(&state)).map_err(SnapshotError::Refused)?;
        }
        done.map(|()| cable)
    };
    let (done, _) = session.while_still(act, |_| After::GoOn).map_err(SnapshotError::refused)?;
    states.sweep(if done.is_ok() { &after } else { &before });
    session.set_cable(done?.unwrap_or(true));
    session.forget_past();
    Ok(())
}

/// Opens the files of a snapshot in the place of those the machine writes now, and does the rest; if that fails, opens
/// those again.
fn change_disks(
    machine: &Machine,
    fronts: &Fronts,
    rest: impl FnOnce(&Machine) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let ports = machine.drives().ports();
    let now: Vec<_> =
        ports.iter().filter(|port| port.format().is_some()).map(|port| (port, port.front())).collect();
    // What is owed to the disks of the present is given up with them.
    now.iter().try_for_each(|(port, _)| port.flush()).map_err(SnapshotError::Refused)?;
    let changed = now.iter().try_for_each(|(port, _)| port.reopen(fronts.of(port.named())));
    let done = changed.map_err(SnapshotError::Refused).and_then(|()| rest(machine));
    if done.is_err() {
        now.iter().try_for_each(|(port, front)| port.reopen(front)).map_err(SnapshotError::Refused)?;
    }
    done
}

/// Reads a state to its end.
fn read(states: &States, which: Which) -> Result<Saved, SnapshotError> {
    let mut reader = states.open(which)?;
    let head = match reader.next()? {
        Some((tag::HEAD, content)) => read_head(&reader, &content)?,
        _ => return Err(reader.damaged("it does not begin with what it is of")),
    };
    let (mut state, mut changes) = (None, Vec::new());
    while let Some((tag, content)) = reader.next()? {
        match tag {
            tag::MACHINE => state = Some(unpack(&reader, &content)?),
            tag::MEDIUM => changes.push(unpack(&reader, &content)?),
            tag::PAGES => {
                pages::unpack(&content, head.memory_bytes, |_, _| {}).map_err(|what| reader.damaged(what))?;
            }
            // Sections that this version does not know would change what the machine is.
            _ => return Err(reader.damaged("it has a section nobody knows")),
        }
    }
    let state = state.ok_or_else(|| reader.damaged("registers and devices are missing"))?;
    Ok(Saved { head, state, changes, path: states.path(which)? })
}

fn unpack<T: DeserializeOwned>(reader: &Reader, content: &[u8]) -> Result<T, SnapshotError> {
    let (length, block) =
        content.split_first_chunk::<4>().ok_or_else(|| reader.damaged("a section is too short"))?;
    let length = u32::from_le_bytes(*length);
    // LZ4 makes at most 255 bytes of one.
    if length > PACKED_MAX_BYTES || length as usize > block.len().saturating_mul(255) {
        return Err(reader.damaged("a section has an impossible length"));
    }
    let packed = lz4_flex::block::decompress(block, length as usize)
        .map_err(|error| reader.damaged(error.to_string()))?;
    rmp_serde::from_slice(&packed).map_err(|error| reader.damaged(error.to_string()))
}

fn check_processor(machine: &Machine, head: &Head) -> Result<(), SnapshotError> {
    let names = machine.platform().offer().lacks(&head.offer);
    if !names.is_empty() {
        let backend = head.backend.to_string();
        return Err(SnapshotError::Features { names, backend });
    }
    let (_, interrupts) = machine.platform().kind();
    let is_same = interrupts == head.interrupts;
    if !is_same {
        let keeps = |mode| if mode == InterruptMode::Glass { "Vitrine" } else { "the host's kernel" };
        return Err(SnapshotError::Refused(format!(
            "it was saved with {} interrupts (controllers kept by {}), and the machine has {interrupts} ones: choose \
             --interrupts {}",
            head.interrupts,
            keeps(head.interrupts),
            head.interrupts
        )));
    }
    Ok(())
}

fn check_machine(machine: &Machine, saved: &Saved) -> Result<(), SnapshotError> {
    if machine.shared_memory().host_bytes() != saved.head.memory_bytes {
        return Err(SnapshotError::Refused("it is of a machine with another amount of memory".to_owned()));
    }
    machine.check_state(&saved.state).map_err(SnapshotError::Refused)
}

/// Puts what was in the drives into the profile; a floppy drive that was empty keeps the profile's disk for now.
fn seat(profile: &mut Profile, drives: &[DriveRecord]) {
    let named =
        |drive: &str| drives.iter().find(|record| record.drive == drive).map(|record| record.named.clone());
    profile.cdrom = named(CDROM);
    if let Some(floppy) = named(FLOPPY) {
        profile.floppy = Some(floppy);
    }
}

/// The files to open in the place of the disks' own, and the record of that: for a snapshot new overlays over its files,
/// for a suspended machine those files.
fn fronts(
    drives: &[DriveRecord],
    layers: &Layers,
    keeps_files: bool,
) -> Result<(Fronts, Layers), SnapshotError> {
    let (mut fronts, mut after) = (Fronts::default(), layers.clone());
    for record in drives.iter().filter(|record| record.kind == MediumKind::Written) {
        let front = match keeps_files {
            true => record.front.clone(),
            false => {
                let (format, length_bytes) = shape(&record.front)?;
                let front = layers.grow(&record.front, format, length_bytes)?;
                after = after.with_front(&record.named, &record.drive, &front);
                front
            }
        };
        fronts.0.insert(record.named.clone(), front);
    }
    if !keeps_files {
        after.note_behind()?;
    }
    Ok((fronts, after))
}

fn shape(front: &Path) -> Result<(Format, u64), SnapshotError> {
    let info = storage::job::info(front).map_err(SnapshotError::refused)?;
    Ok((info.format, info.length_bytes))
}

/// Makes the machine the saved one. Only while it stands still, and its disks are those of the state.
fn load(machine: &Machine, saved: &mut Saved) -> Result<(), SnapshotError> {
    change_media(machine, &saved.head.drives)?;
    put_back(machine, std::mem::take(&mut saved.changes))?;
    let memory: &Memory = machine.shared_memory();
    memory.forget().map_err(SnapshotError::refused)?;
    let mut reader = Reader::open(&saved.path)?;
    while let Some((tag, content)) = reader.next()? {
        if tag == tag::PAGES {
            let bytes = memory.host_bytes();
            pages::unpack(&content, bytes, |offset, page| memory.write_at(offset, page))
                .map_err(|what| reader.damaged(what))?;
        }
    }
    machine.load_state(&saved.state).map_err(SnapshotError::Refused)
}

/// Puts into the drives what was in them.
fn change_media(machine: &Machine, drives: &[DriveRecord]) -> Result<(), SnapshotError> {
    for drive in machine.drives().removable() {
        let wanted = drives.iter().find(|record| record.drive == drive.name).map(|record| &record.named);
        if drive.medium.as_ref() == wanted {
            continue;
        }
        let done = match wanted {
            Some(path) => machine.drives().insert(&drive.name, path),
            None => machine.drives().eject(&drive.name),
        };
        done.map_err(SnapshotError::Refused)?;
    }
    Ok(())
}

/// Puts what no file holds back into the drives, in place of what was written there since.
fn put_back(machine: &Machine, all: Vec<Changes>) -> Result<(), SnapshotError> {
    let ports = machine.drives().ports();
    for port in &ports {
        let forgotten = port.with_medium(|medium| match medium {
            Medium::ThrowAway(overlay) => overlay.discard(),
            Medium::File(_) | Medium::ReadOnly(_) | Medium::Memory(_) => Ok(()),
        });
        forgotten.unwrap_or(Ok(())).map_err(SnapshotError::refused)?;
    }
    for changes in all {
        let refused = |what: &str| SnapshotError::Refused(format!("drive {}: {what}", changes.drive));
        let port = ports.iter().find(|port| port.name() == changes.drive);
        let port = port.ok_or_else(|| refused("there is none"))?;
        let written = port.with_medium(|medium| {
            let disk: &mut dyn Disk = match medium {
                Medium::ThrowAway(overlay) => overlay,
                Medium::Memory(disk) => disk,
                Medium::File(_) | Medium::ReadOnly(_) => {
                    return Err(refused("its changes are not thrown away"));
                }
            };
            let write = |(offset, bytes): &(u64, Bytes)| disk.write_at(*offset, &bytes.0);
            changes.runs.iter().try_for_each(write).map_err(SnapshotError::refused)
        });
        written.unwrap_or_else(|| Err(refused("it is closed")))?;
    }
    Ok(())
}
