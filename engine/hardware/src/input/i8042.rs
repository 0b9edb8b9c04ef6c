//! The keyboard controller on the board: ports 0x60 and 0x64, lines IRQ 1 and IRQ 12, the A20 gate,
//! the CPUs' reset, and the host's side of keyboard and mouse.

use std::sync::Arc;

use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::{Bus, WindowSpec};
use crate::chipset::a20::A20Gate;
use crate::clock::Clock;
use crate::device::{Device, LoadError, Shared, decode, encode, shared};
use crate::input::controller::{Action, Controller};
use crate::input::key::Key;
use crate::input::keyboard::Leds;
use crate::line::Line;
use crate::requests::{Request, Requests};

/// The data port.
pub const DATA: u64 = 0x60;
/// The status and command port.
pub const COMMAND: u64 = 0x64;

mod window {
    pub const DATA: u8 = 0;
}

/// What the controller is wired to.
pub struct Wires {
    /// IRQ 1.
    pub keyboard: Line,
    /// IRQ 12.
    pub mouse: Line,
    /// The A20 gate.
    pub a20: Arc<A20Gate>,
    /// The CPUs' reset.
    pub requests: Requests,
}

/// The controller on the board.
pub struct I8042 {
    chip: Controller,
    clock: Clock,
    alarm: Alarm,
    wires: Wires,
}

impl I8042 {
    /// The controller, on no bus.
    pub fn new(clock: Clock, alarm: Alarm, wires: Wires) -> I8042 {
        I8042 { chip: Controller::default(), clock, alarm, wires }
    }

    /// Puts it on `bus`.
    pub fn install(self, bus: &Bus) -> Shared<I8042> {
        let device = shared(self);
        bus.add(&device, window::DATA, WindowSpec::ports(1), Some(DATA));
        bus.add(&device, 1, WindowSpec::ports(1), Some(COMMAND));
        device
    }

    /// The registers, for the inspector.
    pub fn chip(&self) -> &Controller {
        &self.chip
    }

    /// A key goes down or up.
    pub fn key(&mut self, key: Key, pressed: bool) {
        self.chip.keyboard.key(key, pressed, self.clock.now());
        self.settle();
    }

    /// Lets go of every key, as when the window loses the keyboard.
    pub fn release_keys(&mut self) {
        self.chip.keyboard.release_all(self.clock.now());
        self.settle();
    }

    /// The mouse moved `dx` to the right and `dy` down, its wheel `wheel` steps towards the hand;
    /// `buttons` ([`crate::input::mouse::button`]) are down.
    pub fn mouse(&mut self, dx: i32, dy: i32, wheel: i32, buttons: u8) {
        self.chip.mouse.moved(dx, dy, wheel, buttons, self.clock.now());
        self.settle();
    }

    /// Has the mouse send a packet though nothing moved.
    pub fn nudge_mouse(&mut self) {
        self.chip.mouse.nudge(self.clock.now());
        self.settle();
    }

    /// The keyboard's lights.
    pub fn leds(&self) -> Leds {
        self.chip.keyboard.leds()
    }

    /// Whether the guest has read all that was typed: whoever types a text waits for this.
    pub fn is_idle(&self) -> bool {
        self.chip.is_idle()
    }

    fn lines(&self) {
        let (keyboard, mouse) = self.chip.interrupts();
        self.wires.keyboard.set(keyboard);
        self.wires.mouse.set(mouse);
    }

    fn settle(&mut self) {
        // A byte just read lowers its line before the next byte raises it: an edge for the 8259.
        self.lines();
        self.chip.advance(self.clock.now());
        self.lines();
        self.alarm.set(self.chip.next_deadline());
    }

    fn act(&self, action: Option<Action>) {
        match action {
            Some(Action::A20(open)) => self.wires.a20.set(open),
            Some(Action::ResetCpus) => self.wires.requests.ask(Request::ResetCpus),
            None => {}
        }
    }
}

impl Device for I8042 {
    fn name(&self) -> &str {
        "8042"
    }

    fn read(&mut self, at: At, _width: Width) -> u64 {
        self.chip.advance(self.clock.now());
        let value = match at.window {
            window::DATA => self.chip.read_data(self.clock.now()),
            _ => self.chip.read_status(),
        };
        self.settle();
        value.into()
    }

    fn write(&mut self, at: At, _width: Width, value: u64) {
        self.chip.advance(self.clock.now());
        let action = match at.window {
            window::DATA => self.chip.write_data(value as u8, self.clock.now()),
            _ => self.chip.write_command(value as u8, self.wires.a20.is_open()),
        };
        self.settle();
        self.act(action);
    }

