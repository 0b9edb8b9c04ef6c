//! The user's machines: one folder each under the data directory, holding `machine.ron` and what the
//! machine owns. A folder can be moved to another host.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use storage::Format;
use storage::job::{JobError, NewDisk};

use crate::profile::{Profile, Size, check_name};

/// Name of the profile inside a machine's folder.
pub const PROFILE_FILE: &str = "machine.ron";
/// Name of the first disk that is made with a machine, in its folder.
pub const DISK_FILE: &str = "disk.qcow2";

/// Why a saved machine could not be read, written or removed.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// No such machine.
    #[error("there is no machine called '{0}'; `vitrine list` shows those that exist")]
    Unknown(String),
    /// One with this name exists already.
    #[error("a machine called '{0}' exists already; choose another name or delete it first")]
    Exists(String),
    /// The name cannot be used.
    #[error("{0}")]
    Name(String),
    /// The profile cannot be understood.
    #[error("{path}: this profile cannot be read: {reason}", path = .path.display())]
    Profile {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Its new disk could not be made.
    #[error(transparent)]
    Disk(#[from] JobError),
    /// The host could not do it.
    #[error("{path}: {source}", path = .path.display())]
    Host {
        /// The file or folder.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
}

/// The folder that holds all machines.
#[derive(Clone, Debug)]
pub struct Library {
    root: PathBuf,
}

impl Library {
    /// The user's own: `$VITRINE_HOME`, else `$XDG_DATA_HOME/vitrine`, else `~/.local/share/vitrine`.
    pub fn of_user() -> Library {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("VITRINE_HOME")
            .or_else(|| set("XDG_DATA_HOME").map(|data| data.join("vitrine")))
            .or_else(|| set("HOME").map(|home| home.join(".local/share/vitrine")))
            .unwrap_or_else(|| std::env::temp_dir().join("vitrine"));
        Library { root }
    }

    /// A library in `root`.
    pub fn at(root: impl Into<PathBuf>) -> Library {
        Library { root: root.into() }
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of machine `name`, whether or not it exists.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join("machines").join(name)
    }

    /// Every machine in alphabetical order; a damaged profile is listed with its error.
    pub fn list(&self) -> Vec<(String, Result<Profile, LibraryError>)> {
        let Ok(entries) = fs::read_dir(self.root.join("machines")) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().join(PROFILE_FILE).is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names.into_iter().map(|name| (name.clone(), self.load(&name))).collect()
    }

    /// Reads one machine. Relative paths in its profile are relative to its folder.
    pub fn load(&self, name: &str) -> Result<Profile, LibraryError> {
        check_name(name).map_err(LibraryError::Name)?;
        let path = self.folder(name).join(PROFILE_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LibraryError::Unknown(name.to_owned()));
            }
            Err(source) => return Err(LibraryError::Host { path, source }),
        };
        let mut profile =
            Profile::from_ron(&text).map_err(|reason| LibraryError::Profile { path, reason })?;
        // The folder is the machine: renaming or copying it renames the machine.
        profile.name = name.to_owned();
        profile.resolve(&self.folder(name));
        Ok(profile)
    }

    /// Saves a new machine; nothing is left behind on an error. With a `new_disk`, an empty disk of that length is
    /// made in its folder, and is its last one.
    pub fn create(&self, profile: &Profile, new_disk: Option<Size>) -> Result<(), LibraryError> {
        check_name(&profile.name).map_err(LibraryError::Name)?;
        let folder = self.folder(&profile.name);
        if folder.exists() {
            return Err(LibraryError::Exists(profile.name.clone()));
        }
        self.change(profile, new_disk).inspect_err(|_| {
            // Only ever an empty folder of our own making.
            let _ = fs::remove_dir(&folder);
        })
    }

    /// Saves a machine that may be there already, as [`Library::create`] does.
    pub fn change(&self, profile: &Profile, new_disk: Option<Size>) -> Result<(), LibraryError> {
        let Some(length) = new_disk else { return self.save(profile) };
        check_name(&profile.name).map_err(LibraryError::Name)?;
        let folder = self.folder(&profile.name);
        fs::create_dir_all(&folder).map_err(|source| LibraryError::Host { path: folder.clone(), source })?;
        let numbered = (2u32..).map(|number| format!("disk-{number}.qcow2"));
        let mut names = std::iter::once(DISK_FILE.to_owned()).chain(numbered);
        let path = names.find_map(|name| Some(folder.join(name)).filter(|path| !path.exists()));
        let path = path.expect("some number is free");
        storage::job::create(&path, &NewDisk::new(Format::Qcow2, length.bytes()))?;
        let mut profile = profile.clone();
        profile.disks.push(path.clone());
        self.save(&profile).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
    }

    /// Saves a machine, replacing its earlier profile in one step. Paths in its folder are named from there.
    pub fn save(&self, profile: &Profile) -> Result<(), LibraryError> {
        check_name(&profile.name).map_err(LibraryError::Name)?;
        let folder = self.folder(&profile.name);
        let mut profile = profile.clone();
        profile.name_from(&folder);
        let path = folder.join(PROFILE_FILE);
        let host = |source| LibraryError::Host { path: path.clone(), source };
        fs::create_dir_all(&folder).map_err(host)?;
        let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(host)?;
        file.write_all(profile.to_ron().as_bytes()).map_err(host)?;
        file.as_file().sync_all().map_err(host)?;
        file.persist(&path).map_err(|error| host(error.error))?;
        Ok(())
    }

    /// Removes a machine and everything in its folder. Images elsewhere stay.
    pub fn delete(&self, name: &str) -> Result<(), LibraryError> {
        check_name(name).map_err(LibraryError::Name)?;
        let path = self.folder(name);
        if !path.join(PROFILE_FILE).is_file() {
            return Err(LibraryError::Unknown(name.to_owned()));
        }
        fs::remove_dir_all(&path).map_err(|source| LibraryError::Host { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_created_listed_renamed_by_folder_and_deleted() {
        let root = tempfile::tempdir().unwrap();
        let library = Library::at(root.path());
        library.create(&Profile::new("one"), None).unwrap();
        assert!(matches!(library.create(&Profile::new("one"), None), Err(LibraryError::Exists(_))));
        fs::rename(library.folder("one"), library.folder("two")).unwrap();
        let names: Vec<_> = library.list().into_iter().map(|(name, p)| (name, p.unwrap().name)).collect();
        assert_eq!(names, [("two".to_owned(), "two".to_owned())]);
        library.delete("two").unwrap();
        assert!(matches!(library.load("two"), Err(LibraryError::Unknown(_))));
    }

    #[test]
    fn a_damaged_profile_is_told_with_its_path() {
        let root = tempfile::tempdir().unwrap();
        let library = Library::at(root.path());
        library.create(&Profile::new("one"), None).unwrap();
        fs::write(library.folder("one").join(PROFILE_FILE), "(name: \"one\", colour: 3)").unwrap();
        let error = library.load("one").unwrap_err().to_string();
        assert!(error.contains(PROFILE_FILE) && error.contains("colour"), "{error}");
    }

    #[test]
    fn a_name_that_leaves_the_library_is_refused() {
        let library = Library::at("/nonexistent");
        assert!(matches!(library.delete("../../etc"), Err(LibraryError::Name(_))));
    }

    #[test]
    fn a_machine_gets_disks_of_its_own_and_moves_with_them() {
        let root = tempfile::tempdir().unwrap();
        let library = Library::at(root.path());
        library.create(&Profile::new("one"), Some(Size::mib(64))).unwrap();
        let made = library.load("one").unwrap();
        assert_eq!(made.disks, [library.folder("one").join(DISK_FILE)]);
        assert_eq!(storage::job::info(&made.disks[0]).unwrap().length_bytes, 64 << 20);
        library.change(&made, Some(Size::mib(1))).unwrap();
        fs::rename(library.folder("one"), library.folder("two")).unwrap();
        let moved = library.load("two").unwrap();
        assert_eq!(moved.disks.len(), 2);
        assert!(moved.disks.iter().all(|disk| disk.starts_with(library.folder("two")) && disk.is_file()));
    }

    #[test]
    fn a_disk_that_cannot_be_made_leaves_no_machine() {
        let root = tempfile::tempdir().unwrap();
        let library = Library::at(root.path());
        let beyond = Size::of_bytes(u64::MAX >> 1);
        assert!(matches!(library.create(&Profile::new("one"), Some(beyond)), Err(LibraryError::Disk(_))));
        assert!(library.list().is_empty() && !library.folder("one").exists());
    }
}
