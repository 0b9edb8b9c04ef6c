//! Why a state was not saved, or cannot be continued.

use std::io;
use std::path::{Path, PathBuf};

use crate::machine::StartError;

/// Why a state was not saved, or cannot be continued. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not a saved state at all.
    #[error("{} is no saved state of a machine", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Of a later version.
    #[error(
        "{} was saved by a newer Vitrine (format {version}, and this one knows up to {known}): continue it there",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
        /// The newest format known here.
        known: u32,
    },
    /// Cut off or altered.
    #[error("{} is damaged: {what}. It cannot be continued", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// No state of that name.
    #[error("{machine} has no snapshot called {name}; there is: {there}")]
    Unknown {
        /// The machine.
        machine: String,
        /// The name asked for.
        name: String,
        /// Those there are.
        there: String,
    },
    /// The machine was not suspended.
    #[error("{machine} is not suspended; there is nothing to continue")]
    NotSuspended {
        /// The machine.
        machine: String,
    },
    /// One of that name is there.
    #[error("a snapshot called {name} exists already; delete it first, or choose another name")]
    Exists {
        /// The name.
        name: String,
    },
    /// No name for a snapshot.
    #[error("{0}")]
    Name(String),
    /// A disk is not as it was.
    #[error(
        "{}, in drive {drive}, {how} since the state was saved: the guest would find another disk than the one it \
         knows. Put the file back as it was, or delete the state and start the machine anew", .path.display()
    )]
    Disk {
        /// The drive.
        drive: String,
        /// The file.
        path: PathBuf,
        /// What happened to it.
        how: String,
    },
    /// The processor is another.
    #[error(
        "the guest was offered processor features that are not here: {}. Continue it with the backend it was saved on \
         ({backend}), or on a host that has them", .names.join(", ")
    )]
    Features {
        /// What is missing.
        names: Vec<String>,
        /// Where it was saved.
        backend: String,
    },
    /// The machine cannot be saved or take the state over.
    #[error("{0}")]
    Refused(String),
    /// The machine could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The host could not do it.
    #[error("{}: {source}", .path.display())]
    Host {
        /// The file or folder.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
}

/// For `map_err`.
pub fn host(path: &Path) -> impl Fn(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Host { path: path.clone(), source }
}

impl SnapshotError {
    /// For `map_err`.
    pub fn refused(reason: impl ToString) -> SnapshotError {
        SnapshotError::Refused(reason.to_string())
    }
}
