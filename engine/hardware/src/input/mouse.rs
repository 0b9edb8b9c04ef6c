//! PS/2 mouse with wheel: the device at the far end of the 8042's second wire.
//!
//! IBM PS/2 Hardware Interface Technical Reference, "Mouse"; Microsoft, "IntelliMouse" for the
//! 4-byte packets: sampling rates 200, 100, 80 turn it into a wheel mouse (id 3), 200, 200, 80 into
//! one with five buttons (id 4). Left out: the resolution changes nothing (the host's counts pass as they are).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::clock::Nanoseconds;

/// Bytes that may wait for the controller.
pub const BUFFER_BYTES: usize = 16;
/// What one packet can carry.
const COUNTS: i32 = 255;
/// What may pile up while nobody reads.
const PILE: i32 = 4 * COUNTS;

const ACKNOWLEDGE: u8 = 0xFA;
const NOT_UNDERSTOOD: u8 = 0xFE;

/// Buttons, as bits.
pub mod button {
    /// Left.
    pub const LEFT: u8 = 1 << 0;
    /// Right.
    pub const RIGHT: u8 = 1 << 1;
    /// Middle, the wheel.
    pub const MIDDLE: u8 = 1 << 2;
    /// Fourth, "back".
    pub const BACK: u8 = 1 << 3;
    /// Fifth, "forward".
    pub const FORWARD: u8 = 1 << 4;
}

/// The mouse's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mouse {
    /// 0 plain, 3 with wheel, 4 with five buttons.
    id: u8,
    reporting: bool,
    remote: bool,
    wrap: bool,
    scaling_2_to_1: bool,
    resolution: u8,
    sample_rate: u8,
    /// The last three sampling rates asked for.
    knock: [u8; 3],
    command: Option<u8>,
    bytes: VecDeque<u8>,
    last_sent: Vec<u8>,
    dx: i32,
    /// Upwards, as in packets.
    dy: i32,
    /// Towards the hand, as in packets.
    dz: i32,
    buttons: u8,
    /// The buttons last reported.
    reported: u8,
    /// A packet is to be sent though nothing moved.
    nudged: bool,
    next_sample: Nanoseconds,
}

impl Default for Mouse {
    fn default() -> Mouse {
        Mouse {
            id: 0,
            reporting: false,
            remote: false,
            wrap: false,
            scaling_2_to_1: false,
            resolution: 2,
            sample_rate: 100,
            knock: [0; 3],
            command: None,
            bytes: VecDeque::new(),
            last_sent: Vec::new(),
            dx: 0,
            dy: 0,
            dz: 0,
            buttons: 0,
            reported: 0,
            nudged: false,
            next_sample: 0,
        }
    }
}

impl Mouse {
    /// A byte from the controller.
    pub fn receive(&mut self, byte: u8, now: Nanoseconds) {
        self.bytes.clear();
        if self.wrap && byte != 0xFF && byte != 0xEC {
            return self.answer(&[byte]);
        }
        match self.command.take() {
            Some(command) => self.parameter(command, byte),
            None => self.begin(byte, now),
        }
    }

    fn begin(&mut self, command: u8, now: Nanoseconds) {
        match command {
            0xE6 | 0xE7 => self.scaling_2_to_1 = command == 0xE7,
            0xE8 | 0xF3 => self.command = Some(command),
            0xE9 => return self.answer(&self.status()),
            0xEA => {
                self.remote = false;
                self.forget_motion();
            }
            0xEB => {
                let packet = self.packet();
                return self.answer(&[&[ACKNOWLEDGE][..], &packet].concat());
            }
            0xEC => self.wrap = false,
            0xEE => self.wrap = true,
            0xF0 => {
                self.remote = true;
                self.forget_motion();
            }
            0xF2 => return self.answer(&[ACKNOWLEDGE, self.id]),
            0xF4 => {
                self.reporting = true;
                self.forget_motion();
                self.next_sample = now;
            }
            0xF5 => self.reporting = false,
            0xF6 => self.set_defaults(),
            0xFE => return self.bytes.extend(&self.last_sent),
            0xFF => {
                self.set_defaults();
                self.id = 0;
                return self.answer(&[ACKNOWLEDGE, 0xAA, 0x00]);
            }
            _ => return self.answer(&[NOT_UNDERSTOOD]),
        }
        self.answer(&[ACKNOWLEDGE]);
    }

