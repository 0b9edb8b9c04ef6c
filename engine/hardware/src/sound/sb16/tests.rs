use std::sync::Arc;

use super::Sb16;
use super::adapter::Sockets;
use crate::access::{At, Width};
use crate::alarm::{Alarm, Alarms};
use crate::bus::{Bus, Space};
use crate::clock::Clock;
use crate::device::{Device, Shared, shared};
use crate::dma::IsaDma;
use crate::line::Line;
use crate::line::testing::Level;
use crate::memory::Memory;
use crate::sound::testing::Studio;

const MS: u64 = 1_000_000;
const BUFFER: u64 = 0x2_0000;

/// A card on a bus with its DMA controllers.
struct Rig {
    card: Shared<Sb16>,
    bus: Arc<Bus>,
    memory: Arc<Memory>,
    studio: Studio,
    clock: Clock,
    alarms: Arc<Alarms>,
    irq: [Arc<Level>; 4],
}

impl Rig {
    fn new() -> Rig {
        let (studio, voice) = Studio::new();
        let fm = studio.mixer.source("fm");
        let (clock, alarms, bus) = (Clock::manual(), Alarms::new(|| {}), Bus::new());
        let memory = Memory::new(4 << 20, 0).unwrap();
        let dma = shared(IsaDma::new());
        IsaDma::connect(&dma, &bus);
        let irq: [Arc<Level>; 4] = Default::default();
        let lines = irq.each_ref().map(|level| Line::new(level.clone(), 0));
        let sockets = Sockets { lines, dma, voice, fm };
        let card = shared(Sb16::new(sockets, memory.clone(), clock.clone(), alarms.alarm()));
        Sb16::connect(&card, &bus);
        Rig { card, bus, memory, studio, clock, alarms, irq }
    }

    fn out(&self, port: u64, value: u8) {
        self.bus.write(Space::Port, port, Width::Byte, value.into(), 0);
    }

    fn inb(&self, port: u64) -> u8 {
        self.bus.read(Space::Port, port, Width::Byte, 0) as u8
    }

    fn command(&self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.out(0x22C, *byte));
    }

    fn answers(&self) -> Vec<u8> {
        std::iter::from_fn(|| (self.inb(0x22E) & 0x80 != 0).then(|| self.inb(0x22A))).collect()
    }

    fn mixer(&self, register: u8, value: u8) {
        self.out(0x224, register);
        self.out(0x225, value);
    }

    /// Channel 1 (bytes) or 5 (words) reads `count` elements at the buffer, again and again or once.
    fn program_dma(&self, sixteen_bits: bool, count: u16, again: bool) {
        let mode = 0x48 | u8::from(again) << 4 | 1;
        let last = (count - 1).to_le_bytes();
        let (mask, flip, mode_port, address, length, page, at) = match sixteen_bits {
            false => (0x0A, 0x0C, 0x0B, 0x02, 0x03, 0x83, BUFFER as u16),
            true => (0xD4, 0xD8, 0xD6, 0xC4, 0xC6, 0x8B, (BUFFER / 2) as u16),
        };
        self.out(mask, 5);
        self.out(flip, 0);
        self.out(mode_port, mode);
        at.to_le_bytes().into_iter().for_each(|byte| self.out(address, byte));
        last.into_iter().for_each(|byte| self.out(length, byte));
        self.out(page, (BUFFER >> 16) as u8);
        self.out(mask, 1);
    }

    fn wait(&self, ns: u64) {
        let end = self.clock.now() + ns;
        while let Some(next) = self.alarms.next().filter(|next| *next <= end) {
            self.clock.set(next.max(self.clock.now()));
            self.alarms.take_due(next);
            self.card.lock().advance();
            self.studio.mixer.mix(self.clock.now());
        }
        self.clock.set(end);
    }

    fn irq_5(&self) -> bool {
        self.irq[1].get()
    }
}

fn wave(n: u32, hz: f64, rate_hz: f64) -> f64 {
    (f64::from(n) * hz / rate_hz * std::f64::consts::TAU).sin()
}

#[test]
fn a_driver_finds_it() {
    let rig = Rig::new();
    rig.out(0x226, 1);
    rig.out(0x226, 0);
    assert_eq!(rig.answers(), [0xAA]);
    rig.command(&[0xE1]);
    assert_eq!(rig.answers(), [4, 5]);
    rig.command(&[0xE0, 0x5A]);
    assert_eq!(rig.answers(), [0xA5]);
    rig.command(&[0xE4, 0x77, 0xE8]);
    assert_eq!(rig.answers(), [0x77]);
    rig.command(&[0xE3]);
    assert!(rig.answers().starts_with(b"COPYRIGHT"));
    rig.command(&[0xD8, 0xD1, 0xD8]);
    assert_eq!(rig.answers(), [0, 0xFF]);
    rig.out(0x224, 0x80);
    assert_eq!(rig.inb(0x225), 2, "IRQ 5");
    rig.out(0x224, 0x81);
    assert_eq!(rig.inb(0x225), 0x22, "DMA 1 and 5");
    rig.out(0x331, 0xFF);
    assert_eq!((rig.inb(0x331) & 0x80, rig.inb(0x330)), (0, 0xFE));
    assert_eq!(rig.inb(0x331) & 0xC0, 0x80);
}

