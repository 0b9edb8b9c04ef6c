//! What comes from the guest's serial port: kept for scripts, searched for the awaited text, sent on to
//! the terminal or a file; and what the terminal sends to the guest.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use super::arguments::Serial;
use crate::running::Running;

/// How much of the past a script can look at.
const KEPT_BYTES: usize = 1 << 20;

/// Ctrl-A, which takes the terminal's next byte for the monitor when the terminal is raw.
const ESCAPE: u8 = 0x01;

/// The last bytes from the serial port, with their place in the whole stream.
#[derive(Default)]
pub struct SerialLog(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    bytes: VecDeque<u8>,
    /// Bytes that came before the first one kept.
    dropped: u64,
}

impl SerialLog {
    /// Adds what came.
    pub fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes.extend(bytes);
        let surplus = kept.bytes.len().saturating_sub(KEPT_BYTES);
        kept.bytes.drain(..surplus);
        kept.dropped += surplus as u64;
    }

    /// Where `needle` first ends behind `from`, counted from the start of the stream.
    pub fn find(&self, needle: &[u8], from: u64) -> Option<u64> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = kept.dropped;
        let skip = usize::try_from(from.saturating_sub(dropped)).ok()?;
        let bytes = kept.bytes.make_contiguous().get(skip..)?;
        let at = bytes.windows(needle.len()).position(|window| window == needle)?;
        Some(dropped + (skip + at + needle.len()) as u64)
    }
}

/// Finds a text in a stream that comes in pieces; keeps no more than the text's length.
pub struct Matcher {
    needle: Vec<u8>,
    tail: Vec<u8>,
    found: Arc<AtomicBool>,
}

impl Matcher {
    /// Looks for `text`; the flag says whether it came.
    pub fn new(text: &str) -> (Matcher, Arc<AtomicBool>) {
        let found = Arc::new(AtomicBool::new(false));
        (Matcher { needle: text.as_bytes().to_vec(), tail: Vec::new(), found: found.clone() }, found)
    }

    /// The next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.found.load(Ordering::Relaxed) {
            return;
        }
        self.tail.extend_from_slice(bytes);
        if self.tail.windows(self.needle.len()).any(|window| window == self.needle) {
            self.found.store(true, Ordering::Release);
        }
        let surplus = (self.tail.len() + 1).saturating_sub(self.needle.len());
        self.tail.drain(..surplus);
    }
}

/// A file for the guest's bytes that comes into being only when the machine has started.
#[derive(Clone)]
pub struct OutFile(Arc<Mutex<OutFileState>>);

struct OutFileState {
    path: PathBuf,
    file: Option<Result<File, String>>,
}

impl OutFile {
    /// Nothing is made yet.
    pub fn new(path: &Path) -> OutFile {
        OutFile(Arc::new(Mutex::new(OutFileState { path: path.to_owned(), file: None })))
    }

    /// Makes the file, empty, if it is not there yet; the error if that or a later write failed.
    pub fn ensure(&self) -> Result<(), String> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.open() {
            Ok(_) => Ok(()),
            Err(reason) => Err(reason),
        }
    }

    /// Adds bytes; after an error nothing more is written.
    pub fn write(&self, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = match state.open() {
            Ok(file) => file.write_all(bytes).err(),
            Err(_) => None,
        };
        if let Some(error) = failed {
            state.file = Some(Err(format!("{}: {error}", state.path.display())));
        }
    }
}

impl OutFileState {
    fn open(&mut self) -> Result<&mut File, String> {
        let path = &self.path;
        let opened = self.file.get_or_insert_with(|| {
            File::create(path).map_err(|error| format!("{}: {error}", path.display()))
        });
        opened.as_mut().map_err(|reason| reason.clone())
    }
}

/// The terminal as the guest's serial line. Gives the terminal back when dropped.
pub struct Terminal {
    before: Option<Termios>,
    /// The user typed the end chord.
    pub wants_end: Arc<AtomicBool>,
}

