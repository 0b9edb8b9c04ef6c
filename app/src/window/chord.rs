//! Key combinations that a person cannot press for the guest, because the host or its window manager
//! takes them.

use hardware::input::Key;

/// A combination in the send-key menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chord {
    text: &'static str,
    names: &'static [&'static str],
}

/// All of them, in the menu's order.
pub const CHORDS: [Chord; 14] = [
    Chord { text: "Ctrl+Alt+Delete", names: &["ctrl", "alt", "delete"] },
    Chord { text: "Ctrl+Alt+Backspace", names: &["ctrl", "alt", "backspace"] },
    Chord { text: "Ctrl+Alt+F1", names: &["ctrl", "alt", "f1"] },
    Chord { text: "Ctrl+Alt+F2", names: &["ctrl", "alt", "f2"] },
    Chord { text: "Ctrl+Alt+F3", names: &["ctrl", "alt", "f3"] },
    Chord { text: "Ctrl+Alt+F7", names: &["ctrl", "alt", "f7"] },
    Chord { text: "Alt+Tab", names: &["alt", "tab"] },
    Chord { text: "Alt+F4", names: &["alt", "f4"] },
    Chord { text: "Ctrl+Escape", names: &["ctrl", "escape"] },
    Chord { text: "Ctrl+C", names: &["ctrl", "c"] },
    Chord { text: "Print Screen", names: &["printscreen"] },
    Chord { text: "Pause", names: &["pause"] },
    Chord { text: "Right Ctrl", names: &["rightctrl"] },
    Chord { text: "F12", names: &["f12"] },
];

impl Chord {
    /// What the menu says.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The keys, in the order in which they are pressed.
    pub fn keys(&self) -> Vec<Key> {
        self.names.iter().filter_map(|name| Key::from_name(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chord_has_all_its_keys() {
        for chord in CHORDS {
            assert_eq!(chord.keys().len(), chord.names.len(), "{}", chord.text);
        }
    }
}
