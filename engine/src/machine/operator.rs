//! What a person does to a machine: its power button, keys, text, mouse and serial line.

use std::time::{Duration, Instant};

use hardware::input::{Key, typing};

use super::input::Input;
use super::{Machine, board};

impl Machine {
    /// Presses the power button.
    pub fn press_power_button(&self) {
        if self.receives(Input::PowerButton) {
            return;
        }
        self.board.power.lock().press_power_button();
    }

    /// Presses or releases a key.
    pub fn key(&self, key: Key, pressed: bool) {
        if self.receives(Input::Key(key, pressed)) || self.board.paravirtual.key(key, pressed) {
            return;
        }
        self.board.keyboard.lock().key(key, pressed);
    }

    /// Types text, at a pace at which a BIOS with a 16-key buffer keeps up, and no faster than the guest reads.
    pub fn type_text(&self, text: &str) {
        let _one_typist = self.typist.lock();
        for keys in text.chars().filter_map(typing::type_text) {
            let (down, up) = (keys.iter().map(|key| (key, true)), keys.iter().rev().map(|key| (key, false)));
            for (key, pressed) in down.chain(up) {
                if self.receives(Input::Typed(*key, pressed)) {
                    continue;
                }
                self.key(*key, pressed);
                std::thread::sleep(board::KEYSTROKE);
                // The keyboard's buffer holds 16 codes, and a busy guest may not look for a while.
                let asked = Instant::now();
                while !self.board.keyboard.lock().is_idle() && asked.elapsed() < board::LONGEST_KEYSTROKE {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// Moves the mouse.
    pub fn mouse(&self, dx: i32, dy: i32, wheel: i32, buttons: u8) {
        if self.receives(Input::Mouse(dx, dy, wheel, buttons)) {
            return;
        }
        self.board.sockets().mouse(dx, dy, wheel, buttons);
    }

    /// Whether the guest listens to a pointer with absolute coordinates.
    pub fn takes_pointer(&self) -> bool {
        self.board.paravirtual.takes_pointer() || self.board.pointer.lock().is_absolute()
    }

    /// The pointer is at (x, y), each 0 to 0x7FFF: virtio's, where the guest listens to it, or VMware's.
    pub fn point(&self, x: u16, y: u16, wheel: i32, buttons: u8) {
        if self.receives(Input::Pointer(x, y, wheel, buttons)) {
            return;
        }
        match self.board.paravirtual.takes_pointer() {
            true => self.board.paravirtual.pointer(x, y, wheel, buttons),
            false => self.board.sockets().point(x, y, wheel, buttons),
        }
    }

    /// Whether the guest hears of its monitor's size.
    pub fn takes_size(&self) -> bool {
        self.turns.is_none() && self.board.paravirtual.takes_size()
    }

    /// The monitor has another size, in pixels. A deterministic machine's keeps the one it has.
    pub fn resize_screen(&self, width: u32, height: u32) {
        if self.turns.is_none() {
            self.board.paravirtual.resize_screen(width, height);
        }
    }

    /// Sends bytes to the first serial port, waiting while its queue is full.
    pub fn send_serial(&self, bytes: &[u8]) {
        if self.receives(Input::Serial(bytes.to_vec())) {
            return;
        }
        self.board.send_serial(bytes);
    }

    /// A deterministic machine stamps `input` with its time; for others, `false`.
    fn receives(&self, input: Input) -> bool {
        let Some(turns) = &self.turns else { return false };
        turns.receive(input);
        self.wires.wake(0);
        true
    }
}
