//! VMware's absolute pointer: a port that sees EAX, EBX, ECX and EDX, through which a driver fetches where the pointer is.
//!
//! Port 0x5658; no line of its own: the PS/2 mouse sends an empty packet when there is something to fetch. VMware
//! publishes no datasheet; sources are its own free driver (xf86-input-vmmouse, `shared/vmmouse_defs.h` and
//! `vmmouse_proto.c`) and its open-vm-tools (`backdoor_def.h`). Left out: every call that is not the pointer's, and
//! RESTRICT (who may use ports is the CPU's matter: IOPL and the I/O bitmap hold here too). See `input.md`.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::mouse::button;
use crate::access::{At, Width};
use crate::bus::{Bus, WindowSpec};
use crate::device::{Calls, Device, LoadError, Shared, decode, encode, shared};
use crate::layout::port;

const NAME: &str = "vmware";
/// Coordinates run from 0 to this, whatever the screen's size.
pub const AXIS_MAX: u16 = 0xFFFF;

/// In EAX, or nobody answers.
const MAGIC: u32 = 0x564D_5868;
/// What an unknown call and an impossible one answer.
const REFUSED: u32 = u32::MAX;
/// Version of the calls, and the product (workstation), as VMware's own answer.
const VERSION: u32 = 6;
const PRODUCT: u32 = 4;
/// First word in the queue of a pointer that was enabled.
const POINTER_VERSION: u32 = 0x3442_554A;

/// Calls, in CX.
mod call {
    pub const VERSION: u16 = 10;
    pub const POINTER_DATA: u16 = 39;
    pub const POINTER_STATUS: u16 = 40;
    pub const POINTER_COMMAND: u16 = 41;
}

/// Commands, in EBX.
mod command {
    pub const ENABLE: u32 = 0x4541_4552;
    pub const DISABLE: u32 = 0x0000_00F5;
    pub const RELATIVE: u32 = 0x4C45_5252;
    pub const ABSOLUTE: u32 = 0x5342_4152;
}

/// Status in its upper half: the pointer is off, or was asked for words it does not have.
const OFF: u32 = 0xFFFF_0000;

/// First word of a packet.
mod packet {
    pub const LEFT: u32 = 0x20;
    pub const RIGHT: u32 = 0x10;
    pub const MIDDLE: u32 = 0x08;
    pub const RELATIVE: u32 = 0x0001_0000;
}

/// Buttons and kind, x, y, wheel.
const PACKET_WORDS: usize = 4;
/// Words that wait for a slow driver; then whole packets are lost.
const QUEUE_WORDS: usize = 256 * PACKET_WORDS;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    enabled: bool,
    absolute: bool,
    queue: VecDeque<u32>,
}

/// The device.
#[derive(Default)]
pub struct VmwarePointer {
    state: State,
}

impl VmwarePointer {
    /// Puts one on `bus`.
    pub fn install(bus: &Arc<Bus>) -> Shared<VmwarePointer> {
        let pointer = shared(VmwarePointer::default());
        let spec = WindowSpec::ports(4).widths(Width::Byte, Width::Dword);
        bus.add(&pointer, 0, spec, Some(port::VMWARE));
        pointer
    }

    /// Whether the guest wants to hear where the pointer is.
    pub fn is_absolute(&self) -> bool {
        self.state.enabled && self.state.absolute
    }

    /// The pointer is at (x, y), each 0 to [`AXIS_MAX`]; the wheel turned `wheel` steps towards the hand; `buttons`
    /// ([`button`]) are down. Says whether the PS/2 mouse is to tell the guest.
    pub fn point(&mut self, x: u16, y: u16, wheel: i32, buttons: u8) -> bool {
        self.is_absolute() && self.put(buttons_word(buttons), x.into(), y.into(), wheel)
    }

    /// The mouse moved `dx` to the right and `dy` down. Says whether the PS/2 mouse is to tell the guest, and nothing else.
    pub fn moved(&mut self, dx: i32, dy: i32, wheel: i32, buttons: u8) -> bool {
        let first = buttons_word(buttons) | packet::RELATIVE;
        self.state.enabled && self.put(first, dx as u32, dy.saturating_neg() as u32, wheel)
    }

