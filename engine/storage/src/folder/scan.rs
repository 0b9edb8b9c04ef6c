//! What is in a folder, and below: looked at once, in a fixed order, within bounds.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::open::OpenError;

/// Most files and folders.
const ENTRIES_MAX: usize = 65_536;
/// Most levels below the folder.
const DEPTH_MAX: usize = 32;
/// Most bytes in all files.
const BYTES_MAX: u64 = 64 << 30;
/// Neither FAT nor one extent of ISO 9660 holds longer files.
const FILE_MAX_BYTES: u64 = u32::MAX as u64;
/// Longest name, in UTF-16 units: FAT's bound.
const NAME_MAX: usize = 255;

/// What tells whether a file is still the one that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// Its length.
    pub length_bytes: u64,
    modified: (i64, i64),
}

impl Identity {
    /// Of a file, now.
    pub fn of(data: &Metadata) -> Identity {
        Identity {
            device: data.dev(),
            inode: data.ino(),
            length_bytes: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
        }
    }

    /// When it was written, in seconds since 1970.
    pub fn modified_s(&self) -> i64 {
        self.modified.0
    }
}

/// A file.
#[derive(Clone, Debug)]
pub struct FileEntry {
    pub name: String,
    pub path: PathBuf,
    pub identity: Identity,
}

/// A folder; the first one of a tree is its root, and has no name.
#[derive(Clone, Debug)]
pub struct Folder {
    pub name: String,
    pub parent: usize,
    pub folders: Vec<usize>,
    pub files: Vec<usize>,
    pub modified_s: i64,
}

/// Something that the guest will not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What.
    pub path: PathBuf,
    /// Why.
    pub reason: &'static str,
}

/// A folder and all below.
#[derive(Clone, Debug)]
pub struct Tree {
    pub label: String,
    pub folders: Vec<Folder>,
    pub files: Vec<FileEntry>,
    pub skipped: Vec<Skipped>,
}

/// Looks through a folder.
pub fn scan(path: &Path) -> Result<Tree, OpenError> {
    let host = |error| OpenError::from_host(path, "looked through", false, error);
    let data = std::fs::metadata(path).map_err(host)?;
    if !data.is_dir() {
        let reason = "it is not a folder".to_owned();
        return Err(OpenError::Folder { path: path.to_owned(), reason });
    }
    let real = std::fs::canonicalize(path).map_err(host)?;
    let root = Folder {
        name: String::new(),
        parent: 0,
        folders: Vec::new(),
        files: Vec::new(),
        modified_s: data.mtime(),
    };
    let mut tree = Tree {
        label: real.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        folders: vec![root],
        files: Vec::new(),
        skipped: Vec::new(),
    };
    // Breadth first: (folder, where it lies, its level).
    let mut queue = std::collections::VecDeque::from([(0, path.to_owned(), 0)]);
    let mut bytes = 0;
    while let Some((index, place, level)) = queue.pop_front() {
        let entries = std::fs::read_dir(&place).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) if index == 0 => return Err(host(error)),
            Err(_) => {
                tree.skip(place, "it cannot be read");
                continue;
            }
        };
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            if tree.files.len() + tree.folders.len() > ENTRIES_MAX {
                return Err(too_large(path, &format!("more than {ENTRIES_MAX} files and folders")));
            }
            if let Some((folder, place)) = tree.add(index, &entry, level) {
                queue.push_back((folder, place, level + 1));
            } else if let Some(file) = tree.files.last().filter(|file| file.path == entry.path()) {
                bytes += file.identity.length_bytes;
                if bytes > BYTES_MAX {
                    return Err(too_large(path, &format!("more than {BYTES_MAX} bytes")));
                }
            }
        }
    }
    Ok(tree)
}

impl Tree {
    /// Takes in what a folder holds; a folder is to be looked into.
    fn add(&mut self, parent: usize, entry: &std::fs::DirEntry, level: usize) -> Option<(usize, PathBuf)> {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        // Not of what a symbolic link leads to.
        let Ok(data) = entry.metadata() else {
            self.skip(path, "it cannot be looked at");
            return None;
        };
        if name.encode_utf16().count() > NAME_MAX {
            self.skip(path, "its name is too long");
        } else if data.is_dir() && level >= DEPTH_MAX {
            self.skip(path, "it lies too deep");
        } else if data.is_dir() {
            let index = self.folders.len();
            let modified_s = data.mtime();
            self.folders.push(Folder { name, parent, folders: Vec::new(), files: Vec::new(), modified_s });
            self.folders[parent].folders.push(index);
            return Some((index, path));
        } else if !data.is_file() {
            self.skip(path, "it is a link or a special file");
        } else if data.len() > FILE_MAX_BYTES {
            self.skip(path, "it is too long for the file system");
        } else {
            self.folders[parent].files.push(self.files.len());
            self.files.push(FileEntry { name, path, identity: Identity::of(&data) });
        }
        None
    }

    fn skip(&mut self, path: PathBuf, reason: &'static str) {
        self.skipped.push(Skipped { path, reason });
    }
}

fn too_large(path: &Path, what: &str) -> OpenError {
    let reason = format!("it holds {what}; share a smaller folder");
    OpenError::Folder { path: path.to_owned(), reason }
}
