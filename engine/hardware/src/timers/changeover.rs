//! A switch before an input of the interrupt controllers: an old timer drives it, or the HPET in its place.
//!
//! IA-PC HPET Specification 1.0a, §2.3.5, LEG_RT_CNF: while the HPET's timers 0 and 1 replace them, the 8254 and the
//! RTC cause no interrupts.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::line::{Line, LineSink};

/// One input and its two drivers.
#[derive(Clone)]
pub struct Changeover(Arc<Switch>);

struct Switch {
    /// The way of the old timer to the input, and that of its replacement.
    old: Line,
    new: Line,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    replaced: bool,
    /// What the old timer drives, whether or not it gets through.
    level: bool,
}

impl Changeover {
    /// The switch of an input that `old` and `new` both lead to. The old timer drives it.
    pub fn new(old: Line, new: Line) -> Changeover {
        Changeover(Arc::new(Switch { old, new, state: Mutex::default() }))
    }

    /// A switch that leads nowhere, for chip tests.
    pub fn unconnected() -> Changeover {
        Changeover::new(Line::unconnected(), Line::unconnected())
    }

    /// The old timer's line.
    pub fn line(&self) -> Line {
        Line::new(self.0.clone(), 0)
    }

    /// Its replacement's line; to be driven only while it has replaced it.
    pub fn replacement(&self) -> &Line {
        &self.0.new
    }

    /// Cuts the old timer off, or lets it drive the input again.
    pub fn replace(&self, replaced: bool) {
        let Switch { old, new, state } = &*self.0;
        let mut state = state.lock();
        if state.replaced == replaced {
            return;
        }
        state.replaced = replaced;
        match replaced {
            true => old.set(false),
            false => {
                new.set(false);
                old.set(state.level);
            }
        }
    }

    /// What the old timer drives; part of a saved state, because the timer itself may not say it again.
    pub fn level(&self) -> bool {
        self.0.state.lock().level
    }

    /// The same, when a state is loaded.
    pub fn set_level(&self, level: bool) {
        self.0.state.lock().level = level;
    }
}

/// The old timer's end.
impl LineSink for Switch {
    fn set(&self, _number: u32, level: bool) {
        let mut state = self.state.lock();
        state.level = level;
        if !state.replaced {
            self.old.set(level);
        }
    }

    fn is_pending(&self, _number: u32) -> bool {
        let state = self.state.lock();
        !state.replaced && self.old.is_pending()
    }

    fn is_connected(&self, _number: u32) -> bool {
        !self.state.lock().replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::testing::Level;

    #[test]
    fn only_one_of_the_two_gets_through() {
        let (old, new) = (Arc::new(Level::default()), Arc::new(Level::default()));
        let switch = Changeover::new(Line::new(old.clone(), 0), Line::new(new.clone(), 0));
        let line = switch.line();
        line.set(true);
        assert!(old.get() && line.is_connected());
        switch.replace(true);
        switch.replacement().set(true);
        assert!(!old.get() && new.get() && !line.is_connected());
        line.set(false);
        line.set(true);
        assert!(!old.get() && switch.level());
        switch.replace(false);
        assert!(old.get() && !new.get(), "the old one's level is seen again");
    }
}
