//! Stopping where one wants: every condition, steps in every direction, on both backends, in real mode.

use std::time::Duration;

use engine::backend::InterruptMode;
use engine::debugger::{Condition, Goal, Met, Stopped, words};
use engine::profile::{Direct, Profile};
use engine::session::{EditError, Others};
use engine::{Outlets, RunState, Session};
use machine_tests::{Platform, SOFT, assembler, kvm, platforms};

const LONG: Duration = Duration::from_secs(60);

// Places in `guests/debugger/stops.asm`.
const ROUND: u64 = 0x7C80;
const OUT: u64 = 0x7C86;
const CALL: u64 = 0x7C88;
const INT: u64 = 0x7C8B;
const UD2: u64 = 0x7C8D;
const FUNCTION: u64 = 0x7D00;

fn start(platform: Platform) -> Session {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), assembler::binary("debugger/stops")).unwrap();
    let mut profile = Profile::new("stops");
    profile.direct = Some(Direct::Flat(file.path().to_owned()));
    (profile.backend, profile.interrupts) = (platform.backend, platform.interrupts);
    Session::start(&profile, Outlets { paused: true, ..Outlets::default() }).unwrap()
}

/// Our own CPU, and the host's with our interrupt controllers, if it can be debugged.
fn debuggable() -> Vec<Platform> {
    let glass = kvm(InterruptMode::Glass);
    platforms().into_iter().filter(|platform| *platform == SOFT || *platform == glass).collect()
}

fn condition(text: &str) -> Condition {
    words::condition(&text.split_whitespace().collect::<Vec<_>>(), &words::number).unwrap()
}

