use super::*;

/// Writes register `number` of either bank, as a program does.
fn set(chip: &mut Opl3, number: usize, value: u8) {
    chip.write(if number > 0xFF { 2 } else { 0 }, number as u8, 0);
    chip.write(1, value, 0);
}

/// A plain sine on channel 0: the modulator is silent, the carrier holds.
fn sine(chip: &mut Opl3, number: u16, block: u8) {
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
        set(chip, register, value);
    }
    set(chip, 0xA0, number as u8);
    set(chip, 0xB0, 0x20 | block << 2 | (number >> 8) as u8);
}

fn play(chip: &mut Opl3, count: usize) -> Vec<Stereo> {
    (0..count).map(|_| chip.sample()).collect()
}

fn hz(samples: &[Stereo], side: usize) -> f64 {
    let rises: Vec<usize> =
        (1..samples.len()).filter(|n| samples[n - 1][side] <= 0.0 && samples[*n][side] > 0.0).collect();
    (rises.len() - 1) as f64 * f64::from(RATE_HZ) / (rises[rises.len() - 1] - rises[0]) as f64
}

fn amplitude(samples: &[Stereo], hz: f64) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let angle = std::f64::consts::TAU * n as f64;
        let window = 1.0 - (angle / samples.len() as f64).cos();
        re += window * f64::from(sample[0]) * (angle * hz / f64::from(RATE_HZ)).cos();
        im += window * f64::from(sample[0]) * (angle * hz / f64::from(RATE_HZ)).sin();
    }
    2.0 * (re * re + im * im).sqrt() / samples.len() as f64
}

fn peak(samples: &[Stereo]) -> f32 {
    samples.iter().map(|sample| sample[0].abs()).fold(0.0, f32::max)
}

#[test]
fn a_note_has_the_pitch_of_its_number_and_octave() {
    for (number, block) in [(580_u16, 4_u8), (580, 5), (1023, 2), (345, 7)] {
        let mut chip = Opl3::default();
        sine(&mut chip, number, block);
        let heard = play(&mut chip, 49_716);
        // Datasheet: f = F-number * fs / 2^(20 - block).
        let expected = f64::from(number) * f64::from(RATE_HZ) / f64::from(1 << (20 - block));
        assert!(
            (hz(&heard, 0) - expected).abs() < expected / 2_000.0 + 0.2,
            "{number}, {block}: {}",
            hz(&heard, 0)
        );
        assert!(
            (peak(&heard) - 4_084.0 / 32_768.0).abs() < 0.001,
            "a whole channel is an eighth of the range"
        );
        assert!(amplitude(&heard, 2.0 * expected) < 0.000_5 && amplitude(&heard, 3.0 * expected) < 0.000_5);
    }
}

#[test]
fn levels_are_in_steps_of_three_quarters_of_a_decibel() {
    let loud = |level: u8| {
        let mut chip = Opl3::default();
        sine(&mut chip, 580, 4);
        set(&mut chip, 0x43, level);
        f64::from(peak(&play(&mut chip, 5_000)))
    };
    let whole = loud(0);
    for level in [1, 8, 16, 32] {
        let expected = 10_f64.powf(-0.75 * f64::from(level) / 20.0);
        assert!((loud(level) / whole / expected - 1.0).abs() < 0.02, "{level}: {}", loud(level) / whole);
    }
}

/// Milliseconds until the peak of a millisecond has fallen below `part` of the first.
fn time_to(chip: &mut Opl3, part: f32) -> f64 {
    let whole = 4_084.0 / 32_768.0;
    for n in 0..60_000 {
        if peak(&play(chip, 50)) < whole * part {
            return f64::from(n) * 50_000.0 / f64::from(RATE_HZ);
        }
    }
    f64::INFINITY
}

#[test]
fn decay_and_release_take_the_datasheets_times() {
    for rate in [8_u8, 10] {
        let mut chip = Opl3::default();
        sine(&mut chip, 580, 0);
        set(&mut chip, 0xB0, 0);
        set(&mut chip, 0xA0, 255);
        set(&mut chip, 0x63, 0xF0 | rate);
        set(&mut chip, 0x83, 0xFF);
        set(&mut chip, 0xB0, 0x20 | 7 << 2 | 1);
        // The octave adds (7 << 1) >> 2 = 3 quarters to the rate: seven steps of 3/16 dB in eight turns of
        // 2^(12 - rate) samples, and 48 dB are 256 steps.
        let expected = f64::from(256 * (1 << (12 - rate))) * 8.0 / 7.0 / f64::from(RATE_HZ) * 1_000.0;
        let decayed = time_to(&mut chip, 0.004);
        assert!((decayed / expected - 1.0).abs() < 0.1, "{rate}: {decayed} ms, {expected} ms");
    }
}

