//! `doctor`: what this host offers, and how to mend what is missing.

use super::{console, status};

/// Prints a line for each thing, and its remedy where something is missing.
pub fn doctor() -> Result<u8, String> {
    for finding in engine::doctor::examine() {
        let mark = if finding.good { "ok " } else { "-- " };
        console::say(&format!("{mark} {:<13} {}", finding.subject, finding.found));
        if let Some(fix) = finding.fix {
            console::say(&format!("{:17} {fix}", ""));
        }
    }
    Ok(status::SUCCESS)
}
