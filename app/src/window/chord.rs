//! Key combinations that a person cannot press for the guest, because the host or its window manager
//! takes them.

use hardware::input::Key::{self, *};

/// A combination in the send-key menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chord {
    text: &'static str,
    keys: &'static [Key],
}

/// All of them, in the menu's order.
pub const CHORDS: [Chord; 14] = [
    Chord { text: "Ctrl+Alt+Delete", keys: &[LeftCtrl, LeftAlt, Delete] },
    Chord { text: "Ctrl+Alt+Backspace", keys: &[LeftCtrl, LeftAlt, Backspace] },
    Chord { text: "Ctrl+Alt+F1", keys: &[LeftCtrl, LeftAlt, F1] },
    Chord { text: "Ctrl+Alt+F2", keys: &[LeftCtrl, LeftAlt, F2] },
    Chord { text: "Ctrl+Alt+F3", keys: &[LeftCtrl, LeftAlt, F3] },
    Chord { text: "Ctrl+Alt+F7", keys: &[LeftCtrl, LeftAlt, F7] },
    Chord { text: "Alt+Tab", keys: &[LeftAlt, Tab] },
    Chord { text: "Alt+F4", keys: &[LeftAlt, F4] },
    Chord { text: "Ctrl+Escape", keys: &[LeftCtrl, Escape] },
    Chord { text: "Ctrl+C", keys: &[LeftCtrl, C] },
    Chord { text: "Print Screen", keys: &[PrintScreen] },
    Chord { text: "Pause", keys: &[Pause] },
    Chord { text: "Right Ctrl", keys: &[RightCtrl] },
    Chord { text: "F12", keys: &[F12] },
];

impl Chord {
    /// What the menu says.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The keys, in the order in which they are pressed.
    pub fn keys(&self) -> &'static [Key] {
        self.keys
    }
}
