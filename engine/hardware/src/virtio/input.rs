//! The input device: a keyboard, or a tablet with absolute coordinates. Virtio 1.2 §5.8.
//!
//! Queue 0 takes buffers of one event, queue 1 brings the lights. Events of a driver that is slow wait, up
//! to a bound; then whole packets are dropped. Left out: key repeat by the device (drivers do it), touch.

pub mod codes;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::chain::Violation;
use super::function::{Identity, Io, Kind};
use crate::input::{Key, Leds};

/// Coordinates of the tablet run from 0 to this, whatever the screen's size.
pub const AXIS_MAX: u16 = 0x7FFF;

const EVENTS: u16 = 0;
const LIGHTS: u16 = 1;
const WAITING_MAX_EVENTS: usize = 256;
const EVENT_BYTES: usize = 8;
const PAYLOAD_BYTES: usize = 128;

/// What the configuration can be asked for, §5.8.2.
mod select {
    pub const NAME: u8 = 0x01;
    pub const IDS: u8 = 0x03;
    pub const PROPERTIES: u8 = 0x10;
    pub const EVENT_BITS: u8 = 0x11;
    pub const AXIS: u8 = 0x12;
}

/// Event types and codes (`input-event-codes.h`).
mod event {
    pub const SYNCHRONIZE: u16 = 0;
    pub const KEY: u16 = 1;
    pub const RELATIVE: u16 = 2;
    pub const ABSOLUTE: u16 = 3;
    pub const LIGHT: u16 = 0x11;
    pub const X: u16 = 0;
    pub const Y: u16 = 1;
    pub const WHEEL: u16 = 8;
    /// Left, right, middle, in the order of our button bits.
    pub const BUTTONS: [u16; 3] = [0x110, 0x111, 0x112];
    /// Num lock, caps lock, scroll lock.
    pub const LIGHTS: [u16; 3] = [0, 1, 2];
}

/// Bus number of virtual devices in ids.
const BUS_VIRTUAL: u16 = 6;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Event {
    kind: u16,
    code: u16,
    value: i32,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Model {
    Keyboard,
    Tablet,
}

/// What is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    model: Model,
    select: u8,
    subselect: u8,
    waiting: Vec<Event>,
    lights: [bool; 3],
    buttons: u8,
}

/// The device.
pub struct Input {
    model: Model,
    select: u8,
    subselect: u8,
    waiting: VecDeque<Event>,
    lights: [bool; 3],
    buttons: u8,
}

impl Input {
    /// A keyboard.
    pub fn keyboard() -> Input {
        Input::new(Model::Keyboard)
    }

    /// A tablet: a pointer that says where it is, not how far it moved.
    pub fn tablet() -> Input {
        Input::new(Model::Tablet)
    }

    fn new(model: Model) -> Input {
        Input { model, select: 0, subselect: 0, waiting: VecDeque::new(), lights: [false; 3], buttons: 0 }
    }

    /// A key of the keyboard goes down or up.
    pub fn key(&mut self, key: Key, pressed: bool, io: &mut Io) -> Result<(), Violation> {
        self.tell(&[Event { kind: event::KEY, code: codes::of_key(key), value: pressed.into() }], io)
    }

    /// The tablet's pen is at (x, y), each 0 to [`AXIS_MAX`]; the wheel turned down by `wheel`; `buttons` are
    /// those held: bit 0 left, 1 right, 2 middle.
    pub fn point(&mut self, x: u16, y: u16, wheel: i32, buttons: u8, io: &mut Io) -> Result<(), Violation> {
        let axis =
            |code, value: u16| Event { kind: event::ABSOLUTE, code, value: value.min(AXIS_MAX).into() };
        let mut events = vec![axis(event::X, x), axis(event::Y, y)];
        let changed = self.buttons ^ buttons;
        for (bit, code) in event::BUTTONS.into_iter().enumerate() {
            if changed >> bit & 1 != 0 {
                let value = i32::from(buttons >> bit & 1);
                events.push(Event { kind: event::KEY, code, value });
            }
        }
        if wheel != 0 {
            events.push(Event { kind: event::RELATIVE, code: event::WHEEL, value: wheel.saturating_neg() });
        }
        self.buttons = buttons;
        self.tell(&events, io)
    }

    /// The keyboard's lights, as the guest sets them.
    pub fn leds(&self) -> Leds {
        let [num_lock, caps_lock, scroll_lock] = self.lights;
        Leds { scroll_lock, num_lock, caps_lock }
    }

    /// Queues a packet. Without a driver nobody will ever want it.
    fn tell(&mut self, packet: &[Event], io: &mut Io) -> Result<(), Violation> {
        if !io.is_live() || self.waiting.len() + packet.len() >= WAITING_MAX_EVENTS {
            return Ok(());
        }
        self.waiting.extend(packet);
        self.waiting.push_back(Event { kind: event::SYNCHRONIZE, code: 0, value: 0 });
        self.deliver(io)
    }