#[test]
fn interrupts_go_where_the_mixer_says() {
    let rig = Rig::new();
    rig.command(&[0xF2]);
    assert!(rig.irq_5());
    rig.mixer(0x80, 4);
    assert!(!rig.irq_5() && rig.irq[2].get(), "IRQ 7");
    rig.out(0x224, 0x82);
    assert_eq!(rig.inb(0x225) & 7, 1);
    rig.inb(0x22F);
    assert!(rig.irq[2].get(), "that port ends the other interrupt");
    rig.inb(0x22E);
    assert!(!rig.irq[2].get());
    rig.command(&[0xF3]);
    assert_eq!(rig.inb(0x225) & 7, 2);
    rig.inb(0x22F);
    assert!(!rig.irq[2].get());
}

#[test]
fn bytes_are_played_in_single_cycles_by_time_constant() {
    let rig = Rig::new();
    let bytes: Vec<u8> = (0..5_000).map(|n| (128.0 + 100.0 * wave(n, 500.0, 10_000.0)) as u8).collect();
    rig.memory.dma_write(BUFFER, &bytes);
    rig.wait(20 * MS);
    rig.program_dma(false, 5_000, false);
    rig.command(&[0x40, 156, 0x14]); // 10 kHz
    rig.command(&4_999_u16.to_le_bytes());
    rig.wait(499 * MS);
    assert!(!rig.irq_5());
    rig.wait(MS);
    assert!(rig.irq_5());
    rig.inb(0x22E);
    rig.wait(300 * MS);
    let tone = rig.studio.tone(&rig.clock);
    assert!((tone.hz - 500.0).abs() < 0.5 && (tone.length_ms - 500.0).abs() < 5.0, "{tone:?}");
    assert!((tone.start_ms - 20.0).abs() < 6.0 && (tone.peak - 0.78).abs() < 0.03, "{tone:?}");
    assert!(!rig.irq_5());
}

#[test]
fn words_in_stereo_are_played_over_and_over_until_they_are_told_to_end() {
    let rig = Rig::new();
    // 20 ms of 441 Hz (left) and silence (right), two blocks of 10 ms.
    let words: Vec<u8> = (0..882)
        .flat_map(|n| {
            let [low, high] = ((wave(n, 450.0, 44_100.0) * 16_000.0) as i16).to_le_bytes();
            [low, high, 0, 0]
        })
        .collect();
    rig.memory.dma_write(BUFFER, &words);
    rig.program_dma(true, 1_764, true);
    rig.command(&[0x41, 0xAC, 0x44, 0xB6, 0x30]);
    rig.command(&881_u16.to_le_bytes());
    let mut interrupts = 0;
    for n in 0..40 {
        rig.wait(10 * MS);
        if rig.irq_5() {
            rig.out(0x224, 0x82);
            assert_eq!(rig.inb(0x225) & 7, 2, "16 bits");
            rig.inb(0x22F);
            interrupts += 1;
        }
        if n == 29 {
            rig.command(&[0xD9]);
        }
    }
    assert_eq!(interrupts, 31, "the block that was begun is ended");
    let tone = rig.studio.tone(&rig.clock);
    assert!((tone.hz - 450.0).abs() < 0.5 && (tone.length_ms - 310.0).abs() < 4.0, "{tone:?}");
    let right = rig.studio.heard(&rig.clock).iter().map(|s| s[1].abs()).fold(0.0, f32::max);
    assert!(right < 0.001, "{right}");
}

#[test]
fn high_speed_and_old_stereo_take_the_block_length() {
    let rig = Rig::new();
    let bytes: Vec<u8> =
        (0..4_400).flat_map(|n| [(128.0 + 90.0 * wave(n, 400.0, 11_000.0)) as u8, 128]).collect();
    rig.memory.dma_write(BUFFER, &bytes);
    rig.program_dma(false, 8_800, true);
    rig.mixer(0x0E, 2);
    rig.command(&[0x40, (256 - 1_000_000 / 22_000) as u8, 0x48]);
    rig.command(&4_399_u16.to_le_bytes());
    rig.command(&[0x90]);
    rig.wait(200 * MS);
    assert!(rig.irq_5(), "half of the buffer");
    rig.wait(300 * MS);
    rig.command(&[0xD0]);
    rig.wait(300 * MS);
    let tone = rig.studio.tone(&rig.clock);
    // The constant 211 is 22 222 elements a second.
    assert!((tone.hz - 400.0 * 22_222.0 / 22_000.0).abs() < 1.5, "{tone:?}");
    assert!((tone.length_ms - 500.0).abs() < 5.0, "paused: {tone:?}");
    rig.command(&[0xD4]);
    rig.wait(100 * MS);
    assert!(rig.studio.mixer.status().level > 0.3, "it goes on");
}

