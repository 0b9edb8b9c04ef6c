//! Between a drive and its image. Here a full disk of the host stops the machine instead of failing the guest, an
//! overlay takes the place of an image while the machine stands still, and the drive's work is counted and timed.
//!
//! When the host's disk is full, what the guest wrote is kept here, in order, and the machine is held: it goes on
//! when all of it is on the disk. A flush the guest was waiting for is made good then too.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde::Serialize;
use storage::disk::Extent;
use storage::{Access, Disk, DiskError, Format, Image, MemoryDisk, Overlay};

use hardware::histogram::{Histogram, Summary};

/// Most bytes kept for a full disk. A machine is held within the access that finds it full; only requests that are
/// under way then still come.
const OWED_MAX_BYTES: u64 = 256 << 20;

/// Tells whoever holds the machine that the host's disk is full.
pub type Tell = Arc<dyn Fn() + Send + Sync>;

/// What is in a drive.
pub enum Medium {
    /// An image that is written.
    File(Image),
    /// Something that is only read.
    ReadOnly(Box<dyn Disk>),
    /// An image that is only read, under an overlay that is thrown away.
    ThrowAway(Overlay),
    /// A disk in memory, padded from a short file.
    Memory(MemoryDisk),
}

/// One drive's way to its image.
pub struct Port {
    name: String,
    named: PathBuf,
    state: Mutex<State>,
    work: Work,
    tell: Tell,
}

struct State {
    /// `None` while it is closed.
    medium: Option<Medium>,
    length_bytes: u64,
    /// The file that holds what is in the drive now: as named, or an overlay over it.
    front: PathBuf,
    owed: VecDeque<Owed>,
    owed_bytes: u64,
}

/// What was promised to the guest, and is not on the host's disk.
enum Owed {
    Write(u64, Vec<u8>),
    Zeros(u64, u64),
    Flush,
}

/// What a drive has done.
#[derive(Default)]
struct Work {
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    reads: Histogram,
    writes: Histogram,
    flushes: Histogram,
}

/// What a drive has done, and how long the host took for it (in host nanoseconds).
#[derive(Clone, Debug, Default, Serialize)]
pub struct DriveWork {
    /// Which drive.
    pub drive: String,
    /// What is in it.
    pub file: PathBuf,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// How long reads took.
    pub reads: Summary,
    /// How long writes took.
    pub writes: Summary,
    /// How long flushes took.
    pub flushes: Summary,
}

impl Medium {
    fn disk(&mut self) -> &mut dyn Disk {
        match self {
            Medium::File(image) => image,
            Medium::ReadOnly(disk) => &mut **disk,
            Medium::ThrowAway(overlay) => overlay,
            Medium::Memory(disk) => disk,
        }
    }
}

impl Port {
    /// The drive `name` with a medium in it. `named` is what the profile or the user calls the medium, `front` the
    /// file it is in.
    pub fn new(name: &str, named: &Path, front: &Path, mut medium: Medium, tell: Tell) -> Arc<Port> {
        let length_bytes = medium.disk().length_bytes();
        Arc::new(Port {
            name: name.to_owned(),
            named: named.to_owned(),
            state: Mutex::new(State {
                medium: Some(medium),
                length_bytes,
                front: front.to_owned(),
                owed: VecDeque::new(),
                owed_bytes: 0,
            }),
            work: Work::default(),
            tell,
        })
    }

    /// The drive's name: `disk0`, `cdrom`, `floppy`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the profile or the user calls the medium.
    pub fn named(&self) -> &Path {
        &self.named
    }

    /// The file it is in now.
    pub fn front(&self) -> PathBuf {
        self.state.lock().front.clone()
    }

