//! The keys of a PC keyboard: names and scan codes.
//!
//! Scan codes of sets 2 and 3 as in the IBM PS/2 Hardware Interface Technical Reference (keyboards,
//! 101/102-key) and Microsoft's Keyboard Scan Code Specification; set 1 follows from set 2 by the
//! controller's translation. Codes written 0xE0xx have the prefix E0.

use serde::{Deserialize, Serialize};

macro_rules! keys {
    ($($key:ident $name:literal $set2:literal $set3:literal $doc:literal),* $(,)?) => {
        /// A physical key, named by what a US keyboard prints on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum Key { $(#[doc = $doc] $key),* }

        impl Key {
            /// Every key.
            pub const ALL: &[Key] = &[$(Key::$key),*];

            /// The short name that profiles and the command line use.
            pub const fn name(self) -> &'static str {
                match self { $(Key::$key => $name),* }
            }

            /// Make code in scan code set 2. Pause and print screen have sequences of their own.
            pub const fn set2(self) -> u16 {
                match self { $(Key::$key => $set2),* }
            }

            /// Make code in scan code set 3; 0 if it has none.
            pub const fn set3(self) -> u8 {
                match self { $(Key::$key => $set3),* }
            }
        }
    };
}

keys! {
    Escape "esc" 0x76 0x08 "Escape.",
    F1 "f1" 0x05 0x07 "F1.",
    F2 "f2" 0x06 0x0F "F2.",
    F3 "f3" 0x04 0x17 "F3.",
    F4 "f4" 0x0C 0x1F "F4.",
    F5 "f5" 0x03 0x27 "F5.",
    F6 "f6" 0x0B 0x2F "F6.",
    F7 "f7" 0x83 0x37 "F7.",
    F8 "f8" 0x0A 0x3F "F8.",
    F9 "f9" 0x01 0x47 "F9.",
    F10 "f10" 0x09 0x4F "F10.",
    F11 "f11" 0x78 0x56 "F11.",
    F12 "f12" 0x07 0x5E "F12.",
    PrintScreen "print" 0xE07C 0x57 "Print screen, and with Alt SysRq.",
    ScrollLock "scroll_lock" 0x7E 0x5F "Scroll lock.",
    Pause "pause" 0xE17E 0x62 "Pause, and with Ctrl break.",
    Grave "grave" 0x0E 0x0E "` and ~.",
    Digit1 "1" 0x16 0x16 "1 and !.",
    Digit2 "2" 0x1E 0x1E "2 and @.",
    Digit3 "3" 0x26 0x26 "3 and #.",
    Digit4 "4" 0x25 0x25 "4 and $.",
    Digit5 "5" 0x2E 0x2E "5 and %.",
    Digit6 "6" 0x36 0x36 "6 and ^.",
    Digit7 "7" 0x3D 0x3D "7 and &.",
    Digit8 "8" 0x3E 0x3E "8 and *.",
    Digit9 "9" 0x46 0x46 "9 and (.",
    Digit0 "0" 0x45 0x45 "0 and ).",
    Minus "minus" 0x4E 0x4E "- and _.",
    Equal "equal" 0x55 0x55 "= and +.",
    Backspace "backspace" 0x66 0x66 "Backspace.",
    Tab "tab" 0x0D 0x0D "Tab.",
    Q "q" 0x15 0x15 "Q.",
    W "w" 0x1D 0x1D "W.",
    E "e" 0x24 0x24 "E.",
    R "r" 0x2D 0x2D "R.",
    T "t" 0x2C 0x2C "T.",
    Y "y" 0x35 0x35 "Y.",
    U "u" 0x3C 0x3C "U.",
    I "i" 0x43 0x43 "I.",
    O "o" 0x44 0x44 "O.",
    P "p" 0x4D 0x4D "P.",
    LeftBracket "bracket_left" 0x54 0x54 "[ and {.",
    RightBracket "bracket_right" 0x5B 0x5B "] and }.",
    Backslash "backslash" 0x5D 0x5C "\\ and |; on 105-key keyboards the key beside Enter.",
    CapsLock "caps_lock" 0x58 0x14 "Caps lock.",
    A "a" 0x1C 0x1C "A.",
    S "s" 0x1B 0x1B "S.",
    D "d" 0x23 0x23 "D.",
    F "f" 0x2B 0x2B "F.",
    G "g" 0x34 0x34 "G.",
    H "h" 0x33 0x33 "H.",
    J "j" 0x3B 0x3B "J.",
    K "k" 0x42 0x42 "K.",
    L "l" 0x4B 0x4B "L.",
    Semicolon "semicolon" 0x4C 0x4C "; and :.",
    Apostrophe "apostrophe" 0x52 0x52 "' and \".",
    Enter "enter" 0x5A 0x5A "Enter.",
    LeftShift "shift" 0x12 0x12 "Left shift.",
    Z "z" 0x1A 0x1A "Z.",
    X "x" 0x22 0x22 "X.",
    C "c" 0x21 0x21 "C.",
    V "v" 0x2A 0x2A "V.",
    B "b" 0x32 0x32 "B.",
    N "n" 0x31 0x31 "N.",
    M "m" 0x3A 0x3A "M.",
    Comma "comma" 0x41 0x41 ", and <.",
    Period "period" 0x49 0x49 ". and >.",
    Slash "slash" 0x4A 0x4A "/ and ?.",
    RightShift "shift_right" 0x59 0x59 "Right shift.",
    LeftCtrl "ctrl" 0x14 0x11 "Left Ctrl.",
    LeftMeta "meta" 0xE01F 0x8B "Left Windows key.",
    LeftAlt "alt" 0x11 0x19 "Left Alt.",
    Space "space" 0x29 0x29 "Space bar.",
    RightAlt "alt_right" 0xE011 0x39 "Right Alt, AltGr.",
    RightMeta "meta_right" 0xE027 0x8C "Right Windows key.",
    Menu "menu" 0xE02F 0x8D "Menu.",
    RightCtrl "ctrl_right" 0xE014 0x58 "Right Ctrl.",
    Insert "insert" 0xE070 0x67 "Insert.",
    Home "home" 0xE06C 0x6E "Home.",
    PageUp "page_up" 0xE07D 0x6F "Page up.",
    Delete "delete" 0xE071 0x64 "Delete.",
    End "end" 0xE069 0x65 "End.",
    PageDown "page_down" 0xE07A 0x6D "Page down.",
    Up "up" 0xE075 0x63 "Up.",
    Left "left" 0xE06B 0x61 "Left.",
    Down "down" 0xE072 0x60 "Down.",
    Right "right" 0xE074 0x6A "Right.",
    NumLock "num_lock" 0x77 0x76 "Num lock.",
    PadSlash "pad_slash" 0xE04A 0x77 "/ of the pad.",
    PadStar "pad_star" 0x7C 0x7E "* of the pad.",
    PadMinus "pad_minus" 0x7B 0x84 "- of the pad.",
    Pad7 "pad_7" 0x6C 0x6C "7 of the pad.",
    Pad8 "pad_8" 0x75 0x75 "8 of the pad.",
    Pad9 "pad_9" 0x7D 0x7D "9 of the pad.",
    PadPlus "pad_plus" 0x79 0x7C "+ of the pad.",
    Pad4 "pad_4" 0x6B 0x6B "4 of the pad.",
    Pad5 "pad_5" 0x73 0x73 "5 of the pad.",
    Pad6 "pad_6" 0x74 0x74 "6 of the pad.",
    Pad1 "pad_1" 0x69 0x69 "1 of the pad.",
    Pad2 "pad_2" 0x72 0x72 "2 of the pad.",
    Pad3 "pad_3" 0x7A 0x7A "3 of the pad.",
    PadEnter "pad_enter" 0xE05A 0x79 "Enter of the pad.",
    Pad0 "pad_0" 0x70 0x70 "0 of the pad.",
    PadPeriod "pad_period" 0x71 0x71 ". of the pad.",
    Less "less" 0x61 0x13 "The 102nd key, beside left shift: < and > in Europe.",
    Ro "ro" 0x51 0x00 "Japanese ro; / of the Brazilian keyboard.",
    Yen "yen" 0x6A 0x5D "Japanese yen.",
    Convert "convert" 0x64 0x86 "Japanese henkan.",
    NonConvert "non_convert" 0x67 0x85 "Japanese muhenkan.",
    Kana "kana" 0x13 0x87 "Japanese katakana and hiragana.",
    PadComma "pad_comma" 0x6D 0x00 ", of the Brazilian pad.",
    Mute "mute" 0xE023 0x00 "Mute.",
    VolumeDown "volume_down" 0xE021 0x00 "Volume down.",
    VolumeUp "volume_up" 0xE032 0x00 "Volume up.",
    MediaPlay "media_play" 0xE034 0x00 "Play and pause.",
    MediaStop "media_stop" 0xE03B 0x00 "Stop.",
    MediaNext "media_next" 0xE04D 0x00 "Next track.",
    MediaPrevious "media_previous" 0xE015 0x00 "Previous track.",
    Calculator "calculator" 0xE02B 0x00 "Calculator.",
    Mail "mail" 0xE048 0x00 "Mail.",
    BrowserHome "browser_home" 0xE03A 0x00 "Web home.",
    BrowserBack "browser_back" 0xE038 0x00 "Web back.",
    BrowserForward "browser_forward" 0xE030 0x00 "Web forward.",
    BrowserSearch "browser_search" 0xE010 0x00 "Web search.",
    Power "power" 0xE037 0x00 "Power.",
    Sleep "sleep" 0xE03F 0x00 "Sleep.",
    Wake "wake" 0xE05E 0x00 "Wake.",
}

