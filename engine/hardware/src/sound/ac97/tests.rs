use std::sync::Arc;

use super::Ac97;
use crate::access::{At, Width};
use crate::alarm::{Alarm, Alarms};
use crate::clock::Clock;
use crate::device::Device;
use crate::line::Line;
use crate::line::testing::Level;
use crate::memory::Memory;
use crate::pci::Function;
use crate::sound::testing::Studio;

const LIST: u64 = 0x1000;
const BUFFERS: u64 = 0x1_0000;
const MS: u64 = 1_000_000;
/// The bus masters' register blocks.
const IN: u64 = 0x00;
const OUT: u64 = 0x10;

/// The device with a driver in front of it.
struct Rig {
    device: Ac97,
    memory: Arc<Memory>,
    studio: Studio,
    clock: Clock,
    alarms: Arc<Alarms>,
    level: Arc<Level>,
}

impl Rig {
    fn new() -> Rig {
        let (studio, source) = Studio::new();
        let (clock, alarms) = (Clock::manual(), Alarms::new(|| {}));
        let memory = Memory::new(4 << 20, 0).unwrap();
        let level = Arc::<Level>::default();
        let line = Line::new(level.clone(), 0);
        let mut device = Ac97::new(source, memory.clone(), clock.clone(), alarms.alarm(), line);
        device.config_write(0x04, Width::Word, 5);
        Rig { device, memory, studio, clock, alarms, level }
    }

    fn mixer(&mut self, offset: u64, value: u64) {
        self.device.write(At::new(0, offset), Width::Word, value);
    }

    fn write(&mut self, offset: u64, width: Width, value: u64) {
        self.device.write(At::new(1, offset), width, value);
    }

    fn read(&mut self, offset: u64, width: Width) -> u64 {
        self.device.read(At::new(1, offset), width)
    }

    /// Master and PCM out as loud as they came.
    fn unmute(&mut self) {
        self.mixer(0x02, 0);
        self.mixer(0x18, 0x0808);
    }

    /// Puts buffers of a triangle of `hz` into the list of `block`, each of `samples`, with an interrupt at its end.
    fn list(&mut self, block: u64, buffers: u64, samples: u64, hz: f64, rate_hz: f64) {
        for n in 0..buffers * samples {
            let phase = (n as f64 * hz / rate_hz).fract();
            let value = (((phase - 0.5).abs() * 4.0 - 1.0) * 16_000.0) as i16;
            let [low, high] = value.to_le_bytes();
            self.memory.dma_write(BUFFERS + 4 * n, &[low, high, low, high]);
        }
        for n in 0..buffers {
            let mut descriptor = (BUFFERS as u32 + 4 * (n * samples) as u32).to_le_bytes().to_vec();
            descriptor.extend(((1 << 31) | (2 * samples as u32)).to_le_bytes());
            self.memory.dma_write(LIST + 8 * n, &descriptor);
        }
        self.write(block, Width::Dword, LIST);
        self.write(block + 5, Width::Byte, buffers - 1);
    }

    /// Lets guest time pass, and calls at alarms.
    fn wait(&mut self, ns: u64) {
        let end = self.clock.now() + ns;
        while let Some(next) = self.alarms.next().filter(|next| *next <= end) {
            self.clock.set(next.max(self.clock.now()));
            self.alarms.take_due(next);
            self.device.advance();
            self.studio.mixer.mix(self.clock.now());
        }
        self.clock.set(end);
    }
}

#[test]
fn a_list_is_played_at_its_pitch_and_length() {
    for rate in [48_000_u64, 44_100, 8_000] {
        let mut rig = Rig::new();
        rig.unmute();
        rig.mixer(0x2A, 1);
        rig.mixer(0x2C, rate);
        rig.wait(50 * MS);
        rig.list(OUT, 10, rate / 20, 440.0, rate as f64);
        rig.write(OUT + 0xB, Width::Byte, 0x1D);
        rig.wait(800 * MS);
        let tone = rig.studio.tone(&rig.clock);
        assert!((tone.hz - 440.0).abs() < 0.5, "{rate}: {tone:?}");
        assert!((tone.length_ms - 500.0).abs() < 4.0, "{rate}: {tone:?}");
        assert!((tone.start_ms - 50.0).abs() < 5.0, "{rate}: {tone:?}");
        assert_eq!(rig.alarms.next(), None, "halted, it asks for nothing");
    }
}

#[test]
fn without_variable_rates_it_runs_at_48_khz() {
    let mut rig = Rig::new();
    rig.mixer(0x2C, 44_100);
    assert_eq!(rig.device.read(At::new(0, 0x2C), Width::Word), 48_000);
    rig.mixer(0x2A, 1);
    rig.mixer(0x2C, 1);
    assert_eq!(rig.device.read(At::new(0, 0x2C), Width::Word), 4_000);
    rig.mixer(0x2A, 0);
    assert_eq!(rig.device.read(At::new(0, 0x2C), Width::Word), 48_000);
}

