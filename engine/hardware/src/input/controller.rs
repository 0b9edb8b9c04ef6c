//! Intel 8042 as the PC's keyboard controller, with keyboard and mouse attached: the chip.
//!
//! IBM PC/AT and PS/2 Technical References, "Keyboard controller". One output buffer; the next byte of
//! a device comes a while after the guest has read the one before (as over the real, slow wires: a
//! program that reads the buffer twice gets the same byte twice). Left out: passwords, the input port's
//! jumpers, and the controller's diagnostic dump.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::clock::Nanoseconds;
use crate::input::key::set1_of_set2;
use crate::input::keyboard::Keyboard;
use crate::input::mouse::Mouse;

/// From the reading of one device byte to the next: about one byte's time on the wire.
pub const BYTE_NS: u64 = 500_000;
/// From a command to a device to its answer.
pub const ANSWER_NS: u64 = 200_000;
/// Answers of the controller that wait for the output buffer.
const REPLIES_AT_MOST: usize = 8;

/// Status register bits.
pub mod status {
    /// The output buffer is full.
    pub const OUTPUT_FULL: u8 = 1 << 0;
    /// The self test has passed.
    pub const SYSTEM: u8 = 1 << 2;
    /// The last write was a command.
    pub const COMMAND: u8 = 1 << 3;
    /// The keyboard is not locked.
    pub const UNLOCKED: u8 = 1 << 4;
    /// The byte in the output buffer is the mouse's.
    pub const FROM_MOUSE: u8 = 1 << 5;
}

/// Command byte bits.
pub mod mode {
    /// The keyboard's bytes interrupt.
    pub const KEYBOARD_INTERRUPT: u8 = 1 << 0;
    /// The mouse's bytes interrupt.
    pub const MOUSE_INTERRUPT: u8 = 1 << 1;
    /// The system flag.
    pub const SYSTEM: u8 = 1 << 2;
    /// The keyboard's clock is held.
    pub const KEYBOARD_DISABLED: u8 = 1 << 4;
    /// The mouse's clock is held.
    pub const MOUSE_DISABLED: u8 = 1 << 5;
    /// Scan codes are translated from set 2 to set 1.
    pub const TRANSLATE: u8 = 1 << 6;
}

/// Where a byte came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Source {
    Controller,
    Keyboard,
    Mouse,
    /// From the controller, in the mouse's name (command D3).
    AsMouse,
}

impl Source {
    fn is_mouse(self) -> bool {
        matches!(self, Source::Mouse | Source::AsMouse)
    }
}

/// What the controller does outside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opens (bit 20 passes) or closes the A20 gate.
    A20(bool),
    /// Pulses the CPUs' reset.
    ResetCpus,
}

/// The chip and its two devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Controller {
    /// The command byte.
    pub mode: u8,
    ram: [u8; 32],
    last_write_was_command: bool,
    /// A command that waits for its data byte.
    expects: Option<u8>,
    output: Option<(u8, Source)>,
    /// What the output buffer still shows when it is empty.
    last: u8,
    replies: VecDeque<(u8, Source)>,
    /// Translation has seen the break prefix.
    released: bool,
    /// No device byte before this.
    not_before: Nanoseconds,
    /// The keyboard.
    pub keyboard: Keyboard,
    /// The mouse.
    pub mouse: Mouse,
}

impl Default for Controller {
    fn default() -> Controller {
        Controller {
            mode: mode::KEYBOARD_INTERRUPT | mode::MOUSE_INTERRUPT,
            ram: [0; 32],
            last_write_was_command: true,
            expects: None,
            output: None,
            last: 0,
            replies: VecDeque::new(),
            released: false,
            not_before: 0,
            keyboard: Keyboard::default(),
            mouse: Mouse::default(),
        }
    }
}

impl Controller {
    /// Reads port 0x64.
    pub fn read_status(&self) -> u8 {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        status::UNLOCKED
            | flag(self.output.is_some(), status::OUTPUT_FULL)
            | flag(self.mode & mode::SYSTEM != 0, status::SYSTEM)
            | flag(self.last_write_was_command, status::COMMAND)
            | flag(self.output.is_some_and(|(_, source)| source.is_mouse()), status::FROM_MOUSE)
    }

    /// Reads port 0x60: the byte again, if there is no new one.
    pub fn read_data(&mut self, now: Nanoseconds) -> u8 {
        if let Some((byte, source)) = self.output.take() {
            self.last = byte;
            if matches!(source, Source::Keyboard | Source::Mouse) {
                self.not_before = now.saturating_add(BYTE_NS);
            }
        }
        self.last
    }

    /// Writes port 0x60.
    pub fn write_data(&mut self, value: u8, now: Nanoseconds) -> Option<Action> {
        self.last_write_was_command = false;
        match self.expects.take() {
            Some(0x60) => self.mode = value,
            Some(command @ 0x61..0x80) => self.ram[usize::from(command & 0x1F)] = value,
            Some(0xD1) => return self.write_output_port(value),
            Some(0xD2) => self.reply(value, Source::Controller),
            Some(0xD3) => self.reply(value, Source::AsMouse),
            Some(0xD4) => {
                self.mode &= !mode::MOUSE_DISABLED;
                self.mouse.receive(value, now);
                self.not_before = self.not_before.max(now.saturating_add(ANSWER_NS));
            }
            _ => {
                self.mode &= !mode::KEYBOARD_DISABLED;
                self.keyboard.receive(value, now);
                self.released = false;
                self.not_before = self.not_before.max(now.saturating_add(ANSWER_NS));
            }
        }
        None
    }

