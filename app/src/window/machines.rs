//! The machines the window knows: saved ones, built-in guests, and one given on the command line; what
//! each is doing, and its last picture.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use display::Frame;
use engine::library::Library;
use engine::profile::{Profile, Size};
use engine::session::{Ending, Event, Outlets, RunState};
use engine::snapshot::States;

use super::picture::Picture;
use crate::cli::console;
use crate::control::saved;
use crate::running::launch::Beginning;
use crate::running::{Running, Starter};
use crate::{boot, outputs};

/// A machine in the window, as long as the window lives.
pub type Id = u64;

/// File in a machine's folder that holds what it last showed.
const LAST_FRAME: &str = "last-frame.png";

/// Where a machine comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Saved in the library.
    Saved,
    /// Comes with Vitrine.
    BuiltIn,
    /// Named on the command line.
    Given,
}

/// What a machine is doing.
pub enum Life {
    /// It is off.
    Off,
    /// It is being built, on another thread.
    Starting(Receiver<Result<Arc<dyn Running>, String>>),
    /// It runs, or has ended and can still be looked at.
    On(Arc<dyn Running>),
    /// It could not be started.
    Failed(String),
}

/// A machine.
pub struct Entry {
    /// Which.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What it is made of, or why that cannot be read.
    pub profile: Result<Profile, String>,
    /// What it is doing.
    pub life: Life,
    /// What it shows or last showed.
    pub picture: Picture,
    /// Its next start continues it.
    suspended: bool,
    /// Its end is already dealt with.
    settled: bool,
}

/// How a machine stands, for a card and the status line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Off.
    Off,
    /// Off, and its next start continues it.
    Suspended,
    /// Being built.
    Starting,
    /// Running.
    Running,
    /// Its time stands still.
    Paused,
    /// Ended by a triple fault.
    Crashed,
    /// Could not be started, or could not go on.
    Failed,
    /// Its profile cannot be read.
    Damaged,
}

impl Standing {
    /// In a word.
    pub fn text(self) -> &'static str {
        match self {
            Standing::Off => "off",
            Standing::Suspended => "suspended",
            Standing::Starting => "starting",
            Standing::Running => "running",
            Standing::Paused => "paused",
            Standing::Crashed => "crashed",
            Standing::Failed => "failed",
            Standing::Damaged => "damaged",
        }
    }
}

impl Entry {
    fn new(id: Id, name: &str, origin: Origin, profile: Result<Profile, String>) -> Entry {
        let (name, picture) = (name.to_owned(), Picture::default());
        Entry { id, name, origin, profile, life: Life::Off, picture, suspended: false, settled: true }
    }

    /// The machine, running or ended.
    pub fn machine(&self) -> Option<&Arc<dyn Running>> {
        match &self.life {
            Life::On(machine) => Some(machine),
            Life::Off | Life::Starting(_) | Life::Failed(_) => None,
        }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        match &self.life {
            _ if self.profile.is_err() => Standing::Damaged,
            Life::Off => self.off(),
            Life::Starting(_) => Standing::Starting,
            Life::Failed(_) => Standing::Failed,
            Life::On(machine) => match machine.state() {
                RunState::Running => Standing::Running,
                RunState::Paused => Standing::Paused,
                RunState::Ended(Ending::Crashed(_)) => Standing::Crashed,
                RunState::Ended(Ending::Failed(_)) => Standing::Failed,
                RunState::Ended(Ending::PoweredOff | Ending::DebugExit(_)) => self.off(),
            },
        }
    }

    fn off(&self) -> Standing {
        if self.suspended { Standing::Suspended } else { Standing::Off }
    }

    /// Whether it holds the host's time and memory.
    pub fn is_alive(&self) -> bool {
        matches!(self.standing(), Standing::Starting | Standing::Running | Standing::Paused)
    }
}

/// All machines.
pub struct Machines {
    library: Library,
    starter: Starter,
    waker: Arc<dyn Fn() + Send + Sync>,
    entries: Vec<Entry>,
    next: Id,
}

