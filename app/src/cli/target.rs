//! From FILE|NAME and options to a profile, checked as a whole before anything is made.

use std::path::Path;

use engine::library::{Library, LibraryError};
use engine::profile::{Direct, Firmware, Network, Profile};
use engine::snapshot::{SnapshotError, States, Which};
use engine::sound::Audio;

use super::arguments::MachineArguments;
use crate::boot;

/// The profile of `vitrine run TARGET [options]`.
pub fn resolve(
    library: &Library,
    target: Option<&Path>,
    machine: &MachineArguments,
) -> Result<Profile, String> {
    let mut profile = match target {
        None => Profile::new("run"),
        Some(target) => named(library, target, machine)?,
    };
    apply(&mut profile, machine)?;
    check(&profile)?;
    Ok(profile)
}

/// The profile of a snapshot of the machine that `target` names. It is made of what it was saved with.
pub fn saved(
    library: &Library,
    target: Option<&Path>,
    snapshot: &str,
    machine: &MachineArguments,
) -> Result<Profile, String> {
    let target = target.ok_or("name the machine that is to be continued")?;
    let host =
        MachineArguments { backend: machine.backend, interrupts: machine.interrupts, ..Default::default() };
    if *machine != host {
        return Err(
            "a machine is continued with the parts it was saved with; only --backend and --interrupts may \
                    be others"
                .to_owned(),
        );
    }
    let name = if target.exists() { boot::name_for(target) } else { target.to_string_lossy().into_owned() };
    let told = |error: SnapshotError| error.to_string();
    let head =
        States::of(library, &name).and_then(|states| states.head(Which::Snapshot(snapshot))).map_err(told)?;
    let mut profile = Profile { name, ..head.profile };
    profile.backend = machine.backend.unwrap_or_default();
    set(&mut profile.interrupts, &machine.interrupts);
    Ok(profile)
}

/// Sets what the options name; what they do not name stays.
pub fn apply(profile: &mut Profile, machine: &MachineArguments) -> Result<(), String> {
    set(&mut profile.backend, &machine.backend);
    set(&mut profile.interrupts, &machine.interrupts);
    set(&mut profile.memory, &machine.memory);
    set(&mut profile.cpus, &machine.cpus);
    set(&mut profile.firmware, &machine.firmware);
    set(&mut profile.disk_bus, &machine.disk_bus);
    if let Firmware::Image(image) = &mut profile.firmware {
        *image = boot::absolute(image);
    }
    if let Some(cdrom) = &machine.cdrom {
        profile.cdrom = Some(boot::absolute(cdrom));
    }
    profile.disks.extend(machine.disk.iter().map(|disk| boot::absolute(disk)));
    if let Some(floppy) = &machine.floppy {
        profile.floppy = Some(boot::absolute(floppy));
    }
    set(&mut profile.paravirtual, &machine.paravirtual);
    set(&mut profile.lost_ticks, &machine.lost_ticks);
    set(&mut profile.network, &machine.network);
    set(&mut profile.nic, &machine.nic);
    set(&mut profile.display, &machine.display);
    set(&mut profile.sound, &machine.sound);
    if let Some(audio) = &machine.audio {
        profile.audio = Some(match audio {
            Audio::Wav(path) => Audio::Wav(boot::absolute(path)),
            other => other.clone(),
        });
    }
    match &mut profile.network {
        Network::Nat { forwards, host_loopback } => {
            forwards.extend(&machine.forward);
            *host_loopback |= machine.host_loopback;
        }
        _ if !machine.forward.is_empty() => return Err("--forward needs --network nat".into()),
        _ if machine.host_loopback => return Err("--host-loopback needs --network nat".into()),
        _ => {}
    }
    if let Some(kernel) = &machine.kernel {
        let image = boot::absolute(kernel);
        profile.direct = Some(Direct::Kernel { image, initrd: None, append: String::new() });
    }
    match &mut profile.direct {
        Some(Direct::Kernel { initrd, append, .. }) => {
            if let Some(path) = &machine.initrd {
                *initrd = Some(boot::absolute(path));
            }
            set(append, &machine.append);
        }
        _ if machine.initrd.is_some() => return Err("--initrd needs a kernel: name one with --kernel".into()),
        _ if machine.append.is_some() => return Err("--append needs a kernel: name one with --kernel".into()),
        _ => {}
    }
    set_some(&mut profile.memory_now, machine.memory_now);
    set_some(&mut profile.memory_floor, machine.memory_floor);
    set_some(&mut profile.throttles.disk_operations, machine.disk_iops);
    set_some(&mut profile.throttles.disk_bytes, machine.disk_rate);
    set_some(&mut profile.throttles.network_bytes, machine.network_rate);
    profile.snapshot |= machine.snapshot;
    profile.debug_exit |= machine.debug_exit;
    profile.hpet |= machine.hpet;
    if machine.deterministic {
        profile.deterministic.get_or_insert_default();
    }
    Ok(())
}

