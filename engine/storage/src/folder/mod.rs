//! A host folder as a disk that is made on the fly, read only: FAT for hard disks, ISO 9660 for CDs.
//!
//! Folder entries and tables are made when the disk is; the content of files is read from the host when the
//! guest asks. A file that was changed since cannot be read any more: the guest gets a read error, never a
//! mixture. Files that come later are not seen. Symbolic links, special files and files of 4 GiB or more are
//! left out. Bounds: 65 536 entries, 32 levels, 64 GiB.

mod fat;
mod iso;
mod mapped;
mod names;
mod scan;

use std::path::Path;

pub use mapped::MappedDisk;
pub use scan::Skipped;

use crate::open::OpenError;

/// The folder as a hard disk with one partition, FAT16 or (from 2 GiB) FAT32, with long names.
pub fn fat(folder: &Path) -> Result<MappedDisk, OpenError> {
    fat::build(scan::scan(folder)?).map_err(|reason| OpenError::Folder { path: folder.to_owned(), reason })
}

/// The folder as a CD: ISO 9660 with Joliet's names.
pub fn iso(folder: &Path) -> Result<MappedDisk, OpenError> {
    iso::build(scan::scan(folder)?).map_err(|reason| OpenError::Folder { path: folder.to_owned(), reason })
}

#[cfg(test)]
mod tests;