    fn deliver(&mut self, io: &mut Io) -> Result<(), Violation> {
        while let Some(next) = self.waiting.front() {
            let Some(chain) = io.take(EVENTS)? else { return Ok(()) };
            let mut bytes = [0; EVENT_BYTES];
            bytes[..2].copy_from_slice(&next.kind.to_le_bytes());
            bytes[2..4].copy_from_slice(&next.code.to_le_bytes());
            bytes[4..].copy_from_slice(&next.value.to_le_bytes());
            if chain.writable.write(io.memory, 0, &bytes) < EVENT_BYTES {
                return Err(Violation::Request("room for an event"));
            }
            io.give_back(EVENTS, chain.head, EVENT_BYTES as u32);
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn light(&mut self, io: &mut Io) -> Result<(), Violation> {
        while let Some(chain) = io.take(LIGHTS)? {
            let bytes: Option<[u8; EVENT_BYTES]> = chain.readable.read_array(io.memory);
            let [k0, k1, c0, c1, value @ ..] = bytes.ok_or(Violation::Request("an event"))?;
            let (kind, code) = (u16::from_le_bytes([k0, k1]), u16::from_le_bytes([c0, c1]));
            if kind == event::LIGHT
                && let Some(light) = self.lights.get_mut(usize::from(code))
            {
                *light = i32::from_le_bytes(value) != 0;
            }
            io.give_back(LIGHTS, chain.head, 0);
        }
        Ok(())
    }

    /// What the configuration shows of what is selected.
    fn payload(&self) -> Vec<u8> {
        match (self.select, self.subselect) {
            (select::NAME, 0) => match self.model {
                Model::Keyboard => b"Vitrine keyboard".to_vec(),
                Model::Tablet => b"Vitrine tablet".to_vec(),
            },
            (select::IDS, 0) => {
                let product = self.model as u16 + 1;
                [BUS_VIRTUAL, super::function::VENDOR, product, 1].map(u16::to_le_bytes).concat()
            }
            (select::PROPERTIES, 0) if self.model == Model::Tablet => bits(&[0]), // the pen is seen on a screen
            (select::EVENT_BITS, kind) => self.event_bits(kind.into()),
            (select::AXIS, 0 | 1) if self.model == Model::Tablet => {
                [0, u32::from(AXIS_MAX), 0, 0, 0].map(u32::to_le_bytes).concat()
            }
            _ => Vec::new(),
        }
    }

    fn event_bits(&self, kind: u16) -> Vec<u8> {
        match (self.model, kind) {
            (Model::Keyboard, event::KEY) => {
                let codes: Vec<u16> = Key::ALL.iter().map(|key| codes::of_key(*key)).collect();
                bits(&codes)
            }
            (Model::Keyboard, event::LIGHT) => bits(&event::LIGHTS),
            (Model::Tablet, event::KEY) => bits(&event::BUTTONS),
            (Model::Tablet, event::ABSOLUTE) => bits(&[event::X, event::Y]),
            (Model::Tablet, event::RELATIVE) => bits(&[event::WHEEL]),
            _ => Vec::new(),
        }
    }
}

/// A bitmap with these bits set.
fn bits(numbers: &[u16]) -> Vec<u8> {
    let last = numbers.iter().max().map_or(0, |last| usize::from(*last));
    let mut bitmap = vec![0; last / 8 + 1];
    numbers.iter().for_each(|number| bitmap[usize::from(*number) / 8] |= 1 << (number % 8));
    bitmap
}

impl Kind for Input {
    const IDENTITY: Identity = Identity { number: 18, class_code: 0x09_8000 };
    type State = State;

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![64, 64]
    }

    /// Select, subselect, size, five reserved, payload: §5.8.4.
    fn config(&self) -> Vec<u8> {
        let payload = self.payload();
        let mut config = vec![self.select, self.subselect, payload.len() as u8, 0, 0, 0, 0, 0];
        config.extend(payload);
        config.resize(8 + PAYLOAD_BYTES, 0);
        config
    }

    fn write_config(&mut self, offset: usize, value: &[u8]) {
        match (offset, value) {
            (0, [select]) => self.select = *select,
            (1, [subselect]) => self.subselect = *subselect,
            _ => {}
        }
    }

    fn notified(&mut self, queue: u16, io: &mut Io) -> Result<(), Violation> {
        if queue == EVENTS { self.deliver(io) } else { self.light(io) }
    }

    fn reset(&mut self) {
        *self = Input::new(self.model);
    }

    fn state(&self) -> State {
        State {
            model: self.model,
            select: self.select,
            subselect: self.subselect,
            waiting: self.waiting.iter().copied().collect(),
            lights: self.lights,
            buttons: self.buttons,
        }
    }

    fn set_state(&mut self, state: State) -> Result<(), &'static str> {
        if state.model != self.model || state.waiting.len() > WAITING_MAX_EVENTS {
            return Err("it is of another input device, or damaged");
        }
        let State { model, select, subselect, waiting, lights, buttons } = state;
        *self = Input { model, select, subselect, waiting: waiting.into(), lights, buttons };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Rig;
    use super::*;
    use crate::Width;
    use crate::line::{Line, Messages};
    use crate::memory::Memory;
    use crate::virtio::VirtioPci;

    fn events(rig: &mut Rig<Input>) -> Vec<(u16, u16, i32)> {
        let used = rig.queues[0].used();
        used.iter()
            .map(|(head, length)| {
                assert_eq!(*length, 8);
                let bytes = rig.queues[0].written(*head);
                let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
                (half(0), half(2), i32::from_le_bytes(bytes[4..8].try_into().unwrap()))
            })
            .collect()
    }

    fn select(rig: &mut Rig<Input>, select: u64, subselect: u64) -> Vec<u8> {
        rig.write(0x2000, Width::Byte, select);
        rig.write(0x2001, Width::Byte, subselect);
        let [size] = rig.config(2);
        rig.config::<128>(8)[..size.into()].to_vec()
    }

    #[test]
    fn keys_become_events() {
        let mut rig = Rig::start(Input::keyboard(), 0);
        for _ in 0..8 {
            rig.submit(0, &[], &[8]);
        }
        rig.device.with(|keyboard, io| {
            keyboard.key(Key::A, true, io)?;
            keyboard.key(Key::A, false, io)
        });
        assert_eq!(events(&mut rig), [(1, 30, 1), (0, 0, 0), (1, 30, 0), (0, 0, 0)]);
        assert_eq!(rig.vectors(), [1]);
        rig.submit(1, &[&[0x11, 0, 1, 0, 1, 0, 0, 0]], &[]);
        assert!(rig.device.kind().leds().caps_lock && !rig.device.kind().leds().num_lock);
    }

    #[test]
    fn the_tablet_says_where_it_is() {
        let mut rig = Rig::start(Input::tablet(), 0);
        for _ in 0..16 {
            rig.submit(0, &[], &[8]);
        }
        rig.device.with(|tablet, io| tablet.point(100, 0xFFFF, -1, 1, io));
        let expected = [(3, 0, 100), (3, 1, 0x7FFF), (1, 0x110, 1), (2, 8, 1), (0, 0, 0)];
        assert_eq!(events(&mut rig), expected);
        rig.device.with(|tablet, io| tablet.point(100, 5, 0, 0, io));
        assert_eq!(events(&mut rig), [(3, 0, 100), (3, 1, 5), (1, 0x110, 0), (0, 0, 0)]);
    }

    #[test]
    fn a_driver_learns_what_it_is() {
        let mut rig = Rig::start(Input::tablet(), 0);
        assert_eq!(select(&mut rig, 1, 0), b"Vitrine tablet");
        assert_eq!(select(&mut rig, 0x11, 3), [3]);
        assert_eq!(select(&mut rig, 0x12, 1)[4..8], [0xFF, 0x7F, 0, 0]);
        assert_eq!(select(&mut rig, 0x11, 1).len(), 0x112 / 8 + 1);
        assert!(select(&mut rig, 0x12, 2).is_empty() && select(&mut rig, 0xFF, 0xFF).is_empty());
        let mut rig = Rig::start(Input::keyboard(), 0);
        let keys = select(&mut rig, 0x11, 1);
        assert_eq!(keys[0], 0xFE, "codes 1 to 7");
        assert_eq!(select(&mut rig, 0x11, 0x11), [7]);
        assert_eq!(select(&mut rig, 3, 0), [6, 0, 0xF4, 0x1A, 1, 0, 1, 0]);
    }

    #[test]
    fn events_wait_up_to_a_bound_and_never_without_a_driver() {
        let mut rig = Rig::start(Input::keyboard(), 0);
        for _ in 0..1000 {
            rig.device.with(|keyboard, io| keyboard.key(Key::B, true, io));
        }
        assert_eq!(rig.device.kind().waiting.len(), 256);
        rig.write(20, Width::Byte, 0);
        rig.device.with(|keyboard, io| keyboard.key(Key::B, true, io));
        assert!(rig.device.kind().waiting.is_empty());
    }

    #[test]
    fn contract() {
        for model in [Model::Keyboard, Model::Tablet] {
            crate::contract::check(|| {
                let memory = Memory::new(1 << 20, 0).unwrap();
                let (line, messages) = (Line::unconnected(), Messages::unconnected());
                VirtioPci::new("input", Input::new(model), memory, line, messages)
            });
        }
    }
}
