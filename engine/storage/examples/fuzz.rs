//! Opens images with damaged headers and tables, of every format, and uses them; and tells what damaged files of every
//! kind are. Nothing may panic, hang, or take memory without bound. SECONDS are of CPU time; with 0, only the case
//! from STATE is tried, which a failure named. `cargo run --release -p storage --example fuzz -- SECONDS SEED|STATE`
//!
//! VHDX and VMDK seeds come from `qemu-img`, where that is installed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use storage::disk::Disk;
use storage::kind::identify;
use storage::qcow2::{self, Qcow2};
use storage::store::{Run, Store};
use storage::vdi::{self, Vdi};
use storage::vhd::{self, Vhd};
use storage::vhdx::Vhdx;
use storage::vmdk::Vmdk;
use storage::{Format, MemoryDisk, OpenError};

/// No image may make more of its file than this.
const ROOM: usize = 64 << 20;
/// Nothing may ask the host for more address space than that, beyond what the process has to begin with.
const SPACE_MAX_BYTES: u64 = 512 << 20;
/// One case in so many is a file whose kind is to be told.
const KINDS_EVERY: u64 = 16;
/// More CPU time than that is a hang.
const SLOW: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Memory(Vec<u8>);

impl Store for Memory {
    fn length_bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let stored = self.length_bytes().saturating_sub(offset).min(buffer.len() as u64) as usize;
        let (stored, past) = buffer.split_at_mut(stored);
        past.fill(0);
        if !stored.is_empty() {
            stored.copy_from_slice(&self.0[offset as usize..][..stored.len()]);
        }
        Ok(())
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.length_bytes() {
            self.set_length(end)?;
        }
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn set_length(&mut self, length_bytes: u64) -> io::Result<()> {
        if length_bytes > ROOM as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.resize(length_bytes as usize, 0);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn punch(&mut self, offset: u64, length_bytes: u64) -> io::Result<()> {
        let from = (offset as usize).min(self.0.len());
        let to = offset.saturating_add(length_bytes).min(self.length_bytes()) as usize;
        self.0[from..to.max(from)].fill(0);
        Ok(())
    }
    fn run_at(&self, offset: u64) -> io::Result<Run> {
        Ok(Run { length_bytes: self.length_bytes().saturating_sub(offset), is_hole: false })
    }
    fn path(&self) -> &Path {
        Path::new("fuzzed image")
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

fn behind() -> Result<Box<dyn Disk>, OpenError> {
    Ok(Box::new(MemoryDisk::new(vec![0xBB; 1 << 20]).expect("a mebibyte fits")))
}

/// Opens a damaged image and uses it; whether it could be opened.
fn try_image(format: Format, bytes: Vec<u8>, writes: bool, random: &mut Random) -> bool {
    let store = Memory(bytes);
    match format {
        Format::Qcow2 => {
            let Ok(header) = qcow2::Header::read(&store) else { return false };
            let backing = header.backing_name.is_some().then(|| behind().expect("it is there"));
            let Ok(mut disk) = Qcow2::open(Box::new(store), header, backing, writes) else { return false };
            exercise(&mut disk, random);
            let _ = disk.check(&mut count_to(3000));
            let _ = disk.resize(3 << 20);
        }
        Format::Vdi => {
            let Ok(mut disk) = Vdi::open(Box::new(store), writes) else { return false };
            exercise(&mut disk, random);
            let _ = disk.check(&mut |_, _| true);
        }
        Format::Vhd => {
            let Ok(mut disk) = Vhd::open(Box::new(store), writes, |_| behind()) else { return false };
            exercise(&mut disk, random);
            let _ = disk.check(&mut |_, _| true);
        }
        Format::Vhdx => {
            let Ok(mut disk) = Vhdx::open(Box::new(store)) else { return false };
            exercise(&mut disk, random);
            let _ = disk.check(&mut |_, _| true);
        }
        Format::Vmdk | Format::Raw => {
            let Ok(mut disk) = Vmdk::open(Box::new(store), |_, _| behind()) else { return false };
            exercise(&mut disk, random);
            let _ = disk.check(&mut |_, _| true);
        }
    }
    true
}

fn count_to(most: u32) -> impl FnMut(u64, u64) -> bool {
    let mut calls = 0;
    move |_, _| {
        calls += 1;
        calls < most
    }
}

fn exercise(disk: &mut dyn Disk, random: &mut Random) {
    let length = disk.length_bytes();
    let mut buffer = vec![0x5A; 100_000];
    for _ in 0..12 {
        let near = if random.below(2) == 0 { 4 << 20 } else { length };
        let offset = random.below(near.min(length));
        let count = random.below((buffer.len() as u64).min(length - offset) + 1) as usize;
        let _ = match random.below(5) {
            0 | 1 => disk.read_at(offset, &mut buffer[..count]),
            2 => disk.write_at(offset, &buffer[..count]),
            3 => disk.discard(offset, count as u64),
            _ => disk.flush(),
        };
        if offset < length {
            let _ = disk.extent(offset).map(|extent| assert!(extent.length_bytes > 0));
        }
    }
}

fn seeds() -> Vec<(String, Format, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (bits, backing) in [(9, false), (12, true), (16, false)] {
        let mut store = Memory(Vec::new());
        let backing = backing.then(|| ("base.img".to_owned(), "raw"));
        let layout = qcow2::create::Layout { length_bytes: 2 << 20, cluster_bits: bits, backing };
        qcow2::create::create(&mut store, &layout).expect("a small image is made");
        seeds.push((format!("qcow2 {bits}"), Format::Qcow2, store.0));
    }
    let mut store = Memory(Vec::new());
    vdi::create(&mut store, 4 << 20, vdi::Kind::Dynamic, [1; 16]).expect("a small image is made");
    seeds.push(("vdi".into(), Format::Vdi, store.0));
    for kind in [vhd::footer::Kind::Dynamic, vhd::footer::Kind::Fixed] {
        let mut store = Memory(Vec::new());
        vhd::create::create(&mut store, 1 << 20, kind, [1; 16]).expect("a small image is made");
        seeds.push((format!("vhd {kind:?}"), Format::Vhd, store.0));
    }
    seeds.extend(foreign_seeds());
    seeds
}

/// Images with data in them, as others make them.
fn foreign_seeds() -> Vec<(String, Format, Vec<u8>)> {
    let folder = tempfile::tempdir().expect("there is room for some images");
    let raw: Vec<u8> = (0..1u32 << 20).map(|n| (n / 300) as u8).collect();
    std::fs::write(folder.path().join("raw"), raw).expect("there is room for some images");
    let made = [
        (Format::Qcow2, "-c -O qcow2 -o cluster_size=4k"),
        (Format::Qcow2, "-c -O qcow2 -o compression_type=zstd"),
        (Format::Vhdx, "-O vhdx -o block_size=1M"),
        (Format::Vmdk, "-O vmdk"),
        (Format::Vmdk, "-O vmdk -o subformat=streamOptimized"),
    ];
    let mut seeds = Vec::new();
    for (format, options) in made {
        let mut command = Command::new("qemu-img");
        command.args(["convert", "-f", "raw"]).args(options.split(' ')).args(["raw", "image"]);
        match command.current_dir(folder.path()).status() {
            Ok(status) if status.success() => {
                let bytes = std::fs::read(folder.path().join("image")).expect("it was made just now");
                seeds.push((options.to_owned(), format, bytes));
            }
            _ => println!("skipped: qemu-img cannot make {options}"),
        }
    }
    seeds
}

/// Starts of files of kinds that are no images: CD, partitioned disks, boot sector, kernels.
fn heads() -> Vec<Vec<u8>> {
    let head = |length: usize, parts: &[(usize, &[u8])]| {
        let mut bytes = vec![0; length];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        bytes
    };
    let elf = b"\x7FELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0\0\0\x10\0\x34\0\0\0";
    vec![
        head(
            80 << 10,
            &[
                (0x8000, b"\x01CD001\x01"),
                (0x8800, b"\0CD001\x01EL TORITO SPECIFICATION"),
                (0x9000, b"\xFFCD001\x01"),
            ],
        ),
        head(1 << 20, &[(446, b"\x80\x01\x01\0\x83\xFE\xFF\xFF\0\x08\0\0\0\x10\0\0"), (510, &[0x55, 0xAA])]),
        head(1 << 20, &[(450, &[0xEE]), (510, &[0x55, 0xAA]), (512, b"EFI PART\0\0\x01\0\x5C\0\0\0")]),
        head(512, &[(0, &[0xEB, 0xFE]), (510, &[0x55, 0xAA])]),
        head(64 << 10, &[(0x1F1, &[4]), (510, &[0x55, 0xAA]), (0x202, b"HdrS\x0F\x02")]),
        head(64 << 10, &[(0, elf), (0x1000, &[0x02, 0xB0, 0xAD, 0x1B, 0, 0, 0, 0, 0xFE, 0x4F, 0x52, 0xE4])]),
        head(64 << 10, &[(0x800, &[0xD6, 0x50, 0x52, 0xE8, 0, 0, 0, 0, 0x18, 0, 0, 0])]),
    ]
}

/// Has a damaged file's kind told, and its format.
fn try_kind(file: &Path, bytes: &[u8]) {
    std::fs::write(file, bytes).expect("there is room for an image");
    let _ = identify(file);
    let _ = storage::image::format(file);
}

/// Changes some bytes, most of them where headers and tables are.
fn damage(bytes: &mut [u8], random: &mut Random) {
    let interesting = [
        0,
        1,
        2,
        0xFF,
        0x1FF,
        0x200,
        0x1000,
        0xFFFF,
        0x1_0000,
        0x10_0000,
        u64::MAX,
        1 << 31,
        1 << 62,
        1 << 63,
    ];
    for _ in 0..1 + random.below(6) {
        let length = bytes.len() as u64;
        let reach = [512, 4096, 4 << 16, 4 << 20, length][random.below(5) as usize];
        let mut at = random.below(reach.min(length));
        if random.below(8) == 0 {
            at = length - 1 - random.below(1024.min(length));
        }
        let width = [1, 2, 4, 8][random.below(4) as usize];
        let value = match random.below(3) {
            0 => random.next(),
            1 => interesting[random.below(interesting.len() as u64) as usize],
            _ => random.below(64),
        };
        let (le, be) = (value.to_le_bytes(), value.to_be_bytes());
        let value = if random.below(2) == 0 { &le[..width] } else { &be[8 - width..] };
        // Numbers stand at multiples of their width.
        let at = at as usize / width * width;
        let end = (at + width).min(bytes.len());
        bytes[at..end].copy_from_slice(&value[..end - at]);
    }
}

/// Makes checksums right again, so that what was damaged is believed.
fn seal(format: Format, bytes: &mut [u8]) {
    let length = bytes.len();
    if format == Format::Vhd && length > 2048 {
        for (from, size, field) in [(0, 512, 64), (512, 1024, 36), (length - 512, 512, 64)] {
            let part = &mut bytes[from..from + size];
            part[field..field + 4].fill(0);
            let sum = !part.iter().map(|byte| u32::from(*byte)).sum::<u32>();
            part[field..field + 4].copy_from_slice(&sum.to_be_bytes());
        }
    }
    if format == Format::Vhdx && length > 320 << 10 {
        for (from, size) in
            [(64 << 10, 4096), (128 << 10, 4096), (192 << 10, 64 << 10), (256 << 10, 64 << 10)]
        {
            let part = &mut bytes[from..from + size];
            part[4..8].fill(0);
            let sum = !part.iter().fold(u32::MAX, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    crc >> 1 ^ if crc & 1 != 0 { 0x82F6_3B78 } else { 0 }
                })
            });
            part[4..8].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

/// The most address space this process has had.
fn space_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmPeak:")?.trim().strip_suffix("kB"));
    kibibytes.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or_default() << 10
}

/// What this process has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn number_of(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn main() {
    let number = |n| std::env::args().nth(n).and_then(|text| number_of(&text));
    let (Some(seconds), Some(seed)) = (number(1), number(2)) else {
        eprintln!("usage: fuzz SECONDS SEED, or fuzz 0 STATE");
        std::process::exit(2);
    };
    let mut random = Random(if seconds == 0 { seed } else { seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 });
    let (seeds, heads) = (seeds(), heads());
    let folder = tempfile::tempdir().expect("there is room for an image");
    let file = folder.path().join("damaged");
    let end = cpu_time() + Duration::from_secs(seconds);
    let space_max = space_bytes() + SPACE_MAX_BYTES;
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut first = true;
    while std::mem::take(&mut first) || cpu_time() < end {
        let state = random.0;
        let kinds = random.below(KINDS_EVERY) == 0;
        let chosen = random.below((seeds.len() + if kinds { heads.len() } else { 0 }) as u64) as usize;
        let (name, format, mut bytes) = match seeds.get(chosen) {
            Some((name, format, bytes)) => (name.as_str(), *format, bytes.clone()),
            None => ("another kind of file", Format::Raw, heads[chosen - seeds.len()].clone()),
        };
        damage(&mut bytes, &mut random);
        if random.below(4) != 0 {
            seal(format, &mut bytes);
        }
        let writes = random.below(2) == 0;
        let start = cpu_time();
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if kinds {
                try_kind(&file, &bytes);
            }
            chosen < seeds.len() && try_image(format, bytes, writes, &mut random)
        }));
        let count = counts.entry(name).or_default();
        count.0 += 1;
        match tried {
            Ok(opened) => count.1 += u64::from(opened),
            Err(_) => fail(name, "panicked", state),
        }
        let took = cpu_time() - start;
        if took > SLOW {
            fail(name, &format!("took {took:?}"), state);
        }
        if space_bytes() > space_max {
            fail(name, &format!("asked for {} MiB of address space", space_bytes() >> 20), state);
        }
    }
    println!("{} MiB of address space at most", space_bytes() >> 20);
    for (name, (tried, opened)) in counts {
        println!("{name}: {tried} damaged images, {opened} of them opened and used");
    }
}

fn fail(name: &str, what: &str, state: u64) -> ! {
    eprintln!("{name}: {what}, from state {state:#x}");
    std::process::exit(1);
}