    fn parameter(&mut self, command: u8, value: u8) {
        match (command, value) {
            (0xE8, 0..=3) => self.resolution = value,
            (0xF3, 1..=200) => self.set_sample_rate(value),
            _ => return self.answer(&[NOT_UNDERSTOOD]),
        }
        self.answer(&[ACKNOWLEDGE]);
    }

    fn set_sample_rate(&mut self, rate: u8) {
        self.sample_rate = rate;
        self.knock = [self.knock[1], self.knock[2], rate];
        match self.knock {
            [200, 100, 80] => self.id = 3,
            [200, 200, 80] => self.id = 4,
            _ => {}
        }
    }

    fn set_defaults(&mut self) {
        let Mouse { id, buttons, .. } = *self;
        *self = Mouse { id, buttons, reported: buttons, ..Mouse::default() };
    }

    fn forget_motion(&mut self) {
        self.nudged = false;
        (self.dx, self.dy, self.dz) = (0, 0, 0);
        self.reported = self.buttons;
    }

    fn status(&self) -> [u8; 4] {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let down = |button: u8, bit: u8| flag(self.buttons & button != 0, bit);
        let first = down(button::RIGHT, 0x01)
            | down(button::MIDDLE, 0x02)
            | down(button::LEFT, 0x04)
            | flag(self.scaling_2_to_1, 0x10)
            | flag(self.reporting, 0x20)
            | flag(self.remote, 0x40);
        [ACKNOWLEDGE, first, self.resolution, self.sample_rate]
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.last_sent = bytes.to_vec();
    }

    /// Takes what moved since the last packet, and gives the packet.
    fn packet(&mut self) -> Vec<u8> {
        let (dx, dy) = (take(&mut self.dx, COUNTS), take(&mut self.dy, COUNTS));
        let scale = self.scaling_2_to_1 && !self.remote;
        let (dx, dy) = if scale { (scaled(dx), scaled(dy)) } else { (dx, dy) };
        let sign = |value: i32, bit: u8| if value < 0 { bit } else { 0 };
        let mut packet =
            vec![self.buttons & 0x07 | 0x08 | sign(dx, 0x10) | sign(dy, 0x20), dx as u8, dy as u8];
        match self.id {
            3 => packet.push(take(&mut self.dz, 7) as u8),
            4 => packet.push(take(&mut self.dz, 7) as u8 & 0x0F | (self.buttons >> 3 & 3) << 4),
            _ => self.dz = 0,
        }
        self.reported = self.buttons;
        self.nudged = false;
        packet
    }

    /// Something to report.
    fn has_news(&self) -> bool {
        let buttons = if self.id == 4 { 0x1F } else { 0x07 };
        let wheel = self.id != 0 && self.dz != 0;
        self.nudged || self.dx != 0 || self.dy != 0 || wheel || (self.buttons ^ self.reported) & buttons != 0
    }

    /// The host moved it: `dx` to the right, `dy` downwards, `wheel` towards the hand (down); `buttons`
    /// are those of [`button`] that are down.
    pub fn moved(&mut self, dx: i32, dy: i32, wheel: i32, buttons: u8, now: Nanoseconds) {
        // A click shorter than a sample is not lost: what was pending goes out first.
        if buttons != self.buttons && self.buttons != self.reported {
            self.report();
        }
        let pile = |old: i32, new: i32| old.saturating_add(new).clamp(-PILE, PILE);
        self.dx = pile(self.dx, dx);
        self.dy = pile(self.dy, dy.saturating_neg());
        self.dz = pile(self.dz, wheel);
        self.buttons = buttons & 0x1F;
        self.advance(now);
    }

