//! A running Vitrine, and the socket on which it is asked, as `vitrine ctl` does.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);
/// Clock ticks per second in /proc (USER_HZ, the same on every Linux).
const USER_HZ: f64 = 100.0;

/// Machines that run in a process of their own.
pub struct Vitrine {
    child: Child,
    socket: PathBuf,
}

/// A way to ask them.
pub struct Connection(BufReader<UnixStream>);

impl Vitrine {
    /// Runs `programs` on the software CPU, with `folder` as the user's runtime directory.
    pub fn run(folder: &Path, programs: &[PathBuf], options: &[&str]) -> Vitrine {
        let child = Command::new(built())
            .args(["run", "--headless", "--backend", "soft", "--timeout", "300"])
            .args(options)
            .args(programs)
            .env("XDG_RUNTIME_DIR", folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("vitrine starts");
        let socket = folder.join("vitrine").join(format!("{}.sock", child.id()));
        Vitrine { child, socket }
    }

    /// A connection, once it listens.
    pub fn connect(&self) -> Result<Connection, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => return Ok(Connection(BufReader::new(stream))),
                Err(error) if Instant::now() > deadline => return Err(error.to_string()),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// CPU time of the whole process, in seconds. Source: proc(5), /proc/pid/stat, fields 14 and 15.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let times = after_name.split_whitespace().skip(11).take(2);
        times.filter_map(|time| time.parse::<f64>().ok()).sum::<f64>() / USER_HZ
    }
}

impl Drop for Vitrine {
    fn drop(&mut self) {
        // It may have ended by itself, with an error that it has told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Connection {
    /// Asks `machine`, or all of them where it is null; the answer for programs.
    pub fn ask(&mut self, machine: &Value, command: &Value) -> Result<Value, String> {
        let told = |error: std::io::Error| error.to_string();
        let request = json!({ "machine": machine, "command": command });
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).map_err(told)?;
        let mut reply = String::new();
        self.0.read_line(&mut reply).map_err(told)?;
        let mut reply: Value = serde_json::from_str(&reply).map_err(|error| error.to_string())?;
        match reply.get_mut("done") {
            Some(answer) => Ok(answer["json"].take()),
            None => Err(format!("{command}: {reply}")),
        }
    }
}

/// The monitor, built beside this program.
fn built() -> PathBuf {
    let here = std::env::current_exe().expect("the path of this program");
    let found = here.ancestors().nth(2).map(|folder| folder.join("vitrine")).filter(|path| path.is_file());
    found.expect("vitrine is built first: cargo build --release -p vitrine")
}
