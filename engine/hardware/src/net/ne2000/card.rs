//! What both cards are behind their connectors: the chip, its 32 ports, its cable.

use std::sync::Arc;

use network::{Link, Mac};

use super::dp8390::Chip;
use crate::access::Width;
use crate::alarm::Alarm;
use crate::clock::Clock;

/// Ports of a card.
pub const PORTS: u64 = 32;
/// The data port and the reset port; each fills what is above it.
const DATA: u64 = 0x10;
const RESET: u64 = 0x18;

/// A card without its connector.
pub struct Card {
    pub chip: Chip,
    link: Arc<dyn Link>,
    clock: Clock,
    alarm: Alarm,
    /// Room for the frame that is being received.
    frame: Vec<u8>,
}

impl Card {
    /// A card with the address `mac`, at the end of `link`. `alarm` must lead to [`Card::move_frames`].
    pub fn new(mac: Mac, link: Arc<dyn Link>, clock: Clock, alarm: Alarm) -> Card {
        let (caller, time) = (alarm.clone(), clock.clone());
        // While guest time stands still nothing is due, so nothing is received.
        link.set_waker(Arc::new(move || caller.set(Some(time.now() + 1))));
        Card { chip: Chip::new(mac), link, clock, alarm, frame: Vec::new() }
    }

    /// Reads a port.
    pub fn read(&mut self, port: u64, width: Width) -> u64 {
        match port {
            DATA..RESET => self.chip.read_data(width.bytes()),
            RESET.. => {
                self.chip.reset();
                0
            }
            _ => (0..width.bytes()).fold(0, |value, n| {
                let register = (port + n) as u8 & 0xF;
                value | u64::from(self.chip.read(register)) << (8 * n)
            }),
        }
    }

    /// Writes one.
    pub fn write(&mut self, port: u64, width: Width, value: u64) {
        match port {
            DATA..RESET => self.chip.write_data(width.bytes(), value),
            RESET.. => {}
            _ => {
                for (n, byte) in (0..width.bytes()).zip(value.to_le_bytes()) {
                    self.chip.write((port + n) as u8 & 0xF, byte);
                }
                self.move_frames();
            }
        }
    }

    /// Has frames move when time does: after a load, other devices may not be in place yet.
    pub fn move_frames_later(&self) {
        self.alarm.set(Some(self.clock.now() + 1));
    }

    /// Moves frames both ways, as far as there is room, and sets the next deadline.
    pub fn move_frames(&mut self) {
        // First: a frame that comes meanwhile sets the alarm again.
        self.alarm.set(None);
        self.chip.transmit(&*self.link);
        self.chip.receive(&*self.link, &mut self.frame);
        if self.chip.has_room() && self.link.has_frame() {
            self.alarm.set(Some(self.clock.now() + 1));
        }
    }
}