/// Other names people use.
const ALIASES: &[(&str, Key)] = &[
    ("escape", Key::Escape),
    ("return", Key::Enter),
    ("ret", Key::Enter),
    ("spc", Key::Space),
    (" ", Key::Space),
    ("control", Key::LeftCtrl),
    ("ctrl_left", Key::LeftCtrl),
    ("shift_left", Key::LeftShift),
    ("alt_left", Key::LeftAlt),
    ("altgr", Key::RightAlt),
    ("option", Key::LeftAlt),
    ("super", Key::LeftMeta),
    ("win", Key::LeftMeta),
    ("meta_left", Key::LeftMeta),
    ("del", Key::Delete),
    ("ins", Key::Insert),
    ("pgup", Key::PageUp),
    ("pgdn", Key::PageDown),
    ("print_screen", Key::PrintScreen),
    ("sysrq", Key::PrintScreen),
    ("break", Key::Pause),
    ("caps", Key::CapsLock),
    ("num", Key::NumLock),
    ("scroll", Key::ScrollLock),
    ("bksp", Key::Backspace),
    ("`", Key::Grave),
    ("-", Key::Minus),
    ("=", Key::Equal),
    ("[", Key::LeftBracket),
    ("]", Key::RightBracket),
    ("\\", Key::Backslash),
    (";", Key::Semicolon),
    ("'", Key::Apostrophe),
    (",", Key::Comma),
    (".", Key::Period),
    ("/", Key::Slash),
];

