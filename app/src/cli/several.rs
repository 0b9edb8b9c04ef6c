//! `vitrine run A B C --headless`: several machines in one process, on one pool of workers. Each has its name, by which
//! `vitrine ctl` speaks to it, and its end is told; the exit status is the largest of theirs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use engine::library::Library;
use engine::profile::Profile;
use engine::sound::Output;

use super::arguments::{RunArguments, Serial};
use super::player;
use super::run::{beginning, check_outputs, finish, outlets, watch};
use super::serial::OutFile;
use super::watch::{Verdict, Watch};
use super::{console, status, target};
use crate::boot;
use crate::control::parts::capture_file;
use crate::interrupt;
use crate::running::Running;
use crate::running::launch::launch;

/// A machine that was started, and what ends its run.
struct Started {
    name: String,
    arguments: RunArguments,
    machine: Arc<dyn Running>,
    watch: Watch,
    files: Vec<OutFile>,
}

/// Runs all targets; the largest exit status, or what kept one from starting (then none runs).
pub fn run(arguments: &RunArguments) -> Result<u8, String> {
    if !arguments.headless {
        return Err("several machines at once need --headless; the window starts them one by one".to_owned());
    }
    if arguments.serial == Serial::Stdio {
        return Err(
            "one terminal cannot be the serial line of several machines; write --serial file:PATH, and \
                    `vitrine ctl NAME serial TEXT` sends to one"
                .to_owned(),
        );
    }
    if arguments.gdb.is_some() {
        return Err(
            "--gdb serves one machine; `vitrine ctl NAME gdb start` serves each of several".to_owned()
        );
    }
    if arguments.resume.is_some() {
        return Err(
            "--resume is for one machine; start each from its snapshot by a `vitrine run` of its own"
                .to_owned(),
        );
    }
    let profiles = resolve(&Library::of_user(), arguments)?;
    let mut started: Vec<Started> = Vec::new();
    for profile in profiles {
        match start(&profile, of_machine(arguments, &profile.name)) {
            Ok(one) => started.push(one),
            Err(reason) => {
                started.iter().for_each(|one| one.machine.power_off());
                return Err(format!("{}: {reason}", profile.name));
            }
        }
    }
    let threads: Vec<_> =
        started.into_iter().map(|one| (one.name.clone(), thread::spawn(move || attend(one)))).collect();
    let mut worst = status::SUCCESS;
    for (name, thread) in threads {
        let ended = thread.join().unwrap_or_else(|_| Err("a defect in Vitrine ended its watch".to_owned()));
        let status = match ended {
            Ok((what, status)) => {
                console::say(&format!("{name}: {what}, status {status}"));
                status
            }
            Err(reason) => {
                console::tell(&format!("{name}: {reason}"));
                status::ERROR
            }
        };
        worst = worst.max(status);
    }
    Ok(worst)
}

/// All profiles, each with a name of its own; everything is checked before anything starts.
fn resolve(library: &Library, arguments: &RunArguments) -> Result<Vec<Profile>, String> {
    let mut profiles: Vec<Profile> = Vec::new();
    for target in &arguments.targets {
        let mut profile = target::resolve(library, Some(target), &arguments.machine)?;
        profile.name = boot::free_name(&profile.name, |name| profiles.iter().any(|other| other.name == name));
        check_outputs(&of_machine(arguments, &profile.name))?;
        profiles.push(profile);
    }
    Ok(profiles)
}

/// The arguments as one machine has them: what it writes has its name.
fn of_machine(arguments: &RunArguments, name: &str) -> RunArguments {
    let mut own = arguments.clone();
    if let Serial::File(path) = &mut own.serial {
        *path = with_name(path, name);
    }
    for path in [&mut own.debugcon, &mut own.screenshot, &mut own.capture, &mut own.stats] {
        *path = path.as_deref().map(|path| with_name(path, name));
    }
    own
}

/// `out.txt` for the machine `a` is `out-a.txt`.
fn with_name(path: &Path, name: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{name}{ending}"))
}

fn start(profile: &Profile, arguments: RunArguments) -> Result<Started, String> {
    let mut watch = watch(&arguments)?;
    let (mut outlets, files) = outlets(&arguments, &mut watch, &Arc::default());
    let on_stage =
        profile.deterministic.is_some().then(|| player::perform(&mut watch, &mut outlets)).flatten();
    if profile.audio.is_none() {
        outlets.sound = Some(Output::none());
    }
    outlets.capture = arguments.capture.as_deref().map(capture_file).transpose()?;
    let machine = launch(profile, &beginning(&arguments), outlets)?;
    if let Some(on_stage) = on_stage {
        on_stage(&machine);
    }
    for file in &files {
        file.ensure().inspect_err(|_| machine.power_off())?;
    }
    let interrupted: Arc<AtomicBool> = interrupt::flag();
    watch.interrupted.push(interrupted);
    watch.tells_notes = true;
    Ok(Started { name: profile.name.clone(), arguments, machine, watch, files })
}

/// Watches a machine to its end: what became of it, and its exit status.
fn attend(mut one: Started) -> Result<(String, u8), String> {
    let verdict = one.watch.run(&*one.machine);
    let what = in_words(&verdict);
    let status = finish(&one.arguments, &one.machine, &one.files, verdict, None)?;
    Ok((what, status))
}

fn in_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::PoweredOff => "powered off".to_owned(),
        Verdict::Came(text) => format!("'{text}' came"),
        Verdict::Played => "its script is played".to_owned(),
        Verdict::TimeOver(_) => "time over".to_owned(),
        Verdict::Crashed(_) => "crashed".to_owned(),
        Verdict::DebugExit(value) => format!("debug exit {value}"),
        Verdict::Failed(_) => "failed".to_owned(),
        Verdict::Suspended => "suspended".to_owned(),
        Verdict::Interrupted => "interrupted".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_get_the_machines_name() {
        assert_eq!(with_name(Path::new("/x/out.txt"), "a 2"), Path::new("/x/out-a 2.txt"));
        assert_eq!(with_name(Path::new("out"), "b"), Path::new("out-b"));
    }
}
