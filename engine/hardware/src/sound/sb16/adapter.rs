//! The card on the ISA bus: its ports, lines, DMA, and what it plays.

use std::sync::Arc;

use display::sound::{Source, Stereo};
use serde::{Deserialize, Serialize};

use super::dsp::{Dsp, Effect};
use super::mixer::{INTERRUPT_LINES, Mixer};
use super::mpu401::Mpu401;
use super::transfer::Kind;
use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::{Bus, WindowSpec};
use crate::clock::{Clock, Nanoseconds};
use crate::device::{Device, LoadError, Shared, decode, encode};
use crate::dma::{Direction, IsaDma};
use crate::line::Line;
use crate::memory::Memory;
use crate::sound::opl3::{self, Opl3};
use crate::sound::{PERIOD_NS, Pace};

const NAME: &str = "sb16";
/// First ports of the windows.
const BASE: u64 = 0x220;
const FM: u64 = 0x388;
const MPU: u64 = 0x330;
mod window {
    pub const BASE: u8 = 0;
    pub const FM: u8 = 1;
    pub const MPU: u8 = 2;
}

/// Samples a second by which direct output is drawn: its own rate is when the guest writes.
const DIRECT_HZ: u32 = 96_000;
/// Direct output that does not change for so long is over: 100 ms.
const DIRECT_NS: u64 = 100_000_000;
/// DMA moves at most this much at once.
const PIECE_BYTES: u64 = 4_096;

/// What the converter shows when the guest writes sample by sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Direct {
    value: u8,
    pace: Pace,
    written_ns: Nanoseconds,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    dsp: Dsp,
    mixer: Mixer,
    mpu: Mpu401,
    opl: Opl3,
    /// The synthesiser's converter, while it sounds.
    opl_pace: Option<Pace>,
    direct: Option<Direct>,
}

/// What the card is wired to.
pub struct Sockets {
    /// IRQ 9, 5, 7 and 10: [`INTERRUPT_LINES`].
    pub lines: [Line; 4],
    /// The DMA controllers.
    pub dma: Shared<IsaDma>,
    /// Where samples are heard.
    pub voice: Source,
    /// Where FM is heard.
    pub fm: Source,
}

/// The card.
pub struct Sb16 {
    state: State,
    sockets: Sockets,
    /// The line that is driven.
    driven: Option<usize>,
    memory: Arc<Memory>,
    clock: Clock,
    alarm: Alarm,
}

impl Sb16 {
    /// A card in `sockets`. `alarm` must lead to its [`Device::advance`].
    pub fn new(sockets: Sockets, memory: Arc<Memory>, clock: Clock, alarm: Alarm) -> Sb16 {
        Sb16 { state: State::default(), sockets, driven: None, memory, clock, alarm }
    }

    /// The numbers of the lines [`Sockets::lines`] lead to.
    pub const LINES: [u8; 4] = INTERRUPT_LINES;

    /// Puts its ports on the bus.
    pub fn connect(card: &Shared<Sb16>, bus: &Bus) {
        for (window, base, length) in [(window::BASE, BASE, 16), (window::FM, FM, 4), (window::MPU, MPU, 2)] {
            bus.add(card, window, WindowSpec::ports(length), Some(base));
        }
    }

    /// Plays what has sounded by `now`.
    fn run(&mut self, now: Nanoseconds) {
        self.run_transfer(now);
        self.run_direct(now);
        self.run_fm(now);
    }