impl Key {
    /// The key of a name, in any case, with `-` or spaces for `_`.
    pub fn from_name(name: &str) -> Option<Key> {
        let plain = name.to_ascii_lowercase();
        let tidy = if plain.len() > 1 { plain.replace(['-', ' '], "_") } else { plain };
        let named = Key::ALL.iter().copied().find(|key| key.name() == tidy);
        named.or_else(|| ALIASES.iter().find(|(alias, _)| *alias == tidy).map(|(_, key)| *key))
    }

    /// The keys of a chord such as "ctrl+alt+delete".
    pub fn chord(text: &str) -> Option<Vec<Key>> {
        text.split('+').map(|name| Key::from_name(name.trim())).collect()
    }

    /// Whether holding it changes what others mean.
    pub const fn is_modifier(self) -> bool {
        use Key::*;
        matches!(
            self,
            LeftShift | RightShift | LeftCtrl | RightCtrl | LeftAlt | RightAlt | LeftMeta | RightMeta
        )
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// What the 8042 makes of scan code set 2, and so also set 1: IBM AT Technical Reference, keyboard
/// controller. Codes from 0x80 on pass unchanged but for F7 and SysRq.
const TRANSLATION: [u8; 128] = [
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59, //
    0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02, 0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B, //
    0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13, 0x06, 0x5D, //
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F, //
    0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61, //
    0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B, 0x75, 0x2B, 0x63, 0x76, //
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F, //
    0x52, 0x53, 0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54,
];

/// A byte of scan code set 2 in set 1.
pub fn set1_of_set2(byte: u8) -> u8 {
    match byte {
        0x00..0x80 => TRANSLATION[usize::from(byte)],
        0x83 => 0x41,
        0x84 => 0x54,
        _ => byte,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_and_names_are_unique() {
        let codes: BTreeSet<u16> = Key::ALL.iter().map(|key| key.set2()).collect();
        let names: BTreeSet<&str> = Key::ALL.iter().map(|key| key.name()).collect();
        let third: Vec<u8> = Key::ALL.iter().map(|key| key.set3()).filter(|code| *code != 0).collect();
        assert_eq!((codes.len(), names.len()), (Key::ALL.len(), Key::ALL.len()));
        assert_eq!(third.iter().collect::<BTreeSet<_>>().len(), third.len());
        assert!(Key::ALL.len() <= 128, "held keys are a 128-bit set");
        for key in Key::ALL {
            assert_eq!(Key::from_name(key.name()), Some(*key));
            assert_eq!(Key::ALL[key.index()], *key);
        }
    }

    #[test]
    fn translation_gives_the_xt_codes() {
        for (key, xt) in [
            (Key::Escape, 0x01),
            (Key::Digit1, 0x02),
            (Key::Q, 0x10),
            (Key::A, 0x1E),
            (Key::Z, 0x2C),
            (Key::LeftShift, 0x2A),
            (Key::RightShift, 0x36),
            (Key::Space, 0x39),
            (Key::F1, 0x3B),
            (Key::F7, 0x41),
            (Key::F10, 0x44),
            (Key::F11, 0x57),
            (Key::F12, 0x58),
            (Key::Less, 0x56),
            (Key::Backslash, 0x2B),
            (Key::Pad7, 0x47),
            (Key::PadPlus, 0x4E),
            (Key::Delete, 0x53),
            (Key::LeftMeta, 0x5B),
            (Key::Menu, 0x5D),
            (Key::NumLock, 0x45),
            (Key::ScrollLock, 0x46),
        ] {
            assert_eq!(set1_of_set2(key.set2() as u8), xt, "{key:?}");
        }
    }

    #[test]
    fn names_are_forgiving() {
        assert_eq!(Key::from_name("CTRL"), Some(Key::LeftCtrl));
        assert_eq!(Key::from_name("Page-Up"), Some(Key::PageUp));
        assert_eq!(Key::from_name("-"), Some(Key::Minus));
        assert_eq!(Key::from_name("bogus"), None);
        assert_eq!(Key::chord("ctrl+alt+del"), Some(vec![Key::LeftCtrl, Key::LeftAlt, Key::Delete]));
    }
}
