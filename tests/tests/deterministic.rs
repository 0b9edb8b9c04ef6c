//! Deterministic machines: the same input gives the same run to the last register, however the host is disturbed,
//! and a checkpoint goes on as the run it was taken from.

use std::time::Duration;

use engine::backend::Backend;
use engine::machine::{EPOCH, Fingerprint, Input};
use engine::profile::{Deterministic, Direct, Profile, Size};
use engine::{Key, Outlets, Session};
use machine_tests::{assembler, installed};

const LONG: Duration = Duration::from_secs(600);

fn start(profile: &Profile) -> Session {
    start_with(profile, Outlets::default())
}

fn start_with(profile: &Profile, outlets: Outlets) -> Session {
    let profile = Profile { deterministic: Some(Deterministic::default()), ..profile.clone() };
    Session::start(&profile, Outlets { paused: true, ..outlets }).expect("the machine starts")
}

fn run_to(session: &Session, steps: u64) -> Fingerprint {
    assert!(session.run_to(steps, LONG), "{:?} at {:?}", session.state(), session.steps());
    let print = session.fingerprint().unwrap();
    assert_eq!(print.steps, steps);
    print
}

fn prints(profile: &Profile, at: &[u64]) -> Vec<Fingerprint> {
    let session = start(profile);
    at.iter().map(|steps| run_to(&session, *steps)).collect()
}

/// Two runs, one straight and one that is paused again and again and stopped at other steps too, agree.
fn agrees_with_itself(profile: &Profile, at: &[u64]) -> Vec<Fingerprint> {
    let straight = prints(profile, at);
    let disturbed = start(profile);
    for expected in &straight {
        let target = expected.steps;
        for between in [target / 2 + 1, target - 12_345, target - 7, target - 1] {
            if disturbed.steps().unwrap() < between {
                run_to(&disturbed, between);
            }
        }
        assert_eq!(&run_to(&disturbed, target), expected, "a run that was stopped on its way");
    }
    let pestered = start(profile);
    let last = straight.last().unwrap();
    std::thread::scope(|scope| {
        let arrived = scope.spawn(|| run_to(&pestered, last.steps));
        while !arrived.is_finished() {
            // What only looks, and takes the vCPU off its worker.
            pestered.registers(0);
            pestered.screen_text();
            pestered.stats();
            std::thread::sleep(Duration::from_millis(3));
        }
        assert_eq!(&arrived.join().unwrap(), last, "a run that was looked at");
    });
    straight
}

fn rescue_cd() -> Option<Profile> {
    let mut profile = Profile::new("determ");
    profile.cdrom = Some(installed("/usr/lib/grub-rescue/grub-rescue-cdrom.iso", "grub-rescue-pc")?);
    profile.memory = Size::mib(64);
    Some(profile)
}

#[test]
fn firmware_and_grub_run_alike_every_time() {
    let Some(profile) = rescue_cd() else { return };
    let prints = agrees_with_itself(&profile, &[1_000_000, 8_000_001, 30_000_000]);
    assert!(prints[0].memory != prints[1].memory && prints[1].memory != prints[2].memory);
}

#[test]
fn a_restored_checkpoint_goes_on_as_the_run_it_was_taken_from() {
    let Some(profile) = rescue_cd() else { return };
    let session = start(&profile);
    run_to(&session, 2 * EPOCH);
    let checkpoint = session.checkpoint().unwrap();
    let here = session.fingerprint().unwrap();
    let later = run_to(&session, 3 * EPOCH + 4321);

    let other = start(&profile);
    run_to(&other, 1000);
    other.restore(&checkpoint).unwrap();
    assert_eq!(other.fingerprint().unwrap(), here);
    assert_eq!(run_to(&other, later.steps), later, "another machine");
    session.restore(&checkpoint).unwrap();
    assert_eq!(run_to(&session, later.steps), later, "back in the same machine");
    let straight = start(&profile);
    assert_eq!(run_to(&straight, later.steps), later, "a run without checkpoints");
}

/// Four processors that count, lock and interrupt each other.
#[test]
fn several_processors_run_alike_every_time() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), assembler::binary("smp")).unwrap();
    let mut profile = Profile::new("determ");
    profile.cpus = 4;
    profile.direct = Some(Direct::Flat(file.path().to_owned()));
    agrees_with_itself(&profile, &[20_000, 700_000]);
}

#[test]
fn input_is_stamped_and_can_be_played_again() {
    let Some(profile) = rescue_cd() else { return };
    let session = start(&profile);
    session.resume();
    let shows = |text: &str| {
        let deadline = std::time::Instant::now() + LONG;
        while !session.screen_text().is_some_and(|screen| screen.contains(text)) {
            assert!(std::time::Instant::now() < deadline, "no {text:?}: {:?}", session.screen_text());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    shows("for a command-line");
    session.type_text("c");
    shows("grub>");
    session.type_text("echo one\n");
    session.key(Key::A, true);
    shows("\none");
    session.pause();
    while session.state() != engine::RunState::Paused {
        std::thread::sleep(Duration::from_millis(1));
    }
    let steps = session.steps().unwrap();
    let expected = run_to(&session, steps + 100_000);
    let journal = session.journal();
    assert_eq!(journal.last().map(|(_, input)| input), Some(&Input::Key(Key::A, true)));
    assert_eq!(journal.len(), "cecho one\n".len() * 2 + 1);

    let again = start_with(&profile, Outlets { planned: journal, ..Outlets::default() });
    assert_eq!(run_to(&again, expected.steps), expected);
}

#[test]
fn the_seed_and_the_calendar_are_the_profiles() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // RDRAND EAX; MOV [0x600], EAX; the RTC's year: OUT 0x70, 9; IN AL, 0x71; MOV [0x604], AL; HLT
    let code = [
        0x66, 0x0F, 0xC7, 0xF0, 0x66, 0xA3, 0x00, 0x06, 0xB0, 0x09, 0xE6, 0x70, 0xE4, 0x71, 0xA2, 0x04, 0x06,
        0xF4,
    ];
    std::fs::write(file.path(), code).unwrap();
    let mut profile = Profile::new("determ");
    profile.backend = Backend::Soft;
    profile.direct = Some(Direct::Flat(file.path().to_owned()));
    let memory = |seed, start_seconds| {
        let profile =
            Profile { deterministic: Some(Deterministic { seed, start_seconds }), ..profile.clone() };
        let outlets = Outlets { paused: true, ..Outlets::default() };
        run_to(&Session::start(&profile, outlets).unwrap(), 7).memory
    };
    let first = memory(1, 946_684_800);
    assert_eq!(memory(1, 946_684_800), first);
    assert_ne!(memory(2, 946_684_800), first, "another seed");
    assert_ne!(memory(1, 1_946_684_800), first, "another year");
}
