//! Saved states of a machine: taken, put back, refused.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use storage::{Access, Disk, Image, RawDisk};

use super::*;
use crate::backend::Backend;
use crate::profile::{Direct, Network, Paravirtual, Profile, Size};
use crate::{Library, Outlets, RunState, Session};

/// Counts in memory at 0x600, and says each 65,536th on the debug console: "a", "b", and on.
const COUNTER: &[u8] = &[
    0x31, 0xC0, 0x8E, 0xD8, // xor ax, ax; mov ds, ax
    0xFF, 0x06, 0x00, 0x06, // again: inc word [0x600]
    0x75, 0xFA, // jnz again
    0xFE, 0x06, 0x02, 0x06, // inc byte [0x602]
    0x80, 0x26, 0x02, 0x06, 0x0F, // and byte [0x602], 15
    0xA0, 0x02, 0x06, // mov al, [0x602]
    0x04, 0x61, // add al, 'a'
    0xE6, 0xE9, // out 0xE9, al
    0xEB, 0xE8, // jmp again
];

struct Bench {
    folder: tempfile::TempDir,
    profile: Profile,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("counter.bin");
        std::fs::write(&program, COUNTER).unwrap();
        let mut profile = Profile::new("counter");
        profile.backend = Backend::Soft;
        profile.memory = Size::mib(4);
        profile.network = Network::None;
        profile.paravirtual = Paravirtual::NONE;
        profile.direct = Some(Direct::Flat(program));
        Bench { folder, profile }
    }

    fn states(&self) -> States {
        States::of(&Library::at(self.folder.path().join("home")), "counter").unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn disk(&mut self, name: &str) -> std::path::PathBuf {
        let path = self.path(name);
        RawDisk::create(&path, 1 << 20).unwrap();
        self.profile.disks.push(path.clone());
        path
    }
}