    /// Has it send a packet though nothing moved: another device has news for the same driver.
    pub fn nudge(&mut self, now: Nanoseconds) {
        self.nudged = self.streams();
        self.advance(now);
    }

    fn streams(&self) -> bool {
        self.reporting && !self.remote && !self.wrap && self.command.is_none()
    }

    /// Queues a packet, whole, if there is room.
    fn report(&mut self) -> bool {
        let fits = self.bytes.len() + 4 <= BUFFER_BYTES;
        if self.streams() && fits && self.has_news() {
            let packet = self.packet();
            self.bytes.extend(&packet);
            self.last_sent = packet;
            return true;
        }
        false
    }

    /// Reports what moved, when it is time for a sample.
    pub fn advance(&mut self, now: Nanoseconds) {
        if now >= self.next_sample && self.report() {
            self.next_sample = now.saturating_add(self.sample_ns());
        }
    }

    fn sample_ns(&self) -> u64 {
        1_000_000_000 / u64::from(self.sample_rate.max(1))
    }

    /// When the next sample is due, if there is something to report and room for it.
    pub fn next_deadline(&self) -> Option<Nanoseconds> {
        let fits = self.bytes.len() + 4 <= BUFFER_BYTES;
        (self.streams() && fits && self.has_news()).then_some(self.next_sample)
    }

    /// Whether the guest listens to it.
    pub fn is_reporting(&self) -> bool {
        self.reporting
    }

    /// Whether a byte waits to be sent.
    pub fn has_byte(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Sends a byte to the controller.
    pub fn send(&mut self) -> Option<u8> {
        self.bytes.pop_front()
    }

    /// Whether a saved state can be a mouse's.
    pub fn is_sound(&self) -> bool {
        matches!(self.id, 0 | 3 | 4)
            && self.bytes.len() <= BUFFER_BYTES
            && self.last_sent.len() <= 8
            && [self.dx, self.dy, self.dz].iter().all(|counts| (-PILE..=PILE).contains(counts))
    }
}

/// Takes at most `limit` off `counts`, towards zero.
fn take(counts: &mut i32, limit: i32) -> i32 {
    let taken = (*counts).clamp(-limit, limit);
    *counts -= taken;
    taken
}

/// Scaling 2:1 of the technical reference.
fn scaled(counts: i32) -> i32 {
    let size = match counts.abs() {
        0 => 0,
        1 | 2 => 1,
        3 => 3,
        4 => 6,
        5 => 9,
        more => (2 * more).min(COUNTS),
    };
    size * counts.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mouse: &mut Mouse, bytes: &[u8]) -> Vec<u8> {
        bytes
            .iter()
            .flat_map(|byte| {
                mouse.receive(*byte, 0);
                drain(mouse)
            })
            .collect()
    }

    fn drain(mouse: &mut Mouse) -> Vec<u8> {
        std::iter::from_fn(|| mouse.send()).collect()
    }

    #[test]
    fn it_introduces_itself() {
        let mut mouse = Mouse::default();
        assert_eq!(told(&mut mouse, &[0xFF]), [0xFA, 0xAA, 0x00]);
        assert_eq!(told(&mut mouse, &[0xF2]), [0xFA, 0x00]);
        assert_eq!(told(&mut mouse, &[0xE9]), [0xFA, 0x00, 0x02, 100]);
        assert_eq!(
            told(&mut mouse, &[0xE8, 0x03, 0xE7, 0xF4, 0xE9]),
            [0xFA, 0xFA, 0xFA, 0xFA, 0xFA, 0x30, 3, 100]
        );
        assert_eq!(told(&mut mouse, &[0xE8, 0x04]), [0xFA, 0xFE]);
        assert_eq!(told(&mut mouse, &[0x55]), [0xFE]);
    }

