//! The software CPU against its oracles, a few seconds of each group with a fixed seed. `cargo run --release -p cpu
//! --example differential` does more of the same.

mod suite;

#[test]
fn the_software_cpu_agrees_with_its_oracles() {
    let options = suite::Options { cases: 20_000, seed: 1, only: None, case: None };
    let report = suite::run(&options);
    println!("{report}");
    if report.doubts() != 0 {
        println!("{} differences from KVM are to be read against the manual", report.doubts());
    }
    assert_eq!(report.differences(), 0);
    assert!(report.cases() > 100_000, "only {} cases", report.cases());
}