    fn reset(&mut self) {
        self.chip = Controller::default();
        self.settle();
    }

    fn advance(&mut self) {
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let chip: Controller = decode(self.name(), state)?;
        if !chip.is_sound() {
            let reason = "more bytes than the chip can hold".to_owned();
            return Err(LoadError { device: self.name().to_owned(), reason });
        }
        self.chip = chip;
        self.settle();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Space;
    use crate::input::controller::{BYTE_NS, mode};
    use crate::input::mouse::button;
    use crate::line::LineSink;
    use crate::memory::Memory;
    use parking_lot::Mutex;

    /// Levels and rising edges of lines 1 and 12.
    #[derive(Default)]
    struct Lines(Mutex<[(bool, u32); 16]>);

    impl LineSink for Lines {
        fn set(&self, number: u32, level: bool) {
            let line = &mut self.0.lock()[number as usize];
            line.1 += u32::from(level && !line.0);
            line.0 = level;
        }
    }

    struct Board {
        bus: Arc<Bus>,
        clock: Clock,
        lines: Arc<Lines>,
        gate: Arc<A20Gate>,
        asked: Arc<Mutex<Vec<Request>>>,
        device: Shared<I8042>,
    }

    impl Board {
        fn new() -> Board {
            let memory = Memory::new(4 << 20, 0).unwrap();
            let (bus, clock, lines) = (Bus::new(), Clock::manual(), Arc::new(Lines::default()));
            let (gate, asked) = (A20Gate::new(&memory), Arc::new(Mutex::new(Vec::new())));
            let heard = asked.clone();
            let wires = Wires {
                keyboard: Line::new(lines.clone(), 1),
                mouse: Line::new(lines.clone(), 12),
                a20: gate.clone(),
                requests: Requests::new(move |request| heard.lock().push(request)),
            };
            let device = I8042::new(clock.clone(), Alarm::unconnected(), wires).install(&bus);
            Board { bus, clock, lines, gate, asked, device }
        }

        fn command(&self, value: u64) {
            self.bus.write(Space::Port, COMMAND, Width::Byte, value, 0);
        }

        fn data(&self, value: u64) {
            self.bus.write(Space::Port, DATA, Width::Byte, value, 0);
            self.clock.step(BYTE_NS);
        }

        fn status(&self) -> u8 {
            self.bus.read(Space::Port, COMMAND, Width::Byte, 0) as u8
        }

        fn read(&self) -> u8 {
            self.bus.read(Space::Port, DATA, Width::Byte, 0) as u8
        }

        /// Everything that comes, waiting between bytes.
        fn drain(&self) -> Vec<u8> {
            let mut bytes = Vec::new();
            while self.status() & 1 != 0 {
                bytes.push(self.read());
                self.clock.step(BYTE_NS);
            }
            bytes
        }

        fn set_mode(&self, mode: u8) {
            self.command(0x60);
            self.data(mode.into());
        }

        fn tell_mouse(&self, value: u64) -> Vec<u8> {
            self.command(0xD4);
            self.data(value);
            self.drain()
        }
    }

    #[test]
    fn self_tests_pass() {
        let board = Board::new();
        assert_eq!(board.status(), 0x18);
        for (command, answer) in [(0xAA, 0x55), (0xAB, 0x00), (0xA9, 0x00), (0xA4, 0xF1)] {
            board.command(command);
            assert_eq!(board.drain(), [answer], "{command:#x}");
        }
        assert_eq!(board.status() & 0x04, 0x04, "the system flag");
    }

    #[test]
    fn the_command_byte_and_its_ram_can_be_read_back() {
        let board = Board::new();
        board.set_mode(0x47);
        board.command(0x20);
        assert_eq!(board.drain(), [0x47]);
        board.command(0x65);
        board.data(0x99);
        board.command(0x25);
        assert_eq!(board.drain(), [0x99]);
        board.command(0xA7);
        board.command(0xAD);
        board.command(0x20);
        assert_eq!(board.drain(), [0x77]);
    }

    #[test]
    fn keys_are_translated_to_set_1() {
        let board = Board::new();
        board.set_mode(mode::TRANSLATE | mode::KEYBOARD_INTERRUPT);
        for (key, pressed) in [(Key::A, true), (Key::A, false), (Key::Right, true), (Key::Right, false)] {
            board.device.lock().key(key, pressed);
        }
        assert_eq!(board.drain(), [0x1E, 0x9E, 0xE0, 0x4D, 0xE0, 0xCD]);
        assert_eq!(board.lines.0.lock()[1], (false, 6), "one edge for each byte");
        board.data(0xF2);
        assert_eq!(board.drain(), [0xFA, 0xAB, 0x41], "answers are translated too");
    }

    #[test]
    fn a_byte_read_twice_is_the_same() {
        let board = Board::new();
        board.device.lock().key(Key::A, true);
        board.device.lock().key(Key::B, true);
        assert_eq!((board.read(), board.read(), board.status() & 1), (0x1C, 0x1C, 0));
        board.clock.step(BYTE_NS);
        assert_eq!((board.status() & 1, board.read()), (1, 0x32));
    }

    #[test]
    fn the_alarm_brings_the_next_byte() {
        let board = Board::new();
        board.set_mode(mode::KEYBOARD_INTERRUPT);
        board.device.lock().key(Key::Escape, true);
        board.device.lock().key(Key::Escape, false);
        board.read();
        assert!(!board.lines.0.lock()[1].0);
        board.clock.step(BYTE_NS);
        board.device.lock().advance();
        assert!(board.lines.0.lock()[1].0);
    }

    #[test]
    fn a_disabled_keyboard_keeps_its_bytes() {
        let board = Board::new();
        board.command(0xAD);
        board.device.lock().key(Key::A, true);
        assert_eq!(board.status() & 1, 0);
        board.command(0xAE);
        assert_eq!(board.drain(), [0x1C]);
    }

    #[test]
    fn the_mouse_speaks_on_line_12() {
        let board = Board::new();
        assert_eq!(board.tell_mouse(0xF4), [0xFA]);
        board.device.lock().mouse(5, -2, 0, button::RIGHT);
        assert_eq!(board.status() & 0x21, 0x21);
        assert!(board.lines.0.lock()[12].0 && !board.lines.0.lock()[1].0);
        assert_eq!(board.drain(), [0x0A, 5, 2]);
        board.command(0xD3);
        board.data(0x77);
        assert_eq!((board.status() & 0x20, board.drain()), (0x20, vec![0x77]));
    }

    #[test]
    fn the_output_port_drives_a20_and_reset() {
        let board = Board::new();
        board.command(0xD1);
        board.data(0xDD);
        assert!(!board.gate.is_open());
        board.command(0xD0);
        assert_eq!(board.drain()[0] & 0x03, 0x01);
        board.command(0xDF);
        assert!(board.gate.is_open());
        board.command(0xFE);
        board.command(0xFF);
        board.command(0xD1);
        board.data(0xFE);
        assert_eq!(*board.asked.lock(), [Request::ResetCpus, Request::ResetCpus]);
    }

    #[test]
    fn seabios_sets_up_the_keyboard() {
        // SeaBIOS hw/ps2port.c, ps2_keyboard_setup: the sequence and what it checks.
        let board = Board::new();
        board.command(0xAD);
        board.command(0xA7);
        assert_eq!(board.drain(), []);
        board.command(0xAA);
        assert_eq!(board.drain(), [0x55]);
        board.command(0xAB);
        assert_eq!(board.drain(), [0x00]);
        board.set_mode(0x20);
        board.data(0xFF);
        assert_eq!(board.drain(), [0xFA, 0xAA]);
        board.data(0xF5);
        assert_eq!(board.drain(), [0xFA]);
        board.data(0xF0);
        assert_eq!(board.drain(), [0xFA]);
        board.data(0x02);
        assert_eq!(board.drain(), [0xFA]);
        board.data(0xF4);
        assert_eq!(board.drain(), [0xFA]);
        board.set_mode(0x61);
        board.device.lock().key(Key::Enter, true);
        assert_eq!(board.drain(), [0x1C]);
    }

    #[test]
    fn held_keys_and_a_byte_on_its_way_are_kept() {
        let board = Board::new();
        board.device.lock().key(Key::Wake, true);
        board.device.lock().mouse(1, 1, 1, button::LEFT);
        let saved = board.device.lock().save();
        board.device.lock().release_keys();
        board.drain();
        board.device.lock().load(&saved).unwrap();
        assert_eq!(board.device.lock().chip().keyboard.held(), [Key::Wake]);
        assert_eq!(board.drain(), [0xE0, 0x5E]);
    }

    #[test]
    fn contract() {
        let memory = Memory::new(4 << 20, 0).unwrap();
        crate::contract::check(|| {
            let wires = Wires {
                keyboard: Line::unconnected(),
                mouse: Line::unconnected(),
                a20: A20Gate::new(&memory),
                requests: Requests::unconnected(),
            };
            I8042::new(Clock::manual(), Alarm::unconnected(), wires)
        });
    }
}