/// Everything that keeps the profile from starting, as one message; files are looked into.
pub fn check(profile: &Profile) -> Result<(), String> {
    let mut reasons: Vec<String> = Vec::new();
    let may_be_folder =
        |path: &Path| profile.cdrom.as_deref() == Some(path) || profile.disks.iter().any(|disk| disk == path);
    for (_, path) in profile.files() {
        if path.is_dir() && may_be_folder(path) {
            continue;
        }
        if let Err(reason) = check_file(path) {
            reasons.push(reason);
        }
    }
    if reasons.is_empty() {
        if let Some(cdrom) = profile.cdrom.as_ref().filter(|path| !path.is_dir()) {
            reasons.extend(expect(cdrom, "--cdrom", "a CD image", |kind| {
                matches!(kind, storage::Kind::Iso { .. })
            }));
        }
        if let Some(Direct::Kernel { image, .. }) = &profile.direct {
            reasons.extend(expect(image, "--kernel", "a kernel (bzImage, multiboot or ELF)", |kind| {
                use storage::Kind::{Elf32, Elf64, LinuxKernel, Multiboot1, Multiboot2};
                matches!(kind, LinuxKernel | Multiboot1 | Multiboot2 | Elf32 | Elf64)
            }));
        }
        if let Some(floppy) = &profile.floppy {
            reasons.extend(expect(floppy, "--floppy", "a floppy image", |kind| {
                use storage::Kind::{BootSector, DiskImage, Flat, Floppy};
                matches!(kind, Floppy { .. } | BootSector | Flat | DiskImage { .. })
            }));
        }
        for disk in profile.disks.iter().filter(|path| !path.is_dir()) {
            // Any bytes can be a disk's; only what is known to be something else is refused, and images that
            // cannot be opened.
            if let Err(error @ storage::IdentifyError::Open(_)) = storage::identify(disk) {
                reasons.push(error.to_string());
            }
        }
        reasons.extend(profile.problems().iter().map(ToString::to_string));
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
}

fn named(library: &Library, target: &Path, machine: &MachineArguments) -> Result<Profile, String> {
    if target.exists() {
        let mut profile = Profile::new(boot::name_for(target));
        // Whether a boot sector needs a drive hangs on the firmware, so that is known first.
        set(&mut profile.firmware, &machine.firmware);
        let kind = boot::identify(target)?;
        boot::boot_from(&mut profile, target, kind);
        return Ok(profile);
    }
    let name = target.to_string_lossy();
    match library.load(&name) {
        Ok(profile) => return Ok(profile),
        Err(LibraryError::Unknown(_) | LibraryError::Name(_)) => {}
        Err(error) => return Err(error.to_string()),
    }
    let builtin = engine::builtin::names();
    if builtin.iter().any(|known| *known == name) {
        return Ok(boot::machine_for_builtin(&name));
    }
    Err(format!(
        "{name}: there is no such file, no saved machine of this name (`vitrine list` shows them), and no \
         built-in guest (there is: {})",
        builtin.join(", ")
    ))
}

fn check_file(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("{}: there is no such file", path.display()))
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
        Ok(data) if data.is_dir() => Err(format!("{}: this is a folder, not a file", path.display())),
        Ok(data) if data.is_file() && data.len() == 0 => {
            Err(format!("{}: this file is empty", path.display()))
        }
        Ok(_) => std::fs::File::open(path).map(drop).map_err(|error| format!("{}: {error}", path.display())),
    }
}

