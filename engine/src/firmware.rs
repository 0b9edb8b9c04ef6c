//! Finds SeaBIOS and its VGA BIOS where distributions install them. They are never part of Vitrine.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders in which distributions put SeaBIOS.
const FOLDERS: [&str; 5] = [
    "/usr/share/seabios",                // Debian, Ubuntu, Fedora
    "/usr/share/qemu",                   // Arch, openSUSE
    "/usr/local/share/qemu",             // built by hand
    "/usr/share/seavgabios",             // Fedora's VGA BIOS
    "/run/current-system/sw/share/qemu", // NixOS
];

/// The images a machine with firmware starts with.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// Where the system BIOS was found.
    pub path: PathBuf,
    /// The system BIOS: 128 or 256 KiB.
    pub bios: Vec<u8>,
    /// The VGA BIOS.
    pub video_bios: Vec<u8>,
}

/// Why firmware could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// Not installed.
    #[error(
        "SeaBIOS is not installed ({missing} was not found in the usual folders); install the package \
         `seabios` (Debian, Ubuntu, Arch) or `seabios-bin` and `seavgabios-bin` (Fedora), or start a \
         program without firmware by --firmware none"
    )]
    Missing {
        /// The file that was looked for.
        missing: &'static str,
    },
    /// Cannot be read, or is no BIOS.
    #[error("{path}: this firmware image cannot be used: {reason}", path = .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Firmware {
    /// SeaBIOS as installed.
    pub fn installed() -> Result<Firmware, FirmwareError> {
        let path = find("bios-256k.bin").ok_or(FirmwareError::Missing { missing: "bios-256k.bin" })?;
        Firmware::with_bios(&path)
    }

    /// The system BIOS in `path`, with the installed VGA BIOS.
    pub fn with_bios(path: &Path) -> Result<Firmware, FirmwareError> {
        let bios = read(path)?;
        if ![128 << 10, 256 << 10].contains(&bios.len()) {
            let reason = format!("it is {} bytes long; a system BIOS has 128 or 256 KiB", bios.len());
            return Err(FirmwareError::Unusable { path: path.to_owned(), reason });
        }
        let video =
            find("vgabios-stdvga.bin").ok_or(FirmwareError::Missing { missing: "vgabios-stdvga.bin" })?;
        Ok(Firmware { path: path.to_owned(), bios, video_bios: read(&video)? })
    }
}

fn find(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

fn read(path: &Path) -> Result<Vec<u8>, FirmwareError> {
    fs::read(path)
        .map_err(|error| FirmwareError::Unusable { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_another_size_is_refused_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0; 100]).unwrap();
        let error = Firmware::with_bios(file.path()).unwrap_err().to_string();
        assert!(error.contains("100 bytes") && error.contains(&*file.path().to_string_lossy()), "{error}");
    }
}
