//! Who has the keyboard and the mouse: the guest or the host. Hears every key from the window's event
//! loop at once, before egui, so that the guest gets physical keys without delay.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hardware::input::Key;
use winit::keyboard::KeyCode;

use super::keyboard;
use crate::running::Running;

/// Something from the keyboard or the mouse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Heard {
    /// A key, by its place on the keyboard.
    Key {
        /// Which.
        code: KeyCode,
        /// Down or up.
        pressed: bool,
    },
    /// The mouse moved, right and down.
    Motion(f64, f64),
    /// Mouse buttons: bit, down or up.
    Button(u8, bool),
    /// The wheel turned, in notches; down is positive.
    Wheel(f64),
    /// The window lost the focus.
    FocusLost,
    /// The window has the focus again.
    FocusGained,
}

/// The capture, shared between the event loop and the pages.
#[derive(Clone, Default)]
pub struct SharedCapture(Arc<Mutex<Capture>>);

impl SharedCapture {
    /// For as short as possible.
    pub fn lock(&self) -> MutexGuard<'_, Capture> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has keyboard and mouse.
#[derive(Default)]
pub struct Capture {
    guest: Option<Arc<dyn Running>>,
    /// The guest that had the keyboard when the window lost the focus: it gets it back with the focus.
    interrupted: Option<Arc<dyn Running>>,
    mouse: bool,
    held: Vec<Key>,
    buttons: u8,
    /// Parts of a step that the mouse has moved and the guest was not told yet.
    rest: (f64, f64, f64),
    right_ctrl: Host,
    ctrl_alt: Host,
}

/// A release chord on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Host {
    #[default]
    Up,
    /// Held, and nothing else was pressed since.
    Alone,
}

impl Capture {
    /// The guest gets the keyboard, and the mouse too if `mouse`.
    pub fn grab(&mut self, guest: &Arc<dyn Running>, mouse: bool) {
        let same = self.guest.as_ref().is_some_and(|held| Arc::ptr_eq(held, guest));
        if !same {
            self.release();
        }
        self.guest = Some(guest.clone());
        self.mouse = mouse;
    }

    /// The host gets both back; the guest sees all keys and buttons let go.
    pub fn release(&mut self) {
        if let Some(guest) = self.guest.take() {
            for key in self.held.drain(..).rev() {
                guest.key(key, false);
            }
            if self.buttons != 0 {
                guest.mouse(0, 0, 0, 0);
            }
        }
        *self = Capture::default();
    }

    /// Whether the guest has the keyboard.
    pub fn has_keyboard(&self) -> bool {
        self.guest.is_some()
    }

    /// Whether the guest has the mouse.
    pub fn has_mouse(&self) -> bool {
        self.guest.is_some() && self.mouse
    }

    /// Takes what was heard to the guest. False when it is the host's.
    pub fn hear(&mut self, heard: Heard) -> bool {
        if heard == Heard::FocusGained
            && let Some(guest) = self.interrupted.take()
        {
            self.grab(&guest, false);
        }
        let Some(guest) = self.guest.clone() else { return false };
        match heard {
            Heard::FocusLost => {
                self.release();
                self.interrupted = Some(guest);
                false
            }
            Heard::FocusGained => false,
            Heard::Key { code, pressed } => {
                self.key(&*guest, code, pressed);
                true
            }
            Heard::Motion(..) | Heard::Button(..) | Heard::Wheel(_) if !self.mouse => false,
            Heard::Motion(dx, dy) => {
                self.rest.0 += dx;
                self.rest.1 += dy;
                self.move_mouse(&*guest);
                true
            }
            Heard::Wheel(notches) => {
                self.rest.2 += notches;
                self.move_mouse(&*guest);
                true
            }
            Heard::Button(bit, pressed) => {
                self.buttons = if pressed { self.buttons | bit } else { self.buttons & !bit };
                guest.mouse(0, 0, 0, self.buttons);
                true
            }
        }
    }

    fn key(&mut self, guest: &dyn Running, code: KeyCode, pressed: bool) {
        // Right Ctrl alone, pressed and let go, releases; the guest never sees it.
        if code == KeyCode::ControlRight {
            match (pressed, self.right_ctrl) {
                (true, _) => self.right_ctrl = Host::Alone,
                (false, Host::Alone) => self.release(),
                (false, Host::Up) => {}
            }
            return;
        }
        let is_chord = matches!(code, KeyCode::ControlLeft | KeyCode::AltLeft);
        if pressed && !is_chord {
            self.right_ctrl = Host::Up;
            self.ctrl_alt = Host::Up;
        }
        let Some(key) = keyboard::key(code) else { return };
        if pressed {
            if !self.held.contains(&key) {
                self.held.push(key);
            }
            guest.key(key, true);
            let holds = |code| keyboard::key(code).is_some_and(|key| self.held.contains(&key));
            if is_chord && holds(KeyCode::ControlLeft) && holds(KeyCode::AltLeft) && self.held.len() == 2 {
                self.ctrl_alt = Host::Alone;
            }
        } else if let Some(at) = self.held.iter().position(|held| *held == key) {
            // A key pressed before the capture is not let go in the guest.
            self.held.remove(at);
            guest.key(key, false);
            if is_chord && self.ctrl_alt == Host::Alone {
                self.release();
            }
        }
    }

