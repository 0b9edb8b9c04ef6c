//! The software CPU against its oracles, as long as one likes:
//! `cargo run --release -p cpu --example differential -- [--cases N] [--seed S] [--only NAME] [--case N]`.

#[path = "../tests/differential/suite/mod.rs"]
mod suite;

fn main() {
    let mut options = suite::Options { cases: 100_000, seed: 1, only: None, case: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_else(|| usage(&format!("{name} needs a value")));
        let number = || value.parse().unwrap_or_else(|_| usage(&format!("{value} is no number")));
        match name.as_str() {
            "--cases" => options.cases = number(),
            "--seed" => options.seed = number(),
            "--case" => options.case = Some(number()),
            "--only" => options.only = Some(value),
            _ => usage(&format!("unknown option {name}")),
        }
    }
    let report = suite::run(&options);
    print!("{report}");
    std::process::exit(i32::from(report.differences() != 0));
}

fn usage(what: &str) -> ! {
    eprintln!("{what}\nusage: differential [--cases N] [--seed S] [--only GROUP] [--case N]");
    std::process::exit(2)
}
