//! The folder of one machine's saved states: `snapshots/NAME.state`, `suspended.state`, and the overlays that its
//! disks have grown since (`layers.rs`).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::{SnapshotError, host};
use super::file::{Reader, tag};
use super::head::Head;
use super::layers::Layers;
use crate::library::{Library, PROFILE_FILE};
use crate::machine::Fronts;
use crate::profile::check_name;

/// How a snapshot's file name ends.
const EXTENSION: &str = "state";

/// A saved state of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// The snapshot of this name.
    Snapshot(&'a str),
    /// The one it was suspended in.
    Suspended,
}

/// A saved state, as a list shows it.
#[derive(Debug)]
pub struct Entry {
    /// The snapshot's name; `None` for a suspended machine.
    pub name: Option<String>,
    /// Length of its file in bytes.
    pub bytes: u64,
    /// What it is of; or why it cannot be read.
    pub head: Result<Head, SnapshotError>,
}

/// Where the states of one machine lie.
#[derive(Clone, Debug)]
pub struct States {
    machine: String,
    folder: PathBuf,
}

/// Held by whoever changes what is in the folder.
pub struct Guard {
    _lock: File,
}

impl States {
    /// Those of the machine called `name`: in its own folder if it is saved in `library`, else beside all machines.
    pub fn of(library: &Library, name: &str) -> Result<States, SnapshotError> {
        check_name(name).map_err(SnapshotError::Name)?;
        let own = library.folder(name);
        let folder = match own.join(PROFILE_FILE).is_file() {
            true => own.join("states"),
            false => library.root().join("states").join(name),
        };
        Ok(States { machine: name.to_owned(), folder })
    }

    /// The machine's name.
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// The folder. It may not exist yet.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a state, whether or not it exists.
    pub fn path(&self, which: Which) -> Result<PathBuf, SnapshotError> {
        match which {
            Which::Suspended => Ok(self.folder.join("suspended.state")),
            Which::Snapshot(name) => {
                check_name(name)
                    .map_err(|reason| SnapshotError::Name(reason.replace("a machine", "a snapshot")))?;
                Ok(self.folder.join("snapshots").join(format!("{name}.{EXTENSION}")))
            }
        }
    }

    /// Names of the snapshots, in alphabetical order.
    pub fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder.join("snapshots")) else { return Vec::new() };
        let name = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let name = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.to_owned();
            check_name(&name).is_ok().then_some(name)
        };
        let mut names: Vec<String> = entries.flatten().filter_map(name).collect();
        names.sort();
        names
    }

    /// Every saved state, the suspended one first, then by the time they were taken.
    pub fn list(&self) -> Vec<Entry> {
        let entry = |name: Option<String>| {
            let which = name.as_deref().map_or(Which::Suspended, Which::Snapshot);
            let path = self.path(which).ok()?;
            let bytes = fs::metadata(&path).ok()?.len();
            let head = self.head(which);
            Some(Entry { name, bytes, head })
        };
        let names = self.names().into_iter().map(Some);
        let mut list: Vec<Entry> = std::iter::once(None).chain(names).filter_map(entry).collect();
        list.sort_by_key(|entry| {
            (entry.name.is_some(), entry.head.as_ref().map_or(0, |head| head.taken_seconds))
        });
        list
    }

    /// Whether the machine is suspended.
    pub fn is_suspended(&self) -> bool {
        self.path(Which::Suspended).is_ok_and(|path| path.is_file())
    }

    /// What a state is of.
    pub fn head(&self, which: Which) -> Result<Head, SnapshotError> {
        let mut reader = self.open(which)?;
        match reader.next()? {
            Some((tag::HEAD, content)) => read_head(&reader, &content),
            _ => Err(reader.damaged("it does not begin with what it is of")),
        }
    }

    /// Opens the file of a state.
    pub(super) fn open(&self, which: Which) -> Result<Reader, SnapshotError> {
        let path = self.path(which)?;
        if path.is_file() {
            return Reader::open(&path);
        }
        let machine = self.machine.clone();
        match which {
            Which::Suspended => Err(SnapshotError::NotSuspended { machine }),
            Which::Snapshot(name) => {
                let there = self.names();
                let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
                Err(SnapshotError::Unknown { machine, name: name.to_owned(), there })
            }
        }
    }

    /// Deletes a state, and the overlays that nothing needs any more. With the last snapshot, what the disks' overlays
    /// hold goes back into the images, unless the machine runs.
    pub fn delete(&self, which: Which) -> Result<(), SnapshotError> {
        let path = self.path(which)?;
        self.open(which).map(drop).or_else(|error| match error {
            // What is damaged or foreign can be deleted too.
            SnapshotError::Unknown { .. }
            | SnapshotError::NotSuspended { .. }
            | SnapshotError::Host { .. } => Err(error),
            _ => Ok(()),
        })?;
        let _guard = self.lock()?;
        fs::remove_file(&path).map_err(host(&path))?;
        let mut layers = Layers::read(&self.folder)?;
        if self.names().is_empty() && !self.is_suspended() {
            layers.merge_back()?;
        }
        self.sweep(&layers);
        Ok(())
    }

    /// The files that stand in the place of the machine's disks, if they are as they were left.
    pub fn fronts(&self) -> Result<Fronts, SnapshotError> {
        if !self.folder.is_dir() {
            return Ok(Fronts::default());
        }
        let _guard = self.lock()?;
        Layers::read(&self.folder)?.fronts()
    }

    /// Keeps others from changing what is in the folder, which it makes.
    pub(super) fn lock(&self) -> Result<Guard, SnapshotError> {
        let snapshots = self.folder.join("snapshots");
        fs::create_dir_all(&snapshots).map_err(host(&snapshots))?;
        let path = self.folder.join("lock");
        let lock = File::options().create(true).append(true).open(&path).map_err(host(&path))?;
        lock.lock().map_err(host(&path))?;
        Ok(Guard { _lock: lock })
    }

    /// Removes overlays that neither the machine nor a state needs, and what a save that was killed left. Only while
    /// locked.
    pub(super) fn sweep(&self, layers: &Layers) {
        let mut needed = layers.files();
        let which = self.names().into_iter().map(Some).chain([None]);
        for name in which {
            match self.head(name.as_deref().map_or(Which::Suspended, Which::Snapshot)) {
                Ok(head) => {
                    needed.extend(head.drives.into_iter().flat_map(|d| d.files).map(|(path, _)| path))
                }
                Err(SnapshotError::NotSuspended { .. }) => {}
                // What one that cannot be read needs, nobody knows: nothing is removed.
                Err(_) => return,
            }
        }
        layers.sweep(&needed);
        let abandoned = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".saving.");
        for folder in [self.folder.clone(), self.folder.join("snapshots")] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(abandoned) {
                // What stays is only room lost.
                let _: io::Result<()> = fs::remove_file(entry.path());
            }
        }
    }
}

/// Reads the first section, and checks what others rely on.
pub(super) fn read_head(reader: &Reader, content: &[u8]) -> Result<Head, SnapshotError> {
    let head: Head = serde_json::from_slice(content)
        .map_err(|error| reader.damaged(format!("what it is of cannot be read ({error})")))?;
    let memory = head.profile.memory.bytes();
    let is_possible = (crate::profile::MEMORY_LIMITS.0.bytes()..=crate::profile::MEMORY_LIMITS.1.bytes())
        .contains(&memory)
        && head.memory_bytes >= memory
        && head.memory_bytes - memory <= 1 << 30;
    match is_possible {
        true => Ok(head),
        false => Err(reader.damaged("the size of the machine's memory is impossible")),
    }
}
