//! What may wait for a machine is done on a thread of its own, in order: the window hears what came of it, and never
//! waits.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::control::{self, Command};
use crate::running::Running;

struct Errand {
    name: String,
    machine: Arc<dyn Running>,
    command: Command,
}

/// The thread, and what it is still to do.
pub struct Errands {
    send: Sender<Errand>,
    results: Receiver<Result<(), String>>,
    under_way: usize,
}

impl Errands {
    /// Nothing to do yet; `wake` is called whenever something is done.
    pub fn new(wake: impl Fn() + Send + 'static) -> Errands {
        let (send, errands) = channel::<Errand>();
        let (tell, results) = channel();
        let run = move || {
            for Errand { name, machine, command } in errands {
                let done = control::perform(&name, &*machine, &command).map(drop);
                // The machine is not held any longer than that.
                drop(machine);
                if tell.send(done).is_err() {
                    return;
                }
                wake();
            }
        };
        thread::Builder::new().name("errands".into()).spawn(run).expect("the host has room for a thread");
        Errands { send, results, under_way: 0 }
    }

    /// Has `command` done, after everything that was asked for before.
    pub fn ask(&mut self, name: String, machine: Arc<dyn Running>, command: Command) {
        self.under_way += 1;
        let asked = self.send.send(Errand { name, machine, command });
        asked.expect("the thread waits for errands as long as there is a window");
    }

    /// Why something could not be done, of what was asked for before.
    pub fn poll(&mut self) -> Vec<String> {
        let done: Vec<Result<(), String>> = self.results.try_iter().collect();
        self.under_way -= done.len();
        done.into_iter().filter_map(Result::err).collect()
    }

    /// Whether something is still to be done.
    pub fn is_busy(&self) -> bool {
        self.under_way > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::BreakAction;
    use crate::running::fake::Fake;

    #[test]
    fn what_cannot_be_done_is_told_in_order() {
        let (wake, woken) = channel();
        let mut errands = Errands::new(move || assert!(wake.send(()).is_ok()));
        let fake = Fake::new("one");
        let list = Command::Break { action: BreakAction::List };
        errands.ask("one".into(), fake.clone(), list);
        errands.ask("one".into(), fake.clone(), Command::Pause);
        assert!(errands.is_busy());
        (0..2).for_each(|_| woken.recv().unwrap());
        assert_eq!(errands.poll(), ["this machine cannot be debugged"]);
        assert!(!errands.is_busy() && fake.deeds().len() == 1);
    }
}