    fn put(&mut self, first: u32, x: u32, y: u32, wheel: i32) -> bool {
        let queue = &mut self.state.queue;
        if queue.len() + PACKET_WORDS <= QUEUE_WORDS {
            queue.extend([first, x, y, wheel as u32]);
        }
        true
    }

    fn status(&self) -> u32 {
        if self.state.enabled { self.state.queue.len() as u32 } else { OFF }
    }

    fn command(&mut self, command: u32) {
        match command {
            command::ENABLE => {
                self.state = State { enabled: true, absolute: false, queue: [POINTER_VERSION].into() };
            }
            command::DISABLE => self.state = State::default(),
            command::RELATIVE | command::ABSOLUTE => self.state.absolute = command == command::ABSOLUTE,
            _ => {}
        }
    }

    /// The next words, as many as EBX says.
    fn fetch(&mut self, registers: &mut [u32; 4]) {
        let count = registers[1] as usize;
        if !self.state.enabled || !(1..=registers.len()).contains(&count) || count > self.state.queue.len() {
            // A driver that lost its place in the queue begins anew.
            self.state = State::default();
            registers[0] = REFUSED;
            return;
        }
        for (register, word) in registers.iter_mut().zip(self.state.queue.drain(..count)) {
            *register = word;
        }
    }
}

fn buttons_word(buttons: u8) -> u32 {
    [(button::LEFT, packet::LEFT), (button::RIGHT, packet::RIGHT), (button::MIDDLE, packet::MIDDLE)]
        .into_iter()
        .filter(|(button, _)| buttons & button != 0)
        .fold(0, |word, (_, flag)| word | flag)
}

impl Calls for VmwarePointer {
    fn call(&mut self, registers: &mut [u32; 4]) {
        let [eax, ebx, ecx, _] = *registers;
        if eax != MAGIC {
            registers[0] = REFUSED;
            return;
        }
        match ecx as u16 {
            call::VERSION => (registers[0], registers[1], registers[2]) = (VERSION, MAGIC, PRODUCT),
            call::POINTER_DATA => self.fetch(registers),
            call::POINTER_STATUS => registers[0] = self.status(),
            call::POINTER_COMMAND => self.command(ebx),
            _ => registers[0] = REFUSED,
        }
    }
}

impl Device for VmwarePointer {
    fn name(&self) -> &str {
        NAME
    }

    /// A read that sees no registers, or is not of 32 bits: nobody.
    fn read(&mut self, _at: At, width: Width) -> u64 {
        width.ones()
    }

    fn write(&mut self, _at: At, _width: Width, _value: u64) {}

    fn calls(&mut self) -> Option<&mut dyn Calls> {
        Some(self)
    }

