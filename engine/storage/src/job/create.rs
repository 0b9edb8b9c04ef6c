//! Making a new image.

use std::io;
use std::path::{Path, PathBuf};

use super::JobError;
use crate::aside::{Aside, random_id};
use crate::disk::{Disk, SECTOR};
use crate::format::Format;
use crate::image::Image;
use crate::open::OpenError;
use crate::qcow2::create::{CLUSTER_BITS, Layout};
use crate::store::{Access, HostFile, Store};
use crate::{qcow2, vdi, vhd};

/// What a new image is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDisk {
    /// Its format: raw, qcow2, vdi or vhd.
    pub format: Format,
    /// Its length, rounded up to whole sectors; as its backing file's if left out.
    pub length_bytes: Option<u64>,
    /// All of its blocks have their place from the start (VDI, VHD).
    pub is_fixed: bool,
    /// The image it shows where it has nothing (qcow2), as it is to be named in it.
    pub backing: Option<PathBuf>,
}

impl NewDisk {
    /// An image that grows as it is written.
    pub fn new(format: Format, length_bytes: u64) -> NewDisk {
        NewDisk { format, length_bytes: Some(length_bytes), is_fixed: false, backing: None }
    }

    /// An overlay over the image at `backing`, as long as that.
    pub fn over(backing: &Path) -> NewDisk {
        let backing = Some(backing.to_owned());
        NewDisk { format: Format::Qcow2, length_bytes: None, is_fixed: false, backing }
    }
}

/// Makes a new image at `path`, where nothing may be yet. It appears there whole or not at all.
pub fn create(path: &Path, new: &NewDisk) -> Result<(), JobError> {
    let (aside, mut file) = Aside::new(path)?;
    fill(path, &mut file, new)?;
    drop(file);
    Ok(aside.finish()?)
}

/// Makes an overlay at `path` over the image at `backing`, which may be in use: of which format it is and how long
/// is known to who uses it.
pub fn create_over(path: &Path, backing: &Path, format: Format, length_bytes: u64) -> Result<(), JobError> {
    let (aside, mut file) = Aside::new(path)?;
    let backing = Some((backing_name(backing, format)?, backing_word(format)));
    let layout = Layout { length_bytes, cluster_bits: CLUSTER_BITS, backing };
    qcow2::create::create(&mut file, &layout)
        .map_err(|error| OpenError::from_host(path, "made", true, error))?;
    drop(file);
    Ok(aside.finish()?)
}

/// Writes the empty image that is to be at `path` into a new file.
pub(super) fn fill(path: &Path, file: &mut HostFile, new: &NewDisk) -> Result<(), JobError> {
    let unsupported = |feature: &str| OpenError::Unsupported {
        path: path.to_owned(),
        format: new.format,
        feature: feature.to_owned(),
        advice: "Make a qcow2 image",
    };
    if new.is_fixed && matches!(new.format, Format::Raw | Format::Qcow2) {
        return Err(JobError::NotFixed(new.format));
    }
    if new.backing.is_some() && new.format != Format::Qcow2 {
        return Err(unsupported("a backing file").into());
    }
    let (backing, backing_bytes) = match &new.backing {
        None => (None, None),
        Some(name) => {
            let (backing, length_bytes) = backing(path, name)?;
            (Some(backing), Some(length_bytes))
        }
    };
    let length_bytes = new.length_bytes.or(backing_bytes).unwrap_or(0).max(SECTOR);
    let made = match new.format {
        Format::Raw => length_bytes
            .checked_next_multiple_of(SECTOR)
            .ok_or_else(|| io::ErrorKind::FileTooLarge.into())
            .and_then(|length_bytes| file.set_length(length_bytes))
            .and_then(|()| file.sync()),
        Format::Qcow2 => {
            qcow2::create::create(file, &Layout { length_bytes, cluster_bits: CLUSTER_BITS, backing })
        }
        Format::Vdi => {
            let kind = if new.is_fixed { vdi::Kind::Fixed } else { vdi::Kind::Dynamic };
            vdi::create(file, length_bytes, kind, random_id())
        }
        Format::Vhd => {
            let kind = if new.is_fixed { vhd::footer::Kind::Fixed } else { vhd::footer::Kind::Dynamic };
            vhd::create::create(file, length_bytes, kind, random_id())
        }
        Format::Vhdx | Format::Vmdk => return Err(JobError::NotMade(new.format)),
    };
    made.map_err(|error| OpenError::from_host(path, "made", true, error).into())
}

/// How a new image at `path` names its backing file, with its format; and how long that is.
fn backing(path: &Path, name: &Path) -> Result<((String, &'static str), u64), JobError> {
    let place = path.parent().unwrap_or(Path::new("")).join(name);
    let image = Image::open(&place, Access::ReadOnly)?;
    Ok(((backing_name(name, image.format())?, backing_word(image.format())), image.length_bytes()))
}

/// The name of a backing file as it stands in an overlay.
fn backing_name(name: &Path, format: Format) -> Result<String, OpenError> {
    let text = name.to_str().ok_or_else(|| OpenError::Unsupported {
        path: name.to_owned(),
        format,
        feature: "a name that is not UTF-8".to_owned(),
        advice: "Rename it",
    })?;
    // A name with a colon would be taken for a protocol.
    let is_protocol = text.contains(':') && !text.starts_with(['/', '.']);
    Ok(if is_protocol { format!("./{text}") } else { text.to_owned() })
}

/// QEMU's word for a format.
fn backing_word(format: Format) -> &'static str {
    match format {
        Format::Vhd => "vpc",
        format => format.word(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::convert;

    #[test]
    fn what_cannot_be_fixed_is_refused_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let (old, path) = (folder.path().join("old"), folder.path().join("new"));
        create(&old, &NewDisk::new(Format::Raw, 1 << 20)).unwrap();
        for format in [Format::Raw, Format::Qcow2, Format::Vdi, Format::Vhd] {
            let new = NewDisk { is_fixed: true, ..NewDisk::new(format, 1 << 20) };
            let done =
                [create(&path, &new), convert(&old, &path.with_extension("2"), &new, &mut |_, _| true)];
            let is_made = matches!(format, Format::Vdi | Format::Vhd);
            for done in done {
                assert_eq!(done.is_ok(), is_made, "{format}");
                assert!(is_made || done.unwrap_err().to_string().contains("--fixed"));
            }
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), if is_made { 3 } else { 1 });
            let _ = (std::fs::remove_file(&path), std::fs::remove_file(path.with_extension("2")));
        }
    }
}