fn add(session: &Session, text: &str) -> u32 {
    session.add_condition(condition(text), 0).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn stop(session: &Session) -> Stopped {
    session.wait_stop(LONG).unwrap_or_else(|| panic!("no stop: {:?}", session.state()))
}

fn resumed(session: &Session) -> Stopped {
    session.resume();
    stop(session)
}

fn rip(session: &Session) -> u64 {
    assert_eq!(session.state(), RunState::Paused);
    session.registers(0).unwrap().linear_rip()
}

#[test]
fn execution_stops_before_the_instruction_each_time_and_counts() {
    for platform in debuggable() {
        let session = start(platform);
        let id = add(&session, "execute 0x7d00");
        for round in 1..=3 {
            let stopped = resumed(&session);
            assert_eq!(stopped.met, Met::Executing { address: FUNCTION }, "{platform:?}");
            assert_eq!((stopped.cpu, stopped.conditions), (Some(0), vec![id]));
            assert_eq!((rip(&session), session.conditions()[0].hits), (FUNCTION, round));
        }
        session.ignore_condition(id, 2).unwrap();
        resumed(&session);
        assert_eq!((session.conditions()[0].hits, session.conditions()[0].ignore), (6, 0));
        session.enable_condition(Some(id), false).unwrap();
        let other = add(&session, "execute 0x7c86");
        assert_eq!(resumed(&session).conditions, [other]);
        session.remove_condition(Some(id)).unwrap();
        assert!(matches!(session.remove_condition(Some(id)), Err(EditError::Refused(_))));
    }
}

#[test]
fn ports_and_data_stop_after_the_access_where_it_was() {
    for platform in debuggable() {
        let session = start(platform);
        let port = add(&session, "port 0x80 write");
        let stopped = resumed(&session);
        assert_eq!(stopped.conditions, [port]);
        assert!(
            matches!(stopped.met, Met::Device { address: 0x80, bytes: 1, write: true, .. }),
            "{stopped:?}"
        );
        assert_eq!(rip(&session), CALL, "{platform:?}");
        session.remove_condition(Some(port)).unwrap();
        if let Err(reason) = session.add_condition(condition("data 0x500 2 write"), 0) {
            assert!(platform != SOFT && reason.to_string().contains("Soft"), "{platform:?}: {reason}");
            println!("skipped: {reason}");
            continue;
        }
        let stopped = resumed(&session);
        assert!(matches!(stopped.met, Met::Accessed { address: 0x500, .. }), "{stopped:?}");
        assert_eq!(rip(&session), 0x7C84, "{platform:?}");
    }
}

#[test]
fn an_interrupt_stops_at_its_handler() {
    for platform in debuggable() {
        let session = start(platform);
        add(&session, "interrupt 0x20");
        for _ in 0..2 {
            let stopped = resumed(&session);
            assert!(matches!(stopped.met, Met::Delivered { vector: 0x20, .. }), "{stopped:?}");
            assert_eq!(rip(&session), 0x7D80, "{platform:?}");
        }
    }
}

#[test]
fn a_timers_tick_stops_the_machine() {
    for platform in debuggable() {
        let session = start(platform);
        let refused = session.add_condition(condition("timer egg"), 0).unwrap_err().to_string();
        assert!(refused.contains("8254 channel 0"), "{refused}");
        add(&session, "timer 8254 channel 0");
        let stopped = resumed(&session);
        assert_eq!(stopped.met, Met::Ticked { timer: "8254 channel 0".to_owned() }, "{platform:?}");
    }
}

#[test]
fn what_only_our_processor_can_see_is_seen_there_and_refused_elsewhere() {
    let inside: [(&str, u64); 5] = [
        ("interrupt 0x41 instruction", 0x7D40),
        ("exception #UD", 0x7D60),
        ("mode protected", 0x7C97),
        ("mode real", 0x7C9C),
        ("physical 0x602 1 write", 0x7D0A),
    ];
    for platform in debuggable() {
        for (text, place) in inside {
            let session = start(platform);
            if platform != SOFT {
                let reason = session.add_condition(condition(text), 0).unwrap_err().to_string();
                assert!(reason.contains("Soft"), "{text}: {reason}");
                continue;
            }
            let id = add(&session, text);
            let stopped = resumed(&session);
            assert_eq!((stopped.conditions, rip(&session)), (vec![id], place), "{text}");
        }
    }
    let session = start(SOFT);
    add(&session, "exception");
    let Met::Delivered { vector: 6, error_code: None, from: Some(UD2), .. } = resumed(&session).met else {
        panic!("{:?}", session.last_stop())
    };
}

#[test]
fn a_halt_is_an_exit() {
    let session = start(SOFT);
    add(&session, "exit halt");
    assert_eq!(resumed(&session).met, Met::Halted);
    assert_eq!(rip(&session), 0x7C9E);
}

#[test]
fn steps_go_into_over_out_and_to_an_address() {
    for platform in debuggable() {
        let session = start(platform);
        let go = |goal| {
            session.go(0, goal, Others::Stand).unwrap();
            let stopped = stop(&session);
            assert!(matches!(stopped.met, Met::Stepped | Met::Arrived), "{platform:?} {goal:?}: {stopped:?}");
            rip(&session)
        };
        assert_eq!(go(Goal::Until(ROUND)), ROUND, "{platform:?}");
        assert_eq!(go(Goal::Into(2)), OUT);
        assert_eq!(go(Goal::Over(1)), CALL);
        assert_eq!(go(Goal::Over(1)), INT, "over the call");
        assert_eq!(go(Goal::Over(1)), UD2, "over the interrupt");
        assert_eq!(go(Goal::Until(CALL)), CALL);
        assert_eq!(go(Goal::Into(1)), FUNCTION);
        assert_eq!(go(Goal::Into(2)), 0x7D03);
        assert_eq!(go(Goal::Out), INT, "{platform:?}: out of the function");
        let bx = session.registers(0).unwrap().general[3];
        assert_eq!(bx & 0xFFFF, 2);
        assert_eq!(go(Goal::Until(0x7D0A)), 0x7D0A);
        assert_eq!(go(Goal::Over(1)), 0x7D0C, "over REP STOSB");
        let nobody = session.go(3, Goal::Into(1), Others::Stand).unwrap_err().to_string();
        assert!(nobody.contains("no CPU 3"), "{nobody}");
    }
}

#[test]
fn a_condition_on_the_way_ends_a_step() {
    let session = start(SOFT);
    add(&session, "execute 0x7d03");
    session.go(0, Goal::Until(INT), Others::Stand).unwrap();
    assert_eq!(stop(&session).met, Met::Executing { address: 0x7D03 });
    session.remove_condition(None).unwrap();
    session.resume();
    session.pause();
    assert_eq!(session.wait_stop(LONG), None);
    session.resume();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(session.state(), RunState::Running, "the goal was given up");
}

#[test]
fn the_number_of_conditions_is_bounded() {
    let session = start(SOFT);
    let results: Vec<bool> =
        (0..70).map(|n| session.add_condition(Condition::Execute { address: n }, 0).is_ok()).collect();
    assert_eq!(results.iter().filter(|added| **added).count(), 64);
}

#[test]
fn the_guest_is_what_its_source_says() {
    let Some(assembled) = assembler::assemble("debugger/stops") else { return };
    assert!(assembled == assembler::binary("debugger/stops"), "stops.bin is not what stops.asm says");
}
