//! A machine that is being thought up, or changed: the form's fields, and what is wrong with each.

use std::path::{Path, PathBuf};

use engine::profile::{MAX_CPUS, Profile, Size};

use super::machines::Id;
use crate::boot;

/// The fields of the form, under which problems are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Its name.
    Name,
    /// What it boots.
    Boot,
    /// What is in its CD drive.
    Cd,
    /// Memory.
    Memory,
    /// CPUs.
    Cpus,
    /// Hard disks.
    Disks,
    /// All other devices.
    Devices,
}

/// The form.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The saved machine that is changed; `None`: a new one is made.
    pub changes: Option<Id>,
    /// What is not typed: CPUs, backend, disks, devices. For a saved machine, all that the form does not show, too.
    pub profile: Profile,
    /// Name.
    pub name: String,
    /// Whether the user has written the name himself.
    pub is_named: bool,
    /// What a new machine is to boot.
    pub boot: String,
    /// What is in a saved machine's CD drive.
    pub cd: String,
    /// Memory, as typed.
    pub memory: String,
    /// Length of a disk that is to be made, as typed; nothing: none is made.
    pub new_disk: String,
    /// The fields that were left with something in them: their problems are shown.
    pub tried: bool,
    /// What the file at `boot` is, once looked at.
    looked: Option<(String, Result<storage::Kind, String>)>,
}

impl Default for Draft {
    fn default() -> Draft {
        Draft {
            changes: None,
            profile: Profile::new(String::new()),
            name: String::new(),
            is_named: false,
            boot: String::new(),
            cd: String::new(),
            memory: Size::default().to_string(),
            new_disk: String::new(),
            tried: false,
            looked: None,
        }
    }
}

/// Most CPUs the form offers.
pub const CPUS: u32 = MAX_CPUS;
/// Shortest and longest disk that the form makes.
const DISK_LIMITS: (Size, Size) = (Size::mib(1), Size::mib(16 << 20));

/// What the form asks for: a machine, and perhaps a disk to be made with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The machine, without that disk.
    pub profile: Profile,
    /// The disk's length.
    pub new_disk: Option<Size>,
}

impl Draft {
    /// The form for changes of a saved machine.
    pub fn of(id: Id, profile: &Profile) -> Draft {
        Draft {
            changes: Some(id),
            name: profile.name.clone(),
            is_named: true,
            cd: profile.cdrom.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            memory: profile.memory.to_string(),
            profile: profile.clone(),
            ..Draft::default()
        }
    }

    /// Takes a file as what to boot, and its name as the machine's unless that was written; a saved machine gets it
    /// into its CD drive.
    pub fn take_file(&mut self, path: &Path) {
        if self.changes.is_some() {
            self.cd = path.display().to_string();
            return;
        }
        self.boot = path.display().to_string();
        if !self.is_named {
            self.name = boot::name_for(path);
        }
    }

    /// The path in the field that names a file.
    pub fn file(&self) -> &Path {
        Path::new(if self.changes.is_some() { self.cd.trim() } else { self.boot.trim() })
    }

    /// What the file is; read once for each path.
    pub fn kind(&mut self) -> Option<Result<storage::Kind, String>> {
        let path = self.file().to_str().unwrap_or_default().to_owned();
        if path.is_empty() {
            return None;
        }
        if self.looked.as_ref().is_none_or(|(looked, _)| *looked != path) {
            let kind = boot::identify(Path::new(&path));
            self.looked = Some((path, kind));
        }
        self.looked.as_ref().map(|(_, kind)| kind.clone())
    }

    /// The machine, or every problem with its field.
    pub fn wanted(&mut self, is_taken: impl Fn(&str) -> bool) -> Result<Wanted, Vec<(Field, String)>> {
        let mut problems = Vec::new();
        let name = self.name.trim().to_owned();
        let mut profile = Profile { name: name.clone(), ..self.profile.clone() };
        match self.memory.parse::<Size>() {
            Ok(memory) => profile.memory = memory,
            Err(reason) => problems.push((Field::Memory, reason)),
        }
        match self.changes {
            Some(_) => problems.extend(self.put_cd(&mut profile).err().map(|reason| (Field::Cd, reason))),
            None => problems.extend(self.put_boot(&mut profile).err().map(|reason| (Field::Boot, reason))),
        }
        let new_disk = self.length_of_disk(&profile).unwrap_or_else(|reason| {
            problems.push((Field::Disks, reason));
            None
        });
        for problem in profile.problems() {
            let field = match problem.field {
                "name" => Field::Name,
                "memory" | "memory_now" | "memory_floor" => Field::Memory,
                "cpus" => Field::Cpus,
                "disks" => Field::Disks,
                "cdrom" if self.changes.is_some() => Field::Cd,
                "disk_bus" | "network" => Field::Devices,
                _ => Field::Boot,
            };
            if !problems.iter().any(|(known, _)| *known == field) {
                problems.push((field, problem.reason));
            }
        }
        if self.changes.is_none() && !name.is_empty() && is_taken(&name) {
            problems.push((Field::Name, format!("a machine called '{name}' exists already")));
        }
        if problems.is_empty() { Ok(Wanted { profile, new_disk }) } else { Err(problems) }
    }