    #[test]
    fn a_knock_of_sampling_rates_shows_the_wheel() {
        let mut mouse = Mouse::default();
        told(&mut mouse, &[0xF3, 200, 0xF3, 100, 0xF3, 80]);
        assert_eq!(told(&mut mouse, &[0xF2]), [0xFA, 3]);
        told(&mut mouse, &[0xF3, 200, 0xF3, 200, 0xF3, 80]);
        assert_eq!(told(&mut mouse, &[0xF2]), [0xFA, 4]);
        told(&mut mouse, &[0xF4]);
        mouse.moved(0, 0, 1, button::BACK, 0);
        assert_eq!(drain(&mut mouse), [0x08, 0, 0, 0x11]);
    }

    #[test]
    fn packets_carry_nine_bit_motion() {
        let mut mouse = Mouse::default();
        told(&mut mouse, &[0xF4]);
        mouse.moved(-3, 5, 0, button::LEFT | button::MIDDLE, 0);
        // dx -3, dy -5 (downwards), left and middle.
        assert_eq!(drain(&mut mouse), [0x3D, 0xFD, 0xFB]);
        mouse.moved(300, 0, 0, 0, 0);
        assert_eq!(drain(&mut mouse), [], "not before the next sample");
        assert_eq!(mouse.next_deadline(), Some(10_000_000));
        mouse.advance(10_000_000);
        assert_eq!(drain(&mut mouse), [0x08, 255, 0]);
        mouse.advance(20_000_000);
        assert_eq!(drain(&mut mouse), [0x08, 45, 0]);
        assert_eq!(mouse.next_deadline(), None);
    }

    #[test]
    fn a_short_click_is_not_lost() {
        let mut mouse = Mouse::default();
        told(&mut mouse, &[0xF4]);
        mouse.moved(1, 0, 0, 0, 0);
        mouse.moved(0, 0, 0, button::LEFT, 1000);
        mouse.moved(0, 0, 0, 0, 2000);
        mouse.advance(10_000_000);
        assert_eq!(drain(&mut mouse), [0x08, 1, 0, 0x09, 0, 0, 0x08, 0, 0]);
    }

    #[test]
    fn a_nudge_is_a_packet_in_which_nothing_moved() {
        let mut mouse = Mouse::default();
        mouse.nudge(0);
        told(&mut mouse, &[0xF4]);
        assert_eq!(drain(&mut mouse), [], "nobody listened");
        mouse.nudge(0);
        mouse.nudge(1);
        assert_eq!((drain(&mut mouse), mouse.next_deadline()), (vec![0x08, 0, 0], Some(10_000_000)));
        mouse.advance(10_000_000);
        assert_eq!((drain(&mut mouse), mouse.next_deadline()), (vec![0x08, 0, 0], None));
    }

    #[test]
    fn remote_mode_reports_when_asked() {
        let mut mouse = Mouse::default();
        told(&mut mouse, &[0xF0, 0xF4]);
        mouse.moved(2, -2, 0, 0, 0);
        assert_eq!(drain(&mut mouse), []);
        assert_eq!(told(&mut mouse, &[0xEB]), [0xFA, 0x08, 2, 2]);
    }

    #[test]
    fn wrap_mode_echoes() {
        let mut mouse = Mouse::default();
        assert_eq!(told(&mut mouse, &[0xEE, 0x12, 0xF4, 0xEC]), [0xFA, 0x12, 0xF4, 0xFA]);
        assert!(!mouse.is_reporting());
    }

    #[test]
    fn motion_nobody_reads_is_bounded() {
        let mut mouse = Mouse::default();
        told(&mut mouse, &[0xF4]);
        for n in 0..1000 {
            mouse.moved(i32::MAX, i32::MIN, i32::MIN, 0, n * 10_000_000);
        }
        assert!(mouse.is_sound());
        assert_eq!(mouse.next_deadline(), None, "no room: nothing to wait for");
    }

    #[test]
    fn scaling_is_the_references_table() {
        assert_eq!([1, 2, 3, 4, 5, 6, -5, 200].map(scaled), [1, 1, 3, 6, 9, 12, -9, 255]);
    }
}
