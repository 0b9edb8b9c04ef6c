//! The overlays that a machine's disks have grown: a snapshot leaves a disk's file as it is from then on, and the machine
//! writes into a new overlay over it.
//!
//! `layers.json` says, for each disk the profile names, which file holds what is on it now (its front). The files
//! behind a front are written by nobody; each is known by length and time, and one that was changed is refused by
//! name. Overlays are `layers/N.qcow2`; one that neither a front nor a state needs is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use storage::Format;

use super::error::{SnapshotError, host};
use super::head::{Identity, check_files};
use crate::machine::Fronts;

/// Most files a disk may lie in: a snapshot adds one. Images of longer chains are not opened.
const DEPTH_MAX: usize = 30;

/// What `layers.json` holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    /// By the disk's name in the profile.
    fronts: BTreeMap<PathBuf, Front>,
}

/// Where a disk is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Front {
    /// The drive, for messages.
    pub drive: String,
    /// The overlay, relative to the folder of states.
    pub file: PathBuf,
    /// The files behind it.
    pub behind: Vec<(PathBuf, Identity)>,
    /// Its content is going back into the file behind it: that one may be changed already.
    #[serde(default)]
    pub is_merging: bool,
}

/// The overlays of one machine. Used only while the folder is locked.
#[derive(Clone, Debug)]
pub struct Layers {
    folder: PathBuf,
    record: Record,
}

impl Layers {
    /// Reads which there are; and finishes what was cut off.
    pub fn read(folder: &Path) -> Result<Layers, SnapshotError> {
        let path = folder.join("layers.json");
        let record = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| SnapshotError::Damaged { path: path.clone(), what: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Record::default(),
            Err(error) => return Err(host(&path)(error)),
        };
        let mut layers = Layers { folder: folder.to_owned(), record };
        if layers.record.fronts.values().any(|front| front.is_merging) {
            layers.merge_back()?;
        }
        Ok(layers)
    }

    /// The files that stand in the place of disks, if those behind are as they were left.
    pub fn fronts(&self) -> Result<Fronts, SnapshotError> {
        let mut fronts = Fronts::default();
        for (named, front) in &self.record.fronts {
            check_files(&front.drive, &front.behind)?;
            fronts.0.insert(named.clone(), self.folder.join(&front.file));
        }
        Ok(fronts)
    }

    /// A new, empty overlay over `behind`, which may be in use.
    pub fn grow(&self, behind: &Path, format: Format, length_bytes: u64) -> Result<PathBuf, SnapshotError> {
        let depth = storage::image::chain(behind).map_err(SnapshotError::refused)?.len();
        if depth >= DEPTH_MAX {
            return Err(SnapshotError::Refused(format!(
                "{} lies over {} others already, one for each snapshot: delete snapshots first",
                behind.display(),
                depth - 1
            )));
        }
        let folder = self.folder.join("layers");
        fs::create_dir_all(&folder).map_err(host(&folder))?;
        let is_free = |n: &u32| !folder.join(format!("{n}.qcow2")).exists();
        let number = (1..).find(is_free).expect("some number is free");
        let path = folder.join(format!("{number}.qcow2"));
        // Overlays name each other by file name, so that their folder can be moved.
        let name = match behind.strip_prefix(&folder) {
            Ok(name) => name.to_owned(),
            Err(_) => std::path::absolute(behind).map_err(host(behind))?,
        };
        storage::job::create_over(&path, &name, format, length_bytes).map_err(SnapshotError::refused)?;
        Ok(path)
    }

    /// The same, with `front` in the place of the disk `named`; what is behind it is not looked at yet.
    pub fn with_front(&self, named: &Path, drive: &str, front: &Path) -> Layers {
        let mut layers = self.clone();
        let file = front.strip_prefix(&self.folder).unwrap_or(front).to_owned();
        let front = Front { drive: drive.to_owned(), file, behind: Vec::new(), is_merging: false };
        layers.record.fronts.insert(named.to_owned(), front);
        layers
    }

    /// Notes the files behind all fronts. Only when nobody writes them.
    pub fn note_behind(&mut self) -> Result<(), SnapshotError> {
        for front in self.record.fronts.values_mut() {
            let files =
                storage::image::chain(&self.folder.join(&front.file)).map_err(SnapshotError::refused)?;
            let note = |path: &PathBuf| Ok((path.clone(), Identity::of(path).map_err(host(path))?));
            front.behind = files.iter().skip(1).map(note).collect::<Result<_, SnapshotError>>()?;
        }
        Ok(())
    }

    /// Writes down which there are, in one step.
    pub fn write(&self) -> Result<(), SnapshotError> {
        let path = self.folder.join("layers.json");
        let write = || {
            let mut file = tempfile::Builder::new().prefix(".saving.").tempfile_in(&self.folder)?;
            file.write_all(&serde_json::to_vec_pretty(&self.record)?)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(host(&path))
    }

    /// The overlay files the machine needs.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let chains = self.record.fronts.values().map(|front| self.folder.join(&front.file));
        // A chain that cannot be followed is left alone by `sweep`, which then removes nothing.
        chains.flat_map(|front| storage::image::chain(&front).unwrap_or_else(|_| vec![front])).collect()
    }

    /// Removes overlays that are not `needed`, and that nobody uses.
    pub fn sweep(&self, needed: &BTreeSet<PathBuf>) {
        let is_whole = self
            .record
            .fronts
            .values()
            .all(|front| storage::image::chain(&self.folder.join(&front.file)).is_ok());
        if !is_whole {
            return;
        }
        for entry in fs::read_dir(self.folder.join("layers")).into_iter().flatten().flatten() {
            let path = entry.path();
            let in_use = || File::open(&path).is_ok_and(|file| file.try_lock().is_err());
            if !needed.contains(&path) && !in_use() {
                // What stays is only room lost.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Puts what the overlays hold back into the images they lie over, down to the disks themselves. A disk that is in
    /// use keeps its overlays.
    pub fn merge_back(&mut self) -> Result<(), SnapshotError> {
        let all: Vec<(PathBuf, Front)> =
            self.record.fronts.iter().map(|(named, front)| (named.clone(), front.clone())).collect();
        for (named, front) in all {
            if !front.is_merging {
                check_files(&front.drive, &front.behind)?;
            }
            let chain =
                storage::image::chain(&self.folder.join(&front.file)).map_err(SnapshotError::refused)?;
            let is_own = |path: &&PathBuf| path.starts_with(self.folder.join("layers"));
            let own: Vec<PathBuf> = chain.iter().take_while(is_own).cloned().collect();
            if own.iter().any(|path| File::open(path).is_ok_and(|file| file.try_lock().is_err())) {
                continue;
            }
            self.record.fronts.get_mut(&named).expect("it was just there").is_merging = true;
            self.write()?;
            for overlay in &own {
                storage::job::merge(overlay, &mut |_, _| true).map_err(SnapshotError::refused)?;
            }
            self.record.fronts.remove(&named);
            self.write()?;
        }
        Ok(())
    }
}
