//! Running a program, and the CPU time it took.

use std::process::{Command, Stdio};

/// What became of a program.
#[derive(Debug)]
pub struct Ran {
    /// User and system time of all its threads.
    pub cpu_seconds: f64,
    /// What it printed.
    pub output: String,
}

/// Runs `words` for at most `limit_seconds`; bash tells the time.
///
/// # Panics
/// When the program does not start or does not end in time.
pub fn run(words: &[String], limit_seconds: u32) -> Ran {
    const TIMED: &str = "TIMEFORMAT='cpu %U %S'; time timeout \"$@\"";
    let done = Command::new("bash")
        .args(["-c", TIMED, "bash", &limit_seconds.to_string()])
        .args(words)
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .expect("bash starts");
    let complaints = String::from_utf8_lossy(&done.stderr).into_owned();
    let code = done.status.code().unwrap_or(-1);
    assert!(!matches!(code, 124 | 126 | 127), "{}: status {code}\n{complaints}", words[0]);
    let times =
        complaints.lines().rev().find_map(|line| line.strip_prefix("cpu ")).expect("bash tells the time");
    let cpu_seconds = times.split(' ').map(|part| part.parse::<f64>().expect("seconds")).sum();
    Ran { cpu_seconds, output: String::from_utf8_lossy(&done.stdout).into_owned() }
}