#[test]
fn each_buffer_and_the_last_interrupt_when_they_are_over() {
    let mut rig = Rig::new();
    rig.list(OUT, 3, 480, 1_000.0, 48_000.0);
    rig.write(OUT + 0xB, Width::Byte, 0x1D);
    assert_eq!(rig.read(OUT + 6, Width::Word), 0, "it runs");
    rig.wait(5 * MS);
    assert_eq!(
        (rig.read(OUT + 4, Width::Byte), rig.read(OUT + 8, Width::Word)),
        (0, 480),
        "half of 960 is left"
    );
    assert!(!rig.level.get());
    rig.wait(5 * MS);
    assert!(rig.level.get(), "exactly at the buffer's end");
    assert_eq!((rig.read(OUT + 4, Width::Byte), rig.read(OUT + 6, Width::Word)), (1, 8));
    assert_eq!(rig.read(0x30, Width::Dword), 1 << 8 | 1 << 6);
    rig.write(OUT + 6, Width::Word, 0x1C);
    assert!(!rig.level.get());
    rig.wait(20 * MS);
    assert_eq!(rig.read(OUT + 6, Width::Word), 0xF, "halted at the last, which is over");
    rig.write(OUT + 6, Width::Word, 0x1C);
    assert_eq!(rig.read(OUT + 6, Width::Word), 3);
    rig.write(OUT + 5, Width::Byte, 0);
    rig.wait(5 * MS);
    assert_eq!(
        rig.read(OUT + 6, Width::Word) & 3,
        0,
        "a new last index lets it go on, behind the list's end"
    );
}

#[test]
fn a_pause_goes_on_where_it_was_and_a_reset_does_not() {
    let mut rig = Rig::new();
    rig.list(OUT, 2, 4_800, 1_000.0, 48_000.0);
    rig.write(OUT + 0xB, Width::Byte, 0x1D);
    rig.wait(30 * MS);
    rig.write(OUT + 0xB, Width::Byte, 0x1C);
    rig.wait(500 * MS);
    let left = 9_600 - 2 * 30 * 48;
    assert_eq!((rig.read(OUT + 8, Width::Word), rig.read(OUT + 6, Width::Byte) & 1), (left, 1));
    rig.write(OUT + 0xB, Width::Byte, 0x1D);
    rig.wait(10 * MS);
    assert_eq!(rig.read(OUT + 8, Width::Word), left - 960);
    rig.write(OUT + 0xB, Width::Byte, 0);
    rig.write(OUT + 0xB, Width::Byte, 2);
    assert_eq!(rig.read(OUT + 8, Width::Word), 0);
    assert_eq!((rig.read(OUT + 6, Width::Word), rig.read(OUT + 0xB, Width::Byte)), (1, 0));
}

#[test]
fn volumes_and_mutes_are_heard() {
    let peak = |master: u64, pcm: u64| {
        let mut rig = Rig::new();
        rig.mixer(0x02, master);
        rig.mixer(0x18, pcm);
        rig.list(OUT, 4, 2_400, 440.0, 48_000.0);
        rig.write(OUT + 0xB, Width::Byte, 1);
        rig.wait(300 * MS);
        let heard = rig.studio.heard(&rig.clock);
        [0, 1].map(|side| heard.iter().map(|s| s[side].abs()).fold(0.0, f32::max))
    };
    let [left, right] = peak(0, 0x0808);
    assert!((left - 16_000.0 / 32_768.0).abs() < 0.01 && left == right);
    assert_eq!(peak(0x8000, 0x0808), [0.0; 2]);
    assert_eq!(peak(0, 0x8808), [0.0; 2]);
    let halved = peak(0x0004, 0x0808);
    assert!((halved[0] - left).abs() < 1e-6 && (halved[1] / right - 0.501).abs() < 0.01, "6 dB: {halved:?}");
}

#[test]
fn recording_gives_silence_in_time() {
    let mut rig = Rig::new();
    rig.list(IN, 2, 480, 1_000.0, 48_000.0);
    rig.write(IN + 0xB, Width::Byte, 0x1D);
    rig.wait(10 * MS);
    assert!(rig.level.get());
    assert_eq!(rig.read(0x30, Width::Dword), 1 << 8 | 1 << 5);
    let mut bytes = [1; 8];
    rig.memory.dma_read(BUFFERS + 4 * 480 - 4, &mut bytes);
    assert_eq!(bytes[..4], [0; 4]);
    assert_ne!(bytes[4..], [0; 4], "the second buffer is not written yet");
}

#[test]
fn the_codec_tells_its_volume_bits_and_resets() {
    let mut rig = Rig::new();
    let mut kept = |offset: u64, value: u64| {
        rig.mixer(offset, value);
        rig.device.read(At::new(0, offset), Width::Word)
    };
    assert_eq!(kept(0x02, 0xFFFF), 0x9F1F, "five bits; the sixth is the softest");
    assert_eq!(kept(0x18, 0xFFFF), 0x9F1F);
    assert_eq!(kept(0x7C, 0), 0x8384);
    assert_eq!(kept(0x26, 0x0F00), 0x0F0F);
    kept(0x00, 1);
    assert_eq!(kept(0x1E, 7), 0, "no such register");
    assert_eq!(rig.device.read(At::new(0, 0x02), Width::Word), 0x8000);
    assert_eq!(
        (rig.read(0x34, Width::Byte), rig.read(0x34, Width::Byte)),
        (0, 1),
        "taken until the codec is used"
    );
    rig.mixer(0x02, 0);
    assert_eq!(rig.read(0x34, Width::Byte), 0);
}

#[test]
fn a_list_of_empty_buffers_ends() {
    let mut rig = Rig::new();
    rig.write(OUT, Width::Dword, LIST);
    rig.write(OUT + 5, Width::Byte, 31);
    rig.write(OUT + 0xB, Width::Byte, 0x1D);
    rig.wait(100 * MS);
    assert_eq!(rig.read(OUT + 6, Width::Byte) & 1, 1, "halted at the last");
}

#[test]
fn contract() {
    let make = || {
        let memory = Memory::new(1 << 20, 0).unwrap();
        Ac97::new(Studio::new().1, memory, Clock::manual(), Alarm::unconnected(), Line::unconnected())
    };
    crate::contract::check(make);
    // As a bus master too: configuration space is not among the contract's accesses.
    crate::contract::survives(|| {
        let mut device = make();
        device.config_write(0x04, Width::Word, 7);
        device
    });
}
