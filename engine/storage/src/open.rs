//! Why an image file could not be opened: which file, what happened, what the person can do.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::DiskError;
use crate::foreign::Foreign;
use crate::format::Format;

/// Most images that are based on one another.
pub const MAX_CHAIN: usize = 32;

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
    /// It is known, and no disk that is read here.
    #[error("{path} is {}, which is not read directly. {}", form.name(), form.advice(path))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        form: Foreign,
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
    /// Its header contradicts itself or its length.
    #[error("{path} is {}, and damaged: {what}. If it was downloaded or copied, get it again", format.name())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// What was found.
        what: String,
    },
    /// It uses something of its format that is not served.
    #[error("{path} is {} with {feature}, which is not supported. {advice}", format.name())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// What it uses.
        feature: String,
        /// What to do.
        advice: &'static str,
    },
    /// A format that is only read was to be written.
    #[error(
        "{path} is {}, which is read but not written. Run it with --snapshot (changes are thrown away), \
         keep changes in an overlay (`vitrine disk create --backing {path} overlay.qcow2`), or convert it \
         (`vitrine disk convert {path} disk.qcow2`)", format.name()
    )]
    OnlyRead {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: Format,
    },
    /// The image it is based on could not be opened.
    #[error("{path} is based on another image: {source}")]
    Backing {
        /// The image in front.
        path: PathBuf,
        /// Why.
        source: Box<OpenError>,
    },
    /// A chain of images that leads back to itself, or does not end.
    #[error("{path} is based on itself, or on a chain of more than {MAX_CHAIN} images")]
    Chain {
        /// The image at which it was found.
        path: PathBuf,
    },
    /// The folder it was to be made in is not there.
    #[error("{path} cannot be made: its folder does not exist")]
    NoFolder {
        /// The file.
        path: PathBuf,
    },
    /// A folder cannot be made a disk.
    #[error("{path} cannot be offered as a disk: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It was opened, and could not be made ready.
    #[error("{path} could not be made ready: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<DiskError>,
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
    /// Of a disk that was opened, and failed before it could be used.
    pub(crate) fn from_disk(path: &Path, error: DiskError) -> OpenError {
        OpenError::Disk { path: path.to_owned(), source: Box::new(error) }
    }

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
