//! How soon a running Vitrine answers what is asked of it from outside, while its only worker is kept busy by two guests
//! that never give it back by themselves.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Findings;

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
const PATIENCE: Duration = Duration::from_secs(20);

pub fn measure(findings: &mut Findings) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("spin.bin");
    // A flat program is told by not being text: the loop, and something that is none.
    std::fs::write(&program, [0xFA, 0xEB, 0xFE, 0x00]).expect("room for a small file");
    let mut child = Command::new(vitrine())
        .args(["run", "--headless", "--backend", "soft", "--workers", "1", "--timeout", "120"])
        .args([&program, &program])
        .env("XDG_RUNTIME_DIR", folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("vitrine starts");
    let path = folder.path().join("vitrine").join(format!("{}.sock", child.id()));
    let slowest = converse(&path);
    end(&mut child);
    match slowest {
        Ok((command, time)) => {
            let ms = time.as_secs_f64() * 1e3;
            println!("  slowest of {} commands: {command}", COMMANDS.len() * ROUNDS);
            findings.note("every command answered", format!("{ms:.1} ms"), "within 50 ms", ms <= 50.0);
        }
        Err(reason) => findings.note("every command answered", reason, "within 50 ms", false),
    }
}

/// Asks everything in turn; the slowest command and how long it took.
fn converse(path: &Path) -> Result<(&'static str, Duration), String> {
    let deadline = Instant::now() + PATIENCE;
    let stream = loop {
        match UnixStream::connect(path) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > deadline => return Err(error.to_string()),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    // Both machines are there, and have run.
    std::thread::sleep(Duration::from_secs(1));
    let mut reader = BufReader::new(&stream);
    let mut slowest = (COMMANDS[0], Duration::ZERO);
    for _ in 0..ROUNDS {
        for command in COMMANDS {
            let line = format!("{{\"machine\":\"spin\",\"command\":{command}}}\n");
            let begun = Instant::now();
            (&stream).write_all(line.as_bytes()).map_err(|error| error.to_string())?;
            let mut reply = String::new();
            reader.read_line(&mut reply).map_err(|error| error.to_string())?;
            let took = begun.elapsed();
            if !reply.starts_with("{\"done\"") {
                return Err(format!("{command}: {}", reply.trim()));
            }
            if took > slowest.1 {
                slowest = (command, took);
            }
        }
    }
    Ok(slowest)
}

fn end(child: &mut Child) {
    // It may have ended by itself, with an error that it has told.
    let _ = child.kill();
    let _ = child.wait();
}

/// The monitor, built beside this program.
fn vitrine() -> PathBuf {
    let here = std::env::current_exe().expect("the path of this program");
    let found = here.ancestors().nth(2).map(|folder| folder.join("vitrine")).filter(|path| path.is_file());
    found.expect("vitrine is built first: cargo build --release -p vitrine")
}