impl Terminal {
    /// Forwards stdin to the machine from now on. A terminal is made raw, so that every key reaches the
    /// guest; a pipe or file is read as it is.
    pub fn attach(machine: Arc<dyn Running>) -> Terminal {
        let stdin = rustix::stdio::stdin();
        let before = if isatty(stdin) && isatty(rustix::stdio::stdout()) { make_raw() } else { None };
        let raw = before.is_some();
        if raw {
            super::console::tell_plain(
                "vitrine: this terminal is the guest's serial line; Ctrl-A x ends the run\r",
            );
        }
        let wants_end = Arc::new(AtomicBool::new(false));
        let end = wants_end.clone();
        // Reading blocks and cannot be called off; the thread ends with the process.
        std::thread::spawn(move || forward(&*machine, raw, &end));
        Terminal { before, wants_end }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, before);
        }
    }
}

fn make_raw() -> Option<Termios> {
    let stdin = rustix::stdio::stdin();
    let before = tcgetattr(stdin).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(stdin, OptionalActions::Flush, &raw).ok()?;
    Some(before)
}

fn forward(machine: &dyn Running, raw: bool, end: &AtomicBool) {
    let mut buffer = [0; 256];
    let mut escaped = false;
    let mut input = std::io::stdin().lock();
    while let Ok(count @ 1..) = input.read(&mut buffer) {
        if !raw {
            machine.send_serial(&buffer[..count]);
            continue;
        }
        let (bytes, ends) = chords(&buffer[..count], &mut escaped);
        machine.send_serial(&bytes);
        if ends {
            end.store(true, Ordering::Release);
            return;
        }
    }
}

/// Takes the chords out of raw input: Ctrl-A x ends, Ctrl-A Ctrl-A is one Ctrl-A for the guest.
fn chords(input: &[u8], escaped: &mut bool) -> (Vec<u8>, bool) {
    let mut bytes = Vec::with_capacity(input.len());
    for &byte in input {
        match (std::mem::take(escaped), byte) {
            (false, ESCAPE) => *escaped = true,
            (true, b'x' | b'X') => return (bytes, true),
            (true, ESCAPE) | (false, _) => bytes.push(byte),
            (true, _) => bytes.extend([ESCAPE, byte]),
        }
    }
    (bytes, false)
}

/// Takes bytes from the guest.
pub type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// Where serial bytes go, besides the log and the matcher.
pub fn sink(serial: &Serial) -> (Option<OutFile>, Sink) {
    match serial {
        Serial::None => (None, Box::new(|_| {})),
        Serial::Stdio => (
            None,
            Box::new(|bytes| {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(bytes).and_then(|()| out.flush());
            }),
        ),
        Serial::File(path) => {
            let file = OutFile::new(path);
            let to = file.clone();
            (Some(file), Box::new(move |bytes| to.write(bytes)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_across_pieces() {
        let (mut matcher, found) = Matcher::new("ready");
        for piece in ["not yet, rea", "d", "y"] {
            assert!(!found.load(Ordering::Relaxed));
            matcher.push(piece.as_bytes());
        }
        assert!(found.load(Ordering::Relaxed));
        assert!(matcher.tail.len() < 5);
    }

    #[test]
    fn the_log_is_bounded_and_counts_on() {
        let log = SerialLog::default();
        log.push(b"login: ");
        assert_eq!(log.find(b"login:", 0), Some(6));
        assert_eq!(log.find(b"login:", 6), None);
        log.push(&vec![b'x'; KEPT_BYTES]);
        assert_eq!(log.find(b"login:", 0), None);
        log.push(b"end");
        assert_eq!(log.find(b"end", 6), Some(7 + KEPT_BYTES as u64 + 3));
    }

    #[test]
    fn chords_are_taken_out_of_raw_input() {
        let mut escaped = false;
        assert_eq!(chords(b"ab\x01", &mut escaped), (b"ab".to_vec(), false));
        assert_eq!(chords(b"\x01c\x01d", &mut escaped), (b"\x01c\x01d".to_vec(), false));
        assert_eq!(chords(b"e\x01xf", &mut escaped), (b"e".to_vec(), true));
    }

    #[test]
    fn an_output_file_comes_into_being_only_when_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial.txt");
        let file = OutFile::new(&path);
        assert!(!path.exists());
        file.write(b"hello");
        file.ensure().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
        assert!(OutFile::new(folder.path()).ensure().is_err());
    }
}