    fn reset(&mut self) {
        self.state = State::default();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.state)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let state: State = decode(NAME, state)?;
        if state.queue.len() > QUEUE_WORDS {
            let reason = "more waits than there is room for".to_owned();
            return Err(LoadError { device: NAME.to_owned(), reason });
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a driver does: EBX and the call; gives EAX to EDX.
    fn asks(bus: &Bus, ebx: u32, call: u16) -> [u32; 4] {
        let mut registers = [MAGIC, ebx, call.into(), port::VMWARE as u32];
        assert!(bus.call(port::VMWARE, &mut registers).is_some());
        registers
    }

    fn enabled() -> (Arc<Bus>, Shared<VmwarePointer>) {
        let bus = Bus::new();
        let pointer = VmwarePointer::install(&bus);
        asks(&bus, command::ENABLE, call::POINTER_COMMAND);
        assert_eq!(asks(&bus, 0, call::POINTER_STATUS)[0], 1);
        assert_eq!(asks(&bus, 1, call::POINTER_DATA)[0], POINTER_VERSION);
        asks(&bus, command::ABSOLUTE, call::POINTER_COMMAND);
        (bus, pointer)
    }

    #[test]
    fn a_driver_finds_it_and_hears_where_the_pointer_is() {
        let (bus, pointer) = enabled();
        assert_eq!(asks(&bus, !MAGIC, call::VERSION)[..2], [VERSION, MAGIC]);
        assert!(pointer.lock().point(0x1234, 0xFFFF, 1, button::LEFT | button::MIDDLE));
        assert_eq!(asks(&bus, 0, call::POINTER_STATUS)[0], 4);
        assert_eq!(asks(&bus, 4, call::POINTER_DATA), [0x28, 0x1234, 0xFFFF, 1]);
        assert_eq!(asks(&bus, 0, call::POINTER_STATUS)[0], 0);
        assert!(pointer.lock().moved(-2, 3, 0, 0));
        assert_eq!(asks(&bus, 4, call::POINTER_DATA), [packet::RELATIVE, -2_i32 as u32, -3_i32 as u32, 0]);
    }

    #[test]
    fn it_is_silent_until_it_is_enabled_and_after_it_was_disabled() {
        let (bus, pointer) = enabled();
        asks(&bus, command::RELATIVE, call::POINTER_COMMAND);
        assert!(!pointer.lock().point(1, 1, 0, 0) && pointer.lock().moved(1, 1, 0, 0));
        asks(&bus, command::DISABLE, call::POINTER_COMMAND);
        assert!(!pointer.lock().moved(1, 1, 0, 0));
        assert_eq!(asks(&bus, 0, call::POINTER_STATUS)[0], OFF);
        assert_eq!(asks(&bus, 4, call::POINTER_DATA)[0], REFUSED);
    }

    #[test]
    fn who_does_not_know_the_word_or_asks_too_much_is_refused() {
        let (bus, pointer) = enabled();
        let mut registers = [0, 1, 2, 3];
        assert!(bus.call(port::VMWARE, &mut registers).is_some());
        assert_eq!(registers, [REFUSED, 1, 2, 3]);
        assert_eq!(asks(&bus, 0, 1)[0], REFUSED, "no such call");
        for count in [5, 0, u32::MAX] {
            asks(&bus, command::ENABLE, call::POINTER_COMMAND);
            asks(&bus, command::ABSOLUTE, call::POINTER_COMMAND);
            pointer.lock().point(1, 1, 0, 0);
            assert_eq!(asks(&bus, count, call::POINTER_DATA)[0], REFUSED);
            assert_eq!(asks(&bus, 0, call::POINTER_STATUS)[0], OFF, "it begins anew");
        }
        assert_eq!(bus.read(crate::Space::Port, port::VMWARE, Width::Dword, 0), 0xFFFF_FFFF);
    }

    #[test]
    fn what_nobody_fetches_is_bounded() {
        let (bus, pointer) = enabled();
        for n in 0..1000 {
            assert!(pointer.lock().point(n, 0, 0, 0));
        }
        assert_eq!(asks(&bus, 0, call::POINTER_STATUS)[0], 1024);
        assert_eq!(asks(&bus, 4, call::POINTER_DATA)[1], 0, "the oldest first");
    }

    #[test]
    fn calls_in_any_order_keep_its_bounds() {
        let (bus, pointer) = enabled();
        let commands =
            [command::ENABLE, command::DISABLE, command::RELATIVE, command::ABSOLUTE, 0, 1, 2, 4, 9];
        let mut number = 1_u64;
        let mut below = |end: usize| {
            number = number.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (number >> 33) as usize % end
        };
        for _ in 0..100_000 {
            let (ebx, call) = (commands[below(commands.len())], [10, 39, 39, 40, 41, 41, 86, 99][below(8)]);
            asks(&bus, ebx, call);
            let mut pointer = pointer.lock();
            for _ in 0..below(4) {
                pointer.point(1, 2, 3, 4);
                pointer.moved(i32::MIN, i32::MIN, i32::MIN, 0xFF);
            }
            assert!(pointer.state.queue.len() <= QUEUE_WORDS);
        }
    }

    #[test]
    fn contract() {
        crate::contract::check(VmwarePointer::default);
        let (bus, pointer) = enabled();
        pointer.lock().point(7, 8, 0, 0);
        let saved = pointer.lock().save();
        pointer.lock().reset();
        pointer.lock().load(&saved).unwrap();
        assert_eq!(asks(&bus, 4, call::POINTER_DATA), [0, 7, 8, 0]);
    }
}
