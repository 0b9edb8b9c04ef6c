//! What a saved state says of itself, and of the disks that belong to it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::SnapshotError;
use crate::backend::features::Offer;
use crate::backend::{Backend, InterruptMode};
use crate::profile::Profile;

/// The first section of a saved state: all that is known without reading the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The snapshot's name; empty for a machine that was suspended.
    pub name: String,
    /// What the machine is made of.
    pub profile: Profile,
    /// When it was saved, in seconds since 1970.
    pub taken_seconds: u64,
    /// Guest time in nanoseconds.
    pub guest_ns: u64,
    /// Which Vitrine saved it.
    pub vitrine: String,
    /// Who ran it.
    pub backend: Backend,
    /// Where its interrupt controllers were.
    pub interrupts: InterruptMode,
    /// What CPUID offered to the guest.
    pub offer: Offer,
    /// Whether the network cable was plugged in, if there is one.
    pub cable: Option<bool>,
    /// What was in its drives.
    pub drives: Vec<DriveRecord>,
    /// Length of all its memory in bytes: RAM, ROMs and video memory.
    pub memory_bytes: u64,
}

/// What was in a drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveRecord {
    /// The drive: `disk0`, `cdrom`, `floppy`.
    pub drive: String,
    /// What the profile, or who put it in, calls the medium.
    pub named: PathBuf,
    /// The file that holds its content.
    pub front: PathBuf,
    /// How it is held.
    pub kind: MediumKind,
    /// That file and those it is based on, as they were.
    pub files: Vec<(PathBuf, Identity)>,
}

/// How a medium is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediumKind {
    /// In an image that was written; since then, an overlay over it is.
    Written,
    /// In something that is only read.
    ReadOnly,
    /// As what is only read, with the changes in the saved state.
    ThrowAway,
    /// In the saved state.
    Memory,
}

/// By what a file is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its length.
    pub length_bytes: u64,
    /// When it was written last: seconds since 1970, and nanoseconds.
    pub modified: (i64, i64),
}

impl Identity {
    /// Of the file at `path`.
    pub fn of(path: &Path) -> io::Result<Identity> {
        let data = fs::metadata(path)?;
        // A folder's files are looked at when they are read.
        let length_bytes = if data.is_file() { data.len() } else { 0 };
        Ok(Identity { length_bytes, modified: (data.mtime(), data.mtime_nsec()) })
    }
}

impl DriveRecord {
    /// Notes the files that hold what is in the drive. Only when they are at rest.
    pub fn note_files(&mut self) -> Result<(), SnapshotError> {
        let files = match self.front.is_dir() {
            true => vec![self.front.clone()],
            false => storage::image::chain(&self.front).map_err(SnapshotError::refused)?,
        };
        let note = |path: PathBuf| {
            let identity = Identity::of(&path).map_err(super::error::host(&path))?;
            Ok((path, identity))
        };
        self.files = files.into_iter().map(note).collect::<Result<_, SnapshotError>>()?;
        Ok(())
    }

    /// Whether all files are as they were.
    pub fn check_files(&self) -> Result<(), SnapshotError> {
        check_files(&self.drive, &self.files)
    }
}

/// Whether `files`, of `drive`, are as they were.
pub fn check_files(drive: &str, files: &[(PathBuf, Identity)]) -> Result<(), SnapshotError> {
    for (path, identity) in files {
        let how = match Identity::of(path) {
            Ok(now) if now == *identity => continue,
            Ok(_) => "was changed".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed".to_owned(),
            Err(error) => format!("cannot be read any more ({error})"),
        };
        return Err(SnapshotError::Disk { drive: drive.to_owned(), path: path.clone(), how });
    }
    Ok(())
}
