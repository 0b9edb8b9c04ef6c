//! The benchmark: fourteen guest loops, the boot of Linux and its virtio devices on the software CPU, on Bochs (the
//! field's interpreter) and on QEMU's TCG (its translator), in turn, in CPU seconds.
//! `packaging/bench.sh [loop …|boot|io]` gets what it needs and runs it.

mod boot;
mod child;
mod emulator;
mod io;
mod linux;
mod loops;
mod table;

use std::path::PathBuf;

use emulator::{Emulator, Workplace};
use loops::{LOOPS, Loop};

/// Times everything is measured; the median counts.
const ROUNDS: usize = 3;
/// What a measured run should last at least.
const LONG_ENOUGH_SECONDS: f64 = 0.5;

/// The middle of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted =
        |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str()));
    let workplace = Workplace::new(vitrine());
    let chosen: Vec<&Loop> = LOOPS.iter().filter(|measured| is_wanted(measured.name)).collect();
    if !chosen.is_empty() {
        let idle = Emulator::ALL.map(|emulator| {
            median((0..ROUNDS).map(|_| workplace.run(emulator, chosen[0], 0).seconds).collect())
        });
        table::head();
        let ratios: Vec<f64> = chosen
            .into_iter()
            .map(|measured| table::row(measured, measure(&workplace, measured, idle)))
            .collect();
        table::geometric_mean(&ratios);
    }
    if is_wanted("boot") {
        boot::compare(&workplace);
    }
    if is_wanted("io") {
        io::compare(&workplace);
    }
}

/// The monitor, built beside this program.
fn vitrine() -> PathBuf {
    let here = std::env::current_exe().expect("the path of this program");
    let found = here.ancestors().nth(2).map(|folder| folder.join("vitrine")).filter(|path| path.is_file());
    found.expect("vitrine is built first: cargo build --release -p vitrine")
}

/// Repetitions per CPU second on each emulator. All must compute the same.
fn measure(workplace: &Workplace, measured: &Loop, idle: [f64; 3]) -> [f64; 3] {
    let first = Emulator::ALL.map(|emulator| workplace.run(emulator, measured, measured.count));
    assert!(first.iter().all(|run| run.value == first[0].value), "{}: {first:?}", measured.name);
    let counts: [u64; 3] = std::array::from_fn(|n| {
        let seconds = (first[n].seconds - idle[n]).max(0.01);
        measured.count * (LONG_ENOUGH_SECONDS / seconds).ceil() as u64
    });
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (n, emulator) in Emulator::ALL.into_iter().enumerate() {
            let seconds = workplace.run(emulator, measured, counts[n]).seconds - idle[n];
            rates[n].push(counts[n] as f64 / seconds);
        }
    }
    rates.map(median)
}
