//! The device in its slot: PCI, ports, interrupt line, and what it plays.

use std::sync::Arc;

use display::sound::{Source, Stereo};
use serde::{Deserialize, Serialize};

use super::channel::{Channel, Converter};
use super::codec::Codec;
use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::{Bus, WindowSpec};
use crate::clock::{Clock, Nanoseconds};
use crate::device::{Device, LoadError, Shared, decode, encode};
use crate::line::Line;
use crate::memory::Memory;
use crate::pci::{BarWindows, ConfigSpace, Function};
use crate::sound::{PERIOD_NS, pcm};

const NAME: &str = "ac97";
/// Base address registers and their windows.
const MIXER_BAR: usize = 0;
const MIXER_PORTS: u32 = 256;
const MASTER_BAR: usize = 1;
const MASTER_PORTS: u32 = 64;
mod window {
    pub const MIXER: u8 = 0;
    pub const MASTER: u8 = 1;
}

/// The bus masters by their register blocks: PCM in, PCM out, microphone.
const CHANNELS: usize = 3;
const BLOCK_BYTES: u8 = 0x10;
const PCM_OUT: usize = 1;

/// Global registers, 82801AA §13.2.8 to 13.2.10.
mod global {
    pub const CONTROL: u8 = 0x2C;
    pub const STATUS: u8 = 0x30;
    pub const SEMAPHORE: u8 = 0x34;
    /// Control: a warm reset, over at once.
    pub const WARM_RESET: u8 = 1 << 2;
    pub const CONTROL_KEPT: u8 = 0x3B;
    /// Status: the first codec is ready.
    pub const CODEC_READY: u32 = 1 << 8;
    /// Status: interrupts of PCM in, PCM out and microphone.
    pub const INTERRUPTS: [u32; 3] = [1 << 5, 1 << 6, 1 << 7];
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    config: ConfigSpace,
    codec: Codec,
    channels: [Channel; CHANNELS],
    control: u8,
    /// Someone asked whether the codec is free, and has not used it yet.
    asked: bool,
}

impl State {
    fn new() -> State {
        let mut config = ConfigSpace::new(0x8086, 0x2415, 0x04_0100, 1)
            .subsystem(0x8086, 0x2415)
            .interrupt_pin(1)
            .bar_io(MIXER_BAR, MIXER_PORTS)
            .bar_io(MASTER_BAR, MASTER_PORTS);
        config.set_word(0x06, 0x0280); // fast back-to-back, medium DEVSEL#
        State { config, codec: Codec::default(), channels: Default::default(), control: 0, asked: false }
    }
}

/// The device.
pub struct Ac97 {
    state: State,
    source: Source,
    memory: Arc<Memory>,
    clock: Clock,
    alarm: Alarm,
    line: Line,
    windows: BarWindows,
}

impl Ac97 {
    /// A device heard through `source`. `line` is its INTA; `alarm` must lead to its [`Device::advance`].
    pub fn new(source: Source, memory: Arc<Memory>, clock: Clock, alarm: Alarm, line: Line) -> Ac97 {
        let windows = BarWindows::unconnected();
        Ac97 { state: State::new(), source, memory, clock, alarm, line, windows }
    }

    /// Puts it on `bus`. Its PCI function goes to the root by `Root::attach`.
    pub fn connect(device: &Shared<Ac97>, bus: &Arc<Bus>) {
        let words = WindowSpec::ports(MIXER_PORTS.into()).widths(Width::Word, Width::Word);
        let mixer = bus.add(device, window::MIXER, words, None);
        let any = WindowSpec::ports(MASTER_PORTS.into()).widths(Width::Byte, Width::Dword);
        let master = bus.add(device, window::MASTER, any, None);
        let mut windows = BarWindows::new(bus.clone());
        windows.add(MIXER_BAR, 0, mixer);
        windows.add(MASTER_BAR, 0, master);
        let mut locked = device.lock();
        windows.follow(&locked.state.config);
        locked.windows = windows;
    }

    /// Plays and records what is due at `now`.
    fn run(&mut self, now: Nanoseconds) {
        if !self.state.config.bus_master() {
            return;
        }
        let (rates, gain) = (self.state.codec.rates_hz(), self.state.codec.gain());
        for (n, channel) in self.state.channels.iter_mut().enumerate() {
            let mut bytes = Vec::new();
            let converter = if n == PCM_OUT { Converter::Out(&mut bytes) } else { Converter::In };
            if let Some(begin) = channel.advance(now, &self.memory, converter) {
                let samples: Vec<Stereo> = bytes.chunks_exact(4).map(|s| pcm::stereo_i16(s, gain)).collect();
                self.source.play(begin, rates[n], &samples);
            }
        }
    }