#[test]
fn samples_written_one_by_one_are_heard_at_their_own_pace() {
    let rig = Rig::new();
    for n in 0..4_000_u32 {
        rig.command(&[0x10, (128.0 + 100.0 * wave(n, 250.0, 8_000.0)) as u8]);
        rig.wait(125_000);
        rig.studio.mixer.mix(rig.clock.now());
    }
    rig.wait(500 * MS);
    let tone = rig.studio.tone(&rig.clock);
    assert!((tone.hz - 250.0).abs() < 0.5 && (tone.length_ms - 500.0).abs() < 6.0, "{tone:?}");
    assert_eq!(rig.alarms.next(), None);
}

#[test]
fn silence_interrupts_in_time_and_recording_gives_silence() {
    let rig = Rig::new();
    rig.command(&[0x41, 0x1F, 0x40, 0x80]); // 8 kHz
    rig.command(&799_u16.to_le_bytes());
    rig.wait(99 * MS);
    assert!(!rig.irq_5());
    rig.wait(MS);
    assert!(rig.irq_5());
    rig.inb(0x22E);
    rig.program_dma(false, 400, false);
    rig.out(0x0B, 0x45);
    rig.command(&[0xC8, 0x00]);
    rig.command(&399_u16.to_le_bytes());
    rig.wait(50 * MS);
    assert!(rig.irq_5());
    let mut bytes = [0; 401];
    rig.memory.dma_read(BUFFER, &mut bytes);
    assert_eq!((bytes[0], bytes[399], bytes[400]), (0x80, 0x80, 0));
}

#[test]
fn without_dma_it_waits_and_the_mixer_is_heard() {
    let rig = Rig::new();
    rig.memory.dma_write(BUFFER, &[0xC0; 2_000]);
    rig.command(&[0x41, 0x1F, 0x40, 0xC0, 0x00]);
    rig.command(&799_u16.to_le_bytes());
    rig.wait(500 * MS);
    assert!(!rig.irq_5(), "the channel is masked");
    rig.program_dma(false, 800, false);
    rig.wait(110 * MS);
    assert!(rig.irq_5());
    let peaks = |rig: &Rig| {
        let heard = rig.studio.heard(&rig.clock);
        [0, 1].map(|side| heard.iter().map(|s| s[side].abs()).fold(0.0, f32::max))
    };
    let whole = peaks(&rig);
    assert!(whole[0] > 0.45 && whole[0] == whole[1]);
    let rig = Rig::new();
    rig.memory.dma_write(BUFFER, &[0xC0; 800]);
    rig.mixer(0x32, (24 - 3) << 3);
    rig.mixer(0x31, 0);
    rig.program_dma(false, 800, false);
    rig.command(&[0x41, 0x1F, 0x40, 0xC0, 0x00]);
    rig.command(&799_u16.to_le_bytes());
    rig.wait(110 * MS);
    let [left, right] = peaks(&rig);
    assert!((left / whole[0] - 0.501).abs() < 0.01, "6 dB less: {left}");
    assert!(right < 0.005, "48 dB less: {right}");
    rig.out(0x224, 0x04);
    assert_eq!(rig.inb(0x225), 0xAC, "as a Sound Blaster Pro shows it");
}

#[test]
fn fm_is_heard_at_its_pitch_and_length() {
    for ports in [[0x388, 0x389], [0x220, 0x221], [0x228, 0x229]] {
        let rig = Rig::new();
        let set = |register: u8, value: u8| {
            rig.out(ports[0], register);
            rig.out(ports[1], value);
        };
        rig.wait(50 * MS);
        for (register, value) in [
            (0x40, 0x3F),
            (0x60, 0xF0),
            (0x80, 0x0F),
            (0x23, 0x21),
            (0x43, 0),
            (0x63, 0xF0),
            (0x83, 0x0F),
            (0xC0, 1),
        ] {
            set(register, value);
        }
        set(0xA0, 0x44);
        set(0xB0, 0x32);
        rig.wait(400 * MS);
        set(0xB0, 0x12);
        rig.wait(400 * MS);
        let tone = rig.studio.tone(&rig.clock);
        let expected = f64::from(0x244) * 49_716.0 / f64::from(1 << 16);
        assert!((tone.hz - expected).abs() < 0.5 && (tone.length_ms - 400.0).abs() < 5.0, "{tone:?}");
        assert_eq!(rig.alarms.next(), None, "silent, it sleeps");
    }
}

#[test]
fn contract() {
    crate::contract::check(|| {
        let (studio, voice) = Studio::new();
        let fm = studio.mixer.source("fm");
        let lines = std::array::from_fn(|_| Line::unconnected());
        let sockets = Sockets { lines, dma: shared(IsaDma::new()), voice, fm };
        let memory = Memory::new(1 << 20, 0).unwrap();
        Sb16::new(sockets, memory, Clock::manual(), Alarm::unconnected())
    });
}

#[test]
fn blocks_of_one_sample_end() {
    let rig = Rig::new();
    rig.program_dma(false, 1, true);
    rig.command(&[0x41, 0xAC, 0x44, 0xC6, 0, 0, 0]);
    rig.clock.step(10_000 * MS);
    rig.card.lock().read(At::new(0, 0xE), Width::Byte);
    assert!(rig.alarms.next().is_some());
}
