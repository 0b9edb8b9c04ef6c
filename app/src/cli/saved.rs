//! `list`, `show`, `create` and `delete`: the saved machines.

use std::path::Path;

use engine::library::{Library, LibraryError, PROFILE_FILE};
use engine::profile::{Profile, Size};
use engine::snapshot::States;

use super::arguments::MachineArguments;
use super::{console, status, target};
use crate::boot;

/// One line a machine: its name, memory, CPUs, backend and what it boots, with tabs between.
pub fn list() -> Result<u8, String> {
    let library = Library::of_user();
    for (name, profile) in library.list() {
        match profile {
            Ok(profile) => {
                let is_suspended = States::of(&library, &name).is_ok_and(|states| states.is_suspended());
                let state = if is_suspended { "\tsuspended" } else { "" };
                console::say(&format!("{}{state}", line(&name, &profile)));
            }
            Err(error) => console::say(&format!("{name}\tdamaged: {error}")),
        }
    }
    for name in engine::builtin::names() {
        console::say(&line(name, &boot::machine_for_builtin(name)));
    }
    Ok(status::SUCCESS)
}

/// A machine's profile as RON.
pub fn show(name: &str) -> Result<u8, String> {
    let library = Library::of_user();
    match library.load(name) {
        Ok(profile) => {
            console::say(&format!("// {}", library.folder(name).join(PROFILE_FILE).display()));
            console::say(&profile.to_ron());
        }
        Err(LibraryError::Unknown(_)) if engine::builtin::names().contains(&name) => {
            console::say("// built-in");
            console::say(&boot::machine_for_builtin(name).to_ron());
        }
        Err(error) => return Err(error.to_string()),
    }
    Ok(status::SUCCESS)
}

/// Saves a new machine once everything about it is right.
pub fn create(
    name: &str,
    file: Option<&Path>,
    new_disk: Option<Size>,
    machine: &MachineArguments,
) -> Result<u8, String> {
    let mut profile = Profile::new(name);
    if let Some(file) = file {
        if let Some(firmware) = &machine.firmware {
            profile.firmware = firmware.clone();
        }
        let kind = boot::identify(file)?;
        boot::boot_from(&mut profile, file, kind);
    }
    target::apply(&mut profile, machine)?;
    target::check(&profile)?;
    let library = Library::of_user();
    library.create(&profile, new_disk).map_err(|error| error.to_string())?;
    console::say(&format!("{}", library.folder(name).join(PROFILE_FILE).display()));
    Ok(status::SUCCESS)
}

/// Removes a machine and its folder; images elsewhere stay.
pub fn delete(name: &str) -> Result<u8, String> {
    match Library::of_user().delete(name) {
        Err(LibraryError::Unknown(_)) if engine::builtin::names().contains(&name) => {
            Err(format!("{name} is built in and cannot be deleted"))
        }
        Err(error) => Err(error.to_string()),
        Ok(()) => Ok(status::SUCCESS),
    }
}

fn line(name: &str, profile: &Profile) -> String {
    let cpus = if profile.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", profile.cpus) };
    format!("{name}\t{}\t{cpus}\t{}\t{}", profile.memory, profile.backend, boot::boots(profile))
}
