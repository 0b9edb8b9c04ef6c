//! The table, in Markdown.

use super::loops::Loop;

/// Its head.
pub fn head() {
    println!("| Loop | Soft | Bochs | TCG | Soft to Bochs |");
    println!("|---|---:|---:|---:|---:|");
}

/// A row of repetitions per second; the software CPU's speed relative to Bochs.
pub fn row(measured: &Loop, [soft, bochs, tcg]: [f64; 3]) -> f64 {
    let tell = |rate| measured.unit.tell(rate);
    let ratio = soft / bochs;
    println!("| {} | {} | {} | {} | {ratio:.1} |", measured.name, tell(soft), tell(bochs), tell(tcg));
    ratio
}

/// The last row.
pub fn geometric_mean(ratios: &[f64]) {
    let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    println!("| geometric mean | | | | {mean:.1} |");
}
