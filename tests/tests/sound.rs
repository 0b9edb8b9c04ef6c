//! Tones that guests play on each sound device arrive in a WAV file: pitch, length, and when.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::profile::{Deterministic, Direct, Profile, Size};
use engine::sound::{Output, SoundCards};
use engine::{Ending, Outlets, Session};
use machine_tests::linux::Linux;
use machine_tests::sound::{Tone, to_wav, tones};
use machine_tests::{SOFT, assembler};

/// How much of a square wave is its first harmonic: 8 / pi^2.
const SQUARE: f64 = 0.81;
const SINE: f64 = 0.99;

fn profile(name: &str, cards: &str) -> (Profile, tempfile::NamedTempFile) {
    let program = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(program.path(), assembler::binary(&format!("sound/{name}"))).expect("room for a program");
    let mut profile = Profile::new(name);
    profile.backend = SOFT.backend;
    profile.direct = Some(Direct::Flat(program.path().to_owned()));
    profile.debug_exit = true;
    profile.sound = cards.parse::<SoundCards>().expect("sound devices");
    (profile, program)
}

fn run(profile: &Profile, output: Option<Output>) -> Session {
    let session =
        Session::start(profile, Outlets { sound: output, ..Outlets::default() }).expect("it starts");
    let ending = session.wait(Duration::from_secs(300));
    let registers = session.registers(0).map(|registers| registers.general);
    assert_eq!(ending, Some(Ending::DebugExit(0)), "{}: {registers:x?}", profile.name);
    session
}

/// What is heard of the guest `name`, in guest time that instructions count: no host disturbs it.
fn heard(name: &str, cards: &str) -> Vec<Tone> {
    let (mut profile, _program) = profile(name, cards);
    profile.deterministic = Some(Deterministic::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("sound.wav");
    let session = run(&profile, Some(to_wav(&path)));
    let status = session.sound().status();
    assert_eq!((status.dropped, status.underruns), (0, 0), "{name}");
    drop(session);
    let tones = tones(&path);
    println!("{name}: {tones:?}");
    tones
}

fn plays(name: &str, cards: &str, expected: &[(f64, f64, f64)]) {
    let tones = heard(name, cards);
    assert_eq!(tones.len(), expected.len(), "{tones:?}");
    for (tone, (hz, length_ms, purity)) in tones.iter().zip(expected) {
        assert!(
            tone.is(*hz, *length_ms) && (tone.purity - purity).abs() < 0.05,
            "{hz} Hz, {length_ms} ms: {tone:?}"
        );
    }
    assert!(tones[0].start_ms > 95.0 && tones[0].start_ms < 150.0, "{tones:?}");
}

#[test]
fn the_pc_speaker() {
    plays("speaker", "speaker", &[(1_193_182.0 / 2712.0, 500.0, SQUARE)]);
}

#[test]
fn a_sound_blaster_by_dma() {
    plays("sb16", "sb16", &[(500.0, 500.0, SQUARE), (441.0, 448.9, SQUARE)]);
}

#[test]
fn an_opl3() {
    plays("opl3", "sb16", &[(580.0 * 49_716.0 / 65_536.0, 500.0, SINE)]);
}

#[test]
fn an_ac97_by_its_list() {
    plays("ac97", "ac97", &[(480.0, 500.0, SQUARE)]);
}

#[test]
fn a_virtio_sound_device_by_its_queue() {
    plays("virtio", "virtio", &[(480.0, 500.0, SQUARE)]);
}

#[test]
fn a_cards_interrupts_are_counted_as_its_own() {
    let (profile, _program) = profile("sb16", "sb16");
    let session = run(&profile, None);
    let work = session.stats().work;
    let interrupts =
        |name: &str| work.iter().find(|device| device.device == name).map(|device| device.interrupts);
    assert!(interrupts("sb16").is_some_and(|count| count > 0), "{work:?}");
}

/// By the host's clock, and with nobody who hears it: the guest's tones take the same time.
#[test]
fn a_guest_does_not_notice_whether_it_is_heard() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("sound.wav");
    let (profile, _program) = profile("ac97", "ac97,speaker");
    drop(run(&profile, Some(to_wav(&path))));
    let tones = tones(&path);
    assert!(tones.len() == 1 && tones[0].is(480.0, 500.0), "{tones:?}");
    let silent = run(&profile, Some(Output::unavailable("host", "the host has no sound device".to_owned())));
    let status = silent.sound().status();
    assert_eq!(status.problem.as_deref(), Some("the host has no sound device"));
}