#[test]
fn attacks_take_their_time_and_the_fastest_none() {
    let attack = |rate: u8| {
        let mut chip = Opl3::default();
        sine(&mut chip, 580, 4);
        set(&mut chip, 0xB0, 0);
        set(&mut chip, 0x63, rate << 4);
        play(&mut chip, 5_000);
        set(&mut chip, 0xB0, 0x20 | 4 << 2 | 2);
        let mut n = 0.0;
        while peak(&play(&mut chip, 120)) < 0.122 {
            n += 120_000.0 / f64::from(RATE_HZ);
            assert!(n < 10_000.0, "{rate}");
        }
        n
    };
    let times = [4, 6, 8].map(attack);
    for pair in times.windows(2) {
        assert!(
            (pair[0] / pair[1] - 4.0).abs() < 0.7,
            "two more of the rate are four times as fast: {times:?}"
        );
    }
    assert_eq!(attack(15), 0.0);
}

#[test]
fn sustain_lasts_as_long_as_the_key_only_where_it_is_told_so() {
    for (flags, holds) in [(0x21, true), (0x01, false)] {
        let mut chip = Opl3::default();
        sine(&mut chip, 580, 4);
        set(&mut chip, 0x23, flags);
        set(&mut chip, 0x63, 0xFF);
        set(&mut chip, 0x83, 0x28);
        play(&mut chip, 1_000);
        let later = peak(&play(&mut chip, 40_000)[39_000..]);
        let expected = 4_084.0 / 32_768.0 * 10_f32.powf(-6.0 / 20.0);
        assert_eq!((later / expected - 1.0).abs() < 0.05, holds, "{later}");
        set(&mut chip, 0xB0, 0);
        play(&mut chip, 49_716);
        assert!(!chip.sounds());
    }
}

#[test]
fn a_modulator_makes_overtones_and_feedback_too() {
    let tone = 580.0 * f64::from(RATE_HZ) / f64::from(1 << 16);
    let mut chip = Opl3::default();
    sine(&mut chip, 580, 4);
    set(&mut chip, 0x20, 0x21);
    set(&mut chip, 0x40, 0x10);
    set(&mut chip, 0xC0, 0);
    let modulated = play(&mut chip, 49_716);
    assert!(amplitude(&modulated, 2.0 * tone) > 0.01);
    let mut chip = Opl3::default();
    sine(&mut chip, 580, 4);
    for (register, value) in [(0x20, 0x21), (0x40, 0), (0x43, 0x3F), (0xC0, 1 | 6 << 1)] {
        set(&mut chip, register, value);
    }
    let fed_back = play(&mut chip, 49_716);
    assert!(amplitude(&fed_back, 2.0 * tone) > 0.01 && amplitude(&fed_back, 3.0 * tone) > 0.005);
}

