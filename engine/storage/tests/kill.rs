//! A writer is killed at random moments, over and over. Whatever it had flushed is in the image, which opens
//! and is sound each time.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use storage::job::{self, NewDisk};
use storage::{Access, Disk, Format, Image};

const ROUNDS: u64 = 12;
const SLOT: u64 = 40_960;
const SLOTS: u64 = 300;
/// Names the image to the child.
const IMAGE: &str = "VITRINE_KILL_TEST_IMAGE";

/// The child: not a test of its own, so it does nothing unless it is told an image. It fills slot after slot
/// with a number, and says so on its output when the number is flushed.
#[test]
fn writer() {
    let Ok(path) = std::env::var(IMAGE) else { return };
    let mut image = Image::open(Path::new(&path), Access::ReadWrite).unwrap();
    let mut last = [0; 8];
    image.read_at(0, &mut last).unwrap();
    let first = u64::from_le_bytes(last) + 1;
    for number in first.. {
        let slot = 1 + number % SLOTS;
        image.write_at(slot * SLOT, &number.to_le_bytes().repeat(SLOT as usize / 8)).unwrap();
        if number % 7 == 0 {
            image.discard((SLOTS + 2) * SLOT, 20 * SLOT).unwrap();
            image.write_at((SLOTS + 2) * SLOT, &[1; 70_000]).unwrap();
        }
        image.write_at(0, &number.to_le_bytes()).unwrap();
        image.flush().unwrap();
        println!("flushed {number}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn what_was_flushed_is_there_after_each_kill() {
    for format in [Format::Qcow2, Format::Vdi, Format::Vhd] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("disk.{format}"));
        job::create(&path, &NewDisk::new(format, 64 << 20)).unwrap();
        let mut flushed = Vec::new();
        for round in 0..ROUNDS {
            flushed.append(&mut run_and_kill(&path, 3 + round * 5 % 17));
            let mut image = Image::open(&path, Access::ReadOnly).unwrap();
            let findings = image.check(&mut |_, _| true).unwrap();
            assert!(findings.is_sound(), "{format}, round {round}: {findings:?}");
            let mut bytes = vec![0; SLOT as usize];
            // Older slots are being filled anew.
            let last = flushed.last().copied().unwrap_or(0);
            for number in flushed.iter().filter(|number| **number + SLOTS / 2 > last) {
                image.read_at((1 + number % SLOTS) * SLOT, &mut bytes).unwrap();
                assert!(
                    bytes.chunks(8).all(|word| word == number.to_le_bytes()),
                    "{format}, round {round}: slot of {number} is lost"
                );
            }
        }
        assert!(flushed.len() as u64 > 3 * ROUNDS, "{format}: only {flushed:?} came through");
    }
}

/// Lets the child flush some times, kills it in the midst of what follows, and tells what it flushed.
fn run_and_kill(path: &Path, flushes: u64) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["writer", "--exact", "--nocapture"])
        .env(IMAGE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut flushed = Vec::new();
    let mut killed = false;
    for (n, line) in lines.map_while(Result::ok).filter(|line| line.contains("flushed")).enumerate() {
        flushed.push(line.rsplit(' ').next().unwrap().parse().unwrap());
        if n as u64 >= flushes && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the writer ended by itself");
    flushed
}
