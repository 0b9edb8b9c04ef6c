//! Opening an image by its content, with the images it is based on.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::check::Findings;
use crate::disk::{Disk, DiskError, Extent, SECTOR};
use crate::foreign::Foreign;
use crate::format::Format;
use crate::open::{MAX_CHAIN, OpenError};
use crate::progress::Progress;
use crate::qcow2::{self, Qcow2};
use crate::raw::RawDisk;
use crate::store::{Access, HostFile, Store};
use crate::vdi::Vdi;
use crate::vhd::Vhd;
use crate::vhdx::Vhdx;
use crate::vmdk::Vmdk;

/// An opened image of any format.
pub enum Image {
    /// Byte for byte.
    Raw(RawDisk),
    /// QEMU's.
    Qcow2(Box<Qcow2>),
    /// VirtualBox's.
    Vdi(Box<Vdi>),
    /// Virtual PC's.
    Vhd(Box<Vhd>),
    /// Hyper-V's.
    Vhdx(Box<Vhdx>),
    /// VMware's.
    Vmdk(Box<Vmdk>),
}

impl Image {
    /// Opens the image at `path`, told by its content. What it is based on is opened for reading.
    pub fn open(path: &Path, access: Access) -> Result<Image, OpenError> {
        Chain::default().open(path, access, None)
    }

    /// Opens an image for a look, whoever uses it. What is read may be half of what is being written.
    pub fn look(path: &Path) -> Result<Image, OpenError> {
        Chain { is_unlocked: true, ..Chain::default() }.open(path, Access::ReadOnly, None)
    }

    /// Its format.
    pub fn format(&self) -> Format {
        match self {
            Image::Raw(_) => Format::Raw,
            Image::Qcow2(_) => Format::Qcow2,
            Image::Vdi(_) => Format::Vdi,
            Image::Vhd(_) => Format::Vhd,
            Image::Vhdx(_) => Format::Vhdx,
            Image::Vmdk(_) => Format::Vmdk,
        }
    }

    /// Looks through the image's tables. A raw image has none, and nothing is found.
    pub fn check(&mut self, progress: Progress<'_>) -> Result<Findings, DiskError> {
        match self {
            Image::Qcow2(image) => image.check(progress),
            Image::Vdi(image) => image.check(progress),
            Image::Vhd(image) => image.check(progress),
            Image::Vhdx(image) => image.check(progress),
            Image::Vmdk(image) => image.check(progress),
            Image::Raw(_) => Ok(Findings::default()),
        }
    }

    /// Changes the length of the disk: grows it with zeros, or cuts it off.
    pub fn resize(&mut self, length_bytes: u64) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Err(DiskError::ReadOnly);
        }
        match self {
            Image::Raw(disk) => disk.resize(length_bytes),
            Image::Qcow2(disk) => disk.resize(length_bytes),
            Image::Vdi(disk) => disk.resize(length_bytes),
            Image::Vhd(disk) => disk.resize(length_bytes),
            Image::Vhdx(_) | Image::Vmdk(_) => Err(DiskError::ReadOnly),
        }
    }

    fn disk(&mut self) -> &mut dyn Disk {
        match self {
            Image::Raw(disk) => disk,
            Image::Qcow2(disk) => &mut **disk,
            Image::Vdi(disk) => &mut **disk,
            Image::Vhd(disk) => &mut **disk,
            Image::Vhdx(disk) => &mut **disk,
            Image::Vmdk(disk) => &mut **disk,
        }
    }

    fn as_disk(&self) -> &dyn Disk {
        match self {
            Image::Raw(disk) => disk,
            Image::Qcow2(disk) => &**disk,
            Image::Vdi(disk) => &**disk,
            Image::Vhd(disk) => &**disk,
            Image::Vhdx(disk) => &**disk,
            Image::Vmdk(disk) => &**disk,
        }
    }
}

impl Disk for Image {
    fn length_bytes(&self) -> u64 {
        self.as_disk().length_bytes()
    }

    fn is_read_only(&self) -> bool {
        self.as_disk().is_read_only()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.disk().read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk().write_at(offset, bytes)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.disk().flush()
    }

    fn write_zeros(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        self.disk().write_zeros(offset, length_bytes)
    }

    fn discard(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        self.disk().discard(offset, length_bytes)
    }

    fn extent(&mut self, offset: u64) -> Result<Extent, DiskError> {
        self.disk().extent(offset)
    }
}

/// The images that are based on one another, from the front: each file once.
#[derive(Default)]
pub(crate) struct Chain {
    seen: Vec<(u64, u64)>,
    is_unlocked: bool,
}