#[test]
fn waves_are_those_of_the_datasheet() {
    let tone = 580.0 * f64::from(RATE_HZ) / f64::from(1 << 16);
    let wave = |number: u8, new: bool, allowed: bool| {
        let mut chip = Opl3::default();
        set(&mut chip, 0x105, new.into());
        set(&mut chip, 0x01, u8::from(allowed) << 5);
        sine(&mut chip, 580, 4);
        set(&mut chip, 0xC0, 0x31);
        set(&mut chip, 0xE3, number);
        let heard = play(&mut chip, 49_716);
        let mean = heard.iter().map(|sample| f64::from(sample[0])).sum::<f64>() / heard.len() as f64;
        [mean, amplitude(&heard, tone), amplitude(&heard, 2.0 * tone), amplitude(&heard, 3.0 * tone)]
            .map(|part| (part / (4_084.0 / 32_768.0) * 100.0).round() / 100.0)
    };
    assert_eq!(wave(0, true, false), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(wave(1, true, false), [0.32, 0.5, 0.21, 0.0], "half a sine: 1/pi, 1/2, 2/(3 pi)");
    assert_eq!(wave(2, true, false), [0.64, 0.0, 0.42, 0.0], "both halves up: 2/pi, 4/(3 pi)");
    assert_eq!(wave(6, true, false)[1], 1.27, "a square: 4/pi");
    assert_eq!(wave(6, true, false)[3], 0.42);
    assert_eq!(wave(2, false, false), [0.0, 1.0, 0.0, 0.0], "a YM3812 must be told that it may");
    assert_eq!(wave(6, false, true), wave(2, true, false), "and has four waves");
}

#[test]
fn four_operators_are_one_voice_and_channels_have_sides() {
    let mut chip = Opl3::default();
    set(&mut chip, 0x105, 1);
    set(&mut chip, 0x104, 1);
    // Connection 11: the first, the third (modulated by the second, which is very soft) and the fourth are heard.
    for (operator, multiple, level) in [(0x00, 1, 0), (0x03, 2, 0x3F), (0x08, 3, 0), (0x0B, 4, 0)] {
        set(&mut chip, 0x20 + operator, 0x20 | multiple);
        set(&mut chip, 0x40 + operator, level);
        set(&mut chip, 0x60 + operator, 0xF0);
        set(&mut chip, 0x80 + operator, 0x0F);
    }
    set(&mut chip, 0xC0, 0x11);
    set(&mut chip, 0xC3, 0x01);
    set(&mut chip, 0xA0, 0x44);
    set(&mut chip, 0xB0, 0x20 | 4 << 2 | 2);
    let heard = play(&mut chip, 49_716);
    let tone = f64::from(0x244) * f64::from(RATE_HZ) / f64::from(1 << 16);
    let one = 4_084.0 / 32_768.0;
    for multiple in [1.0, 3.0, 4.0] {
        assert!((amplitude(&heard, multiple * tone) / one - 1.0).abs() < 0.1, "{multiple}");
    }
    assert!(amplitude(&heard, 2.0 * tone) / one < 0.02);
    assert!(heard.iter().all(|sample| sample[1] == 0.0), "the left side alone");
    set(&mut chip, 0xB0, 0);
    play(&mut chip, 49_716);
    assert!(!chip.sounds(), "one key holds all four");
}

#[test]
fn percussion_sounds_when_its_keys_go_down() {
    for bit in 0..5 {
        let mut chip = Opl3::default();
        for n in 0x10..0x16 {
            for (base, value) in [(0x20, 0x21), (0x40, 0), (0x60, 0xF8), (0x80, 0x08)] {
                set(&mut chip, base + n, value);
            }
        }
        for channel in 6..9 {
            set(&mut chip, 0xA0 + channel, 0x44);
            set(&mut chip, 0xB0 + channel, 3 << 2 | 2);
        }
        set(&mut chip, 0xBD, 0x20);
        assert_eq!(peak(&play(&mut chip, 2_000)), 0.0);
        set(&mut chip, 0xBD, 0x20 | 1 << bit);
        assert!(peak(&play(&mut chip, 2_000)) > 0.05, "voice {bit}");
    }
}

#[test]
fn tremolo_and_vibrato_have_their_depths() {
    let mut chip = Opl3::default();
    sine(&mut chip, 580, 4);
    set(&mut chip, 0x23, 0xA1);
    set(&mut chip, 0xBD, 0x80);
    let peaks: Vec<f32> = play(&mut chip, 49_716).chunks(500).map(peak).collect();
    let (loud, soft) = (peaks.iter().copied().fold(0.0, f32::max), peaks.iter().copied().fold(1.0, f32::min));
    let depth_db = 20.0 * (loud / soft).log10();
    assert!((depth_db - 4.8).abs() < 0.4, "{depth_db} dB");
    let mut chip = Opl3::default();
    sine(&mut chip, 580, 4);
    set(&mut chip, 0x23, 0x61);
    set(&mut chip, 0xBD, 0x40);
    let pitches: Vec<f64> = play(&mut chip, 8 * 1024).chunks(1024).map(|part| hz(part, 0)).collect();
    let (high, low) =
        (pitches.iter().copied().fold(0.0, f64::max), pitches.iter().copied().fold(1e9, f64::min));
    let cents = 1_200.0 * (high / low).log2();
    assert!((15.0..40.0).contains(&cents), "{cents}: 14 to either side");
}

#[test]
fn programs_find_it_by_its_timers() {
    // As the AdLib manual says: reset the timers, start the first, look after 80 microseconds.
    let mut chip = Opl3::default();
    set(&mut chip, 4, 0x60);
    set(&mut chip, 4, 0x80);
    assert_eq!(chip.read(0, 0) & 0xE0, 0);
    set(&mut chip, 2, 0xFF);
    set(&mut chip, 4, 0x21);
    assert_eq!(chip.read(0, 79_999) & 0xE0, 0);
    assert_eq!(chip.read(0, 80_000), 0xC0, "and the low bits say YMF262");
    chip.write(0, 4, 80_000);
    chip.write(1, 0x80, 80_000);
    assert_eq!(chip.read(0, 100_000), 0);
    assert_eq!(chip.read(0, 160_000), 0xC0, "it starts again by itself");
    let mut chip = Opl3::default();
    set(&mut chip, 3, 0xFE);
    set(&mut chip, 4, 0x42);
    assert_eq!((chip.read(0, 639_999), chip.read(0, 640_000)), (0, 0xA0));
    set(&mut chip, 4, 0x62);
    assert_eq!(chip.read(0, 640_000), 0, "masked");
}

#[test]
fn the_second_bank_is_there_when_it_is_new() {
    let mut chip = Opl3::default();
    set(&mut chip, 0x1A0, 0x55);
    assert_eq!((chip.register(0x1A0), chip.register(0xA0)), (0, 0x55), "a YM3812 has one bank");
    set(&mut chip, 0x105, 1);
    set(&mut chip, 0x1A0, 0x66);
    assert_eq!(chip.register(0x1A0), 0x66);
}
