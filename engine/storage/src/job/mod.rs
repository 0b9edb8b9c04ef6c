//! What is done with images as files: made, looked at, converted, resized, checked, merged.

mod convert;
mod create;
mod info;
mod merge;

use std::path::{Path, PathBuf};

pub use convert::convert;
pub use create::{NewDisk, create, create_over};
pub use info::{Info, info};
pub use merge::merge;

use crate::check::Findings;
use crate::disk::{Disk, DiskError};
use crate::image::Image;
use crate::open::OpenError;
use crate::progress::Progress;
use crate::store::Access;

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// An image could not be opened or made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An image failed while it was worked on.
    #[error("{path}: {source}")]
    Disk {
        /// The image.
        path: PathBuf,
        /// Why.
        source: DiskError,
    },
    /// The format cannot be made here.
    #[error("{0} images are read and not made; make a qcow2, raw, vdi or vhd image")]
    NotMade(crate::Format),
    /// Only qcow2 overlays are merged.
    #[error(
        "{path} is {}; only QCOW2 overlays are merged into what they are based on. `vitrine disk convert` copies \
         an image with all it is based on into a new one", format.name()
    )]
    NotOverlay {
        /// The image.
        path: PathBuf,
        /// Its format.
        format: crate::Format,
    },
    /// A shorter length was asked for without saying that the rest may be lost.
    #[error(
        "{path} is {length_bytes} bytes long, and {asked_bytes} bytes would cut off its end: say that it may \
         be cut (--shrink), after the guest has made its file system smaller"
    )]
    WouldCut {
        /// The image.
        path: PathBuf,
        /// Its length.
        length_bytes: u64,
        /// What was asked for.
        asked_bytes: u64,
    },
    /// A copy was to be shorter than what it is made of.
    #[error(
        "{path} is {length_bytes} bytes long, and a copy of {asked_bytes} bytes would lose its end: ask for no less, \
         or leave the length out"
    )]
    TooShort {
        /// The image to be copied.
        path: PathBuf,
        /// Its length.
        length_bytes: u64,
        /// What was asked for.
        asked_bytes: u64,
    },
    /// All blocks were to have their place from the start, in a format that cannot say so.
    #[error(
        "{0} images cannot be fixed: they take room on the host's disk as they are written. Leave out --fixed, or \
         make a vdi or vhd image"
    )]
    NotFixed(crate::Format),
    /// The caller gave up.
    #[error("interrupted; nothing was changed")]
    Cancelled,
    /// The caller gave up in the middle of a merge, which writes in place.
    #[error(
        "interrupted: {base} holds a part of {overlay} now. Nothing is lost: `vitrine disk merge {overlay}` \
         again finishes it"
    )]
    MergeCut {
        /// What is merged.
        overlay: PathBuf,
        /// What it is merged into.
        base: PathBuf,
    },
    /// The caller gave up when an image was mended, and not looked through yet.
    #[error("interrupted: {path} is mended, and was not looked through to the end")]
    CheckCut {
        /// The image.
        path: PathBuf,
    },
}

impl JobError {
    /// Whether it is the caller who wanted it so.
    pub fn is_interruption(&self) -> bool {
        matches!(self, JobError::Cancelled | JobError::MergeCut { .. } | JobError::CheckCut { .. })
    }
}

pub(crate) fn failed(path: &Path) -> impl FnOnce(DiskError) -> JobError {
    move |source| JobError::Disk { path: path.to_owned(), source }
}

/// Gives an image another length.
pub fn resize(path: &Path, length_bytes: u64, may_cut: bool) -> Result<(), JobError> {
    let mut image = Image::open(path, Access::ReadWrite)?;
    let old_bytes = image.length_bytes();
    if length_bytes < old_bytes && !may_cut {
        let path = path.to_owned();
        return Err(JobError::WouldCut { path, length_bytes: old_bytes, asked_bytes: length_bytes });
    }
    image.resize(length_bytes).map_err(failed(path))?;
    image.flush().map_err(failed(path))
}

/// Looks through an image; with `mends`, room that nothing uses is given back first.
pub fn check(path: &Path, mends: bool, progress: Progress<'_>) -> Result<Findings, JobError> {
    if mends {
        let mut image = Image::open(path, Access::ReadWrite)?;
        if let Image::Qcow2(qcow2) = &mut image
            && !qcow2.rebuild_refcounts(progress).map_err(failed(path))?
        {
            return Err(JobError::Cancelled);
        }
        image.flush().map_err(failed(path))?;
    }
    let findings = Image::open(path, Access::ReadOnly)?.check(progress).map_err(failed(path))?;
    match findings.is_cancelled {
        false => Ok(findings),
        true if mends => Err(JobError::CheckCut { path: path.to_owned() }),
        true => Err(JobError::Cancelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    #[test]
    fn a_check_that_mended_already_does_not_say_that_nothing_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.qcow2");
        create(&path, &NewDisk::new(Format::Qcow2, 1 << 20)).unwrap();
        Image::open(&path, Access::ReadWrite).unwrap().write_at(0, &[1; 512]).unwrap();
        // The only table is looked at once to mend, once to check.
        for (calls, is_mended) in [(0, false), (1, true)] {
            let mut left = calls;
            let mut progress = |_, _| {
                left -= 1;
                left >= 0
            };
            let error = check(&path, true, &mut progress).unwrap_err();
            assert!(error.is_interruption(), "{error}");
            assert_eq!(matches!(error, JobError::CheckCut { .. }), is_mended, "{error}");
        }
        assert!(matches!(check(&path, false, &mut |_, _| false), Err(JobError::Cancelled)));
    }
}