    fn put_boot(&mut self, profile: &mut Profile) -> Result<(), String> {
        let kind = self.kind().ok_or("choose what the machine boots, or drop a file here")??;
        boot::boot_from(profile, self.file(), kind);
        Ok(())
    }

    fn put_cd(&mut self, profile: &mut Profile) -> Result<(), String> {
        let path = self.file().to_owned();
        profile.cdrom = Some(path).filter(|path| *path != PathBuf::new());
        if profile.cdrom == self.profile.cdrom {
            return Ok(());
        }
        profile.cdrom = profile.cdrom.as_deref().map(boot::absolute);
        match self.kind().filter(|_| !self.file().is_dir()).transpose()? {
            None | Some(storage::Kind::Iso { .. }) => Ok(()),
            Some(other) => Err(format!("this is a {}, not a CD image", boot::kind_name(other))),
        }
    }

    /// How long the disk is to be that is made, if one is.
    fn length_of_disk(&self, profile: &Profile) -> Result<Option<Size>, String> {
        let text = self.new_disk.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let length = text.parse::<Size>()?;
        let (least, most) = DISK_LIMITS;
        if length < least || length > most {
            return Err(format!("{length} is outside {least} to {most}"));
        }
        let room = profile.disk_bus.room(profile.cdrom.is_some());
        if profile.disks.len() >= room {
            return Err(format!("there is no room for another disk: {room} fit on this bus"));
        }
        Ok(Some(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(draft: &mut Draft) -> Vec<Field> {
        draft
            .wanted(|name| name == "taken")
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|(field, _)| field)
            .collect()
    }

    #[test]
    fn a_file_is_enough_for_a_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello world.bin");
        std::fs::write(&path, [0xEB, 0xFE, 0, 0]).unwrap();
        let mut draft = Draft::default();
        assert_eq!(fields(&mut draft), [Field::Boot, Field::Name]);
        draft.take_file(&path);
        let profile = draft.wanted(|_| false).unwrap().profile;
        assert_eq!((profile.name.as_str(), profile.cpus), ("hello world", 1));
    }

    #[test]
    fn each_problem_knows_its_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        std::fs::write(&path, [0xEB, 0xFE, 0, 0]).unwrap();
        let mut draft = Draft { name: "taken".into(), is_named: true, ..Draft::default() };
        draft.take_file(&path);
        assert_eq!(draft.name, "taken");
        assert_eq!(fields(&mut draft), [Field::Name]);
        draft.name = "a/b".into();
        draft.memory = "lots".into();
        draft.profile.cpus = 99;
        assert_eq!(fields(&mut draft), [Field::Memory, Field::Name, Field::Cpus]);
        draft.boot = "/nonexistent".into();
        assert!(fields(&mut draft).contains(&Field::Boot));
    }

    #[test]
    fn a_disk_is_made_where_there_is_room_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        std::fs::write(&path, [0xEB, 0xFE, 0, 0]).unwrap();
        let mut draft = Draft::default();
        draft.take_file(&path);
        draft.new_disk = "8G".into();
        assert_eq!(draft.wanted(|_| false).unwrap().new_disk, Some(Size::mib(8 << 10)));
        for wrong in ["huge", "1K", "99999G"] {
            draft.new_disk = wrong.into();
            assert_eq!(fields(&mut draft), [Field::Disks], "{wrong}");
        }
        draft.new_disk = "8G".into();
        draft.profile.disks = vec![path; 4];
        assert_eq!(fields(&mut draft), [Field::Disks]);
    }

    #[test]
    fn a_saved_machine_keeps_what_the_form_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        std::fs::write(&path, [0xEB, 0xFE, 0, 0]).unwrap();
        let mut saved = Profile::new("taken");
        saved.floppy = Some(path.clone());
        saved.throttles.disk_operations = Some(7);
        let mut draft = Draft::of(3, &saved);
        assert_eq!(draft.wanted(|_| true), Ok(Wanted { profile: saved.clone(), new_disk: None }));
        draft.memory = "64M".into();
        let changed = Profile { memory: Size::mib(64), ..saved };
        assert_eq!(draft.wanted(|_| true).unwrap().profile, changed);
        draft.take_file(&path);
        assert_eq!(fields(&mut draft), [Field::Cd], "a program is no CD");
    }
}
