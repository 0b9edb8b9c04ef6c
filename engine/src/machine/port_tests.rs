//! A full disk owes, and makes good.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;

/// A disk in memory on a host without room, until there is some.
struct Cramped {
    disk: MemoryDisk,
    has_room: Arc<AtomicBool>,
    flushes: Arc<AtomicUsize>,
}

impl Cramped {
    fn room(&self) -> Result<(), DiskError> {
        match self.has_room.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(DiskError::Full(std::io::ErrorKind::StorageFull.into())),
        }
    }
}

impl Disk for Cramped {
    fn length_bytes(&self) -> u64 {
        self.disk.length_bytes()
    }
    fn is_read_only(&self) -> bool {
        false
    }
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.disk.read_at(offset, buffer)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.room()?;
        self.disk.write_at(offset, bytes)
    }
    fn flush(&mut self) -> Result<(), DiskError> {
        self.room()?;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn what_a_full_disk_does_not_take_is_read_back_and_written_when_there_is_room() {
    let [has_room, _] = [(); 2].map(|()| Arc::new(AtomicBool::new(true)));
    let (flushes, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let disk = MemoryDisk::new(vec![7; 4096]).unwrap();
    let cramped = Cramped { disk, has_room: has_room.clone(), flushes: flushes.clone() };
    let count = told.clone();
    let tell: Tell = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let path = Path::new("/vm/disk.img");
    let port = Port::new("disk0", path, path, Medium::ReadOnly(Box::new(cramped)), tell);
    let mut disk = port.disk();
    disk.write_at(0, &[1; 512]).unwrap();
    assert_eq!((port.hindrance(), told.load(Ordering::Relaxed)), (None, 0));

    has_room.store(false, Ordering::Relaxed);
    disk.write_at(510, &[2; 4]).unwrap();
    disk.flush().unwrap();
    disk.write_zeros(511, 1).unwrap();
    disk.write_at(512, &[3]).unwrap();
    assert!(matches!(disk.write_at(4095, &[0; 2]), Err(DiskError::OutOfRange { .. })), "not owed");
    assert_eq!(port.hindrance().as_deref(), Some("disk full: /vm/disk.img"));
    assert!(told.load(Ordering::Relaxed) > 0);
    let mut bytes = [0; 6];
    disk.read_at(509, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2, 0, 3, 2, 7]);
    assert!(port.settle().unwrap_err().contains("disk full"));
    assert_eq!(flushes.load(Ordering::Relaxed), 0);

    has_room.store(true, Ordering::Relaxed);
    port.settle().unwrap();
    assert_eq!((port.hindrance(), flushes.load(Ordering::Relaxed)), (None, 1));
    let mut on_disk = [0; 6];
    port.with_medium(|medium| medium.disk().read_at(509, &mut on_disk)).unwrap().unwrap();
    assert_eq!(on_disk, bytes);
    assert_eq!(port.work().writes.count, 5);
}

#[test]
fn what_is_kept_for_a_full_disk_is_bounded() {
    let has_room = Arc::new(AtomicBool::new(false));
    let disk = MemoryDisk::new(vec![0; 32 << 20]).unwrap();
    let cramped = Cramped { disk, has_room, flushes: Arc::default() };
    let path = Path::new("/vm/disk.img");
    let port = Port::new("disk0", path, path, Medium::ReadOnly(Box::new(cramped)), Arc::new(|| ()));
    let mut disk = port.disk();
    let taken = (0..32).take_while(|_| disk.write_at(0, &vec![1; 32 << 20]).is_ok()).count();
    assert_eq!(taken as u64, OWED_MAX_BYTES >> 25);
}
