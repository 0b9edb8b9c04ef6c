use super::super::Sink;
use super::super::testing::{amplitude, sine};
use super::*;

/// Keeps what it hears.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<(Vec<Stereo>, u32)>>);

impl Sink for Ear {
    fn play(&mut self, samples: &[Stereo]) {
        self.0.lock().0.extend_from_slice(samples);
    }
    fn silence(&mut self, samples: u64) {
        self.0.lock().0.extend(std::iter::repeat_n([0.0; 2], samples as usize));
    }
    fn rest(&mut self) {
        self.0.lock().1 += 1;
    }
}

impl Ear {
    fn heard(&self) -> Vec<Stereo> {
        self.0.lock().0.clone()
    }
}

fn mixer() -> (Arc<Mixer>, Ear) {
    let ear = Ear::default();
    let output = Output { sink: Some(Box::new(ear.clone())), ..Output::none() };
    (Mixer::new(output), ear)
}

const MS: u64 = 1_000_000;

/// Plays a sine of `hz` for `ms` in pieces of 10 ms, from `start_ms` on, and mixes as a machine does.
fn play(mixer: &Mixer, source: &Source, hz: f64, rate_hz: u32, start_ms: u64, ms: u64) {
    let piece = rate_hz as usize / 100;
    for (n, samples) in sine(hz, rate_hz, piece * ms as usize / 10).chunks(piece).enumerate() {
        let at = start_ms + 10 * n as u64;
        source.play(at * MS, rate_hz, samples);
        mixer.mix((at + 10) * MS);
        mixer.mix((at + 15) * MS);
    }
}

#[test]
fn a_sound_stands_where_it_was_played_and_is_as_long() {
    let (mixer, ear) = mixer();
    let source = mixer.source("card");
    play(&mixer, &source, 1_000.0, 22_050, 300, 500);
    mixer.close(1_000 * MS);
    let heard = ear.heard();
    assert_eq!(heard.len(), 48_000);
    let loud: Vec<usize> = (0..heard.len()).filter(|n| heard[*n][0].abs() > 0.1).collect();
    let (first, last) = (loud[0], loud[loud.len() - 1]);
    assert!(first.abs_diff(14_400) < 120 && last.abs_diff(38_400) < 120, "{first} to {last}");
    assert!((amplitude(&heard[15_000..38_000], 1_000.0, RATE_HZ) - 0.5).abs() < 0.005);
}

#[test]
fn sources_of_several_rates_are_added_and_loudness_has_an_end() {
    let (mixer, ear) = mixer();
    let (first, second) = (mixer.source("a"), mixer.source("b"));
    let (one, other) = (sine(400.0, 44_100, 44_100), sine(2_000.0, 8_000, 8_000));
    for n in 0..100 {
        first.play(10 * n as u64 * MS, 44_100, &one[441 * n..441 * (n + 1)]);
        second.play(10 * n as u64 * MS, 8_000, &other[80 * n..80 * (n + 1)]);
        mixer.mix(10 * (n as u64 + 1) * MS);
    }
    let heard = &ear.heard()[4_800..43_200];
    for hz in [400.0, 2_000.0] {
        assert!((amplitude(heard, hz, RATE_HZ) - 0.5).abs() < 0.01, "{hz}");
    }
    assert_eq!(mixer.status().dropped, 0);
    first.play(1_000 * MS, 48_000, &[[0.9; 2]; 480]);
    second.play(1_000 * MS, 48_000, &[[0.9; 2]; 480]);
    mixer.rest(1_010 * MS);
    let last = *ear.heard().last().unwrap();
    assert_eq!(last, [1.0; 2], "clipped, not wrapped");
}

