//! Backwards: a deterministic machine stands again where it stood, to the last register, and comes to the same present
//! again.

use std::time::Duration;

use engine::debugger::{Condition, Goal, HistoryLimits, Met, words};
use engine::machine::Input;
use engine::profile::{Deterministic, Direct, Profile, Size};
use engine::session::{Others, Way};
use engine::{Key, Outlets, Registers, Session};
use machine_tests::assembler;

const LONG: Duration = Duration::from_secs(600);

fn start(mut profile: Profile) -> Session {
    profile.deterministic = Some(Deterministic::default());
    let outlets = Outlets { paused: true, history: Some(HistoryLimits::default()), ..Outlets::default() };
    Session::start(&profile, outlets).expect("the machine starts")
}

fn firmware() -> Session {
    let mut profile = Profile::new("backwards");
    profile.memory = Size::mib(32);
    start(profile)
}

fn stops() -> Session {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), assembler::binary("debugger/stops")).unwrap();
    let mut profile = Profile::new("stops");
    profile.direct = Some(Direct::Flat(file.path().to_owned()));
    start(profile)
}

fn registers(session: &Session) -> Registers {
    (*session.registers(0).unwrap()).clone()
}

fn step(session: &Session) {
    session.go(0, Goal::Into(1), Others::Stand).unwrap();
    assert_eq!(session.wait_stop(LONG).unwrap().met, Met::Stepped);
}

/// Steps forward `count` times from `from` on, then back as many times: the same registers each time.
fn there_and_back(session: &Session, from: u64, count: u64) {
    assert!(session.run_to(from, LONG), "{:?} at {:?}", session.state(), session.steps());
    let before = session.fingerprint().unwrap();
    let mut forward: Vec<(u64, Registers)> = Vec::new();
    for _ in 0..count {
        forward.push((session.steps().unwrap(), registers(session)));
        step(session);
    }
    for (steps, expected) in forward.into_iter().rev() {
        session.go_back(Way::Steps(1)).unwrap();
        assert_eq!((session.steps(), registers(session)), (Some(steps), expected));
    }
    assert_eq!(session.fingerprint().unwrap(), before, "memory and devices too");
}

#[test]
fn the_firmware_steps_back_as_it_stepped_forward() {
    let session = firmware();
    for from in [0, 262_100, 5_000_003, 12_000_000] {
        there_and_back(&session, from, 60);
    }
}

#[test]
fn a_long_way_back_and_forth_again_comes_to_the_same_present() {
    let session = firmware();
    assert!(session.run_to(9_000_001, LONG));
    let present = session.fingerprint().unwrap();
    session.go_back(Way::Steps(8_500_000)).unwrap();
    assert_eq!(session.steps(), Some(500_001));
    assert!(session.run_to(9_000_001, LONG));
    assert_eq!(session.fingerprint().unwrap(), present);
}

#[test]
fn little_memory_keeps_fewer_moments_and_the_way_back_is_longer() {
    let session = firmware();
    let limits = HistoryLimits { interval_steps: 1 << 18, memory_bytes: 3 << 20 };
    session.keep_history(Some(limits)).unwrap();
    for target in [3_000_000, 6_000_000, 9_000_000] {
        assert!(session.run_to(target, LONG));
    }
    let present = session.fingerprint().unwrap();
    session.go_back(Way::Steps(7_000_000)).unwrap();
    assert_eq!((session.steps(), session.last_stop().unwrap().met), (Some(2_000_000), Met::Stepped));
    assert!(session.run_to(9_000_000, LONG));
    assert_eq!(session.fingerprint().unwrap(), present);
}

#[test]
fn input_comes_again_when_the_past_is_run_again() {
    let session = firmware();
    assert!(session.run_to(3_000_000, LONG));
    session.key(Key::A, true);
    assert!(session.run_to(3_400_000, LONG));
    session.key(Key::A, false);
    assert!(session.run_to(6_000_000, LONG));
    let (present, journal) = (session.fingerprint().unwrap(), session.journal());
    assert_eq!(journal.len(), 2);
    assert_eq!(journal[1].1, Input::Key(Key::A, false));
    session.go_back(Way::Steps(4_000_000)).unwrap();
    assert!(session.journal().is_empty());
    assert!(session.run_to(6_000_000, LONG));
    assert_eq!((session.fingerprint().unwrap(), session.journal()), (present, journal));
}

#[test]
fn backwards_to_the_last_time_a_condition_was_met() {
    for text in
        ["execute 0x7c80", "data 0x500 2 write", "port 0x80 write", "exception #UD", "timer 8254 channel 0"]
    {
        let session = stops();
        let words: Vec<&str> = text.split_whitespace().collect();
        session.add_condition(words::condition(&words, &words::number).unwrap(), 0).unwrap();
        let mut stops = Vec::new();
        for _ in 0..5 {
            session.resume();
            let stopped = session.wait_stop(LONG).unwrap_or_else(|| panic!("{text}: {:?}", session.state()));
            stops.push((stopped.steps, registers(&session)));
        }
        let hits = session.conditions()[0].hits;
        stops.pop();
        for (steps, expected) in stops.into_iter().rev() {
            session.go_back(Way::Stop).unwrap();
            let stopped = session.last_stop().unwrap();
            assert_eq!((stopped.steps, stopped.conditions.len()), (steps, 1), "{text}: {stopped:?}");
            assert_eq!(registers(&session), expected, "{text}");
        }
        session.go_back(Way::Stop).unwrap();
        assert_eq!(session.last_stop().unwrap().met, Met::Began, "{text}");
        assert_eq!(session.conditions()[0].hits, hits, "what is run again is not counted again");
    }
}

#[test]
fn what_was_changed_from_outside_cannot_be_taken_back() {
    let session = stops();
    assert!(session.go_back(Way::Steps(1)).unwrap_err().to_string().contains("nothing"));
    assert!(session.run_to(500, LONG));
    let mut changed = registers(&session);
    changed.general[6] = 0x1234;
    session.set_registers(0, changed).unwrap();
    step(&session);
    session.go_back(Way::Steps(5)).unwrap();
    assert_eq!(session.last_stop().unwrap().met, Met::Began);
    assert_eq!((session.steps(), registers(&session).general[6]), (Some(500), 0x1234));
}

#[test]
fn machines_that_cannot_go_back_say_why() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), assembler::binary("debugger/stops")).unwrap();
    let mut profile = Profile::new("stops");
    profile.backend = engine::backend::Backend::Soft;
    profile.direct = Some(Direct::Flat(file.path().to_owned()));
    let session = Session::start(&profile, Outlets { paused: true, ..Outlets::default() }).unwrap();
    assert!(session.go_back(Way::Steps(1)).unwrap_err().to_string().contains("deterministic"));
    profile.deterministic = Some(Deterministic::default());
    let session = Session::start(&profile, Outlets { paused: true, ..Outlets::default() }).unwrap();
    assert!(session.go_back(Way::Stop).unwrap_err().to_string().contains("--history"));
    session.keep_history(Some(HistoryLimits::default())).unwrap();
    assert!(session.run_to(100, LONG));
    session.add_condition(Condition::Mode { to: None }, 0).unwrap();
    session.go_back(Way::Steps(10)).unwrap();
    assert_eq!(session.steps(), Some(90));
}
