//! From a file to a machine that boots it: the command line and a file dropped on the window take the
//! same way.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use engine::profile::{Direct, Firmware, Profile, check_name};
use storage::Kind;

/// Largest program that fits between 0x7C00 and the end of conventional memory.
const FLAT_MAX_BYTES: u64 = 0x9_FC00 - 0x7C00;

/// Starts of files that people have and no PC can boot, so that a slip is told and not executed.
const FOREIGN: [(&[u8], &str); 9] = [
    (b"\x89PNG", "a PNG picture"),
    (b"\xFF\xD8\xFF", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"RIFF", "a sound or video file"),
    (b"OggS", "a sound or video file"),
    (b"MZ", "a DOS or Windows program, which runs inside a guest and not instead of one"),
    (b"!<arch>", "a package or library"),
    (b"#!", "a script"),
];

/// The absolute path of an existing file, so that a saved machine finds it from anywhere.
pub fn absolute(path: &Path) -> PathBuf {
    fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// What the file at `path` is, in one or two words.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Iso { .. } => "CD image",
        Kind::Floppy { .. } => "floppy image",
        Kind::DiskImage { .. } => "disk image",
        Kind::BootSector => "boot sector",
        Kind::LinuxKernel => "Linux kernel",
        Kind::Multiboot1 | Kind::Multiboot2 => "multiboot kernel",
        Kind::Elf32 | Kind::Elf64 => "ELF kernel",
        Kind::Flat => "flat program",
    }
}

/// Tells what a file is, and refuses what no PC can start.
pub fn identify(path: &Path) -> Result<Kind, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("{}: there is no such file", path.display()));
        }
        Err(error) => return Err(format!("{}: {error}", path.display())),
        Ok(data) if data.is_dir() => {
            return Err(format!("{}: this is a folder; name a file in it", path.display()));
        }
        Ok(data) if data.is_file() && data.len() == 0 => {
            return Err(format!(
                "{}: this file is empty; if it was copied or downloaded, that did not finish",
                path.display()
            ));
        }
        Ok(_) => {}
    }
    let kind = storage::identify(path).map_err(|error| with_path(path, error.to_string()))?;
    if kind == Kind::Flat {
        check_flat(path)?;
    }
    Ok(kind)
}

/// Makes `profile` boot the file at `path`.
pub fn boot_from(profile: &mut Profile, path: &Path, kind: Kind) {
    let image = absolute(path);
    match kind {
        Kind::Iso { .. } => profile.cdrom = Some(image),
        Kind::DiskImage { .. } => profile.disks.insert(0, image),
        Kind::Floppy { .. } => profile.floppy = Some(image),
        // Firmware boots a sector from a drive; without it, the sector's own code is all there is.
        Kind::BootSector if profile.firmware == Firmware::None => profile.direct = Some(Direct::Flat(image)),
        Kind::BootSector => profile.floppy = Some(image),
        Kind::Flat => profile.direct = Some(Direct::Flat(image)),
        Kind::LinuxKernel | Kind::Multiboot1 | Kind::Multiboot2 | Kind::Elf32 | Kind::Elf64 => {
            profile.direct = Some(Direct::Kernel { image, initrd: None, append: String::new() });
        }
    }
}

/// A machine that boots the file at `path`, named after it.
pub fn machine_for(path: &Path) -> Result<Profile, String> {
    let kind = identify(path)?;
    let mut profile = Profile::new(name_for(path));
    boot_from(&mut profile, path, kind);
    Ok(profile)
}

/// A machine that runs a guest that comes with Vitrine.
pub fn machine_for_builtin(name: &str) -> Profile {
    let mut profile = Profile::new(name);
    profile.direct = Some(Direct::BuiltIn(name.to_owned()));
    profile
}

/// A machine's name made from a file's.
pub fn name_for(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut name: String = stem.trim_matches(|c: char| c == '.' || c.is_whitespace()).replace('\\', "-");
    while name.len() > 60 {
        name.pop();
    }
    let name = name.trim().to_owned();
    if check_name(&name).is_ok() { name } else { "machine".to_owned() }
}

