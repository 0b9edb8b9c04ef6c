//! Every vector and x87 form on the software CPU and on the host's own, a few seconds' worth. `cargo run --example
//! differential` does more of the same.

mod forms;
mod harness;
mod native;
mod random;
mod software;

use std::sync::Mutex;

/// The oracle's signal handler serves one test at a time.
static ONE: Mutex<()> = Mutex::new(());

fn check(totals: harness::Totals) {
    for (form, (first, count)) in &totals.differences {
        println!("{form}: {count} differ, first {first}");
    }
    assert!(totals.forms > 1000, "only {} forms", totals.forms);
    assert!(totals.differences.is_empty(), "{} forms differ", totals.differences.len());
}

#[test]
fn every_form_does_what_the_host_does_with_exceptions_masked() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    check(harness::compare(1, 2, 2, 8, false));
}

#[test]
fn every_form_raises_what_the_host_raises_with_exceptions_unmasked() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let totals = harness::compare(2, 2, 2, 8, true);
    assert!(totals.exceptions > 1000, "only {} exceptions", totals.exceptions);
    check(totals);
}