impl Chain {
    /// Opens an image; `known` if its format is said elsewhere, and then it is not guessed.
    pub fn open(&mut self, path: &Path, access: Access, known: Option<Format>) -> Result<Image, OpenError> {
        if let Ok(data) = std::fs::metadata(path) {
            let identity = (data.dev(), data.ino());
            if self.seen.contains(&identity) || self.seen.len() >= MAX_CHAIN {
                return Err(OpenError::Chain { path: path.to_owned() });
            }
            self.seen.push(identity);
        }
        let file = match self.is_unlocked {
            true => HostFile::open_unlocked(path, access)?,
            false => HostFile::open(path, access)?,
        };
        let format = known.map_or_else(|| told(&file), Ok)?;
        let is_writable = access == Access::ReadWrite;
        if is_writable && matches!(format, Format::Vhdx | Format::Vmdk) {
            return Err(OpenError::OnlyRead { path: path.to_owned(), format });
        }
        Ok(match format {
            Format::Raw => Image::Raw(RawDisk::with_file(file)?),
            Format::Qcow2 => self.qcow2(file, access)?,
            Format::Vdi => Image::Vdi(Box::new(Vdi::open(Box::new(file), is_writable)?)),
            Format::Vhd => self.vhd(file, is_writable)?,
            Format::Vhdx => Image::Vhdx(Box::new(Vhdx::open(Box::new(file))?)),
            Format::Vmdk => self.vmdk(file)?,
        })
    }

    fn vhd(&mut self, file: HostFile, is_writable: bool) -> Result<Image, OpenError> {
        let path = file.path().to_owned();
        let image = Vhd::open(Box::new(file), is_writable, |header| {
            if is_writable {
                return Err(OpenError::OnlyRead { path: path.clone(), format: Format::Vhd });
            }
            let is_parent = |image: &Image| match image {
                Image::Vhd(parent) => parent.footer().id == header.parent_id,
                _ => false,
            };
            self.parent(&path, &header.parent_names, is_parent)
        })?;
        Ok(Image::Vhd(Box::new(image)))
    }

    fn vmdk(&mut self, file: HostFile) -> Result<Image, OpenError> {
        let path = file.path().to_owned();
        let image = Vmdk::open(Box::new(file), |name, id| {
            let is_parent = |image: &Image| match image {
                Image::Vmdk(parent) => parent.content_id() == id,
                _ => false,
            };
            self.parent(&path, &[name.to_owned()], is_parent)
        })?;
        Ok(Image::Vmdk(Box::new(image)))
    }

    /// Opens the parent that has one of these names, as they are or beside its child.
    fn parent(
        &mut self,
        child: &Path,
        names: &[String],
        is_parent: impl Fn(&Image) -> bool,
    ) -> Result<Box<dyn Disk>, OpenError> {
        let folder = child.parent().unwrap_or(Path::new(""));
        let last = |name: &String| name.rsplit(['/', '\\']).next().unwrap_or("").to_owned();
        let places = names.iter().cloned().chain(names.iter().map(last)).map(|name| folder.join(name));
        let wrap = |source| OpenError::Backing { path: child.to_owned(), source: Box::new(source) };
        let path = places.clone().find(|place| place.is_file()).or_else(|| places.clone().next());
        let path = path.unwrap_or_else(|| folder.join("parent"));
        let image = self.open(&path, Access::ReadOnly, None).map_err(wrap)?;
        if !is_parent(&image) {
            let what = "it is not the one its child was made from, or was changed since".to_owned();
            return Err(wrap(OpenError::Damaged { path, format: image.format(), what }));
        }
        Ok(Box::new(image))
    }

    fn qcow2(&mut self, file: HostFile, access: Access) -> Result<Image, OpenError> {
        let header = qcow2::Header::read(&file)?;
        let backing = match &header.backing_name {
            None => None,
            Some(name) => {
                let format = header.backing_format.as_deref();
                Some(Box::new(self.behind(file.path(), name, format, Access::ReadOnly)?) as Box<dyn Disk>)
            }
        };
        let image = Qcow2::open(Box::new(file), header, backing, access == Access::ReadWrite)?;
        Ok(Image::Qcow2(Box::new(image)))
    }

