//! What "in control" promises, measured: `cargo run --release -p machine-tests --example control [memory|processor|registers|timers|trace]`.
//! Each part prints its table and fails when a figure is out of bounds. Run it on a quiet host: other programs' load
//! comes between a machine and its time.

mod answers;
mod memory;
mod processor;
mod registers;
mod timers;
mod trace;
mod vitrine;

/// What was found, and whether it is within bounds.
pub struct Findings(Vec<String>);

impl Findings {
    /// Prints a figure with its bound; remembers it if it is out of bounds.
    pub fn note(&mut self, what: &str, found: String, bound: &str, good: bool) {
        let mark = if good { "ok" } else { "OUT OF BOUNDS" };
        println!("  {what:<58} {found:>24}   {bound:<22} {mark}");
        if !good {
            self.0.push(format!("{what}: {found}, and not {bound}"));
        }
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let mut findings = Findings(Vec::new());
    if is_wanted("processor") {
        processor::measure(&mut findings);
    }
    if is_wanted("registers") {
        registers::measure(&mut findings);
    }
    if is_wanted("trace") {
        trace::measure(&mut findings);
    }
    if is_wanted("timers") {
        timers::measure(&mut findings);
    }
    if is_wanted("memory") {
        memory::measure(&mut findings);
    }
    if !findings.0.is_empty() {
        eprintln!("\nout of bounds:\n  {}", findings.0.join("\n  "));
        std::process::exit(1);
    }
}

/// The one in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
