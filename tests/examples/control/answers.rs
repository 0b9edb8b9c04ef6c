//! How soon a running Vitrine answers what is asked of it from outside, while its only worker is kept busy by two guests
//! that never give it back by themselves.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Findings;
use crate::vitrine::Vitrine;

/// Commands, as they go over the socket. Typing and pressing keys are left out: they last as long as typing does.
const COMMANDS: [&str; 18] = [
    r#""status""#,
    r#""list""#,
    r#"{"registers":{"all":true}}"#,
    r#"{"registers":{"explain":true}}"#,
    r#"{"memory":{"address":31744,"bytes":512,"physical":true}}"#,
    r#"{"disassemble":{"offset":null}}"#,
    r#"{"translate":{"address":31744}}"#,
    r#"{"table":{"table":"idt"}}"#,
    r#""timers""#,
    r#""exits""#,
    r#""screen""#,
    r#""ledger""#,
    r#""moves""#,
    r#"{"move":{"what":"shares","amount":"1","donor":"spin","receiver":"spin 2"}}"#,
    r#"{"set":{"changes":["shares=2048","cap=50"]}}"#,
    r#"{"set":{"changes":["quantum=2","time=0.5"]}}"#,
    r#""pause""#,
    r#""resume""#,
];
const ROUNDS: usize = 20;

pub fn measure(findings: &mut Findings) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("spin.bin");
    // A flat program is told by not being text: the loop, and something that is none.
    std::fs::write(&program, [0xFA, 0xEB, 0xFE, 0x00]).expect("room for a small file");
    let vitrine = Vitrine::run(folder.path(), &[program.clone(), program], &["--workers", "1"]);
    match converse(&vitrine) {
        Ok((command, time)) => {
            let ms = time.as_secs_f64() * 1e3;
            println!("  slowest of {} commands: {command}", COMMANDS.len() * ROUNDS);
            findings.note("every command answered", format!("{ms:.1} ms"), "within 50 ms", ms <= 50.0);
        }
        Err(reason) => findings.note("every command answered", reason, "within 50 ms", false),
    }
}

/// Asks everything in turn; the slowest command and how long it took.
fn converse(vitrine: &Vitrine) -> Result<(&'static str, Duration), String> {
    let mut connection = vitrine.connect()?;
    // Both machines are there, and have run.
    thread::sleep(Duration::from_secs(1));
    let mut slowest = (COMMANDS[0], Duration::ZERO);
    for _ in 0..ROUNDS {
        for command in COMMANDS {
            let wanted: Value = serde_json::from_str(command).map_err(|error| error.to_string())?;
            let begun = Instant::now();
            connection.ask(&json!("spin"), &wanted)?;
            let took = begun.elapsed();
            if took > slowest.1 {
                slowest = (command, took);
            }
        }
    }
    Ok(slowest)
}