#[test]
fn volume_and_mute_are_for_all_and_for_each_and_do_not_click() {
    let (mixer, ear) = mixer();
    let sources = [mixer.source("a"), mixer.source("b")];
    let loud = |n: u64| {
        sources.iter().for_each(|source| source.play(10 * n * MS, 48_000, &[[0.25; 2]; 480]));
        mixer.rest(10 * (n + 1) * MS);
        (ear.heard().last().unwrap()[0] * 10_000.0).round() / 10_000.0
    };
    assert_eq!(loud(0), 0.5);
    assert!(mixer.set_volume(Some("a"), 0.5) && mixer.set_volume(None, 0.5));
    assert_eq!(loud(1), 0.1875);
    let block = ear.heard()[480..960].to_vec();
    assert!(block.windows(2).all(|pair| (pair[0][0] - pair[1][0]).abs() < 0.01), "in small steps");
    assert!(mixer.set_muted(Some("b"), true) && !mixer.set_muted(Some("c"), true));
    assert_eq!(loud(2), 0.0625, "a quarter of 0.25");
    assert!(mixer.set_muted(None, true));
    assert_eq!(loud(3), 0.0);
    let status = mixer.status();
    assert!(status.muted && status.sources[1].muted && !status.sources[0].muted);
    mixer.set_volume(None, f32::NAN);
    assert_eq!(mixer.status().volume, 0.0);
}

#[test]
fn a_sound_wakes_once_and_silence_ends_it() {
    let (mixer, ear) = mixer();
    let source = mixer.source("card");
    let woken = Arc::new(Mutex::new(0));
    let count = woken.clone();
    mixer.on_sound(move || *count.lock() += 1);
    play(&mixer, &source, 500.0, 48_000, 0, 50);
    assert!(mixer.status().sounding && mixer.mix(100 * MS));
    assert!(!mixer.mix(400 * MS), "silence lasts");
    assert_eq!((*woken.lock(), ear.0.lock().1), (1, 1));
    source.play(5_000 * MS, 48_000, &[[0.5; 2]; 480]);
    assert_eq!(*woken.lock(), 2);
    assert!(mixer.mix(5_030 * MS));
    assert_eq!(ear.heard().len() as u64, position(5_030 * MS) - BEHIND);
}

#[test]
fn nothing_grows_when_nobody_mixes_and_time_may_go_back() {
    let (mixer, ear) = mixer();
    let source = mixer.source("card");
    (0..1_000_u64).for_each(|n| source.play(100_000 * MS * n, 8_000, &[[0.1; 2]; 8_000]));
    assert!(mixer.status().dropped > 0);
    mixer.mix(1_000 * MS);
    assert!(ear.heard().len() <= 48_000);
    let (mixer, ear) = self::mixer();
    let source = mixer.source("card");
    play(&mixer, &source, 500.0, 48_000, 10_000, 100);
    let before = ear.heard().len();
    mixer.mix(1_000 * MS);
    play(&mixer, &source, 500.0, 48_000, 1_000, 100);
    assert_eq!(ear.heard().len() - before, 4_800 + 240, "it goes on from the earlier time");
}

#[test]
fn without_a_sink_all_is_the_same() {
    let mixer = Mixer::new(Output::unavailable("host", "the host has no sound device".into()));
    let source = mixer.source("card");
    play(&mixer, &source, 500.0, 44_100, 0, 1_000);
    let status = mixer.status();
    assert_eq!((status.output.as_str(), status.dropped, status.underruns), ("host", 0, 0));
    assert_eq!(status.problem.as_deref(), Some("the host has no sound device"));
    assert!(status.level > 0.4 && status.sources[0].level > 0.4);
}

#[test]
fn a_sound_that_begins_soon_after_another_stands_in_its_own_place() {
    for start_ms in [5, 15, 20, 25] {
        let (mixer, ear) = mixer();
        let source = mixer.source("card");
        play(&mixer, &source, 500.0, 10_000, start_ms, 100);
        mixer.close(300 * MS);
        let heard = ear.heard();
        let first = heard.iter().position(|sample| sample[0].abs() > 0.1).unwrap() as u64;
        assert!(first.abs_diff(start_ms * 48) < 150, "{start_ms} ms: {first}");
        assert_eq!(mixer.status().dropped, 0, "{start_ms} ms");
    }
}
