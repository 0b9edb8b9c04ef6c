//! Where the sockets lie: one per process, named by its number, in a folder of the user's alone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

const ENDING: &str = "sock";

/// The folder: `$XDG_RUNTIME_DIR/vitrine`, else one in the temporary folder with the user's number.
pub fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(runtime) => runtime.join("vitrine"),
        None => std::env::temp_dir().join(format!("vitrine-{}", rustix::process::getuid().as_raw())),
    }
}

/// Makes the folder, or checks that nobody else can reach into it.
fn make_folder(folder: &Path) -> Result<(), String> {
    let told = |error: io::Error| format!("{}: {error}", folder.display());
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(told(error)),
        _ => {}
    }
    let data = fs::symlink_metadata(folder).map_err(told)?;
    let own = data.is_dir() && data.uid() == rustix::process::getuid().as_raw() && data.mode() & 0o077 == 0;
    if own {
        return Ok(());
    }
    Err(format!(
        "{}: this must be a folder of yours alone (mode 0700) for machines to be controlled",
        folder.display()
    ))
}

fn own_path(folder: &Path) -> PathBuf {
    folder.join(format!("{}.{ENDING}", std::process::id()))
}

/// Opens this process's socket in `folder`, for its user alone (mode 0600).
pub fn listen(folder: &Path) -> Result<UnixListener, String> {
    make_folder(folder)?;
    let path = own_path(folder);
    // What lies there is of a process that had our number and is gone.
    let _ = fs::remove_file(&path);
    let told = |error: io::Error| format!("{}: {error}", path.display());
    let listener = UnixListener::bind(&path).map_err(told)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(told)?;
    Ok(listener)
}

/// Connections to every Vitrine of this user. Sockets that nobody listens on any more are removed.
pub fn connect_all(folder: &Path) -> Vec<UnixStream> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
        .collect();
    paths.sort();
    let connect = |path: PathBuf| match UnixStream::connect(&path) {
        Ok(stream) => Some(stream),
        Err(error) => {
            if error.kind() == io::ErrorKind::ConnectionRefused {
                let _ = fs::remove_file(&path);
            }
            None
        }
    };
    paths.into_iter().filter_map(connect).collect()
}

/// Removes this process's socket.
pub fn remove_own() {
    let _ = fs::remove_file(own_path(&folder()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_the_users_alone_and_a_dead_one_is_swept() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("vitrine");
        let listener = listen(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        let path = own_path(&folder);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(connect_all(&folder).len(), 1);
        drop(listener);
        assert_eq!(connect_all(&folder).len(), 0);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_others_can_reach_is_refused() {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(listen(base.path()).unwrap_err().contains("0700"));
    }
}
