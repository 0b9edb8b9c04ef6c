//! What passes over a link, written to a pcap file that Wireshark and tcpdump read.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::link::{Counts, Link, Waker};

/// pcap with nanoseconds, in the host's byte order (draft-ietf-opsawg-pcap §4).
const MAGIC: u32 = 0xA1B2_3C4D;
const ETHERNET: u32 = 1;
/// Longest frame that is written whole.
const SNAP_BYTES: u32 = 262_144;
const FILE_HEADER_BYTES: u64 = 24;
/// Least bytes of a file: less would rotate with every frame.
const SMALLEST_LIMIT: u64 = 1 << 20;

/// A capture file. When it reaches its limit it becomes `NAME.1`, in place of an earlier one, and a new
/// one begins: never more than twice the limit is kept.
pub struct Capture {
    path: PathBuf,
    file: File,
    limit_bytes: u64,
    written_bytes: u64,
    record: Vec<u8>,
}

impl Capture {
    /// Begins a file, in place of what was there.
    pub fn create(path: &Path, limit_bytes: u64) -> io::Result<Capture> {
        let limit_bytes = limit_bytes.max(SMALLEST_LIMIT);
        let mut capture = Capture {
            path: path.to_owned(),
            file: File::create(path)?,
            limit_bytes,
            written_bytes: 0,
            record: Vec::new(),
        };
        capture.begin()?;
        Ok(capture)
    }

    fn begin(&mut self) -> io::Result<()> {
        let words: [u32; 6] = [MAGIC, 4 << 16 | 2, 0, 0, SNAP_BYTES, ETHERNET];
        let header: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        self.file.write_all(&header)?;
        self.written_bytes = FILE_HEADER_BYTES;
        Ok(())
    }

    /// Writes one frame; it is in the file when this returns.
    pub fn write(&mut self, frame: &[u8], at: SystemTime) -> io::Result<()> {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = frame.len() as u32;
        self.record.clear();
        for word in [since.as_secs() as u32, since.subsec_nanos(), length, length] {
            self.record.extend(word.to_ne_bytes());
        }
        self.record.extend_from_slice(frame);
        if self.written_bytes + self.record.len() as u64 > self.limit_bytes {
            self.rotate()?;
        }
        self.file.write_all(&self.record)?;
        self.written_bytes += self.record.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, old)?;
        self.file = File::create(&self.path)?;
        self.begin()
    }
}

/// A link whose frames can be captured while it is in use.
pub struct Recorder {
    inner: Arc<dyn Link>,
    recording: AtomicBool,
    capture: Mutex<Option<Capture>>,
    /// Why the last capture ended by itself.
    failure: Mutex<Option<io::Error>>,
}

impl Recorder {
    /// A link like `inner`, not captured yet.
    pub fn new(inner: Arc<dyn Link>) -> Recorder {
        Recorder {
            inner,
            recording: AtomicBool::new(false),
            capture: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Captures into `capture` from now on; `None` ends it.
    pub fn set_capture(&self, capture: Option<Capture>) {
        self.recording.store(capture.is_some(), Ordering::Relaxed);
        *self.capture.lock() = capture;
    }

    /// Why the last capture ended by itself, told once: the host's disk was full, for example.
    pub fn take_failure(&self) -> Option<io::Error> {
        self.failure.lock().take()
    }

    fn record(&self, frame: &[u8]) {
        if !self.recording.load(Ordering::Relaxed) {
            return;
        }
        let mut capture = self.capture.lock();
        let written = capture.as_mut().map_or(Ok(()), |capture| capture.write(frame, SystemTime::now()));
        if let Err(error) = written {
            *capture = None;
            self.recording.store(false, Ordering::Relaxed);
            *self.failure.lock() = Some(error);
        }
    }
}

impl Link for Recorder {
    fn offer(&self, frame: &[u8]) -> bool {
        let taken = self.inner.offer(frame);
        if taken {
            self.record(frame);
        }
        taken
    }

    fn send(&self, frame: &[u8]) {
        self.record(frame);
        self.inner.send(frame);
    }

    fn receive(&self, frame: &mut Vec<u8>) -> bool {
        let received = self.inner.receive(frame);
        if received {
            self.record(frame);
        }
        received
    }

    fn has_frame(&self) -> bool {
        self.inner.has_frame()
    }

    fn longest_frame(&self) -> usize {
        self.inner.longest_frame()
    }

    fn accept_frames(&self, longest: usize) {
        self.inner.accept_frames(longest);
    }

    fn is_up(&self) -> bool {
        self.inner.is_up()
    }

    fn set_up(&self, up: bool) {
        self.inner.set_up(up);
    }

    fn set_waker(&self, waker: Waker) {
        self.inner.set_waker(waker);
    }

    fn counts(&self) -> Counts {
        self.inner.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cable::{Capacity, cable};

    fn frames_in(path: &Path) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes[..4], MAGIC.to_ne_bytes());
        let (mut frames, mut rest) = (Vec::new(), &bytes[FILE_HEADER_BYTES as usize..]);
        while !rest.is_empty() {
            let length = u32::from_ne_bytes(*rest[8..].first_chunk().unwrap()) as usize;
            frames.push(rest[16..16 + length].to_vec());
            rest = &rest[16 + length..];
        }
        frames
    }

    #[test]
    fn both_directions_are_written_as_they_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcap");
        let (near, far) = cable(Capacity::default());
        let link = Recorder::new(near);
        link.offer(&[1; 60]);
        link.set_capture(Some(Capture::create(&path, 0).unwrap()));
        link.offer(&[2; 61]);
        far.send(&[3; 62]);
        assert!(link.receive(&mut Vec::new()));
        assert_eq!(frames_in(&path), [vec![2; 61], vec![3; 62]], "without waiting for an end");
        link.set_capture(None);
        link.send(&[4; 60]);
        assert_eq!(frames_in(&path).len(), 2);
    }

    #[test]
    fn a_file_is_turned_over_at_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.pcap");
        let mut capture = Capture::create(&path, SMALLEST_LIMIT).unwrap();
        for n in 0..3000_u32 {
            let mut frame = vec![0; 1000];
            frame[..4].copy_from_slice(&n.to_ne_bytes());
            capture.write(&frame, SystemTime::now()).unwrap();
        }
        let (new, old) = (frames_in(&path), frames_in(&folder.path().join("b.pcap.1")));
        let number = |frame: &Vec<u8>| u32::from_ne_bytes(*frame.first_chunk().unwrap());
        assert_eq!(new.last().map(number), Some(2999));
        assert_eq!(old.last().map(number).unwrap() + 1, number(&new[0]));
        for file in ["b.pcap", "b.pcap.1"] {
            assert!(std::fs::metadata(folder.path().join(file)).unwrap().len() <= SMALLEST_LIMIT);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