fn outlets(to: &Arc<Mutex<Vec<u8>>>) -> Outlets {
    let to = to.clone();
    let keep = move |bytes: &[u8]| to.lock().unwrap().extend_from_slice(bytes);
    Outlets { debug_console: Some(Box::new(keep)), ..Outlets::default() }
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Goes on counting from where it was: each letter follows the one before.
fn assert_in_order(letters: &[u8], first: Option<u8>) {
    let next = |letter: u8| if letter == b'p' { b'a' } else { letter + 1 };
    assert!(first.is_none_or(|first| letters[0] == first), "{:?}", String::from_utf8_lossy(letters));
    for pair in letters.windows(2) {
        assert_eq!(pair[1], next(pair[0]), "{:?}", String::from_utf8_lossy(letters));
    }
}

fn counted(session: &Session) -> (u16, u8) {
    let mut bytes = [0; 3];
    session.memory().read(0x600, &mut bytes);
    (u16::from_le_bytes([bytes[0], bytes[1]]), bytes[2])
}

fn pause(session: &Session) {
    session.pause();
    wait_for("it pauses", || session.state() == RunState::Paused);
}

#[test]
fn a_machine_goes_on_while_it_is_saved_and_a_new_one_goes_on_from_there() {
    let bench = Bench::new();
    let (states, said) = (bench.states(), Arc::default());
    let session = Session::start(&bench.profile, outlets(&said)).unwrap();
    wait_for("it counts", || said.lock().unwrap().len() > 3);
    let taken = take(&session, &states, "one").unwrap();
    assert!(taken.bytes > 0 && taken.memory_bytes > 0 && !taken.pause.is_zero());
    let then = said.lock().unwrap().len();
    wait_for("it goes on", || said.lock().unwrap().len() > then + 3);
    assert!(matches!(take(&session, &states, "one"), Err(SnapshotError::Exists { .. })));
    session.power_off();
    assert_in_order(&said.lock().unwrap(), None);

    let head = states.head(Which::Snapshot("one")).unwrap();
    assert_eq!((head.backend, &head.profile), (Backend::Soft, &bench.profile));
    for _ in 0..3 {
        let said = Arc::default();
        let paused = Outlets { paused: true, ..outlets(&said) };
        let again = start(&states, Which::Snapshot("one"), |_| {}, paused).unwrap();
        let next = b'a' + (counted(&again).1 + 1) % 16;
        assert_eq!(again.state(), RunState::Paused);
        again.resume();
        wait_for("it goes on", || said.lock().unwrap().len() > 3);
        assert_in_order(&said.lock().unwrap(), Some(next));
    }
}

#[test]
fn a_running_machine_is_put_back() {
    let bench = Bench::new();
    let (states, said) = (bench.states(), Arc::default());
    let session = Session::start(&bench.profile, outlets(&said)).unwrap();
    wait_for("it counts", || said.lock().unwrap().len() > 3);
    pause(&session);
    let here = counted(&session);
    take(&session, &states, "one").unwrap();
    assert_eq!((session.state(), counted(&session)), (RunState::Paused, here), "it stays as it was");
    session.resume();
    let then = said.lock().unwrap().len();
    wait_for("it goes on", || said.lock().unwrap().len() > then + 3);
    pause(&session);
    assert_ne!(counted(&session), here);
    restore(&session, &states, "one").unwrap();
    assert_eq!((session.state(), counted(&session)), (RunState::Paused, here));
    said.lock().unwrap().clear();
    session.resume();
    wait_for("it goes on", || said.lock().unwrap().len() > 3);
    assert_in_order(&said.lock().unwrap(), Some(b'a' + (here.1 + 1) % 16));
    let unknown = restore(&session, &states, "two").unwrap_err().to_string();
    assert!(unknown.contains("two") && unknown.contains("one"), "{unknown}");
}

#[test]
fn a_suspended_machine_is_off_and_its_state_is_used_up() {
    let mut bench = Bench::new();
    let disk = bench.disk("disk.img");
    let (states, said) = (bench.states(), Arc::default());
    let session = Session::start(&bench.profile, outlets(&said)).unwrap();
    wait_for("it counts", || said.lock().unwrap().len() > 3);
    suspend(&session, &states).unwrap();
    assert!(session.wait(Duration::from_secs(10)).is_some());
    let next = b'a' + (counted(&session).1 + 1) % 16;
    drop(session);
    assert!(states.is_suspended());
    Image::open(&disk, Access::ReadWrite).expect("the disk is nobody's");

    let said = Arc::default();
    let again = start(&states, Which::Suspended, |_| {}, outlets(&said)).unwrap();
    wait_for("it goes on", || said.lock().unwrap().len() > 3);
    assert_in_order(&said.lock().unwrap(), Some(next));
    assert!(!states.is_suspended());
    suspend(&again, &states).unwrap();
    drop(again);
    RawDisk::open(&disk, Access::ReadWrite).unwrap().write_at(0, &[1]).unwrap();
    let changed = start(&states, Which::Suspended, |_| {}, Outlets::default()).err().unwrap().to_string();
    assert!(changed.contains("disk.img") && changed.contains("changed"), "{changed}");
    assert!(states.is_suspended(), "a refusal changes nothing");
}

fn write(session: &Session, offset: u64, byte: u8) {
    let port = session.machine().drives().ports()[0].clone();
    let mut disk = port.disk();
    disk.write_at(offset, &[byte; 512]).unwrap();
    disk.flush().unwrap();
}

fn read(session: &Session, offset: u64) -> u8 {
    let mut byte = [0];
    session.machine().drives().ports()[0].disk().read_at(offset, &mut byte).unwrap();
    byte[0]
}

fn byte_of(path: &Path, offset: u64) -> u8 {
    let mut byte = [0];
    Image::open(path, Access::ReadOnly).unwrap().read_at(offset, &mut byte).unwrap();
    byte[0]
}

#[test]
fn disks_go_back_with_their_machine() {
    let mut bench = Bench::new();
    let disk = bench.disk("disk.img");
    let states = bench.states();
    let session = Session::start(&bench.profile, Outlets::default()).unwrap();
    write(&session, 0, 1);
    take(&session, &states, "one").unwrap();
    write(&session, 0, 2);
    write(&session, 4096, 2);
    take(&session, &states, "two").unwrap();
    write(&session, 0, 3);
    assert_eq!(byte_of(&disk, 0), 1, "the file is as it was at the first snapshot");
    restore(&session, &states, "one").unwrap();
    assert_eq!((read(&session, 0), read(&session, 4096)), (1, 0));
    write(&session, 0, 4);
    restore(&session, &states, "two").unwrap();
    assert_eq!((read(&session, 0), read(&session, 4096)), (2, 2));
    write(&session, 0, 5);
    session.power_off();
    session.wait(Duration::from_secs(10));

    // A start without a snapshot goes on with what the disk held last.
    let fronts = states.fronts().unwrap();
    let session = Session::start(&bench.profile, Outlets { fronts, ..Outlets::default() }).unwrap();
    assert_eq!((read(&session, 0), read(&session, 4096)), (5, 2));
    session.power_off();
    session.wait(Duration::from_secs(10));
    let session = start(&states, Which::Snapshot("one"), |_| {}, Outlets::default()).unwrap();
    assert_eq!((read(&session, 0), read(&session, 4096)), (1, 0));
    write(&session, 0, 6);
    session.power_off();
    session.wait(Duration::from_secs(10));

    // Overlays that nothing needs are gone; with the last snapshot, the disk is whole again.
    states.delete(Which::Snapshot("two")).unwrap();
    assert_eq!(std::fs::read_dir(states.folder().join("layers")).unwrap().count(), 1);
    states.delete(Which::Snapshot("one")).unwrap();
    assert_eq!(std::fs::read_dir(states.folder().join("layers")).unwrap().count(), 0);
    assert_eq!((byte_of(&disk, 0), byte_of(&disk, 4096)), (6, 0));
    assert!(states.fronts().unwrap().0.is_empty());
}

#[test]
fn a_disk_that_was_changed_is_refused_by_name() {
    let mut bench = Bench::new();
    let disk = bench.disk("disk.img");
    let states = bench.states();
    let session = Session::start(&bench.profile, Outlets::default()).unwrap();
    take(&session, &states, "one").unwrap();
    session.power_off();
    session.wait(Duration::from_secs(10));
    RawDisk::open(&disk, Access::ReadWrite).unwrap().write_at(0, &[9]).unwrap();
    let refused = start(&states, Which::Snapshot("one"), |_| {}, Outlets::default()).err().unwrap();
    assert!(matches!(&refused, SnapshotError::Disk { drive, path, .. } if drive == "disk0" && *path == disk));
    assert!(states.fronts().is_err(), "nor is the machine started over another disk than its overlay's");
    assert_eq!(std::fs::read_dir(states.folder().join("layers")).unwrap().count(), 1);
}

#[test]
fn changes_to_throw_away_disks_are_in_the_state() {
    let mut bench = Bench::new();
    let disk = bench.disk("disk.img");
    bench.profile.snapshot = true;
    let states = bench.states();
    let session = Session::start(&bench.profile, Outlets::default()).unwrap();
    write(&session, 0, 1);
    take(&session, &states, "one").unwrap();
    write(&session, 0, 2);
    write(&session, 512 << 10, 2);
    restore(&session, &states, "one").unwrap();
    assert_eq!((read(&session, 0), read(&session, 512 << 10)), (1, 0));
    session.power_off();
    session.wait(Duration::from_secs(10));
    let again = start(&states, Which::Snapshot("one"), |_| {}, Outlets::default()).unwrap();
    assert_eq!((read(&again, 0), byte_of(&disk, 0)), (1, 0));
}

#[test]
fn another_machine_s_state_is_refused_and_nothing_changes() {
    let bench = Bench::new();
    let states = bench.states();
    let session = Session::start(&bench.profile, Outlets::default()).unwrap();
    take(&session, &states, "one").unwrap();
    drop(session);
    let mut other = bench.profile.clone();
    other.cpus = 2;
    let said = Arc::default();
    let session = Session::start(&other, outlets(&said)).unwrap();
    let error = restore(&session, &states, "one").unwrap_err().to_string();
    assert!(error.contains("processors"), "{error}");
    wait_for("it goes on", || said.lock().unwrap().len() > 3);
    assert_in_order(&said.lock().unwrap(), None);
    other.cpus = 1;
    other.memory = Size::mib(8);
    let session = Session::start(&other, Outlets::default()).unwrap();
    let error = restore(&session, &states, "one").unwrap_err().to_string();
    assert!(error.contains("memory"), "{error}");
    // With a processor that offers less, the features are named.
    let error =
        start(&states, Which::Snapshot("one"), |p| p.model = cpu::CpuModel::Pentium3, Outlets::default());
    let error = error.err().unwrap().to_string();
    assert!(error.contains("longmode") && error.contains("soft"), "{error}");
}

/// Any damage is refused with a reason, whatever the checksums say.
#[test]
fn mutated_files_are_refused_or_run() {
    let bench = Bench::new();
    let states = bench.states();
    let session = Session::start(&bench.profile, Outlets { paused: true, ..Outlets::default() }).unwrap();
    take(&session, &states, "one").unwrap();
    drop(session);
    let path = states.path(Which::Snapshot("one")).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut random = 7u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let (mut refused, mut loaded) = (0, 0);
    for round in 0..150 {
        let mut bytes = whole.clone();
        for _ in 0..1 + next(3) {
            let at = 20 + next(bytes.len() - 20);
            bytes[at] = next(256) as u8;
        }
        match round % 3 {
            0 => {}
            1 => bytes.truncate(next(whole.len())),
            // What no checksum catches.
            _ => mend_checksums(&mut bytes),
        }
        std::fs::write(&path, &bytes).unwrap();
        let paused = Outlets { paused: true, ..Outlets::default() };
        match start(&states, Which::Snapshot("one"), |_| {}, paused) {
            Ok(_) => loaded += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    assert!(refused >= 90, "{refused} refused, {loaded} loaded");
}

/// Makes the checksum of each section that can be found right.
fn mend_checksums(bytes: &mut [u8]) {
    let mut at = 20;
    while at + 16 <= bytes.len() {
        let length = u64::from_le_bytes(bytes[at + 4..at + 12].try_into().unwrap()) as usize;
        let Some(content) = bytes.get(at + 16..).and_then(|rest| rest.get(..length)) else { return };
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[at..at + 12]);
        crc.update(content);
        let sum = crc.sum().to_le_bytes();
        bytes[at + 12..at + 16].copy_from_slice(&sum);
        at += 16 + length;
    }
}
