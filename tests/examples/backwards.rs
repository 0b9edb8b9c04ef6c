//! How long steps backwards take: SeaBIOS to several points of its first second, a thousand steps back from each, every
//! one compared with the registers of the way there. `backwards [STEPS]`.

use std::time::{Duration, Instant};

use engine::debugger::{Goal, HistoryLimits};
use engine::profile::{Deterministic, Profile, Size};
use engine::session::{Others, Way};
use engine::{Outlets, Session};

const LONG: Duration = Duration::from_secs(600);
const POINTS: u64 = 10;

fn main() {
    let steps: u64 = std::env::args().nth(1).map_or(1000, |text| text.parse().expect("a number of steps"));
    let mut profile = Profile::new("backwards");
    profile.memory = Size::mib(128);
    profile.deterministic = Some(Deterministic::default());
    let outlets = Outlets { paused: true, history: Some(HistoryLimits::default()), ..Outlets::default() };
    let session = Session::start(&profile, outlets).expect("the machine starts");
    let last = first_second(&profile);
    println!("the first second of guest time is {last} steps");
    println!("{:>12} {:>10} {:>10} {:>10} {:>8}", "from step", "first ms", "median ms", "worst ms", "wrong");
    let mut worst = Duration::ZERO;
    for point in 1..=POINTS {
        let target = last / POINTS * point;
        assert!(session.run_to(target.saturating_sub(steps), LONG));
        let mut forward = Vec::new();
        while forward.len() < steps as usize {
            forward.push(session.registers(0).expect("it has run"));
            session.go(0, Goal::Into(1), Others::Stand).expect("it can step");
            session.wait_stop(LONG).expect("it has stepped");
        }
        let (mut times, mut wrong) = (Vec::new(), 0);
        for expected in forward.iter().rev() {
            let begun = Instant::now();
            session.go_back(Way::Steps(1)).expect("it can go back");
            times.push(begun.elapsed());
            wrong += u32::from(session.registers(0).as_ref() != Some(expected));
        }
        let first = times[0];
        times.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let slowest = *times.last().expect("there was a step");
        println!(
            "{target:>12} {:>10.2} {:>10.2} {:>10.2} {wrong:>8}",
            ms(first),
            ms(times[times.len() / 2]),
            ms(slowest)
        );
        worst = worst.max(slowest);
    }
    println!("worst of all: {:.2} ms", worst.as_secs_f64() * 1e3);
}

/// Steps that a machine makes in its first second.
fn first_second(profile: &Profile) -> u64 {
    let session =
        Session::start(profile, Outlets { paused: true, ..Outlets::default() }).expect("the machine starts");
    let mut at = 0;
    while session.stats().guest_seconds < 1.0 {
        at += 100_000;
        assert!(session.run_to(at, LONG));
    }
    at - 100_000
}
