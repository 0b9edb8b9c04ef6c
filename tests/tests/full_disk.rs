//! The host's disk is full: the machine waits in a named state, goes on when there is room, and its guest has seen no
//! error.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use engine::profile::{DiskBus, Profile};
use engine::{Event, RunState};
use machine_tests::{Guest, SOFT, assembler, linux::Linux};

/// A file system of bounded size; gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, with the reason printed, where it may not be mounted.
    fn of(kib: u32) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let size = format!("size={kib}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder.path()).output();
        match mounted {
            Ok(done) if done.status.success() => Some(SmallDisk(folder)),
            _ => {
                println!("skipped: a small file system cannot be mounted (needs root)");
                None
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn grow(&self, kib: u32) {
        let size = format!("remount,size={kib}k");
        assert!(Command::new("mount").args(["-o", &size]).arg(self.0.path()).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn sparse(path: &Path, bytes: u64) {
    std::fs::File::create(path).unwrap().set_len(bytes).unwrap();
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_ide_guest_waits_for_room_and_sees_no_error() {
    let Some(small) = SmallDisk::of(512) else { return };
    sparse(&small.path("disk.img"), 1 << 20);
    let mut profile = Profile::new("full");
    profile.disks = vec![small.path("disk.img")];
    let guest = Guest::flat_in(profile, &assembler::binary("fill_disk"), SOFT);
    let session = guest.session();
    wait_until("it is hindered", || session.hindrance().is_some());
    let hindrance = session.hindrance().unwrap();
    assert!(hindrance.starts_with("disk full: ") && hindrance.ends_with("disk.img"), "{hindrance}");
    assert_eq!(session.state(), RunState::Paused);
    assert!(session.events().contains(&Event::Hindered(hindrance)));
    // It stands still, and cannot be made to go on.
    session.resume();
    let then = session.stats().guest_seconds;
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!((session.stats().guest_seconds, session.state()), (then, RunState::Paused));
    small.grow(4096);
    guest.wait_pass(60);
    let written = std::fs::read(small.path("disk.img")).unwrap();
    let good = |(n, sector): (usize, &[u8])| sector.chunks(2).all(|word| word == (n as u16).to_le_bytes());
    assert!(written.chunks(512).enumerate().all(good), "all of it is there, in its place");
}

/// A file system on a qcow2 disk of virtio, with flushes, and more written than there is room.
#[test]
fn linux_on_virtio_waits_for_room_and_sees_no_error() {
    let Some(small) = SmallDisk::of(3 << 10) else { return };
    let script = "
        dd if=/dev/zero bs=64k count=128 2>/dev/null | tr '\\0' 'v' > /tmp/in
        dd if=/tmp/in of=/dev/vda bs=64k conv=fsync 2>/dev/null && echo WRITTEN
        echo 3 > /proc/sys/vm/drop_caches
        dd if=/dev/vda bs=64k count=128 2>/dev/null | cmp - /tmp/in && echo SAME
        dmesg | grep -i 'i/o error'";
    let modules = [
        "virtio_ring",
        "virtio",
        "virtio_pci_legacy_dev",
        "virtio_pci_modern_dev",
        "virtio_pci",
        "virtio_blk",
    ];
    let Some(linux) = Linux::with(&modules, script) else { return };
    storage_image(&small.path("disk.qcow2"));
    let mut profile = Profile::new("full");
    profile.disks = vec![small.path("disk.qcow2")];
    profile.disk_bus = DiskBus::Virtio;
    linux.boot_in(&mut profile, "quiet");
    let guest = Guest::start(profile, SOFT);
    wait_until("it is hindered", || guest.session().hindrance().is_some());
    small.grow(32 << 10);
    guest.wait_until(120, "the guest is done", || guest.serial().contains("SAME"));
    let serial = guest.serial();
    assert!(serial.contains("WRITTEN") && !serial.contains("I/O error"), "{serial}");
}

fn storage_image(path: &Path) {
    storage::job::create(path, &storage::job::NewDisk::new(storage::Format::Qcow2, 16 << 20)).unwrap();
}