    /// Derives the line and the next deadline.
    fn settle(&mut self, now: Nanoseconds) {
        let State { config, channels, .. } = &self.state;
        let interrupt = channels.iter().any(Channel::interrupts);
        self.line.set(interrupt && !config.interrupts_disabled());
        let ends = channels.iter().filter_map(Channel::end_ns);
        let next = ends.map(|end| end.clamp(now + 1, now + PERIOD_NS)).min();
        self.alarm.set(next.filter(|_| config.bus_master()));
    }

    fn read_master(&mut self, offset: u8) -> u8 {
        let State { channels, control, .. } = &self.state;
        if let Some(channel) =
            channels.get(usize::from(offset / BLOCK_BYTES)).filter(|_| offset < global::CONTROL)
        {
            return channel.read(offset % BLOCK_BYTES);
        }
        match offset {
            global::CONTROL => *control,
            global::STATUS..global::SEMAPHORE => {
                let told =
                    channels.iter().zip(global::INTERRUPTS).filter(|(channel, _)| channel.interrupts());
                let status = told.fold(global::CODEC_READY, |all, (_, bit)| all | bit);
                status.to_le_bytes()[usize::from(offset - global::STATUS)]
            }
            global::SEMAPHORE => std::mem::replace(&mut self.state.asked, true).into(),
            _ => 0,
        }
    }

    fn write_master(&mut self, offset: u8, value: u8, now: Nanoseconds) {
        let rates = self.state.codec.rates_hz();
        let n = usize::from(offset / BLOCK_BYTES);
        match offset {
            ..global::CONTROL => {
                if let Some(channel) = self.state.channels.get_mut(n) {
                    channel.write(offset % BLOCK_BYTES, value, &self.memory, now, rates[n]);
                }
            }
            global::CONTROL => {
                const COLD_RESET_OVER: u8 = 1 << 1;
                if self.state.control & COLD_RESET_OVER != 0 && value & COLD_RESET_OVER == 0 {
                    self.state.codec = Codec::default();
                    self.state.channels = Default::default();
                }
                self.state.control = value & global::CONTROL_KEPT & !global::WARM_RESET;
            }
            _ => {}
        }
    }
}

impl Device for Ac97 {
    fn name(&self) -> &str {
        NAME
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        let now = self.clock.now();
        self.run(now);
        let offset = at.offset as u8;
        let value = match at.window {
            window::MIXER => {
                self.state.asked = false;
                self.state.codec.read(offset & !1).into()
            }
            window::MASTER => (0..width.bytes() as u8)
                .fold(0, |value, n| value | u64::from(self.read_master(offset.wrapping_add(n))) << (8 * n)),
            _ => width.ones(),
        };
        self.settle(now);
        value & width.ones()
    }

    fn write(&mut self, at: At, width: Width, value: u64) {
        let now = self.clock.now();
        self.run(now);
        let offset = at.offset as u8;
        match at.window {
            window::MIXER => {
                self.state.asked = false;
                self.state.codec.write(offset & !1, value as u16);
                let rates = self.state.codec.rates_hz();
                self.state.channels.iter_mut().zip(rates).for_each(|(channel, hz)| channel.set_rate(now, hz));
            }
            window::MASTER => {
                for (n, byte) in (0..width.bytes() as u8).zip(value.to_le_bytes()) {
                    self.write_master(offset.wrapping_add(n), byte, now);
                }
            }
            _ => {}
        }
        self.settle(now);
    }

    fn reset(&mut self) {
        self.state = State::new();
        self.windows.follow(&self.state.config);
        self.settle(self.clock.now());
    }

    fn advance(&mut self) {
        let now = self.clock.now();
        self.run(now);
        self.settle(now);
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.state)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let state: State = decode(NAME, state)?;
        let good = state.config.same_shape(&self.state.config)
            && state.codec.is_valid()
            && state.channels.iter().all(Channel::is_valid);
        if !good {
            let reason = "it is of another device, or damaged".to_owned();
            return Err(LoadError { device: NAME.to_owned(), reason });
        }
        self.state = state;
        self.windows.follow(&self.state.config);
        self.settle(self.clock.now());
        Ok(())
    }
}

impl Function for Ac97 {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.state.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        let now = self.clock.now();
        self.run(now);
        self.state.config.write(offset, width, value);
        self.windows.follow(&self.state.config);
        self.settle(now);
    }
}
