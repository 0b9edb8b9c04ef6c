//! Folders as disks, read back by other people's programs: `fsck.vfat`, mtools, `isoinfo`.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::disk::{Disk, DiskError};

/// A folder with names and lengths of many kinds.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    put("README.TXT", b"read me\r\n");
    put("a file with a long name.html", &pattern(70_000));
    put("A File With A Long Name.html2", &pattern(2048));
    put("empty", b"");
    put("sub/Überraschung ☃.dat", &pattern(5000));
    put("sub/deeper/x.y.z", &pattern(1));
    for n in 0..150 {
        put(&format!("many/file number {n:03}.txt"), format!("{n}").as_bytes());
    }
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    folder
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 253) as u8).collect()
}

/// Writes a disk to a file, as far as `skip` bytes in.
fn save(disk: &mut MappedDisk, path: &Path, skip: u64) {
    let mut bytes = vec![0; (disk.length_bytes() - skip) as usize];
    for (n, piece) in bytes.chunks_mut(30_001).enumerate() {
        disk.read_at(skip + n as u64 * 30_001, piece).unwrap();
    }
    std::fs::write(path, bytes).unwrap();
}

/// What a tool says, or `None` if it is not installed.
fn tool(name: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    match Command::new(name).args(arguments).env("MTOOLS_SKIP_CHECK", "1").env("LC_ALL", "C.UTF-8").output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.success(),
                "{name} {arguments:?}: {} {text}",
                String::from_utf8_lossy(&output.stdout)
            );
            Some(output.stdout)
        }
        Err(_) => {
            println!("skipped: {name} is not installed");
            None
        }
    }
}

#[test]
fn a_folder_as_a_fat_disk() {
    let folder = folder();
    let out = tempfile::tempdir().unwrap();
    let mut disk = fat(folder.path()).unwrap();
    assert_eq!(disk.skipped().len(), 1);
    let image = out.path().join("fat.img");
    save(&mut disk, &image, 63 * 512);
    let image = image.to_str().unwrap();
    tool("/usr/sbin/fsck.vfat", &["-n", image]);
    let read = |name: &str| tool("mtype", &["-i", image, &format!("::{name}")]);
    if let Some(bytes) = read("README.TXT") {
        assert_eq!(bytes, b"read me\r\n");
        assert!(read("a file with a long name.html").unwrap() == pattern(70_000));
        assert!(read("sub/Überraschung ☃.dat").unwrap() == pattern(5000));
        assert_eq!(read("sub/deeper/x.y.z").unwrap(), pattern(1));
        assert_eq!(read("many/file number 149.txt").unwrap(), b"149");
    }
}

#[test]
fn a_folder_with_large_files_is_fat32() {
    let folder = folder();
    let large = std::fs::File::create(folder.path().join("large.bin")).unwrap();
    large.set_len(3 << 30).unwrap();
    std::fs::File::create(folder.path().join("too large.bin")).unwrap().set_len(5 << 30).unwrap();
    let mut disk = fat(folder.path()).unwrap();
    assert_eq!(disk.skipped().len(), 2);
    // As a sparse file: extents tell where there is something.
    let out = tempfile::tempdir().unwrap();
    let image = out.path().join("fat.img");
    let mut copy = crate::RawDisk::create(&image, disk.length_bytes() - 63 * 512).unwrap();
    let mut at = 63 * 512;
    while at < disk.length_bytes() {
        let extent = disk.extent(at).unwrap();
        let is_large = extent.is_zero || extent.length_bytes >= 1 << 30;
        let now = if is_large { extent.length_bytes } else { extent.length_bytes.min(1 << 20) };
        // The large file is a hole, which its length tells; what is zeros is one in the copy.
        if !is_large {
            let mut bytes = vec![0; now as usize];
            disk.read_at(at, &mut bytes).unwrap();
            copy.write_at(at - 63 * 512, &bytes).unwrap();
        }
        at += now;
    }
    let image = image.to_str().unwrap();
    tool("/usr/sbin/fsck.vfat", &["-n", image]);
    if let Some(bytes) = tool("mtype", &["-i", image, "::many/file number 007.txt"]) {
        assert_eq!(bytes, b"7");
    }
}

#[test]
fn a_folder_as_a_cd() {
    let folder = folder();
    let out = tempfile::tempdir().unwrap();
    let mut disk = iso(folder.path()).unwrap();
    let image = out.path().join("cd.iso");
    save(&mut disk, &image, 0);
    assert!(matches!(crate::identify(&image).unwrap(), crate::Kind::Iso { bootable: false }));
    let image = image.to_str().unwrap();
    let read = |kind: &str, name: &str| tool("isoinfo", &["-i", image, kind, "-x", name]);
    if let Some(list) = tool("isoinfo", &["-i", image, "-J", "-f"]) {
        // The tool writes Latin-1.
        let list = String::from_utf8_lossy(&list);
        assert!(list.contains("/sub/") && list.contains("berraschung _.dat"));
        assert_eq!(list.lines().count(), 6 + 150 + 3);
        assert_eq!(read("-J", "/README.TXT;1").unwrap(), b"read me\r\n");
        assert!(read("-J", "/a file with a long name.html;1").unwrap() == pattern(70_000));
        assert_eq!(read("-J", "/many/file number 149.txt;1").unwrap(), b"149");
        assert_eq!(read("-R", "/README.TXT;1").unwrap(), b"read me\r\n");
        let plain = String::from_utf8(tool("isoinfo", &["-i", image, "-f"]).unwrap()).unwrap();
        assert_eq!(plain.lines().count(), list.lines().count());
        assert!(plain.contains("/SUB/DEEPER/XYZ") || plain.contains("/SUB/DEEPER/X"), "{plain}");
    }
}

#[test]
fn a_file_that_changed_is_a_read_error_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("CHANGED.TXT"), vec![1; 3000]).unwrap();
    std::fs::write(folder.path().join("SAME.TXT"), vec![2; 3000]).unwrap();
    for make in [fat, iso] {
        let mut disk = make(folder.path()).unwrap();
        std::fs::write(folder.path().join("CHANGED.TXT"), vec![3; 4000]).unwrap();
        let mut failed = 0;
        let mut seen = Vec::new();
        for at in (0..disk.length_bytes()).step_by(512) {
            let mut sector = [0; 512];
            match disk.read_at(at, &mut sector) {
                Ok(()) => seen.extend(sector),
                Err(DiskError::Host(error)) => {
                    assert!(error.to_string().contains("CHANGED.TXT"), "{error}");
                    failed += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(failed, 6);
        assert!(seen.windows(3000).any(|window| window.iter().all(|byte| *byte == 2)));
        assert!(matches!(disk.write_at(0, &[0]), Err(DiskError::ReadOnly)));
        std::fs::write(folder.path().join("CHANGED.TXT"), vec![1; 3000]).unwrap();
    }
    assert!(matches!(fat(&folder.path().join("SAME.TXT")), Err(OpenError::Folder { .. })));
}