    /// Opens the image that `front` is based on, named as in its header (of a qcow2).
    pub fn behind(
        &mut self,
        front: &Path,
        name: &str,
        format: Option<&str>,
        access: Access,
    ) -> Result<Image, OpenError> {
        let wrap = |source| OpenError::Backing { path: front.to_owned(), source: Box::new(source) };
        let path = backing_path(front, name).ok_or_else(|| OpenError::Unsupported {
            path: front.to_owned(),
            format: Format::Qcow2,
            feature: format!("a backing file that is not a plain file ({name})"),
            advice: "Convert it with qemu-img first",
        })?;
        // Only "raw" changes what would be found: such a file may have any content, even another format's.
        let known = match format {
            Some("raw" | "file" | "host_device") => Some(Format::Raw),
            _ => None,
        };
        self.open(&path, access, known).map_err(wrap)
    }
}

/// Where the backing file of `front` lies, if its name is that of a file.
pub(crate) fn backing_path(front: &Path, name: &str) -> Option<PathBuf> {
    let name = name.strip_prefix("file:").unwrap_or(name);
    let is_protocol = name.split_once(':').is_some_and(|(start, _)| !start.contains('/'));
    if name.is_empty() || is_protocol {
        return None;
    }
    Some(front.parent().unwrap_or(Path::new("")).join(name))
}

/// The files that make up the image at `path`, from the front to the last it is based on; who uses them does not
/// matter. Only a qcow2 image's are followed.
pub fn chain(path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let mut files = vec![path.to_owned()];
    let mut is_raw = false;
    while let Some(front) = files.last().filter(|_| !is_raw) {
        let file = HostFile::open_unlocked(front, Access::ReadOnly)?;
        if told(&file)? != Format::Qcow2 {
            break;
        }
        let header = qcow2::Header::read(&file)?;
        let Some(behind) = header.backing_name.and_then(|name| backing_path(front, &name)) else { break };
        if files.len() >= MAX_CHAIN || files.contains(&behind) {
            return Err(OpenError::Chain { path: path.to_owned() });
        }
        is_raw = header.backing_format.as_deref() == Some("raw");
        files.push(behind);
    }
    Ok(files)
}

/// The format of the file at `path`, told by its content.
pub fn format(path: &Path) -> Result<Format, OpenError> {
    told(&HostFile::open_unlocked(path, Access::ReadOnly)?)
}

/// The format of an opened file, told by its content. What is known to be something else than a disk is not
/// taken for a raw one.
pub(crate) fn told(file: &HostFile) -> Result<Format, OpenError> {
    let host = |error| OpenError::from_host(file.path(), "read", false, error);
    let (mut head, mut tail) = ([0; SECTOR as usize], [0; SECTOR as usize]);
    file.read_at(0, &mut head).map_err(host)?;
    file.read_at(file.length_bytes().saturating_sub(SECTOR), &mut tail).map_err(host)?;
    match (Format::of(&head, &tail), Foreign::of_file(&head, file.length_bytes())) {
        (Format::Raw, Some(form)) => Err(OpenError::Foreign { path: file.path().to_owned(), form }),
        (format, _) => Ok(format),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_can_be_made_over_an_image_in_use_and_its_files_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut base = RawDisk::create(&path("base.img"), 1 << 20).unwrap();
        base.write_at(512, &[7; 512]).unwrap();
        crate::job::create_over(&path("one.qcow2"), &path("base.img"), Format::Raw, 1 << 20).unwrap();
        crate::job::create_over(&path("two.qcow2"), Path::new("one.qcow2"), Format::Qcow2, 1 << 20).unwrap();
        let names = ["two.qcow2", "one.qcow2", "base.img"].map(path);
        assert_eq!(chain(&names[0]).unwrap(), names);
        assert_eq!(chain(&names[2]).unwrap(), names[2..]);
        assert!(
            matches!(Image::open(&names[0], Access::ReadWrite), Err(OpenError::Backing { .. })),
            "in use"
        );
        drop(base);
        let mut top = Image::open(&names[0], Access::ReadWrite).unwrap();
        let mut byte = [0];
        top.read_at(512, &mut byte).unwrap();
        assert_eq!((byte, top.length_bytes()), ([7], 1 << 20));
    }

    #[test]
    fn backing_files_are_sought_beside_their_image() {
        let path = |name| backing_path(Path::new("/vm/top.qcow2"), name);
        assert_eq!(path("base.img"), Some("/vm/base.img".into()));
        assert_eq!(path("/other/base.img"), Some("/other/base.img".into()));
        assert_eq!(path("file:base.img"), Some("/vm/base.img".into()));
        assert_eq!(path("nbd://host/disk"), None);
        assert_eq!(path("json:{\"driver\":\"raw\"}"), None);
        assert_eq!(path("./a:b.img"), Some("/vm/./a:b.img".into()));
    }
}
