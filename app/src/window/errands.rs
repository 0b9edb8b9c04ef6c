//! What may wait for a machine is done on a thread of its own, in order: the window hears what came of it, and never
//! waits.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// What came of an errand: something to tell, if it is not empty, or why it was not done.
pub type Outcome = Result<String, String>;

type Errand = Box<dyn FnOnce() -> Outcome + Send>;

/// The thread, and what it is still to do.
pub struct Errands {
    send: Sender<Errand>,
    results: Receiver<Outcome>,
    under_way: usize,
}

impl Errands {
    /// Nothing to do yet; `wake` is called whenever something is done.
    pub fn new(wake: impl Fn() + Send + 'static) -> Errands {
        let (send, errands) = channel::<Errand>();
        let (tell, results) = channel();
        let run = move || {
            for errand in errands {
                if tell.send(errand()).is_err() {
                    return;
                }
                wake();
            }
        };
        thread::Builder::new().name("errands".into()).spawn(run).expect("the host has room for a thread");
        Errands { send, results, under_way: 0 }
    }

    /// Has `errand` done, after everything that was asked for before.
    pub fn ask(&mut self, errand: impl FnOnce() -> Outcome + Send + 'static) {
        self.under_way += 1;
        let asked = self.send.send(Box::new(errand));
        asked.expect("the thread waits for errands as long as there is a window");
    }

    /// What came of what was asked for before.
    pub fn poll(&mut self) -> Vec<Outcome> {
        let done: Vec<Outcome> = self.results.try_iter().collect();
        self.under_way -= done.len();
        done
    }

    /// Whether something is still to be done.
    pub fn is_busy(&self) -> bool {
        self.under_way > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errands_are_done_in_order_and_their_outcomes_told_once() {
        let (wake, woken) = channel();
        let mut errands = Errands::new(move || assert!(wake.send(()).is_ok()));
        let (go, gone) = channel::<()>();
        errands.ask(move || gone.recv().map(|()| "first".to_owned()).map_err(|error| error.to_string()));
        errands.ask(|| Err("second".to_owned()));
        assert!(errands.is_busy() && errands.poll().is_empty());
        go.send(()).unwrap();
        (0..2).for_each(|_| woken.recv().unwrap());
        assert_eq!(errands.poll(), [Ok("first".to_owned()), Err("second".to_owned())]);
        assert!(!errands.is_busy() && errands.poll().is_empty());
    }
}
