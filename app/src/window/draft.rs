//! A machine that is being thought up: the form's fields, and what is wrong with each.

use std::path::Path;

use engine::backend::Backend;
use engine::profile::{MAX_CPUS, Profile, Size};

use crate::boot;

/// The fields of the form, under which problems are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Its name.
    Name,
    /// What it boots.
    Boot,
    /// Memory.
    Memory,
    /// CPUs.
    Cpus,
}

/// The form.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Name.
    pub name: String,
    /// Whether the user has written the name himself.
    pub is_named: bool,
    /// What to boot.
    pub boot: String,
    /// Memory, as typed.
    pub memory: String,
    /// CPUs.
    pub cpus: u32,
    /// Backend.
    pub backend: Backend,
    /// The fields that were left with something in them: their problems are shown.
    pub tried: bool,
    /// What the file at `boot` is, once looked at.
    looked: Option<(String, Result<storage::Kind, String>)>,
}

impl Default for Draft {
    fn default() -> Draft {
        Draft {
            name: String::new(),
            is_named: false,
            boot: String::new(),
            memory: Size::default().to_string(),
            cpus: 1,
            backend: Backend::Auto,
            tried: false,
            looked: None,
        }
    }
}

/// Most CPUs the form offers.
pub const CPUS: u32 = MAX_CPUS;

impl Draft {
    /// Takes a file as what to boot, and its name as the machine's unless that was written.
    pub fn take_file(&mut self, path: &Path) {
        self.boot = path.display().to_string();
        if !self.is_named {
            self.name = boot::name_for(path);
        }
    }

    /// What the file is; read once for each path.
    pub fn kind(&mut self) -> Option<Result<storage::Kind, String>> {
        let path = self.boot.trim();
        if path.is_empty() {
            return None;
        }
        if self.looked.as_ref().is_none_or(|(looked, _)| looked != path) {
            self.looked = Some((path.to_owned(), boot::identify(Path::new(path))));
        }
        self.looked.as_ref().map(|(_, kind)| kind.clone())
    }

    /// The machine, or every problem with its field.
    pub fn profile(&mut self, is_taken: impl Fn(&str) -> bool) -> Result<Profile, Vec<(Field, String)>> {
        let mut problems = Vec::new();
        let name = self.name.trim().to_owned();
        let mut profile = Profile::new(name.clone());
        profile.cpus = self.cpus;
        profile.backend = self.backend;
        match self.memory.parse::<Size>() {
            Ok(memory) => profile.memory = memory,
            Err(reason) => problems.push((Field::Memory, reason)),
        }
        match self.kind() {
            None => {
                problems.push((Field::Boot, "choose what the machine boots, or drop a file here".to_owned()))
            }
            Some(Err(reason)) => problems.push((Field::Boot, reason)),
            Some(Ok(kind)) => boot::boot_from(&mut profile, Path::new(self.boot.trim()), kind),
        }
        for problem in profile.problems() {
            let field = match problem.field {
                "name" => Field::Name,
                "memory" => Field::Memory,
                "cpus" => Field::Cpus,
                _ => Field::Boot,
            };
            problems.push((field, problem.reason));
        }
        if !name.is_empty() && is_taken(&name) {
            problems.push((Field::Name, format!("a machine called '{name}' exists already")));
        }
        if problems.is_empty() { Ok(profile) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(draft: &mut Draft) -> Vec<Field> {
        draft
            .profile(|name| name == "taken")
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
        let profile = draft.profile(|_| false).unwrap();
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
        draft.cpus = 99;
        assert_eq!(fields(&mut draft), [Field::Memory, Field::Name, Field::Cpus]);
        draft.boot = "/nonexistent".into();
        assert!(fields(&mut draft).contains(&Field::Boot));
    }
}
