//! Compares every vector and x87 instruction form on the software CPU with the host's own CPU:
//! `cargo run --release --example differential [runs of each sample] [seed]`.

#[path = "../tests/silicon/forms.rs"]
mod forms;
#[path = "../tests/silicon/harness.rs"]
mod harness;
#[path = "../tests/silicon/native.rs"]
mod native;
#[path = "../tests/silicon/random.rs"]
mod random;
#[path = "../tests/silicon/software.rs"]
mod software;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let runs = arguments.next().unwrap_or(100);
    let seed = arguments.next().unwrap_or(1);
    let mut different = 0;
    for unmasked in [false, true] {
        let totals = harness::compare(seed, 8, 8, runs as usize, unmasked);
        for (form, (first, count)) in &totals.differences {
            println!("{form}: {count} differ, first {first}");
        }
        let state = if unmasked { "unmasked" } else { "masked" };
        println!(
            "exceptions {state}: {} forms, {} runs, {} exceptions on both, {} forms differ",
            totals.forms,
            totals.runs,
            totals.exceptions,
            totals.differences.len()
        );
        different += totals.differences.len();
    }
    std::process::exit(i32::from(different != 0));
}
