//! Linux from the kernel's first instruction to a shell, and off again: the CPU time of the software CPU and of TCG.

use machine_tests::linux::Linux;

use super::emulator::Workplace;
use super::linux::Runner;
use super::{ROUNDS, median};

const READY: &str = "SHELL READY";

/// Boots on both in turn, and prints what it took.
pub fn compare(workplace: &Workplace) {
    let Some(linux) = Linux::with(&[], &format!("echo {READY}")) else { return };
    let mut seconds: [Vec<f64>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (runner, seconds) in Runner::BOTH.into_iter().zip(&mut seconds) {
            let ran = runner.boot(workplace, &linux, "");
            assert!(ran.serial.contains(READY), "{runner:?}: no shell in\n{}", ran.serial);
            seconds.push(ran.cpu_seconds);
        }
    }
    let [soft, tcg] = seconds.map(median);
    println!("\nLinux to a shell, CPU seconds: Soft {soft:.2}, TCG {tcg:.2}; Soft to TCG {:.1}", soft / tcg);
}
