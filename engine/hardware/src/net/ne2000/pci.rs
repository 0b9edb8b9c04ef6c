//! The PCI card: Realtek RTL8029AS, 10EC:8029, the same chip and ports at base address register 0.

use std::sync::Arc;

use network::{Link, Mac};
use serde::{Deserialize, Serialize};

use super::card::{Card, PORTS};
use super::dp8390::Chip;
use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::{Bus, WindowSpec};
use crate::clock::Clock;
use crate::device::{Device, LoadError, Shared, decode, encode};
use crate::line::Line;
use crate::pci::{BarWindows, ConfigSpace, Function};

const NAME: &str = "rtl8029";
const BAR: usize = 0;

#[derive(Serialize, Deserialize)]
struct State {
    config: ConfigSpace,
    chip: Chip,
}

/// The card.
pub struct Rtl8029 {
    config: ConfigSpace,
    card: Card,
    line: Line,
    windows: BarWindows,
}

fn config_at_reset() -> ConfigSpace {
    let mut config = ConfigSpace::new(0x10EC, 0x8029, 0x02_0000, 0)
        .subsystem(0x10EC, 0x8029)
        .interrupt_pin(1)
        .bar_io(BAR, PORTS as u32);
    config.set_word(0x06, 0x0200); // medium DEVSEL#
    config
}

impl Rtl8029 {
    /// A card with the address `mac`, at the end of `link`. `alarm` must lead to its [`Device::advance`].
    pub fn new(mac: Mac, link: Arc<dyn Link>, clock: Clock, alarm: Alarm, line: Line) -> Rtl8029 {
        let card = Card::new(mac, link, clock, alarm);
        Rtl8029 { config: config_at_reset(), card, line, windows: BarWindows::unconnected() }
    }

    /// Puts its ports on `bus`. Its PCI function goes to the root by `Root::attach`.
    pub fn connect(card: &Shared<Rtl8029>, bus: &Arc<Bus>) {
        let window = bus.add(card, 0, WindowSpec::ports(PORTS).widths(Width::Byte, Width::Dword), None);
        let mut windows = BarWindows::new(bus.clone());
        windows.add(BAR, 0, window);
        let mut locked = card.lock();
        windows.follow(&locked.config);
        locked.windows = windows;
    }

    fn settle(&self) {
        self.line.set(self.card.chip.interrupts() && !self.config.interrupts_disabled());
    }
}

impl Device for Rtl8029 {
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
        self.settle();
    }

    fn reset(&mut self) {
        self.config = config_at_reset();
        self.card.chip = Chip::new(self.card.chip.mac());
        self.windows.follow(&self.config);
        self.advance();
    }

    fn advance(&mut self) {
        self.card.move_frames();
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&State { config: self.config.clone(), chip: self.card.chip.clone() })
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let State { config, chip } = decode(NAME, state)?;
        chip.check(NAME)?;
        if !config.same_shape(&self.config) {
            let reason = "it is of another card".to_owned();
            return Err(LoadError { device: NAME.to_owned(), reason });
        }
        (self.config, self.card.chip) = (config, chip);
        self.windows.follow(&self.config);
        self.card.move_frames_later();
        self.settle();
        Ok(())
    }
}

impl Function for Rtl8029 {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        self.config.write(offset, width, value);
        self.windows.follow(&self.config);
        self.settle();
    }
}
