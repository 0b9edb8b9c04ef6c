//! How a machine begins: anew, where it was suspended, or from a snapshot.

use std::sync::Arc;

use engine::backend::Backend;
use engine::library::Library;
use engine::profile::Profile;
use engine::session::{Outlets, Session};
use engine::snapshot::{self, States, Which};
use engine::sound::Audio;

use super::Running;

/// Where a machine begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Beginning {
    /// Where it was suspended, if it was; else anew.
    #[default]
    Usual,
    /// Anew; the state it was suspended in is given up.
    Anew,
    /// From this snapshot.
    Snapshot(String),
}

/// Starts the machine of `profile`, and lets it be controlled from outside.
pub fn launch(
    profile: &Profile,
    beginning: &Beginning,
    mut outlets: Outlets,
) -> Result<Arc<dyn Running>, String> {
    if outlets.sound.is_none() {
        outlets.sound = Some(crate::audio::open(profile.audio.as_ref().unwrap_or(&Audio::Host))?);
    }
    let session = begin(&Library::of_user(), profile, beginning, outlets)?;
    let machine = Arc::new(session) as Arc<dyn Running>;
    if let Err(reason) = crate::control::offer(&machine) {
        crate::cli::console::tell(&format!("machines cannot be controlled from outside: {reason}"));
    }
    Ok(machine)
}

fn begin(
    library: &Library,
    profile: &Profile,
    beginning: &Beginning,
    mut outlets: Outlets,
) -> Result<Session, String> {
    let told = |error: snapshot::SnapshotError| error.to_string();
    let states = States::of(library, &profile.name).map_err(told)?;
    let same_host = |saved: &mut Profile| {
        (saved.backend, saved.interrupts, saved.processor) =
            (profile.backend, profile.interrupts, profile.processor);
    };
    match beginning {
        Beginning::Snapshot(name) => {
            return snapshot::start(&states, Which::Snapshot(name), same_host, outlets).map_err(told);
        }
        Beginning::Usual if states.is_suspended() => {
            let advice =
                format!("`vitrine run {} --fresh` gives that state up and starts anew", profile.name);
            let head = states.head(Which::Suspended).map_err(|error| format!("{error}. {advice}"))?;
            if !is_same_machine(&head.profile, &profile.as_built()) {
                let name = &profile.name;
                return Err(format!("{name} is suspended, and was made of other parts than now: {advice}"));
            }
            return snapshot::start(&states, Which::Suspended, same_host, outlets)
                .map_err(|error| format!("{error}. {advice}"));
        }
        Beginning::Anew if states.is_suspended() => states.delete(Which::Suspended).map_err(told)?,
        Beginning::Usual | Beginning::Anew => {}
    }
    outlets.fronts = states.fronts().map_err(told)?;
    Session::start(profile, outlets).map_err(|error| error.to_string())
}

/// Whether the guest would find the same machine; who runs it does not matter.
fn is_same_machine(saved: &Profile, now: &Profile) -> bool {
    let bare = |profile: &Profile| Profile {
        backend: Backend::Auto,
        interrupts: Default::default(),
        processor: Default::default(),
        name: String::new(),
        ..profile.clone()
    };
    bare(saved) == bare(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::profile::Size;
    use std::time::Duration;

    #[test]
    fn a_suspended_machine_is_continued_unless_it_changed_or_shall_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::at(folder.path());
        let mut profile = crate::boot::machine_for_builtin(engine::builtin::names()[0]);
        profile.backend = Backend::Soft;
        let begin = |profile: &Profile, beginning| begin(&library, profile, &beginning, Outlets::default());
        let states = States::of(&library, &profile.name).unwrap();
        let suspend = |session: Session| {
            snapshot::suspend(&session, &states).unwrap();
            assert!(session.wait(Duration::from_secs(10)).is_some());
            session.stats().guest_seconds
        };
        let first = begin(&profile, Beginning::Usual).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let lived = suspend(first);
        let mut changed = profile.clone();
        changed.memory = Size::mib(32);
        let refused = begin(&changed, Beginning::Usual).err().unwrap();
        assert!(refused.contains("--fresh") && states.is_suspended(), "{refused}");
        let again = begin(&profile, Beginning::Usual).unwrap();
        assert!(again.stats().guest_seconds >= lived && !states.is_suspended());
        suspend(again);
        let anew = begin(&profile, Beginning::Anew).unwrap();
        assert!(!states.is_suspended());
        anew.power_off();
    }
}
