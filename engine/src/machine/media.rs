//! Opening the images a profile names, each behind a port of its own.

use std::collections::BTreeMap;
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
use super::port::{Medium, Port, Tell};
use crate::profile::Profile;
use crate::scheduler::rest_current;

/// Name of the CD drive.
pub const CDROM: &str = "cdrom";
/// Name of the floppy drive.
pub const FLOPPY: &str = "floppy";

/// What lies in the machine's drives at power-on.
pub struct Media {
    /// Hard disks, in order.
    pub disks: Vec<Box<dyn Disk>>,
    /// The CD.
    pub cdrom: Option<Box<dyn Disk>>,
    /// The floppy drive: its disk, if there is one, and the format it is made for.
    pub floppy: Option<(Option<Box<dyn Disk>>, FloppyGeometry)>,
    /// What bounds all of them together.
    pub throttle: Arc<Throttle>,
    /// The ports of all of them.
    pub ports: Vec<Arc<Port>>,
}

/// Where media are that are not as the profile names them.
#[derive(Clone, Debug, Default)]
pub struct Fronts(pub BTreeMap<PathBuf, PathBuf>);

impl Fronts {
    /// The file that is opened for the image `named`.
    pub fn of<'a>(&'a self, named: &'a Path) -> &'a Path {
        self.0.get(named).map_or(named, PathBuf::as_path)
    }
}

impl Media {
    /// Opens everything `profile` names, or what stands in its place in `fronts`; nothing stays locked on an error.
    /// `tell` is told when the host's disk is full.
    pub fn open(profile: &Profile, fronts: &Fronts, tell: &Tell) -> Result<Media, StartError> {
        // A disk's own thread sleeps; a vCPU rests, and leaves its worker to others.
        let throttle = Throttle::new(disk_rates(&profile.throttles), rest_current);
        let mut media = Media { disks: Vec::new(), cdrom: None, floppy: None, throttle, ports: Vec::new() };
        let throw_away = profile.snapshot;
        for (n, path) in profile.disks.iter().enumerate() {
            let medium = hard_disk(fronts.of(path), throw_away)?;
            let disk = media.plug(&format!("disk{n}"), path, fronts, medium, tell);
            media.disks.push(disk);
        }
        if let Some(path) = &profile.cdrom {
            media.cdrom = Some(media.plug(CDROM, path, fronts, cd(path)?, tell));
        }
        if let Some(path) = &profile.floppy {
            let (medium, geometry) = floppy(fronts.of(path), throw_away)?;
            media.floppy = Some((Some(media.plug(FLOPPY, path, fronts, medium, tell)), geometry));
        }
        Ok(media)
    }

    fn plug(
        &mut self,
        name: &str,
        path: &Path,
        fronts: &Fronts,
        medium: Medium,
        tell: &Tell,
    ) -> Box<dyn Disk> {
        let port = Port::new(name, path, fronts.of(path), medium, tell.clone());
        self.ports.push(port.clone());
        behind(&port, &self.throttle)
    }
}

/// The drive's end of `port`, no faster than `throttle`.
pub fn behind(port: &Arc<Port>, throttle: &Arc<Throttle>) -> Box<dyn Disk> {
    Box::new(Throttled::new(port.disk(), throttle))
}

/// A CD: an image, or a folder, which becomes one.
pub fn cd(path: &Path) -> Result<Medium, StartError> {
    Ok(Medium::ReadOnly(match path.is_dir() {
        true => Box::new(storage::folder::iso(path).map_err(disk_error)?),
        false => Box::new(IsoDisk::open(path).map_err(disk_error)?),
    }))
}

/// A hard disk: an image of any format, or a folder, which becomes a disk that is read only.
fn hard_disk(path: &Path, throw_away: bool) -> Result<Medium, StartError> {
    if path.is_dir() {
        let disk = Box::new(storage::folder::fat(path).map_err(disk_error)?);
        return if throw_away { overlay(path, disk) } else { Ok(Medium::ReadOnly(disk)) };
    }
    match throw_away {
        true => overlay(path, Box::new(Image::open(path, Access::ReadOnly).map_err(disk_error)?)),
        false => Ok(Medium::File(Image::open(path, Access::ReadWrite).map_err(disk_error)?)),
    }
}

/// A floppy. What is shorter than a floppy (a boot sector) is padded to one in memory.
pub fn floppy(path: &Path, throw_away: bool) -> Result<(Medium, FloppyGeometry), StartError> {
    let padded = FloppyGeometry::HD_1440K;
    let is_raw = storage::image::format(path).map_err(disk_error)? == Format::Raw;
    let length = if is_raw {
        std::fs::metadata(path).map_err(|error| host(path, error))?.len()
    } else {
        Image::look(path).map_err(disk_error)?.length_bytes()
    };
    if let Some(geometry) = FloppyGeometry::of_length(length) {
        return Ok((hard_disk(path, throw_away)?, geometry));
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
    Ok((Medium::Memory(MemoryDisk::padded(bytes, padded.length_bytes()).map_err(disk_error)?), padded))
}

fn overlay(path: &Path, disk: Box<dyn Disk>) -> Result<Medium, StartError> {
    Ok(Medium::ThrowAway(Overlay::new(disk).map_err(|error| host(path, error))?))
}

fn disk_error(error: impl std::fmt::Display) -> StartError {
    StartError::Disk(error.to_string())
}

fn host(path: &Path, error: std::io::Error) -> StartError {
    StartError::Disk(format!("{}: {error}", path.display()))
}