    fn run_transfer(&mut self, now: Nanoseconds) {
        let gain = self.state.mixer.voice_gain();
        while let Some(transfer) = self.state.dsp.transfer {
            let Some(pace) = transfer.pace else { return };
            let piece = PIECE_BYTES / u64::from(transfer.format.channels());
            let samples = pace.due(now).min(transfer.samples_left().into()).min(piece) as u32;
            if samples == 0 {
                return;
            }
            let elements = (samples * transfer.format.channels()).min(transfer.left);
            let (bytes, moved) = self.move_elements(&transfer.kind, elements);
            if transfer.kind == Kind::Output {
                self.sockets.voice.play(
                    pace.next_ns(),
                    pace.rate_hz(),
                    &transfer.format.decode(&bytes, gain),
                );
            }
            let Some(transfer) = &mut self.state.dsp.transfer else { return };
            transfer.left -= moved;
            if let Some(pace) = &mut transfer.pace {
                // Without DMA the converter stands still, and time goes on.
                pace.play(if moved == 0 { pace.due(now) } else { samples.into() });
            }
            if transfer.left == 0 {
                self.state.dsp.end_block();
            }
        }
    }

    /// Moves elements by DMA; gives their bytes, and how many moved.
    fn move_elements(&mut self, kind: &Kind, elements: u32) -> (Vec<u8>, u32) {
        let Some(transfer) = self.state.dsp.transfer else { return (Vec::new(), 0) };
        let format = transfer.format;
        let mut bytes = format.silence(elements as usize);
        let direction = match kind {
            Kind::Silence => return (bytes, elements),
            Kind::Output => Direction::FromMemory,
            Kind::Input => Direction::ToMemory,
        };
        let mixer = &self.state.mixer;
        let channel = if format.sixteen_bits { mixer.dma_16() } else { mixer.dma_8() };
        let Some(channel) = channel else { return (Vec::new(), 0) };
        let mut done = 0;
        // A controller that initialises itself stops at its end and goes on at its beginning.
        while done < bytes.len() {
            let moved =
                self.sockets.dma.lock().transfer(channel, &self.memory, direction, &mut bytes[done..]);
            done += moved.bytes;
            if moved.bytes == 0 {
                break;
            }
        }
        bytes.truncate(done);
        (bytes, (done / format.element_bytes()) as u32)
    }

    fn run_direct(&mut self, now: Nanoseconds) {
        let gain = self.state.mixer.voice_gain();
        let Some(direct) = &mut self.state.direct else { return };
        let due = direct.pace.due(now);
        let level = (f32::from(direct.value) - 128.0) / 128.0;
        let samples: Vec<Stereo> = vec![[level * gain[0], level * gain[1]]; due as usize];
        self.sockets.voice.play(direct.pace.next_ns(), DIRECT_HZ, &samples);
        direct.pace.play(due);
        if now > direct.written_ns + DIRECT_NS {
            self.state.direct = None;
        }
    }

    fn set_direct(&mut self, value: u8, now: Nanoseconds) {
        let pace = self.state.direct.map_or_else(|| Pace::start(now, DIRECT_HZ), |direct| direct.pace);
        self.state.direct = Some(Direct { value, pace, written_ns: now });
    }

    fn run_fm(&mut self, now: Nanoseconds) {
        let State { opl, opl_pace, mixer, .. } = &mut self.state;
        let Some(pace) = opl_pace else { return };
        let (due, begin, gain) = (pace.due(now), pace.next_ns(), mixer.midi_gain());
        let loud = |sample: Stereo| {
            // One voice is an eighth of the range: the card's amplifier makes it twice as loud.
            [sample[0] * gain[0] * 2.0, sample[1] * gain[1] * 2.0].map(|side: f32| side.clamp(-1.0, 1.0))
        };
        let samples: Vec<Stereo> = (0..due).map(|_| loud(opl.sample())).collect();
        self.sockets.fm.play(begin, opl3::RATE_HZ, &samples);
        pace.play(due);
    }

