//! The block device as a driver sees it.

use std::sync::mpsc;

use parking_lot::Mutex;
use storage::{DiskError, MemoryDisk};

use super::*;
use crate::Width;
use crate::device::Device;
use crate::line::{Line, Messages};
use crate::virtio::testing::Rig;

const SECTORS: u64 = 64;

fn disk() -> MemoryDisk {
    MemoryDisk::new((0..SECTORS * 512).map(|n| (n / 512) as u8).collect()).unwrap()
}

fn block(disk: impl Disk + 'static) -> Block {
    Block::new(Box::new(disk), "VT0000001", 2, Jobs::at_once())
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

/// Submits a request; gives the status byte and what was written before it.
fn request(rig: &mut Rig<Block>, kind: u32, sector: u64, sent: &[u8], room: u32) -> (u8, Vec<u8>) {
    let header = header(kind, sector);
    let readable: Vec<&[u8]> = [&header[..], sent].into_iter().filter(|part| !part.is_empty()).collect();
    let writable: Vec<u32> = [room, 1].into_iter().filter(|length| *length > 0).collect();
    let head = rig.submit(0, &readable, &writable);
    let used = rig.queues[0].used();
    assert_eq!((used.len(), used[0].0), (1, head));
    let mut written = rig.queues[0].written(head);
    let status = written.pop().unwrap();
    assert_eq!(rig.vectors(), [1]);
    (status, written)
}

#[test]
fn sectors_are_read_and_written() {
    let mut rig = Rig::start(block(disk()), 0);
    let (status, data) = request(&mut rig, 0, 3, &[], 1024);
    assert_eq!((status, data[0], data[511], data[512]), (0, 3, 3, 4));
    assert_eq!(request(&mut rig, 1, 63, &[0xAB; 512], 0).0, 0);
    assert_eq!(request(&mut rig, 4, 0, &[], 0).0, 0);
    assert_eq!(request(&mut rig, 0, 63, &[], 512), (0, vec![0xAB; 512]));
    let count = rig.device.kind().count();
    assert_eq!((count.commands, count.bytes_read, count.bytes_written), (4, 1536, 512));
}

#[test]
fn what_is_not_on_the_disk_is_an_error_and_not_the_end() {
    let mut rig = Rig::start(block(disk()), 0);
    for (kind, sector, sent, room) in [
        (0, SECTORS, &[][..], 512),
        (0, SECTORS - 1, &[], 1024),
        (0, u64::MAX, &[], 512),
        (0, 0, &[], 100),
        (1, SECTORS, &[0; 512], 0),
        (1, u64::MAX / 512, &[0; 512], 0),
    ] {
        assert_eq!(request(&mut rig, kind, sector, sent, room).0, 1, "{kind} {sector}");
    }
    assert_eq!(request(&mut rig, 99, 0, &[], 0).0, 2, "no such request");
    assert_eq!(request(&mut rig, 0, 0, &[], 512).0, 0);
}

#[test]
fn a_serial_number_and_a_configuration() {
    let mut rig = Rig::start(block(disk()), 0);
    let (status, id) = request(&mut rig, 8, 0, &[], 20);
    assert_eq!((status, &id[..10]), (0, &b"VT0000001\0"[..]));
    assert_eq!(u64::from_le_bytes(rig.config(0)), SECTORS);
    assert_eq!(u32::from_le_bytes(rig.config(12)), 254);
    assert_eq!(u16::from_le_bytes(rig.config(34)), 2, "queues");
    assert_eq!(rig.read(18, Width::Word), 2);
}

fn ranges(all: &[(u64, u32, u32)]) -> Vec<u8> {
    let range = |(sector, count, flags): &(u64, u32, u32)| {
        [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    all.iter().flat_map(range).collect()
}

#[test]
fn ranges_are_zeroed_and_discarded() {
    let mut rig = Rig::start(block(disk()), 0);
    assert_eq!(request(&mut rig, 13, 0, &ranges(&[(1, 2, 1), (5, 1, 0)]), 0).0, 0);
    let data = request(&mut rig, 0, 0, &[], 7 * 512).1;
    let first_bytes: Vec<u8> = data.chunks(512).map(|sector| sector[9]).collect();
    assert_eq!(first_bytes, [0, 0, 0, 3, 4, 0, 6]);
    assert_eq!(request(&mut rig, 11, 0, &ranges(&[(0, 64, 0)]), 0).0, 0);
    assert_eq!(request(&mut rig, 11, 0, &ranges(&[(0, 65, 0)]), 0).0, 1);
    assert_eq!(request(&mut rig, 11, 0, &ranges(&[(u64::MAX, 2, 0)]), 0).0, 1);
    assert_eq!(request(&mut rig, 11, 0, &ranges(&[(0, 1, 1)]), 0).0, 2, "unmapping is for zeros");
    assert_eq!(request(&mut rig, 13, 0, &ranges(&[(0, 1, 2)]), 0).0, 2, "a reserved flag");
    assert_eq!(request(&mut rig, 13, 0, &[0; 17], 0).0, 1);
    assert_eq!(request(&mut rig, 13, 0, &ranges(&[(0, 1, 0); 17]), 0).0, 1, "too many ranges");
}

#[test]
fn a_read_only_disk_says_so_and_refuses() {
    let mut rig = Rig::start(block(disk().read_only()), 0);
    let offered = rig.offered();
    assert_eq!(offered & (1 << 5 | 1 << 13 | 1 << 14), 1 << 5);
    for (kind, sent) in [(1, vec![0; 512]), (11, ranges(&[(0, 1, 0)])), (13, ranges(&[(0, 1, 0)]))] {
        assert_eq!(request(&mut rig, kind, 0, &sent, 0).0, 1);
    }
}

#[test]
fn a_request_without_header_or_status_needs_a_reset() {
    for (readable, writable) in [(&[0u8; 15][..], &[1u32][..]), (&[0; 16], &[])] {
        let mut rig = Rig::start(block(disk()), 0);
        rig.submit(0, &[readable], writable);
        assert_eq!(rig.status() & 0x40, 0x40);
        assert!(rig.device.violation().is_some());
    }
}

/// A disk that counts flushes, and fails when told to.
struct Watched {
    inner: MemoryDisk,
    flushes: Arc<Mutex<u32>>,
    broken: bool,
}

impl Disk for Watched {
    fn length_bytes(&self) -> u64 {
        self.inner.length_bytes()
    }
    fn is_read_only(&self) -> bool {
        false
    }
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        if self.broken {
            return Err(std::io::Error::other("a bad sector").into());
        }
        self.inner.read_at(offset, buffer)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.inner.write_at(offset, bytes)
    }
    fn flush(&mut self) -> Result<(), DiskError> {
        *self.flushes.lock() += 1;
        self.inner.flush()
    }
}

fn watched(broken: bool) -> (Block, Arc<Mutex<u32>>) {
    let flushes = Arc::new(Mutex::new(0));
    (block(Watched { inner: disk(), flushes: flushes.clone(), broken }), flushes)
}

#[test]
fn a_write_is_durable_unless_the_driver_flushes_itself() {
    let (device, flushes) = watched(false);
    let mut rig = Rig::start(device, 0);
    request(&mut rig, 1, 0, &[1; 512], 0);
    assert_eq!(*flushes.lock(), 0, "the driver knows of flushes");
    request(&mut rig, 4, 0, &[], 0);
    assert_eq!(*flushes.lock(), 1);
    rig.write(0x2000 + 32, Width::Byte, 0);
    assert_eq!(rig.config::<1>(32), [0], "write through");
    request(&mut rig, 1, 0, &[1; 512], 0);
    assert_eq!(*flushes.lock(), 2);

    let (device, flushes) = watched(false);
    let mut rig = Rig::start(device, feature::FLUSH);
    request(&mut rig, 1, 0, &[1; 512], 0);
    assert_eq!(*flushes.lock(), 1, "this driver does not");
}

#[test]
fn an_error_of_the_host_is_an_error_for_the_guest() {
    let mut rig = Rig::start(watched(true).0, 0);
    assert_eq!(request(&mut rig, 0, 0, &[], 512).0, 1);
}

/// A rig whose jobs wait until they are called for.
fn waiting() -> (Rig<Block>, mpsc::Receiver<crate::jobs::Job>) {
    let (give, take) = mpsc::channel();
    let give = Mutex::new(give);
    let jobs = Jobs::new(move |job| give.lock().send(job).unwrap());
    (Rig::start(Block::new(Box::new(disk()), "", 1, jobs), 0), take)
}

fn collect(rig: &mut Rig<Block>) {
    rig.device.with(Block::go_on);
}

#[test]
fn what_is_too_much_at_a_time_is_done_later() {
    let (mut rig, jobs) = waiting();
    for _ in 0..80 {
        rig.queues[0].offer(&[&header(4, 0)], &[1]);
    }
    rig.notify(0);
    for _ in 0..80 {
        rig.queues[0].offer(&[&header(4, 0)], &[1]);
    }
    rig.notify(0);
    let mut done = 0;
    while let Ok(job) = jobs.try_recv() {
        assert!(rig.device.kind().under_way <= REQUESTS_MAX);
        job();
        done += 1;
        collect(&mut rig);
    }
    assert_eq!((done, rig.queues[0].used().len()), (160, 160));
}

#[test]
fn the_access_returns_and_the_end_comes_by_interrupt() {
    let (mut rig, jobs) = waiting();
    let head = rig.submit(0, &[&header(0, 1)], &[512, 1]);
    assert!(rig.queues[0].used().is_empty() && rig.vectors().is_empty());
    assert!(!rig.device.kind().is_idle());
    jobs.recv().unwrap()();
    collect(&mut rig);
    assert_eq!(rig.queues[0].used(), [(head, 513)]);
    assert_eq!(rig.vectors(), [1]);
    assert!(rig.device.kind().is_idle());
}

#[test]
fn a_reset_waits_for_what_is_under_way() {
    let (mut rig, jobs) = waiting();
    rig.submit(0, &[&header(0, 1)], &[512, 1]);
    rig.write(20, Width::Byte, 0);
    assert_eq!(rig.status(), 0xF, "the reset is not over");
    let state = rig.device.save();
    assert!(rig.device.load(&state).is_err(), "nor can it be loaded over");
    jobs.recv().unwrap()();
    collect(&mut rig);
    assert_eq!(rig.status(), 0);
    assert!(rig.queues[0].used().is_empty() && rig.vectors().is_empty(), "the old rings are left alone");
    rig.negotiate(1 << 32);
    rig.submit(0, &[&header(0, 1)], &[512, 1]);
    jobs.recv().unwrap()();
    collect(&mut rig);
    assert_eq!(rig.queues[0].used().len(), 1);
}

#[test]
fn a_worker_thread_serves_a_device_on_the_board() {
    let (give, take) = mpsc::channel::<crate::jobs::Job>();
    let give = Mutex::new(give);
    let jobs = Jobs::new(move |job| give.lock().send(job).unwrap());
    let worker = std::thread::spawn(move || take.into_iter().for_each(|job| job()));
    let rig = Rig::start(Block::new(Box::new(disk()), "", 1, jobs), 0);
    let Rig { device, mut queues, .. } = rig;
    let device = crate::device::shared(device);
    Block::connect(&device);
    for sector in 0..8 {
        queues[0].offer(&[&header(0, sector)], &[512, 1]);
    }
    device.lock().write(crate::At::new(0, 0x3000), Width::Word, 0);
    assert!(Block::drain(&device, Duration::from_secs(30)));
    assert_eq!(queues[0].used().len(), 8);
    drop((device, worker));
}

#[test]
fn contract() {
    crate::contract::check(|| {
        let memory = Memory::new(1 << 20, 0).unwrap();
        let (line, messages) = (Line::unconnected(), Messages::unconnected());
        VirtioPci::new("block", block(disk()), memory, line, messages)
    });
}
