//! IBM enhanced (AT and PS/2) keyboard: the device at the far end of the 8042's first wire.
//!
//! IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-key)". Scan code sets 1, 2
//! and 3, typematic repeat in guest time, a 16-byte buffer. Left out: per-key types of set 3 (commands
//! FB to FD are taken, and change nothing) and the shift codes that wrap the grey keys while num lock is on.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::clock::Nanoseconds;
use crate::input::key::{Key, set1_of_set2};

/// Bytes the keyboard's buffer holds.
pub const BUFFER_BYTES: usize = 16;

const ACKNOWLEDGE: u8 = 0xFA;
const RESEND: u8 = 0xFE;
const SELF_TEST_PASSED: u8 = 0xAA;
/// Sent once in place of what the full buffer lost: sets 2 and 3, and set 1.
const OVERRUN: u8 = 0x00;
const OVERRUN_SET1: u8 = 0xFF;
/// 500 ms, then 10.9 times a second.
const DEFAULT_TYPEMATIC: u8 = 0x2B;

/// The three lights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leds {
    /// Scroll lock.
    pub scroll_lock: bool,
    /// Num lock.
    pub num_lock: bool,
    /// Caps lock.
    pub caps_lock: bool,
}

/// The keyboard's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Keyboard {
    scan_set: u8,
    scanning: bool,
    leds: u8,
    typematic: u8,
    /// Set 3: whether keys repeat, and whether they send break codes.
    set3_repeats: bool,
    set3_breaks: bool,
    /// A command that waits for its parameter.
    command: Option<u8>,
    /// Answers go before scan codes.
    answers: VecDeque<u8>,
    scan_codes: VecDeque<u8>,
    last_sent: u8,
    /// One bit per key.
    held: u128,
    repeating: Option<(Key, Nanoseconds)>,
}

impl Default for Keyboard {
    fn default() -> Keyboard {
        Keyboard {
            scan_set: 2,
            scanning: true,
            leds: 0,
            typematic: DEFAULT_TYPEMATIC,
            set3_repeats: true,
            set3_breaks: true,
            command: None,
            answers: VecDeque::new(),
            scan_codes: VecDeque::new(),
            last_sent: 0,
            held: 0,
            repeating: None,
        }
    }
}

impl Keyboard {
    /// A byte from the controller.
    pub fn receive(&mut self, byte: u8, now: Nanoseconds) {
        self.answers.clear();
        match self.command.take() {
            // A parameter; any command byte in its place is a new command.
            Some(command) if byte < 0xED => self.parameter(command, byte),
            _ => self.begin(byte),
        }
        if self.command.is_none() && byte != RESEND {
            self.restart_repeat(now);
        }
    }

