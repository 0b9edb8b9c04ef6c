//! Opening the images a profile names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::disk::Disk;
use storage::floppy::FloppyGeometry;
use storage::iso::IsoDisk;
use storage::memory::MemoryDisk;
use storage::overlay::Overlay;
use storage::throttle::{Throttle, Throttled};
use storage::{Access, Format, Image};

use super::StartError;
use super::holding::disk_rates;
use crate::profile::Profile;
use crate::scheduler::rest_current;

/// What lies in the machine's drives at power-on.
pub struct Media {
    /// Hard disks, in order.
    pub disks: Vec<Box<dyn Disk>>,
    /// The CD.
    pub cdrom: Option<Box<dyn Disk>>,
    /// The floppy, with its format.
    pub floppy: Option<(Box<dyn Disk>, FloppyGeometry)>,
    /// What bounds all of them together.
    pub throttle: Arc<Throttle>,
}

impl Media {
    /// Opens everything `profile` names; nothing stays locked on an error.
    pub fn open(profile: &Profile) -> Result<Media, StartError> {
        // A disk's own thread sleeps; a vCPU rests, and leaves its worker to others.
        let throttle = Throttle::new(disk_rates(&profile.throttles), rest_current);
        let behind = |disk: Box<dyn Disk>| Box::new(Throttled::new(disk, &throttle)) as Box<dyn Disk>;
        let disks = profile.disks.iter().map(|path| hard_disk(path, profile.snapshot).map(behind));
        let floppy = profile.floppy.as_deref().map(|path| floppy(path, profile.snapshot)).transpose()?;
        Ok(Media {
            disks: disks.collect::<Result<_, _>>()?,
            cdrom: profile.cdrom.as_deref().map(cd).transpose()?.map(behind),
            floppy: floppy.map(|(disk, geometry)| (behind(disk), geometry)),
            throttle: throttle.clone(),
        })
    }
}

/// A CD: an image, or a folder, which becomes one.
fn cd(path: &Path) -> Result<Box<dyn Disk>, StartError> {
    if path.is_dir() {
        return Ok(Box::new(storage::folder::iso(path).map_err(disk_error)?));
    }
    Ok(Box::new(IsoDisk::open(path).map_err(disk_error)?))
}

/// A hard disk: an image of any format, or a folder, which becomes a disk that is read only.
fn hard_disk(path: &Path, snapshot: bool) -> Result<Box<dyn Disk>, StartError> {
    let disk: Box<dyn Disk> = if path.is_dir() {
        Box::new(storage::folder::fat(path).map_err(disk_error)?)
    } else {
        Box::new(Image::open(path, access(snapshot)).map_err(disk_error)?)
    };
    if snapshot { overlay(path, disk) } else { Ok(disk) }
}

/// A floppy. What is shorter than a floppy (a boot sector) is padded to one in memory.
fn floppy(path: &Path, snapshot: bool) -> Result<(Box<dyn Disk>, FloppyGeometry), StartError> {
    let padded = FloppyGeometry::HD_1440K;
    let is_raw = storage::image::format(path).map_err(disk_error)? == Format::Raw;
    let length = if is_raw {
        std::fs::metadata(path).map_err(|error| host(path, error))?.len()
    } else {
        Image::look(path).map_err(disk_error)?.length_bytes()
    };
    if let Some(geometry) = FloppyGeometry::of_length(length) {
        return Ok((hard_disk(path, snapshot)?, geometry));
    }
    if length > padded.length_bytes() {
        let reason = format!("{}: {length} bytes is the length of no floppy format", path.display());
        return Err(StartError::Disk(reason));
    }
    let bytes = if is_raw {
        std::fs::read(path).map_err(|error| host(path, error))?
    } else {
        let mut bytes = vec![0; length as usize];
        let mut image = Image::open(path, Access::ReadOnly).map_err(disk_error)?;
        image.read_at(0, &mut bytes).map_err(disk_error)?;
        bytes
    };
    let disk = MemoryDisk::padded(bytes, padded.length_bytes()).map_err(disk_error)?;
    Ok((Box::new(disk), padded))
}

fn access(snapshot: bool) -> Access {
    if snapshot { Access::ReadOnly } else { Access::ReadWrite }
}

fn overlay(path: &Path, disk: Box<dyn Disk>) -> Result<Box<dyn Disk>, StartError> {
    Ok(Box::new(Overlay::new(disk).map_err(|error| host(path, error))?))
}

fn disk_error(error: impl std::fmt::Display) -> StartError {
    StartError::Disk(error.to_string())
}

fn host(path: &Path, error: std::io::Error) -> StartError {
    StartError::Disk(format!("{}: {error}", PathBuf::from(path).display()))
}