fn expect(path: &Path, option: &str, wanted: &str, fits: impl Fn(storage::Kind) -> bool) -> Option<String> {
    match storage::identify(path) {
        Ok(kind) if fits(kind) => None,
        Ok(kind) => Some(format!(
            "{}: {option} wants {wanted}, and this is a {}",
            path.display(),
            boot::kind_name(kind)
        )),
        Err(error) => Some(error.to_string()),
    }
}

fn set_some<T>(field: &mut Option<T>, option: Option<T>) {
    if option.is_some() {
        *field = option;
    }
}

fn set<T: Clone>(field: &mut T, option: &Option<T>) {
    if let Some(value) = option {
        *field = value.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::profile::Size;

    fn library() -> (tempfile::TempDir, Library) {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::at(folder.path());
        (folder, library)
    }

    #[test]
    fn an_unknown_target_names_all_three_possibilities() {
        let (_folder, library) = library();
        let error = resolve(&library, Some(Path::new("nowhere")), &MachineArguments::default()).unwrap_err();
        for word in ["nowhere", "file", "saved machine", "built-in"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_saved_machine_keeps_what_the_options_do_not_name() {
        let (_folder, library) = library();
        let builtin = engine::builtin::names()[0];
        let mut saved = boot::machine_for_builtin(builtin);
        saved.name = "mine".into();
        saved.memory = Size::mib(64);
        library.create(&saved, None).unwrap();
        let options = MachineArguments { cpus: Some(2), hpet: true, ..MachineArguments::default() };
        let profile = resolve(&library, Some(Path::new("mine")), &options).unwrap();
        assert_eq!((profile.memory, profile.cpus, profile.hpet), (Size::mib(64), 2, true));
    }

    #[test]
    fn a_damaged_saved_machine_is_told_and_not_taken_for_missing() {
        let (_folder, library) = library();
        library.create(&Profile::new("mine"), None).unwrap();
        std::fs::write(library.folder("mine").join(engine::library::PROFILE_FILE), "(nonsense").unwrap();
        let error = resolve(&library, Some(Path::new("mine")), &MachineArguments::default()).unwrap_err();
        assert!(error.contains(engine::library::PROFILE_FILE), "{error}");
    }

    #[test]
    fn options_that_need_a_kernel_say_so() {
        let (_folder, library) = library();
        let builtin = engine::builtin::names()[0];
        let options = MachineArguments { append: Some("quiet".into()), ..MachineArguments::default() };
        let error = resolve(&library, Some(Path::new(builtin)), &options).unwrap_err();
        assert!(error.contains("--kernel"), "{error}");
    }

    #[test]
    fn a_file_of_another_kind_is_refused_by_option() {
        let (folder, library) = library();
        let path = folder.path().join("boot.bin");
        let mut sector = vec![0xF4; 512];
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        std::fs::write(&path, sector).unwrap();
        for (options, option) in [
            (MachineArguments { cdrom: Some(path.clone()), ..MachineArguments::default() }, "--cdrom"),
            (MachineArguments { kernel: Some(path.clone()), ..MachineArguments::default() }, "--kernel"),
        ] {
            let error = resolve(&library, None, &options).unwrap_err();
            assert!(error.contains(option) && error.contains("boot.bin"), "{error}");
        }
    }

    #[test]
    fn a_folder_may_be_a_disk_or_a_cd_and_nothing_else() {
        let (folder, library) = library();
        let shared = folder.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        let told = |options: MachineArguments| match resolve(&library, None, &options) {
            Ok(_) => String::new(),
            Err(reason) => reason,
        };
        let none = MachineArguments::default;
        assert_eq!(told(MachineArguments { disk: vec![shared.clone()], ..none() }), "");
        assert_eq!(told(MachineArguments { cdrom: Some(shared.clone()), ..none() }), "");
        assert!(told(MachineArguments { floppy: Some(shared.clone()), ..none() }).contains("folder"));
        assert!(told(MachineArguments { kernel: Some(shared), ..none() }).contains("folder"));
    }
}
