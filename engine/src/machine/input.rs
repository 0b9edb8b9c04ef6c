//! What comes into a deterministic machine from outside, stamped with guest time: kept in order, paced as a person
//! types, and written down, so that the same input at the same times gives the same run.

use std::collections::VecDeque;

use hardware::Shared;
use hardware::chipset::power::PowerManagement;
use hardware::input::{I8042, Key, VmwarePointer};
use hardware::serial::SerialPort;
use serde::{Deserialize, Serialize};

use super::board;

/// Something from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// A key goes down or up.
    Key(Key, bool),
    /// The same, while a text is typed: no sooner than the guest has read the last one.
    Typed(Key, bool),
    /// The mouse moves right and down, its wheel turns, and these buttons are down.
    Mouse(i32, i32, i32, u8),
    /// The pointer is here, each 0 to 0x7FFF, its wheel turns, and these buttons are down.
    Pointer(u16, u16, i32, u8),
    /// Bytes for the first serial port.
    Serial(Vec<u8>),
    /// The power button.
    PowerButton,
}

/// An input with the guest time, in nanoseconds, at which it came.
pub type Stamped = (u64, Input);

/// Time between two looks at a guest that does not read what it was sent.
const LOOK_NS: u64 = 1_000_000;

/// Where inputs go.
pub struct Sockets {
    pub keyboard: Shared<I8042>,
    pub pointer: Shared<VmwarePointer>,
    pub serial: Shared<SerialPort>,
    pub power: Shared<PowerManagement>,
}

impl Sockets {
    /// The mouse moves. A guest that listens to VMware's pointer hears it there: it does not look into the mouse's packets.
    pub fn mouse(&self, dx: i32, dy: i32, wheel: i32, buttons: u8) {
        let is_told = self.pointer.lock().moved(dx, dy, wheel, buttons);
        let mut keyboard = self.keyboard.lock();
        if is_told { keyboard.nudge_mouse() } else { keyboard.mouse(dx, dy, wheel, buttons) }
    }

    /// VMware's pointer is at (x, y), each 0 to 0x7FFF.
    pub fn point(&self, x: u16, y: u16, wheel: i32, buttons: u8) {
        // The highest bits again as the lowest, so that the far end is the far end.
        let wide = |value: u16| value << 1 | value >> 14 & 1;
        if self.pointer.lock().point(wide(x), wide(y), wheel, buttons) {
            self.keyboard.lock().nudge_mouse();
        }
    }
}

/// Inputs that have come and are not yet with their devices, and those that are to come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Inbox {
    waiting: VecDeque<Input>,
    bytes: VecDeque<u8>,
    /// Next time a typed key may be pressed, and bytes be sent.
    key_due_ns: u64,
    bytes_due_ns: u64,
    /// To come at their times.
    planned: VecDeque<Stamped>,
    /// All that came, with the times at which it did.
    journal: Vec<Stamped>,
}

impl Inbox {
    /// An inbox into which `planned` will come, in order of time.
    pub fn with(planned: Vec<Stamped>) -> Inbox {
        Inbox { planned: planned.into(), ..Inbox::default() }
    }

    /// `input` comes now.
    pub fn receive(&mut self, now: u64, input: Input) {
        self.journal.push((now, input.clone()));
        match input {
            Input::Serial(bytes) => self.bytes.extend(bytes),
            input => self.waiting.push_back(input),
        }
    }

    /// All that has come.
    pub fn journal(&self) -> &[Stamped] {
        &self.journal
    }

    /// All that came to `later`, an inbox of the same run further on, is to come again.
    pub fn expect(&mut self, later: &Inbox) {
        let missing = later.journal.iter().skip(self.journal.len());
        self.planned = missing.chain(&later.planned).cloned().collect();
    }

    /// When this has something to do next; never before `now` unless it has something to do now.
    pub fn deadline(&self) -> Option<u64> {
        let planned = self.planned.front().map(|(at, _)| *at);
        let waiting = self.waiting.front().map(|input| match input {
            Input::Typed(..) => self.key_due_ns,
            _ => 0,
        });
        let bytes = (!self.bytes.is_empty()).then_some(self.bytes_due_ns);
        [planned, waiting, bytes].into_iter().flatten().min()
    }

    /// Gives the devices what is due.
    pub fn deliver(&mut self, now: u64, sockets: &Sockets) {
        let due = self.planned.iter().take_while(|(at, _)| *at <= now).count();
        for (_, input) in self.planned.drain(..due).collect::<Vec<_>>() {
            self.receive(now, input);
        }
        while let Some(input) = self.waiting.front() {
            let mut keyboard = sockets.keyboard.lock();
            match *input {
                Input::Typed(..) if now < self.key_due_ns => break,
                Input::Typed(..) if !keyboard.is_idle() => {
                    self.key_due_ns = now + LOOK_NS;
                    break;
                }
                Input::Typed(key, pressed) => {
                    keyboard.key(key, pressed);
                    self.key_due_ns = now + board::KEYSTROKE.as_nanos() as u64;
                }
                Input::Key(key, pressed) => keyboard.key(key, pressed),
                Input::Mouse(dx, dy, wheel, buttons) => {
                    drop(keyboard);
                    sockets.mouse(dx, dy, wheel, buttons);
                }
                Input::Pointer(x, y, wheel, buttons) => {
                    drop(keyboard);
                    sockets.point(x, y, wheel, buttons);
                }
                Input::PowerButton => sockets.power.lock().press_power_button(),
                Input::Serial(_) => unreachable!("bytes have a queue of their own"),
            }
            self.waiting.pop_front();
        }
        if !self.bytes.is_empty() && now >= self.bytes_due_ns {
            let taken = sockets.serial.lock().push(self.bytes.make_contiguous());
            self.bytes.drain(..taken);
            self.bytes_due_ns = now + LOOK_NS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_written_down_and_due_at_its_time() {
        let mut inbox = Inbox::with(vec![(500, Input::PowerButton)]);
        assert_eq!(inbox.deadline(), Some(500));
        inbox.key_due_ns = 300;
        inbox.receive(100, Input::Typed(Key::A, true));
        assert_eq!(inbox.deadline(), Some(300));
        inbox.receive(120, Input::Serial(vec![1, 2]));
        assert_eq!(inbox.deadline(), Some(0), "bytes go at once");
        assert_eq!(inbox.journal(), [(100, Input::Typed(Key::A, true)), (120, Input::Serial(vec![1, 2]))]);
    }

    #[test]
    fn what_came_since_is_to_come_again() {
        let mut inbox = Inbox::with(vec![(500, Input::PowerButton)]);
        inbox.receive(100, Input::Typed(Key::A, true));
        let mut earlier = inbox.clone();
        inbox.receive(120, Input::Serial(vec![1]));
        earlier.expect(&inbox);
        assert_eq!(earlier.planned, [(120, Input::Serial(vec![1])), (500, Input::PowerButton)]);
    }
}
