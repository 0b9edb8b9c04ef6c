//! Writing to the terminal without falling over when whoever reads it has gone.

use std::io::Write;

/// One line to stdout.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A message to stderr, under the program's name.
pub fn tell(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "vitrine: {message}");
}

/// Text to stderr as it is.
pub fn tell_plain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