    fn move_mouse(&mut self, guest: &dyn Running) {
        let whole = |rest: &mut f64| {
            let steps = rest.trunc().clamp(-10_000.0, 10_000.0);
            *rest -= steps;
            if !rest.is_finite() || rest.abs() >= 1.0 {
                *rest = 0.0;
            }
            steps as i32
        };
        let (dx, dy, wheel) = (whole(&mut self.rest.0), whole(&mut self.rest.1), whole(&mut self.rest.2));
        if (dx, dy, wheel) != (0, 0, 0) {
            guest.mouse(dx, dy, wheel, self.buttons);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::fake::{Deed, Fake};

    fn captured() -> (Arc<Fake>, Capture) {
        let fake = Fake::new("x");
        let mut capture = Capture::default();
        capture.grab(&(fake.clone() as Arc<dyn Running>), true);
        (fake, capture)
    }

    fn key(capture: &mut Capture, code: KeyCode, pressed: bool) -> bool {
        capture.hear(Heard::Key { code, pressed })
    }

    #[test]
    fn keys_are_the_hosts_until_captured() {
        let mut capture = Capture::default();
        assert!(!key(&mut capture, KeyCode::KeyA, true));
        assert!(!capture.hear(Heard::Motion(1.0, 1.0)));
    }

    #[test]
    fn right_ctrl_alone_releases_and_lets_go_of_what_is_held() {
        let (fake, mut capture) = captured();
        key(&mut capture, KeyCode::KeyA, true);
        key(&mut capture, KeyCode::ControlRight, true);
        assert!(capture.has_keyboard());
        key(&mut capture, KeyCode::ControlRight, false);
        assert!(!capture.has_keyboard() && !capture.has_mouse());
        assert!(matches!(fake.deeds()[..], [Deed::Key(_, true), Deed::Key(_, false)]));
    }

    #[test]
    fn right_ctrl_with_another_key_does_not_release() {
        let (_fake, mut capture) = captured();
        key(&mut capture, KeyCode::ControlRight, true);
        key(&mut capture, KeyCode::KeyF, true);
        key(&mut capture, KeyCode::ControlRight, false);
        assert!(capture.has_keyboard());
    }

    #[test]
    fn ctrl_alt_releases_but_ctrl_alt_f1_does_not() {
        let (fake, mut capture) = captured();
        for (code, pressed) in [
            (KeyCode::ControlLeft, true),
            (KeyCode::AltLeft, true),
            (KeyCode::F1, true),
            (KeyCode::F1, false),
            (KeyCode::AltLeft, false),
            (KeyCode::ControlLeft, false),
        ] {
            key(&mut capture, code, pressed);
        }
        assert!(capture.has_keyboard());
        assert_eq!(fake.deeds().len(), 6);
        key(&mut capture, KeyCode::ControlLeft, true);
        key(&mut capture, KeyCode::AltLeft, true);
        key(&mut capture, KeyCode::ControlLeft, false);
        assert!(!capture.has_keyboard());
        let ups = fake.deeds().iter().filter(|deed| matches!(deed, Deed::Key(_, false))).count();
        assert_eq!(ups, 5, "what was pressed must be let go");
    }

    #[test]
    fn fractions_of_a_step_add_up() {
        let (fake, mut capture) = captured();
        for _ in 0..4 {
            capture.hear(Heard::Motion(0.5, -0.25));
        }
        capture.hear(Heard::Button(1, true));
        capture.hear(Heard::Wheel(1.0));
        assert_eq!(
            fake.deeds(),
            [
                Deed::Mouse(1, 0, 0, 0),
                Deed::Mouse(1, -1, 0, 0),
                Deed::Mouse(0, 0, 0, 1),
                Deed::Mouse(0, 0, 1, 1)
            ]
        );
    }

    #[test]
    fn losing_the_focus_gives_everything_back_and_the_keyboard_returns_with_it() {
        let (fake, mut capture) = captured();
        key(&mut capture, KeyCode::ShiftLeft, true);
        capture.hear(Heard::FocusLost);
        assert!(!capture.has_keyboard());
        assert!(matches!(fake.deeds()[..], [Deed::Key(_, true), Deed::Key(_, false)]));
        capture.hear(Heard::FocusGained);
        assert!(
            capture.has_keyboard() && !capture.has_mouse(),
            "the keyboard comes back, the mouse by a click"
        );
        capture.release();
        capture.hear(Heard::FocusGained);
        assert!(!capture.has_keyboard(), "what was released stays released");
    }
}
