//! What the trace costs guests that do nothing but touch devices: accesses for each second of CPU time, with and without
//! it, in turn.

use std::thread;
use std::time::Duration;

use engine::RunState;
use machine_tests::{Guest, SOFT};

use crate::{Findings, median};

const ROUNDS: usize = 12;
const ROUND: Duration = Duration::from_millis(400);

/// What is read again and again, and its name.
const PORTS: [(u16, &str); 4] =
    [(0x61, "8254, port B"), (0x64, "keyboard controller"), (0x3FD, "16550, line status"), (0x2FE, "nobody")];

pub fn measure(findings: &mut Findings) {
    println!("trace: guests that only read one port");
    println!("  {:<24} {:>14} {:>14} {:>9}", "port", "off: ns", "on: ns", "lost");
    let lost = PORTS.map(|(port, name)| {
        let rounds = rounds(port);
        let of = |on: usize| 1e9 / median(rounds.iter().map(|round| round[on]));
        let lost = (1.0 - median(rounds.iter().map(|round| round[1] / round[0]))) * 100.0;
        println!("  {:<24} {:>14.1} {:>14.1} {lost:>7.2} %", format!("{port:#x}, {name}"), of(0), of(1));
        lost
    });
    let worst = lost.into_iter().fold(f64::MIN, f64::max);
    findings.note(
        "work lost with the trace on, most",
        format!("{worst:.2} %"),
        "at most 10 %",
        worst <= 10.0,
    );
}

/// Accesses per CPU second, off and on, of each round.
fn rounds(port: u16) -> Vec<[f64; 2]> {
    let [low, high] = port.to_le_bytes();
    // cli; mov dx, port; again: in al, dx; jmp again
    let guest = Guest::flat(&[0xFA, 0xBA, low, high, 0xEC, 0xEB, 0xFD], SOFT);
    let session = guest.session();
    let round = |number: usize| {
        let mut rates = [0.0; 2];
        // Whichever comes first has no advantage.
        let order = if number.is_multiple_of(2) { [false, true] } else { [true, false] };
        for on in order {
            session.set_trace(on);
            let before = stand(&guest);
            thread::sleep(ROUND);
            let after = stand(&guest);
            // Two instructions to an access.
            rates[usize::from(on)] = (after.0 - before.0) / 2.0 / (after.1 - before.1);
        }
        rates
    };
    round(0); // caches, and the ring's memory
    (0..ROUNDS).map(round).collect()
}

/// Its instructions and CPU seconds, exactly: it stands still meanwhile.
fn stand(guest: &Guest) -> (f64, f64) {
    let session = guest.session();
    session.pause();
    // Somebody may look at its counters just now.
    let stats = loop {
        let stats = session.stats();
        if session.state() == RunState::Paused && stats.instructions.is_some() {
            break stats;
        }
        thread::sleep(Duration::from_millis(1));
    };
    session.resume();
    (stats.instructions.unwrap_or_default() as f64, stats.vcpu_seconds)
}
