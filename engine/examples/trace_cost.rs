//! What the trace costs a guest: the same work with it on and off, in turn, by CPU time.
//! `cargo run --release -p engine --example trace_cost -- KERNEL INITRD [ROUNDS]`

use std::time::Duration;

use engine::profile::{Direct, Profile, Size};
use engine::stats::process_cpu_time;
use engine::{Outlets, Session};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, initrd, ..] = &arguments[..] else {
        eprintln!("trace_cost KERNEL INITRD [ROUNDS]");
        std::process::exit(2);
    };
    let rounds = arguments.get(2).and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let mut profile = Profile::new("trace cost");
    profile.memory = Size::mib(256);
    profile.backend = engine::backend::Backend::Soft;
    profile.direct = Some(Direct::Kernel {
        image: kernel.into(),
        initrd: Some(initrd.into()),
        append: "console=ttyS0 panic=-1".to_owned(),
    });
    let mut used = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (on, used) in [false, true].into_iter().zip(&mut used) {
            let (seconds, events) = run(&profile, on);
            println!("trace {}: {seconds:.3} s, {events} events", if on { "on " } else { "off" });
            used.push(seconds);
        }
    }
    let best = |used: &[f64]| used.iter().copied().fold(f64::INFINITY, f64::min);
    let (off, on) = (best(&used[0]), best(&used[1]));
    println!("least: off {off:.3} s, on {on:.3} s: {:+.1} %", (on / off - 1.0) * 100.0);
}

/// CPU seconds from power-on to power-off, and the events taken.
fn run(profile: &Profile, traced: bool) -> (f64, u64) {
    let outlets = Outlets { paused: true, ..Outlets::default() };
    let session = Session::start(profile, outlets).expect("the machine starts");
    session.set_trace(traced);
    let before = process_cpu_time();
    session.resume();
    if session.wait(Duration::from_secs(300)).is_none() {
        eprintln!("the guest does not end");
        std::process::exit(1);
    }
    ((process_cpu_time() - before).as_secs_f64(), session.trace().standing().events)
}
