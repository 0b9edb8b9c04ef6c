//! The card in its slot: PCI, windows, interrupt line, cable.

use std::sync::Arc;

use network::{Link, Mac};
use serde::{Deserialize, Serialize};

use super::chip::Chip;
use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::{Bus, WindowSpec};
use crate::clock::Clock;
use crate::device::{Device, LoadError, Shared, decode, encode};
use crate::line::Line;
use crate::memory::Memory;
use crate::pci::{BarWindows, ConfigSpace, Function};

/// Base address registers, SDM table 4-2, and their windows.
const MEMORY_BAR: usize = 0;
const MEMORY_BYTES: u32 = 128 << 10;
const IO_BAR: usize = 2;
const IO_BYTES: u32 = 8;
/// Window numbers.
mod window {
    pub const MEMORY: u8 = 0;
    pub const IO: u8 = 1;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    config: ConfigSpace,
    chip: Chip,
}

/// The card.
pub struct E1000 {
    name: String,
    state: State,
    link: Arc<dyn Link>,
    memory: Arc<Memory>,
    clock: Clock,
    alarm: Alarm,
    line: Line,
    windows: BarWindows,
    /// Room for the frame that is being received.
    frame: Vec<u8>,
}

fn config_at_reset() -> ConfigSpace {
    let mut config = ConfigSpace::new(0x8086, 0x100E, 0x02_0000, 2)
        .subsystem(0x8086, 0x001E)
        .interrupt_pin(1)
        .bar_memory(MEMORY_BAR, MEMORY_BYTES, false)
        .bar_io(IO_BAR, IO_BYTES);
    config.set_word(0x06, 0x0230); // 66 MHz, medium DEVSEL#
    config.set_byte(0x3E, 0xFF); // minimum grant
    config
}

impl E1000 {
    /// A card called `name` with the address `mac`, at the end of `link`. Its memory is what its DMA reaches.
    pub fn new(
        name: &str,
        mac: Mac,
        link: Arc<dyn Link>,
        memory: Arc<Memory>,
        clock: Clock,
        alarm: Alarm,
        line: Line,
    ) -> E1000 {
        let chip = Chip::new(mac, link.is_up());
        let (caller, time) = (alarm.clone(), clock.clone());
        // While guest time stands still nothing is due, so nothing is received.
        link.set_waker(Arc::new(move || caller.set(Some(time.now() + 1))));
        E1000 {
            name: name.to_owned(),
            state: State { config: config_at_reset(), chip },
            link,
            memory,
            clock,
            alarm,
            line,
            windows: BarWindows::unconnected(),
            frame: Vec::new(),
        }
    }

    /// Puts the card's windows on the bus. Its PCI function goes to the root by `Root::attach`.
    pub fn connect(card: &Shared<E1000>, bus: &Arc<Bus>) {
        let registers = WindowSpec::memory(MEMORY_BYTES.into(), Width::Dword);
        let memory = bus.add(card, window::MEMORY, registers.widths(Width::Dword, Width::Dword), None);
        let ports = WindowSpec::ports(IO_BYTES.into()).widths(Width::Dword, Width::Dword);
        let io = bus.add(card, window::IO, ports, None);
        let mut windows = BarWindows::new(bus.clone());
        windows.add(MEMORY_BAR, 0, memory);
        windows.add(IO_BAR, 0, io);
        let mut device = card.lock();
        windows.follow(&device.state.config);
        device.windows = windows;
    }

    /// Moves frames both ways and derives the interrupt line and the next deadline.
    fn settle(&mut self) {
        let State { config, chip } = &mut self.state;
        chip.set_link(self.link.is_up());
        let mut more = false;
        if config.bus_master() {
            more |= chip.transmit(&*self.link, &self.memory);
            more |= chip.receive(&*self.link, &self.memory, &mut self.frame);
        }
        self.derive(more);
        // A frame that came meanwhile may have set the alarm that was just replaced.
        let State { config, chip } = &self.state;
        if !more && config.bus_master() && chip.receive_ring.available() > 0 && self.link.has_frame() {
            self.alarm.set(Some(self.clock.now() + 1));
        }
    }

    /// The line and the alarm, which is due at once if there is more to do.
    fn derive(&mut self, more: bool) {
        let State { config, chip } = &mut self.state;
        let now = self.clock.now();
        let (interrupt, held_until) = chip.interrupt(now);
        self.line.set(interrupt && !config.interrupts_disabled());
        self.alarm.set(if more { Some(now + 1) } else { held_until });
    }
}

impl Device for E1000 {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        let value = match at.window {
            window::MEMORY => self.state.chip.read(at.offset & !3),
            window::IO => self.state.chip.read_io(at.offset & !3),
            _ => u32::MAX,
        };
        self.settle();
        u64::from(value) & width.ones()
    }

    fn write(&mut self, at: At, _width: Width, value: u64) {
        match at.window {
            window::MEMORY => self.state.chip.write(at.offset & !3, value as u32),
            window::IO => self.state.chip.write_io(at.offset & !3, value as u32),
            _ => {}
        }
        self.settle();
    }

    fn reset(&mut self) {
        let mac = self.state.chip.mac();
        self.state = State { config: config_at_reset(), chip: Chip::new(mac, self.link.is_up()) };
        self.windows.follow(&self.state.config);
        self.settle();
    }

    fn advance(&mut self) {
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.state)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let state: State = decode(self.name(), state)?;
        if !state.config.same_shape(&config_at_reset()) || !state.chip.is_valid() {
            let reason = "it is of another card, or damaged".to_owned();
            return Err(LoadError { device: self.name.clone(), reason });
        }
        self.state = state;
        self.windows.follow(&self.state.config);
        // Frames move when time does: now, other devices and memory may not be in place yet.
        self.derive(true);
        Ok(())
    }
}

impl Function for E1000 {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.state.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        self.state.config.write(offset, width, value);
        self.windows.follow(&self.state.config);
        self.settle();
    }
}
