//! A file that comes into being whole: written under a temporary name beside its place, then renamed.

use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::open::OpenError;
use crate::store::HostFile;

/// A place for a file that is not there yet. Dropped without [`Aside::finish`], it leaves nothing.
pub struct Aside {
    temporary: TempPath,
    target: PathBuf,
}

impl Aside {
    /// A temporary name beside `target`, and the empty file under it. `target` must not exist.
    pub fn new(target: &Path) -> Result<(Aside, HostFile), OpenError> {
        if target.symlink_metadata().is_ok() {
            return Err(OpenError::Exists { path: target.to_owned() });
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let mark: String = random_id()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        let temporary = target.with_file_name(format!(".{name}.{mark}.part"));
        let file = HostFile::create(&temporary).map_err(|error| named(error, target))?;
        let temporary = TempPath::try_from_path(&temporary).map_err(|error| host(target, error))?;
        Ok((Aside { temporary, target: target.to_owned() }, file))
    }

    /// Where the file is meanwhile.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Gives the file, which must be whole and synced, its name. A file that came there meanwhile stays.
    pub fn finish(self) -> Result<(), OpenError> {
        let Aside { temporary, target } = self;
        temporary.persist_noclobber(&target).map_err(|failed| host(&target, failed.error))?;
        let folder = match target.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| host(&target, error))
    }
}

fn host(path: &Path, error: std::io::Error) -> OpenError {
    OpenError::from_host(path, "made", true, error)
}

/// Errors speak of the name that the person knows.
fn named(error: OpenError, target: &Path) -> OpenError {
    let path = target.to_owned();
    match error {
        OpenError::Missing { .. } => OpenError::NoFolder { path },
        OpenError::Host { action, source, .. } => OpenError::Host { path, action, source },
        OpenError::Permission { wanted, .. } => {
            let advice = "Choose a folder you may write to";
            OpenError::Permission { path, wanted, advice }
        }
        other => other,
    }
}

/// Sixteen random bytes, in the form of a UUID of version 4.
pub(crate) fn random_id() -> [u8; 16] {
    let mut id = [0; 16];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut id));
    if random.is_err() {
        // Without /dev, the process and the time must do.
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos());
        id = (now << 32 | u128::from(std::process::id())).to_le_bytes();
    }
    id[6] = id[6] & 0x0F | 0x40;
    id[8] = id[8] & 0x3F | 0x80;
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("disk.img");
        let (aside, _file) = Aside::new(&target).unwrap();
        drop(aside);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let (aside, mut file) = Aside::new(&target).unwrap();
        file.write_at(0, b"whole").unwrap();
        assert!(!target.exists());
        aside.finish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        assert!(matches!(Aside::new(&target), Err(OpenError::Exists { .. })));
        let nowhere = folder.path().join("none/disk.img");
        assert!(matches!(Aside::new(&nowhere), Err(OpenError::NoFolder { .. })));
    }
}