impl Machines {
    /// Those in `library`, and the built-in guests.
    pub fn new(library: Library, starter: Starter, waker: Arc<dyn Fn() + Send + Sync>) -> Machines {
        let mut machines = Machines { library, starter, waker, entries: Vec::new(), next: 1 };
        for name in engine::builtin::names() {
            machines.add(name, Origin::BuiltIn, Ok(boot::machine_for_builtin(name)));
        }
        machines.refresh();
        machines
    }

    /// All of them, in the order of the library page.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let of = |origin| self.entries.iter().filter(move |entry| entry.origin == origin);
        of(Origin::Given).chain(of(Origin::Saved)).chain(of(Origin::BuiltIn))
    }

    /// One of them.
    pub fn get(&self, id: Id) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// One of them, to change its picture.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    /// Whether a saved machine has this name.
    pub fn is_taken(&self, name: &str) -> bool {
        self.library.folder(name).exists()
    }

    /// How many would be lost with the window. One from the command line belongs to its run and ends
    /// with it.
    pub fn alive(&self) -> usize {
        self.entries.iter().filter(|entry| entry.origin != Origin::Given && entry.is_alive()).count()
    }

    /// Reads the library again: the command line may have changed it.
    pub fn refresh(&mut self) {
        let saved = self.library.list();
        self.entries.retain(|entry| {
            entry.origin != Origin::Saved
                || entry.is_alive()
                || saved.iter().any(|(name, _)| *name == entry.name)
        });
        for (name, profile) in saved {
            let profile = profile.map_err(|error| error.to_string());
            let known =
                self.entries.iter_mut().find(|entry| entry.origin == Origin::Saved && entry.name == name);
            match known {
                Some(entry) => entry.profile = profile,
                None => {
                    let id = self.add(&name, Origin::Saved, profile);
                    self.load_last_frame(id);
                }
            }
        }
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.look_for_suspended();
    }

    /// Sees which machines are suspended.
    pub fn look_for_suspended(&mut self) {
        let library = &self.library;
        for entry in &mut self.entries {
            entry.suspended = States::of(library, &entry.name).is_ok_and(|states| states.is_suspended());
        }
    }

    /// Where the saved states of a machine lie.
    pub fn states(&self, id: Id) -> Result<States, String> {
        let entry = self.get(id).ok_or("there is no such machine")?;
        States::of(&self.library, &entry.name).map_err(|error| error.to_string())
    }

    /// Adds a machine that runs already.
    pub fn give(&mut self, machine: Arc<dyn Running>) -> Id {
        let profile = machine.profile().clone();
        let name = profile.name.clone();
        let id = self.add(&name, Origin::Given, Ok(profile));
        let entry = self.get_mut(id).expect("it was just added");
        entry.life = Life::On(machine);
        entry.settled = false;
        id
    }

    /// Saves a machine that was changed, with a new disk of this length if one is wanted.
    pub fn change(&mut self, profile: &Profile, new_disk: Option<Size>) -> Result<(), String> {
        self.library.change(profile, new_disk).map_err(|error| error.to_string())?;
        self.refresh();
        Ok(())
    }

    /// Saves a new machine, with a new disk of this length if one is wanted.
    pub fn create(&mut self, profile: &Profile, new_disk: Option<Size>) -> Result<Id, String> {
        self.library.create(profile, new_disk).map_err(|error| error.to_string())?;
        self.refresh();
        let made = self.entries.iter().find(|e| e.origin == Origin::Saved && e.name == profile.name);
        made.map(|entry| entry.id).ok_or_else(|| format!("{} could not be read back", profile.name))
    }

    /// Makes and saves a machine for a file.
    pub fn create_for(&mut self, path: &std::path::Path) -> Result<Id, String> {
        let mut profile = boot::machine_for(path)?;
        profile.name = boot::free_name(&profile.name, |name| self.is_taken(name));
        match profile.problems().first() {
            Some(problem) => Err(problem.to_string()),
            None => self.create(&profile, None),
        }
    }

    /// Deletes a saved machine that is off.
    pub fn delete(&mut self, id: Id) -> Result<(), String> {
        let Some(entry) = self.get(id) else { return Ok(()) };
        if entry.is_alive() {
            return Err(format!("{} is running; power it off first", entry.name));
        }
        self.library.delete(&entry.name).map_err(|error| error.to_string())?;
        self.entries.retain(|entry| entry.id != id);
        Ok(())
    }

    /// Begins to start a machine; it is built on another thread, since that may measure and load.
    pub fn start(&mut self, id: Id, beginning: Beginning) {
        let (starter, waker) = (self.starter.clone(), self.waker.clone());
        let Some(entry) = self.get_mut(id) else { return };
        if entry.is_alive() {
            return;
        }
        let profile = match &entry.profile {
            Ok(profile) => profile.clone(),
            Err(reason) => {
                entry.life = Life::Failed(reason.clone());
                return;
            }
        };
        let (tell, told) = channel();
        entry.life = Life::Starting(told);
        entry.picture.restart();
        entry.settled = false;
        // The state it was suspended in is used up; if it could not be, the library is read again.
        entry.suspended = false;
        std::thread::spawn(move || {
            let outlets = Outlets { waker: Some(waker.clone()), ..Outlets::default() };
            let _ = tell.send(starter(&profile, &beginning, outlets));
            waker();
        });
    }

    /// Sees what has come of starting and running; gives what is worth a notice.
    pub fn poll(&mut self) -> Vec<String> {
        let mut notices = Vec::new();
        for entry in &mut self.entries {
            if let Life::Starting(told) = &entry.life {
                entry.life = match told.try_recv() {
                    Ok(Ok(machine)) => Life::On(machine),
                    Ok(Err(reason)) => Life::Failed(reason),
                    Err(TryRecvError::Empty) => continue,
                    Err(TryRecvError::Disconnected) => {
                        Life::Failed("the machine could not be built: its thread ended".to_owned())
                    }
                };
            }
            if let Life::On(machine) = &entry.life {
                for event in machine.events() {
                    // Which backend runs it stands in the status line already.
                    if let Event::Note(note) | Event::Hindered(note) = event
                        && note != machine.backend_note()
                    {
                        notices.push(format!("{}: {note}", entry.name));
                    }
                }
            }
        }
        self.settle();
        notices
    }

    /// Keeps the last picture of machines that have ended.
    fn settle(&mut self) {
        let library = &self.library;
        for entry in self.entries.iter_mut().filter(|entry| !entry.settled) {
            let Life::On(machine) = &entry.life else { continue };
            if !matches!(machine.state(), RunState::Ended(_)) {
                continue;
            }
            entry.settled = true;
            if entry.origin == Origin::Saved {
                // Without a last picture the card is plain; nothing is lost.
                let _ = outputs::write_png(&library.folder(&entry.name).join(LAST_FRAME), &machine.frame());
            }
        }
    }

    /// Suspends the saved machines and pulls the plug of the others, as the window closes.
    pub fn power_off_all(&mut self) {
        for entry in &self.entries {
            if let Some(machine) = entry.machine()
                && entry.is_alive()
            {
                // A saved machine goes on from here at its next start.
                if entry.origin == Origin::Saved
                    && let Some(session) = machine.session()
                    && let Err(reason) =
                        self.states(entry.id).and_then(|states| saved::suspend(&states, session))
                {
                    console::tell(&format!(
                        "{} could not be suspended, and is switched off: {reason}",
                        entry.name
                    ));
                }
                machine.power_off();
                machine.wait(std::time::Duration::from_secs(2));
            }
        }
        self.settle();
    }

    /// Keeps a machine's screen under the first free number; where.
    pub fn screenshot(&self, id: Id) -> Result<PathBuf, String> {
        let path = self.output(id, "screenshots", "png")?;
        let machine = self.get(id).and_then(Entry::machine).ok_or("the machine is off")?;
        outputs::write_png(&path, &machine.frame())?;
        Ok(path)
    }

    /// A free name for something a machine gives, in `folder` beside the machine.
    pub fn output(&self, id: Id, folder: &str, ending: &str) -> Result<PathBuf, String> {
        let machine = self.get(id).and_then(Entry::machine).ok_or("the machine is off")?;
        let folder = match self.get(id).map(|entry| entry.origin) {
            Some(Origin::Saved) => self.library.folder(&machine.profile().name),
            _ => self.library.root().to_owned(),
        }
        .join(folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let name = |number: u32| folder.join(format!("{} {number}.{ending}", machine.profile().name));
        (1..).map(name).find(|path| !path.exists()).ok_or_else(|| "there is no free name".to_owned())
    }

    fn add(&mut self, name: &str, origin: Origin, profile: Result<Profile, String>) -> Id {
        let id = self.next;
        self.next += 1;
        self.entries.push(Entry::new(id, name, origin, profile));
        id
    }

    /// The frame a saved machine last showed, for its card.
    pub fn last_frame(&self, name: &str) -> Option<Frame> {
        let path = self.library.folder(name).join(LAST_FRAME);
        let picture = image::open(path).ok()?.to_rgb8();
        let (width, height) = picture.dimensions();
        let pixels = picture.pixels().map(|p| u32::from_be_bytes([0, p.0[0], p.0[1], p.0[2]])).collect();
        Some(Frame { width, height, pixels, serial: 0 })
    }

    fn load_last_frame(&mut self, id: Id) {
        let frame = self.get(id).and_then(|entry| self.last_frame(&entry.name));
        if let (Some(entry), Some(frame)) = (self.get_mut(id), frame) {
            entry.picture.remember(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::fake::Fake;

    fn machines(folder: &std::path::Path, starter: Starter) -> Machines {
        Machines::new(Library::at(folder), starter, Arc::new(|| {}))
    }

    fn wait(machines: &mut Machines, id: Id) -> Standing {
        for _ in 0..2000 {
            machines.poll();
            match machines.get(id).unwrap().standing() {
                Standing::Starting => std::thread::sleep(std::time::Duration::from_millis(1)),
                other => return other,
            }
        }
        panic!("it never started");
    }

    #[test]
    fn a_machine_keeps_its_last_picture() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake::new("one");
        let given = fake.clone();
        let starter: Starter = Arc::new(move |_, _, _| Ok(given.clone() as Arc<dyn Running>));
        let mut machines = machines(folder.path(), starter.clone());
        let mut profile = boot::machine_for_builtin(engine::builtin::names()[0]);
        profile.name = "one".into();
        let id = machines.create(&profile, None).unwrap();
        machines.start(id, Beginning::Usual);
        assert_eq!(wait(&mut machines, id), Standing::Running);
        fake.set_frame(4, 3, 0x00AB_CDEF);
        assert!(machines.delete(id).unwrap_err().contains("running"));
        machines.power_off_all();
        assert_eq!(machines.get(id).unwrap().standing(), Standing::Off);
        let frame = self::machines(folder.path(), starter).last_frame("one").unwrap();
        assert_eq!((frame.width, frame.height, frame.pixels[0]), (4, 3, 0x00AB_CDEF));
        machines.delete(id).unwrap();
        assert!(machines.get(id).is_none() && !machines.is_taken("one"));
    }

    #[test]
    fn why_a_machine_did_not_start_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut machines = machines(folder.path(), Arc::new(|_, _, _| Err("no firmware here".into())));
        let id = machines.entries().next().unwrap().id;
        machines.start(id, Beginning::Usual);
        assert_eq!(wait(&mut machines, id), Standing::Failed);
        assert!(
            matches!(&machines.get(id).unwrap().life, Life::Failed(reason) if reason == "no firmware here")
        );
    }

    #[test]
    fn what_the_command_line_changes_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut machines = machines(folder.path(), Arc::new(|_, _, _| Err("none".into())));
        let before = machines.entries().count();
        let library = Library::at(folder.path());
        library.create(&Profile::new("other"), None).unwrap();
        machines.refresh();
        assert_eq!(machines.entries().count(), before + 1);
        fs::write(library.folder("other").join(engine::library::PROFILE_FILE), "(").unwrap();
        machines.refresh();
        assert!(machines.entries().any(|entry| entry.standing() == Standing::Damaged));
        library.delete("other").unwrap();
        machines.refresh();
        assert_eq!(machines.entries().count(), before);
    }
}