    /// Writes port 0x64; `a20` is the gate's state, for the output port.
    pub fn write_command(&mut self, command: u8, a20: bool) -> Option<Action> {
        self.last_write_was_command = true;
        self.expects = None;
        match command {
            0x20 => self.reply(self.mode, Source::Controller),
            0x21..0x40 => self.reply(self.ram[usize::from(command & 0x1F)], Source::Controller),
            0x60..0x80 | 0xD1..=0xD4 => self.expects = Some(command),
            0xA4 => self.reply(0xF1, Source::Controller), // no password
            0xA7 => self.mode |= mode::MOUSE_DISABLED,
            0xA8 => self.mode &= !mode::MOUSE_DISABLED,
            0xA9 | 0xAB => self.reply(0x00, Source::Controller), // the wires are good
            0xAA => {
                self.mode |= mode::SYSTEM;
                self.reply(0x55, Source::Controller);
            }
            0xAD => self.mode |= mode::KEYBOARD_DISABLED,
            0xAE => self.mode &= !mode::KEYBOARD_DISABLED,
            0xC0 => self.reply(0x80, Source::Controller), // input port: not locked
            0xD0 => self.reply(self.output_port(a20), Source::Controller),
            0xDD => return Some(Action::A20(false)),
            0xDF => return Some(Action::A20(true)),
            0xE0 => self.reply(0x00, Source::Controller), // test inputs
            0xF0..=0xFF if command & 1 == 0 => return Some(Action::ResetCpus),
            _ => {}
        }
        None
    }

    fn write_output_port(&mut self, value: u8) -> Option<Action> {
        if value & 1 == 0 { Some(Action::ResetCpus) } else { Some(Action::A20(value & 2 != 0)) }
    }

    fn output_port(&self, a20: bool) -> u8 {
        let (keyboard, mouse) = self.interrupts();
        0xC1 | u8::from(a20) << 1 | u8::from(keyboard) << 4 | u8::from(mouse) << 5
    }

    fn reply(&mut self, byte: u8, source: Source) {
        if self.replies.len() < REPLIES_AT_MOST {
            self.replies.push_back((byte, source));
        }
    }

    /// Levels of the keyboard's and the mouse's interrupt line.
    pub fn interrupts(&self) -> (bool, bool) {
        let Some((_, source)) = self.output else { return (false, false) };
        let enabled = |bit| self.mode & bit != 0;
        (
            !source.is_mouse() && enabled(mode::KEYBOARD_INTERRUPT),
            source.is_mouse() && enabled(mode::MOUSE_INTERRUPT),
        )
    }

    fn keyboard_ready(&self) -> bool {
        self.mode & mode::KEYBOARD_DISABLED == 0 && self.keyboard.has_byte()
    }

    fn mouse_ready(&self) -> bool {
        self.mode & mode::MOUSE_DISABLED == 0 && self.mouse.has_byte()
    }

    /// Lets the devices act and fills the output buffer, if it is empty and something waits.
    pub fn advance(&mut self, now: Nanoseconds) {
        self.keyboard.advance(now);
        self.mouse.advance(now);
        if self.output.is_some() {
            return;
        }
        self.output = self.replies.pop_front();
        if self.output.is_some() || now < self.not_before {
            return;
        }
        while self.output.is_none() && self.keyboard_ready() {
            let byte = self.keyboard.send().and_then(|byte| self.translate(byte));
            self.output = byte.map(|byte| (byte, Source::Keyboard));
        }
        if self.output.is_none() && self.mouse_ready() {
            self.output = self.mouse.send().map(|byte| (byte, Source::Mouse));
        }
    }

    /// Set 2 to set 1, if so set; the break prefix is kept back and becomes the top bit.
    fn translate(&mut self, byte: u8) -> Option<u8> {
        if self.mode & mode::TRANSLATE == 0 {
            self.released = false;
            return Some(byte);
        }
        if byte == 0xF0 {
            self.released = true;
            return None;
        }
        let released = std::mem::take(&mut self.released);
        Some(set1_of_set2(byte) | if released { 0x80 } else { 0 })
    }

    /// When to look again.
    pub fn next_deadline(&self) -> Option<Nanoseconds> {
        let waits = self.output.is_none() && (self.keyboard_ready() || self.mouse_ready());
        let wire = waits.then_some(self.not_before);
        [wire, self.keyboard.next_deadline(), self.mouse.next_deadline()].into_iter().flatten().min()
    }

    /// Whether the guest has read all that was typed.
    pub fn is_idle(&self) -> bool {
        self.output.is_none() && !self.keyboard.has_byte()
    }

    /// Whether a saved state can be this chip's.
    pub fn is_sound(&self) -> bool {
        self.replies.len() <= REPLIES_AT_MOST && self.keyboard.is_sound() && self.mouse.is_sound()
    }
}
