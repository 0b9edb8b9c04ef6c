//! Why an image file could not be opened: which file, what happened, what the person can do.

use std::io;
use std::path::{Path, PathBuf};

/// Why an image could not be opened or made. Every message names the file and says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("{path} does not exist. Check the name, or choose the file anew")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is a folder.
    #[error("{path} is a folder, not a disk image. Choose a file inside it")]
    Directory {
        /// The folder.
        path: PathBuf,
    },
    /// A pipe, socket or character device.
    #[error("{path} is neither a file nor a disk of this computer, so it cannot be used as a disk")]
    Special {
        /// The file.
        path: PathBuf,
    },
    /// The person may not read (or write) it.
    #[error("{path} cannot be opened for {wanted}: permission denied. {advice}")]
    Permission {
        /// The file.
        path: PathBuf,
        /// "reading" or "reading and writing".
        wanted: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// It holds nothing.
    #[error("{path} is empty. If it was downloaded or copied, that did not finish: get it again")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Its length is not a whole number of sectors.
    #[error(
        "{path} is {length_bytes} bytes long, which is not a whole number of 512-byte sectors: it is \
         truncated or not a raw disk image. If it is one, `truncate -s %512 {path}` completes its last sector"
    )]
    PartialSector {
        /// The file.
        path: PathBuf,
        /// Its length.
        length_bytes: u64,
    },
    /// Another machine (or program) has it.
    #[error(
        "{path} is in use by another machine or program{how}. Stop that machine, or give this one a copy, \
         a read-only disk, or a throw-away overlay of an image nobody writes"
    )]
    InUse {
        /// The file.
        path: PathBuf,
        /// How it is in use, for the message.
        how: &'static str,
    },
    /// The file to be made is there already.
    #[error("{path} exists already. Choose another name, or remove it first")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The host refused for another reason.
    #[error("{path} could not be {action}: {source}")]
    Host {
        /// The file.
        path: PathBuf,
        /// What was tried: "opened", "measured", "made".
        action: &'static str,
        /// The host's reason.
        source: io::Error,
    },
}

impl OpenError {
    /// Sorts a host error by what the person can do about it.
    pub(crate) fn from_host(path: &Path, action: &'static str, write: bool, source: io::Error) -> OpenError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => OpenError::Missing { path },
            io::ErrorKind::IsADirectory => OpenError::Directory { path },
            io::ErrorKind::AlreadyExists => OpenError::Exists { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenError::Permission {
                path,
                wanted: if write { "reading and writing" } else { "reading" },
                advice: if write {
                    "Make it writable (`chmod u+w`), or attach it read-only or through a throw-away overlay"
                } else {
                    "Make it readable (`chmod u+r`), or copy it to your home folder"
                },
            },
            _ => OpenError::Host { path, action, source },
        }
    }
}
