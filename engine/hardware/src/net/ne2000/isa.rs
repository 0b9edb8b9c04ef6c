//! The ISA card: 16 bits wide, its jumpers at port 0x300 and interrupt request 3.

use std::sync::Arc;

use network::{Link, Mac};

use super::card::{Card, PORTS};
use super::dp8390::Chip;
use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::{Bus, WindowSpec};
use crate::clock::Clock;
use crate::device::{Device, LoadError, Shared, decode, encode, shared};
use crate::layout::port;
use crate::line::Line;

const NAME: &str = "ne2000";

/// The card.
pub struct Ne2000 {
    card: Card,
    line: Line,
}

impl Ne2000 {
    /// A card with the address `mac`, at the end of `link`. `alarm` must lead to its [`Device::advance`].
    pub fn new(mac: Mac, link: Arc<dyn Link>, clock: Clock, alarm: Alarm, line: Line) -> Ne2000 {
        Ne2000 { card: Card::new(mac, link, clock, alarm), line }
    }

    /// Puts it on `bus`.
    pub fn install(self, bus: &Arc<Bus>) -> Shared<Ne2000> {
        let card = shared(self);
        bus.add(&card, 0, WindowSpec::ports(PORTS).widths(Width::Byte, Width::Word), Some(port::NE2000));
        card
    }

    fn settle(&self) {
        self.line.set(self.card.chip.interrupts());
    }
}

impl Device for Ne2000 {
    fn name(&self) -> &str {
        NAME
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        let value = self.card.read(at.offset, width);
        self.settle();
        value & width.ones()
    }

    fn write(&mut self, at: At, width: Width, value: u64) {
        self.card.write(at.offset, width, value);
        // What is still, or again, to be told after an acknowledgement is a new edge for the 8259.
        self.line.set(false);
        self.settle();
    }

    fn reset(&mut self) {
        self.card.chip = Chip::new(self.card.chip.mac());
        self.advance();
    }

    fn advance(&mut self) {
        self.card.move_frames();
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.card.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let chip: Chip = decode(NAME, state)?;
        chip.check(NAME)?;
        self.card.chip = chip;
        self.card.move_frames_later();
        self.settle();
        Ok(())
    }
}
