use super::super::testing::Studio;
use crate::access::{At, Width};
use crate::alarm::Alarms;
use crate::clock::Clock;
use crate::device::Device;
use crate::line::Line;
use crate::timers::Pit;

/// An 8254 with a loudspeaker, and its alarms.
struct Rig {
    pit: Pit,
    studio: Studio,
    clock: Clock,
    alarms: std::sync::Arc<Alarms>,
}

impl Rig {
    fn new() -> Rig {
        let (studio, source) = Studio::new();
        let (clock, alarms) = (Clock::manual(), Alarms::new(|| {}));
        let pit = Pit::new(clock.clone(), Line::unconnected(), alarms.alarm()).with_speaker(source);
        Rig { pit, studio, clock, alarms }
    }

    fn out(&mut self, port: u64, value: u8) {
        let (window, offset) = if port == 0x61 { (Pit::CONTROL_B, 0) } else { (Pit::COUNTERS, port - 0x40) };
        self.pit.write(At::new(window, offset), Width::Byte, value.into());
    }

    /// Counter 2 in `mode`, counting `count`.
    fn program(&mut self, mode: u8, count: u16) {
        self.out(0x43, 0xB0 | mode << 1);
        count.to_le_bytes().into_iter().for_each(|byte| self.out(0x42, byte));
    }

    /// Lets guest time pass, and calls at alarms.
    fn wait(&mut self, ms: u64) {
        let end = self.clock.now() + ms * 1_000_000;
        while let Some(next) = self.alarms.next().filter(|next| *next <= end) {
            self.clock.set(next.max(self.clock.now()));
            self.alarms.take_due(next);
            self.pit.advance();
            self.studio.mixer.mix(self.clock.now());
        }
        self.clock.set(end);
    }
}

#[test]
fn a_tone_has_the_pitch_and_the_length_the_guest_gave_it() {
    for count in [1193_u16, 2712, 300, 11_932] {
        let mut rig = Rig::new();
        rig.wait(100);
        rig.program(3, count);
        rig.out(0x61, 3);
        rig.wait(500);
        rig.out(0x61, 0);
        rig.wait(300);
        let tone = rig.studio.tone(&rig.clock);
        let expected = 1_193_182.0 / f64::from(count);
        assert!((tone.hz - expected).abs() < expected / 1_000.0, "{count}: {tone:?}");
        assert!((tone.length_ms - 500.0).abs() < 6.0, "{count}: {tone:?}");
        assert!((tone.start_ms - 100.0).abs() < 2.0, "{count}: {tone:?}");
        assert_eq!(rig.alarms.next(), None, "nothing is drawn when all is silent");
    }
}

#[test]
fn a_square_wave_has_odd_harmonics_and_no_others() {
    let mut rig = Rig::new();
    // An even count: high as long as low.
    rig.program(3, 1192);
    rig.out(0x61, 3);
    rig.wait(1_000);
    let heard = rig.studio.heard(&rig.clock);
    let amplitude = |hz: f64| {
        let part = &heard[9_600..38_400];
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in part.iter().enumerate() {
            let angle = std::f64::consts::TAU * n as f64;
            let window = 1.0 - (angle / part.len() as f64).cos();
            re += window * f64::from(sample[0]) * (angle * hz / 48_000.0).cos();
            im += window * f64::from(sample[0]) * (angle * hz / 48_000.0).sin();
        }
        2.0 * (re * re + im * im).sqrt() / part.len() as f64
    };
    let tone = 1_193_182.0 / 1192.0;
    // Fourier's series of a square: 4/pi, a third of that, a fifth.
    for harmonic in [1.0, 3.0, 5.0, 7.0] {
        let expected = 0.25 * 4.0 / std::f64::consts::PI / harmonic;
        assert!((amplitude(tone * harmonic) / expected - 1.0).abs() < 0.03, "{harmonic}");
    }
    // Aliases would stand anywhere between.
    for hz in [500.0, 1_500.0, 2_000.0, 2_500.0, 4_000.0, 6_000.0, 10_500.0] {
        assert!(amplitude(hz) < 0.000_3, "{hz}: {}", amplitude(hz));
    }
}

#[test]
fn bit_1_lets_it_through_and_the_gate_lets_it_count() {
    for control_b in [0, 1, 2] {
        let mut rig = Rig::new();
        rig.program(3, 1193);
        rig.out(0x61, control_b);
        rig.wait(500);
        let heard = rig.studio.heard(&rig.clock);
        let late = heard.iter().skip(24_000 - 4_800).map(|s| s[0].abs()).fold(0.0, f32::max);
        assert!(late < 0.001, "{control_b}: {late}");
    }
}

#[test]
fn pulse_widths_are_heard_as_what_they_mean() {
    let mut rig = Rig::new();
    rig.out(0x61, 3);
    // One-shots, 16 kHz, whose lengths follow a sine of 500 Hz.
    rig.out(0x43, 0x90);
    for n in 0..8_000_u64 {
        let wave = (n as f64 * 500.0 / 16_000.0 * std::f64::consts::TAU).sin();
        rig.out(0x42, (37.0 + 30.0 * wave) as u8);
        rig.clock.set((n + 1) * 62_500);
        rig.studio.mixer.mix(rig.clock.now());
    }
    let heard = rig.studio.heard(&rig.clock);
    let (mut re, mut im) = (0.0_f64, 0.0_f64);
    for (n, sample) in heard[4_800..19_200].iter().enumerate() {
        let angle = std::f64::consts::TAU * n as f64 * 500.0 / 48_000.0;
        re += f64::from(sample[0]) * angle.cos();
        im += f64::from(sample[0]) * angle.sin();
    }
    let amplitude = 2.0 * (re * re + im * im).sqrt() / 14_400.0;
    // 30 of 74.6 ticks, by twice the amplitude of the cone.
    assert!((amplitude - 0.5 * 30.0 / 74.57).abs() < 0.02, "{amplitude}");
}

#[test]
fn contract() {
    crate::contract::check(|| {
        let source = Studio::new().1;
        Pit::new(Clock::manual(), Line::unconnected(), crate::Alarm::unconnected()).with_speaker(source)
    });
}