/// `name`, or with a number behind it the first that `taken` does not hold.
pub fn free_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    (2u32..).map(|n| format!("{name} {n}")).find(|name| !taken(name)).expect("some number is free")
}

/// What a profile boots, in a few words for a card or a list.
pub fn boots(profile: &Profile) -> String {
    let file = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    match &profile.direct {
        Some(Direct::BuiltIn(name)) => return format!("built-in guest {name}"),
        Some(Direct::Flat(image)) => return format!("program {}", file(image)),
        Some(Direct::Kernel { image, .. }) => return format!("kernel {}", file(image)),
        None => {}
    }
    if let Some(cdrom) = &profile.cdrom {
        return format!("CD {}", file(cdrom));
    }
    if let Some(disk) = profile.disks.first() {
        return format!("disk {}", file(disk));
    }
    match &profile.floppy {
        Some(floppy) => format!("floppy {}", file(floppy)),
        None => "nothing yet".to_owned(),
    }
}

fn check_flat(path: &Path) -> Result<(), String> {
    let told = |reason: String| Err(format!("{}: {reason}", path.display()));
    let mut head = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head));
    if let Err(error) = read {
        return told(error.to_string());
    }
    if let Some((_, what)) = FOREIGN.iter().find(|(start, _)| head.starts_with(start)) {
        return told(format!("this is {what}: nothing a PC can start"));
    }
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7E);
    if head.len() >= 16 && head.iter().all(is_text) {
        return told("this is a text file: nothing a PC can start".to_owned());
    }
    let bytes = fs::metadata(path).map_or(0, |data| data.len());
    if bytes > FLAT_MAX_BYTES {
        return told(format!(
            "this is no CD, disk, floppy or kernel image, and with {bytes} bytes too large for a flat \
             program (at most {FLAT_MAX_BYTES}); if it is a disk image, name it with --disk"
        ));
    }
    Ok(())
}

/// Puts the path before a message that does not name it.
fn with_path(path: &Path, message: String) -> String {
    let name = path.display().to_string();
    if message.contains(&name) { message } else { format!("{name}: {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn boot_sector() -> Vec<u8> {
        let mut sector = vec![0xF4; 512];
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        sector
    }

    #[test]
    fn a_boot_sector_goes_to_a_drive_unless_there_is_no_firmware() {
        let (_folder, path) = file("boot.bin", &boot_sector());
        let with = machine_for(&path).unwrap();
        assert!(with.floppy.is_some() && with.direct.is_none());
        let mut without = Profile::new("x");
        without.firmware = Firmware::None;
        boot_from(&mut without, &path, Kind::BootSector);
        assert!(matches!(without.direct, Some(Direct::Flat(_))) && without.floppy.is_none());
    }

    #[test]
    fn a_flat_program_goes_straight_to_memory() {
        let (_folder, path) = file("hello.com", &[0xEB, 0xFE, 0x90, 0x00, 0xB8]);
        assert!(matches!(machine_for(&path).unwrap().direct, Some(Direct::Flat(_))));
    }

    #[test]
    fn slips_are_told_and_not_executed() {
        for (bytes, reason) in [
            (&b"\x89PNG\r\n\x1A\n0000"[..], "PNG"),
            (b"Dear reader, this is a letter and no boot sector.\n", "text file"),
            (b"", "empty"),
        ] {
            let (_folder, path) = file("slip", bytes);
            let message = machine_for(&path).unwrap_err();
            assert!(message.contains(reason) && message.contains("slip"), "{message}");
        }
        let (folder, _) = file("x", b"x");
        assert!(identify(folder.path()).unwrap_err().contains("folder"));
        assert!(identify(Path::new("/nonexistent.iso")).unwrap_err().contains("no such file"));
    }

    #[test]
    fn names_come_from_files_and_never_clash() {
        assert_eq!(name_for(Path::new("/x/grub-rescue.iso")), "grub-rescue");
        assert_eq!(name_for(Path::new("/x/.hidden")), "hidden");
        let taken = ["a", "a 2"];
        assert_eq!(free_name("a", |name| taken.contains(&name)), "a 3");
        assert_eq!(free_name("b", |name| taken.contains(&name)), "b");
    }
}
