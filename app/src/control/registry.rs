//! The machines of this process by name.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use engine::session::RunState;

use crate::running::Running;

/// Machines that can be controlled from outside.
#[derive(Default)]
pub struct Registry(Mutex<Vec<(String, Weak<dyn Running>)>>);

impl Registry {
    /// This process's.
    pub fn global() -> &'static Arc<Registry> {
        static REGISTRY: OnceLock<Arc<Registry>> = OnceLock::new();
        REGISTRY.get_or_init(Arc::default)
    }

    /// Adds a machine under its name, with a number if another has that name; gives the name.
    pub fn add(&self, machine: &Arc<dyn Running>) -> String {
        let mut machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        machines.retain(|(_, machine)| machine.strong_count() > 0);
        let wanted = &machine.profile().name;
        let taken = |name: &str| {
            machines.iter().any(|(other, machine)| other == name && machine.upgrade().is_some_and(is_alive))
        };
        let numbered = (2..).map(|n| format!("{wanted}-{n}"));
        let name = std::iter::once(wanted.clone()).chain(numbered).find(|name| !taken(name));
        let name = name.expect("there are more numbers than machines");
        // One that has ended leaves its name to its successor.
        machines.retain(|(other, _)| *other != name);
        machines.push((name.clone(), Arc::downgrade(machine)));
        name
    }

    /// All that are there, in order of their start.
    pub fn all(&self) -> Vec<(String, Arc<dyn Running>)> {
        let machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        machines.iter().filter_map(|(name, machine)| Some((name.clone(), machine.upgrade()?))).collect()
    }

    /// The machine of this name, or the only one.
    pub fn find(&self, name: Option<&str>) -> Result<(String, Arc<dyn Running>), String> {
        let mut all = self.all();
        let names = || all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        match name {
            Some(wanted) => match all.iter().position(|(name, _)| name == wanted) {
                Some(at) => Ok(all.swap_remove(at)),
                None => Err(format!("no machine here is called {wanted}; there is: {}", names())),
            },
            None => match all.len() {
                0 => Err("no machine runs here".to_owned()),
                1 => Ok(all.remove(0)),
                _ => Err(format!("there are several machines; say which: {}", names())),
            },
        }
    }
}

fn is_alive(machine: Arc<dyn Running>) -> bool {
    !matches!(machine.state(), RunState::Ended(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::fake::Fake;

    #[test]
    fn machines_are_found_by_name_and_the_only_one_without() {
        let registry = Registry::default();
        assert!(registry.find(None).is_err());
        let one: Arc<dyn Running> = Fake::new("one");
        registry.add(&one);
        assert_eq!(registry.find(None).unwrap().0, "one");
        let twin: Arc<dyn Running> = Fake::new("one");
        assert_eq!(registry.add(&twin), "one-2");
        let Err(error) = registry.find(None) else { panic!("two machines") };
        assert!(error.contains("one, one-2"), "{error}");
        assert!(registry.find(Some("three")).is_err());
        drop(twin);
        assert_eq!(registry.find(None).unwrap().0, "one");
        one.power_off();
        let next: Arc<dyn Running> = Fake::new("one");
        assert_eq!(registry.add(&next), "one", "the name of one that has ended is free");
    }
}