    /// Length of the medium in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.state.lock().length_bytes
    }

    /// The drive's end.
    pub fn disk(self: &Arc<Port>) -> Box<dyn Disk> {
        Box::new(PortDisk(self.clone()))
    }

    /// Calls `look` with the medium. `None` while it is closed.
    pub fn with_medium<R>(&self, look: impl FnOnce(&mut Medium) -> R) -> Option<R> {
        self.state.lock().medium.as_mut().map(look)
    }

    /// Of which format its image is, if that is written.
    pub fn format(&self) -> Option<Format> {
        match &self.state.lock().medium {
            Some(Medium::File(image)) => Some(image.format()),
            _ => None,
        }
    }

    /// Puts on the host's disk what is owed. Says why not.
    pub fn settle(&self) -> Result<(), String> {
        let mut state = self.state.lock();
        let State { medium, owed, owed_bytes, front, .. } = &mut *state;
        let Some(medium) = medium else { return Ok(()) };
        while let Some(first) = owed.front() {
            let done = match first {
                Owed::Write(offset, bytes) => medium.disk().write_at(*offset, bytes),
                Owed::Zeros(offset, length) => medium.disk().write_zeros(*offset, *length),
                Owed::Flush => medium.disk().flush(),
            };
            match done {
                Ok(()) => {}
                Err(DiskError::Full(_)) => return Err(format!("disk full: {}", front.display())),
                Err(error) => return Err(format!("{}: {error}", front.display())),
            }
            if let Some(Owed::Write(_, bytes)) = owed.pop_front() {
                *owed_bytes -= bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// Why the machine cannot go on, if something is owed.
    pub fn hindrance(&self) -> Option<String> {
        let state = self.state.lock();
        (!state.owed.is_empty()).then(|| format!("disk full: {}", state.front.display()))
    }

    /// Brings everything to the host's disk. Only while the machine stands still.
    pub fn flush(&self) -> Result<(), String> {
        self.settle()?;
        let mut state = self.state.lock();
        let told = |error: DiskError| error.to_string();
        state.medium.as_mut().map_or(Ok(()), |medium| medium.disk().flush().map_err(told))
    }

    /// Closes the image, so that its file is whole and nobody's. Only while the machine stands still, and after
    /// [`Port::flush`].
    pub fn close(&self) -> Option<Medium> {
        self.state.lock().medium.take()
    }

    /// Opens the image in `front` for writing, in place of what there was. It must be as long.
    pub fn reopen(&self, front: &Path) -> Result<(), String> {
        let mut state = self.state.lock();
        state.medium = None;
        let image = Image::open(front, Access::ReadWrite).map_err(|error| error.to_string())?;
        if image.length_bytes() != state.length_bytes {
            return Err(format!("{}: its length is another now", front.display()));
        }
        front.clone_into(&mut state.front);
        state.medium = Some(Medium::File(image));
        Ok(())
    }

    /// What it has done.
    pub fn work(&self) -> DriveWork {
        DriveWork {
            drive: self.name.clone(),
            file: self.named.clone(),
            bytes_read: self.work.bytes_read.load(Ordering::Relaxed),
            bytes_written: self.work.bytes_written.load(Ordering::Relaxed),
            reads: self.work.reads.summary(),
            writes: self.work.writes.summary(),
            flushes: self.work.flushes.summary(),
        }
    }
}

impl State {
    fn disk(&mut self) -> Result<&mut dyn Disk, DiskError> {
        let closed = || DiskError::Host(std::io::Error::other("the image is closed"));
        self.medium.as_mut().map(Medium::disk).ok_or_else(closed)
    }

    /// Does it, or owes it when the host's disk is full, or something is owed already.
    fn promise(
        &mut self,
        owed: Owed,
        tell: &Tell,
        act: impl FnOnce(&mut dyn Disk) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        if self.owed.is_empty() {
            match act(self.disk()?) {
                Err(DiskError::Full(_)) => {}
                done => return done,
            }
        }
        let bytes = if let Owed::Write(_, bytes) = &owed { bytes.len() as u64 } else { 0 };
        if self.owed_bytes + bytes > OWED_MAX_BYTES {
            return Err(DiskError::Full(std::io::ErrorKind::StorageFull.into()));
        }
        self.owed_bytes += bytes;
        self.owed.push_back(owed);
        tell();
        Ok(())
    }
}

/// What is owed is read as if it were there.
fn lay_over(owed: &VecDeque<Owed>, offset: u64, buffer: &mut [u8]) {
    let end = offset + buffer.len() as u64;
    for one in owed {
        let (start, stop) = match one {
            Owed::Write(start, bytes) => (*start, start + bytes.len() as u64),
            Owed::Zeros(start, length) => (*start, start + length),
            Owed::Flush => continue,
        };
        let (from, to) = (start.max(offset), stop.min(end));
        if from >= to {
            continue;
        }
        let room = &mut buffer[(from - offset) as usize..(to - offset) as usize];
        match one {
            Owed::Write(_, bytes) => {
                room.copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
            }
            _ => room.fill(0),
        }
    }
}

/// What a device has of a port.
struct PortDisk(Arc<Port>);

fn timed<R>(how_long: &Histogram, act: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let done = act();
    how_long.record(begun.elapsed().as_nanos() as u64);
    done
}

impl Disk for PortDisk {
    fn length_bytes(&self) -> u64 {
        self.0.length_bytes()
    }

    fn is_read_only(&self) -> bool {
        self.0.with_medium(|medium| medium.disk().is_read_only()).unwrap_or(true)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let work = &self.0.work;
        work.bytes_read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        timed(&work.reads, || {
            let mut state = self.0.state.lock();
            state.disk()?.read_at(offset, buffer)?;
            lay_over(&state.owed, offset, buffer);
            Ok(())
        })
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let work = &self.0.work;
        work.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        timed(&work.writes, || {
            let mut state = self.0.state.lock();
            if state.owed.is_empty() {
                // The usual way keeps nothing.
                match state.disk()?.write_at(offset, bytes) {
                    Err(DiskError::Full(_)) => {}
                    done => return done,
                }
            }
            state.check(offset, bytes.len() as u64)?;
            let full = |_: &mut dyn Disk| Err(DiskError::Full(std::io::ErrorKind::StorageFull.into()));
            state.promise(Owed::Write(offset, bytes.to_vec()), &self.0.tell, full)
        })
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        timed(&self.0.work.flushes, || {
            self.0.state.lock().promise(Owed::Flush, &self.0.tell, |disk| disk.flush())
        })
    }

    fn write_zeros(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        timed(&self.0.work.writes, || {
            let mut state = self.0.state.lock();
            state.check(offset, length_bytes)?;
            let zeros = Owed::Zeros(offset, length_bytes);
            state.promise(zeros, &self.0.tell, |disk| disk.write_zeros(offset, length_bytes))
        })
    }

    fn discard(&mut self, offset: u64, length_bytes: u64) -> Result<(), DiskError> {
        let mut state = self.0.state.lock();
        state.check(offset, length_bytes)?;
        match state.owed.is_empty() {
            // A hint: a full disk need not stop the machine for it.
            true => match state.disk()?.discard(offset, length_bytes) {
                Err(DiskError::Full(_)) => Ok(()),
                done => done,
            },
            false => Ok(()),
        }
    }

    fn extent(&mut self, offset: u64) -> Result<Extent, DiskError> {
        self.0.state.lock().disk()?.extent(offset)
    }
}

impl State {
    /// An access that is owed must be one that can be made good.
    fn check(&self, offset: u64, bytes: u64) -> Result<(), DiskError> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.length_bytes => Ok(()),
            _ => Err(DiskError::OutOfRange { offset, bytes }),
        }
    }
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