    /// Derives the interrupt line, whether FM sounds, and the next deadline.
    fn settle(&mut self, now: Nanoseconds) {
        let State { dsp, mixer, mpu, opl, opl_pace, direct } = &mut self.state;
        let level = dsp.interrupts[0] || dsp.interrupts[1] || mpu.interrupts();
        let chosen = mixer.interrupt();
        if self.driven != chosen {
            self.driven.inspect(|n| self.sockets.lines[*n].set(false));
            self.driven = chosen;
        }
        chosen.inspect(|n| self.sockets.lines[*n].set(level));
        if !opl.sounds() {
            *opl_pace = None;
        } else if opl_pace.is_none() {
            *opl_pace = Some(Pace::start(now, opl3::RATE_HZ));
        }
        let block = dsp.transfer.and_then(|transfer| transfer.end_ns());
        let block = block.map(|end| end.clamp(now + 1, now + PERIOD_NS));
        let playing = (opl_pace.is_some() || direct.is_some()).then_some(now + PERIOD_NS);
        self.alarm.set(block.into_iter().chain(playing).min());
    }

    fn status(&self) -> u8 {
        let State { dsp, mpu, .. } = &self.state;
        // HPG page 4-10; the high bits tell an SB16 of DSP 4.05.
        u8::from(dsp.interrupts[0])
            | u8::from(dsp.interrupts[1]) << 1
            | u8::from(mpu.interrupts()) << 2
            | 0x20
    }

    fn read_base(&mut self, port: u64, now: Nanoseconds) -> u8 {
        let status = self.status();
        let State { dsp, mixer, opl, .. } = &mut self.state;
        match port {
            0x0..=0x3 | 0x8 | 0x9 => opl.read(port as u8, now),
            0x5 => mixer.read(status),
            0xA => dsp.read_data(),
            // Never busy.
            0xC => 0x7F,
            0xE => {
                dsp.interrupts[0] = false;
                u8::from(dsp.has_data()) << 7 | 0x7F
            }
            0xF => {
                dsp.interrupts[1] = false;
                0xFF
            }
            _ => 0xFF,
        }
    }

    fn write_base(&mut self, port: u64, value: u8, now: Nanoseconds) {
        let State { dsp, mixer, opl, direct, .. } = &mut self.state;
        match port {
            0x0..=0x3 | 0x8 | 0x9 => opl.write(port as u8 & 3, value, now),
            0x4 => mixer.select(value),
            0x5 => mixer.write(value),
            0x6 => {
                dsp.write_reset(value);
                if value & 1 != 0 {
                    *direct = None;
                }
            }
            0xC => {
                if let Effect::Direct(value) = dsp.write_command(value, mixer.is_pro_stereo(), now) {
                    self.set_direct(value, now);
                }
            }
            _ => {}
        }
    }
}

impl Device for Sb16 {
    fn name(&self) -> &str {
        NAME
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        let now = self.clock.now();
        self.run(now);
        let value = match at.window {
            window::BASE => self.read_base(at.offset, now),
            window::FM => self.state.opl.read(at.offset as u8, now),
            window::MPU => self.state.mpu.read(at.offset),
            _ => return width.ones(),
        };
        self.settle(now);
        value.into()
    }

    fn write(&mut self, at: At, _width: Width, value: u64) {
        let (now, value) = (self.clock.now(), value as u8);
        self.run(now);
        match at.window {
            window::BASE => self.write_base(at.offset, value, now),
            window::FM => self.state.opl.write(at.offset as u8, value, now),
            window::MPU => self.state.mpu.write(at.offset, value),
            _ => {}
        }
        self.settle(now);
    }

    fn reset(&mut self) {
        self.state = State::default();
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
        let paces = state.opl_pace.iter().chain(state.direct.as_ref().map(|direct| &direct.pace));
        let good = state.dsp.is_valid()
            && state.mixer.is_valid()
            && state.opl.is_valid()
            && paces.into_iter().all(Pace::is_valid);
        if !good {
            let reason = "a register holds a value it cannot hold".to_owned();
            return Err(LoadError { device: NAME.to_owned(), reason });
        }
        self.state = state;
        self.settle(self.clock.now());
        Ok(())
    }
}