#[test]
fn two_runs_sound_alike_to_the_last_sample() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = ["one", "other"].map(|name| {
        let (mut profile, _program) = profile("opl3", "sb16,speaker");
        profile.deterministic = Some(Deterministic::default());
        let path = folder.path().join(name);
        drop(run(&profile, Some(to_wav(&path))));
        std::fs::read(path).expect("the file")
    });
    assert!(files[0] == files[1] && files[0].len() > 44 + 4 * 48_000 / 2);
}

/// Debian's kernel and its driver: a sine of 500 Hz through /dev/dsp, which plays bytes of 8 kHz.
#[test]
fn linux_plays_on_an_ac97() {
    const MODULES: [&str; 9] = [
        "soundcore",
        "snd",
        "snd-timer",
        "snd-pcm",
        "ac97_bus",
        "snd-ac97-codec",
        "snd-intel8x0",
        "snd-mixer-oss",
        "snd-pcm-oss",
    ];
    let byte = |n: u32| (128.0 + 90.0 * (f64::from(n) / 16.0 * std::f64::consts::TAU).sin()) as u8;
    let tone: Vec<u8> = (0..8_000).map(byte).collect();
    let files =
        [("tone", 0o100_644, tone.as_slice()), ("unmute", 0o100_755, &assembler::binary("sound/unmute"))];
    let script = "cat /proc/asound/cards\n/unmute && cat /tone > /dev/dsp && echo played\nsleep 1\ncat /proc/interrupts";
    let Some(linux) = Linux::of("amd64", &MODULES, script, &files) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("sound.wav");
    let mut profile = Profile::new("linux");
    profile.memory = Size::mib(256);
    profile.sound = "ac97".parse().expect("a sound device");
    profile.backend = SOFT.backend;
    linux.boot_in(&mut profile, "quiet");
    let serial = Arc::new(Mutex::new(Vec::new()));
    let kept = serial.clone();
    let outlets = Outlets {
        sound: Some(to_wav(&path)),
        serial: Some(Box::new(move |bytes| kept.lock().unwrap().extend_from_slice(bytes))),
        ..Outlets::default()
    };
    let session = Session::start(&profile, outlets).expect("it starts");
    let ending = session.wait(Duration::from_secs(600));
    let said = String::from_utf8_lossy(&serial.lock().unwrap()).into_owned();
    assert_eq!(ending, Some(Ending::PoweredOff), "{said}");
    assert!(said.contains("82801AA") && said.contains("played"), "{said}");
    drop(session);
    let tones: Vec<Tone> = tones(&path).into_iter().filter(|tone| tone.length_ms > 200.0).collect();
    println!("linux: {tones:?}");
    // The driver plays whole periods: silence may follow.
    assert!(tones.len() == 1 && tones[0].is(500.0, 1_000.0) && tones[0].purity > 0.97, "{tones:?}\n{said}");
}

#[test]
fn sox_reads_what_was_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("sound.wav");
    let (mut profile, _program) = profile("speaker", "speaker");
    profile.deterministic = Some(Deterministic::default());
    drop(run(&profile, Some(to_wav(&path))));
    let Ok(told) = Command::new("soxi").arg("-r").arg(&path).output() else {
        println!("skipped: soxi does not start (package sox)");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "48000");
    assert!(told.stderr.is_empty(), "{}", String::from_utf8_lossy(&told.stderr));
}

#[test]
fn binaries_are_what_nasm_makes_of_the_sources() {
    for name in ["ac97", "opl3", "sb16", "speaker", "unmute", "virtio"].map(|name| format!("sound/{name}")) {
        let Some(assembled) = assembler::assemble(&name) else { return };
        assert!(assembled == assembler::binary(&name), "{name}.bin is not what {name}.asm says");
    }
}