    fn begin(&mut self, command: u8) {
        match command {
            0xED | 0xF0 | 0xF3 | 0xFB..=0xFD => {
                self.command = Some(command);
                self.answer(&[ACKNOWLEDGE]);
            }
            0xEE => self.answer(&[0xEE]),
            0xF2 => self.answer(&[ACKNOWLEDGE, 0xAB, 0x83]),
            0xF4 => {
                self.scan_codes.clear();
                self.scanning = true;
                self.answer(&[ACKNOWLEDGE]);
            }
            0xF5 | 0xF6 => {
                self.set_defaults();
                self.scanning = command == 0xF6;
                self.answer(&[ACKNOWLEDGE]);
            }
            0xF7..=0xFA => {
                // All keys: typematic; make and break; make only; all three.
                self.set3_repeats = matches!(command, 0xF7 | 0xFA);
                self.set3_breaks = matches!(command, 0xF8 | 0xFA);
                self.answer(&[ACKNOWLEDGE]);
            }
            RESEND => self.answers.push_back(self.last_sent),
            0xFF => {
                self.set_defaults();
                self.leds = 0;
                self.scanning = true;
                self.answer(&[ACKNOWLEDGE, SELF_TEST_PASSED]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    fn parameter(&mut self, command: u8, value: u8) {
        match (command, value) {
            (0xED, _) => self.leds = value & 7,
            (0xF0, 0) => return self.answer(&[ACKNOWLEDGE, self.scan_set]),
            (0xF0, 1..=3) => {
                self.scan_codes.clear();
                self.scan_set = value;
            }
            (0xF3, 0x00..0x80) => self.typematic = value,
            // Keys follow until the next command.
            (0xFB..=0xFD, _) => self.command = Some(command),
            _ => return self.answer(&[RESEND]),
        }
        self.answer(&[ACKNOWLEDGE]);
    }

    fn set_defaults(&mut self) {
        self.scan_codes.clear();
        self.repeating = None;
        self.scan_set = 2;
        self.typematic = DEFAULT_TYPEMATIC;
        (self.set3_repeats, self.set3_breaks) = (true, true);
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.answers.extend(bytes);
    }

    /// Whether a byte waits to be sent.
    pub fn has_byte(&self) -> bool {
        !self.answers.is_empty() || (self.command.is_none() && !self.scan_codes.is_empty())
    }

    /// Sends a byte to the controller.
    pub fn send(&mut self) -> Option<u8> {
        let scan_code = |keyboard: &mut Keyboard| match keyboard.command {
            None => keyboard.scan_codes.pop_front(),
            Some(_) => None,
        };
        let byte = self.answers.pop_front().or_else(|| scan_code(self))?;
        if byte != RESEND {
            self.last_sent = byte;
        }
        Some(byte)
    }

    /// A key goes down or up. The host's own repeats are ignored: the keyboard repeats by itself.
    pub fn key(&mut self, key: Key, pressed: bool, now: Nanoseconds) {
        let bit = 1u128 << key.index();
        if pressed == (self.held & bit != 0) {
            return;
        }
        self.held ^= bit;
        let sequence = self.sequence(key, pressed);
        self.queue(&sequence);
        if pressed {
            let repeats = key != Key::Pause && (self.scan_set != 3 || self.set3_repeats);
            self.repeating = repeats.then(|| (key, now.saturating_add(self.repeat_delay_ns())));
        } else if self.repeating.is_some_and(|(repeating, _)| repeating == key) {
            self.repeating = None;
        }
    }

    /// Lets go of everything, as when the window loses the keyboard.
    pub fn release_all(&mut self, now: Nanoseconds) {
        for key in
            Key::ALL.iter().copied().filter(|key| self.held & 1 << key.index() != 0).collect::<Vec<_>>()
        {
            self.key(key, false, now);
        }
    }

    /// The keys that are down.
    pub fn held(&self) -> Vec<Key> {
        Key::ALL.iter().copied().filter(|key| self.held & 1 << key.index() != 0).collect()
    }

    /// The lights, as the guest set them.
    pub fn leds(&self) -> Leds {
        let light = |bit| self.leds & bit != 0;
        Leds { scroll_lock: light(1), num_lock: light(2), caps_lock: light(4) }
    }

    fn holds_any(&self, keys: &[Key]) -> bool {
        keys.iter().any(|key| self.held & 1 << key.index() != 0)
    }

    /// The bytes of a make or break code.
    fn sequence(&self, key: Key, pressed: bool) -> Vec<u8> {
        if self.scan_set == 3 {
            return match (key.set3(), pressed) {
                (0, _) => Vec::new(),
                (code, true) => vec![code],
                (code, false) if self.set3_breaks => vec![0xF0, code],
                _ => Vec::new(),
            };
        }
        let set2 = self.sequence_set2(key, pressed);
        if self.scan_set == 2 { set2 } else { to_set1(&set2) }
    }

    fn sequence_set2(&self, key: Key, pressed: bool) -> Vec<u8> {
        let ctrl = self.holds_any(&[Key::LeftCtrl, Key::RightCtrl]);
        let shift = self.holds_any(&[Key::LeftShift, Key::RightShift]);
        let alt = self.holds_any(&[Key::LeftAlt, Key::RightAlt]);
        match (key, pressed) {
            (Key::Pause, true) if ctrl => vec![0xE0, 0x7E, 0xE0, 0xF0, 0x7E],
            (Key::Pause, true) => vec![0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77],
            (Key::Pause, false) => Vec::new(),
            (Key::PrintScreen, true) if alt => vec![0x84],
            (Key::PrintScreen, false) if alt => vec![0xF0, 0x84],
            (Key::PrintScreen, true) if !ctrl && !shift => vec![0xE0, 0x12, 0xE0, 0x7C],
            (Key::PrintScreen, false) if !ctrl && !shift => vec![0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12],
            _ => {
                let code = key.set2();
                let mut bytes = Vec::with_capacity(3);
                if code > 0xFF {
                    bytes.push((code >> 8) as u8);
                }
                if !pressed {
                    bytes.push(0xF0);
                }
                bytes.push(code as u8);
                bytes
            }
        }
    }

    /// A sequence goes in whole or not at all.
    fn queue(&mut self, sequence: &[u8]) {
        if !self.scanning || sequence.is_empty() {
            return;
        }
        if self.scan_codes.len() + sequence.len() <= BUFFER_BYTES {
            self.scan_codes.extend(sequence);
            return;
        }
        let mark = if self.scan_set == 1 { OVERRUN_SET1 } else { OVERRUN };
        if self.scan_codes.back() != Some(&mark) {
            self.scan_codes.push_back(mark);
        }
    }

    /// Typematic parameter, "Set typematic rate/delay": bits 6 and 5.
    fn repeat_delay_ns(&self) -> u64 {
        (1 + u64::from(self.typematic >> 5 & 3)) * 250_000_000
    }

    /// Period = (8 + A) × 2^B × 4.17 ms.
    fn repeat_period_ns(&self) -> u64 {
        (8 + u64::from(self.typematic & 7)) * (1 << (self.typematic >> 3 & 3)) * 4_170_000
    }

    fn restart_repeat(&mut self, now: Nanoseconds) {
        if let Some((key, _)) = self.repeating {
            self.repeating = Some((key, now.saturating_add(self.repeat_delay_ns())));
        }
    }

    /// Repeats the key that is held, when it is time; never into a full buffer.
    pub fn advance(&mut self, now: Nanoseconds) {
        let Some((key, _)) = self.repeating.filter(|(_, at)| *at <= now) else { return };
        self.repeating = Some((key, now.saturating_add(self.repeat_period_ns())));
        if self.scan_codes.is_empty() {
            let sequence = self.sequence(key, true);
            self.queue(&sequence);
        }
    }

    /// When the next repeat is due.
    pub fn next_deadline(&self) -> Option<Nanoseconds> {
        self.repeating.filter(|_| self.scanning).map(|(_, at)| at)
    }

    /// Whether a saved state can be a keyboard's.
    pub fn is_sound(&self) -> bool {
        (1..=3).contains(&self.scan_set)
            && self.answers.len() <= BUFFER_BYTES
            && self.scan_codes.len() <= BUFFER_BYTES + 1
    }
}

/// A set 2 sequence in set 1: break codes have the top bit set.
fn to_set1(set2: &[u8]) -> Vec<u8> {
    let mut released = false;
    let mut bytes = Vec::with_capacity(set2.len());
    for &byte in set2 {
        match byte {
            0xF0 => released = true,
            0xE0 | 0xE1 => bytes.push(byte),
            _ => {
                bytes.push(set1_of_set2(byte) | if released { 0x80 } else { 0 });
                released = false;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(keyboard: &mut Keyboard) -> Vec<u8> {
        std::iter::from_fn(|| keyboard.send()).collect()
    }

    fn told(keyboard: &mut Keyboard, bytes: &[u8]) -> Vec<u8> {
        bytes
            .iter()
            .flat_map(|byte| {
                keyboard.receive(*byte, 0);
                drain(keyboard)
            })
            .collect()
    }

    fn struck(keyboard: &mut Keyboard, key: Key) -> (Vec<u8>, Vec<u8>) {
        keyboard.key(key, true, 0);
        let make = drain(keyboard);
        keyboard.key(key, false, 0);
        (make, drain(keyboard))
    }

    #[test]
    fn commands_are_answered() {
        let mut keyboard = Keyboard::default();
        assert_eq!(told(&mut keyboard, &[0xFF]), [0xFA, 0xAA]);
        assert_eq!(told(&mut keyboard, &[0xF2]), [0xFA, 0xAB, 0x83]);
        assert_eq!(told(&mut keyboard, &[0xEE]), [0xEE]);
        assert_eq!(told(&mut keyboard, &[0xED, 0x06]), [0xFA, 0xFA]);
        assert_eq!(keyboard.leds(), Leds { scroll_lock: false, num_lock: true, caps_lock: true });
        assert_eq!(told(&mut keyboard, &[0xF0, 0x00]), [0xFA, 0xFA, 0x02]);
        assert_eq!(told(&mut keyboard, &[0xF0, 0x07]), [0xFA, 0xFE]);
        assert_eq!(told(&mut keyboard, &[0x12]), [0xFE], "not a command");
        assert_eq!(told(&mut keyboard, &[0xF2, 0xFE]), [0xFA, 0xAB, 0x83, 0x83], "resend");
        assert_eq!(told(&mut keyboard, &[0xED, 0xF4]), [0xFA, 0xFA], "a command in a parameter's place");
        assert!(keyboard.leds().num_lock);
    }

    #[test]
    fn each_set_has_its_codes() {
        let mut keyboard = Keyboard::default();
        assert_eq!(struck(&mut keyboard, Key::A), (vec![0x1C], vec![0xF0, 0x1C]));
        assert_eq!(struck(&mut keyboard, Key::Up), (vec![0xE0, 0x75], vec![0xE0, 0xF0, 0x75]));
        told(&mut keyboard, &[0xF0, 0x01]);
        assert_eq!(struck(&mut keyboard, Key::A), (vec![0x1E], vec![0x9E]));
        assert_eq!(struck(&mut keyboard, Key::Up), (vec![0xE0, 0x48], vec![0xE0, 0xC8]));
        told(&mut keyboard, &[0xF0, 0x03]);
        assert_eq!(struck(&mut keyboard, Key::LeftCtrl), (vec![0x11], vec![0xF0, 0x11]));
        told(&mut keyboard, &[0xF7]);
        assert_eq!(struck(&mut keyboard, Key::A), (vec![0x1C], vec![]), "typematic only");
    }

    #[test]
    fn pause_and_print_screen_are_special() {
        let mut keyboard = Keyboard::default();
        let pause = vec![0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77];
        assert_eq!(struck(&mut keyboard, Key::Pause), (pause, vec![]));
        let print = (vec![0xE0, 0x12, 0xE0, 0x7C], vec![0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12]);
        assert_eq!(struck(&mut keyboard, Key::PrintScreen), print);
        keyboard.key(Key::LeftAlt, true, 0);
        drain(&mut keyboard);
        assert_eq!(struck(&mut keyboard, Key::PrintScreen), (vec![0x84], vec![0xF0, 0x84]), "SysRq");
        keyboard.release_all(0);
        keyboard.key(Key::RightCtrl, true, 0);
        drain(&mut keyboard);
        assert_eq!(struck(&mut keyboard, Key::Pause).0, [0xE0, 0x7E, 0xE0, 0xF0, 0x7E], "break");
        assert_eq!(struck(&mut keyboard, Key::PrintScreen), (vec![0xE0, 0x7C], vec![0xE0, 0xF0, 0x7C]));
        assert_eq!(
            to_set1(&[0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77]),
            [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5]
        );
    }

    #[test]
    fn a_full_buffer_keeps_what_it_has_and_says_so() {
        let mut keyboard = Keyboard::default();
        for key in Key::ALL.iter().filter(|key| key.set2() < 0x80).take(18) {
            keyboard.key(*key, true, 0);
        }
        let bytes = drain(&mut keyboard);
        assert_eq!((bytes.len(), bytes[16]), (17, OVERRUN));
        assert_eq!(bytes[..2], [0x76, 0x05]);
    }

    #[test]
    fn a_held_key_repeats_at_its_rate() {
        let mut keyboard = Keyboard::default();
        told(&mut keyboard, &[0xF3, 0x00]); // 250 ms, 30 a second
        keyboard.key(Key::X, true, 0);
        keyboard.key(Key::X, true, 0);
        assert_eq!(drain(&mut keyboard), [0x22], "the host's repeat is ignored");
        assert_eq!(keyboard.next_deadline(), Some(250_000_000));
        keyboard.advance(250_000_000);
        assert_eq!(drain(&mut keyboard), [0x22]);
        assert_eq!(keyboard.next_deadline(), Some(250_000_000 + 33_360_000));
        keyboard.key(Key::X, false, 260_000_000);
        assert_eq!((drain(&mut keyboard), keyboard.next_deadline()), (vec![0xF0, 0x22], None));
    }

    #[test]
    fn disabled_it_sends_nothing_but_answers() {
        let mut keyboard = Keyboard::default();
        assert_eq!(told(&mut keyboard, &[0xF5]), [0xFA]);
        assert_eq!(struck(&mut keyboard, Key::A), (vec![], vec![]));
        assert_eq!(told(&mut keyboard, &[0xF4]), [0xFA]);
        assert_eq!(struck(&mut keyboard, Key::A).0, [0x1C]);
    }
}
