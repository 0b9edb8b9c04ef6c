//! From the place of a key on the host's keyboard to the guest's key.

use hardware::input::Key;
use winit::keyboard::KeyCode;

/// The guest's key in the same place; `None` for keys a PC keyboard does not have.
pub fn key(code: KeyCode) -> Option<Key> {
    KEYS.iter().find(|(host, _)| *host == code).map(|(_, guest)| *guest)
}

/// Every key of a PC keyboard, by winit's name for its place.
const KEYS: &[(KeyCode, Key)] = &[
    (KeyCode::KeyA, Key::A),
    (KeyCode::KeyB, Key::B),
    (KeyCode::KeyC, Key::C),
    (KeyCode::KeyD, Key::D),
    (KeyCode::KeyE, Key::E),
    (KeyCode::KeyF, Key::F),
    (KeyCode::KeyG, Key::G),
    (KeyCode::KeyH, Key::H),
    (KeyCode::KeyI, Key::I),
    (KeyCode::KeyJ, Key::J),
    (KeyCode::KeyK, Key::K),
    (KeyCode::KeyL, Key::L),
    (KeyCode::KeyM, Key::M),
    (KeyCode::KeyN, Key::N),
    (KeyCode::KeyO, Key::O),
    (KeyCode::KeyP, Key::P),
    (KeyCode::KeyQ, Key::Q),
    (KeyCode::KeyR, Key::R),
    (KeyCode::KeyS, Key::S),
    (KeyCode::KeyT, Key::T),
    (KeyCode::KeyU, Key::U),
    (KeyCode::KeyV, Key::V),
    (KeyCode::KeyW, Key::W),
    (KeyCode::KeyX, Key::X),
    (KeyCode::KeyY, Key::Y),
    (KeyCode::KeyZ, Key::Z),
    (KeyCode::Digit0, Key::Digit0),
    (KeyCode::Digit1, Key::Digit1),
    (KeyCode::Digit2, Key::Digit2),
    (KeyCode::Digit3, Key::Digit3),
    (KeyCode::Digit4, Key::Digit4),
    (KeyCode::Digit5, Key::Digit5),
    (KeyCode::Digit6, Key::Digit6),
    (KeyCode::Digit7, Key::Digit7),
    (KeyCode::Digit8, Key::Digit8),
    (KeyCode::Digit9, Key::Digit9),
    (KeyCode::F1, Key::F1),
    (KeyCode::F2, Key::F2),
    (KeyCode::F3, Key::F3),
    (KeyCode::F4, Key::F4),
    (KeyCode::F5, Key::F5),
    (KeyCode::F6, Key::F6),
    (KeyCode::F7, Key::F7),
    (KeyCode::F8, Key::F8),
    (KeyCode::F9, Key::F9),
    (KeyCode::F10, Key::F10),
    (KeyCode::F11, Key::F11),
    (KeyCode::F12, Key::F12),
    (KeyCode::Escape, Key::Escape),
    (KeyCode::Tab, Key::Tab),
    (KeyCode::CapsLock, Key::CapsLock),
    (KeyCode::ShiftLeft, Key::LeftShift),
    (KeyCode::ShiftRight, Key::RightShift),
    (KeyCode::ControlLeft, Key::LeftCtrl),
    (KeyCode::ControlRight, Key::RightCtrl),
    (KeyCode::AltLeft, Key::LeftAlt),
    (KeyCode::AltRight, Key::RightAlt),
    (KeyCode::SuperLeft, Key::LeftMeta),
    (KeyCode::SuperRight, Key::RightMeta),
    (KeyCode::ContextMenu, Key::Menu),
    (KeyCode::Space, Key::Space),
    (KeyCode::Enter, Key::Enter),
    (KeyCode::Backspace, Key::Backspace),
    (KeyCode::Backquote, Key::Grave),
    (KeyCode::Minus, Key::Minus),
    (KeyCode::Equal, Key::Equal),
    (KeyCode::BracketLeft, Key::LeftBracket),
    (KeyCode::BracketRight, Key::RightBracket),
    (KeyCode::Backslash, Key::Backslash),
    (KeyCode::Semicolon, Key::Semicolon),
    (KeyCode::Quote, Key::Apostrophe),
    (KeyCode::Comma, Key::Comma),
    (KeyCode::Period, Key::Period),
    (KeyCode::Slash, Key::Slash),
    (KeyCode::IntlBackslash, Key::Less),
    (KeyCode::IntlRo, Key::Ro),
    (KeyCode::IntlYen, Key::Yen),
    (KeyCode::Convert, Key::Convert),
    (KeyCode::NonConvert, Key::NonConvert),
    (KeyCode::KanaMode, Key::Kana),
    (KeyCode::Insert, Key::Insert),
    (KeyCode::Delete, Key::Delete),
    (KeyCode::Home, Key::Home),
    (KeyCode::End, Key::End),
    (KeyCode::PageUp, Key::PageUp),
    (KeyCode::PageDown, Key::PageDown),
    (KeyCode::ArrowUp, Key::Up),
    (KeyCode::ArrowDown, Key::Down),
    (KeyCode::ArrowLeft, Key::Left),
    (KeyCode::ArrowRight, Key::Right),
    (KeyCode::PrintScreen, Key::PrintScreen),
    (KeyCode::ScrollLock, Key::ScrollLock),
    (KeyCode::Pause, Key::Pause),
    (KeyCode::NumLock, Key::NumLock),
    (KeyCode::Numpad0, Key::Pad0),
    (KeyCode::Numpad1, Key::Pad1),
    (KeyCode::Numpad2, Key::Pad2),
    (KeyCode::Numpad3, Key::Pad3),
    (KeyCode::Numpad4, Key::Pad4),
    (KeyCode::Numpad5, Key::Pad5),
    (KeyCode::Numpad6, Key::Pad6),
    (KeyCode::Numpad7, Key::Pad7),
    (KeyCode::Numpad8, Key::Pad8),
    (KeyCode::Numpad9, Key::Pad9),
    (KeyCode::NumpadAdd, Key::PadPlus),
    (KeyCode::NumpadSubtract, Key::PadMinus),
    (KeyCode::NumpadMultiply, Key::PadStar),
    (KeyCode::NumpadDivide, Key::PadSlash),
    (KeyCode::NumpadDecimal, Key::PadPeriod),
    (KeyCode::NumpadComma, Key::PadComma),
    (KeyCode::NumpadEnter, Key::PadEnter),
    (KeyCode::AudioVolumeMute, Key::Mute),
    (KeyCode::AudioVolumeDown, Key::VolumeDown),
    (KeyCode::AudioVolumeUp, Key::VolumeUp),
    (KeyCode::MediaPlayPause, Key::MediaPlay),
    (KeyCode::MediaStop, Key::MediaStop),
    (KeyCode::MediaTrackNext, Key::MediaNext),
    (KeyCode::MediaTrackPrevious, Key::MediaPrevious),
    (KeyCode::LaunchMail, Key::Mail),
    (KeyCode::LaunchApp2, Key::Calculator),
    (KeyCode::BrowserHome, Key::BrowserHome),
    (KeyCode::BrowserBack, Key::BrowserBack),
    (KeyCode::BrowserForward, Key::BrowserForward),
    (KeyCode::BrowserSearch, Key::BrowserSearch),
    (KeyCode::Power, Key::Power),
    (KeyCode::Sleep, Key::Sleep),
    (KeyCode::WakeUp, Key::Wake),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_guest_can_be_pressed_in_one_place() {
        for key in Key::ALL {
            let places = KEYS.iter().filter(|(_, guest)| guest == key).count();
            assert_eq!(places, 1, "{key:?}");
        }
        assert_eq!(KEYS.len(), Key::ALL.len());
    }

    #[test]
    fn a_key_is_told_by_its_place() {
        assert_eq!(key(KeyCode::Quote), Some(Key::Apostrophe));
        assert_eq!(key(KeyCode::Numpad7), Some(Key::Pad7));
        assert_eq!(key(KeyCode::F24), None);
    }
}
