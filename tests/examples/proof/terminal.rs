//! A machine in a process of its own, that can be killed, and its serial port as a terminal.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Seconds until a guest that says nothing is given up: hosts may be slow, or have much else to do.
const PATIENCE: Duration = Duration::from_secs(1_500);
const PROMPT: &str = "root@debian";
/// A shell that neither edits nor echoes nor prompts.
const QUIET: &str = "stty -echo; exec env PS1= PS2= bash --norc --noprofile --noediting";

/// A machine whose guest has a shell on its serial port.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    heard: Arc<Mutex<Vec<u8>>>,
    asked: u32,
}

impl Terminal {
    /// Boots `disk` on the software CPU with these options, and waits for its shell; tells how long that took.
    ///
    /// # Panics
    /// When the guest does not come up.
    pub fn boot(vitrine: &Path, disk: &Path, options: &[&str]) -> (Terminal, Duration) {
        let begun = Instant::now();
        let mut child = Command::new(vitrine)
            .args([OsStr::new("run"), disk.as_os_str()])
            .args("--backend soft --memory 512M --headless --serial stdio --sound none".split(' '))
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the monitor starts");
        let keys = child.stdin.take().expect("asked for");
        let mut words = child.stdout.take().expect("asked for");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = heard.clone();
        std::thread::spawn(move || {
            let mut block = [0; 1 << 16];
            while let Ok(count @ 1..) = words.read(&mut block) {
                hearing.lock().unwrap().extend_from_slice(&block[..count]);
            }
        });
        let mut terminal = Terminal { child, keys, heard, asked: 0 };
        terminal.wait(PROMPT);
        let took = begun.elapsed();
        terminal.say(QUIET);
        terminal.ask("true");
        (terminal, took)
    }

    /// Types a line.
    pub fn say(&mut self, line: &str) {
        // A monitor that is gone is noticed by whoever waits for an answer.
        let _ = self.keys.write_all(format!("{line}\n").as_bytes());
        let _ = self.keys.flush();
    }

    /// All the guest has said since it was asked something last.
    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).replace('\r', "")
    }

    /// Waits until the guest has said this.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.heard().contains(text) {
            let ended = self.child.try_wait().ok().flatten();
            assert!(
                ended.is_none() && Instant::now() < until,
                "waited for {text:?}; the monitor: {ended:?}; the guest said:\n{}",
                self.heard()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the guest answers to a command.
    pub fn ask(&mut self, command: &str) -> String {
        self.asked += 1;
        let end = format!("ANSWERED {}\n", self.asked);
        self.heard.lock().unwrap().clear();
        // The quotes keep an echo from looking like the answer's end.
        self.say(&format!("{command}; echo ANSW\"\"ERED {}", self.asked));
        self.wait(&end);
        let answer = self.heard();
        answer.split_once(&end).map_or(answer.clone(), |(before, _)| before.to_owned())
    }

    /// `kill -9`; gives what the guest had said.
    pub fn kill(mut self) -> String {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is ours");
        self.heard()
    }

    /// Has the guest switch itself off; says whether it did.
    pub fn power_off(mut self) -> bool {
        self.say("poweroff");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
