//! A Linux guest made of packages: Debian's cloud kernel, its modules, and busybox in an initramfs made here.

use std::path::{Path, PathBuf};

use engine::profile::{Direct, Profile};
use tempfile::TempDir;

use crate::initramfs::Initramfs;

/// The modules of virtio's transport, before any device's own.
pub const VIRTIO: [&str; 5] =
    ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"];

/// What a guest of [`Linux`] finds mounted, before its own script runs.
const PREAMBLE: &str = "#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /sbin
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev 2>/dev/null
";

/// A kernel and an initramfs in a folder of their own.
pub struct Linux {
    folder: TempDir,
    kernel: PathBuf,
}

impl Linux {
    /// Makes an initramfs that loads `modules` (names, in order) and runs `script`, then switches off. `None`, with
    /// the reason printed, where the packages are not installed.
    pub fn with(modules: &[&str], script: &str) -> Option<Linux> {
        Linux::of("cloud-amd64", modules, script, &[])
    }

    /// The same with the kernel of `flavour` ("cloud-amd64", "amd64"), and with `files` (names, modes, contents).
    pub fn of(flavour: &str, modules: &[&str], script: &str, files: &[(&str, u32, &[u8])]) -> Option<Linux> {
        let kernel = newest_kernel(flavour)?;
        let busybox = crate::installed("/bin/busybox", "busybox-static")?;
        let version = kernel.file_name()?.to_str()?.strip_prefix("vmlinuz-")?.to_owned();
        let mut archive = Initramfs::default();
        for folder in ["bin", "dev", "modules"] {
            archive.add(folder, 0o040_755, &[]);
        }
        for (name, mode, bytes) in files {
            archive.add(name, *mode, bytes);
        }
        archive.add("bin/busybox", 0o100_755, &std::fs::read(busybox).ok()?);
        let mut init = PREAMBLE.to_owned();
        for name in modules {
            let path = find(&Path::new("/lib/modules").join(&version), &format!("{name}.ko"))
                .unwrap_or_else(|| panic!("{version} has no module {name}"));
            archive.add(&format!("modules/{name}.ko"), 0o100_644, &std::fs::read(path).ok()?);
            init += &format!("insmod /modules/{name}.ko\n");
        }
        init += script;
        init += "\npoweroff -f\n";
        archive.add("init", 0o100_755, init.as_bytes());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let linux = Linux { folder, kernel };
        std::fs::write(linux.initrd(), archive.finish()).expect("room for an initramfs");
        Some(linux)
    }

    /// The kernel's file.
    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// The initramfs's file.
    pub fn initrd(&self) -> PathBuf {
        self.folder.path().join("initrd")
    }

    /// Has `profile` boot it, with `append` on the command line.
    pub fn boot_in(&self, profile: &mut Profile, append: &str) {
        profile.direct = Some(Direct::Kernel {
            image: self.kernel.clone(),
            initrd: Some(self.initrd()),
            append: format!("console=ttyS0 panic=-1 {append}"),
        });
    }
}

/// Debian's cloud kernel, the newest in /boot; says what is skipped when there is none.
pub fn cloud_kernel() -> Option<PathBuf> {
    newest_kernel("cloud-amd64")
}

/// Debian's kernel of `flavour`, the newest in /boot; says what is skipped when there is none.
fn newest_kernel(flavour: &str) -> Option<PathBuf> {
    let files = std::fs::read_dir("/boot").into_iter().flatten().flatten().map(|file| file.path());
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // "6.1.0-1-cloud-amd64" is of another flavour than "6.1.0-1-amd64".
        let version = name.strip_prefix("vmlinuz-").and_then(|rest| rest.strip_suffix(flavour));
        version.is_some_and(|version| version.ends_with('-') && !version.contains(char::is_alphabetic))
    };
    let newest = files.filter(fits).max();
    if newest.is_none() {
        println!("skipped: no /boot/vmlinuz-*-{flavour} (package linux-image-{flavour})");
    }
    newest
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if entry.file_name() == name {
            return Some(path);
        }
    }
    None
}
